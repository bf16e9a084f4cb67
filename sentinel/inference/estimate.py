"""How many tokens a request will take, before anybody has counted them.

Intuition: a mover who looks at a flat and names a number of boxes. He counts what he can count; for the rest he
has a rule of thumb, and after each move he mends it a little.

    real vocabulary known (`counters`)     counted: text is exact, how it is wrapped is nearly so
    learnt from settled requests           tokens for a thousand octets, per model
    nothing known                          DEFAULT_RATIO

Why octets and not characters: a character of Chinese has three octets and often a token of its own; a ratio learnt
on English would be wrong by a factor of four per character, and of one and a half per octet.

Rules:
1. Whole numbers throughout: ratios are thousandths, and the mean moves by an eighth of the difference.
2. Only what an upstream reported teaches. A name that was misspelt was answered by nobody, and teaches nothing.
3. Models are bounded. One that is known stays known: nobody is pushed out by names that come later. A new name
   waits in a small queue until it has settled LESSONS_MIN requests; then it takes a place, if there is one. What
   finds no place is estimated by the mean of all. So whoever floods the queue keeps others waiting at worst.
4. A sample far from anything that a tokenizer does is cut, so one strange request cannot spoil a ratio.
5. How wrong an estimate was is returned as a value by `learn`, in thousandths of what was real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple, final

from sentinel.core.globs import Glob
from sentinel.inference.ask import Ask, Detail, Input
from sentinel.inference.dialect import Dialect
from sentinel.inference.sheet import Count, Produced, Reading
from sentinel.inference.usage import Usage, fit

THOUSAND: Final = 1000
DEFAULT_RATIO: Final = 300
"""Tokens for a thousand octets: a little more than the four characters a token that providers name for English."""
RATIO_MIN: Final = 50
RATIO_MAX: Final = 1000
"""No tokenizer makes more tokens than octets, but for the tokens that frame a message; those are apart."""
SLOWNESS: Final = 8
"""A settled request moves the ratio by an eighth of the difference: some twenty settle it."""
SAMPLE_OCTETS_MIN: Final = 200
"""Of less text what is wrapped round it weighs more than what is in it."""
LESSONS_MIN: Final = 3
KNOWN_MAX: Final = 256
WAITING_MAX: Final = 64
ERROR_MAX: Final = 1_000_000
"""A thousand times too much; what is more is told as that."""

PER_MESSAGE_TOKENS: Final = 3
PER_NAME_TOKENS: Final = 1
PRIMING_TOKENS: Final = 3
"""OpenAI documents for its chat models: three tokens a message, one for a name, three before the answer."""
IMAGE_TOKENS: Final[dict[Dialect, tuple[int, int]]] = {
    Dialect.OPENAI_CHAT: (85, 765), Dialect.OPENAI_RESPONSES: (85, 765), Dialect.ANTHROPIC_MESSAGES: (1600, 1600),
    Dialect.GEMINI_GENERATE: (258, 258), Dialect.OLLAMA_CHAT: (1024, 1024), Dialect.OLLAMA_GENERATE: (1024, 1024),
}  # fmt: skip
"""At low detail, and otherwise. Sizes of images are mostly unknown here, so these are flat: OpenAI's low detail and
its 1024 × 1024 (85 and four tiles of 170), the size to which Anthropic scales down (1,600), a Gemini tile (258)."""
AUDIO_TOKENS: Final = 1000
"""Flat: Gemini documents 32 tokens a second, so half a minute."""
FILE_TOKENS: Final = 2000
"""Flat: a page or two as text and as image."""

VOCABULARIES: Final[tuple[tuple[str, str], ...]] = (
    ("gpt-4o*", "o200k"), ("gpt-4.1*", "o200k"), ("gpt-4.5*", "o200k"), ("gpt-5*", "o200k"), ("gpt-oss*", "o200k"),
    ("chatgpt-4o*", "o200k"), ("o1*", "o200k"), ("o3*", "o200k"), ("o4*", "o200k"), ("ft:gpt-4o*", "o200k"),
    ("gpt-4*", "cl100k"), ("gpt-3.5*", "cl100k"), ("gpt-35*", "cl100k"), ("ft:gpt-3.5*", "cl100k"),
    ("text-embedding-3*", "cl100k"), ("text-embedding-ada-002", "cl100k"),
)  # fmt: skip
"""Which models have which of OpenAI's public vocabularies; the first that matches."""


