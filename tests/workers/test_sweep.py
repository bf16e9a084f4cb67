"""Sweeping: whoever was let into a queue is served before the listener ends, and nobody waits for more than that."""

from __future__ import annotations

import os
import resource
import signal
import time
from itertools import product
from pathlib import Path

import pytest

from sentinel.core.machines.worker import TRANSITIONS, Order, WorkerEvent, WorkerState, step
from shm.region import Counter
from tests.workers.child import MS, Client, Worker, upstream_of, wait_until, working

GET = b"GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n"


def test_the_table_is_total_and_never_goes_back() -> None:
    for state, event in product(WorkerState, WorkerEvent):
        after = step(state, event)
        assert after >= state or (event is WorkerEvent.REAPED and after is WorkerState.FREE), (state, event)
    assert all(len(row) == len(WorkerEvent) for row in TRANSITIONS.values())


def test_who_sweeps_accepts_and_who_drains_does_not_come_back() -> None:
    for state in (WorkerState.READY, WorkerState.SERVING):
        assert step(state, WorkerEvent.SWEEP) is WorkerState.SERVING
    assert step(WorkerState.DRAINING, WorkerEvent.SWEEP) is WorkerState.DRAINING
    assert step(WorkerState.BOOTING, WorkerEvent.SWEEP) is WorkerState.BOOTING, "it looks again when it is ready"


@pytest.mark.parametrize("has_served", [True, False], ids=["a worker", "a sweeper"])
def test_all_who_wait_in_the_queue_are_served_and_parted_with(tmp_path: Path, has_served: bool) -> None:
    worker = Worker(upstream_of(1), tmp_path)
    try:
        worker.start(serve=has_served)
        worker.wait_state(WorkerState.SERVING if has_served else WorkerState.READY)
        kept = [Client(worker.port)] if has_served else []
        assert all(client.get("/fixed").status == 200 for client in kept)
        os.kill(worker.pid, signal.SIGSTOP)
        worker.order(Order.SWEEP, time.monotonic_ns() + 60_000 * MS)
        waiting = [Client(worker.port).send(GET) for _ in range(150)]
        os.kill(worker.pid, signal.SIGCONT)
        wait_until(lambda: worker.counter(Counter.ACCEPTED) > has_served, "it has heard of it")
        waiting += [client.send(GET) for client in kept]
        for client in waiting:
            answer = client.answer()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            assert client.is_closed()
            client.close()
        assert worker.wait() == 0, "and then it drained"
        assert worker.counter(Counter.ACCEPTED) == worker.counter(Counter.CLOSED) == 150 + has_served
    finally:
        worker.stop()


def test_an_empty_queue_is_swept_at_once(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        worker.order(Order.SWEEP, time.monotonic_ns() + 60_000 * MS)
        assert worker.wait(5) == 0


def test_a_silent_connection_from_the_queue_is_closed_at_the_deadline(tmp_path: Path) -> None:
    worker = Worker(upstream_of(1), tmp_path)
    silent = Client(worker.port)
    try:
        worker.region.set_order(worker.slot, Order.SWEEP, time.monotonic_ns() + 500 * MS)
        worker.start(serve=False)
        worker.wait_state(WorkerState.DRAINING)
        assert silent.is_closed()
        assert worker.wait() == 0
        assert worker.counter(Counter.DRAIN_CLOSED) == 1
    finally:
        worker.stop()


def test_a_queue_that_cannot_be_emptied_is_left_at_the_deadline(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, hard))
        client = Client(worker.port).send(GET)
        wait_until(lambda: worker.counter(Counter.ACCEPT_FAILURES) >= 1, "it cannot accept")
        worker.order(Order.SWEEP, time.monotonic_ns() + 400 * MS)
        assert worker.wait() == 0
        client.close()


def test_drain_ends_a_sweep(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/fixed").status == 200
        worker.region.set_order(worker.slot, Order.SWEEP, time.monotonic_ns() + 60_000 * MS)
        worker.drain(60)
        assert client.get("/fixed").fields["connection"] == "close"
        client.close()
        assert worker.wait() == 0
