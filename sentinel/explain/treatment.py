"""What a configuration does with a request, step by step, in a form in which two configurations can be compared.

Intuition: a recipe, without the page numbers. Two cooks cook the same dish if their ingredients and their
steps agree; whether the one has it on page 12 and calls it "Sunday soup" is another question. So a
treatment has facts (what a client would notice) and names (what the operator calls it), and no places.

    who asks ─▶ concurrency limits ─▶ rate limits ─▶ answer, split or model ─▶ upstream ─▶ shadows ─▶ delivery
    ─▶ listener

Rules:
1. Facts are read from the plan's own values, field by field: a field that is new is compared from its first
   day on, and nobody has to think of this file. Only what is listed in APART is not a fact.
2. Facts of a request that stands for itself (`Kind.WHOLE`) are only those that concern it: a limit that
   exempts its client is none, and of a split by key only the chosen upstream counts.
3. Nothing secret is shown: that it differs is all that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum, unique
from typing import Any, Final

from sentinel.core.candidates import Candidate
from sentinel.core.keys import is_within
from sentinel.core.plan import Listener, Plan, Route, Split
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.span import NOWHERE, Span


@unique
class Kind(Enum):
    """What a request that is compared stands for."""

    WHOLE = "whole"  # for itself, with everything that it says
    RECORDED = "recorded"  # for itself, but without query and headers
    GENERATED = "generated"  # for all requests like it


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the plan; equal when the plan's are, however they are shown."""

    raw: Any
    field: str = field(default="", compare=False)

    def __str__(self) -> str:
        return shown(self.field, self.raw)


Facts = dict[str, Value]
THERE: Final = Value("there")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a treatment. `what`: a word of the field; `name`: what the operator calls it."""

    what: str
    name: str
    facts: Facts
    span: Span = NOWHERE


APART: Final = {
    "Route": frozenset({
        "name", "matches", "order", "priority", "series", "listeners", "filters", "respond", "upstream", "split",
        "max_body_bytes",
    }),
    "Upstream": frozenset({"name", "place"}),
    "Endpoint": frozenset({"place"}),
    "Listener": frozenset({"name", "host", "port", "tls", "max_body_bytes"}),
    "Split": frozenset({"shares"}),
    "Guardrail": frozenset({"series"}),
}  # fmt: skip
"""Fields that are no facts of their own: names, numbers of shared memory, and what another step tells."""
NO_FILTERS: Final = frozenset({"routes", "upstreams", "listeners"})
FIRST: Final = ("ip-access", "api-key", "jwt", "mtls", "basic", "concurrency-limit")
"""Asked before all other filters, whatever the order in which a route names them (core.decide)."""
INTAKE: Final = ("trusted-proxies", "trusted-hops", "path-rules")
"""Facts of a listener that have done their work once a request was read."""
IN_RECORDS: Final = frozenset({"client-ip", "host", "path-segment", "listener", "method", "identity", "claim"})
"""Parts of keys that the journal knows."""
HIDDEN: Final = frozenset({
    "secret", "secrets", "token", "password_hash", "digest", "digests", "keys_json", "key_pem", "certificate_pem",
    "ca_pem", "chain_pem", "crl_pem",
})  # fmt: skip
WORDS: Final = {"most": "max", "count": "rate", "is_unsafe_too": "unsafe-methods", "is_secure": "secure",
                "per_try_ns": "per-try-timeout", "sent": "send-as", "is_listed": "list",
                "left_out": "leave-out", "max_text_bytes": "max-text", "pins": "pin", "is_verified": "verify",
                "ca_pem": "ca", "chain_pem": "certificate", "crl_pem": "crl", "sans": "san", "part": "subject",
                "keys_json": "keys-file", "keys_from": "keys",
                "passed_on": "pass-identity", "is_forwarded": "forward-credential"}  # fmt: skip
"""Fields whose directive has another name; all others are called like it, without the unit."""
CAMEL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class Side:
    """One of the two configurations, with what was found out about it already."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.listeners: dict[str, Listener] = {one.name: one for one in table.plan.listeners}
        self.filters = filters_of(table.plan)
        self._facts: dict[int, Facts] = {}

    def facts(self, value: Any) -> Facts:
        """The facts of a value that belongs to the plan."""
        found = self._facts.get(id(value))
        if found is None:
            found = self._facts[id(value)] = dict(facts_of(value))
        return found

    def body_max(self, route: Route, listener: str) -> int:
        """Octets that a body may have; 0: no limit."""
        if route.max_body_bytes >= 0:
            return route.max_body_bytes
        return self.listeners[listener].max_body_bytes if listener in self.listeners else 0

    def is_too_large(self, route: Route, listener: str, body_bytes: int | None) -> bool | None:
        """None: the body is not known."""
        return None if body_bytes is None else 0 < self.body_max(route, listener) < body_bytes

    def exemptions(self, route: Route, request: Request, kind: Kind) -> tuple[bool, ...]:
        """Of each filter of a route, whether it passes over this client."""
        if kind is Kind.GENERATED or not route.filters:
            return ()
        networks = [getattr(self.filters[name], "exempt", ()) for name in route.filters if name in self.filters]
        return tuple(bool(one) and is_within(request.client_ip, one) for one in networks)


