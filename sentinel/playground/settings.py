"""What of the fleet's state a page can set, and the state that it means for a plan.

Intuition: a mixing desk. Which sliders there are is the plan's affair (`desk`): an endpoint that nobody
checks has no position "unhealthy". How they stand is the page's (`Settings`), and stays when the plan
changes: what a slider of another plan says is left aside, and told.

A limit is set for whoever asks: "three left" means three left in the bucket of this request, without
anybody having to write down its key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sentinel.config.states import STANDINGS, impossible
from sentinel.core.balance.levels import USABLE
from sentinel.core.limits import Limiter
from sentinel.core.plan import Plan
from sentinel.core.state import EndpointState, State, UpstreamState

LISTED_MAX: Final = 200
"""Endpoints that are offered; nobody sets more of them by hand."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the sliders stand. endpoints: upstream and endpoint to standing and requests in flight.

    open: upstreams whose own breaker is open. remaining: of rate limits, requests that are left. held: of
    concurrency limits, requests under way. chance: where the dice begin.
    """

    endpoints: Mapping[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    open: frozenset[str] = frozenset()
    remaining: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    chance: int | None = None


class Everybody:
    """The same note for all keys of a limit (core.state.Ledger).

    Keys begin with the name of their limit (core.keys). Of a key that is so long that only its hash stands in
    the ledger nothing is known: such a request finds the bucket as on the first day.
    """

    def __init__(self, notes: Mapping[str, int]) -> None:
        self._notes = {f"{len(name)}:{name}".encode("utf-8", "surrogatepass"): note for name, note in notes.items()}

    def get(self, key: bytes, default: int, /) -> int:
        return next((note for prefix, note in self._notes.items() if key.startswith(prefix)), default)


def desk(plan: Plan) -> dict[str, Any]:
    """What can be set for a plan, as plain values."""
    endpoints = [
        {
            "upstream": upstream.name, "endpoint": endpoint.name,
            "standings": [word for word in STANDINGS if not impossible(upstream, endpoint, word)],
        }
        for upstream in plan.upstreams
        for endpoint in upstream.endpoints
    ]  # fmt: skip
    routes_of = {name: [route.name for route in plan.routes if name in route.filters] for name in _limits(plan)}
    return {
        "listeners": [
            {"name": one.name, "address": one.address, "scheme": "http" if one.tls is None else "https"}
            for one in plan.listeners
        ],
        "endpoints": endpoints[:LISTED_MAX],
        "endpoints_more": max(0, len(endpoints) - LISTED_MAX),
        "breakers": [one.name for one in plan.upstreams if one.upstream_breaker is not None][:LISTED_MAX],
        "remaining": [
            {"limit": one.name, "most": one.burst, "key": list(one.key), "routes": routes_of[one.name][:LISTED_MAX]}
            for one in plan.rate_limits[:LISTED_MAX]
        ],
        "held": [
            {"limit": one.name, "most": one.most, "key": list(one.key), "routes": routes_of[one.name][:LISTED_MAX]}
            for one in plan.concurrency_limits[:LISTED_MAX]
        ],
        "has_chance": any(one.split for one in plan.routes) or any(len(one.endpoints) > 1 for one in plan.upstreams),
    }  # fmt: skip


def state_of(settings: Settings, plan: Plan) -> tuple[State, list[str]]:
    """The state for this plan, and what of the settings does not fit it."""
    notes: list[str] = []
    used = {}
    for limit in plan.rate_limits:
        if limit.name in settings.remaining:
            limiter = Limiter(limit, "")
            remaining = min(settings.remaining[limit.name], limiter.burst)
            used[limit.name] = limiter.capacity_ns - remaining * limiter.interval_ns
    names = {limit.name for limit in plan.concurrency_limits}
    held = {name: count for name, count in settings.held.items() if name in names}
    for name in sorted({*settings.remaining, *settings.held} - {*used, *held}):
        notes.append(f"there is no limit `{name}` here: what was set for it is left aside")
    state = State(
        dict(_endpoints(settings, plan, notes)), dict(_upstreams(settings, plan, notes)),
        used=Everybody(used), held=Everybody(held), chance=settings.chance,
    )  # fmt: skip
    return state, notes


def _endpoints(settings: Settings, plan: Plan, notes: list[str]) -> Iterator[tuple[tuple[str, str], EndpointState]]:
    found = {
        (upstream.name, endpoint.name): (upstream, endpoint)
        for upstream in plan.upstreams
        for endpoint in upstream.endpoints
    }
    for name, (standing, in_flight) in settings.endpoints.items():
        if name not in found:
            notes.append(f"there is no endpoint {name[1]} of `{name[0]}` here: what was set for it is left aside")
        elif why := impossible(*found[name], standing):
            notes.append(f"{name[1]} is never {standing} here, and counts as usable: {why}")
            yield name, EndpointState(USABLE, in_flight)
        else:
            yield name, EndpointState(STANDINGS[standing], in_flight)


def _upstreams(settings: Settings, plan: Plan, notes: list[str]) -> Iterator[tuple[str, UpstreamState]]:
    having = {one.name for one in plan.upstreams if one.upstream_breaker is not None}
    for name in sorted(settings.open):
        if name in having:
            yield name, UpstreamState(is_open=True)
        else:
            notes.append(f'there is no upstream `{name}` with a circuit-breaker of scope "upstream" here')


def _limits(plan: Plan) -> list[str]:
    return [*(one.name for one in plan.rate_limits), *(one.name for one in plan.concurrency_limits)]
