"""Half of the policy: which generation moves on, and why.

Everything that a generation needs in order to move is a fact; nothing is waited
for here. So a rollout is as good as the question "given all that is so, what is
the next step of each generation?", asked again whenever something has changed. A
supervisor that was slow, or a control process that died in the middle, changes
when the answer is given, and not what it is.

    staged     there is room -> its addresses are bound -> starting
    starting   every lane ready -> takes over; one that ends by itself, or time -> refused
    handover   its lanes serve, and nobody else does -> probation (or canary)
    probation  crash loop, or too many failed requests -> failing; time -> current
    failing    what replaces it serves -> rolled back; could not be started -> kept
"""

from __future__ import annotations

from collections.abc import Iterator

from sentinel.core.machines.rollout import FINAL, RolloutEvent, RolloutState
from sentinel.core.machines.worker import WorkerState
from supervisor.actions import Action, Advance, Facts, Prepare, Restore
from supervisor.budget import crash_loop
from supervisor.fleet import Generation, Mode, able, fallback


def course(facts: Facts) -> Iterator[Action]:
    """The steps that generations take now."""
    for generation in facts.generations:
        match generation.state:
            case RolloutState.STAGED:
                yield from _staged(facts, generation)
            case RolloutState.STARTING | RolloutState.PROMOTING:
                yield from _starting(facts, generation)
            case RolloutState.HANDOVER:
                yield from _handover(facts, generation)
            case RolloutState.CANARY | RolloutState.PROBATION:
                yield from _watched(facts, generation)
            case RolloutState.FAILING:
                yield from _failing(facts, generation)
            case RolloutState.CURRENT | RolloutState.REFUSED | RolloutState.ROLLED_BACK | RolloutState.RETIRED:
                pass


def _staged(facts: Facts, generation: Generation) -> Iterator[Action]:
    """Wait for room: former generations may still drain, and hurrying them would cut somebody's request."""
    if facts.mode is not Mode.SERVING:
        yield _failed(generation, f"the fleet is {facts.mode.value}")
        return
    spare = max((len(one.lanes) for one in facts.generations if one.number == facts.current), default=0)
    needed = len(generation.lanes) + spare  # each serving worker may die and have a successor meanwhile
    staying = sum(one.is_able for one in facts.members)
    if staying + needed > facts.slots_max:
        slots = f"shared memory's {facts.slots_max} slots"
        remedy = "have fewer, or restart the service, which makes room"
        yield _failed(generation, f"{needed} more workers do not fit in {slots}: {remedy}")
    elif len(facts.members) + needed <= facts.slots_max:
        yield Prepare(generation.number)


def _starting(facts: Facts, generation: Generation) -> Iterator[Action]:
    number, timeout_ns = generation.number, generation.terms.probation.ready_timeout_ns
    if facts.mode is not Mode.SERVING:
        yield _failed(generation, f"the fleet is {facts.mode.value}")
        return
    for death in facts.deaths:
        # Who ends by itself has looked at the plan and said no; another try would hear the same. A signal came
        # from outside (or was a crash, which the budget ends).
        if death.generation == number and death.was_fresh and death.status >= 0 and death.at_ns >= generation.since_ns:
            yield _failed(generation, f"the worker of lane {death.lane} ended before it was ready: {death.cause}")
            return
    if why := crash_loop(facts.deaths, generation, facts.now_ns):
        yield _failed(generation, why)
        return
    found = {lane: able(facts.members, number, lane) for lane in generation.lanes}
    slow = [lane for lane, one in found.items() if one is None or one.state is WorkerState.BOOTING]
    if not slow:
        yield Advance(number, RolloutEvent.TAKES_OVER)
    elif facts.now_ns - max(generation.since_ns, facts.awake_ns) > timeout_ns:
        yield _failed(generation, f"lane {slow[0]} was not ready within {timeout_ns / 1e9:g} s")


def _handover(facts: Facts, generation: Generation) -> Iterator[Action]:
    serving = all(_serves(facts, generation, lane) for lane in generation.lanes)
    since_ns = facts.now_ns - max(generation.since_ns, facts.awake_ns)
    is_overdue = since_ns > generation.terms.probation.ready_timeout_ns
    others = any(
        one.generation != generation.number and one.state is WorkerState.SERVING
        and (generation.is_published or one.lane in generation.lanes)
        for one in facts.members
    )  # fmt: skip
    if serving and (is_overdue or not others):
        yield from _settle(facts, generation)
    elif facts.mode is not Mode.SERVING:
        return
    elif (why := _fault(facts, generation)) and _can_fail(facts, generation):
        yield _failed(generation, why)
    elif is_overdue and not serving and _can_fail(facts, generation):
        yield _failed(generation, "its workers were ready, and did not come to serve")


