"""Answers of an upstream that is broken or hostile, and what the client may be shown of each.

`body` is None where the answer must be refused (a 502, if that can still be said). Else it is the body that
belongs to the answer, to the octet; whatever follows it is nobody's. In both cases the
connection to that upstream is never used again, for what it would say next would be heard by the wrong client.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Hostile(NamedTuple):
    name: str
    octets: bytes
    body: bytes | None = None
    method: str = "GET"


POISON: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


def _refused(
    name: str, *lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"hello", method: str = "GET"
) -> Hostile:
    return Hostile(name, b"\r\n".join((start, *lines, b"", body)), None, method)


def _chunked(name: str, body: bytes) -> Hostile:
    return _refused(name, b"Transfer-Encoding: chunked", body=body + b"\r\n0\r\n\r\n" + POISON)


START_LINES: Final = [
    _refused(name, b"Content-Length: 5", start=start)
    for name, start in (
        ("http-0.9", b"<html>hello</html>"),
        ("version-lower-case", b"http/1.1 200 OK"),
        ("version-1.2", b"HTTP/1.2 200 OK"),
        ("version-2", b"HTTP/2 200"),
        ("version-2.0", b"HTTP/2.0 200 OK"),
        ("version-0.9", b"HTTP/0.9 200 OK"),
        ("icy", b"ICY 200 OK"),
        ("status-two-digits", b"HTTP/1.1 20 OK"),
        ("status-four-digits", b"HTTP/1.1 2000 OK"),
        ("status-letters", b"HTTP/1.1 2OO OK"),
        ("status-plus", b"HTTP/1.1 +20 OK"),
        ("status-099", b"HTTP/1.1 099 OK"),
        ("status-600", b"HTTP/1.1 600 OK"),
        ("status-999", b"HTTP/1.1 999 OK"),
        ("status-two-spaces", b"HTTP/1.1  200 OK"),
        ("status-tab", b"HTTP/1.1\t200 OK"),
        ("phrase-tab-before", b"HTTP/1.1 200\tOK"),
        ("phrase-nul", b"HTTP/1.1 200 O\0K"),
        ("phrase-bare-cr", b"HTTP/1.1 200 OK\rX: y"),
        ("phrase-bare-lf", b"HTTP/1.1 200 OK\nX: y"),
        ("space-first", b" HTTP/1.1 200 OK"),
        ("empty-line-first", b"\r\nHTTP/1.1 200 OK"),
    )
]

HEADS: Final = [
    _refused("two-lengths", b"Content-Length: 5", b"Content-Length: 6"),
    _refused("two-equal-lengths", b"Content-Length: 5", b"Content-Length: 5"),
    _refused("length-list", b"Content-Length: 5, 5"),
    _refused("length-plus", b"Content-Length: +5"),
    _refused("length-minus", b"Content-Length: -1"),
    _refused("length-2-63", b"Content-Length: 9223372036854775808"),
    _refused("length-2-64-plus-5", b"Content-Length: 18446744073709551621"),
    _refused("length-empty", b"Content-Length:"),
    _refused("length-and-coding", b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + POISON),
    _refused("both-to-head", b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"", method="HEAD"),
    _refused("coding-gzip", b"Transfer-Encoding: gzip"),
    _refused("coding-gzip-chunked", b"Transfer-Encoding: gzip, chunked"),
    _refused("coding-identity", b"Transfer-Encoding: identity"),
    _refused("coding-xchunked", b"Transfer-Encoding: xchunked"),
    _refused("coding-twice", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    _refused("coding-in-1.0", b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK", body=b"0\r\n\r\n"),
    _refused("coding-vertical-tab", b"Transfer-Encoding: \x0bchunked"),
    _refused("space-before-colon", b"Content-Length : 5"),
    _refused("name-empty", b": x", b"Content-Length: 5"),
    _refused("name-without-colon", b"Nonsense", b"Content-Length: 5"),
    _refused("name-control", b"X\x01: y", b"Content-Length: 5"),
    _refused("value-nul", b"X: a\0b", b"Content-Length: 5"),
    _refused("value-bare-cr", b"X: a\rSet-Cookie: b", b"Content-Length: 5"),
    _refused("value-bare-lf", b"X: a\nSet-Cookie: b", b"Content-Length: 5"),
    _refused("folded", b"X: a", b" b", b"Content-Length: 5"),
    _refused("header-bomb", *(b"X-%d: y" % number for number in range(300)), b"Content-Length: 5"),
    _refused("header-endless", b"X: " + b"y" * 70_000, b"Content-Length: 5"),
    _refused("connection-bomb", b"Connection: " + b"a," * 1000, b"Content-Length: 5"),
    _refused("interim-with-length", b"Content-Length: 5", start=b"HTTP/1.1 100 Continue"),
    _refused("interim-chunked", b"Transfer-Encoding: chunked", start=b"HTTP/1.1 103 Early", body=b"0\r\n\r\n" + POISON),
    _refused("101-without-protocol", start=b"HTTP/1.1 101 Switching", body=b""),
    _refused("101-unnominated", b"Upgrade: websocket", start=b"HTTP/1.1 101 Switching", body=b""),
    _refused("101-to-h2c", b"Upgrade: h2c", b"Connection: upgrade", start=b"HTTP/1.1 101 Switching", body=b""),
    _refused(
        "101-with-length", b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 5", start=b"HTTP/1.1 101 S"
    ),
]  # fmt: skip

CHUNKS: Final = [
    _chunked("chunk-0x", b"0x5\r\nhello"),
    _chunked("chunk-plus", b"+5\r\nhello"),
    _chunked("chunk-space", b"5 \r\nhello"),
    _chunked("chunk-bare-lf", b"5\nhello"),
    _chunked("chunk-bad-end", b"5\r\nhelloXX"),
    _chunked("chunk-2-64", b"10000000000000005\r\nhello"),
    _chunked("chunk-extension-long", b"5;" + b"a" * 300 + b"\r\nhello"),
    _chunked("chunk-extension-lf", b"5;a\nb\r\nhello"),
    _chunked("chunk-trailer-bad", b"5\r\nhello\r\n0\r\nX : y\r\n"),
]

CHUNKED_HELLO: Final = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
HELLO: Final = b"Content-Length: 5\r\n\r\nhello"

DELIMITED: Final = [
    Hostile("204-with-length", b"HTTP/1.1 204 No Content\r\n" + HELLO, b""),
    Hostile("204-chunked", b"HTTP/1.1 204 No Content\r\n" + CHUNKED_HELLO, b""),
    Hostile("204-chunked-silent", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    Hostile("304-with-body", b"HTTP/1.1 304 Not Modified\r\n" + HELLO, b""),
    Hostile("head-with-body", b"HTTP/1.1 200 OK\r\n" + HELLO, b"", "HEAD"),
    Hostile("head-with-poison", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + POISON, b"", "HEAD"),
    Hostile("body-too-long", b"HTTP/1.1 200 OK\r\n" + HELLO + POISON, b"hello"),
    Hostile("two-answers", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + POISON, b""),
    Hostile("chunked-then-poison", b"HTTP/1.1 200 OK\r\n" + CHUNKED_HELLO + POISON, b"hello"),
    Hostile("no-length-kept-alive", b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nhello", b"hello"),
    Hostile("1.0-kept-alive-without-length", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", b"hello"),
]  # fmt: skip

HOSTILE: Final[list[Hostile]] = [*START_LINES, *HEADS, *CHUNKS, *DELIMITED]

assert len({case.name for case in HOSTILE}) == len(HOSTILE)
