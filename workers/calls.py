"""Which requests of a route are calls of a language model: asked by those who serve, and by those who rehearse.

It loads no shared memory, since rehearsals also run where there is none (a browser).
"""

from __future__ import annotations

from typing import Final

from sentinel.core.appraisal import SAME, Translation
from sentinel.core.plan import Inference, Provider, Route
from sentinel.core.providers import speaks
from sentinel.core.request import Request
from sentinel.inference.dialect import Call, Dialect, Family, recognise
from sentinel.inference.translate.pairs import PAIRS, Pair

SPOKEN: Final = {
    "openai": Dialect.OPENAI_CHAT, "openai-compatible": Dialect.OPENAI_CHAT, "ollama": Dialect.OPENAI_CHAT,
    "anthropic": Dialect.ANTHROPIC_MESSAGES, "gemini": Dialect.GEMINI_GENERATE,
}  # fmt: skip
"""In which dialect it is said to a provider of this family that does not speak the client's."""

FAMILIES: Final[dict[str, Family | None]] = {"auto": None, **{family.value: family for family in Family}}


def call_of(inference: Inference, method: str, path: str) -> Call | None:
    """The dialect of a request; None when it is none that costs tokens."""
    if method != "POST":
        return None
    return recognise(path, FAMILIES[inference.family])


def recognises(route: Route, request: Request) -> bool:
    """Whether a request is in a dialect of its route."""
    return dialect_of(route, request) is not None


def dialect_of(route: Route, request: Request) -> str | None:
    """The word of a request's dialect; None when it is in none of its route's."""
    if route.inference is None:
        return None
    call = call_of(route.inference, request.method, request.path)
    return None if call is None else call.dialect.value


def translated(route: Route, provider: Provider, request: Request) -> Translation:
    """What becomes of a request for this provider, as far as can be known without its body."""
    call = None if route.inference is None else call_of(route.inference, request.method, request.path)
    if call is None or speaks(provider, call.dialect.value):
        return SAME
    client, other = call.dialect, SPOKEN[provider.dialect]
    if (client, other) not in PAIRS:
        return Translation("unsayable", client.value, other.value, "these two are not translated")
    if call.model is not None:
        return Translation("unsayable", client.value, other.value, "the path names the model")
    return Translation("said", client.value, other.value)


def pair_of(found: Translation) -> Pair:
    """Who says it."""
    return PAIRS[Dialect(found.client), Dialect(found.provider)]
