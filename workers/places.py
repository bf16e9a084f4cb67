"""Endpoints and upstreams at run time: their connections here, and what the fleet knows of them.

`Place` is what an endpoint of the plan is in this worker: the operator's line has addresses, and
each address a pool. Balancing counts endpoints, not addresses: a name with four addresses
weighs as much as one with a single address, and its addresses are used in turn.

`Group` is an upstream: the scene in which its endpoints are chosen (sentinel.core.balance.chooser),
and the book-keeping of attempts. What others must know too (who is well, what is in flight, what
failed) lies in shared memory, by the places' numbers; here is only what is this worker's
own: whose turn it is, chance, and weights as they are during a slow start.
"""

from __future__ import annotations

import ipaddress
import random
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sentinel.core.balance.chooser import Chooser
from sentinel.core.balance.levels import UNHEALTHY, UNRESOLVED, USABLE
from sentinel.core.balance.reports import Report
from sentinel.core.balance.rosters import serves
from sentinel.core.balance.sticky import Tag, set_cookie
from sentinel.core.balance.warming import warmed
from sentinel.core.machines.breaker import Terms
from sentinel.core.plan import SECOND, Breaker, Endpoint, Upstream
from sentinel.core.wishes import BY_TOKENS
from sentinel.core.world import Choice, Wish
from shm.places import FAILURE, OPENED, RETRIES, pack_terms
from shm.rosters import UNKNOWN, Roster
from workers import attempt
from workers.pool import Pool, Rack

if TYPE_CHECKING:
    from shm.region import Region
    from workers.exchange import Exchange
    from workers.handshakes import Handshaker
    from workers.service import Service

MS: Final = 1_000_000
ILL, WELL = bytes([UNHEALTHY]), bytes([USABLE])
Permit = int | tuple[int, int]


class Place:
    """One endpoint at run time."""

    __slots__ = (
        "_check_turn", "_rack", "_service", "_turn", "endpoint", "handshaker", "is_name", "name", "number", "pools",
    )  # fmt: skip

    def __init__(
        self, service: Service, rack: Rack, endpoint: Endpoint, handshaker: Handshaker | None = None
    ) -> None:
        self.endpoint = endpoint
        self.handshaker = handshaker  # None: it is spoken to in the clear
        self.name = endpoint.name
        self.number = endpoint.place
        self.is_name = not endpoint.host.startswith("unix:") and not _is_address(endpoint.host)
        self.pools: tuple[Pool, ...] = ()
        self._service = service
        self._rack = rack
        self._turn = self._check_turn = 0
        if not self.is_name:
            self.pools = (Pool(service, rack, endpoint.host, endpoint.port, handshaker),)

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

    def next_host(self) -> str | None:
        """The address that is checked next; None when the name was never resolved."""
        if not self.pools:
            return None
        self._check_turn = (self._check_turn + 1) % len(self.pools)
        return self.pools[self._check_turn].host

    def resolved(self, addresses: list[str]) -> None:
        """These are the name's addresses now; pools of those that stay are kept."""
        known = {pool.host: pool for pool in self.pools}
        service, rack, port = self._service, self._rack, self.endpoint.port
        self.pools = tuple(
            known.get(host) or Pool(service, rack, host, port, self.handshaker) for host in addresses
        )
        for pool in known.values():
            if pool not in self.pools:
                pool.close()


