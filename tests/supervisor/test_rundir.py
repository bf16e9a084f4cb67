"""The run-dir and its lock: one instance a directory, and nothing of a dead one in the way."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.rundir import SOCKET_PATH_MAX, RunDir, RunDirFault

HOLDER = """
import sys
from supervisor.rundir import RunDir
mine = RunDir(sys.argv[1])
door = mine.listen()
print("held", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that has the run-dir; it ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_it_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path / "a" / "b"))
    door = run_dir.listen()
    assert mode(run_dir.path) == 0o700
    assert mode(run_dir.path / "lock") == 0o600
    assert mode(run_dir.socket_path) == 0o600
    assert (run_dir.path / "lock").read_text() == f"{os.getpid()}\n"
    door.close()
    run_dir.leave()


def test_the_umask_is_what_it_was(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        run_dir = RunDir(str(tmp_path))
        run_dir.listen().close()
        assert os.umask(0o022) == 0o022
        run_dir.leave()
    finally:
        os.umask(before)


def test_nobody_inherits_the_lock(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    lock = str(tmp_path / "lock")
    held = [fd for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == lock]
    assert [os.get_inheritable(int(fd)) for fd in held] == [False]
    run_dir.leave()


def test_a_second_start_is_refused_names_the_living_and_disturbs_nothing(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
        open_before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(RunDirFault) as caught:
            RunDir(str(tmp_path))
        assert f"(pid {process.pid})" in str(caught.value)
        assert "stop it first" in str(caught.value)
        assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before
        assert len(os.listdir("/proc/self/fd")) == open_before
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "control.sock"))  # its door is still the door
    finally:
        process.communicate()


def test_what_a_killed_instance_left_is_taken_over(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "control.sock").exists(), "whoever is killed cannot tidy up"
    run_dir = RunDir(str(tmp_path))
    assert run_dir.was_abandoned
    door = run_dir.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(run_dir.socket_path))
    door.close()
    run_dir.leave()


def test_whoever_leaves_in_order_leaves_nothing_to_take_over(tmp_path: Path) -> None:
    first = RunDir(str(tmp_path))
    first.listen().close()
    first.leave()
    assert not first.socket_path.exists()
    second = RunDir(str(tmp_path))
    assert not second.was_abandoned
    second.leave()


def test_the_region_is_named_after_the_place_and_not_after_how_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "place", target_is_directory=True)
    names = []
    for way in (tmp_path / "place", tmp_path / "place" / ".." / "place", tmp_path / "link"):
        (tmp_path / "place").mkdir(exist_ok=True)
        run_dir = RunDir(str(way))
        names.append(run_dir.region_name)
        run_dir.leave()
    other = RunDir(str(tmp_path / "other"))
    assert len(set(names)) == 1
    assert other.region_name != names[0]
    assert "/" not in names[0][1:]
    other.leave()


def test_a_path_that_is_a_file_is_a_clear_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirFault, match=r"file.* cannot be used: "):
        RunDir(str(tmp_path / "file"))
    with pytest.raises(RunDirFault, match="cannot be used: "):
        RunDir(str(tmp_path / "file" / "below"))


def test_a_path_that_is_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path / ("x" * SOCKET_PATH_MAX)))
    with pytest.raises(RunDirFault, match="too long for a Unix socket: choose a shorter `run-dir`"):
        run_dir.listen()
    run_dir.leave()


def test_something_else_in_the_place_of_the_door_is_a_clear_fault(tmp_path: Path) -> None:
    (tmp_path / "control.sock").mkdir()
    run_dir = RunDir(str(tmp_path))
    with pytest.raises(RunDirFault, match=r"cannot listen on .*control\.sock"):
        run_dir.listen()
    run_dir.leave()


@pytest.mark.parametrize("permissions", [0o777, 0o770, 0o702])
def test_a_directory_into_which_others_may_write_is_refused(tmp_path: Path, permissions: int) -> None:
    tmp_path.chmod(permissions)
    with pytest.raises(RunDirFault, match="others may write into it"):
        RunDir(str(tmp_path))
    tmp_path.chmod(0o755)
    RunDir(str(tmp_path)).leave()
