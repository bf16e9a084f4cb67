"""The arithmetic of falls: pauses that double up to a bound, and windows that forget."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from supervisor.budget import PAUSE_FIRST_NS, PAUSE_MAX_NS, crash_loop, not_before_ns, pause_ns, recent
from supervisor.fleet import Death, Generation
from supervisor.terms import Terms
from tests.supervisor.theatre import S, terms_of

NOW_NS = 1_000 * S


def generation(number: int = 1, **changes: object) -> Generation:
    terms = msgspec.convert(terms_of("a", **changes), Terms)
    return Generation(number=number, terms=terms, lanes=tuple(range(terms.workers)))


def death(at_ns: int, lane: int = 0, number: int = 1) -> Death:
    return Death(at_ns=at_ns, generation=number, lane=lane, status=-9, was_fresh=False, cause="killed by SIGKILL")


def test_the_first_death_costs_nothing_and_the_pause_then_doubles() -> None:
    assert [pause_ns(count) // (PAUSE_FIRST_NS // 100) for count in range(8)] == [
        0, 0, 100, 200, 400, 800, 1600, 3200
    ]  # fmt: skip


@given(st.integers(min_value=-1, max_value=10**9), st.integers(min_value=0, max_value=10**9))
def test_pauses_never_shrink_and_are_bounded(count: int, more: int) -> None:
    assert 0 <= pause_ns(count) <= pause_ns(count + more) <= PAUSE_MAX_NS


def test_only_deaths_of_the_lane_of_the_generation_within_the_window_count() -> None:
    deaths = [
        death(NOW_NS - 60 * S), death(NOW_NS - 59 * S), death(NOW_NS - 1 * S, lane=1), death(NOW_NS, number=2)
    ]  # fmt: skip
    assert recent(deaths, generation(), 0, NOW_NS) == [deaths[1]]


def test_a_lane_without_deaths_waits_for_nothing() -> None:
    assert not_before_ns([], generation(), 0, NOW_NS) == 0
    assert not_before_ns([death(NOW_NS)], generation(), 0, NOW_NS) == NOW_NS


def test_the_pause_is_counted_from_the_last_death() -> None:
    deaths = [death(NOW_NS - 2 * S), death(NOW_NS - 1 * S)]
    assert not_before_ns(deaths, generation(), 0, NOW_NS) == NOW_NS - 1 * S + PAUSE_FIRST_NS


def test_the_budget_is_what_may_happen_and_one_more_is_a_crash_loop() -> None:
    deaths = [death(NOW_NS - index * S) for index in range(3)]
    assert crash_loop(deaths, generation(restarts_max=3), NOW_NS) == ""
    assert crash_loop(deaths, generation(restarts_max=2), NOW_NS) == (
        "lane 0 crashed 3 times within 60 s, at last: killed by SIGKILL"
    )


def test_lanes_do_not_pay_for_each_other() -> None:
    deaths = [death(NOW_NS, lane=lane) for lane in (0, 1, 0, 1)]
    assert crash_loop(deaths, generation(restarts_max=2), NOW_NS) == ""


def test_a_budget_of_none_allows_no_death() -> None:
    assert crash_loop([death(NOW_NS)], generation(restarts_max=0), NOW_NS).startswith("lane 0 crashed 1 times")
