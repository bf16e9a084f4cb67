"""Precedence by example; the whole of it is held by tests/property/test_routes.py."""

from __future__ import annotations

import pytest

from sentinel.core import routes as memory
from sentinel.core.plan import Condition
from sentinel.core.routes import HostIndex
from tests.core.build import match, request, route, table, winner

METHOD = Condition("method", values=("GET",))
TENANT = Condition("header", name="x-tenant", values=("a",))


def test_an_explicit_priority_beats_everything_else() -> None:
    routes = table(
        route("exact", match(hosts=("example.com",), paths=("/a",), conditions=(METHOD,)), order=0),
        route("boosted", match(), order=1, priority=1),
    )
    assert winner(routes, request("/a")) == "boosted"


def test_a_boosted_route_that_does_not_match_gives_way() -> None:
    routes = table(
        route("boosted", match(prefixes=("/b",)), order=0, priority=9),
        route("lowered", match(hosts=("example.com",), paths=("/a",)), order=1, priority=-1),
        route("rest", match(), order=2),
    )
    assert winner(routes, request("/a")) == "rest"
    assert winner(routes, request("/b")) == "boosted"


def test_a_boosted_route_wins_whatever_list_of_the_index_it_is_in() -> None:
    """Pairs of the usual winner and a less specific one with priority, one for each list that is looked at."""
    lists = [
        match(hosts=("a.example.com",), paths=("/a/b",)),
        match(hosts=("a.example.com",), prefixes=("/a",)),
        match(hosts=("a.example.com",), regexes=("/a/.*",)),
        match(hosts=("a.example.com",)),
        match(hosts=("*.example.com",), paths=("/a/b",)),
        match(hosts=("*.example.com",), prefixes=("/a",)),
        match(hosts=("*.com",)),
        match(paths=("/a/b",)),
        match(regexes=("/a/b",)),
        match(),
    ]
    for boosted in range(len(lists)):
        routes = table(*(
            route(f"r{index}", one, order=index, priority=int(index == boosted)) for index, one in enumerate(lists)
        ))  # fmt: skip
        assert winner(routes, request("/a/b", host="a.example.com")) == f"r{boosted}"


def test_hosts_go_before_paths() -> None:
    routes = table(
        route("any-host", match(paths=("/a",)), order=0),
        route("short", match(hosts=("*.com",), paths=("/a",)), order=1),
        route("long", match(hosts=("*.example.com",), prefixes=("/",)), order=2),
        route("exact", match(hosts=("www.example.com",)), order=3),
    )
    assert winner(routes, request("/a", host="www.example.com")) == "exact"
    assert winner(routes, request("/a", host="b.example.com")) == "long"
    assert winner(routes, request("/a", host="example.com")) == "short"
    assert winner(routes, request("/a", host="example.org")) == "any-host"
    assert winner(routes, request("/b", host="other.com")) is None


def test_a_wildcard_needs_a_label() -> None:
    routes = table(route("wild", match(hosts=("*.example.com",))))
    assert winner(routes, request(host="a.example.com")) == "wild"
    assert winner(routes, request(host="a.b.example.com")) == "wild"
    assert winner(routes, request(host="example.com")) is None
    assert winner(routes, request(host="badexample.com")) is None
    assert winner(routes, request(host=".example.com")) is None


def test_paths_exact_then_longest_prefix_then_regex_then_any() -> None:
    routes = table(
        route("any", match(), order=0),
        route("regex", match(regexes=("/v1/.*",)), order=1),
        route("short", match(prefixes=("/v1",)), order=2),
        route("long", match(prefixes=("/v1/users",)), order=3),
        route("exact", match(paths=("/v1/users/me",)), order=4),
        route("elsewhere", match(regexes=(r"/v2/\d+",)), order=5),
    )
    assert winner(routes, request("/v1/users/me")) == "exact"
    assert winner(routes, request("/v1/users/you")) == "long"
    assert winner(routes, request("/v1/usersx")) == "short"
    assert winner(routes, request("/v2/7")) == "elsewhere"
    assert winner(routes, request("/v2/x")) == "any"