@unique
class Method(Enum):
    COUNTED = "counted"
    LEARNT = "learnt"
    DEFAULT = "default"


@final
@dataclass(slots=True, init=False)
class Estimate:
    """`output_cap_tokens`: of all choices together, None if the client set no cap. `overhead_tokens`: of the input."""

    input_tokens: int
    output_cap_tokens: int | None
    method: Method
    text_octets: int
    overhead_tokens: int

    def __init__(
        self, input_tokens: int, output_cap_tokens: int | None, method: Method, text_octets: int, overhead_tokens: int,
    ) -> None:  # fmt: skip
        self.input_tokens = input_tokens
        self.output_cap_tokens = output_cap_tokens
        self.method = method
        self.text_octets = text_octets
        self.overhead_tokens = overhead_tokens


class Lesson(NamedTuple):
    """What a settled request taught. `error_thousandths`: 250 is a quarter too much, -250 a quarter too little."""

    model: str
    error_thousandths: int
    method: Method


@dataclass(frozen=True, slots=True)
class EstimatorStatistics:
    known_count: int
    waiting_count: int
    is_full: bool
    mean_ratio: int


class Estimator:
    """Estimates for one process. `counters`: by vocabulary; text that they cannot take is estimated instead."""

    def __init__(
        self, counters: Mapping[str, Count] | None = None, *,
        vocabularies: Sequence[tuple[str, str]] = VOCABULARIES,
    ) -> None:  # fmt: skip
        self._counters = counters or {}
        self._vocabularies = tuple([(Glob(glob), name) for glob, name in vocabularies]) if self._counters else ()
        self._ratios: dict[str, int] = {}
        self._waiting: dict[str, tuple[int, int]] = {}
        self._mean = DEFAULT_RATIO

    def counter(self, model: str) -> Count | None:
        """What counts a model's tokens exactly; a host's prefix such as `openai/` does not matter."""
        name = model.rpartition("/")[2]
        for glob, vocabulary in self._vocabularies:
            if glob.matches(name):
                return self._counters.get(vocabulary)
        return None

    @property
    def counts(self) -> bool:
        """Whether the text of any model is counted: that takes time, a millisecond for 20 KiB."""
        return bool(self._counters)

    def estimate(self, ask: Ask) -> Estimate:
        tokens, method, octets = self._text(ask.model, ask.input.texts)
        cap = None if ask.output_cap is None else ask.output_cap * ask.choices_count
        more = overhead(ask.dialect, ask.input)
        return Estimate(tokens + more, cap, method, octets, more)

    def _text(self, model: str, texts: Sequence[str]) -> tuple[int, Method, int]:
        joined = "".join(texts)
        octets = len(joined) if joined.isascii() else sum(map(octets_of, texts))
        if (count := self.counter(model)) is not None:
            return sum(count(scalar(text)) for text in texts), Method.COUNTED, octets
        ratio = self._ratios.get(model)
        tokens = -(-octets * (self._mean if ratio is None else ratio) // THOUSAND)
        return tokens, Method.DEFAULT if ratio is None else Method.LEARNT, octets

    def fallback(self, ask: Ask, reading: Reading) -> Usage:
        """Usage of an answer that did not report it, or only one side of it: the other is counted from the text.

        Where one side came only in part (Anthropic's first event), what was reported is the least it can be.
        """
        reported = reading.usage
        if reported is not None and reported.is_reported:
            return reported
        known = reported or fit()
        input_tokens = known.input_tokens if reading.is_input_reported else self.estimate(ask).input_tokens
        output = sum(self._produced(ask.model, one) for one in reading.produced)
        output = known.output_tokens if reading.is_output_reported else max(output, known.output_tokens)
        return fit(
            input_tokens=input_tokens, cached=known.cached_tokens, cache_write=known.cache_write_tokens,
            cache_write_long=known.cache_write_long_tokens, audio_input=known.audio_input_tokens,
            output=output, reasoning=known.reasoning_tokens, audio_output=known.audio_output_tokens,
        ).counted()  # fmt: skip

    def produced_tokens(self, model: str, reading: Reading) -> int:
        """What was produced so far, of all choices; what was reported of it meanwhile is the least."""
        reported = 0 if reading.usage is None else reading.usage.output_tokens
        return max(reported, sum(self._produced(model, one) for one in reading.produced))

    def _produced(self, model: str, produced: Produced) -> int:
        if produced.tokens is not None:
            return produced.tokens
        return -(-produced.octets * self._ratios.get(model, self._mean) // THOUSAND)

    def learn(self, ask: Ask, estimate: Estimate, usage: Usage) -> Lesson | None:
        """Learn from what an upstream reported; None when there is nothing to learn."""
        if not usage.is_reported or usage.input_tokens <= 0:
            return None
        if not ask.has_hidden_input and not _has_media(ask.input) and estimate.text_octets >= SAMPLE_OCTETS_MIN:
            text_tokens = max(usage.input_tokens - estimate.overhead_tokens, 0)
            self._mend(ask.model, min(max(text_tokens * THOUSAND // estimate.text_octets, RATIO_MIN), RATIO_MAX))
        error = (estimate.input_tokens - usage.input_tokens) * THOUSAND // usage.input_tokens
        return Lesson(ask.model, min(error, ERROR_MAX), estimate.method)

    def _mend(self, model: str, sample: int) -> None:
        self._mean = _moved(self._mean, sample)
        if model in self._ratios:
            self._ratios[model] = _moved(self._ratios[model], sample)
            return
        if len(self._ratios) >= KNOWN_MAX:
            return
        ratio, lessons = self._waiting.pop(model, (sample, 0))
        ratio, lessons = _moved(ratio, sample), lessons + 1
        if lessons >= LESSONS_MIN:
            self._ratios[model] = ratio
            return
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[model] = (ratio, lessons)

    def statistics(self) -> EstimatorStatistics:
        return EstimatorStatistics(
            len(self._ratios), len(self._waiting), len(self._ratios) >= KNOWN_MAX, self._mean
        )  # fmt: skip


def _moved(mean: int, sample: int) -> int:
    """An eighth of the way, rounded away from where it stands, so that it arrives."""
    step = sample - mean
    return mean + (step + SLOWNESS - 1) // SLOWNESS if step > 0 else mean - (-step + SLOWNESS - 1) // SLOWNESS


def overhead(dialect: Dialect, found: Input) -> int:
    """Tokens that are no text: what frames messages, images and other media, and tokens sent as numbers."""
    messages = found.messages_count
    framing = PER_MESSAGE_TOKENS * messages + PER_NAME_TOKENS * found.names_count + (PRIMING_TOKENS if messages else 0)
    if not _has_media(found):
        return found.token_ids_count + framing
    low, other = IMAGE_TOKENS.get(dialect, (0, 0))
    images = sum(low if detail is Detail.LOW else other for detail in found.images)
    return (
        found.token_ids_count + images + framing + AUDIO_TOKENS * found.audio_count + FILE_TOKENS * found.files_count
    )


def _has_media(found: Input) -> bool:
    return bool(found.images or found.audio_count or found.files_count)


def octets_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def scalar(text: str) -> str:
    """Text that can be encoded: JSON can say half a character, and tokenizers cannot take it."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
