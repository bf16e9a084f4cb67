"""Answers that the gateway gives by itself: refusals, failures and `respond` routes.

Every one carries the request id; a refusal or failure carries its reason word
in `x-sentinel-reason` and in the body, as JSON for clients that ask for it and
as a line of text for people. Everything is put into one bytes object, so that
head and body leave in one write.
"""

from __future__ import annotations

import http
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sentinel.core.plan import Respond
from sentinel.core.reasons import Reason

_PHRASES: Final[dict[int, str]] = {status.value: status.phrase for status in http.HTTPStatus} | {
    499: "Client Closed Request"
}
Fields = tuple[tuple[str, str], ...]
"""Names and values of header fields."""

_NO_BODY: Final = frozenset({204, 304})


def phrase(status: int) -> str:
    return _PHRASES.get(status, "Unknown")


def wants_json(headers: Iterable[tuple[str, str]]) -> bool:
    """Does the client name JSON in Accept before it names HTML?"""
    for name, value in headers:
        if name == "accept":
            accept = value.lower()
            json_at, html_at = accept.find("json"), accept.find("text/html")
            return json_at >= 0 and (html_at < 0 or json_at < html_at)
    return False


def refusal(
    status: int, reason: Reason, request_id: str, *, as_json: bool, keep_alive: bool, minor: int, head_only: bool,
    fields: Fields = (), document: Mapping[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """A whole answer that says no, and why. `document`: in whose shape a client reads that better."""
    text = reason.value.text
    if as_json and document is None:
        document = {"error": {"status": status, "reason": reason.word, "message": text, "request_id": request_id}}
    if document is not None:
        body, kind = json.dumps(document).encode() + b"\n", "application/json"
    else:
        body, kind = f"{status} {reason.word}: {text}\nrequest id: {request_id}\n".encode(), "text/plain; charset=utf-8"
    lines = [f"content-type: {kind}", f"x-sentinel-reason: {reason.word}", "cache-control: no-store"]
    lines += [f"{name}: {value}" for name, value in fields]
    return _assemble(status, lines, body, request_id, keep_alive=keep_alive, minor=minor, head_only=head_only)


def fixed(
    respond: Respond, request_id: str, *, keep_alive: bool, minor: int, head_only: bool, fields: Fields = ()
) -> bytes:
    """The whole answer of a `respond` route."""
    lines = [f"{name}: {value}" for name, value in (*respond.headers, *fields)]
    if respond.body and not any(name == "content-type" for name, _ in respond.headers):
        lines.append("content-type: text/plain; charset=utf-8")
    body = respond.body.encode()
    return _assemble(respond.status, lines, body, request_id, keep_alive=keep_alive, minor=minor, head_only=head_only)


def _assemble(
    status: int, lines: list[str], body: bytes, request_id: str, *, keep_alive: bool, minor: int, head_only: bool
) -> bytes:
    if status in _NO_BODY:
        body = b""
    else:
        lines.append(f"content-length: {len(body)}")
    lines.append(f"x-request-id: {request_id}")
    if not keep_alive:
        lines.append("connection: close")
    elif minor == 0:
        lines.append("connection: keep-alive")
    head = f"HTTP/1.1 {status} {phrase(status)}\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + (b"" if head_only else body)
