"""Names: the last good answer stays in use, whatever the resolver says later."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.world import NO_WISH
from shm.region import Counter
from tests.workers.child import MS, Client, wait_until, working
from tests.workers.origin import echo, scripted
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

    begin = finish = pick = None

    def standing(self, places: bytes, now_ns: int, probes: int) -> bytes:
        return bytes(len(places) // 4)


def group_of(*endpoints: Endpoint) -> Group:
    service: Any = cast(Any, SimpleNamespace(is_draining=False, region=Well(), slot=0))
    numbered = tuple(replace(endpoint, place=number) for number, endpoint in enumerate(endpoints))
    return Group(service, Upstream("u", numbered))


@pytest.mark.interpreted
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


@pytest.mark.interpreted
def test_numbers_and_sockets_are_not_resolved_and_answers_are_bounded() -> None:
    group = group_of(Endpoint("10.0.0.1", 80), Endpoint("::1", 80), Endpoint("unix:/x", 0), Endpoint("n.example", 80))
    assert [place.is_name for place in group.places] == [False, False, False, True]
    assert [place.pools[0].name for place in group.places[:3]] == ["10.0.0.1:80", "[::1]:80", "unix:/x"]
    resolver = Resolver([group], Book([f"10.1.0.{number}" for number in range(100)]))
    asyncio.run(resolver.resolve(group.places[3]))
    assert len(group.places[3].pools) == ADDRESSES_MAX


@pytest.mark.interpreted
def test_unresolved_endpoints_are_passed_over_while_others_may_be_tried() -> None:
    group = group_of(Endpoint("n.example", 80), Endpoint("10.0.0.1", 80))
    unresolved, known = group.upstream.endpoints
    assert {group.choose((), NO_WISH).endpoint for _ in range(10)} == {known}
    assert group.choose((known,), NO_WISH).endpoint is unresolved
    assert group.choose((known, unresolved), NO_WISH).endpoint is None


class Server:
    """A name server that a test makes ill; it is asked in the worker, so a file says how it is."""

    def __init__(self, directory: Path) -> None:
        self.state, self.asked = directory / "state", directory / "asked"
        self.asked.touch()

    def becomes(self, state: str) -> None:
        """Have this said from now on, and wait until it was said twice."""
        fresh = self.state.with_suffix(".new")
        fresh.write_text(state)
        fresh.rename(self.state)
        before = self.count(state)
        wait_until(lambda: self.count(state) >= before + (1 if state == "silence" else 2), f"asked in {state}")

    def count(self, state: str) -> int:
        return self.asked.read_text().split().count(state)

    async def __call__(self, host: str, port: int) -> list[str]:
        state = self.state.read_text()
        with self.asked.open("a") as file:
            file.write(state + "\n")
        if state == "silence":
            await asyncio.sleep(3600)
        if state in FAULTS:
            raise FAULTS[state]
        return [] if state == "nothing" else [state]


FAULTS = {
    "NXDOMAIN": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "SERVFAIL": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
}


def test_a_worker_goes_on_with_the_last_good_answer_whatever_its_name_server_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    server.state.write_text("NXDOMAIN")
    monkeypatch.setattr(Resolver.__init__, "__defaults__", (server,))
    with scripted(echo) as origin:
        upstream = Upstream("origin", (Endpoint("name.example", origin.port),), resolve_interval_ns=20 * MS)
        with working(upstream, tmp_path) as worker:
            client = Client(worker.port)
            answer = client.get("/")
            assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "name-unresolved")
            server.becomes("127.0.0.1")
            assert client.get("/").status == 200, "as soon as it is known"
            for state in ("NXDOMAIN", "SERVFAIL", "nothing", "127.0.0.1", "silence"):
                server.becomes(state)
                assert client.get("/").status == 200, state
            assert worker.counter(Counter.SURPRISES) == 0
            lines = worker.log(7)
            assert [line["reason"] for line in lines] == ["name-unresolved"] + ["proxied"] * 6
            assert {line["endpoint"] for line in lines} == {f"name.example:{origin.port}"}
