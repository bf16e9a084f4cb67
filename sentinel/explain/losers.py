"""Why better ranked candidates lost: for a request that is there, and for one of which a record is left.

Intuition: the minutes of an election. Most who did not win never stood: they are of another town (the
host) or another street (the path), and that can be seen from the address at any time. Those who
stood and lost did so for a condition, and of these the minutes tell, since the voters have gone home.

    a request     walk the candidates in the order of rank; the first obstacle says why each lost
    a record      the same walk, with host and path of the record; conditions as they were recorded

Both walks are one; only who says that a condition does not hold differs. So what is told afterwards is what
would have been told beforehand, and a test holds them against each other.

Lines of `models` that were passed over need no minutes at all: they are those before the line that the step names.

Candidates that lost for the same dull reason (another host, another path) are folded into groups; those that
were close, with host and path right, are told one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sentinel.core.candidates import Candidate, PathKind
from sentinel.core.reasons import Reason
from sentinel.core.record import TEXT_CAPS, TEXTS, Record, RecordStep
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.span import Span, first_known
from sentinel.explain.tree import Node
from sentinel.explain.words import failure_text, path_failure, quoted, unmet_text

LISTED_MAX: Final = 50
"""Losers told one by one; of the rest only the number is told."""
GROUPED_FROM: Final = 4  # fewer losers of a kind are told one by one

MODELS_MAX: Final = 8
"""Lines of `models` told one by one, and patterns of a line."""
BY_MODEL: Final = frozenset({Reason.MODEL_ROUTED, Reason.MODEL_UNKNOWN, Reason.MODEL_DEFAULTED})

Obstacle = Literal["host", "path", "condition"]
CONDITION_FAILED: Final = Reason.CONDITION_FAILED.number
ROUTE_MATCHED: Final = Reason.ROUTE_MATCHED.number
NO_ROUTE: Final = Reason.NO_ROUTE.number
REDACTED: Final = "~"
CAPS: Final = dict(zip(TEXTS, TEXT_CAPS, strict=True))
CHARACTER_BYTES_MAX: Final = 4


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


class Incomparable(Exception):
    """The losers of a record cannot be told; the text says why."""


Stood = Callable[[Candidate], Loser | None]
"""Of a candidate whose host and path hold: why it lost, or None for the winner."""


def compare(table: RouteTable, request: Request) -> Comparison:
    """Walk the candidates of the request's listener in the order of precedence."""

    return _walk(table, request, lambda candidate: _unmet(candidate, request))


def obstacle(candidate: Candidate, request: Request) -> Loser | None:
    """The first thing of a candidate that does not hold for a request; None when all does."""
    return _lost_by_address(candidate, request) or _unmet(candidate, request)


def compare_recorded(table: RouteTable, record: Record) -> Comparison:
    """The same walk for a request of the past; `table` is that of the record's generation."""
    ends = [step for step in record.steps if step.reason_number in (ROUTE_MATCHED, NO_ROUTE)]
    if not ends:
        raise Incomparable("it ended before a route was looked for")
    request = _request_of(record)
    failed = iter([step for step in record.steps if step.reason_number == CONDITION_FAILED and len(step.details) == 3])

    def stood(candidate: Candidate) -> Loser | None:
        if candidate.route.name == record.route and place_of(candidate.match.span) == ends[0].place:
            return None
        return _lost_as_recorded(candidate, next(failed, None), record.method)

    comparison = _walk(table, request, stood)
    if (comparison.winner is None) != (ends[0].reason_number == NO_ROUTE):
        raise Incomparable("the plan has no such route")
    return comparison


def loser_nodes(comparison: Comparison) -> Iterator[Node]:
    """Tell the close ones singly, fold the others by what kept them out."""
    budget = LISTED_MAX
    for obstacle in ("host", "path", "condition"):
        losers = [loser for loser in comparison.losers if loser.obstacle == obstacle]
        is_folded = obstacle != "condition" and len(losers) >= GROUPED_FROM
        if is_folded:
            yield Node("group", f"{_counted(losers)} passed over: another {obstacle}")
            continue
        for loser in losers[:budget]:
            yield _node(loser)
        if len(losers) > budget:
            yield Node("group", f"{_counted(losers[budget:])} more passed over")
        budget = max(0, budget - len(losers))


