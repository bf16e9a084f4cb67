"""The life of a control process: first rollout, adoption, signals, and the death of its supervisor."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.supervisor.control.stage import Stage
from tests.system.fleet import wait_until


def test_the_first_rollout_is_made_when_nothing_runs(stage: Stage) -> None:
    stage.serving()
    (message,) = stage.supervisor.ops("rollout")
    assert message["workers"] == 2
    assert message["addresses"] == ["127.0.0.1:8080"]
    assert message["drain_deadline_ns"] == 30_000_000_000
    assert message["canary_lanes"] == 0
    assert message["probation"]["requests_min"] > 0
    path = Path(message["plan_path"])
    assert path == stage.run_dir / "generations" / f"{message['fingerprint']}.plan"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_runs_is_adopted_by_the_next_control_process(stage: Stage) -> None:
    stage.supervisor.generation = 7
    stage.supervisor.last = {"generation": 7, "state": "current", "why": ""}
    stage.start()
    status = stage.get("status").document
    assert (status["generation"], status["rollout"]["state"]) == (7, "current")
    assert stage.supervisor.ops("rollout") == [], "nothing was reloaded"


def test_a_first_rollout_that_a_dead_predecessor_began_is_waited_for(stage: Stage) -> None:
    stage.supervisor.last = {"generation": 1, "state": "starting", "why": ""}
    stage.start()
    wait_until(lambda: stage.supervisor.ops("status"), "control asks what there is")
    stage.supervisor.generation = 1
    stage.supervisor.last = {"generation": 1, "state": "current", "why": ""}
    stage.supervisor.tell(event="rollout", generation=1, state="current", why="")
    wait_until(lambda: stage.get("status").document["generation"] == 1, "it is adopted")
    assert stage.post("reload").status == 200
    assert len(stage.supervisor.ops("rollout")) == 1, "only the reload that was asked for"
    assert stage.supervisor.ops("stop") == []


def test_a_first_configuration_with_problems_stops_the_fleet_and_says_why(stage: Stage) -> None:
    stage.write(routes='route "x" { matches { pathprefix "/"; }; respond 204; }')
    stage.start()
    (stop,) = wait_until(lambda: stage.supervisor.ops("stop"), "control asks the supervisor to stop")
    assert stop["status"] == 1
    status, words = stage.stop()
    assert status == 0
    assert f"{stage.config}:" in words and "path-prefix" in words


def test_a_first_generation_that_is_refused_stops_the_fleet_and_says_why(stage: Stage) -> None:
    stage.supervisor.ends, stage.supervisor.why = "refused", "127.0.0.1:8080 is in use"
    stage.start()
    wait_until(lambda: stage.supervisor.ops("stop"), "control asks the supervisor to stop")
    assert "127.0.0.1:8080 is in use" in stage.stop()[1]


def test_a_sighup_reloads_and_a_bad_file_then_changes_nothing(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.tell(event="reload")
    wait_until(lambda: len(stage.supervisor.ops("rollout")) == 2, "the reload by SIGHUP")
    stage.config.write_text("schema-version 1 {")
    stage.supervisor.tell(event="reload")
    wait_until(lambda: stage.get("status").document["control"]["reloads"].get("invalid"), "the refused reload")
    assert len(stage.supervisor.ops("rollout")) == 2
    assert f"{stage.config}:" in stage.stop()[1]


def test_a_storm_of_sighups_is_two_reloads_at_most_beyond_the_one_under_way(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.hold.clear()
    for _ in range(50):
        stage.supervisor.tell(event="reload")
    stage.supervisor.hold.set()
    count = wait_until(lambda: stage.get("status").document["control"]["reloads"]["serving"] > 1, "a reload")
    assert count
    assert stage.post("reload").status == 200  # queued behind whatever was still waiting
    assert len(stage.supervisor.ops("rollout")) <= 5


def test_events_that_are_not_understood_are_survived(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.tell(event="mystery")
    stage.supervisor.tell(event="rollout", generation="x")
    stage.supervisor.tell(event="reopen-logs")
    stage.supervisor.tell(nonsense=True)
    assert stage.get("status").status == 200


def test_control_ends_with_its_supervisor(stage: Stage) -> None:
    stage.serving()
    assert stage.stop()[0] == 0


def test_sigterm_ends_it_and_the_sockets_stay_open_for_the_next(stage: Stage) -> None:
    stage.serving()
    assert stage.control is not None
    stage.control.send_signal(signal.SIGTERM)
    assert stage.control.wait(20) == 0
    # Who connects now waits in the queue of the socket that the supervisor kept.
    socket.create_connection(stage.admin.getsockname()).close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_of_the_terminal_are_the_supervisors_affair(stage: Stage, number: int) -> None:
    stage.serving()
    assert stage.control is not None
    os.kill(stage.control.pid, number)
    assert stage.get("status").status == 200
    assert stage.control.poll() is None


def test_shared_memory_that_is_missing_is_said_and_survived(stage: Stage) -> None:
    stage.region.unlink()
    stage.start()
    answer = stage.post("reload")
    assert answer.document["outcome"] == "invalid", "without places there would be neither health nor breakers"
    assert "cannot be given their places in shared memory" in answer.document["text"]
    assert stage.get("requests").status == 503
    assert stage.get("metrics").document["region_up"] is False


def test_a_running_plan_that_was_damaged_shuts_the_tcp_door_and_not_the_unix_one(stage: Stage) -> None:
    stage.supervisor.generation = 3
    path = stage.run_dir / "damaged.plan"
    path.write_text("{}")
    stage.supervisor.plan = {"path": str(path), "fingerprint": "0" * 64}
    stage.start()
    assert "was changed" in stage.get("config").document["error"]
    assert stage.tcp("GET", "/api/v1/status")[0] == 503
    assert stage.tcp("GET", "/health/ready")[0] == 200
    assert stage.post("reload").document["outcome"] == "serving", "the remedy"
    assert stage.tcp("GET", "/api/v1/status")[0] == 200
