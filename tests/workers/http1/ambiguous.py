"""Requests that can be read in two ways, or should not be read at all, and the reason why each is refused.

A table of (name, octets, reason). The unit tests feed it to both codecs, whole and in pieces; the system
tests send it to a running fleet before an origin that keeps what it was sent. The classes are those of
request smuggling's history: two lengths, codings in disguise, lines that end in other ways, names that
are none, hosts that contradict, chunks that only lenient parsers read.

Every case is refused as soon as its octets are there: none waits for a timeout.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.reasons import Reason

Case = tuple[str, bytes, Reason]

SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"


def _with(*lines: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join((method + b" / " + version, b"Host: a.test", *lines, b"", body))


def _chunked(body: bytes) -> bytes:
    return _with(b"Transfer-Encoding: chunked", body=body)


LENGTHS: Final[list[Case]] = [
    (name, _with(*lines, body=b"0\r\n\r\n" + SMUGGLED), Reason.BAD_FRAMING)
    for name, *lines in (
        ("length-and-coding", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        ("coding-and-length", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        ("coding-and-length-zero", b"Transfer-Encoding: chunked", b"Content-Length: 0"),
        ("two-lengths", b"Content-Length: 5", b"Content-Length: 6"),
        ("two-equal-lengths", b"Content-Length: 5", b"Content-Length: 5"),
        ("length-list", b"Content-Length: 5, 6"),
        ("length-list-equal", b"Content-Length: 5, 5"),
        ("length-plus", b"Content-Length: +5"),
        ("length-minus", b"Content-Length: -5"),
        ("length-minus-zero", b"Content-Length: -0"),
        ("length-inner-space", b"Content-Length: 5 5"),
        ("length-tab-before", b"Content-Length:\t5"),
        ("length-tab-after", b"Content-Length: 5\t"),
        ("length-empty", b"Content-Length:"),
        ("length-hexadecimal", b"Content-Length: 0x5"),
        ("length-underscore", b"Content-Length: 1_0"),
        ("length-fraction", b"Content-Length: 5.0"),
        ("length-exponent", b"Content-Length: 5e0"),
        ("length-quoted", b'Content-Length: "5"'),
        ("length-word", b"Content-Length: five"),
        ("length-letter-after", b"Content-Length: 5a"),
        ("length-no-break-space", b"Content-Length: 5\xa0"),
        ("length-2-63", b"Content-Length: 9223372036854775808"),
        ("length-2-64", b"Content-Length: 18446744073709551616"),
        ("length-2-64-plus-5", b"Content-Length: 18446744073709551621"),
        ("length-2-128", b"Content-Length: 340282366920938463463374607431768211461"),
        ("length-many-zeros", b"Content-Length: " + b"0" * 40 + b"5"),
    )
]

CODINGS: Final[list[Case]] = [
    (name, _with(*lines, body=b"0\r\n\r\n" + SMUGGLED), Reason.BAD_FRAMING)
    for name, *lines in (
        ("coding-xchunked", b"Transfer-Encoding: xchunked"),
        ("coding-chunkedx", b"Transfer-Encoding: chunkedx"),
        ("coding-chunked-twice", b"Transfer-Encoding: chunked, chunked"),
        ("coding-two-fields", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        ("coding-two-fields-second-hidden", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"),
        ("coding-chunked-gzip", b"Transfer-Encoding: chunked, gzip"),
        ("coding-gzip-chunked", b"Transfer-Encoding: gzip, chunked"),
        ("coding-gzip", b"Transfer-Encoding: gzip"),
        ("coding-identity", b"Transfer-Encoding: identity"),
        ("coding-chunked-identity", b"Transfer-Encoding: chunked, identity"),
        ("coding-chunked-comma", b"Transfer-Encoding: chunked,"),
        ("coding-comma-chunked", b"Transfer-Encoding: ,chunked"),
        ("coding-chunked-parameter", b"Transfer-Encoding: chunked;q=1"),
        ("coding-chunked-quoted", b'Transfer-Encoding: "chunked"'),
        ("coding-chunked-tab-before", b"Transfer-Encoding:\tchunked"),
        ("coding-chunked-tab-after", b"Transfer-Encoding: chunked\t"),
        ("coding-empty-chunked", b"Transfer-Encoding:"),
        ("coding-no-break-space-chunked", b"Transfer-Encoding: \xa0chunked"),
        ("coding-long-s-chunked", b"Transfer-Encoding: chun\xe2\x84\xaaed"),
    )
] + [
    ("coding-in-1.0-chunked",
     _with(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n"), Reason.BAD_FRAMING),
    ("coding-in-1.0-kept-alive-chunked",
     _with(b"Connection: keep-alive", b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n" + SMUGGLED),
     Reason.BAD_FRAMING),
]  # fmt: skip

FIELDS: Final[list[Case]] = [
    (name, _with(*lines, method=b"GET"), Reason.BAD_HEADER)
    for name, *lines in (
        ("coding-vertical-tab-chunked", b"Transfer-Encoding: \x0bchunked"),
        ("coding-form-feed-chunked", b"Transfer-Encoding: \x0cchunked"),
        ("coding-nul-chunked", b"Transfer-Encoding: chunked\0"),
        ("coding-folded-chunked", b"Transfer-Encoding:", b" chunked"),
        ("coding-folded-tab-chunked", b"Transfer-Encoding: gzip,", b"\tchunked"),
        ("coding-space-before-colon-chunked", b"Transfer-Encoding : chunked"),
        ("coding-tab-before-colon-chunked", b"Transfer-Encoding\t: chunked"),
        ("coding-after-bare-cr-chunked", b"X: y\rTransfer-Encoding: chunked"),
        ("coding-after-bare-lf-chunked", b"X: y\nTransfer-Encoding : chunked"),
        ("length-space-before-colon", b"Content-Length : 5"),
        ("length-folded", b"Content-Length: 5", b" 0"),
        ("length-nul", b"Content-Length: 5\0"),
        ("length-bare-cr", b"Content-Length: 5\r0"),
        ("name-empty", b": x"),
        ("name-empty-then-length", b": x", b"Content-Length: 5"),
        ("name-without-colon", b"Nonsense"),
        ("name-nul", b"X\0Y: z"),
        ("name-control", b"X\x01Y: z"),
        ("name-delete", b"X\x7fY: z"),
        ("name-latin-1", b"X\xe9: z"),
        ("name-space-within", b"X Y: z"),
        ("name-quote", b'"X": z'),
        ("name-parenthesis", b"X(Y): z"),
        ("name-slash", b"X/Y: z"),
        ("name-at", b"X@Y: z"),
        ("name-semicolon", b"X;Y: z"),
        ("name-bracket", b"[X]: z"),
        ("name-brace", b"{X}: z"),
        ("value-nul", b"X: a\0b"),
        ("value-control", b"X: a\x01b"),
        ("value-escape", b"X: a\x1bb"),
        ("value-delete", b"X: a\x7fb"),
        ("value-vertical-tab", b"X: \x0b"),
        ("value-bare-cr", b"X: a\rb"),
        ("value-cr-cr-lf", b"X: a\r"),
        ("value-bare-lf", b"X: a\nY: b"),
        ("folded-space", b"X: a", b" b"),
        ("folded-tab", b"X: a", b"\tb"),
        ("folded-only-blanks", b"X: a", b"  "),
        ("space-before-name", b" X: a"),
        ("connection-bomb", b"Connection: " + b"a," * 1000),
    )
] + [
    ("first-field-folded", b"GET / HTTP/1.1\r\n Host: a.test\r\nHost: b.test\r\n\r\n", Reason.BAD_HEADER),
    ("first-field-tabbed", b"GET / HTTP/1.1\r\n\tHost: a.test\r\n\r\n", Reason.BAD_HEADER),
    ("all-bare-lf-fields", b"GET / HTTP/1.1\r\nHost: a.test\n\n", Reason.BAD_HEADER),
    ("end-bare-lf", b"GET / HTTP/1.1\r\nHost: a.test\r\n\nGET /smuggled", Reason.BAD_HEADER),
    ("end-bare-cr", b"GET / HTTP/1.1\r\nHost: a.test\r\n\rX: y\r\n\r\n", Reason.BAD_HEADER),
    ("end-cr-cr-lf", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\r\n", Reason.BAD_HEADER),
]  # fmt: skip

LINES: Final[list[Case]] = [
    (name, line + b"Host: a.test\r\n\r\n", reason)
    for name, line, reason in (
        ("line-bare-lf", b"GET / HTTP/1.1\n", Reason.BAD_REQUEST_LINE),
        ("line-bare-cr", b"GET / HTTP/1.1\r", Reason.BAD_REQUEST_LINE),
        ("line-cr-cr-lf", b"GET / HTTP/1.1\r\r\n", Reason.BAD_REQUEST_LINE),
        ("line-space-first", b" GET / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-tab-first", b"\tGET / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-of-blanks-first", b"  \r\nGET / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("two-empty-lines-first", b"\r\n\r\nGET / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("empty-bare-lf-first", b"\nGET / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-tabs", b"GET\t/\tHTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-tab-after-method", b"GET\t/ HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-tab-before-version", b"GET /\tHTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-two-spaces", b"GET  / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-two-spaces-later", b"GET /  HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-space-last", b"GET / HTTP/1.1 \r\n", Reason.BAD_REQUEST_LINE),
        ("line-space-in-target", b"GET /a b HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-target-twice", b"GET / HTTP/1.1 / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-no-target", b"GET HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-empty-target", b"GET  HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("line-no-version", b"GET /\r\n", Reason.BAD_REQUEST_LINE),
        ("line-only-method", b"GET\r\n", Reason.BAD_REQUEST_LINE),
        ("method-empty", b" / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-lower-case", b"get / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-mixed-case", b"Get / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-digit-first", b"1GET / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-hash", b"GET# / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-control", b"G\x01T / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-colon", b"GET: / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-latin-1", b"G\xc9T / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-endless", b"G" * 33 + b" / HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("method-tls", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n", Reason.BAD_REQUEST_LINE),
        ("target-nul", b"GET /\0 HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("target-control", b"GET /\x01 HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("target-delete", b"GET /\x7f HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("target-latin-1", b"GET /\xe9 HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("target-bare-cr", b"GET /\rX: y HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("target-bare-lf", b"GET /\nX: y HTTP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("version-lower-case", b"GET / http/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("version-mixed-case", b"GET / Http/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("version-two-digits", b"GET / HTTP/1.10\r\n", Reason.BAD_REQUEST_LINE),
        ("version-leading-zero", b"GET / HTTP/01.1\r\n", Reason.BAD_REQUEST_LINE),
        ("version-no-dot", b"GET / HTTP/11\r\n", Reason.BAD_REQUEST_LINE),
        ("version-comma", b"GET / HTTP/1,1\r\n", Reason.BAD_REQUEST_LINE),
        ("version-letters", b"GET / HTTP/x.y\r\n", Reason.BAD_REQUEST_LINE),
        ("version-cut", b"GET / HTTP/1.\r\n", Reason.BAD_REQUEST_LINE),
        ("version-other-name", b"GET / ICAP/1.1\r\n", Reason.BAD_REQUEST_LINE),
        ("version-1.2", b"GET / HTTP/1.2\r\n", Reason.BAD_VERSION),
        ("version-1.9", b"GET / HTTP/1.9\r\n", Reason.BAD_VERSION),
        ("version-0.9", b"GET / HTTP/0.9\r\n", Reason.BAD_VERSION),
        ("version-2.0", b"GET / HTTP/2.0\r\n", Reason.BAD_VERSION),
        ("version-3.1", b"GET / HTTP/3.1\r\n", Reason.BAD_VERSION),
    )
] + [("preface-of-http-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.BAD_VERSION)]

HOSTS: Final[list[Case]] = [
    (name, b"GET / HTTP/1.1\r\n" + lines + b"\r\n", Reason.BAD_HOST)
    for name, lines in (
        ("host-missing", b"X: y\r\n"),
        ("host-twice", b"Host: a.test\r\nHost: b.test\r\n"),
        ("host-twice-equal", b"Host: a.test\r\nHost: a.test\r\n"),
        ("host-twice-other-case", b"Host: a.test\r\nhOST: b.test\r\n"),
        ("host-empty", b"Host:\r\n"),
        ("host-blank", b"Host: \t \r\n"),
        ("host-list", b"Host: a.test, b.test\r\n"),
        ("host-comma", b"Host: a.test,b.test\r\n"),
        ("host-space", b"Host: a.test b.test\r\n"),
        ("host-tab", b"Host: a.test\tb.test\r\n"),
        ("host-user", b"Host: user@a.test\r\n"),
        ("host-path", b"Host: a.test/path\r\n"),
        ("host-query", b"Host: a.test?x\r\n"),
        ("host-fragment", b"Host: a.test#x\r\n"),
        ("host-backslash", b"Host: a.test\\b.test\r\n"),
        ("host-quote", b'Host: "a.test"\r\n'),
        ("host-angle", b"Host: <a.test>\r\n"),
        ("host-latin-1", b"Host: \xe4.test\r\n"),
        ("host-alias-only", b"Ho_st: a.test\r\n"),
    )
] + [("host-twice-in-1.0", b"GET / HTTP/1.0\r\nHost: a.test\r\nHost: b.test\r\n\r\n", Reason.BAD_HOST)]

CHUNKS: Final[list[Case]] = [
    (name, _chunked(body + b"\r\n0\r\n\r\n" + SMUGGLED), Reason.BAD_CHUNK)
    for name, body in (
        ("chunk-0x", b"0x5\r\nhello"),
        ("chunk-0X", b"0X5\r\nhello"),
        ("chunk-plus", b"+5\r\nhello"),
        ("chunk-minus", b"-5\r\nhello"),
        ("chunk-minus-zero", b"-0\r\n"),
        ("chunk-underscore", b"0_5\r\nhello"),
        ("chunk-space-before", b" 5\r\nhello"),
        ("chunk-space-after", b"5 \r\nhello"),
        ("chunk-tab-after", b"5\t\r\nhello"),
        ("chunk-space-within", b"1 0\r\n0123456789abcdef"),
        ("chunk-vertical-tab", b"\x0b5\r\nhello"),
        ("chunk-nul", b"5\0\r\nhello"),
        ("chunk-bare-lf", b"5\nhello"),
        ("chunk-bare-cr", b"5\rhello\r\n"),
        ("chunk-cr-cr-lf", b"5\r\r\nhello"),
        ("chunk-empty-size", b"\r\nhello"),
        ("chunk-no-digit", b"g\r\nhello"),
        ("chunk-letter-after", b"5g\r\nhello"),
        ("chunk-quoted", b'"5"\r\nhello'),
        ("chunk-latin-1-digit", b"\xb2\r\nhe"),
        ("chunk-sixteen-digits", b"0000000000000005\r\nhello"),
        ("chunk-2-64", b"10000000000000005\r\nhello"),
        ("chunk-negative-in-64", b"ffffffffffffffff\r\nhello"),
        ("chunk-list", b"5,5\r\nhello"),
        ("chunk-data-too-long", b"5\r\nhelloworld"),
        ("chunk-data-too-short", b"5\r\nhel"),
        ("chunk-data-ends-in-lf", b"5\r\nhello\n0\r\n\r\n"),
        ("chunk-data-ends-in-cr", b"5\r\nhello\r0\r\n\r\n"),
        ("chunk-data-without-end", b"5\r\nhello0\r\n\r\n"),
        ("chunk-data-cr-cr-lf", b"5\r\nhello\r\r\n"),
        ("chunk-extension-empty", b"5;\r\nhello"),
        ("chunk-extension-spill", b"5;\nhello"),
        ("chunk-extension-bare-lf", b"5;a\nhello"),
        ("chunk-extension-lf-within", b"5;a=\nb\r\nhello"),
        ("chunk-extension-bare-cr", b"5;a\rb\r\nhello"),
        ("chunk-extension-space", b"5 ;a\r\nhello"),
        ("chunk-extension-space-later", b"5; a\r\nhello"),
        ("chunk-extension-no-value", b"5;a=\r\nhello"),
        ("chunk-extension-no-name", b"5;=b\r\nhello"),
        ("chunk-extension-open-quote", b'5;a="b\r\nhello'),
        ("chunk-extension-lf-in-quotes", b'5;a="\n"\r\nhello'),
        ("chunk-extension-nul", b"5;a=\0\r\nhello"),
        ("chunk-extension-latin-1", b"5;\xe9\r\nhello"),
        ("chunk-extension-long", b"5;a=" + b"b" * 300 + b"\r\nhello"),
        ("chunk-extensions-endless", b"".join(b"1;%b\r\nx\r\n" % (b"a" * 240) for _ in range(80)) + b"5\r\nhello"),
    )
] + [
    ("chunk-last-bare-lf", _chunked(b"5\r\nhello\r\n0\n\n" + SMUGGLED), Reason.BAD_CHUNK),
    ("chunk-last-then-lf", _chunked(b"5\r\nhello\r\n0\r\n\n" + SMUGGLED), Reason.BAD_CHUNK),
    ("chunk-last-then-request", _chunked(b"0\r\n" + SMUGGLED), Reason.BAD_CHUNK),
    ("chunk-trailer-folded", _chunked(b"0\r\nX: y\r\n z\r\n\r\n"), Reason.BAD_CHUNK),
    ("chunk-trailer-space-before-colon", _chunked(b"0\r\nX : y\r\n\r\n"), Reason.BAD_CHUNK),
    ("chunk-trailer-nul", _chunked(b"0\r\nX: \0\r\n\r\n"), Reason.BAD_CHUNK),
    ("chunk-trailer-bare-cr", _chunked(b"0\r\nX: a\rb\r\n\r\n"), Reason.BAD_CHUNK),
    ("chunk-trailer-long", _chunked(b"0\r\nX: " + b"y" * 9000 + b"\r\n\r\n"), Reason.BAD_CHUNK),
    ("chunk-trailers-endless", _chunked(b"0\r\n" + b"X: y\r\n" * 40 + b"\r\n"), Reason.BAD_CHUNK),
]

SIZES: Final[list[Case]] = [
    ("too-many-fields", _with(*(b"X: y" for _ in range(100)), method=b"GET"), Reason.HEADER_TOO_LARGE),
    ("field-too-long", _with(b"X: " + b"y" * 33_000, method=b"GET"), Reason.HEADER_TOO_LARGE),
    ("name-too-long", _with(b"X" * 33_000, method=b"GET"), Reason.HEADER_TOO_LARGE),
    ("target-too-long", b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a.test\r\n\r\n", Reason.URI_TOO_LONG),
    ("target-endless", b"GET /" + b"x" * 9000, Reason.URI_TOO_LONG),
    ("method-endless-without-target", b"G" * 9000, Reason.URI_TOO_LONG),
]  # fmt: skip

EXPECTATIONS: Final[list[Case]] = [
    (name, _with(b"Content-Length: 5", *lines), Reason.BAD_EXPECTATION)
    for name, *lines in (
        ("expect-other", b"Expect: 200-ok"),
        ("expect-list", b"Expect: 100-continue, x"),
        ("expect-empty", b"Expect:"),
        ("expect-twice", b"Expect: 100-continue", b"Expect: 100-continue"),
    )
]

AMBIGUOUS: Final[list[Case]] = [*LENGTHS, *CODINGS, *FIELDS, *LINES, *HOSTS, *CHUNKS, *SIZES, *EXPECTATIONS]
"""All of them with the limits of a listener that sets none: 32 KiB, 100 fields, targets of 8 KiB."""

BEYOND_THE_CODEC: Final[list[Case]] = [
    ("connect", b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", Reason.METHOD_REFUSED),
    ("trace", b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", Reason.METHOD_REFUSED),
    ("absolute-against-host", b"GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", Reason.BAD_HOST),
    ("absolute-against-port", b"GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n", Reason.BAD_HOST),
    ("absolute-with-user", b"GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", Reason.BAD_HOST),
    ("absolute-without-host", b"GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n", Reason.BAD_HOST),
    ("host-bad-port", b"GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n", Reason.BAD_HOST),
    ("host-escaped", b"GET / HTTP/1.1\r\nHost: a%2etest\r\n\r\n", Reason.BAD_HOST),
    ("host-open-bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Reason.BAD_HOST),
]  # fmt: skip
"""Well-formed for the codec; who looks at the meaning refuses these."""

assert len({name for name, _, _ in AMBIGUOUS + BEYOND_THE_CODEC}) == len(AMBIGUOUS) + len(BEYOND_THE_CODEC)
