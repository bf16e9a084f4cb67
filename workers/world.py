"""The live world: who answers the core's questions while real traffic runs.

Intuition: the core asks "which endpoint?", as it would ask a table in a test or
a snapshot in a dry run; here the answer comes from shared memory, and the turn of this worker.
"""

from __future__ import annotations

import struct
from random import getrandbits
from time import monotonic_ns, time
from typing import TYPE_CHECKING, Final

from sentinel.core.allowances import UNLIMITED, Term, Window, carried, open_window
from sentinel.core.appraisal import Appraisal, Reservation, Spending, Translation, priced
from sentinel.core.budgets import sibling, start_of
from sentinel.core.drive import Pause, Unsettled, Wanted
from sentinel.core.gates import Authenticator
from sentinel.core.identity import Finding
from sentinel.core.inspection import Inspection
from sentinel.core.limits import ADMITTED, REFUSED
from sentinel.core.plan import SECOND, Credential, Endpoint, Plan, Provider, Route, Upstream
from sentinel.core.request import Request
from sentinel.core.world import Choice, Wish
from shm.layout import BUDGET_UNCOUNTED
from workers.calls import translated
from workers.outward import Stamp
from workers.places import Group, Place
from workers.zones import offset_of

if TYPE_CHECKING:
    from workers.metering import Tab
    from workers.service import Service

BUDGET_TERM: Final = struct.Struct("=QQQQ")
"""until_ns, amount, limit, flags (shm.cells, reserve)."""
ATTEMPTS_MAX: Final = 4
"""Of a reservation at a budget whose earlier windows count: each is a look at all of them."""
WARM_NS: Final = 200_000_000
"""How often weights of slow starts are looked at."""


