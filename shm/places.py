"""Places of upstreams and endpoints: who is well, who is busy, who is left alone; for the whole fleet.

Intuition: the board in a taxi office. For each driver: is he on duty (the office writes
that), is he ill (the doctor), how many guests he has now (each telephonist keeps his own
tally beside it, and the board's number is their sum), and whether he was given a rest.
Whoever takes a call reads the board; nobody waits for anybody to have written.

Rule 1: a shared word changes by one compare-and-swap from one state that means something to
    another. There is no operation of two words that could be cut in half.
Rule 2: what is in flight is counted by its own worker, in a row that dies with it: the reaper
    sets it to zero, and that is all there is to give back.
Rule 3: a ceiling is never passed. Who begins counts himself first and adds up afterwards; if it is
    too much he takes himself back. Of two who take the last place at once both may go
    away, but never do both stay.
Rule 4: places are named and not numbered by people: a number is given once for the life of the
    region, so that a reload, which changes everything else, continues what was known.
Rule 5: tokens under way are counted like requests in flight, in the second half of the same row. They are no
    ceiling and nobody pays by them: they say which endpoint has most work before it.
Rule 6: one process leads (`lead`) and judges health; it is the only writer of what it judges.

This file is the twin of `_native/places.h`, in plain Python, and the specification. The
breaker's table is sentinel.core.machines.breaker.

Rejected: one shared count in flight per endpoint. A process that dies between that count
and its own note of it leaves the two different, and no reader can tell which is wrong.
"""

from __future__ import annotations

import struct
from typing import Final

from sentinel.core.machines import breaker
from sentinel.core.machines.breaker import BreakerState, Terms
from shm.layout import (
    BUDGET_MAX,
    BUDGET_PAID_MS,
    BURDEN_MAX,
    HEADER,
    LEADER_GENERATION_BITS,
    LEADER_SLOT_BITS,
    PLACE,
    PLACE_TERM_WORDS,
    STAMP_BITS,
    SUBWINDOWS,
    TOLL,
    WINDOW_BITS,
    WORD,
)  # fmt: skip

TERMS: Final = struct.Struct(f"={PLACE_TERM_WORDS}Q")
"""Two breakers (ten words each, as breaker.Terms), the two ceilings, half life in ms, what a request earns a budget."""
TERM_MAX: Final = (1 << 40) - 1
SUCCESS, FAILURE, NEUTRAL = range(3)
"""Outcomes of an attempt. NEUTRAL: it came to nothing, and that says nothing about the endpoint."""
ENDPOINT_BREAKER, UPSTREAM_BREAKER, ENDPOINT_FULL, UPSTREAM_FULL = -1, -2, -3, -4
"""Why an attempt may not begin."""
OPENED, CLOSED = 1, 2
"""What `finish` tells of the endpoint's breaker; of the upstream's, two bits higher."""
USABLE, DRAIN, MAINTENANCE, UNHEALTHY, EJECTED, OPEN = range(6)
"""Standing of a place."""
WARMING: Final = 7
"""And that of one which nobody has found warm yet, where that is asked for (`Board.cold`)."""

Permit = tuple[int, int]
"""The rounds of the two breakers that a request probes in; 0 in neither."""

ADMIN, HEALTH, EJECTED_UNTIL, BREAKER, CONSECUTIVE, EWMA, BUDGET, WINDOW = (
    PLACE.offset(name) // WORD
    for name in ("admin", "health", "ejected_until_ms", "breaker", "consecutive", "ewma", "budget", "window")
)
REQUESTS, FAILURES, LATENCY, REFUSED, CONNECTS, CONNECT_FAILURES, RETRIES, TIMES_OPENED = range(8)
PLACE_WORDS: Final = PLACE.size // WORD
TOLL_WORDS: Final = TOLL.size // WORD
USED: Final = HEADER.offset("slots_used") // WORD
COUNT: Final = HEADER.offset("places_count") // WORD
LEADER: Final = HEADER.offset("leader") // WORD
QUANTITY_MAX: Final = (1 << STAMP_BITS) - 1
STAMP_MAX: Final = (1 << 64 - STAMP_BITS) - 1
WINDOW_MAX: Final = (1 << WINDOW_BITS) - 1
NUMBER_MASK: Final = (1 << 64 - 3 * WINDOW_BITS) - 1
SLOT_MASK: Final = (1 << LEADER_SLOT_BITS) - 1
GENERATION_MASK: Final = (1 << LEADER_GENERATION_BITS) - 1
EXPIRY_BITS: Final = LEADER_SLOT_BITS + LEADER_GENERATION_BITS

