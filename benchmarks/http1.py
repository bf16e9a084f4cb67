"""What parsing and building one head costs from Python, in microseconds, natively and on the twin.

Run by hand: `python -m benchmarks.http1`. Each figure is the best of several rounds, since
whatever else the machine does only ever adds; the loop's own cost is taken off. Nothing
is asserted: numbers belong to a machine. Target on the 2-core reference machine: a
microsecond for each native call.

The heads are those of wrk (3 fields), of a browser (12 fields), and of the answers of a
small service and of a large site. `headers` is the list of pairs, which is made when it is
first asked for; the row without it is what a request costs that no policy looks into.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib import import_module
from itertools import repeat
from types import ModuleType
from typing import Any

from workers.forwarded import DROPPED, DROPPED_FROM_ANSWERS
from workers.http1 import request_twin, response_twin
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import UpstreamFault

ROUNDS = 7

WRK = b"GET /items?page HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\nUser-Agent: wrk/4.2.0\r\n\r\n"
BROWSER = b"\r\n".join((
    b"GET /summer/shoes?size=42&colour=blue HTTP/1.1", b"Host: shop.example.com", b"Connection: keep-alive",
    b'sec-ch-ua: "Chromium";v="128", "Not;A=Brand";v="24"', b"sec-ch-ua-mobile: ?0",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0",
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Mode: navigate", b"Referer: https://shop.example.com/catalogue/summer",
    b"Accept-Encoding: gzip, deflate, br, zstd", b"Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    b"Cookie: session=4f9c2b7a61d84e0f9b3a5c7d1e2f4a6b; theme=dark; consent=all-2024-03; cart=17,42,99", b"", b"",
))  # fmt: skip
SMALL = b"\r\n".join((
    b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: 1024",
    b"Date: Mon, 23 Nov 2026 21:00:00 GMT", b"", b"",
))  # fmt: skip
LARGE = b"\r\n".join((
    b"HTTP/1.1 200 OK", b"Server: nginx/1.27.0", b"Date: Mon, 23 Nov 2026 21:00:00 GMT", b"Connection: keep-alive",
    b"Content-Type: text/html; charset=utf-8", b"Content-Length: 48213", b"Vary: Accept-Encoding, Cookie",
    b"Cache-Control: private, max-age=0", b'ETag: "5f3a-61d2c8b1e7f40"', b"X-Content-Type-Options: nosniff",
    b"Set-Cookie: session=4f9c2b7a61d84e0f9b3a5c7d1e2f4a6b; Path=/; HttpOnly; Secure; SameSite=Lax",
    b"Strict-Transport-Security: max-age=31536000; includeSubDomains",
    b"Content-Security-Policy: default-src 'self'; img-src 'self' https://img.example.com; script-src 'self'", b"", b"",
))  # fmt: skip
LINES = (
    b"x-forwarded-for: 203.0.113.9\r\nx-real-ip: 203.0.113.9\r\nx-forwarded-proto: https\r\n"
    b"x-forwarded-host: shop.example.com\r\nx-request-id: 0123456789abcdef0123456789abcdef\r\n"
)
REQUEST_ID = b"x-request-id: 0123456789abcdef0123456789abcdef\r\n"


def best_us(call: Callable[..., object], arguments: tuple[object, ...], calls: int) -> float:
    return min(_round(call, arguments, calls) for _ in range(ROUNDS)) / 1000


def _round(call: Callable[..., object], arguments: tuple[object, ...], calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in repeat(None, calls):
        pass
    empty = time.perf_counter_ns()
    for _ in repeat(None, calls):
        call(*arguments)
    return (time.perf_counter_ns() - empty - (empty - start)) / calls


def rows(codec: Any) -> list[tuple[str, Callable[..., object], tuple[object, ...]]]:
    found: list[tuple[str, Callable[..., object], tuple[object, ...]]] = []
    for name, octets in (("request, 3 fields", WRK), ("request, 12 fields", BROWSER)):
        head = codec.parse_request(octets, 0, 32768, 100, 8192)
        arguments = (octets, 0, 32768, 100, 8192)
        found.append((f"parse {name}", codec.parse_request, arguments))
        found.append((f"parse {name}, headers", lambda *given: codec.parse_request(*given).headers, arguments))
        found.append((f"build {name}", codec.build_request, (head, "/shoes", "a.example.com", LINES, DROPPED, False)))
    for name, octets in (("answer, 3 fields", SMALL), ("answer, 12 fields", LARGE)):
        answer = codec.parse_response(octets, 0, 65536, 200, "GET")
        found.append((f"parse {name}", codec.parse_response, (octets, 0, 65536, 200, "GET")))
        found.append((f"build {name}", codec.build_response, (answer, REQUEST_ID, True, 1, DROPPED_FROM_ANSWERS)))
    return found


def feed_chunks(octets: bytes, reframe: bool) -> None:
    ChunkedBody(reframe=reframe, fault=UpstreamFault).feed(octets)


def main() -> None:
    twin = ModuleType("twin")
    twin.__dict__.update(vars(request_twin) | vars(response_twin))
    codecs: list[tuple[Any, int]] = [(twin, 5_000)]
    try:
        codecs.append((import_module("workers._native.http1"), 200_000))
    except ImportError:
        print("the native kernel is not built")
    print(f"{platform.machine()}, Python {platform.python_version()}, µs a call")
    print(f"{'':<36}" + "".join(f"{'twin' if codec is twin else 'native':>10}" for codec, _ in codecs))
    tables = [[(name, best_us(call, given, calls)) for name, call, given in rows(codec)] for codec, calls in codecs]
    for row in zip(*tables, strict=True):
        print(f"{row[0][0]:<36}" + "".join(f"{cost:>10.2f}" for _, cost in row))
    chunk = b"400\r\n" + bytes(1024) + b"\r\n"
    for name, octets in (("1 chunk", chunk), ("16 chunks and the end", chunk * 16 + b"0\r\n\r\n")):
        for reframe in (True, False):
            cost = best_us(feed_chunks, (octets, reframe), 20_000)
            print(f"{name + (', framed' if reframe else ', plain'):<36}{cost:>10.2f}")


if __name__ == "__main__":
    main()
