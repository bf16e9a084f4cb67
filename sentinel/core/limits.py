"""Rate limits as the core sees them: which bucket, how much, and what the answer means.

Intuition: a customs tariff. It says for each traveller which account is charged (the key) and
how much, but has no till: the money is the world's (`World.charge`), and what comes
back is how deep the account is in use now.

A bucket is a time (GCRA, generic cell rate algorithm: ITU-T I.371). `used_ns` is how long it
takes until the bucket is full again; a request costs `increment_ns` of that, and is
admitted while it stays within `capacity_ns`. In any time t no more are admitted than
t / interval + burst.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from sentinel.core.keys import Keyer, is_within
from sentinel.core.plan import SECOND, RateLimit
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.span import Span
from sentinel.core.trace import Step

ADMITTED, REFUSED, FULL = range(3)
"""Outcomes of a charge (World.charge)."""
CLOSED: Final = 1
"""Flag of a term: where the table is full, refuse."""
TERM: Final = struct.Struct("=QQQ")
"""increment_ns, capacity_ns, flags."""
Field = tuple[str, str]
Row = tuple[str, int, int, Reason, Span, str, int]
"""Of one limit, what `tell` needs: how its member of `RateLimit` begins, capacity_ns, interval_ns, and what the step
that tells that it admits says besides: reason, place, name and burst."""
Key = Callable[[Request], bytes]
Keys = Callable[[Request], tuple[bytes, ...]]
Tell = Callable[[tuple[Row, ...], tuple[bytes, ...], tuple[int, ...]], tuple[str, list[Step]]]


def charged(tats: Sequence[int], now_ns: int, terms: bytes) -> tuple[int, int, tuple[int, ...]]:
    """Take from all buckets or from none, where nobody else takes: outcome, index of who refused, what follows.

    A bucket's tat (theoretical arrival time) is when it will be full again; shared memory computes the same
    (shm.limits), one compare-and-swap a bucket.
    """
    agreed = list(TERM.iter_unpack(terms))
    begun = [max(tat, now_ns) for tat in tats]
    for at, (tat, (increment_ns, capacity_ns, _)) in enumerate(zip(begun, agreed, strict=True)):
        if tat + increment_ns - now_ns > capacity_ns:
            return REFUSED, at, tuple(begun)
    return ADMITTED, -1, tuple(tat + term[0] for tat, term in zip(begun, agreed, strict=True))


class Limiter:
    """One rate limit as one route asks it; made with the route table."""

    __slots__ = (
        "_networks", "burst", "capacity_ns", "has_exemptions", "increment_ns", "interval_ns", "is_observer", "key",
        "key_of", "max_delay_ns", "max_waiting", "name", "patient_term", "policy", "row", "span", "term",
    )  # fmt: skip

    def __init__(self, limit: RateLimit, route: str) -> None:
        self.name = limit.name
        self.span = limit.span
        self.burst = limit.burst
        self.interval_ns = -(-limit.period_ns // limit.count)  # rounded up: never more than the rate
        self.increment_ns = self.interval_ns * limit.cost
        self.capacity_ns = self.interval_ns * limit.burst
        self.is_observer = limit.on_limit == "observe"
        self.max_delay_ns = limit.max_delay_ns if limit.on_limit == "delay" else 0
        self.max_waiting = limit.max_waiting
        flags = CLOSED if limit.when_full == "reject" else 0
        self.term = TERM.pack(self.increment_ns, self.capacity_ns, flags)
        # Who may wait takes from a deeper bucket, and waits until it is as if it were not: his turn is his charge.
        self.patient_term = TERM.pack(self.increment_ns, self.capacity_ns + self.max_delay_ns, flags)
        self.policy = f'"{limit.name}";q={limit.burst};w={seconds(self.capacity_ns)}'
        keyer = Keyer(limit.name, route, limit.key, limit.ipv4_prefix, limit.ipv6_prefix)
        self.key, self.key_of = keyer.key, keyer.key_of
        self._networks = limit.exempt
        self.has_exemptions = bool(limit.exempt)
        self.row: Row = (
            f'"{limit.name}";r=', self.capacity_ns, self.interval_ns, Reason.WITHIN_LIMIT, limit.span, limit.name,
            limit.burst,
        )  # fmt: skip

    def is_exempt(self, request: Request) -> bool:
        return bool(self._networks) and is_within(request.client_ip, self._networks)

    def remaining(self, used_ns: int) -> int:
        """How many requests of cost 1 the bucket still admits."""
        return max(0, self.capacity_ns - used_ns) // self.interval_ns

    def within(self, used_ns: int, key: bytes) -> Step:
        """The step that tells that it admits, and how many more."""
        return Reason.WITHIN_LIMIT, self.span, (self.name, self.remaining(used_ns), self.burst, key)

    def retry_ns(self, used_ns: int) -> int:
        """How long until the request that was refused would be admitted."""
        return max(0, used_ns + self.increment_ns - self.capacity_ns - self.max_delay_ns)

    def wait_ns(self, used_ns: int) -> int:
        """How long a request that was admitted waits for its turn."""
        return max(0, used_ns - self.capacity_ns) if self.max_delay_ns else 0


def tell(rows: tuple[Row, ...], keys: tuple[bytes, ...], charged: tuple[int, ...]) -> tuple[str, list[Step]]:
    """What an answer of `World.charge` says: to the client, and step by step if it admits.

    `RateLimit` (draft-ietf-httpapi-ratelimit-headers) has of each limit how many requests are left, and in how
    many seconds all of them will be. A worker has the same natively (workers.telling).
    """
    members: list[str] = []
    found: list[Step] = []
    for row, key, used_ns in zip(rows, keys, charged[2:], strict=True):
        label, capacity_ns, interval_ns, reason, span, name, burst = row
        remaining = max(0, capacity_ns - used_ns) // interval_ns
        members.append(f"{label}{remaining};t={seconds(used_ns)}")
        found.append((reason, span, (name, remaining, burst, key)))
    return ", ".join(members), found


class Tariff:
    """All limits of one policy: what of them can be said before a request comes is said here, once."""

    __slots__ = (
        "delaying", "enforced", "has_exemptions", "keys", "observers", "patient_terms", "policies", "rows", "tell",
        "terms",
    )  # fmt: skip

    def __init__(self, limiters: Sequence[Limiter], tell: Tell = tell) -> None:
        self.enforced = tuple(one for one in limiters if not one.is_observer)
        self.observers = tuple(one for one in limiters if one.is_observer)
        self.has_exemptions = any(one.has_exemptions for one in limiters)
        self.keys = _keys_of([one.key for one in self.enforced])
        self.rows = tuple(one.row for one in self.enforced)
        self.tell = tell
        self.terms = b"".join([one.term for one in self.enforced])
        self.patient_terms = b"".join([one.patient_term for one in self.enforced])
        self.delaying = tuple(one for one in self.enforced if one.max_delay_ns)
        self.policies: Field = ("ratelimit-policy", ", ".join([one.policy for one in self.enforced]))

    def of(self, request: Request) -> Tariff:
        """The limits that concern this request: without those that exempt its client."""
        if not self.has_exemptions:
            return self
        return Tariff([one for one in (*self.enforced, *self.observers) if not one.is_exempt(request)], self.tell)


def _keys_of(keys: Sequence[Key]) -> Keys:
    """What names all the buckets of a request; one or two limits, which is what routes have, without a loop."""
    if len(keys) == 1:
        (only,) = keys
        return lambda request: (only(request),)
    if len(keys) == 2:
        one, other = keys
        return lambda request: (one(request), other(request))
    return lambda request: tuple([key(request) for key in keys])


def seconds(duration_ns: int) -> int:
    """Whole seconds, rounded up: who waits so long has waited long enough."""
    return -(-duration_ns // SECOND)
