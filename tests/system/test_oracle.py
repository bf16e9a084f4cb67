"""The origin-echo oracle: hostile octets go in, and what comes out must leave no parser in doubt.

The origin keeps exactly the octets that it was sent. For a request that must
be refused it may see nothing at all; for one that passes, every independent
parser (tests.system.parsers) that accepts what was forwarded must find the
same requests in it: no split (two for one), no divergence.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.system.fleet import Fleet
from tests.system.parsers import PARSERS, by_h11
from tests.workers.http1.ambiguous import AMBIGUOUS

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Echo:
    """Keeps the octets of every connection, and answers when a whole request (by h11) has come."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.listener.getsockname()[1]
        self.seen: list[bytearray] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.keep, args=(connection,), daemon=True).start()

    def keep(self, connection: socket.socket) -> None:
        octets = bytearray()
        self.seen.append(octets)
        answered = 0
        with connection:
            while data := connection.recv(65536):
                octets += data
                whole = by_h11(bytes(octets))
                while whole is not None and answered < len(whole):
                    connection.sendall(ANSWER)
                    answered += 1
                if whole is None:
                    return

    def take(self) -> list[bytes]:
        seen, self.seen = [bytes(octets) for octets in self.seen], []
        return [octets for octets in seen if octets]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.listener.close()


@pytest.fixture(scope="module")
def fleet(echo: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory: Path = tmp_path_factory.mktemp("oracle")
    # Every request gets an upstream connection of its own, so that what one request became can be told apart.
    keepalive = f'upstream "fresh" {{ endpoint "127.0.0.1:{echo.port}"; keepalive {{ connections 0; }}; }}'
    route = 'route "all" { priority 1; matches { path-prefix "/"; }; upstream "fresh"; }'
    limits = 'limits { header-timeout "1s"; body-timeout "1s"; }'
    fleet = Fleet(directory, echo.port, workers=1, upstreams=keepalive, routes=route, listener=limits).start()
    try:
        yield fleet
    finally:
        fleet.kill()


def ask(port: int, octets: bytes) -> bytes:
    """Send, close our sending side, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            return b""


@pytest.mark.parametrize("case", AMBIGUOUS, ids=lambda case: str(case[0]))
def test_an_ambiguous_request_is_refused_and_not_a_byte_of_it_forwarded(
    fleet: Fleet, echo: Echo, case: tuple[str, bytes, object]
) -> None:
    echo.take()
    answer = ask(fleet.port, case[1])
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501", b"HTTP/1.1 505")), answer[:200]
    forwarded = echo.take()
    assert all(by_h11(octets) in ([], None) for octets in forwarded), forwarded
    if b"chunk" not in case[0].encode():
        assert forwarded == [], "not a byte may pass"


NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-A", b"TE", b"Trailer", b"Expect", b"Upgrade",
     b"Content_Length", b"Transfer-Encoding ", b" Host", b"X\tA", b"Keep-Alive", b"Proxy-Connection", b"Content-length"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"a.test", b"0", b"5", b"+5", b"5, 5", b"chunked", b"xchunked", b"gzip, chunked", b"chunked, identity", b"close",
     b"keep-alive, X-A", b"Content-Length", b"Host", b"100-continue", b"websocket", b"\x0bchunked", b"5\x00", b"",
     b"a\rb"]
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\n "])
TARGETS = st.sampled_from(
    [b"/", b"/a?b", b"//a", b"/a/../b", b"/%2e%2e/x", b"http://a.test/x", b"http://b.test/", b"/a b", b"*", b"/\x01"]
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n",
     b"5\nhello\n0\n\n",
     b"0x5\r\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n", b"helloGET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n"]
)  # fmt: skip


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"get", b"G ET", b"OPTIONS"]))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 "]))
    octets = method + b" " + draw(TARGETS) + b" " + version + draw(ENDS)
    if draw(st.booleans()) or draw(st.booleans()):
        octets += b"Host: a.test\r\n"
    for _ in range(draw(st.integers(0, 4))):
        octets += draw(NAMES) + draw(st.sampled_from([b": ", b":", b" : "])) + draw(VALUES) + draw(ENDS)
    return octets + b"\r\n" + draw(BODIES)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(octets=hostile())
def test_what_passes_leaves_no_parser_in_doubt(fleet: Fleet, echo: Echo, octets: bytes) -> None:
    echo.take()
    ask(fleet.port, octets)
    for forwarded in echo.take():
        opinions = {name: parse(forwarded) for name, parse in PARSERS.items()}
        accepted = {name: seen for name, seen in opinions.items() if seen is not None}
        assert len(accepted) >= 4, f"most parsers must accept what we forward: {forwarded!r} {opinions}"
        bodies = {tuple((method, body) for method, _, body in seen) for seen in accepted.values()}
        assert len(bodies) == 1, f"parsers diverge on {forwarded!r}: {accepted}"
        assert len(next(iter(bodies))) <= 1, f"one connection, one request: {forwarded!r}"
