"""The verbs that work on files: what they print, where, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fleet import ROOT

GOOD = """\
schema-version "1.0"
listeners {
    listener "web" { address "127.0.0.1:8080"; }
}
routes {
    // Everything but deletions.
    route "all" {
        matches {
            path-prefix "/"
            not { method "DELETE"; }
        }
        respond 200 body="hello"
    }
}
"""
OLD = """\
schema-version "0.9"
servers {
    // the door
    server "web" { address "127.0.0.1:8080"; }
}
routes {
    route "all" { matches { path-prefix "/"; }; proxy "app"; timeout-ms 1500; }
}
upstreams {
    upstream "app" { backend "127.0.0.1:9001"; }
}
"""


def ctl(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentinel.cli.sentinelctl", *words],
        cwd=ROOT, input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.kdl"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.kdl"
    path.write_text(GOOD.replace("path-prefix", "pathprefix").replace("respond 200", "upstream"))
    return path


def test_check_says_yes_without_a_word_about_problems(good: Path) -> None:
    done = ctl("check", str(good))
    assert done.returncode == 0
    assert ":1:" not in done.stdout


def test_check_prints_place_caret_and_remedy_and_ends_with_1(bad: Path) -> None:
    done = ctl("check", str(bad))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{bad}:9:13: "))
    assert "`pathprefix` is not known" in lines[first]
    assert lines[first + 2].strip() == "^"
    assert lines[first + 2].index("^") == lines[first + 1].index("pathprefix")
    assert "did you mean `path-prefix`?" in lines[first + 3]
    assert sum(line.startswith(f"{bad}:") for line in lines) >= 2, "all problems"


def test_check_as_json_is_a_list_of_problems(bad: Path, good: Path) -> None:
    done = ctl("check", "--json", str(bad))
    assert done.returncode == 1
    problems = json.loads(done.stdout)
    assert {"file", "line", "column", "message", "remedy"} <= problems[0].keys()
    assert json.loads(ctl("check", "--json", str(good)).stdout) == []


def test_what_cannot_be_read_or_understood_ends_with_2(tmp_path: Path) -> None:
    assert ctl("fmt", str(tmp_path / "nothing.kdl")).returncode == 2
    assert ctl("chekc").returncode == 2
    assert "did you mean `check`" in ctl("chekc").stderr.lower()
    assert ctl("check").returncode == 2


def test_fmt_changes_files_and_check_says_so(tmp_path: Path, good: Path) -> None:
    wild = tmp_path / "wild.kdl"
    wild.write_text('schema-version   "1.0"\nlisteners{listener "web" {address "127.0.0.1:1";};} // door\n')
    assert ctl("fmt", "--check", str(wild)).returncode == 1
    assert ctl("fmt", str(wild)).returncode == 0
    assert ctl("fmt", "--check", str(wild)).returncode == 0
    assert "// door" in wild.read_text()
    assert ctl("fmt", "--check", str(good)).returncode == 0
    assert good.read_text() == GOOD


def test_migrate_makes_an_old_file_valid(tmp_path: Path) -> None:
    old = tmp_path / "old.kdl"
    old.write_text(OLD)
    refused = ctl("check", str(old))
    assert refused.returncode == 1 and "sentinelctl migrate" in refused.stdout
    assert ctl("migrate", "--write", str(old)).returncode == 0
    assert ctl("check", str(old)).returncode == 0
    assert "// the door" in old.read_text() and 'timeout "1500ms"' in old.read_text()


def test_schema_is_json_with_every_section() -> None:
    schema = json.loads(ctl("schema").stdout)
    assert {"system", "admin", "listeners", "routes", "upstreams"} <= {one["name"] for one in schema["directives"]}


def test_dry_run_decides_and_tells_what_was_passed_over(good: Path) -> None:
    taken = ctl("dry-run", "-c", str(good), "--request", "GET /a")
    assert taken.returncode == 0 and "responded" in taken.stdout
    refused = ctl("dry-run", "-c", str(good), "--request", "DELETE /a")
    assert "no-route" in refused.stdout and f"{good}:10:" in refused.stdout
    assert ctl("dry-run", "-c", str(good), "--request", "GET /a", "--json").stdout.startswith("{")


def test_dry_run_of_an_invalid_configuration_ends_with_1(bad: Path) -> None:
    done = ctl("dry-run", "-c", str(bad), "--request", "GET /")
    assert done.returncode == 1
    assert f"{bad}:9:13:" in done.stdout + done.stderr


def test_output_into_a_closed_pipe_is_quiet() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m sentinel.cli.sentinelctl schema | head -1; exit ${{PIPESTATUS[1]}}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_without_a_fleet_the_fleets_verbs_end_with_2(tmp_path: Path) -> None:
    done = ctl("status", "--socket", str(tmp_path / "control.sock"))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
