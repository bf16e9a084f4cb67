"""The one description of shared memory: header, slots, names, journal rings, counters, limits, leases, budgets, places.

Intuition: a floor plan. Everyone who builds reads the same sheet: this file is
it, `_native/layout.h` and `LAYOUT.md` are copies made by `python -m shm.layout
--write`, and a test holds that they are byte-identical to what it would write.

Rule 1: everything is a 64-bit word in native order, on an 8-byte boundary. A
    word is read and written whole, so it is never torn, and the header's own
    words tell a machine of the other byte order apart by the magic.
Rule 2: each word has one writer, named here, and words of different writers do
    not share a cache line (64 octets): nobody waits for another's line. The table
    of limits, those of leases and budgets and the places of endpoints are exceptions: all workers write them,
    by compare-and-swap only; shm/limits.py, shm/leases.py, shm/budgets.py and shm/places.py tell the rules by
    which they do. What readers ask of a place with every request is in one line, and seldom written.
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

VERSION: Final = 13
MAGIC: Final = int.from_bytes(b"SENTINEL", "little")

WORD: Final = 8
LINE: Final = 64
PAGE: Final = 4096

SERIES_LIMIT: Final = 65_536
"""No region has more series than this: beyond it a scrape would take seconds."""
SLOTS_LIMIT: Final = 1024
"""Three for each of 256 workers: those that drain, those that serve, and those that take over; and some that rest."""
JOURNAL_LIMIT: Final = 1 << 20
LIMITS_LIMIT: Final = 1 << 24
"""Half a gibibyte of buckets."""
LEASES_LIMIT: Final = 1 << 20
BUDGETS_LIMIT: Final = 1 << 18
LIMITS_MIN: Final = 64
"""Two windows: fewer would be one window for all keys."""

REASONS_MAX: Final = 192
"""As many as sentinel.core.reasons has numbers for; shm does not import it, so a test compares."""
RELAYED_REASON: Final = 0
FAILING_REASONS: Final = frozenset((*range(38, 60), 63))
"""What speaks against a generation: a failure of the upstream's or of our own, or an answer 5xx that was relayed.
Not what clients can bring about at will (a refusal with 501 or 505), else they could have a reload taken back."""
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
COUNTERS_MAX: Final = 64
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

LIMIT_WINDOW: Final = 32
"""A key lives in one of so many entries from its home on: half a page, which the hardware reads ahead."""
LIMIT_STRIPE: Final = 64
"""So many homes share a guard, fewer in small tables: insertions are rare, and two of one stripe rarer."""
LIMIT_GUARDS_MIN: Final = 64
LIMIT_KEYS_MAX: Final = 16
"""Limits that one call charges; more on one route are a mistake of its configuration."""
LIMIT_KEY_BYTES_MAX: Final = 1024
LIMIT_TERM_WORDS: Final = 3
"""What a charge says of each limit: increment, capacity, flags."""
LIMIT_CLOSED, LIMIT_OBSERVE = 1, 2
"""Flags of a charge: refuse when there is no room; never refuse."""
LIMIT_GRACE_NS: Final = 100_000_000
"""An entry is given to another key so long after it has expired: callers' clocks may be that old, see shm/limits.py."""
LIMIT_TIME_MAX_NS: Final = (1 << 61) - 1
"""73 years after boot."""
LIMIT_TERM_MAX_NS: Final = (1 << 60) - 1
"""36 years; the sum of a time, a capacity and an increment stays below LIMIT_VOID."""
LIMIT_ATTEMPTS_MAX: Final = 256
"""Each failed attempt means that another process went on, or was passed by; so many in a row do not happen."""
LIMIT_SPINS: Final = 64
"""Looks at another's guard before it is taken from him; doubled with every attempt, up to 16 times as many."""
LIMIT_SPIN_DOUBLINGS: Final = 4
TICKET_BITS: Final = 46
"""Of a ticket, for the slot's count of insertions: two years at a million a second. The slot's number is above it."""
OFFSET_BITS: Final = 56
"""Of a guard, below the place of the entry in its stripe; bit 63 says that the insertion is decided."""
LIMIT_VOID: Final = 1 << 62
"""In an entry's `tat`: nobody's, until that time."""
LIMIT_BUSY: Final = 1 << 63
"""In an entry's `tat`: between two keys; below it the ticket of whoever holds it. In a guard: decided."""