def filters_of(plan: Plan) -> dict[str, Any]:
    """Everything that routes may name in `filters`, whatever its kind."""
    found: dict[str, Any] = {}
    for one in fields(plan):
        values = getattr(plan, one.name)
        if one.name not in NO_FILTERS and isinstance(values, tuple):
            found |= {value.name: value for value in values if is_dataclass(value) and hasattr(value, "name")}
    return found


def treatment(
    side: Side, candidate: Candidate, request: Request, kind: Kind, chosen: str, body_bytes: int | None, model: str = ""
) -> tuple[Step, ...]:
    """The steps for a request that a candidate matches.

    chosen: the upstream that a split led to, model: which one is named; "" if unknown.
    """
    return tuple(_steps(side, candidate, request, kind, chosen, body_bytes, model))


def _steps(
    side: Side, candidate: Candidate, request: Request, kind: Kind, chosen: str, body_bytes: int | None, model: str
) -> Iterator[Step]:
    route = candidate.route
    named = _named(side, candidate, request, model)
    yield from _filters(side, route, request, kind, () if named is None else named.filters)
    if route.respond is not None:
        yield Step("answer", "", side.facts(route.respond), route.respond.span)
    names = route.upstream_names if named is None else named.upstreams
    if named is not None:
        yield named.step
    if route.split is not None and (named is None or named.is_own):
        if chosen and _is_decided(route.split, kind):
            names = (chosen,)
            yield Step("split", "", {"upstream": Value(chosen)}, route.split.span)
        else:
            names = tuple(share.upstream for share in route.split.shares if share.weight)
            yield _split(side, route.split)
    for name in names:
        upstream = side.table.upstreams[name]
        yield Step("upstream", name, side.facts(upstream), upstream.span)
    for shadow in route.shadows:
        upstream = side.table.upstreams[shadow.upstream]
        yield Step("shadow", shadow.upstream, side.facts(upstream), shadow.span)
    delivery = dict(side.facts(route))
    if named is not None:
        delivery = {name: value for name, value in delivery.items() if not name.startswith("models")}
    is_too_large = side.is_too_large(route, request.listener, body_bytes)
    if is_too_large is None:
        delivery["max-body-size"] = Value(side.body_max(route, request.listener), "max_body_bytes")
    elif is_too_large:
        delivery["body"] = Value("larger than `max-body-size`: 413")
    yield Step("delivery", "", delivery, route.span)
    if request.listener in side.listeners:
        listener = side.listeners[request.listener]
        facts = side.facts(listener)
        if kind is Kind.WHOLE:
            facts = {name: value for name, value in facts.items() if not name.startswith(INTAKE)}
        yield Step("listener", listener.name, facts, listener.span)


@dataclass(frozen=True, slots=True)
class _Named:
    """What `models` does with a request of which is known what it names."""

    step: Step
    upstreams: tuple[str, ...]
    filters: tuple[str, ...] = ()
    is_own: bool = False  # it is for the route's own upstream or split


