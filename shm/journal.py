"""The decision journal: a ring of bounded records per slot, which readers read without a lock.

Intuition: a wall calendar whose sheets are reused. Each sheet carries its
number; who looks for number 17 and finds 1041, or a sheet that is being written
on, knows that 17 is gone, and never reads half of each.

Rule 1: one writer per ring, the slot's process. Records are opaque octets here;
    their meaning is the worker's and `why`'s affair.
Rule 2: a record of a dead process stays until the ring comes round to it, since
    the next tenant of the slot goes on behind it.
Rule 3: a reader may miss what is overwritten while it reads, and gets nothing
    that is torn, also not from a writer that was killed in the middle.
Rule 4: a record that is longer than a sheet goes on over the next ones, SHEETS_MAX at most. Its sheets
    have consecutive numbers, since a ring has one writer; so a reader has all of them, or none.

    a sheet of several:  | PART | which one | of how many | octets … |
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shm.cells import Cells
from shm.layout import JOURNAL_RECORD_BYTES, SLOT, Geometry

HEAD_AT = SLOT.offset("journal_head")
PART: Final = b"\xff\x00"
"""How a sheet of several begins, and no record does: their first octet is a version."""
PART_HEAD: Final = struct.Struct("<2sBB")
PART_BYTES: Final = JOURNAL_RECORD_BYTES - PART_HEAD.size
SHEETS_MAX: Final = 4
"""Whoever makes records long shortens what the ring remembers, by so much at most."""
LONG_RECORD_BYTES: Final = SHEETS_MAX * PART_BYTES


def sheets(record: bytes) -> list[bytes]:
    """A record that is longer than a sheet, as the sheets to be written, one after the other."""
    if len(record) > LONG_RECORD_BYTES:
        raise ValueError(f"a journal record has at most {LONG_RECORD_BYTES} octets")
    pieces = [record[at : at + PART_BYTES] for at in range(0, len(record), PART_BYTES)]
    return [PART_HEAD.pack(PART, at, len(pieces)) + piece for at, piece in enumerate(pieces)]


class Binder:
    """Puts sheets together as they are read, in the order of their numbers. None is a sheet that is gone."""

    __slots__ = ("_pieces", "_total", "gone")

    def __init__(self) -> None:
        self.gone = 0  # records, as far as they can be told apart
        self._pieces: list[bytes] = []
        self._total = 0

    @property
    def is_open(self) -> bool:
        """Whether the last sheet was one of a record of which more is to come."""
        return bool(self._pieces)

    def take(self, sheet: bytes | None) -> bytes | None:
        """Take the next sheet; a record, if that is its last."""
        if sheet is not None and self._pieces and sheet[:4] == PART_HEAD.pack(PART, len(self._pieces), self._total):
            self._pieces.append(sheet[PART_HEAD.size :])
            if len(self._pieces) < self._total:
                return None
            found, self._pieces = b"".join(self._pieces), []
            return found
        self.gone += bool(self._pieces)  # its writer died, or its next sheet is another's already
        self._pieces = []
        if sheet is None:
            self.gone += 1
        elif sheet[:2] != PART or len(sheet) < PART_HEAD.size:
            return sheet
        else:
            _, at, total = PART_HEAD.unpack_from(sheet)
            if at == 0 and 1 < total <= SHEETS_MAX:
                self._pieces, self._total = [sheet[PART_HEAD.size :]], total
        return None


def read(cells: Cells, geometry: Geometry, slot: int) -> Iterator[bytes]:
    """The records of one ring, oldest first; as it is while it is being read."""
    head = cells.load(geometry.slot(slot) + HEAD_AT)
    # The head itself is tried as well: who was killed before raising it had finished the record. Its cell
    # is that of the oldest one, so that of these two at most one is there.
    binder = Binder()
    for sequence in range(max(0, head - geometry.journal_records), head + 1):
        record = binder.take(cells.journal_read(slot, sequence))
        if record is not None:
            yield record


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one ring has had since a place: records, the place to go on from, and how many were overwritten unread.

    Of a record that is gone as a whole each sheet counts as one.
    """

    records: tuple[bytes, ...]
    next_sequence: int
    missed: int


def head_of(cells: Cells, geometry: Geometry, slot: int) -> int:
    """The sequence of the record that is written next: how many there ever were."""
    return cells.load(geometry.slot(slot) + HEAD_AT)


def since(cells: Cells, geometry: Geometry, slot: int, sequence: int, most: int) -> Stretch:
    """Records of so many sheets from `sequence` on, for whoever follows the ring. Each is given or counted, once."""
    head = head_of(cells, geometry, slot)
    start = min(sequence, head)
    first = at = max(start, head - geometry.journal_records)
    binder, found, begun = Binder(), [], first
    while at < head and (at < first + most or binder.is_open):
        begun = begun if binder.is_open else at
        record = binder.take(cells.journal_read(slot, at))
        if record is not None:
            found.append(record)
        at += 1
    # What is being written goes on behind the head: it is read when it is whole, or when something else follows.
    return Stretch(tuple(found), begun if binder.is_open else at, first - start + binder.gone)
