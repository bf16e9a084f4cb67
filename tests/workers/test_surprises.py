"""A fault of ours costs its own connection: it is answered, counted and traced, and the worker goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shm.region import Counter
from tests.workers.child import Client, Worker, upstream_of, wait_until
from tests.workers.origin import echo, scripted


class Bug(Exception):
    pass


def broken(*_: Any, **__: Any) -> Any:
    raise Bug("made for a test")


@pytest.mark.interpreted
@pytest.mark.parametrize("place", ["exchange.decide_now", "attempt.build_request", "answer.build_response"])
def test_a_bug_is_a_500_for_its_own_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    module, name = place.split(".")
    with scripted(echo) as origin:
        worker = Worker(upstream_of(origin.port), tmp_path)
        monkeypatch.setattr(f"workers.{module}.{name}", broken)
        worker.start()
        try:
            for count in range(1, 4):
                answer = Client(worker.port).get("/")
                assert (answer.status, answer.fields["x-sentinel-reason"]) == (500, "internal")
                assert worker.counter(Counter.SURPRISES) == count
            assert [line["reason"] for line in worker.log(3)] == ["internal"] * 3
            assert "made for a test" in worker.stderr()
            wait_until(lambda: worker.region.slot(worker.slot).open_requests == 0, "nothing is left open")
        finally:
            worker.stop(surprises=True)


@pytest.mark.interpreted
def test_a_bug_in_the_books_cuts_the_connection_and_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(upstream_of(1), tmp_path)
    monkeypatch.setattr("workers.ledger.Ledger.enter", broken)
    worker.start()
    try:
        for _ in range(3):
            client = Client(worker.port).send("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")
            client.socket.settimeout(5)
            try:
                while client.socket.recv(100):
                    pass
            except ConnectionResetError:
                pass
            client.close()
        wait_until(lambda: worker.counter(Counter.CLOSED) == 3, "all are gone")
        wait_until(lambda: worker.region.slot(worker.slot).open_requests == 0, "nothing is left open")
    finally:
        worker.stop(surprises=True)


@pytest.mark.interpreted
def test_a_bug_in_the_clocks_chores_stops_no_other_chore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(upstream_of(1), tmp_path)
    monkeypatch.setattr("workers.world.LiveWorld.sweep", broken)
    worker.start()
    try:
        wait_until(lambda: worker.counter(Counter.SURPRISES) >= 3, "it strikes")
        assert Client(worker.port).get("/fixed").status == 200
        assert worker.log(1)[0]["status"] == 200
    finally:
        worker.stop(surprises=True)
