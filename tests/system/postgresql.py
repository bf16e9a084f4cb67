"""A PostgreSQL server of a test's own: in a directory of its own, on a Unix socket, as a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
USER = "sentinel"
PASSWORD = "p/w@rd%25-never-told"
QUOTED = "p%2Fw%40rd%2525-never-told"


class PostgreSQL:
    """One server; `url` names it. `start` again after `stop` or `kill`."""

    def __init__(self, directory: Path, binaries: Path) -> None:
        self._directory, self._binaries = directory, binaries
        self._as = {"user": "nobody"} if os.geteuid() == 0 else {}
        self.process: subprocess.Popen[bytes] | None = None
        if self._as:
            os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
        secret = directory / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "--pgdata", "data", "--username", USER, "--pwfile", "secret", "--auth", "scram-sha-256",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    def url(self, database: str = "postgres", **terms: str) -> str:
        rest = "".join(f"&{name}={value}" for name, value in terms.items())
        return f"postgresql://{USER}:{QUOTED}@/{database}?host={self._directory}{rest}"

    def start(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": self._directory, "fsync": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen(
            [self._binaries / "postgres", "-D", "data", *words], cwd=self._directory, stderr=subprocess.PIPE, **self._as
        )  # type: ignore[call-overload]
        assert self.process is not None and self.process.stderr is not None
        said = b""
        while b"ready to accept connections" not in said:
            said = self.process.stderr.readline()
            assert said, f"it ended with {self.process.wait()}"

    def stop(self) -> None:
        """As an operator stops it who does not wait for clients ("fast")."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a power cut does: its children follow when they find it gone ("immediate")."""
        self._end(signal.SIGQUIT)

    def tell_all(self, number: signal.Signals) -> None:
        """The same signal to it and to all its children, as `kill -STOP` for the whole service."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.communicate(timeout=20)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._binaries / program, *words], cwd=self._directory, check=True, capture_output=True, **self._as
        )  # type: ignore[call-overload]


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A server that runs; where there is none installed, the test is skipped."""
    if not BINARIES:
        pytest.skip("there is no PostgreSQL server")
    directory = Path(tempfile.mkdtemp(prefix="sentinel-pg-"))  # a socket's name is short, and pytest's are not
    server = None
    try:
        server = PostgreSQL(directory, BINARIES[-1].parent)
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(directory)
