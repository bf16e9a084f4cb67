"""A restart of the service is no gift to anybody: limits, breakers and operators' words go on where they were."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.fleet import ROOT, Fleet, forget_region, wait_until

FILTERS = """}
filters {
    rate-limit "hourly" { rate "10/h"; burst 10; key "header:x-tenant"; }
"""
ROUTES = 'route "limited" { matches { path "/limited"; }; filters "hourly"; respond 200; }'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, 1, routes=ROUTES, upstreams=FILTERS)
    try:
        yield fleet.start()
    finally:
        fleet.kill()


def ask(fleet: Fleet, tenant: str) -> tuple[int, int]:
    """Status, and how many more the tenant may send."""
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=10)
    connection.request("GET", "/limited", headers={"x-tenant": tenant})
    response = connection.getresponse()
    left = (response.getheader("ratelimit") or "").partition("r=")[2].partition(";")[0]
    connection.close()
    return response.status, int(left)


def use_up(fleet: Fleet) -> None:
    assert [ask(fleet, "greedy")[0] for _ in range(11)] == [200] * 10 + [429]
    assert [ask(fleet, "modest") for _ in range(3)] == [(200, 9), (200, 8), (200, 7)]
    fleet.ctl("endpoints", "set", "origin", "127.0.0.1:1", "drain")


def goes_on(fleet: Fleet) -> None:
    assert ask(fleet, "greedy")[0] == 429
    assert ask(fleet, "modest") == (200, 6)
    (endpoint,) = fleet.ctl_json("endpoints")
    assert endpoint["admin"] == "drain"


def test_a_stop_and_a_start_give_nobody_a_full_bucket(fleet: Fleet) -> None:
    use_up(fleet)
    assert fleet.stop() == 0
    assert (fleet.run_dir / "estate").stat().st_mode & 0o777 == 0o600
    fleet.write(system="limit-keys 4096")  # a table of another size
    fleet.start()
    assert "took over 2 rate limit keys and 1 endpoints" in fleet.last_words()
    assert not (fleet.run_dir / "estate").exists()
    goes_on(fleet)


def test_neither_does_a_kill_of_the_supervisor(fleet: Fleet) -> None:
    use_up(fleet)
    assert fleet.process is not None
    workers = [worker["pid"] for worker in fleet.workers()]
    fleet.process.send_signal(signal.SIGKILL)
    fleet.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "its workers follow it")
    fleet.start()
    goes_on(fleet)


def test_a_start_that_fails_leaves_everything_to_the_next_one(fleet: Fleet) -> None:
    use_up(fleet)
    assert fleet.stop() == 0
    with socket.create_server(("127.0.0.1", fleet.admin_port)):
        refused = subprocess.run(
            [sys.executable, "-m", "sentinel", "run", "-c", str(fleet.config)],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert refused.returncode == 1
    assert str(fleet.admin_port) in refused.stderr
    fleet.start()
    goes_on(fleet)


@pytest.mark.directive("system/state-dir")
def test_what_operators_said_outlives_a_reboot(fleet: Fleet) -> None:
    state, breaker = fleet.directory / "state", "circuit-breaker { scope \"upstream\"; failures 5; open-for \"1s\"; }"
    others = f'upstream "other" {{ endpoint "127.0.0.1:1"; {breaker}; }}'
    fleet.write(system=f'state-dir "{state}"', upstreams=f"{others}\n{FILTERS}")
    fleet.ctl("reload")
    fleet.ctl("endpoints", "set", "origin", "127.0.0.1:1", "maintenance")
    fleet.ctl("breakers", "open", "other")
    assert "set-breaker" in (state / "audit.log").read_text()
    assert fleet.stop() == 0
    (fleet.run_dir / "estate").unlink()  # as a reboot does
    fleet.start()
    assert [one["admin"] for one in fleet.ctl_json("endpoints")] == ["maintenance", "ready"]
    assert [one["state"] for one in fleet.ctl_json("breakers")] == ["open"]
    fleet.ctl("endpoints", "set", "origin", "127.0.0.1:1", "ready")
    assert fleet.process is not None
    fleet.process.send_signal(signal.SIGKILL)
    fleet.process.wait()
    forget_region(fleet.run_dir)
    fleet.start()
    assert [one["admin"] for one in fleet.ctl_json("endpoints")] == ["ready", "ready"]


def test_a_state_dir_of_another_instance_is_refused_at_its_line(fleet: Fleet) -> None:
    state = fleet.directory / "state"
    state.mkdir()
    descriptor = os.open(state, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    fleet.write(system=f'state-dir "{state}"')
    refused = fleet.ctl("reload", check=False)
    os.close(descriptor)
    assert refused.returncode == 1
    line = fleet.config.read_text().splitlines().index(f'    state-dir "{state}"') + 1
    assert f"sentinel.kdl:{line}:5: the state-dir cannot be used" in refused.stderr + refused.stdout
    assert fleet.ctl("reload").returncode == 0


def test_papers_that_cannot_be_believed_are_told_of_and_stop_nobody(fleet: Fleet) -> None:
    use_up(fleet)
    assert fleet.stop() == 0
    (fleet.run_dir / "estate").write_bytes(b"rubbish")
    fleet.start()
    assert "limits and breakers start anew" in fleet.last_words()
    assert ask(fleet, "greedy") == (200, 9)