BUDGET_AMOUNT_MAX: Final = (1 << 52) - 1
"""Of one reservation, limit or sum; tokens, or millionths of a currency: four thousand million of it."""
BUDGET_TERM_WORDS: Final = 4
"""What a reservation says of each budget: until, amount, limit, flags (LIMIT_CLOSED, LIMIT_OBSERVE)."""
BUDGET_INDEX_BITS: Final = 18
"""Of a budget's lease; above it the low bits of key_high: a lease that is used too late is recognised."""
BUDGET_UNCOUNTED: Final = (1 << 64) - 1
"""The lease of a reservation that was admitted because there was no room."""

TALLIES_MAX: Final = 256
"""Labels of calls of language models: a scrape shows some eighty lines of each."""

PLACES_LIMIT: Final = 65_536
SUBWINDOWS: Final = 10
"""A breaker's window moves on by a tenth of itself."""
WINDOW_BITS: Final = 14
"""Of each count in a word of the window: a tenth of it counts its first 16,383 calls, which are a fair sample."""
STAMP_BITS: Final = 28
"""Below the time (ms) in words that are a quantity and when it was right."""
PLACE_TERM_WORDS: Final = 24
"""What an attempt says of its upstream: two breakers of ten words, two ceilings, a half life, what a budget earns."""
BURDEN_MAX: Final = (1 << 31) - 1
"""Tokens under way at one endpoint; more are compared as that. Times a weight of 32 bits it fits in a word."""
BUDGET_MAX: Final = 100_000_000
"""Thousandths of a retry that can be saved up."""
BUDGET_PAID_MS: Final = 10_000
"""A pause saves up at most so much of a budget's minimum."""
LEADER_SLOT_BITS: Final = 12
LEADER_GENERATION_BITS: Final = 16

BOTH, SUPERVISOR, CONTROL, WORKER, WORKERS = "both", "supervisor", "control", "worker", "workers"
LEADER: Final = "leader"


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


def guards_of(entries: int) -> int:
    """How many guards a table of so many entries has."""
    return max(LIMIT_GUARDS_MIN, entries // LIMIT_STRIPE)


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
    Field("limits_max", SUPERVISOR, "how many buckets the table of limits holds; a power of two"),
    Field("places_max", SUPERVISOR, "how many upstreams and endpoints there is room for"),
    Field("leases_max", SUPERVISOR, "how many keys can hold something at a time; a power of two"),
    Field("budgets_max", SUPERVISOR, "how many windows of budgets there is room for; a power of two"),
    Field("secret_low", SUPERVISOR, "keys of limits are hashed with it; known to this instance alone"),
    Field("secret_high", SUPERVISOR, "its other half"),
    Field("layout_crc", SUPERVISOR, "CRC-32 of this description"),
    Field("header_crc", SUPERVISOR, "CRC-32 of the words above"),
    Field("ready", SUPERVISOR, "1 once all of it is written; the last word of a creation"),
    Field("generation", SUPERVISOR, "the published generation; never goes back", on_line=True),
    Field("slots_used", SUPERVISOR, "slots from here on were never claimed", on_line=True),
    Field("slots_freed", SUPERVISOR, "how many slots were freed so far: the clock of resting"),
    Field("series_count", CONTROL, "names below this are complete", on_line=True),
    Field("series_refused", CONTROL, "names that found the table full and count as (other)"),
    Field("places_count", CONTROL, "places below this have a name"),
    Field("leader", WORKERS, "who checks endpoints for all: expiry in ms << 28 | generation << 12 | slot + 1",
          on_line=True),
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
    Field("limit_ticket", WORKER, "insertions into the table of limits so far; goes on over claims", on_line=True),
    Field("limit_guard", WORKER, "the guard that it takes, or took last"),
    Field("limit_entry", WORKER, "the entry that it claims, or claimed last"),
    Field("limit_before", WORKER, "what that entry's tat becomes, with VOID, if the insertion is not decided"),
    Field("limit_after", WORKER, "what it becomes once it is decided"),
    Field("counters", WORKER, "shm.counters.Counter, one word each; go on over claims", COUNTERS_MAX, on_line=True),
    Field("lives", BOTH, "per claim: generation, requests, failures, free; at claims % 32", LIVES * 4, on_line=True),
), 1728)  # fmt: skip

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
), 1792)  # fmt: skip

