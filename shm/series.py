"""The names of the series: given once, in order, by control, and never taken back.

Intuition: a guest book. A name that was written keeps its line, also when the
route has left the configuration, so that its counts stay what they are and come
on if it returns. Plans carry the numbers; workers never look a name up.

Rule 1: control is the one writer. The name is written first, the count that
    tells of it last; who dies between the two has written nothing.
Rule 2: the book is bounded. When it is full, or the memory behind it is, a name
    counts as (other), which is itself counted, and never as an error: metrics
    shall not stop a reload.
Rule 3: a name too long for its cell keeps its beginning, and a digest of all of
    it, so that two of them do not become one.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from shm.cells import Cells
from shm.faults import RegionFull
from shm.layout import HEADER, NAME, NAME_BYTES_MAX, WORD, Geometry

COUNT_AT: Final = HEADER.offset("series_count")
REFUSED_AT: Final = HEADER.offset("series_refused")
FIXED: Final = ("(none)", "(other)")
NONE: Final = 0
OTHER: Final = 1
DIGEST_CHARS: Final = 16


class SeriesNames:
    """The table of names, with what was read of it so far."""

    __slots__ = ("_cells", "_geometry", "_index", "_memory", "_reserve")

    def __init__(
        self, cells: Cells, geometry: Geometry, memory: memoryview, reserve: Callable[[int], None]
    ) -> None:
        self._cells = cells
        self._geometry = geometry
        self._memory = memory
        self._reserve = reserve
        self._index: dict[str, int] = {}

    def found(self) -> None:
        """Write the two names that every region has; run once, at creation."""
        for index, name in enumerate(FIXED):
            self._write(index, name.encode())

    def names(self) -> list[str]:
        self._refresh()
        return list(self._index)

    def count(self) -> int:
        """How many names there are; bounded, whatever the word says."""
        return min(self._cells.load(COUNT_AT), self._geometry.series_max)

    def refused(self) -> int:
        return self._cells.load(REFUSED_AT)

    def index(self, name: str) -> int:
        """The number of the name, a new one if need be; run by control."""
        octets = _cell_text(name)
        known = octets.decode()
        self._refresh()
        if known in self._index:
            return self._index[known]
        index = len(self._index)
        try:
            if index >= self._geometry.series_max:
                raise IndexError
            self._reserve(index)
        except (IndexError, RegionFull):
            self._cells.fetch_add(REFUSED_AT, 1)
            return OTHER
        self._write(index, octets)
        self._index[known] = index
        return index

    def _refresh(self) -> None:
        for index in range(len(self._index), self.count()):
            at = self._geometry.name(index)
            length = min(self._cells.load(at), NAME_BYTES_MAX)
            text = bytes(self._memory[at + WORD : at + WORD + length]).decode(errors="replace")
            # A damaged name may repeat another one; it must not shift the numbers of those after it.
            self._index[text if text not in self._index else f"(damaged {index})"] = index

    def _write(self, index: int, octets: bytes) -> None:
        at = self._geometry.name(index)
        self._memory[at + WORD : at + WORD + len(octets)] = octets
        self._cells.store(at, len(octets))
        self._cells.store(COUNT_AT, index + 1)


def _cell_text(name: str) -> bytes:
    octets = name.encode(errors="replace")
    if len(octets) <= NAME_BYTES_MAX:
        return octets
    digest = sha256(octets).hexdigest()[:DIGEST_CHARS]
    kept = octets[: NAME_BYTES_MAX - DIGEST_CHARS - 1].decode(errors="ignore")
    return f"{kept}~{digest}".encode()


assert NAME.size >= 2 * WORD + DIGEST_CHARS, "a digest leaves room for a beginning"
