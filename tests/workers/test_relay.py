"""The plain way: a request goes up, its answer comes down, and connections are kept on both sides."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from shm.region import Counter
from tests.workers.child import Client, upstream_of, wait_until, working
from tests.workers.origin import Conversation, echo, fields_of, scripted

BODY = bytes(range(256)) * 1200


def test_a_request_is_relayed_and_both_connections_are_kept(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        answer = client.get("/a?b=c", "X-One: 1")
        assert (answer.status, answer.body) == (200, b"ok")
        assert origin.heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
        assert fields_of(origin.heads[0])["x-one"] == "1"
        assert client.get("/again").status == 200
        assert origin.connections == 1
        first, second = worker.log(2)
        assert (first["path"], first["query_bytes"], first["status"], first["reason"]) == ("/a", 3, 200, "proxied")
        assert first["route"] == "rest" and first["upstream"] == "origin" and first["method"] == "GET"
        assert first["generation"] == 7 and first["client_ip"] == "127.0.0.1" and second["path"] == "/again"
        assert worker.counter(Counter.UPSTREAM_CONNECTS) == 1 and worker.counter(Counter.UPSTREAM_REUSES) == 1


def test_request_ids_are_unique_and_the_same_for_upstream_client_and_log(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        ids = [client.get("/", "X-Request-Id: mine").fields["x-request-id"] for _ in range(3)]
        assert len(set(ids)) == 3 and "mine" not in ids and all(len(one) == 32 for one in ids)
        assert [fields_of(head)["x-request-id"] for head in origin.heads] == ids
        assert [line["request_id"] for line in worker.log(3)] == ids


def test_pipelined_requests_are_answered_in_order_one_at_a_time(tmp_path: Path) -> None:
    running, most = 0, 0

    def script(conversation: Conversation) -> None:
        nonlocal running, most
        while True:
            head = conversation.head()
            running += 1
            most = max(most, running)
            running -= 1
            conversation.answer(head.split(b" ")[1])

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(50)))
        assert [client.answer().body for _ in range(50)] == [b"/%d" % number for number in range(50)]
        assert most == 1


def test_pipelined_fixed_answers_do_not_grow_a_stack(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        client = Client(worker.port)
        client.send(b"GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n" * 3000)
        assert all(client.answer().body == b"fixed" for _ in range(3000))


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_is_streamed_up_and_down(tmp_path: Path, framing: str) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for _ in range(2):
            if framing == "length":
                client.send(b"POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            else:
                client.send(b"POST /e HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(BODY), 40_000):
                    part = BODY[start : start + 40_000]
                    client.send(b"%x\r\n%s\r\n" % (len(part), part))
                client.send(b"0\r\n\r\n")
            assert client.answer().body == BODY
        assert origin.connections == 1
        line = worker.log(2)[0]
        assert line["bytes_in"] > len(BODY) and line["bytes_out"] > len(BODY)


def test_a_chunked_answer_reaches_old_and_new_clients(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            conversation.head()
            conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n")
            conversation.send(b"5\r\n five\r\n0\r\n\r\n")

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        answer = Client(worker.port).get("/")
        assert answer.body == b"four five" and answer.fields["transfer-encoding"] == "chunked"
        old = Client(worker.port).send("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        status, fields = old.head()
        assert status == 200 and "transfer-encoding" not in dict(fields)
        assert old.rest() == b"four five"
        assert origin.connections == 1


def test_an_answer_that_ends_with_the_connection_is_whole(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/").body == b"until the end"
        assert client.get("/").body == b"until the end"
        assert origin.connections == 2


def test_head_204_and_304_have_no_body_whatever_they_announce(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            status = b"200 OK" if head.startswith(b"HEAD") else head.split(b" ")[1].strip(b"/") + b" X"
            conversation.send(b"HTTP/1.1 " + status + b"\r\ncontent-length: 10\r\n\r\n")

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        answer = client.get("/x", method="HEAD")
        assert answer.fields["content-length"] == "10" and answer.body == b""
        assert client.get("/304").status == 304
        assert client.get("/x", method="HEAD").status == 200
        assert origin.connections == 1


def test_http_1_0_clients_are_kept_only_when_they_ask(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for _ in range(2):
            client.send("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
            answer = client.answer()
            assert answer.status == 200 and answer.fields["connection"].lower() == "keep-alive"
        client.send("GET / HTTP/1.0\r\n\r\n")
        assert client.answer().status == 200
        assert client.is_closed()
        assert fields_of(origin.heads[2])["host"] == f"127.0.0.1:{origin.port}"


def test_a_fixed_route_answers_by_itself(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        client = Client(worker.port)
        answer = client.get("/fixed")
        assert (answer.status, answer.body, answer.fields["x-fixed"]) == (200, b"fixed", "yes")
        assert client.get("/fixed", method="HEAD").body == b""
        assert client.get("/fixed").body == b"fixed"
        assert {line["reason"] for line in worker.log(3)} == {"responded"}


def test_one_head_in_many_pieces(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for octet in b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello":
            client.send(bytes((octet,)))
        assert client.answer().body == b"hello"


def test_max_requests_closes_after_the_last_answer(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"max_requests": 2}
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert "connection" not in client.get("/").fields
        assert client.get("/").fields["connection"] == "close"
        assert client.is_closed()


def test_a_unix_endpoint(tmp_path: Path) -> None:
    from sentinel.core.plan import Endpoint, Upstream

    path = str(tmp_path / "origin.sock")
    with scripted(echo, unix=path), working(
        Upstream("origin", (Endpoint(f"unix:{path}", 0),)), tmp_path
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert client.get("/").body == b"ok"
        assert client.get("/").body == b"ok"
        assert worker.log(2)[0]["endpoint"] == f"unix:{path}"


def test_weights_share_the_requests(tmp_path: Path) -> None:
    from sentinel.core.plan import Endpoint, Upstream

    with scripted(echo) as one, scripted(echo) as other:
        endpoints = (Endpoint("127.0.0.1", one.port, weight=3), Endpoint("127.0.0.1", other.port))
        with working(Upstream("origin", endpoints), tmp_path) as worker:
            client = Client(worker.port)
            for _ in range(40):
                assert client.get("/").status == 200
            assert (len(one.heads), len(other.heads)) == (30, 10)


def test_a_slow_reader_holds_the_upstream_back_and_memory_is_bounded(tmp_path: Path) -> None:
    sent = 0
    total = 48 << 20
    full = threading.Event()

    def script(conversation: Conversation) -> None:
        nonlocal sent
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        conversation.connection.settimeout(0.3)
        block = b"z" * 65536
        while sent < total:
            try:
                sent += conversation.connection.send(block[: total - sent])
            except TimeoutError:
                full.set()
                conversation.connection.settimeout(20)

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        assert client.get("/fixed").status == 200
        before_kib = resident_kib(worker.pid)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert full.wait(10)
        assert sent < total // 2, "the upstream was paused"
        assert resident_kib(worker.pid) - before_kib < 4 * 1024
        client.head()
        received = len(client.buffer)
        while received < total:
            received += len(client.socket.recv(1 << 20))
        assert received == total


def test_a_slow_upstream_holds_the_client_back(tmp_path: Path) -> None:
    gate = threading.Event()
    body = b"y" * (32 << 20)

    def script(conversation: Conversation) -> None:
        head = conversation.head()
        gate.wait(20)
        assert int(fields_of(head)["content-length"]) == len(body)
        received = len(conversation.buffer)
        while received < len(body):
            received += len(conversation.connection.recv(1 << 20))
        conversation.answer(b"all")

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.socket.settimeout(0.3)
        sent = 0
        try:
            while sent < len(body):
                sent += client.socket.send(body[sent : sent + 65536])
        except TimeoutError:
            pass
        assert sent < len(body) // 2, "the client was paused"
        gate.set()
        client.socket.settimeout(20)
        client.socket.sendall(body[sent:])
        assert client.answer().body == b"all"


def test_an_upstreams_trailers_pass_and_a_clients_do_not(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.head()
        seen.append(conversation.until(b"\r\n\r\n"))
        conversation.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
        )

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: x-up\r\n\r\n")
        client.send("3\r\nabc\r\n0\r\nx-up: 9\r\n\r\n")
        client.head()
        assert client.exactly(len(b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")) == b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
        assert seen == [b"3\r\nabc\r\n0\r\n\r\n"]


def test_errors_name_reason_and_id_as_json_or_text(tmp_path: Path) -> None:
    from tests.workers.origin import closed_port

    with working(upstream_of(closed_port()), tmp_path) as worker:
        client = Client(worker.port)
        answer = client.get("/", "Accept: application/json")
        assert answer.status == 502 and answer.fields["x-sentinel-reason"] == "connect-failed"
        document = json.loads(answer.body)["error"]
        assert document["reason"] == "connect-failed" and document["request_id"] == answer.fields["x-request-id"]
        text = client.get("/")
        assert text.fields["content-type"].startswith("text/plain")
        assert b"connect-failed" in text.body and text.fields["x-request-id"].encode() in text.body
        assert wait_until(lambda: worker.reasons().get(40) == 2, "two counted")


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if "RssAnon" in line).split()[1])
