"""Names: the last good answer stays in use, whatever the resolver says later."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.world import NO_WISH
from workers.places import Group
from workers.resolver import ADDRESSES_MAX, Resolver


class Book:
    """A resolver with scripted answers; an exception is raised."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Well:
    """Shared memory where nothing is wrong with anybody."""

    begin = finish = None

    def standing(self, places: bytes, now_ns: int, probes: int) -> bytes:
        return bytes(len(places) // 4)


def group_of(*endpoints: Endpoint) -> Group:
    service: Any = cast(Any, SimpleNamespace(is_draining=False, region=Well(), slot=0))
    numbered = tuple(replace(endpoint, place=number) for number, endpoint in enumerate(endpoints))
    return Group(service, Upstream("u", numbered))


def test_addresses_are_used_in_turn_and_failures_keep_the_last_good_ones() -> None:
    group = group_of(Endpoint("name.example", 80))
    place = group.places[0]
    book = Book(OSError("no such name"), ["10.0.0.2", "10.0.0.1", "10.0.0.2"], OSError("silent"), [], ["10.0.0.2"])
    resolver = Resolver([group], book)

    async def story() -> None:
        assert place.is_name and place.next_pool() is None
        assert not await resolver.resolve(place) and place.pools == ()
        assert await resolver.resolve(place)
        first = place.pools
        assert [pool.host for pool in first] == ["10.0.0.1", "10.0.0.2"]
        assert {place.next_pool() for _ in range(4)} == set(first)
        assert place.next_pool((first[0],)) is first[1]
        assert place.next_pool(first) is None
        assert not await resolver.resolve(place) and not await resolver.resolve(place)
        assert place.pools == first
        assert await resolver.resolve(place)
        assert place.pools == (first[1],), "who stays keeps the pool"

    asyncio.run(story())


def test_numbers_and_sockets_are_not_resolved_and_answers_are_bounded() -> None:
    group = group_of(Endpoint("10.0.0.1", 80), Endpoint("::1", 80), Endpoint("unix:/x", 0), Endpoint("n.example", 80))
    assert [place.is_name for place in group.places] == [False, False, False, True]
    assert [place.pools[0].name for place in group.places[:3]] == ["10.0.0.1:80", "[::1]:80", "unix:/x"]
    resolver = Resolver([group], Book([f"10.1.0.{number}" for number in range(100)]))
    asyncio.run(resolver.resolve(group.places[3]))
    assert len(group.places[3].pools) == ADDRESSES_MAX


def test_unresolved_endpoints_are_passed_over_while_others_may_be_tried() -> None:
    group = group_of(Endpoint("n.example", 80), Endpoint("10.0.0.1", 80))
    unresolved, known = group.upstream.endpoints
    assert {group.choose((), NO_WISH).endpoint for _ in range(10)} == {known}
    assert group.choose((known,), NO_WISH).endpoint is unresolved
    assert group.choose((known, unresolved), NO_WISH).endpoint is None
