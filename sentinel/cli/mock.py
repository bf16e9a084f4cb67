"""The built-in mock upstream: it says what it was asked, so that one sees what the gateway passed on.

    any path              the request as JSON: method, path, query, headers, body
    /slow?seconds=2       the same, later
    /stream?events=5      one event every `pause` seconds (0.2), as text/event-stream
    /status/503           that status
    …/v1/…                language models: OpenAI's and Anthropic's interfaces (sentinel/cli/mock_llm.py)
    …/metrics             how busy these are, as vLLM tells it

`sentinel dev` runs it beside a fleet; `python -m sentinel.cli.mock 127.0.0.1:9001` runs it alone.
It is made for trying things out, and measures nothing: it shares no code with the worker,
so that a mistake there does not look right here.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import parse_qsl

import click
import uvicorn

from sentinel.cli import mock_llm

SECONDS_MAX: Final = 60.0
EVENTS_MAX: Final = 1000
SHOWN_BYTES_MAX: Final = 64 * 1024
"""How much of a body is said back; the rest is only counted."""
JSON: Final = b"application/json"

Headers = list[tuple[bytes, bytes]]


class Upstream:
    """The upstream as an ASGI application. It remembers how many answers of language models are under way."""

    def __init__(self) -> None:
        self._running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        method, path = scope["method"], scope["path"]
        if method == "GET" and path.rpartition("/")[2] == "metrics":
            page = mock_llm.metrics(self._running).encode()
            headers = [(b"content-type", b"text/plain; version=0.0.4"), (b"content-length", str(len(page)).encode())]
            await _start(send, 200, headers)
            await send({"type": "http.response.body", "body": page})
        elif "v1" in path.strip("/").split("/") and mock_llm.is_answered(method, path):
            self._running += 1
            try:
                await _language(scope, receive, send)
            finally:
                self._running -= 1
        else:
            await _said_back(scope, receive, send)


async def _said_back(scope: Any, receive: Any, send: Any) -> None:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    words = scope["path"].strip("/").split("/")
    body, size = await _body(receive, SHOWN_BYTES_MAX)
    if words == ["stream"]:
        await _stream(send, _events(query))
        return
    if words == ["slow"]:
        await asyncio.sleep(_number(query.get("seconds"), 1.0, SECONDS_MAX))
    status = int(words[1]) if len(words) == 2 and words[0] == "status" and _is_status(words[1]) else 200
    document = {
        "method": scope["method"],
        "path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        "body": body.decode("utf-8", "replace"),
        "body_bytes": size,
    }
    content = json.dumps(document, indent=2).encode() + b"\n"
    await _start(send, status, [(b"content-type", JSON), (b"content-length", str(len(content)).encode())])
    await send({"type": "http.response.body", "body": content})


async def _language(scope: Any, receive: Any, send: Any) -> None:
    """Answer as a language model."""
    method, path = scope["method"], scope["path"]
    body, _ = await _body(receive, mock_llm.BODY_BYTES_MAX + 1)
    wishes = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"x-mock")
    found = mock_llm.answer(method, path, wishes, body)
    if isinstance(found, mock_llm.Events):
        await _events_while_heard(receive, send, found.chunks)
        return
    await asyncio.sleep(found.delay_s)
    content = json.dumps(found.document, ensure_ascii=False).encode()
    headers = [(b"content-type", JSON), (b"content-length", str(len(content)).encode())]
    if found.status == 429:
        headers.append((b"retry-after", b"1"))
    await _start(send, found.status, headers)
    await send({"type": "http.response.body", "body": content})


async def _events_while_heard(receive: Any, send: Any, chunks: AsyncIterator[bytes]) -> None:
    """Stream until the end, until the client has gone, or until the connection is to break, which a server does
    when an application returns in the middle."""
    gone = asyncio.ensure_future(receive())  # the body was read, so all that can come is the end
    try:
        await _start(send, 200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])
        async for chunk in chunks:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except mock_llm.Death:
        return
    finally:
        gone.cancel()


async def _body(receive: Any, most: int) -> tuple[bytes, int]:
    """Read all of the body; returns its beginning and its size."""
    kept, size = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client has gone, and will not read what we say either
            return bytes(kept), size
        size += len(message["body"])
        kept += message["body"][: most - len(kept)]
        if not message.get("more_body"):
            return bytes(kept), size


async def _events(query: dict[str, str]) -> AsyncIterator[bytes]:
    count = int(_number(query.get("events"), 5, EVENTS_MAX))
    pause = _number(query.get("pause"), 0.2, SECONDS_MAX)
    for number in range(1, count + 1):
        yield f"id: {number}\ndata: event {number} of {count}\n\n".encode()
        if number < count:
            await asyncio.sleep(pause)


async def _stream(send: Any, chunks: AsyncIterator[bytes]) -> None:
    await _start(send, 200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _start(send: Any, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"server", b"sentinel-mock"), *headers]})


def _number(text: str | None, default: float, largest: float) -> float:
    try:
        return min(max(float(text), 0.0), largest) if text else default
    except ValueError:
        return default


def _is_status(text: str) -> bool:
    return text.isascii() and text.isdigit() and 200 <= int(text) <= 599


def serve(listening: socket.socket) -> None:
    """Serve on a socket that listens, until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        Upstream(), http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning",
        server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


@click.command()
@click.argument("address", default="127.0.0.1:9001")
@click.option("--fd", type=int, help="Serve on this listening socket instead, which was inherited.")
def mock(address: str, fd: int | None) -> None:
    """Serve the mock upstream at ADDRESS, a host and a port."""
    if fd is not None:
        serve(socket.socket(fileno=fd))
        return
    host, _, port = address.rpartition(":")
    listening = socket.create_server((host, int(port)))
    name = listening.getsockname()
    click.echo(f"mock upstream at http://{name[0]}:{name[1]}")
    serve(listening)


if __name__ == "__main__":
    mock()
