"""A guardrail, made ready: what it looks for, and what it does about what is found.

Intuition: a clerk who goes through letters with a black pen. He blots out, or stops the letter, or only keeps a list;
what he has read he forgets.

    guard.judge(text)   the text as it may go on, and how often what was found

Only kinds and numbers leave this file: what was found is in no step, no line and no metric.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from sentinel.core.guard.finders import Finder, Own, Words, built_in
from sentinel.core.plan import Guardrail, Plan, Route
from sentinel.core.reasons import Reason

Side = Literal["request", "response"]
Counts = dict[str, int]
"""How often what was found."""
FOUND: Final = {
    "redact": Reason.GUARDRAIL_REDACTED, "block": Reason.GUARDRAIL_BLOCKED, "observe": Reason.GUARDRAIL_OBSERVED,
}  # fmt: skip
KINDS: Final = tuple(sorted(built_in()))
KIND_MARK: Final = "{kind}"
REPLACEMENT: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{0,64}")
"""Nothing that would have to be written otherwise in JSON: what is redacted may stand within it."""


class Find(NamedTuple):
    start: int
    end: int
    kind: str


class Guard:
    """One guardrail."""

    __slots__ = ("action", "chars_max", "finders", "max_text", "name", "plan", "replacement", "span")

    def __init__(self, plan: Guardrail) -> None:
        self.plan = plan
        self.name = plan.name
        self.action = plan.action
        self.span = plan.span
        self.max_text = plan.max_text_bytes
        self.finders = finders_of(plan)
        self.chars_max = max((one.chars_max for one in self.finders), default=1)
        self.replacement = {one.kind: plan.replacement.replace(KIND_MARK, one.kind) for one in self.finders}

    def finds(self, text: str) -> list[Find]:
        """What is found, in order; what overlaps or touches is one find, of the kind that begins it."""
        found = [Find(start, end, one.kind) for one in self.finders for start, end in one.spans(text)]
        return _merged(found) if len(found) > 1 else found

    def open_from(self, text: str) -> int:
        """From where on more text may change what is found."""
        return min([one.open_from(text) for one in self.finders], default=len(text))

    def judge(self, text: str, counts: Counts) -> str:
        """A whole text as it may go on; what was found is added to the counts."""
        found = self.finds(text)
        if not found:
            return text
        for one in found:
            counts[one.kind] = counts.get(one.kind, 0) + 1
        if self.action != "redact":
            return text
        out, at = [], 0
        for one in found:
            out += [text[at : one.start], self.replacement[one.kind]]
            at = one.end
        return "".join([*out, text[at:]])

    @property
    def is_closed(self) -> bool:
        """Whether what it cannot read is stopped."""
        return self.action != "observe" and self.plan.when_unreadable == "block"


def finders_of(plan: Guardrail) -> tuple[Finder, ...]:
    known = built_in()
    found: list[Finder] = [known[kind]() for kind in plan.detect]
    found += [Own(one.name, one.text) for one in plan.patterns]
    found += [Words(one.name, one.words) for one in plan.words]
    return tuple(found)


def _merged(found: list[Find]) -> list[Find]:
    found.sort(key=lambda one: (one.start, -one.end))
    merged = [found[0]]
    for one in found[1:]:
        last = merged[-1]
        if one.start > last.end:
            merged.append(one)
        elif one.end > last.end:
            merged[-1] = last._replace(end=one.end)
    return merged


class Guards:
    """All guardrails of a route, in the order in which it names them."""

    __slots__ = ("both", "requests", "responses")

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.requests = tuple(one for one in guards if "request" in one.plan.on)
        self.responses = tuple(one for one in guards if "response" in one.plan.on)
        self.both = tuple(guards)


def guards_of(plan: Plan) -> dict[str, Guard]:
    """Made once, for all routes that name them."""
    return {one.name: Guard(one) for one in plan.guardrails}


def of_route(route: Route, known: dict[str, Guard]) -> Guards | None:
    """None for a route that names none: it pays nothing."""
    found = [known[name] for name in route.filters if name in known]
    return Guards(found) if found else None


def told(counts: Counts | Iterable[tuple[str, int]]) -> str:
    """What was found, in words: "email 2, phone 1"."""
    return ", ".join([f"{kind} {count}" for kind, count in sorted(dict(counts).items())])
