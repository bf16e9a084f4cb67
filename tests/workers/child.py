"""A real worker process with a hand-made heritage, and a raw client to talk to it.

The test plays the supervisor: it makes the region, the sockets, the leash and the plan's
file, forks, and gives orders through the slot. Nothing sleeps: what is waited for
is asked for until it is so.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sentinel.core.machines.worker import Order, WorkerState
from sentinel.core.places import place_names, with_places
from sentinel.core.plan import (
    PLAN_VERSION,
    Admin,
    Endpoint,
    Listener,
    Match,
    Plan,
    Respond,
    Route,
    System,
    Upstream,
)  # fmt: skip
from shm.heritage import Heritage
from shm.ratchet import Ratchet
from shm.region import Counter, Region, Role
from supervisor.main import limits_for, places_for
from workers.main import run

MS = 1_000_000
SECOND = 1_000 * MS
_numbers = itertools.count(1)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.003)


def upstream_of(*ports: int, **settings: Any) -> Upstream:
    return Upstream("origin", tuple(Endpoint("127.0.0.1", port) for port in ports), **settings)


def plan_of(
    upstream: Upstream, port: int, directory: Path, *, listener: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None, routes: tuple[Route, ...] = (), system: dict[str, Any] | None = None,
) -> Plan:  # fmt: skip
    rest = Route("rest", (Match(path_prefixes=("/",)),), 99, upstream="origin", series=0, **(route or {}))
    fixed = Route(
        "fixed", (Match(paths=("/fixed",)),), 1, respond=Respond(200, "fixed", (("x-fixed", "yes"),)), series=0
    )
    settings = {"access_log": str(directory / "access.log")} | (system or {})
    return Plan(
        PLAN_VERSION, System(**settings), Admin(),
        (Listener("web", "127.0.0.1", port, **(listener or {})),), (fixed, *routes, rest), (upstream,),
    )  # fmt: skip


class Worker:
    """One forked worker; `plan_at` makes another plan for its port than `plan_of` would."""

    def __init__(
        self, upstream: Upstream, directory: Path, *, plan_at: Callable[[int], Plan] | None = None,
        tickets: Ratchet | None = None, generation: int = 7, **parts: Any
    ) -> None:  # fmt: skip
        self.directory = directory
        self.generation = generation
        self.tickets = tickets
        self.listening = socket.socket()
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(1024)
        self.port: int = self.listening.getsockname()[1]
        self.plan = plan_at(self.port) if plan_at is not None else plan_of(upstream, self.port, directory, **parts)
        self.region = Region.create(
            f"/sentinel-test-{os.getpid()}-{next(_numbers)}", series_max=16, slots_max=4,
            limits_max=limits_for(self.plan.system.limit_keys),
            leases_max=limits_for(self.plan.system.lease_keys), places_max=places_for(len(place_names(self.plan))),
        )  # fmt: skip
        self.plan = with_places(self.plan, self.region.place_numbers(place_names(self.plan)))
        self.content = msgspec.json.encode(self.plan)
        self.plan_path = directory / "plan.json"
        self.plan_path.write_bytes(self.content)
        self.region.publish(generation)
        self.slot = self.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=generation, lane=0)
        self.pid = 0
        self.leash: socket.socket | None = None
        self.exit_status: int | None = None

    def start(self, *, serve: bool = True, fingerprint: str = "") -> Worker:
        ours, theirs = socket.socketpair()
        self.leash = ours
        heritage = Heritage(
            region=self.region, slot=self.slot, lane=0, generation=self.generation, plan_path=str(self.plan_path),
            fingerprint=fingerprint or hashlib.sha256(self.content).hexdigest(),
            sockets={f"127.0.0.1:{self.port}": (self.listening.fileno(),)}, leash_fd=theirs.fileno(), cpu=None,
            tickets=self.tickets,
        )  # fmt: skip
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                ours.close()
                errors = os.open(self.directory / "stderr.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(errors, 2)
                sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  # pytest's own would be silent
                status = run(heritage)
            except BaseException:
                import traceback

                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
        theirs.close()
        if serve:
            self.wait_state(WorkerState.READY)
            self.order(Order.SERVE)
            self.wait_state(WorkerState.SERVING)
        return self

    def order(self, order: Order, deadline_ns: int = 0) -> None:
        self.region.set_order(self.slot, order, deadline_ns)
        assert self.leash is not None
        with contextlib.suppress(OSError):
            self.leash.send(b"!")

    def drain(self, seconds: float) -> None:
        self.order(Order.DRAIN, time.monotonic_ns() + int(seconds * SECOND))
        self.wait_state(WorkerState.DRAINING)

    def state(self) -> WorkerState:
        return WorkerState(self.region.slot(self.slot).state)

    def wait_state(self, *states: WorkerState) -> None:
        def reached() -> bool:
            assert self.poll() is None or self.state() in states, f"exit {self.exit_status}: {self.stderr()}"
            return self.state() in (*states, WorkerState.GONE)

        wait_until(reached, f"state {states}")

    def poll(self) -> int | None:
        if self.exit_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_status = os.waitstatus_to_exitcode(status)
        return self.exit_status

    def wait(self, seconds: float = 10.0) -> int:
        wait_until(lambda: self.poll() is not None, "the worker ends", seconds)
        assert self.exit_status is not None
        return self.exit_status

    def stderr(self) -> str:
        path = self.directory / "stderr.log"
        return path.read_text() if path.exists() else ""

    def log(self, count: int = 1) -> list[dict[str, Any]]:
        """The access log, once it has so many lines."""
        path = self.directory / "access.log"

        def lines() -> list[bytes]:
            return path.read_bytes().splitlines() if path.exists() else []

        wait_until(lambda: len(lines()) >= count, f"{count} log lines")
        return [json.loads(line) for line in lines()]

    def counter(self, counter: Counter) -> int:
        return self.region.totals().counters[counter]

    def reasons(self) -> dict[int, int]:
        """Counts by reason over all series."""
        summed: dict[int, int] = {}
        for series in self.region.totals().series:
            for number, count in series.reasons.items():
                summed[number] = summed.get(number, 0) + count
        return summed

    def stop(self, *, surprises: bool = False) -> None:
        if self.poll() is None and self.pid:
            self.order(Order.QUIT)
            try:
                self.wait(5)
            except AssertionError:
                os.kill(self.pid, 9)
                self.wait()
                raise
        if self.leash is not None:
            self.leash.close()
        self.listening.close()
        self.region.unlink()
        self.region.close()
        assert surprises or "Traceback" not in self.stderr(), self.stderr()


@contextlib.contextmanager
def working(upstream: Upstream, directory: Path, **parts: Any) -> Iterator[Worker]:
    worker = Worker(upstream, directory, **parts).start()
    try:
        yield worker
    finally:
        worker.stop()


class Answer:
    """One parsed answer."""

    def __init__(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.fields = dict(fields)
        self.field_list = fields
        self.body = body

    def __repr__(self) -> str:
        return f"<{self.status} {self.fields} {self.body[:200]!r}>"


class Client:
    """A raw client: sends any octets, parses answers strictly enough to notice a wrong end."""

    def __init__(self, port: int, *, sock: socket.socket | None = None) -> None:
        self.socket = sock or socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.settimeout(10)
        self.buffer = b""

    def send(self, data: bytes | str) -> Client:
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def get(self, path: str = "/", *fields: str, method: str = "GET", head_only: bool = False) -> Answer:
        lines = "".join(f"{field}\r\n" for field in fields)
        self.send(f"{method} {path} HTTP/1.1\r\nHost: test.example\r\n{lines}\r\n")
        return self.answer(head_only=head_only or method == "HEAD")

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"closed; so far {self.buffer[:200]!r}")
        self.buffer += data

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return int(first.split()[1]), fields

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def answer(self, *, head_only: bool = False) -> Answer:
        status, fields = self.head()
        named = dict(fields)
        if head_only or status < 200 or status in (204, 304):
            return Answer(status, fields, b"")
        if "content-length" in named:
            return Answer(status, fields, self.exactly(int(named["content-length"])))
        if named.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(self.line(), 16):
                content += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            while self.line():
                pass
            return Answer(status, fields, content)
        return Answer(status, fields, self.rest())

    def rest(self) -> bytes:
        """Everything until the worker closes."""
        while True:
            data = self.socket.recv(65536)
            if not data:
                break
            self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False if octets come instead."""
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()
