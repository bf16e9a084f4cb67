"""Routes that no request ever reaches: proved from hosts, paths, methods and conditions.

Intuition: a row of sieves. A stone that lies before the third sieve has fallen through the first two; if the
second one catches whatever the third could, the third stays empty for ever. Nobody has to throw stones to know.

A candidate (core.candidates) is cut into cells: one listener, one method if it names some, and of a prefix the
path itself and what is below it. It is shadowed when each cell is covered by a better ranked candidate of another
route: one that is served there, whose host and path take in the cell's, and whose conditions follow from it.

Rule 1: every step is a proof (core.witness): "covers", "follows" and "contradicts" are true or not known.
Rule 2: candidates are found by host and path, as the index of the workers finds them: ten thousand routes
    are not held against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Final

from sentinel.core.candidates import ANY_HOST, Candidate, PathKind, ranked, rule_between
from sentinel.core.conditions import host_pattern, path_literal
from sentinel.core.plan import Condition, Listener, Plan, Route
from sentinel.core.regex import compile_pattern
from sentinel.core.span import NOWHERE, Span
from sentinel.core.witness import (
    BRANCHES_MAX,
    HEADERS,
    KINDS,
    PATH_ALPHABET,
    QUERIES,
    Paths,
    both_hosts,
    both_paths,
    branches,
    follows,
    host_covers,
    is_dead,
    methods_of,
    path_covers,
)

SHADOWS_MAX: Final = 3
"""Routes that are named as those that take everything."""
CELLS_MAX: Final = 512
REGEXES_MAX: Final = 200
"""Patterns of one host that are tried on an exact path; of the others nothing is proved."""


@dataclass(frozen=True, slots=True)
class Unreached:
    """A route, or one place of it, that no request reaches."""

    span: Span
    message: str
    remedy: str
    also: tuple[tuple[Span, str], ...] = ()


def unreached(plan: Plan) -> Iterator[Unreached]:
    """Walk over what no request reaches, in the order of the file."""
    by_route: dict[str, list[Candidate]] = {}
    candidates = ranked(plan)
    for candidate in candidates:
        by_route.setdefault(candidate.route.name, []).append(candidate)
    sieve = _Sieve(candidates)
    for route in plan.routes:
        yield from _route(plan, route, by_route[route.name], sieve)


def _route(plan: Plan, route: Route, candidates: list[Candidate], sieve: _Sieve) -> Iterator[Unreached]:
    served = [one for one in plan.listeners if not route.listeners or one.name in route.listeners]
    dead = {id(one): found for one in candidates if (found := _dead(one, served))}
    if len(dead) == len(candidates) and served:
        span, why, remedy = dead[id(min(candidates, key=lambda one: one.key))]
        yield Unreached(span, f"route \"{route.name}\" never matches: {why}", remedy)
        return
    for span, why, remedy in dict.fromkeys(dead.values()):
        yield Unreached(span, f"a part of route \"{route.name}\" never matches: {why}", remedy)
    shadows: dict[int, Candidate] = {}
    for one in candidates:
        if id(one) in dead:
            continue
        taken = sieve.shadows(one, [listener.name for listener in served])
        if taken is None:
            return
        shadows |= {id(other): other for other in taken}
    if shadows:
        yield _shadowed(route, candidates, list(shadows.values()))


def _shadowed(route: Route, candidates: list[Candidate], shadows: list[Candidate]) -> Unreached:
    first = min(candidates, key=lambda one: one.rank)
    best = list({one.route.name: one for one in sorted(shadows, key=lambda one: one.rank)}.values())
    names = " and ".join(f"\"{one.route.name}\"" for one in best[:SHADOWS_MAX])
    more = f" and {len(best) - SHADOWS_MAX} others" if len(best) > SHADOWS_MAX else ""
    also = []
    for one in best[:SHADOWS_MAX]:
        also.append((_place(one), f"route \"{one.route.name}\" is asked first: it {rule_between(one, first)}"))
    is_one = len(best) == 1
    return Unreached(
        _place(first),
        f"route \"{route.name}\" is never reached: route{'' if is_one else 's'} {names}{more} "
        f"take{'s' if is_one else ''} all its requests",
        "remove it, give it a higher `priority`, or narrow the other one" + ("" if is_one else "s"), tuple(also),
    )  # fmt: skip


# Routes that never match.

Why = tuple[Span, str, str]


def _dead(candidate: Candidate, served: list[Listener]) -> Why | None:
    """Why no request matches the candidate; None when one may."""
    match = candidate.match
    span = _first(match.path_span, match.span, candidate.route.span)
    if candidate.path_kind in (PathKind.EXACT, PathKind.PREFIX) and served:
        whys = [_never_sent(candidate.path, listener) for listener in served]
        if all(whys):
            return span, f"{whys[0]}, so that no request has the path \"{candidate.path}\"", "write the path without it"
    if candidate.path_kind is PathKind.REGEX and _is_empty(candidate.path):
        text = f"no path matches the pattern \"{candidate.path}\": paths begin with `/`, and are normalised"
        return span, text, "begin the pattern with `/`"
    if is_dead(candidate):
        return *_contradiction(candidate), "remove one of them, or put alternatives into `any`"
    return None


def _never_sent(path: str, listener: Listener) -> str:
    """Why a listener never hands on a path that contains what this one does; "" when it does."""
    rules = listener.path_rules
    if "//" in path and rules.double_slash != "keep":
        return f"listener `{listener.name}` {'merges' if rules.double_slash == 'merge' else 'refuses'} `//`"
    if ("%2F" in path or "%5C" in path) and rules.encoded_slash == "reject":
        return f"listener `{listener.name}` refuses encoded slashes"
    if ";" in path and rules.parameters == "reject":
        return f"listener `{listener.name}` refuses `;`"
    return ""


def _is_empty(text: str) -> bool:
    pattern = compile_pattern(text)
    found = pattern.examples(PATH_ALPHABET, "/")
    return found.is_complete and not any(found.texts) and not pattern.matches("*")


def _contradiction(candidate: Candidate) -> tuple[Span, str]:
    """The place and the words for conditions that cannot hold together."""
    conditions = candidate.conditions
    span = _first(*(one.span for one in conditions[-1:]), candidate.match.span, candidate.route.span)
    ways = list(islice(branches(conditions), BRANCHES_MAX))
    if len(ways) == 1 and (methods := methods_of(ways[0])) is not None and not methods:
        last = [one for one in conditions if one.kind in ("method", "not", "all")][-1]
        return _first(last.span, span), "its conditions leave no method (all `method` lines must hold)"
    fields = sorted({f"{one.kind.removesuffix('-regex')} `{one.name}`" for way in ways for one, _ in way if one.name})
    about = f" (on {', '.join(fields)})" if fields else ""
    return span, f"its conditions contradict each other{about}"


# Routes that others shadow.


@dataclass(frozen=True, slots=True)
class _Cell:
    """A part of what a candidate matches. method: None where the candidate names none."""

    candidate: Candidate
    listener: str
    method: str | None
    paths: Paths


@dataclass(slots=True)
class _OfHost:
    """The candidates of one host, by their paths."""

    literal: dict[Paths, list[Candidate]] = field(default_factory=dict)
    regexes: list[Candidate] = field(default_factory=list)


class _Sieve:
    """All candidates, found by host and path."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._places: dict[str, _OfHost] = {}
        for one in candidates:
            place = self._places.setdefault(one.host, _OfHost())
            place.literal.setdefault((one.path_kind, one.path), []).append(one)
            if one.path_kind is PathKind.REGEX:
                place.regexes.append(one)

    def shadows(self, candidate: Candidate, listeners: list[str]) -> list[Candidate] | None:
        """The candidates that take all that this one matches; None when something may be left for it."""
        ways = list(islice(branches(candidate.conditions), 2))
        methods = methods_of(ways[0]) if len(ways) == 1 else None
        wanted: list[str | None] = [None] if methods is None else [*sorted(methods)]
        if len(wanted) * len(listeners) > CELLS_MAX:
            return None
        found: list[Candidate] = []
        for listener, method in product(listeners, wanted):
            whole = (candidate.path_kind, candidate.path)
            for paths in self._parts(candidate, listener, method, whole):
                cover = self._cover(_Cell(candidate, listener, method, paths))
                if cover is None:
                    return None
                found.append(cover)
        return found

    def _parts(self, candidate: Candidate, listener: str, method: str | None, whole: Paths) -> list[Paths]:
        """A prefix is the path itself, and what is below it, unless one candidate takes both."""
        kind, path = whole
        if kind is PathKind.PREFIX and not path.endswith("/"):
            if self._cover(_Cell(candidate, listener, method, whole)) is None:
                return [(PathKind.EXACT, path), (PathKind.PREFIX, f"{path}/")]
        elif kind is PathKind.ANY and method not in (None, "OPTIONS"):  # then there is no `*`
            return [(PathKind.PREFIX, "/")]
        return [whole]

    def _cover(self, cell: _Cell) -> Candidate | None:
        for other in self._beside(cell):
            if (
                other.rank < cell.candidate.rank
                and other.route is not cell.candidate.route
                and (not other.route.listeners or cell.listener in other.route.listeners)
                and path_covers((other.path_kind, other.path), cell.paths)
                and all(_is_implied(condition, cell) for condition in other.conditions)
            ):
                return other
        return None

    def _beside(self, cell: _Cell) -> Iterator[Candidate]:
        """Candidates whose host takes in the cell's, and whose path may."""
        for host in _wider_hosts(cell.candidate.host):
            place = self._places.get(host)
            if place is None:
                continue
            for paths in _wider_paths(cell.paths):
                yield from place.literal.get(paths, ())
            if cell.paths[0] is PathKind.EXACT:
                path = cell.paths[1]
                regexes = place.regexes[:REGEXES_MAX]
                yield from (one for one in regexes if one.pattern is not None and one.pattern.matches(path))


