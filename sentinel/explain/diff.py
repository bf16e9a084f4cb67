"""Two configurations, the same requests: which are treated differently, at which step, and why.

Intuition: two translations read side by side. Nobody wants every line that differs; one wants to know at
which word the two part for the first time, in how many places it is the same parting, and what the
translator would say about it.

    case ── decide with the one table  ─┬─▶ the first step that differs ─▶ group, counted, with examples
         └─ decide with the other      ─┘

Rules:
1. Both sides are asked by `decide`, the function of the live traffic, each as the first request of a
   fleet at rest (assumed). What the trace does not say (timeouts, retries, the set of
   endpoints) is compared as facts of the plan (treatment). Places in files are compared nowhere.
2. A group has the first step that differs. What differs after that follows from it, or shows in another group.
3. Where only names differ, the client would notice nothing: such requests are counted apart.
4. The same input gives the same report, in the same order. Groups, examples and texts are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sentinel.core.candidates import Candidate
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.identity import ANYONE, Finding
from sentinel.core.plan import Condition, Route
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.state import ANY_MODEL, State
from sentinel.core.trace import Step as TraceStep
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.explain.assumed import Assumed, Pieces
from sentinel.explain.because import why_rerouted
from sentinel.explain.changes import Secrets, change_lines
from sentinel.explain.treatment import Kind, Side, Step, differences, treatment
from sentinel.explain.words import quoted

EXAMPLES_MAX: Final = 3
GROUPS_MAX: Final = 500
"""More ways to differ than anybody reads; the requests of all others are counted together."""
CHANGES_MAX: Final = 12
REMEMBERED_MAX: Final = 100_000
HASHED: Final = frozenset({"ip-hash", "maglev", "ring"})

FILTER: Final = 1
ORDER: Final = {"ip-access": -2, "api-key": -1, "jwt": -1, "mtls": -1, "basic": -1, "concurrency-limit": 0,
                "rate-limit": FILTER, "token-limit": FILTER, "token-budget": FILTER, "guardrail": FILTER, "answer": 2,
                "split": 2, "model": 2, "upstream": 2, "shadow": 3, "delivery": 4, "listener": 5}  # fmt: skip
"""Steps in the order of a treatment: where two differ, the earlier one is there on one side only."""

Class = Literal["differs", "renamed"]


@dataclass(frozen=True, slots=True)
class Early:
    """What happens to a request that no decision is taken about: it is refused when it is read."""

    text: str


@dataclass(frozen=True, slots=True)
class Case:
    """One request, as each side reads it. `text` is for people. body_bytes: None where it is not known.

    route: the one that took it when it was recorded, "" for none; None where that is not known. model: which one a
    request to a language model names, "" where that is not known. found_out: what is known of who asked, by the
    authenticator that found it out; at any other, and where nothing is known, it is somebody who may.
    """

    text: str
    before: Request | Early
    after: Request | Early
    kind: Kind = Kind.WHOLE
    body_bytes: int | None = None
    route: str | None = None
    model: str = ""
    found_out: Mapping[str, Finding] = field(default_factory=dict)


@dataclass(slots=True)
class Group:
    """Requests that differ at the same step in the same way."""

    kind: Class
    step: str
    text: str
    because: str = ""
    changes: tuple[str, ...] = ()
    before: str = ""  # what became of the first example
    after: str = ""
    places: tuple[str, str] = ("", "")
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "class": self.kind, "step": self.step, "text": self.text, "because": self.because,
            "changes": list(self.changes), "before": self.before, "after": self.after,
            "place_before": self.places[0], "place_after": self.places[1],
            "count": self.count, "examples": self.examples,
        }  # fmt: skip


@dataclass(slots=True)
class Report:
    """What came of a comparison.

    recorded: requests that are known without query and headers. unsure: those of them that another route took when
    they were recorded, which query or headers, or another configuration, led there; they are not compared.
    blind_routes: routes of the old configuration with conditions on query or headers.
    """

    total: int = 0
    differing: int = 0
    renamed: int = 0
    recorded: int = 0
    unsure: int = 0
    routes: int = 0
    blind_routes: int = 0
    ungrouped: int = 0  # they differ, and there were groups enough
    is_cut: bool = False  # time was up before all were compared
    groups: list[Group] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        return not self.differing and not self.renamed

    @property
    def changed_share(self) -> int:
        """Thousandths of the requests that are treated differently, rounded up."""
        return -(-1000 * self.differing // self.compared) if self.compared else 0

    @property
    def compared(self) -> int:
        return self.total - self.unsure

    def to_dict(self) -> dict[str, Any]:
        return {
            "total": self.total, "differing": self.differing, "renamed": self.renamed, "recorded": self.recorded,
            "unsure": self.unsure, "routes": self.routes, "blind_routes": self.blind_routes,
            "ungrouped": self.ungrouped, "is_cut": self.is_cut,
            "groups": [group.to_dict() for group in self.groups],
        }  # fmt: skip


def compare(
    old: RouteTable, new: RouteTable, cases: Iterable[Case], is_time_up: Callable[[], bool] = lambda: False
) -> Report:
    """Compare what two tables do with the same requests. Whoever knows a clock may end it early."""
    return _Comparison(Side(old), Side(new)).run(cases, is_time_up)


@dataclass(frozen=True, slots=True)
class _Course:
    """What one side does with one request."""

    request: Request
    candidate: Candidate | None
    verdict: Verdict
    steps: Sequence[TraceStep]

    @property
    def chosen(self) -> str:
        """The upstream, as far as it was chosen."""
        return self.verdict.upstream.name if isinstance(self.verdict, Forward) else ""


Difference = tuple[Class, str, str, tuple[str, ...], tuple[str, str]]
"""Class, step, text, changes, places: what names a group."""


class _Comparison:
    def __init__(self, old: Side, new: Side) -> None:
        self._old, self._new = old, new
        self._pieces = {id(side): Pieces(side.table.plan) for side in (old, new)}
        self._secrets = Secrets(old.table.plan, new.table.plan)
        self._known: dict[Any, Difference | None] = {}
        self._groups: dict[Any, Group] = {}
        routes = old.table.plan.routes
        self._report = Report(routes=len(routes), blind_routes=sum(map(_is_blind, routes)))

    def run(self, cases: Iterable[Case], is_time_up: Callable[[], bool]) -> Report:
        report = self._report
        for case in cases:
            if not report.total % 64 and is_time_up():
                report.is_cut = True
                break
            report.total += 1
            self._compare(case)
        report.groups = sorted(self._groups.values(), key=lambda one: (one.kind, -one.count, one.text, one.changes))
        return report

    def _compare(self, case: Case) -> None:
        before = self._course(self._old, case.before, case)
        after = self._course(self._new, case.after, case)
        if case.kind is Kind.RECORDED:
            self._report.recorded += 1
            if case.route is not None and case.route != _name(before):
                self._report.unsure += 1
                return
        if isinstance(before, Early) or isinstance(after, Early):
            if before != after:
                text = f"{self._fate(before)} → {self._fate(after)}"
                self._count(("differs", "intake", text, (), ("", "")), case, before, after)
            return
        difference = self._difference(case, before, after)
        if difference is not None:
            self._count(difference, case, before, after)

    def _course(self, side: Side, asked: Request | Early, case: Case) -> _Course | Early:
        if isinstance(asked, Early):
            return asked
        trace = Trace()
        state = State(model=case.model or ANY_MODEL, found_out=case.found_out, visitor=ANYONE)
        world = Assumed(side.table.plan, state, pieces=self._pieces[id(side)])
        verdict = run(decide(side.table, asked, world, trace))
        candidate = side.table.find(asked)
        return _Course(asked, candidate, verdict, trace.steps)

    def _difference(self, case: Case, before: _Course, after: _Course) -> Difference | None:
        """The first step that differs; what depends on the plan alone is found out once."""
        if before.candidate is None or after.candidate is None:
            return self._no_route(before, after)
        key = self._signature(self._old, case, before), self._signature(self._new, case, after)
        if key not in self._known:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[key] = self._planned(case, before, after)
        found = self._known[key]
        return found if found is not None and found[0] == "differs" else self._traced(before, after) or found

    def _signature(self, side: Side, case: Case, course: _Course) -> tuple[Any, ...]:
        """All that `treatment` looks at besides the plan: requests with the same one are treated alike."""
        candidate, request = course.candidate, course.request
        assert candidate is not None
        return (
            id(candidate), request.listener, case.kind, course.chosen,
            side.exemptions(candidate.route, request, case.kind),
            side.is_too_large(candidate.route, request.listener, case.body_bytes),
            (case.model, request.method == "POST") if candidate.directory is not None else None,
        )  # fmt: skip

    def _no_route(self, before: _Course, after: _Course) -> Difference | None:
        if before.candidate is after.candidate:
            return None
        return "differs", "route", f"route {_route(before)} → {_route(after)}", (), _places(before, after)

    def _planned(self, case: Case, before: _Course, after: _Course) -> Difference | None:
        """Compare the steps that the two plans foresee."""
        assert before.candidate is not None and after.candidate is not None
        olds, news = (
            treatment(side, one.candidate, one.request, case.kind, one.chosen, case.body_bytes, case.model)
            for side, one in ((self._old, before), (self._new, after))
            if one.candidate is not None
        )
        is_rerouted = before.candidate.route.name != after.candidate.route.name
        found = _first_difference(olds, news, self._secrets)
        if found is not None:
            if is_rerouted:
                return "differs", "route", f"route {_route(before)} → {_route(after)}", (), _places(before, after)
            return found
        renamed = [(one.what, one.name, other.name) for one, other in zip(olds, news, strict=True)
                   if one.name != other.name]  # fmt: skip
        if is_rerouted:
            renamed.insert(0, ("route", before.candidate.route.name, after.candidate.route.name))
        if not renamed:
            return None
        text = ", ".join(f"{what} `{one}` → `{other}`" for what, one, other in renamed)
        return "renamed", "name", f"the same by another name: {text}", (), _places(before, after)

    def _traced(self, before: _Course, after: _Course) -> Difference | None:
        """Compare what was concluded: what the plans do not foresee, such as the endpoint of a hash."""
        olds, news = _concluded(before), _concluded(after)
        if olds == news:
            return None
        for old, new in zip(olds, news, strict=False):
            if old != new:
                text = f"{old[0].value.text} → {new[0].value.text}" if old[0] is not new[0] else old[0].value.text
                changes = tuple(f"{one} → {other}" for one, other in zip(old[1], new[1], strict=False) if one != other)
                return "differs", old[0].word, text, changes, _places(before, after)
        return "differs", "verdict", f"{self._fate(before)} → {self._fate(after)}", (), _places(before, after)

    def _count(self, found: Difference, case: Case, before: _Course | Early, after: _Course | Early) -> None:
        kind, step, text, changes, places = found
        if kind == "differs":
            self._report.differing += 1
        else:
            self._report.renamed += 1
        key = kind, step, text, changes
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                self._report.ungrouped += 1
                return
            group = self._groups[key] = Group(
                kind, step, self._shown(text), self._shown(self._because(step, before, after)),
                tuple(self._shown(one) for one in changes[:CHANGES_MAX]), self._shown(self._fate(before)),
                self._shown(self._fate(after)), places,
            )  # fmt: skip
        group.count += 1
        if len(group.examples) < EXAMPLES_MAX:
            example = quoted(self._shown(case.text))[1:-1]
            if example not in group.examples:
                group.examples.append(example)

    def _because(self, step: str, before: _Course | Early, after: _Course | Early) -> str:
        if step != "route" or isinstance(before, Early) or isinstance(after, Early):
            return ""
        former, now = before.candidate, after.candidate
        return why_rerouted(self._old.table, before.request, former, self._new.table, after.request, now)

    def _fate(self, course: _Course | Early) -> str:
        if isinstance(course, Early):
            return course.text
        verdict = course.verdict
        if isinstance(verdict, Forward):
            return f"forward to `{verdict.upstream.name}`"
        if isinstance(verdict, Reject):
            return f"reject with {verdict.status} ({verdict.reason.word})"
        return f"respond with {verdict.said.status}"

    def _shown(self, text: str) -> str:
        return self._secrets.hide(text)


def _first_difference(olds: Sequence[Step], news: Sequence[Step], secrets: Secrets) -> Difference | None:
    for old, new in zip(olds, news, strict=False):
        parted = _parted(old, new, olds, news)
        if parted is not None:
            return parted
        changes = differences(old.facts, new.facts)
        if changes:
            both = f"`{old.name}`" if old.name == new.name else f"`{old.name}` → `{new.name}`"
            what = f"{old.what} {both}" if old.name or new.name else old.what
            return "differs", old.what, f"{what} differs", change_lines(changes, secrets), (_place(old), _place(new))
    if len(olds) == len(news):
        return None
    longer = olds if len(olds) > len(news) else news
    one = longer[min(len(olds), len(news))]
    return _missing(one, None) if longer is olds else _missing(None, one)


def _parted(old: Step, new: Step, olds: Sequence[Step], news: Sequence[Step]) -> Difference | None:
    """A step that one side has and the other one has not; None when both are at the same one."""
    order, its = (ORDER.get(step.what, FILTER) for step in (old, new))
    if order != its:
        return _missing(old, None) if order < its else _missing(None, new)
    if old.what != new.what:
        return _missing(old, new)
    if old.name != new.name:
        is_gone = not any(_is_same(old, step) for step in news)
        is_added = not any(_is_same(new, step) for step in olds)
        if is_gone is not is_added:
            return _missing(old, None) if is_gone else _missing(None, new)
    return None


def _is_same(one: Step, other: Step) -> bool:
    return (one.what, one.name) == (other.what, other.name)


def _missing(old: Step | None, new: Step | None) -> Difference:
    """A step that only one side has; both, when each has another one at this point."""
    parts = [] if old is None else [f"{_called(old)} is asked no more" if old.what != "answer" else "no own answer"]
    parts += [] if new is None else [f"{_called(new)} is asked now" if new.what != "answer" else "an own answer"]
    step = new if old is None else old
    assert step is not None, "one of the two is there"
    return "differs", step.what, "; ".join(parts), (), (_place(old), _place(new))


def _called(step: Step) -> str:
    return f"{step.what} `{step.name}`" if step.name else step.what


def _concluded(course: _Course) -> list[tuple[Reason, tuple[Any, ...]]]:
    """The steps of a trace without names and places; of who is next in turn nothing is said."""
    found: list[tuple[Reason, tuple[Any, ...]]] = []
    names = _names(course)
    for reason, _, details in course.steps:
        if reason is Reason.ENDPOINT_CHOSEN and _is_by_turn(course):
            continue
        if reason is Reason.CONDITION_FAILED:  # who did not win is no part of what happens
            continue
        kept = details[:1] if reason is Reason.SPLIT_CHOSEN else details
        found.append((reason, tuple(one for one in kept if not isinstance(one, bytes) and one not in names)))
    return found


def _names(course: _Course) -> frozenset[str]:
    if course.candidate is None:
        return frozenset()
    route = course.candidate.route
    return frozenset((route.name, *route.filters, *(() if route.split else route.upstream_names)))


def _is_by_turn(course: _Course) -> bool:
    return isinstance(course.verdict, Forward) and course.verdict.upstream.balance.kind not in HASHED


def _is_blind(route: Route) -> bool:
    """Whether it depends on query or headers that the route takes a request."""
    return any(_reads_fields(condition) for match in route.matches for condition in match.conditions)


def _reads_fields(condition: Condition) -> bool:
    return condition.kind.startswith(("header", "query")) or any(map(_reads_fields, condition.parts))


def _name(course: _Course | Early) -> str:
    return "" if isinstance(course, Early) or course.candidate is None else course.candidate.route.name


def _route(course: _Course) -> str:
    return "(none)" if course.candidate is None else f"`{course.candidate.route.name}`"


def _places(before: _Course, after: _Course) -> tuple[str, str]:
    spans = [None if one.candidate is None else one.candidate.match.span for one in (before, after)]
    old, new = (str(span) if span is not None and span.line else "" for span in spans)
    return old, new


def _place(step: Step | None) -> str:
    return str(step.span) if step is not None and step.span.line else ""
