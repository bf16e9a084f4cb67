"""What one exchange costs a worker outside the kernel: the worker's own code, with transports of paper.

Run with `python -m benchmarks.exchange`, or with a part of some cases' names to see only these; `--recording` tells
what the journal costs, as the difference between exchanges that are recorded and the same ones that are not, by turns.
64 connections bring a request each, then 64 links bring the answers, as a loop under load would; nothing is read or
written. The best of many rounds is steady to a few per cent where figures of a whole race are not to
twenty, so that it shows what a change of the worker is worth. Under load the same code takes about
1.3 times as long, since the kernel's work empties the caches in between.

Governed cases have the policy of the race (benchmarks.peers.policy): two rate limits on each route, and
least-request over ten endpoints with a breaker each. All their clients' buckets are charged before,
for so long that they are live to the end: what is measured is a full table, not a large one.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, Final, cast

import uvloop

from benchmarks.peers.policy import ENDPOINTS, FAILURES, LIMIT_BURST, REFILL_BURST, REFILL_S, ROUTES
from sentinel.core.limits import Limiter
from sentinel.core.places import place_names, with_places
from sentinel.core.plan import (
    PLAN_VERSION,
    SECOND,
    Admin,
    Balance,
    Breaker,
    Endpoint,
    Journal,
    Listener,
    Match,
    Plan,
    RateLimit,
    Route,
    System,
    Upstream,
)
from shm.region import Region, Role
from workers.downstream import Downstream
from workers.intake import Intake
from workers.pool import Link
from workers.service import Service

CONNECTIONS: Final = 64
TURNS: Final = 160
ROUNDS: Final = 12
STRIDE: Final = 7919
ROUNDS_RECORDED: Final = 400
TURNS_RECORDED: Final = 2
SPARE: Final = 4
"""Links of an endpoint beyond its share."""
LIMITS_MAX: Final = 1 << 21

WRK: Final = b"GET %b HTTP/1.1\r\nHost: bench.example\r\n\r\n"
NAMED: Final = b"GET %b HTTP/1.1\r\nHost: bench.example\r\nx-client: c%d\r\n\r\n"
BROWSER: Final = (
    b"GET %b HTTP/1.1\r\nHost: bench.example\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="124", "Not-A.Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36\r\n"
    b"Accept: application/json\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\n\r\n"
)
FIELDS: Final = (
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
)
ANSWER: Final = FIELDS + b"Content-Length: 1024\r\n\r\n" + b"x" * 1024
CHUNKED: Final = FIELDS + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n"


class Paper:
    """A transport that leads nowhere; its socket is real, since idle links are polled."""

    def __init__(self) -> None:
        self._socket, self._other = socket.socketpair()

    def write(self, data: bytes) -> None: ...
    def writelines(self, parts: Iterable[bytes]) -> None: ...
    def set_write_buffer_limits(self, high: int, low: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...

    def get_extra_info(self, name: str) -> object:
        return self._socket if name == "socket" else ("127.0.0.1", 4711)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Case:
    """One row. `clients`: so many under a policy, each with a live bucket; 0: no policy."""

    name: str
    request: bytes = WRK
    answer: bytes = ANSWER
    routes: int = 10
    is_in_turn: bool = False
    log: str = "/dev/null"
    clients: int = 0
    is_recorded: bool = True

    def requests(self) -> Iterator[bytes]:
        """What comes, without an end."""
        for at in count():
            route = (at * STRIDE) % self.routes if self.is_in_turn else self.routes // 2
            path = b"/service%d/v1/items" % route
            yield self.request % ((path, at * STRIDE % self.clients) if self.clients else path)


CASES: Final = (
    Case("as wrk asks"),
    Case("as a browser asks", request=BROWSER),
    Case("chunked answer", answer=CHUNKED),
    Case("without a log", log="off"),
    Case("10,000 routes, one asked", routes=10_000),
    Case("10,000 routes, in turn", routes=10_000, is_in_turn=True),
    Case("governed, one route, 10 keys", request=NAMED, clients=10),
    Case("governed, 10 live keys", request=NAMED, routes=ROUTES, is_in_turn=True, clients=10),
    Case("governed, 1,000,000 live keys", request=NAMED, routes=ROUTES, is_in_turn=True, clients=1_000_000),
)
RECORDED: Final = (CASES[0], CASES[6])

LIMITS: Final = (
    RateLimit("by-address", SECOND, LIMIT_BURST, LIMIT_BURST),
    RateLimit("by-client", REFILL_S * SECOND, 1, REFILL_BURST, key=("header:x-client",)),
)
"""Whoever asked once has a live bucket of the second one to the end."""
ORIGIN: Final = Upstream("origin", (Endpoint("127.0.0.1", 9001),))
GOVERNED: Final = Upstream(
    "governed", tuple(Endpoint("127.0.0.1", 9001 + at) for at in range(ENDPOINTS)), balance=Balance("least-request"),
    endpoint_breaker=Breaker(failures=FAILURES),
)  # fmt: skip


def _plan(case: Case, region: Region) -> Plan:
    upstream, limits = (GOVERNED, LIMITS) if case.clients else (ORIGIN, ())
    routes = [
        Route(
            f"r{number}", (Match(path_prefixes=(f"/service{number}/v1",)),), number, upstream=upstream.name,
            filters=tuple(limit.name for limit in limits), series=region.series_index(f"r{number}"),
        )
        for number in range(case.routes)
    ]  # fmt: skip
    plan = Plan(
        PLAN_VERSION, System(access_log=case.log, journal=Journal() if case.is_recorded else Journal(records=0)),
        Admin(), (Listener("web", "127.0.0.1", 8080),), tuple(routes),
        (upstream,), rate_limits=limits,
    )  # fmt: skip
    return with_places(plan, region.place_numbers(place_names(plan)))


def _fill(case: Case, region: Region, slot: int) -> None:
    """Have a live bucket for every client."""
    one = Limiter(LIMITS[1], "")
    for client in range(case.clients):
        region.charge(slot, time.monotonic_ns(), (one.key_of((f"c{client}",)),), one.term)


class Stage:
    """A worker of one case, with its clients and its links."""

    def __init__(self, case: Case, region: Region, slot: int) -> None:
        self._case = case
        self._loop = uvloop.new_event_loop()
        self._service = service = Service(self._loop, _plan(case, region), region, slot=slot, generation=1)
        _fill(case, region, slot)
        self._clients = list(_clients(service))
        places = service.world.groups()[0].places
        for place in places:
            for _ in range(CONNECTIONS // len(places) + SPARE):
                link = Link(place.pools[0])
                link.connection_made(cast(Any, Paper()))
                link.uses = 1
                place.pools[0].give_back(link)
        self._asked = case.requests()

    def round_us(self, turns: int = TURNS) -> float:
        """One round, for one exchange."""
        took_ns = sum(
            _turn(self._clients, list(islice(self._asked, CONNECTIONS)), self._case.answer) for _ in range(turns)
        )
        self._service.log.tick(0)
        return took_ns / 1000 / turns / CONNECTIONS

    def close(self) -> None:
        self._service.log.close(1.0)
        self._loop.close()


def cost_us(case: Case, region: Region, slot: int) -> float:
    """The best of all rounds, for one exchange."""
    stage = Stage(case, region, slot)
    best = min(stage.round_us() for _ in range(ROUNDS))
    stage.close()
    return best


def _clients(service: Service) -> Iterator[Downstream]:
    intake = Intake(service.plan.listeners[0])
    for _ in range(CONNECTIONS):
        client = Downstream(service, intake)
        client.connection_made(cast(Any, Paper()))
        yield client


def _turn(clients: list[Downstream], asked: list[bytes], answer: bytes) -> int:
    """All clients ask, and all are answered: the nanoseconds that took."""
    begun_ns = time.thread_time_ns()
    for client, data in zip(clients, asked, strict=True):
        client.data_received(data)
    for client in clients:
        exchange = client.exchange
        assert exchange is not None and exchange.link is not None
        exchange.link.data_received(answer)
    return time.thread_time_ns() - begun_ns


def recording(case: Case) -> tuple[float, float]:
    """With the journal and without it: short rounds by turns, so that neighbours disturb both alike."""
    with _region(case) as (region, slot):
        stages = [Stage(replace(case, is_recorded=is_recorded), region, slot) for is_recorded in (True, False)]
        costs: list[list[float]] = [[], []]
        for _ in range(ROUNDS_RECORDED):
            for stage, cost in zip(stages, costs, strict=True):
                cost.append(stage.round_us(TURNS_RECORDED))
        for stage in stages:
            stage.close()
    # The slowest of the fastest tenth: steadier than the best of all.
    on, off = (sorted(cost)[ROUNDS_RECORDED // 10] for cost in costs)
    return on, off


def main(names: Sequence[str]) -> None:
    if "--recording" in names:
        print(f"{'case':<32}{'recorded':>12}{'not':>12}{'the record, µs':>18}")
        for case in RECORDED:
            on, off = recording(case)
            print(f"{case.name:<32}{on:>12.2f}{off:>12.2f}{on - off:>18.2f}", flush=True)
        return
    print(f"{'case':<32}{'µs per exchange':>16}")
    for case in CASES:
        if not names or any(name in case.name for name in names):
            print(f"{case.name:<32}{_alone(case):>16.2f}", flush=True)


def _alone(case: Case) -> float:
    """The case in a region of its own: what others left there costs too."""
    with _region(case) as (region, slot):
        return cost_us(case, region, slot)


@contextmanager
def _region(case: Case) -> Iterator[tuple[Region, int]]:
    name = f"/sentinel-bench-{os.getpid()}"
    region = Region.create(name, series_max=16_384, slots_max=4, limits_max=LIMITS_MAX if case.clients else 1024)
    try:
        yield region, region.claim_slot(pid=os.getpid(), birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    finally:
        region.unlink()
        region.close()


if __name__ == "__main__":
    main(sys.argv[1:])
