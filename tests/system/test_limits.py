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

RATE, BURST = 100, 200
"""The bucket is full again only if nobody asks for two seconds."""
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
        self.admitted = self.refused = self.lost = 0
        self.first_asked_s = self.first_admitted_s = 0.0
        self.last_admitted_s = self.last_refused_asked_s = self.last_asked_s = self.wasted_s = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def is_exact(self) -> None:
        """What was admitted lies between what must and what may have been, by the clients' own clocks.

        The bucket's first charge was made between a client's asking and its answer, so was its last; and whoever was
        refused found nothing left. What was asked of a worker that died may have been admitted or not; and while
        nobody asked (a machine that was busy otherwise) a full bucket gains nothing.
        """
        assert self.refused > 100, "the crowd asked for more than there was"
        most = BURST + RATE * (self.last_admitted_s - self.first_asked_s)
        asking_s = self.last_refused_asked_s - self.first_admitted_s - self.wasted_s
        least = BURST - 1 + RATE * asking_s - self.lost
        assert least <= self.admitted <= most, (least, self.admitted, most, self.lost, self.wasted_s)

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                    self._talk(connection)
            except OSError:
                continue

    def _talk(self, connection: socket.socket) -> None:
        while not self._ended.is_set():
            asked_s = time.monotonic()
            try:
                connection.sendall(ASK)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    if not (data := connection.recv(65536)):
                        raise ConnectionError
                    answer += data
            except OSError:
                with self._lock:
                    self.lost += 1
                raise
            head, _, body = answer.partition(b"\r\n\r\n")
            self._told(head, asked_s, time.monotonic())
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(body) < length:
                if not (data := connection.recv(65536)):
                    raise ConnectionError
                body += data
            if b"connection: close" in head.lower():
                return

    def _told(self, head: bytes, asked_s: float, now_s: float) -> None:
        with self._lock:
            self.first_asked_s = min(self.first_asked_s or asked_s, asked_s)
            if self.last_asked_s:
                self.wasted_s += max(now_s - self.last_asked_s - BURST / RATE, 0.0)
            self.last_asked_s = max(self.last_asked_s, asked_s)
            if head.startswith(b"HTTP/1.1 200"):
                self.admitted += 1
                self.first_admitted_s = self.first_admitted_s or now_s
                self.last_admitted_s = max(self.last_admitted_s, now_s)
            else:
                assert head.startswith(b"HTTP/1.1 429"), head
                self.refused += 1
                self.last_refused_asked_s = max(self.last_refused_asked_s, asked_s)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_any_number_of_workers_admit_what_the_limit_says_and_no_more(
    tmp_path: Path, origin_port: int, workers: int
) -> None:
    """Also over a reload, and over the death of workers, half of which are killed at once."""
    fleet = Fleet(tmp_path, origin_port, workers=workers, routes=ROUTES, upstreams=FILTERS).start()
    try:
        crowd = Crowd(fleet.port)
        wait_until(lambda: crowd.admitted > BURST + RATE, "about a second's worth is admitted")
        fleet.ctl("reload")
        serving = [worker["pid"] for worker in fleet.workers() if worker["state"] == "serving"]
        victims = set(serving[: max(1, workers // 2)])
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not victims & {one["pid"] for one in fleet.workers()}, "they are buried")
        admitted = crowd.admitted
        wait_until(lambda: crowd.admitted > admitted + RATE, "and another second's worth is admitted")
        crowd.end()
        crowd.is_exact()
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
