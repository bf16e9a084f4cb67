"""Where a value stands in JSON text: for edits that leave every other octet as it was.

Intuition: a finger on the line. Who types a letter anew types it differently; who knows from which character to
which the word goes can paste another one over it.

The text is known to be JSON with no name twice in an object (`look.decode_request`, or an upstream's answer that was
read): here it is only cut into strings, signs and words, in one pass from the left.
"""

from __future__ import annotations

import json
import re
from typing import Final

TOKEN: Final = re.compile(rb'\s*+("(?:[^"\\]++|\\.)*+"|[\[\]{},:]|[^\s"\[\]{},:]++)', re.DOTALL)
"""A string, a sign, or a word: enough for text that is known to be JSON."""

Place = tuple[int, int]
"""Where a value starts and ends."""


def member(body: bytes, brace: int, name: str) -> Place | None:
    """The value of a member of the object at `brace`; None when there is none of that name."""
    quoted = json.dumps(name).encode()
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
            is_name, is_found = False, token == quoted or (b"\\" in token and _decoded(token) == name)
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


def replaced(body: bytes, path: tuple[str, ...], text: str) -> bytes | None:
    """The body with this string at the end of a path of names, from its outermost object; None: nothing is there."""
    at = body.find(b"{")
    place: Place | None = None
    for name in path:
        place = member(body, at, name) if at >= 0 and body.startswith(b"{", at) else None
        if place is None:
            return None
        at = place[0]
    return None if place is None else body[: place[0]] + json.dumps(text).encode() + body[place[1] :]


def inserted(body: bytes, brace: int, added: bytes) -> bytes:
    """The body with a member put first in the object at `brace`."""
    rest = body[brace + 1 :]
    comma = b"" if rest.lstrip(b" \t\r\n").startswith(b"}") else b","
    return body[: brace + 1] + added + comma + rest


def _decoded(token: bytes) -> str | None:
    """A name that is written with a backslash may be any name."""
    try:
        found = json.loads(token)
    except ValueError:
        return None
    return found if isinstance(found, str) else None
