"""The durable ledger: what must outlive a reboot, in one SQLite file in the `state-dir`, written by control alone.

Intuition: the standing orders in the porter's book. Shared memory is what everybody knows while the house is
open; the book is what is read out when it opens again after a power cut.

It holds what operators said of endpoints and breakers, entry after entry; the last one of a name stands. And what was
spent of budgets, a row for each window (sentinel.core.budgets), as shared memory had it last.

Rule 1: an entry is on the disk (WAL, synchronous FULL) before the operator is answered. When the disk does not
    take it, the change stands in shared memory, and the answer tells that a reboot would undo it.
Rule 2: entries are read for a place that shared memory does not know yet, and for no other: what the
    fleet knows is newer than any book.
Rule 3: a file that is damaged is put aside under another name, which is told, and a new one is begun: a power
    cut that spoiled the book must not keep the house shut. It is never repaired by guessing.
Rule 4: one instance has it at a time (flock): two that share a `state-dir` would give each other orders.
Rule 5: what was spent is written now and then (supervisor.control.bookkeeping), all that changed in one transaction.
    The number of shared memory stands, whatever the row had: only a fresh region is told what the rows have.
Rule 6: rows of windows that are over are kept for as long as people ask for them (SPENT_KEPT_S), and no more than
    SPENT_MAX of them; those of windows that are open are never pruned.

Rejected: to replay the audit log. It is for people, is moved away by them, and grows without bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

FILE: Final = "ledger.db"
APPLICATION: Final = 0x53454E54
VERSION: Final = 2
READABLE: Final = ((0, 0), (APPLICATION, 1), (APPLICATION, VERSION))
"""A new file; one without what was spent, which is added; and ours."""
ENTRIES_KEPT: Final = 10_000
"""Of what no longer stands; a caller that changes a word each second must not fill the disk."""
SPENT_KEPT_S: Final = 35 * 86_400
"""Five weeks after its end: last month can be looked at until this one is well under way."""
SPENT_MAX: Final = 500_000
"""Rows of windows that are over: 100 MB, in which a thousand keys have each hour of three weeks."""
PRUNED_EVERY_S: Final = 600.0
UNKNOWN_MODEL: Final = "(in a hashed key)"
BUSY_S: Final = 2.0
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS words (
    id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, who TEXT NOT NULL,
    subject TEXT NOT NULL, name TEXT NOT NULL, word TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS words_by_name ON words (subject, name, id);
CREATE TABLE IF NOT EXISTS spent (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, start_s INTEGER NOT NULL, until_s INTEGER NOT NULL,
    settled INTEGER NOT NULL, requests INTEGER NOT NULL, changed_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spent_by_end ON spent (until_s);
"""
STANDING: Final = "SELECT name, word FROM words WHERE id IN (SELECT max(id) FROM words WHERE subject = ? GROUP BY name)"
PRUNE: Final = """
DELETE FROM words WHERE id <= (SELECT max(id) FROM words) - ?
    AND id NOT IN (SELECT max(id) FROM words GROUP BY subject, name)
"""
# The end of a window stays as it was first told: it is computed from clocks, and people look for it.
SPEND: Final = """
INSERT INTO spent (key, name, start_s, until_s, settled, requests, changed_s) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET settled = excluded.settled, requests = excluded.requests,
        changed_s = excluded.changed_s
"""
OPEN: Final = """
SELECT key, name, start_s, until_s, settled, requests FROM spent WHERE until_s > ? ORDER BY settled DESC LIMIT ?
"""
FORGET: Final = "DELETE FROM spent WHERE until_s < ?"
PRUNE_SPENT: Final = """
DELETE FROM spent WHERE key IN (
    SELECT key FROM spent WHERE until_s < ? ORDER BY until_s
    LIMIT max(0, (SELECT count(*) FROM spent WHERE until_s < ?) - ?)
)
"""
LATELY: Final = """
CREATE TEMP TABLE IF NOT EXISTS lately (
    key TEXT PRIMARY KEY, name TEXT, start_s INTEGER, until_s INTEGER, settled INTEGER, requests INTEGER,
    changed_s INTEGER
);
DELETE FROM lately;
"""
# Without its second member (when it begins) a key is the same for all windows of a budget's key.
USAGE: Final = """
SELECT {tenant} AS tenant, sum(settled), sum(requests), count(*), min(start_s), max(until_s), count(*) OVER () AS rows
FROM asked WHERE tenant IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?
"""
ASKED: Final = """
CREATE TEMP TABLE IF NOT EXISTS asked (key TEXT, settled INTEGER, requests INTEGER, start_s INTEGER, until_s INTEGER);
"""
ASK: Final = """
INSERT INTO asked SELECT key, settled, requests, start_s, until_s FROM (
    SELECT * FROM lately UNION ALL SELECT * FROM spent WHERE key NOT IN (SELECT key FROM lately)
) WHERE until_s > ?1 AND (?2 = '' OR name = ?2)
"""
# Budgets of money are called by their currency too (core.budgets.unit_name): sums are of one unit.
TOTALS: Final = """
SELECT CASE instr(title, ' ') WHEN 0 THEN '' ELSE substr(title, instr(title, ' ') + 1) END AS unit, sum(settled),
    sum(requests) FROM (SELECT json_extract(key, '$[0]') AS title, * FROM asked WHERE {tenant} IS NOT NULL) GROUP BY 1
"""
TENANTS: Final = {"budget": "json_array(json_extract(key, '$[0]'))", "key": "json_remove(key, '$[1]')",
                  "model": "model_of(key)"}  # fmt: skip


