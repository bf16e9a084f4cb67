"""The policy: given all that is so, what is to be done, and when to look again. Pure.

Intuition: a chess player who sees the board and not the history. All that
happened is in the facts (states, deaths, deadlines); so after any surprise the
next plan is right again, and nothing has to be unwound.

Rule 1: facts in, actions out; no clock, no process, no socket. Two equal facts
    give two equal plans.
Rule 2: generations move first. While any of them does, nothing else is planned:
    the next turn, which follows at once, sees the board after the move.
Rule 3: what is wanted is compared with what is there, each time anew (roster.py).
    So a worker that was killed, an order that was lost, a fork that failed are
    all the same case: something is missing.
Rule 4: doors close last, and only empty: hush (no new connections come into the
    queue), sweep (somebody accepts those that wait), close.

Rejected: a step-by-step script of a reload. It has to know at each step what may
have died in the meantime, and there is always one thing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGKILL, SIGTERM
from typing import Final

from sentinel.core.machines.rollout import FINAL, UNDER_WAY, RolloutState
from sentinel.core.machines.worker import Order, WorkerState
from supervisor.actions import (
    Action,
    Close,
    Control,
    Door,
    EndControl,
    Enter,
    Exit,
    Facts,
    ForkSweeper,
    Give,
    Hush,
    KillControl,
    Plan,
    StartControl,
    Stop,
)  # fmt: skip
from supervisor.budget import MS, pause_ns
from supervisor.fleet import Generation, Member, Mode
from supervisor.rollouts import course
from supervisor.roster import actions_of, awaited

IDLE_NS: Final = 250 * MS
"""Heartbeats come as often; looking more often would see nothing new."""
WATCHING_NS: Final = 4 * MS
"""While a worker is about to change its state. Shared memory tells, but does not call."""
PATIENT_NS: Final = 50 * MS
EAGER_NS: Final = 1_000 * MS
"""How long after the last change to look that often."""
HUSH_NS: Final = 200 * MS
"""Handshakes that began before the hush have their last packet under way: about a round trip."""
SWEEPERS_MAX: Final = 3
"""Each empties the queue or dies; three that died are a reason to stop trying."""
CONTROL_WINDOW_NS: Final = 60_000 * MS
CONTROL_DEATHS_MAX: Final = 3
"""Before the first generation: whoever starts a service wants to know soon that it cannot start."""
CONTROL_END_NS: Final = 3_000 * MS
CONTROL_SILENT_NS: Final = 20_000 * MS
"""Control asks for the status every two seconds (supervisor.control.process): ten times missed."""
MOVING: Final = UNDER_WAY - {RolloutState.CANARY}
"""States that a generation is about to leave by itself."""


def plan(facts: Facts) -> Plan:
    """Decide what to do now."""
    moves = tuple(course(facts))
    if moves:
        return Plan(moves, facts.now_ns)
    work, times = actions_of(facts)
    hushes, closes = _doors(facts, {one.slot for one in work if isinstance(one, Give) and one.order is not Order.SERVE})
    keepers, later = _control(facts)
    actions: tuple[Action, ...] = (*hushes, *work, *closes, *keepers, *_mode(facts))
    # Whoever was forked or ordered now is not awaited in these facts, but is so in the next ones.
    soon = [facts.now_ns + WATCHING_NS] if work else []
    return Plan(actions, min(_look_again_ns(facts), *soon, *times, *later, facts.now_ns + IDLE_NS))


def _look_again_ns(facts: Facts) -> int:
    is_eager = facts.now_ns - facts.changed_ns < EAGER_NS
    if awaited(facts) or any(one.state in MOVING for one in facts.generations):
        return facts.now_ns + (WATCHING_NS if is_eager else PATIENT_NS)
    if any(door.hushed_ns for door in facts.doors):
        return facts.now_ns + PATIENT_NS
    return facts.now_ns + IDLE_NS


def _mode(facts: Facts) -> Iterator[Action]:
    if facts.mode is Mode.DRAINING and not facts.members:
        yield Enter(Mode.DRAINED)
    if facts.mode is Mode.STOPPING and not facts.members and not facts.doors and not facts.control.pid:
        yield Exit(facts.stop_status)


def _control(facts: Facts) -> tuple[list[Action], list[int]]:
    """Control is started whenever it is missing, and told to end when all else has."""
    control = facts.control
    if facts.mode is Mode.STOPPING:
        is_last = not facts.members and not facts.doors
        return (list(_end_control(facts, control)) if control.pid and (is_last or facts.is_forced) else []), []
    if control.pid:
        silent_ns = facts.now_ns - max(control.heard_ns, facts.awake_ns)
        if control.heard_ns and silent_ns > CONTROL_SILENT_NS and not control.ordered_ns:
            return [KillControl(f"control has said nothing for {silent_ns // 10**9} s")], []
        return [], []
    recent = [at_ns for at_ns in control.deaths_ns if facts.now_ns - at_ns < CONTROL_WINDOW_NS]
    if not facts.current and len(recent) > CONTROL_DEATHS_MAX:
        why = f"the control process ended {len(recent)} times before anything served: {control.last_words}"
        return [Stop(1, why)], []
    not_before = recent[-1] + pause_ns(len(recent) + 1) if recent else 0
    return ([], [not_before]) if facts.now_ns < not_before else ([StartControl()], [])


def _end_control(facts: Facts, control: Control) -> Iterator[Action]:
    if facts.is_forced or (control.ordered_ns and facts.now_ns - control.ordered_ns > CONTROL_END_NS):
        yield EndControl(SIGKILL)
    elif not control.ordered_ns:
        yield EndControl(SIGTERM)


def _doors(facts: Facts, leaving: set[int]) -> tuple[list[Action], list[Action]]:
    """What to hush before anybody is told to leave, and what to close after."""
    used = _used(facts, leaving)
    unused = [door for door in facts.doors if door.address not in used]
    hushes: list[Action] = [Hush(door.address) for door in unused if not door.hushed_ns and not door.is_adopted]
    if facts.is_forced:
        return hushes, [] if facts.members else [Close(door.address) for door in unused]
    closes: list[Action] = []
    for door in unused:
        if door.is_adopted:
            # systemd keeps the queue: whoever starts next serves it.
            if not any(_accepts_from(facts, one, door) for one in facts.members):
                closes.append(Close(door.address))
        elif door.hushed_ns and not any(_accepts_from(facts, one, door) for one in facts.members):
            closes += _empty(facts, door)
    return hushes, closes


def _empty(facts: Facts, door: Door) -> Iterator[Action]:
    """Nobody takes from this queue any more: close it when it is empty, and have it swept when it is not."""
    if door.waiting and facts.sweepers_forked < SWEEPERS_MAX and len(facts.members) < facts.slots_max:
        served = [one for one in facts.generations if one.is_published and door.address in one.terms.addresses]
        if served:
            yield ForkSweeper(served[-1].number, (door.address,))
            return
    if door.waiting == 0 and facts.now_ns - door.hushed_ns < HUSH_NS:
        return
    yield Close(door.address)


def _accepts_from(facts: Facts, member: Member, door: Door) -> bool:
    """Whether this worker may still take a connection from the door's queues."""
    terms = next((one.terms for one in facts.generations if one.number == member.generation), None)
    if terms is None or door.address not in terms.addresses or member.order is Order.QUIT:
        return False
    return member.state in (WorkerState.BOOTING, WorkerState.READY, WorkerState.SERVING)


def _used(facts: Facts, leaving: set[int]) -> set[str]:
    """Addresses that shall stay open."""
    if facts.mode is Mode.STOPPING:
        return set()
    staying = {one.generation for one in facts.members if one.is_able and one.slot not in leaving}
    found: set[str] = set()
    for one in facts.generations:
        if one.number == facts.current or one.number in staying or _is_coming(one):
            found.update(one.terms.addresses)
    return found


def _is_coming(generation: Generation) -> bool:
    return not generation.is_published and generation.state not in FINAL


