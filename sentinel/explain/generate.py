"""Requests that nobody sent, made from the conditions of two configurations: where a change would show.

Intuition: a surveyor who checks a map. He does not walk every square metre. He stands inside each parcel
once, then on both sides of each of its borders, then wherever two parcels touch; if two maps agree in all these
places, they are the same map.

    each candidate of both tables ─▶ inside      a witness; one for each value of each condition
                                  ─▶ neighbours  one condition broken at a time: another method, no such header,
                                                 a segment more or less, `/v1x` beside `/v1`, a label more or less
                                  ─▶ models      a name for each pattern of its route's `models`
                  ─▶ borders     a request that another candidate matches too: there rank decides

Rules:
1. No request twice, always in the same order, and bounded: CANDIDATE_MAX for each candidate, REQUESTS_MAX in all.
   What is left off is counted.
2. A request need not reach its candidate: a better ranked one may take it. Both sides are asked anyway.
3. Routes that are served on all listeners are tried fully on one listener that no route names, and once on each
   other one: nothing but `listeners` of routes and the listener's own settings tells listeners apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal

from sentinel.core.candidates import ANY_HOST, Candidate, HostKind, PathKind
from sentinel.core.models import Directory
from sentinel.core.plan import Condition, Plan
from sentinel.core.routes import RouteTable
from sentinel.core.witness import CLIENT, METHODS, Sketch, holds, path_examples, query_of, witness
from sentinel.explain.arrival import arrive, title
from sentinel.explain.diff import Case
from sentinel.explain.treatment import Kind

CANDIDATE_MAX: Final = 96
REQUESTS_MAX: Final = 200_000
BORDERS_MAX: Final = 8
"""Of a candidate with those of wider hosts, and as many with those of narrower ones."""
EXAMINED_MAX: Final = 200
HOSTS_MAX: Final = 1000
VALUES_MAX: Final = 16  # values of one condition that get a request of their own
OTHER_VALUE: Final = "w-other"
MODELS_MAX: Final = 256  # names of models that a candidate is asked for
OTHER_MODEL: Final = "w-no-such-model"


Shape = tuple[object, ...]


def shape(candidate: Candidate) -> Shape:
    """What a candidate asks of requests: candidates of one shape, in whatever table, match the same."""
    conditions = tuple(map(_shape, candidate.conditions))
    return candidate.host, candidate.path_kind, candidate.path, conditions, candidate.route.listeners


def _shape(condition: Condition) -> Shape:
    return condition.kind, condition.name, condition.values, tuple(map(_shape, condition.parts))


@dataclass(slots=True)
class Generated:
    """Makes the cases for two tables. `left_off`: candidates whose requests were not made any more."""

    old: RouteTable
    new: RouteTable
    left_off: int = 0

    def cases(self, requests_max: int = REQUESTS_MAX) -> Iterator[Case]:
        """Walk over the requests, each as both sides read it."""
        seen: set[tuple[str, Sketch]] = set()
        listeners = _Listeners(self.old.plan, self.new.plan)
        for sketch, names in self._sketches(listeners):
            for name in names:
                if (name, sketch) in seen:
                    continue
                if len(seen) >= requests_max:
                    self.left_off += 1
                    continue
                seen.add((name, sketch))
                yield self._case(sketch, name, is_only=len(listeners.all) < 2)

    def _case(self, sketch: Sketch, listener: str, *, is_only: bool) -> Case:
        before, after = (
            arrive(table.plan, listener, sketch.method, sketch.host, sketch.target, sketch.headers, CLIENT)
            for table in (self.old, self.new)
        )
        text = title(sketch.method, sketch.host, sketch.target, sketch.headers, "" if is_only else listener)
        if sketch.model:
            text += f" for model {sketch.model}"
        return Case(text, before, after, Kind.GENERATED, model=sketch.model)

    def _sketches(self, listeners: _Listeners) -> Iterator[tuple[Sketch, Sequence[str]]]:
        for name in listeners.all:
            yield Sketch(), (name,)
        alike: dict[Shape, tuple[RouteTable, Candidate]] = {}
        models: dict[Shape, dict[str, None]] = {}
        for table in (self.old, self.new):
            for candidate in table.candidates:
                alike.setdefault(shape(candidate), (table, candidate))
                if candidate.directory is not None:
                    models.setdefault(shape(candidate), {}).update(dict.fromkeys(_model_names(candidate.directory)))
        borders = _Borders([candidate for _, candidate in alike.values()])
        for key, (table, candidate) in alike.items():
            yield from self._of(table, candidate, listeners, borders)
            inside = witness(candidate) if key in models else None
            if inside is not None:
                for name in islice(models[key], MODELS_MAX):
                    yield replace(inside, method="POST", model=name), listeners.of(candidate)[:1]

    def _of(
        self, table: RouteTable, candidate: Candidate, listeners: _Listeners, borders: _Borders
    ) -> Iterator[tuple[Sketch, Sequence[str]]]:
        inside = witness(candidate)
        main, *others = listeners.of(candidate)
        if inside is None:
            return
        yield inside, (main, *others)
        own = list(variants(candidate, inside))
        # Beside a place that a better candidate takes, nothing of this one would be seen.
        reached = next((one for one in (inside, *own) if table.find(one.request(main)) is candidate), inside)
        for sketch in islice(dict.fromkeys((*own, *neighbours(candidate, reached))), CANDIDATE_MAX):
            yield sketch, (main,)
        for sketch in borders.of(candidate, inside):
            yield sketch, (main,)


def _model_names(directory: Directory) -> Iterator[str]:
    """A name for each pattern, and one that no pattern was made for."""
    yield OTHER_MODEL
    for target in directory.targets:
        for pattern in target.line.patterns:
            yield pattern.replace("*", "w")


class _Listeners:
    """Which listeners a candidate is tried on."""

    def __init__(self, old: Plan, new: Plan) -> None:
        self.all = list(dict.fromkeys(one.name for plan in (old, new) for one in plan.listeners))
        named = {name for plan in (old, new) for route in plan.routes for name in route.listeners}
        plain = [name for name in self.all if name not in named]
        self._order = [*plain, *(name for name in self.all if name in named)] or [""]

    def of(self, candidate: Candidate) -> list[str]:
        own = candidate.route.listeners
        return [*own, *(name for name in self._order if name not in own)]


def variants(candidate: Candidate, inside: Sketch) -> Iterator[Sketch]:
    """Requests that the candidate matches: one for each value of each condition, and others of its host and path."""
    for condition in candidate.conditions:
        for one in _narrowed(condition):
            found = witness(candidate, (one,))
            if found is not None:
                yield found
    for path in _inner_paths(candidate):
        yield replace(inside, path=path)
    if candidate.host_kind is HostKind.WILDCARD:
        yield replace(inside, host=f"w.{inside.host}")


def neighbours(candidate: Candidate, inside: Sketch) -> Iterator[Sketch]:
    """Requests that are beside the candidate in one respect."""
    methods = [one.values for one in candidate.conditions if one.kind == "method"]
    for method in METHODS if not methods else [one for one in METHODS if one not in methods[0]][:2]:
        yield replace(inside, method=method)
    for path in _outer_paths(candidate, inside):
        yield replace(inside, path=path)
    for host in _outer_hosts(candidate, inside):
        yield replace(inside, host=host)
    names = {condition.name: condition for condition in _leaves(candidate.conditions) if condition.name}
    for name, condition in names.items():
        yield from _other_fields(name, condition, inside)
    for condition in _leaves(candidate.conditions):
        yield from _forced(condition, inside)


def _narrowed(condition: Condition) -> Iterator[Condition]:
    """The condition for each of its values alone; a group for each of its parts."""
    if condition.kind in ("any", "all", "not"):
        for part in condition.parts:
            yield from islice(_narrowed(part), VALUES_MAX)
    else:
        for value in condition.values[:VALUES_MAX]:
            yield replace(condition, values=(value,))


def _leaves(conditions: Sequence[Condition]) -> Iterator[Condition]:
    for condition in conditions:
        if condition.parts:
            yield from _leaves(condition.parts)
        else:
            yield condition


def _inner_paths(candidate: Candidate) -> Iterator[str]:
    match candidate.path_kind:
        case PathKind.PREFIX | PathKind.ANY:
            stem = candidate.path.rstrip("/")
            yield from (f"{stem}/", f"{stem}/w", f"{stem}/w/w")
        case PathKind.REGEX:
            yield from (path for path in path_examples(candidate.path).texts if path)


def _outer_paths(candidate: Candidate, inside: Sketch) -> Iterator[str]:
    path = candidate.path if candidate.path_kind in (PathKind.EXACT, PathKind.PREFIX) else inside.path
    if path == "/":
        yield from ("/w", "/w/w")
        return
    stem = path.rstrip("/")
    parent = stem.rpartition("/")[0]
    yield from (f"{stem}x", f"{stem}/", f"{stem}/w", stem, f"{parent}/w", parent or "/", stem.swapcase())
    yield stem[:-1] or "/"


def _outer_hosts(candidate: Candidate, inside: Sketch) -> Iterator[str]:
    if inside.host.startswith("["):
        yield "unnamed.invalid"
        return
    yield f"x.{inside.host}"
    label, _, parent = inside.host.partition(".")
    if parent and not parent.replace(".", "").isdigit():
        yield parent
        yield f"z{label}.{parent}"
    yield "other.invalid"


def _other_fields(name: str, condition: Condition, inside: Sketch) -> Iterator[Sketch]:
    """The header or parameter is absent, has another value, the value in another case, or an empty one."""
    if condition.kind.startswith("header"):
        rest = tuple(one for one in inside.headers if one[0] != name)
        values = [value for key, value in inside.headers if key == name]
        yield replace(inside, headers=rest)
        for value in (OTHER_VALUE, "", *(value.swapcase() for value in values)):
            yield replace(inside, headers=(*rest, (name, value)))
        return
    pairs = [pair for pair in inside.query.split("&") if pair]
    own = query_of([(name, "")])
    others = [pair for pair in pairs if not pair.startswith(own)]
    yield replace(inside, query="&".join(others))
    for value in (OTHER_VALUE, ""):
        yield replace(inside, query="&".join([*others, query_of([(name, value)])]))
    swapped = [query_of([(name, pair[len(own) :].swapcase())]) for pair in pairs if pair.startswith(own)]
    yield replace(inside, query="&".join([*others, *swapped]))


def _forced(condition: Condition, inside: Sketch) -> Iterator[Sketch]:
    """A request of which the plain condition holds, whatever else does: what a `not` shuts out."""
    for value in condition.values[:VALUES_MAX] or ("w",):
        match condition.kind:
            case "method":
                yield replace(inside, method=value)
            case "header":
                rest = tuple(one for one in inside.headers if one[0] != condition.name)
                yield replace(inside, headers=(*rest, (condition.name, value)))
            case "query":
                yield replace(inside, query=query_of([(condition.name, value)]))
            case "path" | "path-prefix":
                yield replace(inside, path=value)
            case "host" if not value.startswith("*"):
                yield replace(inside, host=value)


class _Borders:
    """Finds candidates that overlap with another one, and a request for which both hold."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._hosts: dict[str, _Street] = {}
        for one in candidates:
            self._hosts.setdefault(one.host, _Street()).add(one)
        for street in self._hosts.values():
            street.literals.sort(key=lambda entry: entry[0])

    def of(self, candidate: Candidate, inside: Sketch) -> Iterator[Sketch]:
        for side in (self._wider(candidate.host), self._narrower(candidate.host)):
            beside = (other for host in side for other in self._hosts[host].overlapping(candidate))
            yield from islice(self._shared(candidate, inside, islice(beside, EXAMINED_MAX)), BORDERS_MAX)

    def _shared(self, candidate: Candidate, inside: Sketch, others: Iterator[Candidate]) -> Iterator[Sketch]:
        asked = inside.request()
        for other in others:
            if other is not candidate and not holds(other, asked):
                both = witness(candidate, conditions_of(other))
                if both is not None:
                    yield both

    def _wider(self, host: str) -> Iterator[str]:
        """Hosts as they are written that take in this one, itself first."""
        at = host.find(".", 1)
        wider = [host]
        while at != -1:
            wider.append(f"*{host[at:]}")
            at = host.find(".", at + 1)
        yield from (one for one in dict.fromkeys((*wider, ANY_HOST)) if one in self._hosts)

    def _narrower(self, host: str) -> Iterator[str]:
        if host == ANY_HOST or host.startswith("*."):
            suffix = host.removeprefix("*")
            yield from (one for one in islice(self._hosts, HOSTS_MAX) if one != host and one.endswith(suffix))


