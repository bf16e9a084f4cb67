"""The index finds what the definition of precedence says, and an explanation tells the same.

The naive matcher below is written from the text of the documentation alone: it looks at
every route, keeps those that match, and sorts. It shares no code with the index,
not even the matching of hosts, paths and conditions.
"""

from __future__ import annotations

import re
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.plan import Condition, Match, Plan, Respond, Route
from sentinel.core.reasons import Reason
from sentinel.core.record import RecordEncoder, decode
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.stages.match import LOST_MAX
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.explain import explain
from sentinel.explain.assumed import Assumed
from sentinel.explain.losers import Loser, compare, compare_recorded
from tests.core.build import match, plan, request, route


def naive_winner(whole: Plan, asked: Request) -> str | None:
    """Scan all routes; return the name of the best that matches."""
    matching = []
    for position, one in enumerate(whole.routes):
        if one.listeners and asked.listener not in one.listeners:
            continue
        for alternative in one.matches or (Match(),):
            if not all(holds(condition, asked) for condition in alternative.conditions):
                continue
            paths = (
                [("exact", path) for path in alternative.paths]
                + [("prefix", path) for path in alternative.path_prefixes]
                + [("regex", path) for path in alternative.path_regexes]
            )
            for host, (kind, path) in product(alternative.hosts or ("*",), paths or [("any", "")]):
                if host_holds(host, asked.host) and path_holds(kind, path, asked.path):
                    rank = (
                        -one.priority, host_rank(host), path_rank(kind, path),
                        -len(alternative.conditions), one.order, position,
                    )  # fmt: skip
                    matching.append((rank, one.name))
    return min(matching)[1] if matching else None


def host_rank(host: str) -> tuple[int, int]:
    if host == "*":
        return (2, 0)
    return (1, -len(host)) if host.startswith("*.") else (0, 0)


def path_rank(kind: str, path: str) -> tuple[int, int]:
    return ({"exact": 0, "prefix": 1, "regex": 2, "any": 3}[kind], -len(path) if kind == "prefix" else 0)


def host_holds(host: str, asked: str) -> bool:
    if host.startswith("*."):
        labels, wanted = asked.split("."), host[2:].split(".")
        return len(labels) > len(wanted) and labels[-len(wanted) :] == wanted
    return host in ("*", asked)


def path_holds(kind: str, path: str, asked: str) -> bool:
    if kind == "prefix":
        wanted = path.split("/")
        have = asked.split("/")
        if path.endswith("/"):
            return have[: len(wanted) - 1] == wanted[:-1] and len(have) >= len(wanted)
        return have[: len(wanted)] == wanted
    if kind == "regex":
        return re.fullmatch(path, asked, re.ASCII | re.DOTALL) is not None
    return kind == "any" or path == asked


def holds(condition: Condition, asked: Request) -> bool:
    match condition.kind:
        case "method":
            return asked.method in condition.values
        case "header":
            values = [value for key, value in asked.headers if key == condition.name]
            return bool(set(values) & set(condition.values)) if condition.values else bool(values)
        case "query":
            pairs = [tuple(pair.split("=")) for pair in asked.query.split("&") if pair]
            values = [value for key, value in pairs if key == condition.name]
            return bool(set(values) & set(condition.values)) if condition.values else bool(values)
        case "path-prefix":
            return any(path_holds("prefix", value, asked.path) for value in condition.values)
        case "host":
            return any(host_holds(value, asked.host) for value in condition.values)
        case "not":
            return not any(holds(part, asked) for part in condition.parts)
        case "any":
            return any(holds(part, asked) for part in condition.parts)
        case "all":
            return all(holds(part, asked) for part in condition.parts)
    raise AssertionError(condition.kind)


# Few hosts, paths and conditions, so that most requests are matched by several routes: precedence is what is tested.
HOSTS = st.sampled_from(["a.example", "a.example", "*.example", "*.a.example", "*"])
PATHS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/a", "/ab", "/b"])
PREFIXES = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/a", "/ab"])
REGEXES = st.sampled_from(["/a/.*", "/(a|b)/?", r"/a/\w+", ".*b", "/ab", "/a.*", "/a/b/[ab]*", ""])
SIMPLE = st.sampled_from([
    Condition("header", name="x-a", values=("1",)),
    Condition("header", name="x-b"),
    Condition("method", values=("GET",)),
])
LEAVES = st.one_of(
    st.builds(Condition, kind=st.just("method"), values=st.sampled_from([("GET",), ("GET", "PUT"), ("POST",)])),
    st.builds(
        Condition, kind=st.just("header"), name=st.sampled_from(["x-a", "x-b"]),
        values=st.sampled_from([(), ("1",), ("1", "2")]),
    ),
    st.builds(
        Condition, kind=st.just("query"), name=st.sampled_from(["p", "q"]), values=st.sampled_from([(), ("1",)])
    ),
    st.builds(Condition, kind=st.just("path-prefix"), values=PREFIXES.map(lambda path: (path,))),
    st.builds(Condition, kind=st.just("host"), values=HOSTS.map(lambda host: (host,))),
)  # fmt: skip
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Condition, kind=st.sampled_from(["not", "any", "all"]), parts=st.lists(inner, min_size=1, max_size=2).map(tuple)
    ),
    max_leaves=3,
)


def _few(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, max_size=2, unique=True).map(tuple)


