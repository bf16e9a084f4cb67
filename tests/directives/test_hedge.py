"""Hedging, as clients and endpoints meet it: two tries under way, one answer, and nothing left behind."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.reasons import BY_NUMBER
from sentinel.core.record import decode
from shm.counters import Counter
from tests.directives.house import serving
from tests.directives.patients import Patient, listed, patients
from tests.directives.test_retry import flights, one_by_one
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, closed_port, scripted

HEDGE = 'retry {{ attempts {attempts}; on "{on}"; hedge-after "{after}"; backoff "0s"; {more} }}'
GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def rule(on: str = "connect-failure", attempts: int = 2, after: str = "50ms", more: str = "") -> str:
    return HEDGE.format(on=on, attempts=attempts, after=after, more=more and more + ";")


@contextlib.contextmanager
def hedging(
    directory: Path, *names: str, route: str = rule(), **parts: Any
) -> Iterator[tuple[Worker, tuple[Patient, ...]]]:  # fmt: skip
    """A worker in front of patients, the first of which answers only when it is let go."""
    with patients(*(names or ("slow", "quick"))) as found, serving(
        directory, endpoints=listed(*found), route=route, **parts
    ) as worker:  # fmt: skip
        found[0].hold.clear()
        yield worker, found


def words(worker: Worker) -> list[list[str]]:
    """The reasons of all steps but `attempted`, of each request, the oldest first."""
    found = [decode(record) for record in worker.region.journal_read(worker.slot)]
    reasons = [[BY_NUMBER[step.reason_number].word for step in record.steps] for record in found]
    return [[word for word in words if word != "attempted"] for words in reasons]


def is_quiet(worker: Worker) -> None:
    wait_until(lambda: flights(worker) == 0, "every permit is given back")
    wait_until(lambda: words(worker), "it is written down, which comes after the answer")


@pytest.mark.directive("route/retry/hedge-after")
def test_a_silent_endpoint_gets_a_rival_and_the_first_answer_wins(tmp_path: Path) -> None:
    with hedging(tmp_path) as (worker, (slow, quick)):
        answers = [Client(worker.port).get("/") for _ in range(4)]
        assert [answer.body for answer in answers] == [b"quick"] * 4, "the slow one has not answered yet"
        assert slow.asked == 2
        assert quick.asked == 4
        assert (worker.counter(Counter.HEDGES), worker.counter(Counter.HEDGES_WON)) == (2, 2)
        is_quiet(worker)
        assert {line["endpoint"] for line in worker.log(4)} == {f"127.0.0.1:{quick.port}"}


@pytest.mark.directive("route/retry/hedge-after")
def test_without_it_the_slow_one_is_waited_for(tmp_path: Path) -> None:
    with hedging(tmp_path, route='retry { on "reset"; }') as (worker, (slow, _)):
        clients = [Client(worker.port).send(GET) for _ in range(2)]
        wait_until(lambda: slow.asked == 1, "one of two went there")
        slow.hold.set()
        assert {client.answer().body for client in clients} == {b"slow", b"quick"}
        assert worker.counter(Counter.HEDGES) == 0


def first_and_second(slow: Patient, other: Patient) -> tuple[Patient, Patient]:
    """Both are held: who was asked first, and who was asked beside him."""
    wait_until(lambda: slow.asked or other.asked, "the first try")
    first, second = (slow, other) if slow.asked else (other, slow)
    wait_until(lambda: second.asked, "the second try")
    return first, second


@pytest.mark.parametrize(("winner", "step"), [(0, "hedge-lost"), (1, "hedge-won")])
def test_the_trace_tells_of_both_tries_and_who_won(tmp_path: Path, winner: int, step: str) -> None:
    with hedging(tmp_path) as (worker, (slow, other)):
        other.hold.clear()
        client = Client(worker.port).send(GET)
        both = first_and_second(slow, other)
        assert flights(worker) == 4, "two permits: two at the endpoints, two at the upstream"
        both[winner].hold.set()
        assert client.answer().body == both[winner].name
        wait_until(lambda: words(worker), "it is written down")
        assert words(worker)[0] == ["route-matched", "endpoint-chosen", "hedged", step]
        record = decode(next(iter(worker.region.journal_read(worker.slot))))
        assert record.endpoint == f"127.0.0.1:{both[winner].port}"
        names = [f"127.0.0.1:{one.port}" for one in (both[winner], both[1 - winner])]
        told = [one.details for one in record.steps if one.reason == step]
        assert told == [tuple(names)]
        # Both tries are told, the one that was cut first; each was begun, and over a connection of its own.
        tries = [one.details for one in record.steps if one.reason == "attempted"]
        assert [(one[0], one[1]) for one in tries] == [(name, "1") for name in reversed(names)]
        ends = [BY_NUMBER[int(one[5])].word for one in tries]
        assert ends == [step, "proxied"] and [one[6] for one in tries] == ["0", "200"]
        assert sorted(int(one[2]) >= 50_000 for one in tries) == [False, True], "one began after the wait"
        is_quiet(worker)
        both[1 - winner].hold.set()
        assert worker.counter(Counter.HEDGES_WON) == winner


@pytest.mark.parametrize("status", [503, 404])
@pytest.mark.parametrize("who", [0, 1])
def test_a_try_that_fails_leaves_the_other_one_alone(tmp_path: Path, who: int, status: int) -> None:
    """A 503 never wins while another try is under way, whatever `on` says; a 404 does not if it is named there."""
    with hedging(tmp_path, route=rule("404")) as (worker, (slow, other)):
        other.hold.clear()
        client = Client(worker.port).send(GET)
        both = first_and_second(slow, other)
        both[who].status = status
        both[who].hold.set()
        wait_until(lambda: flights(worker) == 2, "one is over")
        both[1 - who].hold.set()
        answer = client.answer()
        assert (answer.status, answer.body) == (200, both[1 - who].name)
        is_quiet(worker)
        assert words(worker)[0][-2:] == ["hedged", "hedge-failed"]
        failures = {view.name[-5:]: view.toll.failures for view in worker.region.places() if "/" in view.name}
        assert failures[f"{both[who].port}"] == (status == 503)
        assert failures[f"{both[1 - who].port}"] == 0


@pytest.mark.parametrize(("attempts", "expected"), [(2, 503), (3, 200)])
def test_when_both_fail_the_rules_of_retries_apply(tmp_path: Path, attempts: int, expected: int) -> None:
    talk, bodies = one_by_one(held(gate := threading.Event()), held(gate))
    with scripted(talk) as one, scripted(talk) as other, serving(
        tmp_path, endpoints=endpoints(one.port, other.port), route=rule("5xx", attempts)
    ) as worker:  # fmt: skip
        client = Client(worker.port).send(GET)
        wait_until(lambda: len(bodies) == 2, "both are at it")
        gate.set()
        assert client.answer().status == expected
        assert len(bodies) == attempts
        is_quiet(worker)
        assert words(worker)[0][2:4] == ["hedged", "hedge-failed"]


def held(gate: threading.Event) -> Callable[[Conversation, bytes], None]:
    def ill(conversation: Conversation, head: bytes) -> None:
        gate.wait(10)
        conversation.answer(b"ill", "HTTP/1.1 503 X")

    return ill


def test_a_loser_was_slow_and_not_ill(tmp_path: Path) -> None:
    breaker = 'circuit-breaker { failures 1; open-for "1h"; }'
    with hedging(tmp_path, upstream=breaker) as (worker, (slow, _)):
        assert [Client(worker.port).get("/").status for _ in range(6)] == [200] * 6
        is_quiet(worker)
        for view in worker.region.places():
            assert view.toll.failures == 0
            assert view.breaker.name == "CLOSED"
        assert slow.asked == 3, "it is asked again each time"


def sent(worker: Worker, method: str, body: bytes = b"", *fields: str) -> Client:
    lines = "".join(f"{field}\r\n" for field in fields)
    head = f"{method} / HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return Client(worker.port).send(head.encode() + body)


@pytest.mark.directive("route/retry/unsafe-methods", "route/retry/max-body-size")
@pytest.mark.parametrize(("method", "size", "more", "fields", "is_hedged"), [
    ("GET", 0, "", (), True), ("PUT", 1000, "", (), True), ("POST", 10, "", (), False),
    ("POST", 10, "unsafe-methods true", (), True), ("PUT", 1001, 'max-body-size "1000B"', (), False),
    ("PUT", 1000, 'max-body-size "1000B"', (), True), ("PUT", 5, "", ("Expect: 100-continue",), False),
    ("GET", 0, "", ("Connection: upgrade", "Upgrade: x"), False),
])  # fmt: skip
def test_only_what_may_be_sent_twice_is_sent_twice(
    tmp_path: Path, method: str, size: int, more: str, fields: tuple[str, ...], is_hedged: bool
) -> None:
    bodies: list[bytes] = []
    gate = threading.Event()

    def talk(conversation: Conversation) -> None:
        bodies.append(conversation.body(conversation.head()))
        gate.wait(10)
        conversation.answer(b"done")

    with scripted(talk) as one, scripted(talk) as other, serving(
        tmp_path, endpoints=endpoints(one.port, other.port), route=rule(after="30ms", more=more)
    ) as worker:  # fmt: skip
        client = sent(worker, method, b"x" * size, *fields)
        if is_hedged:
            wait_until(lambda: len(bodies) == 2, "a second try")
            assert set(bodies) == {b"x" * size}
        else:
            wait_until(lambda: len(bodies) == 1, "a first try")
            # The step comes with the end of the exchange: the next request's rival is later than this one's would be.
            threading.Event().wait(0.1)
        gate.set()
        assert client.answer().status == 200
        client.close()
        wait_until(lambda: words(worker), "it is written down")
        assert ("hedged" if is_hedged else "hedge-denied") in words(worker)[0]
        assert len(bodies) == 1 + is_hedged
        is_quiet(worker)


def endpoints(*ports: int) -> str:
    return "\n".join(f'endpoint "127.0.0.1:{port}"' for port in ports)


def test_a_body_that_still_comes_is_waited_for(tmp_path: Path) -> None:
    with hedging(tmp_path, route=rule(after="30ms")) as (worker, (slow, other)):
        other.hold.clear()
        client = Client(worker.port).send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nhi")
        wait_until(lambda: flights(worker) == 2, "the first try has begun")
        threading.Event().wait(0.1)
        assert worker.counter(Counter.HEDGES) == 0
        client.send("ho")
        wait_until(lambda: (slow.asked, other.asked) == (1, 1), "now it can be sent twice")
        slow.hold.set()
        other.hold.set()
        assert client.answer().status == 200


def test_nothing_begins_beside_a_try_whose_interim_answer_has_come(tmp_path: Path) -> None:
    gate = threading.Event()

    def talk(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        gate.wait(10)
        conversation.answer(b"done")

    with scripted(talk) as one, scripted(talk) as other, serving(
        tmp_path, endpoints=endpoints(one.port, other.port), route=rule(after="200ms")
    ) as worker:  # fmt: skip
        client = Client(worker.port).send(GET)
        assert client.head()[0] == 103
        threading.Event().wait(0.4)
        gate.set()
        assert client.answer().body == b"done"
        assert one.connections + other.connections == 1


def test_interim_answers_of_a_winner_reach_the_client_and_those_of_a_loser_do_not(tmp_path: Path) -> None:
    gate, asked = threading.Event(), threading.Semaphore(0)
    turn = iter(range(2))

    def talk(conversation: Conversation) -> None:
        number = next(turn)
        conversation.head()
        asked.release()
        if number == 0:
            gate.wait(10)
            return
        conversation.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 ")
        conversation.send(b"OK\r\ncontent-length: 3\r\n\r\nwon")
        conversation.rest()

    with scripted(talk) as one, scripted(talk) as other, serving(
        tmp_path, endpoints=endpoints(one.port, other.port), route=rule()
    ) as worker:  # fmt: skip
        client = Client(worker.port).send(GET)
        assert client.head()[0] == 103
        assert client.answer().body == b"won"
        gate.set()
        is_quiet(worker)


@pytest.mark.directive("upstream/retry-budget")
def test_each_takes_from_the_budget_of_retries(tmp_path: Path) -> None:
    """Ten seconds' worth of the minimum is saved up at the beginning."""
    with hedging(tmp_path, upstream='retry-budget "0%" min="1/s"', route=rule(after="1ms")) as (worker, (slow, _)):
        clients = [Client(worker.port).send(GET) for _ in range(60)]
        wait_until(lambda: slow.asked >= 10, "as many as come there first")
        threading.Event().wait(0.2)
        slow.hold.set()
        assert {client.answer().status for client in clients} == {200}
        assert 8 <= worker.counter(Counter.HEDGES) <= 13
        wait_until(lambda: len(words(worker)) == 60, "all are written down")
        assert any("hedge-denied" in steps for steps in words(worker))
        is_quiet(worker)


