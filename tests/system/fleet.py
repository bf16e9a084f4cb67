"""A real fleet for tests: real supervisor, real sockets, free ports, a directory of its own.

Nothing sleeps: whatever is waited for is asked for until it is so, with a
deadline that fails loudly and shows the fleet's own log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shm.mapping import unlink_name
from supervisor.rundir import region_name

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = """\
schema-version "1.0"
system {{
    workers {workers}
    run-dir "{run_dir}"
    drain-deadline "{drain_deadline}"
    access-log "{access_log}"
    {system}
}}
admin {{
    address "127.0.0.1:{admin_port}"
    {token}
}}
listeners {{
    listener "web" {{
        address "127.0.0.1:{port}"
        {listener}
    }}
}}
routes {{
    {routes}
    route "rest" {{
        matches {{ path-prefix "/"; }}
        upstream "origin"
    }}
}}
upstreams {{
    upstream "origin" {{
        endpoint "127.0.0.1:{origin_port}"
    }}
    {upstreams}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Ask until the answer is true, and return it; polling is bounded by `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)


def forget_region(run_dir: Path) -> None:
    """Remove the shared memory of a supervisor that was killed: the next test needs the room."""
    unlink_name(region_name(run_dir))


class Fleet:
    """One running instance; `settings` fill the template, and may be changed before a reload."""

    def __init__(self, directory: Path, origin_port: int, **settings: Any) -> None:
        self.directory = directory
        self.port = free_port()
        self.admin_port = free_port()
        self.settings: dict[str, Any] = {
            "workers": 2, "drain_deadline": "10s", "system": "", "token": "", "listener": "", "routes": "",
            "upstreams": "", "origin_port": origin_port, "access_log": directory / "access.log",
        } | settings  # fmt: skip
        self.config = directory / "sentinel.kdl"
        self.run_dir = directory / "run"
        self.environment: dict[str, str] = {}
        """What its processes have in their environment besides ours."""
        self.write()
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, **settings: Any) -> None:
        self.settings |= settings
        text = TEMPLATE.format(
            run_dir=self.run_dir, port=self.port, admin_port=self.admin_port, **self.settings
        )
        self.config.write_text(text)

    def start(self) -> Fleet:
        self.log = (self.directory / "stderr.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sentinel", "run", "-c", str(self.config)],
            cwd=ROOT, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        try:
            wait_until(self.is_serving, "the fleet serves", 30)
        except BaseException:
            self.kill()
            raise
        return self

    def is_serving(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the fleet ended with {self.process.returncode}:\n{self.last_words()}"
        try:
            status = self.ctl_json("status")
        except (subprocess.CalledProcessError, json.JSONDecodeError):
            return False
        return status.get("mode") == "serving" and status.get("generation", 0) > 0

    def last_words(self) -> str:
        return (self.directory / "stderr.log").read_text()[-4000:]

    def ctl(self, *words: str, check: bool = True, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"SENTINEL_SOCKET": str(self.run_dir / "control.sock")}
        result = subprocess.run(
            [sys.executable, "-m", "sentinel.cli.sentinelctl", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        if check and result.returncode != 0:
            raise subprocess.CalledProcessError(result.returncode, words, result.stdout, result.stderr)
        return result

    def ctl_json(self, *words: str) -> Any:
        return json.loads(self.ctl(*words, "--json").stdout)

    def api(self, method: str, path: str, body: Any = None, timeout: float = 90) -> tuple[int, Any]:
        """Ask the admin API over the Unix socket, without the cost of a new process."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.run_dir / "control.sock"))
            payload = json.dumps(body if body is not None else {}).encode() if method != "GET" else b""
            head = (
                f"{method} /api/v1{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
            )
            connection.sendall(head.encode() + payload)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head_bytes, _, content = answer.partition(b"\r\n\r\n")
        return int(head_bytes.split()[1]), json.loads(content)

    def workers(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.ctl_json("workers")
        return answer

    def access_log(self) -> list[dict[str, Any]]:
        path = self.directory / "access.log"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        forget_region(self.run_dir)
        self.log.close()


class Load:
    """Clients that never retry, in a process of their own (tests.system.load)."""

    def __init__(self, port: int, clients: int = 8, pause_ms: float = 2.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.load", str(port), "--clients", str(clients), "--pause", str(pause_ms)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n"

    def finish(self) -> dict[str, Any]:
        out, _ = self.process.communicate("", timeout=60)
        document: dict[str, Any] = json.loads(out)
        return document


@contextlib.contextmanager
def running_origin(*arguments: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.system.origin", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def running_load(port: int, **settings: Any) -> Iterator[Load]:
    load = Load(port, **settings)
    try:
        yield load
    finally:
        if load.process.poll() is None:
            load.process.kill()
            load.process.wait()
