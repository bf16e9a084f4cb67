"""The names of the series, by which metrics are counted.

Rule: when the book is full, or the memory behind it is, a name counts as (other), which is
itself counted, and never as an error: metrics shall not stop a reload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shm.cells import Cells
from shm.faults import RegionFull
from shm.layout import HEADER, Geometry
from shm.names import Names

COUNT_AT: Final = HEADER.offset("series_count")
REFUSED_AT: Final = HEADER.offset("series_refused")
FIXED: Final = ("(none)", "(other)")
NONE: Final = 0
OTHER: Final = 1


class SeriesNames:
    """The table of names (shm.names). `reserve` has the memory ready that a new one needs, or raises RegionFull."""

    __slots__ = ("_cells", "_names", "_reserve", "count", "names")

    def __init__(
        self, cells: Cells, geometry: Geometry, memory: memoryview, reserve: Callable[[int], None]
    ) -> None:
        self._cells = cells
        self._reserve = reserve
        self._names = Names(cells, memory, count_at=COUNT_AT, most=geometry.series_max, place=geometry.name)
        self.names = self._names.all
        self.count = self._names.count

    def found(self) -> None:
        """Write the two names that every region has; run once, at creation."""
        for name in FIXED:
            self._names.append(name)

    def refused(self) -> int:
        return self._cells.load(REFUSED_AT)

    def index(self, name: str) -> int:
        """The number of the name, a new one if need be; run by control."""
        known = self._names.known(name)
        if known is not None:
            return known
        index = self._names.next()
        try:
            if index is None:
                raise IndexError
            self._reserve(index)
        except (IndexError, RegionFull):
            self._cells.fetch_add(REFUSED_AT, 1)
            return OTHER
        return self._names.append(name)
