"""Retries, as clients and endpoints meet them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sentinel.core.reasons import Reason
from sentinel.core.record import decode
from shm.counters import Counter
from tests.directives.house import serving
from tests.directives.patients import listed, patients
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation, closed_port, scripted

RETRY = 'retry {{ attempts {attempts}; on "{on}"; backoff "0s"; {more} }}'


def rule(on: str = "5xx", attempts: int = 2, more: str = "") -> str:
    return RETRY.format(on=on, attempts=attempts, more=more and more + ";")


def one_by_one(*scripts: Callable[[Conversation, bytes], None]) -> tuple[Callable[[Conversation], None], list[bytes]]:
    """An origin's script: the n-th request is answered by the n-th function, whatever the connection."""
    left, bodies, lock = list(scripts), [], threading.Lock()

    def talk(conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            body = conversation.body(head)
            with lock:
                bodies.append(body)
                script = left.pop(0) if left else well
            script(conversation, head)

    return talk, bodies


def well(conversation: Conversation, head: bytes) -> None:
    conversation.answer(b"well")


def status(code: int) -> Callable[[Conversation, bytes], None]:
    return lambda conversation, head: conversation.answer(b"ill", f"HTTP/1.1 {code} X")


def reset(conversation: Conversation, head: bytes) -> None:
    conversation.reset()


def garbage(conversation: Conversation, head: bytes) -> None:
    conversation.send(b"what?\r\n\r\n")


def test_that_a_try_is_not_repeated_is_told_with_the_obstacle(tmp_path: Path) -> None:
    talk, bodies = one_by_one(status(503))
    with scripted(talk) as origin, serving(tmp_path, origin=origin.port, route=rule()) as worker:
        assert Client(worker.port).get("/", method="POST").status == 503
        (octets,) = wait_until(lambda: list(worker.region.journal_read()), "it is recorded")
        steps = {step.reason_number: step for step in decode(octets).steps}
    denied, tried = steps[Reason.RETRY_DENIED.number], steps[Reason.ATTEMPTED.number]
    assert len(bodies) == 1 and denied.details[1:] == ("503", "POST is not idempotent")
    assert (tried.details[1], tried.details[-1]) == ("1", "503") and denied.place != tried.place


def flights(worker: Worker) -> int:
    return sum(view.in_flight for view in worker.region.places())


@pytest.mark.directive("route/retry/attempts")
def test_so_many_tries_are_made_and_the_last_answer_counts(tmp_path: Path) -> None:
    for attempts, expected in ((2, 503), (3, 200)):
        talk, bodies = one_by_one(status(503), status(503))
        with scripted(talk) as origin, serving(
            tmp_path / str(attempts), origin=origin.port, route=rule(attempts=attempts)
        ) as worker:  # fmt: skip
            assert Client(worker.port).get("/").status == expected
            assert len(bodies) == attempts
            wait_until(lambda: flights(worker) == 0, "nothing stays in flight")


@pytest.mark.directive("route/retry/on")
@pytest.mark.parametrize(("on", "failure", "is_retried"), [
    ("503", status(503), True), ("503", status(500), False), ("5xx", status(599), True), ("5xx", status(404), False),
    ("gateway-error", status(504), True), ("gateway-error", status(501), False), ("404", status(404), True),
    ("reset", reset, True), ("timeout", reset, False), ("malformed", garbage, True), ("reset", garbage, False),
])  # fmt: skip
def test_only_what_is_named_is_tried_again(
    tmp_path: Path, on: str, failure: Callable[[Conversation, bytes], None], is_retried: bool
) -> None:
    talk, bodies = one_by_one(failure)
    with scripted(talk) as origin, serving(tmp_path, origin=origin.port, route=rule(on)) as worker:
        answer = Client(worker.port).get("/")
        assert (answer.body == b"well") is is_retried
        assert len(bodies) == 1 + is_retried


@pytest.mark.directive("route/retry/on")
def test_endpoints_that_refuse_are_tried_again_after_a_while(tmp_path: Path) -> None:
    for setting, attempts in (("", 1), (rule("connect-failure", 3), 3)):
        with serving(tmp_path / str(attempts), origin=closed_port(), route=setting) as worker:
            assert Client(worker.port).get("/").status == 502
            assert worker.counter(Counter.UPSTREAM_CONNECT_FAILURES) == attempts


def test_another_endpoint_is_preferred(tmp_path: Path) -> None:
    with patients("a", "b") as (ill, well_one), serving(
        tmp_path, endpoints=listed(ill, well_one), route=rule()
    ) as worker:  # fmt: skip
        ill.status = 500
        client = Client(worker.port)
        assert {client.get("/").body for _ in range(8)} == {b"b"}
        assert ill.asked == 4


@pytest.mark.directive("route/retry/unsafe-methods")
def test_what_may_not_be_done_twice_is_sent_once_unless_it_is_allowed(tmp_path: Path) -> None:
    for setting, expected in (("", 503), ("unsafe-methods true", 200)):
        talk, bodies = one_by_one(status(503))
        with scripted(talk) as origin, serving(
            tmp_path / str(expected), origin=origin.port, route=rule(more=setting)
        ) as worker:  # fmt: skip
            client = Client(worker.port).send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
            assert client.answer().status == expected
            assert set(bodies) == {b"body"}


@pytest.mark.directive("route/retry/max-body-size")
def test_a_body_is_sent_again_if_it_was_small_enough_to_be_kept(tmp_path: Path) -> None:
    for size, expected in ((1000, 200), (1001, 503)):
        talk, bodies = one_by_one(status(503))
        with scripted(talk) as origin, serving(
            tmp_path / str(size), origin=origin.port, route=rule(more='max-body-size "1000B"')
        ) as worker:  # fmt: skip
            body = bytes(size)
            client = Client(worker.port)
            client.send(f"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n".encode() + body)
            assert client.answer().status == expected
            assert set(bodies) == {body}


@pytest.mark.directive("route/retry/per-try-timeout")
def test_a_silent_try_gives_way_to_another(tmp_path: Path) -> None:
    released = threading.Event()

    def silent(conversation: Conversation, head: bytes) -> None:
        released.wait(10)

    talk, bodies = one_by_one(silent)
    setting = rule("timeout", more='per-try-timeout "100ms"')
    with scripted(talk) as origin, serving(tmp_path, origin=origin.port, route=setting) as worker:
        assert Client(worker.port).get("/").body == b"well", "the upstream's own patience is a minute"
        assert len(bodies) == 2
        released.set()


def test_when_the_last_try_is_silent_too_the_client_is_told(tmp_path: Path) -> None:
    released = threading.Event()

    def silent(conversation: Conversation, head: bytes) -> None:
        released.wait(10)

    talk, _ = one_by_one(silent, silent)
    setting = rule("timeout", more='per-try-timeout "100ms"')
    with scripted(talk) as origin, serving(tmp_path, origin=origin.port, route=setting) as worker:
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "try-timeout")
        released.set()
        wait_until(lambda: flights(worker) == 0, "nothing stays in flight")


