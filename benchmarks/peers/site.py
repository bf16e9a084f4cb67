"""Where the race is run: cores, ports, a directory, and processes that end when they should."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BODY = b"x" * 1024
READY_S = 30.0


class Missing(Exception):
    """A peer, or a tool, is not on this machine; the text says how to get it."""


class Broken(Exception):
    """Something was started and does not work; the text shows its last words."""


@dataclass(frozen=True, slots=True)
class Site:
    """What every peer is given."""

    directory: Path
    core: int
    load_cores: frozenset[int]
    upstream_port: int
    upstream_ports: tuple[int, ...] = ()  # more of the same upstream, where there are several endpoints
    tools: Path | None = None  # a virtual environment with peers from PyPI
    ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # what the end of it all must undo

    def start(
        self, command: Sequence[str], *, room: Path, cores: frozenset[int] | None = None, directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:  # fmt: skip
        """Start a process, on the peer's core unless told otherwise; it is ended with the site, whatever fails."""
        cores = cores or frozenset({self.core})
        child = Child(command, cores=cores, room=room, directory=directory, environment=environment)
        self.ends.callback(child.stop)
        return child

    def room(self, name: str) -> Path:
        """A new directory of the peer's own."""
        path = self.directory / name
        path.mkdir()
        return path


def pick_cores() -> tuple[int, frozenset[int]]:
    """One core for the peer, the others for everything else."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Missing("two cores are needed: one for the peer, one for the load")
    return cores[-1], frozenset(cores[:-1])


def find_tool(name: str, package: str, tools: Path | None) -> str:
    """The path of a program; raises Missing."""
    places = [tools / "bin"] if tools is not None else []
    places += [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep)]
    places += [Path("/usr/sbin"), Path("/sbin")]
    for place in places:
        if os.access(place / name, os.X_OK):
            return str(place / name)
    raise Missing(f"{name} is not installed (it comes with {package})")


def first_line(*command: str) -> str:
    """What a program says of its version; some say it on standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    text = (done.stdout or done.stderr).strip()
    return text.splitlines()[0] if text else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Children that are started in here run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A process, and where its words go."""

    def __init__(
        self, command: Sequence[str], *, cores: frozenset[int], room: Path, directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._words = room / "stderr.log"
        with on_cores(cores), self._words.open("ab") as words:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, cwd=directory or room,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
        """Wait until it is so, or the process ends, or the time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                raise Broken(f"{what}: it ended with {self._process.returncode}\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise Broken(f"{what}: not within {seconds:.0f} s\n{self.last_words()}")
            time.sleep(0.02)

    def wait_serving(self, port: int, what: str) -> None:
        self.wait(lambda: answers(port), what)

    def last_words(self) -> str:
        return self._words.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def answers(port: int, path: str = "/") -> bool:
    """Does a request come back with 200 and the upstream's whole body?"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            ask(connection, path)
    except (OSError, ValueError):
        return False
    return True


def ask(connection: socket.socket, path: str = "/") -> None:
    """One request on a kept connection; raises ValueError when the answer is not what the upstream says."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.example\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(BODY):
        more = connection.recv(65536)
        if not more:
            raise ValueError(f"closed after {data[:200]!r}")
        data += more
        if len(data) > 1 << 16 or not data.startswith(b"HTTP/1.1 200"[: len(data)]):
            raise ValueError(f"unexpected answer {data[:200]!r}")
