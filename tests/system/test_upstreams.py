"""What is known of endpoints is the fleet's: over workers, over reloads, and over the death of whoever leads."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.directives.patients import Patient, patients
from tests.system.fleet import Fleet, wait_until

ASK = b"GET /p HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
ROUTE = 'route "p" {{ matches {{ path "/p"; }}; upstream "pair"; {route} }}'
UPSTREAM = 'upstream "pair" {{ {endpoints}; {policy} }}'


def fleet_of(directory: Path, found: tuple[Patient, ...], policy: str, *, workers: int = 3, route: str = "") -> Fleet:
    endpoints = "; ".join(f'endpoint "127.0.0.1:{one.port}"' for one in found)
    return Fleet(
        directory, found[0].port, workers=workers, routes=ROUTE.format(route=route),
        upstreams=UPSTREAM.format(endpoints=endpoints, policy=policy + ";"),
    ).start()  # fmt: skip


def asked(fleet: Fleet) -> socket.socket:
    """A request on a connection of its own: any worker may get it."""
    connection = socket.create_connection(("127.0.0.1", fleet.port), timeout=20)
    connection.sendall(ASK)
    return connection


def told(connection: socket.socket) -> int:
    with connection:
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return int(data[9:12])


def statuses(fleet: Fleet, count: int) -> list[int]:
    return [told(asked(fleet)) for _ in range(count)]


def endpoint(fleet: Fleet, patient: Patient) -> dict[str, Any]:
    found = fleet.ctl_json("endpoints")
    one: dict[str, Any] = next(
        one for one in found if one["upstream"] == "pair" and one["endpoint"].endswith(str(patient.port))
    )
    return one


@pytest.fixture
def pair() -> Iterator[tuple[Patient, ...]]:
    with patients("a", "b") as found:
        yield found


def test_a_breaker_that_opened_is_open_in_all_workers_and_after_a_reload(
    tmp_path: Path, pair: tuple[Patient, ...]
) -> None:
    fleet = fleet_of(tmp_path, pair[:1], 'circuit-breaker { failures 3; open-for "1h"; }')
    try:
        pair[0].status = 500
        assert statuses(fleet, 12) == [500] * 3 + [503] * 9, "three failures, whichever workers had them"
        fleet.ctl("reload")
        assert statuses(fleet, 6) == [503] * 6
        pair[0].status = 200
        fleet.ctl("breakers", "close", f"pair/127.0.0.1:{pair[0].port}")
        assert statuses(fleet, 6) == [200] * 6
        assert "set-breaker" in (fleet.run_dir / "audit.log").read_text()
    finally:
        fleet.stop()


def test_no_more_are_in_flight_than_the_fleet_allows_also_after_a_worker_was_killed(
    tmp_path: Path, pair: tuple[Patient, ...]
) -> None:
    fleet = fleet_of(tmp_path, pair[:1], "limits { max-requests 5; }")
    try:
        pair[0].hold.clear()
        waiting = [asked(fleet) for _ in range(5)]
        wait_until(lambda: pair[0].asked == 5, "five are in flight")
        assert statuses(fleet, 10) == [503] * 10
        for worker in fleet.ctl_json("workers"):
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: endpoint(fleet, pair[0])["in_flight"] == 0, "what the dead had in flight is given back")
        pair[0].hold.set()
        wait_until(fleet.is_serving, "it serves again")
        assert statuses(fleet, 6) == [200] * 6
        for connection in waiting:
            connection.close()
    finally:
        fleet.stop()


def test_checks_are_made_once_for_all_and_go_on_when_the_leader_dies(tmp_path: Path, pair: tuple[Patient, ...]) -> None:
    policy = 'health-check { path "/h"; interval "100ms"; unhealthy-after 1; healthy-after 1; }'
    fleet = fleet_of(tmp_path, pair, policy)
    try:
        wait_until(lambda: len(pair[0].checks) > 3, "checks are made")
        before = len(pair[0].checks)
        threading.Event().wait(1.0)
        assert len(pair[0].checks) - before <= 15, "ten in a second, not thirty"
        for worker in fleet.ctl_json("workers"):
            os.kill(worker["pid"], signal.SIGKILL)
        pair[1].status = 500
        wait_until(lambda: endpoint(fleet, pair[1])["health"] == "unhealthy", "somebody else leads")
        assert statuses(fleet, 6) == [200] * 6
        fleet.ctl("endpoints", "set", "pair", f"127.0.0.1:{pair[0].port}", "maintenance")
        wait_until(lambda: set(statuses(fleet, 3)) == {503}, "one is ill, the other one was taken out")
        fleet.ctl("reload")
        assert statuses(fleet, 3) == [503] * 3, "both are known after a reload"
        fleet.ctl("endpoints", "set", "pair", f"127.0.0.1:{pair[0].port}", "ready")
        assert statuses(fleet, 3) == [200] * 3
        pair[1].status = 200
        endpoints = "; ".join(f'endpoint "127.0.0.1:{one.port}"' for one in pair)
        fleet.write(upstreams=UPSTREAM.format(endpoints=endpoints, policy=""))
        fleet.ctl("reload")
        asked_before = pair[1].asked
        assert statuses(fleet, 6) == [200] * 6
        assert pair[1].asked > asked_before, "without checks nobody is ill"
    finally:
        fleet.stop()


def test_least_request_sees_what_other_workers_have_in_flight(tmp_path: Path, pair: tuple[Patient, ...]) -> None:
    fleet = fleet_of(tmp_path, pair, 'balance "least-request"')
    try:
        for one in pair:
            one.hold.clear()
        waiting = []
        for count in range(1, 21):
            waiting.append(asked(fleet))
            wait_until(lambda: pair[0].asked + pair[1].asked == count, "it was asked")  # noqa: B023
            assert abs(pair[0].asked - pair[1].asked) <= 1, "evenly, whichever worker it was"
        for one in pair:
            one.hold.set()
        assert [told(connection) for connection in waiting] == [200] * 20
    finally:
        fleet.stop()
