"""The one description of shared memory: header, slots, series names, journal rings, counters.

Intuition: a floor plan. Everyone who builds reads the same sheet: this file is
it, `_native/layout.h` and `LAYOUT.md` are copies made by `python -m shm.layout
--write`, and a test holds that they are byte-identical to what it would write.

Rule 1: everything is a 64-bit word in native order, on an 8-byte boundary. A
    word is read and written whole, so it is never torn, and the header's own
    words tell a machine of the other byte order apart by the magic.
Rule 2: each word has one writer, named here, and words of different writers do
    not share a cache line (64 octets): nobody waits for another's line.
Rule 3: the first four words never move, in no version: whoever finds a region
    of another version can still ask whether its creator is alive.
Rule 4: a change of meaning or place bumps VERSION. That a change of place is
    not forgotten is guarded by LAYOUT_CRC, which is stored and compared too.
Rule 5: sizes of tables are chosen at creation and stored. Pages that nobody
    touched cost nothing, so generous limits are free (see shm.mapping).

Rejected: ctypes structures and one `struct` format a record. They give offsets
but neither the writer of a word nor its reason, and the drawing would be a
second truth.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Final

VERSION: Final = 1
MAGIC: Final = int.from_bytes(b"SENTINEL", "little")

WORD: Final = 8
LINE: Final = 64
PAGE: Final = 4096

SERIES_LIMIT: Final = 65_536
"""No region has more series than this: beyond it a scrape would take seconds."""
SLOTS_LIMIT: Final = 256
"""More processes than cores by far; reloads need twice the workers for a while."""
JOURNAL_LIMIT: Final = 1 << 20

REASONS_MAX: Final = 128
"""As many as sentinel.core.reasons has numbers for; shm does not import it, so a test compares."""
CLASSES: Final = 6
"""Answers by the first digit of their status; 0 holds those that never got one."""
BOUNDS_NS: Final[tuple[int, ...]] = tuple(
    microseconds * 1000
    for microseconds in (
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
    )
)  # fmt: skip
"""Upper bounds of the histogram's buckets, inclusive; one more bucket has no bound."""
BUCKETS: Final = len(BOUNDS_NS) + 1
COUNTERS_MAX: Final = 32
"""Counters of a slot that belong to no series (shm.counters.Counter)."""
LIVES: Final = 32
"""A slot remembers requests and failures of its last so many claims, by generation."""
SLOTS_RESTING: Final = 8
"""A freed slot is not claimed again before so many others were freed, if there is a choice."""

STAGE_BITS: Final = 2
EMPTY, CLAIMED, RESTING, CHANGING = range(4)
"""Stages of a slot, in the low bits of its life word; the rest of it counts the claims."""
ORDER_BITS: Final = 3
"""An order and its deadline share a word, so that no reader sees one without the other."""
LENGTH_BITS: Final = 16
"""A journal cell's word: sequence + 1 above, length of the record below; 0 while it is written."""

BOTH, SUPERVISOR, CONTROL, WORKER = "both", "supervisor", "control", "worker"


