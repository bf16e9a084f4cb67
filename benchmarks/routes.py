"""What a route look-up costs, and whether it grows with the number of routes.

Run with `python -m benchmarks.routes`. Each plan has the given number of routes, in one of
these shapes; the request is answered by a route in the middle of the file:

    hosts       every route has its own host
    prefixes    one host, every route has its own prefix
    mixed       a hundred hosts, prefixes two segments deep, three different priorities
    miss        as `prefixes`, but only the last, general route matches

`decide` is a whole decision: look-up, choice of an endpoint, trace, and verdict.
Times are the best of several rounds, since everything else in a round is noise.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.plan import (
    PLAN_VERSION,
    Admin,
    Endpoint,
    Listener,
    Match,
    Plan,
    Route,
    System,
    Upstream,
)
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.trace import Trace
from sentinel.core.world import Choice, Wish

SIZES = (10, 1_000, 10_000)
LOOKUPS = 20_000
ROUNDS = 7
UPSTREAM = Upstream("api", (Endpoint("127.0.0.1", 9001),))


class Fixed:
    """A world with one answer."""

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        raise AssertionError("no limits here")

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        return Choice(upstream.endpoints[0])


def hosts(number: int) -> Match:
    return Match(hosts=(f"h{number}.example.com",), path_prefixes=("/v1",))


def prefixes(number: int) -> Match:
    return Match(hosts=("api.example.com",), path_prefixes=(f"/v1/service{number}",))


def mixed(number: int) -> Match:
    return Match(hosts=(f"h{number % 100}.example.com",), path_prefixes=(f"/v1/service{number}",))


def make_plan(size: int, shape: Callable[[int], Match], priorities: int) -> Plan:
    routes = [
        Route(f"r{number}", (shape(number),), number, priority=number % priorities, upstream="api")
        for number in range(size - 1)
    ]
    routes.append(Route("rest", (Match(path_prefixes=("/",)),), size, upstream="api"))
    return Plan(PLAN_VERSION, System(), Admin(), (Listener("web", "127.0.0.1", 8080),), tuple(routes), (UPSTREAM,))


def make_request(host: str, path: str) -> Request:
    return Request(
        method="GET", scheme="http", host=host, path=path, query="", target=path, headers=(),
        client_ip="192.0.2.1", listener="web",
    )  # fmt: skip


def cost_us(action: Callable[[], object]) -> float:
    return min(timeit.repeat(action, number=LOOKUPS, repeat=ROUNDS)) / LOOKUPS * 1e6


def cost_of_decisions(table: RouteTable, asked: Request) -> float:
    world = Fixed()
    return cost_us(lambda: run(decide(table, asked, world, Trace())))


def main() -> None:
    print(f"{'shape':<10}{'routes':>8}{'look-up µs':>12}{'ratio':>8}{'decide µs':>11}{'compile ms per 1,000':>23}")
    shapes: tuple[tuple[str, Callable[[int], Match], int, Callable[[int], Request]], ...] = (
        ("hosts", hosts, 1, lambda number: make_request(f"h{number}.example.com", "/v1/users/42")),
        ("prefixes", prefixes, 1, lambda number: make_request("api.example.com", f"/v1/service{number}/users/42")),
        ("mixed", mixed, 3, lambda number: make_request(f"h{number % 100}.example.com", f"/v1/service{number}/users")),
        ("miss", prefixes, 1, lambda number: make_request("api.example.com", "/v2/nobody/42")),
    )
    for name, shape, priorities, ask in shapes:
        first = 0.0
        for size in SIZES:
            plan, asked = make_plan(size, shape, priorities), ask(size // 2)
            compiled_s = min(timeit.repeat(lambda plan=plan: compile_routes(plan), number=1, repeat=2))
            table = compile_routes(plan)
            found = table.find(asked)
            assert found is not None and found.route.name == ("rest" if name == "miss" else f"r{size // 2}")
            cost = cost_us(lambda table=table, asked=asked: table.find(asked))
            first = first or cost
            decided = cost_of_decisions(table, asked)
            per_thousand = compiled_s * 1e6 / size
            print(f"{name:<10}{size:>8,}{cost:>12.2f}{cost / first:>8.2f}{decided:>11.2f}{per_thousand:>23.1f}")


if __name__ == "__main__":
    main()
