"""Requests, in plain Python: the specification of the native kernel, and its stand-in where it is not built.

Judged in this order, so that every piece of a head meets the same end as the
whole: the length of the request line, the request line, each field as its line
ends, then what only the whole head can tell (Host, framing, Expect). Last of
all llhttp is asked: what it refuses is refused, though our grammar should be
the narrower one everywhere.
"""

from __future__ import annotations

from sentinel.core.reasons import Reason
from workers.http1 import llhttp
from workers.http1.faults import ClientFault
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
from workers.http1.grammar import HEAD_MAX, HOST, LINE_MARGIN, METHOD, TARGET, VERSION, VISIBLE
from workers.http1.names import Role

FORWARDED_EXPECT = frozenset({Role.EXPECT})
NOTHING: frozenset[Role] = frozenset()


class RequestHead:
    """See workers.http1.heads.RequestHead for what each attribute promises."""

    __slots__ = (
        "_fields", "_options", "chunked", "content_length", "expect_continue", "headers", "host", "keep_alive",
        "method", "minor", "size", "target", "upgrade",
    )  # fmt: skip

    def __init__(self, method: str, target: str, minor: int, fields: list[Field], size: int) -> None:
        self._fields = fields
        self._options = options = options_of(fields, ClientFault)
        self.method = method
        self.target = target
        self.minor = minor
        self.size = size
        self.headers = [(field.name, field.value) for field in fields]
        self.host = _host(fields, minor)
        self.content_length, self.chunked = framing_of(fields, minor, ClientFault)
        self.expect_continue = _expects(fields, minor)
        self.keep_alive = keeps_alive(options, minor)
        self.upgrade = upgrade_of(fields, options) if minor == 1 else ""

    def first(self, name: str, /) -> str:
        return next((field.value for field in self._fields if field.name == name), "")

    def values(self, name: str, /) -> list[str]:
        return [field.value for field in self._fields if field.name == name]


def parse_request(
    data: bytes | bytearray | memoryview, start: int, max_bytes: int, max_headers: int, max_uri: int, /
) -> RequestHead | None:
    """The head that begins at `start`; None while it is incomplete; raises ClientFault."""
    check_limits(max_bytes, max_headers)
    if not 0 < max_uri <= HEAD_MAX or not 0 <= start <= len(data):
        raise ValueError("a limit or the start is out of range")
    window = bytes(data[start : start + max_bytes])
    head = _parse(window, max_headers, max_uri)
    if head is None and len(window) == max_bytes:
        raise ClientFault(Reason.HEADER_TOO_LARGE, "the head is too long")
    return head


def _parse(window: bytes, max_headers: int, max_uri: int) -> RequestHead | None:
    at = 2 if window.startswith(b"\r\n") else 0
    end = window.find(b"\n", at)
    if (len(window) if end < 0 else end) - at > max_uri + LINE_MARGIN:
        raise ClientFault(Reason.URI_TOO_LONG, "the target is too long")
    if end < 0:
        return None
    method, target, minor = _request_line(window[at:end], max_uri)
    found = read_fields(window, end + 1, max_headers, ClientFault)
    if found is None:
        return None
    fields, size = found
    head = RequestHead(method, target, minor, fields, size)
    _ask_llhttp(window[end + 1 : size], minor)
    return head


def _request_line(line: bytes, max_uri: int) -> tuple[str, str, int]:
    parts = line.split(b" ")
    if not line.endswith(b"\r") or len(parts) != 3:
        raise ClientFault(Reason.BAD_REQUEST_LINE, "the request line is malformed")
    method, target, version = parts[0], parts[1], parts[2][:-1]
    if not METHOD(method) or not TARGET(target) or not VERSION(version):
        raise ClientFault(Reason.BAD_REQUEST_LINE, "the request line is malformed")
    if len(target) > max_uri:
        raise ClientFault(Reason.URI_TOO_LONG, "the target is too long")
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise ClientFault(Reason.BAD_VERSION, "the version is neither 1.0 nor 1.1")
    return method.decode("ascii"), target.decode("ascii"), version[-1] - ord("0")


def _host(fields: list[Field], minor: int) -> str | None:
    hosts = [field.value for field in fields if field.role is Role.HOST]
    if len(hosts) > 1:
        raise ClientFault(Reason.BAD_HOST, "there is more than one Host")
    if not hosts:
        if minor == 1:
            raise ClientFault(Reason.BAD_HOST, "there is no Host")
        return None
    if not HOST(hosts[0]):
        raise ClientFault(Reason.BAD_HOST, "Host is empty or contains what no authority does")
    return hosts[0]


def _expects(fields: list[Field], minor: int) -> bool:
    """HTTP/1.0 cannot expect (RFC 9110 section 10.1.1): there the field is ignored, and not passed on."""
    values = [field.value.lower() for field in fields if field.role is Role.EXPECT]
    if minor == 0 or not values:
        return False
    if values != ["100-continue"]:
        raise ClientFault(Reason.BAD_EXPECTATION, "an expectation other than one 100-continue")
    return True


def _ask_llhttp(lines: bytes, minor: int) -> None:
    """The fields, below a request line that says nothing: llhttp knows fewer methods than there are."""
    if llhttp.refuses_request(b"POST / HTTP/1.%d\r\n%b" % (minor, lines)):
        raise ClientFault(Reason.BAD_HEADER, "the second opinion differs")


def build_request(
    head: RequestHead, target: str, host: str, extra: bytes, drop: frozenset[str], chunked: bool, /
) -> bytes:
    """The head for an upstream; raises ValueError for text that could not stand in one."""
    if not VISIBLE(target) or not VISIBLE(host):
        raise ValueError("a target or host is empty, or contains a control, a blank or a letter outside ASCII")
    check_extra(extra)
    lines = [f"{head.method} {target} HTTP/1.1\r\nhost: {host}\r\n".encode("ascii")]
    lines += lines_of(head._fields, head._options, drop, FORWARDED_EXPECT if head.expect_continue else NOTHING)
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif head.content_length >= 0:
        lines.append(b"content-length: %d\r\n" % head.content_length)
    if head.upgrade:
        lines.append(f"connection: upgrade\r\nupgrade: {head.upgrade}\r\n".encode("ascii"))
    return b"".join((*lines, extra, b"\r\n"))
