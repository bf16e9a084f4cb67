"""What is ambiguous is refused before it is forwarded, with an honest status, one log line and one count."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sentinel.core.reasons import BY_WORD
from sentinel.core.record import decode
from tests.workers.child import MS, Client, Worker, upstream_of, wait_until, working
from tests.workers.origin import Conversation, echo, scripted


def told(worker: Worker, client: Client, status: int, word: str) -> None:
    """The client is told, the connection ends, and the books say the same once."""
    answer = client.answer()
    assert (answer.status, answer.fields["x-sentinel-reason"]) == (status, word), answer
    assert answer.fields["connection"] == "close"
    assert client.is_closed()
    line = worker.log(1)[-1]
    assert (line["status"], line["reason"], line["request_id"]) == (status, word, answer.fields["x-request-id"])
    assert wait_until(lambda: worker.reasons() == {BY_WORD[word].number: 1}, "counted once")


MALFORMED = [
    (b"GET /\r\n\r\n", 400, "bad-request-line"),
    (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400, "bad-header"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-host"),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad-host"),
    (b"GET / HTTP/1.1\r\nHost: user@h\r\n\r\n", 400, "bad-host"),
    (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, "bad-host"),
    (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-path"),
    (b"GET /a%2fb HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad-path"),
    (b"GET /../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad-path"),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad-framing"),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n", 400, "bad-chunk"),
    (b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 501, "method-refused"),
    (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 501, "method-refused"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 2000 + b"\r\n\r\n", 431, "header-too-large"),
    (b"GET /" + b"x" * 600 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri-too-long"),
    (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413, "body-too-large"),
]


@pytest.mark.parametrize(("octets", "status", "word"), MALFORMED)
def test_nothing_ambiguous_reaches_the_upstream(tmp_path: Path, octets: bytes, status: int, word: str) -> None:
    limits = {"max_header_bytes": 2000, "max_uri_bytes": 500, "max_body_bytes": 1000}
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path, listener=limits) as worker:
        told(worker, Client(worker.port).send(octets), status, word)
        assert origin.heads == []


@pytest.mark.parametrize(("target", "written"), [
    ("/a#access_token=s3cret", "/a"),
    ("/a#access_token=s3cret?b", "/a"),
    ("/a%2fb?q=s3cret#s3cret", "/a%2fb"),
    ("http://user:s3cret@h/a", "http://...@h/a"),
    ("http://user:s3c/s3cret@h/a", "http://...@h/a"),
    ("http:user:s3cret@h/a", "...@h/a"),
    ("user:s3cret@h:443", "...@h:443"),
])  # fmt: skip
def test_a_refused_target_is_written_down_without_what_it_may_hide(tmp_path: Path, target: str, written: str) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        answer = Client(worker.port).send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").answer()
        assert answer.status == 400 and b"s3cret" not in answer.body
        line = worker.log(1)[-1]
        assert line["path"] == written
        (record,) = wait_until(lambda: list(worker.region.journal_read(worker.slot)), "the record is written")
        assert b"s3cret" not in record and b"s3c/" not in record
        kept = decode(record)
        assert kept is not None and kept.path == written


def test_a_bad_chunk_after_a_good_one_is_told_while_that_is_possible(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        wait_until(lambda: origin.heads, "the upstream has the head")
        client.send(b"+3\r\nabc\r\n0\r\n\r\n")
        told(worker, client, 400, "bad-chunk")


def test_a_chunked_body_that_grows_too_large_is_cut_off(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"max_body_bytes": 1000}
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"258\r\n" + b"x" * 600 + b"\r\n")
        wait_until(lambda: origin.heads, "the upstream has the head")
        client.send(b"258\r\n" + b"x" * 600 + b"\r\n")
        told(worker, client, 413, "body-too-large")


def test_a_body_that_came_whole_with_its_head_is_measured_too(tmp_path: Path) -> None:
    limits = {"max_body_bytes": 90_000}
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path, listener=limits) as worker:
        for length in (90_001, 200_000):
            client = Client(worker.port)
            client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length)
            assert client.answer().status == 413
            client.close()
        assert origin.heads == []


def test_a_route_may_allow_more_than_its_listener(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"max_body_bytes": 10}, route={"max_body_bytes": 20}
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 15\r\n\r\n" + b"x" * 15)
        assert client.answer().status == 200
        assert client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\n\r\n").answer().status == 413


def test_hosts_and_targets_have_one_form_for_everybody(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        for octets in (
            b"GET http://H.Example:80/x HTTP/1.1\r\nHost: h.example\r\n\r\n",
            b"GET /./a/../x HTTP/1.1\r\nHost: H.EXAMPLE.\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: h.example\r\n\r\n",
        ):
            assert client.send(octets).answer().status in (200, 404)
        assert [head.split(b" ")[1] for head in origin.heads][:2] == [b"/x", b"/x"]
        assert all(b"\r\nhost: h.example\r\n" in head.lower() for head in origin.heads)
        assert {line["host"] for line in worker.log(3)} == {"h.example"}


def test_a_slow_head_is_told_408_and_its_time_runs_from_the_first_octet(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path, listener={"header_timeout_ns": 300 * MS}) as worker:
        client = Client(worker.port).send("GET / HT")
        told(worker, client, 408, "header-timeout")


def test_a_stalled_body_is_told_408(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"body_timeout_ns": 200 * MS}
    ) as worker:  # fmt: skip
        client = Client(worker.port).send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
        told(worker, client, 408, "body-timeout")


def test_an_idle_connection_is_closed_without_a_word(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"idle_timeout_ns": 150 * MS}
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert client.get("/").status == 200
        assert client.is_closed()
        assert Client(worker.port).is_closed(), "the same before the first request"
        assert len(worker.log(1)) == 1


def test_unread_body_octets_are_never_a_request(tmp_path: Path) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send(b"POST /fixed HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (len(smuggled) + 1))
        answer = client.answer()
        assert answer.status == 200 and answer.fields["connection"] == "close"
        client.send(smuggled)
        assert client.is_closed()
        # With the whole body at hand the connection may live on, and the octets are skipped.
        client = Client(worker.port)
        client.send(b"POST /fixed HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled)
        assert client.answer().status == 200
        assert client.get("/real").status == 200
        assert [head.split(b" ")[1] for head in origin.heads] == [b"/real"]


def test_an_early_answer_is_relayed_and_what_follows_is_discarded(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.answer(b"enough", "HTTP/1.1 403 Forbidden")
        conversation.rest()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nstart")
        answer = client.answer()
        assert (answer.status, answer.body, answer.fields["connection"]) == (403, b"enough", "close")
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.is_closed()
        assert len(origin.heads) == 1


def test_expect_is_passed_on_and_answered_by_the_upstream(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            assert b"\r\nexpect: 100-continue" in head.lower()
            if head.startswith(b"POST /no"):
                conversation.answer(b"no", "HTTP/1.1 401 Unauthorized")
                conversation.rest()
                return
            conversation.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            conversation.answer(conversation.body(head))

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert client.answer().status == 100
        assert client.send("body").answer().body == b"body"
        client.send("POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        answer = client.answer()
        assert answer.status == 401 and answer.fields["connection"] == "close"


def test_interim_answers_pass_and_a_flood_of_them_does_not(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            count = 100 if conversation.head().startswith(b"GET /flood") else 2
            conversation.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * count)
            conversation.answer(b"done")

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [client.answer().status for _ in range(3)] == [103, 103, 200]
        client.send("GET /flood HTTP/1.1\r\nHost: h\r\n\r\n")
        while (answer := client.answer()).status == 103:
            pass
        assert answer.status == 502 and answer.fields["x-sentinel-reason"] == "upstream-malformed"
        old = Client(worker.port).send("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        assert old.answer().status == 200, "none for HTTP/1.0"


BROKEN = [
    (b"garbage\r\n\r\n", "upstream-malformed"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", "upstream-malformed"),
    (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "upstream-malformed"),
    (b"", "upstream-closed"),
    (b"HTTP/1.1 200 O", "upstream-closed"),
]


@pytest.mark.parametrize(("octets", "word"), BROKEN)
def test_a_broken_upstream_is_a_502(tmp_path: Path, octets: bytes, word: str) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(octets)

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        answer = client.get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (502, word)
        assert worker.log(1)[0]["reason"] == word
        assert client.get("/fixed").status == 200, "the client did nothing wrong"


def test_an_answer_that_breaks_off_never_looks_whole(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        head = conversation.head()
        rest = b"transfer-encoding: chunked\r\n\r\n5\r\nhalf \r\n" if b"/c" in head else b"content-length: 9\r\n\r\nha"
        conversation.send(b"HTTP/1.1 200 OK\r\n" + rest)

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        for path in ("/l", "/c"):
            client = Client(worker.port)
            with pytest.raises((EOFError, ConnectionResetError)):
                client.get(path)
        assert [line["reason"] for line in worker.log(2)] == ["upstream-aborted"] * 2
        assert {line["status"] for line in worker.log(2)} == {200}


def test_a_client_that_leaves_ends_the_upstreams_work(tmp_path: Path) -> None:
    left: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.head()
        left.append(conversation.rest())

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: origin.heads, "the upstream works")
        client.close()
        wait_until(lambda: left, "the upstream is told")
        line = worker.log(1)[0]
        assert (line["status"], line["reason"]) == (499, "client-gone")




def test_a_silent_upstream_is_a_504(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        head = conversation.head()
        if b"/part" in head:
            conversation.send(b"HTTP/1.1 200")
        conversation.rest()

    with scripted(script) as origin, working(
        upstream_of(origin.port, first_byte_timeout_ns=200 * MS, idle_timeout_ns=200 * MS), tmp_path
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        begun = time.monotonic()
        answer = client.get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "first-byte-timeout")
        assert time.monotonic() - begun >= 0.2, "never early"
        answer = client.get("/part")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "upstream-idle-timeout")


def test_the_total_timeout_of_a_route_ends_even_what_flows(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx")
        conversation.rest()

    with scripted(script) as origin, working(
        upstream_of(origin.port), tmp_path, route={"timeout_ns": 200 * MS}
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        with pytest.raises((EOFError, ConnectionResetError)):
            client.get("/")
        assert worker.log(1)[0]["reason"] == "total-timeout"


def test_a_reader_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1 << 30))
        while True:
            conversation.send(b"x" * 65536)

    with scripted(script) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"write_timeout_ns": 200 * MS}
    ) as worker:  # fmt: skip
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert worker.log(1)[0]["reason"] == "slow-reader"
        client.close()
