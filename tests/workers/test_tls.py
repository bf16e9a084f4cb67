"""TLS listeners: served by the standard library, plain HTTP on them gets a sentence."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sentinel.core.plan import Certificate, Tls
from shm.region import Counter
from tests.workers.authority import self_signed
from tests.workers.child import MS, Client, Worker, upstream_of, wait_until, working
from tests.workers.origin import Conversation, echo, fields_of, scripted
from tests.workers.test_hello import hello_of


@pytest.fixture(scope="module")
def tls() -> Tls:
    return make_tls()


def make_tls() -> Tls:
    made = self_signed("localhost")
    return Tls((Certificate(made.certificate, made.key, ("localhost",), "ec"),))


def secure(worker: Worker, tls: Tls) -> Client:
    context = ssl.create_default_context(cadata=tls.certificates[0].chain_pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = Client(worker.port)
    wrapped = context.wrap_socket(plain.socket, server_hostname="localhost")
    assert wrapped.selected_alpn_protocol() == "http/1.1"
    return Client(worker.port, sock=wrapped)


def test_requests_over_tls_are_served_and_the_upstream_hears_the_scheme(tmp_path: Path, tls: Tls) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path, listener={"tls": tls}) as worker:
        client = secure(worker, tls)
        blob = b"b" * 3_000_000
        assert client.get("/").body == b"ok"
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(blob) + blob)
        assert client.answer().body == blob
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert client.answer().status == 200
        assert client.is_closed()
        assert fields_of(origin.heads[0])["x-forwarded-proto"] == "https"
        assert worker.counter(Counter.TLS_13) == 1


def test_plain_http_on_a_tls_port_is_told_so(tmp_path: Path, tls: Tls) -> None:
    with working(upstream_of(1), tmp_path, listener={"tls": tls}) as worker:
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (400, "plain-http-on-tls")
        assert client.is_closed()
        assert worker.log(1)[0]["reason"] == "plain-http-on-tls"
        assert secure(worker, tls).get("/fixed").status == 200


def test_tls_on_a_port_of_plain_http_is_told_so(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path) as worker:
        answer = Client(worker.port).send(hello_of("localhost")).answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (400, "tls-on-plain-http")
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            ssl.create_default_context().wrap_socket(Client(worker.port).socket, server_hostname="localhost")
        assert [line["reason"] for line in worker.log(2)] == ["tls-on-plain-http"] * 2


def test_handshakes_that_fail_or_never_begin_are_ended_and_counted(tmp_path: Path, tls: Tls) -> None:
    with working(upstream_of(1), tmp_path, listener={"tls": tls, "header_timeout_ns": 700 * MS}) as worker:
        broken = Client(worker.port).send(b"\x16\x03\x01\x00\x05hello")
        broken.socket.settimeout(5)
        while broken.socket.recv(100):
            pass
        assert Client(worker.port).is_closed(), "silent before the first octet"
        stalled = Client(worker.port).send(b"\x16\x03")
        assert stalled.is_closed(), "silent in the middle"
        wait_until(lambda: worker.counter(Counter.TLS_FAILED) == 1, "counted")
        wait_until(lambda: worker.counter(Counter.TLS_TIMEOUT) == 2, "counted")
        wait_until(lambda: worker.counter(Counter.CLOSED) == worker.counter(Counter.ACCEPTED), "and gone")
        assert secure(worker, tls).get("/fixed").status == 200


def test_a_tunnel_over_tls(tmp_path: Path, tls: Tls) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        conversation.send(conversation.exactly(4))

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path, listener={"tls": tls}) as worker:
        client = secure(worker, tls)
        client.send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.head()[0] == 101
        client.send("ping")
        assert client.exactly(4) == b"ping"
        assert client.is_closed()


def test_a_certificate_that_does_not_load_stops_the_worker(tmp_path: Path, tls: Tls) -> None:
    nonsense = Tls((Certificate("nonsense", tls.certificates[0].key_pem),))
    worker = Worker(upstream_of(1), tmp_path, listener={"tls": nonsense}).start(serve=False)
    try:
        assert worker.wait() == 1
        assert "certificate of listener `web`" in worker.stderr()
    finally:
        worker.stop()