def test_an_endpoint_that_has_no_room_is_no_rival(tmp_path: Path) -> None:
    with hedging(tmp_path, upstream="limits { max-endpoint-requests 1; }") as (worker, (slow, other)):
        other.hold.clear()
        clients = [Client(worker.port).send(GET) for _ in range(2)]
        wait_until(lambda: (slow.asked, other.asked) == (1, 1), "each has one")
        threading.Event().wait(0.15)
        assert flights(worker) == 4, "never more than the ceilings"
        slow.hold.set()
        other.hold.set()
        assert {client.answer().status for client in clients} == {200}
        is_quiet(worker)
        assert worker.counter(Counter.HEDGES) == worker.counter(Counter.HEDGES_WON)


@pytest.mark.parametrize("port_is_full", [False, True])
def test_a_rival_that_cannot_connect_costs_nothing(tmp_path: Path, port_is_full: bool) -> None:
    gate = threading.Event()

    def talk(conversation: Conversation) -> None:
        conversation.head()
        gate.wait(10)
        conversation.answer(b"late")

    with scripted(talk) as one, full_queue() as full, serving(
        tmp_path, endpoints=f'endpoint "127.0.0.1:{one.port}" weight=1000\n'
        + endpoints(full if port_is_full else closed_port()),
        upstream='timeouts { connect "100ms"; }', route=rule(after="20ms"),
    ) as worker:  # fmt: skip
        client = Client(worker.port).send(GET)
        wait_until(lambda: worker.counter(Counter.UPSTREAM_CONNECT_FAILURES) == 1, "the rival cannot connect")
        gate.set()
        assert client.answer().body == b"late"
        is_quiet(worker)
        assert words(worker)[0][-2:] == ["hedged", "hedge-failed"]


