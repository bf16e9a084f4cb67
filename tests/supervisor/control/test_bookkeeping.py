"""What was spent is in the ledger after a flush, and in a fresh region after a reboot; nothing on the way ends us."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sqlite3
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel.core.budgets import read_key, write_key
from sentinel.core.plan import Admin, Plan, System
from shm.budgets import BudgetView
from shm.layout import BUDGET_UNCOUNTED, LIMIT_CLOSED
from shm.region import Region, Role
from supervisor.control import book
from supervisor.control import ledger as ledger_module
from supervisor.control.book import SPENT_KEPT_S, Spent
from supervisor.control.bookkeeping import Bookkeeper, end_of, restore, windows_of
from supervisor.control.ledger import Ledger
from supervisor.control.memory import Memory

NOW_S = int(time.time())
START_S = NOW_S - NOW_S % 3600
HOUR_NS = 3600 * 10**9


def key_of(*parts: str, budget: str = "tokens", start_s: int = START_S) -> bytes:
    return write_key(budget, start_s, parts)


def spend(region: Region, slot: int, key: bytes, amount: int, *, until_ns: int = 0) -> int:
    """One request that spent so much, and is settled; its lease."""
    now_ns = time.monotonic_ns()
    term = struct.pack("=4Q", until_ns or now_ns + HOUR_NS, amount, 1 << 50, LIMIT_CLOSED)
    lease = region.reserve(slot, now_ns, (key,), term)[3]
    assert lease != BUDGET_UNCOUNTED
    assert region.settle(slot, lease, amount, amount, 1)
    return lease


class House:
    """A region, and control's parts that keep its book, without the processes round them."""

    def __init__(self, state: Path | None) -> None:
        self.name = f"/sentinel-test-{secrets.token_hex(8)}"
        self.region = Region.create(self.name, series_max=16, slots_max=4, journal_records=16)
        self.memory, self.ledger = Memory(self.name), Ledger()
        self.state = "" if state is None else str(state)
        self.books = Bookkeeper(self.memory, self.ledger, self.plan)

    def plan(self) -> Plan:
        system = System(state_dir=self.state)
        return Plan(version=1, system=system, admin=Admin(), listeners=(), routes=(), upstreams=())

    def worker(self) -> int:
        return self.region.claim_slot(pid=os.getpid(), birth_ns=1, role=Role.WORKER, generation=1, lane=0)

    def flush(self) -> None:
        asyncio.run(self.books.flush())

    def restore(self) -> None:
        restore(self.memory, self.ledger, self.state)

    def rows(self) -> dict[str, tuple[int, int]]:
        with sqlite3.connect(f"{self.state}/ledger.db") as database:
            found = database.execute("SELECT key, settled, requests FROM spent").fetchall()
        database.close()
        return {key: (settled, requests) for key, settled, requests in found}

    def close(self) -> None:
        self.memory.close()
        self.ledger.close()
        self.region.close()
        self.region.unlink()


@pytest.fixture
def houses() -> Iterator[list[House]]:
    houses: list[House] = []
    yield houses
    for house in houses:
        house.close()


@pytest.fixture
def house(tmp_path: Path, houses: list[House]) -> House:
    houses.append(House(tmp_path / "state"))
    return houses[-1]


def rebooted(house: House, houses: list[House]) -> House:
    """The same `state-dir`, and a region that knows nothing."""
    house.ledger.close()
    houses.append(House(Path(house.state)))
    return houses[-1]


def test_what_was_spent_is_written_and_is_there_after_a_reboot(house: House, houses: list[House]) -> None:
    slot, acme, other = house.worker(), key_of("acme"), key_of("other")
    spend(house.region, slot, acme, 70)
    spend(house.region, slot, acme, 30)
    spend(house.region, slot, other, 5)
    house.flush()
    assert house.rows() == {acme.decode(): (100, 2), other.decode(): (5, 1)}
    heir = rebooted(house, houses)
    heir.restore()
    assert heir.region.spent(acme) == (100, 0, 2)
    spend(heir.region, heir.worker(), acme, 7)
    heir.flush()
    assert heir.rows()[acme.decode()] == (107, 3)


@pytest.mark.parametrize("late_ms", [-40, 0, 1, 500, 940, 960, 999])
def test_a_window_ends_when_the_calendar_says(late_ms: int) -> None:
    """Workers count from the second that has begun."""
    day_s, ahead_ns = 20_000 * 86400, 1_700_000_000_123_456_789
    view = BudgetView(b"", True, day_s * 10**9 + late_ms * 10**6 - ahead_ns, 0, 0, 0)
    assert end_of(view, ahead_ns) == day_s
    rolls = replace(view, until_ns=view.until_ns + 30 * 10**9)
    assert end_of(rolls, ahead_ns) in (day_s + 30, day_s + 31), "of those that roll, about when"


