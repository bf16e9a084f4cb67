"""The durable ledger: what must outlive a reboot, written by control alone, in a file or in a PostgreSQL database.

Intuition: the standing orders in the porter's book. Shared memory is what everybody knows while the house is
open; the book is what is read out when it opens again after a power cut.

It holds what operators said of endpoints and breakers, entry after entry; the last one of a name stands. And what was
spent of budgets, a row for each window (sentinel.core.budgets), as shared memory had it last.

    home: "/var/lib/sentinel" -> ledger_file.FileBook      "postgresql://..." -> ledger_postgresql.DatabaseBook

Rule 1: an entry is durable before the operator is answered. When the book does not take it, the change stands in
    shared memory, and the answer tells that a reboot would undo it.
Rule 2: entries are read for a place that shared memory does not know yet, and for no other: what the
    fleet knows is newer than any book.
Rule 3: one instance has a book at a time: two that share one would give each other orders.
Rule 4: what was spent is written now and then (supervisor.control.bookkeeping), all that changed in one transaction.
    The number of shared memory stands, whatever the row had: only a fresh region is told what the rows have.
Rule 5: rows of windows that are over are kept for as long as people ask for them (SPENT_KEPT_S), and no more than
    SPENT_MAX of them; those of windows that are open are never pruned.
Rule 6: questions are answered here, in one way for all books: a book gives rows.

Rejected: to replay the audit log. It is for people, is moved away by them, and grows without bound.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sentinel.core.plan import System
from supervisor.control.book import Book, LedgerFault, Spent
from supervisor.control.ledger_file import FileBook

DATABASES: Final = ("postgresql://", "postgres://")
"""How a home begins that is a database and no directory."""
PRUNED_EVERY_S: Final = 600.0
UNKNOWN_PART: Final = "(in a hashed key)"
ASKED: Final = """
CREATE TABLE asked (key TEXT, settled INTEGER, requests INTEGER, start_s INTEGER, until_s INTEGER) STRICT
"""
ASK: Final = "INSERT INTO asked VALUES (?, ?, ?, ?, ?)"
# Without its second member (when it begins) a key is the same for all windows of a budget's key.
USAGE: Final = """
SELECT {tenant} AS tenant, sum(settled), sum(requests), count(*), min(start_s), max(until_s), count(*) OVER () AS rows
FROM asked WHERE tenant IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?
"""
# Budgets of money are called by their currency too (core.budgets.unit_name): sums are of one unit.
TOTALS: Final = """
SELECT CASE instr(title, ' ') WHEN 0 THEN '' ELSE substr(title, instr(title, ' ') + 1) END AS unit, sum(settled),
    sum(requests) FROM (SELECT json_extract(key, '$[0]') AS title, * FROM asked WHERE {tenant} IS NOT NULL) GROUP BY 1
