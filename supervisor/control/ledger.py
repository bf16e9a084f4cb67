"""The durable ledger: what must outlive a reboot, in one SQLite file in the `state-dir`, written by control alone.

Intuition: the standing orders in the porter's book. Shared memory is what everybody knows while the house is
open; the book is what is read out when it opens again after a power cut.

It holds what operators said of endpoints and breakers, entry after entry; the last one of a name stands.

Rule 1: an entry is on the disk (WAL, synchronous FULL) before the operator is answered. When the disk does not
    take it, the change stands in shared memory, and the answer tells that a reboot would undo it.
Rule 2: entries are read for a place that shared memory does not know yet, and for no other: what the
    fleet knows is newer than any book.
Rule 3: a file that is damaged is put aside under another name, which is told, and a new one is begun: a power
    cut that spoiled the book must not keep the house shut. It is never repaired by guessing.
Rule 4: one instance has it at a time (flock): two that share a `state-dir` would give each other orders.

Rejected: to replay the audit log. It is for people, is moved away by them, and grows without bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

FILE: Final = "ledger.db"
APPLICATION: Final = 0x53454E54
VERSION: Final = 1
ENTRIES_KEPT: Final = 10_000
"""Of what no longer stands; a caller that changes a word each second must not fill the disk."""
BUSY_S: Final = 2.0
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS words (
    id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, who TEXT NOT NULL,
    subject TEXT NOT NULL, name TEXT NOT NULL, word TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS words_by_name ON words (subject, name, id);
"""
STANDING: Final = "SELECT name, word FROM words WHERE id IN (SELECT max(id) FROM words WHERE subject = ? GROUP BY name)"
PRUNE: Final = """
DELETE FROM words WHERE id <= (SELECT max(id) FROM words) - ?
    AND id NOT IN (SELECT max(id) FROM words GROUP BY subject, name)
"""


class LedgerFault(Exception):
    """The ledger cannot be used; the text says why, and which file it is."""


class Ledger:
    """The book of one instance. Blocks: called in threads of control, one at a time."""

    def __init__(self) -> None:
        self._directory = ""
        self._database: sqlite3.Connection | None = None
        self._hold = -1
        self._lock = threading.Lock()

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

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _use(self, directory: str) -> sqlite3.Connection:
        """The database of this directory, opened if it is not yet."""
        if self._database is None or directory != self._directory:
            self._let_go()
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
        if (application, version) not in ((0, 0), (APPLICATION, VERSION)):
            raise LedgerFault(f"{path} was written by another program, or by a later release")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(f"{SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};")
    except BaseException:
        database.close()
        raise
    return database
