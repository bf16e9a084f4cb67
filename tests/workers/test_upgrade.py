"""Upgrades: octets become a tunnel's only after the upstream's 101, and a request's never again."""

from __future__ import annotations

from pathlib import Path

from tests.workers.child import Client, upstream_of, wait_until, working
from tests.workers.origin import Conversation, fields_of, scripted

UPGRADE = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


def test_octets_pass_both_ways_and_each_side_may_end_its_half(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        fields = fields_of(conversation.head())
        assert (fields["connection"].lower(), fields["upgrade"]) == ("upgrade", "websocket")
        conversation.send(SWITCH + b"hello")
        assert conversation.exactly(11) == b"early\r\n\r\n:)"
        conversation.send(b"GET /not-a-request HTTP/1.1\r\n\r\n")
        assert conversation.rest() == b"the end"
        conversation.send(b"goodbye")

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port).send(UPGRADE + "early\r\n\r\n:)")
        status, fields = client.head()
        assert status == 101 and dict(fields)["upgrade"] == "websocket"
        assert client.exactly(5) == b"hello"
        assert client.exactly(31) == b"GET /not-a-request HTTP/1.1\r\n\r\n"
        client.send("the end")
        client.socket.shutdown(1)
        assert client.rest() == b"goodbye"
        line = worker.log(1)[0]
        assert (line["status"], line["reason"]) == (101, "upgraded")
        assert line["bytes_in"] >= 18 and line["bytes_out"] >= 43
        assert len(origin.heads) == 1


def test_octets_after_a_refused_upgrade_are_never_a_request(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.answer(b"no tunnel")
        conversation.rest()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port).send(UPGRADE + "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body, answer.fields["connection"]) == (200, b"no tunnel", "close")
        assert client.is_closed()
        assert len(origin.heads) == 1


def test_the_end_of_one_side_ends_the_tunnel(tmp_path: Path) -> None:
    ended: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        if len(ended) == 0:
            ended.append(conversation.rest())
        else:
            conversation.reset()

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port).send(UPGRADE)
        client.head()
        client.close()
        wait_until(lambda: ended, "the upstream is told")
        client = Client(worker.port).send(UPGRADE)
        client.head()
        assert client.is_closed()
        assert [line["reason"] for line in worker.log(2)] == ["upgraded"] * 2


def test_a_large_transfer_through_a_tunnel_is_whole(tmp_path: Path) -> None:
    blob = bytes(range(256)) * 8192

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        conversation.send(conversation.exactly(len(blob)))

    with scripted(script) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port).send(UPGRADE)
        client.head()
        client.send(blob)
        assert client.exactly(len(blob)) == blob
        client.close()