class LiveWorld:
    """Answers for one worker (sentinel.core.world.World)."""

    __slots__ = (
        "_charge", "_crowded", "_groups", "_hold", "_identities", "_places", "_plain", "_prices", "_region", "_slot",
        "_stamps", "_take", "_waiting", "_warmed_ns", "_warming", "_windows", "tabs",
    )  # fmt: skip

    def __init__(self, service: Service, plan: Plan) -> None:
        self._region, self._slot = service.region, service.slot
        self._take = service.region.charge_marked
        self._charge, self._hold = service.region.charge_used, service.region.hold
        self._prices = service.prices
        self._identities = service.identities
        self._stamps: dict[int, Stamp] = {}
        self.tabs: dict[int, Tab] = {}  # of requests to language models that are under way, by the request's identity
        self._windows: dict[tuple[str, str], Window] = {}  # that were open lately, of the plan's budgets
        self._waiting: dict[str, int] = {}  # at each rate limit that delays
        retried = {name for route in plan.routes if route.retry is not None for name in route.upstream_names}
        self._groups = {
            upstream.name: Group(service, upstream, is_retried=upstream.name in retried) for upstream in plan.upstreams
        }
        # By identity: the plan's endpoints live as long as the worker, and hashing one by value costs a microsecond.
        self._places = {id(place.endpoint): place for group in self._groups.values() for place in group.places}
        self._warming = [group for group in self._groups.values() if group.upstream.slow_start_ns]
        self._warmed_ns = 0
        self._plain = [group for group in self._groups.values() if group.is_plain]
        self._crowded = [group for group in self._groups.values() if group.upstream.max_pending]

    def chance(self) -> int:
        return getrandbits(64)

    def identify(self, authenticator: Authenticator, request: Request) -> Finding | None:
        return self._identities.identify(authenticator, request)

    async def identified(self, authenticator: Authenticator, request: Request) -> Finding:
        return await Unsettled(authenticator)

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        return self._charge(self._slot, monotonic_ns(), keys, terms)

    def take(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        return self._take(self._slot, monotonic_ns(), keys, terms)

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        return self._hold(self._slot, monotonic_ns(), key, most)

    def let_go(self, leases: tuple[int, ...]) -> None:
        for lease in leases:
            self._region.release_lease(self._slot, lease)

    def waiting(self, name: str) -> int:
        return self._waiting.get(name, 0)

    async def wait(self, name: str, wait_ns: int) -> None:
        self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            await Pause(wait_ns)
        finally:
            self._waiting[name] -= 1

    async def appraise(self, route: Route, request: Request) -> Appraisal:
        return await Wanted(route)

    def stamp(self, credential: Credential) -> Stamp:
        """What puts a provider's credential on heads."""
        stamp = self._stamps.get(id(credential))  # they live as long as the plan and its table
        if stamp is None:
            stamp = self._stamps[id(credential)] = Stamp(credential)
        return stamp

    def inspect(self, route: Route, request: Request) -> tuple[Inspection, ...]:
        tab = self.tabs.get(id(request))
        return () if tab is None else tab.inspect()

    def price(self, model: str, input_tokens: int, output_tokens: int) -> tuple[int, str]:
        return priced(model, self._prices.book, self._prices.rates(model), (input_tokens, output_tokens))

    def translate(self, route: Route, provider: Provider, request: Request) -> Translation:
        tab = self.tabs.get(id(request))
        if tab is not None:
            return tab.translate(route, provider, request)
        found = translated(route, provider, request)
        if found.kind != "said":
            return found
        return Translation("unsayable", found.client, found.provider, "$: this is not in the shape of its dialect")

    def window(self, period: str, time_zone: str) -> Window:
        now_s = int(time())
        known = self._windows.get((period, time_zone))
        if known is None or not known.start_s <= now_s < known.end_s:
            known = self._windows[period, time_zone] = open_window(period, offset_of(time_zone), now_s)
        if known.now_s != now_s:
            known = self._windows[period, time_zone] = known._replace(now_s=now_s)
        return known

    def reserve(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> tuple[int, ...]:
        now_ns = monotonic_ns()
        packed: list[bytes] = []
        for term in terms:
            if term.steps or term.last:
                break
            packed.append(BUDGET_TERM.pack(now_ns + term.left_s * SECOND, term.amount, term.limit, term.flags))
        else:
            return self._region.reserve(self._slot, now_ns, keys, b"".join(packed)) + (0,) * len(terms)
        for _ in range(ATTEMPTS_MAX):
            earlier = self._earlier(keys, terms)
            packed = [
                BUDGET_TERM.pack(now_ns + term.left_s * SECOND, term.amount, term.room(before), term.flags)
                for term, before in zip(terms, earlier, strict=True)
            ]
            outcome, index, *answer = self._region.reserve(self._slot, now_ns, keys, b"".join(packed))
            if outcome != ADMITTED:
                return outcome, index, *answer, *earlier
            # Others may have taken of an earlier window meanwhile: whoever stays has seen the whole after he took.
            used, leases, earlier = answer[: len(terms)], answer[len(terms) :], self._earlier(keys, terms)
            over = [at for at, term in enumerate(terms) if used[at] > term.room(earlier[at])]
            if not over:
                return ADMITTED, -1, *used, *leases, *earlier
            for lease, term in zip(leases, terms, strict=True):
                if lease != BUDGET_UNCOUNTED:
                    self._region.settle(self._slot, lease, 0, term.amount, 0)
        return REFUSED, over[0], *used, *[0] * len(terms), *earlier

    def _earlier(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> list[int]:
        spent = self._region.spent
        return [
            sum([sum(spent(one)[:2]) for one in term.earlier(key)]) for key, term in zip(keys, terms, strict=True)
        ]  # fmt: skip

    def extend(self, one: Reservation, wanted: int) -> bool:
        """Put more aside of a budget, while a request goes on."""
        if not one.steps and not one.last:
            return bool(self._region.extend(self._slot, one.lease, wanted, one.limit)[0] == ADMITTED)
        if one.limit == UNLIMITED:
            return bool(self._region.extend(self._slot, one.lease, wanted, UNLIMITED)[0] == ADMITTED)
        outcome, used = self._region.extend(self._slot, one.lease, wanted, self._room(one))
        if outcome != ADMITTED:
            return False
        if used <= self._room(one):
            return True
        self._region.settle(self._slot, one.lease, 0, wanted, 0)
        return False

    def _room(self, one: Reservation) -> int:
        """What may be used of a reservation's window now, seen with what is used of those beside it."""
        spent = self._region.spent
        if one.last:
            return one.limit + carried(one.limit, one.carried_max, sum(spent(one.last)[:2]))
        now_s, own_s = int(time()) // one.step_s * one.step_s, start_of(one.key)
        others = [now_s - at * one.step_s for at in range(one.steps + 1)]
        beside = [sibling(one.key, start_s) for start_s in others if start_s != own_s and start_s >= 0]
        return max(0, one.limit - sum([sum(spent(key)[:2]) for key in beside]))

    def refund(self, spending: Spending) -> None:
        for one in spending.reservations:
            if one.lease != BUDGET_UNCOUNTED:
                self._region.settle(self._slot, one.lease, 0, one.amount, 0)
        for taken in spending.takings:
            self._region.give_back(self._slot, monotonic_ns(), taken.key, taken.mark, taken.charged_ns)

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        group = self._groups[upstream.name]
        return group.chooser.choose(group, tried, wish)

    def group(self, upstream: Upstream) -> Group:
        return self._groups[upstream.name]

    def place(self, endpoint: Endpoint) -> Place:
        return self._places[id(endpoint)]

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def sweep(self, now_ns: int) -> None:
        for place in self._places.values():
            for pool in place.pools:
                pool.sweep(now_ns)
        for group in self._plain:
            group.look()
        for group in self._crowded:
            group.wake()  # other workers' requests end too, and tell nobody here
        if self._warming and now_ns - self._warmed_ns >= WARM_NS:
            self._warmed_ns = now_ns
            for group in self._warming:
                group.warm()

    def close(self) -> None:
        for place in self._places.values():
            for pool in place.pools:
                pool.close()
