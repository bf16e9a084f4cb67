"""The upstream where there is no nginx: uvloop, one kibibyte for whoever asks.

`python -m benchmarks.peers.origin PORT`
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from benchmarks.peers.site import BODY

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Origin(asyncio.Protocol):
    """One connection; requests have no bodies, so that an empty line is the end of one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data
        count = data.count(b"\r\n\r\n")
        self.buffer = data.rpartition(b"\r\n\r\n")[2]
        if count:
            self.transport.write(ANSWER * count)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Origin, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
