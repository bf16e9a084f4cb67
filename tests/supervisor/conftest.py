"""The stage, for every test of the supervisor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.supervisor.theatre import Theatre


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    with Theatre() as theatre:
        yield theatre
