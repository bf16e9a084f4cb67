"""Attempts: which requests are sent again, to whom, and which never."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import threading
from pathlib import Path

import pytest

from sentinel.core.plan import Endpoint, Upstream
from shm.region import Counter
from tests.workers.child import MS, Client, upstream_of, wait_until, working
from tests.workers.origin import Conversation, closed_port, echo, scripted


def test_a_refused_connect_moves_on_to_the_next_endpoint(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(closed_port(), origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for _ in range(4):
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
            assert client.answer().body == b"body", "nothing was sent yet, so a POST may move too"
        assert len(origin.heads) == 4
        assert worker.counter(Counter.UPSTREAM_CONNECT_FAILURES) >= 1


def test_when_all_refuse_the_client_is_told_502(tmp_path: Path) -> None:
    with working(upstream_of(closed_port(), closed_port()), tmp_path) as worker:
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (502, "connect-failed")


def test_a_silent_connect_is_a_504_unless_another_endpoint_answers(tmp_path: Path) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # a queue that is full drops further SYNs silently
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        with working(upstream_of(port, connect_timeout_ns=200 * MS), tmp_path) as worker:
            answer = Client(worker.port).get("/")
            assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "connect-timeout")
        other = tmp_path / "other"
        other.mkdir()
        with scripted(echo) as origin, working(
            upstream_of(port, origin.port, connect_timeout_ns=200 * MS), other
        ) as worker:  # fmt: skip
            client = Client(worker.port)
            assert [client.get("/").status for _ in range(3)] == [200, 200, 200]
        for filler in fillers:
            filler.close()


class Stale:
    """An origin whose connections answer one request, then wait for the word and die under the next."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, conversation: Conversation) -> None:
        self.counts.append(0)
        mine = len(self.counts) - 1
        conversation.body(conversation.head())
        self.counts[mine] += 1
        conversation.answer(b"%d" % mine)
        conversation.body(conversation.head())
        self.counts[mine] += 1
        if mine == 0:
            conversation.reset()  # the second request arrives, and no octet of an answer comes
        else:
            conversation.answer(b"%d again" % mine)


def test_an_idempotent_request_is_repeated_once_on_a_fresh_link(tmp_path: Path) -> None:
    script = Stale()
    with scripted(script), scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/").body == b"0"
        answer = client.get("/")
        assert (answer.status, answer.body) == (200, b"1")
        assert script.counts == [2, 1]
        assert [line["reason"] for line in worker.log(2)] == ["proxied", "proxied"]


def test_the_log_tells_how_many_attempts_a_request_took_and_how_long_the_last_one_waited(tmp_path: Path) -> None:
    head_was_seen = threading.Event()

    def script(conversation: Conversation) -> None:
        while head := conversation.head():
            if b"/slow" in head:
                threading.Event().wait(0.05)
                conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
                head_was_seen.wait()
                conversation.send(b"ok")
            elif b"/never" in head:
                conversation.reset()
                return
            else:
                conversation.answer()

    with scripted(script) as origin, working(upstream_of(origin.port, closed_port()), tmp_path) as worker:
        client = Client(worker.port)
        assert [client.get(path).status for path in ("/a", "/b")] == [200] * 2
        client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").head()
        threading.Event().wait(0.05)
        head_was_seen.set()
        assert client.exactly(2) == b"ok"
        assert client.get("/fixed").status == 200
        first, second, slow, fixed = worker.log(4)
        # Who is the first in turn is chance; the refused one costs the request that meets it an attempt.
        assert sorted([first["attempts"], second["attempts"]]) == [1, 2]
        assert 0 < first["upstream_ms"] <= first["duration_ms"]
        assert 50 <= slow["upstream_ms"] <= slow["duration_ms"] - 50
        assert (fixed["attempts"], fixed["upstream_ms"]) == (0, None)
        # An idle link that dies under the request, and a fresh one on which it is not repeated any more.
        assert client.get("/never").status == 502
        never = worker.log(5)[-1]
        assert never["attempts"] >= 2 and never["upstream_ms"] is None


