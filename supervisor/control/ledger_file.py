"""The ledger in one SQLite file in the `state-dir`: what an instance has that needs nobody else.

Rule 1: WAL with synchronous FULL: an entry is on the disk when `note` returns.
Rule 2: a file that is damaged is put aside under another name, which is told, and a new one is begun: a power
    cut that spoiled the book must not keep the house shut. It is never repaired by guessing.
Rule 3: the directory is locked (flock) for as long as the process lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from supervisor.control import book
from supervisor.control.book import LedgerFault, Spent

FILE: Final = "ledger.db"
APPLICATION: Final = 0x53454E54
VERSION: Final = 2
READABLE: Final = ((0, 0), (APPLICATION, 1), (APPLICATION, VERSION))
"""A new file; one without what was spent, which is added; and ours."""
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
NOTE: Final = "INSERT INTO words (time_ns, who, subject, name, word) VALUES (?, ?, ?, ?, ?)"
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
WINDOWS: Final = """
SELECT key, name, start_s, until_s, settled, requests FROM spent WHERE until_s > ?1 AND (?2 = '' OR name = ?2)
"""
FORGET: Final = "DELETE FROM spent WHERE until_s < ?"
PRUNE_SPENT: Final = """
DELETE FROM spent WHERE key IN (
    SELECT key FROM spent WHERE until_s < ? ORDER BY until_s
    LIMIT max(0, (SELECT count(*) FROM spent WHERE until_s < ?) - ?)
)
"""


class FileBook:
    """A Book in the file of this directory, which is made if need be; raises LedgerFault."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / FILE
        self._hold = _held(directory)
        try:
            self._database = _opened(self._path)
        except BaseException:
            os.close(self._hold)
            raise

    def note(self, who: str, subject: str, name: str, word: str) -> None:
        with self._written() as database:
            database.execute(NOTE, (time.time_ns(), who, subject, name, word))
            database.execute(PRUNE, (book.ENTRIES_KEPT,))

    def standing(self, subject: str) -> dict[str, str]:
        with self._written() as database:
            return dict(database.execute(STANDING, (subject,)).fetchall())

    def spend(self, windows: Iterable[Spent], now_s: int) -> None:
        with self._written() as database:
            database.executemany(SPEND, [(*one, now_s) for one in windows])

    def prune(self, now_s: int) -> None:
        with self._written() as database:
            database.execute(FORGET, (now_s - book.SPENT_KEPT_S,))
            database.execute(PRUNE_SPENT, (now_s, now_s, book.SPENT_MAX))

    def open_windows(self, now_s: int, most: int) -> list[Spent]:
        with self._written() as database:
            return [Spent(*row) for row in database.execute(OPEN, (now_s, most))]

    def windows(self, since_s: int, name: str) -> Iterator[Spent]:
        with self._written() as database:
            for row in database.execute(WINDOWS, (since_s, name)):
                yield Spent(*row)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        os.close(self._hold)

    @contextlib.contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """A transaction, whose faults are ours."""
        try:
            with self._database as database:
                yield database
        except sqlite3.Error as fault:
            raise LedgerFault(f"{self._path}: {fault}") from None


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
