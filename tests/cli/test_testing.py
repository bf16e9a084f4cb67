"""`sentinelctl test` and the pytest plugin: what they print, write, and end with."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sentinel.cli.testing import test as verb
from tests.system.fleet import ROOT

TEXT = """\
schema-version "1.0"
listeners { listener "web" { address "127.0.0.1:8080"; }; }
routes {
    route "api" {
        matches { path-prefix "/v1"; method "GET"; any { header "x-a"; header "x-b" (file)"key"; }; }
        filters "per-client"
        upstream "api"
    }
    route "rest" { matches { path-prefix "/"; }; respond 404; }
}
filters { rate-limit "per-client" { rate "2/s"; burst 2; }; }
upstreams { upstream "api" { endpoint "127.0.0.1:9001"; }; }
include "tests/*.kdl"
"""
CASES = """\
tests {
    case "the third is refused" {
        request "/v1/x" times=3 { header "x-a" "1"; }
        expect to=2 { upstream "api"; }
        expect from=3 { status 429; }
    }
    case "secrets stay secret" {
        request "/v1/x" { header "x-b" (file)"key"; }
        expect { route "api"; upstream-header "x-b" (file)"key"; }
    }
}
"""
SECRET = "planted-secret-value"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    for folder in (tmp_path, tmp_path / "tests"):
        (folder / "key").write_text(SECRET)
    (tmp_path / "tests" / "api.kdl").write_text(CASES)
    path = tmp_path / "s.kdl"
    path.write_text(TEXT)
    return path


def broken(config: Path) -> Path:
    cases = config.parent / "tests" / "api.kdl"
    cases.write_text(CASES.replace("status 429", "status 503").replace('route "api"', 'route "rest"'))
    return config


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(verb, [str(word) for word in words])


def test_what_passes_is_one_line(config: Path) -> None:
    told = run(config)
    assert told.exit_code == 0, told.output
    (line,) = told.output.splitlines()
    assert line.startswith(f"{config}: 2 passed (4 requests, ")


def test_what_fails_is_told_with_place_difference_and_decision(config: Path) -> None:
    told = run(broken(config))
    assert told.exit_code == 1
    lines = told.output.replace(str(config.parent), "conf").splitlines()
    assert lines[:10] == [
        "FAILED the third is refused  conf/tests/api.kdl:2:5",
        "conf/tests/api.kdl:3:9: /v1/x (number 3 of 3)",
        "    conf/tests/api.kdl:5:25: not as expected",
        "      - status 503",
        "      + 429",
        "GET http://127.0.0.1/v1/x",
        "├─ from 127.0.0.1 at listener `web`",
        "├─ route `api` matches  [route-matched]  conf/s.kdl:5:9",
        "├─ rate limit `per-client` is used up for another 1 s  [rate-limited]  conf/s.kdl:11:11",
        "└─ reject with 429: a rate limit of the route is used up  [rate-limited]",
    ]
    assert lines[-1].startswith("conf/s.kdl: 0 passed, 2 failed")
    assert SECRET not in told.output


def test_the_report_for_machines_that_collect_tests(config: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert run(broken(config), "--junit", report).exit_code == 1
    assert SECRET not in report.read_text()
    suite = xml.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    first = suite[0]
    assert (first.get("name"), first.get("line")) == ("the third is refused", "2")
    failure = first.find("failure")
    assert failure is not None and "- status 503" in (failure.text or "")
    config.write_text("nonsense")
    assert run(config, "--junit", report).exit_code == 1
    assert xml.parse(report).getroot()[0].get("errors") == "1"


def test_for_programs(config: Path) -> None:
    (document,) = json.loads(run(broken(config), "--json", "--coverage").stdout)
    assert (document["passed"], document["failed"]) == (0, 2)
    expected = document["cases"][0]["failures"][0]["expected"][0]
    assert (expected["wanted"], expected["found"]) == ("status 503", "429")
    assert expected["place"].endswith("tests/api.kdl:5:25")
    assert document["coverage"]["points"] > 0
    assert SECRET not in json.dumps(document)


def test_coverage_names_what_no_test_touches(config: Path) -> None:
    told = run(config, "--coverage")
    lines = [line.replace(str(config.parent), "conf").strip() for line in told.output.splitlines()]
    assert told.exit_code == 0
    assert lines[1:] == [
        "coverage: 11 of 16 (68.8 %)",
        'conf/s.kdl:5:19: condition `path-prefix "/v1"` is never seen to fail',
        'conf/s.kdl:5:38: condition `method "GET"` is never seen to fail',
        'conf/s.kdl:5:52: condition `any { header "x-a"; header "x-b" "(redacted)" }` is never seen to fail',
        "conf/s.kdl:9:5: route `rest` is never taken",
        'conf/s.kdl:9:30: condition `path-prefix "/"` is never seen to hold',
    ], told.output


def test_coverage_counts_each_side_only_where_it_was_decisive(config: Path) -> None:
    more = """\
    case "others" {
        request "/v1/x"; expect { route "rest"; }
        request "POST /v1/x" { header "x-a" "1"; }; expect { route "rest"; }
        request "/"; expect { route "rest"; }
    }
}
"""
    cases = config.parent / "tests" / "api.kdl"
    cases.write_text(CASES.removesuffix("}\n") + more)
    assert "coverage: 16 of 16 (100.0 %)" in run(config, "--coverage").output
    assert run(config, "--fail-under", "100%").exit_code == 0


def test_too_little_coverage_is_a_failure(config: Path) -> None:
    assert run(config, "--fail-under", "68.7%").exit_code == 0
    told = run(config, "--fail-under", "68.8%")
    assert told.exit_code == 1 and "68.8 % are wanted" in told.output
    assert run(config, "--fail-under", "much").exit_code == 2


def test_cases_are_chosen_by_name(config: Path) -> None:
    told = run(broken(config), "-k", "SECRET")
    assert "0 passed, 1 failed, 1 left out" in told.output
    assert run(config, "-k", "no such").exit_code == 1


def test_no_test_at_all_is_no_success(config: Path) -> None:
    (config.parent / "tests" / "api.kdl").unlink()
    told = run(config)
    assert told.exit_code == 1 and "there is no policy test" in told.stderr


# pytest.

PYTHON = '''
def test_in_python(sentinel_policy):
    policy = sentinel_policy("s.kdl")
    asked = {"headers": {"x-a": "1"}, "client_ip": "192.0.2.7"}
    policy.assume("limit per-client 192.0.2.7 remaining=1")
    first = policy.request("GET /v1/x", **asked)
    assert (first.route, first.status, first.upstream, first.endpoint) == ("api", None, "api", "127.0.0.1:9001")
    assert first.upstream_headers["x-forwarded-for"] == "192.0.2.7"
    second = policy.request("GET /v1/x", **asked)
    assert (second.status, second.reason, second.headers["retry-after"]) == (429, "rate-limited", "1")
    assert "rate limit `per-client` is used up" in second.trace and second.steps[-1] == "rate-limited"
    assert policy.wait(0.5).request("GET /v1/x", **asked).verdict == "forward"
'''


def run_pytest(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words], cwd=directory, timeout=100,
        env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_pytest_collects_cases_only_when_it_is_asked(config: Path) -> None:
    done = run_pytest(config.parent, "--sentinel", "s.kdl", "-v", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout and "the third is refused" in done.stdout
    assert run_pytest(config.parent, "s.kdl").returncode == 4, "without the option it is no test"


def test_pytest_tells_what_fails_without_our_own_frames(config: Path) -> None:
    done = run_pytest(broken(config).parent, "--sentinel", "s.kdl")
    assert done.returncode == 1 and "2 failed" in done.stdout
    assert "- status 503" in done.stdout and "[rate-limited]" in done.stdout
    assert "Traceback" not in done.stdout and SECRET not in done.stdout
    config.write_text(TEXT.replace("path-prefix", "pathprefix"))
    done = run_pytest(config.parent, "--sentinel", "s.kdl")
    assert done.returncode == 1 and "did you mean `path-prefix`?" in done.stdout


def test_a_policy_is_asked_from_python(config: Path) -> None:
    (config.parent / "test_policy.py").write_text(PYTHON)
    done = run_pytest(config.parent, "test_policy.py")
    assert done.returncode == 0, done.stdout + done.stderr
