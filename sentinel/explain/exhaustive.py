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

from sentinel.core.balance.chooser import Chooser
from sentinel.core.balance.loads import least_request
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.limits import ADMITTED, TERM
from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.core.world import Choice, Wish, World
from sentinel.explain.losers import compare, loser_nodes, place_of
from sentinel.explain.tree import Node
from sentinel.explain.words import address, step_text


class Preview:
    """A world that charges nothing: each upstream as if this were its first request."""

    def chance(self) -> int:
        return 0  # one of those that may be: an explanation is to be the same each time

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        return ADMITTED, -1, *[increment_ns for increment_ns, _, _ in TERM.iter_unpack(terms)]

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        return ADMITTED, 1, 0

    def let_go(self, leases: tuple[int, ...]) -> None:
        """Nothing was held."""

    def waiting(self, name: str) -> int:
        return 0

    async def wait(self, name: str, wait_ns: int) -> None:
        """It is as if the time had passed."""

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        return Chooser(upstream).choose(Still(upstream), tried, wish)


class Still:
    """Endpoints as if nobody had asked them yet: all are usable, and nothing is in flight (chooser.Scene)."""

    def __init__(self, upstream: Upstream) -> None:
        count = len(upstream.endpoints)
        self.weights: Sequence[int] = [endpoint.weight for endpoint in upstream.endpoints]
        self.purse = [0] * count
        self._nothing = bytes(count)

    def standing(self) -> bytes:
        return self._nothing

    def flights(self) -> Sequence[int]:
        return self._nothing

    def latencies(self) -> Sequence[int]:
        return self._nothing

    def least(self, allowed: bytes) -> int:
        return least_request(self._nothing, self.weights, [at for at, octet in enumerate(allowed) if octet], 0)

    def least_of_all(self) -> int:
        return self.least(b"\1" * len(self.weights))

    def turn(self) -> int:
        return 0

    def chance(self) -> int:
        return 0

    def now_s(self) -> int:
        return 0


def explain(table: RouteTable, request: Request, world: World | None = None) -> Node:
    """Return the tree of a decision that is taken now, against a world that charges nothing."""
    trace = Trace()
    verdict = run(decide(table, request, Preview() if world is None else world, trace))
    return tell(table, request, verdict, trace.steps)


def tell(table: RouteTable, request: Request, verdict: Verdict, steps: Sequence[Step]) -> Node:
    """Return the tree of a decision that was taken, with the candidates that it passed over."""
    comparison = compare(table, request)
    # Why better ones lost, the comparison tells with the values that were seen.
    told = [_step(step) for step in steps if step[0] is not Reason.CONDITION_FAILED]
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
    assert verdict.route.respond is not None
    return Node("verdict", f"respond with {verdict.route.respond.status}", reason=Reason.RESPONDED.word)
