"""A request that a candidate matches, made from its conditions; and why there can be none.

Intuition: a witness in court. Whoever claims that a route can be reached has to bring somebody who
went there; whoever claims the contrary has to show two statements that cannot both be true. Between
the two lies "not known", and it is never filled in by guessing.

    conditions ── branches ──▶ literals: plain conditions that hold, or must not
                                  ├─ method, host, path, each header, each parameter:
                                  │  the first guess that satisfies all its literals ──▶ Sketch
                                  └─ a contradiction in one of them ──▶ this branch is dead

Rules:
1. A sketch that is returned was put to the candidate's own tests: it matches.
2. `is_dead` is a proof: no request at all matches. It may miss some dead ones.
3. Everything is bounded (BRANCHES_MAX, GUESSES_MAX), and the same for the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, product
from typing import Final

from sentinel.core.candidates import ANY_HOST, Candidate, PathKind
from sentinel.core.conditions import (
    Test,
    compile_condition,
    host_matches,
    host_pattern,
    path_has_prefix,
    path_literal,
)
from sentinel.core.path import Target, normalise
from sentinel.core.plan import Condition, PathRules
from sentinel.core.regex import Examples, Pattern, compile_pattern
from sentinel.core.request import Request

BRANCHES_MAX: Final = 64
GUESSES_MAX: Final = 200
EXAMPLES_MAX: Final = 12

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PATH_ALPHABET: Final = LETTERS + "-_~!$&'()*+,=:@;./%"
"""All that a normalised path may consist of (core.path)."""
FIELD_ALPHABET: Final = LETTERS + "".join(
    chr(code) for code in (*range(0x21, 0x7F), 0x20, 0x09, *range(0xA0, 0x100)) if chr(code) not in LETTERS
)
OTHER_HOST: Final = "unnamed.invalid"
OTHER_LABEL: Final = "w"
HEADERS: Final = ("header", "header-regex")
QUERIES: Final = ("query", "query-regex")
KINDS: Final = {"path": PathKind.EXACT, "path-prefix": PathKind.PREFIX, "path-regex": PathKind.REGEX}
STRICT: Final = PathRules("reject", "reject", "reject", "reject")
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "LINK")
CLIENT: Final = "192.0.2.1"

Literal = tuple[Condition, bool]
Branch = tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Sketch:
    """What of a request conditions ask for. `query`: as it is sent."""

    method: str = "GET"
    host: str = OTHER_HOST
    path: str = "/"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    model: str = ""  # of a request to a language model; no condition asks for it

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def request(self, listener: str = "", scheme: str = "http") -> Request:
        return Request(
            self.method, scheme, self.host, self.path, self.query, self.target, self.headers, CLIENT, listener
        )


def witness(candidate: Candidate, more: Sequence[Condition] = ()) -> Sketch | None:
    """A request that the candidate matches (and for which `more` holds); None when none was found."""
    tests = [_test(condition) for condition in more]
    for branch in islice(branches((*candidate.conditions, *more)), BRANCHES_MAX):
        sketch = _sketch(candidate, branch)
        if sketch is None:
            continue
        asked = sketch.request()
        if holds(candidate, asked) and all(test(asked) for test in tests):
            return sketch
    return None


def holds(candidate: Candidate, request: Request) -> bool:
    """Whether the candidate matches the request, by its own tests."""
    return candidate.host_holds(request) and candidate.path_holds(request) and candidate.conditions_hold(request, [])


def is_dead(candidate: Candidate) -> bool:
    """Whether no request at all can match the candidate: its conditions contradict each other."""
    found = list(islice(branches(candidate.conditions), BRANCHES_MAX + 1))
    return len(found) <= BRANCHES_MAX and all(_contradicts(candidate, branch) for branch in found)


def branches(conditions: Iterable[Condition], is_wanted: bool = True) -> Iterator[Branch]:
    """Walk over the ways in which all the conditions hold (or none of them does), as plain literals."""
    ways = [list(islice(_ways(one, is_wanted), BRANCHES_MAX + 1)) for one in conditions]
    return (tuple(chain.from_iterable(parts)) for parts in product(*ways))


def _ways(condition: Condition, is_wanted: bool) -> Iterator[Branch]:
    match condition.kind:
        case "not":
            if is_wanted:
                yield from branches(condition.parts, is_wanted=False)
            else:
                yield from chain.from_iterable(_ways(part, True) for part in condition.parts)
        case "any" | "all":
            if is_wanted is (condition.kind == "all"):
                yield from branches(condition.parts, is_wanted)
            else:
                yield from chain.from_iterable(_ways(part, is_wanted) for part in condition.parts)
        case _:
            yield ((condition, is_wanted),)


@lru_cache(maxsize=4096)
def _test(condition: Condition) -> Test:
    """Conditions are asked again and again while requests are made of them."""
    return compile_condition(condition)


@lru_cache(maxsize=1024)
def _pattern(text: str) -> Pattern:
    return compile_pattern(text)


# Making one.


def _sketch(candidate: Candidate, branch: Branch) -> Sketch | None:
    """Satisfy the literals of each part of the request by itself, and put the parts together."""
    hosts = [one for one in branch if one[0].kind == "host"]
    paths = [one for one in branch if one[0].kind.startswith("path")]
    methods = [one for one in branch if one[0].kind == "method"]
    named = dict.fromkeys(value for condition, is_wanted in methods if is_wanted for value in condition.values)
    parts = [
        _first((Sketch(host=host) for host in _host_guesses(candidate, hosts)), hosts, candidate.host_holds),
        _first((Sketch(path=path) for path in _path_guesses(candidate, paths)), paths, candidate.path_holds),
        _first((Sketch(method=method) for method in (*named, *METHODS)), methods),
    ]
    for name in dict.fromkeys(condition.name for condition, _ in branch if condition.kind in HEADERS):
        literals = [one for one in branch if one[0].kind in HEADERS and one[0].name == name]
        guesses = (Sketch(headers=tuple((name, value) for value in values)) for values in _value_guesses(literals))
        parts.append(_first(guesses, literals))
    for name in dict.fromkeys(condition.name for condition, _ in branch if condition.kind in QUERIES):
        literals = [one for one in branch if one[0].kind in QUERIES and one[0].name == name]
        guesses = (Sketch(query=query_of((name, value) for value in values)) for values in _value_guesses(literals))
        parts.append(_first(guesses, literals))
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    host, path, method, *fields = found
    return Sketch(
        method.method, host.host, path.path, "&".join(part.query for part in fields if part.query),
        tuple(chain.from_iterable(part.headers for part in fields)),
    )  # fmt: skip


def _first(guesses: Iterable[Sketch], literals: Sequence[Literal], *more: Test) -> Sketch | None:
    """The first guess for which everything holds that is asked of this part of a request."""
    tests = [(_test(condition), is_wanted) for condition, is_wanted in literals]
    for guess in islice(guesses, GUESSES_MAX):
        asked = guess.request()
        if all(test(asked) for test in more) and all(test(asked) is is_wanted for test, is_wanted in tests):
            return guess
    return None


def _host_guesses(candidate: Candidate, literals: Sequence[Literal]) -> Iterator[str]:
    wanted = [candidate.host, *(host_pattern(value) for condition, is_wanted in literals if is_wanted
                                for value in condition.values)]  # fmt: skip
    for label in (OTHER_LABEL, f"{OTHER_LABEL}.{OTHER_LABEL}", "z"):
        for pattern in dict.fromkeys(wanted):
            if pattern == ANY_HOST:
                yield f"{label}.{OTHER_HOST}" if label != OTHER_LABEL else OTHER_HOST
            else:
                yield label + pattern[1:] if pattern.startswith("*.") else pattern


def _path_guesses(candidate: Candidate, literals: Sequence[Literal]) -> Iterator[str]:
    """Paths as a listener leaves them; those that it would change come last."""
    guesses = list(islice(_raw_paths(candidate, literals), GUESSES_MAX))
    yield from sorted(guesses, key=lambda path: not is_normal(path))


def _raw_paths(candidate: Candidate, literals: Sequence[Literal]) -> Iterator[str]:
    wanted = [(candidate.path_kind, candidate.path)]
    for condition, is_wanted in literals:
        kind = KINDS[condition.kind]
        values = condition.values if kind is PathKind.REGEX else [path_literal(value) for value in condition.values]
        if is_wanted:
            wanted += [(kind, value) for value in values]
    for kind, path in dict.fromkeys(wanted):
        match kind:
            case PathKind.EXACT:
                yield path
            case PathKind.PREFIX | PathKind.ANY:
                stem = path.rstrip("/")
                yield from (path or "/", f"{stem}/", f"{stem}/w", f"{stem}/w/w", f"{stem}/z9")
            case PathKind.REGEX:
                yield from filter(None, path_examples(path).texts)


def _value_guesses(literals: Sequence[Literal]) -> Iterator[tuple[str, ...]]:
    """What a header or a parameter may say: nothing, one value, or one for each condition that wants it."""
    wanted = [list(_accepted(condition)) for condition, is_wanted in literals if is_wanted]
    if not wanted:
        yield ()  # absent: nothing is wanted of it, and whatever must not hold does not
        return
    yield from dict.fromkeys((value,) for values in wanted for value in values)
    yield from product(*wanted)


def _accepted(condition: Condition) -> Iterator[str]:
    """Values for which a condition on a header or parameter holds."""
    if condition.kind.endswith("regex"):
        for text in condition.values:
            yield from (value for value in field_examples(text).texts if value == value.strip(" \t"))
    else:
        yield from condition.values or (OTHER_LABEL, "1", "")


def query_of(pairs: Iterable[tuple[str, str]]) -> str:
    """Write parameters as they are sent."""
    return "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)


def is_normal(path: str) -> bool:
    """Whether every listener leaves the path as it is, however it is told to treat ambiguous ones."""
    found = normalise(path, STRICT)
    return isinstance(found, Target) and found.path == path


@lru_cache(maxsize=1024)
def path_examples(text: str) -> Examples:
    """Normalised paths that match a pattern; beside those that begin with "/" there is only the "*" of OPTIONS."""
    return _pattern(text).examples(PATH_ALPHABET, "/", EXAMPLES_MAX)


@lru_cache(maxsize=1024)
def field_examples(text: str) -> Examples:
    return _pattern(text).examples(FIELD_ALPHABET, count=EXAMPLES_MAX)


def _escaped(text: str) -> str:
    return "".join(one if one in LETTERS else "".join(f"%{octet:02X}" for octet in one.encode()) for one in text)


# Proving that there is none.


def _contradicts(candidate: Candidate, branch: Branch) -> bool:
    return (
        _methods_contradict(branch)
        or _hosts_contradict(candidate, branch)
        or _paths_contradict(candidate, branch)
        or any(_fields_contradict(branch, kinds) for kinds in (HEADERS, QUERIES))
    )


def methods_of(branch: Branch) -> frozenset[str] | None:
    """The methods that remain; None: all but perhaps a few."""
    said = [(frozenset(condition.values), is_wanted) for condition, is_wanted in branch if condition.kind == "method"]
    wanted = [methods for methods, is_wanted in said if is_wanted]
    if not wanted:
        return None
    return frozenset.intersection(*wanted).difference(*(methods for methods, is_wanted in said if not is_wanted))


def _methods_contradict(branch: Branch) -> bool:
    left = methods_of(branch)
    return left is not None and not left


def _hosts_contradict(candidate: Candidate, branch: Branch) -> bool:
    left = {candidate.host}
    for condition, is_wanted in branch:
        if condition.kind == "host":
            others = {host_pattern(value) for value in condition.values}
            if is_wanted:
                left = {both for one in left for other in others if (both := both_hosts(one, other))}
            else:
                left = {one for one in left if not any(host_covers(other, one) for other in others)}
    return not left


def both_hosts(one: str, other: str) -> str:
    """The hosts that are of both patterns, as a pattern; "" if there are none."""
    if host_covers(one, other):
        return other
    return one if host_covers(other, one) else ""


def host_covers(wide: str, narrow: str) -> bool:
    """Whether every host of the narrow pattern is of the wide one."""
    if wide == ANY_HOST:
        return True
    if narrow == ANY_HOST:
        return False
    if narrow.startswith("*."):
        return wide.startswith("*.") and narrow.endswith(wide[1:])
    return host_matches(narrow, wide)


def _paths_contradict(candidate: Candidate, branch: Branch) -> bool:
    left = {(candidate.path_kind, candidate.path)}
    for condition, is_wanted in branch:
        if condition.kind.startswith("path"):
            kind = KINDS[condition.kind]
            others = [(kind, one if kind is PathKind.REGEX else path_literal(one)) for one in condition.values]
            if is_wanted:
                left = {both for one in left for other in others if (both := both_paths(one, other))}
            else:
                left = {one for one in left if not any(path_covers(other, one) for other in others)}
    return not any(_can_be_sent(one) for one in left)


Paths = tuple[PathKind, str]


def both_paths(one: Paths, other: Paths) -> Paths | None:
    """A set that holds every path that is in both; None if there is none."""
    if path_covers(one, other):
        return other
    if path_covers(other, one):
        return one
    kinds = {one[0], other[0]}
    if PathKind.REGEX not in kinds:
        return None  # literals overlap only where one covers the other
    if PathKind.EXACT in kinds:
        return None  # an exact path that matched would be covered
    return one  # perhaps: the first of them is at least no smaller


def path_covers(wide: Paths, narrow: Paths) -> bool:
    """Whether every path of `narrow` is surely in `wide`."""
    if wide[0] is PathKind.ANY or wide == narrow:
        return True
    match narrow[0]:
        case PathKind.EXACT:
            return is_of(wide, narrow[1])
        case PathKind.PREFIX:
            return wide[0] is PathKind.PREFIX and path_has_prefix(narrow[1], wide[1])
        case PathKind.REGEX:
            beginning = _pattern(narrow[1]).prefix
            # A beginning that goes on after a border is below it, whatever follows.
            return wide[0] is PathKind.PREFIX and beginning.startswith(wide[1].rstrip("/") + "/")
        case PathKind.ANY:
            return False


def is_of(paths: Paths, path: str) -> bool:
    match paths[0]:
        case PathKind.EXACT:
            return path == paths[1]
        case PathKind.PREFIX:
            return path_has_prefix(path, paths[1])
        case PathKind.REGEX:
            return _pattern(paths[1]).matches(path)
        case PathKind.ANY:
            return True


def _can_be_sent(paths: Paths) -> bool:
    """Whether some path of the set may be that of a request."""
    if paths[0] is not PathKind.REGEX:
        return True
    found = path_examples(paths[1])
    return bool(found.texts) or not found.is_complete or _pattern(paths[1]).matches("*")


def _fields_contradict(branch: Branch, kinds: tuple[str, str]) -> bool:
    """A header or parameter that is wanted, and whose every wanted value is refused."""
    literals = [one for one in branch if one[0].kind in kinds]
    refused = [condition for condition, is_wanted in literals if not is_wanted]
    return any(
        condition.name == other.name and follows(other, condition)
        for condition, is_wanted in literals
        if is_wanted
        for other in refused
    )


def follows(condition: Condition, known: Condition) -> bool:
    """Whether a condition surely holds whenever `known` does: both on the same header, or the same parameter."""
    if not condition.values:
        return True  # it only has to be there
    if not known.values:
        return False
    if known.kind == condition.kind:
        return set(known.values) <= set(condition.values)
    if condition.kind.endswith("regex"):
        patterns = [_pattern(text) for text in condition.values]
        return all(any(pattern.matches(value) for pattern in patterns) for value in known.values)
    return False
