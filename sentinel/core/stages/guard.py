"""The stage for guardrails: what they find in a request decides whether it goes on, and how.

Intuition: the customs of an airport. Everybody goes through all of them, in their order; whoever has nothing is told
so, what may not be brought is taken out or the traveller turned back, and a bag that cannot be opened stays here,
unless somebody has written that it may pass.

It comes when the body has been read and before anything is put aside: a request that is refused for what it says costs
nothing. The core reads no bodies: whoever has the octets looks through them (World.inspect), and this is what
follows. What is found never comes here, only its kind and how often.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.appraisal import Appraisal
from sentinel.core.candidates import Candidate
from sentinel.core.guard.guards import FOUND, Guard, Guards
from sentinel.core.inspection import CLEAN, Inspection, unread
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World

UNKNOWN: Final = "it is in no dialect that is known here"


def guard(
    candidate: Candidate, guards: Guards, request: Request, appraisal: Appraisal, world: World, trace: Trace
) -> Reject | None:
    """Return the refusal, or None when the request may go on, with what was to be replaced replaced."""
    if appraisal.kind == "free":
        return None
    if appraisal.is_read:
        found = world.inspect(candidate.route, request) if guards.requests else ()
        refusal = _judged(candidate, guards.requests, found, trace)
        if refusal is None:
            trace.extend([(Reason.GUARDRAIL_WATCHES, one.span, (one.name,)) for one in guards.responses])
        return refusal
    fault = unread(appraisal.fault or UNKNOWN)
    return _judged(candidate, guards.both, (fault,) * len(guards.both), trace)


def _judged(
    candidate: Candidate, guards: tuple[Guard, ...], found: tuple[Inspection, ...], trace: Trace
) -> Reject | None:
    for at, one in enumerate(guards):
        reason, step = step_of(one, "request", found[at] if at < len(found) else CLEAN)
        trace.add(step)
        if reason.status:
            return Reject(reason.status, reason, candidate.route)
    return None


def step_of(one: Guard, side: str, found: Inspection) -> tuple[Reason, Step]:
    """What follows from what a guardrail has found, and the step that tells it."""
    is_request = side == "request"
    if found.kind == "unread":
        reason = Reason.GUARDRAIL_SKIPPED
        if one.is_closed:
            reason = Reason.GUARDRAIL_UNREADABLE if is_request else Reason.ANSWER_UNREADABLE
        return reason, (reason, one.span, (one.name, side, found.told))
    reason = Reason.GUARDRAIL_PASSED if found.kind == "clean" else FOUND[one.action]
    if reason is Reason.GUARDRAIL_BLOCKED and not is_request:
        reason = Reason.ANSWER_BLOCKED
    return reason, (reason, one.span, (one.name, side, found.told, found.attached_count))
