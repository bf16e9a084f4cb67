"""Which requests of a route are calls of a language model, and what they ask for: read here for those who serve, and
for those who rehearse.

It loads no shared memory, since rehearsals also run where there is none (a browser); who has a faster reader of JSON
than the specification hands it in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from sentinel.core.appraisal import SAME, Appraisal, Translation, priced
from sentinel.core.balance.prefixes import mark_of
from sentinel.core.models import Directory
from sentinel.core.plan import Inference, Provider, Route
from sentinel.core.prices import PriceBook, Rates
from sentinel.core.providers import speaks
from sentinel.core.request import Request
from sentinel.inference.adapters import read_request
from sentinel.inference.ask import Ask, model_of
from sentinel.inference.dialect import Call, Dialect, Family, recognise
from sentinel.inference.estimate import Estimate, Estimator
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Decode, decode_request
from sentinel.inference.translate.form import Terms
from sentinel.inference.translate.pairs import PAIRS, Pair, Said

SPOKEN: Final = {
    "openai": Dialect.OPENAI_CHAT, "openai-compatible": Dialect.OPENAI_CHAT, "ollama": Dialect.OPENAI_CHAT,
    "anthropic": Dialect.ANTHROPIC_MESSAGES, "gemini": Dialect.GEMINI_GENERATE,
}  # fmt: skip
"""In which dialect it is said to a provider of this family that does not speak the client's."""

WITHOUT_OUTPUT: Final = frozenset({Dialect.OPENAI_EMBEDDINGS, Dialect.OLLAMA_EMBED})

FAMILIES: Final[dict[str, Family | None]] = {"auto": None, **{family.value: family for family in Family}}


def call_of(inference: Inference, method: str, path: str) -> Call | None:
    """The dialect of a request; None when it is none that costs tokens."""
    if method != "POST":
        return None
    return recognise(path, FAMILIES[inference.family])


def recognises(route: Route, request: Request) -> bool:
    """Whether a request is in a dialect of its route."""
    return route.inference is not None and call_of(route.inference, request.method, request.path) is not None


def dialect_of(route: Route, request: Request) -> str | None:
    """The word of a request's dialect; None when it is in none of its route's."""
    if route.inference is None:
        return None
    call = call_of(route.inference, request.method, request.path)
    return None if call is None else call.dialect.value


def named_in_path(route: Route, request: Request) -> tuple[str, str]:
    """The model that a request's path names, "" where it is the body's to say; and why that is no name, "" if it is."""
    call = None if route.inference is None else call_of(route.inference, request.method, request.path)
    if call is None or call.model is None:
        return "", ""
    try:
        return model_of({}, call.model), ""
    except InferenceFault as fault:
        return "", str(fault)


def counts_only(route: Route, request: Request) -> bool:
    """Whether a request only asks how many tokens another would take."""
    call = None if route.inference is None else call_of(route.inference, request.method, request.path)
    return call is not None and call.is_count


class Called(NamedTuple):
    """A call that was read. ask: as whoever answers it will know it, after whom it is priced when it is settled."""

    appraisal: Appraisal
    ask: Ask
    estimate: Estimate
    rates: Rates | None


def read_call(
    call: Call, inference: Inference, body: bytes, *, directory: Directory | None, is_marked: bool,
    estimator: Estimator, book: PriceBook | None, rates_of: Callable[[str], Rates | None],
    decode: Decode = decode_request,
) -> Called:  # fmt: skip
    """What a call may take, from its whole body. Raises InferenceFault.

    is_marked: its route tells prompts apart by how they begin.
    """
    ask = read_request(call, body, decode)
    target = None if directory is None else directory.find(ask.model)
    billed = ask if target is None else replace(ask, model=target.sent(ask.model))
    estimate = estimator.estimate(billed)
    output_tokens = estimate.output_cap_tokens
    if call.is_count:
        return Called(Appraisal("count", ask.model, dialect=call.dialect._value_), billed, estimate, None)
    if ask.dialect in WITHOUT_OUTPUT:
        output_tokens = 0
    elif output_tokens is None:
        output_tokens = inference.output_tokens * ask.choices_count
    rates = rates_of(ask.model)
    tokens = estimate.input_tokens, output_tokens
    most, account = priced(ask.model, book, rates, tokens)
    mark = mark_of(ask.input.texts) if is_marked else 0
    found = Appraisal("ask", ask.model, *tokens, money=most, account=account, dialect=call.dialect._value_, mark=mark)
    return Called(found, billed, estimate, rates)


def translated(route: Route, provider: Provider, request: Request) -> Translation:
    """What becomes of a request for this provider, as far as can be known without its body."""
    call = None if route.inference is None else call_of(route.inference, request.method, request.path)
    if call is None or speaks(provider, call.dialect.value):
        return SAME
    client, other = call.dialect, SPOKEN[provider.dialect]
    if call.is_count:
        return Translation("unsayable", client.value, other.value, "each provider counts tokens in its own way")
    if (client, other) not in PAIRS:
        return Translation("unsayable", client.value, other.value, "these two are not translated")
    if call.model is not None:
        return Translation("unsayable", client.value, other.value, "the path names the model")
    return Translation("said", client.value, other.value)


def pair_of(found: Translation) -> Pair:
    """Who says it."""
    return PAIRS[Dialect(found.client), Dialect(found.provider)]


def say(
    found: Translation, provider: Provider, body: bytes, decode: Decode = decode_request
) -> tuple[Translation, Said | None]:
    """Say a whole body in the provider's dialect, where `translated` found that it is to be; what came of it."""
    how = provider.translate
    if found.kind != "said" or how is None:
        return found, None
    try:
        said = pair_of(found).request(body, Terms(how.max_tokens or None, frozenset(how.left_out)), decode)
    except InferenceFault as fault:
        return replace(found, kind="unsayable", fault=str(fault)), None
    return replace(found, left_out=", ".join(said.left_out)), said