def model_nodes(table: RouteTable, route: str, reason: Reason | None, place: str, asked: str) -> Iterator[Node]:
    """Lines of the route's `models` before the one that the step names, or all of them where none takes the model."""
    directory = table.directories.get(route)
    if directory is None or reason not in BY_MODEL:
        return
    lines = [target.line for target in directory.targets]
    if reason is Reason.MODEL_ROUTED:
        at = next((index for index, line in enumerate(lines) if place_of(line.span) == place), 0)
        lines = lines[:at]
    for line in lines[:MODELS_MAX]:
        wanted = " or ".join(map(quoted, line.patterns[:MODELS_MAX]))
        wanted += " or others" if len(line.patterns) > MODELS_MAX else ""
        text = f"passed over: models for `{line.upstream}`: the model is {quoted(asked)}, not {wanted}"
        yield Node("loser", text, reason=Reason.CONDITION_FAILED.word, place=place_of(line.span))
    if len(lines) > MODELS_MAX:
        yield Node("group", f"{len(lines) - MODELS_MAX} more lines of models passed over")


def place_of(span: Span) -> str:
    return str(span) if span.line else ""


def _walk(table: RouteTable, request: Request, stood: Stood) -> Comparison:
    losers: list[Loser] = []
    for candidate in table.candidates_on(request.listener):
        loser = _lost_by_address(candidate, request) or stood(candidate)
        if loser is None:
            return Comparison(candidate, tuple(losers))
        losers.append(loser)
    return Comparison(None, tuple(losers))


def _lost_by_address(candidate: Candidate, request: Request) -> Loser | None:
    match = candidate.match
    if not candidate.host_holds(request):
        text = f"the host is {quoted(request.host)}, not {quoted(candidate.host)}"
        return Loser(candidate, "host", text, first_known(match.host_span, match.span, candidate.route.span))
    if not candidate.path_holds(request):
        kind = {PathKind.PREFIX: "path-prefix", PathKind.REGEX: "path-regex"}.get(candidate.path_kind, "path")
        text = path_failure(kind, request.path, (candidate.path,))
        return Loser(candidate, "path", text, first_known(match.path_span, match.span, candidate.route.span))
    return None


def _unmet(candidate: Candidate, request: Request) -> Loser | None:
    for condition, test in zip(candidate.conditions, candidate.tests, strict=True):
        if not test(request):
            return _lost_by_condition(candidate, condition.span, failure_text(condition, request))
    return None


def _lost_by_condition(candidate: Candidate, span: Span, text: str) -> Loser:
    return Loser(candidate, "condition", text, first_known(span, candidate.match.span, candidate.route.span))


def _lost_as_recorded(candidate: Candidate, step: RecordStep | None, method: str) -> Loser:
    """Steps are in the order of rank, as candidates are: the next one is this one's, unless the record was cut."""
    if step is None:
        return _lost_by_condition(candidate, candidate.match.span, "one of its conditions did not hold")
    name, at, _ = step.details
    if name != candidate.route.name or not at.isdecimal() or int(at) >= len(candidate.conditions):
        raise Incomparable("the record and the plan do not agree")
    condition = candidate.conditions[int(at)]
    return _lost_by_condition(candidate, condition.span, unmet_text(condition, method))


def _request_of(record: Record) -> Request:
    """What a record knows of its request, if that is enough to compare hosts and paths."""
    for what, text in (("host", record.host), ("path", record.path)):
        if text.startswith(REDACTED):
            raise Incomparable(f"the {what} is redacted")
        if record.is_cut and len(text.encode("utf-8", "replace")) > CAPS[what] - CHARACTER_BYTES_MAX:
            raise Incomparable(f"the {what} may have been cut")
    return Request(
        method=record.method, scheme="http", host=record.host, path=record.path, query="", target=record.path,
        headers=(), client_ip=record.client_ip, listener=record.listener,
    )  # fmt: skip


def _node(loser: Loser) -> Node:
    text = f"passed over: route `{loser.candidate.route.name}`: {loser.text}"
    return Node("loser", text, reason=Reason.CONDITION_FAILED.word, place=place_of(loser.span))


def _counted(losers: list[Loser]) -> str:
    count = len({id(loser.candidate.route) for loser in losers})
    return "1 route" if count == 1 else f"{count} routes"
