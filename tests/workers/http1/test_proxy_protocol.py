"""The PROXY protocol: whole or in pieces the same, and nothing guessed."""

from __future__ import annotations

import ipaddress

import pytest

from sentinel.core.reasons import Reason
from workers.http1.faults import ClientFault
from workers.http1.proxy_protocol import V2_START, ProxyInfo, crc32c, parse

PORTS = (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
TCP4 = bytes([203, 0, 113, 9, 192, 0, 2, 1]) + PORTS
TCP6 = ipaddress.IPv6Address("2001:db8::9").packed + ipaddress.IPv6Address("2001:db8::1").packed + PORTS
CLIENT4, CLIENT6 = ProxyInfo("203.0.113.9", 56324), ProxyInfo("2001:db8::9", 56324)


def v2(command: int, family: int, rest: bytes) -> bytes:
    return V2_START + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def with_checksum(rest: bytes) -> bytes:
    blank = v2(0x21, 0x11, rest + tlv(3, bytes(4)))
    return blank[:-4] + crc32c(blank).to_bytes(4, "big")


GOOD = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", CLIENT4),
    (b"PROXY TCP6 2001:db8:0:0::9 2001:db8::1 56324 443\r\n", CLIENT6),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 65535\r\n", ProxyInfo("0.0.0.0", 0)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN whatever it says\r\n", None),
    (v2(0x21, 0x11, TCP4), CLIENT4),
    (v2(0x21, 0x21, TCP6), CLIENT6),
    (v2(0x21, 0x11, TCP4 + tlv(2, b"host.example") + tlv(4, b"")), CLIENT4),
    (with_checksum(TCP4), CLIENT4),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x11, b"ignored"), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x21, 0x31, bytes(216)), None),
]  # fmt: skip

BAD = [
    b"GET / HTTP/1.1\r\n", b"\r\nPROXY", b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", b"PROXY\r\n", b"PROXY \r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\n", b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 \r\n",
    b"PROXY TCP4  203.0.113.9 192.0.2.1 56324 443\r\n", b"PROXY TCP4 203.0.113.9 192.0.2.1 056324 443\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n", b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 +1 443\r\n", b"PROXY TCP4 203.0.113.999 192.0.2.1 1 443\r\n",
    b"PROXY TCP4 203.0.113.09 192.0.2.1 1 443\r\n", b"PROXY TCP4 2001:db8::9 2001:db8::1 1 443\r\n",
    b"PROXY TCP6 203.0.113.9 192.0.2.1 1 443\r\n", b"PROXY TCP6 2001:db8::9%eth0 2001:db8::1 1 443\r\n",
    b"PROXY TCP5 203.0.113.9 192.0.2.1 1 443\r\n", b"PROXY UDP4 203.0.113.9 192.0.2.1 1 443\r\n",
    b"PROXY UNKNOWN\0\r\n", b"PROXY UNKNOWNS\r\n", b"PROXY " + b"x" * 200, b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
    b"PROXY TCP4 203.0.113.9 192.0.2.1 \xb2 443\r\n",
    v2(0x11, 0x11, TCP4), v2(0x22, 0x11, TCP4), v2(0x01, 0x11, TCP4), v2(0x21, 0x12, TCP4), v2(0x21, 0x22, TCP6),
    v2(0x21, 0x11, TCP4[:-1]), v2(0x21, 0x21, TCP6[:-1]), v2(0x21, 0x31, bytes(215)), v2(0x21, 0x41, TCP4),
    v2(0x21, 0x11, TCP4 + b"\x02"), v2(0x21, 0x11, TCP4 + b"\x02\0"), v2(0x21, 0x11, TCP4 + b"\x02\0\x05abcd"),
    v2(0x21, 0x11, TCP4 + tlv(3, b"abcd")), v2(0x21, 0x11, TCP4 + tlv(3, b"")), v2(0x21, 0x11, TCP4 + bytes(5000)),
    with_checksum(TCP4)[:-1] + b"\0\0", with_checksum(TCP4 + tlv(2, b"a")).replace(b"\x02\0\x01a", b"\x02\0\x01b"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_a_header_is_read_when_it_is_whole(header: bytes, client: ProxyInfo | None) -> None:
    for more in (b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"PROXY "):
        assert parse(header + more) == (client, len(header))
    for cut in range(len(header)):
        assert parse(header[:cut]) is None, cut


@pytest.mark.parametrize("header", BAD)
def test_a_header_with_a_smudge_is_refused_and_stays_so(header: bytes) -> None:
    caught: list[int] = []
    for cut in range(len(header) + 1):
        try:
            assert parse(header[:cut]) is None and not caught, cut
        except ClientFault as fault:
            assert fault.reason is Reason.BAD_PROXY_HEADER
            caught.append(cut)
    assert caught and caught[-1] == len(header)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
