"""Plans on disk: whole or not there, private, bounded; and read back only when untouched."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sentinel.core.plan import PLAN_VERSION, Admin, Plan, System
from supervisor.control.running import PlanFault, RunningPlan, read_plan
from supervisor.control.store import PLANS_MAX, PlanStore
from tests.system.fleet import ROOT

READ_AT_ONCE = """\
import sys, threading
from supervisor.control.running import read_plan
path, fingerprint = sys.argv[1:]
sys.setswitchinterval(1e-6)
barrier, plans = threading.Barrier(8), []
def read():
    barrier.wait()
    plans.append(read_plan(path, fingerprint))
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(plans) == 8 and plans.count(plans[0]) == 8
"""


def plan(version: int = PLAN_VERSION, token: str = "") -> Plan:
    return Plan(version=version, system=System(), admin=Admin(token=token), listeners=(), routes=(), upstreams=())


def stored(store: PlanStore, value: object) -> tuple[str, str]:
    data = msgspec.json.encode(value)
    fingerprint = hashlib.sha256(data).hexdigest()
    return str(store.write(fingerprint, data)), fingerprint


def test_a_plan_is_whole_and_private(tmp_path: Path) -> None:
    store = PlanStore(str(tmp_path))
    path, fingerprint = stored(store, plan())
    assert path == str(tmp_path / "generations" / f"{fingerprint}.plan")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    assert [entry.name for entry in store.directory.iterdir()] == [f"{fingerprint}.plan"], "no draft is left"
    assert read_plan(path, fingerprint) == plan()


def test_a_damaged_file_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    store = PlanStore(str(tmp_path))
    path, fingerprint = stored(store, plan())
    Path(path).write_bytes(b"half")
    assert stored(store, plan()) == (path, fingerprint)
    assert read_plan(path, fingerprint) == plan()


def test_old_plans_go_unless_somebody_refers_to_them(tmp_path: Path) -> None:
    store = PlanStore(str(tmp_path))
    paths = [store.write(f"{number:064x}", b"{}") for number in range(PLANS_MAX + 3)]
    for age, path in enumerate(paths):
        os.utime(path, (age, age))
    (store.directory / "x.1.draft").write_bytes(b"of one who died")
    store.prune({str(paths[0])})
    assert [path.exists() for path in paths[:4]] == [True, False, False, True]
    assert not list(store.directory.glob("*.draft"))


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"{}", "was changed")])
def test_a_running_plan_that_is_lost_or_changed_is_told(tmp_path: Path, content: bytes | None, words: str) -> None:
    path, fingerprint = stored(PlanStore(str(tmp_path)), plan())
    if content is None:
        os.unlink(path)
    else:
        Path(path).write_bytes(content)
    with pytest.raises(PlanFault, match=words):
        read_plan(path, fingerprint)


def test_threads_that_read_the_first_plan_at_once_all_get_it(tmp_path: Path) -> None:
    """The last plans and the running one are read side by side right after a start; a process that had read none yet
    died of it (SIGSEGV) in most of these attempts."""
    place = stored(PlanStore(str(tmp_path)), plan())
    for _ in range(3):
        subprocess.run([sys.executable, "-c", READ_AT_ONCE, *place], cwd=ROOT, check=True, timeout=60)


def test_a_plan_of_another_shape_or_version_is_refused(tmp_path: Path) -> None:
    store = PlanStore(str(tmp_path))
    with pytest.raises(PlanFault, match="cannot be decoded"):
        read_plan(*stored(store, {"version": 1}))
    with pytest.raises(PlanFault, match="version 99"):
        read_plan(*stored(store, plan(version=99)))


def test_the_running_plan_follows_the_status_and_is_read_once(tmp_path: Path) -> None:
    store, running = PlanStore(str(tmp_path)), RunningPlan()
    path, fingerprint = stored(store, plan(token="one"))
    status = {"generation": 1, "plan": {"path": path, "fingerprint": fingerprint}}
    first = asyncio.run(running.follow(status))
    assert first is not None and first.admin.token == "one"
    os.unlink(path)
    assert asyncio.run(running.follow(status)) is first, "known by its fingerprint"
    path, fingerprint = stored(store, plan(token="two"))
    second = asyncio.run(running.follow({"plan": {"path": path, "fingerprint": fingerprint}}))
    assert second is not None and second.admin.token == "two"
    assert asyncio.run(running.follow({"generation": 0, "plan": None})) is None
