"""What models cost today: the price book of a worker's plan, with what was looked up already.

Intuition: the shop assistant knows today's prices by heart, and forgets them at midnight.

A look into the book goes through all its lines, so what was found is remembered, for a day and for a bounded
number of names: clients may invent names. What was found when a request was appraised holds for its whole exchange.
"""

from __future__ import annotations

from time import time
from typing import Final

from sentinel.core.prices import DAY_S, PriceBook, Rates, date_of

KNOWN_MAX: Final = 4096


class Prices:
    """Prices of today, for one worker. Without a book nothing has one."""

    __slots__ = ("_book", "_day", "_known")

    def __init__(self, book: PriceBook | None) -> None:
        self._book = book
        self._day = -1
        self._known: dict[str, Rates | None] = {}

    @property
    def book(self) -> PriceBook | None:
        return self._book

    def rates(self, model: str) -> Rates | None:
        """What holds for a model now; None: it has no price."""
        if self._book is None:
            return None
        day = int(time()) // DAY_S
        if day != self._day or len(self._known) >= KNOWN_MAX:
            self._day, self._known = day, {}
        if model not in self._known:
            self._known[model] = self._book.price(model, date_of(day * DAY_S))
        return self._known[model]
