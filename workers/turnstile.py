"""How many connections a listener lets in, over the whole fleet and from each client: leases, as of requests.

Intuition: a turnstile with a counter that all entrances of the stadium share, and one for each club.
Nobody is counted twice, and whoever leaves, by whatever door or ambulance, is counted out.

Rules:
1. Proxies that the listener trusts are nobody's client: their connections count in the total only. With a PROXY
   header the client is known after it, and is counted then.
2. What is held is given back when the connection ends; if the worker dies, by the reaper (shm.leases).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sentinel.core.keys import is_within, network_of
from sentinel.core.plan import ConnectionLimit, Listener
from shm.limits import ADMITTED, FULL

if TYPE_CHECKING:
    from workers.forwarded import Trust
    from workers.service import Service

Leases = tuple[int, ...]
NOBODY: Final[Leases] = ()


class Turnstile:
    """Counts one listener's connections."""

    __slots__ = ("_limit", "_name", "_service", "_trust", "is_late")

    def __init__(self, service: Service, listener: Listener, limit: ConnectionLimit, trust: Trust) -> None:
        self._service = service
        self._limit = limit
        self._name = f"connections:{listener.name}".encode()
        self._trust = trust
        self.is_late = listener.proxy_protocol != "off"
        """Clients are known only when their proxy has named them."""

    def enter(self, peer: str) -> Leases | None:
        """A connection was accepted: what it holds, or None when there is no room for it."""
        leases = NOBODY
        if self._limit.total:
            found = self._hold(self._name, self._limit.total)
            if found is None:
                return None
            leases = found
        if self.is_late:
            return leases
        mine = self.meet(peer)
        if mine is None:
            self.leave(leases)
            return None
        return leases + mine

    def meet(self, peer: str) -> Leases | None:
        """The client is known now: what is held for it besides, or None."""
        limit = self._limit
        if not limit.per_client or is_within(peer, limit.exempt) or self._trust.trusts(peer):
            return NOBODY
        network = network_of(peer, limit.ipv4_prefix, limit.ipv6_prefix)
        return self._hold(self._name + b"/" + network.encode(), limit.per_client)

    def leave(self, leases: Leases) -> None:
        self._service.world.let_go(leases)

    def _hold(self, key: bytes, most: int) -> Leases | None:
        service = self._service
        outcome, _, lease = service.region.hold(service.slot, time.monotonic_ns(), key, most)
        if outcome == ADMITTED:
            return (lease,)
        return NOBODY if outcome == FULL and self._limit.when_full == "admit" else None
