"""What is in shared memory about limits, breakers and endpoints: shown, and set by an operator.

Names come from the plan that runs; what is not in it is not shown, whatever shared memory still
knows of former configurations. Times are shown as they are from now on, in ms: nobody knows
the time since boot.
"""

from __future__ import annotations

import ipaddress
import time
from array import array
from collections.abc import Sequence
from typing import Any, Final

from sentinel.core.balance.levels import STANDING_WORDS, UNHEALTHY, USABLE
from sentinel.core.ceilings import Ceiling
from sentinel.core.limits import Limiter
from sentinel.core.machines.breaker import UNTIL_MAX, BreakerState
from sentinel.core.machines.health import Admin
from sentinel.core.plan import Breaker, ConcurrencyLimit, Endpoint, Plan, RateLimit, TokenLimit, Upstream
from sentinel.core.throttles import token_bucket
from sentinel.core.wishes import lists_models
from shm.board import PlaceView
from shm.region import Region
from shm.rosters import UNKNOWN

MS: Final = 1_000_000
ADMIN_WORDS: Final = {admin.name.lower(): admin for admin in Admin}
BREAKER_WORDS: Final = ("open", "closed")

ENDPOINT_WORD: Final = "endpoint"
BREAKER_WORD: Final = "breaker"
SUBJECTS: Final = (ENDPOINT_WORD, BREAKER_WORD)
"""What operators give words to (supervisor.control.ledger)."""


class Unknown(Exception):
    """Something was named that is not there; the text says what, and what there is."""


def endpoints(plan: Plan, region: Region) -> list[dict[str, Any]]:
    """Every endpoint, as the fleet sees it now."""
    now_ns = time.monotonic_ns()
    return [
        _endpoint(upstream, endpoint, region, now_ns)
        for upstream in plan.upstreams for endpoint in upstream.endpoints if endpoint.place >= 0
    ]  # fmt: skip


def set_endpoint(plan: Plan, region: Region, upstream: str, address: str, state: str) -> tuple[str, str]:
    """Give an endpoint another admin state; (before, after)."""
    if state not in ADMIN_WORDS:
        raise Unknown(f"there is no state `{state}`: it is one of {', '.join(ADMIN_WORDS)}")
    _, endpoint = _found(plan, upstream, address)
    before = region.place(endpoint.place).admin.name.lower()
    region.board.set_admin(endpoint.place, ADMIN_WORDS[state])
    return before, state


def unknown(region: Region, names: list[str]) -> list[str]:
    """Of these places those that shared memory does not know yet."""
    return [name for name, number in zip(names, region.board.known(names), strict=True) if number < 0]


def welcome(region: Region, names: list[str], admins: dict[str, str], breakers: dict[str, str]) -> list[int]:
    """The numbers of these places; those that shared memory does not know yet are told what operators said of them."""
    new = set(unknown(region, names))
    numbers = region.place_numbers(names)
    for name, number in zip(names, numbers, strict=True):
        if name in new and (admin := ADMIN_WORDS.get(admins.get(name, ""))):
            region.board.set_admin(number, admin)
        if name in new and breakers.get(name) == "open":
            region.board.set_breaker(number, True, time.monotonic_ns())
    return numbers


def breakers(plan: Plan, region: Region) -> list[dict[str, Any]]:
    """Every circuit breaker that the plan has."""
    now_ns = time.monotonic_ns()
    found = []
    for upstream in plan.upstreams:
        if (rule := upstream.upstream_breaker) is not None and upstream.place >= 0:
            found.append({"upstream": upstream.name, "endpoint": ""} | _breaker(upstream.place, rule, region, now_ns))
        if (rule := upstream.endpoint_breaker) is not None:
            found += [
                {"upstream": upstream.name, "endpoint": endpoint.name} | _breaker(endpoint.place, rule, region, now_ns)
                for endpoint in upstream.endpoints if endpoint.place >= 0
            ]  # fmt: skip
    return found


def set_breaker(plan: Plan, region: Region, upstream: str, address: str, state: str) -> tuple[str, str]:
    """Open a breaker until it is closed by hand, or close it and forget its failures; (before, after)."""
    if state not in BREAKER_WORDS:
        raise Unknown(f"a breaker is set to {' or '.join(BREAKER_WORDS)}, not to `{state}`")
    if address:
        group, endpoint = _found(plan, upstream, address)
        rule, place = group.endpoint_breaker, endpoint.place
    else:
        group = _upstream(plan, upstream)
        rule, place = group.upstream_breaker, group.place
    if rule is None:
        scope = "endpoint" if address else "upstream"
        raise Unknown(f'upstream `{upstream}` has no circuit-breaker of scope "{scope}"')
    before = region.board.set_breaker(place, state == "open", time.monotonic_ns())
    return before.name.lower(), state


