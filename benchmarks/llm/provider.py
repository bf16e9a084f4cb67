"""A provider that costs next to nothing: OpenAI's chat completions, whole or as a stream at a set pace.

`python -m benchmarks.llm.provider PORT`. The model's name says what is wanted: `whole`, or `stream-N-MS`: N chunks, the
first one at once and then one each MS milliseconds. Streams of a pace are served by one timer.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from benchmarks.completions import STREAM_HEAD, answered, chunk, openai_stream
from benchmarks.peers.site import BODY

WHOLE = answered()
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream-(\d+)-(\d+)"')
PHASES = 5
"""The loop's timers have milliseconds, and the shortest pace has five."""


class Pace:
    """All streams that get a chunk each so many seconds: not all in the same moment, as no provider's do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop, self.seconds = loop, seconds / PHASES
        self.phases: list[dict[Provider, int]] = [{} for _ in range(PHASES)]
        self.at = 0
        loop.call_later(self.seconds, self.turn)

    def join(self, stream: Provider) -> None:
        """Its second piece comes in a whole turn."""
        self.phases[self.at][stream] = 1

    def leave(self, stream: Provider) -> None:
        for streams in self.phases:
            streams.pop(stream, None)

    def turn(self) -> None:
        self.loop.call_later(self.seconds, self.turn)
        self.at = (self.at + 1) % PHASES
        streams = self.phases[self.at]
        for stream, at in list(streams.items()):
            stream.transport.write(stream.pieces[at])
            if at + 1 < len(stream.pieces):
                streams[stream] = at + 1
            else:  # whoever asks again at once need not wait for its next turn
                del streams[stream]
                stream.next()


class Provider(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self, paces: dict[int, Pace], streams: dict[int, list[bytes]]) -> None:
        self.paces, self.streams = paces, streams
        self.buffer = b""
        self.is_busy = False
        self.pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for pace in self.paces.values():
            pace.leave(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_busy:
            self.next()

    def next(self) -> None:
        """Answer the next request, if it is there."""
        self.is_busy = False
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0 and not self.is_busy:
            found = LENGTH.search(self.buffer, 0, end)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < size:
                return
            asked, self.buffer = self.buffer[:size], self.buffer[size:]
            wanted = STREAM.search(asked, end)
            if wanted is None:
                self.transport.write(PAGE if asked.startswith(b"GET") else WHOLE)
            else:
                self.stream(int(wanted[1]), int(wanted[2]))

    def stream(self, chunks: int, ms: int) -> None:
        if chunks not in self.streams:
            begin, *rest = openai_stream(chunks)
            # Role and first text at once; the end of text, usage and [DONE] together.
            self.streams[chunks] = [begin + rest[0] + rest[1], *rest[2 : chunks + 1], b"".join(rest[chunks + 1 :])]
        if ms not in self.paces:
            self.paces[ms] = Pace(asyncio.get_running_loop(), ms / 1000)
        self.is_busy = True
        self.pieces = self.streams[chunks]
        self.transport.write(self.pieces[0])
        self.paces[ms].join(self)


async def serve(port: int) -> None:
    paces: dict[int, Pace] = {}
    streams: dict[int, list[bytes]] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(paces, streams), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


assert STREAM_HEAD.endswith(b"\r\n\r\n") and chunk(b"") == b"0\r\n\r\n"

if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
