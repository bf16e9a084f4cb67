"""The stage that asks whether the request is within its route's rate limits.

Intuition: one payment for all stamps. The limits that may refuse are charged together, all or
none: a request that one of them refuses has cost nothing at the others. Those that only
observe are asked afterwards, one by one, and are told of in the trace. A limit that delays is charged
for a turn in the future; whoever has to wait longer than it allows is refused.

What the client is told (RFC 9110 section 10.2.3, draft-ietf-httpapi-ratelimit-headers): `Retry-After` of a refusal, and
of every answer the policies and what is left of each.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sentinel.core.candidates import Candidate
from sentinel.core.limits import ADMITTED, FULL, Field, Limiter, Tariff, seconds
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World

RATE_LIMITED: Final = Reason.RATE_LIMITED
LIMITS_FULL: Final = Reason.LIMITS_FULL
DELAYED: Final = Reason.DELAYED
WOULD_BE_LIMITED: Final = Reason.WOULD_BE_LIMITED


class Delay(NamedTuple):
    """The limit whose turn is waited for the longest, and how long."""

    name: str
    wait_ns: int


def limit(
    candidate: Candidate, tariff: Tariff, request: Request, world: World, trace: Trace
) -> tuple[Reject | None, tuple[Field, ...], Delay | None]:
    """Return the refusal, or None; the fields that the answer shall have; and what is to be waited for."""
    if tariff.has_exemptions:
        tariff = tariff.of(request)
    fields: tuple[Field, ...] = ()
    delay: Delay | None = None
    if tariff.enforced:
        terms = tariff.terms
        if tariff.delaying and all(world.waiting(one.name) < one.max_waiting for one in tariff.delaying):
            terms = tariff.patient_terms
        keys = tariff.keys(request)
        charged = world.charge(keys, terms)
        state, steps = tariff.tell(tariff.rows, keys, charged)
        fields = tariff.policies, ("ratelimit", state)
        if charged[0] != ADMITTED:
            return _refused(candidate, tariff, keys, charged, fields, trace), fields, None
        if tariff.delaying:
            delay = _told_with_delays(tariff, charged, steps, trace)
        else:
            trace.extend(steps)
    for one in tariff.observers:
        _observe(one, request, world, trace)
    return None, fields, delay


def _told_with_delays(tariff: Tariff, charged: tuple[int, ...], steps: list[Step], trace: Trace) -> Delay | None:
    delay: Delay | None = None
    for one, used_ns, step in zip(tariff.enforced, charged[2:], steps, strict=True):
        trace.add(step)
        if (wait_ns := one.wait_ns(used_ns)) > (delay.wait_ns if delay else 0):
            delay = Delay(one.name, wait_ns)
            trace.add((DELAYED, one.span, (one.name, wait_ns // 1_000_000)))
    return delay


def _refused(
    candidate: Candidate, tariff: Tariff, keys: tuple[bytes, ...], charged: tuple[int, ...],
    fields: tuple[Field, ...], trace: Trace,
) -> Reject:  # fmt: skip
    outcome, index, *used = charged
    one, used_ns, key = tariff.enforced[index], used[index], keys[index]
    if outcome == FULL:
        trace.add((LIMITS_FULL, one.span, (one.name, key)))
        return Reject(LIMITS_FULL.status, LIMITS_FULL, candidate.route, (("retry-after", "1"),))
    retry_s = max(1, seconds(one.retry_ns(used_ns)))
    trace.add((RATE_LIMITED, one.span, (one.name, retry_s, key)))
    return Reject(RATE_LIMITED.status, RATE_LIMITED, candidate.route, (("retry-after", str(retry_s)), *fields))


def _observe(one: Limiter, request: Request, world: World, trace: Trace) -> None:
    key = one.key(request)
    outcome, _, used_ns = world.charge((key,), one.term)
    trace.add(one.within(used_ns, key) if outcome == ADMITTED else (WOULD_BE_LIMITED, one.span, (one.name, key)))
