"""The decision: one pure function for live traffic, dry runs, diffs, tests and the playground.

Intuition: a judge who has the law (the table), the case (the request), and may
ask questions (the world), but never leaves the room. Whoever answers the same
questions in the same way gets the same verdict and the same reasons. That is
why a dry run can be believed.

    match → hold → limit → (wait) → respond               the route answers by itself
              |      |            → forward → Forward     the world chose an endpoint
              |      |                      → Reject      it had none
              |      `→ Reject(429)    a rate limit is used up
              `→ Reject(429)           too many of this key are under way
    no match → Reject(404)

Each stage adds its conclusion to the trace, with the place in the
configuration that caused it. The function is a coroutine because a turn at a rate limit
may be waited for; where nobody can wait, `core.drive.run` runs it.
"""

from __future__ import annotations

from sentinel.core.candidates import Candidate
from sentinel.core.limits import Field
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.stages.forward import forward
from sentinel.core.stages.hold import hold
from sentinel.core.stages.limit import limit
from sentinel.core.stages.match import match
from sentinel.core.stages.respond import respond
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject, Respond, Verdict
from sentinel.core.world import World


async def decide(table: RouteTable, request: Request, world: World, trace: Trace) -> Verdict:
    """Decide what shall happen to the request."""
    candidate = match(table, request, trace)
    if candidate is None:
        return table.no_route
    if candidate.is_limited:
        return await _within_limits(table, candidate, request, world, trace)
    return respond(candidate, trace) or forward(table, candidate, request, world, trace)


async def _within_limits(
    table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace
) -> Verdict:
    refusal, leases = hold(candidate, candidate.ceilings, request, world, trace)
    if refusal is not None:
        return refusal
    try:
        verdict = await _in_turn(table, candidate, request, world, trace)
    except BaseException:  # above all: nobody waits for the answer any more
        world.let_go(leases)
        raise
    if type(verdict) is Reject:
        world.let_go(leases)
    else:
        verdict.leases = leases
    return verdict


async def _in_turn(table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace) -> Verdict:
    fields: tuple[Field, ...] = ()
    if candidate.limits is not None:
        refusal, fields, delay = limit(candidate, candidate.limits, request, world, trace)
        if refusal is not None:
            return refusal
        if delay is not None:
            await world.wait(*delay)
    verdict = respond(candidate, trace) or forward(table, candidate, request, world, trace)
    if type(verdict) is Respond:  # the route's own, which all its requests share
        return Respond(verdict.route, fields)
    verdict.fields = fields
    return verdict
