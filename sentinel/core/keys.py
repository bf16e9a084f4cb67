"""Keys: what of a request says whose it is, for limits, ceilings and hashes.

Intuition: a name tag. Which of its lines count is the operator's choice (the address, a header, a segment of
the path), and who wears the same tag shares the same account.

Rules:
1. Each part of a key is written with its length before it, so that no two requests make
   one key of different parts. A part that the request does not have (no such header) is a
   value like any other: who leaves it out shares a bucket, and escapes none.
2. Addresses are cut to a prefix: who has one IPv6 address has 2**64 of them.
3. Key parts are as the route conditions read them: fields joined, query decoded.
4. Keys that were written once are remembered, since clients come again; memories are bounded. A full one
   is kept for a while and then starts anew: among a million clients, remembering each would be most of the cost.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from sentinel.core.conditions import query_values
from sentinel.core.request import Request

KEY_CHARS_MAX: Final = 512
"""A longer key stands for itself by its hash."""
REMEMBERED_MAX: Final = 8192
REMEMBERED_CHARS_MAX: Final = 128
PASSED_MAX: Final = 4 * REMEMBERED_MAX
"""A full memory is kept for so many keys that are not in it."""
IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!$)|$)){4}").fullmatch

Part = Callable[[Request], str]


class Keyer:
    """Writes the keys of one limit as one route asks it; made with the route table."""

    __slots__ = ("_kinds", "_known", "_lengths", "_parts", "_passed", "_prefix", "key")

    def __init__(self, name: str, route: str, parts: Sequence[str], ipv4_prefix: int, ipv6_prefix: int) -> None:
        self._prefix = f"{len(name)}:{name}"
        if "route" in parts:
            self._prefix += f"{len(route)}:{route}"
        self._lengths = ipv4_prefix, ipv6_prefix
        self._kinds = tuple(kind for kind in parts if kind != "route")
        self._parts = tuple(raw_part_of(kind) for kind in self._kinds)
        self._known: dict[str | tuple[str, ...], bytes] = {}
        self._passed = 0  # keys that were written since the memory was full
        self.key: Callable[[Request], bytes] = {0: self._key_of_none, 1: self._key_of_one}.get(
            len(self._parts), self._key_of_many
        )
        if self._kinds == ("client-ip",):
            self.key = self._key_of_client
        """The octets that name the bucket of a request."""
        if not self._parts:
            self._known[()] = self._written(())

    def key_of(self, values: Sequence[str]) -> bytes:
        """The same from the values of its parts (without the route), as an operator names them."""
        return self._written(tuple(values))

    def _key_of_none(self, request: Request) -> bytes:
        return self._known[()]

    def _key_of_client(self, request: Request) -> bytes:
        value = request.client_ip
        return self._known.get(value) or self._learn(value, (value,))

    def _key_of_one(self, request: Request) -> bytes:
        value = self._parts[0](request)
        return self._known.get(value) or self._learn(value, (value,))

    def _key_of_many(self, request: Request) -> bytes:
        values = tuple([part(request) for part in self._parts])
        return self._known.get(values) or self._learn(values, values)

    def _learn(self, named: str | tuple[str, ...], values: tuple[str, ...]) -> bytes:
        octets = self._written(values)
        if len(self._known) < REMEMBERED_MAX:
            if sum(map(len, values)) <= REMEMBERED_CHARS_MAX:
                self._known[named] = octets
        elif self._passed < PASSED_MAX:
            self._passed += 1
        else:
            self._passed = 0
            self._known.clear()
        return octets

    def _written(self, values: tuple[str, ...]) -> bytes:
        text = self._prefix
        if len(values) == 1 == len(self._kinds) and self._kinds[0] != "client-ip":
            # What most keys are, and what a million clients bring anew.
            text += f"{len(values[0])}:{values[0]}"
        else:
            for kind, given in zip(self._kinds, values, strict=True):
                value = network_of(given, *self._lengths) if kind == "client-ip" else given
                text += f"{len(value)}:{value}"
        octets = text.encode("utf-8", "surrogatepass")
        return octets if len(octets) <= KEY_CHARS_MAX else hashlib.blake2b(octets, digest_size=32).digest()


def part_of(key: str, ipv4_prefix: int, ipv6_prefix: int) -> Part:
    """What reads one part of a key from a request, addresses cut to their prefix."""
    if key == "client-ip":
        return lambda request: network_of(request.client_ip, ipv4_prefix, ipv6_prefix)
    return raw_part_of(key)


def raw_part_of(key: str) -> Part:
    """What reads one part of a key from a request, as it is there."""
    kind, _, name = key.partition(":")
    match kind:
        case "client-ip":
            return lambda request: request.client_ip
        case "header":
            return lambda request: ", ".join(request.values(name))  # the whole value, as conditions read it
        case "cookie":
            return lambda request: cookie_of(request, name)
        case "query":
            return lambda request: "&".join(query_values(request, name))
        case "path-segment":
            at = int(name)
            return lambda request: "".join(request.path.split("/", at + 1)[at : at + 1])
        case "listener":
            return lambda request: request.listener
        case "host":
            return lambda request: request.host
        case "method":
            return lambda request: request.method
        case "identity":
            return lambda request: "" if request.identity is None else request.identity.name
        case "claim":
            return lambda request: "" if request.identity is None else request.identity.claim(name)
        case _:
            raise ValueError(f"no such part of a key: {key!r}")  # a checked plan has none


def cookie_of(request: Request, name: str) -> str:
    """The value of a cookie; "" without it."""
    for line in request.values("cookie"):
        for pair in line.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value
    return ""


@lru_cache(maxsize=REMEMBERED_MAX)
def network_of(address: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """The network of an address; what is no address (a Unix socket's peer) stands for itself."""
    if ipv4_prefix == 32 and IPV4(address):
        return address + "/32"  # what comes of the rest as well, ten times as fast
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    prefix = ipv4_prefix if found.version == 4 else ipv6_prefix
    return str(ipaddress.ip_network((found, prefix), strict=False))


@lru_cache(maxsize=REMEMBERED_MAX)
def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in networks)
