"""A ledger in PostgreSQL is the same ledger as one in a file; a server that is away, slow or another's is told of."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from supervisor.control import book as book_module
from supervisor.control import ledger_postgresql
from supervisor.control.book import Book, LedgerFault, Spent
from supervisor.control.ledger import Ledger
from supervisor.control.ledger_file import FileBook
from supervisor.control.ledger_postgresql import DatabaseBook
from tests.supervisor.control.test_bookkeeping import NOW_S, House, key_of, spend
from tests.supervisor.control.test_ledger import killed_while_writing
from tests.system.postgresql import PASSWORD, QUOTED, PostgreSQL, postgresql

KEPT = 3
BUDGETS = ("tokens", "money USD")
TENANTS = ("acme", "\0'\"\\", "\N{SNOWMAN}")
KEYS = [(key_of(f"{tenant}{number}", budget=budget).decode(), budget)
        for number in range(6) for tenant in TENANTS for budget in BUDGETS]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture
def home(server: PostgreSQL) -> str:
    """A book of its own in the database that all share."""
    return server.url(application_name=secrets.token_hex(8))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_database_and_a_file_tell_the_same(
    server: PostgreSQL, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(book_module, "SPENT_MAX", KEPT if seed % 2 else 1000)
    monkeypatch.setattr(book_module, "SPENT_KEPT_S", 10)
    monkeypatch.setattr(book_module, "ENTRIES_KEPT", KEPT)
    both: list[Book] = [DatabaseBook(home), FileBook(str(tmp_path))]
    try:
        database, file = (list(_told(book, random.Random(seed))) for book in both)
    finally:
        for book in both:
            book.close()
    assert database == file


def _told(book: Book, dice: random.Random) -> Iterator[object]:
    """A long story, and what the book makes of each step. Each key has an end of its own, so all order is total."""
    for now_s in range(80, 130):
        book.note("root", dice.choice(["endpoint", "breaker"]), f"api/{dice.randrange(3)}", dice.choice("ab"))
        yield book.standing("endpoint"), book.standing("breaker")
        some = dice.sample(range(len(KEYS)), 4)
        book.spend(
            [Spent(*KEYS[at], 0, 85 + at + dice.choice([0, 0, 100]), dice.randrange(2**62), dice.randrange(9))
             for at in some], now_s,
        )  # fmt: skip
        yield sorted(book.windows(now_s, "tokens")), sorted(book.windows(0, ""))
        if not now_s % 5:
            book.prune(now_s)
            yield sorted(book.windows(0, ""))
        yield book.open_windows(now_s, 3)


def test_words_that_no_longer_stand_are_not_kept_for_ever(
    server: PostgreSQL, ledger: Ledger, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "ENTRIES_KEPT", 10)
    ledger.note(home, "root", "endpoint", "api/b", "maintenance")
    for number in range(50):
        ledger.note(home, "root", "endpoint", "api/a", f"word-{number}")
    with psycopg.connect(home) as connection:
        row = connection.execute("SELECT count(*) FROM sentinel_words WHERE instance = %s", (home[-16:],)).fetchone()
    assert row == (11,)
    assert ledger.standing(home, "endpoint", ["api/a", "api/b"]) == {"api/a": "word-49", "api/b": "maintenance"}


def test_instances_share_a_database_and_no_row(server: PostgreSQL, ledger: Ledger) -> None:
    other, first, second = Ledger(), server.url(application_name="first"), server.url(application_name="second")
    ledger.note(first, "root", "endpoint", "api/a", "drain")
    ledger.spend(first, [Spent(key_of("a").decode(), "tokens", NOW_S, NOW_S + 60, 5, 1)], NOW_S)
    assert other.standing(second, "endpoint", ["api/a"]) == {}
    assert other.open_windows(second, NOW_S, 10) == []
    other.spend(second, [Spent(key_of("a").decode(), "tokens", NOW_S, NOW_S + 60, 7, 1)], NOW_S)
    assert [one.settled for one in ledger.open_windows(first, NOW_S, 10)] == [5]
    assert "`first` is in use by another instance" in other.note(first, "root", "endpoint", "api/a", "ready")
    ledger.close()
    assert other.standing(first, "endpoint", ["api/a"]) == {"api/a": "drain"}
    other.close()


def test_a_writer_that_is_killed_has_written_what_it_answered_and_lets_go(home: str, ledger: Ledger) -> None:
    last = killed_while_writing(home)
    deadline = time.monotonic() + 10  # the server has to notice; it tells nobody when
    while "in use" in (fault := _fault(ledger, home)) and time.monotonic() < deadline:
        pass
    assert fault == ""
    assert int(ledger.standing(home, "endpoint", ["api/a"])["api/a"].removeprefix("word-")) in (last, last + 1)


def test_a_server_that_went_away_is_found_again_and_gets_all(
    server: PostgreSQL, home: str, capfd: pytest.CaptureFixture[str]
) -> None:
    house = House(None)
    house.state = home
    slot = house.worker()
    spend(house.region, slot, key_of("a"), 5)
    house.flush()
    server.kill()
    spend(house.region, slot, key_of("a"), 6)
    asyncio.run(_flushes(house, 2))
    assert (house.books.failures, "PostgreSQL" in house.books.fault) == (2, True)
    told = capfd.readouterr().err
    assert told.count("is not written, and requests go on") == 1
    server.start()
    house.flush()
    assert house.books.fault == ""
    assert [one.settled for one in house.ledger.open_windows(home, NOW_S, 10)] == [11]
    house.ledger.close()
    house.close()


def test_a_server_that_is_silent_is_not_waited_for_for_ever(
    server: PostgreSQL, home: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger.note(home, "root", "endpoint", "api/a", "drain") == ""
    monkeypatch.setattr(ledger_postgresql, "DEADLINE_S", 0.3)
    server.tell_all(signal.SIGSTOP)
    try:
        assert "a reboot would undo it: PostgreSQL" in ledger.note(home, "root", "endpoint", "api/a", "ready")
    finally:
        server.tell_all(signal.SIGCONT)
    monkeypatch.undo()
    deadline = time.monotonic() + 10
    while "in use" in (fault := _fault(ledger, home)) and time.monotonic() < deadline:
        pass
    assert fault == ""


def test_tables_of_a_later_release_and_another_encoding_are_left_alone(server: PostgreSQL, ledger: Ledger) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE later")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with psycopg.connect(server.url("later"), autocommit=True) as connection:
        connection.execute(ledger_postgresql.TABLES)
        connection.execute("INSERT INTO sentinel_ledger VALUES (9)")
    assert "version 9, written by a later release" in _fault(ledger, server.url("later"))
    assert "encoding LATIN1" in _fault(ledger, server.url("latin"))


def test_a_role_that_may_make_no_tables_uses_those_that_are_there(server: PostgreSQL, ledger: Ledger) -> None:
    assert _fault(ledger, server.url()) == ""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'clerk'")
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON sentinel_words, sentinel_spent TO clerk")
        connection.execute("GRANT SELECT ON sentinel_ledger TO clerk")
    home = server.url(application_name="clerk").replace(f"sentinel:{QUOTED}", "clerk:clerk")
    assert ledger.note(home, "root", "endpoint", "api/a", "drain") == ""
    assert ledger.standing(home, "endpoint", ["api/a"]) == {"api/a": "drain"}


@pytest.mark.parametrize("change", [
    lambda url: url.replace(QUOTED, PASSWORD),  # as it is, which is no URL
    lambda url: url.replace(QUOTED, QUOTED + "x"), lambda url: url.replace("/postgres?", "/nothing?"),
    lambda url: url.replace("host=", "host=/nowhere"), lambda url: url + "&application=typo",
])  # fmt: skip
def test_no_fault_tells_the_password(server: PostgreSQL, ledger: Ledger, change: object) -> None:
    assert callable(change)
    fault = _fault(ledger, change(server.url()))
    assert fault.startswith("PostgreSQL: ")
    assert not any(part in fault for part in (PASSWORD, QUOTED, "w@rd", "never-told"))


async def _flushes(house: House, times: int) -> None:
    for _ in range(times):
        await house.books.flush()


def _fault(ledger: Ledger, home: str) -> str:
    try:
        ledger.standing(home, "endpoint", [])
    except LedgerFault as fault:
        return str(fault)
    return ""
