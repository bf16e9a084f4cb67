"""Bodies: what passes as it came, what is written anew, and what ends the connection."""

from __future__ import annotations

import pytest

from sentinel.core.reasons import Reason
from workers.http1.bodies import EXTENSIONS_MAX, LINE_MAX, TRAILERS_MAX, ChunkedBody
from workers.http1.faults import ClientFault, UpstreamFault


def test_canonical_chunks_leave_as_the_same_object() -> None:
    body = ChunkedBody(reframe=True, fault=ClientFault)
    pieces = [b"5\r\nhello\r\n", b"1\r\na\r\nA\r\n0123456789\r\n", b"10\r\n0123456789", b"abcdef", b"\r\n2\r\nab\r\n"]
    for data in (*pieces, b"2\r\nab\r\n0\r\n\r\n"):
        passed, used = body.feed(data)
        assert passed is data and used == len(data)
    assert body.done and body.payload_bytes == 5 + 1 + 10 + 16 + 2 + 2


def test_a_chunk_by_itself_is_taken_at_once_and_nothing_else_is() -> None:
    body = ChunkedBody(reframe=False, fault=UpstreamFault)
    assert body.one(b"5\r\nhello\r\n") == b"hello" and body.payload_bytes == 5
    others = [b"5\r\nhello\r\n1", b"5\r\nhello\r", b"5\r\nhell", b"5\r\n", b"5", b"", b"0\r\n\r\n", b"05\r\nhello\r\n",
              b"5;x\r\nhello\r\n", b"5\r\nhelloo\r\n", b"5\nhello\r\n", b" 5\r\nhello\r\n", b"5\r\nhello\n\n",
              b"1\r\na\r\n1\r\nb\r\n", b"0x5\r\nhello\r\n", b"-1\r\n\r\n"]  # fmt: skip
    for data in others:
        assert body.one(data) is None and body.payload_bytes == 5, data
    for part in (b"5\r\nhe", b"llo", b"\r", b"\n5", b"\r\nhello\r\n0\r\nX"):  # in the middle of anything
        body.feed(part)
        assert body.one(b"1\r\na\r\n") is None, part


def test_what_follows_the_last_chunk_is_not_consumed() -> None:
    body = ChunkedBody(reframe=True, fault=ClientFault)
    assert body.feed(b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n") == (b"5\r\nhello\r\n0\r\n\r\n", 15)
    assert body.done
    assert body.feed(b"more") == (b"", 0)


def test_plain_is_the_payload_alone() -> None:
    body = ChunkedBody(reframe=False, fault=UpstreamFault)
    assert body.feed(b"5\r\nhello\r\n1;a\r\n!\r\n3\r\nab") == (b"hello!ab", 23)
    assert body.feed(b"c\r\n0\r\nX: y\r\n\r\n") == (b"c", 14)
    assert body.done and body.payload_bytes == 9 and body.trailers == [("x", "y")]


@pytest.mark.parametrize(
    "line", [b"5;name", b"5;name=token", b'5;name="quoted \\" ; = text"', b"5;a;b=c", b"00005", b"05;x"]
)
def test_extensions_and_zeros_do_not_go_on(line: bytes) -> None:
    body = ChunkedBody(reframe=True, fault=ClientFault)
    assert body.feed(line + b"\r\nhello\r\n")[0] == b"5\r\nhello\r\n"


def test_the_last_chunk_waits_for_its_whole_trailer() -> None:
    body = ChunkedBody(reframe=True, fault=UpstreamFault)
    assert body.feed(b"1\r\na\r\n0\r\nX-Sum: 1\r\n")[0] == b"1\r\na\r\n"
    assert not body.done
    assert body.feed(b"\r")[0] == b""
    assert body.feed(b"\n")[0] == b"0\r\nX-Sum: 1\r\n\r\n"


def test_trailers_pass_by_direction_and_never_with_a_meaning() -> None:
    spoofed = b"Host: evil\r\nContent-Length: 3\r\nX-Forwarded-For: 1\r\nX_Real_IP: 1\r\nCookie: x\r\n"
    end = b"0\r\nX-Sum:\t1 \r\n" + spoofed + b"B: 2\r\n\r\n"
    clean = b"0\r\nX-Sum: 1\r\nB: 2\r\n\r\n"
    assert ChunkedBody(reframe=True, fault=UpstreamFault).feed(end)[0] == clean
    assert ChunkedBody(reframe=True, fault=ClientFault).feed(end)[0] == b"0\r\n\r\n"
    assert ChunkedBody(reframe=True, fault=ClientFault, trailers="forward").feed(end)[0] == clean
    assert ChunkedBody(reframe=True, fault=UpstreamFault, trailers="drop").feed(end)[0] == b"0\r\n\r\n"


def test_every_length_is_bounded() -> None:
    for good, bad in (
        (b"5;" + b"a" * (LINE_MAX - 4) + b"\r\nhello\r\n", b"5;" + b"a" * (LINE_MAX - 3) + b"\r\nhello\r\n"),
        (b"5;" + b"a" * (LINE_MAX - 4), b"5;" + b"a" * (LINE_MAX - 2)),
        (b"0\r\n" + b"X: y\r\n" * TRAILERS_MAX, b"0\r\n" + b"X: y\r\n" * (TRAILERS_MAX + 1)),
        (b"0\r\nX: " + b"y" * 8000, b"0\r\nX: " + b"y" * 9000),
        (b"f" * 15 + b"\r\n", b"1" + b"0" * 15 + b"\r\n"),
    ):
        ChunkedBody(reframe=True, fault=ClientFault).feed(good)
        with pytest.raises(ClientFault):
            ChunkedBody(reframe=True, fault=ClientFault).feed(bad)


def test_the_sum_of_extensions_is_bounded() -> None:
    body = ChunkedBody(reframe=True, fault=ClientFault)
    chunk = b"1;" + b"a" * 127 + b"\r\nx\r\n"
    for _ in range(EXTENSIONS_MAX // 128):
        body.feed(chunk)
    with pytest.raises(ClientFault):
        body.feed(chunk)


def test_the_fault_names_its_culprit() -> None:
    for kind, reason in ((ClientFault, Reason.BAD_CHUNK), (UpstreamFault, Reason.UPSTREAM_MALFORMED)):
        with pytest.raises(kind) as caught:
            ChunkedBody(reframe=True, fault=kind).feed(b"0x5\r\n")
        assert caught.value.reason is reason
