"""Who the client is: what strangers say is dropped, what trusted proxies say is weighed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers.child import Client, upstream_of, working
from tests.workers.origin import echo, fields_of, scripted
from workers.forwarded import DROPPED, Trust, canonical_peer, split_chain

CHAINS = [
    (("10.0.0.0/8",), 0, [], "10.0.0.1"),
    (("10.0.0.0/8",), 0, ["203.0.113.9"], "203.0.113.9"),
    (("10.0.0.0/8",), 0, ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
    (("10.0.0.0/8",), 0, ["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
    (("10.0.0.0/8",), 0, ["10.0.0.3", "10.0.0.2"], "10.0.0.3"),
    (("10.0.0.0/8",), 0, ["203.0.113.9", "nonsense", "10.0.0.2"], "10.0.0.2"),
    (("10.0.0.0/8",), 1, ["203.0.113.9", "10.0.0.2"], "10.0.0.2"),
    (("10.0.0.0/8",), 2, ["6.6.6.6", "203.0.113.9", "198.51.100.1"], "203.0.113.9"),
    (("10.0.0.0/8",), 5, ["203.0.113.9"], "203.0.113.9"),
    (("10.0.0.0/8",), 0, ["[2001:db8::7]:443"], "2001:db8::7"),
    (("10.0.0.0/8",), 0, ["203.0.113.9:1234"], "203.0.113.9"),
]


@pytest.mark.parametrize(("networks", "hops", "chain", "client"), CHAINS)
def test_the_chain_is_read_from_the_right(networks: tuple[str, ...], hops: int, chain: list[str], client: str) -> None:
    assert Trust(networks, hops).client("10.0.0.1", chain) == client


def test_addresses_have_one_form() -> None:
    assert canonical_peer("::ffff:10.0.0.1") == "10.0.0.1"
    assert canonical_peer("fe80::1%eth0") == "fe80::1"
    assert Trust(("10.0.0.0/8",), 0).trusts("10.1.2.3")
    assert split_chain(["a, b", "", " c ,"]) == ["a", "b", "c"]
    assert {"x_forwarded-for", "x_real_ip", "content_length", "forwarded"} <= DROPPED
    assert "content-length" not in DROPPED


SPOOFED = (
    "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Real-IP: 6.6.6.6",
    "Forwarded: for=6.6.6.6", "True-Client-IP: 6.6.6.6", "CF-Connecting-IP: 6.6.6.6", "X-Original-URL: /evil",
    "X_Original_URL: /evil", "X-Forwarded-Prefix: /evil", "Proxy: http://evil", "X_Forwarded_For: 6.6.6.6",
    "X-Request-Id: chosen", "X-Sentinel-Reason: none",
)  # fmt: skip


def test_a_stranger_cannot_say_who_it_is(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        answer = Client(worker.port).get("/", *SPOOFED)
        fields = fields_of(origin.heads[0])
        assert b"6.6.6.6" not in origin.heads[0] and b"evil" not in origin.heads[0]
        assert fields["x-forwarded-for"] == fields["x-real-ip"] == "127.0.0.1"
        assert (fields["x-forwarded-proto"], fields["x-forwarded-host"]) == ("http", "test.example")
        assert answer.fields["x-request-id"] != "chosen"
        assert worker.log(1)[0]["client_ip"] == "127.0.0.1"


def test_connection_does_not_remove_what_the_gateway_says(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        Client(worker.port).get("/", "Connection: keep-alive, x-forwarded-for, x-request-id, hop", "Hop: 1")
        fields = fields_of(origin.heads[0])
        assert fields["x-forwarded-for"] == "127.0.0.1" and fields["x-request-id"] and "hop" not in fields


def test_a_trusted_proxy_is_believed_and_appended_to(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(
        upstream_of(origin.port), tmp_path, listener={"trusted_proxies": ("127.0.0.0/8",)}
    ) as worker:  # fmt: skip
        answer = Client(worker.port).get(
            "/", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: Shop.Example",
            "X-Request-Id: abc-123", "X-Forwarded-Prefix: /shop",
        )  # fmt: skip
        fields = fields_of(origin.heads[0])
        assert fields["x-forwarded-prefix"] == "/shop"
        assert fields["x-forwarded-for"] == "203.0.113.9, 127.0.0.1" and fields["x-real-ip"] == "203.0.113.9"
        assert (fields["x-forwarded-proto"], fields["x-forwarded-host"]) == ("https", "shop.example")
        assert answer.fields["x-request-id"] == fields["x-request-id"] == "abc-123"
        assert worker.log(1)[0]["client_ip"] == "203.0.113.9"
        assert Client(worker.port).get("/", "X-Request-Id: a b").fields["x-request-id"] != "a b"


def test_the_proxy_protocol_says_who_the_client_is(tmp_path: Path) -> None:
    settings = {"trusted_proxies": ("127.0.0.0/8",), "proxy_protocol": "any"}
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path, listener=settings) as worker:
        client = Client(worker.port).send("PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n")
        assert client.get("/").status == 200
        assert client.get("/").status == 200
        assert fields_of(origin.heads[1])["x-forwarded-for"] == "203.0.113.9"
        assert worker.log(2)[1]["client_ip"] == "203.0.113.9"
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.answer().fields["x-sentinel-reason"] == "bad-proxy-header"


def test_the_proxy_protocol_from_a_stranger_is_refused(tmp_path: Path) -> None:
    with working(upstream_of(1), tmp_path, listener={"proxy_protocol": "any"}) as worker:
        client = Client(worker.port).send("PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n")
        answer = client.answer()
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (400, "bad-proxy-header")


def test_an_ipv4_address_in_ipv6_dress_is_the_ipv4_address_however_it_is_written() -> None:
    for text in ("::ffff:10.66.0.1", "::ffff:a42:1", "::ffff:0a42:0001"):
        assert canonical_peer(text) == "10.66.0.1"
        assert Trust((), 0).client("192.0.2.1", [text]) == "10.66.0.1", "as a proxy may say it"
    assert canonical_peer("::ffff:zz") == "::ffff:zz" and canonical_peer("::fffe:a42:1") == "::fffe:a42:1"