@dataclass(frozen=True, slots=True)
class Field:
    """One or more words; `on_line` puts them at the start of a cache line."""

    name: str
    writer: str
    text: str
    words: int = 1
    on_line: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A sequence of fields with their places; `size` is a multiple of the cache line unless told."""

    name: str
    fields: tuple[Field, ...]
    size: int

    def places(self) -> list[tuple[int, Field]]:
        """Each field with its offset in octets."""
        placed, offset = [], 0
        for field in self.fields:
            if field.on_line:
                offset = _aligned(offset, LINE)
            placed.append((offset, field))
            offset += field.words * WORD
        assert offset <= self.size, f"{self.name} does not fit in {self.size} octets"
        return placed

    def offset(self, name: str) -> int:
        return next(offset for offset, field in self.places() if field.name == name)


def _aligned(offset: int, unit: int) -> int:
    return -(-offset // unit) * unit


HEADER: Final = Record("header", (
    Field("magic", SUPERVISOR, "the octets SENTINEL, as a little-endian number"),
    Field("version", SUPERVISOR, "of this layout"),
    Field("creator_pid", SUPERVISOR, "who made the region"),
    Field("creator_birth_ns", SUPERVISOR, "its start in ns since boot: pids come again, births do not"),
    Field("size_bytes", SUPERVISOR, "of the whole region"),
    Field("slots_max", SUPERVISOR, "how many slots there are"),
    Field("series_max", SUPERVISOR, "how many series there are"),
    Field("journal_records", SUPERVISOR, "how many records a ring holds"),
    Field("layout_crc", SUPERVISOR, "CRC-32 of this description"),
    Field("header_crc", SUPERVISOR, "CRC-32 of the nine words above"),
    Field("ready", SUPERVISOR, "1 once all of it is written; the last word of a creation"),
    Field("generation", SUPERVISOR, "the published generation; never goes back", on_line=True),
    Field("slots_used", SUPERVISOR, "slots from here on were never claimed", on_line=True),
    Field("slots_freed", SUPERVISOR, "how many slots were freed so far: the clock of resting"),
    Field("series_count", CONTROL, "names below this are complete", on_line=True),
    Field("series_refused", CONTROL, "names that found the table full and count as (other)"),
), PAGE)  # fmt: skip

SLOT: Final = Record("slot", (
    Field("life", SUPERVISOR, "count of claims << 2 | stage (0 empty, 1 claimed, 2 resting, 3 changing)"),
    Field("pid", SUPERVISOR, "0 until the fork has happened"),
    Field("birth_ns", SUPERVISOR, "when the process began, in ns since boot"),
    Field("role", SUPERVISOR, "0 worker, 1 control"),
    Field("generation", SUPERVISOR, "the one generation that it serves"),
    Field("lane", SUPERVISOR, "which of the listening sockets are its own"),
    Field("order", SUPERVISOR, "deadline in monotonic ns << 3 | order"),
    Field("freed_at", SUPERVISOR, "header.slots_freed when this slot was freed"),
    Field("state", BOTH, "a WorkerState; the supervisor writes it at claim and end", on_line=True),
    Field("heartbeat_ns", WORKER, "monotonic time of its last sign of life"),
    Field("open_connections", WORKER, "gauge, as of the heartbeat"),
    Field("open_requests", WORKER, "gauge, as of the heartbeat"),
    Field("journal_head", WORKER, "sequence of the next journal record; goes on over claims"),
    Field("counters", WORKER, "shm.counters.Counter, one word each; go on over claims", COUNTERS_MAX, on_line=True),
    Field("lives", BOTH, "per claim: generation, requests, failures, free; at claims % 32", LIVES * 4, on_line=True),
), 1408)  # fmt: skip

NAME: Final = Record("name", (
    Field("length", CONTROL, "octets of the name; set before header.series_count"),
    Field("text", CONTROL, "UTF-8", 31),
), 256)  # fmt: skip

CELL: Final = Record("journal record", (
    Field("word", WORKER, "sequence + 1 << 16 | length; 0 while the record is being written"),
    Field("payload", WORKER, "the record", 63),
), 512)  # fmt: skip

SERIES: Final = Record("series", (
    Field("classes", WORKER, "exchanges by the first digit of the status", CLASSES),
    Field("duration_sum_ns", WORKER, "of all of them"),
    Field("bytes_in", WORKER, "octets of requests"),
    Field("bytes_out", WORKER, "octets of answers"),
    Field("histogram", WORKER, "exchanges by duration, not cumulative", BUCKETS),
    Field("reasons", WORKER, "exchanges by the number of their reason", REASONS_MAX, on_line=True),
), 1280)  # fmt: skip

RECORDS: Final = (HEADER, SLOT, NAME, CELL, SERIES)
LIFE_WORDS: Final = 4
NAME_BYTES_MAX: Final = NAME.size - WORD
JOURNAL_RECORD_BYTES: Final = CELL.size - WORD
SERIES_WORDS: Final = SERIES.size // WORD
IDENTITY_WORDS: Final = HEADER.offset("header_crc") // WORD

assert all(record.size % LINE == 0 for record in RECORDS), "no two records share a cache line"
assert JOURNAL_RECORD_BYTES < 1 << LENGTH_BITS, "a record's length fits beside its sequence"
assert all(low < high for low, high in pairwise(BOUNDS_NS)), "buckets are in order"
assert [field.name for field in HEADER.fields[:4]] == ["magic", "version", "creator_pid", "creator_birth_ns"], "rule 3"


def _described() -> bytes:
    lines = [f"{record.name} {record.size} {offset} {field.name} {field.words}"
             for record in RECORDS for offset, field in record.places()]  # fmt: skip
    lines.append(f"{BOUNDS_NS} {LIVES} {STAGE_BITS} {ORDER_BITS} {LENGTH_BITS}")
    return "\n".join(lines).encode()


LAYOUT_CRC: Final = zlib.crc32(_described())


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the tables of one region begin, from the three numbers chosen at its creation."""

    slots_max: int
    series_max: int
    journal_records: int

    def faults(self) -> list[str]:
        """What is wrong with the numbers, in words; they may come from a damaged header."""
        limits = (("slots_max", self.slots_max, 1, SLOTS_LIMIT), ("series_max", self.series_max, 2, SERIES_LIMIT),
                  ("journal_records", self.journal_records, 1, JOURNAL_LIMIT))  # fmt: skip
        outside = (limit for limit in limits if not limit[2] <= limit[1] <= limit[3])
        return [f"{name} is {value}, outside {low}..{high}" for name, value, low, high in outside]

    @property
    def slots_offset(self) -> int:
        return HEADER.size

    @property
    def names_offset(self) -> int:
        return _aligned(self.slots_offset + self.slots_max * SLOT.size, PAGE)

    @property
    def rings_offset(self) -> int:
        return _aligned(self.names_offset + self.series_max * NAME.size, PAGE)

    @property
    def ring_stride(self) -> int:
        return _aligned(self.journal_records * CELL.size, PAGE)

    @property
    def counters_offset(self) -> int:
        return self.rings_offset + self.slots_max * self.ring_stride

    @property
    def counters_stride(self) -> int:
        return _aligned(self.series_max * SERIES.size, PAGE)

    @property
    def size_bytes(self) -> int:
        return self.counters_offset + self.slots_max * self.counters_stride

    def slot(self, index: int) -> int:
        return self.slots_offset + index * SLOT.size

    def name(self, index: int) -> int:
        return self.names_offset + index * NAME.size

    def ring(self, index: int) -> int:
        return self.rings_offset + index * self.ring_stride

    def counters(self, slot: int, series: int) -> int:
        return self.counters_offset + slot * self.counters_stride + series * SERIES.size


if __name__ == "__main__":
    # Loaded by name: the drawing imports the layout, and no module here imports one that imports it.
    sys.exit(import_module("shm.drawing").main(sys.argv[1:]))