assert TOLL_WORDS == 8, "the counters of a place are those named here"


def pack_terms(
    endpoint: Terms = Terms(), upstream: Terms = Terms(), *, endpoint_max: int = 0, upstream_max: int = 0,  # noqa: B008
    half_life_ms: int = 0, earned: int = 0,
) -> bytes:  # fmt: skip
    """What `begin` and `finish` are told of an upstream. `earned`: thousandths of a retry for each attempt."""
    return TERMS.pack(*endpoint, *upstream, endpoint_max, upstream_max, half_life_ms, earned)


class Places:
    """The operations on plain words. Positions are in words; the callers have checked slots and places."""

    def __init__(
        self, words: memoryview, places: int, flights: int, flights_stride: int, tolls: int, tolls_stride: int,
        slots_max: int, places_max: int,
    ) -> None:  # fmt: skip
        self._words = words
        self._places = places
        self._flights, self._flights_stride = flights, flights_stride
        self._tolls, self._tolls_stride = tolls, tolls_stride
        self._slots_max, self._places_max = slots_max, places_max

    def begin(self, slot: int, endpoint: int, upstream: int, now_ms: int, numbers: tuple[int, ...]) -> int | Permit:
        one, all_of = Terms(*numbers[:10]), Terms(*numbers[10:20])
        endpoint_max, upstream_max, _, earned = numbers[20:]
        probing = [0, 0]
        refusal = 0
        if one.looks and (answer := self._ask(endpoint, now_ms, one)):
            probing[0] = max(answer, 0)
            refusal = ENDPOINT_BREAKER if answer < 0 else 0
        if not refusal and all_of.looks and (answer := self._ask(upstream, now_ms, all_of)):
            probing[1] = max(answer, 0)
            refusal = UPSTREAM_BREAKER if answer < 0 else 0
        if not refusal and not self._fly(slot, endpoint, endpoint_max):
            refusal = ENDPOINT_FULL
        if not refusal and not self._fly(slot, upstream, upstream_max):
            self._land(slot, endpoint)
            refusal = UPSTREAM_FULL
        if refusal:
            self._give_back(endpoint, upstream, (probing[0], probing[1]))
            self.toll(slot, endpoint if refusal in (ENDPOINT_BREAKER, ENDPOINT_FULL) else upstream, REFUSED)
            return refusal
        if earned:
            self._earn(upstream, now_ms, earned)
        return (probing[0], probing[1]) if any(probing) else 0

    def finish(
        self, slot: int, endpoint: int, upstream: int, now_ms: int, permit: Permit, outcome: int, latency_us: int,
        numbers: tuple[int, ...],
    ) -> int:  # fmt: skip
        self._land(slot, endpoint)
        self._land(slot, upstream)
        if outcome == NEUTRAL:
            self._give_back(endpoint, upstream, permit)
            return 0
        half_life_ms = numbers[22]
        changed = []
        for place in (endpoint, upstream):
            self.toll(slot, place, REQUESTS)
            self.toll(slot, place, LATENCY, latency_us)
            if outcome == FAILURE:
                self.toll(slot, place, FAILURES)
        if half_life_ms:
            self.observe(endpoint, now_ms, latency_us, half_life_ms)
        told = ((endpoint, Terms(*numbers[:10]), permit[0]), (upstream, Terms(*numbers[10:20]), permit[1]))
        for place, terms, round_ms in told:
            change = self._tell(place, now_ms, terms, round_ms, outcome == FAILURE, latency_us // 1000)
            if change & OPENED:
                self.toll(slot, place, TIMES_OPENED)
            changed.append(change)
        return changed[0] | changed[1] << 2

    def standing(self, place: int, now_ms: int, probes: int) -> int:
        words, at = self._words, self._place(place)
        if words[at + ADMIN]:
            return DRAIN if words[at + ADMIN] == 1 else MAINTENANCE
        if words[at + HEALTH] == 2:
            return UNHEALTHY
        if words[at + EJECTED_UNTIL] > now_ms:
            return EJECTED
        return OPEN if probes and breaker.would_refuse(words[at + BREAKER], now_ms, probes) else USABLE

    def flights(self, place: int) -> int:
        used = min(self._words[USED], self._slots_max)
        return sum(self._words[self._flight(slot, place)] for slot in range(used))

    def least(self, places: list[int], weights: list[int], allowed: bytes, start: int) -> int:
        best, least, its_weight = -1, 0, 1
        for step in range(len(places)):
            at = (start + step) % len(places)
            if not allowed[at]:
                continue
            load, weight = self.flights(places[at]) + 1, weights[at] or 1
            if best < 0 or load * its_weight < least * weight:
                best, least, its_weight = at, load, weight
        return best

    def burden(self, slot: int, place: int, more: int, less: int) -> None:
        at = self._flight(slot, self._places_max + place)
        self._words[at] = max(min(self._words[at], BURDEN_MAX) + more - less, 0)

    def burdens(self, place: int) -> int:
        used = min(self._words[USED], self._slots_max)
        at = self._places_max + place
        return min(sum(min(self._words[self._flight(slot, at)], BURDEN_MAX) for slot in range(used)), BURDEN_MAX)

    def lightest(self, places: list[int], weights: list[int], allowed: bytes, start: int, tokens: int) -> int:
        best, least, its_weight = -1, 0, 1
        for step in range(len(places)):
            at = (start + step) % len(places)
            if not allowed[at]:
                continue
            load, weight = min(self.burdens(places[at]) + tokens, BURDEN_MAX), weights[at] or 1
            if best < 0 or load * its_weight < least * weight:
                best, least, its_weight = at, load, weight
        return best

    def ewma(self, place: int, now_ms: int, half_life_ms: int) -> int:
        word = self._words[self._place(place) + EWMA]
        return _decayed(word & QUANTITY_MAX, _passed(word, now_ms), half_life_ms)

    def spend(self, place: int, now_ms: int, per_second: int) -> bool:
        at = self._place(place) + BUDGET
        word = self._words[at]
        passed = _passed(word, now_ms) if word else BUDGET_PAID_MS
        has = min((word & QUANTITY_MAX) + min(passed, BUDGET_PAID_MS) * per_second, BUDGET_MAX)
        if has < 1000:
            return False
        self._words[at] = _restamped(word, now_ms, has - 1000)
        return True

    def lead(self, slot: int, generation: int, now_ms: int, lease_ms: int) -> bool:
        word = self._words[LEADER]
        holder, newer = word & SLOT_MASK, (generation - (word >> LEADER_SLOT_BITS)) & GENERATION_MASK
        is_newer = 0 < newer <= GENERATION_MASK // 2
        if holder and holder != slot + 1 and now_ms < word >> EXPIRY_BITS and not is_newer:
            return False
        mine = (generation & GENERATION_MASK) << LEADER_SLOT_BITS | slot + 1
        self._words[LEADER] = (now_ms + lease_ms) << EXPIRY_BITS & (1 << 64) - 1 | mine
        return True

    def reap(self, slot: int) -> None:
        for place in range(min(self._words[COUNT], self._places_max)):
            self._words[self._flight(slot, place)] = self._words[self._flight(slot, self._places_max + place)] = 0
        if self._words[LEADER] & SLOT_MASK == slot + 1:
            self._words[LEADER] = 0

    # Breakers.

    def _ask(self, place: int, now_ms: int, terms: Terms) -> int:
        at = self._place(place) + BREAKER
        answer, self._words[at] = breaker.ask(self._words[at], now_ms, terms)
        return answer

    def _give_back(self, endpoint: int, upstream: int, permit: Permit) -> None:
        for place, round_ms in zip((endpoint, upstream), permit, strict=True):
            if round_ms:
                at = self._place(place) + BREAKER
                self._words[at] = breaker.give_back(self._words[at], round_ms)

    def _tell(self, place: int, now_ms: int, terms: Terms, round_ms: int, is_failure: bool, latency_ms: int) -> int:
        words, at = self._words, self._place(place)
        is_slow = bool(terms.slow_ms) and latency_ms >= terms.slow_ms
        before = words[at + BREAKER]
        if round_ms:
            after = breaker.report(before, round_ms, is_failure or is_slow, now_ms, terms)
            change = _change(before, after)
            if change == CLOSED:
                self._clear(at)
            words[at + BREAKER] = after
            return change
        consecutive = words[at + CONSECUTIVE] = words[at + CONSECUTIVE] + 1 if is_failure else 0
        if not terms.looks or breaker.split(before).state is not BreakerState.CLOSED:
            return 0
        sums = (0, 0, 0)
        if terms.error_share or terms.slow_ms:
            sums = self._count(at, now_ms, terms.window_ms, is_failure, is_slow)
        if breaker.is_too_much(consecutive, *sums, terms):
            words[at + BREAKER] = breaker.tripped(now_ms, 1, terms)
            return OPENED
        return 0

    def _clear(self, at: int) -> None:
        self._words[at + CONSECUTIVE] = 0
        for tenth in range(SUBWINDOWS):
            self._words[at + WINDOW + tenth] = 0

    def _count(self, at: int, now_ms: int, window_ms: int, is_failure: bool, is_slow: bool) -> tuple[int, int, int]:
        """Count a call in its tenth of the window, and add up the tenths that are not over: calls, failures, slow."""
        number = now_ms // max(window_ms // SUBWINDOWS, 1)
        cell = at + WINDOW + number % SUBWINDOWS
        word = self._words[cell]
        if word >> 3 * WINDOW_BITS != number & NUMBER_MASK:
            word = (number & NUMBER_MASK) << 3 * WINDOW_BITS
        if word & WINDOW_MAX < WINDOW_MAX:
            self._words[cell] = word + 1 + (is_failure << WINDOW_BITS) + (is_slow << 2 * WINDOW_BITS)
        return window_sums(self._words[at + WINDOW : at + WINDOW + SUBWINDOWS].tolist(), number)

    # Quantities that change with time.

    def observe(self, place: int, now_ms: int, latency_us: int, half_life_ms: int) -> None:
        at = self._place(place) + EWMA
        word, sample = self._words[at], min(latency_us or 1, QUANTITY_MAX)
        old = word & QUANTITY_MAX
        value = sample + _decayed(old - sample, _passed(word, now_ms), half_life_ms) if old > sample else sample
        self._words[at] = _restamped(word, now_ms, value)

    def _earn(self, place: int, now_ms: int, earned: int) -> None:
        at = self._place(place) + BUDGET
        word = self._words[at]
        if not word:
            self._words[at] = _stamped(max(now_ms - BUDGET_PAID_MS, 0), earned)  # a pause was saved up
        else:
            self._words[at] = word - (word & QUANTITY_MAX) + min((word & QUANTITY_MAX) + earned, BUDGET_MAX)

    # In flight, and counters.

    def _fly(self, slot: int, place: int, most: int) -> bool:
        at = self._flight(slot, place)
        self._words[at] += 1
        if not most or self.flights(place) <= most:
            return True
        self._words[at] -= 1
        return False

    def _land(self, slot: int, place: int) -> None:
        at = self._flight(slot, place)
        self._words[at] = max(self._words[at] - 1, 0)

    def toll(self, slot: int, place: int, which: int, n: int = 1) -> None:
        at = self._tolls + slot * self._tolls_stride + place * TOLL_WORDS + which
        self._words[at] = (self._words[at] + n) & (1 << 64) - 1

    def _place(self, place: int) -> int:
        return self._places + place * PLACE_WORDS

    def _flight(self, slot: int, place: int) -> int:
        return self._flights + slot * self._flights_stride + place


def window_sums(tenths: list[int], number: int) -> tuple[int, int, int]:
    """Calls, failures and slow calls of the tenths that are not over at tenth `number`."""
    calls = failures = slow = 0
    for word in tenths:
        if (number - (word >> 3 * WINDOW_BITS)) & NUMBER_MASK < SUBWINDOWS:
            calls += word & WINDOW_MAX
            failures += word >> WINDOW_BITS & WINDOW_MAX
            slow += word >> 2 * WINDOW_BITS & WINDOW_MAX
    return calls, failures, slow


def _change(before: int, after: int) -> int:
    old, new = breaker.split(before).state, breaker.split(after).state
    if old is new:
        return 0
    return {BreakerState.OPEN: OPENED, BreakerState.CLOSED: CLOSED}.get(new, 0)


def _stamped(now_ms: int, quantity: int) -> int:
    return (now_ms & STAMP_MAX) << STAMP_BITS | min(quantity, QUANTITY_MAX)


def _restamped(word: int, now_ms: int, quantity: int) -> int:
    """The stamp never goes back: a reading of the clock that was stopped on its way would have time counted twice."""
    is_behind = word and now_ms - (word >> STAMP_BITS) & STAMP_MAX > STAMP_MAX // 2
    return _stamped(word >> STAMP_BITS if is_behind else now_ms, quantity)


def _passed(word: int, now_ms: int) -> int:
    passed = now_ms - (word >> STAMP_BITS) & STAMP_MAX
    return 0 if passed > STAMP_MAX // 2 else passed  # another process's reading of the clock was later


def _decayed(quantity: int, passed_ms: int, half_life_ms: int) -> int:
    """Halved with each half life; between two of them on a straight line."""
    halvings = passed_ms // half_life_ms if half_life_ms else 64
    if halvings >= STAMP_BITS:
        return 0
    quantity >>= halvings
    return quantity - quantity * (passed_ms % half_life_ms) // (2 * half_life_ms)
