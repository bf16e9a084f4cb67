"""What was spent of budgets outlives a reboot, a power cut and the death of control; a full disk ends nothing."""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.core.budgets import write_key
from shm.region import Region
from supervisor.rundir import region_name
from tests.supervisor.control.test_bookkeeping import spend
from tests.system.fleet import Fleet, forget_region, wait_until

ROUTES = 'route "fixed" { matches { path "/fixed"; }; respond 200; }'
START_S = int(time.time()) // 3600 * 3600
ACME, OTHER = (write_key("tokens", START_S, (tenant,)) for tenant in ("acme", "other"))
SYSTEM = 'state-dir "{state}"; ledger-flush "100ms"'


class Books(Fleet):
    """A fleet in whose name is spent: the live path is the workers', and idle here."""

    def begin(self, system: str = "") -> Books:
        self.write(system=SYSTEM.format(state=self.directory / "state") + f"; {system}")
        self.start()
        return self

    def region(self) -> Region:
        return Region.attach(region_name(self.run_dir))

    def spend(self, key: bytes, amount: int) -> None:
        region = self.region()
        spend(region, self.api("GET", "/workers")[1][0]["slot"], key, amount)
        region.close()

    def spent(self, key: bytes) -> tuple[int, int, int]:
        region = self.region()
        try:
            return region.spent(key)
        finally:
            region.close()

    def written(self) -> dict[bytes, int]:
        database = sqlite3.connect(f"file:{self.directory / 'state' / 'ledger.db'}?mode=ro", uri=True)
        try:
            return {key.encode(): settled for key, settled in database.execute("SELECT key, settled FROM spent")}
        finally:
            database.close()

    def ask(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/fixed")
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Books]:
    fleet = Books(tmp_path, 1, workers=1, routes=ROUTES)
    try:
        yield fleet
    finally:
        fleet.kill()


def test_a_reboot_forgets_nothing_that_was_spent(fleet: Books) -> None:
    fleet.begin()
    fleet.spend(ACME, 70)
    fleet.spend(ACME, 30)
    fleet.spend(OTHER, 5)
    assert fleet.stop() == 0, "without waiting: who leaves writes the rest"
    (fleet.run_dir / "estate").unlink()  # as a reboot does
    fleet.start()
    assert "2 windows of budgets go on where they were" in fleet.last_words()
    assert (fleet.spent(ACME), fleet.spent(OTHER)) == ((100, 0, 2), (5, 0, 1))
    (first, _) = fleet.ctl_json("budgets")["budgets"]
    assert (first["key"], first["settled"]) == (["acme"], 100)
    fleet.ctl("reload")
    assert fleet.spent(ACME) == (100, 0, 2), "only a fresh region is told"


def test_a_power_cut_takes_no_more_than_the_last_interval(fleet: Books) -> None:
    fleet.begin()
    fleet.spend(ACME, 70)
    wait_until(lambda: fleet.written() == {ACME: 70}, "it is written")
    assert fleet.process is not None
    pids = [worker["pid"] for worker in fleet.workers()]
    fleet.process.send_signal(signal.SIGKILL)
    fleet.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "its workers follow it")
    forget_region(fleet.run_dir)
    fleet.start()
    assert fleet.spent(ACME) == (70, 0, 1)


def test_a_restart_believes_the_estate_and_not_the_book(fleet: Books) -> None:
    fleet.begin()
    fleet.spend(ACME, 70)
    assert fleet.stop() == 0
    database = sqlite3.connect(fleet.directory / "state" / "ledger.db")
    database.execute("UPDATE spent SET settled = 1")
    database.commit()
    database.close()
    fleet.start()
    assert fleet.spent(ACME) == (70, 0, 1)


def test_control_may_die_at_any_time(fleet: Books) -> None:
    fleet.begin()
    total = 0
    for _ in range(3):
        control = fleet.ctl_json("status")["control"]["pid"]
        for _ in range(20):
            fleet.spend(ACME, 1)
            total += 1
            if total % 20 == 10:
                os.kill(control, signal.SIGKILL)
                wait_until(fleet.is_serving, "the next one answers")
    wait_until(lambda: fleet.written() == {ACME: total}, "the next one writes all")
    assert fleet.spent(ACME) == (total, 0, total)


@pytest.mark.directive("system/budget-keys")
def test_the_table_is_as_large_as_is_said_and_small_without_budgets(fleet: Books) -> None:
    budget = '}\nfilters {\n    token-budget "tokens" { tokens 1000; per "day"; key "header:x-tenant"; }'
    fleet.write(upstreams=budget)
    fleet.begin("budget-keys 1000")
    region = fleet.region()
    assert region.geometry.budgets_max == 2048
    region.close()
    assert fleet.stop() == 0
    fleet.write(upstreams="")
    fleet.start()
    region = fleet.region()
    assert region.geometry.budgets_max == 64
    region.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, where one may be made."""
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", path], capture_output=True)
    if made.returncode != 0:
        pytest.skip("no disk can be made here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_disk_that_is_full_is_told_and_requests_go_on(fleet: Books, disk: Path) -> None:
    fleet.begin()
    (disk / "filler").write_bytes(b"")
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
    for number in range(30):
        fleet.spend(write_key("tokens", START_S, (f"{number}" * 50,)), 5)
    wait_until(lambda: "is not written, and requests go on" in fleet.last_words(), "it is told")
    assert fleet.ask() == 200
    (disk / "filler").unlink()
    wait_until(lambda: "has all of it" in fleet.last_words(), "and so is the end of it")
    assert len(fleet.written()) == 30
