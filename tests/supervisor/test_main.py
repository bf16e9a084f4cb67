"""The supervisor's own faults: it ends as if it had been killed, and the next start takes over what was there."""

from __future__ import annotations

import os
from pathlib import Path

from shm.mapping import unlink_name
from shm.region import Region
from supervisor import main
from supervisor.main import Options
from supervisor.rundir import RunDir, region_name
from tests.supervisor.house import free


def test_a_fault_of_its_own_leaves_everything_to_the_next_start(tmp_path: Path) -> None:
    options = Options(run_dir=str(tmp_path / "run"), config="sentinel.kdl", admin_address=free())
    pid = os.fork()
    if pid == 0:

        def fail(_: object) -> int:
            raise RuntimeError("a fault of ours")

        main.trio.run = fail  # type: ignore[assignment]
        try:
            main.run(options, lambda heritage: 0)
        except RuntimeError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    name = region_name(tmp_path / "run")
    try:
        assert Region.estate_of(name, 1) is not None, "the region is still there"
        run_dir = RunDir(options.run_dir)
        assert run_dir.was_abandoned, "and whoever comes next knows that nobody left in peace"
        run_dir.leave()
    finally:
        unlink_name(name)
