"""`sentinelctl diff` and `check --strict`: what they print, where, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_offline import GOOD, ctl

LATE = """\
        respond 200 body="hello"
    }
    route "late" {
        matches { path-regex "/a+"; method "GET"; }
        respond 200"""
SHADOWED = GOOD.replace("        respond 200", LATE)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.kdl"
    path.write_text(GOOD)
    return path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.kdl"
    path.write_text("// moved\n\n" + GOOD.replace('"DELETE"', '"DELETE" "PUT"'))
    return path


def test_the_same_at_other_lines_is_no_difference(old: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.kdl"
    moved.write_text("// moved\n\n" + GOOD)
    done = ctl("diff", str(old), str(moved))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("none of ") and "generated requests is treated differently" in done.stdout


def test_a_change_is_found_without_traffic(old: Path, new: Path) -> None:
    done = ctl("diff", str(old), str(new))
    assert done.returncode == 1
    assert "route `all` → (none)" in done.stdout and "e.g. PUT unnamed.invalid/" in done.stdout
    assert f"{old}:8:9" in done.stdout
    document = json.loads(ctl("diff", str(old), str(new), "--json").stdout)
    assert document["differs"] and document["recorded"] is None and document["settings"] == []
    group = document["generated"]["groups"][0]
    assert (group["step"], group["class"]) == ("route", "differs") and group["count"] >= 1


def test_recorded_requests_are_compared_as_a_worker_would_read_them(old: Path, new: Path, tmp_path: Path) -> None:
    traffic = tmp_path / "traffic.jsonl"
    traffic.write_text('{"url": "/a"}\n{"method": "PUT", "url": "/b?c=d"}\n{"url": "/%zz"}\n')
    done = ctl("diff", str(old), str(new), "--requests", str(traffic), "--no-generate")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "1 of 3 recorded requests is treated differently"
    same = ctl("diff", str(old), str(old), "--requests", "-", "--no-generate", text=traffic.read_text())
    assert same.returncode == 0


def test_what_is_no_traffic_or_no_configuration_is_told(old: Path, tmp_path: Path) -> None:
    traffic = tmp_path / "traffic.jsonl"
    traffic.write_text('{"url": "/a"}\n{"url": "/a", "client_ip": "nobody"}\n')
    done = ctl("diff", str(old), str(old), "--requests", str(traffic))
    assert done.returncode == 2 and f"{traffic}:2: `nobody` is no IP address" in done.stderr
    assert ctl("diff", str(old), str(tmp_path / "nothing.kdl")).returncode == 2
    assert ctl("diff", str(old), str(old), "--no-generate").returncode == 2
    assert ctl("diff", str(old), str(old), "--recent", "5", "--socket", str(tmp_path / "no.sock")).returncode == 2
    bad = tmp_path / "bad.kdl"
    bad.write_text(GOOD.replace("path-prefix", "pathprefix"))
    invalid = ctl("diff", str(old), str(bad))
    assert invalid.returncode == 1 and f"{bad}:9:13: " in invalid.stderr


def test_check_warns_of_what_is_proved_and_strict_makes_it_a_no(old: Path, tmp_path: Path) -> None:
    path = tmp_path / "shadowed.kdl"
    path.write_text(SHADOWED)
    done = ctl("check", str(path))
    assert done.returncode == 0 and 'warning: route "late" is never reached: route "all" takes all' in done.stderr
    assert json.loads(ctl("check", str(path), "--json").stdout) == []
    strict = ctl("check", "--strict", "--json", str(path))
    (found,) = json.loads(strict.stdout)
    assert strict.returncode == 1 and found["severity"] == "warning" and found["line"] == 15
    assert ctl("check", "--strict", str(old)).returncode == 0
