"""The stage that asks whether a request's tokens are within its route's limits of tokens in time.

Intuition: the tap before the till. All taps of a route are asked at once for the most that the request can draw; one
that cannot give it gives nothing, and none of the others does either.

It comes when the body has been read, and before budgets: who has to wait a second should not have his month's budget
asked. Limits that only observe are asked afterwards, one by one. What was taken goes with the verdict
(core.appraisal.Spending), and is settled with the budgets'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sentinel.core.allowances import Purse
from sentinel.core.appraisal import Appraisal, Taking
from sentinel.core.candidates import Candidate
from sentinel.core.limits import ADMITTED, FULL, Field, seconds
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.throttles import Draft, drafts_of, duration
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World

MARK_WORDS: Final = 3
NO_RETRY: Final = ("x-should-retry", "false")
Found = tuple[Reject | None, tuple[Field, ...], tuple[Taking, ...]]
"""The refusal, or None; the fields that the answer shall have; and what was taken."""


def throttle(
    candidate: Candidate, purse: Purse, request: Request, appraisal: Appraisal, world: World, trace: Trace
) -> Found:
    """Take what the request may take at most."""
    asked = [one for one in purse.throttles if not (one.has_exemptions and one.is_exempt(request))]
    drafts = [draft for one in asked if not one.is_observer for draft in drafts_of(one, request, appraisal)]
    for draft in drafts:
        if draft.is_too_large:
            one = draft.throttle
            details = (one.name, draft.measure.unit, draft.amount, draft.measure.burst)
            trace.add((Reason.LARGER_THAN_TOKEN_LIMIT, one.span, details))
            return _reject(candidate, Reason.LARGER_THAN_TOKEN_LIMIT, (NO_RETRY,)), (), ()
    fields: tuple[Field, ...] = ()
    takings: list[Taking] = []
    if drafts:
        outcome, index, *answer = _asked(drafts, world)
        used, marks = answer[: len(drafts)], answer[len(drafts) :]
        fields = fields_of(drafts, used)
        if outcome != ADMITTED:
            return _refused(candidate, drafts[index], used[index], outcome, fields, trace), (), ()
        for at, (draft, used_ns) in enumerate(zip(drafts, used, strict=True)):
            trace.add((Reason.WITHIN_TOKEN_LIMIT, draft.throttle.span, _within(draft, used_ns)))
            takings.append(draft.taking(_mark(marks, at)))
    for one in asked:
        if one.is_observer:
            takings += _observe(drafts_of(one, request, appraisal), world, trace)
    return None, fields, tuple(takings)


def _asked(drafts: Sequence[Draft], world: World) -> tuple[int, ...]:
    terms = b"".join([draft.throttle.term(draft.measure, draft.charge_ns) for draft in drafts])
    return world.take(tuple([draft.key for draft in drafts]), terms)


def _mark(marks: Sequence[int], at: int) -> tuple[int, int, int]:
    first, second, third = marks[MARK_WORDS * at : MARK_WORDS * at + MARK_WORDS]
    return first, second, third


def _within(draft: Draft, used_ns: int) -> tuple[str, str, int, int]:
    return draft.throttle.name, draft.measure.unit, draft.measure.remaining(used_ns), draft.measure.burst


def _observe(drafts: Sequence[Draft], world: World, trace: Trace) -> list[Taking]:
    """Ask the buckets of one limit that refuses nobody: all, or none."""
    large = next((draft for draft in drafts if draft.is_too_large), None)
    used: Sequence[int] = [0] * len(drafts)
    if large is None:
        outcome, index, *answer = _asked(drafts, world)
        if outcome == ADMITTED:
            used, marks = answer[: len(drafts)], answer[len(drafts) :]
            for draft, used_ns in zip(drafts, used, strict=True):
                trace.add((Reason.WITHIN_TOKEN_LIMIT, draft.throttle.span, _within(draft, used_ns)))
            return [draft.taking(_mark(marks, at)) for at, draft in enumerate(drafts)]
        large = drafts[index]
    details = (large.throttle.name, large.measure.unit, large.amount)
    trace.add((Reason.TOKEN_LIMIT_EXCEEDED, large.throttle.span, details))
    return []


def _refused(
    candidate: Candidate, draft: Draft, used_ns: int, outcome: int, fields: tuple[Field, ...], trace: Trace
) -> Reject:
    one, measure = draft.throttle, draft.measure
    if outcome == FULL:
        trace.add((Reason.LIMITS_FULL, one.span, (one.name, draft.key)))
        return _reject(candidate, Reason.LIMITS_FULL, (("retry-after", "1"),))
    wait_s = max(1, seconds(used_ns + draft.charge_ns - measure.capacity_ns))
    trace.add((Reason.TOKEN_LIMITED, one.span, (one.name, measure.unit, wait_s, draft.amount, draft.key)))
    return _reject(candidate, Reason.TOKEN_LIMITED, (("retry-after", str(wait_s)), *fields))


def _reject(candidate: Candidate, reason: Reason, fields: tuple[Field, ...]) -> Reject:
    return Reject(reason.status, reason, candidate.route, fields)


def fields_of(drafts: Sequence[Draft], used: Sequence[int]) -> tuple[Field, ...]:
    """What the client is told: the draft of the IETF, and in OpenAI's spelling of the bucket that has least left."""
    told = list(zip(drafts, used, strict=True))
    fields: list[Field] = [
        ("ratelimit-policy", ", ".join([draft.throttle.policy(draft.measure) for draft, _ in told])),
        ("ratelimit", ", ".join([draft.throttle.state(draft.measure, used_ns) for draft, used_ns in told])),
    ]
    for unit in ("requests", "tokens"):
        found = [(draft.measure.remaining(used_ns), draft, used_ns) for draft, used_ns in told
                 if draft.measure.unit == unit]  # fmt: skip
        if found:
            left, draft, used_ns = min(found, key=lambda one: one[0])
            fields += [
                (f"x-ratelimit-limit-{unit}", str(draft.measure.burst)),
                (f"x-ratelimit-remaining-{unit}", str(left)), (f"x-ratelimit-reset-{unit}", duration(used_ns)),
            ]  # fmt: skip
    return tuple(fields)