def _named(side: Side, candidate: Candidate, request: Request, model: str) -> _Named | None:
    """None: there are no models, or nobody knows which one is asked for."""
    directory, route = candidate.directory, candidate.route
    if directory is None or (request.method == "POST" and not model):
        return None
    models = directory.models
    own = replace(route, models=None).upstream_names
    if request.method != "POST":
        return _Named(Step("model", "", {"list": Value(models.is_listed)}, models.span), own, is_own=True)
    target = directory.find(model)
    if target is not None:
        facts = {name: value for name, value in side.facts(target.line).items() if name != "patterns"}
        return _Named(Step("model", "", facts, target.line.span), (target.upstream.name,), target.line.filters)
    step = Step("model", "", {"unknown": Value(models.unknown)}, models.span)
    return _Named(step, own if models.unknown == "forward" else (), is_own=models.unknown == "forward")


def _filters(side: Side, route: Route, request: Request, kind: Kind, more: tuple[str, ...]) -> Iterator[Step]:
    found = []
    for name in (*route.filters, *more):
        one = side.filters.get(name)
        if one is None:
            continue
        facts = {key: value for key, value in side.facts(one).items() if key != "name"}
        exempt: tuple[str, ...] = getattr(one, "exempt", ())
        if kind is not Kind.GENERATED:
            if exempt and is_within(request.client_ip, exempt):
                continue
            facts.pop("exempt", None)
        book = side.table.plan.prices
        if book is not None and hasattr(one, "currency") and one.currency:
            facts["price-book"] = Value(book.version)
        if "route" in getattr(one, "key", ()):
            facts["bucket"] = Value(f"of route `{route.name}`")
        found.append(Step(CAMEL.sub("-", type(one).__name__).lower(), name, facts, one.span))
    yield from sorted(found, key=lambda step: FIRST.index(step.what) if step.what in FIRST else len(FIRST))  # stable


def _split(side: Side, split: Split) -> Step:
    total = sum(share.weight for share in split.shares)
    shares = {f"share of `{one.upstream}`": Value(f"{one.weight} of {total}") for one in split.shares if one.weight}
    return Step("split", "", shares | side.facts(split), split.span)


def _is_decided(split: Split, kind: Kind) -> bool:
    """Whether what is known of the request decides, and the same each time."""
    if not split.key or kind is Kind.GENERATED:
        return False
    return kind is Kind.WHOLE or {part.partition(":")[0] for part in split.key} <= IN_RECORDS


# Facts.


def facts_of(value: Any, under: str = "") -> Iterator[tuple[str, Value]]:
    """Walk over the fields of a value of the plan, and of the values within it, by what operators call them."""
    apart = APART.get(type(value).__name__, frozenset())
    for one in fields(value):
        if one.name != "span" and not one.name.endswith("_span") and one.name not in apart:
            yield from _facts(under + word(one.name), one.name, getattr(value, one.name))


def _facts(name: str, field_name: str, value: Any) -> Iterator[tuple[str, Value]]:
    if is_dataclass(value):
        yield name, THERE
        yield from facts_of(value, f"{name}/")
    elif isinstance(value, tuple) and value and all(map(is_dataclass, value)):
        for number, one in enumerate(value):
            label = f"{name.removesuffix('s')} {getattr(one, 'name', '') or number + 1}"
            yield label, THERE
            yield from facts_of(one, f"{label}/")
    else:
        yield name, Value(value, field_name)


def word(name: str) -> str:
    """What operators call a field."""
    if name in WORDS:
        return WORDS[name]
    for unit in ("_ns", "_bytes", "_share"):
        name = name.removesuffix(unit)
    return name.replace("_", "-")


def shown(name: str, value: Any) -> str:
    """A value in the operator's terms."""
    match value:
        case _ if name in HIDDEN:
            return "(not shown)"
        case None | "" | ():
            return "none"
        case bool():
            return "true" if value else "false"
        case int() if name.endswith("_ns"):
            return _duration(value)
        case int() if name.endswith("share"):
            return f"{value / 10:g}%"
        case tuple():
            return ", ".join(": ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
        case _:
            return str(value)


def _duration(value_ns: int) -> str:
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)):
        if value_ns % size == 0:
            return f"{value_ns // size}{unit}"
    return f"{value_ns}ns"


def differences(before: Facts, after: Facts) -> list[tuple[str, str, str]]:
    """What differs: name, before, after; "" where it is not there."""
    found: list[tuple[str, str, str]] = []
    whole: list[str] = []  # there on one side only: its parts are not told of
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old == new or any(name.startswith(f"{one}/") for one in whole):
            continue
        if THERE in (old, new):
            whole.append(name)
        found.append((name, "" if old is None else str(old), "" if new is None else str(new)))
    return found
