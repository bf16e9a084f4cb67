"""Coverage of a configuration by its policy tests: which clauses no example has touched.

Intuition: a map of a town on which every street is inked that somebody walked, in each direction that it has.

    route       taken                     some request was its
    condition   holds, fails              it decided both ways, where everything before it held
    filter      admits, limits            it let a request pass, and it was used up for one
    upstream    used                      something was forwarded there
    model       taken                     some request was for this line of `models`

A condition counts only where it was decisive: requests are walked through the candidates in the order of
precedence, as in explain.exhaustive, and within one host, path and conditions in their order, up to the
first that fails. What can never fail (`path-prefix "/"`) is not asked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sentinel.core.candidates import Candidate
from sentinel.core.conditions import compile_condition, host_matches
from sentinel.core.plan import Condition, Match
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.span import Span
from sentinel.explain.cases import Outcome
from sentinel.explain.words import condition_text

ADMITS: Final = frozenset({
    Reason.WITHIN_LIMIT, Reason.WITHIN_CONCURRENCY, Reason.WITHIN_BUDGET, Reason.WITHIN_TOKEN_LIMIT,
    Reason.GUARDRAIL_PASSED, Reason.GUARDRAIL_SKIPPED, Reason.GUARDRAIL_WATCHES,
})  # fmt: skip
LIMITS: Final = frozenset({
    Reason.RATE_LIMITED, Reason.WOULD_BE_LIMITED, Reason.DELAYED, Reason.CONCURRENCY_LIMITED,
    Reason.CONCURRENCY_EXCEEDED, Reason.BUDGET_EXHAUSTED, Reason.BUDGET_EXCEEDED, Reason.LARGER_THAN_BUDGET,
    Reason.TOKEN_LIMITED, Reason.TOKEN_LIMIT_EXCEEDED, Reason.LARGER_THAN_TOKEN_LIMIT,
    Reason.GUARDRAIL_REDACTED, Reason.GUARDRAIL_BLOCKED, Reason.GUARDRAIL_OBSERVED, Reason.GUARDRAIL_UNREADABLE,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that a test can touch."""

    kind: str
    text: str
    side: str
    span: Span

    def __str__(self) -> str:
        return f"{self.kind} {self.text} is never {WORDS[self.side]}"


WORDS: Final = {
    "taken": "taken", "used": "used", "holds": "seen to hold", "fails": "seen to fail",
    "admits": "seen to admit", "limits": "reached",
}  # fmt: skip


