"""Places: what both implementations do, against each other and against a naive account of it."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.machines.breaker import BreakerState, Terms, join, split
from shm.cells import Cells
from shm.layout import BURDEN_MAX, HEADER, PLACE, Geometry
from shm.places import (
    CLOSED,
    ENDPOINT_BREAKER,
    ENDPOINT_FULL,
    FAILURE,
    NEUTRAL,
    OPEN,
    OPENED,
    SUCCESS,
    UPSTREAM_BREAKER,
    UPSTREAM_FULL,
    USABLE,
    pack_terms,
)
from tests.shm.implementations import IMPLEMENTATIONS, NEEDS_NATIVE, SMALL, open_on
from tests.shm.test_cells import outcome, spoilt

MS = 1_000_000
ENDPOINT, UPSTREAM = 0, 1
USED_AT = HEADER.offset("slots_used")
COUNT_AT = HEADER.offset("places_count")


def opened(implementation: str, geometry: Geometry = SMALL) -> Cells:
    cells = open_on(implementation, memoryview(bytearray(geometry.size_bytes)), geometry)
    cells.store(USED_AT, geometry.slots_max)
    cells.store(COUNT_AT, geometry.places_max)
    return cells


@pytest.fixture(params=IMPLEMENTATIONS)
def cells(request: pytest.FixtureRequest) -> Cells:
    return opened(request.param)


def attempt(cells: Cells, now_ms: int, terms: bytes, result: int, *, slot: int = 0, took_ms: int = 1) -> Any:
    """Begin and finish; the refusal, or what it changed."""
    permit = cells.begin(slot, ENDPOINT, UPSTREAM, now_ms * MS, terms)
    if isinstance(permit, int) and permit < 0:
        return permit
    return cells.finish(slot, ENDPOINT, UPSTREAM, now_ms * MS, permit, result, took_ms * MS, terms)


def places(*numbers: int) -> bytes:
    return array("I", numbers).tobytes()


# In flight.


def test_what_is_in_flight_is_the_sum_over_all_slots(cells: Cells) -> None:
    terms = pack_terms()
    for slot in (0, 1, 1, 2):
        assert cells.begin(slot, ENDPOINT, UPSTREAM, MS, terms) == 0
    assert cells.flights(places(ENDPOINT, UPSTREAM, 2)) == (4, 4, 0)
    cells.finish(1, ENDPOINT, UPSTREAM, MS, 0, SUCCESS, MS, terms)
    assert cells.flights(places(ENDPOINT, UPSTREAM)) == (3, 3)


def test_a_dead_slot_has_nothing_in_flight(cells: Cells) -> None:
    for slot in (0, 1, 1):
        cells.begin(slot, ENDPOINT, UPSTREAM, MS, pack_terms())
    cells.places_reap(1)
    cells.places_reap(1)
    assert cells.flights(places(ENDPOINT, UPSTREAM)) == (1, 1)


def test_what_was_never_begun_is_not_taken_below_nothing(cells: Cells) -> None:
    cells.finish(0, ENDPOINT, UPSTREAM, MS, 0, NEUTRAL, 0, pack_terms())
    assert cells.flights(places(ENDPOINT, UPSTREAM)) == (0, 0)


@pytest.mark.parametrize(("ceiling", "refusal"), [("endpoint_max", ENDPOINT_FULL), ("upstream_max", UPSTREAM_FULL)])
def test_a_ceiling_is_the_fleets(cells: Cells, ceiling: str, refusal: int) -> None:
    terms = pack_terms(**{ceiling: 2})
    assert [cells.begin(slot, ENDPOINT, UPSTREAM, MS, terms) for slot in (0, 1, 2, 0)] == [0, 0, refusal, refusal]
    assert cells.flights(places(ENDPOINT, UPSTREAM)) == (2, 2), "a refusal holds nothing of either"
    cells.finish(1, ENDPOINT, UPSTREAM, MS, 0, SUCCESS, MS, terms)
    assert cells.begin(2, ENDPOINT, UPSTREAM, MS, terms) == 0


# Breakers.

FIVE = Terms(failures=3, open_ms=1000, open_max_ms=4000, probes=2, probe_ms=500)


def test_failures_in_a_row_open_a_breaker_and_probes_close_it(cells: Cells) -> None:
    terms = pack_terms(FIVE)
    assert [attempt(cells, 10, terms, result) for result in (FAILURE, FAILURE, SUCCESS)] == [0, 0, 0]
    assert [attempt(cells, 11, terms, FAILURE) for _ in range(3)] == [0, 0, OPENED]
    assert attempt(cells, 1010, terms, SUCCESS) == ENDPOINT_BREAKER
    assert cells.standing(places(ENDPOINT), 1010 * MS, 2) == bytes([OPEN])
    assert cells.standing(places(ENDPOINT), 1011 * MS, 2) == bytes([USABLE]), "due: somebody may try"
    assert attempt(cells, 1011, terms, SUCCESS) == 0
    assert attempt(cells, 1012, terms, SUCCESS) == CLOSED
    assert attempt(cells, 1013, terms, FAILURE) == 0, "what was before is forgotten"


def test_no_more_probes_than_said_are_under_way(cells: Cells) -> None:
    terms = pack_terms(FIVE)
    for _ in range(3):
        attempt(cells, 10, terms, FAILURE)
    first, second = (cells.begin(slot, ENDPOINT, UPSTREAM, 1010 * MS, terms) for slot in (0, 1))
    assert isinstance(first, tuple) and first == second, "of one round"
    assert cells.begin(2, ENDPOINT, UPSTREAM, 1011 * MS, terms) == ENDPOINT_BREAKER
    cells.finish(0, ENDPOINT, UPSTREAM, 1012 * MS, first, NEUTRAL, 0, terms)
    assert isinstance(cells.begin(2, ENDPOINT, UPSTREAM, 1013 * MS, terms), tuple), "one came to nothing"


def test_probes_that_never_report_are_not_waited_for(cells: Cells) -> None:
    terms = pack_terms(FIVE)
    for _ in range(3):
        attempt(cells, 10, terms, FAILURE)
    lost = [cells.begin(0, ENDPOINT, UPSTREAM, 1010 * MS, terms) for _ in range(2)]
    cells.places_reap(0)
    assert cells.begin(1, ENDPOINT, UPSTREAM, 1509 * MS, terms) == ENDPOINT_BREAKER
    assert [attempt(cells, 1510 + step, terms, SUCCESS, slot=1) for step in range(2)] == [0, CLOSED]
    for permit in lost:  # those of a round that is over
        assert cells.finish(0, ENDPOINT, UPSTREAM, 1600 * MS, permit, FAILURE, MS, terms) == 0
    assert attempt(cells, 1601, terms, SUCCESS) == 0


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_longest(cells: Cells) -> None:
    terms = pack_terms(FIVE)
    for _ in range(3):
        attempt(cells, 10, terms, FAILURE)
    now_ms = 10
    for wait_ms in (1000, 2000, 4000, 4000):
        assert attempt(cells, now_ms + wait_ms - 1, terms, SUCCESS) == ENDPOINT_BREAKER
        now_ms += wait_ms
        assert attempt(cells, now_ms, terms, FAILURE) == OPENED


def test_a_share_of_failures_opens_it_once_there_are_enough(cells: Cells) -> None:
    terms = pack_terms(Terms(error_share=500, calls_min=4, window_ms=1000))
    assert [attempt(cells, 10, terms, result) for result in (FAILURE, FAILURE, SUCCESS)] == [0, 0, 0]
    assert attempt(cells, 10, terms, SUCCESS) == OPENED, "two of four"


def test_what_is_older_than_the_window_does_not_count(cells: Cells) -> None:
    terms = pack_terms(Terms(error_share=500, calls_min=4, window_ms=1000))
    for _ in range(3):
        assert attempt(cells, 10, terms, FAILURE) == 0
    assert attempt(cells, 1010, terms, FAILURE) == 0
    assert [attempt(cells, 1020, terms, FAILURE) for _ in range(3)] == [0, 0, OPENED]


def test_slow_answers_open_it(cells: Cells) -> None:
    terms = pack_terms(Terms(slow_ms=100, slow_share=500, calls_min=2, window_ms=1000))
    assert attempt(cells, 10, terms, SUCCESS, took_ms=99) == 0
    assert attempt(cells, 10, terms, SUCCESS, took_ms=100) == OPENED


def test_the_breaker_of_the_upstream_is_its_own(cells: Cells) -> None:
    terms = pack_terms(upstream=Terms(failures=2))
    assert [attempt(cells, 10, terms, FAILURE) for _ in range(2)] == [0, OPENED << 2]
    assert attempt(cells, 11, terms, SUCCESS) == UPSTREAM_BREAKER
    assert cells.flights(places(ENDPOINT, UPSTREAM)) == (0, 0)


def test_a_request_that_the_upstreams_breaker_refuses_costs_the_endpoints_no_probe(cells: Cells) -> None:
    terms = pack_terms(Terms(failures=1, open_ms=10, probes=1), Terms(failures=1, open_ms=1000, open_max_ms=1000))
    attempt(cells, 10, terms, FAILURE)
    for now_ms in (30, 31):
        assert attempt(cells, now_ms, terms, SUCCESS) == UPSTREAM_BREAKER
    word = cells.load(SMALL.place(ENDPOINT) + PLACE.offset("breaker"))
    assert split(word).given == 0


# Latency and budgets.


def test_latency_rises_at_once_and_is_forgotten_by_halves(cells: Cells) -> None:
    terms = pack_terms(half_life_ms=100)
    attempt(cells, 1000, terms, SUCCESS, took_ms=8)
    assert cells.ewmas(places(ENDPOINT, 2), 1000 * MS, 100 * MS) == (8000, 0)
    assert cells.ewmas(places(ENDPOINT), 1100 * MS, 100 * MS) == (4000,)
    assert cells.ewmas(places(ENDPOINT), 1150 * MS, 100 * MS) == (3000,)
    attempt(cells, 1100, terms, SUCCESS, took_ms=2)
    assert cells.ewmas(places(ENDPOINT), 1100 * MS, 100 * MS) == (5000,), "half way down to the new one"
    attempt(cells, 1101, terms, SUCCESS, took_ms=60)
    assert cells.ewmas(places(ENDPOINT), 1101 * MS, 100 * MS) == (60_000,)


def test_a_budget_is_a_share_of_the_attempts(cells: Cells) -> None:
    terms = pack_terms(earned=200)
    assert not cells.spend(UPSTREAM, 1000 * MS, 0)
    for _ in range(4):
        attempt(cells, 1000, terms, SUCCESS)
    assert not cells.spend(UPSTREAM, 1000 * MS, 0)
    for _ in range(6):
        attempt(cells, 1000, terms, SUCCESS)
    assert [cells.spend(UPSTREAM, 1000 * MS, 0) for _ in range(3)] == [True, True, False], "a fifth of ten"


def test_a_budget_has_a_minimum_for_each_second(cells: Cells) -> None:
    spent = [cells.spend(UPSTREAM, 100_000 * MS, 1) for _ in range(11)]
    assert spent == [True] * 10 + [False], "what a pause of ten seconds saves up"
    assert not cells.spend(UPSTREAM, 100_999 * MS, 1)
    assert [cells.spend(UPSTREAM, 101_000 * MS, 1) for _ in range(2)] == [True, False]


def test_no_time_is_paid_for_twice_when_somebody_read_the_clock_and_was_stopped(cells: Cells) -> None:
    assert [cells.spend(UPSTREAM, 100_000 * MS, 1) for _ in range(9)] == [True] * 9, "one is left"
    assert cells.spend(UPSTREAM, 90_000 * MS, 1), "by one whose reading is ten seconds old"
    assert not cells.spend(UPSTREAM, 100_000 * MS, 1), "they were paid for before"
    assert cells.spend(UPSTREAM, 101_000 * MS, 1)


# Least request, leadership.


def test_the_least_of_all_is_picked_while_all_may_be_used(cells: Cells) -> None:
    for slot, place in ((0, 0), (1, 0), (2, 2)):
        cells.begin(slot, place, 3, MS, pack_terms())
    weights = array("I", [1, 1, 1]).tobytes()
    assert cells.pick(places(0, 1, 2), weights, MS, 0, 0) == 1
    assert cells.pick(places(0, 1, 2), array("I", [9, 1, 1]).tobytes(), MS, 0, 0) == 0, "3 / 9 is below 1"
    assert [cells.pick(places(1, 3), array("I", [1, 1]).tobytes(), MS, 0, start) for start in (0, 2)] == [0, 0]
    cells.store(SMALL.place(2) + PLACE.offset("admin"), 1)
    assert cells.pick(places(0, 1, 2), weights, MS, 0, 0) == -1, "one is drained: the caller has to look"
    assert cells.pick(places(0, 1), array("I", [1, 1]).tobytes(), MS, 0, 0) == 1
    assert cells.pick(b"", b"", MS, 0, 5) == -1


def test_the_least_loaded_by_weight_is_found(cells: Cells) -> None:
    for slot, place in ((0, 0), (1, 0), (2, 2)):
        cells.begin(slot, place, 3, MS, pack_terms())
    weights, everybody = array("I", [1, 1, 1]).tobytes(), b"\1\1\1"
    assert cells.least(places(0, 1, 2), weights, everybody, 0) == 1
    assert cells.least(places(0, 1, 2), weights, b"\1\0\1", 0) == 2
    assert cells.least(places(0, 1, 2), array("I", [9, 1, 1]).tobytes(), everybody, 0) == 0, "3 / 9 is below 1"
    assert cells.least(places(0, 1, 2), weights, b"\0\0\0", 0) == -1
    assert cells.least(b"", b"", b"", 5) == -1


def test_tokens_under_way_are_the_sum_over_all_slots_and_die_with_their_own(cells: Cells) -> None:
    cells.burden(0, ENDPOINT, 700, 0)
    cells.burden(1, ENDPOINT, 300, 0)
    cells.burden(1, UPSTREAM, 5, 0)
    assert cells.burdens(places(ENDPOINT, UPSTREAM, 2)) == (1000, 5, 0)
    cells.burden(0, ENDPOINT, 0, 650)
    assert cells.burdens(places(ENDPOINT)) == (350,)
    cells.burden(0, ENDPOINT, 0, 51)
    assert cells.burdens(places(ENDPOINT)) == (300,), "never below nothing"
    assert cells.flights(places(ENDPOINT, UPSTREAM)) == (0, 0), "they are not requests"
    cells.begin(1, ENDPOINT, UPSTREAM, MS, pack_terms())
    cells.places_reap(1)
    assert (cells.burdens(places(ENDPOINT, UPSTREAM)), cells.flights(places(ENDPOINT))) == ((0, 0), (0,))


def test_the_one_with_fewest_tokens_by_weight_is_found(cells: Cells) -> None:
    cells.burden(0, 0, 4000, 0)
    cells.burden(1, 1, 1000, 0)
    cells.burden(2, 2, 1500, 0)
    weights, everybody = array("I", [1, 1, 1]).tobytes(), b"\1\1\1"
    assert cells.lightest(places(0, 1, 2), weights, everybody, 0, 1) == 1
    assert cells.lightest(places(0, 1, 2), weights, b"\1\0\1", 0, 1) == 2
    assert cells.lightest(places(0, 1, 2), array("I", [5, 1, 1]).tobytes(), everybody, 0, 1) == 0, "4001 / 5"
    assert cells.lightest(places(1, 2), array("I", [1, 2]).tobytes(), b"\1\1", 0, 100) == 1, "1600 / 2"
    assert cells.lightest(places(0, 1, 2), weights, b"\0\0\0", 0, 1) == -1
    assert [cells.lightest(places(3, 3), array("I", [1, 1]).tobytes(), b"\1\1", start, 1) for start in (0, 1)] == [0, 1]
    assert cells.lightest(b"", b"", b"", 5, 1) == -1


def test_tokens_beyond_all_measure_are_the_largest_number(cells: Cells) -> None:
    cells.store(SMALL.flight(0, SMALL.places_max), (1 << 64) - 1)
    assert cells.burdens(places(0)) == (BURDEN_MAX,), "a damaged word"
    assert cells.lightest(places(0, 1), array("I", [2**32 - 1, 1]).tobytes(), b"\1\1", 0, BURDEN_MAX) == 0
    cells.burden(0, 0, 0, BURDEN_MAX)
    assert cells.burdens(places(0)) == (0,), "and whoever ends there mends it"


def test_ties_are_broken_from_the_start_on(cells: Cells) -> None:
    weights = array("I", [1, 1, 1]).tobytes()
    assert [cells.least(places(0, 1, 2), weights, b"\1\1\1", start) for start in range(4)] == [0, 1, 2, 0]


def test_one_leads_until_it_is_silent_dead_or_of_an_older_generation(cells: Cells) -> None:
    assert cells.lead(0, 7, 1000 * MS, 500 * MS)
    assert not cells.lead(1, 7, 1499 * MS, 500 * MS)
    assert cells.lead(0, 7, 1400 * MS, 500 * MS), "renewed"
    assert not cells.lead(1, 7, 1899 * MS, 500 * MS)
    assert cells.lead(1, 7, 1900 * MS, 500 * MS), "silent for too long"
    cells.places_reap(1)
    assert cells.lead(2, 7, 1901 * MS, 500 * MS), "dead"
    assert not cells.lead(0, 6, 1902 * MS, 500 * MS), "of an older generation"
    assert cells.lead(0, 8, 1902 * MS, 500 * MS), "of a newer one"


# Both implementations.

SLOTS = st.integers(0, 3)
PLACES = st.integers(0, 4)
TIMES = st.integers(0, 60).map(lambda step: step * 37 * MS)
SMALL_TERMS = st.builds(
    Terms, st.integers(0, 3), st.sampled_from([0, 500]), st.sampled_from([0, 2]), st.just(500), st.integers(0, 4),
    st.sampled_from([1, 100, 1000]), st.integers(0, 100), st.integers(0, 400), st.integers(0, 3), st.integers(0, 100),
)  # fmt: skip
PACKED = st.builds(
    lambda one, all_of, most, half, earned: pack_terms(
        one, all_of, endpoint_max=most, upstream_max=most, half_life_ms=half, earned=earned
    ),
    SMALL_TERMS, SMALL_TERMS, st.integers(0, 3), st.sampled_from([0, 50]), st.sampled_from([0, 200]),
)  # fmt: skip
ROUNDS = st.integers(0, 3000)
PERMITS = st.one_of(st.just(0), st.just(0), st.tuples(ROUNDS, ROUNDS), st.tuples(ROUNDS))
NUMBERS = st.lists(PLACES, max_size=4).map(lambda found: places(*found))
TOKENS = st.one_of(st.integers(0, 5000), st.sampled_from([BURDEN_MAX - 1, BURDEN_MAX, BURDEN_MAX + 1]))
OPERATIONS = st.one_of(
    st.tuples(st.just("begin"), st.tuples(SLOTS, PLACES, PLACES, TIMES, PACKED)),
    st.tuples(st.just("finish"), st.tuples(
        SLOTS, PLACES, PLACES, TIMES, PERMITS, st.integers(0, 3), st.integers(0, 5).map(lambda ms: ms * MS), PACKED,
    )),
    st.tuples(st.just("standing"), st.tuples(NUMBERS, TIMES, st.integers(0, 3))),
    st.tuples(st.just("flights"), st.tuples(NUMBERS)),
    st.tuples(st.just("ewmas"), st.tuples(NUMBERS, TIMES, st.sampled_from([0, 50 * MS]))),
    st.tuples(st.just("least"), st.tuples(
        st.just(places(0, 1, 2)), st.just(array("I", [1, 0, 5]).tobytes()), st.binary(min_size=3, max_size=3), ROUNDS,
    )),
    st.tuples(st.just("lightest"), st.tuples(
        st.just(places(0, 1, 2)), st.just(array("I", [1, 0, 5]).tobytes()), st.binary(min_size=3, max_size=3), ROUNDS,
        TOKENS,
    )),
    st.tuples(st.just("observe"), st.tuples(
        PLACES, TIMES, st.sampled_from([0, MS, 300 * MS, 1 << 50]), st.sampled_from([0, 50 * MS])
    )),
    st.tuples(st.just("burden"), st.tuples(SLOTS, PLACES, TOKENS, TOKENS)),
    st.tuples(st.just("burdens"), st.tuples(NUMBERS)),
    st.tuples(st.just("pick"), st.tuples(
        st.just(places(0, 1, 2)), st.just(array("I", [1, 0, 5]).tobytes()), TIMES, st.integers(0, 3), ROUNDS,
    )),
    st.tuples(st.just("spend"), st.tuples(PLACES, TIMES, st.integers(0, 5))),
    st.tuples(st.just("lead"), st.tuples(SLOTS, st.integers(0, 1 << 17), TIMES, st.just(100 * MS))),
    st.tuples(st.just("toll"), st.tuples(SLOTS, PLACES, st.integers(0, 8))),
    st.tuples(st.just("places_reap"), st.tuples(SLOTS)),
    st.tuples(st.just("store"), st.tuples(
        st.sampled_from([SMALL.place(place) + PLACE.offset(name) for place in (0, 1)
                         for name in ("admin", "health", "ejected_until_ms", "breaker", "budget", "ewma", "window")]),
        st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1)),
    )),
)  # fmt: skip


@NEEDS_NATIVE
@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(OPERATIONS, OPERATIONS, OPERATIONS, OPERATIONS.flatmap(spoilt)), max_size=40))
def test_the_native_places_do_what_the_twin_does(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    memories = [bytearray(SMALL.size_bytes) for _ in range(2)]
    pair = [open_on(kind, memoryview(memory)) for kind, memory in zip(("native", "twin"), memories, strict=True)]
    for one in pair:
        one.store(USED_AT, SMALL.slots_max)
        one.store(COUNT_AT, SMALL.places_max)
    for call in calls:
        native, twin = (outcome(one, call) for one in pair)
        assert native == twin, call
        assert memories[0] == memories[1], call


# The naive account: a breaker as a story, with lists of what happened.


class Story:
    """A breaker that remembers everything that ever happened, and knows nothing of words."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.state, self.until_ms, self.trips = BreakerState.CLOSED, 0, 0
        self.in_a_row = self.given = self.passed = 0

    def ask(self, now_ms: int) -> int | None:
        """None: refused; 0: it may; else the round."""
        if self.state is BreakerState.CLOSED:
            return 0
        if now_ms >= self.until_ms:
            self.state, self.given, self.passed = BreakerState.HALF_OPEN, 1, 0
            self.until_ms = max(now_ms + self.terms.probe_ms, self.until_ms + 1)
            return self.until_ms
        if self.state is BreakerState.HALF_OPEN and self.given < self.terms.probes:
            self.given += 1
            return self.until_ms
        return None

    def told(self, now_ms: int, permit: int, is_failure: bool) -> None:
        if permit:
            if self.state is BreakerState.HALF_OPEN and self.until_ms == permit:
                if is_failure:
                    self._trip(now_ms, self.trips + 1)
                else:
                    self.passed += 1
                    if self.passed >= self.terms.probes:
                        self.state, self.trips, self.in_a_row = BreakerState.CLOSED, 0, 0
            return
        self.in_a_row = self.in_a_row + 1 if is_failure else 0
        if self.state is BreakerState.CLOSED and self.in_a_row >= self.terms.failures:
            self._trip(now_ms, 1)

    def _trip(self, now_ms: int, trips: int) -> None:
        self.state, self.trips = BreakerState.OPEN, trips
        longer_ms = min(self.terms.open_ms * 2 ** (trips - 1), self.terms.open_max_ms)
        self.until_ms = now_ms + max(self.terms.open_ms, longer_ms)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4), st.booleans()), max_size=60),
    failures=st.integers(1, 3), probes=st.integers(1, 3),
)  # fmt: skip
def test_a_breaker_does_what_its_story_tells(
    implementation: str, steps: list[tuple[int, int, bool]], failures: int, probes: int
) -> None:
    agreed = Terms(failures=failures, open_ms=50, open_max_ms=150, probes=probes, probe_ms=40)
    cells, story, terms = opened(implementation), Story(agreed), pack_terms(agreed)
    under_way: list[Any] = []
    now_ms = 1000
    for passed_ms, which, is_failure in steps:
        now_ms += passed_ms
        if which < 2 or not under_way:
            permit, expected = cells.begin(0, ENDPOINT, UPSTREAM, now_ms * MS, terms), story.ask(now_ms)
            found = None if permit == ENDPOINT_BREAKER else permit[0] if isinstance(permit, tuple) else 0
            assert found == expected
            if found is not None:
                under_way.append(permit)
        else:
            permit = under_way.pop(which % len(under_way))
            result = FAILURE if is_failure else SUCCESS
            cells.finish(0, ENDPOINT, UPSTREAM, now_ms * MS, permit, result, MS, terms)
            story.told(now_ms, permit[0] if isinstance(permit, tuple) else 0, is_failure)
        word = cells.load(SMALL.place(ENDPOINT) + PLACE.offset("breaker"))
        assert (split(word).state, split(word).trips) == (story.state, story.trips)
        assert cells.flights(places(ENDPOINT)) == (len(under_way),)


@given(st.integers(0, (1 << 64) - 1))
def test_any_word_is_a_breaker(word: int) -> None:
    parts = split(word)
    assert split(join(parts.state, parts.until_ms, parts.trips, parts.given, parts.passed)) == parts


