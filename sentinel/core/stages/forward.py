"""Forward stage: ask the world for an endpoint of the route's upstream, or of the one that a split or a model chooses.

Intuition: the core knows who may serve and what of the request matters for the choice
(a key to be hashed, a cookie that names an endpoint), the world knows who is well and
who is free. A world that has no endpoint to offer is not an error but an answer: 503,
with the reason and the upstream's place in the configuration. What is forwarded may be copied besides (core.shadows).
"""

from __future__ import annotations

from sentinel.core.appraisal import Appraisal
from sentinel.core.candidates import Candidate
from sentinel.core.models import Errand
from sentinel.core.plan import Provider, Upstream
from sentinel.core.providers import speaks
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.shadows import cast
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject
from sentinel.core.wishes import Wisher
from sentinel.core.world import NO_WISH, World


def forward(
    table: RouteTable, candidate: Candidate, request: Request, world: World, trace: Trace,
    appraisal: Appraisal | None = None,
) -> Forward | Reject:  # fmt: skip
    """Return where the request goes, or the refusal when no endpoint may be tried."""
    upstream, wisher = candidate.upstream, candidate.wisher
    if upstream is None:
        assert candidate.split is not None, "a route that answers nothing itself forwards: the plan was checked"
        branch = candidate.split.choose(request, world)
        upstream, wisher = branch.upstream, branch.wisher
        trace.add(branch.step)
    return _to(table, candidate, upstream, wisher, request, world, trace, appraisal, upstream.provider)


def forward_to(
    table: RouteTable, candidate: Candidate, errand: Errand, request: Request, world: World, trace: Trace,
    appraisal: Appraisal | None,
) -> Forward | Reject:  # fmt: skip
    """The same for the upstream that the model's line names."""
    target = errand.target
    verdict = _to(table, candidate, target.upstream, target.wisher, request, world, trace, appraisal, target.provider)
    if type(verdict) is Forward:
        verdict.errand = errand
    return verdict


def _to(
    table: RouteTable, candidate: Candidate, upstream: Upstream, wisher: Wisher | None, request: Request, world: World,
    trace: Trace, appraisal: Appraisal | None, provider: Provider | None,
) -> Forward | Reject:  # fmt: skip
    is_said_anew = provider is not None and provider.translate is not None  # or refused, once it is known that it goes
    if provider is not None and appraisal is not None and not is_said_anew and not speaks(provider, appraisal.dialect):
        trace.add((Reason.DIALECT_MISMATCH, provider.span, (appraisal.dialect, upstream.name, provider.dialect)))
        return Reject(Reason.DIALECT_MISMATCH.status, Reason.DIALECT_MISMATCH, candidate.route)
    wish = NO_WISH if wisher is None else wisher.wish(request, appraisal)
    endpoint, refusal, notes = world.choose_endpoint(upstream, (), wish)
    for note in notes:
        trace.add(note)
    if endpoint is None:
        assert refusal is not None, "a world says why"
        trace.add((refusal, upstream.span, (upstream.name,)))
        return Reject(refusal.status, refusal, candidate.route)
    trace.add(table.endpoint_step(upstream, endpoint))
    if upstream.tls is not None:
        trace.add(table.tls_step(upstream.tls, endpoint))
    verdict = Forward(candidate.route, upstream, endpoint, wish)
    if candidate.shades:
        verdict.shadows = cast(candidate.shades, request, world, trace)
    return verdict