def _wider_hosts(host: str) -> Iterator[str]:
    yield host
    name = host.removeprefix("*")
    at = name.find(".", 1)
    while at != -1:
        yield f"*{name[at:]}"
        at = name.find(".", at + 1)
    if host != ANY_HOST:
        yield ANY_HOST


def _wider_paths(paths: Paths) -> Iterator[Paths]:
    kind, path = paths
    yield paths
    yield PathKind.ANY, ""
    if kind is not PathKind.ANY:
        literal = compile_pattern(path).prefix if kind is PathKind.REGEX else path
        for at, character in enumerate(literal):
            if character == "/":
                yield PathKind.PREFIX, literal[: at + 1]
                yield PathKind.PREFIX, literal[:at]
        yield PathKind.PREFIX, literal


# Conditions that follow.


def _is_implied(wanted: Condition, cell: _Cell) -> bool:
    """Whether a condition surely holds for every request of the cell."""
    known = list(_known(cell.candidate.conditions))
    if any(_is_alike(wanted, one) for one in known):
        return True
    match wanted.kind:
        case "method":
            return cell.method in wanted.values
        case "header" | "header-regex" | "query" | "query-regex":
            return any(_is_of_one(wanted, one) and follows(wanted, one) for one in known)
        case "host":
            return any(host_covers(host_pattern(value), cell.candidate.host) for value in wanted.values)
        case "path" | "path-prefix" | "path-regex":
            return any(path_covers(paths, cell.paths) for paths in _paths_of(wanted))
        case "all":
            return all(_is_implied(part, cell) for part in wanted.parts)
        case "any":
            return any(_is_implied(part, cell) for part in wanted.parts)
        case "not":
            return all(_is_excluded(part, cell) for part in wanted.parts)


