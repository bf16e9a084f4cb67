"""Small makers of plans and requests, shared by the tests of the core."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel.core.plan import (
    PLAN_VERSION,
    Admin,
    Condition,
    Endpoint,
    Listener,
    Match,
    Plan,
    Respond,
    Route,
    System,
    Upstream,
)
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.span import Span

UPSTREAM = Upstream("api", (Endpoint("10.0.0.1", 9001), Endpoint("10.0.0.2", 9002)), span=Span("s.kdl", 90, 5))
LISTENERS = (Listener("web", "127.0.0.1", 8080), Listener("internal", "127.0.0.1", 8081))


def request(
    path: str = "/", *, host: str = "example.com", method: str = "GET", query: str = "",
    headers: Sequence[tuple[str, str]] = (), listener: str = "web",
) -> Request:  # fmt: skip
    target = f"{path}?{query}" if query else path
    return Request(
        method=method, scheme="http", host=host, path=path, query=query, target=target, headers=headers,
        client_ip="192.0.2.1", listener=listener,
    )  # fmt: skip


def route(
    name: str, *matches: Match, order: int = 0, priority: int = 0, listeners: tuple[str, ...] = (),
    respond: Respond | None = None,
) -> Route:  # fmt: skip
    """A route; its line in the file is ten times its order."""
    return Route(
        name, matches, order, priority=priority, listeners=listeners, respond=respond,
        upstream=None if respond else "api", span=Span("s.kdl", 10 * order + 1, 5),
    )  # fmt: skip


def match(
    *, hosts: tuple[str, ...] = (), paths: tuple[str, ...] = (), prefixes: tuple[str, ...] = (),
    regexes: tuple[str, ...] = (), conditions: tuple[Condition, ...] = (), line: int = 0,
) -> Match:  # fmt: skip
    return Match(
        hosts, paths, prefixes, regexes, conditions, span=Span("s.kdl", line, 9),
        host_span=Span("s.kdl", line, 19), path_span=Span("s.kdl", line, 29),
    )  # fmt: skip


def plan(*routes: Route) -> Plan:
    return Plan(PLAN_VERSION, System(), Admin(), LISTENERS, routes, (UPSTREAM,))


def table(*routes: Route) -> RouteTable:
    return compile_routes(plan(*routes))


def winner(routes: RouteTable, asked: Request) -> str | None:
    found = routes.find(asked)
    return None if found is None else found.route.name
