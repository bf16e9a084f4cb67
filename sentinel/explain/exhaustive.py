"""Explain a request that is not there yet: the verdict, and why everything better ranked was passed over.

The verdict comes from `decide` itself, the same function that serves live traffic.
Beside it, the candidates are walked one by one in the order of precedence, as the
definition has it and without any index; the first condition that fails says why
a candidate lost. Both must name the same winner: the index is checked by each
explanation, and by property tests on generated configurations.

An explanation is for people, so it may take milliseconds. Candidates that lost for
the same dull reason (another host, another path) are folded into groups; those that
were close, with host and path right, are told one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sentinel.core.balance.chooser import Chooser
from sentinel.core.balance.loads import least_request
from sentinel.core.candidates import Candidate, PathKind
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.limits import ADMITTED, TERM
from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.span import NOWHERE, Span
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.core.world import Choice, Wish, World
from sentinel.explain.tree import Node
from sentinel.explain.words import address, failure_text, path_failure, quoted, step_text

LISTED_MAX = 50
"""Losers told one by one; of the rest only the number is told."""
GROUPED_FROM = 4  # fewer losers of a kind are told one by one

Obstacle = Literal["host", "path", "condition"]


@dataclass(frozen=True, slots=True)
class Loser:
    """A candidate that was better ranked than the winner, and the first thing that does not hold."""

    candidate: Candidate
    obstacle: Obstacle
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of the walk; `losers` in the order of rank."""

    winner: Candidate | None
    losers: tuple[Loser, ...]


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


def compare(table: RouteTable, request: Request) -> Comparison:
    """Walk the candidates of the request's listener in the order of precedence."""
    losers: list[Loser] = []
    for candidate in table.candidates_on(request.listener):
        loser = obstacle(candidate, request)
        if loser is None:
            return Comparison(candidate, tuple(losers))
        losers.append(loser)
    return Comparison(None, tuple(losers))


def explain(table: RouteTable, request: Request, world: World | None = None) -> Node:
    """Return the tree of a decision that is taken now, against a world that charges nothing."""
    trace = Trace()
    verdict = run(decide(table, request, Preview() if world is None else world, trace))
    return tell(table, request, verdict, trace.steps)


def tell(table: RouteTable, request: Request, verdict: Verdict, steps: Sequence[Step]) -> Node:
    """Return the tree of a decision that was taken, with the candidates that it passed over."""
    comparison = compare(table, request)
    children = (*_losers(comparison), *[_step(step) for step in steps], _verdict(verdict))
    query = f"?{request.query}" if request.query else ""
    headline = f"{request.method} {request.scheme}://{request.host}{request.path}{query}"
    return Node("request", headline, children=children)


def obstacle(candidate: Candidate, request: Request) -> Loser | None:
    """The first thing of a candidate that does not hold for a request; None when all does."""
    match = candidate.match
    if not candidate.host_holds(request):
        text = f"the host is {quoted(request.host)}, not {quoted(candidate.host)}"
        return Loser(candidate, "host", text, _first(match.host_span, match.span, candidate.route.span))
    if not candidate.path_holds(request):
        kind = {PathKind.PREFIX: "path-prefix", PathKind.REGEX: "path-regex"}.get(candidate.path_kind, "path")
        text = path_failure(kind, request.path, (candidate.path,))
        return Loser(candidate, "path", text, _first(match.path_span, match.span, candidate.route.span))
    for condition, test in zip(candidate.conditions, candidate.tests, strict=True):
        if not test(request):
            text = failure_text(condition, request)
            return Loser(candidate, "condition", text, _first(condition.span, match.span, candidate.route.span))
    return None


def _losers(comparison: Comparison) -> Iterator[Node]:
    """Tell the close ones singly, fold the others by what kept them out."""
    budget = LISTED_MAX
    for obstacle in ("host", "path", "condition"):
        losers = [loser for loser in comparison.losers if loser.obstacle == obstacle]
        is_folded = obstacle != "condition" and len(losers) >= GROUPED_FROM
        if is_folded:
            yield Node("group", f"{_counted(losers)} passed over: another {obstacle}")
            continue
        for loser in losers[:budget]:
            yield _loser(loser)
        if len(losers) > budget:
            yield Node("group", f"{_counted(losers[budget:])} more passed over")
        budget = max(0, budget - len(losers))


def _loser(loser: Loser) -> Node:
    name = loser.candidate.route.name
    word = Reason.CONDITION_FAILED.word
    return Node("loser", f"passed over: route `{name}`: {loser.text}", reason=word, place=_place(loser.span))


def _step(step: Step) -> Node:
    reason, span, details = step
    return Node("step", step_text(reason, details), reason=reason.word, place=_place(span))


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


def _counted(losers: list[Loser]) -> str:
    count = len({id(loser.candidate.route) for loser in losers})
    return "1 route" if count == 1 else f"{count} routes"


def _first(*spans: Span) -> Span:
    """Return the most precise span that is known."""
    return next((span for span in spans if span.line), NOWHERE)


def _place(span: Span) -> str:
    return str(span) if span.line else ""