def test_a_put_is_repeated_with_its_body(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def script(conversation: Conversation) -> None:
        head = conversation.head()
        while True:
            bodies.append(conversation.body(head))
            if len(bodies) == 2:
                conversation.reset()
                return
            conversation.answer(b"kept")
            head = conversation.head()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for number in range(2):
            client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nbody%d" % number)
            assert client.answer().status == 200
        assert bodies == [b"body0", b"body1", b"body1"]


def test_a_post_that_may_have_arrived_is_never_sent_twice(tmp_path: Path) -> None:
    script = Stale()
    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/").status == 200
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
        answer = client.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (502, "upstream-closed")
        assert script.counts == [2]


def test_a_request_on_a_fresh_link_is_not_repeated(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.reset()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (502, "upstream-closed")
        assert origin.connections == 1


def test_a_post_does_not_use_a_link_that_has_said_farewell(tmp_path: Path) -> None:
    """The upstream closes idle links: whether the loop has read that or not, a POST gets a fresh one."""

    has_left = threading.Semaphore(0)

    def script(conversation: Conversation) -> None:
        conversation.answer(conversation.body(conversation.head()) or b"ok")
        conversation.connection.shutdown(socket.SHUT_WR)
        has_left.release()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for number in range(50):
            assert number == 0 or has_left.acquire(timeout=5)
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
            assert client.answer().status == 200
        assert origin.connections == 50


@pytest.mark.parametrize("parting", [b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", b"stale octets"])
def test_octets_on_an_idle_link_never_reach_the_next_client(tmp_path: Path, parting: bytes) -> None:
    spoken = threading.Semaphore(0)

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.answer(b"mine")
        conversation.send(parting)
        spoken.release()
        conversation.rest()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        for number in range(5):
            client = Client(worker.port)
            answer = client.get(f"/{number}")
            assert (answer.status, answer.body) == (200, b"mine")
            assert spoken.acquire(timeout=5)
        assert origin.connections == 5


def test_a_link_is_not_kept_after_a_cancelled_answer(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        head = conversation.head()
        tag = head.split(b" ")[1]
        if tag == b"/long":
            conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nlong")
            conversation.rest()
            return
        while True:
            conversation.answer(tag)
            tag = conversation.head().split(b" ")[1]

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        for number in range(5):
            leaver = Client(worker.port).send("GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
            leaver.head()
            leaver.close()
            client = Client(worker.port)
            assert client.get(f"/{number}").body == b"/%d" % number
            client.close()


def test_the_pool_keeps_no_more_than_it_may_and_not_for_longer(tmp_path: Path) -> None:
    upstream = ("keepalive_connections", 2), ("keepalive_timeout_ns", 150 * MS)
    ended: list[int] = []
    gate = threading.Barrier(6)

    def script(conversation: Conversation) -> None:
        conversation.head()
        gate.wait(10)  # all six are under way at once, so there are six links
        conversation.answer()
        conversation.rest()
        ended.append(1)

    with scripted(script) as origin, working(upstream_of(origin.port, **dict(upstream)), tmp_path) as worker:
        clients = [Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(6)]
        assert [client.answer().status for client in clients] == [200] * 6
        wait_until(lambda: len(ended) >= 4, "four are over the limit")
        wait_until(lambda: len(ended) == 6, "the others grow too old")
        assert origin.connections == 6


def test_a_name_is_resolved_in_the_background(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        Upstream("origin", (Endpoint("localhost", origin.port),)), tmp_path
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").status == 200
        assert worker.log(1)[0]["endpoint"] == f"localhost:{origin.port}"


def test_a_name_that_never_resolved_is_a_503_and_no_obstacle_to_the_start(tmp_path: Path) -> None:
    upstream = Upstream("origin", (Endpoint("does-not-exist.invalid", 80),))
    with working(upstream, tmp_path) as worker:
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "name-unresolved")
        assert Client(worker.port).get("/fixed").status == 200


def test_a_worker_without_descriptors_says_so_and_blames_nobody(tmp_path: Path) -> None:
    """What we cannot even ask has not failed: no breaker opens, no endpoint is ejected, nobody else is tried."""
    with scripted(echo) as origin, working(upstream_of(origin.port, closed_port()), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/fixed").status == 200, "it is connected"
        used = {int(name) for name in os.listdir(f"/proc/{worker.pid}/fd")}
        lowest_free = next(fd for fd in itertools.count() if fd not in used)
        before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
        for _ in range(4):
            answer = client.get("/")
            assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "overloaded")
        assert worker.counter(Counter.OVERLOADS) == 4
        assert worker.counter(Counter.UPSTREAM_CONNECT_FAILURES) == 0
        assert [view.toll.failures for view in worker.region.places()] == [0, 0, 0]
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
        assert client.get("/").status == 200, "and on the same connection it goes on"