class Coverage:
    """Collects what tests touch; made with the table that they are asked of."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._points = list(dict.fromkeys(_points(table)))
        self._touched: set[tuple[str, str, str, Span]] = set()

    def see(self, outcome: Outcome) -> None:
        """Note what this request touched."""
        if outcome.request is not None:
            self._walk(outcome.request, outcome.route)
        if outcome.route:
            self._touch("route", _named(outcome.route), "taken")
        if outcome.upstream:
            self._touch("upstream", _named(outcome.upstream), "used")
        for reason, span, details in outcome.steps:
            if reason is Reason.MODEL_ROUTED:
                self._touched.add(("model", "", "taken", span))
            if reason is Reason.SHADOWED:
                self._touch("upstream", _named(str(details[0])), "used")
            if reason in ADMITS or reason in LIMITS:
                self._touch("filter", _named(str(details[0])), "admits" if reason in ADMITS else "limits")

    def untouched(self) -> list[Point]:
        """What no request has touched, in the order of the files."""
        missing = [one for one in self._points if not self._has(one)]
        return sorted(missing, key=lambda point: (point.span, point.side))

    def counts(self) -> tuple[int, int]:
        """How many points were touched, and of how many."""
        return sum(self._has(one) for one in self._points), len(self._points)

    def _has(self, point: Point) -> bool:
        if point.kind == "model":
            return ("model", "", "taken", point.span) in self._touched
        place = point.span if point.kind == "condition" else Span("", 0, 0)
        return (point.kind, point.text, point.side, place) in self._touched

    def _touch(self, kind: str, text: str, side: str, span: Span | None = None) -> None:
        self._touched.add((kind, text, side, span or Span("", 0, 0)))

    def _walk(self, request: Request, winner: str) -> None:
        seen: set[int] = set()
        for candidate in self._table.candidates_on(request.listener):
            if id(candidate.match) not in seen:
                seen.add(id(candidate.match))
                self._match(candidate, request)
            holds = candidate.host_holds(request) and candidate.path_holds(request)
            if candidate.route.name == winner and holds and candidate.conditions_hold(request, []):
                return

    def _match(self, candidate: Candidate, request: Request) -> None:
        match = candidate.match
        if match.hosts:
            holds = any(host_matches(request.host, host) for host in match.hosts)
            self._sided(_host_condition(match), holds)
            if not holds:
                return
        path = _path_condition(match)
        if path is not None:
            holds = any(compile_condition(part)(request) for part in path.parts)
            self._sided(path, holds)
            if not holds:
                return
        for condition in match.conditions:
            if not self._condition(condition, request):
                return

    def _condition(self, condition: Condition, request: Request) -> bool:
        holds = compile_condition(condition)(request)
        self._sided(condition, holds)
        for part in condition.parts:
            self._condition(part, request)
        return holds

    def _sided(self, condition: Condition, holds: bool) -> None:
        self._touch("condition", _text(condition), "holds" if holds else "fails", condition.span)


def _points(table: RouteTable) -> Iterator[Point]:
    plan = table.plan
    for route in plan.routes:
        yield Point("route", _named(route.name), "taken", route.span)
        for line in route.models.lines if route.models is not None else ():
            yield Point("model", " ".join(map(_named, line.patterns)), "taken", line.span)
        for match in route.matches:
            for condition in _conditions(match):
                yield Point("condition", _text(condition), "holds", condition.span)
                if not _is_universal(condition):
                    yield Point("condition", _text(condition), "fails", condition.span)
    limits = [(one.name, one.span) for one in plan.rate_limits]
    limits += [(one.name, one.span) for one in plan.concurrency_limits]
    limits += [(one.name, one.span) for one in plan.token_budgets]
    limits += [(one.name, one.span) for one in plan.token_limits]
    limits += [(one.name, one.span) for one in plan.guardrails if "request" in one.on]
    for name, span in limits:
        yield Point("filter", _named(name), "admits", span)
        yield Point("filter", _named(name), "limits", span)
    for upstream in plan.upstreams:
        yield Point("upstream", _named(upstream.name), "used", upstream.span)


def _conditions(match: Match) -> Iterator[Condition]:
    """All conditions of a match, host and path among them, and what is inside of groups."""
    if match.hosts:
        yield _host_condition(match)
    path = _path_condition(match)
    if path is not None:
        yield path
    waiting = list(match.conditions)
    while waiting:
        condition = waiting.pop(0)
        yield condition
        waiting = [*condition.parts, *waiting]


def _host_condition(match: Match) -> Condition:
    return Condition("host", values=match.hosts, span=match.host_span)


def _path_condition(match: Match) -> Condition | None:
    """The paths of a match as one condition: any of them will do."""
    span = match.path_span
    parts = [
        Condition("path", values=match.paths, span=span),
        Condition("path-prefix", values=match.path_prefixes, span=span),
        Condition("path-regex", values=match.path_regexes, span=span),
    ]
    parts = [part for part in parts if part.values]
    return Condition("any", parts=tuple(parts), span=match.path_span) if parts else None


def _is_universal(condition: Condition) -> bool:
    """Whether it holds for every request there is."""
    parts = condition.parts if condition.kind == "any" else (condition,)
    return any(part.kind == "path-prefix" and "/" in part.values for part in parts)


def _text(condition: Condition) -> str:
    """A condition as it is written; paths alone need no group."""
    single = condition.kind == "any" and len(condition.parts) == 1
    return f"`{condition_text(condition.parts[0] if single else condition)}`"


def _named(name: str) -> str:
    return f"`{name}`"