MATCHES = st.builds(
    match, hosts=st.just(()) | _few(HOSTS), paths=st.just(()) | _few(PATHS), prefixes=_few(PREFIXES),
    regexes=st.just(()) | _few(REGEXES), conditions=st.just(()) | st.lists(SIMPLE | CONDITIONS, max_size=2).map(tuple),
    line=st.integers(1, 99),
)  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    priorities = draw(st.sampled_from([(0,), (0, 5), (-1, 0, 1, 2)]))
    routes: list[Route] = []
    for order in range(draw(st.integers(0, 12))):
        routes.append(
            route(
                f"r{order}",
                *draw(st.lists(MATCHES, min_size=1, max_size=2) | st.just([])),
                order=order,
                priority=draw(st.sampled_from(priorities)),
                listeners=draw(st.sampled_from([(), (), ("web",), ("internal", "web"), ("internal",)])),
                respond=draw(st.sampled_from([None, Respond(200)])),
            )
        )
    return plan(*routes)


REQUESTS = st.builds(
    request,
    PATHS | st.sampled_from(["/a/b/a/b", "/a/ab", "/a//b", "//a", "/c", "*"]),
    host=st.sampled_from(["a.example", "a.example", "b.a.example", "c.b.a.example", "example", "[::1]", ""]),
    method=st.sampled_from(["GET", "PUT", "POST"]),
    query=st.sampled_from(["", "p=1", "p=2&q=1", "q=1&p=1"]),
    headers=st.lists(st.tuples(st.sampled_from(["x-a", "x-b"]), st.sampled_from("123")), max_size=2, unique=True),
    listener=st.sampled_from(["web", "web", "internal"]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(plans(), st.lists(REQUESTS, min_size=8, max_size=8))
def test_the_index_finds_what_the_definition_says(whole: Plan, asked: list[Request]) -> None:
    table = compile_routes(whole)
    for one in asked:
        found = table.find(one)
        assert (None if found is None else found.route.name) == naive_winner(whole, one)


@settings(max_examples=150, deadline=None)
@given(plans(), st.lists(REQUESTS, min_size=4, max_size=4))
def test_an_explanation_names_the_live_winner(whole: Plan, requests: list[Request]) -> None:
    table = compile_routes(whole)
    for asked in requests:
        check_explanation(table, asked)


def check_explanation(table: RouteTable, asked: Request) -> None:
    comparison = compare(table, asked)
    assert comparison.winner is table.find(asked)
    beaten = len(table.candidates) if comparison.winner is None else comparison.winner.rank
    assert all(loser.candidate.rank < beaten and loser.text for loser in comparison.losers)

    trace = Trace()
    verdict = run(decide(table, asked, Assumed(table.plan), trace))
    told = explain(table, asked).children[-1]
    assert told.kind == "verdict"
    assert told.reason == (verdict.reason.word if isinstance(verdict, Reject) else told.reason)
    assert (comparison.winner is None) == isinstance(verdict, Reject)


@settings(max_examples=300, deadline=None)
@given(plans(), st.lists(REQUESTS, min_size=4, max_size=4))
def test_a_record_tells_the_same_losers_as_an_explanation(whole: Plan, requests: list[Request]) -> None:
    """Host and path are looked at again, conditions are as the live walk recorded them: nothing may be missing."""
    table, encoder = compile_routes(whole), RecordEncoder()
    for asked in requests:
        trace = Trace()
        verdict = run(decide(table, asked, Assumed(table.plan), trace))
        route = "" if verdict.route is None else verdict.route.name
        record = decode(encoder.encode(
            request_id="", time_ns=0, duration_ns=0, generation=1, listener=asked.listener, client_ip="",
            method=asked.method, host=asked.host, path=asked.path, query_length=len(asked.query), route=route,
            upstream="", endpoint="", attempts=0, status=200, reason_number=0, bytes_in=0, bytes_out=0,
            steps=trace.steps,
        ))  # fmt: skip
        now, then = compare(table, asked), compare_recorded(table, record)
        assert [place(one) for one in now.losers] == [place(one) for one in then.losers]
        assert now.winner is then.winner


def place(loser: Loser) -> tuple[int, str, object]:
    return loser.candidate.rank, loser.obstacle, loser.span


def test_many_that_lose_by_a_condition_are_told_by_number() -> None:
    needs = (Condition("header", name="x-a"),)
    many = [route(f"r{at}", match(conditions=needs, line=at + 1), order=at) for at in range(20)]
    trace, whole = Trace(), plan(*many)
    run(decide(compile_routes(whole), request("/"), Assumed(whole), trace))
    failed = [details for reason, _, details in trace.steps if reason is Reason.CONDITION_FAILED]
    assert [details[0] for details in failed[:-1]] == [f"r{at}" for at in range(LOST_MAX)]
    assert failed[-1] == (20 - LOST_MAX,) and trace.steps[-1][0] is Reason.NO_ROUTE


@settings(max_examples=30, deadline=None)
@given(plans(), REQUESTS)
def test_the_same_answers_give_the_same_trace(whole: Plan, asked: Request) -> None:
    traces = []
    for _ in range(2):
        trace = Trace()
        traces.append((run(decide(compile_routes(whole), asked, Assumed(whole), trace)), trace.steps))
    assert traces[0] == traces[1]
