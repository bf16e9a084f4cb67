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

import re
from typing import Final

from sentinel.inference.ask import Ask
from sentinel.inference.dialect import Dialect

DIALECTS: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS})
OPTIONS: Final = b"stream_options"
OPTION: Final = b"include_usage"

TOKEN: Final = re.compile(rb'\s*+("(?:[^"\\]++|\\.)*+"|[\[\]{},:]|[^\s"\[\]{},:]++)', re.DOTALL)
"""A string, a sign, or a word: enough for text that is known to be JSON."""


def asking_for_usage(ask: Ask, body: bytes) -> bytes | None:
    """The body that asks for usage; None when it need not or cannot be asked for."""
    if ask.wants_usage or not ask.is_stream or ask.dialect not in DIALECTS:
        return None
    start = body.find(b"{")
    if not ask.has_stream_options:
        return _insert(body, start, b'"stream_options":{"include_usage":true}')
    try:
        options = _member(body, start, OPTIONS)
        if options is None:
            return None
        if not body.startswith(b"{", options[0]):  # null
            return body[: options[0]] + b'{"include_usage":true}' + body[options[1] :]
        option = _member(body, options[0], OPTION)
    except _EscapedName:
        return None
    if option is None:
        return _insert(body, options[0], b'"include_usage":true')
    return body[: option[0]] + b"true" + body[option[1] :]


class _EscapedName(Exception):
    """A name is written with a backslash, so that it may be any name."""


def _insert(body: bytes, brace: int, member: bytes) -> bytes:
    """Put a member first in an object."""
    rest = body[brace + 1 :]
    comma = b"" if rest.lstrip(b" \t\r\n").startswith(b"}") else b","
    return body[: brace + 1] + member + comma + rest


def _member(body: bytes, brace: int, name: bytes) -> tuple[int, int] | None:
    """Where the value of a member of the object at `brace` starts and ends."""
    quoted = b'"' + name + b'"'
    depth, before = 0, 0
    is_name = is_found = False
    start: int | None = None
    for found in TOKEN.finditer(body, brace):
        token = found.group(1)
        if depth == 1 and token in (b",", b"}"):
            if start is not None:
                return start, before
            is_name = True
        elif depth == 1 and is_name:
            if b"\\" in token:
                raise _EscapedName
            is_name, is_found = False, token == quoted
        elif depth == 1 and token != b":" and is_found and start is None:
            start = found.start(1)
        if token in (b"{", b"["):
            depth += 1
            is_name = is_name or depth == 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return None
        before = found.end(1)
    return None
