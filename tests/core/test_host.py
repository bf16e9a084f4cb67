"""The authority has one canonical form, and what readers disagree about has none."""

from __future__ import annotations

import pytest

from sentinel.core.host import Authority, canonical_host, parse_authority

GOOD = [
    ("example.com", "example.com", None),
    ("EXAMPLE.Com", "example.com", None),
    ("example.com.", "example.com", None),
    ("example.com:8080", "example.com", 8080),
    ("example.com:", "example.com", None),
    ("example.com.:80", "example.com", 80),
    ("example.com:0080", "example.com", 80),
    ("localhost", "localhost", None),
    ("a_b.example.com", "a_b.example.com", None),
    ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
    ("1password.example", "1password.example", None),
    ("10.0.0.1", "10.0.0.1", None),
    ("10.0.0.1:443", "10.0.0.1", 443),
    ("[::1]", "[::1]", None),
    ("[::1]:80", "[::1]", 80),
    ("[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]", None),
    ("[::ffff:10.0.0.1]", "[::ffff:a00:1]", None),
]  # fmt: skip

BAD = [
    "", ":80", ".", "..", "a..b", ".a", "a.b..", "-a.com", "a-.com", "a b", " a", "a ", "a\t", "a,b", "a;b", "a/b",
    "a\\b", "a?b", "a#b", "user@a", "user:pw@a", "a@b", "a:b", "a:80:80", "a:-1", "a:+1", "a:0", "a:65536", "a:999999",
    "a:8 0", "a:８０", "[::1", "::1", "[::1]80", "[::1]]", "[::1%25eth0]", "[::1%eth0]", "[v1.x]", "[]",
    "[10.0.0.1]", "[:::1]",
    "127.1", "10.0.0.256", "10.0.0", "010.0.0.1", "0x7f.1", "2130706433", "1.2.3.4.5", "é.com", "a%2eb",
    "*.example.com", "a\x00b", "a\r\nb", "a\n", "\u212a.com", f"{'a' * 64}.com", ".".join(["abcdefg"] * 33),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "host", "port"), GOOD)
def test_a_good_authority_is_canonical(sent: str, host: str, port: int | None) -> None:
    assert parse_authority(sent) == Authority(host, port)


@pytest.mark.parametrize("sent", BAD)
def test_what_can_be_read_in_two_ways_is_refused(sent: str) -> None:
    assert parse_authority(sent) is None


def test_an_authority_is_written_as_it_is_read() -> None:
    for sent, host, port in GOOD:
        written = str(parse_authority(sent))
        assert written == (host if port is None else f"{host}:{port}")
        assert parse_authority(written) == Authority(host, port)


def test_a_route_names_hosts_without_ports() -> None:
    assert canonical_host("Example.com.") == "example.com"
    assert canonical_host("example.com:80") is None
    assert canonical_host("a b") is None
