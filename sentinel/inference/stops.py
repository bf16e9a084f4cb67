"""How a stream is ended by the gateway: with an error that the dialect's clients know, and its proper end.

Status and head were sent long ago, so this is all that a client learns. Its SDK raises an error for it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sentinel.core.reasons import Reason
from sentinel.inference.adapters import Framing
from sentinel.inference.dialect import Dialect

NAMED: Final = frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_RESPONSES})
"""Dialects whose events have names."""


def stop(dialect: Dialect, framing: Framing, reason: Reason) -> bytes:
    """The last octets of a stream that goes no further."""
    document = error_of(dialect, reason, reason.value.text)
    if dialect is Dialect.OPENAI_RESPONSES:
        document = {"type": "error", "code": reason.word, "message": reason.value.text, "param": None}
    data = json.dumps(document, separators=(",", ":")).encode()
    if framing is not Framing.SSE:
        return data + b"\n"
    name = b"event: error\n" if dialect in NAMED else b""
    end = b"data: [DONE]\n\n" if dialect in (Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS) else b""
    return b"%bdata: %b\n\n%b" % (name, data, end)


def error_of(dialect: Dialect, reason: Reason, message: str) -> dict[str, Any]:
    """An error in the dialect's own shape."""
    match dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            error: dict[str, Any] = {"type": "invalid_request_error", "message": f"{reason.word}: {message}"}
            return {"type": "error", "error": error}
        case Dialect.GEMINI_GENERATE:
            status = {"code": reason.status, "message": f"{reason.word}: {message}", "status": "INVALID_ARGUMENT"}
            return {"error": status}
        case Dialect.OLLAMA_CHAT | Dialect.OLLAMA_GENERATE | Dialect.OLLAMA_EMBED:
            return {"error": f"{reason.word}: {message}"}
        case _:
            kind = "invalid_request_error"
            return {"error": {"message": message, "type": kind, "param": None, "code": reason.word}}
