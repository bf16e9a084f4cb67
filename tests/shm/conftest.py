"""Regions for tests: each under a name of its own, on each implementation, and gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from shm.mapping import unlink_name
from shm.region import Region
from tests.shm.implementations import IMPLEMENTATIONS, environment

NUMBERS = count()


@pytest.fixture
def name() -> Iterator[str]:
    name = f"/sentinel-test-{os.getpid()}-{next(NUMBERS)}"
    yield name
    unlink_name(name)


@pytest.fixture(params=IMPLEMENTATIONS)
def region(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    environment(request.param, monkeypatch)
    region = Region.create(name, series_max=16, slots_max=12, journal_records=8, limits_max=64)
    yield region
    region.close()