class Stint:
    """What one try at an endpoint is, beyond its permit, to upstreams that are balanced by tokens or by first tokens.

    tokens: under way there, and told to the fleet; the reaper takes them back. The time to the first token is told by
    a stream when that is there; a try that fails before took as long as it took. What is no stream, or whose client
    leaves, says nothing of time.
    """

    __slots__ = ("_began_ns", "_half_life_ns", "_place", "_region", "_slot", "tokens")

    def __init__(
        self, region: Region, slot: int, place: int, tokens: int, began_ns: int, half_life_ns: int
    ) -> None:
        self._region, self._slot, self._place = region, slot, place
        self._began_ns, self._half_life_ns = began_ns, half_life_ns
        self.tokens = tokens
        if tokens:
            region.burden(slot, place, tokens, 0)

    @property
    def is_timed(self) -> bool:
        """The first token is waited for, and how long is wanted."""
        return self._began_ns > 0

    def become(self, tokens: int) -> None:
        """So many are left; it only ever becomes lighter, and while the try lasts it is not nothing."""
        left = max(tokens, 1)
        if left < self.tokens:
            self._region.burden(self._slot, self._place, 0, self.tokens - left)
            self.tokens = left

    def began(self) -> None:
        """The first token is there."""
        now_ns, began_ns, self._began_ns = time.monotonic_ns(), self._began_ns, 0
        self._region.observe(self._place, now_ns, now_ns - began_ns, self._half_life_ns)

    def end(self, outcome: int) -> None:
        if self._began_ns and outcome == FAILURE:
            self.began()
        if self.tokens:
            self._region.burden(self._slot, self._place, 0, self.tokens)
            self.tokens = 0