LIMIT: Final = Record("limit", (
    Field("key_low", WORKERS, "the key's hash; written while tat is BUSY, at no other time"),
    Field("key_high", WORKERS, "its other half"),
    Field("tat", WORKERS, "theoretical arrival time in monotonic ns; 0 never used; BUSY bit 63, VOID bit 62; of a "
          "lease when it was last asked for, of a budget when its window ends"),
    Field("peak", WORKERS, "highest tat that was ever given back; not reclaimed before; of leases and budgets 0"),
), 32)  # fmt: skip

SHIFT: Final = Record("shift", (
    Field("announced", WORKERS, "ns that were ever given back of a bucket, also what is about to be"),
    Field("done", WORKERS, "the same without what is about to be; who charges notes it, who gives back compares"),
), 16)  # fmt: skip
"""Of each bucket, right after the buckets; touched by charges that may be given back alone."""

SPENDING: Final = Record("spending", (
    Field("open", WORKER, "reserved and not yet settled"),
    Field("settled", WORKER, "spent"),
    Field("requests", WORKER, "how many requests were settled"),
    Field("whose", WORKER, "the key_high of the budget for which the two before are meant; set after they are zero"),
), 32)  # fmt: skip

TITLE: Final = Record("title", (
    Field("whose", WORKERS, "the key_high of the budget whose name this is; set last"),
    Field("carried", WORKERS, "spent in this window before this region was made; the supervisor's word, at a start"),
    Field("carried_requests", WORKERS, "requests settled before"),
    Field("length", WORKERS, "octets of the key"),
    Field("text", WORKERS, "the key's beginning; two who write it write the same", 20),
), 192)  # fmt: skip

PLACE: Final = Record("place", (
    Field("length", CONTROL, "octets of the name; set before header.places_count"),
    Field("text", CONTROL, "UTF-8", 31),
    Field("admin", CONTROL, "0 ready, 1 drain, 2 maintenance", on_line=True),
    Field("health", LEADER, "sentinel.core.machines.health.Health"),
    Field("ejected_until_ms", LEADER, "left out until then"),
    Field("breaker", WORKERS, "sentinel.core.machines.breaker: until_ms << 24 | passed << 16 | given << 8 | trips << 2 "
          "| state"),
    Field("report", LEADER, "of its load: in flight when it was read << 32 | thousandths of its cache << 20 | waiting"),
    Field("reported_ms", LEADER, "when that was; 0 never"),
    Field("consecutive", WORKERS, "failures in a row", on_line=True),
    Field("ewma", WORKERS, "peak latency: ms of its last change << 28 | microseconds"),
    Field("budget", WORKERS, "of retries: ms of its last change << 28 | thousandths of a retry"),
    Field("window", WORKERS, "calls of a tenth of the breaker's window: its number << 42 | slow << 28 | failures << 14 "
          "| calls", SUBWINDOWS, on_line=True),
    Field("checked_ms", LEADER, "when it was last checked", on_line=True),
    Field("finding", LEADER, "what that found: sentinel.core.machines.health.Finding"),
    Field("changed_ms", LEADER, "since when its health is what it is"),
    Field("ejections", LEADER, "how often it was ejected, less what was forgiven"),
    Field("recovered_ms", LEADER, "when it became healthy again, or its ejection ended; 0 never"),
), 640)  # fmt: skip

