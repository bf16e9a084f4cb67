"""What a ledger is written into: rows of what operators said and of what was spent, and how many of them are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

ENTRIES_KEPT: Final = 10_000
"""Of what no longer stands; a caller that changes a word each second must not fill the disk."""
SPENT_KEPT_S: Final = 35 * 86_400
"""Five weeks after its end: last month can be looked at until this one is well under way."""
SPENT_MAX: Final = 500_000
"""Rows of windows that are over: 100 MB, in which a thousand keys have each hour of three weeks."""


class Spent(NamedTuple):
    """What was spent in one window. `key` is as sentinel.core.budgets writes it, and `name` the budget's."""

    key: str
    name: str
    start_s: int
    until_s: int
    settled: int
    requests: int


class LedgerFault(Exception):
    """The ledger cannot be used; the text says why, and which one it is, without a password."""


class Book(Protocol):
    """Where a ledger is written. Everything blocks, is called by one thread at a time, and raises LedgerFault."""

    def note(self, who: str, subject: str, name: str, word: str) -> None:
        """Write an entry: when this returns it is durable."""

    def standing(self, subject: str) -> dict[str, str]:
        """The last word of each name."""

    def spend(self, windows: Iterable[Spent], now_s: int) -> None:
        """Write these windows over what is there of them, all or none."""

    def prune(self, now_s: int) -> None:
        """Forget windows by Rule 5."""

    def open_windows(self, now_s: int, most: int) -> list[Spent]:
        """Windows that end later, those first in which most was spent."""

    def windows(self, since_s: int, name: str) -> Iterator[Spent]:
        """Windows of this budget ("": of all) that end later."""

    def close(self) -> None:
        """Let go of it, so that another instance may have it."""
