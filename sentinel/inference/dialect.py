"""Which dialect a request is in, by its path.

Intuition: letters are told apart by their address before anybody opens them.

Rules:
1. A dialect is recognised by the end of its path: gateways, proxies and hosts put their own words before it
   (`/v1`, `/openai/deployments/NAME`, `/v1beta/openai`).
2. Where configuration names the family, only its dialects are looked for, so that a path such as
   `/api/chat` of a web application is not taken for a model's.
3. What is not recognised is None: traffic like any other. `POST` alone asks for anything that costs.

vLLM, SGLang and others that speak OpenAI's language are of the family COMPATIBLE: the same dialects. Where they
differ (usage on every event, `reasoning_content`, usage within a choice), the adapters read both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final


@unique
class Family(Enum):
    """Whose language an upstream speaks; what configuration names."""

    __hash__ = object.__hash__  # members are alone in being equal to themselves, and an enum's own hash is slow

    OPENAI = "openai"
    COMPATIBLE = "openai-compatible"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OLLAMA = "ollama"


@unique
class Dialect(Enum):
    __hash__ = object.__hash__  # as above

    OPENAI_CHAT = "openai-chat"
    OPENAI_RESPONSES = "openai-responses"
    OPENAI_COMPLETIONS = "openai-completions"
    OPENAI_EMBEDDINGS = "openai-embeddings"
    ANTHROPIC_MESSAGES = "anthropic-messages"
    GEMINI_GENERATE = "gemini-generate"
    OLLAMA_CHAT = "ollama-chat"
    OLLAMA_GENERATE = "ollama-generate"
    OLLAMA_EMBED = "ollama-embed"


OPENAI_PATHS: Final = (
    ("/chat/completions", Dialect.OPENAI_CHAT),
    ("/responses", Dialect.OPENAI_RESPONSES),
    ("/completions", Dialect.OPENAI_COMPLETIONS),
    ("/embeddings", Dialect.OPENAI_EMBEDDINGS),
)
"""The first that fits: the second word of `/chat/completions` is a path of its own."""
OLLAMA_PATHS: Final = (
    ("/api/chat", Dialect.OLLAMA_CHAT),
    ("/api/generate", Dialect.OLLAMA_GENERATE),
    ("/api/embed", Dialect.OLLAMA_EMBED),
)
PATHS: Final[dict[Family, tuple[tuple[str, Dialect], ...]]] = {
    Family.OPENAI: OPENAI_PATHS,
    Family.COMPATIBLE: OPENAI_PATHS,
    Family.ANTHROPIC: (("/v1/messages", Dialect.ANTHROPIC_MESSAGES),),
    Family.GEMINI: (),
    Family.OLLAMA: (*OLLAMA_PATHS, *OPENAI_PATHS),
}
"""Gemini's paths end in a method of a model, and are looked at apart."""
ANY_PATHS: Final = (*OPENAI_PATHS, *PATHS[Family.ANTHROPIC], *OLLAMA_PATHS)
COUNT_PATHS: Final = (
    ("/v1/messages/count_tokens", Dialect.ANTHROPIC_MESSAGES),
    ("/responses/input_tokens", Dialect.OPENAI_RESPONSES),
)
"""Where a provider is asked how many tokens a request would take, by sending it that request."""
GEMINI_COUNTS: Final = "countTokens"
GEMINI_METHODS: Final = {"generateContent": False, "streamGenerateContent": True, GEMINI_COUNTS: False}
MODEL_CHARS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Call:
    """What the path alone tells. `model` and `is_stream` are None where the body says them.

    is_count: it asks how many tokens a request would take, and takes none itself.
    """

    dialect: Dialect
    model: str | None = None
    is_stream: bool | None = None
    is_count: bool = False


CALLS: Final = {dialect: Call(dialect) for dialect in Dialect}
"""Of paths that tell no more than the dialect."""


def recognise(path: str, family: Family | None = None) -> Call | None:
    """The dialect of a path (without its query, normalised), or None when it is none of the family's."""
    if ":" in path and family in (None, Family.GEMINI) and (found := _gemini(path)) is not None:
        return found
    for end, dialect in ANY_PATHS if family is None else PATHS[family]:
        if path.endswith(end):
            model = _deployment(path) if "/deployments/" in path and dialect.value.startswith("openai-") else None
            return CALLS[dialect] if model is None else Call(dialect, model)
    for end, dialect in COUNT_PATHS:
        if path.endswith(end) and (family is None or any(dialect is one for _, one in PATHS[family])):
            return Call(dialect, is_stream=False, is_count=True)
    return None


def _gemini(path: str) -> Call | None:
    head, colon, method = path.rpartition(":")
    _, slash, model = head.rpartition("/models/")
    if not colon or not slash or method not in GEMINI_METHODS or not 0 < len(model) <= MODEL_CHARS_MAX or "/" in model:
        return None
    return Call(Dialect.GEMINI_GENERATE, model, GEMINI_METHODS[method], method == GEMINI_COUNTS)


def _deployment(path: str) -> str | None:
    """The name after `/deployments/`, where a host keeps the model in the path."""
    _, found, rest = path.partition("/deployments/")
    name = rest.partition("/")[0]
    return name if found and 0 < len(name) <= MODEL_CHARS_MAX else None