class Spent(NamedTuple):
    """What was spent in one window. `key` is as sentinel.core.budgets writes it, and `name` the budget's."""

    key: str
    name: str
    start_s: int
    until_s: int
    settled: int
    requests: int


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


class LedgerFault(Exception):
    """The ledger cannot be used; the text says why, and which file it is."""


class Ledger:
    """The book of one instance. Blocks: called in threads of control, one at a time."""

    def __init__(self) -> None:
        self._directory = ""
        self._database: sqlite3.Connection | None = None
        self._hold = -1
        self._lock = threading.Lock()
        self._pruned_s = float("-inf")

    def note(self, directory: str, who: str, subject: str, name: str, word: str) -> str:
        """Write an entry; "" or why that failed. Without a directory there is no ledger, and nothing to do."""
        if not directory:
            return ""
        try:
            with self._lock, self._use(directory) as database:
                database.execute(
                    "INSERT INTO words (time_ns, who, subject, name, word) VALUES (?, ?, ?, ?, ?)",
                    (time.time_ns(), who, subject, name, word),
                )
                database.execute(PRUNE, (ENTRIES_KEPT,))
        except (LedgerFault, sqlite3.Error) as fault:
            return f"a reboot would undo it: it is not in {Path(directory) / FILE}: {fault}"
        return ""

    def standing(self, directory: str, subject: str, names: Sequence[str]) -> dict[str, str]:
        """The words that stand for these names; raises LedgerFault when the ledger cannot be used."""
        if not directory:
            return {}
        wanted = set(names)
        try:
            with self._lock, self._use(directory) as database:
                return {name: word for name, word in database.execute(STANDING, (subject,)) if name in wanted}
        except sqlite3.Error as fault:
            raise LedgerFault(f"{Path(directory) / FILE}: {fault}") from None

    def spend(self, directory: str, windows: Iterable[Spent], now_s: float) -> None:
        """Write these windows, all or none; raises LedgerFault when the disk does not take them."""
        try:
            with self._lock, self._use(directory) as database:
                database.executemany(SPEND, [(*one, int(now_s)) for one in windows])
                if time.monotonic() - self._pruned_s > PRUNED_EVERY_S:
                    database.execute(FORGET, (int(now_s) - SPENT_KEPT_S,))
                    database.execute(PRUNE_SPENT, (int(now_s), int(now_s), SPENT_MAX))
                    self._pruned_s = time.monotonic()
        except sqlite3.Error as fault:
            raise LedgerFault(f"{Path(directory) / FILE}: {fault}") from None

    def open_windows(self, directory: str, now_s: float, most: int) -> list[Spent]:
        """What was spent in windows that are still open, those first that have most; raises LedgerFault."""
        if not directory:
            return []
        try:
            with self._lock, self._use(directory) as database:
                return [Spent(*row) for row in database.execute(OPEN, (int(now_s), most))]
        except sqlite3.Error as fault:
            raise LedgerFault(f"{Path(directory) / FILE}: {fault}") from None

    def usage(
        self, directory: str, windows: Iterable[Spent], *, by: str, since_s: int, name: str, most: int,
        models: Mapping[str, int] | None = None,
    ) -> Report:  # fmt: skip
        """Who spent most in windows that end after `since_s`, by `windows` and the ledger; raises LedgerFault.

        models: of each budget whose keys have one, which of their parts the model is.
        """
        tenant = TENANTS[by]
        try:
            with self._lock, contextlib.ExitStack() as stack:
                database = self._use(directory) if directory else stack.enter_context(contextlib.closing(_nothing()))
                database.create_function("model_of", 1, _models_of(models or {}), deterministic=True)
                database.executescript(LATELY + ASKED)
                database.executemany("INSERT INTO lately VALUES (?, ?, ?, ?, ?, ?, 0)", windows)
                database.execute(ASK, (since_s, name))
                rows = database.execute(USAGE.format(tenant=tenant), (most,)).fetchall()
                totals = database.execute(TOTALS.format(tenant=tenant)).fetchall()
                database.execute("DELETE FROM lately")
                database.execute("DELETE FROM asked")
                database.commit()
        except sqlite3.Error as fault:
            raise LedgerFault(f"{Path(directory) / FILE}: {fault}") from None
        users = rows[0][6] if rows else 0
        return Report([Usage(*row[:6]) for row in rows], users, {unit: (spent, count) for unit, spent, count in totals})

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _use(self, directory: str) -> sqlite3.Connection:
        """The database of this directory, opened if it is not yet."""
        if self._database is None or directory != self._directory:
            self._let_go()
            self._pruned_s = float("-inf")
            self._hold = _held(directory)
            self._directory = directory
            self._database = _opened(Path(directory) / FILE)
        return self._database

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()
        hold, self._hold = self._hold, -1
        if hold >= 0:
            os.close(hold)