TOLL: Final = Record("toll", (
    Field("requests", WORKER, "attempts that ended with an outcome"),
    Field("failures", WORKER, "those that failed"),
    Field("latency_sum_us", WORKER, "of all of them"),
    Field("refused", WORKER, "attempts that a breaker or a limit did not let begin"),
    Field("connects", WORKER, "connections made"),
    Field("connect_failures", WORKER, "connections that could not be made"),
    Field("retries", WORKER, "attempts that repeated another one"),
    Field("opened", WORKER, "how often its breaker opened"),
), LINE)  # fmt: skip

ROSTER: Final = Record("roster", (
    Field("word", LEADER, "CRC-32 of the text << 32 | its length << 16 | 2 some are left off | 1 told; 0 unknown"),
    Field("text", LEADER, "names of the models that an endpoint serves, in UTF-8, a line each", 511),
), 4096)  # fmt: skip

LABEL: Final = Record("label", (
    Field("whose", WORKERS, "a keyed hash of the text; 0 is free; taken by compare-and-swap, in order, for ever"),
    Field("length", WORKERS, "octets of the text; set last; 0: its writer may have died"),
    Field("text", WORKERS, "route, model, dialect, tenant, currency; two who write it write the same", 30),
), 256)  # fmt: skip

TALLY: Final = Record("tally", (
    Field("calls", WORKER, "calls of language models that were answered"),
    Field("counted", WORKER, "of them, those whose tokens were counted here"),
    Field("input_tokens", WORKER, "of all of them"),
    Field("cached_tokens", WORKER, "of the input"),
    Field("output_tokens", WORKER, "of all of them"),
    Field("cost", WORKER, "in millionths of the label's currency"),
    Field("duration_ns", WORKER, "of all of them"),
    Field("first_ns", WORKER, "to the first token of streams"),
    Field("each_ns", WORKER, "for each output token after the first, of streams"),
    Field("over", WORKER, "thousandths of the input by which estimates were too high"),
    Field("under", WORKER, "by which they were too low"),
    Field("inputs", WORKER, "calls by tokens of input, not cumulative", 15),
    Field("outputs", WORKER, "by tokens of output", 15),
    Field("durations", WORKER, "by duration", 15),
    Field("firsts", WORKER, "by time to the first token", 17),
    Field("eaches", WORKER, "by time for each token", 14),
    Field("overs", WORKER, "by how far an estimate was right or too high", 10),
    Field("unders", WORKER, "by how far it was too low", 10),
), 896)  # fmt: skip

RECORDS: Final = (HEADER, SLOT, NAME, CELL, SERIES, LIMIT, SHIFT, SPENDING, TITLE, PLACE, TOLL, ROSTER, LABEL, TALLY)
LIFE_WORDS: Final = 4
NAME_BYTES_MAX: Final = NAME.size - WORD
JOURNAL_RECORD_BYTES: Final = CELL.size - WORD
SERIES_WORDS: Final = SERIES.size // WORD
IDENTITY_WORDS: Final = HEADER.offset("header_crc") // WORD

assert all(record.size % LINE == 0 for record in RECORDS if record not in (LIMIT, SHIFT, SPENDING)), "a line each"
assert LINE % SPENDING.size == 0, "what a slot spends of a budget lies in one cache line, all of it its own"
assert (SLOTS_LIMIT + 1) * 2 * BUDGET_AMOUNT_MAX < 1 << 64, "no sum over the slots wraps"
assert BUDGETS_LIMIT <= 1 << BUDGET_INDEX_BITS, "an index fits in a lease"
assert TITLE.offset("text") + 20 * WORD == TITLE.size, "the text fills the rest of a title"
assert LINE % LIMIT.size == 0, "a bucket lies in one cache line; two do in each, since all workers write all of them"
assert LIMIT_STRIPE + LIMIT_WINDOW <= 1 << 63 - OFFSET_BITS, "an entry's place in its stripe fits in a guard"
assert SLOTS_LIMIT <= 1 << OFFSET_BITS - TICKET_BITS, "a slot's number fits in a ticket"
assert LIMIT_TIME_MAX_NS + 2 * LIMIT_TERM_MAX_NS < LIMIT_VOID, "no sum reaches the marks"
assert LIMITS_MIN >= LIMIT_WINDOW, "no window meets itself"
assert JOURNAL_RECORD_BYTES < 1 << LENGTH_BITS, "a record's length fits beside its sequence"
assert all(low < high for low, high in pairwise(BOUNDS_NS)), "buckets are in order"
assert [field.name for field in HEADER.fields[:4]] == ["magic", "version", "creator_pid", "creator_birth_ns"], "rule 3"


