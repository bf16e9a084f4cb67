"""Shared by all tests: where the repository is, and an origin that lives as long as a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.fleet import running_origin


@pytest.fixture(scope="module")
def origin_port() -> Iterator[int]:
    with running_origin() as port:
        yield port