def limits(plan: Plan, region: Region) -> dict[str, Any]:
    """The limits of the plan, and how full their tables are."""
    statistics, leases = region.limits_statistics(time.monotonic_ns()), region.leases_statistics()
    return {
        "table": {
            "size": statistics.limits_max, "live": statistics.live, "used": statistics.used,
            "void": statistics.void, "busy": statistics.busy,
        },
        "limits": [
            {
                "name": limit.name, "count": limit.count, "period_ms": limit.period_ns / MS, "burst": limit.burst,
                "cost": limit.cost, "key": list(limit.key), "on_limit": limit.on_limit, "when_full": limit.when_full,
                "routes": [route.name for route in plan.routes if limit.name in route.filters],
            }
            for limit in plan.rate_limits
        ],
        "tokens": [
            {
                "name": limit.name, "tokens": limit.tokens, "period_ms": limit.period_ns / MS, "burst": limit.burst,
                "requests": limit.requests, "requests_period_ms": limit.requests_period_ns / MS,
                "requests_burst": limit.requests_burst, "key": list(limit.key), "on_limit": limit.on_limit,
                "when_full": limit.when_full,
                "routes": [route.name for route in plan.routes if limit.name in route.filters],
            }
            for limit in plan.token_limits
        ],
        "leases": {"size": leases.leases_max, "keys": leases.keys, "held": leases.held, "used": leases.used},
        "concurrency": [
            {
                "name": limit.name, "max": limit.most, "key": list(limit.key), "on_limit": limit.on_limit,
                "when_full": limit.when_full,
                "routes": [route.name for route in plan.routes if limit.name in route.filters],
            }
            for limit in plan.concurrency_limits
        ],
    }  # fmt: skip


def bucket(plan: Plan, region: Region, name: str, values: Sequence[str]) -> dict[str, Any]:
    """One bucket of a rate limit, or what is held under a key of a concurrency limit; values: its key's parts."""
    ceiling = next((limit for limit in plan.concurrency_limits if limit.name == name), None)
    if ceiling is not None:
        route, others = _parts(plan, ceiling, values)
        held = region.held(Ceiling(ceiling, route).key_of(others))
        return {
            "limit": name, "key": list(values), "held": held, "max": ceiling.most, "is_limited": held >= ceiling.most,
        }  # fmt: skip
    now_ns = time.monotonic_ns()
    throttle = next((limit for limit in plan.token_limits if limit.name == name), None)
    if throttle is not None:
        measure, key = token_bucket(throttle, *_parts(plan, throttle, values))
        used_ns = max(0, region.peek(now_ns, key) - now_ns)
        return {
            "limit": name, "key": list(values), "remaining": measure.remaining(used_ns), "burst": measure.burst,
            "full_in_ms": used_ns / MS, "is_limited": measure.remaining(used_ns) == 0,
        }  # fmt: skip
    limiter, key = _bucket(plan, name, values)
    used_ns = max(0, region.peek(now_ns, key) - now_ns)
    return {
        "limit": name, "key": list(values), "remaining": limiter.remaining(used_ns), "burst": limiter.burst,
        "full_in_ms": used_ns / MS, "is_limited": limiter.retry_ns(used_ns) > 0,
    }  # fmt: skip


def reset_bucket(plan: Plan, region: Region, name: str, values: Sequence[str]) -> bool:
    """Make a bucket full; whether it was not."""
    throttle = next((limit for limit in plan.token_limits if limit.name == name), None)
    if throttle is not None:
        key = token_bucket(throttle, *_parts(plan, throttle, values))[1]
    else:
        _, key = _bucket(plan, name, values)
    return region.reset(time.monotonic_ns(), key)


def _bucket(plan: Plan, name: str, values: Sequence[str]) -> tuple[Limiter, bytes]:
    limit = next((limit for limit in plan.rate_limits if limit.name == name), None)
    if limit is None:
        if any(one.name == name for one in plan.concurrency_limits):
            raise Unknown(f"`{name}` is a concurrency-limit: what is held ends with its requests, and cannot be reset")
        names = [one.name for one in plan.rate_limits] + [one.name for one in plan.token_limits]
        names += [one.name for one in plan.concurrency_limits]
        known = ", ".join(f"`{name}`" for name in names) or "none"
        raise Unknown(f"there is no limit `{name}`; there are {known}")
    route, others = _parts(plan, limit, values)
    limiter = Limiter(limit, route)
    return limiter, limiter.key_of(others)


