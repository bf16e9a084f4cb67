"""Explain a request that is not there yet: the verdict, and why everything better ranked was passed over.

The verdict comes from `decide` itself, the same function that serves live traffic.
Beside it, the candidates are walked one by one in the order of precedence, as the
definition has it and without any index; the first condition that fails says why
a candidate lost. Both must name the same winner: the index is checked by each
explanation, and by property tests on generated configurations.

An explanation is for people, so it may take milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.core.world import World
from sentinel.explain.assumed import Assumed
from sentinel.explain.losers import BY_MODEL, compare, loser_nodes, model_nodes, place_of
from sentinel.explain.tree import Node
from sentinel.explain.words import address, step_text


def explain(table: RouteTable, request: Request, world: World | None = None) -> Node:
    """Return the tree of a decision that is taken now; unless told otherwise, as the first of a fleet at rest."""
    trace = Trace()
    verdict = run(decide(table, request, Assumed(table.plan) if world is None else world, trace))
    return tell(table, request, verdict, trace.steps)


def tell(table: RouteTable, request: Request, verdict: Verdict, steps: Sequence[Step]) -> Node:
    """Return the tree of a decision that was taken, with the candidates that it passed over."""
    comparison = compare(table, request)
    # Why better ones lost, the comparison tells with the values that were seen.
    told: list[Node] = []
    for step in steps:
        reason, span, details = step
        if reason is Reason.CONDITION_FAILED:
            continue
        if verdict.route is not None and reason in BY_MODEL:
            told += model_nodes(table, verdict.route.name, reason, place_of(span), str(details[0]))
        told.append(_step(step))
    children = (*loser_nodes(comparison), *told, _verdict(verdict))
    query = f"?{request.query}" if request.query else ""
    headline = f"{request.method} {request.scheme}://{request.host}{request.path}{query}"
    return Node("request", headline, children=children)


def _step(step: Step) -> Node:
    reason, span, details = step
    return Node("step", step_text(reason, details), reason=reason.word, place=place_of(span))


def _verdict(verdict: Verdict) -> Node:
    if isinstance(verdict, Forward):
        where = address(verdict.endpoint.host, verdict.endpoint.port)
        others = len(verdict.upstream.endpoints) - 1
        note = f" (one of {others + 1} by {verdict.upstream.balance.kind})" if others else ""
        copies = "".join(f", and a copy to `{copy.upstream.name}`" for copy in verdict.shadows)
        text = f"forward to {where} of `{verdict.upstream.name}`{note}{copies}"
        return Node("verdict", text, reason=Reason.PROXIED.word)
    if isinstance(verdict, Reject):
        return Node("verdict", f"reject with {verdict.status}: {verdict.reason.value.text}", reason=verdict.reason.word)
    return Node("verdict", f"respond with {verdict.said.status}", reason=Reason.RESPONDED.word)
