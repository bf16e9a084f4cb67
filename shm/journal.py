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
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shm.cells import Cells
from shm.layout import SLOT, Geometry

HEAD_AT = SLOT.offset("journal_head")


def read(cells: Cells, geometry: Geometry, slot: int) -> Iterator[bytes]:
    """The records of one ring, oldest first; as it is while it is being read."""
    head = cells.load(geometry.slot(slot) + HEAD_AT)
    # The head itself is tried as well: who was killed before raising it had finished the record. Its cell
    # is that of the oldest one, so that of these two at most one is there.
    for sequence in range(max(0, head - geometry.journal_records), head + 1):
        record = cells.journal_read(slot, sequence)
        if record is not None:
            yield record


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one ring has had since a place: records, the place to go on from, and how many were overwritten unread."""

    records: tuple[bytes, ...]
    next_sequence: int
    missed: int


def head_of(cells: Cells, geometry: Geometry, slot: int) -> int:
    """The sequence of the record that is written next: how many there ever were."""
    return cells.load(geometry.slot(slot) + HEAD_AT)


def since(cells: Cells, geometry: Geometry, slot: int, sequence: int, most: int) -> Stretch:
    """At most so many records from `sequence` on, for whoever follows the ring. Each is given or counted, once."""
    head = head_of(cells, geometry, slot)
    start = min(sequence, head)
    first = max(start, head - geometry.journal_records)
    end = min(head, first + most)
    found = [cells.journal_read(slot, at) for at in range(first, end)]
    records = tuple(record for record in found if record is not None)
    return Stretch(records, end, first - start + len(found) - len(records))
