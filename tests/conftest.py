"""Shared by all tests: how properties are searched, what begins first, and an origin for a module's tests.

Properties are tried with the same examples in every run, so that a failure is a change's and not a
day's, and without deadlines: how long an example takes says something of the machine. To look for
new ones: `HYPOTHESIS_PROFILE=explore make test`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.system.fleet import running_origin

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow begins first, so that nobody waits for it at the end; files stay whole, for their fixtures."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module")
def origin_port() -> Iterator[int]:
    with running_origin() as port:
        yield port
