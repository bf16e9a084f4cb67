"""Forward stage: ask the world for an endpoint of the route's upstream.

Intuition: the core knows who may serve, the world knows who is free. A world
that has no endpoint to offer is not an error but an answer: 503, with the
upstream's place in the configuration.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.candidates import Candidate
from sentinel.core.reasons import Reason
from sentinel.core.routes import RouteTable
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject
from sentinel.core.world import World

NO_ENDPOINT: Final = Reason.NO_ENDPOINT


def forward(table: RouteTable, candidate: Candidate, world: World, trace: Trace) -> Forward | Reject:
    """Return where the request goes, or the refusal when no endpoint may be tried."""
    upstream = candidate.upstream
    assert upstream is not None, "a route without `respond` has an upstream: the plan was checked"
    endpoint = world.choose_endpoint(upstream, ())
    if endpoint is None:
        trace.add((NO_ENDPOINT, upstream.span, (upstream.name,)))
        return candidate.unreachable
    trace.add(table.endpoint_step(upstream, endpoint))
    return Forward(candidate.route, upstream, endpoint)
