"""The ledger in a PostgreSQL database: for those whose machines come and go, and who want all books in one place.

Several instances may write into one database, each its own rows under its own name: `application_name` of the URL, by
default the machine's. Budgets are of one instance all the same: nobody reads another's rows, but people, with SQL.

    postgresql://sentinel:...@db.internal/ledger?sslmode=verify-full&application_name=edge-1

Rule 1: a connection is made with the book, kept, after a fault thrown away, and made anew when it is needed. What was
    meant to be written then is written by the next flush, since rows have sums and not steps: to write one twice is to
    write it once.
Rule 2: a database that does not answer is waited for DEADLINE_S. A connection on which nothing comes is shut from
    beside: libpq itself would wait for ever.
Rule 3: an instance holds an advisory lock for as long as its connection lives. One that lost its machine is let go of
    by the server after LOST_S, since it is told to look. So a pooler must be one of sessions, not of transactions.
Rule 4: tables are made if they are missing, and that is all that is ever done to them: a role that may read and
    write them is enough where somebody else has made them.
Rule 5: no fault repeats the URL: it has a password. Who and where is told by libpq, without it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final, LiteralString

from supervisor.control import book
from supervisor.control.book import LedgerFault, Spent

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as _fault:  # neither the package nor libpq comes with us
    raise LedgerFault(
        f"a ledger in PostgreSQL needs the package psycopg: pip install 'sentinel-gateway[postgresql]' ({_fault})"
    ) from None

DEADLINE_S: Final = 10.0
CONNECT_S: Final = 5
LOST_S: Final = 25
"""After so long without a sign of life the server ends a connection, and with it the hold on the book."""
LOOK: Final[LiteralString] = """
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false)
"""
VERSION: Final = 1
BATCH: Final = 5000
TABLES: Final[LiteralString] = """
CREATE TABLE IF NOT EXISTS sentinel_ledger (version integer NOT NULL);
CREATE TABLE IF NOT EXISTS sentinel_words (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, instance text NOT NULL, time_ns bigint NOT NULL,
    who text NOT NULL, subject text NOT NULL, name text NOT NULL, word text NOT NULL
);
CREATE INDEX IF NOT EXISTS sentinel_words_by_name ON sentinel_words (instance, subject, name, id);
CREATE TABLE IF NOT EXISTS sentinel_spent (
    instance text NOT NULL, key text NOT NULL, name text NOT NULL, start_s bigint NOT NULL, until_s bigint NOT NULL,
    settled bigint NOT NULL, requests bigint NOT NULL, changed_s bigint NOT NULL, PRIMARY KEY (instance, key)
);
CREATE INDEX IF NOT EXISTS sentinel_spent_by_end ON sentinel_spent (instance, until_s);
"""
EXIST: Final[LiteralString] = """
SELECT bool_and(to_regclass(name) IS NOT NULL)
    FROM unnest(ARRAY['sentinel_ledger', 'sentinel_words', 'sentinel_spent']) AS name
"""
NOTE: Final[LiteralString] = """
INSERT INTO sentinel_words (instance, time_ns, who, subject, name, word) VALUES (%s, %s, %s, %s, %s, %s)
"""
STANDING: Final[LiteralString] = """
SELECT DISTINCT ON (name) name, word FROM sentinel_words WHERE instance = %s AND subject = %s ORDER BY name, id DESC
"""
PRUNE: Final[LiteralString] = """
DELETE FROM sentinel_words WHERE instance = %(instance)s AND id < (
    SELECT id FROM sentinel_words WHERE instance = %(instance)s ORDER BY id DESC OFFSET %(kept)s - 1 LIMIT 1
) AND id NOT IN (SELECT max(id) FROM sentinel_words WHERE instance = %(instance)s GROUP BY subject, name)
"""
SPEND: Final[LiteralString] = """
INSERT INTO sentinel_spent (instance, key, name, start_s, until_s, settled, requests, changed_s)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (instance, key) DO UPDATE SET settled = excluded.settled, requests = excluded.requests,
        changed_s = excluded.changed_s
