"""The price book: what tokens cost, in whole numbers.

    {"currency": "USD", "prices": [
        {"models": ["small-*"], "from": "2026-01-01", "until": "2027-01-01",
         "input": 150000, "cached_input": 75000, "output": 600000}]}

Prices are micro-units of the currency for a million tokens: 150000 is 0.15 dollars.

Intuition: a tariff on the wall. The line that speaks of you most exactly is yours; the receipt adds up.

Rules:
1. Of all patterns that match a model and are valid at the date, the most specific holds: a name written out before any
   pattern, then the one with more characters that stand for themselves, then the one that stands first.
2. `from` is the first day, `until` the first day no more. A pattern may have several lines whose days do not
   overlap; overlapping ones are refused.
3. What has no price of its own costs what it is a part of: `cached_input`, `cache_write` and `audio_input` the
   input's, `cache_write_long` the cache write's, `reasoning` and `audio_output` the output's.
4. The total is the exact sum, rounded half up to a whole micro-unit, once. The parts are differences of the
   rounded running sum: each is within a micro-unit of its exact amount, none is negative, and they add up to the
   total. (Let r be the rounding and s the running sums: Σ (r(sᵢ) − r(sᵢ₋₁)) = r(sₙ) − r(0), and r is monotone.)
   `exact`, in millionths of a micro-unit, is for those who add many.
5. No price is not the price nought: `price` is None then, and somebody has to decide.

Dates are handed in, as `YYYY-MM-DD`, which sort as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sentinel.inference.globs import Glob
from sentinel.inference.usage import Usage

MILLION: Final = 1_000_000
PRICE_MAX: Final = 10**12
"""A million units for a million tokens; more is a slip of the pen."""
PRICES_MAX: Final = 10_000
PROBLEMS_MAX: Final = 100
PATTERN_CHARS_MAX: Final = 256
ALWAYS: Final = "0000-01-01"
NEVER: Final = "9999-12-31"
DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
FALLS_TO: Final = {
    "cached_input": "input", "cache_write": "input", "cache_write_long": "cache_write", "audio_input": "input",
    "reasoning": "output", "audio_output": "output",
}  # fmt: skip
KINDS: Final = ("input", "output", *FALLS_TO)
KNOWN: Final = frozenset({"models", "from", "until", "note", *KINDS})


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-units for a million tokens of each kind."""

    input: int
    output: int
    cached_input: int
    cache_write: int
    cache_write_long: int
    audio_input: int
    reasoning: int
    audio_output: int


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


@dataclass(frozen=True, slots=True)
class Price:
    """One line of the book: for whom, and from when until when."""

    glob: Glob
    first: str
    end: str
    rates: Rates


@dataclass(frozen=True, slots=True)
class PriceProblem:
    """What is wrong, and where: a JSON path such as `$.prices[3].input`."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Made by `read_prices`: the most specific price stands first."""

    currency: str
    prices: tuple[Price, ...]

    def price(self, model: str, date: str) -> Rates | None:
        """What holds for a model on a day; None if nothing does. Looks at every line: keep what it found."""
        for one in self.prices:
            if one.first <= date < one.end and one.glob.matches(model):
                return one.rates
        return None


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


def read_prices(text: str) -> tuple[PriceBook | None, tuple[PriceProblem, ...]]:
    """The book, or all that is wrong with it."""
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except _Repeated as fault:
        return None, (PriceProblem("$", f"the name `{fault}` is repeated in an object"),)
    except json.JSONDecodeError as fault:
        return None, (PriceProblem("$", f"line {fault.lineno}, column {fault.colno}: {fault.msg}"),)
    except (ValueError, RecursionError):
        return None, (PriceProblem("$", "this is not JSON"),)
    reader = _Reader([])
    book = reader.book(document)
    return (None if reader.problems else book), tuple(reader.problems[:PROBLEMS_MAX])


