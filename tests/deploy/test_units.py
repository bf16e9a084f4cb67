"""The units are understood by systemd, stay as hardened as they are, and name what exists."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sentinel.cli.sentinelctl import FLEET, OFFLINE
from tests.system.fleet import ROOT, Fleet, wait_until

SYSTEMD = ROOT / "deploy" / "systemd"
EXPOSURE_MAX = 2.0
"""systemd's own measure, from 0 (nothing can be touched) to 10."""
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with programs that exist here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sentinel", "sentinelctl"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    for unit in ("sentinel.service", "sentinel.socket"):
        text = (SYSTEMD / unit).read_text().replace("/opt/sentinel/bin", str(programs))
        (tmp_path / unit).write_text(text)
    return tmp_path


@needs_systemd
def test_systemd_finds_nothing_to_complain_about(units: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(units / "sentinel.service"), str(units / "sentinel.socket")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "sentinel" in line]
    assert done.returncode == 0 and not ours, ours


@needs_systemd
def test_a_restart_of_the_service_leaves_the_sockets_alone() -> None:
    """`PartOf=` and `BindsTo=` would close and open the ports with every restart."""
    text = (SYSTEMD / "sentinel.socket").read_text()
    assert "PartOf=" not in text and "BindsTo=" not in text


def test_the_service_is_exposed_to_little(units: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(units / "sentinel.service")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    level = re.search(r"exposure level for sentinel\.service: ([\d.]+)", done.stdout)
    if level is None:
        pytest.skip(f"this systemd cannot tell: {done.stderr.strip()}")
    assert float(level[1]) <= EXPOSURE_MAX, done.stdout


def test_the_verbs_of_the_unit_exist() -> None:
    verbs = re.findall(r"sentinelctl (\S+)", _directives())
    assert set(verbs) == {"check", "reload", "drain"}
    assert set(verbs) <= {*FLEET, *OFFLINE}


@pytest.mark.parametrize("line", ["Type=notify", "KillMode=mixed", "RuntimeDirectory=sentinel", "NoNewPrivileges=yes"])
def test_what_the_supervisor_counts_on_is_said(line: str) -> None:
    assert line in _directives().splitlines()


def test_stopping_is_given_more_time_than_the_default_drain_deadline() -> None:
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", _directives(), re.MULTILINE)
    assert timeout is not None and int(timeout[1]) > 30 + 5


def test_a_fleet_runs_where_no_memory_becomes_executable(tmp_path: Path, origin_port: int) -> None:
    """`MemoryDenyWriteExecute=yes`, by the kernel's own means."""
    libc = ctypes.CDLL(None)

    def deny() -> None:
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # older kernels do not know it, and change nothing

    fleet = Fleet(tmp_path, origin_port, drain_deadline="1s")
    with (tmp_path / "stderr.log").open("ab") as fleet.log:
        fleet.process = subprocess.Popen(
            [sys.executable, "-m", "sentinel", "run", "-c", str(fleet.config)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=fleet.log, stderr=fleet.log, preexec_fn=deny,
        )  # fmt: skip
        try:
            wait_until(fleet.is_serving, "the fleet serves", 30)
            with urllib.request.urlopen(f"http://127.0.0.1:{fleet.port}/echo", timeout=10) as answer:
                assert answer.status == 200
        finally:
            fleet.stop()


def _directives() -> str:
    lines = (SYSTEMD / "sentinel.service").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))
