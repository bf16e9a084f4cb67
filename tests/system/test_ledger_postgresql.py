"""A fleet whose ledger is in PostgreSQL: a reboot forgets nothing, and a database that is away stops no traffic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.system.fleet import wait_until
from tests.system.postgresql import PASSWORD, QUOTED, PostgreSQL, postgresql
from tests.system.test_ledger import ACME, ROUTES, Books

SYSTEM = 'ledger (env)"SENTINEL_TEST_LEDGER"; ledger-flush "100ms"'
NEW = 'upstream "new" { endpoint "127.0.0.1:9"; }'


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture
def fleet(tmp_path: Path, server: PostgreSQL) -> Iterator[Books]:
    fleet = Books(tmp_path, 1, workers=1, routes=ROUTES, system=SYSTEM)
    fleet.environment["SENTINEL_TEST_LEDGER"] = server.url(application_name="edge-1")
    try:
        yield fleet
    finally:
        fleet.kill()


def rows(server: PostgreSQL) -> dict[tuple[str, bytes], int]:
    with psycopg.connect(server.url()) as connection:
        found = connection.execute("SELECT instance, key, settled FROM sentinel_spent").fetchall()
    return {(instance, key.encode()): settled for instance, key, settled in found}


@pytest.mark.directive("system/ledger")
def test_a_reboot_forgets_nothing_and_a_database_that_is_away_stops_no_traffic(
    fleet: Books, server: PostgreSQL
) -> None:
    fleet.start()
    fleet.spend(ACME, 70)
    wait_until(lambda: rows(server) == {("edge-1", ACME): 70}, "it is written")
    server.kill()
    fleet.spend(ACME, 30)
    wait_until(lambda: "requests go on" in fleet.last_words(), "it is told that it is not written")
    assert fleet.ask() == 200
    fleet.ctl("reload")
    fleet.write(upstreams=NEW)
    refused = fleet.ctl("reload", check=False)
    assert refused.returncode and "the ledger cannot be used: PostgreSQL" in refused.stderr + refused.stdout
    assert fleet.ask() == 200
    server.start()
    wait_until(lambda: rows(server) == {("edge-1", ACME): 100}, "it has all of it")
    fleet.ctl("reload")
    assert fleet.stop() == 0
    (fleet.run_dir / "estate").unlink()  # as a reboot does
    fleet.start()
    assert fleet.spent(ACME) == (100, 0, 2)
    assert [one["settled"] for one in fleet.ctl_json("usage")["usage"]] == [100]
    told = fleet.last_words() + fleet.ctl("config").stdout + refused.stderr + refused.stdout
    assert PASSWORD not in told and QUOTED not in told


def test_without_the_database_a_fresh_start_is_refused_and_says_why(fleet: Books, server: PostgreSQL) -> None:
    server.stop()
    with pytest.raises(AssertionError, match=r"(?s)the fleet ended with.*the ledger cannot be used: PostgreSQL"):
        fleet.start()
    assert QUOTED not in fleet.last_words()
    server.start()
    fleet.start()
    assert fleet.ask() == 200
