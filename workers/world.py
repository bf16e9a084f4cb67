"""The live world: who answers the core's questions while real traffic runs.

Intuition: the core asks "which endpoint?", as it would ask a table in a test or
a snapshot in a dry run; here the answer comes from the turn of this worker.

`places` are what the plan's endpoints are at run time: an endpoint is the line
that the operator wrote, a place holds the addresses it has now and their pools.
Balancing counts endpoints, not addresses: a name with four addresses weighs as
much as one with a single address, and its addresses are used in turn.

Rules:
1. An endpoint whose name was never resolved is passed over while another may be
   tried, and handed out when none is: the exchange then says `name-unresolved`,
   which tells more than `no-endpoint`.
2. The arithmetic of weights is the core's; what it needs to remember, and chance, are ours.
"""

from __future__ import annotations

import ipaddress
import random
import time
from typing import TYPE_CHECKING

from sentinel.core.balance import smooth_round_robin, weighted_choice
from sentinel.core.plan import Endpoint, Plan, Upstream
from workers.pool import Pool, Rack

if TYPE_CHECKING:
    from workers.service import Service


class Place:
    """One endpoint at run time."""

    __slots__ = ("_rack", "_service", "_turn", "endpoint", "is_name", "name", "pools")

    def __init__(self, service: Service, rack: Rack, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.is_name = not endpoint.host.startswith("unix:") and not _is_address(endpoint.host)
        self.pools: tuple[Pool, ...] = ()
        self._service = service
        self._rack = rack
        self._turn = 0
        self.name = _written(endpoint)
        if not self.is_name:
            self.pools = (Pool(service, rack, endpoint.host, endpoint.port),)

    def next_pool(self, tried: tuple[Pool, ...] = ()) -> Pool | None:
        """The next address in turn that was not tried; None when there is none."""
        pools = self.pools
        if len(pools) == 1 and not tried:
            return pools[0]
        for _ in pools:
            self._turn = (self._turn + 1) % len(pools)
            if pools[self._turn] not in tried:
                return pools[self._turn]
        return None

    def resolved(self, addresses: list[str]) -> None:
        """These are the name's addresses now; pools of those that stay are kept."""
        known = {pool.host: pool for pool in self.pools}
        service, rack, port = self._service, self._rack, self.endpoint.port
        self.pools = tuple(known.get(host) or Pool(service, rack, host, port) for host in addresses)
        for pool in known.values():
            if pool not in self.pools:
                pool.close()


class Group:
    """One upstream at run time: its places, and the state of its balancer (sentinel.core.balance has the rule)."""

    __slots__ = ("_chance", "_purse", "_turn", "_weights", "places", "upstream")

    def __init__(self, service: Service, upstream: Upstream) -> None:
        rack = Rack(upstream.keepalive_connections, upstream.keepalive_timeout_ns)
        self.upstream = upstream
        self.places = tuple(Place(service, rack, endpoint) for endpoint in upstream.endpoints)
        self._weights = [endpoint.weight for endpoint in upstream.endpoints]
        self._purse = [0] * len(self._weights)
        self._chance = random.Random()
        # Workers begin at different places, so that a fleet of them does not knock at the first door in step.
        self._turn = self._chance.randrange(len(self.places)) if self.places else 0

    def choose(self, tried: tuple[Endpoint, ...]) -> Endpoint | None:
        places = self.places
        if len(places) == 1 and not tried:
            return places[0].endpoint
        allowed = [at for at, place in enumerate(places) if not any(place.endpoint is used for used in tried)]
        ready = [at for at in allowed if places[at].pools] or allowed
        if self.upstream.balance == "random":
            chosen = weighted_choice(self._chance.getrandbits(32), self._weights, ready)
        elif len(set(self._weights)) == 1:
            self._turn += 1
            chosen = ready[self._turn % len(ready)] if ready else -1
        else:
            chosen = smooth_round_robin(self._purse, self._weights, ready)
        return places[chosen].endpoint if chosen >= 0 else None


class LiveWorld:
    """Answers for one worker (sentinel.core.world.World)."""

    __slots__ = ("_charge", "_groups", "_places", "_slot")

    def __init__(self, service: Service, plan: Plan) -> None:
        self._charge, self._slot = service.region.charge, service.slot
        self._groups = {upstream.name: Group(service, upstream) for upstream in plan.upstreams}
        # By identity: the plan's endpoints live as long as the worker, and hashing one by value costs a microsecond.
        self._places = {id(place.endpoint): place for group in self._groups.values() for place in group.places}

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        now_ns = time.monotonic_ns()
        outcome, index, *times = self._charge(self._slot, now_ns, keys, terms)
        return outcome, index, *[tat - now_ns if tat > now_ns else 0 for tat in times]

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...]) -> Endpoint | None:
        return self._groups[upstream.name].choose(tried)

    def place(self, endpoint: Endpoint) -> Place:
        return self._places[id(endpoint)]

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def sweep(self, now_ns: int) -> None:
        for place in self._places.values():
            for pool in place.pools:
                pool.sweep(now_ns)

    def close(self) -> None:
        for place in self._places.values():
            for pool in place.pools:
                pool.close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _written(endpoint: Endpoint) -> str:
    """An endpoint as the operator would write it."""
    if endpoint.host.startswith("unix:"):
        return endpoint.host
    return f"[{endpoint.host}]:{endpoint.port}" if ":" in endpoint.host else f"{endpoint.host}:{endpoint.port}"
