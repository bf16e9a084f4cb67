"""Answers, in plain Python: the specification of the native kernel, and its stand-in where it is not built.

Whose body ends where is the whole matter (RFC 9112 section 6.3): answers to HEAD, 1xx, 204
and 304 have none, whatever their fields say; then chunked; then Content-Length; then until
the upstream closes. An upstream that contradicts itself is not believed in any of it.
"""

from __future__ import annotations

from sentinel.core.reasons import Reason
from workers.http1 import llhttp
from workers.http1.faults import UpstreamFault
from workers.http1.fields_twin import (
    Field,
    check_extra,
    check_limits,
    framing_of,
    keeps_alive,
    lines_of,
    options_of,
    read_fields,
    upgrade_of,
)
from workers.http1.grammar import STATUS_LINE
from workers.http1.names import Role

WITH_TRAILER = frozenset({Role.TRAILER})
NOTHING: frozenset[Role] = frozenset()


def malformed(_: Reason, detail: str) -> UpstreamFault:
    return UpstreamFault(Reason.UPSTREAM_MALFORMED, detail)


class ResponseHead:
    """See workers.http1.heads.ResponseHead for what each attribute promises."""

    __slots__ = (
        "_announced", "_fields", "_options", "chunked", "content_length", "headers", "keep_alive", "minor", "phrase",
        "size", "status", "until_close", "upgrade",
    )  # fmt: skip

    def __init__(self, status: int, minor: int, phrase: str, fields: list[Field], size: int, method: str) -> None:
        self._fields = fields
        self._options = options = options_of(fields, malformed)
        self.status = status
        self.minor = minor
        self.phrase = phrase
        self.size = size
        self.headers = [(field.name, field.value) for field in fields]
        self._announced, self.chunked = framing_of(fields, minor, malformed)
        self.content_length = self._announced
        self.until_close = False
        self.keep_alive = keeps_alive(options, minor)
        self.upgrade = upgrade_of(fields, options) if status in (101, 426) else ""
        self._delimit(method)

    def _delimit(self, method: str) -> None:
        is_bare = self.status < 200 or self.status == 204
        if is_bare and (self.chunked or self._announced > 0):
            if self.status < 200:
                raise malformed(Reason.UPSTREAM_MALFORMED, "an interim answer announces a body")
            self.keep_alive = False  # it may send what it announced
        if self.status == 101 and not self.upgrade:
            raise malformed(Reason.UPSTREAM_MALFORMED, "101 without a protocol")
        if is_bare or self.status == 304 or method == "HEAD":
            self.content_length, self.chunked = -1, False
        elif self.content_length < 0 and not self.chunked:
            self.until_close, self.keep_alive = True, False

    def has_body(self) -> bool:
        return self.chunked or self.until_close or self.content_length >= 0


def parse_response(
    data: bytes | bytearray | memoryview, start: int, max_bytes: int, max_headers: int, request_method: str, /
) -> ResponseHead | None:
    """The head that begins at `start`; None while it is incomplete; raises UpstreamFault."""
    check_limits(max_bytes, max_headers)
    if not 0 <= start <= len(data):
        raise ValueError("the start is out of range")
    window = bytes(data[start : start + max_bytes])
    head = _parse(window, max_headers, request_method)
    if head is None and len(window) == max_bytes:
        raise malformed(Reason.HEADER_TOO_LARGE, "the head is too long")
    return head


def _parse(window: bytes, max_headers: int, method: str) -> ResponseHead | None:
    end = window.find(b"\n")
    if end < 0:
        return None
    line = STATUS_LINE(window[: end - 1]) if window[end - 1 : end] == b"\r" else None
    if line is None:
        raise malformed(Reason.UPSTREAM_MALFORMED, "the status line is malformed")
    found = read_fields(window, end + 1, max_headers, malformed)
    if found is None:
        return None
    fields, size = found
    phrase = (line[3] or b"").decode("latin-1")
    head = ResponseHead(int(line[2]), int(line[1]), phrase, fields, size, method)
    _ask_llhttp(window[:size])
    return head


def _ask_llhttp(octets: bytes) -> None:
    if llhttp.refuses_response(octets):
        raise malformed(Reason.UPSTREAM_MALFORMED, "the second opinion differs")


def build_response(
    head: ResponseHead, extra: bytes, keep_alive: bool, client_minor: int, drop: frozenset[str], /
) -> tuple[bytes, str]:
    """The head for the client, and how the body must be framed: "none", "length", "chunked" or "close"."""
    check_extra(extra)
    framing = _framing(head, client_minor)
    also = WITH_TRAILER if framing == "chunked" and head.chunked else NOTHING
    lines = [f"HTTP/1.1 {head.status} {head.phrase}\r\n".encode("latin-1")]
    lines += lines_of(head._fields, head._options, drop, also)
    if framing == "chunked":
        lines.append(b"transfer-encoding: chunked\r\n")
    elif head._announced >= 0 and head.status >= 200 and head.status != 204:
        lines.append(b"content-length: %d\r\n" % head._announced)
    if head.upgrade:
        options = b"connection: upgrade\r\n" if head.status == 101 or keep_alive else b"connection: upgrade, close\r\n"
        lines.append(options + f"upgrade: {head.upgrade}\r\n".encode("ascii"))
    elif head.status >= 200 and (framing == "close" or not keep_alive):
        lines.append(b"connection: close\r\n")
    elif head.status >= 200 and client_minor == 0:
        lines.append(b"connection: keep-alive\r\n")
    return b"".join((*lines, extra, b"\r\n")), framing


def _framing(head: ResponseHead, client_minor: int) -> str:
    if head.content_length >= 0:
        return "length"
    if not head.has_body():
        return "none"
    return "chunked" if client_minor == 1 else "close"
