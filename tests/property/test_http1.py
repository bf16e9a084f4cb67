"""The native codec and its twin are one codec; heads and bodies in pieces are the same as whole ones.

Invariants, for any octets at all:
1. Both implementations give the same head, attribute by attribute, build the same octets of it, or raise the
   same fault. As the twin refuses whatever llhttp refuses, so does the kernel.
2. A head of which more comes later was either not yet there, or already the same fault; octets after a head
   change nothing.
3. What is built of an accepted head is accepted again, by us and by h11, and means the same.
4. A body gives the same octets in any division, and its framing survives being framed anew.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.workers.http1.ambiguous import AMBIGUOUS
from tests.workers.http1.hostile_responses import HOSTILE
from tests.workers.http1.implementations import (
    BYTES_MAX,
    IMPLEMENTATIONS,
    NATIVE_IS_BUILT,
    TWIN,
    codec,
    request_outcome,
    response_outcome,
)
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import ClientFault, Fault, UpstreamFault

LIMITS = st.tuples(
    st.sampled_from([40, 64, 100, 300, BYTES_MAX]), st.sampled_from([0, 1, 3, 100]), st.sampled_from([1, 5, 20, 8192])
)  # fmt: skip

NAMES = st.sampled_from(
    ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "TE", "Trailer", "Expect", "Upgrade", "X-A",
     "Foo", "foo", "Content_Length", "X_Forwarded_For", "X-Forwarded-For", "Keep-Alive", "Proxy-Connection", "Cookie",
     "Accept", "Authorization", "HTTP2-Settings", "Close", "X-Drop-Me", "Drop-Me-Too", "Server", "!#$%&'*+-.^_`|~9",
     "A-Name-That-Is-Longer-Than-Any-Known-One-And-Has-An_underscore", "A_b", "Upgrade-Insecure-Requests", "dnt"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["a.test", "a.test:80", "[::1]:80", "0", "5", "007", "9223372036854775807", "9223372036854775808",
     "00000000000000000005", "+5", "5, 5", "chunked", "Chunked", "xchunked", "chunked, chunked", "gzip, chunked",
     "identity", "close", "keep-alive", "Keep-Alive, foo", "close, Foo, X-A, Cookie, close", "upgrade", "Upgrade, x",
     "websocket", "h2c", "websocket, H2C/1", "a/1.0, b", "a,, b", "100-continue", "100-Continue", "200-ok", "trailers",
     "", " ", "\t", "a b", "caf\xe9", "a\tb", ",".join("o" * 40), "," * 40, "x" * 70, "no@user", "a,b",
     "!$&'()*+;=:%[]~", "<", "a_b"]
) | st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30)  # fmt: skip
BLANKS = st.sampled_from(["", " ", " ", " ", "  ", "\t", " \t "])
FIELDS = st.lists(st.builds("{}:{}{}{}\r\n".format, NAMES, BLANKS, VALUES, BLANKS), max_size=6).map("".join)

METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "get", "M-SEARCH", "X_1", "X" * 32, "X" * 33])
TARGETS = st.sampled_from(["/", "/a?b=c", "*", "http://a.test/x", "a.test:443", "/" + "y" * 30, "/\xe9", "/#"])
VERSIONS = st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0"] * 4 + ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1"])
HOST_LINE = st.sampled_from(["Host: a.test\r\n"] * 4 + [""])
REQUESTS = st.builds(
    "{}{} {} {}\r\n{}{}\r\n".format,
    st.sampled_from([""] * 9 + ["\r\n"]), METHODS, TARGETS, VERSIONS, HOST_LINE, FIELDS,
).map(lambda text: text.encode("latin-1"))
STATUSES = st.sampled_from(
    [" 200 OK", " 200", " 204 ", " 304 Not", " 101 S", " 100 C", " 103 E", " 426 U", " 600 X", " 99 X", " 500  "]
)
RESPONSES = st.builds("{}{}\r\n{}\r\n".format, VERSIONS, STATUSES, FIELDS).map(lambda text: text.encode("latin-1"))
ODD_OCTETS = st.sampled_from(
    [b"\0", b"\n", b"\r", b"\r\n", b" ", b"\t", b":", b"\x0b", b"\x7f", b"\x80", b"\xff", b",", b";", b"_", b""]
)


@st.composite
def mutated(draw: st.DrawFn, heads: st.SearchStrategy[bytes]) -> bytes:
    """A head in which a few places were written over, cut out or repeated."""
    data = draw(heads)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 4)))
        data = data[:start] + draw(ODD_OCTETS) * draw(st.integers(1, 3)) + data[end:]
    return data


SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
needs_both = pytest.mark.skipif(not NATIVE_IS_BUILT, reason="build it: python setup.py build_ext --inplace")


@needs_both
@SETTINGS
@given(data=mutated(REQUESTS) | st.binary(max_size=60), limits=LIMITS)
def test_the_kernel_reads_requests_as_the_twin_does(data: bytes, limits: tuple[int, int, int]) -> None:
    native = codec("native")
    assert request_outcome(native, data) == request_outcome(TWIN, data)
    assert request_outcome(native, data, *limits) == request_outcome(TWIN, data, *limits)


@needs_both
@SETTINGS
@given(data=mutated(RESPONSES) | st.binary(max_size=60), limits=LIMITS, method=st.sampled_from(["GET", "HEAD", "POST"]))
def test_the_kernel_reads_answers_as_the_twin_does(data: bytes, limits: tuple[int, int, int], method: str) -> None:
    native = codec("native")
    assert response_outcome(native, data, method) == response_outcome(TWIN, data, method)
    assert response_outcome(native, data, method, *limits[:2]) == response_outcome(TWIN, data, method, *limits[:2])


@needs_both
def test_they_agree_on_every_cut_of_every_known_attack() -> None:
    native = codec("native")
    for _, data, _ in AMBIGUOUS:
        for cut in range(min(len(data), 600) + 1):
            assert request_outcome(native, data[:cut]) == request_outcome(TWIN, data[:cut]), data[:cut]
    for case in HOSTILE:
        for cut in range(min(len(case.octets), 600) + 1):
            octets = case.octets[:cut]
            assert response_outcome(native, octets, case.method) == response_outcome(TWIN, octets, case.method), octets


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(SETTINGS, max_examples=60)
@given(data=mutated(REQUESTS), limits=LIMITS, more=st.binary(max_size=8))
def test_a_request_in_pieces_meets_the_same_end(
    implementation: str, data: bytes, limits: tuple[int, int, int], more: bytes
) -> None:
    def outcome(octets: bytes) -> Any:
        return request_outcome(codec(implementation), octets, *limits)

    _cut_everywhere(outcome, data, more)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(SETTINGS, max_examples=60)
@given(data=mutated(RESPONSES), limits=LIMITS, more=st.binary(max_size=8))
def test_an_answer_in_pieces_meets_the_same_end(
    implementation: str, data: bytes, limits: tuple[int, int, int], more: bytes
) -> None:
    def outcome(octets: bytes) -> Any:
        return response_outcome(codec(implementation), octets, "GET", *limits[:2])

    _cut_everywhere(outcome, data, more)


def _cut_everywhere(outcome: Any, data: bytes, more: bytes) -> None:
    """Once there is an outcome, no further octet changes it."""
    first = None
    for cut in range(len(data) + 1):
        now = outcome(data[:cut])
        assert first is None or now == first, data[:cut]
        first = now
    assert first is None or outcome(data + more) == first


def _by_h11(octets: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(octets)
    event = connection.next_event()
    assert isinstance(event, h11.Request), octets
    return event


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@SETTINGS
@given(data=mutated(REQUESTS))
def test_what_is_built_of_a_request_has_one_reading(implementation: str, data: bytes) -> None:
    both = codec(implementation)
    try:
        head = both.parse_request(data, 0, BYTES_MAX, 100, 8192)
    except ClientFault:
        return
    if head is None:
        return
    octets = both.build_request(head, "/new", "up.test", b"", frozenset(), head.chunked)
    again = both.parse_request(octets, 0, BYTES_MAX, 200, 8192)
    assert again is not None and again.size == len(octets)
    meaning = ("method", "content_length", "chunked", "expect_continue", "upgrade")
    assert [getattr(again, name) for name in meaning] == [getattr(head, name) for name in meaning]
    seen = _by_h11(octets)
    assert seen.target == b"/new" and seen.method.decode() == head.method
    names = [name for name, _ in again.headers]
    assert names.count("host") == 1 and names.count("content-length") + names.count("transfer-encoding") <= 1
    assert not {"te", "keep-alive", "proxy-connection", "trailer", "content_length", "x_forwarded_for"} & set(names)
    # Nothing but our own was added, and nothing changed its order.
    ours = ("host", "content-length", "transfer-encoding", "connection", "upgrade")
    kept = [field for field in again.headers if field[0] not in ours]
    said = iter(head.headers)
    assert all(field in said for field in kept), "a subsequence"


GOOD = [b"5\r\nhello\r\n", b"1\r\na\r\n", b"00a\r\n0123456789\r\n", b"3;a=b\r\nabc\r\n", b"A\r\n0123456789\r\n"]
BAD = [b"3 \r\nabc\r\n", b"0x3\r\nabc\r\n", b"3\nabc\r\n", b"3\r\nabc\n", b"3\r\nabcd\r\n", b"+3\r\nabc\r\n"]
GOOD_CHUNKS = st.sampled_from([*GOOD, b'3;a="\\";b"\r\nabc\r\n'])
CHUNKS = GOOD_CHUNKS | st.sampled_from(BAD)
ENDS = st.sampled_from(
    [b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n", b"0\r\nHost: evil\r\nX: y\r\n\r\n"]
)
BAD_ENDS = st.sampled_from(
    [b"0\r\n", b"0\n\n", b"0\r\n\n", b"0\r\n x\r\n\r\n", b"0\r\nx\r\n\r\n", b"0\r\nX:\0\r\n\r\n", b""]
)
BODIES = st.tuples(st.lists(CHUNKS, max_size=4).map(b"".join), ENDS | BAD_ENDS, st.binary(max_size=5)).map(b"".join)
GOOD_BODIES = st.tuples(st.lists(GOOD_CHUNKS, max_size=5).map(b"".join), ENDS).map(b"".join)


def _feed(pieces: list[bytes], reframe: bool, fault: Any = UpstreamFault) -> tuple[bytes, int, Any]:
    """What came out, how much went in, and how it ended: "done", "more" or the fault's detail."""
    body = ChunkedBody(reframe=reframe, fault=fault)
    given = b"".join(pieces)
    out, consumed = b"", 0
    for piece in pieces:
        try:
            passed, used = body.feed(piece)
        except Fault as caught:
            return out, consumed, caught.detail
        out += passed
        consumed += used
        if body.done:
            assert given[:consumed].endswith(b"\r\n\r\n")
            return out, consumed, ("done", body.payload_bytes, body.trailers)
        assert used == len(piece)
    return out, consumed, "more"


