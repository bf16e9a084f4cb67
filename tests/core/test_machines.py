"""The two machines are total tables, and what their drawings promise follows from the rows."""

from __future__ import annotations

from enum import IntEnum
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.machines import rollout, worker
from sentinel.core.machines.health import Health, judge
from sentinel.core.machines.rollout import FINAL, UNDER_WAY, WORDS, RolloutEvent, RolloutState
from sentinel.core.machines.worker import FRESH, Order, WorkerEvent, WorkerState

WORKER_ORDERS = {
    Order.SERVE: WorkerEvent.SERVE, Order.DRAIN: WorkerEvent.DRAIN, Order.QUIT: WorkerEvent.QUIT,
    Order.SWEEP: WorkerEvent.SWEEP,
}  # fmt: skip


def test_the_table_of_workers_is_total() -> None:
    assert set(worker.TRANSITIONS) == set(WorkerState)
    for state, event in product(WorkerState, WorkerEvent):
        assert isinstance(worker.step(state, event), WorkerState), (state, event)
    assert {len(row) for row in worker.TRANSITIONS.values()} == {len(WorkerEvent)}


def test_the_table_of_rollouts_is_total() -> None:
    assert set(rollout.TRANSITIONS) == set(RolloutState)
    for state, event in product(RolloutState, RolloutEvent):
        assert isinstance(rollout.step(state, event), RolloutState), (state, event)
    assert {len(row) for row in rollout.TRANSITIONS.values()} == {len(RolloutEvent)}


def test_the_numbers_are_the_encoding_of_shared_memory() -> None:
    assert [one.name for one in WorkerState] == ["FREE", "BOOTING", "READY", "SERVING", "DRAINING", "GONE"]
    assert [one.name for one in Order] == ["HOLD", "SERVE", "DRAIN", "QUIT", "SWEEP"]
    assert [one.value for one in WorkerState] == list(range(6))
    assert [one.value for one in Order] == list(range(5))


def reachable(table: dict, start: IntEnum) -> set:  # type: ignore[type-arg]
    found, look = {start}, [start]
    while look:
        for after in table[look.pop()]:
            if after not in found:
                found.add(after)
                look.append(after)
    return found


def test_every_state_can_be_reached_from_the_first_one() -> None:
    assert reachable(worker.TRANSITIONS, WorkerState.FREE) == set(WorkerState)
    assert reachable(rollout.TRANSITIONS, RolloutState.STAGED) == set(RolloutState)


def test_every_living_worker_can_leave_and_every_generation_can_end() -> None:
    for state in WorkerState:
        assert WorkerState.FREE in reachable(worker.TRANSITIONS, state), state
    for state in set(RolloutState) - FINAL:
        assert reachable(rollout.TRANSITIONS, state) & FINAL, state


@given(st.lists(st.sampled_from(WorkerEvent)))
def test_a_worker_only_goes_forward_until_it_is_reaped(events: list[WorkerEvent]) -> None:
    state = WorkerState.FREE
    for event in events:
        before, state = state, worker.step(state, event)
        assert state >= before or event is WorkerEvent.REAPED, (before, event, state)


@pytest.mark.parametrize("state", [WorkerState.BOOTING, WorkerState.READY, WorkerState.SERVING, WorkerState.DRAINING])
def test_whoever_dies_is_gone_wherever_it_lived(state: WorkerState) -> None:
    assert worker.step(state, WorkerEvent.DIED) is WorkerState.GONE
    assert worker.step(WorkerState.GONE, WorkerEvent.REAPED) is WorkerState.FREE


def test_a_booting_worker_obeys_no_order_yet_and_a_ready_one_every() -> None:
    for event in WORKER_ORDERS.values():
        assert worker.step(WorkerState.BOOTING, event) is WorkerState.BOOTING
        assert worker.step(WorkerState.READY, event) is not WorkerState.READY


def test_whoever_sweeps_accepts() -> None:
    assert worker.step(WorkerState.READY, WorkerEvent.SWEEP) is WorkerState.SERVING
    assert worker.step(WorkerState.DRAINING, WorkerEvent.SWEEP) is WorkerState.DRAINING


def test_only_an_order_makes_a_ready_worker_serve() -> None:
    leading = {event for event in WorkerEvent if worker.step(WorkerState.READY, event) is WorkerState.SERVING}
    assert leading == {WorkerEvent.SERVE, WorkerEvent.SWEEP}


def test_fresh_is_every_state_before_serving() -> None:
    assert {WorkerState.BOOTING, WorkerState.READY} == FRESH


@given(st.sampled_from(sorted(FINAL)), st.sampled_from(RolloutEvent))
def test_nothing_leads_out_of_a_final_state(state: RolloutState, event: RolloutEvent) -> None:
    assert rollout.step(state, event) is state


@given(st.lists(st.sampled_from(RolloutEvent), max_size=30))
def test_a_generation_is_current_only_after_a_handover_and_a_probation_or_being_kept(
    events: list[RolloutEvent],
) -> None:
    state, met = RolloutState.STAGED, set()
    for event in events:
        before, state = state, rollout.step(state, event)
        met.add(state)
        if state is RolloutState.CURRENT and before is not state:
            assert RolloutState.HANDOVER in met
            assert (before, event) in {
                (RolloutState.PROBATION, RolloutEvent.PROVEN), (RolloutState.FAILING, RolloutEvent.KEPT)
            }  # fmt: skip


@given(st.lists(st.sampled_from(RolloutEvent), max_size=30))
def test_a_refused_generation_has_never_served(events: list[RolloutEvent]) -> None:
    state, met = RolloutState.STAGED, set()
    for event in events:
        state = rollout.step(state, event)
        met.add(state)
    if state is RolloutState.REFUSED:
        assert met <= {RolloutState.STAGED, RolloutState.STARTING, RolloutState.PROMOTING, RolloutState.REFUSED}


def test_before_it_takes_over_a_failure_is_a_refusal_and_later_it_is_undone() -> None:
    for state in set(RolloutState) - FINAL:
        after = rollout.step(state, RolloutEvent.FAILED)
        is_untouched = state in (RolloutState.STAGED, RolloutState.STARTING)
        assert after is (RolloutState.REFUSED if is_untouched else RolloutState.FAILING), state


def test_whoever_serves_is_replaced_for_good() -> None:
    for state in set(RolloutState) - FINAL:
        assert rollout.step(state, RolloutEvent.REPLACED) in FINAL, state


def test_every_state_has_a_word_and_what_is_final_is_not_under_way() -> None:
    assert set(WORDS) == set(RolloutState)
    assert not UNDER_WAY & FINAL
    assert set(RolloutState) - UNDER_WAY - FINAL == {RolloutState.PROBATION, RolloutState.CURRENT}


@pytest.mark.parametrize("begins", [Health.UNKNOWN, Health.UNHEALTHY])
def test_who_has_to_warm_up_is_healthy_after_so_many_good_findings_in_a_row(begins: Health) -> None:
    def after(*findings: bool) -> Health:
        state, streak = begins, 0
        for is_good in findings:
            state, streak = judge(state, streak, is_good, healthy_after=1, unhealthy_after=2, warm_up=3)
        return state

    assert after(True, True) is begins and after(True, True, True) is Health.HEALTHY
    assert after(True, True, False, True, True) is Health.UNHEALTHY, "a bad one, and it begins anew"
    assert after(True, True, False, True, True, True) is Health.HEALTHY
    assert after(True, True, True, False) is Health.HEALTHY, "once warm it takes as many bad ones as ever"
    assert after(True, True, True, False, False) is Health.UNHEALTHY