def test_a_rival_takes_over_while_it_still_connects(tmp_path: Path) -> None:
    gate = threading.Event()

    def talk(conversation: Conversation) -> None:
        conversation.head()
        gate.wait(10)
        conversation.reset()

    with scripted(talk) as one, full_queue() as full, serving(
        tmp_path, endpoints=f'endpoint "127.0.0.1:{one.port}" weight=1000\n' + endpoints(full),
        upstream='timeouts { connect "300ms"; }', route=rule(after="20ms"),
    ) as worker:  # fmt: skip
        client = Client(worker.port).send(GET)
        wait_until(lambda: worker.counter(Counter.HEDGES) == 1, "the rival begins")
        gate.set()
        answer = client.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "connect-timeout")
        assert one.connections == 1, "who failed is not asked again"
        is_quiet(worker)


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    """A port whose queue is full: the kernel drops what else would connect."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_a_client_that_leaves_ends_both(tmp_path: Path) -> None:
    with hedging(tmp_path) as (worker, (slow, other)):
        other.hold.clear()
        client = Client(worker.port).send(GET)
        first_and_second(slow, other)
        client.close()
        is_quiet(worker)
        assert worker.log(1)[0]["reason"] == "client-gone"
        assert all(view.toll.failures == 0 for view in worker.region.places())


@pytest.mark.parametrize(("route", "reason"), [
    (rule() + '\ntimeout "300ms"', "total-timeout"), (rule("reset", more='per-try-timeout "300ms"'), "try-timeout"),
])  # fmt: skip
def test_timeouts_end_both(tmp_path: Path, route: str, reason: str) -> None:
    with hedging(tmp_path, route=route) as (worker, (slow, other)):
        other.hold.clear()
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, reason)
        assert (slow.asked, other.asked) == (1, 1)
        is_quiet(worker)


def test_the_drain_deadline_ends_both(tmp_path: Path) -> None:
    with hedging(tmp_path) as (worker, (slow, other)):
        other.hold.clear()
        client = Client(worker.port).send(GET)
        first_and_second(slow, other)
        worker.drain(0.2)
        answer = client.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "drain-deadline")
        assert worker.wait() == 0
        assert flights(worker) == 0


def test_a_rival_on_a_link_that_died_unseen_makes_a_new_one(tmp_path: Path) -> None:
    """The second endpoint answers one request on each connection, and resets it under the next."""
    gate = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.head()
        gate.wait(10)

    def fickle(conversation: Conversation) -> None:
        conversation.head()
        conversation.answer(b"won")
        conversation.head()
        conversation.reset()

    with scripted(slow) as one, scripted(fickle) as other, serving(
        tmp_path, endpoints=endpoints(one.port, other.port), route=rule(after="20ms")
    ) as worker:  # fmt: skip
        for _ in range(8):
            assert Client(worker.port).get("/").body == b"won"
        gate.set()
        is_quiet(worker)


def test_who_was_brought_to_an_endpoint_by_its_cookie_stays_there(tmp_path: Path) -> None:
    with hedging(tmp_path, upstream='sticky-cookie "srv" { secret "0123456789abcdef"; }') as (worker, (slow, _)):
        slow.hold.set()
        answers = [Client(worker.port).get("/") for _ in range(2)]
        cookie = next(one.fields["set-cookie"].split(";")[0] for one in answers if one.body == b"slow")
        slow.hold.clear()
        client = Client(worker.port).send(f"GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n")
        wait_until(lambda: slow.asked == 2, "the cookie is followed")
        threading.Event().wait(0.15)
        slow.hold.set()
        answer = client.answer()
        assert (answer.body, "set-cookie" in answer.fields) == (b"slow", False)
        wait_until(lambda: len(words(worker)) == 3, "it is written down")
        assert "hedge-denied" in words(worker)[2]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_endpoints_and_clients_do_every_permit_is_given_back(tmp_path: Path, seed: int) -> None:
    """Random latencies, failures of all kinds, and clients that leave: nothing stays in flight, no fault of ours."""
    dice = random.Random(seed)
    lock = threading.Lock()

    def draw(most: int) -> int:
        with lock:
            return dice.randrange(most)

    def talk(conversation: Conversation) -> None:
        while True:
            body = conversation.body(conversation.head())
            threading.Event().wait(draw(60) / 1000)
            kind = draw(10)
            if kind == 0:
                conversation.reset()
                return
            if kind == 1:
                conversation.send(b"what?\r\n\r\n")
                return
            if kind == 2:
                conversation.answer(b"ill", "HTTP/1.1 503 X")
            elif kind == 3:
                conversation.send(b"HTTP/1.1 200 OK\r\nconte")
                threading.Event().wait(draw(150) / 1000)
                conversation.send(b"nt-length: 2\r\n\r\n")
                conversation.send(b"ok")
            elif kind == 4:
                conversation.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                threading.Event().wait(draw(60) / 1000)
                conversation.answer(body)
            elif kind == 5:
                conversation.rest()
                return
            else:
                conversation.answer(body)

    route = rule("5xx\" \"reset\" \"timeout\" \"malformed", 3, "10ms", 'per-try-timeout "150ms"')
    done: list[int] = []

    def ask(worker: Worker) -> None:
        client = Client(worker.port)
        for number in range(30):
            client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n%02d" % number)
            if draw(8) == 0:
                client.close()
                client = Client(worker.port)
                continue
            try:
                answer = client.answer()
                while answer.status < 200:
                    answer = client.answer()
                done.append(answer.status)
                if answer.status == 200:
                    assert answer.body in (b"%02d" % number, b"ok")
            except (EOFError, OSError):  # cut in the middle of an answer
                client = Client(worker.port)

    with contextlib.ExitStack() as stack:
        origins: list[Origin] = [stack.enter_context(scripted(talk)) for _ in range(3)]
        ports = [origin.port for origin in origins] + [closed_port()]
        policy = 'retry-budget "100%" min="1000/s"\nlimits { max-endpoint-requests 6; max-pending 50; }'
        worker = stack.enter_context(
            serving(tmp_path, endpoints=endpoints(*ports), route=route + '\ntimeout "400ms"', upstream=policy)
        )
        threads = [threading.Thread(target=ask, args=(worker,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        is_quiet(worker)
        assert worker.counter(Counter.SURPRISES) == 0, worker.stderr()
        assert worker.counter(Counter.HEDGES) > worker.counter(Counter.HEDGES_WON) > 0
        assert done.count(200) > len(done) // 2
