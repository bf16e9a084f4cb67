"""Half of the policy: who works, who leaves, who is called late.

Intuition: a rota. It says which generation has which lane (`duty`). Whoever is on
the rota and missing is hired; whoever is there and not on it is sent home, but
only when the one who relieves him stands at his place, so that no lane is ever
without somebody who takes from its queue.

Rule 1: a lane's former worker is relieved when the new one on the same lane
    serves. When lanes become fewer, when all that remain serve: they also take
    from the orphaned queues.
Rule 2: who has not begun to serve is told to QUIT and takes nothing with it. Who
    serves is told to DRAIN; or to SWEEP, when a listener of his ends with him.
Rule 3: lateness is measured from when the supervisor itself began to look.
Rule 4: a late worker is first asked for its stack (SIGABRT, its last words),
    then killed. One that does not leave by its deadline is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGABRT, SIGKILL
from typing import Final

from sentinel.core.machines.rollout import RolloutState
from sentinel.core.machines.worker import Order, WorkerState
from supervisor.actions import Action, Facts, Fork, Give, Kill
from supervisor.budget import MS, not_before_ns
from supervisor.fleet import Generation, Member, Mode, able

LAST_WORDS_NS: Final = 500 * MS
"""Between asking a late worker for its stack and killing it."""
LEAVE_GRACE_NS: Final = 3_000 * MS
"""Beyond the drain deadline: the worker itself ends connections at the deadline, and tells them why."""
QUIT_GRACE_NS: Final = 1_000 * MS
HOLDING: Final = frozenset({RolloutState.HANDOVER, RolloutState.CANARY, RolloutState.PROMOTING})
"""An unpublished generation in these states has the lanes that were lent to it."""
LEAVING: Final = frozenset({Order.DRAIN, Order.SWEEP, Order.QUIT})


def duty(facts: Facts) -> dict[int, int]:
    """Which generation has which lane."""
    if facts.mode is not Mode.SERVING:
        return {}
    rota: dict[int, int] = {}
    for one in facts.generations:
        if one.number == facts.current:
            rota.update(dict.fromkeys(one.lanes, one.number))
    for one in facts.generations:
        if not one.is_published and one.state in HOLDING:
            rota.update(dict.fromkeys(one.holds, one.number))
    return rota


def wanted(facts: Facts) -> dict[tuple[int, int], bool]:
    """(generation, lane) of every worker that there shall be, and whether it shall serve."""
    places = {(number, lane): True for lane, number in duty(facts).items()}
    for one in facts.generations:
        if facts.mode is Mode.SERVING and one.state in (RolloutState.STARTING, RolloutState.PROMOTING):
            for lane in one.lanes:
                places.setdefault((one.number, lane), False)
    return places


def hire(facts: Facts) -> Iterator[Fork | int]:
    """The workers to fork now; a number is a time at which to look again."""
    known = {one.number: one for one in facts.generations}
    room = facts.slots_max - len(facts.members)
    for number, lane in wanted(facts):
        if able(facts.members, number, lane) is not None:
            continue
        not_before = not_before_ns(facts.deaths, known[number], lane, facts.now_ns)
        if facts.now_ns < not_before:
            yield not_before
        elif room > 0:
            room -= 1
            yield Fork(number, lane)


def send(facts: Facts) -> Iterator[Give]:
    """The orders to give now."""
    places, rota = wanted(facts), duty(facts)
    known = {one.number: one for one in facts.generations}
    for member in facts.members:
        shall_serve = places.get((member.generation, member.lane))
        if member.killed_ns or member.is_sweeper:
            continue
        if member.order in LEAVING:
            yield from _hurry(facts, member)
        elif shall_serve and member.order is Order.HOLD:
            yield Give(member.slot, Order.SERVE)
        elif shall_serve is None and member.order is Order.HOLD:
            yield Give(member.slot, Order.QUIT, facts.now_ns + QUIT_GRACE_NS)
        elif shall_serve is None and _is_relieved(facts, member, rota):
            generation = known[member.generation]
            yield Give(member.slot, _farewell(facts, generation, rota), _deadline_ns(facts, generation))


def discipline(facts: Facts) -> Iterator[Kill]:
    """The workers to kill now."""
    known = {one.number: one for one in facts.generations}
    for member in facts.members:
        if facts.is_forced:
            if member.killed_ns == 0:
                yield Kill(member.slot, SIGKILL, "the service was told to end at once")
        elif member.killed_ns:
            if facts.now_ns - member.killed_ns > LAST_WORDS_NS:
                yield Kill(member.slot, SIGKILL, "")
        else:
            yield from _late(facts, member, known[member.generation])


def awaited(facts: Facts) -> bool:
    """Whether some worker is about to change its state; that is seen only by looking."""
    return any(
        not one.killed_ns
        and (
            one.state is WorkerState.BOOTING
            or (one.state is WorkerState.READY and one.order is not Order.HOLD)
            or (one.state is WorkerState.SERVING and one.order in LEAVING)
        )
        for one in facts.members
    )


def _is_relieved(facts: Facts, member: Member, rota: dict[int, int]) -> bool:
    if facts.mode is not Mode.SERVING:
        return True
    lanes = [member.lane] if member.lane in rota else list(rota)
    found = (able(facts.members, rota[lane], lane) for lane in lanes)
    return all(one is not None and one.state is WorkerState.SERVING for one in found)


def _farewell(facts: Facts, generation: Generation, rota: dict[int, int]) -> Order:
    """SWEEP when nobody would accept on one of its addresses after it."""
    if facts.mode is Mode.STOPPING:
        return Order.SWEEP
    if facts.mode is not Mode.SERVING:
        return Order.DRAIN  # the queues wait for `resume`
    staying = {address for one in facts.generations if one.number in rota.values() for address in one.terms.addresses}
    return Order.DRAIN if staying.issuperset(generation.terms.addresses) else Order.SWEEP


def _deadline_ns(facts: Facts, generation: Generation) -> int:
    if facts.mode is Mode.STOPPING:
        return facts.stop_deadline_ns
    return facts.now_ns + generation.terms.drain_deadline_ns


def _hurry(facts: Facts, member: Member) -> Iterator[Give]:
    """When the service stops, nobody may take longer than it."""
    if facts.mode is Mode.STOPPING and member.order_deadline_ns > facts.stop_deadline_ns:
        yield Give(member.slot, member.order, facts.stop_deadline_ns)


def _late(facts: Facts, member: Member, generation: Generation) -> Iterator[Kill]:
    now_ns, terms = facts.now_ns, generation.terms
    if member.order in LEAVING:
        grace_ns = 0 if member.order is Order.QUIT else LEAVE_GRACE_NS
        if now_ns > max(member.order_deadline_ns, facts.awake_ns) + grace_ns:
            yield Kill(member.slot, SIGKILL, "it did not leave by its deadline")
            return
    if member.state is WorkerState.BOOTING:
        if now_ns - max(member.born_ns, facts.awake_ns) > terms.probation.ready_timeout_ns:
            yield Kill(member.slot, SIGABRT, f"not ready within {terms.probation.ready_timeout_ns / 1e9:g} s")
    elif now_ns - max(member.heartbeat_ns, member.born_ns, facts.awake_ns) > terms.heartbeat_timeout_ns:
        yield Kill(member.slot, SIGABRT, f"no heartbeat for {terms.heartbeat_timeout_ns / 1e9:g} s")


def actions_of(facts: Facts) -> tuple[list[Action], list[int]]:
    """All that concerns workers, orders first; and times at which to look again."""
    hired = list(hire(facts))
    forks = [one for one in hired if isinstance(one, Fork)]
    return [*send(facts), *discipline(facts), *forks], [one for one in hired if isinstance(one, int)]
