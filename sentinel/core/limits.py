"""Rate limits as the core sees them: which bucket, how much, and what the answer means.

Intuition: a customs tariff. It says for each traveller which account is charged (the key) and
how much, but has no till: the money is the world's (`World.charge`), and what comes
back is how deep the account is in use now.

A bucket is a time (GCRA, generic cell rate algorithm: ITU-T I.371). `used_ns` is how long it
takes until the bucket is full again; a request costs `increment_ns` of that, and is
admitted while it stays within `capacity_ns`. In any time t no more are admitted than
t / interval + burst.

Rules:
1. Each part of a key is written with its length before it, so that no two requests make
   one key of different parts. A part that the request does not have (no such header) is a
   value like any other: who leaves it out shares a bucket, and escapes none.
2. Addresses are cut to a prefix: who has one IPv6 address has 2**64 of them.
3. Key parts are as the route conditions read them: fields joined, query decoded.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from sentinel.core.conditions import field_values, query_values
from sentinel.core.plan import SECOND, RateLimit
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step

ADMITTED, REFUSED, FULL = range(3)
"""Outcomes of a charge (World.charge)."""
CLOSED: Final = 1
"""Flag of a term: where the table is full, refuse."""
TERM: Final = struct.Struct("=QQQ")
"""increment_ns, capacity_ns, flags."""
EXACT: Final = 16
REMAINING_BITS: Final = 31
KEY_CHARS_MAX: Final = 512
"""A longer key stands for itself by its hash."""
REMEMBERED_MAX: Final = 8192

Part = Callable[[Request], str]
Field = tuple[str, str]


class Limiter:
    """One rate limit as one route asks it; made with the route table."""

    __slots__ = (
        "_kinds", "_lengths", "_networks", "_parts", "_prefix", "burst", "capacity_ns", "has_exemptions",
        "increment_ns", "interval_ns", "is_observer", "name", "policy", "span", "steps", "term",
    )  # fmt: skip

    def __init__(self, limit: RateLimit, route: str) -> None:
        self.name = limit.name
        self.span = limit.span
        self.burst = limit.burst
        self.interval_ns = -(-limit.period_ns // limit.count)  # rounded up: never more than the rate
        self.increment_ns = self.interval_ns * limit.cost
        self.capacity_ns = self.interval_ns * limit.burst
        self.is_observer = limit.on_limit == "observe"
        self.term = TERM.pack(self.increment_ns, self.capacity_ns, CLOSED if limit.when_full == "reject" else 0)
        self.policy = f'"{limit.name}";q={limit.burst};w={seconds(self.capacity_ns)}'
        self._prefix = f"{len(limit.name)}:{limit.name}"
        if "route" in limit.key:
            self._prefix += f"{len(route)}:{route}"
        self._lengths = limit.ipv4_prefix, limit.ipv6_prefix
        self._kinds = tuple(key for key in limit.key if key != "route")
        self._parts = tuple(part_of(key, limit.ipv4_prefix, limit.ipv6_prefix) for key in limit.key if key != "route")
        self._networks = limit.exempt
        self.has_exemptions = bool(limit.exempt)
        self.steps = within_steps(limit)

    def is_exempt(self, request: Request) -> bool:
        return bool(self._networks) and is_within(request.client_ip, self._networks)

    def key(self, request: Request) -> bytes:
        """The octets that name the bucket of this request."""
        text = self._prefix
        for part in self._parts:
            value = part(request)
            text += f"{len(value)}:{value}"
        return _octets(text)

    def key_of(self, values: Sequence[str]) -> bytes:
        """The same from the values of its parts (without the route), as an operator names them."""
        text = self._prefix
        for kind, given in zip(self._kinds, values, strict=True):
            value = network_of(given, *self._lengths) if kind == "client-ip" else given
            text += f"{len(value)}:{value}"
        return _octets(text)

    def remaining(self, used_ns: int) -> int:
        """How many requests of cost 1 the bucket still admits."""
        return max(0, self.capacity_ns - used_ns) // self.interval_ns

    def within(self, used_ns: int) -> Step:
        """The step that tells that it admits, and about how many more."""
        remaining = self.remaining(used_ns)
        steps = self.steps
        if remaining < EXACT:
            return steps[remaining]
        return steps[min(EXACT + remaining.bit_length() - EXACT.bit_length(), len(steps) - 1)]

    def retry_ns(self, used_ns: int) -> int:
        """How long until the request that was refused would be admitted."""
        return max(0, used_ns + self.increment_ns - self.capacity_ns)

    def state(self, used_ns: int) -> str:
        """The member of `RateLimit` (draft-ietf-httpapi-ratelimit-headers): what is left, and when all is."""
        return f'"{self.name}";r={self.remaining(used_ns)};t={seconds(used_ns)}'


def _octets(text: str) -> bytes:
    octets = text.encode("utf-8", "surrogatepass")
    return octets if len(octets) <= KEY_CHARS_MAX else hashlib.blake2b(octets, digest_size=32).digest()


class Tariff:
    """All limits of one route: what of them can be said before a request comes is said here, once."""

    __slots__ = ("enforced", "has_exemptions", "observers", "policies", "terms")

    def __init__(self, limiters: Sequence[Limiter]) -> None:
        self.enforced = tuple(one for one in limiters if not one.is_observer)
        self.observers = tuple(one for one in limiters if one.is_observer)
        self.has_exemptions = any(one.has_exemptions for one in limiters)
        self.terms = b"".join([one.term for one in self.enforced])
        self.policies: Field = ("ratelimit-policy", ", ".join([one.policy for one in self.enforced]))

    def of(self, request: Request) -> Tariff:
        """The limits that concern this request: without those that exempt its client."""
        if not self.has_exemptions:
            return self
        return Tariff([one for one in (*self.enforced, *self.observers) if not one.is_exempt(request)])


@lru_cache(maxsize=4096)
def within_steps(limit: RateLimit) -> tuple[Step, ...]:
    """The steps that tell how many a bucket still admits: exactly up to EXACT, and then at least so many.

    Made once for each limit: a step that is known beforehand is written into the journal without a thought.
    """
    counts = [*range(EXACT), *(1 << bits for bits in range(EXACT.bit_length() - 1, REMAINING_BITS))]
    return tuple((Reason.WITHIN_LIMIT, limit.span, (limit.name, count)) for count in counts)


def seconds(duration_ns: int) -> int:
    """Whole seconds, rounded up: who waits so long has waited long enough."""
    return -(-duration_ns // SECOND)


def part_of(key: str, ipv4_prefix: int, ipv6_prefix: int) -> Part:
    """What reads one part of a key from a request."""
    kind, _, name = key.partition(":")
    match kind:
        case "client-ip":
            return lambda request: network_of(request.client_ip, ipv4_prefix, ipv6_prefix)
        case "header":
            return lambda request: ", ".join(field_values(request, name)[:1])
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
