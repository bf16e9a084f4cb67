"""What usage costs, by the price book (sentinel.core.prices), to the micro-unit.

Intuition: a receipt. Each line is rounded, and yet they add up to what is paid.

The total is the exact sum, rounded half up to a whole micro-unit, once. The parts are differences of the
rounded running sum: each is within a micro-unit of its exact amount, none is negative, and they add up to the
total. (Let r be the rounding and s the running sums: Σ (r(sᵢ) − r(sᵢ₋₁)) = r(sₙ) − r(0), and r is monotone.)
`exact`, in millionths of a micro-unit, is for those who add many.
"""

from __future__ import annotations

from dataclasses import dataclass

from sentinel.core.prices import MILLION, Rates
from sentinel.inference.usage import Usage


@dataclass(frozen=True, slots=True)
class Cost:
    """Micro-units of the book's currency. The parts add up to `total`."""

    input: int
    cached_input: int
    cache_write: int
    audio_input: int
    output: int
    reasoning: int
    audio_output: int
    total: int
    exact: int


def cost(usage: Usage, rates: Rates) -> Cost:
    """What usage costs."""
    short = usage.cache_write_tokens - usage.cache_write_long_tokens
    exact = 0
    parts: list[int] = []
    for amount in (
        usage.plain_input_tokens * rates.input,
        usage.cached_tokens * rates.cached_input,
        short * rates.cache_write + usage.cache_write_long_tokens * rates.cache_write_long,
        usage.audio_input_tokens * rates.audio_input,
        usage.plain_output_tokens * rates.output,
        usage.reasoning_tokens * rates.reasoning,
        usage.audio_output_tokens * rates.audio_output,
    ):
        before = _rounded(exact)
        exact += amount
        parts.append(_rounded(exact) - before)
    plain, cached, written, heard, said, thought, spoken = parts
    return Cost(plain, cached, written, heard, said, thought, spoken, _rounded(exact), exact)


def _rounded(exact: int) -> int:
    """Half up, of what is not negative."""
    return (exact + MILLION // 2) // MILLION
