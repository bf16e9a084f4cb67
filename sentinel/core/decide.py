"""The decision: one pure function for live traffic, dry runs, diffs, tests and the playground.

Intuition: a judge who has the law (the table), the case (the request), and may
ask questions (the world), but never leaves the room. Whoever answers the same
questions in the same way gets the same verdict and the same reasons. That is
why a dry run can be believed.

    match → identify → hold → limit → (wait) → (body) → guard → model → tokens → respond    the route answers itself
              |          |      |                         |       |       |    → forward → Forward   an endpoint
              |          |      |                         |       |       |        |     → Reject    there is none
              |          |      |                         |       |       |        `→ translate → Reject(400)  unsayable
              |          |      |                         |       |       `→ Reject(429)    too few tokens are left
              |          |      |                         |       `→ Reject(404)    no line of `models` takes the model
              |          |      |                         `→ Reject(400)    a guardrail stops what the request says
              |          |      `→ Reject(429)    a rate limit is used up
              |          `→ Reject(429)           too many of this key are under way
              `→ Reject(401)                      the route is for known clients, and nobody knows who asks
              `→ Reject(403)                      clients may not come from this address
    no match → Reject(404)

Each stage adds its conclusion to the trace, with the place in the
configuration that caused it. The function is a coroutine because a password that is verified, a turn at a rate limit,
and the body of a request to a language model may be waited for; where nobody can wait, `core.drive.run` runs it. Live
traffic calls `decide_now`, which is all of it but the waiting: a coroutine that never waits would cost a tenth of the
decision.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, final

from sentinel.core.allowances import Purse
from sentinel.core.appraisal import Appraisal, Spending, Taking
from sentinel.core.candidates import Candidate
from sentinel.core.fallbacks import falls_on
from sentinel.core.gates import Gate
from sentinel.core.limits import Field
from sentinel.core.models import Errand, Target
from sentinel.core.plan import Route
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.stages.authenticate import Doubt, admit, authenticate, settle
from sentinel.core.stages.budget import budget
from sentinel.core.stages.forward import forward, forward_to
from sentinel.core.stages.guard import guard
from sentinel.core.stages.hold import hold
from sentinel.core.stages.limit import Delay, limit
from sentinel.core.stages.match import match
from sentinel.core.stages.model import model
from sentinel.core.stages.respond import respond
from sentinel.core.stages.throttle import throttle
from sentinel.core.stages.translate import translate
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject, Respond, Verdict
from sentinel.core.world import World


@final
class Rest:
    """A decision that has to wait: what is left of it, to be awaited or driven (core.drive)."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Verdict]) -> None:
        self.coroutine = coroutine


async def decide(table: RouteTable, request: Request, world: World, trace: Trace) -> Verdict:
    """Decide what shall happen to the request."""
    found = decide_now(table, request, world, trace)
    return await found.coroutine if type(found) is Rest else found


def decide_now(table: RouteTable, request: Request, world: World, trace: Trace) -> Verdict | Rest:
    """The same as far as it goes without waiting, which nearly always is to the end.

    The rest is to be begun at once: what the request holds already is given back by its end.
    """
    candidate = match(table, request, trace)
    if candidate is None:
        return table.no_route
    if not candidate.is_limited:
        return respond(candidate, request, trace) or forward(table, candidate, request, world, trace)
    if candidate.gate is not None:
        stopped = admit(candidate, candidate.gate, request, trace)
        if stopped is not None:
            return stopped
        unknown = authenticate(candidate, candidate.gate, request, world, trace)
        if type(unknown) is Doubt:
            return Rest(_identified(table, candidate, candidate.gate, unknown, request, world, trace))
        if unknown is not None:
            return unknown
    return _let_in(table, candidate, request, world, trace)


async def _identified(
    table: RouteTable, candidate: Candidate, gate: Gate, doubt: Doubt, request: Request, world: World, trace: Trace
) -> Verdict:
    refusal = await settle(candidate, gate, request, world, trace, doubt)
    if refusal is not None:
        return refusal
    found = _let_in(table, candidate, request, world, trace)
    return await found.coroutine if type(found) is Rest else found


def _let_in(
    table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace
) -> Verdict | Rest:
    """Decide about a request of which it is known who asks, as far as that matters."""
    if not candidate.ceilings:
        return _within_limits(table, candidate, request, world, trace)
    refusal, leases = hold(candidate, candidate.ceilings, request, world, trace)
    if refusal is not None:
        return refusal
    try:
        found = _within_limits(table, candidate, request, world, trace)
    except BaseException:
        world.let_go(leases)
        raise
    if type(found) is Rest:
        return Rest(_held_meanwhile(found.coroutine, leases, world))
    return _with_leases(found, leases, world)


def _within_limits(
    table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace
) -> Verdict | Rest:
    fields: tuple[Field, ...] = ()
    if candidate.limits is not None:
        refusal, fields, delay = limit(candidate, candidate.limits, request, world, trace)
        if refusal is not None:
            return refusal
        if delay is not None:
            return Rest(_in_turn(table, candidate, request, world, trace, fields, delay))
    if candidate.purse is not None:
        return Rest(_appraised(table, candidate, candidate.purse, request, world, trace, fields))
    return _admitted(table, candidate, request, world, trace, fields)


