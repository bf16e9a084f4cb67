"""How many tokens an exchange took, the same for all providers.

    input  ──────────────────────────────────────────────┐
      cached │ cache write (of it: long) │ audio │ plain │
    output ──────────────────────────────┐
      reasoning │ audio │ plain          │

Intuition: a bill with two sums, and under each sum what it is made of. What is not named is plain.

INVARIANT: parts never exceed their whole; `fit` makes sure of it, and is how usage that somebody reported is made.

Providers differ: OpenAI and Gemini count what was cached as input, Anthropic beside it; Gemini counts thoughts beside
the output. Adapters bring all into this form, and `fit` cuts what does not fit, since the wholes are what providers
bill by. Nobody changes a value of it. It is not frozen, as little is that is made with each request: that takes four
times as long; and its `__init__` is written out, since compiled (ADR 29) it is native then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final


@final
@dataclass(slots=True, init=False)
class Usage:
    """`is_reported`: the provider said so; otherwise it was counted here, at least in part."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    cache_write_long_tokens: int
    audio_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_output_tokens: int
    is_reported: bool

    def __init__(
        self, input_tokens: int = 0, cached_tokens: int = 0, cache_write_tokens: int = 0,
        cache_write_long_tokens: int = 0, audio_input_tokens: int = 0, output_tokens: int = 0,
        reasoning_tokens: int = 0, audio_output_tokens: int = 0, is_reported: bool = True,
    ) -> None:  # fmt: skip
        self.input_tokens = input_tokens
        self.cached_tokens = cached_tokens
        self.cache_write_tokens = cache_write_tokens
        self.cache_write_long_tokens = cache_write_long_tokens
        self.audio_input_tokens = audio_input_tokens
        self.output_tokens = output_tokens
        self.reasoning_tokens = reasoning_tokens
        self.audio_output_tokens = audio_output_tokens
        self.is_reported = is_reported

    @property
    def plain_input_tokens(self) -> int:
        return self.input_tokens - self.cached_tokens - self.cache_write_tokens - self.audio_input_tokens

    @property
    def plain_output_tokens(self) -> int:
        return self.output_tokens - self.reasoning_tokens - self.audio_output_tokens

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def counted(self) -> Usage:
        return replace(self, is_reported=False)


def fit(
    *, input_tokens: int = 0, cached: int = 0, cache_write: int = 0, cache_write_long: int = 0, audio_input: int = 0,
    output: int = 0, reasoning: int = 0, audio_output: int = 0,
) -> Usage:  # fmt: skip
    """Usage as reported; parts that exceed their whole are cut, the first named is kept longest."""
    if not (cached or cache_write or audio_input or reasoning or audio_output):
        return Usage(input_tokens, output_tokens=output)
    cached = min(cached, input_tokens)
    cache_write = min(cache_write, input_tokens - cached)
    audio_input = min(audio_input, input_tokens - cached - cache_write)
    reasoning = min(reasoning, output)
    return Usage(
        input_tokens, cached, cache_write, min(cache_write_long, cache_write), audio_input,
        output, reasoning, min(audio_output, output - reasoning),
    )  # fmt: skip
