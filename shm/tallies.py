"""What calls of language models took, by route, model, dialect and tenant: sums and histograms of the whole fleet.

Intuition: tally sticks in a merchant's drawer. Each customer has one, with the name on its end; whoever sells cuts a
notch into his own copy of it. The drawer holds so many sticks, and what is sold to all others goes on one that says
"(other)".

    a label's words     whose (hash) ── set by compare-and-swap, in order, never taken back
                        length, text ── by whoever finds them missing; two who write them write the same
    a slot's row        words of one writer each, which go on over claims: a dead worker's notches stay

Rules:
1. Labels are chosen by workers, since the names come with requests; they are bounded by TALLIES_MAX, and so is
   what a scrape shows. Number 0 is (other): whatever found no room is counted there.
2. A label is taken at the first place that is free, so that all before it are taken: a worker reads each once.
3. A model that the configuration names (`is_said`) takes any free place. One that only a client has named is not so
   sure: providers that answer to any name let clients invent them. The first UNSAID_AT_ONCE of these take a place at
   once, those after them when they have been called LESSONS times in one worker, and never more than UNSAID_MAX:
   so names that are used once displace nobody. That a label is one of them is the lowest bit of its hash.
4. A slot's row is asked for in pieces (RESERVED) before it is first written. Where there is no memory it is (other).
5. A reading adds up the rows of all slots. Numbers never go back; a row is whole up to the call that is being counted.

Rejected: labels by control, as routes have them. It would have to be asked in the middle of a request. Rejected as
well: a table of its own for each worker, merged at the scrape. Its bound is a bound for each worker, and which names
are shown would change with who died.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import add
from typing import Final, NamedTuple

from shm.cells import Cells
from shm.faults import RegionFault
from shm.layout import LABEL, SLOTS_LIMIT, TALLIES_MAX, TALLY, WORD, Geometry

OTHER: Final = 0
UNSAID: Final = 1
"""The bit of a label's hash."""
RESERVED: Final = 16
"""Tallies of a slot for which memory is asked for at a time: 14 KiB."""
KNOWN_MAX: Final = 1024
"""Labels that a worker remembers besides those in the table: all of them are (other)."""
UNSAID_AT_ONCE: Final = 64
UNSAID_MAX: Final = 191
LESSONS: Final = 8
WAITING_MAX: Final = 1024
"""Labels of which a worker counts how often they were called, until they take a place; the oldest give way."""
BETWEEN: Final = "\x1f"
PART_OCTETS: Final = (72, 72, 20, 56, 8)
"""Of a route, a model, a dialect, a tenant, a currency; longer ones keep their beginning and a digest."""
DIGEST_CHARS: Final = 8
TEXT_AT: Final = LABEL.offset("text")
LENGTH_AT: Final = LABEL.offset("length")
TEXT_OCTETS_MAX: Final = LABEL.size - TEXT_AT
TALLY_WORDS: Final = TALLY.size // WORD
COST_MAX: Final = (1 << 64) // (SLOTS_LIMIT + 1)
"""Of one slot: what providers claim is multiplied by a price, and no sum over the slots may wrap."""

