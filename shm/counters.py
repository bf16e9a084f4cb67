"""What the fleet has counted: per series, per worker counter, as frozen values.

Intuition: many meters, one reading. Each slot has its own meter for every
series, written by one process; a reading adds them up. Since meters only run
forwards and are never reset, no sum that is read later is smaller.

Exchanges of one reading are whole up to the one that a worker was counting at
that very instant (or when it was killed): its class may be in, its octets not.

Rejected: reading with a lock or a double buffer per exchange, so that even this
one is whole. A scrape is compared with the scrape before, not audited, and the
workers would pay for it with every request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Final

from shm.layout import BUCKETS, CLASSES, COUNTERS_MAX, REASONS_MAX, SERIES, SERIES_WORDS, SLOT, WORD, Geometry

if TYPE_CHECKING:  # the twin of the cells counts too
    from shm.cells import Cells

DURATION_AT: Final = SERIES.offset("duration_sum_ns") // WORD
HISTOGRAM_AT: Final = SERIES.offset("histogram") // WORD
REASONS_AT: Final = SERIES.offset("reasons") // WORD
COUNTERS_AT: Final = SLOT.offset("counters")


@unique
class Counter(IntEnum):
    """What a worker counts beside exchanges; the numbers are the encoding, new ones are appended."""

    ACCEPTED = 0
    CLOSED = 1
    UPSTREAM_CONNECTS = 2
    UPSTREAM_REUSES = 3
    UPSTREAM_CONNECT_FAILURES = 4
    LOG_DROPPED = 5
    JOURNAL_TRUNCATED = 6
    SURPRISES = 7
    TLS_13 = 8
    TLS_FAILED = 9
    OVERLOADS = 10
    DRAIN_CLOSED = 11
    ACCEPT_FAILURES = 12
    LIMITS_CHARGED = 13
    LIMITS_REFUSED = 14
    LIMITS_FULL = 15
    LIMITS_RECLAIMED = 16
    LIMITS_STOLEN = 17
    LEASES_REFUSED = 18
    LEASES_FULL = 19
    HEDGES = 20
    HEDGES_WON = 21
    SHADOWS_ANSWERED = 22
    SHADOWS_FAILED = 23
    SHADOWS_REFUSED = 24
    SHADOWS_ABANDONED = 25
    SHADOWS_DROPPED = 26
    BUDGETS_RESERVED = 27
    BUDGETS_REFUSED = 28
    BUDGETS_FULL = 29
    BUDGETS_OVERDRAWN = 30
    BUDGETS_LATE = 31
    INFERENCE_REQUESTS = 32
    INFERENCE_INPUT_TOKENS = 33
    INFERENCE_OUTPUT_TOKENS = 34
    INFERENCE_COUNTED = 35
    BUDGETS_WARNED = 36
    UPSTREAM_TLS_12 = 37
    UPSTREAM_TLS_13 = 38
    UPSTREAM_TLS_UNTRUSTED = 39
    UPSTREAM_TLS_WRONG_NAME = 40
    UPSTREAM_TLS_EXPIRED = 41
    UPSTREAM_TLS_WRONG_PIN = 42
    UPSTREAM_TLS_NOT_SPOKEN = 43
    UPSTREAM_TLS_REFUSED = 44
    UPSTREAM_TLS_TIMEOUT = 45
    TLS_13_RESUMED = 46
    TLS_12 = 47
    TLS_12_RESUMED = 48
    TLS_TIMEOUT = 49
    TLS_UNKNOWN_NAME = 50
    TLS_CLIENT_CERTIFICATE = 51
    JWKS_FETCHES = 52
    JWKS_FAILURES = 53


assert max(Counter) < COUNTERS_MAX, "every counter has a cell"


@dataclass(frozen=True, slots=True)
class SeriesTotals:
    """All exchanges of one series; `classes` by first digit of the status, `histogram` by shm.layout.BOUNDS_NS."""

    index: int
    name: str
    classes: tuple[int, ...]
    reasons: dict[int, int]
    histogram: tuple[int, ...]
    duration_sum_ns: int
    bytes_in: int
    bytes_out: int

    @property
    def requests(self) -> int:
        return sum(self.classes)


@dataclass(frozen=True, slots=True)
class Totals:
    """One reading of the whole fleet, the dead included."""

    series: tuple[SeriesTotals, ...]
    counters: dict[Counter, int]


def read_series(cells: Cells, geometry: Geometry, slots_used: int, index: int, name: str) -> SeriesTotals:
    summed = cells.sums(geometry.counters(0, index), geometry.counters_stride, slots_used, SERIES_WORDS)
    words = memoryview(summed).cast("Q").tolist()
    reasons = words[REASONS_AT : REASONS_AT + REASONS_MAX]
    return SeriesTotals(
        index=index,
        name=name,
        classes=tuple(words[:CLASSES]),
        reasons={number: count for number, count in enumerate(reasons) if count},
        histogram=tuple(words[HISTOGRAM_AT : HISTOGRAM_AT + BUCKETS]),
        duration_sum_ns=words[DURATION_AT],
        bytes_in=words[DURATION_AT + 1],
        bytes_out=words[DURATION_AT + 2],
    )


def read_counters(cells: Cells, geometry: Geometry, slots_used: int) -> dict[Counter, int]:
    summed = cells.sums(geometry.slot(0) + COUNTERS_AT, SLOT.size, slots_used, COUNTERS_MAX)
    words = memoryview(summed).cast("Q").tolist()
    return {counter: words[counter] for counter in Counter}