"""
COLUMNS: Final[LiteralString] = "SELECT key, name, start_s, until_s, settled, requests FROM sentinel_spent "
OPEN: Final[LiteralString] = COLUMNS + "WHERE instance = %s AND until_s > %s ORDER BY settled DESC LIMIT %s"
WINDOWS: Final[LiteralString] = (
    COLUMNS + "WHERE instance = %(instance)s AND until_s > %(since)s AND (%(name)s = '' OR name = %(name)s)"
)
FORGET: Final[LiteralString] = "DELETE FROM sentinel_spent WHERE instance = %s AND until_s < %s"
PRUNE_SPENT: Final[LiteralString] = """
DELETE FROM sentinel_spent WHERE instance = %(instance)s AND key IN (
    SELECT key FROM sentinel_spent WHERE instance = %(instance)s AND until_s < %(now)s
    ORDER BY until_s DESC OFFSET %(kept)s
)
"""


class DatabaseBook:
    """A Book in the database of this URL (libpq's form, of which several hosts are one too); raises LedgerFault."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._instance = ""
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        with self._transaction():  # whoever has a book has reached it once
            pass

    def note(self, who: str, subject: str, name: str, word: str) -> None:
        with self._transaction() as connection:
            connection.execute(NOTE, (self._instance, time.time_ns(), who, subject, name, word))
            connection.execute(PRUNE, {"instance": self._instance, "kept": book.ENTRIES_KEPT})

    def standing(self, subject: str) -> dict[str, str]:
        with self._transaction() as connection:
            return {name: word for name, word in connection.execute(STANDING, (self._instance, subject))}

    def spend(self, windows: Iterable[Spent], now_s: int) -> None:
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.executemany(SPEND, [(self._instance, *one, now_s) for one in windows])

    def prune(self, now_s: int) -> None:
        with self._transaction() as connection:
            connection.execute(FORGET, (self._instance, now_s - book.SPENT_KEPT_S))
            connection.execute(PRUNE_SPENT, {"instance": self._instance, "now": now_s, "kept": book.SPENT_MAX})

    def open_windows(self, now_s: int, most: int) -> list[Spent]:
        with self._transaction() as connection:
            return [Spent(*row) for row in connection.execute(OPEN, (self._instance, now_s, most))]

    def windows(self, since_s: int, name: str) -> Iterator[Spent]:
        with self._transaction() as connection, connection.cursor("windows") as cursor:  # a name: rows come in batches
            cursor.itersize = BATCH
            cursor.execute(WINDOWS, {"instance": self._instance, "since": since_s, "name": name})
            for row in cursor:
                yield Spent(*row)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A transaction that ends in time; a fault of it ends the connection too."""
        try:
            connection = self._connected()
            with _in_time(connection), connection.transaction():
                yield connection
        except psycopg.Error as fault:
            self.close()
            raise LedgerFault(f"PostgreSQL: {_words(fault)}") from None

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        terms = _terms(self._url)
        connection = psycopg.connect("", autocommit=True, **terms)
        try:
            with _in_time(connection):
                self._instance = terms["application_name"]
                connection.execute(LOOK)
                _take(connection, self._instance)
                _check(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


def _terms(url: str) -> dict[str, Any]:
    """What libpq is told, by the URL and without it."""
    try:
        terms = conninfo_to_dict(url)
    except psycopg.Error:  # its text repeats what it took for a port, which may be half of a password
        raise LedgerFault(
            "PostgreSQL: the URL of the ledger is not understood: in a password `/`, `@` and `%` are %2F, %40 and %25"
        ) from None
    return {
        "connect_timeout": CONNECT_S, "application_name": socket.gethostname(), **terms, "client_encoding": "UTF8",
    }  # fmt: skip


def _take(connection: psycopg.Connection[tuple[Any, ...]], instance: str) -> None:
    number = int.from_bytes(blake2b(b"sentinel ledger\0" + instance.encode(), digest_size=8).digest(), signed=True)
    if not _one(connection, "SELECT pg_try_advisory_lock(%s)", (number,)):
        raise LedgerFault(
            f"PostgreSQL: `{instance}` is in use by another instance: name this one with `application_name` in the "
            f"URL (what a machine that died held is free after {LOST_S} s)"
        )


def _check(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """See that tables are ours and whole, and make them where there are none."""
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise LedgerFault(f"PostgreSQL: the database has the encoding {encoding}: keys need UTF8")
    if not _one(connection, EXIST):
        with connection.transaction():
            # Two instances that begin at once: "if not exists" is no promise between transactions.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(b"sentinel"),))
            connection.execute(TABLES)
            connection.execute(
                "INSERT INTO sentinel_ledger SELECT %s WHERE NOT EXISTS (SELECT FROM sentinel_ledger)", (VERSION,)
            )
    if (version := _one(connection, "SELECT max(version) FROM sentinel_ledger")) != VERSION:
        raise LedgerFault(f"PostgreSQL: the tables are of version {version}, written by a later release")


def _one(connection: psycopg.Connection[tuple[Any, ...]], question: LiteralString, values: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(question, values).fetchone()
    return None if row is None else row[0]


@contextlib.contextmanager
def _in_time(connection: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """Shut the connection unless what is done here is done in time; libpq sees its end, and raises."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        watch = threading.Timer(DEADLINE_S, _shut, (same,))
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            watch.join()


def _shut(same: socket.socket) -> None:
    with contextlib.suppress(OSError):
        same.shutdown(socket.SHUT_RDWR)


def _words(fault: psycopg.Error) -> str:
    return " ".join(str(fault).split()) or type(fault).__name__
