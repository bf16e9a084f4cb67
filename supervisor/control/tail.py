"""Following the journal: records as they come, from all rings, each given or counted as missed.

Intuition: somebody reads a ticker tape that is cut off behind him after a few metres. As long as he
reads faster than it runs he misses nothing; when he was away too long he can still say how many
lines he has not seen, because they are numbered.

Rule 1: a worker knows nothing of its readers. Whoever is slow misses records, nobody waits.
Rule 2: sequences count all records that a ring ever had, so that what was missed is counted exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shm.journal import SHEETS_MAX
from shm.region import Region

BATCH_MAX: Final = 1024
"""Records of one ring that are taken at a time: a look at them holds up other questions about shared memory."""
PAUSE_S: Final = 0.1
"""Between two looks while nothing piles up: one that answers 20,000 requests a second fills half a ring in that."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What has come since the last look. `has_more`: there was more than is taken at a time."""

    records: tuple[bytes, ...]
    missed: int
    has_more: bool


class Tail:
    """One reader's place in each ring."""

    def __init__(self, places: Mapping[int, int]) -> None:
        self._places = dict(places)

    @classmethod
    def at_the_end(cls, region: Region) -> Tail:
        """Read what is yet to come."""
        return cls(dict(enumerate(region.journal_heads())))

    @classmethod
    def at_the_beginning(cls, region: Region) -> Tail:
        """Read what there still is, and what is to come."""
        oldest = region.geometry.journal_records
        return cls({slot: max(0, head - oldest) for slot, head in enumerate(region.journal_heads())})

    @property
    def places(self) -> dict[int, int]:
        """The sequence of each ring's next record; a ring that was never looked at has 0."""
        return dict(self._places)

    def read(self, region: Region) -> Batch:
        """Take what is there, and go on from behind it."""
        records: list[bytes] = []
        missed, has_more = 0, False
        for slot, head in enumerate(region.journal_heads()):
            stretch = region.journal_since(slot, self._places.get(slot, 0), BATCH_MAX)
            self._places[slot] = stretch.next_sequence
            records += stretch.records
            missed += stretch.missed
            has_more |= head - stretch.next_sequence >= SHEETS_MAX  # fewer may be a record that is being written
        return Batch(tuple(records), missed, has_more)
