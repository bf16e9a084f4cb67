"""Heads, parsed and built: what both implementations promise, and the choice between them.

Intuition: a customs form. It is read once, completely and sceptically; what goes
on is not the sheet that came in but a fair copy, with this office's own stamps
where the last one's were. The copy keeps the order, the spelling of names and
every end-to-end value; framing, Connection and Host are always ours.

Two implementations promise the same: the native kernel (`workers/_native/http1.c`, about a
microsecond a head) and the twin (plain Python over httptools, for where nothing can be
compiled, and as the specification). SENTINEL_PURE=1 forces the twin.

Rules:
1. A head is whole or it is nothing: None until its empty line has come. A line that is malformed
   is refused when its LF comes, and then in any division of the same octets.
2. Limits hold while waiting: a head that is longer than `max_bytes` is refused as soon as that
   many octets are there, a request line as soon as no target within `max_uri` fits it.
3. Parsed heads are immutable, and remember their lines: building does not parse again.
4. What builds cannot be split: `target` and `host` are visible ASCII and `extra` is whole lines,
   or ValueError. A ValueError here is a mistake of ours; peers cause only faults.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

RESPONSE_BYTES_MAX: Final = 64 * 1024
RESPONSE_HEADERS_MAX: Final = 200
INTERIMS_MAX: Final = 16
"""What the head of an upstream's answer may have, and how many interim ones (1xx) may come before the final one."""


class RequestHead(Protocol):
    """A client's head. Names are lower case, values are trimmed and decoded as latin-1."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str:
        """As it was sent: visible ASCII."""
    @property
    def minor(self) -> int:
        """0 or 1."""
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    def first(self, name: str, /) -> str:
        """The value of the first field of this name (in lower case); "" when there is none. Makes no list."""
    def values(self, name: str, /) -> list[str]:
        """The values of all fields of this name, in order, without making the others."""
    @property
    def keep_alive(self) -> bool:
        """Whether the client is willing to send another request."""
    @property
    def content_length(self) -> int:
        """-1 when there is none."""
    @property
    def chunked(self) -> bool: ...
    @property
    def expect_continue(self) -> bool: ...
    @property
    def upgrade(self) -> str:
        """The protocols offered, if Connection nominates Upgrade; "" for none, and for h2c."""
    @property
    def host(self) -> str | None:
        """The raw Host; None only in HTTP/1.0."""
    @property
    def size(self) -> int:
        """Octets of the head, empty lines included."""


class ResponseHead(Protocol):
    """An upstream's head. `content_length`, `chunked` and `until_close` tell of the body that really follows."""

    @property
    def status(self) -> int: ...
    @property
    def minor(self) -> int: ...
    @property
    def phrase(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def keep_alive(self) -> bool:
        """Whether the upstream lets its connection be used again after this answer."""
    @property
    def content_length(self) -> int:
        """-1 when no length delimits the body, and when there is no body (HEAD, 1xx, 204, 304)."""
    @property
    def chunked(self) -> bool: ...
    @property
    def until_close(self) -> bool: ...
    @property
    def upgrade(self) -> str:
        """The protocol of a 101, or what a 426 asks for; "" otherwise."""
    @property
    def size(self) -> int: ...


if TYPE_CHECKING:

    def parse_request(
        data: bytes | bytearray | memoryview, start: int, max_bytes: int, max_headers: int, max_uri: int, /
    ) -> RequestHead | None:
        """The head that begins at `start`; None while it is incomplete; raises ClientFault."""

    def build_request(
        head: RequestHead, target: str, host: str, extra: bytes, drop: frozenset[str], chunked: bool, /
    ) -> bytes:
        """The head for an upstream, without the fields named in `drop`, and with the lines of `extra`."""

    def parse_response(
        data: bytes | bytearray | memoryview, start: int, max_bytes: int, max_headers: int, request_method: str, /
    ) -> ResponseHead | None:
        """The head that begins at `start`; None while it is incomplete; raises UpstreamFault."""

    def build_response(
        head: ResponseHead, extra: bytes, keep_alive: bool, client_minor: int, drop: frozenset[str], /
    ) -> tuple[bytes, str]:
        """The head for the client, and how its body is framed: "none", "length", "chunked" or "close"."""

else:

    def _choose():
        if not os.environ.get("SENTINEL_PURE"):
            try:
                from workers._native import http1 as native
            except ImportError:
                pass
            else:
                return native.parse_request, native.build_request, native.parse_response, native.build_response
        from workers.http1 import request_twin, response_twin

        return (
            request_twin.parse_request, request_twin.build_request,
            response_twin.parse_response, response_twin.build_response,
        )  # fmt: skip

    parse_request, build_request, parse_response, build_response = _choose()