TOKEN_BOUNDS: Final = tuple(4**power for power in range(14))
DURATION_BOUNDS_MS: Final = tuple(10 << power for power in range(14))
FIRST_BOUNDS_MS: Final = (1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
EACH_BOUNDS_MS: Final = (10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2500)
"""Upper bounds, inclusive, as OpenTelemetry's semantic conventions for generative AI advise them."""
ERROR_BOUNDS: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Of an estimate, in thousandths of what it should have been. A reserve of a tenth is what people plan with."""
ERROR_MAX: Final = 1_000_000
MS: Final = 1_000_000

assert sum(PART_OCTETS) + len(PART_OCTETS) - 1 <= TEXT_OCTETS_MAX, "a label fits"


def _at(name: str) -> int:
    return TALLY.offset(name) // WORD


CALLS, COUNTED, INPUT, CACHED, OUTPUT, COST = (
    _at(name) for name in ("calls", "counted", "input_tokens", "cached_tokens", "output_tokens", "cost")
)
DURATION_NS, FIRST_NS, EACH_NS = (_at(name) for name in ("duration_ns", "first_ns", "each_ns"))
OVER, UNDER = _at("over"), _at("under")
INPUTS, OUTPUTS, DURATIONS, FIRSTS, EACHES, OVERS, UNDERS = (
    _at(name) for name in ("inputs", "outputs", "durations", "firsts", "eaches", "overs", "unders")
)


class Labels(NamedTuple):
    """Whose calls are counted together."""

    route: str
    model: str
    dialect: str
    tenant: str = ""
    currency: str = ""


OTHERS: Final = Labels("(other)", "(other)", "(other)", "(other)", "")


Label = tuple[str, str, str, str, str]
"""The same as whoever counts hands it over: a named tuple would be made for nothing."""
Count = tuple[int, int, int, bool, int, int, int, int | None]
"""A Notch, likewise."""


class Notch(NamedTuple):
    """One call. cost: in micro-units. first_ns: to the first token of a stream; 0: it was none, or brought none.

    error: of the estimate of its input, in thousandths of what was reported, below 0 where it was too low; None where
    nobody reported any.
    """

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    is_reported: bool
    cost: int
    duration_ns: int
    first_ns: int
    error: int | None = None


class Histogram(NamedTuple):
    """Counts by bucket, the last one without a bound; and the sum of what was counted."""

    counts: tuple[int, ...]
    total: int


class Tally(NamedTuple):
    """What all calls of some labels took so far."""

    labels: Labels
    calls: int
    counted: int
    cached_tokens: int
    cost: int
    inputs: Histogram
    outputs: Histogram
    duration_ns: Histogram
    first_ns: Histogram
    each_ns: Histogram
    over: Histogram
    under: Histogram


class Tallies:
    """All tallies of one region. `reserve`: have memory for so many octets from here on, or RegionFault."""

    __slots__ = ("_cells", "_geometry", "_known", "_memory", "_numbers", "_ready", "_reserve", "_rows",
                 "_salt", "_stride", "_unsaid", "_waiting", "_words")  # fmt: skip

    def __init__(
        self, cells: Cells, geometry: Geometry, memory: memoryview, reserve: Callable[[int, int], None],
        secret: tuple[int, int],
    ) -> None:  # fmt: skip
        self._cells = cells
        self._geometry = geometry
        # A geometry works its places out anew, table by table, whenever it is asked.
        self._rows, self._stride = geometry.tallies_offset // WORD, geometry.tallies_stride // WORD
        self._memory = memory
        self._words = memory.cast("B").cast("Q")
        self._reserve = reserve
        self._salt = b"".join(word.to_bytes(WORD, "little") for word in secret)
        self._known: dict[Label, int] = {}
        self._numbers: dict[int, int] = {}  # of the labels in the table, by their hash
        self._unsaid = 0  # of them, those that no configuration named when they came
        self._waiting: dict[Label, int] = {}
        self._ready: set[tuple[int, int]] = set()  # pieces of rows for which there is memory

    def release(self) -> None:
        self._words.release()

    def add(self, slot: int, labels: Label, notch: Count, is_said: bool = True) -> None:
        """Count one call; the slot's process. is_said: the configuration names the model."""
        index = self._known.get(labels)
        if index is None:
            index = self._learn(labels, is_said)
        if (slot, index // RESERVED) not in self._ready:
            index = self._prepared(slot, index)
            if index < 0:
                return
        at, words = self._rows + slot * self._stride + index * TALLY_WORDS, self._words
        received, cached, made, is_reported, cost, duration_ns, first_ns, error = notch
        words[at + CALLS] += 1
        words[at + INPUT] += received
        words[at + OUTPUT] += made
        words[at + DURATION_NS] += duration_ns
        words[at + INPUTS + bisect_left(TOKEN_BOUNDS, received)] += 1
        words[at + OUTPUTS + bisect_left(TOKEN_BOUNDS, made)] += 1
        words[at + DURATIONS + bisect_left(DURATION_BOUNDS_MS, duration_ns / MS)] += 1
        if cached:
            words[at + CACHED] += cached
        if cost:
            words[at + COST] = min(words[at + COST] + cost, COST_MAX)
        if not is_reported:
            words[at + COUNTED] += 1
        if error is not None:
            total, buckets = (OVER, OVERS) if error >= 0 else (UNDER, UNDERS)
            amount = min(abs(error), ERROR_MAX)
            words[at + total] += amount
            words[at + buckets + bisect_left(ERROR_BOUNDS, amount)] += 1
        if first_ns:
            words[at + FIRST_NS] += first_ns
            words[at + FIRSTS + bisect_left(FIRST_BOUNDS_MS, first_ns / MS)] += 1
            if made > 1:
                each_ns = max(duration_ns - first_ns, 0) // (made - 1)
                words[at + EACH_NS] += each_ns
                words[at + EACHES + bisect_left(EACH_BOUNDS_MS, each_ns / MS)] += 1

    def index(self, labels: Label, is_said: bool = True) -> int:
        """The number of these labels, a new one if need be; OTHER where there is no room."""
        return self._number(text_of(labels), is_said)

    def used(self) -> int:
        """How many labels there are, besides (other)."""
        self._refresh()
        return len(self._numbers)

    def read(self, slots_used: int) -> list[Tally]:
        """All that was ever counted, by the living and the dead; anybody."""
        self._refresh()
        found: dict[Labels, list[int]] = {}
        for index in range(len(self._numbers) + 1):
            labels = OTHERS if index == OTHER else self._labels(index)
            if labels is None:
                continue
            geometry = self._geometry
            octets = self._cells.sums(geometry.tally(0, index), geometry.tallies_stride, slots_used, TALLY_WORDS)
            words = memoryview(octets).cast("Q").tolist()
            # Workers of two configurations, of which one names the model, may have added it at the same moment.
            earlier = found.get(labels)
            found[labels] = words if earlier is None else list(map(add, earlier, words))
        return [_tally(labels, words) for labels, words in found.items() if words[CALLS]]

    def _learn(self, labels: Label, is_said: bool) -> int:
        if not is_said and self._is_crowded():
            lessons = self._waiting.pop(labels, 0) + 1
            if lessons < LESSONS and self._found(text_of(labels)) is None:
                if len(self._waiting) >= WAITING_MAX:
                    del self._waiting[next(iter(self._waiting))]
                self._waiting[labels] = lessons
                return OTHER
        if len(self._known) >= KNOWN_MAX + TALLIES_MAX:
            self._known.clear()
        index = self._known[labels] = self.index(labels, is_said)
        return index

    def _is_crowded(self) -> bool:
        self._refresh()
        return self._unsaid >= UNSAID_AT_ONCE

    def _found(self, text: bytes) -> int | None:
        """The number of labels that are there."""
        whose = self._hash(text)
        said = self._numbers.get(whose)
        return self._numbers.get(whose | UNSAID) if said is None else said

    def _hash(self, text: bytes) -> int:
        whose = int.from_bytes(hashlib.blake2b(text, key=self._salt, digest_size=WORD).digest(), "little")
        return whose & ~UNSAID or 2

    def _number(self, text: bytes, is_said: bool) -> int:
        whose = self._hash(text) | (0 if is_said else UNSAID)
        for _ in range(TALLIES_MAX):  # each turn but the last sees a label that somebody else has added
            self._refresh()
            index = self._found(text)
            if index is not None:
                self._name(index, text)
                return index
            free = len(self._numbers) + 1
            if free >= TALLIES_MAX or (not is_said and self._unsaid >= UNSAID_MAX):
                break
            self._cells.compare_exchange(self._geometry.label(free), 0, whose)
        return OTHER

    def _name(self, index: int, text: bytes) -> None:
        """Write the text, unless it is there; who took the place may have died before."""
        place = self._geometry.label(index)
        if not self._cells.load(place + LENGTH_AT):
            self._memory[place + TEXT_AT : place + TEXT_AT + len(text)] = text
            self._cells.store(place + LENGTH_AT, len(text))

    def _refresh(self) -> None:
        """Read the labels that others have added."""
        for index in range(len(self._numbers) + 1, TALLIES_MAX):
            whose = self._cells.load(self._geometry.label(index))
            if not whose:
                return
            self._unsaid += whose & UNSAID
            # A damaged hash may repeat another one; it must not shift the numbers of those after it.
            self._numbers[whose if whose not in self._numbers else -index] = index

    def _labels(self, index: int) -> Labels | None:
        """The labels, once they are written."""
        place = self._geometry.label(index)
        length = min(self._cells.load(place + LENGTH_AT), TEXT_OCTETS_MAX)
        text = bytes(self._memory[place + TEXT_AT : place + TEXT_AT + length]).decode(errors="replace")
        parts = text.split(BETWEEN)
        return Labels(*parts) if len(parts) == len(PART_OCTETS) else None

    def _prepared(self, slot: int, index: int) -> int:
        """The index, when there is memory for it; (other) when there is not, and -1 when there is none at all."""
        for one in (index, OTHER):
            piece = one // RESERVED
            if (slot, piece) in self._ready:
                return one
            try:
                self._reserve(self._geometry.tally(slot, piece * RESERVED), RESERVED * TALLY.size)
            except RegionFault:
                continue
            self._ready.add((slot, piece))
            return one
        return -1


def text_of(labels: Sequence[str]) -> bytes:
    """The labels as one text; what is too long is cut, and told apart by a digest."""
    return BETWEEN.join(map(_cut, labels, PART_OCTETS)).encode()


def _cut(text: str, most: int) -> str:
    octets = text.replace(BETWEEN, "?").encode(errors="replace")
    if len(octets) <= most:
        return octets.decode()
    digest = hashlib.blake2b(octets, digest_size=DIGEST_CHARS // 2).hexdigest()
    return f"{octets[: most - DIGEST_CHARS - 1].decode(errors='ignore')}~{digest}"


def _tally(labels: Labels, words: list[int]) -> Tally:
    def histogram(first: int, bounds: Sequence[int], total: int) -> Histogram:
        return Histogram(tuple(words[first : first + len(bounds) + 1]), words[total])

    return Tally(
        labels, words[CALLS], words[COUNTED], words[CACHED], words[COST],
        histogram(INPUTS, TOKEN_BOUNDS, INPUT), histogram(OUTPUTS, TOKEN_BOUNDS, OUTPUT),
        histogram(DURATIONS, DURATION_BOUNDS_MS, DURATION_NS), histogram(FIRSTS, FIRST_BOUNDS_MS, FIRST_NS),
        histogram(EACHES, EACH_BOUNDS_MS, EACH_NS), histogram(OVERS, ERROR_BOUNDS, OVER),
        histogram(UNDERS, ERROR_BOUNDS, UNDER),
    )  # fmt: skip


assert TALLY.size % WORD == 0
assert UNSAID_AT_ONCE < UNSAID_MAX < TALLIES_MAX - 1, "there is room for those that the configuration names"
assert INPUTS + len(TOKEN_BOUNDS) < OUTPUTS and OUTPUTS + len(TOKEN_BOUNDS) < DURATIONS, "each has its buckets"
assert DURATIONS + len(DURATION_BOUNDS_MS) < FIRSTS and FIRSTS + len(FIRST_BOUNDS_MS) < EACHES
assert EACHES + len(EACH_BOUNDS_MS) < OVERS and OVERS + len(ERROR_BOUNDS) < UNDERS
assert UNDERS + len(ERROR_BOUNDS) < TALLY_WORDS
