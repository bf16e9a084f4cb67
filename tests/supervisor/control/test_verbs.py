"""The fleet verbs of sentinelctl against a real control process: what they print, and the number they end with."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sentinel.cli import show
from sentinel.cli.client import Client, Unreachable, find_socket
from sentinel.cli.diff import diff
from sentinel.cli.fleet import COMMANDS
from sentinel.cli.show import printable
from shm.region import Role
from tests.supervisor.control.stage import Stage
from tests.supervisor.control.test_api import write_record
from tests.system.fleet import wait_until

GROUP = click.Group("sentinelctl", commands=COMMANDS)
VERBS = ("status", "workers", "generations", "config", "metrics", "why")


def run(stage: Stage, *words: str) -> Result:
    return CliRunner().invoke(GROUP, [*words, "--socket", str(stage.run_dir / "control.sock")])


@pytest.fixture(scope="module")
def recorded(serving: Stage) -> Iterator[Stage]:
    slot = serving.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    write_record(serving, slot, "one")
    write_record(serving, slot, "two", status=502)
    write_record(serving, slot, "evil", path="/\x1b[2J\x07")
    yield serving


@pytest.mark.parametrize("verb", VERBS)
def test_reading_verbs_print_for_people_and_for_programs(recorded: Stage, verb: str) -> None:
    people = run(recorded, verb)
    assert people.exit_code == 0, people.output
    programs = run(recorded, verb, "--json")
    assert programs.exit_code == 0
    assert json.loads(programs.stdout) is not None


def test_status_shows_what_matters(recorded: Stage) -> None:
    output = run(recorded, "status").output
    assert "mode serving" in output and "generation 1" in output and "4711" in output


def test_workers_for_programs_have_the_promised_fields(recorded: Stage) -> None:
    (worker,) = json.loads(run(recorded, "workers", "--json").stdout)
    assert {"slot", "pid", "generation", "state"} <= set(worker)


def test_why_draws_the_decision(recorded: Stage) -> None:
    result = run(recorded, "why", "two")
    assert result.exit_code == 0
    assert "sentinel.kdl:12:5" in result.output and "[route-matched]" in result.output
    assert "remedy: see that the endpoint listens" in result.output


def test_why_of_an_unknown_request_is_a_no(recorded: Stage) -> None:
    result = run(recorded, "why", "nobody")
    assert result.exit_code == 1
    assert "no record of the request `nobody`" in result.stderr


def test_why_lists_and_filters(recorded: Stage) -> None:
    (record,) = json.loads(run(recorded, "why", "--status", "5xx", "--json").stdout)
    assert record["request_id"] == "two"
    assert run(recorded, "why", "--last", "1").output.count("\n") == 2, "a heading and one row"
    assert run(recorded, "why", "one", "--last", "1").exit_code == 2


def test_what_a_client_sent_does_not_drive_the_terminal(recorded: Stage) -> None:
    for output in (run(recorded, "why").output, run(recorded, "why", "evil").output):
        assert "\x1b" not in output and "\x07" not in output


def test_octets_that_never_were_a_request_do_not_spoil_a_comparison(stage: Stage) -> None:
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    write_record(stage, slot, "one")
    write_record(stage, slot, "garbage", status=502, route="", path="", method="")
    result = CliRunner().invoke(
        diff, [str(stage.config), str(stage.config), "--recent", "9", "--socket", str(stage.run_dir / "control.sock")]
    )
    assert result.exit_code == 0, result.output
    assert "none of 1 recorded request is" in result.output


def test_metrics_can_be_had_as_prometheus_reads_them(recorded: Stage) -> None:
    assert "# TYPE sentinel_generation gauge" in run(recorded, "metrics", "--openmetrics").output


def test_a_reload_ends_with_0_when_it_serves(stage: Stage) -> None:
    stage.serving()
    result = run(stage, "reload")
    assert (result.exit_code, "serving generation 2" in result.output) == (0, True), result.output
    document = json.loads(run(stage, "reload", "--json").stdout)
    assert (document["outcome"], document["generation"]) == ("serving", 3)
    assert "canary" in run(stage, "reload", "--canary", "1").output
    assert run(stage, "promote").exit_code == 0
    assert run(stage, "rollback").exit_code == 0


def test_a_reload_with_problems_ends_with_1_and_prints_them_all(stage: Stage) -> None:
    stage.serving()
    stage.write(routes='route "x" { matches { pathprefix "/"; }; upstream "orgin"; }')
    result = run(stage, "reload")
    assert result.exit_code == 1
    assert result.stderr.count(f"{stage.config}:") >= 2 and "path-prefix" in result.stderr
    assert result.stdout == ""
    assert json.loads(run(stage, "reload", "--json").stdout)["outcome"] == "invalid"


def test_a_refused_reload_ends_with_1_and_says_why(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.ends, stage.supervisor.why = "refused", "127.0.0.1:8080 is in use"
    result = run(stage, "reload")
    assert (result.exit_code, "127.0.0.1:8080 is in use" in result.stderr) == (1, True)


def test_a_supervisor_that_says_no_ends_with_1(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.refusal = "there is no canary"
    result = run(stage, "promote")
    assert (result.exit_code, "there is no canary" in result.stderr) == (1, True)


def test_drain_waits_and_resume_serves_again(stage: Stage) -> None:
    stage.serving()
    assert run(stage, "drain").output == "mode drained\n"
    assert json.loads(run(stage, "resume", "--json").stdout) == {"mode": "serving"}


def test_a_fleet_that_breaks_off_ends_with_2(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.ends = ""  # the rollout never ends
    result: list[Result] = []
    thread = threading.Thread(target=lambda: result.append(run(stage, "reload")))
    thread.start()
    wait_until(lambda: len(stage.supervisor.ops("rollout")) == 2, "the reload is under way")
    assert stage.control is not None
    stage.control.kill()
    thread.join()
    assert (result[0].exit_code, "broke off" in result[0].stderr) == (2, True)


# Finding the fleet.


@pytest.mark.parametrize("verb", [*VERBS, "reload", "promote", "rollback", "drain", "resume"])
def test_nobody_there_ends_with_2_and_says_what_to_do(tmp_path: Path, verb: str) -> None:
    result = CliRunner().invoke(GROUP, [verb, "--socket", str(tmp_path / "control.sock")])
    assert result.exit_code == 2
    assert "there is no such socket" in result.stderr and str(tmp_path) in result.stderr


def test_a_socket_nobody_listens_on_is_told_apart(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "control.sock"))
    with pytest.raises(Unreachable, match="nobody listens"):
        Client(str(tmp_path / "control.sock")).get("status")


def test_a_path_too_long_for_a_socket_is_unreachable_too(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        Client(str(tmp_path / ("x" * 120))).get("status")


def test_the_socket_is_named_or_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_socket("/a", {"SENTINEL_SOCKET": "/b"}) == "/a"
    assert find_socket(None, {"SENTINEL_SOCKET": "/b"}) == "/b"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "control.sock").touch()
    assert find_socket(None, {}) == "run/control.sock"


def test_no_fleet_to_be_found_names_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sentinel.cli.client.DEFAULT_SOCKETS", ("run/control.sock", "elsewhere.sock"))
    with pytest.raises(Unreachable, match=r"run/control.sock nor elsewhere.sock"):
        find_socket(None, {})


def test_a_row_of_a_table_is_one_line_whatever_clients_sent(capsys: pytest.CaptureFixture[str]) -> None:
    window = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    row = {"budget": "b", "key": ["two\nlines", "\x1b[1m"], "unit": "tokens", "settled": 1, "open": 0, "requests": 1}
    show.budgets(printable({"budgets": [window | row], "count": 1}))
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3 and "".join(shown.split()).count("two\\x0alines\\x1b[1m") == 1


def test_printable_leaves_letters_and_line_ends() -> None:
    assert printable({"a": ["grün\n", "\x1b[1m", 3, None]}) == {"a": ["grün\n", "\\x1b[1m", 3, None]}
