"""A real upstream for system tests: small, strict, in a process of its own.

    python -m tests.system.origin [--unix PATH] [--fail PATH]

It prints its port and serves until it is terminated. What a path does:

    /echo            the request's body, with its SHA-256 in `x-body-sha256`
    /head            the request as received, as JSON
    /bytes/N         N octets
    /slow/MS         answers after MS milliseconds
    /drip/N/MS       N chunks, one every MS milliseconds
    /status/N        that status

While the file given by --fail exists, every second answer is a 500: a fault that a
test switches on and off without restarting anything.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys

import h11


class Origin:
    """Answers requests until its listener is closed; `fail` names the switch file."""

    def __init__(self, fail: str) -> None:
        self.fail = fail
        self.failing_count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            while await self.exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError, h11.LocalProtocolError):
            pass
        finally:
            writer.close()

    async def exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                data = await reader.read(65536)
                connection.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:  # closed or paused
                return False
        assert head is not None
        await self.answer(connection, writer, head, bytes(body))
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def answer(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, head: h11.Request, body: bytes
    ) -> None:
        path = head.target.decode("latin-1").split("?")[0]
        words = path.strip("/").split("/")
        status, payload, pause_ms, chunks = 200, b"ok\n", 0, 0
        is_failing = bool(self.fail) and os.path.exists(self.fail)
        self.failing_count += is_failing
        if is_failing and self.failing_count % 2:
            status, payload = 500, b"switched to failing\n"
        elif words[0] == "echo":
            payload = body
        elif words[0] == "head":
            fields = [[k.decode("latin-1"), v.decode("latin-1")] for k, v in head.headers]
            document = {"method": head.method.decode(), "target": head.target.decode("latin-1"), "headers": fields}
            payload = json.dumps(document).encode()
        elif words[0] == "bytes":
            payload = b"x" * int(words[1])
        elif words[0] == "slow":
            pause_ms = int(words[1])
        elif words[0] == "drip":
            chunks, pause_ms = int(words[1]), int(words[2])
        elif words[0] == "status":
            status = int(words[1])
        headers = [("x-body-sha256", hashlib.sha256(body).hexdigest()), ("content-type", "application/octet-stream")]
        if not chunks:
            if pause_ms:
                await asyncio.sleep(pause_ms / 1000)
            headers.append(("content-length", str(len(payload))))
            out = connection.send(h11.Response(status_code=status, headers=headers)) or b""
            if head.method != b"HEAD":
                out += connection.send(h11.Data(data=payload)) or b""
            writer.write(out + (connection.send(h11.EndOfMessage()) or b""))
        else:
            writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
            for index in range(chunks):
                writer.write(connection.send(h11.Data(data=b"drip %d\n" % index)) or b"")
                await writer.drain()
                await asyncio.sleep(pause_ms / 1000)
            writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix", default="")
    parser.add_argument("--fail", default="")
    options = parser.parse_args()
    origin = Origin(options.fail)
    if options.unix:
        server = await asyncio.start_unix_server(origin.serve, options.unix)
        print(0, flush=True)
    else:
        server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