@pytest.mark.parametrize(
    ("prefix", "path", "covers"),
    [
        ("/", "/", True),
        ("/", "/a/b", True),
        ("/", "*", False),
        ("/v1", "/v1", True),
        ("/v1", "/v1/", True),
        ("/v1", "/v1/a", True),
        ("/v1", "/v1a", False),
        ("/v1", "/v", False),
        ("/v1/", "/v1", False),
        ("/v1/", "/v1/", True),
        ("/v1/", "/v1/a", True),
        ("/v1/", "/v1a/", False),
        ("/a b", "/a%20b/c", True),
    ],
)
def test_prefixes_end_on_segment_borders(prefix: str, path: str, covers: bool) -> None:
    routes = table(route("it", match(prefixes=(prefix,))))
    assert winner(routes, request(path)) == ("it" if covers else None)


def test_more_conditions_go_first_and_then_the_file() -> None:
    routes = table(
        route("plain", match(prefixes=("/a",)), order=0),
        route("first", match(prefixes=("/a",), conditions=(METHOD,)), order=1),
        route("second", match(prefixes=("/a",), conditions=(METHOD,)), order=2),
        route("both", match(prefixes=("/a",), conditions=(METHOD, TENANT)), order=3),
    )
    assert winner(routes, request("/a", headers=[("x-tenant", "a")])) == "both"
    assert winner(routes, request("/a")) == "first"
    assert winner(routes, request("/a", method="PUT")) == "plain"


def test_a_longer_prefix_that_fails_its_conditions_gives_way_to_a_shorter() -> None:
    routes = table(
        route("long", match(prefixes=("/a/b",), conditions=(TENANT,)), order=0),
        route("short", match(prefixes=("/a",)), order=1),
    )
    assert winner(routes, request("/a/b/c")) == "short"


def test_below_a_prefix_goes_before_at_it_and_gives_way_to_it() -> None:
    routes = table(
        route("at", match(prefixes=("/a",)), order=0),
        route("below", match(prefixes=("/a/",), conditions=(METHOD,)), order=1),
    )
    assert winner(routes, request("/a/x")) == "below"
    assert winner(routes, request("/a/x", method="PUT")) == "at"
    assert winner(routes, request("/a")) == "at"


def test_listeners_bind_routes() -> None:
    routes = table(
        route("inside", match(prefixes=("/",)), order=0, listeners=("internal",)),
        route("both", match(), order=1),
    )
    assert winner(routes, request("/", listener="internal")) == "inside"
    assert winner(routes, request("/", listener="web")) == "both"


def test_matches_of_a_route_are_alternatives() -> None:
    routes = table(route("it", match(paths=("/a",)), match(hosts=("b.example",), paths=("/b", "/c"))))
    assert winner(routes, request("/a")) == "it"
    assert winner(routes, request("/c", host="b.example")) == "it"
    assert winner(routes, request("/b")) is None


def test_a_deep_path_is_walked_no_deeper_than_the_prefixes() -> None:
    routes = table(route("it", match(prefixes=("/a/b",))), route("rest", match(prefixes=("/",)), order=1))
    assert winner(routes, request("/a/b" + "/x" * 4000)) == "it"
    assert winner(routes, request("/x" * 4000)) == "rest"


def test_a_plan_that_was_not_checked_is_refused() -> None:
    for bad in (match(hosts=("a b",)), match(hosts=("*.[::1]",)), match(paths=("a",)), match(regexes=("(",))):
        with pytest.raises(ValueError):
            table(route("bad", bad))


def test_what_is_remembered_is_what_would_be_found() -> None:
    plain = [route(f"r{at}", match(hosts=("*.a.test",), prefixes=(f"/{at}",))) for at in range(40)]
    for routes in (plain, [*plain, route("get", match(prefixes=("/7",), conditions=(METHOD,)))]):
        asked = [request(f"/{at % 44}/{at % 3}", host=("b.a.test", "a.test")[at % 2]) for at in range(200)]
        fresh, used = table(*routes), table(*routes)
        for _ in range(2):
            for one in asked:
                expected = HostIndex(list(fresh.candidates)).find(one, [])
                found = used.find(one)
                assert (found and found.route) == (expected and expected.route), one.path


@pytest.mark.interpreted
def test_the_memory_is_bounded_and_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED_MAX", 8)
    monkeypatch.setattr(memory, "PASSED_MAX", 20)
    one = table(route("all", match(prefixes=("/",))))
    for at in range(8):
        one.find(request(f"/{at}"))
    one.find(request("/" + "x" * 300))
    for at in range(100, 119):
        one.find(request(f"/{at}"))
        assert len(one._found) == 8
    one.find(request("/120"))
    assert len(one._found) == 0
    one.find(request("/" + "x" * 300))
    assert len(one._found) == 0, "what is too long is not remembered"
    one.find(request("/121"))
    assert len(one._found) == 1
