"""Limits are the fleet's: exact under any number of workers, over reloads, and over the death of workers."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.system.fleet import Fleet, wait_until

RATE, BURST = 400, 50
CLIENTS = 8
FILTERS = f"""}}
filters {{
    rate-limit "all" {{ rate "{RATE}/s"; burst {BURST}; key "all"; }}
"""
ROUTES = 'route "limited" { matches { path "/limited"; }; filters "all"; respond 200; }'
ASK = b"GET /limited HTTP/1.1\r\nHost: h\r\n\r\n"


class Crowd:
    """Clients that ask as fast as they are answered, and connect again when a worker has died or drained."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.admitted = self.refused = 0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self.begun_s = time.monotonic()
        for thread in self._threads:
            thread.start()

    def end(self) -> float:
        """Seconds in which they may have been admitted, and a little more."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return time.monotonic() - self.begun_s

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                    self._talk(connection)
            except OSError:
                continue

    def _talk(self, connection: socket.socket) -> None:
        while not self._ended.is_set():
            connection.sendall(ASK)
            answer = b""
            while b"\r\n\r\n" not in answer:
                data = connection.recv(65536)
                if not data:
                    return
                answer += data
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
            with self._lock:
                self.admitted += head.startswith(b"HTTP/1.1 200")
                self.refused += head.startswith(b"HTTP/1.1 429")
            if b"connection: close" in head.lower():
                return


def is_exact(crowd: Crowd, seconds: float) -> None:
    assert crowd.refused > 100, "the crowd asked for more than there was"
    assert BURST < crowd.admitted <= BURST + RATE * seconds + 1


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_admit_what_the_limit_says_and_no_more(
    tmp_path: Path, origin_port: int, workers: int
) -> None:
    fleet = Fleet(tmp_path, origin_port, workers=workers, routes=ROUTES, upstreams=FILTERS).start()
    try:
        crowd = Crowd(fleet.port)
        wait_until(lambda: crowd.admitted > BURST + RATE, "about a second's worth is admitted")
        is_exact(crowd, crowd.end())
    finally:
        fleet.kill()


CEILING = """}
filters {
    concurrency-limit "few" { max 5; key "all"; }
"""
SLOW = """
    route "slow" { matches { path-prefix "/drip"; }; filters "few"; upstream "origin"; }
    route "fast" { matches { path "/few"; }; filters "few"; respond 200; }
"""


def test_what_is_under_way_is_counted_over_the_fleet_and_given_back_when_its_worker_dies(
    tmp_path: Path, origin_port: int
) -> None:
    fleet = Fleet(tmp_path, origin_port, workers=4, routes=SLOW, upstreams=CEILING).start()

    def begun(path: str) -> tuple[socket.socket, int]:
        connection = socket.create_connection(("127.0.0.1", fleet.port), timeout=20)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return connection, int(connection.recv(65536).split()[1])

    def held() -> int:
        held: int = fleet.ctl_json("limits", "show", "few")["held"]
        return held

    try:
        found = [begun("/drip/2000/20") for _ in range(12)]
        assert sorted(status for _, status in found) == [200] * 5 + [429] * 7
        assert (held(), begun("/few")[1]) == (5, 429)
        fleet.ctl("reload")
        assert (held(), begun("/few")[1]) == (5, 429), "the old workers finish what they hold"
        for worker in fleet.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: held() == 0, "the dead hold nothing")
        wait_until(lambda: fleet.is_serving() and begun("/few")[1] == 200, "and their heirs let others in")
    finally:
        for connection, _ in found:
            connection.close()
        fleet.kill()


def test_neither_reloads_nor_deaths_give_anything_away(tmp_path: Path, origin_port: int) -> None:
    fleet = Fleet(tmp_path, origin_port, workers=2, routes=ROUTES, upstreams=FILTERS).start()
    try:
        crowd = Crowd(fleet.port)
        for _ in range(3):
            fleet.ctl("reload")
            victim = next(worker["pid"] for worker in fleet.workers() if worker["state"] == "serving")
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: victim not in {one["pid"] for one in fleet.workers()}, "it is buried")
        is_exact(crowd, crowd.end())
    finally:
        fleet.kill()
