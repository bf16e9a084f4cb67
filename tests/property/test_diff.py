"""A diff finds what was changed, without any traffic; and finds nothing where nothing was.

Mutations change one thing of a generated configuration. Whether it matters is asked of thousands of random
requests: a mutation that these show must be found by the requests that the diff makes itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.plan import Condition, Endpoint, Match, Plan, RateLimit, Respond, Route, Upstream
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.core.span import Span
from sentinel.explain.diff import Case, Report, compare
from sentinel.explain.generate import Generated
from sentinel.explain.treatment import Kind
from tests.core.build import plan, request
from tests.property.test_routes import REQUESTS, plans

SEED = 20_261_124
MUTATIONS = 100


def generated(old: Plan, new: Plan) -> Report:
    one, other = compile_routes(old), compile_routes(new)
    return compare(one, other, Generated(one, other).cases())


@settings(max_examples=40, deadline=None)
@given(plans())
def test_the_same_configuration_at_other_places_is_no_difference(whole: Plan) -> None:
    moved = replace(
        whole,
        routes=tuple(
            replace(
                one, span=Span("moved.kdl", 7, 7), series=9,
                matches=tuple(replace(match, span=Span("moved.kdl", 8, 8)) for match in one.matches),
            )
            for one in whole.routes
        ),
        upstreams=tuple(
            replace(one, place=4, endpoints=tuple(replace(end, place=2) for end in one.endpoints))
            for one in whole.upstreams
        ),
    )  # fmt: skip
    report = generated(whole, moved)
    assert report.is_same and report.total > 0


@settings(max_examples=40, deadline=None)
@given(plans(), plans(), st.lists(REQUESTS, min_size=20, max_size=20))
def test_what_random_requests_show_is_shown_by_generated_ones(old: Plan, new: Plan, asked: list[Request]) -> None:
    cases = [Case("", one, one) for one in asked if one.path.startswith("/") and "//" not in one.path and one.host]
    if not compare(compile_routes(old), compile_routes(new), cases).is_same:
        assert not generated(old, new).is_same


@settings(max_examples=15, deadline=None)
@given(plans(), plans())
def test_a_report_is_the_same_each_time(old: Plan, new: Plan) -> None:
    assert generated(old, new).to_dict() == generated(old, new).to_dict()
    report = generated(old, new)
    assert sum(group.count for group in report.groups) + report.ungrouped == report.differing + report.renamed


# Mutations.

HOSTS = ("a.example", "b.example", "*.a.example", "*.example")
PATHS = ("/", "/a", "/a/b", "/b", "/a/b/c")
REGEXES = ("/a/[0-9]+", "/(x|y)/z", "/b/.*")
FIELDS = (
    Condition("header", "x-a", ("1",)), Condition("header", "x-b"), Condition("query", "p", ("1", "2")),
    Condition("header-regex", "x-c", ("v[0-9]+",)), Condition("method", values=("GET", "POST")),
    Condition("method", values=("DELETE",)), Condition("not", parts=(Condition("header", "x-a", ("2",)),)),
    Condition("any", parts=(Condition("query", "q"), Condition("method", values=("PUT",)))),
)  # fmt: skip


def base(chance: random.Random) -> Plan:
    """A configuration of a dozen routes."""
    limits = tuple(RateLimit(f"l{n}", 1_000_000_000, 10 + n, 20 + n) for n in range(2))
    ends = [(Endpoint("10.0.0.1", 9000 + n), Endpoint("10.0.0.2", 9000 + n, 2)) for n in range(3)]
    ups = tuple(Upstream(f"u{n}", one) for n, one in enumerate(ends))
    routes = []
    for order in range(12):
        kind = chance.choice(["paths", "path_prefixes", "path_prefixes", "path_regexes", ""])
        given = {kind: (chance.choice(REGEXES if kind == "path_regexes" else PATHS),)} if kind else {}
        conditions = tuple(chance.sample(FIELDS, chance.choice([0, 0, 1, 2])))
        hosts = tuple(chance.sample(HOSTS, chance.choice([0, 1, 1, 2])))
        is_own = chance.random() < 0.3
        routes.append(
            Route(
                f"r{order}", (Match(hosts=hosts, conditions=conditions, **given),), order,
                respond=Respond(200, f"body {order}") if is_own else None,
                upstream=None if is_own else f"u{chance.randrange(3)}", timeout_ns=order * 1_000_000_000,
                filters=("l0",) if chance.random() < 0.3 else (),
            )
        )  # fmt: skip
    return replace(plan(), routes=tuple(routes), upstreams=ups, rate_limits=limits)


Mutation = Callable[[random.Random, Plan], Plan]


def with_route(change: Callable[[random.Random, Route], Route]) -> Mutation:
    def mutate(chance: random.Random, whole: Plan) -> Plan:
        at = chance.randrange(len(whole.routes))
        routes = list(whole.routes)
        routes[at] = change(chance, routes[at])
        return replace(whole, routes=tuple(routes))

    return mutate


def with_match(change: Callable[[random.Random, Match], Match]) -> Mutation:
    return with_route(lambda chance, one: replace(one, matches=(change(chance, one.matches[0]),)))


def other_conditions(chance: random.Random, match: Match) -> Match:
    if match.conditions and chance.random() < 0.5:
        return replace(match, conditions=match.conditions[1:])
    return replace(match, conditions=(*match.conditions, chance.choice(FIELDS)))


def other_values(chance: random.Random, match: Match) -> Match:
    """One value more, or less, of the first condition."""
    if not match.conditions or not match.conditions[0].values:
        return other_conditions(chance, match)
    first = match.conditions[0]
    if len(first.values) > 1 and chance.random() < 0.5:
        changed = replace(first, values=first.values[1:])
    else:
        changed = replace(first, values=(*first.values, "PATCH" if first.kind == "method" else "9"))
    return replace(match, conditions=(changed, *match.conditions[1:]))


def other_path(chance: random.Random, match: Match) -> Match:
    kind = chance.choice(["paths", "path_prefixes"])
    return replace(replace(match, paths=(), path_prefixes=(), path_regexes=()), **{kind: (chance.choice(PATHS),)})


def swapped(chance: random.Random, whole: Plan) -> Plan:
    one, other = sorted(chance.sample(range(len(whole.routes)), 2))
    routes = list(whole.routes)
    routes[one], routes[other] = replace(routes[other], order=one), replace(routes[one], order=other)
    return replace(whole, routes=tuple(routes))


def other_limit(chance: random.Random, whole: Plan) -> Plan:
    first, *rest = whole.rate_limits
    change = chance.choice([{"burst": 99}, {"count": 99}, {"key": ("header:x-a",)}, {"on_limit": "observe"}])
    return replace(whole, rate_limits=(replace(first, **change), *rest))


def other_upstream(chance: random.Random, whole: Plan) -> Plan:
    at = chance.randrange(len(whole.upstreams))
    ups = list(whole.upstreams)
    one = ups[at]
    ups[at] = chance.choice([
        replace(one, endpoints=(replace(one.endpoints[0], weight=7), *one.endpoints[1:])),
        replace(one, endpoints=one.endpoints[1:]),
        replace(one, first_byte_timeout_ns=1),
        replace(one, max_requests=7),
    ])  # fmt: skip
    return replace(whole, upstreams=tuple(ups))


MUTATORS: dict[str, Mutation] = {
    "condition": with_match(other_conditions),
    "value": with_match(other_values),
    "host": with_match(lambda chance, one: replace(one, hosts=tuple(chance.sample(HOSTS, chance.choice([0, 1]))))),
    "path": with_match(other_path),
    "status": with_route(lambda _, one: replace(one, respond=Respond(418), upstream=None)),
    "timeout": with_route(lambda _, one: replace(one, timeout_ns=one.timeout_ns + 1)),
    "filters": with_route(lambda _, one: replace(one, filters=() if one.filters else ("l1",))),
    "priority": with_route(lambda chance, one: replace(one, priority=chance.choice([-1, 1]))),
    "target": with_route(lambda _, one: replace(one, upstream="u0", respond=None)),
    "order": swapped,
    "limit": other_limit,
    "upstream": other_upstream,
}


def probes(chance: random.Random) -> Iterator[Request]:
    """Requests that know nothing of the generator: everything against everything, and chance for the rest."""
    hosts = ("a.example", "b.example", "x.a.example", "y.x.a.example", "example", "c.example", "other")
    paths = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/a/7", "/x/z", "/b", "/b/q", "/ab", "/z")
    for host, path, method in product(hosts, paths, ("GET", "POST", "DELETE", "PUT", "PATCH")):
        for _ in range(2):
            headers = [(name, chance.choice(["1", "2", "9", "v1", "w"])) for name in ("x-a", "x-b", "x-c")
                       if chance.random() < 0.5]  # fmt: skip
            query = chance.choice(["", "p=1", "p=2&q=1", "q=", "p=9"])
            yield request(path, host=host, method=method, headers=headers, query=query)


def test_a_single_change_is_found_without_traffic() -> None:
    chance = random.Random(SEED)
    missed, told, equal = [], 0, 0
    for number in range(MUTATIONS):
        old = base(chance)
        name = chance.choice(list(MUTATORS))
        new = MUTATORS[name](chance, old)
        shown = compare(
            compile_routes(old), compile_routes(new), (Case("", one, one, Kind.GENERATED) for one in probes(chance))
        )
        found = generated(old, new)
        if shown.is_same and found.is_same:
            equal += 1
        elif found.is_same:
            missed.append((number, name, shown.groups[0].text, shown.groups[0].before, shown.groups[0].after))
        else:
            told += 1
    print(f"{told} of {told + len(missed)} changes that matter were found, {equal} change nothing")
    assert told > MUTATIONS / 2, "most of the changes shall matter"
    assert len(missed) <= 0.05 * (told + len(missed)), missed
