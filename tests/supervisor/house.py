"""A real supervisor with real workers and a control process that lends its ear to the test.

    test <---- Unix socket (SCM_RIGHTS) ---- ears (exec'd as control) <---- exec ---- supervisor
     |                                                                                    |
     +------------------------------ control's channel ----------------------------------+

Intuition: a ventriloquist. What the supervisor starts as control hands its channel to
the test and then only lives, so that the test itself is control: it asks, hears
each event, and can kill the puppet. The workers are a few lines that obey
orders and answer each connection with who they are.

`python -m tests.supervisor.house` is the supervisor's process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from sentinel.core.machines.worker import Order, WorkerState
from shm.heritage import Heritage
from supervisor.main import Options, run
from tests.supervisor.theatre import S, terms_of

PATIENCE_S: Final = 20.0
ROOT: Final = Path(__file__).resolve().parents[2]
EARS: Final = """
import os, socket, sys
ear = socket.socket(socket.AF_UNIX)
ear.connect(sys.argv[1])
socket.send_fds(ear, [str(os.getpid()).encode()], [int(os.environ["SENTINEL_CHANNEL_FD"])])
os.close(int(os.environ["SENTINEL_CHANNEL_FD"]))
print("ears: listening", file=sys.stderr, flush=True)
ear.recv(1)
"""


def worker_main(heritage: Heritage) -> int:
    """Serve by the orders; the name of the plan says how well."""
    habit = Path(heritage.plan_path).name
    if habit == "refuses":
        print("the plan is wrong", file=sys.stderr)
        return 78
    region, slot = heritage.region, heritage.slot
    listeners = [socket.socket(fileno=fd) for fds in heritage.sockets.values() for fd in fds]
    region.set_state(slot, WorkerState.READY)
    while True:
        region.beat(slot, time.monotonic_ns(), 0, 0)
        order, _ = region.order(slot)
        if order is Order.SERVE:
            region.set_state(slot, WorkerState.SERVING)
        elif order is not Order.HOLD:
            region.set_state(slot, WorkerState.DRAINING)
            _answer(listeners if order is Order.SWEEP else [], heritage)
            return 0
        serving = listeners if order is Order.SERVE else []
        ready, _, _ = select.select([heritage.leash_fd, *serving], [], [], 0.25)
        if heritage.leash_fd in ready and not os.read(heritage.leash_fd, 64):
            return 0
        _answer([one for one in serving if one in ready], heritage)


def _answer(listeners: list[socket.socket], heritage: Heritage) -> None:
    for one in listeners:
        while True:
            try:
                connection, _ = one.accept()
            except BlockingIOError:
                break
            with connection:
                connection.sendall(f"{heritage.generation} {heritage.lane} {os.getpid()}".encode())


class House:
    """One supervisor's process, and everything around it."""

    def __init__(self, directory: Path) -> None:
        self.run_dir = directory / "run"
        self.ear = socket.socket(socket.AF_UNIX)
        self.ear.bind(str(directory / "ear"))
        self.ear.listen()
        self.ear.settimeout(PATIENCE_S)
        self.admin = free()
        self.address = free()
        self.environ: dict[str, str] = {}
        self.command = (sys.executable, "-ISc", EARS, str(directory / "ear"))
        self.log = directory / "log"
        self.events: list[dict[str, Any]] = []
        self.control_pid = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._puppets: list[socket.socket] = []
        self._channel: socket.socket | None = None
        self._asked = 0
        self._workers: dict[int, int] = {}

    def start(self) -> House:
        self.launch()
        self.become_control()
        return self

    def launch(self, admin: str = "") -> subprocess.Popen[bytes]:
        """Start a supervisor's process on this run-dir."""
        options = [str(self.run_dir), admin or self.admin, *self.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.supervisor.house", *options], cwd=ROOT, stderr=log,
                stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT), **self.environ},
            )  # fmt: skip
        return self.process

    def become_control(self) -> None:
        """Wait for the next control process, and take its channel."""
        puppet, _ = self.ear.accept()
        puppet.settimeout(PATIENCE_S)
        said, (fd,), _, _ = socket.recv_fds(puppet, 32, 1)
        if self._channel is not None:
            self._channel.close()
        self._channel = socket.socket(fileno=fd)
        self._channel.settimeout(PATIENCE_S)
        self._puppets.append(puppet)
        self.control_pid = int(said)

    # Being control.

    def send(self, data: bytes) -> None:
        assert self._channel is not None
        self._channel.send(data)

    def hear(self) -> dict[str, Any]:
        """The next message, whatever it is; events are noted."""
        assert self._channel is not None
        data = self._channel.recv(1 << 17)
        assert data, "the supervisor has closed the channel"
        found: dict[str, Any] = json.loads(data)
        if "event" in found:
            self.events.append(found)
        return found

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        self._asked += 1
        self.send(json.dumps({"id": self._asked, "op": op, **fields}).encode())
        while (found := self.hear()).get("id") != self._asked:
            pass
        return found

    def wait_event(self, **wanted: object) -> dict[str, Any]:
        """The first event, of those heard or to come, that says all this."""
        looked_count = 0
        while True:
            for event in self.events[looked_count:]:
                if wanted.items() <= event.items():
                    return event
            looked_count = len(self.events)
            self.hear()

    def rollout(self, plan: str = "good", **changes: Any) -> int:
        terms = {"plan_path": f"/plans/{plan}", "addresses": [self.address], "workers": 2, **changes}
        return int(self.ask("rollout", **terms_of(plan, **{"drain_deadline_ns": 10 * S, **terms}))["generation"])

    def serve(self, plan: str = "good", **changes: Any) -> int:
        number = self.rollout(plan, **changes)
        self.wait_event(generation=number, state="probation")
        return number

    # Looking at it.

    def status(self) -> dict[str, Any]:
        found = self.ask("status")
        for one in found["workers"]:
            if one["pid"] and one["pid"] not in self._workers:
                self._watch(one["pid"])
        return found

    def pids(self) -> dict[int, int]:
        """lane -> pid of those who serve."""
        return {one["lane"]: one["pid"] for one in self.status()["workers"] if one["state"] == "serving"}

    def knock(self, address: str = "") -> tuple[int, int, int]:
        """Connect; who answered: generation, lane, pid."""
        host, _, port = (address or self.address).rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as one:
            generation, lane, pid = one.recv(100).decode().split()
        return int(generation), int(lane), int(pid)

    def wait_gone(self, pid: int) -> None:
        """Wait for the end of a process that is nobody's child of ours."""
        try:
            pidfd = self._workers.pop(pid) if pid in self._workers else os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            assert select.select([pidfd], [], [], PATIENCE_S)[0], f"{pid} did not end"
        finally:
            os.close(pidfd)

    def wait_end(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill the supervisor; its control sees the channel end, and ends."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        for puppet in self._puppets:
            puppet.close()
        self.events.clear()

    def said(self) -> str:
        return self.log.read_text()

    def close(self) -> None:
        """End everything; the workers' leashes end with their supervisor."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for one in (*self._puppets, self.ear, *([self._channel] if self._channel else [])):
            one.close()
        for pid, pidfd in self._workers.items():
            if not select.select([pidfd], [], [], PATIENCE_S)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                raise AssertionError(f"worker {pid} has outlived its supervisor")
            os.close(pidfd)

    def _watch(self, pid: int) -> None:
        try:
            self._workers[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            return


def free() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


if __name__ == "__main__":
    run_dir, admin, *command = sys.argv[1:]
    options = Options(
        run_dir=run_dir, config="/none.kdl", admin_address=admin, control=tuple(command), series_max=16, slots_max=16
    )
    sys.exit(run(options, worker_main))
