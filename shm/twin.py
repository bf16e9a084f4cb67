"""The Python twin of `_native/cells.c`: the same operations, in plain Python.

Used where the extension is not built, and with SENTINEL_PURE=1. It is also the
specification: a differential test runs both on the same random sequences and
compares answers, errors and every octet of memory.

Rule 1: a word is stored by one assignment to a memoryview of format "Q", which
    CPython compiles to one 8-byte store. So single words are not torn here
    either, and what has one writer stays right across processes.
Rule 2: `fetch_add`, `compare_exchange` and `publish` are atomic only within one
    process. All that has one writer is right on the twin too, if slow; on weakly
    ordered machines a reader may besides see publications late. The table of
    limits has many: a fleet of several workers on the twin may admit too much.

Rejected: `struct.pack_into("<Q")`, which writes octet by octet.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

from shm.budgets import Budgets
from shm.layout import (
    BOUNDS_NS,
    BUDGET_AMOUNT_MAX,
    BUDGET_TERM_WORDS,
    BUDGETS_LIMIT,
    BURDEN_MAX,
    CELL,
    COUNTERS_MAX,
    FAILING_REASONS,
    HEADER,
    JOURNAL_LIMIT,
    JOURNAL_RECORD_BYTES,
    LEASES_LIMIT,
    LENGTH_BITS,
    LIFE_WORDS,
    LIMIT,
    LIMIT_KEY_BYTES_MAX,
    LIMIT_KEYS_MAX,
    LIMIT_TERM_MAX_NS,
    LIMIT_TERM_WORDS,
    LIMIT_TIME_MAX_NS,
    LIMITS_LIMIT,
    LIMITS_MIN,
    LIVES,
    PLACE,
    PLACES_LIMIT,
    REASONS_MAX,
    RELAYED_REASON,
    SERIES,
    SERIES_LIMIT,
    SERIES_WORDS,
    SHIFT,
    SLOT,
    SLOTS_LIMIT,
    SPENDING,
    STAGE_BITS,
    TITLE,
    TOLL,
    WORD,
    guards_of,
)  # fmt: skip
from shm.leases import Leases
from shm.limits import Key, Limits, finish
from shm.places import TERM_MAX, TERMS, TOLL_WORDS, Permit, Places
from shm.siphash import siphash_128

MASK: Final = (1 << 64) - 1
MS: Final = 1_000_000
PLACES_AT_ONCE_MAX: Final = 4096
SLOT_WORDS: Final = SLOT.size // WORD
CELL_WORDS: Final = CELL.size // WORD
LIFE: Final = SLOT.offset("life") // WORD
LIVES_AT: Final = SLOT.offset("lives") // WORD
COUNTERS_AT: Final = SLOT.offset("counters") // WORD
HEARTBEAT_AT: Final = SLOT.offset("heartbeat_ns") // WORD
HEAD_AT: Final = SLOT.offset("journal_head") // WORD
DURATION_AT: Final = SERIES.offset("duration_sum_ns") // WORD
USED: Final = HEADER.offset("slots_used") // WORD
SECRET: Final = HEADER.offset("secret_low") // WORD
HISTOGRAM_AT: Final = SERIES.offset("histogram") // WORD
REASONS_AT: Final = SERIES.offset("reasons") // WORD


class Cells:
    """Operations on one region; see shm.cells.Cells for what each promises."""

    def __init__(
        self, memory: memoryview, slots_max: int, series_max: int, journal_records: int,
        slots_offset: int, rings_offset: int, ring_stride: int, counters_offset: int, counters_stride: int,
        limits_max: int, limits_offset: int, guards_offset: int, places_max: int, places_offset: int,
        flights_offset: int, flights_stride: int, tolls_offset: int, tolls_stride: int, leases_max: int,
        leases_offset: int, lease_guards_offset: int, holdings_offset: int, holdings_stride: int, budgets_max: int,
        budgets_offset: int, budget_guards_offset: int, titles_offset: int, spendings_offset: int,
        spendings_stride: int, /,
    ) -> None:  # fmt: skip
        if memory.readonly or not memory.contiguous:
            raise BufferError("the region must be writable and contiguous")
        if memory.nbytes % WORD:
            raise ValueError("the region is not whole words")
        counts = (
            (slots_max, SLOTS_LIMIT), (series_max, SERIES_LIMIT), (journal_records, JOURNAL_LIMIT),
            (places_max, PLACES_LIMIT),
        )  # fmt: skip
        tables = (
            (slots_offset, 0, slots_max * SLOT.size),
            (rings_offset, (slots_max - 1) * ring_stride, journal_records * CELL.size),
            (counters_offset, (slots_max - 1) * counters_stride, series_max * SERIES.size),
            (limits_offset, 0, limits_max * (LIMIT.size + SHIFT.size)),
            (guards_offset, 0, guards_of(limits_max) * WORD),
            (places_offset, 0, places_max * PLACE.size),
            (flights_offset, (slots_max - 1) * flights_stride, 2 * places_max * WORD),
            (tolls_offset, (slots_max - 1) * tolls_stride, places_max * TOLL.size),
            (leases_offset, 0, leases_max * LIMIT.size),
            (lease_guards_offset, 0, guards_of(leases_max) * WORD),
            (holdings_offset, (slots_max - 1) * holdings_stride, leases_max * WORD),
            (budgets_offset, 0, budgets_max * LIMIT.size),
            (budget_guards_offset, 0, guards_of(budgets_max) * WORD),
            (titles_offset, 0, budgets_max * TITLE.size),
            (spendings_offset, (slots_max - 1) * spendings_stride, budgets_max * SPENDING.size),
        )
        if not all(0 < count <= limit for count, limit in counts) or not _is_table(limits_max, leases_max, budgets_max):
            raise ValueError("a table's size is out of bounds")
        if any(offset % WORD or span % WORD or offset + span + size > memory.nbytes for offset, span, size in tables):
            raise ValueError("a table does not fit in the region")
        self._octets = memory.cast("B")
        self._words = self._octets.cast("Q")
        self._counts = slots_max, series_max, journal_records
        self._places_max = places_max
        self._slots = slots_offset // WORD
        self._rings, self._ring_stride = rings_offset // WORD, ring_stride // WORD
        self._counters, self._counters_stride = counters_offset // WORD, counters_stride // WORD
        at = limits_offset // WORD, guards_offset // WORD
        self._limits = Limits(self._words, *at, limits_max, self._place, slots_max)
        self._leases = Leases(
            self._words, leases_offset // WORD, lease_guards_offset // WORD, leases_max, self._place, slots_max,
            (holdings_offset // WORD, holdings_stride // WORD, self._used),
        )  # fmt: skip
        self._leases_max = leases_max
        self._budgets = Budgets(
            self._words, budgets_offset // WORD, budget_guards_offset // WORD, budgets_max, self._place, slots_max,
            (spendings_offset // WORD, spendings_stride // WORD, self._used), titles_offset // WORD,
        )  # fmt: skip
        self._places = Places(
            self._words, places_offset // WORD, flights_offset // WORD, flights_stride // WORD, tolls_offset // WORD,
            tolls_stride // WORD, slots_max, places_max,
        )  # fmt: skip

    def release(self) -> None:
        self._words.release()
        self._octets.release()

    def load(self, offset: int, /) -> int:
        return self._words[self._at(*_words(offset))]

    def store(self, offset: int, value: int, /) -> None:
        offset, value = _words(offset, value)
        at = self._at(offset)
        self._words[at] = value

    def fetch_add(self, offset: int, n: int, /) -> int:
        offset, n = _words(offset, n)
        at = self._at(offset)
        before = self._words[at]
        self._words[at] = (before + n) & MASK
        return before

    def compare_exchange(self, offset: int, expected: int, desired: int, /) -> bool:
        offset, expected, desired = _words(offset, expected, desired)
        at = self._at(offset)
        if self._words[at] != expected:
            return False
        self._words[at] = desired
        return True

    def publish(self, offset: int, value: int, /) -> bool:
        offset, value = _words(offset, value)
        at = self._at(offset)
        if value <= self._words[at]:
            return False
        self._words[at] = value
        return True

    def record(
        self, slot: int, series: int, status: int, reason: int, duration_ns: int, bytes_in: int, bytes_out: int, /
    ) -> None:
        _words(slot, series, status, reason, duration_ns, bytes_in, bytes_out)
        place = self._slot(slot)
        _check("series", series, self._counts[1])
        _check("reason", reason, REASONS_MAX)
        cell = self._counters + slot * self._counters_stride + series * SERIES_WORDS
        kind = status // 100 if 100 <= status <= 599 else 0
        life = place + LIVES_AT + (self._words[place + LIFE] >> STAGE_BITS) % LIVES * LIFE_WORDS
        self._bump(cell + kind, 1)
        self._bump(cell + REASONS_AT + reason, 1)
        self._bump(cell + HISTOGRAM_AT + bisect_left(BOUNDS_NS, duration_ns), 1)
        self._bump(cell + DURATION_AT, duration_ns)
        self._bump(cell + DURATION_AT + 1, bytes_in)
        self._bump(cell + DURATION_AT + 2, bytes_out)
        self._bump(life + 1, 1)
        if reason in FAILING_REASONS or (kind == 5 and reason == RELAYED_REASON):
            self._bump(life + 2, 1)

    def add(self, slot: int, counter: int, n: int = 1, /) -> None:
        _words(slot, counter, n)
        place = self._slot(slot)
        _check("counter", counter, COUNTERS_MAX)
        self._bump(place + COUNTERS_AT + counter, n)

    def beat(self, slot: int, now_ns: int, open_connections: int, open_requests: int, /) -> None:
        _words(slot, now_ns, open_connections, open_requests)
        at = self._slot(slot) + HEARTBEAT_AT
        # The heartbeat last: who sees the new one sees the gauges that came with it.
        self._words[at + 1], self._words[at + 2] = open_connections, open_requests
        self._words[at] = now_ns

    def journal_write(self, slot: int, record: bytes, /) -> None:
        head = self._slot(*_words(slot)) + HEAD_AT
        if not isinstance(record, bytes):
            raise TypeError(f"expected bytes, {type(record).__name__} found")
        length = len(record)
        if length > JOURNAL_RECORD_BYTES:
            raise ValueError(f"a journal record has at most {JOURNAL_RECORD_BYTES} octets")
        sequence = self._words[head]
        cell = self._cell(slot, sequence)
        self._words[cell] = 0
        start = (cell + 1) * WORD
        padding = bytes(-length % WORD)
        self._octets[start : start + length + len(padding)] = record + padding
        self._words[cell] = ((sequence + 1) << LENGTH_BITS & MASK) | length
        self._words[head] = (sequence + 1) & MASK

    def journal_read(self, slot: int, sequence: int, /) -> bytes | None:
        _words(slot, sequence)
        self._slot(slot)
        cell = self._cell(slot, sequence)
        word = self._words[cell]
        length = word & ((1 << LENGTH_BITS) - 1)
        if word >> LENGTH_BITS != (sequence + 1) & (MASK >> LENGTH_BITS) or word == 0 or length > JOURNAL_RECORD_BYTES:
            return None
        start = (cell + 1) * WORD
        record = bytes(self._octets[start : start + length])
        return record if self._words[cell] == word else None

    def sums(self, offset: int, stride: int, count: int, words: int, /) -> bytes:
        offset, stride, count, words = _words(offset, stride, count, words)
        at = self._at(offset)
        if stride % WORD or count > SLOTS_LIMIT or words > SERIES_WORDS:
            raise ValueError("a sum is over at most 256 blocks of a series' size")
        stride //= WORD
        if count and words and at + (count - 1) * stride + words > len(self._words):
            raise IndexError("a sum reaches beyond the region")
        blocks = [self._words[at + stride * block : at + stride * block + words] for block in range(count)]
        total = [sum(cells) & MASK for cells in zip(*blocks, strict=True)] if count else [0] * words
        return array("Q", total).tobytes()

    def charge(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        hashes, agreed = self._charged(slot, now_ns, keys, terms)
        return finish(self._limits.charge(slot, now_ns, hashes, agreed))

    def _charged(
        self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes
    ) -> tuple[list[Key], list[tuple[int, int, int]]]:
        _words(slot, now_ns)
        if not isinstance(keys, tuple) or not isinstance(terms, bytes):
            raise TypeError("expected a tuple of keys, and bytes of terms")
        self._slot(slot)
        _check_time(now_ns)
        if len(keys) > LIMIT_KEYS_MAX or len(terms) != len(keys) * LIMIT_TERM_WORDS * WORD:
            raise ValueError(f"a charge is of at most {LIMIT_KEYS_MAX} keys, with three words of terms each")
        numbers = memoryview(terms).cast("Q")
        agreed = [(numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), LIMIT_TERM_WORDS)]
        hashes = []
        for key, (increment, capacity, _) in zip(keys, agreed, strict=True):
            hashes.append(self._hash(key))
            if max(increment, capacity) > LIMIT_TERM_MAX_NS:
                raise ValueError("an increment or a capacity is out of bounds")
        return hashes, agreed

    def charge_used(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        outcome, index, *tats = self.charge(slot, now_ns, keys, terms)
        return outcome, index, *(max(0, tat - now_ns) for tat in tats)

    def charge_marked(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        hashes, agreed = self._charged(slot, now_ns, keys, terms)
        outcome, index, *found = finish(self._limits.charge(slot, now_ns, hashes, agreed, is_marked=True))
        count = len(keys)
        return outcome, index, *(max(0, tat - now_ns) for tat in found[:count]), *found[count:]

    def give_back(self, slot: int, now_ns: int, key: bytes, mark: tuple[int, int, int], amount_ns: int, /) -> int:
        _words(slot, now_ns, amount_ns)
        if not isinstance(mark, tuple) or len(mark) != 3:
            raise TypeError("a mark is a tuple of three words")
        _words(*mark)
        self._slot(slot)
        return finish(self._limits.give_back(now_ns, self._timed(now_ns, key), mark, amount_ns))

    def take_more(self, slot: int, now_ns: int, key: bytes, amount_ns: int, /) -> int:
        _words(slot, now_ns, amount_ns)
        self._slot(slot)
        if amount_ns > LIMIT_TERM_MAX_NS:
            raise ValueError("an amount is out of bounds")
        return finish(self._limits.take_more(slot, now_ns, self._timed(now_ns, key), amount_ns))

    def peek(self, now_ns: int, key: bytes, /) -> int:
        _words(now_ns)
        found = finish(self._limits.look(self._timed(now_ns, key)))
        return found[1] if found and found[1] > now_ns else 0

    def reset(self, now_ns: int, key: bytes, /) -> bool:
        _words(now_ns)
        return finish(self._limits.reset(now_ns, self._timed(now_ns, key)))

    def limits_reap(self, slot: int, /) -> None:
        self._slot(*_words(slot))
        finish(self._limits.reap(slot))

    def limits_statistics(self, now_ns: int, /) -> tuple[int, int, int, int]:
        _words(now_ns)
        self._words[0]  # refuses when the region was released
        return self._limits.statistics(now_ns)

    def hold(self, slot: int, now_ns: int, key: bytes, most: int, /) -> tuple[int, int, int]:
        _words(slot, now_ns)
        _words(most)
        self._slot(slot)
        _check_time(now_ns)
        return finish(self._leases.hold(slot, now_ns, self._hash(key), most))

    def release_lease(self, slot: int, lease: int, /) -> None:
        _words(slot, lease)
        self._slot(slot)
        _check("lease", lease, self._leases_max)
        self._leases.release(slot, lease)

    def held(self, key: bytes, /) -> int:
        return finish(self._leases.held(self._hash(key)))

    def leases_reap(self, slot: int, /) -> None:
        self._slot(*_words(slot))
        finish(self._leases.reap(slot))

    def leases_statistics(self, /) -> tuple[int, int, int, int]:
        self._words[0]  # refuses when the region was released
        return self._leases.totals()

    def reserve(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        _words(slot, now_ns)
        if not isinstance(keys, tuple) or not isinstance(terms, bytes):
            raise TypeError("expected a tuple of keys, and bytes of terms")
        self._slot(slot)
        _check_time(now_ns)
        if len(keys) > LIMIT_KEYS_MAX or len(terms) != len(keys) * BUDGET_TERM_WORDS * WORD:
            raise ValueError(f"a reservation is of at most {LIMIT_KEYS_MAX} keys, with four words of terms each")
        numbers = memoryview(terms).cast("Q").tolist()
        named, agreed = [], []
        for at, key in enumerate(keys):
            named.append((self._hash(key), key))
            until, amount, limit, flags = numbers[at * BUDGET_TERM_WORDS : (at + 1) * BUDGET_TERM_WORDS]
            if until > LIMIT_TIME_MAX_NS or max(amount, limit) > BUDGET_AMOUNT_MAX:
                raise ValueError("a time, an amount or a limit is out of bounds")
            agreed.append((until, amount, limit, flags))
        return finish(self._budgets.reserve(slot, now_ns, named, agreed))

    def extend(self, slot: int, lease: int, amount: int, limit: int, /) -> tuple[int, int]:
        _words(slot, lease, amount, limit)
        self._slot(slot)
        if max(amount, limit) > BUDGET_AMOUNT_MAX:
            raise ValueError("an amount or a limit is out of bounds")
        return finish(self._budgets.extend(slot, lease, amount, limit))

    def settle(self, slot: int, lease: int, spent: int, released: int, is_end: int, /) -> bool:
        _words(slot, lease)
        if not isinstance(spent, int):
            raise TypeError(f"an integer is required, not {type(spent).__name__}")
        if abs(spent) > BUDGET_AMOUNT_MAX:
            raise ValueError("an amount is out of bounds")
        _words(released, is_end)
        self._slot(slot)
        if released > BUDGET_AMOUNT_MAX:
            raise ValueError("an amount is out of bounds")
        return finish(self._budgets.settle(slot, lease, spent & MASK, released, bool(is_end)))

    def carry(
        self, slot: int, now_ns: int, key: bytes, until_ns: int, settled: int, requests: int, /
    ) -> bool:  # fmt: skip
        _words(slot, now_ns, until_ns, settled, requests)
        self._slot(slot)
        _check_time(now_ns)
        _check_time(until_ns)
        if max(settled, requests) > BUDGET_AMOUNT_MAX:
            raise ValueError("an amount is out of bounds")
        return finish(self._budgets.carry(slot, now_ns, self._hash(key), key, until_ns, settled, requests))

    def spent(self, key: bytes, /) -> tuple[int, int, int]:
        return finish(self._budgets.spent(self._hash(key)))

    def budgets_reap(self, slot: int, /) -> None:
        _words(slot)
        self._slot(slot)
        finish(self._budgets.reap(slot))

    def budgets_statistics(self, /) -> tuple[int, int, int, int]:
        self._words[0]  # refuses when the region was released
        return self._budgets.totals()

    def begin(self, slot: int, endpoint: int, upstream: int, now_ns: int, terms: bytes, /) -> int | Permit:
        _words(slot, endpoint, upstream, now_ns)
        self._slot(slot)
        self._check_places(endpoint, upstream)
        _check_time(now_ns)
        return self._places.begin(slot, endpoint, upstream, now_ns // MS, _terms(terms))

    def finish(
        self, slot: int, endpoint: int, upstream: int, now_ns: int, permit: int | Permit, outcome: int,
        latency_ns: int, terms: bytes, /,
    ) -> int:  # fmt: skip
        _words(slot, endpoint, upstream, now_ns)
        self._slot(slot)
        self._check_places(endpoint, upstream)
        _check_time(now_ns)
        rounds = _permit(permit)
        _words(outcome, latency_ns)
        return self._places.finish(
            slot, endpoint, upstream, now_ns // MS, rounds, outcome, latency_ns // 1000, _terms(terms)
        )

    def standing(self, places: bytes, now_ns: int, probes: int, /) -> bytes:
        _words(now_ns, probes)
        _check_time(now_ns)
        return bytes(self._places.standing(place, now_ns // MS, probes) for place in self._numbers(places))

    def flights(self, places: bytes, /) -> tuple[int, ...]:
        return tuple(self._places.flights(place) for place in self._numbers(places))

    def ewmas(self, places: bytes, now_ns: int, half_life_ns: int, /) -> tuple[int, ...]:
        _words(now_ns, half_life_ns)
        _check_time(now_ns)
        numbers = self._numbers(places)
        return tuple(self._places.ewma(place, now_ns // MS, half_life_ns // MS) for place in numbers)

    def least(self, places: bytes, weights: bytes, allowed: bytes, start: int, /) -> int:
        numbers = self._numbers(places)
        if not isinstance(weights, bytes) or not isinstance(allowed, bytes):
            raise TypeError("expected bytes")
        _words(start)
        if len(weights) != len(places) or len(allowed) != len(numbers):
            raise ValueError("each place has a weight, and is allowed or not")
        at = start % len(numbers) if numbers else 0
        return self._places.least(numbers, memoryview(weights).cast("I").tolist(), allowed, at)

    def observe(self, place: int, now_ns: int, latency_ns: int, half_life_ns: int, /) -> None:
        _words(place, now_ns, latency_ns, half_life_ns)
        self._check_places(place)
        _check_time(now_ns)
        self._places.observe(place, now_ns // MS, latency_ns // 1000, half_life_ns // MS)

    def lightest(self, places: bytes, weights: bytes, allowed: bytes, start: int, tokens: int, /) -> int:
        numbers = self._numbers(places)
        if not isinstance(weights, bytes) or not isinstance(allowed, bytes):
            raise TypeError("expected bytes")
        _words(start, tokens)
        _check("tokens", tokens, BURDEN_MAX + 1)
        if len(weights) != len(places) or len(allowed) != len(numbers):
            raise ValueError("each place has a weight, and is allowed or not")
        at = start % len(numbers) if numbers else 0
        return self._places.lightest(numbers, memoryview(weights).cast("I").tolist(), allowed, at, tokens)

    def burden(self, slot: int, place: int, more: int, less: int, /) -> None:
        _words(slot, place, more, less)
        self._slot(slot)
        self._check_places(place)
        _check("tokens", more, BURDEN_MAX + 1)
        _check("tokens", less, BURDEN_MAX + 1)
        self._places.burden(slot, place, more, less)

    def burdens(self, places: bytes, /) -> tuple[int, ...]:
        return tuple(self._places.burdens(place) for place in self._numbers(places))

    def pick(self, places: bytes, weights: bytes, now_ns: int, probes: int, start: int, /) -> int:
        if not isinstance(weights, bytes):
            raise TypeError("expected bytes")
        count = len(self._numbers(places))
        _words(now_ns, probes, start)
        _check_time(now_ns)
        if len(weights) != len(places):
            raise ValueError("each place has a weight")
        if any(self.standing(places, now_ns, probes)):
            return -1
        return self.least(places, weights, b"\1" * count, start)

    def spend(self, place: int, now_ns: int, per_second: int, /) -> bool:
        _words(place, now_ns, per_second)
        self._check_places(place)
        _check_time(now_ns)
        _check("rate", per_second, TERM_MAX)
        return self._places.spend(place, now_ns // MS, per_second)

    def lead(self, slot: int, generation: int, now_ns: int, lease_ns: int, /) -> bool:
        _words(slot, generation, now_ns, lease_ns)
        self._slot(slot)
        _check_time(now_ns)
        _check_time(lease_ns)
        return self._places.lead(slot, generation, now_ns // MS, lease_ns // MS)

    def toll(self, slot: int, place: int, counter: int, n: int = 1, /) -> None:
        _words(slot, place, counter, n)
        self._slot(slot)
        self._check_places(place)
        _check("counter", counter, TOLL_WORDS)
        self._places.toll(slot, place, counter, n)

    def places_reap(self, slot: int, /) -> None:
        self._slot(*_words(slot))
        self._places.reap(slot)

    def _check_places(self, *places: int) -> None:
        for place in places:
            _check("place", place, self._places_max)

    def _numbers(self, places: bytes) -> list[int]:
        if not isinstance(places, bytes):
            raise TypeError(f"expected bytes, {type(places).__name__} found")
        if len(places) % 4 or len(places) > 4 * PLACES_AT_ONCE_MAX:
            raise ValueError(f"expected at most {PLACES_AT_ONCE_MAX} numbers of 32 bits")
        numbers: list[int] = memoryview(places).cast("I").tolist()
        self._check_places(*numbers)
        self._words[0]  # refuses when the region was released
        return numbers

    def _timed(self, now_ns: int, key: bytes) -> tuple[int, int]:
        hashed = self._hash(key)
        _check_time(now_ns)
        return hashed

    def _hash(self, key: bytes) -> tuple[int, int]:
        if not isinstance(key, bytes):
            raise TypeError(f"expected bytes, {type(key).__name__} found")
        if len(key) > LIMIT_KEY_BYTES_MAX:
            raise ValueError(f"a key has at most {LIMIT_KEY_BYTES_MAX} octets")
        return siphash_128(self._words[SECRET], self._words[SECRET + 1], key)

    def _used(self) -> int:
        return min(self._words[USED], self._counts[0])

    def _bump(self, at: int, n: int) -> None:
        self._words[at] = (self._words[at] + n) & MASK

    def _at(self, offset: int) -> int:
        at, rest = divmod(offset, WORD)
        if rest or at >= len(self._words):
            raise IndexError("not the offset of a word of the region")
        return at

    def _slot(self, slot: int) -> int:
        _check("slot", slot, self._counts[0])
        return self._place(slot)

    def _place(self, slot: int) -> int:
        return self._slots + slot * SLOT_WORDS

    def _cell(self, slot: int, sequence: int) -> int:
        return self._rings + slot * self._ring_stride + sequence % self._counts[2] * CELL_WORDS


def _words(*values: int) -> tuple[int, ...]:
    """The arguments of a call, checked in their order, before anything else is."""
    for value in values:
        if not isinstance(value, int):
            raise TypeError(f"an integer is required, not {type(value).__name__}")
        if not 0 <= value <= MASK:
            raise OverflowError("a cell holds 0 to 2**64 - 1")
    return values


def _check_time(now_ns: int) -> None:
    if now_ns > LIMIT_TIME_MAX_NS:
        raise ValueError("a time is at most 73 years after boot")


def _is_table(limits_max: int, leases_max: int, budgets_max: int) -> bool:
    sizes = ((limits_max, LIMITS_LIMIT), (leases_max, LEASES_LIMIT), (budgets_max, BUDGETS_LIMIT))
    return all(LIMITS_MIN <= size <= most and size & size - 1 == 0 for size, most in sizes)


def _check(name: str, value: int, limit: int) -> None:
    if value >= limit:
        raise IndexError(f"{name} {value} is out of range, there are {limit}")


def _permit(permit: int | Permit) -> Permit:
    if not isinstance(permit, tuple):
        _words(permit)
    if len(permit) != 2 if isinstance(permit, tuple) else permit != 0:
        raise ValueError("a permit is 0 or two rounds")
    rounds = permit if isinstance(permit, tuple) else (0, 0)
    _words(*rounds)
    return rounds


def _terms(terms: bytes) -> tuple[int, ...]:
    if not isinstance(terms, bytes):
        raise TypeError(f"expected bytes, {type(terms).__name__} found")
    if len(terms) != TERMS.size:
        raise ValueError(f"the terms of an upstream are {TERMS.size // WORD} words")
    numbers = TERMS.unpack(terms)
    if max(numbers) > TERM_MAX:
        raise ValueError("a term is out of bounds")
    return numbers
