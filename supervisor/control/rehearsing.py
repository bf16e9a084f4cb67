"""Dry runs against the fleet as it is: the plan that runs, and what shared memory knows at this moment.

Intuition: to look through the window of the counting house. How full a bucket is, who is ejected, what is in
flight: all of it can be read without touching anything, and then the request is rehearsed outside, on the
same plan, with the same arithmetic (explain.assumed).

Only the keys that the decision asks for are looked up. Not known here, because it is each worker's own: whose
turn it is, how many wait for theirs, and whether a name was resolved. `state` lines say otherwise of anything.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from sentinel.config import hide, render_problems
from sentinel.config.states import read_state
from sentinel.core.balance.levels import OPEN
from sentinel.core.balance.reports import Report
from sentinel.core.balance.warming import warmed
from sentinel.core.plan import Plan, Upstream
from sentinel.core.state import EndpointState, State, UpstreamState
from sentinel.explain.assumed import Assumed
from shm.region import Region
from shm.rosters import Roster
from workers.rehearsal import House, Misasked, checked_address, choose_listener, document, read_question

MS: Final = 1_000_000
HEADERS_MAX: Final = 1000
LINES_MAX: Final = 1000


class DryRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /api/v1/dry-run."""

    request: Annotated[str, msgspec.Meta(max_length=16_384)]
    headers: Annotated[tuple[str, ...], msgspec.Meta(max_length=HEADERS_MAX)] = ()
    body_bytes: Annotated[int, msgspec.Meta(ge=-1, le=1 << 60)] = -1
    body: bytes | None = None  # in Base64, as JSON has it; `body_bytes` is then its length
    client_ip: str = "127.0.0.1"
    listener: str = ""
    state: Annotated[tuple[str, ...], msgspec.Meta(max_length=LINES_MAX)] = ()


class Looked:
    """What shared memory has under a key, looked up when it is asked for (core.state.Ledger)."""

    def __init__(self, look: Callable[[bytes], int]) -> None:
        self._look = look

    def get(self, key: bytes, default: int, /) -> int:
        return self._look(key) or default


class Rehearsals:
    """Rehearses on the plan that runs; keeps the plan's table for the next question. One thread at a time."""

    def __init__(self) -> None:
        self._house: House | None = None

    def rehearse(self, plan: Plan, region: Region, asked: DryRun) -> dict[str, Any]:
        """What would become of the request now; raises Misasked."""
        if self._house is None or self._house.plan is not plan:
            self._house = House(plan)
        question = read_question(asked.request, asked.headers, asked.body_bytes, asked.body)
        listener, notes = choose_listener(plan, question, asked.listener or None)
        state = snapshot(plan, region)
        world = Assumed(plan, state)
        if asked.state:
            described = read_state(asked.state, plan, state)
            if isinstance(described, tuple):
                raise Misasked(f"the state is not understood: {render_problems(described)}")
            world.assume(described)
        rehearsal = self._house.rehearse(listener, question, checked_address(asked.client_ip), world)
        shown: dict[str, Any] = hide(document(rehearsal, notes), frozenset(plan.secrets))
        return shown


def snapshot(plan: Plan, region: Region) -> State:
    """The fleet's state at this moment. Nothing is changed by it."""
    now_ns = time.monotonic_ns()
    endpoints: dict[tuple[str, str], EndpointState] = {}
    upstreams: dict[str, UpstreamState] = {}
    for upstream in plan.upstreams:
        if upstream.place < 0:
            continue
        endpoints |= _endpoints(upstream, region, now_ns)
        number = array("I", [upstream.place]).tobytes()
        breaker = upstream.upstream_breaker
        is_open = breaker is not None and region.standing(number, now_ns, breaker.probes)[0] == OPEN
        upstreams[upstream.name] = UpstreamState(is_open, region.flights(number)[0])
    return State(
        endpoints, upstreams, used=Looked(lambda key: max(0, region.peek(now_ns, key) - now_ns)),
        held=Looked(region.held), spent=Looked(lambda key: sum(region.spent(key)[:2])), now_s=int(time.time()),
    )  # fmt: skip


def _endpoints(upstream: Upstream, region: Region, now_ns: int) -> dict[tuple[str, str], EndpointState]:
    """How the endpoints stand, as a worker reads it (workers.places.Group)."""
    numbers = array("I", [endpoint.place for endpoint in upstream.endpoints]).tobytes()
    probes = upstream.endpoint_breaker.probes if upstream.endpoint_breaker is not None else 0
    standings = region.standing(numbers, now_ns, probes)
    if upstream.health is not None and upstream.health.warm_up:
        standings = region.board.cold(standings, [endpoint.place for endpoint in upstream.endpoints])
    known = zip(
        upstream.endpoints, standings, region.flights(numbers),
        region.ewmas(numbers, now_ns, upstream.balance.half_life_ns), region.burdens(numbers), strict=True,
    )  # fmt: skip
    found = {}
    for endpoint, standing, in_flight, latency, tokens in known:
        weight = 0
        if upstream.slow_start_ns and (since_ms := region.board.recovered_ms(endpoint.place)):
            weight = warmed(endpoint.weight, now_ns // MS - since_ms, upstream.slow_start_ns // MS)
        rule = upstream.load_report
        report = None if rule is None else region.board.report(endpoint.place, now_ns, rule.stale_ns)
        found[upstream.name, endpoint.name] = EndpointState(
            standing, in_flight, latency, weight, tokens, _models(region.rosters.read(endpoint.place)),
            None if report is None else Report(*report),
        )
    return found


def _models(roster: Roster) -> tuple[str, ...] | None:
    """What is known of an endpoint's models; of a list that was cut nothing is concluded."""
    return roster.names if roster.is_known and roster.is_whole else None