class Group:
    """One upstream at run time; the chooser's scene."""

    __slots__ = (
        "_begin", "_chance", "_finish", "_has_names", "_is_quiet", "_is_timed", "_is_warmed_up", "_numbers", "_pick",
        "_probes", "_region", "_rosters", "_service", "_slot", "_stood", "_terms", "_turn", "_weights_octets",
        "chooser", "has_stints", "is_plain", "number", "places", "purse", "upstream", "waiting", "weights",
    )  # fmt: skip

    def __init__(self, service: Service, upstream: Upstream, *, is_retried: bool = False) -> None:
        rack = Rack(upstream.keepalive_connections, upstream.keepalive_timeout_ns)
        self.upstream = upstream
        self.number = upstream.place
        tls = upstream.tls
        self.places = tuple(
            Place(service, rack, one, None if tls is None else service.handshakes.handshaker(upstream, tls, one))
            for one in upstream.endpoints
        )
        self.chooser = Chooser(upstream)
        self.waiting: deque[Exchange] = deque()  # for room below the upstream's limits, the longest first
        self.purse = [0] * len(self.places)
        self.weights: Sequence[int] = [warmed(endpoint.weight, 0, 0) for endpoint in upstream.endpoints]
        self._weights_octets = array("I", self.weights).tobytes()
        self._service = service
        self._region, self._slot = service.region, service.slot
        self._begin, self._finish, self._pick = service.region.begin, service.region.finish, service.region.pick
        self._numbers = array("I", [place.number for place in self.places]).tobytes()
        self._stood = b""
        self._is_quiet = False  # all could be used when we looked last, and all have addresses
        self._is_warmed_up = upstream.health is not None and upstream.health.warm_up > 0
        self._rosters = [(0, UNKNOWN)] * len(self.places)  # as they were read, each under its word
        self._has_names = any(place.is_name for place in self.places)
        # Nobody but an operator ever changes how these endpoints stand: to look at each tick is enough.
        judges = upstream.health or upstream.outlier or upstream.endpoint_breaker
        self.is_plain = not judges and not self._has_names
        by_latency = upstream.balance.kind == "peak-ewma"
        self._is_timed = by_latency and upstream.balance.measure == "first-token"
        self.has_stints = self._is_timed or upstream.balance.kind in BY_TOKENS
        self._probes = upstream.endpoint_breaker.probes if upstream.endpoint_breaker is not None else 0
        self._terms = pack_terms(
            _terms(upstream.endpoint_breaker), _terms(upstream.upstream_breaker),
            endpoint_max=upstream.max_endpoint_requests, upstream_max=upstream.max_requests,
            earned=upstream.retry_share if is_retried else 0,
            half_life_ms=upstream.balance.half_life_ns // MS if by_latency and not self._is_timed else 0,
        )  # fmt: skip
        self._chance = random.Random()
        # Workers begin at different places, so that a fleet of them does not knock at the first door in step.
        self._turn = self._chance.randrange(len(self.places)) if self.places else 0

    # Attempts.

    def choose(self, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        return self.chooser.choose(self, tried, wish)

    def begin(self, endpoint: Endpoint, now_ns: int) -> Permit:
        """Let an attempt begin: a permit for `finish`, or a negative number, which says why not (shm.places)."""
        return self._begin(self._slot, endpoint.place, self.number, now_ns, self._terms)

    def finish(self, endpoint: Endpoint, permit: Permit, outcome: int, now_ns: int, latency_ns: int) -> None:
        """The attempt is over (shm.places.SUCCESS, FAILURE, NEUTRAL); latency to the answer's first octet."""
        changed = self._finish(
            self._slot, endpoint.place, self.number, now_ns, permit, outcome, latency_ns, self._terms
        )
        if changed:
            self._tell(endpoint.name, changed & 3)
            self._tell("all endpoints", changed >> 2)

    def stint(self, endpoint: Endpoint, wish: Wish, began_ns: int) -> Stint:
        """Of a try that has begun; where `has_stints`."""
        timed_ns = began_ns if self._is_timed else 0
        return Stint(
            self._region, self._slot, endpoint.place, wish.tokens, timed_ns, self.upstream.balance.half_life_ns
        )

    def may_retry(self) -> bool:
        """Take one retry from the fleet's budget."""
        return self._region.spend(self.number, time.monotonic_ns(), self.upstream.retry_min)

    def count_retry(self, endpoint: Endpoint) -> None:
        self._region.toll(self._slot, endpoint.place, RETRIES)
        self._region.toll(self._slot, self.number, RETRIES)

    def wake(self) -> None:
        """There may be room: let the one go on that has waited longest."""
        while self.waiting:
            exchange = self.waiting.popleft()
            if not exchange.is_ended:
                self._service.loop.call_soon(resume, exchange)  # not within the end of another exchange
                return

    def _tell(self, what: str, changed: int) -> None:
        if changed:
            word = "opened" if changed & OPENED else "closed"
            sys.stderr.write(f"upstream {self.upstream.name}: circuit breaker of {what} {word}\n")

    def tag(self, exchange: Exchange) -> bytes:
        """The header line that brings the client back to the endpoint that answers; none if its cookie does already."""
        sticky, tags, endpoint = self.upstream.sticky, self.chooser.tags, exchange.endpoint
        assert sticky is not None and tags is not None and endpoint is not None
        now_s = self.now_s()
        if self.is_followed(exchange.wish, endpoint):
            return b""
        max_age_s = sticky.max_age_ns // SECOND
        value = set_cookie(
            sticky.cookie, tags.make(endpoint.name, now_s, max_age_s), path=sticky.path, max_age_s=max_age_s,
            same_site=sticky.same_site, is_secure=sticky.is_secure,
        )  # fmt: skip
        return f"set-cookie: {value}\r\n".encode()

    def is_followed(self, wish: Wish, endpoint: Endpoint | None) -> bool:
        """Does the client's cookie name this endpoint?"""
        tags = self.chooser.tags
        if tags is None:
            return False
        index, tag = tags.read(wish.cookie, self.now_s())
        return tag is Tag.GOOD and self.upstream.endpoints[index] is endpoint

    # The chooser's scene.

    def standing(self) -> bytes:
        return self._stood if self.is_plain and self._stood else self.look()

    def look(self) -> bytes:
        """Read the board: how the endpoints stand now."""
        standing = self._region.standing(self._numbers, time.monotonic_ns(), self._probes)
        if self.upstream.health is None:  # what checks of a former configuration found is nobody's to mend
            standing = standing.replace(ILL, WELL)
        elif self._is_warmed_up:
            standing = self._region.board.cold(standing, [place.number for place in self.places])
        if standing != self._stood:  # somebody may have come back just now
            self._stood = standing
            self._is_quiet = not any(standing) and not self._has_names
            if self.upstream.slow_start_ns:
                self.warm()
        if self._has_names:
            pairs = zip(standing, self.places, strict=True)
            return bytes([code or (0 if place.pools else UNRESOLVED) for code, place in pairs])
        return standing

    def flights(self) -> Sequence[int]:
        return self._region.flights(self._numbers)

    def reports(self) -> Sequence[Report | None]:
        rule, board, now_ns = self.upstream.load_report, self._region.board, time.monotonic_ns()
        if rule is None:
            return [None] * len(self.places)
        found = [board.report(place.number, now_ns, rule.stale_ns) for place in self.places]
        return [None if one is None else Report(*one) for one in found]

    def lacking(self, model: str) -> bytes:
        rosters = self._region.rosters
        for at, place in enumerate(self.places):
            word = rosters.word(place.number)
            if word != self._rosters[at][0]:
                self._rosters[at] = word, rosters.read_at(place.number, word)
        return bytes([lacks(roster, model) for _, roster in self._rosters])

    def burdens(self) -> Sequence[int]:
        return self._region.burdens(self._numbers)

    def lightest(self, allowed: bytes, tokens: int) -> int:
        self._turn += 1
        return self._region.lightest(self._numbers, self._weights_octets, allowed, self._turn, tokens)

    def latencies(self) -> Sequence[int]:
        return self._region.ewmas(self._numbers, time.monotonic_ns(), self.upstream.balance.half_life_ns)

    def least(self, allowed: bytes) -> int:
        self._turn += 1
        return self._region.least(self._numbers, self._weights_octets, allowed, self._turn)

    def least_of_all(self) -> int:
        if not self._is_quiet:
            return -1
        self._turn += 1
        return self._pick(self._numbers, self._weights_octets, time.monotonic_ns(), self._probes, self._turn)

    def turn(self) -> int:
        self._turn += 1
        return self._turn

    def chance(self) -> int:
        return self._chance.getrandbits(64)

    def now_s(self) -> int:
        return int(time.time())

    def warm(self) -> None:
        """Have the weights that endpoints have now, while some of them start slowly."""
        slow_ms = self.upstream.slow_start_ns // MS
        now_ms = time.monotonic_ns() // MS
        weights = []
        for place in self.places:
            since_ms = self._region.board.recovered_ms(place.number)
            weights.append(warmed(place.endpoint.weight, now_ms - since_ms if since_ms else slow_ms, slow_ms))
        if weights != self.weights:
            self.weights = weights
            self._weights_octets = array("I", weights).tobytes()


def resume(exchange: Exchange) -> None:
    """Go on with one that waited for room, unless it ended meanwhile, or waits no more."""
    if exchange.is_ended or not exchange.is_pending:
        group = exchange.group
        if group is not None:
            group.wake()
        return
    try:
        attempt.after_waiting(exchange)
    except Exception as fault:
        exchange.surprised(fault)
    if not exchange.is_pending and exchange.group is not None:
        exchange.group.wake()  # there may be room for more than one


def lacks(roster: Roster, model: str) -> bool:
    """Whether it is known that an endpoint does not serve the model."""
    return roster.is_known and roster.is_whole and not serves(roster.names, model)


def _terms(breaker: Breaker | None) -> Terms:
    if breaker is None:
        return Terms()
    return Terms(
        failures=breaker.failures, error_share=breaker.error_share, slow_ms=breaker.slow_ns // MS,
        slow_share=breaker.slow_share, calls_min=breaker.calls_min, window_ms=breaker.window_ns // MS,
        open_ms=breaker.open_ns // MS, open_max_ms=breaker.open_max_ns // MS, probes=breaker.probes,
        probe_ms=breaker.probe_timeout_ns // MS,
    )  # fmt: skip


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
