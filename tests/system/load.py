"""Constant load by clients that never retry, in a process of its own.

    python -m tests.system.load PORT [--clients N] [--pause MS]

Each client is one of four characters: it keeps its connection or makes a new
one for every request, and it sends a body or fetches one. What comes back is
checked to the octet. A kept connection is given up only when the answer said
`Connection: close`. Anything else that ends an exchange is a failure, printed
with its phase. It runs until its standard input closes, finishes what is under
way, and prints one JSON object: {"done": n, "failures": [...]}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import h11

BODY = bytes(range(256)) * 40
FAILURES_KEPT = 20


@dataclass
class Tally:
    done: int = 0
    failures: list[str] = field(default_factory=list)
    failure_count: int = 0
    longest_ms: float = 0.0
    generations: set[str] = field(default_factory=set)

    def fail(self, text: str) -> None:
        self.failure_count += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(text)


async def one_exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: h11.Connection, *, sends: bool, close: bool
) -> bool:
    """One request and its whole answer; True when the connection may be used again."""
    headers = [("host", "load.test")]
    if close:
        headers.append(("connection", "close"))
    if sends:
        headers.append(("content-length", str(len(BODY))))
        request = h11.Request(method="POST", target="/echo", headers=headers)
        out = (connection.send(request) or b"") + (connection.send(h11.Data(data=BODY)) or b"")
    else:
        out = connection.send(h11.Request(method="GET", target="/bytes/5000", headers=headers)) or b""
    writer.write(out + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(65536)
            if not data and status == 0:
                raise ConnectionError("closed before the answer")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("closed in the middle")
    expected = BODY if sends else b"x" * 5000
    if status != 200 or body != expected:
        raise ValueError(f"status {status}, {len(body)} octets: {bytes(body[:120])!r}")
    if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
        connection.start_next_cycle()
        return True
    return False


async def client(port: int, index: int, stop: asyncio.Event, tally: Tally, pause_ms: float) -> None:
    keeps, sends = index % 2 == 0, index % 4 < 2
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    connection = h11.Connection(h11.CLIENT)
    used = 0
    while not stop.is_set():
        phase = "connecting"
        started = time.monotonic()
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                connection = h11.Connection(h11.CLIENT)
                used = 0
            phase = f"{used} of a {'kept' if keeps else 'new'} connection, {'sending' if sends else 'fetching'}"
            async with asyncio.timeout(30):
                again = await one_exchange(reader, writer, connection, sends=sends, close=not keeps)
            used += 1
            tally.done += 1
            tally.longest_ms = max(tally.longest_ms, (time.monotonic() - started) * 1000)
        except (OSError, ValueError, TimeoutError, h11.RemoteProtocolError) as fault:
            tally.fail(f"{phase}: {type(fault).__name__}: {fault}")
            again = False
        if not again and writer is not None:
            writer.close()
            reader = writer = None
        await asyncio.sleep(pause_ms / 1000)
    if writer is not None:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=2.0)
    options = parser.parse_args()
    stop, tally = asyncio.Event(), Tally()
    stdin = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    clients = [
        asyncio.create_task(client(options.port, index, stop, tally, options.pause)) for index in range(options.clients)
    ]
    print("started", flush=True)
    await stdin.read()
    stop.set()
    await asyncio.gather(*clients)
    document = {
        "done": tally.done,
        "failures": tally.failures,
        "failure_count": tally.failure_count,
        "longest_ms": tally.longest_ms,
    }
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
