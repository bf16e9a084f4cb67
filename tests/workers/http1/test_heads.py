"""Heads: what is refused and why, what goes on, and what can never be made to."""

from __future__ import annotations

import gc
import mmap
import sys
from typing import Any

import pytest

from sentinel.core.reasons import Reason
from tests.workers.http1.ambiguous import AMBIGUOUS, BEYOND_THE_CODEC, Case
from tests.workers.http1.hostile_responses import HOSTILE, Hostile
from tests.workers.http1.implementations import BYTES_MAX, HEADERS_MAX, IMPLEMENTATIONS, NEEDS_NATIVE, URI_MAX, codec
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import ClientFault, Fault, UpstreamFault
from workers.http1.grammar import OPTIONS_MAX
from workers.http1.names import GUARDED, HOP_BY_HOP, ROLES

NOTHING: frozenset[str] = frozenset()


@pytest.fixture(params=IMPLEMENTATIONS)
def http1(request: pytest.FixtureRequest) -> Any:
    return codec(request.param)


def request_of(http1: Any, *lines: str, start: str = "GET / HTTP/1.1", host: str = "Host: a.test") -> Any:
    text = "\r\n".join((start, *([host] if host else []), *lines, "", ""))
    return http1.parse_request(text.encode("latin-1"), 0, BYTES_MAX, HEADERS_MAX, URI_MAX)


def response_of(http1: Any, *lines: str, start: str = "HTTP/1.1 200 OK", method: str = "GET") -> Any:
    text = "\r\n".join((start, *lines, "", ""))
    return http1.parse_response(text.encode("latin-1"), 0, BYTES_MAX, HEADERS_MAX, method)


def forwarded(http1: Any, *lines: str, extra: bytes = b"", drop: frozenset[str] = NOTHING, **more: str) -> list[str]:
    """The lines that an upstream is sent for a request of these lines, start line and Host apart."""
    head = request_of(http1, *lines, **more)
    octets: bytes = http1.build_request(head, "/x", "b.test", extra, drop, head.chunked)
    start, said_host, *said, empty, nothing = octets.decode("latin-1").split("\r\n")
    assert (start, said_host, empty, nothing) == (f"{head.method} /x HTTP/1.1", "host: b.test", "", "")
    return said


def relayed(http1: Any, *lines: str, keep: bool = True, minor: int = 1, **more: str) -> tuple[list[str], str]:
    """The lines that a client is sent for an answer of these lines, and the framing."""
    octets, framing = http1.build_response(response_of(http1, *lines, **more), b"", keep, minor, NOTHING)
    return octets.decode("latin-1").split("\r\n")[:-2], framing


# What is refused.


def refusal_of(http1: Any, octets: bytes, step: int) -> Reason | None:
    """Why a request is refused that comes in pieces of this size, head and body; None if it is not."""
    head, have = None, b""
    try:
        for end in range(step, len(octets) + step, step):
            have = octets[:end]
            head = http1.parse_request(have, 0, BYTES_MAX, HEADERS_MAX, URI_MAX)
            if head is not None:
                break
        if head is not None and head.chunked:
            body = ChunkedBody(reframe=True, fault=ClientFault)
            for at in range(head.size, len(octets), step):
                passed, _ = body.feed(octets[at : at + step])
                assert b"smuggled" not in passed
    except ClientFault as fault:
        return fault.reason
    return None


@pytest.mark.parametrize("case", AMBIGUOUS, ids=lambda case: str(case[0]))
def test_what_is_ambiguous_is_refused_whole_and_in_pieces(http1: Any, case: Case) -> None:
    name, octets, reason = case
    small_steps = (1, 7) if len(octets) < 3000 else (977,)
    for step in (len(octets), *small_steps):
        assert refusal_of(http1, octets, step) is reason, (name, step)


@pytest.mark.parametrize("case", BEYOND_THE_CODEC, ids=lambda case: str(case[0]))
def test_what_others_refuse_is_well_formed(http1: Any, case: Case) -> None:
    assert refusal_of(http1, case[1], len(case[1])) is None


