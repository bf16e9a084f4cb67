"""The promise: no operator action loses a request, for clients that never retry."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.fleet import Fleet, running_load, running_origin, wait_until


@pytest.fixture
def fleet(tmp_path: Path, origin_port: int) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, origin_port).start()
    try:
        yield fleet
    finally:
        fleet.kill()


def reload(fleet: Fleet) -> int:
    status, answer = fleet.api("POST", "/reload")
    assert status == 200, answer
    number: int = answer["generation"]
    return number


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_200_reloads_in_a_row_under_load_lose_nothing(fleet: Fleet) -> None:
    with running_load(fleet.port, clients=8) as load:
        numbers = [reload(fleet) for _ in range(200)]
        result = load.finish()
    assert result["failure_count"] == 0, result
    assert result["done"] > 1000, "the load was real"
    assert numbers == sorted(set(numbers)), "numbers never go back"
    status = fleet.ctl_json("status")
    assert status["generation"] == numbers[-1]


def test_reloads_with_changed_content_take_effect_and_lose_nothing(fleet: Fleet) -> None:
    with running_load(fleet.port, clients=4) as load:
        for number in range(5):
            route = 'route "n" { matches { path "/n"; }; respond 200 body="' + str(number) + '"; }'
            fleet.write(routes=route)
            fleet.ctl("reload")
            assert get(fleet.port, "/n")[1] == str(number).encode()
        result = load.finish()
    assert result["failure_count"] == 0, result


def test_sighup_does_what_reload_does(fleet: Fleet) -> None:
    before = fleet.ctl_json("status")["generation"]
    fleet.write(routes='route "hup" { matches { path "/hup"; }; respond 204; }')
    assert fleet.process is not None
    fleet.process.send_signal(signal.SIGHUP)
    wait_until(lambda: fleet.ctl_json("status")["generation"] > before, "the generation after SIGHUP")
    assert get(fleet.port, "/hup")[0] == 204


def test_a_bad_configuration_changes_nothing_and_says_where(fleet: Fleet) -> None:
    before = fleet.ctl_json("status")["generation"]
    fleet.write(routes='route "x" { matches { pathprefix "/"; }; upstream "orgin"; }')
    with running_load(fleet.port, clients=4) as load:
        answer = fleet.ctl("reload", check=False)
        result = load.finish()
    assert answer.returncode == 1
    text = answer.stdout + answer.stderr
    assert "sentinel.kdl:" in text and "path-prefix" in text and "origin" in text, "all problems, with remedies"
    assert fleet.ctl_json("status")["generation"] == before
    assert result["failure_count"] == 0, result


def test_the_number_of_workers_reloads_up_and_down_without_loss(fleet: Fleet) -> None:
    with running_load(fleet.port, clients=8) as load:
        for count in (4, 1, 3, 2):
            fleet.write(workers=count)
            fleet.ctl("reload")
            serving = [worker for worker in fleet.workers() if worker["state"].lower() == "serving"]
            assert len(serving) == count, serving
        result = load.finish()
    assert result["failure_count"] == 0, result


def test_a_taken_port_refuses_the_generation(fleet: Fleet, origin_port: int) -> None:
    before = fleet.ctl_json("status")["generation"]
    fleet.write(listener=f'}}\n listener "second" {{ address "127.0.0.1:{origin_port}"')
    answer = fleet.ctl("reload", check=False)
    assert answer.returncode == 1
    assert str(origin_port) in answer.stdout + answer.stderr
    assert fleet.ctl_json("status")["generation"] == before
    assert get(fleet.port, "/bytes/3")[0] == 200


def test_a_generation_whose_workers_cannot_start_is_refused_and_the_old_one_never_stops(fleet: Fleet) -> None:
    before = fleet.ctl_json("status")["generation"]
    nowhere = fleet.directory / "not-a-directory"
    nowhere.write_text("a file")
    fleet.config.write_text(fleet.config.read_text().replace(f"{fleet.directory}/access.log", f"{nowhere}/access.log"))
    with running_load(fleet.port, clients=4) as load:
        answer = fleet.ctl("reload", check=False)
        result = load.finish()
    assert answer.returncode == 1
    assert "before it was ready" in answer.stdout + answer.stderr, "the worker's last words say why"
    assert fleet.ctl_json("status")["generation"] == before
    assert result["failure_count"] == 0, result


def test_a_generation_whose_workers_crash_under_traffic_is_rolled_back(fleet: Fleet) -> None:
    before = fleet.ctl_json("status")["generation"]
    new = 'route "n" { matches { path "/n"; }; respond 200 body="new"; }'
    fleet.write(routes=new, system="crash-budget { restarts 2; }")
    fleet.ctl("reload")
    bad = fleet.ctl_json("status")["generation"]

    def rolled_back() -> bool:
        for worker in fleet.workers():
            if worker["generation"] == bad and worker["state"].lower() == "serving":
                os.kill(worker["pid"], signal.SIGSEGV)
        return bool(fleet.ctl_json("status")["generation"] > bad)

    wait_until(rolled_back, "the former content serves again", 40)
    assert before < bad
    wait_until(lambda: get(fleet.port, "/n")[1] != b"new", "the former content answers")


def test_listeners_come_and_go_by_reload(fleet: Fleet) -> None:
    from tests.system.fleet import free_port

    second = free_port()
    fleet.write(listener=f'}}\n listener "second" {{ address "127.0.0.1:{second}"')
    fleet.ctl("reload")
    assert get(second, "/bytes/3") == (200, b"xxx")
    fleet.write(listener="")
    fleet.ctl("reload")
    wait_until(lambda: not accepts(second), "the removed listener is closed")


def test_sigterm_under_load_completes_what_is_in_flight_and_exits_0(tmp_path: Path, origin_port: int) -> None:
    fleet = Fleet(tmp_path, origin_port).start()
    try:
        slow = [Slow(fleet.port, "/slow/700") for _ in range(20)]
        dripping = [Slow(fleet.port, "/drip/10/80") for _ in range(5)]
        wait_until(
            lambda: sum(worker["open_requests"] for worker in fleet.workers()) >= 25, "all requests are in flight"
        )
        assert fleet.stop() == 0
        assert [client.status() for client in slow] == [200] * 20
        assert all(client.body().count(b"drip ") == 10 for client in dripping)
    finally:
        fleet.kill()


def test_sigterm_during_a_load_of_kept_connections_fails_no_exchange_under_way(
    tmp_path: Path, origin_port: int
) -> None:
    """After the drain began, kept connections end by `Connection: close` only: what follows is a refused connect."""
    fleet = Fleet(tmp_path, origin_port).start()
    try:
        with running_load(fleet.port, clients=8) as load:
            get(fleet.port, "/bytes/1")
            assert fleet.stop() == 0
            result = load.finish()
        lost = [text for text in result["failures"] if not text.startswith("connecting")]
        assert lost == [], result
    finally:
        fleet.kill()


def test_drain_and_resume(fleet: Fleet) -> None:
    fleet.ctl("drain")
    assert fleet.ctl_json("status")["mode"] == "drained"
    fleet.ctl("resume")
    wait_until(fleet.is_serving, "the fleet serves again")
    assert get(fleet.port, "/bytes/3") == (200, b"xxx")


def test_rollback_serves_the_former_content_under_a_new_number(fleet: Fleet) -> None:
    fleet.write(routes='route "v" { matches { path "/v"; }; respond 200 body="new"; }')
    fleet.ctl("reload")
    number = fleet.ctl_json("status")["generation"]
    assert get(fleet.port, "/v") == (200, b"new")
    fleet.ctl("rollback")
    assert get(fleet.port, "/v")[1] != b"new"
    assert fleet.ctl_json("status")["generation"] > number


def test_a_generation_that_fails_half_its_requests_is_rolled_back_by_itself(tmp_path: Path) -> None:
    probation = 'probation { duration "20s"; max-failure-share "20%"; min-requests 20; }'
    switch = tmp_path / "fail"
    with running_origin() as good, running_origin("--fail", str(switch)) as bad:
        switch.touch()
        fleet = Fleet(tmp_path, good, system=probation).start()
        try:
            fleet.write(origin_port=bad)
            fleet.ctl("reload")
            number = fleet.ctl_json("status")["generation"]

            def rolled_back() -> bool:
                get(fleet.port, "/bytes/3")
                status = fleet.ctl_json("status")
                return bool(status["generation"] > number and get(fleet.port, "/bytes/3")[0] == 200)

            wait_until(rolled_back, "the automatic rollback", 40)
            assert [get(fleet.port, "/bytes/3") for _ in range(20)] == [(200, b"xxx")] * 20
        finally:
            fleet.kill()


def test_clients_cannot_have_a_generation_taken_back(tmp_path: Path, origin_port: int) -> None:
    """Refusals with 5xx are the client's doing, and say nothing of the configuration."""
    probation = 'probation { duration "2s"; max-failure-share "1%"; min-requests 1; }'
    fleet = Fleet(tmp_path, origin_port, system=probation).start()
    try:
        fleet.ctl("reload")
        number = fleet.ctl_json("status")["generation"]
        for octets in (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n") * 20:
            with socket.create_connection(("127.0.0.1", fleet.port), timeout=10) as connection:
                connection.sendall(octets)
                assert connection.recv(100).startswith((b"HTTP/1.1 505", b"HTTP/1.1 501"))
        wait_until(lambda: fleet.ctl_json("status")["rollout"]["state"] == "current", "its probation is over")
        assert fleet.ctl_json("status")["generation"] == number
    finally:
        fleet.kill()


def test_a_canary_serves_on_some_lanes_and_is_promoted(fleet: Fleet) -> None:
    fleet.write(routes='route "v" { matches { path "/v"; }; respond 200 body="new"; }')
    fleet.ctl("reload", "--canary", "1")
    generations = {worker["generation"] for worker in fleet.workers() if worker["state"].lower() == "serving"}
    assert len(generations) == 2
    seen = [get(fleet.port, "/v") == (200, b"new") for _ in range(60)]
    assert 0 < sum(seen) < 60, "by the kernel's choice of a lane: all alike is one chance in 2 to the 59th"
    fleet.ctl("promote")
    assert all(get(fleet.port, "/v") == (200, b"new") for _ in range(20))


# Small clients.


class Slow:
    """A request sent now, whose answer is read later."""

    def __init__(self, port: int, path: str) -> None:
        import http.client

        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.request("GET", path)
        self.answer: http.client.HTTPResponse | None = None

    def status(self) -> int:
        self.answer = self.answer or self.connection.getresponse()
        return self.answer.status

    def body(self) -> bytes:
        self.status()
        assert self.answer is not None
        return self.answer.read()


def get(port: int, path: str) -> tuple[int, bytes]:
    client = Slow(port, path)
    return client.status(), client.body()


def accepts(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
