"""Directives of the fleet as a whole.

Where only time and crashes tell (probation, crash budget), the real loop plays on the
supervisor's stage with its own clock, with the terms that control makes of the text.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text
from shm.region import Counter
from supervisor.control.fleet import rollout_fields
from tests.directives.house import plan_from, serving
from tests.supervisor.theatre import MS, S, Theatre
from tests.system.fleet import Fleet, free_port, wait_until
from tests.system.test_reload import Slow, get
from tests.workers.child import Client


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    with Theatre() as theatre:
        yield theatre


def reload(theatre: Theatre, content: str, system: str) -> int:
    """Control asks for a generation with these directives; returns its number."""
    text = f'schema-version "1.0"\nsystem {{\n{system}\n}}\n'
    text += 'listeners { listener "web" { address "127.0.0.1:8080"; }; }\n'
    text += 'routes { route "r" { matches { path-prefix "/"; }; respond 200; }; }'
    answer = theatre.ask("rollout", **rollout_fields(plan_from(text), f"/plans/{content}", content, 0))
    assert answer["ok"], answer
    return int(answer["generation"])


def has_a_line(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


# Workers by themselves.


@pytest.mark.directive("system/access-log")
def test_the_access_log_is_where_it_is_said_to_be(tmp_path: Path) -> None:
    for name in ("one", "two"):
        path = tmp_path / f"{name}.log"
        with serving(tmp_path / name, log=str(path)) as worker:
            assert Client(worker.port).get("/fixed").status == 200
            wait_until(partial(has_a_line, path), "the line")
            assert json.loads(path.read_text())["route"] == "fixed"
    with serving(tmp_path / "off", log="off") as worker:
        assert Client(worker.port).get("/fixed").status == 200
    assert sorted(path.name for path in (tmp_path / "off").iterdir()) == ["plan.json", "stderr.log"]


@pytest.mark.directive("system/access-log@buffer")
@pytest.mark.parametrize(("buffer", "is_dropped"), [("4KiB", True), ("1MiB", False)])
def test_lines_wait_for_a_slow_reader_up_to_a_bound(tmp_path: Path, buffer: str, is_dropped: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with serving(tmp_path / "worker", log=f'{pipe}" buffer="{buffer}') as worker:
            client = Client(worker.port)
            beat = worker.region.slot(worker.slot).heartbeat_ns
            for _ in range(200):
                assert client.get("/fixed").status == 200
            wait_until(lambda: worker.region.slot(worker.slot).heartbeat_ns > beat + S, "the clock's chores have run")
            assert bool(worker.counter(Counter.LOG_DROPPED)) is is_dropped
    finally:
        os.close(reading)


# The real loop on its stage.


@pytest.mark.directive("system/probation/duration")
@pytest.mark.parametrize(("seconds", "state"), [(5, "CURRENT"), (50, "PROBATION")])
def test_a_generation_is_watched_so_long(theatre: Theatre, seconds: int, state: str) -> None:
    number = reload(theatre, "a", f'probation {{ duration "{seconds}s"; }}')
    theatre.settle()
    theatre.wait(10 * S)
    assert theatre.states()[number] == state


@pytest.mark.directive("system/probation/max-failure-share", "system/probation/min-requests")
@pytest.mark.parametrize(
    ("system", "totals", "is_taken_back"),
    [
        ('max-failure-share "50%"', (100, 40), False),
        ('max-failure-share "30%"', (100, 40), True),
        ("min-requests 10", (15, 15), True),
        ("min-requests 20", (15, 15), False),
    ],
)
def test_a_generation_that_fails_is_taken_back(
    theatre: Theatre, system: str, totals: tuple[int, int], is_taken_back: bool
) -> None:
    reload(theatre, "a", "")
    theatre.settle()
    theatre.wait(20 * S)
    number = reload(theatre, "b", f"probation {{ {system}; }}")
    theatre.settle()
    theatre.region.counted[number] = totals
    theatre.wait(20 * S)
    assert (theatre.states()[number] != "CURRENT") is is_taken_back


@pytest.mark.directive("system/probation/ready-timeout")
@pytest.mark.parametrize(("timeout", "state"), [("1s", "REFUSED"), ("60s", "STARTING")])
def test_workers_have_so_long_to_become_ready(theatre: Theatre, timeout: str, state: str) -> None:
    theatre.casting = lambda actor: setattr(actor, "boots", False)
    number = reload(theatre, "a", f'probation {{ ready-timeout "{timeout}"; }}; heartbeat-timeout "90s"')
    theatre.wait(5 * S)
    assert theatre.states()[number] == state


@pytest.mark.directive("system/crash-budget/restarts", "system/crash-budget/window")
@pytest.mark.parametrize(
    ("budget", "is_taken_back"),
    [
        ('restarts 2; window "60s"', True),
        ('restarts 9; window "60s"', False),
        ('restarts 2; window "1s"', False),
    ],
)
def test_a_lane_may_crash_so_often_within_so_long(theatre: Theatre, budget: str, is_taken_back: bool) -> None:
    reload(theatre, "a", "")
    theatre.settle()
    number = reload(theatre, "b", f'crash-budget {{ {budget}; }}; probation {{ duration "10m"; }}')
    theatre.settle()
    for _ in range(4):
        if theatre.fleet.current != number:
            break
        theatre.actor(0, number).die(-signal.SIGSEGV)
        theatre.settle()
        theatre.wait(1500 * MS)
    assert (theatre.fleet.current != number) is is_taken_back


# Real fleets.


@pytest.mark.directive("system/workers", "system/run-dir", "system/cpu-affinity", "admin/address", "listener/address")
def test_a_fleet_is_what_its_text_says(tmp_path: Path, origin_port: int) -> None:
    """One start and one reload: each directive is looked at before and after."""
    fleet = Fleet(tmp_path, origin_port, workers=1).start()
    try:
        assert (fleet.run_dir / "control.sock").exists()
        assert ask_admin(fleet.admin_port) == 200
        assert [cores(worker) for worker in fleet.workers()] == [len(os.sched_getaffinity(0))]
        before, after = fleet.port, free_port()
        assert get(before, "/bytes/1")[0] == 200
        fleet.port = after
        fleet.write(workers=3, system="cpu-affinity true")
        fleet.ctl("reload")
        serving = [worker for worker in fleet.workers() if worker["state"].lower() == "serving"]
        assert len(serving) == 3
        assert [cores(worker) for worker in serving] == [1, 1, 1]
        assert get(after, "/bytes/1")[0] == 200
    finally:
        fleet.kill()


@pytest.mark.directive("system/drain-deadline")
def test_what_runs_is_cut_at_the_drain_deadline(tmp_path: Path, origin_port: int) -> None:
    fleet = Fleet(tmp_path, origin_port, drain_deadline="300ms").start()
    try:
        slow = Slow(fleet.port, "/slow/20000")
        wait_until(lambda: sum(worker["open_requests"] for worker in fleet.workers()) == 1, "the request is in flight")
        assert fleet.stop() == 0
        assert slow.status() == 503
        assert slow.answer is not None
        assert slow.answer.getheader("x-sentinel-reason") == "drain-deadline"
    finally:
        fleet.kill()


@pytest.mark.directive("admin/token")
def test_a_token_is_asked_for(tmp_path: Path, origin_port: int) -> None:
    fleet = Fleet(tmp_path, origin_port, token='token "0123456789abcdef-token"').start()
    try:
        assert ask_admin(fleet.admin_port) == 401
        assert ask_admin(fleet.admin_port, "0123456789abcdef-tokem") == 401
        assert ask_admin(fleet.admin_port, "0123456789abcdef-token") == 200
    finally:
        fleet.kill()


def ask_admin(port: int, token: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/api/v1/status", headers={"authorization": f"Bearer {token}"} if token else {})
    status = connection.getresponse().status
    connection.close()
    return status


def cores(worker: dict[str, Any]) -> int:
    return len(os.sched_getaffinity(worker["pid"]))


# The language itself.

INCLUDING = """
schema-version "1.0"
listeners {{ listener "web" {{ address "127.0.0.1:1"; }}; }}
routes {{
    {}
    route "rest" {{ matches {{ path-prefix "/"; }}; respond 404; }}
}}
"""


@pytest.mark.directive("include")
def test_a_file_is_read_where_it_is_included(tmp_path: Path) -> None:
    (tmp_path / "one.kdl").write_text('route "one" { matches { path "/"; }; respond 200; }')
    for inside, names in (("", ["rest"]), ('include "*.kdl"', ["one", "rest"])):
        loaded = load_text(INCLUDING.format(inside), str(tmp_path / "main"))
        assert loaded.plan is not None, loaded.problems
        assert [route.name for route in loaded.plan.routes] == names


@pytest.mark.directive("schema-version")
def test_only_this_version_of_the_vocabulary_is_read() -> None:
    text = 'schema-version "{}"\nlisteners {{ listener "web" {{ address "127.0.0.1:1"; }}; }}'
    text += '\nroutes {{ route "r" {{ matches {{ path "/"; }}; respond 200; }}; }}'
    assert load_text(text.format("1.0")).plan is not None
    older = load_text(text.format("0.9"))
    assert older.plan is None
    assert "migrate" in str(older.problems)