def answer_of(http1: Any, case: Hostile, step: int) -> tuple[bytes, bool] | None:
    """The body that the client would see, and whether the connection could be used again; None for a refusal."""
    head, octets = None, case.octets
    try:
        for end in range(step, len(octets) + step, step):
            head = http1.parse_response(octets[:end], 0, 64 * 1024, 200, case.method)
            if head is not None:
                break
        assert head is not None, "refused, not waited for"
        rest = octets[head.size :]
        if head.until_close:
            return rest, False
        if not head.chunked:
            length = max(head.content_length, 0)
            return rest[:length], head.keep_alive and len(rest) == length
        body = ChunkedBody(reframe=False, fault=UpstreamFault)
        seen, used = b"", 0
        for at in range(0, len(rest), step):
            passed, consumed = body.feed(rest[at : at + step])
            seen, used = seen + passed, used + consumed
            if body.done:
                break
        return seen, head.keep_alive and used == len(rest)
    except UpstreamFault as fault:
        assert fault.reason is Reason.UPSTREAM_MALFORMED
        return None


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_answer_is_refused_or_delimited_and_never_followed_by_another(http1: Any, case: Hostile) -> None:
    for step in (len(case.octets), 1 if len(case.octets) < 3000 else 977):
        assert answer_of(http1, case, step) == (None if case.body is None else (case.body, False))


def test_octets_that_follow_a_head_change_nothing(http1: Any) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    for more in (b"", b"\0", b"GET", b"\n", b"x" * 50_000):
        assert http1.parse_request(head + more, 0, BYTES_MAX, HEADERS_MAX, URI_MAX).size == len(head)
        assert http1.parse_request(b"???" + head + more, 3, BYTES_MAX, HEADERS_MAX, URI_MAX).size == len(head)
        for kind in (bytearray, memoryview):
            assert http1.parse_request(kind(head + more), 0, BYTES_MAX, HEADERS_MAX, URI_MAX).size == len(head)


def test_limits_are_exact(http1: Any) -> None:
    head = b"GET /abc HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n"
    assert http1.parse_request(head, 0, len(head), 2, 4).target == "/abc"
    for limits, reason in (
        ((len(head) - 1, 2, 4), Reason.HEADER_TOO_LARGE), ((len(head), 1, 4), Reason.HEADER_TOO_LARGE),
        ((len(head), 2, 3), Reason.URI_TOO_LONG),
    ):  # fmt: skip
        with pytest.raises(ClientFault) as caught:
            http1.parse_request(head, 0, *limits)
        assert caught.value.reason is reason
    with pytest.raises(ClientFault):
        http1.parse_request(b"GET / HTTP/1.1\r\nX", 0, 17, 2, 4)
    assert http1.parse_request(b"GET / HTTP/1.1\r\nX", 0, 18, 2, 4) is None


@pytest.mark.parametrize("arguments", [(-1, 9, 9, 9), (1, 9, 9, 9), (0, 0, 9, 9), (0, 9, -1, 9), (0, 9, 9, 0),
                                       (0, 1 << 25, 9, 9), (0, 9, 1001, 9), (0, 9, 9, 1 << 25)])  # fmt: skip
