"""Who holds whom back, step by step, on transports of paper: what real sockets cannot be made to do on cue."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from sentinel.core.places import place_names, with_places
from shm.region import Region, Role
from tests.workers.child import plan_of, upstream_of
from workers.downstream import Downstream
from workers.intake import Intake
from workers.pool import Link
from workers.service import Service

_numbers = itertools.count(1)


class Paper:
    """A transport that remembers; `full` lets the next write overflow its buffer."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.wire, _ = self._ends = socket.socketpair()
        self.written = b""
        self.is_reading = True
        self.is_full = False
        self.refuses = False
        self.ended = ""

    def write(self, data: bytes) -> None:
        if self.refuses:
            self.ended = "abort"
            return
        self.written += data
        if self.is_full:
            self.protocol.pause_writing()

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            self.write(bytes(part))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def empty(self) -> None:
        self.is_full = False
        self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert high > low

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.9", 1) if name == "peername" else self.wire

    def is_closing(self) -> bool:
        return self.ended in ("close", "abort")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"


Stage = Callable[[], tuple[Downstream, Paper, Link, Paper]]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A client's connection, and an idle link to the only endpoint."""
    loop = asyncio.new_event_loop()
    region = Region.create(f"/sentinel-flow-{os.getpid()}-{next(_numbers)}", series_max=16, slots_max=2)
    slot = region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    plan = plan_of(upstream_of(9), 8080, tmp_path, system={"access_log": "off"})
    plan = with_places(plan, region.place_numbers(place_names(plan)))
    service = Service(loop, plan, region, slot=slot, generation=1)

    def attach(protocol: Any) -> Paper:
        paper = Paper()
        paper.protocol = protocol
        protocol.connection_made(cast(Any, paper))
        return paper

    def build() -> tuple[Downstream, Paper, Link, Paper]:
        downstream = Downstream(service, Intake(plan.listeners[0]))
        pool = service.world.groups()[0].places[0].pools[0]
        link = Link(pool)
        client, upstream = attach(downstream), attach(link)
        link.uses = 1
        pool.give_back(link)
        return downstream, client, link, upstream

    yield build
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    region.unlink()
    region.close()


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_the_last_piece_of_a_body_holds_nobody_up(stage: Stage) -> None:
    downstream, client, link, upstream = stage()
    downstream.data_received(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
    upstream.is_full = True
    downstream.data_received(b"body")
    upstream.empty()
    link.data_received(OK)
    assert client.is_reading, "else the kept connection would be deaf"
    downstream.data_received(GET)
    link.data_received(OK)
    assert client.written.count(b"HTTP/1.1 200") == 2


def test_a_piece_before_the_last_holds_the_client_until_the_upstream_has_read(stage: Stage) -> None:
    downstream, client, _, upstream = stage()
    downstream.data_received(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
    upstream.is_full = True
    downstream.data_received(b"bo")
    assert not client.is_reading
    upstream.empty()
    assert client.is_reading


def test_an_answer_that_ends_while_the_client_is_slow_frees_the_link(stage: Stage) -> None:
    downstream, client, link, upstream = stage()
    downstream.data_received(GET + GET)
    assert upstream.written.count(b"GET") == 1, "one at a time"
    client.is_full = True
    link.data_received(OK)
    assert upstream.is_reading and link.caller is None
    downstream._go_on()
    assert upstream.written.count(b"GET") == 1, "the next waits until the client has read"
    client.empty()
    assert upstream.written.count(b"GET") == 2
    link.data_received(OK)
    assert client.is_reading and client.written.endswith(b"ok")


def test_octets_on_an_idle_link_cut_it(stage: Stage) -> None:
    _, _, link, upstream = stage()
    link.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert upstream.ended == "abort"


def test_a_write_that_the_kernel_refuses_is_no_attempt(stage: Stage) -> None:
    downstream, client, _, upstream = stage()
    upstream.refuses = True
    downstream.data_received(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    exchange = downstream.exchange
    assert exchange is not None and exchange.connecting is not None, "even a POST gets a fresh link"
    assert exchange.backlog == [b"hi"] and client.written == b""
    exchange.connecting.cancel()
