"""Processes die, and the service goes on: the fault menu for supervisor, control and workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.layout import PAGE, SLOT
from shm.mapping import SHM_DIR
from supervisor.rundir import region_name
from tests.system.fleet import ROOT, Fleet, running_load, wait_until
from tests.system.test_reload import Slow, get


@pytest.fixture
def fleet(tmp_path: Path, origin_port: int) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, origin_port).start()
    try:
        yield fleet
    finally:
        fleet.kill()


def pids(fleet: Fleet) -> set[int]:
    return {worker["pid"] for worker in fleet.workers() if worker["state"].lower() == "serving"}


def test_a_killed_worker_is_replaced_and_nothing_else_restarts(fleet: Fleet) -> None:
    before = pids(fleet)
    control = fleet.ctl_json("status")["control"]["pid"]
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = wait_until(lambda: (now := pids(fleet)) - before and len(now) == 2 and now, "the successor serves")
    assert before - after == {victim}
    assert fleet.ctl_json("status")["control"]["pid"] == control
    assert any(obituary["pid"] == victim for obituary in fleet.ctl_json("status")["obituaries"])
    assert all(get(fleet.port, "/bytes/3")[0] == 200 for _ in range(20))


def test_new_connections_are_never_refused_while_all_workers_are_killed(fleet: Fleet) -> None:
    for victim in pids(fleet):
        os.kill(victim, signal.SIGKILL)
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")


def test_killing_control_disturbs_no_traffic_and_it_comes_back(fleet: Fleet) -> None:
    status = fleet.ctl_json("status")
    before = pids(fleet)
    with running_load(fleet.port, clients=4) as load:
        os.kill(status["control"]["pid"], signal.SIGKILL)
        again = wait_until(
            lambda: (now := fleet.ctl_json("status"))["control"]["pid"] != status["control"]["pid"] and now,
            "a new control",
        )
        result = load.finish()
    assert result["failure_count"] == 0, result
    assert again["generation"] == status["generation"], "nothing was reloaded"
    assert pids(fleet) == before
    fleet.ctl("reload")


@pytest.mark.directive("system/heartbeat-timeout")
def test_a_stopped_worker_is_killed_and_replaced(tmp_path: Path, origin_port: int) -> None:
    fleet = Fleet(tmp_path, origin_port, system='heartbeat-timeout "2s"').start()
    try:
        before = pids(fleet)
        victim = min(before)
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: victim not in pids(fleet) and len(pids(fleet)) == 2, "it is replaced", 8)
    finally:
        fleet.kill()


def test_workers_leave_when_the_supervisor_is_killed(fleet: Fleet) -> None:
    workers = pids(fleet)
    control = fleet.ctl_json("status")["control"]["pid"]
    assert fleet.process is not None
    fleet.process.kill()
    fleet.process.wait()
    everyone = workers | {control}
    wait_until(lambda: not any(is_alive(pid) for pid in everyone), "all children are gone")
    fleet.start()  # the leftovers are found and removed
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")


def test_an_heir_has_the_ports_at_once_while_the_orphans_finish(fleet: Fleet) -> None:
    slow = Slow(fleet.port, "/slow/1500")
    wait_until(lambda: sum(worker["open_requests"] for worker in fleet.workers()) == 1, "the request is in flight")
    assert fleet.process is not None
    fleet.process.kill()
    fleet.process.wait()
    fleet.start()
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")
    assert slow.status() == 200, "the worker without a supervisor finished what it had"


def test_damaged_memory_ends_the_supervisor_with_a_word_and_the_next_start_serves(fleet: Fleet) -> None:
    """Only our own user can write there; what we never wrote is not believed, and never leads outside."""
    path = Path(SHM_DIR + region_name(fleet.run_dir))
    with path.open("r+b") as file:
        file.seek(PAGE)  # the slots: who lives where, with which orders
        file.write(os.urandom(3 * SLOT.size))
    assert fleet.process is not None
    assert fleet.process.wait(20) == 1
    assert "somebody else wrote into it" in fleet.last_words()
    assert "trio" not in fleet.last_words(), "a sentence of the supervisor, and no traceback"
    fleet.start()
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")


def test_a_region_without_a_name_goes_on(fleet: Fleet) -> None:
    Path(SHM_DIR + region_name(fleet.run_dir)).unlink()
    fleet.ctl("reload")
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")


def test_a_second_start_on_a_live_instance_is_refused_and_disturbs_nothing(fleet: Fleet) -> None:
    before = pids(fleet)
    second = subprocess.run(
        [sys.executable, "-m", "sentinel", "run", "-c", str(fleet.config)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert "already" in second.stderr or "in use" in second.stderr, second.stderr
    assert pids(fleet) == before
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")


def test_a_bad_configuration_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "bad.kdl"
    config.write_text('schema-version "1.0"\nroutes { route "a" { upstrem "b"; }; }\n')
    start = subprocess.run(
        [sys.executable, "-m", "sentinel", "run", "-c", str(config)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert start.returncode == 1
    assert f"{config}:2:" in start.stderr + start.stdout
    assert "did you mean `upstream`" in (start.stderr + start.stdout).lower()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