class _Street:
    """The candidates of one host: those with a literal path by it, and the others."""

    def __init__(self) -> None:
        self.literals: list[tuple[str, Candidate]] = []
        self.loose: list[Candidate] = []
        self._by_path: dict[str, list[Candidate]] = {}

    def add(self, candidate: Candidate) -> None:
        if candidate.path_kind in (PathKind.EXACT, PathKind.PREFIX):
            self.literals.append((candidate.path, candidate))
            self._by_path.setdefault(candidate.path, []).append(candidate)
        else:
            self.loose.append(candidate)

    def overlapping(self, candidate: Candidate) -> Iterator[Candidate]:
        """Candidates whose path may be one of this one's: above it, below it, and those of which that is not known."""
        path = candidate.path if candidate.pattern is None else candidate.pattern.prefix
        for one in self.loose:
            beginning = "" if one.pattern is None else one.pattern.prefix
            if beginning.startswith(path) or path.startswith(beginning):
                yield one
        for end in range(1, len(path) + 1):
            if path[end - 1] == "/" or end == len(path) or path[end] == "/":
                yield from self._by_path.get(path[:end], ())
        for at in range(bisect_left(self.literals, path, key=lambda entry: entry[0]), len(self.literals)):
            if not self.literals[at][0].startswith(path):
                return
            yield self.literals[at][1]


def conditions_of(candidate: Candidate) -> tuple[Condition, ...]:
    """All that a candidate asks, its host and its path too, as conditions."""
    found = candidate.conditions
    if candidate.path_kind is not PathKind.ANY:
        kind: Literal["path", "path-prefix", "path-regex"] = "path"
        if candidate.path_kind is not PathKind.EXACT:
            kind = "path-prefix" if candidate.path_kind is PathKind.PREFIX else "path-regex"
        found += (Condition(kind, values=(candidate.path,)),)
    if candidate.host_kind is not HostKind.ANY:
        found += (Condition("host", values=(candidate.host,)),)
    return found
