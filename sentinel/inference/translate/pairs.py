"""Which dialect can be said in which other one, and the four ways in which it is done.

Intuition: the door of an interpreters' office, with the languages on a plate. Inside each pair does the same four
jobs: a letter, the reply, a conversation on the telephone, and an apology.

    pair = PAIRS[Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES]      what the client speaks, what its provider does
    said = pair.request(body, Terms(max_tokens=4096))                  raises InferenceFault: 400, with the place
    pair.answer(body, created_s)                                       raises InferenceFault: 502
    pair.stream(created_s, wants_usage=…)
    pair.failure(status, body)                                         never raises

All of it is octets in, octets out. Nothing is guessed: what the other side has no word for is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sentinel.inference.dialect import Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Decode, Members, decode_answer, decode_request, decoded
from sentinel.inference.translate import answers, failures, to_anthropic, to_openai
from sentinel.inference.translate.chunks import Chunks
from sentinel.inference.translate.events import Events
from sentinel.inference.translate.failures import Failed
from sentinel.inference.translate.form import Desk, Terms
from sentinel.inference.translate.streams import Stream, Teller


@dataclass(frozen=True, slots=True)
class Said:
    """A request in the provider's dialect. `left_out`: places of hints that the terms let go, the first few."""

    body: bytes
    left_out: tuple[str, ...]


def _chunks(created_s: int, wants_usage: bool) -> Teller:
    return Chunks(created_s, wants_usage=wants_usage)


def _events(created_s: int, wants_usage: bool) -> Teller:
    return Events()


@dataclass(frozen=True, slots=True)
class Pair:
    """`ends`: how a client's path may end, the first that fits; `end`: what is there instead for the provider."""

    provider: Dialect
    ends: tuple[str, ...]
    end: str
    reader: str
    _request: Callable[[Members, Desk], Members]
    _answer: Callable[[Members, int], Members]
    _teller: Callable[[int, bool], Teller]
    _failure: Callable[[int, bytes], Failed]

    def path(self, path: str) -> str:
        """Where the provider is asked, when the client asked there."""
        found = next((end for end in self.ends if path.endswith(end)), None)
        return path if found is None else path.removesuffix(found) + self.end

    def request(self, body: bytes, terms: Terms, decode: Decode = decode_request) -> Said:
        desk = Desk(terms, self.reader)
        return Said(_octets(self._request(decoded(decode, body), desk)), tuple(desk.left_out))

    def answer(self, body: bytes, created_s: int, decode: Decode = decode_answer) -> bytes:
        return _octets(self._answer(decoded(decode, body), created_s))

    def stream(self, created_s: int, *, wants_usage: bool = True) -> Stream:
        """`wants_usage`: whether a client of OpenAI's asked for it; Anthropic's always get it."""
        return Stream(self._teller(created_s, wants_usage))

    def failure(self, status: int, body: bytes) -> tuple[int, bytes]:
        """The status and body of an answer that is no success."""
        shown, document = self._failure(status, body)
        return shown, _octets(document)


PAIRS: Final[dict[tuple[Dialect, Dialect], Pair]] = {
    (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES): Pair(
        Dialect.ANTHROPIC_MESSAGES, ("/v1/chat/completions", "/chat/completions"), "/v1/messages",
        to_anthropic.READER, to_anthropic.request, answers.completion, _chunks, failures.for_openai,
    ),
    (Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT): Pair(
        Dialect.OPENAI_CHAT, ("/v1/messages",), "/v1/chat/completions",
        to_openai.READER, to_openai.request, answers.message, _events, failures.for_anthropic,
    ),
}  # fmt: skip
"""By the client's dialect and the provider's."""


def _octets(document: Members) -> bytes:
    """As JSON in ASCII, so that even half a character survives."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise InferenceFault("$", "a number is too large") from None
    except RecursionError:
        raise InferenceFault("$", "this is nested too deeply") from None
