"""Six independent opinions on which requests a sequence of octets holds.

Each function answers a list of (method, target, body), or None when that
parser refuses the octets. They disagree where framing is ambiguous, which is
what request smuggling lives from; so what the gateway forwards must leave them
nothing to disagree on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import h11
import httptools

Seen = list[tuple[str, str, bytes]] | None


def by_h11(data: bytes) -> Seen:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    seen: list[tuple[str, str, bytes]] = []
    body = bytearray()
    head: h11.Request | None = None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, bytearray()
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                seen.append((head.method.decode(), head.target.decode("latin-1"), bytes(body)))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return seen
                connection.start_next_cycle()
            else:
                return seen
    except h11.RemoteProtocolError:
        return None


def by_httptools(data: bytes) -> Seen:
    class Collector:
        def __init__(self) -> None:
            self.seen: list[tuple[str, str, bytes]] = []
            self.url, self.body = b"", b""

        def on_message_begin(self) -> None:
            self.url, self.body = b"", b""

        def on_url(self, url: bytes) -> None:
            self.url += url

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            self.seen.append((parser.get_method().decode(), self.url.decode("latin-1"), self.body))

    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return collector.seen
    except httptools.HttpParserError:
        return None
    return collector.seen


def by_gunicorn(data: bytes) -> Seen:
    from gunicorn.config import Config
    from gunicorn.http.errors import NoMoreData, ParseException
    from gunicorn.http.parser import RequestParser

    seen: list[tuple[str, str, bytes]] = []
    try:
        for request in RequestParser(Config(), iter([data]), ("127.0.0.1", 1)):
            seen.append((request.method, request.uri, request.body.read()))
    except (NoMoreData, StopIteration):
        return seen
    except (ParseException, ValueError):
        return None
    return seen


def by_waitress(data: bytes) -> Seen:
    from waitress.adjustments import Adjustments
    from waitress.parser import HTTPRequestParser

    seen: list[tuple[str, str, bytes]] = []
    while data:
        parser = HTTPRequestParser(Adjustments())
        while data and not parser.completed:
            used = parser.received(data)
            if not used:
                break
            data = data[used:]
        if parser.error:
            return None
        if not parser.completed or parser.empty:
            break
        target = parser.path + ("?" + parser.query if parser.query else "")
        seen.append((parser.command, target, parser.get_body_stream().read()))
    return seen


def by_aiohttp(data: bytes) -> Seen:
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.http_parser import HttpRequestParserPy

    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParserPy(BaseProtocol(loop), loop, 2**16)
        messages, _, _ = parser.feed_data(data)
        return [(m.method, m.path, b"".join(_buffered(payload))) for m, payload in messages]
    except HttpProcessingError:
        return None
    finally:
        loop.close()


def _buffered(payload: Any) -> Iterator[bytes]:
    yield from (bytes(part) for part in getattr(payload, "_buffer", ()))


def by_a_lenient_one(data: bytes) -> Seen:
    """The kind of parser that people write in an afternoon: bare LF, last length wins, chunked by substring."""
    seen: list[tuple[str, str, bytes]] = []
    data = data.lstrip(b"\r\n")
    while data:
        head, separator, rest = _split_head(data)
        if not separator:
            return seen
        lines = [line.strip(b"\r") for line in head.split(b"\n")]
        words = lines[0].split()
        if len(words) < 2:
            return None
        length, chunked = 0, False
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name = name.strip().lower().replace(b"_", b"-")
            if name == b"content-length":
                try:
                    length = int(value)
                except ValueError:
                    return None
            if name == b"transfer-encoding" and b"chunked" in value.lower():
                chunked = True
        if chunked:
            body = bytearray()
            while True:
                line, found, rest = rest.partition(b"\n")
                if not found:
                    return seen
                try:
                    size = int(line.split(b";")[0].strip(), 16)
                except ValueError:
                    return None
                if size == 0:
                    while True:
                        line, found, rest = rest.partition(b"\n")
                        if not line.strip(b"\r") or not found:
                            break
                    break
                body += rest[:size]
                rest = rest[size:].lstrip(b"\r").removeprefix(b"\n")
            seen.append((words[0].decode("latin-1"), words[1].decode("latin-1"), bytes(body)))
        else:
            seen.append((words[0].decode("latin-1"), words[1].decode("latin-1"), rest[:length]))
            rest = rest[length:]
        data = rest
    return seen


def _split_head(data: bytes) -> tuple[bytes, bytes, bytes]:
    ends = [(at, mark) for mark in (b"\r\n\r\n", b"\n\n", b"\n\r\n") if (at := data.find(mark)) >= 0]
    if not ends:
        return data, b"", b""
    at, mark = min(ends)
    return data[:at], mark, data[at + len(mark) :]


PARSERS: dict[str, Callable[[bytes], Seen]] = {
    "h11": by_h11,
    "httptools": by_httptools,
    "gunicorn": by_gunicorn,
    "waitress": by_waitress,
    "aiohttp": by_aiohttp,
    "lenient": by_a_lenient_one,
}