@SETTINGS
@given(data=BODIES, cuts=st.lists(st.integers(0, 60), max_size=6), reframe=st.booleans())
@example(data=b"1\r\na\r\n0\r\n\r\n", cuts=[], reframe=True)
def test_a_chunked_body_is_the_same_in_any_division(data: bytes, cuts: list[int], reframe: bool) -> None:
    whole = _feed([data], reframe)
    places = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    for division in (pieces, [data[at : at + 1] for at in range(len(data))]):
        out, consumed, end = _feed(division, reframe)
        assert end == whole[2]
        if isinstance(end, tuple):
            assert (out, consumed) == whole[:2]


@SETTINGS
@given(data=GOOD_BODIES)
def test_reframing_keeps_the_payload_and_is_canonical(data: bytes) -> None:
    plain, consumed, end = _feed([data], False)
    assert consumed == len(data) and end[0] == "done" and end[1] == len(plain)
    framed, _, _ = _feed([data], True)
    assert b";" not in framed and b"\r\n0" not in framed.replace(b"\r\n0\r\n", b"").replace(b"\r\n0123456789", b"")
    again, consumed, second = _feed([framed], True)
    assert (again, consumed) == (framed, len(framed)), "canonical framing is a fixed point"
    assert _feed([framed], False)[0] == plain and second[1] == end[1]
    assert b"host" not in framed.lower()
