"""Limits of tokens in time, as the core sees them: which buckets, how much of each, and what the answer means.

Intuition: a water meter with a cistern behind it. Before somebody draws he says how much it can be at most, and the
cistern must hold that; what he did not draw flows back, as far as the cistern has not been filled up meanwhile.

The buckets are those of rate limits (core.limits): times, in which a token is so many ns. One limit has a bucket
for tokens and, if it says so, one for requests. All buckets of a request are asked at once (`World.take`); what was
taken of tokens is settled when it is known (`Taking`), and requests stay taken.

A charge is rounded up to whole ns, so never more is admitted than the rate; one ns a request is all that is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sentinel.core.appraisal import Appraisal, Taking
from sentinel.core.keys import KEY_CHARS_MAX, is_within, network_of, part_of
from sentinel.core.limits import CLOSED, TERM, seconds
from sentinel.core.plan import SECOND, TokenLimit
from sentinel.core.request import Request

CHARGE_NS_MAX: Final = 1 << 59
"""Nobody is charged more, whatever was asked: far beyond any capacity, and a word of shared memory holds it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One bucket of a limit: so many units in `period_ns`. `title`: how its keys begin."""

    unit: str
    count: int
    period_ns: int
    burst: int
    title: str

    @property
    def capacity_ns(self) -> int:
        return self.charge_ns(self.burst)

    def charge_ns(self, amount: int) -> int:
        """What so much costs: how long it takes until it is there again."""
        return min(-(-amount * self.period_ns // self.count), CHARGE_NS_MAX)

    def remaining(self, used_ns: int) -> int:
        """How much the bucket still gives."""
        return max(0, self.capacity_ns - used_ns) * self.count // self.period_ns


class Throttle:
    """One limit as one route asks it; made with the route table."""

    __slots__ = (
        "_flags", "_kinds", "_lengths", "_networks", "_parts", "has_exemptions", "is_observer", "measures", "name",
        "span",
    )  # fmt: skip

    def __init__(self, limit: TokenLimit, route: str) -> None:
        self.name = limit.name
        self.span = limit.span
        self.is_observer = limit.on_limit == "observe"
        self._flags = CLOSED if limit.when_full == "reject" else 0
        self._networks = limit.exempt
        self.has_exemptions = bool(limit.exempt)
        prefix = f"{len(route)}:{route}" if "route" in limit.key else ""
        self._kinds = tuple(kind for kind in limit.key if kind != "route")
        self._lengths = limit.ipv4_prefix, limit.ipv6_prefix
        self._parts = tuple(
            None if kind == "model" else part_of(kind, limit.ipv4_prefix, limit.ipv6_prefix)
            for kind in self._kinds
        )  # fmt: skip
        # Names have no spaces, so no rate limit has such a key.
        found = [Measure("tokens", limit.tokens, limit.period_ns, limit.burst, f"{limit.name} tokens{prefix}")]
        if limit.requests:
            found.append(Measure(
                "requests", limit.requests, limit.requests_period_ns, limit.requests_burst,
                f"{limit.name} requests{prefix}",
            ))  # fmt: skip
        self.measures = tuple(found)

    def is_exempt(self, request: Request) -> bool:
        return bool(self._networks) and is_within(request.client_ip, self._networks)

    def values(self, request: Request, appraisal: Appraisal) -> list[str]:
        """What of a request names its buckets."""
        return [appraisal.account if part is None else part(request) for part in self._parts]

    def named(self, values: Sequence[str]) -> list[str]:
        """The same from values that an operator says: addresses stand for their networks."""
        found = zip(self._kinds, values, strict=True)
        return [network_of(value, *self._lengths) if kind == "client-ip" else value for kind, value in found]

    def term(self, measure: Measure, charge_ns: int) -> bytes:
        return TERM.pack(charge_ns, measure.capacity_ns, self._flags)

    def policy(self, measure: Measure) -> str:
        window_s = seconds(measure.capacity_ns)
        return f'"{self.name}";q={measure.burst};qu="{measure.unit}";w={window_s}'

    def state(self, measure: Measure, used_ns: int) -> str:
        return f'"{self.name}";r={measure.remaining(used_ns)};t={seconds(used_ns)}'


def key_of(measure: Measure, values: Sequence[str]) -> bytes:
    """The octets that name a bucket; as in core.keys, no two requests make one key of different parts."""
    text = measure.title + "".join([f"{len(value)}:{value}" for value in values])
    octets = text.encode("utf-8", "surrogatepass")
    return octets if len(octets) <= KEY_CHARS_MAX else hashlib.blake2b(octets, digest_size=32).digest()


def token_bucket(limit: TokenLimit, route: str, values: Sequence[str]) -> tuple[Measure, bytes]:
    """The bucket of tokens that values of the key's parts name, without the route's."""
    throttle = Throttle(limit, route)
    return throttle.measures[0], key_of(throttle.measures[0], throttle.named(values))


class Draft(NamedTuple):
    """What one bucket is asked for."""

    throttle: Throttle
    measure: Measure
    key: bytes
    amount: int
    charge_ns: int

    @property
    def is_too_large(self) -> bool:
        return self.charge_ns > self.measure.capacity_ns

    def taking(self, mark: tuple[int, int, int]) -> Taking:
        one = self.measure
        return Taking(self.key, mark, self.charge_ns, one.count, one.period_ns, one.unit == "tokens")


def drafts_of(throttle: Throttle, request: Request, appraisal: Appraisal) -> list[Draft]:
    """What a request asks of the buckets of one limit."""
    values = throttle.values(request, appraisal)
    amounts = [appraisal.tokens if one.unit == "tokens" else 1 for one in throttle.measures]
    return [
        Draft(throttle, one, key_of(one, values), amount, one.charge_ns(amount))
        for one, amount in zip(throttle.measures, amounts, strict=True)
    ]


def duration(time_ns: int) -> str:
    """As OpenAI's `x-ratelimit-reset-*` have it: `6m0s`, `1.5s`, `20ms`."""
    if time_ns < SECOND:
        return f"{-(-time_ns // 1_000_000)}ms"
    tenths = -(-time_ns * 10 // SECOND)
    minutes, rest = divmod(tenths, 600)
    whole, part = divmod(rest, 10)
    text = f"{whole}.{part}s" if part else f"{whole}s"
    return f"{minutes}m{text}" if minutes else text