def _is_excluded(condition: Condition, cell: _Cell) -> bool:
    """Whether a condition surely holds for no request of the cell."""
    match condition.kind:
        case "method":
            return cell.method is not None and cell.method not in condition.values
        case "header" | "header-regex" | "query" | "query-regex":
            refused = [part for one in _known(cell.candidate.conditions) if one.kind == "not" for part in one.parts]
            return any(_is_of_one(condition, part) and follows(part, condition) for part in refused)
        case "host":
            return not any(both_hosts(host_pattern(value), cell.candidate.host) for value in condition.values)
        case "path" | "path-prefix" | "path-regex":
            return not any(both_paths(paths, cell.paths) for paths in _paths_of(condition))
        case "all":
            return any(_is_excluded(part, cell) for part in condition.parts)
        case "any":
            return all(_is_excluded(part, cell) for part in condition.parts)
        case "not":
            return any(_is_implied(part, cell) for part in condition.parts)


def _known(conditions: Iterable[Condition]) -> Iterator[Condition]:
    for one in conditions:
        yield one
        if one.kind == "all":
            yield from _known(one.parts)


def _is_of_one(one: Condition, other: Condition) -> bool:
    """Whether both are about the same header, or the same parameter."""
    return one.name == other.name and any(one.kind in kinds and other.kind in kinds for kinds in (HEADERS, QUERIES))


def _is_alike(one: Condition, other: Condition) -> bool:
    is_plain = (one.kind, one.name, set(one.values)) == (other.kind, other.name, set(other.values))
    if not is_plain or len(one.parts) != len(other.parts):
        return False
    return all(_is_alike(part, its) for part, its in zip(one.parts, other.parts, strict=True))


def _paths_of(condition: Condition) -> list[Paths]:
    kind = KINDS[condition.kind]
    return [(kind, value if kind is PathKind.REGEX else path_literal(value)) for value in condition.values]


def _place(candidate: Candidate) -> Span:
    return _first(candidate.match.span, candidate.route.span)


def _first(*spans: Span) -> Span:
    return next((span for span in spans if span.line), NOWHERE)
