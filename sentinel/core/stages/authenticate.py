"""The stage that asks from where a request comes, and who sent it, before anything is charged, held or read.

Intuition: the gate before the till. Who is not let in pays nothing, takes no place in a queue, and learns nothing of
what stands behind.

All lists of addresses must allow the client's. Any authenticator of the route suffices: they are asked in their order;
one to which nothing was shown is passed by, and one that does not know what it was shown leaves it to the next. When
none finds anybody, the refusal is that of whoever could say most: that a token has expired says more than that it is no
key. To find somebody out may take a while (`Doubt`); then the rest is waited for.
"""

from __future__ import annotations

from typing import final

from sentinel.core.candidates import Candidate
from sentinel.core.gates import Authenticator, Gate, missed, weight
from sentinel.core.identity import Finding
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World


@final
class Doubt:
    """Who asks is not known yet: which authenticator is at it, and what of the others' refusals says most."""

    __slots__ = ("at", "by", "worst")

    def __init__(self) -> None:
        self.at = 0
        self.worst: Finding | None = None
        self.by: Authenticator | None = None

    def refused(self, one: Authenticator, found: Finding) -> None:
        """This one finds nobody."""
        if self.worst is None or weight(found) > weight(self.worst):
            self.worst, self.by = found, one


def admit(candidate: Candidate, gate: Gate, request: Request, trace: Trace) -> Reject | None:
    """Return the refusal of who comes from elsewhere, or None."""
    for one in gate.lists:
        step = one.step(request.client_ip)
        trace.add(step)
        if step[0] is Reason.ADDRESS_DENIED:
            return Reject(Reason.ADDRESS_DENIED.status, Reason.ADDRESS_DENIED, candidate.route)
    return None


def authenticate(
    candidate: Candidate, gate: Gate, request: Request, world: World, trace: Trace
) -> Reject | Doubt | None:
    """Return the refusal; None, and the request knows who asks; or how far it is known."""
    if not gate.authenticators:
        return None
    return _asked(candidate, gate, request, world, trace, Doubt())


async def settle(
    candidate: Candidate, gate: Gate, request: Request, world: World, trace: Trace, doubt: Doubt
) -> Reject | None:
    """Wait for what is in doubt, and ask the others."""
    while True:
        one = gate.authenticators[doubt.at]
        found = await world.identified(one, request)
        if _knows(one, found, request, trace, doubt):
            return None
        doubt.at += 1
        rest = _asked(candidate, gate, request, world, trace, doubt)
        if type(rest) is not Doubt:
            return rest


def _asked(
    candidate: Candidate, gate: Gate, request: Request, world: World, trace: Trace, doubt: Doubt
) -> Reject | Doubt | None:
    while doubt.at < len(gate.authenticators):
        one = gate.authenticators[doubt.at]
        found = world.identify(one, request)
        if found is None:
            return doubt
        if _knows(one, found, request, trace, doubt):
            return None
        doubt.at += 1
    worst, by = doubt.worst, doubt.by
    assert worst is not None and by is not None, "somebody was asked"
    return Reject(worst.reason.status, worst.reason, candidate.route, gate.fields(by, worst.reason))


def _knows(one: Authenticator, found: Finding, request: Request, trace: Trace, doubt: Doubt) -> bool:
    if found.identity is not None:
        request.identity = found.identity
        trace.add((Reason.AUTHENTICATED, one.span, found.identity.told()))
        return True
    trace.add(missed(one, found))
    doubt.refused(one, found)
    return False
