"""What a route matches, from the text to the decision: the same function that live traffic goes through."""

from __future__ import annotations

from typing import Any

import pytest

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.core.trace import Trace
from sentinel.core.world import Choice, Wish
from tests.directives.house import plan_from

TEXT = """
schema-version "1.0"
listeners {{
    listener "web" {{ address "127.0.0.1:8080"; }}
    listener "inside" {{ address "127.0.0.1:8081"; }}
}}
routes {{
    {routes}
    route "rest" {{ matches {{ path-prefix "/"; }}; priority -1000; respond 404; }}
}}
"""


class World:
    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        raise AssertionError("no limits here")

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        raise AssertionError("these routes answer by themselves")


def winner(
    routes: str, *, method: str = "GET", host: str = "a.example", path: str = "/", query: str = "",
    headers: tuple[tuple[str, str], ...] = (), listener: str = "web",
) -> str:  # fmt: skip
    """The name of the route that answers."""
    request = Request(
        method=method, scheme="http", host=host, path=path, query=query, target=path, headers=headers,
        client_ip="192.0.2.1", listener=listener,
    )  # fmt: skip
    verdict = run(decide(compile_routes(plan_from(TEXT.format(routes=routes))), request, World(), Trace()))
    assert verdict.route is not None
    return verdict.route.name


def one(matches: str, more: str = "") -> str:
    return f'route "one" {{ matches {{ {matches}; }}; respond 200; {more}\n}}'


@pytest.mark.directive(
    "route", "route/matches/host", "route/matches/path", "route/matches/path-prefix", "route/matches/path-regex",
    "route/matches/method", "route/matches/header", "route/matches/header@regex", "route/matches/query",
    "route/matches/query@regex", "route/matches/not", "route/matches/any", "route/matches/all",
)  # fmt: skip
@pytest.mark.parametrize(
    ("matches", "holds", "fails"),
    [
        ('host "x.example" "a.example"', {}, {"host": "b.example"}),
        ('host "*.a.example"', {"host": "x.a.example"}, {"host": "a.example"}),
        ('path "/x" "/p"', {"path": "/p"}, {"path": "/p/q"}),
        ('path-prefix "/x" "/p"', {"path": "/p/q"}, {"path": "/pq"}),
        ('path-regex "/x" "/p[0-9]+"', {"path": "/p12"}, {"path": "/p12x"}),
        ('method "PUT" "POST"', {"method": "POST"}, {}),
        ('header "x-a"', {"headers": (("x-a", "1"),)}, {}),
        ('header "x-a" "0" "1"', {"headers": (("x-a", "1"),)}, {"headers": (("x-a", "2"),)}),
        ('header "x-a" regex="1+"', {"headers": (("x-a", "11"),)}, {"headers": (("x-a", "12"),)}),
        ('query "q"', {"query": "q"}, {"query": "p=q"}),
        ('query "q" "0" "1"', {"query": "q=1"}, {"query": "q=2"}),
        ('query "q" regex="1+"', {"query": "q=11"}, {"query": "q=12"}),
        ('not { method "GET"; }', {"method": "PUT"}, {}),
        ('not { host "b.example"; }', {}, {"host": "b.example"}),
        ('not { path "/p"; path-prefix "/q"; }', {"path": "/p/q"}, {"path": "/q/p"}),
        ('not { path "/p"; path-regex "/q+"; }', {"path": "/"}, {"path": "/p"}),
        ('not { path "/p"; path-regex "/q+"; }', {"path": "/qqp"}, {"path": "/qq"}),
        ('any { method "PUT"; query "q"; }', {"query": "q"}, {}),
        ('not { all { method "GET"; query "q"; }; }', {}, {"query": "q"}),
    ],
)
def test_a_condition_decides(matches: str, holds: dict[str, Any], fails: dict[str, Any]) -> None:
    assert winner(one(matches), **holds) == "one"
    assert winner(one(matches), **fails) == "rest"


@pytest.mark.directive("route/matches")
def test_several_matches_are_alternatives() -> None:
    more = 'matches { path "/q"; method "PUT"; }'
    for routes, routed in ((one('path "/p"'), "rest"), (one('path "/p"', more), "one")):
        assert winner(routes, path="/p") == "one"
        assert winner(routes, path="/q", method="PUT") == routed
        assert winner(routes, path="/q") == "rest"


@pytest.mark.directive("route/priority")
def test_a_higher_priority_is_tried_first() -> None:
    def routes(priority: int) -> str:
        wide = f'route "wide" {{ matches {{ path-prefix "/"; }}; priority {priority}; respond 200; }}'
        return wide + "\n" + one('path "/p"')

    assert winner(routes(0), path="/p") == "one"
    assert winner(routes(1), path="/p") == "wide"


@pytest.mark.directive("route/listeners")
def test_a_route_may_belong_to_one_listener() -> None:
    bound = one('path-prefix "/"', 'listeners "inside"')
    assert winner(bound, listener="inside") == "one"
    assert winner(bound, listener="web") == "rest"
