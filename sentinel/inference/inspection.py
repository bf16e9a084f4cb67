"""Looking through a whole document with a guardrail: a request, or an answer that is no stream.

Intuition: the desk where letters are gone through before they leave the house. What comes back is the letter, with
black bars in it or as it was, and a slip that says what was found, never the words themselves.

A guardrail goes through the document after the one before it, and sees what that one has left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from sentinel.core.guard.guards import Counts, Guard, told
from sentinel.core.guard.sieve import Sieve
from sentinel.core.inspection import Inspection
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Decode, Members, decode_request, decoded
from sentinel.inference.texts import Reader

TOO_LONG: Final = "its texts are longer than `max-text`"


class Finding(NamedTuple):
    """What came of it. fault: why it was not read. attached_count: parts that are no text, and were not read.

    is_changed: the document is no longer what it was.
    """

    kind: Literal["clean", "found", "unread"]
    counts: Counts = {}  # noqa: RUF012 - never written
    fault: str = ""
    attached_count: int = 0
    is_changed: bool = False


def look_through(document: Members, guard: Guard, *, is_answer: bool = False) -> Finding:
    """Judge all texts of a document; what is redacted is replaced in it."""
    reader = Reader()
    counts: Counts = {}
    left = guard.max_text
    try:
        for text in reader.texts(document, is_answer=is_answer and guard.action != "observe"):
            left -= len(text.value)
            if left < 0:
                return Finding("unread", fault=TOO_LONG)
            if text.is_json:
                text.put(Sieve(guard, counts, is_json=True).feed(text.value, is_end=True))
            else:
                text.put(guard.judge(text.value, counts))
    except (InferenceFault, RecursionError):
        return Finding("unread", fault="it is nested too deeply")
    is_changed = reader.is_spelt or (bool(counts) and guard.action == "redact")
    kind: Literal["clean", "found"] = "found" if counts else "clean"
    return Finding(kind, counts, attached_count=reader.attached_count, is_changed=is_changed)


class Look(NamedTuple):
    """What one guardrail has found, for the core, and for whoever counts."""

    guard: Guard
    inspection: Inspection
    counts: Counts


def look_through_request(
    body: bytes, guards: Sequence[Guard], decode: Decode = decode_request
) -> tuple[list[Look], bytes]:
    """Let guardrails look through a request that was read before, up to one that stops it; and the request after that.

    The octets are those that came, unless something was replaced.
    """
    document, looks, is_changed = decoded(decode, body), [], False
    for one in guards:
        finding = look_through(document, one)
        looks.append(Look(one, inspected(finding), finding.counts))
        is_changed = is_changed or finding.is_changed
        if (finding.kind == "unread" and one.is_closed) or (finding.kind == "found" and one.action == "block"):
            break
    return looks, written(document) if is_changed else body


def inspected(finding: Finding) -> Inspection:
    """What of it is told."""
    return Inspection(finding.kind, finding.fault or told(finding.counts), finding.attached_count)


def written(document: Members) -> bytes:
    """The document as JSON in ASCII, so that even half a character survives."""
    return json.dumps(document, separators=(",", ":")).encode()
