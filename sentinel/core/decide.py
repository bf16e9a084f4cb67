"""The decision: one pure function for live traffic, dry runs, diffs, tests and the playground.

Intuition: a judge who has the law (the table), the case (the request), and may
ask questions (the world), but never leaves the room. Whoever answers the same
questions in the same way gets the same verdict and the same reasons. That is
why a dry run can be believed.

    match → limit → Reject(429)           a rate limit is used up
                  → respond               the route answers by itself
                  → forward → Forward | Reject    the world chose an endpoint, or had none
    no match → Reject(404)

Each stage adds its conclusion to the trace, with the place in the
configuration that caused it. The function is a coroutine because questions that
wait will be asked here; where none is asked, `core.drive.run` runs it.
"""

from __future__ import annotations

from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.stages.forward import forward
from sentinel.core.stages.limit import limit
from sentinel.core.stages.match import match
from sentinel.core.stages.respond import respond
from sentinel.core.trace import Trace
from sentinel.core.verdict import Respond, Verdict
from sentinel.core.world import World


async def decide(table: RouteTable, request: Request, world: World, trace: Trace) -> Verdict:
    """Decide what shall happen to the request."""
    candidate = match(table, request, trace)
    if candidate is None:
        return table.no_route
    tariff = candidate.limits
    if tariff is None:
        return respond(candidate, trace) or forward(table, candidate, request, world, trace)
    refusal, fields = limit(candidate, tariff, request, world, trace)
    if refusal is not None:
        return refusal
    verdict = respond(candidate, trace) or forward(table, candidate, request, world, trace)
    if not fields:
        return verdict
    if type(verdict) is Respond:  # the route's own, which all its requests share
        return Respond(verdict.route, fields)
    verdict.fields = fields
    return verdict
