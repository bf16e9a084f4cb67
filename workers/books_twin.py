"""The Python twin of `_native/books.c`: the line by msgspec, the record by sentinel.core.record.

It is the specification: a differential test gives both the same exchanges and compares
lines and records octet by octet.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from sentinel.core.trace import Step
from workers.accesslog import AGENT_CHARS_MAX, LINE_BYTES_MAX, PATH_CHARS_MAX, WORD_CHARS_MAX, Entry

GENERATION: Final = b',"generation":'
"""Before it stands what only some lines have. No text has these octets: its quotes have a backslash before them."""


class Books:
    """See workers.books.Books."""

    def __init__(
        self, generation: int, worker: int, is_logged: bool, is_recorded: bool, encode: Callable[..., bytes]
    ) -> None:
        self._generation = generation
        self._worker = worker
        self._is_logged = is_logged
        self._is_recorded = is_recorded
        self._encode = encode
        self._line = msgspec.json.Encoder().encode
        self._lines = bytearray()
        self.lines_count = 0

    @property
    def lines_bytes(self) -> int:
        return len(self._lines)

    def enter(
        self, began_ns: int, duration_ns: int, request_id: str, client_ip: str, method: str, host: str, path: str,
        query_bytes: int, protocol: str, status: int, reason_number: int, reason_word: str, route: str, upstream: str,
        endpoint: str, attempts: int, answered_ns: int, bytes_in: int, bytes_out: int, user_agent: str,
        listener: str, steps: list[Step], more: bytes = b"", /,
    ) -> bytes:  # fmt: skip
        if self._is_logged:
            line = self._line(Entry(
                timestamp(began_ns), _said(request_id), _said(client_ip), _said(method), _said(host[:WORD_CHARS_MAX]),
                _said(path[:PATH_CHARS_MAX]), query_bytes, _said(protocol), status, _said(reason_word), _said(route),
                _said(upstream), _said(endpoint), attempts, answered_ns // 1000 / 1000 if answered_ns else None,
                duration_ns // 1000 / 1000, bytes_in, bytes_out, _said(user_agent[:AGENT_CHARS_MAX]), _said(listener),
                self._generation, self._worker,
            )) + b"\n"  # fmt: skip
            if more and len(line) + len(more) <= LINE_BYTES_MAX:
                at = line.rindex(GENERATION)
                line = line[:at] + more + line[at:]
            self._lines += line
            self.lines_count += 1
        if not self._is_recorded:
            return b""
        return self._encode(
            began_ns, duration_ns, request_id, client_ip, method, host, path, query_bytes, protocol, status,
            reason_number, reason_word, route, upstream, endpoint, attempts, answered_ns, bytes_in, bytes_out,
            user_agent, listener, steps,
        )  # fmt: skip

    def take_lines(self) -> bytes:
        lines = bytes(self._lines)
        self._lines.clear()
        self.lines_count = 0
        return lines


def timestamp(at_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    second, ms = divmod(at_ns // 1_000_000, 1000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def _said(text: str) -> str:
    """What UTF-8 can say of a text."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
