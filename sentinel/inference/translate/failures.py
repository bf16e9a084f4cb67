"""Errors of one provider, said as those of the other, so that a client's SDK raises what it would have raised.

Both SDKs go by the status; what stands in the body is for people and for those who compare words. OpenAI has
`type` and `code`, Anthropic a `type` alone: its word goes into `code`, and comes back from there.

An error that is in neither dialect (a page of a proxy on the way, an empty body) keeps its status and says so.
"""

from __future__ import annotations

import json
from typing import Final

from sentinel.inference.look import Members

KINDS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
    503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
"""Anthropic's words, by status."""
TYPES: Final = {
    401: "authentication_error", 403: "permission_error", 429: "rate_limit_exceeded",
}  # fmt: skip
"""OpenAI's words, by status; for others of 400 to 499 `invalid_request_error`, above `server_error`."""
STATUSES: Final = {kind: status for status, kind in reversed(KINDS.items())}
STREAMED: Final = {
    "server_error": "api_error", "rate_limit_exceeded": "rate_limit_error", "insufficient_quota": "rate_limit_error",
}  # fmt: skip
"""OpenAI's words amid a stream, where there is no status."""
OVERLOADED: Final = 529
"""Anthropic's own status; elsewhere it is 503."""
UNREADABLE: Final = "the provider answered {} with something that is not its own error"
MESSAGE_CHARS_MAX: Final = 4096

Failed = tuple[int, Members]
"""A status and a body."""


def for_openai(status: int, body: bytes) -> Failed:
    kind, message = _said(status, body)
    shown = 503 if status == OVERLOADED else status
    return shown, openai_error(kind or KINDS.get(status, "api_error"), message, shown)


def for_anthropic(status: int, body: bytes) -> Failed:
    kind, message = _said(status, body)
    known = kind in STATUSES and STATUSES[kind] in (status, OVERLOADED)
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    return status, anthropic_error(str(kind) if known else KINDS.get(status, fallback), message)


def openai_error(kind: str, message: str, status: int | None = None) -> Members:
    """`kind`: Anthropic's word."""
    status = STATUSES.get(kind, 500) if status is None else status
    word = TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": word, "param": None, "code": kind}}


def anthropic_error(kind: str, message: str) -> Members:
    return {"type": "error", "error": {"type": kind, "message": message}}


def streamed(error: object) -> tuple[str, str]:
    """Anthropic's word and the message of an error that OpenAI, or a server like it, reports amid a stream."""
    kind, message = _of(error)
    if kind in STATUSES:
        return kind, message
    return STREAMED.get(kind or "", "api_error"), message


def _said(status: int, body: bytes) -> tuple[str | None, str]:
    """The most telling word of an error, and its message."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and found.get("error"):
        return _of(found["error"])
    return None, UNREADABLE.format(status)


def _of(error: object) -> tuple[str | None, str]:
    if isinstance(error, str):
        return None, error[:MESSAGE_CHARS_MAX]
    if not isinstance(error, dict):
        return None, ""
    words = [error.get(name) for name in ("code", "type")]
    kind = next((word for word in words if isinstance(word, str) and word in STATUSES), None)
    kind = kind or next((word for word in words if isinstance(word, str) and word in STREAMED), None)
    message = error.get("message")
    return kind, message[:MESSAGE_CHARS_MAX] if isinstance(message, str) else ""
