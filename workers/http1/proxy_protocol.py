"""The PROXY protocol, versions 1 and 2: a trusted proxy says who the client is before the first octet of HTTP.

Intuition: a visiting card that a doorman hands in ahead of the guest. It is read
once, in full, and only from a doorman we know; a card with a smudge on it is not
guessed at, for the name on it decides what the guest may do.

Both forms are after the specification of HAProxy (proxy-protocol.txt, 2.2 and 2.3), narrowly:
- v1: single spaces, no leading zeros, at most 107 octets with CRLF. `UNKNOWN` is heard, and says nothing.
- v2: LOCAL, and PROXY for TCP over IPv4 and IPv6; UNSPEC and Unix sockets say nothing about an
  address. Datagrams are refused: this is no datagram. The TLVs must fill the rest exactly; a
  checksum (PP2_TYPE_CRC32C) is verified, since it is there to be.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple, NoReturn

from sentinel.core.reasons import Reason
from workers.http1.faults import ClientFault


class ProxyInfo(NamedTuple):
    """The client, as the proxy saw it; the address in canonical text."""

    src_ip: str
    src_port: int


V1_START: Final = b"PROXY "
V1_MAX: Final = 107
V1_LINE: Final = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
).fullmatch
V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?").fullmatch

V2_START: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEADER: Final = 16
V2_MAX: Final = 4096
"""Addresses take at most 216 octets; the rest are TLVs, of which even certificates' names need little."""
LOCAL, PROXY = 0x20, 0x21
ADDRESS_BYTES: Final = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
"""By family and transport: unspecified, TCP over IPv4, TCP over IPv6, Unix stream."""
CRC32C_TLV: Final = 0x03

Parsed = tuple[ProxyInfo | None, int]


def parse(data: bytes) -> Parsed | None:
    """The client (None if the header names none) and the header's size; None while it is incomplete.

    Raises ClientFault for whatever is not a whole and valid header.
    """
    if V1_START.startswith(data[:6]) and data:
        return _parse_v1(data)
    if V2_START.startswith(data[:12]):
        return _parse_v2(data)
    _refuse("no PROXY header")


def _parse_v1(data: bytes) -> Parsed | None:
    end = data.find(b"\n", 0, V1_MAX)
    if end < 0:
        if len(data) >= V1_MAX:
            _refuse("the v1 line is too long")
        return None
    line = data[:end]
    if not line.endswith(b"\r"):
        _refuse("the v1 line does not end in CRLF")
    if V1_UNKNOWN(line[:-1]):
        return None, end + 1
    parts = V1_LINE(line[:-1])
    if parts is None:
        _refuse("the v1 line is malformed")
    kind, src, dst, src_port, dst_port = (part.decode("ascii") for part in parts.groups())
    version = 4 if kind == "TCP4" else 6
    try:
        source, target = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    except ValueError:
        _refuse("an address of the v1 line is malformed")
    if source.version != version or target.version != version or max(int(src_port), int(dst_port)) > 65535:
        _refuse("the v1 line contradicts itself")
    return ProxyInfo(str(source), int(src_port)), end + 1


def _parse_v2(data: bytes) -> Parsed | None:
    if len(data) < V2_HEADER:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    addresses = ADDRESS_BYTES.get(family)
    if command not in (LOCAL, PROXY) or length + V2_HEADER > V2_MAX:
        _refuse("the v2 command is unknown, or the header too long")
    if command == PROXY and (addresses is None or length < addresses):
        _refuse("the v2 family is unknown, or its addresses are cut short")
    size = V2_HEADER + length
    if len(data) < size:
        return None
    if command == LOCAL:  # a health check of the proxy itself: addresses and TLVs are to be ignored
        return None, size
    assert addresses is not None
    _check_tlvs(data[:size], V2_HEADER + addresses)
    return _source(data, family), size


def _source(data: bytes, family: int) -> ProxyInfo | None:
    if family == 0x11:
        return ProxyInfo(str(ipaddress.IPv4Address(data[16:20])), int.from_bytes(data[24:26], "big"))
    if family == 0x21:
        return ProxyInfo(str(ipaddress.IPv6Address(data[16:32])), int.from_bytes(data[48:50], "big"))
    return None


def _check_tlvs(header: bytes, at: int) -> None:
    while at < len(header):
        value_at = at + 3
        end = value_at + int.from_bytes(header[at + 1 : value_at], "big")
        if value_at > len(header) or end > len(header):
            _refuse("a TLV is cut short")
        if header[at] == CRC32C_TLV:
            blank = header[:value_at] + bytes(end - value_at) + header[end:]
            if end - value_at != 4 or int.from_bytes(header[value_at:end], "big") != crc32c(blank):
                _refuse("the checksum is wrong")
        at = end


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), bit by bit: it is asked for once a connection, over some hundred octets."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _refuse(detail: str) -> NoReturn:
    raise ClientFault(Reason.BAD_PROXY_HEADER, detail)
