"""The policy as a function: the same facts give the same plan, and no facts are a surprise to it."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.machines.rollout import RolloutEvent, RolloutState
from sentinel.core.machines.worker import Order, WorkerState
from supervisor.actions import (
    Advance,
    Close,
    Control,
    Door,
    EndControl,
    Enter,
    Exit,
    Facts,
    Fork,
    Give,
    Hush,
    Kill,
    KillControl,
    Prepare,
    StartControl,
    Stop,
)  # fmt: skip
from supervisor.fleet import Death, Generation, Member, Mode
from supervisor.policy import CONTROL_END_NS, CONTROL_SILENT_NS, HUSH_NS, IDLE_NS, plan
from supervisor.roster import LEAVE_GRACE_NS, QUIT_GRACE_NS
from supervisor.terms import Terms
from tests.supervisor.theatre import S, terms_of

NOW_NS = 1_000 * S
TERMS = msgspec.convert(terms_of("a"), Terms)
CURRENT = Generation(number=1, terms=TERMS, state=RolloutState.CURRENT, lanes=(0, 1), holds=(0, 1), is_published=True)
NEXT = Generation(number=2, terms=TERMS, state=RolloutState.STARTING, lanes=(0, 1), since_ns=NOW_NS - 1 * S)
DOOR = Door(address="127.0.0.1:8080")
OTHER_DOOR = Door(address="127.0.0.1:9")


def member(slot: int, **changes: Any) -> Member:
    known: dict[str, Any] = {
        "slot": slot, "pid": 100 + slot, "generation": 1, "lane": slot, "born_ns": NOW_NS - 60 * S,
        "state": WorkerState.SERVING, "order": Order.SERVE, "heartbeat_ns": NOW_NS,
    }  # fmt: skip
    return Member(**{**known, **changes})


def facts(**changes: Any) -> Facts:
    """A fleet at rest: two workers of generation 1 serve one door."""
    known: dict[str, Any] = {
        "now_ns": NOW_NS, "current": 1, "generations": (CURRENT,), "members": (member(0), member(1)), "doors": (DOOR,),
    }  # fmt: skip
    return Facts(**{**known, **changes})


def test_a_fleet_at_rest_is_left_alone_for_a_quarter_of_a_second() -> None:
    assert plan(facts()).actions == ()
    assert plan(facts()).look_again_ns == NOW_NS + IDLE_NS


def test_a_missing_worker_is_forked_and_then_watched() -> None:
    made = plan(facts(members=(member(0),)))
    assert made.actions == (Fork(1, 1),)
    assert made.look_again_ns < NOW_NS + IDLE_NS


def test_there_is_never_a_fork_beyond_the_slots() -> None:
    assert plan(facts(members=(), slots_max=1)).actions == (Fork(1, 0),)
    assert plan(facts(members=(member(0),), slots_max=1)).actions == ()


def test_a_ready_worker_is_told_to_serve() -> None:
    waiting = member(1, state=WorkerState.READY, order=Order.HOLD)
    assert plan(facts(members=(member(0), waiting))).actions == (Give(1, Order.SERVE),)


def test_whoever_was_never_told_to_serve_and_is_not_wanted_quits() -> None:
    stray = member(5, generation=2, state=WorkerState.READY, order=Order.HOLD)
    refused = Generation(number=2, terms=TERMS, state=RolloutState.REFUSED, lanes=(0, 1))
    made = plan(facts(generations=(CURRENT, refused), members=(member(0), member(1), stray)))
    assert made.actions == (Give(5, Order.QUIT, NOW_NS + QUIT_GRACE_NS),)


def test_generations_move_first_and_nothing_else_is_planned_meanwhile() -> None:
    staged = Generation(number=2, terms=TERMS, lanes=(0, 1), since_ns=NOW_NS)
    made = plan(facts(generations=(CURRENT, staged), members=()))
    assert made.actions == (Prepare(2),)
    assert made.look_again_ns == NOW_NS


def test_all_ready_takes_over() -> None:
    fresh = [
        member(2 + lane, lane=lane, generation=2, state=WorkerState.READY, order=Order.HOLD) for lane in (0, 1)
    ]  # fmt: skip
    made = plan(facts(generations=(CURRENT, NEXT), members=(member(0), member(1), *fresh)))
    assert made.actions == (Advance(2, RolloutEvent.TAKES_OVER),)


def test_a_death_of_an_earlier_try_does_not_refuse_this_one() -> None:
    old = Death(at_ns=NEXT.since_ns - 1, generation=2, lane=0, status=1, was_fresh=True, cause="")
    made = plan(facts(generations=(CURRENT, NEXT), deaths=(old,)))
    assert not any(isinstance(one, Advance) for one in made.actions)


@pytest.mark.parametrize(
    ("order", "grace_ns"), [(Order.DRAIN, LEAVE_GRACE_NS), (Order.SWEEP, LEAVE_GRACE_NS), (Order.QUIT, 0)]
)
def test_the_grace_of_whoever_leaves(order: Order, grace_ns: int) -> None:
    for beyond_ns, is_killed in ((0, False), (1, True)):
        leaving = member(5, order=order, order_deadline_ns=NOW_NS - grace_ns - beyond_ns)
        made = plan(facts(members=(member(0), member(1), leaving)))
        killed = [one for one in made.actions if isinstance(one, Kill)]
        assert killed == ([Kill(5, signal.SIGKILL, "it did not leave by its deadline")] if is_killed else [])


def test_lateness_begins_beyond_the_timeout_and_is_a_question_first() -> None:
    on_time = member(1, heartbeat_ns=NOW_NS - TERMS.heartbeat_timeout_ns)
    assert plan(facts(members=(member(0), on_time))).actions == ()
    late = member(1, heartbeat_ns=NOW_NS - TERMS.heartbeat_timeout_ns - 1)
    assert plan(facts(members=(member(0), late))).actions == (Kill(1, signal.SIGABRT, "no heartbeat for 2 s"),)


def test_an_unused_door_is_hushed_before_it_is_closed_and_closed_only_when_quiet() -> None:
    assert plan(facts(doors=(DOOR, OTHER_DOOR))).actions == (Hush("127.0.0.1:9"),)
    hushed = Door(address="127.0.0.1:9", hushed_ns=NOW_NS - HUSH_NS + 1)
    assert plan(facts(doors=(DOOR, hushed))).actions == ()
    hushed = Door(address="127.0.0.1:9", hushed_ns=NOW_NS - HUSH_NS)
    assert plan(facts(doors=(DOOR, hushed))).actions == (Close("127.0.0.1:9"),)


def test_a_door_of_systemd_is_never_hushed_and_closed_when_nobody_accepts_there() -> None:
    assert plan(facts(doors=(DOOR, Door(address="127.0.0.1:9", is_adopted=True)))).actions == (Close("127.0.0.1:9"),)
    adopted = Door(address="127.0.0.1:8080", is_adopted=True)
    assert not any(isinstance(one, Hush | Close) for one in plan(facts(doors=(adopted,), mode=Mode.STOPPING)).actions)


def test_drained_is_entered_when_the_last_has_left() -> None:
    assert plan(facts(mode=Mode.DRAINING, members=())).actions == (Enter(Mode.DRAINED),)
    assert plan(facts(mode=Mode.DRAINED, members=())).actions == ()


def test_control_is_told_last_and_killed_when_it_does_not_hear() -> None:
    stopping = {"mode": Mode.STOPPING, "members": (), "doors": ()}
    assert plan(facts(**stopping)).actions == (EndControl(signal.SIGTERM),)
    deaf = Control(pid=1, ordered_ns=NOW_NS - CONTROL_END_NS - 1)
    assert plan(facts(**stopping, control=deaf)).actions == (EndControl(signal.SIGKILL),)
    assert plan(facts(**stopping, control=Control(), stop_status=4)).actions == (Exit(4),)
    assert EndControl(signal.SIGTERM) not in plan(facts(mode=Mode.STOPPING)).actions


def test_a_control_that_hangs_is_killed_unless_the_machine_slept() -> None:
    silent = Control(pid=1, heard_ns=NOW_NS - CONTROL_SILENT_NS - 1)
    assert [type(one) for one in plan(facts(control=silent, awake_ns=0)).actions] == [KillControl]
    assert plan(facts(control=silent, awake_ns=NOW_NS - 1)).actions == ()
    assert plan(facts(control=Control(pid=1, heard_ns=NOW_NS - CONTROL_SILENT_NS), awake_ns=0)).actions == ()


def test_control_is_missed_at_once_and_a_service_that_serves_never_ends_for_its_sake() -> None:
    assert plan(facts(control=Control())).actions == (StartControl(),)
    dead = Control(deaths_ns=tuple(NOW_NS - index for index in reversed(range(10))))
    assert not any(isinstance(one, Stop) for one in plan(facts(control=dead)).actions)
    empty = plan(facts(control=dead, current=0, generations=(), members=(), doors=()))
    assert [type(one) for one in empty.actions] == [Stop]


# Whatever the board looks like, there is a plan, and it is sane.

TIMES = st.integers(min_value=0, max_value=NOW_NS)
GENERATIONS = st.lists(
    st.builds(
        Generation, number=st.just(0), terms=st.sampled_from([TERMS, msgspec.convert(terms_of("b", workers=3), Terms)]),
        state=st.sampled_from(RolloutState), since_ns=TIMES, lanes=st.sampled_from([(0,), (0, 1), (0, 1, 2)]),
        holds=st.sampled_from([(), (0,), (0, 1)]), restores=st.integers(0, 2), is_published=st.booleans(),
        is_proven=st.booleans(), requests=st.integers(0, 100), failures=st.integers(0, 100),
    ),
    max_size=4,
)  # fmt: skip


@st.composite
def boards(draw: st.DrawFn) -> Facts:
    generations = tuple(replace(one, number=index) for index, one in enumerate(draw(GENERATIONS), start=1))
    numbers = st.integers(1, len(generations)) if generations else st.nothing()
    members = draw(
        st.lists(
            st.builds(
                Member, slot=st.integers(0, 7), pid=st.just(1), generation=numbers, lane=st.integers(0, 3),
                born_ns=TIMES, state=st.sampled_from(list(WorkerState)[1:]), order=st.sampled_from(Order),
                order_deadline_ns=TIMES, heartbeat_ns=TIMES, killed_ns=st.sampled_from([0, 1, NOW_NS]),
                is_sweeper=st.booleans(),
            ),
            max_size=8, unique_by=lambda one: one.slot,
        )
    ) if generations else []  # fmt: skip
    deaths = draw(
        st.lists(
            st.builds(
                Death, at_ns=TIMES, generation=st.integers(1, 4), lane=st.integers(0, 3),
                status=st.sampled_from([-9, -1, 0, 1]), was_fresh=st.booleans(), cause=st.just("woe"),
            ),
            max_size=6,
        )
    )  # fmt: skip
    doors = st.builds(
        Door, address=st.sampled_from(["127.0.0.1:8080", "127.0.0.1:9"]), waiting=st.integers(0, 2),
        hushed_ns=st.sampled_from([0, 1, NOW_NS]), is_adopted=st.booleans(),
    )  # fmt: skip
    return Facts(
        now_ns=NOW_NS, awake_ns=draw(TIMES), changed_ns=draw(TIMES), mode=draw(st.sampled_from(Mode)),
        current=draw(st.integers(0, len(generations))), generations=generations, members=tuple(members),
        deaths=tuple(deaths), doors=tuple(draw(st.lists(doors, max_size=2, unique_by=lambda one: one.address))),
        control=draw(st.builds(Control, pid=st.integers(0, 1), deaths_ns=st.just((1,)), ordered_ns=TIMES)),
        slots_max=8, stop_deadline_ns=draw(TIMES), is_forced=draw(st.booleans()),
        sweepers_forked=draw(st.integers(0, 4)),
    )  # fmt: skip


@given(boards())
@settings(max_examples=200, deadline=None)
def test_every_board_has_a_sane_plan(board: Facts) -> None:
    made = plan(board)
    assert made == plan(board), "equal facts, equal plans"
    assert board.now_ns <= made.look_again_ns <= board.now_ns + IDLE_NS
    slots = {one.slot for one in board.members}
    forks = [one for one in made.actions if isinstance(one, Fork)]
    assert len(forks) == len(set(forks))
    assert len(forks) <= max(0, board.slots_max - len(board.members))
    assert not forks or board.mode is Mode.SERVING
    for one in made.actions:
        if isinstance(one, Give | Kill):
            assert one.slot in slots
        elif isinstance(one, Fork):
            able = [m for m in board.members if (m.generation, m.lane) == (one.generation, one.lane) and m.is_able]
            assert not able, "nobody is doubled"
        elif isinstance(one, Close):
            assert any(door.address == one.address and (door.hushed_ns or door.is_adopted or board.is_forced)
                       for door in board.doors)  # fmt: skip
        elif isinstance(one, Exit):
            assert not board.members and not board.doors
