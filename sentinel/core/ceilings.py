"""Concurrency limits as the core sees them: whose requests are counted, and how many may be under way.

Intuition: the turnstile of a swimming pool with a number of lockers for each club. Who comes in takes a
locker key and gives it back when he leaves, however long he stays; who finds none left is sent away.

The lockers are the world's (`World.hold`), and are given back with the exchange's end. Unlike a rate
limit this one knows no time: what it protects is what is busy, not what is asked often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sentinel.core.keys import Keyer, is_within
from sentinel.core.plan import ConcurrencyLimit
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step

UNBOUNDED: Final = (1 << 63) - 1


class Ceiling:
    """One concurrency limit as one route asks it; made with the route table."""

    __slots__ = (
        "_networks", "has_exemptions", "is_closed", "is_observer", "key", "key_of", "most", "name", "span",
    )  # fmt: skip

    def __init__(self, limit: ConcurrencyLimit, route: str) -> None:
        self.name = limit.name
        self.span = limit.span
        self.most = limit.most
        self.is_observer = limit.on_limit == "observe"
        self.is_closed = limit.when_full == "reject"
        keyer = Keyer(limit.name, route, limit.key, limit.ipv4_prefix, limit.ipv6_prefix)
        self.key, self.key_of = keyer.key, keyer.key_of
        self._networks = limit.exempt
        self.has_exemptions = bool(limit.exempt)

    def is_exempt(self, request: Request) -> bool:
        return bool(self._networks) and is_within(request.client_ip, self._networks)

    def within(self, held: int, key: bytes) -> Step:
        """The step that tells that there was room, and how many are under way with this one."""
        return Reason.WITHIN_CONCURRENCY, self.span, (self.name, held, self.most, key)


def ceilings_of(limits: Sequence[ConcurrencyLimit], route: str) -> tuple[Ceiling, ...]:
    """The ceilings of a route, in the order in which it names them."""
    return tuple(Ceiling(limit, route) for limit in limits)