def test_what_did_not_change_is_not_written_again(house: House) -> None:
    slot = house.worker()
    spend(house.region, slot, key_of("a"), 1)
    spend(house.region, slot, key_of("b"), 1)
    house.flush()
    with sqlite3.connect(f"{house.state}/ledger.db") as database:
        database.execute("UPDATE spent SET settled = 4711")
    database.close()
    spend(house.region, slot, key_of("b"), 1)
    house.flush()
    assert house.rows() == {key_of("a").decode(): (4711, 1), key_of("b").decode(): (2, 2)}


def test_what_is_only_reserved_is_no_expense(house: House) -> None:
    now_ns = time.monotonic_ns()
    house.region.reserve(house.worker(), now_ns, (key_of("a"),), struct.pack("=4Q", now_ns + HOUR_NS, 9, 99, 0))
    house.flush()
    assert list(windows_of(house.region)) == []


def test_what_the_fleet_knows_is_newer_than_the_book(house: House, houses: list[House]) -> None:
    spend(house.region, house.worker(), key_of("a"), 100)
    house.flush()
    heir = rebooted(house, houses)
    assert heir.region.carry(0, time.monotonic_ns(), key_of("a"), time.monotonic_ns() + HOUR_NS, 40, 1)
    heir.restore()
    assert heir.region.spent(key_of("a")) == (40, 0, 1), "the estate came first"
    late = rebooted(heir, houses)
    late.worker()
    late.restore()
    assert late.region.spent(key_of("a")) == (0, 0, 0), "and so did a worker"


def test_windows_that_are_over_are_not_put_back(house: House, houses: list[House]) -> None:
    old = key_of("a", start_s=START_S - 7200)
    house.ledger.spend(house.state, [Spent(old.decode(), "tokens", START_S - 7200, NOW_S - 1, 5, 1)], NOW_S)
    heir = rebooted(house, houses)
    heir.restore()
    assert heir.region.budgets() == []


def test_what_finds_no_room_is_told(house: House, houses: list[House], capfd: pytest.CaptureFixture[str]) -> None:
    keys = [key_of(str(number)).decode() for number in range(200)]
    rows = [Spent(key, "tokens", START_S, NOW_S + 3600, number, 1) for number, key in enumerate(keys, 1)]
    house.ledger.spend(house.state, rows, NOW_S)
    heir = rebooted(house, houses)
    heir.restore()
    assert "found no room: raise `budget-keys`" in capfd.readouterr().err
    kept = {view.title.decode() for view in heir.region.budgets()}
    assert len(kept) <= 64
    assert set(keys[-10:]) <= kept, "those that spent most come first"


def test_titles_that_are_no_keys_are_left_out(house: House) -> None:
    spend(house.region, house.worker(), b"\xff rubbish", 5)
    house.flush()
    assert house.books.fault == ""
    assert list(windows_of(house.region)) == []


