"""The stage that asks whether there is room for the request below its route's concurrency limits.

Intuition: a guest who needs a locker, a towel and a chair takes them one after the other; if one is missing
he puts back what he has, and nobody is the worse for it. It comes before the rate limits are charged: these
cannot be given back, and a request that is refused shall have cost nothing.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.candidates import Candidate
from sentinel.core.ceilings import UNBOUNDED, Ceiling
from sentinel.core.limits import ADMITTED, FULL
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World

RETRY_AFTER: Final = (("retry-after", "1"),)
"""When one of the others will be done, nobody knows."""


def hold(
    candidate: Candidate, ceilings: tuple[Ceiling, ...], request: Request, world: World, trace: Trace
) -> tuple[Reject | None, tuple[int, ...]]:
    """Return the refusal, with nothing held; or None, and the leases that the request holds now."""
    leases: tuple[int, ...] = ()
    for one in ceilings:
        if one.has_exemptions and one.is_exempt(request):
            continue
        key = one.key(request)
        outcome, held, lease = world.hold(key, UNBOUNDED if one.is_observer else one.most)
        if outcome == ADMITTED:
            leases += (lease,)
            if held <= one.most:
                trace.add(one.within(held, key))
            else:
                trace.add((Reason.CONCURRENCY_EXCEEDED, one.span, (one.name, held, one.most, key)))
        elif outcome != FULL or one.is_closed:
            world.let_go(leases)
            reason = Reason.LEASES_FULL if outcome == FULL else Reason.CONCURRENCY_LIMITED
            trace.add((reason, one.span, (one.name, held, one.most, key)))
            return Reject(reason.status, reason, candidate.route, RETRY_AFTER), ()
    return None, leases