def _held(directory: str) -> int:
    """Make the directory if need be, and take it for this process and as long as it lives."""
    try:
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        hold = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise LedgerFault(f"{directory} cannot be used: {fault.strerror}") from None
    try:
        fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(hold)
        raise LedgerFault(f"{directory} is in use by another instance") from None
    return hold


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _checked(path)
    except sqlite3.OperationalError as fault:  # no rights, no room: the file itself may be sound
        raise LedgerFault(f"{path} cannot be used: {fault}") from None
    except sqlite3.DatabaseError as fault:
        aside = path.with_name(f"{FILE}.damaged-{time.time_ns()}")
        try:
            os.replace(path, aside)
            for rest in ("-wal", "-shm"):
                Path(f"{path}{rest}").unlink(missing_ok=True)
        except OSError as why:
            raise LedgerFault(f"{path} is damaged ({fault}), and cannot be put aside: {why.strerror}") from None
        words = f"{path} is damaged ({fault}): it is now {aside}, and a new one is begun"
        print(f"sentinel control: {words}", file=sys.stderr, flush=True)
    try:
        return _checked(path)
    except sqlite3.Error as fault:
        raise LedgerFault(f"{path} cannot be made: {fault}") from None


def _checked(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # before SQLite makes it for all to read
    except OSError as fault:
        raise LedgerFault(f"{path} cannot be used: {fault.strerror}") from None
    database = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if (application, version) not in READABLE:
            raise LedgerFault(f"{path} was written by another program, or by a later release")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA temp_store = MEMORY")
        database.executescript(f"{SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};")
    except BaseException:
        database.close()
        raise
    return database


def _models_of(models: Mapping[str, int]) -> Callable[[str], str | None]:
    """Makes of a window's key the budget and the model; None where its keys have none."""

    def model_of(key: str) -> str | None:
        title, _, *parts = json.loads(key)
        at = models.get(title.partition(" ")[0], -1)
        if at < 0:
            return None
        return json.dumps([title, parts[at] if at < len(parts) else UNKNOWN_MODEL], ensure_ascii=False)

    return model_of


def _nothing() -> sqlite3.Connection:
    """An empty ledger in memory: where there is none on a disk, shared memory is all that is known."""
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA)
    return database