def test_without_a_state_dir_nothing_is_written(houses: list[House]) -> None:
    houses.append(House(None))
    spend(houses[0].region, houses[0].worker(), key_of("a"), 5)
    houses[0].flush()
    houses[0].restore()
    assert houses[0].books.lag_s() is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_disk_without_rights_is_told_once(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    Path(house.state).mkdir(mode=0o500)
    spend(house.region, house.worker(), key_of("a"), 5)
    house.flush()
    house.flush()
    assert capfd.readouterr().err.count("is not written") == 1


def test_a_disk_that_is_full_is_told_once_and_made_up_for(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    slot = house.worker()
    spend(house.region, slot, key_of("first"), 5)
    house.flush()
    database = house.ledger._book._database  # type: ignore[union-attr]
    assert database is not None
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite does when the disk has no more of them
    for number in range(60):
        spend(house.region, slot, key_of("x" * 100, str(number % 40)), 5)
    house.flush()
    house.flush()
    assert house.books.failures == 2
    assert capfd.readouterr().err.count("is not written, and requests go on") == 1
    assert len(house.rows()) == 1, "all of a flush, or nothing"
    lag_s = house.books.lag_s()
    house.flush()
    assert lag_s is not None and (house.books.lag_s() or 0) > lag_s
    database.execute("PRAGMA max_page_count = 1000000")
    house.flush()
    assert "has all of it" in capfd.readouterr().err
    assert len(house.rows()) == 41
    assert (house.books.lag_s() or 0) < lag_s + 1
    house.flush()
    assert capfd.readouterr().err == ""


def test_a_keeper_that_is_killed_while_he_writes_loses_nothing(house: House, houses: list[House]) -> None:
    """Killed again and again at any moment, the row is what shared memory had at some flush, and the next has all."""
    slot, key = house.worker(), key_of("a")
    total = 3
    spend(house.region, slot, key, total)
    for pause_s in (0.0, 0.002, 0.005, 0.01, 0.02):
        there, back = os.pipe()
        pid = os.fork()
        if pid == 0:
            books = Bookkeeper(Memory(house.name), Ledger(), house.plan)
            while True:
                books._flush(house.state)
                os.write(back, b".")
        os.close(back)
        assert os.read(there, 1) == b"."
        end_s = time.monotonic() + pause_s
        while True:
            spend(house.region, slot, key, 3)
            total += 3
            if time.monotonic() > end_s:
                break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(there)
        written = house.rows().get(key.decode(), (0, 0))[0]
        assert written <= total and written % 3 == 0
    house.flush()
    assert house.rows() == {key.decode(): (total, total // 3)}


def test_control_that_is_killed_in_a_restoration_leaves_it_to_the_next(house: House, houses: list[House]) -> None:
    rows = [Spent(key_of(str(n)).decode(), "tokens", START_S, NOW_S + 3600, n, 1) for n in range(1, 25)]
    house.ledger.spend(house.state, rows, NOW_S)
    heir = rebooted(house, houses)
    heir.ledger.close()
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            memory = Memory(heir.name)
            for _ in range(1000):
                restore(memory, Ledger(), heir.state)
            os._exit(0)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    heir.restore()
    for number, row in enumerate(rows, 1):
        assert heir.region.spent(row.key.encode()) == (number, 0, 1)
    assert heir.region.budgets_statistics().busy == 0


def test_rows_are_bounded_by_age_and_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "SPENT_MAX", 10)
    monkeypatch.setattr(ledger_module, "PRUNED_EVERY_S", -1.0)
    ends = [NOW_S - SPENT_KEPT_S - 5, *(NOW_S - 100 - number for number in range(30)), NOW_S + 50, NOW_S + 60]
    for number, end_s in enumerate(ends):
        house.ledger.spend(house.state, [Spent(key_of(str(number)).decode(), "tokens", START_S, end_s, 1, 1)], NOW_S)
    left = {read_key(key.encode()).parts[0] for key in house.rows()}
    assert left == {*(str(number) for number in range(1, 11)), "31", "32"}, "the latest ten, and what is open"


def test_usage_is_of_the_ledger_with_what_is_newer_on_top(house: House, houses: list[House]) -> None:
    old, slot = START_S - 7200, house.worker()
    rows = [
        Spent(key_of("acme", start_s=old).decode(), "tokens", old, old + 3600, 50, 5),
        Spent(key_of("acme").decode(), "tokens", START_S, START_S + 3600, 1, 1),
        Spent(key_of("zoo", budget="money").decode(), "money", START_S, START_S + 3600, 7, 2),
    ]
    house.ledger.spend(house.state, rows, NOW_S)
    spend(house.region, slot, key_of("acme"), 100)
    windows = list(windows_of(house.region))
    asked = {"since_s": old, "name": "", "most": 10}
    report = house.ledger.usage(house.state, windows, by="budget", **asked)  # type: ignore[arg-type]
    assert [(row.tenant, row.settled, row.requests, row.windows) for row in report.rows] == [
        ('["tokens"]', 150, 6, 2), ('["money"]', 7, 2, 1),
    ]  # fmt: skip
    assert (report.users, report.totals) == (2, {"": (157, 8)})
    report = house.ledger.usage(house.state, windows, by="key", since_s=NOW_S, name="tokens", most=10)
    assert [(row.tenant, row.settled) for row in report.rows] == [('["tokens","acme"]', 100)]
    report = house.ledger.usage(house.state, windows, by="key", since_s=old, name="", most=1)
    assert (len(report.rows), report.users, report.totals[""][0]) == (1, 2, 157), "what is left out is counted"
    assert house.ledger.usage("", windows, by="key", **asked).totals == {"": (100, 1)}  # type: ignore[arg-type]
    assert house.ledger.usage("", [], by="key", **asked).users == 0  # type: ignore[arg-type]


def test_a_book_of_the_former_release_is_gone_on_with(house: House) -> None:
    house.ledger.note(house.state, "root", "endpoint", "api/a", "drain")
    house.ledger.close()
    with sqlite3.connect(f"{house.state}/ledger.db") as database:
        database.executescript("DROP TABLE spent; PRAGMA user_version = 1;")
    database.close()
    spend(house.region, house.worker(), key_of("a"), 5)
    house.flush()
    assert house.rows() == {key_of("a").decode(): (5, 1)}
    assert house.ledger.standing(house.state, "endpoint", ["api/a"]) == {"api/a": "drain"}
