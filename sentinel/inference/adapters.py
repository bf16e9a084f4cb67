"""The closed set of dialects, each with what reads it.

Intuition: a desk of interpreters. Each knows one language, and all of them fill in the same form.

An adapter is five functions and two constants: a request and an answer are read whole, an event by itself;
`is_ordinary` tells from the octets of events whether they are only text, and `text` finds that text in them,
so that of a long stream only a few events are ever parsed (sentinel/inference/meter.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from sentinel.inference import anthropic, gemini, ollama, openai, responses
from sentinel.inference.ask import Ask
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Decode, Members, decode_request, decoded
from sentinel.inference.sheet import Sheet


@unique
class Framing(Enum):
    """How an answer is cut into what is read at once."""

    WHOLE = "whole"
    SSE = "server-sent events"
    LINES = "a JSON object a line"
    LIST = "the entries of one JSON list"


def _never(_: bytes) -> bool:
    return False


def _no_event(sheet: Sheet, name: str, event: Members) -> None:
    """Embeddings do not stream."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """`stream`: how a stream of this dialect is framed unless its content type says otherwise.

    `is_tail_enough`: of an answer that is too large to be kept the end is, and usage is looked for there.
    Only where no text of a model's own making can stand beside it.
    """

    read_request: Callable[[Call, Members], Ask]
    read_answer: Callable[[Sheet, Members], None]
    read_event: Callable[[Sheet, str, Members], None] = _no_event
    is_ordinary: Callable[[bytes], bool] = _never
    text: Callable[[bytes], list[bytes]] | None = None
    stream: Framing = Framing.SSE
    is_usage_alone: Callable[[Members], bool] | None = None
    is_tail_enough: bool = False


ADAPTERS: Final[dict[Dialect, Adapter]] = {
    Dialect.OPENAI_CHAT: Adapter(
        openai.read_chat, openai.read_chat_answer, openai.read_chat_event, openai.is_ordinary, openai.chat_text,
        is_usage_alone=openai.is_usage_alone,
    ),
    Dialect.OPENAI_RESPONSES: Adapter(
        responses.read_request, responses.read_answer, responses.read_event, responses.is_ordinary,
        responses.TEXT.findall,
    ),
    Dialect.OPENAI_COMPLETIONS: Adapter(
        openai.read_completion, openai.read_chat_answer, openai.read_chat_event, openai.is_ordinary,
        openai.COMPLETION.findall, is_usage_alone=openai.is_usage_alone,
    ),
    Dialect.OPENAI_EMBEDDINGS: Adapter(
        openai.read_embeddings, openai.read_embeddings_answer, is_tail_enough=True
    ),
    Dialect.ANTHROPIC_MESSAGES: Adapter(
        anthropic.read_request, anthropic.read_answer, anthropic.read_event, anthropic.is_ordinary,
        anthropic.TEXT.findall,
    ),
    Dialect.GEMINI_GENERATE: Adapter(
        gemini.read_request, gemini.read_answer, gemini.read_event, gemini.is_ordinary,
        gemini.TEXT.findall, Framing.LIST
    ),
    Dialect.OLLAMA_CHAT: Adapter(
        ollama.read_chat, ollama.read_answer, ollama.read_event, ollama.is_ordinary,
        ollama.TEXT.findall, Framing.LINES
    ),
    Dialect.OLLAMA_GENERATE: Adapter(
        ollama.read_generate, ollama.read_answer, ollama.read_event, ollama.is_ordinary,
        ollama.TEXT.findall, Framing.LINES
    ),
    Dialect.OLLAMA_EMBED: Adapter(ollama.read_embed, ollama.read_answer),
}  # fmt: skip
assert ADAPTERS.keys() == set(Dialect), "each dialect is read by somebody"


PLAIN_TYPES: Final = frozenset({"application/json", "text/event-stream"})
"""As nearly all say it."""


def read_request(call: Call, body: bytes, decode: Decode = decode_request) -> Ask:
    """What a request asks for. Raises InferenceFault when it is not in its dialect; nothing else."""
    document = decoded(decode, body)
    names = "".join(document)
    # Servers in Go take `Model` for `model`, and the last one holds: what would be two there is none here.
    if not (names.isascii() and names.islower()) and len({name.casefold() for name in document}) < len(document):
        raise InferenceFault("$", "two names differ in their case only")
    return ADAPTERS[call.dialect].read_request(call, document)


def framing_of(dialect: Dialect, content_type: str, *, is_stream: bool) -> Framing:
    """How an answer is framed: its content type says, and where that is plain JSON, what was asked for."""
    kind = content_type if content_type in PLAIN_TYPES else content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return Framing.SSE
    if kind in ("application/x-ndjson", "application/jsonl", "application/ndjson"):
        return Framing.LINES
    stream = ADAPTERS[dialect].stream
    return stream if is_stream and stream is not Framing.SSE else Framing.WHOLE