def _described() -> bytes:
    lines = [f"{record.name} {record.size} {offset} {field.name} {field.words}"
             for record in RECORDS for offset, field in record.places()]  # fmt: skip
    lines.append(f"{TALLIES_MAX}")
    lines.append(f"{BOUNDS_NS} {LIVES} {STAGE_BITS} {ORDER_BITS} {LENGTH_BITS}")
    lines.append(f"{WINDOW_BITS} {STAMP_BITS} {LEADER_SLOT_BITS} {LEADER_GENERATION_BITS}")
    lines.append(f"{LIMIT_WINDOW} {LIMIT_STRIPE} {LIMIT_GUARDS_MIN} {LIMIT_GRACE_NS} {TICKET_BITS} {OFFSET_BITS}")
    return "\n".join(lines).encode()


LAYOUT_CRC: Final = zlib.crc32(_described())


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the tables of one region begin, from the seven numbers chosen at its creation."""

    slots_max: int
    series_max: int
    journal_records: int
    limits_max: int
    places_max: int
    leases_max: int = LIMITS_MIN
    budgets_max: int = LIMITS_MIN

    def faults(self) -> list[str]:
        """What is wrong with the numbers, in words; they may come from a damaged header."""
        limits = (("slots_max", self.slots_max, 1, SLOTS_LIMIT), ("series_max", self.series_max, 2, SERIES_LIMIT),
                  ("journal_records", self.journal_records, 1, JOURNAL_LIMIT),
                  ("limits_max", self.limits_max, LIMITS_MIN, LIMITS_LIMIT),
                  ("places_max", self.places_max, 1, PLACES_LIMIT),
                  ("leases_max", self.leases_max, LIMITS_MIN, LEASES_LIMIT),
                  ("budgets_max", self.budgets_max, LIMITS_MIN, BUDGETS_LIMIT))  # fmt: skip
        outside = (limit for limit in limits if not limit[2] <= limit[1] <= limit[3])
        faults = [f"{name} is {value}, outside {low}..{high}" for name, value, low, high in outside]
        powers = (("limits_max", self.limits_max), ("leases_max", self.leases_max), ("budgets_max", self.budgets_max))
        for name, value in powers:
            if value & value - 1:
                faults.append(f"{name} is {value}, which is no power of two")
        return faults

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
    def limits_offset(self) -> int:
        return self.counters_offset + self.slots_max * self.counters_stride

    @property
    def shifts_offset(self) -> int:
        """Right after the buckets, so that their place follows from the buckets'."""
        return self.limits_offset + self.limits_max * LIMIT.size

    @property
    def guards_max(self) -> int:
        return guards_of(self.limits_max)

    @property
    def guards_offset(self) -> int:
        return _aligned(self.shifts_offset + self.limits_max * SHIFT.size, PAGE)

    @property
    def leases_offset(self) -> int:
        return _aligned(self.guards_offset + self.guards_max * WORD, PAGE)

    @property
    def lease_guards_offset(self) -> int:
        return _aligned(self.leases_offset + self.leases_max * LIMIT.size, PAGE)

    @property
    def holdings_offset(self) -> int:
        """What is held under each key: a row of words for each slot, one word for each lease."""
        return _aligned(self.lease_guards_offset + guards_of(self.leases_max) * WORD, PAGE)

    @property
    def holdings_stride(self) -> int:
        return _aligned(self.leases_max * WORD, PAGE)

    @property
    def budgets_offset(self) -> int:
        return self.holdings_offset + self.slots_max * self.holdings_stride

    @property
    def budget_guards_offset(self) -> int:
        return _aligned(self.budgets_offset + self.budgets_max * LIMIT.size, PAGE)

    @property
    def titles_offset(self) -> int:
        return _aligned(self.budget_guards_offset + guards_of(self.budgets_max) * WORD, PAGE)

    @property
    def spendings_offset(self) -> int:
        """What is spent and reserved under each key: a row of records for each slot, one for each budget."""
        return _aligned(self.titles_offset + self.budgets_max * TITLE.size, PAGE)

    @property
    def spendings_stride(self) -> int:
        return _aligned(self.budgets_max * SPENDING.size, PAGE)

    @property
    def places_offset(self) -> int:
        return self.spendings_offset + self.slots_max * self.spendings_stride

    @property
    def flights_offset(self) -> int:
        """Requests in flight: a row for each slot, of one word for each place, and of another for tokens under way."""
        return _aligned(self.places_offset + self.places_max * PLACE.size, PAGE)

    @property
    def flights_stride(self) -> int:
        return _aligned(2 * self.places_max * WORD, LINE)

    @property
    def tolls_offset(self) -> int:
        return _aligned(self.flights_offset + self.slots_max * self.flights_stride, PAGE)

    @property
    def tolls_stride(self) -> int:
        return self.places_max * TOLL.size

    @property
    def size_bytes(self) -> int:
        return _aligned(self.tallies_offset + self.slots_max * self.tallies_stride, PAGE)

    @property
    def rosters_offset(self) -> int:
        return _aligned(self.tolls_offset + self.slots_max * self.tolls_stride, PAGE)

    @property
    def labels_offset(self) -> int:
        return _aligned(self.rosters_offset + self.places_max * ROSTER.size, PAGE)

    @property
    def tallies_offset(self) -> int:
        """What calls of language models took: a row of records for each slot, one for each label."""
        return _aligned(self.labels_offset + TALLIES_MAX * LABEL.size, PAGE)

    @property
    def tallies_stride(self) -> int:
        return _aligned(TALLIES_MAX * TALLY.size, PAGE)

    def slot(self, index: int) -> int:
        return self.slots_offset + index * SLOT.size

    def name(self, index: int) -> int:
        return self.names_offset + index * NAME.size

    def ring(self, index: int) -> int:
        return self.rings_offset + index * self.ring_stride

    def counters(self, slot: int, series: int) -> int:
        return self.counters_offset + slot * self.counters_stride + series * SERIES.size

    def limit(self, index: int) -> int:
        return self.limits_offset + index * LIMIT.size

    def shift(self, index: int) -> int:
        return self.shifts_offset + index * SHIFT.size

    def guard(self, index: int) -> int:
        return self.guards_offset + index * WORD

    def lease(self, index: int) -> int:
        return self.leases_offset + index * LIMIT.size

    def holding(self, slot: int, lease: int) -> int:
        return self.holdings_offset + slot * self.holdings_stride + lease * WORD

    def budget(self, index: int) -> int:
        return self.budgets_offset + index * LIMIT.size

    def title(self, index: int) -> int:
        return self.titles_offset + index * TITLE.size

    def spending(self, slot: int, budget: int) -> int:
        return self.spendings_offset + slot * self.spendings_stride + budget * SPENDING.size

    def place(self, index: int) -> int:
        return self.places_offset + index * PLACE.size

    def flight(self, slot: int, place: int) -> int:
        return self.flights_offset + slot * self.flights_stride + place * WORD

    def label(self, index: int) -> int:
        return self.labels_offset + index * LABEL.size

    def tally(self, slot: int, index: int) -> int:
        return self.tallies_offset + slot * self.tallies_stride + index * TALLY.size

    def toll(self, slot: int, place: int) -> int:
        return self.tolls_offset + slot * self.tolls_stride + place * TOLL.size

    def roster(self, place: int) -> int:
        return self.rosters_offset + place * ROSTER.size


if __name__ == "__main__":
    # Loaded by name: the drawing imports the layout, and no module here imports one that imports it.
    sys.exit(import_module("shm.drawing").main(sys.argv[1:]))