def _parts(
    plan: Plan, limit: RateLimit | ConcurrencyLimit | TokenLimit, values: Sequence[str]
) -> tuple[str, list[str]]:
    """The route and the other parts of a key, as an operator named them."""
    if len(values) != len(limit.key):
        wanted = ", ".join(limit.key) or "none"
        raise Unknown(f"a bucket of `{limit.name}` is named by {len(limit.key)} values: {wanted}")
    known = {"route": {one.name for one in plan.routes}, "listener": {one.name for one in plan.listeners}}
    for part, value in zip(limit.key, values, strict=True):
        if (part == "client-ip" and not _is_address(value)) or value not in known.get(part, (value,)):
            raise Unknown(f"`{value}` is no {part}; a bucket of `{limit.name}` is named by {', '.join(limit.key)}")
    route = values[limit.key.index("route")] if "route" in limit.key else ""
    return route, [value for part, value in zip(limit.key, values, strict=True) if part != "route"]


def _is_address(text: str) -> bool:
    """Whether a client may have it: an address, the network that stands for it, or a Unix socket's peer."""
    if text == "unix:":
        return True
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def _endpoint(upstream: Upstream, endpoint: Endpoint, region: Region, now_ns: int) -> dict[str, Any]:
    view = region.place(endpoint.place)
    now_ms, toll = now_ns // MS, view.toll
    probes = upstream.endpoint_breaker.probes if upstream.endpoint_breaker is not None else 0
    standing = region.standing(array("I", [endpoint.place]).tobytes(), now_ns, probes)[0]
    if upstream.health is None and standing == UNHEALTHY:  # of checks that are not made any more
        standing = USABLE
    if upstream.health is not None and upstream.health.warm_up:
        standing = region.board.cold(bytes([standing]), [endpoint.place])[0]
    roster = region.rosters.read(endpoint.place) if lists_models(upstream) else UNKNOWN
    rule, report = upstream.load_report, None
    if rule is not None and view.reported_ms:
        age_ms = max(0, now_ms - view.reported_ms)
        report = {
            "waiting": view.waiting, "cache_used": view.cache / 1000, "ms_ago": age_ms,
            "is_stale": age_ms > rule.stale_ns // MS,
        }  # fmt: skip
    return {
        "load": report, "upstream": upstream.name, "endpoint": endpoint.name, "standing": STANDING_WORDS[standing],
        "admin": view.admin.name.lower(), "health": view.health.name.lower(),
        "finding": view.finding.name.lower().replace("_", "-"),
        "checked_ms_ago": now_ms - view.checked_ms if view.checked_ms else None,
        "health_ms": now_ms - view.changed_ms if view.changed_ms else None,
        "ejected_ms_left": max(0, view.ejected_until_ms - now_ms), "ejections": view.ejections,
        "weight": endpoint.weight, "priority": endpoint.priority, "locality": endpoint.locality,
        "in_flight": view.in_flight, "tokens": view.tokens, "models": list(roster.names) if roster.is_known else None,
        "requests": toll.requests, "failures": toll.failures, "refused": toll.refused,
        "connect_failures": toll.connect_failures, "consecutive_failures": view.consecutive,
        "latency_ms_mean": toll.latency_sum_us / toll.requests / 1000 if toll.requests else None,
    }  # fmt: skip


def _breaker(place: int, rule: Breaker, region: Region, now_ns: int) -> dict[str, Any]:
    view: PlaceView = region.place(place)
    left_ms = max(0, view.breaker_until_ms - now_ns // MS) if view.breaker is not BreakerState.CLOSED else 0
    calls, failures, slow = region.board.window(place, now_ns, rule.window_ns // MS)
    return {
        "state": view.breaker.name.lower().replace("_", "-"),
        "ms_left": None if view.breaker_until_ms == UNTIL_MAX else left_ms,  # None: until somebody closes it
        "trips": view.trips, "consecutive_failures": view.consecutive, "opened": view.toll.opened,
        "window": {"calls": calls, "failures": failures, "slow": slow},
    }  # fmt: skip


def _upstream(plan: Plan, name: str) -> Upstream:
    found = next((upstream for upstream in plan.upstreams if upstream.name == name), None)
    if found is None:
        known = ", ".join(f"`{one.name}`" for one in plan.upstreams) or "none"
        raise Unknown(f"there is no upstream `{name}`; there are {known}")
    return found


def _found(plan: Plan, name: str, address: str) -> tuple[Upstream, Endpoint]:
    upstream = _upstream(plan, name)
    found = next((endpoint for endpoint in upstream.endpoints if endpoint.name == address), None)
    if found is None:
        known = ", ".join(f"`{one.name}`" for one in upstream.endpoints)
        raise Unknown(f"upstream `{name}` has no endpoint `{address}`; it has {known}")
    return upstream, found