class _Repeated(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Repeated(name[:PATTERN_CHARS_MAX])
        found[name] = value
    return found


@dataclass(slots=True)
class _Reader:
    problems: list[PriceProblem]

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(PriceProblem(path, message))

    def book(self, document: Any) -> PriceBook | None:
        if not isinstance(document, dict):
            self.wrong("$", "an object with `currency` and `prices` is expected")
            return None
        for name in document.keys() - {"currency", "prices", "note"}:
            self.wrong(f"$.{name}", "is not known here; known are `currency`, `note` and `prices`")
        currency = document.get("currency")
        if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
            self.wrong("$.currency", "three capital letters are expected, such as `USD`")
            currency = ""
        entries = document.get("prices")
        if not isinstance(entries, list) or not 0 < len(entries) <= PRICES_MAX:
            self.wrong("$.prices", f"a list of 1 to {PRICES_MAX} prices is expected")
            return None
        placed = [
            (f"$.prices[{index}]", price) for index, entry in enumerate(entries)
            for price in self._prices(entry, f"$.prices[{index}]")
        ]  # fmt: skip
        self._overlaps(placed)
        prices = sorted((price for _, price in placed), key=lambda one: one.glob.rank, reverse=True)
        return PriceBook(currency, tuple(prices))  # the sort is stable, also in reverse: who stands first stays first

    def _prices(self, entry: Any, path: str) -> Iterator[Price]:
        if not isinstance(entry, dict):
            self.wrong(path, "an object is expected")
            return
        for name in sorted(entry.keys() - KNOWN):
            self.wrong(f"{path}.{name}", f"is not known here; known are {', '.join(sorted(KNOWN))}")
        first, end = self._date(entry, "from", ALWAYS, path), self._date(entry, "until", NEVER, path)
        if first >= end:
            self.wrong(f"{path}.until", "is not after `from`, so the price holds on no day")
        rates = self._rates(entry, path)
        models = entry.get("models")
        if not isinstance(models, list) or not models:
            self.wrong(f"{path}.models", "a list of names or patterns is expected")
            return
        for index, model in enumerate(models):
            if not isinstance(model, str) or not 0 < len(model) <= PATTERN_CHARS_MAX:
                self.wrong(f"{path}.models[{index}]", f"a name of 1 to {PATTERN_CHARS_MAX} characters is expected")
            elif "**" in model:
                self.wrong(f"{path}.models[{index}]", "two wildcards side by side say no more than one")
            else:
                yield Price(Glob(model), first, end, rates)

    def _date(self, entry: dict[str, Any], name: str, absent: str, path: str) -> str:
        value = entry.get(name, absent)
        if isinstance(value, str) and is_date(value):
            return value
        self.wrong(f"{path}.{name}", "a day is expected, such as `2026-01-31`")
        return absent

    def _rates(self, entry: dict[str, Any], path: str) -> Rates:
        found: dict[str, int] = {}
        for name in KINDS:
            if name not in entry and name in FALLS_TO:
                found[name] = found[FALLS_TO[name]]
                continue
            value = entry.get(name)
            is_right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= PRICE_MAX
            if not is_right:
                self.wrong(f"{path}.{name}", f"micro-units for a million tokens are expected: 0 to {PRICE_MAX}")
            found[name] = value if is_right and isinstance(value, int) else 0
        return Rates(**found)

    def _overlaps(self, placed: list[tuple[str, Price]]) -> None:
        """Two lines for one pattern on one day: nobody could say which of them holds."""
        by_pattern: dict[str, list[tuple[str, str, str]]] = {}
        for path, price in placed:
            by_pattern.setdefault(price.glob.pattern, []).append((price.first, price.end, path))
        for pattern, spans in by_pattern.items():
            spans.sort()
            for (_, end, earlier), (first, _, later) in pairwise(spans):
                if first < end:
                    self.wrong(later, f"`{pattern}` has a price on the same days at {earlier}")


def is_date(text: str) -> bool:
    """Whether this is a day of the calendar."""
    if not DATE.fullmatch(text):
        return False
    year, month, day = (int(part) for part in text.split("-"))
    if not 1 <= month <= 12:
        return False
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= DAYS[month - 1] + (month == 2 and is_leap)
