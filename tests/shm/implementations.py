"""Both implementations of the cells, for tests that must hold on each and for those that compare them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest

from shm import twin
from shm.cells import Cells, numbers_of
from shm.layout import Geometry

NATIVE_IS_BUILT = find_spec("shm._native.cells") is not None
NEEDS_NATIVE = pytest.mark.skipif(not NATIVE_IS_BUILT, reason="build it: python setup.py build_ext --inplace")
IMPLEMENTATIONS = [pytest.param("native", marks=NEEDS_NATIVE), "twin"]
SMALL = Geometry(slots_max=3, series_max=4, journal_records=2, limits_max=64, places_max=4)


def environment(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have regions that are opened from now on use this implementation."""
    if implementation == "twin":
        monkeypatch.setenv("SENTINEL_PURE", "1")
    else:
        monkeypatch.delenv("SENTINEL_PURE", raising=False)


def open_on(implementation: str, memory: memoryview, geometry: Geometry = SMALL) -> Cells:
    """The cells of exactly this implementation."""
    module = twin if implementation == "twin" else import_module("shm._native.cells")
    cells: Cells = module.Cells(memory, *numbers_of(geometry))
    return cells