def _admitted(
    table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace, fields: tuple[Field, ...],
    appraisal: Appraisal | None = None, errand: Errand | None = None,
) -> Verdict:  # fmt: skip
    verdict: Verdict
    if errand is not None:
        verdict = forward_to(table, candidate, errand, request, world, trace, appraisal)
    else:
        verdict = respond(candidate, request, trace) or forward(table, candidate, request, world, trace, appraisal)
    if type(verdict) is Respond:  # the route's own, which all its requests share
        return Respond(verdict.route, verdict.fields + fields)
    verdict.fields = fields
    return verdict


async def _in_turn(
    table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace,
    fields: tuple[Field, ...], delay: Delay,
) -> Verdict:  # fmt: skip
    await world.wait(*delay)
    if candidate.purse is not None:
        return await _appraised(table, candidate, candidate.purse, request, world, trace, fields)
    return _admitted(table, candidate, request, world, trace, fields)


async def _appraised(
    table: RouteTable, candidate: Candidate, purse: Purse, request: Request, world: World, trace: Trace,
    fields: tuple[Field, ...],
) -> Verdict:  # fmt: skip
    appraisal = await world.appraise(candidate.route, request)
    if candidate.guards is not None:
        stopped = guard(candidate, candidate.guards, request, appraisal, world, trace)
        if stopped is not None:
            stopped.fields += fields
            return stopped
    target: Target | None = None
    if candidate.directory is not None:
        found = model(candidate, candidate.directory, request, appraisal, trace)
        if type(found) is Reject or type(found) is Respond:
            found.fields += fields
            return found
        target = found
    if target is None:
        return _within_budgets(table, candidate, purse, request, appraisal, world, trace, fields)
    errand = Errand(
        appraisal.model, target.sent(appraisal.model), target, target, appraisal=appraisal, fields=fields
    )  # fmt: skip
    return _down_the_list(table, candidate, request, errand, world, trace)


def fall_back(
    table: RouteTable, route: Route, request: Request, errand: Errand, what: str, world: World, trace: Trace
) -> Verdict | None:
    """The model that an errand went to has failed: decide what follows, None when nothing does.

    Whoever asks has seen that `what` (a status, or the word of a reason) is something to fall back on, and has given
    back what was put aside. A refusal says that none of those who are left could be asked.
    """
    if errand.following is None:
        return None
    trace.add(errand.step(what))
    candidate = table.by_model[route.name]
    return _down_the_list(table, candidate, request, errand.fallen_back(), world, trace)


def _down_the_list(
    table: RouteTable, candidate: Candidate, request: Request, errand: Errand, world: World, trace: Trace
) -> Verdict:
    """Decide for this model, and where it refuses, for those that its line falls back on."""
    while True:
        appraisal = errand.appraisal
        if errand.sent != appraisal.model:  # it is the provider's name that has a price, and is a part of keys
            money, account = world.price(errand.sent, appraisal.input_tokens, appraisal.output_tokens)
            appraisal = appraisal._replace(model=errand.sent, money=money, account=account)
        verdict = _within_budgets(
            table, candidate, errand.target.purse, request, appraisal, world, trace, errand.fields, errand
        )
        fallback = errand.first.fallback
        if type(verdict) is not Reject or fallback is None or not falls_on(fallback, verdict.reason):
            return verdict
        if errand.following is None:
            return verdict
        trace.add(errand.step(verdict.reason.word))
        errand = errand.fallen_back()


def _within_budgets(
    table: RouteTable, candidate: Candidate, purse: Purse, request: Request, appraisal: Appraisal, world: World,
    trace: Trace, fields: tuple[Field, ...], errand: Errand | None = None,
) -> Verdict:  # fmt: skip
    takings: tuple[Taking, ...] = ()
    if purse.throttles and appraisal.kind == "ask":
        refusal, told, takings = throttle(candidate, purse, request, appraisal, world, trace)
        fields += told
        if refusal is not None:
            refusal.fields += fields[: len(fields) - len(told)]
            return refusal
    refusal, told, spending = budget(candidate, purse, request, appraisal, world, trace)
    if takings:
        spending = (spending or Spending(0))._replace(takings=takings)
    if refusal is not None:
        if takings and spending is not None:
            world.refund(spending)
        refusal.fields += fields
        return refusal
    try:
        verdict = _admitted(table, candidate, request, world, trace, fields + told, appraisal, errand)
    except BaseException:
        if spending is not None:
            world.refund(spending)
        raise
    provider = verdict.provider if type(verdict) is Forward else None
    if type(verdict) is Forward and provider is not None and provider.translate is not None:
        try:
            translation = world.translate(candidate.route, provider, request)
        except BaseException:
            if spending is not None:
                world.refund(spending)
            raise
        verdict = translate(verdict, provider.translate, translation, trace)
    if type(verdict) is Forward:
        verdict.spending = spending
    elif spending is not None:
        world.refund(spending)
    return verdict


async def _held_meanwhile(rest: Coroutine[Any, Any, Verdict], leases: tuple[int, ...], world: World) -> Verdict:
    try:
        verdict = await rest
    except BaseException:  # above all: nobody waits for the answer any more
        world.let_go(leases)
        raise
    return _with_leases(verdict, leases, world)


def _with_leases(verdict: Verdict, leases: tuple[int, ...], world: World) -> Verdict:
    """What is held goes with the verdict, and back if it is no."""
    if type(verdict) is Reject:
        world.let_go(leases)
    else:
        verdict.leases = leases
    return verdict
