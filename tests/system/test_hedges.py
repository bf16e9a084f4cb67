"""Hedges and shadows of a whole fleet: what its operators see, and that nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.directives.patients import Patient, patients
from tests.system.fleet import Fleet, wait_until
from tests.system.test_upstreams import asked, statuses
from tests.workers.origin import closed_port

ROUTE = 'route "p" {{ matches {{ path "/p"; }}; upstream "pair"; {route} }}'


@pytest.fixture
def pair() -> Iterator[tuple[Patient, ...]]:
    with patients("a", "b") as found:
        yield found


def fleet_of(directory: Path, found: tuple[Patient, ...], route: str, more: str = "", **settings: object) -> Fleet:
    endpoints = "; ".join(f'endpoint "127.0.0.1:{one.port}"' for one in found)
    return Fleet(
        directory, found[0].port, routes=ROUTE.format(route=route),
        upstreams=f'upstream "pair" {{ {endpoints}; }}\n{more}', **settings,
    ).start()  # fmt: skip


def scraped(fleet: Fleet, name: str) -> dict[str, int]:
    """The samples of a counter, by what stands in braces."""
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.admin_port}/metrics", timeout=10) as page:
        text = page.read().decode()
    found = re.findall(rf"^{name}_total(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {labels: int(float(value)) for labels, value in found}


def in_flight(fleet: Fleet) -> int:
    return sum(one["in_flight"] for one in fleet.ctl_json("endpoints"))


@pytest.fixture
def near() -> Iterator[Path]:
    """A directory with a short name, as operators have them: a record has room for the details beside it."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as name:
        yield Path(name)


def test_one_slow_endpoint_of_two_is_not_waited_for_by_any_worker(near: Path, pair: tuple[Patient, ...]) -> None:
    fleet = fleet_of(near, pair, 'retry { hedge-after "20ms"; };', workers=3)
    try:
        pair[0].hold.clear()
        assert statuses(fleet, 20) == [200] * 20, "who is held answers nobody"
        hedges = scraped(fleet, "sentinel_hedges")[""]
        assert 0 < hedges <= 20
        assert scraped(fleet, "sentinel_hedges_won")[""] == hedges == pair[0].asked
        wait_until(lambda: in_flight(fleet) == 0, "all permits of losers are given back")
        why = next(text for text in whys(fleet) if "hedge-won" in text)
        assert re.search(r"had not begun to answer after 20 ms: sent to 127\.0\.0\.1:\d+ as well .*\[hedged\]", why)
        assert re.search(r"answered first, and 127\.0\.0\.1:\d+ was cut +\[hedge-won\]", why)
    finally:
        fleet.stop()


def whys(fleet: Fleet) -> Iterator[str]:
    for line in fleet.access_log():
        yield fleet.ctl("why", line["request_id"]).stdout


def test_workers_that_are_killed_while_two_tries_run_leave_none_in_flight(
    tmp_path: Path, pair: tuple[Patient, ...]
) -> None:
    fleet = fleet_of(tmp_path, pair, 'retry { hedge-after "20ms"; };')
    try:
        for one in pair:
            one.hold.clear()
        waiting = [asked(fleet) for _ in range(4)]
        wait_until(lambda: sum(one.asked for one in pair) == 8, "two tries of each")
        assert in_flight(fleet) == 8
        for worker in fleet.ctl_json("workers"):
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: in_flight(fleet) == 0, "the reaper gives back both")
        for connection in waiting:
            connection.close()
    finally:
        fleet.stop()


def test_a_dead_shadow_fails_nobody_and_is_seen(tmp_path: Path, pair: tuple[Patient, ...]) -> None:
    more = f'upstream "next" {{ endpoint "127.0.0.1:{closed_port()}"; circuit-breaker {{ failures 3; }}; }}'
    fleet = fleet_of(tmp_path, pair, 'shadow "next";', more, drain_deadline="5s")
    try:
        assert statuses(fleet, 20) == [200] * 20
        wait_until(lambda: sum(scraped(fleet, "sentinel_shadow_requests").values()) == 20, "all came to something")
        found = scraped(fleet, "sentinel_shadow_requests")
        assert found['outcome="failed"'] >= 3
        assert found['outcome="failed"'] + found['outcome="refused"'] == 20
        dry = fleet.ctl("dry-run", "-c", str(fleet.config), "--request", "GET /p").stdout
        assert "a copy goes to `next`, as of 100% of the requests" in dry
        assert "[shadowed]" in next(whys(fleet))
    finally:
        fleet.stop()


def test_a_reload_lets_shadows_end(tmp_path: Path, pair: tuple[Patient, ...]) -> None:
    """The old workers wait for what they have sent, and the new ones serve meanwhile."""
    real, copy = pair
    more = f'upstream "next" {{ endpoint "127.0.0.1:{copy.port}"; }}'
    fleet = fleet_of(tmp_path, (real,), 'shadow "next";', more)
    try:
        copy.hold.clear()
        assert statuses(fleet, 6) == [200] * 6
        wait_until(lambda: copy.asked == 6, "six copies are under way")
        reload = threading.Thread(target=fleet.ctl, args=("reload",))
        reload.start()
        wait_until(lambda: fleet.ctl_json("status")["generation"] == 2, "the new generation serves")
        copy.hold.set()
        reload.join()
        wait_until(lambda: scraped(fleet, "sentinel_shadow_requests")['outcome="answered"'] == 6, "all were answered")
        assert scraped(fleet, "sentinel_surprises")[""] == 0
    finally:
        fleet.stop()
