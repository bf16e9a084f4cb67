"""Shadows as the core decides them: how many, by whose chance, and what an operator is told beforehand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import cast

import pytest

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.plan import Endpoint, Shadow, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.shadows import shades_of
from sentinel.core.span import Span
from sentinel.core.trace import Trace
from sentinel.core.verdict import Copy, Forward, Verdict
from sentinel.core.world import NO_WISH, Choice, Wish, World
from sentinel.explain import explain, render_text
from tests.core.build import UPSTREAM, match, plan, request, route

NEXT = Upstream("next", (Endpoint("10.0.0.9", 80),))
SPAN = Span("s.kdl", 5, 9)
COUNT = 20_000


class Chance:
    """A world whose chance is given; it remembers how often it was asked."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.asked = 0

    def chance(self) -> int:
        self.asked += 1
        return self.numbers.pop(0)

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        return Choice(UPSTREAM.endpoints[0])


def table(*shares: int) -> RouteTable:
    shadows = tuple(Shadow("next", share, SPAN) for share in shares)
    found = plan(replace(route("api", match()), shadows=shadows))
    return compile_routes(replace(found, upstreams=(UPSTREAM, NEXT)))


def decided(found: RouteTable, world: Chance, *headers: tuple[str, str]) -> tuple[Verdict, Trace]:
    trace = Trace()
    return run(decide(found, request(headers=headers), cast(World, world), trace)), trace


@pytest.mark.parametrize(("share", "number", "is_copied"), [
    (500, 0, True), (500, (1 << 63) - 1, True), (500, 1 << 63, False), (500, (1 << 64) - 1, False),
    (1, (1 << 64) // 1000 - 1, True), (1, (1 << 64) // 1000, False), (999, (1 << 64) - 1, False),
])  # fmt: skip
def test_chance_below_the_share_is_copied_and_the_trace_says_so(share: int, number: int, is_copied: bool) -> None:
    verdict, trace = decided(table(share), Chance(number))
    assert isinstance(verdict, Forward)
    assert verdict.shadows == ((Copy(NEXT, NO_WISH),) if is_copied else ())
    assert (trace.steps[2:] == [(Reason.SHADOWED, SPAN, ("next", share))]) is is_copied


def test_each_shadow_asks_for_itself_and_one_of_everything_asks_nobody() -> None:
    world = Chance(0, (1 << 64) - 1)
    verdict, _ = decided(table(100, 1000, 100), world)
    assert isinstance(verdict, Forward)
    assert len(verdict.shadows) == 2
    assert world.asked == 2


def test_a_route_without_shadows_asks_nothing() -> None:
    verdict, trace = decided(table(), Chance())
    assert isinstance(verdict, Forward)
    assert (verdict.shadows, len(trace.steps)) == ((), 2)


def test_a_tunnel_is_not_copied() -> None:
    verdict, _ = decided(table(1000), Chance(), ("upgrade", "websocket"))
    assert isinstance(verdict, Forward)
    assert verdict.shadows == ()


@pytest.mark.parametrize("share", [1, 25, 100, 500, 999])
def test_shares_are_what_they_say(share: int) -> None:
    dice = random.Random(share)
    (shade,) = shades_of((Shadow("next", share),), {"next": NEXT})
    world = cast(World, Chance(*[dice.getrandbits(64) for _ in range(COUNT)]))
    count = sum(shade.falls(world) for _ in range(COUNT))
    expected = COUNT * share / 1000
    assert abs(count - expected) <= 4 * (expected * (1 - share / 1000)) ** 0.5


def test_a_dry_run_shows_the_copy() -> None:
    told = render_text(explain(table(25), request())).splitlines()
    assert told[-2:] == [
        "├─ a copy goes to `next`, as of 2.5% of the requests  [shadowed]  s.kdl:5:9",
        "└─ forward to 10.0.0.1:9001 of `api` (one of 2 by round-robin), and a copy to `next`  [proxied]",
    ]
