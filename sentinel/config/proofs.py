"""What can be proved of a valid configuration without a single request, and was probably not meant.

    routes   that no request matches: their conditions contradict each other (reach)
             that others always take first: whatever they match, a better ranked one matches too (reach)
    limits   that never refuse what another one admits; that refuse nobody at all
    doors    that are open wider than anybody wants: everybody is a trusted proxy, tokens travel in clear

Rule 1: no false alarm. What is told as a warning is proved; what cannot be proved is not told. Thus a
    configuration without warnings may still have a route that is never reached.
Rule 2: a note is no mistake: it says what somebody who answers for the security should have seen once.
Rule 3: proving takes longer than compiling, so a reload does not do it; `sentinelctl check` does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

from sentinel.config.reach import unreached
from sentinel.core.plan import ConcurrencyLimit, Plan, RateLimit
from sentinel.core.span import Span

LIMITS_MAX: Final = 200
"""Limits that are held against each other, in pairs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was proved. `also`: other places that belong to it."""

    span: Span
    message: str
    remedy: str
    also: tuple[tuple[Span, str], ...] = ()
    is_note: bool = False


def prove(plan: Plan) -> Iterator[Finding]:
    """Walk over all that can be proved of a plan without problems."""
    for one in unreached(plan):
        yield Finding(one.span, one.message, one.remedy, one.also)
    yield from _idle_limits(plan)
    yield from _open_doors(plan)
    yield from _lenient_limits(plan)


# Limits.


def _idle_limits(plan: Plan) -> Iterator[Finding]:
    """Limits that another one of the same routes makes idle."""
    routes: dict[str, list[tuple[str, ...]]] = {}
    for route in plan.routes:
        for name in route.filters:
            routes.setdefault(name, []).append(route.filters)
    told: set[str] = set()
    limits: list[RateLimit | ConcurrencyLimit] = [*plan.rate_limits, *plan.concurrency_limits]
    for idle, strict in permutations([one for one in limits if one.name in routes][:LIMITS_MAX], 2):
        if idle.name in told or strict.name in told or not all(strict.name in named for named in routes[idle.name]):
            continue
        if _shares_key(strict, idle) and _admits_less(strict, idle):
            told.add(idle.name)
            room = "" if strict.when_full == "reject" else ", while shared memory has room for its keys"
            also = ((strict.span, f"this one is at least as strict on all its routes{room}"),)
            message = f"`{idle.name}` refuses nothing that `{strict.name}` has not refused already"
            yield Finding(idle.span, message, "remove it, or make it stricter", also)
    for listener in plan.listeners:
        limit = listener.connection_limit
        if limit is not None and 0 < limit.total <= limit.per_client:
            yield Finding(
                limit.span, f"`per-client {limit.per_client}` refuses nothing: `total` is {limit.total}",
                "lower it below `total`, or remove it",
            )  # fmt: skip


def _shares_key(strict: RateLimit | ConcurrencyLimit, idle: RateLimit | ConcurrencyLimit) -> bool:
    """Whether each bucket of the one has one of the other that is used whenever it is."""
    names = ("key", "ipv4_prefix", "ipv6_prefix")
    is_alike = all(getattr(strict, name) == getattr(idle, name) for name in names)
    return is_alike and set(strict.exempt) <= set(idle.exempt)


def _admits_less(strict: RateLimit | ConcurrencyLimit, idle: RateLimit | ConcurrencyLimit) -> bool:
    """Whether what the one admits is never refused by the other, as long as memory has room for both.

    Of buckets (core.limits): a request uses `increment` of `capacity`, and time gives back one ns each ns. Counted in
    requests, a bucket with the smaller increment empties faster, so it is never in deeper use than the other one.
    """
    if strict.on_limit != "reject":
        return False
    if isinstance(strict, RateLimit) and isinstance(idle, RateLimit):
        increments = [-(-one.period_ns // one.count) * one.cost for one in (strict, idle)]
        capacities = [-(-one.period_ns // one.count) * one.burst for one in (strict, idle)]
        return increments[1] <= increments[0] and capacities[0] * increments[1] <= capacities[1] * increments[0]
    if isinstance(strict, ConcurrencyLimit) and isinstance(idle, ConcurrencyLimit):
        return strict.most < idle.most
    return False


def _lenient_limits(plan: Plan) -> Iterator[Finding]:
    """Notes: what refuses nobody, or nobody while memory is full."""
    limits: list[Any] = [*plan.rate_limits, *plan.concurrency_limits, *plan.token_limits, *plan.token_budgets]
    for one in limits:
        if one.on_limit == "observe":
            yield Finding(one.span, f"`{one.name}` only observes: it refuses nobody", 'say `on-limit "reject"` when it '
                          "has observed enough", is_note=True)  # fmt: skip
    for guardrail in plan.guardrails:
        if guardrail.action == "observe":
            yield Finding(guardrail.span, f"`{guardrail.name}` only observes: it stops and replaces nothing",
                          'say `action "redact"` or `"block"` when it has observed enough', is_note=True)  # fmt: skip
        elif guardrail.when_unreadable == "pass":
            yield Finding(guardrail.span, f"`{guardrail.name}` lets pass what it cannot read",
                          'say `when-unreadable "block"` where it protects something', is_note=True)  # fmt: skip
    lenient = [one for one in limits if one.on_limit != "observe" and one.when_full == "admit"]
    lenient += [one.connection_limit for one in plan.listeners if one.connection_limit is not None
                and one.connection_limit.when_full == "admit"]  # fmt: skip
    if lenient:
        first, *others = sorted(lenient, key=lambda one: one.span)
        whose = "this limit admits" if not others else f"this limit and {len(others)} more admit"
        yield Finding(
            first.span, f"{whose} uncounted what comes while shared memory has no room for another key",
            'say `when-full "reject"` where a limit protects something', is_note=True,
        )  # fmt: skip


# Doors.


def _open_doors(plan: Plan) -> Iterator[Finding]:
    for listener in plan.listeners:
        if any(_is_everybody(network) for network in listener.trusted_proxies):
            yield Finding(
                listener.span, f"on listener `{listener.name}` everybody is a trusted proxy: clients choose their own "
                "address, and limits by `client-ip` do not bind them",
                'name the networks of your proxies, e.g. `trusted-proxies "10.0.0.0/8"`',
            )  # fmt: skip
    limits: list[Any] = [*plan.rate_limits, *plan.concurrency_limits, *plan.token_limits, *plan.token_budgets]
    limits += [one.connection_limit for one in plan.listeners if one.connection_limit is not None]
    for limit in limits:
        everybody = next((network for network in limit.exempt if _is_everybody(network)), None)
        if everybody is not None:
            family = "IPv6" if ":" in everybody else "IPv4"
            yield Finding(limit.span, f'`exempt "{everybody}"`: the limit refuses nobody who comes by {family}',
                          "name the networks that are meant")  # fmt: skip
    host = plan.admin.address.rpartition(":")[0].strip("[]")
    if not ipaddress.ip_address(host).is_loopback:
        yield Finding(
            plan.admin.address_span, f"the admin API on {host} is reached in clear: its token can be read on the way",
            'listen on "127.0.0.1", and put TLS before it',
        )  # fmt: skip


def _is_everybody(network: str) -> bool:
    return ipaddress.ip_network(network).prefixlen == 0
