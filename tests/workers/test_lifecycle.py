"""A worker's life: it serves when told, drains without losing anybody, and leaves."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.machines.worker import Order, WorkerState
from sentinel.core.record import Record, decode
from shm.region import Counter
from tests.workers.child import MS, Client, Worker, upstream_of, wait_until, working
from tests.workers.origin import Conversation, echo, scripted


def test_it_is_ready_before_it_serves_and_serves_only_when_told(tmp_path: Path) -> None:
    worker = Worker(upstream_of(1), tmp_path).start(serve=False)
    try:
        worker.wait_state(WorkerState.READY)
        client = Client(worker.port).send("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")
        client.socket.settimeout(0.3)
        try:
            client.answer()
            raise AssertionError("nobody was told to serve")
        except TimeoutError:
            client.socket.settimeout(10)
        worker.order(Order.SERVE)
        assert client.answer().status == 200, "the connection waited in the queue"
        before = worker.region.slot(worker.slot).heartbeat_ns
        wait_until(lambda: worker.region.slot(worker.slot).heartbeat_ns > before, "it beats")
        wait_until(lambda: worker.region.slot(worker.slot).open_connections == 1, "and counts")
    finally:
        worker.stop()


def test_a_changed_plan_is_refused(tmp_path: Path) -> None:
    worker = Worker(upstream_of(1), tmp_path).start(serve=False, fingerprint="0" * 64)
    try:
        assert worker.wait() == 1
        assert "fingerprint" in worker.stderr()
    finally:
        worker.stop()


def test_quit_ends_it_at_once(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/fixed").status == 200
        worker.order(Order.QUIT)
        assert worker.wait() == 0
        assert client.is_closed()
        assert worker.state() is WorkerState.GONE


def test_draining_without_connections_ends_at_once_and_leaves_the_socket_open(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        worker.order(Order.DRAIN, time.monotonic_ns() + 60_000 * MS)
        assert worker.wait() == 0
        waiting = Client(worker.port).send("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")
        worker.exit_status = None
        worker.region.set_order(worker.slot, Order.HOLD)
        worker.region.set_state(worker.slot, WorkerState.BOOTING)
        worker.start()
        assert waiting.answer().status == 200, "the next worker served who waited in the queue"


def test_draining_finishes_what_runs_and_closes_kept_connections_with_their_next_answer(tmp_path: Path) -> None:
    gate = threading.Event()

    def script(conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            if b"/slow" in head:
                gate.wait(20)
            conversation.answer()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        kept = Client(worker.port)
        assert kept.get("/").status == 200
        slow = Client(worker.port).send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: any(b"/slow" in head for head in origin.heads), "it runs")
        worker.drain(30)
        answer = kept.get("/after")
        assert (answer.status, answer.fields["connection"]) == (200, "close"), "not closed under its hands"
        assert kept.is_closed()
        kept.close()
        gate.set()
        answer = slow.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        slow.close()
        assert worker.wait() == 0
        assert worker.reasons() == {0: 3}


def test_pipelined_requests_behind_the_last_answer_do_not_destroy_it(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/").status == 200
        worker.drain(30)
        client.send(b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n" + b"GET /more HTTP/1.1\r\nHost: h\r\n\r\n" * 20)
        assert client.answer().fields["connection"] == "close"
        assert client.is_closed()
        client.close()
        assert worker.wait() == 0


def test_at_the_deadline_the_silent_are_closed_and_the_running_are_told(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.rest()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        silent = Client(worker.port)
        assert silent.get("/fixed").status == 200
        running = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: origin.heads, "it runs")
        worker.order(Order.DRAIN, time.monotonic_ns() + 200 * MS)
        answer = running.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "drain-deadline")
        assert silent.is_closed()
        running.close()
        assert worker.wait() == 0
        assert worker.counter(Counter.DRAIN_CLOSED) == 2


def test_the_supervisors_death_drains_it(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/").status == 200
        assert worker.leash is not None
        worker.leash.close()
        worker.wait_state(WorkerState.DRAINING)
        assert client.get("/").fields["connection"] == "close"
        client.close()
        assert worker.wait() == 0


def test_signals_for_the_group_do_not_concern_it(tmp_path: Path) -> None:
    import signal

    with working(upstream_of(1), tmp_path) as worker:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            os.kill(worker.pid, number)
        assert Client(worker.port).get("/fixed").status == 200


def test_logs_are_reopened_by_sigusr1(tmp_path: Path) -> None:
    import signal

    with working(upstream_of(1), tmp_path) as worker:
        client = Client(worker.port)
        client.get("/fixed")
        worker.log(1)
        (tmp_path / "access.log").rename(tmp_path / "old.log")
        os.kill(worker.pid, signal.SIGUSR1)
        wait_until((tmp_path / "access.log").exists, "the new file")
        client.get("/fixed")
        assert len(worker.log(1)) == 1 and len((tmp_path / "old.log").read_bytes().splitlines()) == 1


def test_every_request_is_in_the_journal(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        first = client.get("/a?secret=1").fields["x-request-id"]
        bad = client.send("GET / HTTP/1.1\r\n\r\n").answer().fields["x-request-id"]

        def read() -> list[Record | None]:
            return [decode(data) for data in worker.region.journal_read(worker.slot)]

        wait_until(lambda: len(read()) == 2, "both records")
        records = read()
        assert [record.request_id for record in records if record] == [first, bad]
        assert records[0] is not None and records[0].path == "/a" and records[0].generation == 7
        assert records[0].endpoint == f"127.0.0.1:{origin.port}" and records[0].steps


def test_records_that_had_to_be_cut_are_counted(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/fixed").status == 200
        assert client.get("/" + "p" * 600).status == 502
        wait_until(lambda: worker.counter(Counter.JOURNAL_TRUNCATED) == 1, "one is cut, and counted")
        records = [decode(data) for data in worker.region.journal_read(worker.slot)]
        assert [record.is_cut for record in records] == [False, True]


def test_connections_over_the_limit_are_told_so_and_counted(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path, listener={"max_connections": 2}) as worker:
        served = [Client(worker.port) for _ in range(2)]
        assert [client.get("/fixed").status for client in served] == [200, 200]
        shed = Client(worker.port)
        shed.send("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = shed.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "overloaded")
        assert shed.is_closed()
        shed.close()
        assert worker.counter(Counter.OVERLOADS) == 1
        assert worker.log(3)[2]["reason"] == "overloaded"
        served[0].close()

        def admitted() -> bool:
            client = Client(worker.port)
            client.send("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")
            try:
                return client.answer().status == 200
            finally:
                client.close()

        wait_until(admitted, "there is room again")


@pytest.mark.parametrize("where", ["listener", "system"])
def test_requests_over_the_limit_are_told_so_and_their_connection_is_kept(tmp_path: Path, where: str) -> None:
    limits: dict[str, Any] = (
        {"listener": {"max_open_requests": 2}} if where == "listener" else {"system": {"max_worker_requests": 2}}
    )
    released = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.head()
        released.wait(10)
        conversation.answer()

    with scripted(slow) as origin, working(upstream_of(origin.port), tmp_path, **limits) as worker:
        waiting = [Client(worker.port) for _ in range(2)]
        for client in waiting:
            client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: len(origin.heads) == 2, "both are with the origin")
        late = Client(worker.port)
        for _ in range(3):
            answer = late.get("/fixed")
            assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "overloaded")
        assert worker.counter(Counter.OVERLOADS) == 3
        released.set()
        assert [client.answer().status for client in waiting] == [200, 200]
        assert late.get("/fixed").status == 200, "there is room again, on the same connection"


def test_without_descriptors_it_backs_off_and_recovers(tmp_path: Path) -> None:
    import resource

    with working(upstream_of(1), tmp_path) as worker:
        used = {int(name) for name in os.listdir(f"/proc/{worker.pid}/fd")}
        limit = next(number for number in itertools.count(1) if number - len([fd for fd in used if fd < number]) == 2)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (limit, hard))
        clients = [Client(worker.port).send("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(6)]
        wait_until(lambda: worker.counter(Counter.ACCEPT_FAILURES) >= 2, "it backs off")
        assert worker.counter(Counter.ACCEPT_FAILURES) < 50, "and does not spin"
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
        assert [client.answer().status for client in clients] == [200] * 6, "nobody was lost"