def test_limits_out_of_range_are_a_mistake_of_ours(http1: Any, arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        http1.parse_request(b"", *arguments)


# What is read.


def test_a_request_is_read(http1: Any) -> None:
    lines = ["X-One:\t 1 ", "x-ONE: caf\xe9", "Content-Length: 007", "Empty:"]
    head = request_of(http1, *lines, start="POST /a?b HTTP/1.1")
    assert (head.method, head.target, head.minor, head.host) == ("POST", "/a?b", 1, "a.test")
    assert head.headers == [
        ("host", "a.test"), ("x-one", "1"), ("x-one", "caf\xe9"), ("content-length", "007"), ("empty", "")
    ]  # fmt: skip
    assert (head.content_length, head.chunked, head.keep_alive) == (7, False, True)
    assert (head.expect_continue, head.upgrade) == (False, "")
    assert head.headers is head.headers
    with pytest.raises((AttributeError, TypeError)):
        request_of(http1).unknown = 1


def test_one_empty_line_before_a_request_is_skipped(http1: Any) -> None:
    octets = b"\r\nGET / HTTP/1.0\r\n\r\n"
    head = http1.parse_request(octets, 0, BYTES_MAX, HEADERS_MAX, URI_MAX)
    assert (head.size, head.host, head.keep_alive, head.minor) == (len(octets), None, False, 0)


@pytest.mark.parametrize(("start", "options", "keeps"), [
    ("GET / HTTP/1.1", "", True), ("GET / HTTP/1.1", "Close", False), ("GET / HTTP/1.1", "x, close", False),
    ("GET / HTTP/1.1", "keep-alive, close", False), ("GET / HTTP/1.1", "closed", True), ("GET / HTTP/1.0", "", False),
    ("GET / HTTP/1.0", "Keep-Alive", True), ("GET / HTTP/1.0", "keep-alive, close", False),
    ("GET / HTTP/1.1", ",,", True),
])  # fmt: skip
def test_connection_says_whether_it_is_kept(http1: Any, start: str, options: str, keeps: bool) -> None:
    assert request_of(http1, f"Connection: {options}", start=start).keep_alive is keeps


@pytest.mark.parametrize(("lines", "upgrade"), [
    (("Connection: Upgrade", "Upgrade: websocket"), "websocket"),
    (("Connection: keep-alive, upgrade", "Upgrade: a/1, b"), "a/1, b"),
    (("Upgrade: websocket",), ""),
    (("Connection: Upgrade",), ""),
    (("Connection: Upgrade", "Upgrade: a", "Upgrade: b"), ""),
    (("Connection: Upgrade", "Upgrade: h2c"), ""),
    (("Connection: Upgrade", "Upgrade: websocket, H2C"), ""),
    (("Connection: Upgrade", "Upgrade: websocket,"), ""),
    (("Connection: Upgrade", "Upgrade: web socket"), ""),
])  # fmt: skip
def test_an_upgrade_counts_if_connection_names_it(http1: Any, lines: tuple[str, ...], upgrade: str) -> None:
    assert request_of(http1, *lines).upgrade == upgrade
    assert request_of(http1, *lines, start="GET / HTTP/1.0").upgrade == ""
    again = [f"connection: upgrade\nupgrade: {upgrade}"] if upgrade else []
    assert "\n".join(forwarded(http1, *lines)) == "\n".join(again)


# What goes on.


def test_end_to_end_fields_go_on_in_order_and_spelling(http1: Any) -> None:
    lines = ["B-Two: 2", "a-one: 1", "Cookie: x=1", "B-Two: 3", "Empty: ", "X: caf\xe9"]
    assert forwarded(http1, *lines) == lines
    assert forwarded(http1, "Tight:1", "Loose: \t 2 \t ") == ["Tight: 1", "Loose: 2"]


def test_hop_by_hop_fields_end_here(http1: Any) -> None:
    lines = [f"{name.title()}: x" for name in (*HOP_BY_HOP, "trailer", "upgrade", "connection")]
    assert forwarded(http1, *lines) == []
    assert forwarded(http1, "Connection: foo, Bar", "Foo: 1", "bar: 2", "baz: 3", "FOO: 4") == ["baz: 3"]


@pytest.mark.parametrize("name", [*GUARDED, "x-internal-user", "X-Anything"])
def test_what_others_rely_on_cannot_be_nominated_away(http1: Any, name: str) -> None:
    assert forwarded(http1, f"Connection: {name}, close", f"{name}: y") == [f"{name}: y"]


def test_framing_and_host_are_ours_whatever_is_nominated(http1: Any) -> None:
    nominated = "Connection: host, content-length, transfer-encoding, expect"
    assert forwarded(http1, nominated, "Content-Length: 005", "Expect: 100-continue") == [
        "Expect: 100-continue", "content-length: 5",
    ]  # fmt: skip
    assert forwarded(http1, nominated, "Transfer-Encoding: CHUNKED") == ["transfer-encoding: chunked"]


@pytest.mark.parametrize("name", [
    "Content_Length", "Transfer_Encoding", "transfer_Encoding", "X_Forwarded_For", "x_forwarded-for", "Content_Type",
    "Proxy_Connection", "X_Real_IP", "X_Request_Id",
])  # fmt: skip
def test_an_alias_of_a_name_with_a_meaning_is_dropped(http1: Any, name: str) -> None:
    assert forwarded(http1, f"{name}: 5", "Snake_Case: kept") == ["Snake_Case: kept"]


def test_names_to_drop_are_dropped_known_or_not(http1: Any) -> None:
    drop = frozenset({"cookie", "my-own", "my_own", "x" * 60})
    lines = ["Cookie: 1", "My-Own: 2", "MY_OWN: 3", f"{'X' * 60}: 4", "My-One: 5", "Accept: 6"]
    assert forwarded(http1, *lines, drop=drop) == ["My-One: 5", "Accept: 6"]
    assert forwarded(http1, *lines, drop=NOTHING) == lines
    for number in range(20):  # more sets than are remembered
        assert forwarded(http1, *lines, drop=frozenset({"accept", f"n{number}"})) == lines[:-1]
    assert forwarded(http1, *lines, drop=drop) == ["My-One: 5", "Accept: 6"]


def test_an_expectation_of_http_1_0_is_ignored_and_not_passed_on(http1: Any) -> None:
    assert request_of(http1, "Expect: anything", start="POST / HTTP/1.0").expect_continue is False
    assert forwarded(http1, "Expect: 100-continue", start="POST / HTTP/1.0") == []


def test_more_options_than_anybody_has_are_refused(http1: Any) -> None:
    most = ",".join(["a"] * OPTIONS_MAX)
    assert request_of(http1, f"Connection: {most},,").keep_alive
    for lines in ((f"Connection: {most},a",), (f"Connection: {most}", "Connection: a")):
        with pytest.raises(ClientFault):
            request_of(http1, *lines)


@pytest.mark.parametrize(
    "text", ["", "/a b", "/a\r\nX: y", "/\0", "/\x7f", "/\n", "/\xe9", "/\u20ac", "/\t", "\x1f" * 20, "/a\r"]
)
def test_a_request_cannot_be_split_by_its_target_or_host(http1: Any, text: str) -> None:
    head = request_of(http1)
    with pytest.raises(ValueError):
        http1.build_request(head, text, "b.test", b"", NOTHING, False)
    with pytest.raises(ValueError):
        http1.build_request(head, "/", text, b"", NOTHING, False)


@pytest.mark.parametrize("extra", [
    b"x", b"x: y", b"x: y\n", b"x: y\r", b"\r\n", b"x: y\r\n\r\n", b"x: y\r\n\r\nGET /", b"x y: z\r\n", b": y\r\n",
    b"x: \0\r\n", b"x: a\rb\r\n", b"x: a\nb: c\r\n", b" x: y\r\n",
])  # fmt: skip
def test_no_head_can_be_split_by_extra_lines(http1: Any, extra: bytes) -> None:
    with pytest.raises(ValueError):
        http1.build_request(request_of(http1), "/", "b.test", extra, NOTHING, False)
    with pytest.raises(ValueError):
        http1.build_response(response_of(http1, "Content-Length: 1"), extra, True, 1, NOTHING)


# Answers.


@pytest.mark.parametrize(("start", "lines", "method", "minor", "framing", "more"), [
    ("HTTP/1.1 200 OK", ("Content-Length: 05",), "GET", 1, "length", ["content-length: 5"]),
    ("HTTP/1.1 200 OK", ("Content-Length: 0",), "GET", 0, "length", ["content-length: 0", "connection: keep-alive"]),
    ("HTTP/1.1 200 OK", ("Transfer-Encoding: chunked",), "GET", 1, "chunked", ["transfer-encoding: chunked"]),
    ("HTTP/1.1 200 OK", ("Transfer-Encoding: chunked",), "GET", 0, "close", ["connection: close"]),
    ("HTTP/1.1 200 OK", (), "GET", 1, "chunked", ["transfer-encoding: chunked"]),
    ("HTTP/1.0 200 OK", (), "GET", 0, "close", ["connection: close"]),
    ("HTTP/1.1 200 OK", ("Content-Length: 5",), "HEAD", 1, "none", ["content-length: 5"]),
    ("HTTP/1.1 200 OK", ("Transfer-Encoding: chunked",), "HEAD", 1, "none", []),
    ("HTTP/1.1 304 Not Modified", ("Content-Length: 5",), "GET", 1, "none", ["content-length: 5"]),
    ("HTTP/1.1 204 No Content", ("Content-Length: 0",), "GET", 1, "none", []),
    ("HTTP/1.1 100 Continue", (), "POST", 1, "none", []),
    ("HTTP/1.1 426 Upgrade Required", ("Connection: upgrade", "Upgrade: b", "Content-Length: 0"), "GET", 1, "length",
     ["content-length: 0", "connection: upgrade", "upgrade: b"]),
    ("HTTP/1.1 101 Switching", ("Connection: upgrade", "Upgrade: websocket"), "GET", 1, "none",
     ["connection: upgrade", "upgrade: websocket"]),
])  # fmt: skip
def test_an_answer_is_framed_anew(
    http1: Any, start: str, lines: tuple[str, ...], method: str, minor: int, framing: str, more: list[str]
) -> None:
    head = ["HTTP/1.1" + start[8:], *more]
    assert relayed(http1, *lines, start=start, method=method, minor=minor) == (head, framing)


def test_what_an_upstream_says_to_us_alone_ends_here(http1: Any) -> None:
    lines = [
        "Keep-Alive: timeout=5", "Connection: keep-alive, foo", "Foo: 1", "Upgrade: h2,h2c", "Content_Length: 7",
        "Proxy-Authenticate: Basic", "Trailer: x-sum", "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 2",
    ]  # fmt: skip
    assert relayed(http1, *lines)[0][1:] == ["Set-Cookie: a=1", "Set-Cookie: b=2", "content-length: 2"]
    assert relayed(http1, "Transfer-Encoding: chunked", "Trailer: x-sum")[0][1:] == [
        "Trailer: x-sum", "transfer-encoding: chunked",
    ]  # fmt: skip
    assert relayed(http1, "Content-Length: 2", keep=False)[0][1:] == ["content-length: 2", "connection: close"]
    assert relayed(http1, "Connection: upgrade", "Upgrade: b", start="HTTP/1.1 426 U", keep=False)[0][-2:] == [
        "connection: upgrade, close", "upgrade: b",
    ]  # fmt: skip


def test_a_phrase_may_be_missing_or_strange(http1: Any) -> None:
    for start, phrase in (("HTTP/1.1 200", ""), ("HTTP/1.1 200 ", ""), ("HTTP/1.0 404 N\xf6  x\t", "N\xf6  x\t")):
        head = response_of(http1, "Content-Length: 0", start=start)
        assert head.phrase == phrase
        assert http1.build_response(head, b"", True, 1, NOTHING)[0].startswith(
            f"HTTP/1.1 {head.status} {phrase}\r\n".encode("latin-1")
        )


@pytest.mark.parametrize(("lines", "start", "keeps"), [
    (("Content-Length: 1",), "HTTP/1.1 200 OK", True), ((), "HTTP/1.1 200 OK", False),
    (("Content-Length: 1", "Connection: close"), "HTTP/1.1 200 OK", False),
    (("Content-Length: 1",), "HTTP/1.0 200 OK", False),
    (("Content-Length: 1", "Connection: keep-alive"), "HTTP/1.0 200 OK", True),
    ((), "HTTP/1.1 204 No Content", True), (("Content-Length: 1",), "HTTP/1.1 204 No Content", False),
])  # fmt: skip
def test_whether_an_upstreams_connection_is_kept(http1: Any, lines: tuple[str, ...], start: str, keeps: bool) -> None:
    assert response_of(http1, *lines, start=start).keep_alive is keeps


# The native kernel by itself.


@NEEDS_NATIVE
def test_wrong_types_are_refused_not_followed() -> None:
    native = codec("native")
    request, response = request_of(native), response_of(native, "Content-Length: 1")
    for call, arguments in (
        (native.parse_request, (b"",)), (native.parse_request, ("text", 0, 9, 9, 9)),
        (native.parse_response, (b"", 0, 9, 9, b"GET")), (native.parse_response, (b"", "0", 9, 9, "GET")),
        (native.build_request, (response, "/", "h", b"", NOTHING, False)),
        (native.build_request, (request, b"/", "h", b"", NOTHING, False)),
        (native.build_request, (request, "/", None, b"", NOTHING, False)),
        (native.build_request, (request, "/", "h", "", NOTHING, False)),
        (native.build_request, (request, "/", "h", b"", set(), False)),
        (native.build_request, (request, "/", "h", b"", frozenset({1}), False)),
        (native.build_response, (request, b"", True, 1, NOTHING)),
        (native.build_response, (response, b"", True, "1", NOTHING)), (type(request), ()),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            call(*arguments)


@NEEDS_NATIVE
def test_known_names_are_one_object() -> None:
    lines = [f"{name}: x" for name in sorted(ROLES) if ROLES[name] <= 1][: HEADERS_MAX - 1]
    first, second = (request_of(codec("native"), *lines) for _ in range(2))
    assert len(first.headers) == HEADERS_MAX
    assert all(one[0] is other[0] for one, other in zip(first.headers, second.headers, strict=True))


@NEEDS_NATIVE
def test_nothing_leaks() -> None:
    """Every way through the kernel, good and bad, gives back all that it took."""
    native = codec("native")

    def everything() -> None:
        for _, octets, _ in AMBIGUOUS:
            refusal_of(native, octets, len(octets))
        for case in HOSTILE:
            answer_of(native, case, len(case.octets))
        lines = ["Unknown-One: \xe9", "Connection: upgrade", "Upgrade: x", "Cookie: 1", "Long: " + "y" * 20_000]
        assert len(request_of(native, *lines).headers) == len(lines) + 1
        for number in range(20):
            forwarded(native, *lines, drop=frozenset({"cookie", "unknown-one", f"n{number}"}))
            relayed(native, *lines)

    blocks: list[int] = []
    for _ in range(4):
        everything()
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    assert blocks[3] - blocks[1] < 50, blocks


@NEEDS_NATIVE
def test_no_octet_beyond_the_input_is_read() -> None:
    """The input ends where a page ends, and the page behind it may not be read: an over-read dies here."""
    import ctypes

    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
    native = codec("native")
    heads = [octets for _, octets, _ in AMBIGUOUS] + [case.octets for case in HOSTILE] + [
        b"GET /some/target HTTP/1.1\r\nHost: a.test\r\nX: some value\r\nConnection: a, upgrade\r\nUpgrade: x\r\n\r\n"
    ]  # fmt: skip
    try:
        for octets in heads:
            for cut in range(min(len(octets), 120) + 1):
                memory[page - cut : page] = octets[:cut]
                view = memoryview((ctypes.c_char * cut).from_address(address + page - cut)).cast("B")
                for parse, last in ((native.parse_request, URI_MAX), (native.parse_response, "GET")):
                    try:
                        parse(view, 0, BYTES_MAX, HEADERS_MAX, last)
                    except Fault:
                        continue
    finally:
        assert libc.mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 3) == 0
