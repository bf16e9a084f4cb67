"""A bare relay: what uvloop and httptools cost when nothing is decided, checked, counted or logged.

`python -m benchmarks.peers.relay PORT UPSTREAM_PORT`. It reads heads with httptools, because a
proxy has to know where messages end, and passes the octets on as they came. No timeouts, no
limits, no faults but the end of the connection: it is a floor, not a proxy.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop


class Uplink(asyncio.Protocol):
    """A connection to the upstream."""

    client: Client | None = None

    def __init__(self, idle: list[Uplink]) -> None:
        self.idle = idle
        self.is_done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.is_done = True

    def send(self, client: Client, data: bytes) -> None:
        self.client = client
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        client = self.client
        if client is not None:
            client.transport.write(data)
        if self.is_done:
            self.is_done = False
            self.client = None
            self.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.idle:
            self.idle.remove(self)
        if self.client is not None:
            self.client.transport.abort()


class Client(asyncio.Protocol):
    """A connection from a client."""

    def __init__(self, idle: list[Uplink], upstream_port: int) -> None:
        self.idle = idle
        self.upstream_port = upstream_port
        self.data = b""
        self.is_done = False
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)

    def on_message_complete(self) -> None:
        self.is_done = True

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.parser.feed_data(data)
        if not self.is_done:
            return
        self.is_done = False
        data, self.data = self.data, b""
        if self.idle:
            self.idle.pop().send(self, data)
        else:
            self.task = asyncio.get_running_loop().create_task(self.connect(data))

    async def connect(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, uplink = await loop.create_connection(lambda: Uplink(self.idle), "127.0.0.1", self.upstream_port)
        uplink.send(self, data)


async def serve(port: int, upstream_port: int) -> None:
    idle: list[Uplink] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(idle, upstream_port), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
