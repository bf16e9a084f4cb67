"""Policy tests, run: each request of a case is asked of an assumed fleet, and what comes of it is compared.

Intuition: an examiner with the list of answers. He asks in the order of the paper, does not stop at
the first mistake, and hands back for each the question, what was expected, and the whole reasoning that led to
what was said instead.

Who answers is handed in (`Ask`): the request must be read as live traffic reads it, and that is the workers'
affair. Time is the case's own (`every`, `after`), and so is everything that requests take from limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sentinel.core.cases import Case, CaseRequest, Expectation
from sentinel.core.plan import Plan
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.explain.assumed import Assumed
from sentinel.explain.tree import Node
from sentinel.explain.words import quoted

Fields = tuple[tuple[str, str], ...]


class Unasked(Exception):
    """A request that cannot be asked at all; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request, in the words of a test.

    status: None where the upstream says it. answer: the fields that the gateway writes into the answer. sent: the
    head that the upstream reads. request: None when it was refused before it was read. tree: makes the explanation.
    """

    verdict: str
    status: int | None
    reason: str
    route: str = ""
    upstream: str = ""
    endpoint: str = ""
    steps: tuple[Step, ...] = ()
    answer: Fields = ()
    sent: Fields = ()
    request: Request | None = None
    tree: Callable[[], Node] = lambda: Node("request", "")


@dataclass(frozen=True, slots=True)
class Query:
    """A request to be asked: method and URL, lines of headers, who connects and where ("": as the URL says)."""

    request: str
    headers: tuple[str, ...] = ()
    client_ip: str = "127.0.0.1"
    listener: str = ""
    body_bytes: int = -1


Ask = Callable[[Query, Assumed], Outcome]


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that does not hold. again: in how many later repetitions it does not hold either."""

    wanted: Expectation
    found: str
    again: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """A request of which something does not hold; `nth` counts from 1. fault: it could not even be asked."""

    request: CaseRequest
    nth: int
    failures: tuple[Failure, ...]
    tree: Node
    fault: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    case: Case
    failed: tuple[Failed, ...]
    requests: int

    @property
    def is_passed(self) -> bool:
        return not self.failed


def outcome_of(
    verdict: Verdict, steps: tuple[Step, ...], *, answer: Fields, sent: Fields, request: Request | None,
    tree: Callable[[], Node],
) -> Outcome:  # fmt: skip
    """A verdict in the words of a test."""
    route = verdict.route.name if verdict.route is not None else ""
    more: dict[str, Any] = {
        "route": route, "steps": steps, "answer": answer, "sent": sent, "request": request, "tree": tree,
    }  # fmt: skip
    if isinstance(verdict, Forward):
        more |= {"upstream": verdict.upstream.name, "endpoint": verdict.endpoint.name}
        return Outcome("forward", None, Reason.PROXIED.word, **more)
    if isinstance(verdict, Reject):
        return Outcome("reject", verdict.status, verdict.reason.word, **more)
    return Outcome("respond", verdict.said.status, Reason.RESPONDED.word, **more)


def run_case(case: Case, plan: Plan, ask: Ask, seen: Callable[[Outcome], None] | None = None) -> CaseResult:
    """Ask all requests of a case. `seen` is told of each outcome (explain.coverage)."""
    world = Assumed(plan)
    failed: list[Failed] = []
    count = 0
    for request in case.requests:
        if request.state is not None:
            world.assume(request.state)
        world.pass_ns(request.after_ns)
        try:
            failed += _repeated(case, request, world, ask, seen)
        except Unasked as fault:
            failed.append(Failed(request, 1, (), Node("request", request.request), str(fault)))
        count += request.times
    return CaseResult(case, tuple(failed), count)


def _repeated(
    case: Case, request: CaseRequest, world: Assumed, ask: Ask, seen: Callable[[Outcome], None] | None
) -> Iterable[Failed]:
    """Ask one request as often as it says; each expectation that fails is told where it fails first."""
    first: dict[int, tuple[Outcome, list[Expectation]]] = {}
    headers = tuple(f"{name}: {value}" for name, value in request.headers)
    query = Query(request.request, headers, request.client_ip, case.listener, request.body_bytes)
    told: dict[int, list[Any]] = {}  # by identity of the expectation: repetition, what was found, how often again
    for nth in range(1, request.times + 1):
        if nth > 1:
            world.pass_ns(request.every_ns)
        outcome = ask(query, world)
        if seen is not None:
            seen(outcome)
        for expect in request.expects:
            if not expect.first <= nth <= expect.last:
                continue
            for wanted in expect.wanted:
                found = mismatch(wanted, outcome)
                if found is None:
                    continue
                if id(wanted) in told:
                    told[id(wanted)][1] += 1
                else:
                    told[id(wanted)] = [found, 0]
                    first.setdefault(nth, (outcome, []))[1].append(wanted)
    return [
        Failed(
            request, nth, tuple(Failure(one, told[id(one)][0], told[id(one)][1]) for one in wanted), outcome.tree()
        )
        for nth, (outcome, wanted) in sorted(first.items())
    ]


def mismatch(wanted: Expectation, outcome: Outcome) -> str | None:
    """What was found instead; None when it holds."""
    match wanted.kind:
        case "status":
            return _status(wanted.values, outcome)
        case "step":
            words = [reason.word for reason, _, _ in outcome.steps]
            return None if wanted.values[0] in words else f"the steps are {', '.join(words) or 'none'}"
        case "header":
            return _field(wanted, outcome.answer)
        case "upstream-header":
            return _field(wanted, outcome.sent)
        case "no-header" | "no-upstream-header":
            fields = outcome.answer if wanted.kind == "no-header" else outcome.sent
            values = [value for name, value in fields if name == wanted.name]
            return f"it is {quoted(values[0])}" if values else None
        case "route" | "verdict" | "reason" | "upstream" | "endpoint":
            found = str(getattr(outcome, wanted.kind))
            if found in wanted.values:
                return None
            return quoted(found) if found else "none"
        case _:
            raise AssertionError(wanted.kind)


def _status(ranges: tuple[tuple[int, int], ...], outcome: Outcome) -> str | None:
    if outcome.status is None:
        return f"it is forwarded to upstream {quoted(outcome.upstream)}, which says the status"
    return None if any(low <= outcome.status <= high for low, high in ranges) else str(outcome.status)


def _field(wanted: Expectation, fields: Fields) -> str | None:
    values = [value for name, value in fields if name == wanted.name]
    if not values:
        return "there is none"
    if not wanted.values or wanted.values[0] in values:
        return None
    return " and ".join(quoted(value) for value in values)


def wanted_text(wanted: Expectation) -> str:
    """An expectation, as it is written in a file."""
    if wanted.kind == "status":
        parts = [str(low) if low == high else f'"{low}-{high}"' for low, high in wanted.values]
    else:
        parts = [quoted(str(value)) for value in wanted.values]
    return " ".join([wanted.kind, *([quoted(wanted.name)] if wanted.name else []), *parts])


def failed_text(failed: Failed) -> list[str]:
    """What does not hold of one request, a line each: what was wanted (-) and what was found (+)."""
    request = failed.request
    nth = f" (number {failed.nth} of {request.times})" if request.times > 1 else ""
    lines = [f"{request.span}: {request.request}{nth}"]
    if failed.fault:
        return [*lines, f"    it cannot be asked: {failed.fault}"]
    for failure in failed.failures:
        again = f", and {failure.again} times more" if failure.again else ""
        lines += [f"    {failure.wanted.span}: not as expected{again}"]
        lines += [f"      - {wanted_text(failure.wanted)}", f"      + {failure.found}"]
    return lines
