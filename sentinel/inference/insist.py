"""Asking the upstream for usage on behalf of a client that did not ask: a few octets are inserted.

    {"model":"m","stream":true}   →   {"stream_options":{"include_usage":true},"model":"m","stream":true}

Intuition: a clerk who adds a line to a letter by hand, and does not type it anew: whoever compares the two finds the
line and nothing else. Signatures over parts, the order of names, how numbers are written: all stay.

Rules:
1. Only where the dialect has such an option, the client streams, and did not ask. What comes of it is taken out of
   the stream again by a `Meter` with `is_usage_removed`.
2. The body has been read before (`read_request`), so it is an object in which no name is repeated: the one place
   that is found is the one that counts.
3. What cannot be edited is left alone (None): usage is then counted, and nobody is refused for it.
"""

from __future__ import annotations

from typing import Final

from sentinel.inference.ask import Ask
from sentinel.inference.dialect import Dialect
from sentinel.inference.spans import inserted, member

DIALECTS: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS})
OPTIONS: Final = "stream_options"
OPTION: Final = "include_usage"


def asking_for_usage(ask: Ask, body: bytes) -> bytes | None:
    """The body that asks for usage; None when it need not or cannot be asked for."""
    if ask.wants_usage or not ask.is_stream or ask.dialect not in DIALECTS:
        return None
    start = body.find(b"{")
    if not ask.has_stream_options:
        return inserted(body, start, b'"stream_options":{"include_usage":true}')
    options = member(body, start, OPTIONS)
    if options is None:
        return None
    if not body.startswith(b"{", options[0]):  # null
        return body[: options[0]] + b'{"include_usage":true}' + body[options[1] :]
    option = member(body, options[0], OPTION)
    if option is None:
        return inserted(body, options[0], b'"include_usage":true')
    return body[: option[0]] + b"true" + body[option[1] :]