def _settle(facts: Facts, generation: Generation) -> Iterator[Action]:
    if not generation.is_published:
        yield Advance(generation.number, RolloutEvent.LENT)
        return
    yield Advance(generation.number, RolloutEvent.SETTLED)
    for older in facts.generations:
        if older.number < generation.number and older.state not in FINAL:
            yield Advance(older.number, RolloutEvent.REPLACED)


def _watched(facts: Facts, generation: Generation) -> Iterator[Action]:
    if generation.restores and generation.state is RolloutState.PROBATION:
        # Its content has served before, and there is nothing better behind it.
        yield Advance(generation.number, RolloutEvent.PROVEN)
        return
    if (why := _fault(facts, generation)) and _can_fail(facts, generation):
        yield _failed(generation, why)
        return
    if generation.state is RolloutState.PROBATION:
        since_ns = facts.now_ns - max(generation.since_ns, facts.awake_ns)
        is_followed = any(one.number > generation.number and one.state not in FINAL for one in facts.generations)
        if since_ns >= generation.terms.probation.duration_ns and not is_followed:
            yield Advance(generation.number, RolloutEvent.PROVEN)


def _failing(facts: Facts, generation: Generation) -> Iterator[Action]:
    number = generation.number
    if not generation.is_published:
        yield from _take_back(facts, generation)
        return
    for one in facts.generations:
        if one.number > number and one.state is RolloutState.CANARY:  # it waits for an operator, who may sleep
            yield _failed(one, f"generation {number}, which it was tried beside, fails: {generation.why}")
    if any(one.number > number and one.state not in FINAL for one in facts.generations):
        return  # whatever comes next takes its place, be it the restoration or what an operator asked for meanwhile
    replacements = [one for one in facts.generations if one.restores == number]
    source = fallback(facts.generations, generation)
    if replacements:
        refused = replacements[-1]
        yield Advance(number, RolloutEvent.KEPT, f"generation {refused.number}, in its place, was {_end(refused)}")
    elif source is None:
        yield Advance(number, RolloutEvent.KEPT, "there is nothing to go back to")
    elif facts.mode is Mode.SERVING:
        yield Restore(source.number, number)


def _take_back(facts: Facts, generation: Generation) -> Iterator[Action]:
    """A canary has left when nobody of it accepts, and the lanes serve what they served before."""
    current = next((one for one in facts.generations if one.number == facts.current), None)
    is_back = (
        facts.mode is not Mode.SERVING or current is None
        or current.state is RolloutState.FAILING  # perhaps because its workers crash, and they need not be waited for
        or all(_serves(facts, current, lane) for lane in current.lanes)
    )  # fmt: skip
    members = [one for one in facts.members if one.generation == generation.number]
    accepts = any(one.state is WorkerState.SERVING or one.is_able for one in members)
    if is_back and not accepts:
        yield Advance(generation.number, RolloutEvent.REPLACED)


def _fault(facts: Facts, generation: Generation) -> str:
    """Why a generation that serves should not; empty if there is no such reason."""
    if why := crash_loop(facts.deaths, generation, facts.now_ns):
        return why
    requests, failures, terms = generation.requests, generation.failures, generation.terms.probation
    if requests and requests >= terms.requests_min and failures * 1000 > terms.failure_share_max * requests:
        share = f"{failures} of {requests} requests failed"
        return f"{share}, which is more than {terms.failure_share_max / 10:g} %"
    return ""


def _can_fail(facts: Facts, generation: Generation) -> bool:
    """Failing makes sense only if something else can serve: bad is more than nothing."""
    if generation.restores or facts.mode is not Mode.SERVING:
        return False
    return not generation.is_published or fallback(facts.generations, generation) is not None


def _serves(facts: Facts, generation: Generation, lane: int) -> bool:
    one = able(facts.members, generation.number, lane)
    return one is not None and one.state is WorkerState.SERVING


def _failed(generation: Generation, why: str) -> Advance:
    return Advance(generation.number, RolloutEvent.FAILED, why)


def _end(refused: Generation) -> str:
    return f"refused: {refused.why}" if refused.why else "refused"
