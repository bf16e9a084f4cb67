"""Directives of an upstream, as its endpoints meet them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.directives.house import serving
from tests.workers.child import Client, wait_until
from tests.workers.origin import Conversation, Origin, Script, scripted

PATIENCE_S = 4.0
"""Less than every default time."""


def named(name: bytes) -> Script:
    def script(conversation: Conversation) -> None:
        while True:
            conversation.head()
            conversation.answer(name)

    return script


@contextlib.contextmanager
def pair() -> Iterator[tuple[Origin, Origin]]:
    with scripted(named(b"a")) as one, scripted(named(b"b")) as two:
        yield one, two


def order(
    directory: Path, one: Origin, two: Origin, *, count: int, weight: int = 1, balance: str = "round-robin"
) -> bytes:
    """Who answered, request by request."""
    endpoints = f'endpoint "127.0.0.1:{one.port}" weight={weight}\nendpoint "127.0.0.1:{two.port}"'
    with serving(directory, endpoints=endpoints, upstream=f'balance "{balance}"') as worker:
        client = Client(worker.port)
        return b"".join(client.get("/").body for _ in range(count))


@pytest.mark.directive("upstream/endpoint@weight")
def test_a_weight_is_a_share(tmp_path: Path) -> None:
    with pair() as (one, two):
        assert order(tmp_path / "1", one, two, count=12).count(b"a") == 6
        assert order(tmp_path / "3", one, two, count=12, weight=3).count(b"a") == 9


@pytest.mark.directive("upstream/balance", "upstream/endpoint")
def test_the_balance_is_the_one_that_is_named(tmp_path: Path) -> None:
    with pair() as (one, two):
        in_turn = order(tmp_path / "turn", one, two, count=60)
        assert in_turn in (b"ab" * 30, b"ba" * 30)
        by_chance = order(tmp_path / "chance", one, two, count=60, balance="random")
        assert by_chance not in (b"ab" * 30, b"ba" * 30), "the odds against this are 2 to the 59th"


@pytest.mark.directive("upstream/timeouts/first-byte", "upstream/timeouts/idle")
@pytest.mark.parametrize(("name", "reason"), [("first-byte", "first-byte-timeout"), ("idle", "upstream-idle-timeout")])
def test_a_silent_endpoint_is_waited_for_so_long(tmp_path: Path, name: str, reason: str) -> None:
    released = threading.Event()

    def silent(conversation: Conversation) -> None:
        conversation.head()
        if name == "idle":
            conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        released.wait(10)

    timeouts = f'timeouts {{ {name} "100ms"; }}'
    with scripted(silent) as origin, serving(tmp_path, origin=origin.port, upstream=timeouts) as worker:
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert worker.log(1)[0]["reason"] == reason, "the default is a minute"
        released.set()
        client.close()


@pytest.mark.directive("upstream/timeouts/connect")
def test_a_silent_connect_is_waited_for_so_long(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a queue that is full drops further SYNs silently
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with serving(tmp_path, origin=full.getsockname()[1], upstream='timeouts { connect "100ms"; }') as worker:
            client = Client(worker.port)
            client.socket.settimeout(PATIENCE_S)
            assert client.get("/").fields["x-sentinel-reason"] == "connect-timeout"


@pytest.mark.directive("upstream/keepalive/connections")
@pytest.mark.parametrize(("setting", "connections"), [("", 1), ("keepalive { connections 0; }", 3)])
def test_so_many_links_are_kept(tmp_path: Path, setting: str, connections: int) -> None:
    with pair() as (one, _), serving(tmp_path, origin=one.port, upstream=setting) as worker:
        client = Client(worker.port)
        assert [client.get("/").status for _ in range(3)] == [200] * 3
        assert one.connections == connections


@pytest.mark.directive("upstream/keepalive/timeout")
def test_an_unused_link_is_kept_so_long(tmp_path: Path) -> None:
    left = threading.Event()

    def watch(conversation: Conversation) -> None:
        conversation.head()
        conversation.answer()
        conversation.rest()
        left.set()

    with scripted(watch) as origin, serving(
        tmp_path, origin=origin.port, upstream='keepalive { timeout "100ms"; }'
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").status == 200
        assert left.wait(PATIENCE_S), "the default is a minute"


@pytest.mark.directive("upstream/resolve-interval")
def test_names_are_resolved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()

    async def lookup(host: str, port: int) -> list[str]:
        os.write(writing, b"?")
        return ["127.0.0.1"]

    monkeypatch.setattr("workers.resolver.system_lookup", lookup)
    monkeypatch.setattr("workers.resolver.Resolver.__init__.__defaults__", (lookup,), raising=False)
    with pair() as (one, _):
        endpoints = f'endpoint "origin.test:{one.port}"'
        with serving(tmp_path, endpoints=endpoints, upstream='resolve-interval "1s"') as worker:
            assert Client(worker.port).get("/").status == 200
            seen = b""
            os.set_blocking(reading, False)

            def asked() -> int:
                nonlocal seen
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(reading, 64)
                return len(seen)

            wait_until(lambda: asked() >= 3, "it is looked up again and again; the default is every 30 s", 10)
    os.close(reading)
    os.close(writing)
