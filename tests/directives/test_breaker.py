"""Circuit breakers, as clients meet them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.directives.house import serving
from tests.directives.patients import listed, patients, standing
from tests.workers.child import Client, wait_until

OPEN = (503, "breaker-open")


def said(client: Client) -> tuple[int, str]:
    answer = client.get("/")
    return answer.status, answer.fields.get("x-sentinel-reason", "")


@pytest.mark.directive("upstream/circuit-breaker", "upstream/circuit-breaker/failures")
def test_so_many_failures_in_a_row_open_it(tmp_path: Path) -> None:
    with patients("a") as (ill,), serving(
        tmp_path, endpoints=listed(ill), upstream='circuit-breaker { failures 3; open-for "1h"; }'
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        ill.status = 500
        assert [said(client) for _ in range(5)] == [(500, "")] * 3 + [OPEN] * 2
        assert ill.asked == 3
        assert "circuit breaker of 127.0.0.1" in worker.stderr() and " opened" in worker.stderr()


@pytest.mark.directive("upstream/circuit-breaker/open-for")
def test_after_a_while_one_request_tries_it_again(tmp_path: Path) -> None:
    with patients("a") as (ill,), serving(
        tmp_path, endpoints=listed(ill), upstream='circuit-breaker { failures 1; open-for "100ms"; }'
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        ill.status = 500
        assert [said(client) for _ in range(2)] == [(500, ""), OPEN]
        ill.status = 200
        wait_until(lambda: said(client)[0] == 200, "the default is ten seconds", 4)
        assert [said(client)[0] for _ in range(3)] == [200] * 3


@pytest.mark.directive("upstream/circuit-breaker/error-rate", "upstream/circuit-breaker/min-calls")
def test_a_share_of_failures_opens_it(tmp_path: Path) -> None:
    rule = 'circuit-breaker { failures 0; error-rate "50%"; min-calls 4; open-for "1h"; }'
    with patients("a") as (ill,), serving(tmp_path, endpoints=listed(ill), upstream=rule) as worker:
        client = Client(worker.port)
        statuses = []
        for status in (200, 500, 200, 500, 200):
            ill.status = status
            statuses.append(said(client))
        assert statuses == [(200, ""), (500, ""), (200, ""), (500, ""), OPEN]


@pytest.mark.directive("upstream/circuit-breaker/window")
def test_what_is_older_than_the_window_does_not_count(tmp_path: Path) -> None:
    rule = 'circuit-breaker {{ failures 0; error-rate "100%"; min-calls 2; window "{}"; open-for "1h"; }}'
    with patients("a") as (ill,):
        ill.status = 500
        for window, last in (("100ms", (500, "")), ("1h", OPEN)):
            with serving(tmp_path / window, endpoints=listed(ill), upstream=rule.format(window)) as worker:
                client = Client(worker.port)
                said(client)
                threading.Event().wait(0.25)  # longer than the short window
                said(client)
                assert said(client) == (OPEN if window == "1h" else last)


@pytest.mark.directive("upstream/circuit-breaker/slow-call", "upstream/circuit-breaker/slow-rate")
def test_slow_answers_open_it(tmp_path: Path) -> None:
    rule = 'circuit-breaker { failures 0; slow-call "20ms"; slow-rate "60%"; min-calls 2; open-for "1h"; }'
    with patients("a") as (slow,), serving(tmp_path, endpoints=listed(slow), upstream=rule) as worker:
        client = Client(worker.port)
        assert said(client)[0] == 200, "a quick one"
        for count in (2, 3):  # one of two is less than 60%, two of three are more
            slow.hold.clear()
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            wait_until(lambda: slow.asked == count, "it was asked")  # noqa: B023
            threading.Event().wait(0.04)
            slow.hold.set()
            assert client.answer().status == 200
        assert said(client) == OPEN


@pytest.mark.directive("upstream/circuit-breaker/max-open-for")
def test_a_failed_trial_opens_it_for_longer(tmp_path: Path) -> None:
    rule = 'circuit-breaker {{ failures 1; open-for "50ms"; {} }}'
    with patients("a") as (ill,):
        ill.status = 500
        for setting, trips in (("", 3), ('max-open-for "1h";', 3)):
            with serving(
                tmp_path / (setting[:3] or "none"), endpoints=listed(ill), upstream=rule.format(setting)
            ) as worker:  # fmt: skip
                client, read = Client(worker.port), standing(worker, ill)

                def tripped() -> bool:
                    said(client)  # noqa: B023
                    return int(read("trips")) >= trips  # noqa: B023

                wait_until(tripped, "two trials failed")
                view = next(view for view in worker.region.places() if view.name.startswith("origin/"))
                opened_ms = view.breaker_until_ms
                said(client)
                left_ms = opened_ms - time.monotonic_ns() // 1_000_000
                assert left_ms > 60 if setting else left_ms <= 50


@pytest.mark.directive("upstream/circuit-breaker/probes")
def test_so_many_trials_must_succeed(tmp_path: Path) -> None:
    with patients("a") as (ill,), serving(
        tmp_path, endpoints=listed(ill), upstream='circuit-breaker { failures 1; open-for "50ms"; probes 3; }'
    ) as worker:  # fmt: skip
        client, read = Client(worker.port), standing(worker, ill)
        ill.status = 500
        said(client)
        ill.status = 200
        wait_until(lambda: said(client)[0] == 200, "the first trial")
        assert read("breaker") == "half_open"
        assert [said(client)[0] for _ in range(2)] == [200, 200]
        wait_until(lambda: read("breaker") == "closed", "the third one closes it")


@pytest.mark.directive("upstream/circuit-breaker/probe-timeout")
def test_a_trial_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    rule = 'circuit-breaker { failures 1; open-for "50ms"; probe-timeout "100ms"; }'
    with patients("a") as (ill,), serving(tmp_path, endpoints=listed(ill), upstream=rule) as worker:
        client = Client(worker.port)
        ill.status = 500
        said(client)
        ill.status, ill.asked = 200, 0
        ill.hold.clear()

        def lost() -> bool:
            Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            return ill.asked >= 2

        wait_until(lost, "a second trial; the default is half a minute", 4)
        ill.hold.set()


@pytest.mark.directive("upstream/circuit-breaker/scope")
def test_a_breaker_may_be_that_of_all_endpoints(tmp_path: Path) -> None:
    with patients("a", "b") as both:
        for one in both:
            one.status = 500
        for scope, failures in (("endpoint", 4), ("upstream", 2)):
            rule = f'circuit-breaker {{ scope "{scope}"; failures 2; open-for "1h"; }}'
            with serving(tmp_path / scope, endpoints=listed(*both), upstream=rule) as worker:
                client = Client(worker.port)
                assert [said(client) for _ in range(6)] == [(500, "")] * failures + [OPEN] * (6 - failures)


def test_a_client_that_leaves_gives_its_trial_back(tmp_path: Path) -> None:
    rule = 'circuit-breaker { failures 1; open-for "50ms"; probe-timeout "1h"; }'
    with patients("a") as (ill,), serving(tmp_path, endpoints=listed(ill), upstream=rule) as worker:
        client, read = Client(worker.port), standing(worker, ill)
        ill.status = 500
        said(client)
        ill.status, ill.asked = 200, 0
        ill.hold.clear()

        def trial() -> bool:
            leaving = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            wait_until(lambda: ill.asked > 0 or said_no(leaving), "asked, or refused")
            leaving.close()
            return ill.asked > 0

        wait_until(trial, "a trial begins, and its client leaves")
        wait_until(lambda: read("in_flight") == "0", "it is over")
        ill.hold.set()
        wait_until(lambda: said(client)[0] == 200, "another one is let through, long before the round ends")


def said_no(client: Client) -> bool:
    client.socket.setblocking(False)
    try:
        return b"503" in client.socket.recv(4096)
    except BlockingIOError:
        return False
