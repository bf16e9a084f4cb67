"""The doors themselves: who says nothing holds no place for long."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from supervisor.control import serving
from supervisor.control.serving import Seldom, Serving


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def talk(port: int, octets: bytes) -> bytes:
    """Everything that comes until the door closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "octets",
    [b"", b"GET / HTT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"],
    ids=["silent", "half a head", "half a body"],
)
def test_a_request_that_is_not_there_in_time_is_not_waited_for(octets: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_S", 0.1)

    async def scene() -> bytes:
        door = socket.create_server(("127.0.0.1", 0))
        async with Serving([(door, app)]):
            return await talk(door.getsockname()[1], octets)

    assert asyncio.run(scene()) == b""


def test_a_whole_request_is_answered_and_its_connection_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_S", 0.1)

    async def scene() -> list[bytes]:
        door = socket.create_server(("127.0.0.1", 0))
        async with Serving([(door, app)]):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.getsockname()[1])
            bystander = talk(door.getsockname()[1], b"")
            seen = []
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                seen.append((await reader.readuntil(b"ok"))[:15])
                if len(seen) == 1:
                    await bystander  # whose end proves that the time has passed
            writer.close()
            return seen

    assert asyncio.run(scene()) == [b"HTTP/1.1 200 OK"] * 2


def test_whoever_knocks_again_and_again_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        door = socket.create_server(("127.0.0.1", 0))
        async with Serving([(door, app)]):
            for _ in range(20):
                assert b"400 Bad Request" in await talk(door.getsockname()[1], b"what\r\n\r\n")

    asyncio.run(scene())
    assert [one.getMessage() for one in caplog.records] == ["Invalid HTTP request received."]


def test_what_was_held_back_is_told_with_the_next_and_errors_always() -> None:
    seldom, said = Seldom(), []

    def log(level: int, text: object) -> None:
        record = logging.LogRecord("uvicorn.error", level, "", 0, text, (), None)
        if seldom.filter(record):
            said.append(record.getMessage())

    for _ in range(3):
        log(logging.WARNING, "refused")
        log(logging.ERROR, "broken")
    seldom._told = {text: (told_s - serving.SELDOM_S, held) for text, (told_s, held) in seldom._told.items()}
    log(logging.WARNING, "refused")
    assert said == ["refused", *["broken"] * 3, "refused (2 more of these in the meantime)"]
    for number in range(10_000):
        log(logging.WARNING, number)
    assert len(seldom._told) <= serving.MESSAGES_MAX