"""
TENANTS: Final = {"budget": "json_array(json_extract(key, '$[0]'))", "key": "json_remove(key, '$[1]')",
                  "model": "parts_of(key)", "tenant": "parts_of(key)", "tenant,model": "parts_of(key)"}  # fmt: skip


class Usage(NamedTuple):
    """What was spent by somebody, in so many windows: `tenant` is the budget as keys name it, and their parts."""

    tenant: str
    settled: int
    requests: int
    windows: int
    start_s: int
    until_s: int


class Report(NamedTuple):
    """The largest users, and what all of them come to: of each currency ("": tokens) what was settled, and requests."""

    rows: list[Usage]
    users: int
    totals: dict[str, tuple[int, int]]


def home_of(system: System) -> str:
    """Where an instance keeps its ledger: a database, a directory, or nowhere ("")."""
    return system.ledger or system.state_dir


class Ledger:
    """The ledger of one instance. Blocks: called in threads of control, one at a time.

    `home` is where it is (`home_of`); with another one than before, the former is let go of. Without one there is no
    ledger, and nothing to do.
    """

    def __init__(self) -> None:
        self._home = ""
        self._book: Book | None = None
        self._lock = threading.Lock()
        self._pruned_s = float("-inf")

    def has(self, home: str) -> bool:
        """Whether it was used there, and no fault of its own is to be expected."""
        return not home or (self._book is not None and home == self._home)

    def note(self, home: str, who: str, subject: str, name: str, word: str) -> str:
        """Write an entry; "" or why that failed."""
        if not home:
            return ""
        try:
            with self._lock:
                self._use(home).note(who, subject, name, word)
        except LedgerFault as fault:
            return f"a reboot would undo it: {fault}"
        return ""

    def standing(self, home: str, subject: str, names: Sequence[str]) -> dict[str, str]:
        """The words that stand for these names; raises LedgerFault when the ledger cannot be used."""
        if not home:
            return {}
        wanted = set(names)
        with self._lock:
            return {name: word for name, word in self._use(home).standing(subject).items() if name in wanted}

    def spend(self, home: str, windows: Iterable[Spent], now_s: float) -> None:
        """Write these windows, all or none; raises LedgerFault when the book does not take them."""
        with self._lock:
            book = self._use(home)
            book.spend(windows, int(now_s))
            if time.monotonic() - self._pruned_s > PRUNED_EVERY_S:
                book.prune(int(now_s))
                self._pruned_s = time.monotonic()

    def open_windows(self, home: str, now_s: float, most: int) -> list[Spent]:
        """What was spent in windows that are still open, those first that have most; raises LedgerFault."""
        if not home:
            return []
        with self._lock:
            return self._use(home).open_windows(int(now_s), most)

    def usage(
        self, home: str, windows: Iterable[Spent], *, by: str, since_s: int, name: str, most: int,
        parts: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Report:  # fmt: skip
        """Who spent most in windows that end after `since_s`, by `windows` and the ledger; raises LedgerFault.

        windows: what shared memory has, which is newer. parts: of each budget whose keys have the model or the tenant
        (or both) that is asked for, which of their parts these are.
        """
        lately = {one.key: one for one in windows}
        tenant = TENANTS[by]
        with contextlib.closing(sqlite3.connect(":memory:")) as sums:
            sums.create_function("parts_of", 1, _parts_of(parts or {}), deterministic=True)
            sums.execute(ASKED)
            sums.executemany(ASK, _asked(lately.values(), since_s, name))
            if home:
                with self._lock:
                    older = (one for one in self._use(home).windows(since_s, name) if one.key not in lately)
                    sums.executemany(ASK, _asked(older, since_s, name))
            rows = sums.execute(USAGE.format(tenant=tenant), (most,)).fetchall()
            totals = sums.execute(TOTALS.format(tenant=tenant)).fetchall()
        users = rows[0][6] if rows else 0
        return Report([Usage(*row[:6]) for row in rows], users, {unit: (spent, count) for unit, spent, count in totals})

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _use(self, home: str) -> Book:
        """The book that is there, opened if it is not yet."""
        if self._book is None or home != self._home:
            self._let_go()
            self._pruned_s = float("-inf")
            self._book, self._home = _opened(home), home
        return self._book

    def _let_go(self) -> None:
        book, self._book = self._book, None
        if book is not None:
            book.close()


def _opened(home: str) -> Book:
    if not home.startswith(DATABASES):
        return FileBook(home)
    # Imported when wanted: few have a database, and it needs a package that is not installed with us.
    from supervisor.control.ledger_postgresql import DatabaseBook

    return DatabaseBook(home)


def _asked(windows: Iterable[Spent], since_s: int, name: str) -> Iterator[tuple[str, int, int, int, int]]:
    for one in windows:
        if one.until_s > since_s and name in ("", one.name):
            yield one.key, one.settled, one.requests, one.start_s, one.until_s


def _parts_of(parts_at: Mapping[str, tuple[int, ...]]) -> Callable[[str], str | None]:
    """Makes of a window's key the budget and some of its parts; None where its keys do not have them."""

    def parts_of(key: str) -> str | None:
        title, _, *parts = json.loads(key)
        wanted = parts_at.get(title.partition(" ")[0])
        if wanted is None:
            return None
        found = [parts[at] if at < len(parts) else UNKNOWN_PART for at in wanted]
        return json.dumps([title, *found], ensure_ascii=False)

    return parts_of
