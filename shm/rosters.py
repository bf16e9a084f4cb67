"""Which models an endpoint serves, as the leader read it last; for workers that choose and for people who look.

Intuition: the menu on a restaurant's door. The cook's boy pins up a new one when the dishes have changed; who
passes by reads it, and a sheet that is being pinned up just now is no menu.

Rules:
1. The leader alone writes, and only what has changed. A change of leadership may bring two at once, so a sheet is
   believed only if its checksum, which is in the word that is written last, is that of its text.
2. What does not fit is left off, and the word says so: of such an endpoint nobody concludes that it lacks a model.
3. Readers keep what they read under the word, and read again when that is another one.
4. The page is asked for before it is first written: where there is none nothing is told, and nobody dies of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from shm.cells import Cells
from shm.faults import RegionFault
from shm.layout import ROSTER, WORD, Geometry

ROOM: Final = ROSTER.size - WORD
NAME_CHARS_MAX: Final = 256
TOLD, CUT = 1, 2
"""Flags of the word; above them are 16 bits of length, and 32 of checksum."""
FLAG_BITS: Final = 16


class Roster(NamedTuple):
    """The models of one endpoint. `is_known`: somebody has read them; `is_whole`: all of them are here."""

    names: tuple[str, ...] = ()
    is_known: bool = False
    is_whole: bool = True


UNKNOWN: Final = Roster()


class Rosters:
    """All rosters of one region. `reserve`: have memory for so many octets from here on, or RegionFault."""

    __slots__ = ("_cells", "_first", "_memory", "_reserve")

    def __init__(
        self, cells: Cells, geometry: Geometry, memory: memoryview, reserve: Callable[[int, int], None]
    ) -> None:
        self._cells = cells
        self._first = geometry.rosters_offset
        self._memory = memory
        self._reserve = reserve

    def word(self, place: int) -> int:
        """What changes when the roster does; 0: nothing is known."""
        return self._cells.load(self._first + place * ROSTER.size)

    def read(self, place: int) -> Roster:
        return self.read_at(place, self.word(place))

    def read_at(self, place: int, word: int) -> Roster:
        """The roster that belongs to this word; unknown while another one is being written."""
        length, at = word >> FLAG_BITS & 0xFFFF, self._first + place * ROSTER.size + WORD
        if not word & TOLD or length > ROOM:
            return UNKNOWN
        text = bytes(self._memory[at : at + length])
        if zlib.crc32(text) != word >> 32:
            return UNKNOWN
        return Roster(tuple(text.decode(errors="replace").split("\n")) if text else (), True, not word & CUT)

    def tell(self, place: int, names: Sequence[str], *, is_whole: bool = True) -> bool:
        """These models are there; whether that is news. The leader."""
        kept = [name for name in dict.fromkeys(names) if name and name.isprintable() and len(name) <= NAME_CHARS_MAX]
        is_whole = is_whole and len(kept) == len(set(names))
        text = "\n".join(kept).encode(errors="replace")
        while len(text) > ROOM:
            text, is_whole = text.rpartition(b"\n")[0] if b"\n" in text[:ROOM] else b"", False
        word = zlib.crc32(text) << 32 | len(text) << FLAG_BITS | TOLD | (0 if is_whole else CUT)
        at = self._first + place * ROSTER.size
        before = self.word(place)
        if word == before:
            return False
        if not before:
            try:
                self._reserve(at, ROSTER.size)
            except RegionFault:
                return False
        self._cells.store(at, 0)
        self._memory[at + WORD : at + WORD + len(text)] = text
        self._cells.store(at, word)
        return True
