"""The authority of a request, in one canonical form: who is being talked to.

Intuition: the name on the envelope decides which letter box it goes into, so
it must be read once, and by everybody in the same way. Routing, the check
against the absolute target, the log and the upstream's Host all use what is
returned here.

Rules: lower case; one trailing dot is dropped (`example.com.` is the same
name); an IPv6 literal is rewritten in its shortest form, an address with a
zone or an embedded user is refused; a name whose last label is a number must be
a dotted quad, since resolvers read `127.1` and `0x7f.1` as addresses; the port
is a decimal number, and an empty one means none (RFC 3986 §3.2.3).

Rejected: percent-encoded and non-ASCII names. The grammar has them, no client
sends them, and every reader decodes them differently. IDN travels as `xn--`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple


class Authority(NamedTuple):
    """A canonical authority; `port` is None when none was given."""

    host: str  # "example.com", "10.0.0.1", "[::1]"
    port: int | None

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


NAME_MAX: Final = 253  # RFC 1035 §2.3.4, without the trailing dot
LABEL: Final = r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?"
NAME: Final = re.compile(rf"{LABEL}(?:\.{LABEL})*").fullmatch
NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)").fullmatch
QUAD: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}").fullmatch
PORT: Final = re.compile(r"[0-9]{1,5}").fullmatch


def parse_authority(text: str) -> Authority | None:
    """Return the canonical authority of a Host field or an absolute target, or None."""
    if text.startswith("["):
        literal, closed, rest = text[1:].partition("]")
        host = _ipv6(literal) if closed else None
        if host is None or (rest and not rest.startswith(":")):
            return None
        port_text = rest[1:]
    else:
        name, _, port_text = text.partition(":")
        host = _name(name)
        if host is None:
            return None
    if not port_text:
        return Authority(host, None)
    port = int(port_text) if PORT(port_text) else 0
    return Authority(host, port) if 0 < port < 65536 else None


def canonical_host(text: str) -> str | None:
    """Return the canonical form of a host without a port, as routes are compiled with."""
    authority = parse_authority(text)
    return authority.host if authority is not None and authority.port is None else None


def _name(text: str) -> str | None:
    name = text.lower() if text.isascii() else ""
    if name.endswith("."):
        name = name[:-1]
    if len(name) > NAME_MAX or not NAME(name):
        return None
    if NUMBER(name.rpartition(".")[2]) and not QUAD(name):
        return None
    return name


def _ipv6(text: str) -> str | None:
    if "%" in text or len(text) > 45 or not text.isascii():  # 45: the longest text form there is
        return None
    try:
        return f"[{ipaddress.IPv6Address(text).compressed}]"
    except ValueError:
        return None
