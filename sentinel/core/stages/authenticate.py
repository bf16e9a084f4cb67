"""The stage that finds out who asks, before anything is charged, held or read.

Intuition: the gate before the till. Who is not let in pays nothing, takes no place in a queue, and learns nothing of
what stands behind.

Any authenticator of the route suffices. They are asked in their order; one to which nothing was shown is passed by,
and one that does not know what it was shown leaves it to the next. When none finds anybody, the refusal is that of
whoever could say most: that a token has expired says more than that it is no key.
"""

from __future__ import annotations

from sentinel.core.candidates import Candidate
from sentinel.core.gates import Gate, missed, weight
from sentinel.core.identity import Finding
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World


def authenticate(candidate: Candidate, gate: Gate, request: Request, world: World, trace: Trace) -> Reject | None:
    """Return the refusal; or None, and the request knows who asks."""
    worst: Finding | None = None
    by = gate.authenticators[0]
    for one in gate.authenticators:
        found = world.identify(one, request)
        if found.identity is not None:
            request.identity = found.identity
            trace.add((Reason.AUTHENTICATED, one.span, found.identity.told()))
            return None
        trace.add(missed(one, found))
        if worst is None or weight(found) > weight(worst):
            worst, by = found, one
    assert worst is not None, "a gate has an authenticator"
    return Reject(worst.reason.status, worst.reason, candidate.route, gate.fields(by, worst.reason))
