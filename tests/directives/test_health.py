"""Health checks, outlier ejection, panic and slow start, as clients meet them."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest

from tests.directives.house import serving
from tests.directives.patients import listed, patients, standing
from tests.workers.child import MS, Client, wait_until
from tests.workers.origin import closed_port, fields_of

QUICK = 'interval "20ms"; timeout "500ms"; healthy-after 1; unhealthy-after 1'


@pytest.mark.directive(
    "upstream/health-check/path", "upstream/health-check/interval",
    "upstream/health-check/unhealthy-after", "upstream/health-check/healthy-after",
)  # fmt: skip
def test_who_fails_its_checks_gets_no_requests_until_it_is_well(tmp_path: Path) -> None:
    check = f'health-check {{ path "/healthz?a=1"; {QUICK}; }}'
    with patients("a", "b") as (ill, well), serving(
        tmp_path, endpoints=listed(ill, well), upstream=check
    ) as worker:  # fmt: skip
        ill.status = 500
        read = standing(worker, ill)
        wait_until(lambda: read("health") == "unhealthy", "it is found ill")
        assert ill.checks[-1].startswith(b"GET /healthz?a=1 HTTP/1.1\r\n")
        client = Client(worker.port)
        assert {client.get("/").body for _ in range(6)} == {b"b"}
        ill.status = 200
        wait_until(lambda: read("health") == "healthy", "it is found well")
        assert {client.get("/").body for _ in range(6)} == {b"a", b"b"}
        assert "is unhealthy: bad status" in worker.stderr() and "is healthy: good" in worker.stderr()


def test_when_none_is_well_the_client_is_told(tmp_path: Path) -> None:
    check = f'health-check {{ path "/healthz"; {QUICK}; }}'
    with patients("a") as (ill,), serving(tmp_path, endpoints=listed(ill), upstream=check) as worker:
        ill.status = 404
        wait_until(lambda: standing(worker, ill)("health") == "unhealthy", "it is found ill")
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "none-usable")


@pytest.mark.directive("upstream/health-check/expect", "upstream/health-check/method", "upstream/health-check/host")
def test_a_check_asks_as_it_is_told_and_takes_the_answers_it_is_told(tmp_path: Path) -> None:
    check = f'health-check {{ path "/h"; method "HEAD"; host "app.internal"; expect 404 "500-599"; {QUICK}; }}'
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), upstream=check) as worker:
        read = standing(worker, one)
        wait_until(lambda: read("health") == "unhealthy", "200 is not expected")
        one.status = 503
        wait_until(lambda: read("health") == "healthy", "503 is")
        assert one.checks[0].startswith(b"HEAD /h HTTP/1.1\r\n")
        assert fields_of(one.checks[0])["host"] == "app.internal"


@pytest.mark.directive("upstream/health-check/port")
def test_a_check_asks_at_another_port(tmp_path: Path) -> None:
    with patients("a", "b") as (one, other):
        for port, health in ((other.port, "healthy"), (closed_port(), "unhealthy")):
            check = f"health-check {{ port {port}; {QUICK}; }}"
            with serving(tmp_path / health, endpoints=listed(one), upstream=check) as worker:
                read = standing(worker, one)
                wait_until(lambda: read("health") != "unknown", "it was checked")  # noqa: B023
                assert read("health") == health


@pytest.mark.directive("upstream/health-check/timeout")
def test_a_check_that_is_not_answered_in_time_is_a_bad_one(tmp_path: Path) -> None:
    check = 'health-check { path "/h"; interval "20ms"; timeout "50ms"; unhealthy-after 1; }'
    with patients("a") as (one,):

        def silent(conversation: object) -> None:
            one.hold.wait(20)

        one.origin.script = silent
        one.hold.clear()
        with serving(tmp_path, endpoints=listed(one), upstream=check) as worker:
            read = standing(worker, one)
            wait_until(lambda: read("finding") == "timed_out", "the default is two seconds", 1.8)


@pytest.mark.directive(
    "upstream/outlier-ejection/failures", "upstream/outlier-ejection/eject-for",
    "upstream/outlier-ejection/max-ejected",
)  # fmt: skip
def test_who_fails_real_requests_is_left_out_and_comes_back(tmp_path: Path) -> None:
    rule = 'outlier-ejection { failures 2; interval "50ms"; eject-for "300ms"; max-ejected "50%"; }'
    with patients("a", "b") as (ill, well), serving(
        tmp_path, endpoints=listed(ill, well), upstream=rule
    ) as worker:  # fmt: skip
        ill.status = 500
        client = Client(worker.port)
        read = standing(worker, ill)
        assert sorted(client.get("/").status for _ in range(8)) == [200] * 4 + [500] * 4
        wait_until(lambda: read("ejections") == "1", "it is ejected")
        assert {client.get("/").status for _ in range(6)} == {200}
        assert "is ejected for 0.3 s: 4 failures in a row" in worker.stderr()
        ill.status = 200
        wait_until(lambda: client.get("/").body == b"a", "it comes back")


def test_who_checks_without_descriptors_finds_nobody_ill(tmp_path: Path) -> None:
    """One worker checks for the whole fleet: its poverty must not take every endpoint away from everybody."""
    check = f'health-check {{ path "/healthz"; {QUICK}; }}'
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), upstream=check) as worker:
        read = standing(worker, one)
        wait_until(lambda: read("health") == "healthy", "it is found well")
        before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        looked, checked_ms = len(one.checks), int(read("checked_ms"))
        beat = worker.region.slot(worker.slot).heartbeat_ns
        wait_until(lambda: worker.region.slot(worker.slot).heartbeat_ns > beat + 500 * MS, "a dozen checks were due")
        assert len(one.checks) - looked <= 1 and int(read("checked_ms")) - checked_ms < 250, "none was made"
        assert read("health") == "healthy"
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
        one.status = 500
        wait_until(lambda: read("health") == "unhealthy", "and then it looks again")


@pytest.mark.directive("upstream/outlier-ejection/max-ejected")
def test_no_more_than_a_share_is_ejected(tmp_path: Path) -> None:
    rule = 'outlier-ejection { failures 1; interval "50ms"; eject-for "1h"; max-ejected "50%"; }'
    with patients("a", "b") as both, serving(tmp_path, endpoints=listed(*both), upstream=rule) as worker:
        for one in both:
            one.status = 500
        client = Client(worker.port)
        for _ in range(4):
            client.get("/")
        wait_until(lambda: "ejected" in worker.stderr(), "one is ejected")
        assert {client.get("/").status for _ in range(20)} == {500}, "the other one still serves"
        assert worker.stderr().count("is ejected") == 1


@pytest.mark.directive(
    "upstream/outlier-ejection/interval", "upstream/outlier-ejection/min-requests",
    "upstream/outlier-ejection/deviations",
)  # fmt: skip
def test_who_fails_more_often_than_the_others_is_left_out(tmp_path: Path) -> None:
    rule = 'outlier-ejection { failures 0; interval "100ms"; min-requests 2; deviations 1.0; eject-for "1h"; }'
    with patients("a", "b", "c", "d") as found, serving(
        tmp_path, endpoints=listed(*found), upstream=rule
    ) as worker:  # fmt: skip
        found[2].status = 503
        client, read = Client(worker.port), standing(worker, found[2])

        def is_out() -> bool:
            for _ in range(40):
                client.get("/")
            return read("ejections") == "1"

        wait_until(is_out, "it stands out")
        assert "success rate 0.0%, the mean is 75.0%" in worker.stderr()


@pytest.mark.directive("upstream/outlier-ejection/latency-factor")
def test_who_lags_behind_the_others_is_left_out(tmp_path: Path) -> None:
    rule = (
        'outlier-ejection { failures 0; deviations 0; latency-factor 5; interval "200ms"; min-requests 1; '
        'eject-for "1h"; max-ejected "40%"; }'
    )
    with patients("a", "b", "c") as found, serving(tmp_path, endpoints=listed(*found), upstream=rule) as worker:
        read = standing(worker, found[0])
        clients = [Client(worker.port) for _ in range(3)]
        ask, deadline = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", threading.Event()

        def is_out() -> bool:
            found[0].hold.clear()
            for client in clients:
                client.send(ask)
            wait_until(lambda: found[0].asked > 0, "the slow one was asked")
            deadline.wait(0.06)  # what makes it slow
            found[0].hold.set()
            for client in clients:
                client.answer()
            return read("ejections") == "1"

        wait_until(is_out, "it stands out")
        assert "mean latency" in worker.stderr()


@pytest.mark.directive("upstream/outlier-ejection/max-eject-for")
def test_an_ejection_lasts_no_longer_than_the_longest(tmp_path: Path) -> None:
    rule = 'outlier-ejection { failures 1; interval "50ms"; eject-for "50ms"; max-eject-for "60ms"; }'
    with patients("a", "b") as (ill, well), serving(
        tmp_path, endpoints=listed(ill, well), upstream=rule
    ) as worker:  # fmt: skip
        ill.status = 500
        client, read = Client(worker.port), standing(worker, ill)

        def often() -> bool:
            client.get("/")
            return int(read("ejections")) >= 2

        wait_until(often, "it is ejected again")
        assert "is ejected for 0.06 s" in worker.stderr()


@pytest.mark.directive("upstream/panic-threshold")
def test_in_a_panic_health_is_not_looked_at(tmp_path: Path) -> None:
    check = f'health-check {{ path "/healthz"; expect 201; {QUICK}; }}'
    with patients("a", "b") as both, serving(
        tmp_path, endpoints=listed(*both), upstream=check + '; panic-threshold "50%"'
    ) as worker:  # fmt: skip
        wait_until(lambda: all(standing(worker, one)("health") == "unhealthy" for one in both), "both are found ill")
        client = Client(worker.port)
        assert {client.get("/").body for _ in range(4)} == {b"a", b"b"}


@pytest.mark.directive("upstream/slow-start")
def test_who_was_away_comes_back_slowly(tmp_path: Path) -> None:
    check = f'health-check {{ path "/healthz"; {QUICK}; }}; slow-start "1h"'
    with patients("a", "b") as (ill, well), serving(
        tmp_path, endpoints=listed(ill, well), upstream=check
    ) as worker:  # fmt: skip
        read = standing(worker, ill)
        ill.status = 500
        wait_until(lambda: read("health") == "unhealthy", "it is found ill")
        ill.status = 200
        wait_until(lambda: read("health") == "healthy", "it is found well")
        client = Client(worker.port)
        wait_until(lambda: client.get("/").body == b"a", "it is asked again")
        bodies = [client.get("/").body for _ in range(110)]
        assert bodies.count(b"a") in range(7, 13), "a tenth of its weight at first"