@pytest.mark.directive("route/retry/backoff", "route/retry/max-backoff")
def test_a_try_waits_a_random_time_up_to_a_bound(tmp_path: Path) -> None:
    text = 'retry {{ attempts 10; on "503"; backoff "{}"; max-backoff "{}"; }}'
    times = {}
    for backoff, most in (("0s", "0s"), ("60ms", "60ms"), ("1h", "1ms")):
        talk, _ = one_by_one(*[status(503)] * 9)
        with scripted(talk) as origin, serving(
            tmp_path / backoff, origin=origin.port, route=text.format(backoff, most)
        ) as worker:  # fmt: skip
            began = time.monotonic()
            assert Client(worker.port).get("/").status == 200
            times[backoff] = time.monotonic() - began
    # Nine waits of 30 ms on average; that all of them together are below 40 ms has a chance of one in ten million.
    assert times["60ms"] > 0.04
    assert times["1h"] < 4, "the bound holds"


@pytest.mark.directive("upstream/retry-budget", "upstream/retry-budget@min")
def test_the_fleet_makes_no_more_retries_than_its_budget(tmp_path: Path) -> None:
    for budget, least, most in (('retry-budget "0%" min="1/s"', 10, 13), ('retry-budget "100%" min="1/s"', 40, 40)):
        with patients("a") as (ill,), serving(
            tmp_path / budget[14:16].strip("%"), endpoints=listed(ill), route=rule(), upstream=budget
        ) as worker:  # fmt: skip
            ill.status = 500
            client = Client(worker.port)
            assert {client.get("/").status for _ in range(40)} == {500}
            assert least <= ill.asked - 40 <= most, "ten seconds' worth is saved up at the beginning"


def test_a_client_that_leaves_ends_the_waiting(tmp_path: Path) -> None:
    with patients("a") as (ill,), serving(
        tmp_path, endpoints=listed(ill), route='retry { on "5xx"; backoff "1h"; max-backoff "1h"; }'
    ) as worker:  # fmt: skip
        ill.status = 500
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: ill.asked == 1, "the first try")
        client.close()
        assert worker.log(1)[0]["reason"] == "client-gone"
        assert flights(worker) == 0


def test_nothing_is_tried_again_once_the_answer_has_begun(tmp_path: Path) -> None:
    def half(conversation: Conversation, head: bytes) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        conversation.reset()

    talk, bodies = one_by_one(half)
    with scripted(talk) as origin, serving(
        tmp_path, origin=origin.port, route='retry { attempts 3; on "reset" "5xx" "malformed"; }'
    ) as worker:  # fmt: skip
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: worker.log(1)[0]["reason"] == "upstream-aborted", "it is cut")
        client.close()
        assert len(bodies) == 1
