"""What one exchange costs a worker outside the kernel: the worker's own code, with transports of paper.

Run with `python -m benchmarks.exchange`. 64 connections bring a request each, then 64 links bring the
answers, as a loop under load would; nothing is read or written. The best of many rounds is
steady to a few per cent where figures of a whole race are not to twenty, so that
it shows what a change of the worker is worth. Under load the same code takes about 1.3
times as long, since the kernel's work empties the caches in between.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final, cast

import uvloop

from sentinel.core.places import place_names, with_places
from sentinel.core.plan import PLAN_VERSION, Admin, Endpoint, Listener, Match, Plan, Route, System, Upstream
from shm.region import Region, Role
from workers.downstream import Downstream
from workers.intake import Intake
from workers.pool import Link
from workers.service import Service

CONNECTIONS: Final = 64
TURNS: Final = 160
ROUNDS: Final = 12
STRIDE: Final = 7919

WRK: Final = b"GET %b HTTP/1.1\r\nHost: bench.example\r\n\r\n"
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
    """One row."""

    name: str
    request: bytes = WRK
    answer: bytes = ANSWER
    routes: int = 10
    is_in_turn: bool = False
    log: str = "/dev/null"

    def requests(self) -> list[bytes]:
        count = self.routes if self.is_in_turn else 1
        first = 0 if self.is_in_turn else self.routes // 2
        return [self.request % b"/service%d/v1/items" % ((first + at * STRIDE) % self.routes) for at in range(count)]


CASES: Final = (
    Case("as wrk asks"),
    Case("as a browser asks", request=BROWSER),
    Case("chunked answer", answer=CHUNKED),
    Case("without a log", log="off"),
    Case("10,000 routes, one asked", routes=10_000),
    Case("10,000 routes, in turn", routes=10_000, is_in_turn=True),
)


def _plan(case: Case) -> Plan:
    routes = [
        Route(f"r{number}", (Match(path_prefixes=(f"/service{number}/v1",)),), number, upstream="origin")
        for number in range(case.routes)
    ]
    return Plan(
        PLAN_VERSION, System(access_log=case.log), Admin(), (Listener("web", "127.0.0.1", 8080),), tuple(routes),
        (Upstream("origin", (Endpoint("127.0.0.1", 9001),)),),
    )  # fmt: skip


def cost_us(case: Case, region: Region, slot: int) -> float:
    """The best of all rounds, for one exchange."""
    loop = uvloop.new_event_loop()
    plan = _plan(case)
    plan = with_places(plan, region.place_numbers(place_names(plan)))
    service = Service(loop, plan, region, slot=slot, generation=1)
    clients = list(_clients(service))
    pool = service.world.groups()[0].places[0].pools[0]
    for _ in clients:
        link = Link(pool)
        link.connection_made(cast(Any, Paper()))
        link.uses = 1
        pool.give_back(link)
    asked, best = cycle(case.requests()), float("inf")
    for _ in range(ROUNDS):
        begun_ns = time.thread_time_ns()
        for _ in range(TURNS):
            _turn(clients, islice(asked, CONNECTIONS), case.answer)
        best = min(best, (time.thread_time_ns() - begun_ns) / 1000 / TURNS / CONNECTIONS)
        service.log.tick(0)
    service.log.close(1.0)
    loop.close()
    return best


def _clients(service: Service) -> Iterator[Downstream]:
    intake = Intake(service.plan.listeners[0])
    for _ in range(CONNECTIONS):
        client = Downstream(service, intake)
        client.connection_made(cast(Any, Paper()))
        yield client


def _turn(clients: list[Downstream], asked: Iterable[bytes], answer: bytes) -> None:
    for client, data in zip(clients, asked, strict=True):
        client.data_received(data)
    for client in clients:
        exchange = client.exchange
        assert exchange is not None and exchange.link is not None
        exchange.link.data_received(answer)


def main() -> None:
    print(f"{'case':<28}{'µs per exchange':>16}")
    region = Region.create(f"/sentinel-bench-{os.getpid()}", series_max=16, slots_max=4)
    try:
        slot = region.claim_slot(pid=os.getpid(), birth_ns=0, role=Role.WORKER, generation=1, lane=0)
        for case in CASES:
            print(f"{case.name:<28}{cost_us(case, region, slot):>16.2f}", flush=True)
    finally:
        region.unlink()
        region.close()


if __name__ == "__main__":
    main()
