"""The price book: what tokens cost, in whole numbers.

    {"currency": "USD", "prices": [
        {"models": ["small-*"], "from": "2026-01-01", "until": "2027-01-01",
         "input": 150000, "cached_input": 75000, "output": 600000}]}

Prices are micro-units of the currency for a million tokens: 150000 is 0.15 dollars.

Intuition: a tariff on the wall. The line that speaks of you most exactly is yours; the receipt adds up.

A configuration has it as `prices`: line by line, or in a file of this form, or both.

Rules:
1. Of all patterns that match a model and are valid at the date, the most specific holds: a name written out before any
   pattern, then the one with more characters that stand for themselves, then the one that stands first.
2. `from` is the first day, `until` the first day no more. A pattern may have several lines whose days do not
   overlap; overlapping ones are refused.
3. What has no price of its own costs what it is a part of: `cached_input`, `cache_write` and `audio_input` the
   input's, `cache_write_long` the cache write's, `reasoning` and `audio_output` the output's.
4. What a request may cost at most is computed with the dearest of the prices of its model (`at_most`): whether a
   token will come from a cache, or is written to one, nobody knows before. So what it does cost is never more, as
   long as it takes no more tokens than it may.
5. No price is not the price nought: `price` is None then, and somebody has to decide.
6. The version of a book is a hash of its prices: whoever changes one cannot forget to count it up.

What usage costs is sentinel.inference.prices'.

Dates are handed in, as `YYYY-MM-DD`, which sort as text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any, Final

from sentinel.core.budgets import civil
from sentinel.core.globs import Glob
from sentinel.core.span import NOWHERE, Span

MILLION: Final = 1_000_000
PRICE_MAX: Final = 10**12
"""A million units for a million tokens; more is a slip of the pen."""
PRICES_MAX: Final = 10_000
PROBLEMS_MAX: Final = 100
PATTERN_CHARS_MAX: Final = 256
ALWAYS: Final = "0000-01-01"
NEVER: Final = "9999-12-31"
VERSION_BYTES: Final = 6
DAY_S: Final = 86_400
CURRENCY: Final = re.compile("[A-Z]{3}")
MONEY: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,6}))?", re.ASCII)
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

    @property
    def dearest(self) -> tuple[int, int]:
        """Of input, and of output."""
        read = self.input, self.cached_input, self.cache_write, self.cache_write_long, self.audio_input
        return max(read), max(self.output, self.reasoning, self.audio_output)

    def at_most(self, input_tokens: int, output_tokens: int) -> int:
        """Micro-units that so many tokens cost at most, rounded up."""
        read, made = self.dearest
        return -(-(input_tokens * read + output_tokens * made) // MILLION)


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
    """Made by `read_prices` or `book_of`: the most specific price stands first."""

    currency: str
    prices: tuple[Price, ...]
    version: str = ""
    span: Span = NOWHERE

    def price(self, model: str, date: str) -> Rates | None:
        """What holds for a model on a day; None if nothing does. Looks at every line: keep what it found."""
        for one in self.prices:
            if one.first <= date < one.end and one.glob.matches(model):
                return one.rates
        return None


Entries = list[tuple[str, Any]]
"""Prices as they are written, and where each stands."""


def read_prices(text: str) -> tuple[PriceBook | None, tuple[PriceProblem, ...]]:
    """The book, or all that is wrong with it."""
    currency, entries, problems = read_entries(text)
    if problems and not entries:
        return None, problems
    book, others = book_of(currency, entries)
    problems = (*problems, *others)[:PROBLEMS_MAX]
    return (None if problems else book), problems


def read_entries(text: str) -> tuple[str, Entries, tuple[PriceProblem, ...]]:
    """What a file says: the currency, prices which are yet to be looked at, and what is wrong with its frame."""
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except _Repeated as fault:
        return "", [], (PriceProblem("$", f"the name `{fault}` is repeated in an object"),)
    except json.JSONDecodeError as fault:
        return "", [], (PriceProblem("$", f"line {fault.lineno}, column {fault.colno}: {fault.msg}"),)
    except (ValueError, RecursionError):
        return "", [], (PriceProblem("$", "this is not JSON"),)
    reader = _Reader([])
    currency, entries = reader.frame(document)
    return currency, entries, tuple(reader.problems[:PROBLEMS_MAX])


def book_of(currency: str, entries: Entries, span: Span = NOWHERE) -> tuple[PriceBook, tuple[PriceProblem, ...]]:
    """The book of these prices; it means something only if nothing is wrong with them."""
    reader = _Reader([])
    prices = reader.prices(entries)
    octets = json.dumps([currency, [astuple(one) for one in prices]]).encode()
    version = hashlib.blake2b(octets, digest_size=VERSION_BYTES).hexdigest()
    return PriceBook(currency, prices, version, span), tuple(reader.problems[:PROBLEMS_MAX])


def date_of(now_s: int) -> str:
    """The day (in UTC) of a moment, as dates are written here."""
    year, month, day = civil(now_s // DAY_S)
    return f"{year:04}-{month:02}-{day:02}"


def money(amount: int) -> str:
    """Micro-units as people write money: with two decimals at least, and as many as it needs."""
    sign, amount = "-" * (amount < 0), abs(amount)
    whole, part = divmod(amount, MILLION)
    decimals = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def read_money(text: str) -> int | None:
    """Micro-units of an amount such as `25`, `25.00` or `0.000075`; None for what is none."""
    found = MONEY.fullmatch(text)
    return None if found is None else int(found[1]) * MILLION + int((found[2] or "").ljust(6, "0"))


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

    def frame(self, document: Any) -> tuple[str, Entries]:
        if not isinstance(document, dict):
            self.wrong("$", "an object with `currency` and `prices` is expected")
            return "", []
        for name in document.keys() - {"currency", "prices", "note"}:
            self.wrong(f"$.{name}", "is not known here; known are `currency`, `note` and `prices`")
        currency = document.get("currency")
        if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
            self.wrong("$.currency", "three capital letters are expected, such as `USD`")
            currency = ""
        entries = document.get("prices")
        if not isinstance(entries, list) or not 0 < len(entries) <= PRICES_MAX:
            self.wrong("$.prices", f"a list of 1 to {PRICES_MAX} prices is expected")
            return currency, []
        return currency, [(f"$.prices[{index}]", entry) for index, entry in enumerate(entries)]

    def prices(self, entries: Sequence[tuple[str, Any]]) -> tuple[Price, ...]:
        placed = [(path, price) for path, entry in entries for price in self._prices(entry, path)]
        self._overlaps(placed)
        # The sort is stable, also in reverse: who stands first stays first.
        return tuple(sorted((price for _, price in placed), key=lambda one: one.glob.rank, reverse=True))

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
