"""The stage that puts tokens aside: what a request may take at most, at all budgets of its route, or at none.

Intuition: a deposit. Nobody knows what an order will cost before it is done, so the most that it can cost is put
aside first; what was not needed comes back. Who checks the balance and pays later lets fifty orders through
on money for one.

It comes last before an endpoint is asked for: it needs the body, which nobody waits for whom a limit refuses.
What is put aside goes with the verdict (core.appraisal.Spending); who acts on the verdict settles it.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.allowances import TOKENS_MAX, Allowance, Purse, Term, Told, Window, fields_of
from sentinel.core.appraisal import Appraisal, Reservation, Spending
from sentinel.core.candidates import Candidate
from sentinel.core.limits import ADMITTED, FULL, Field
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import World

Found = tuple[Reject | None, tuple[Field, ...], Spending | None]
"""The refusal, or None; the fields that the answer shall have; and what was put aside."""

NO_STEPS: Final = Term(0, 0, 0, 0)
WARNING: Final = "x-sentinel-budget-warning"
WITHIN_BUDGET: Final = Reason.WITHIN_BUDGET  # an enum's member costs a search where it is named
LARGER_THAN_BUDGET: Final = Reason.LARGER_THAN_BUDGET
NO_RETRY: Final = ("x-should-retry", "false")
"""What the SDKs of OpenAI and Anthropic obey: to ask again within seconds is of no use until the window ends."""


class Claim:
    """What one budget is asked for, and what it said."""

    __slots__ = ("allowance", "amount", "key", "lease", "term", "total", "whole", "window")

    window: Window
    key: bytes
    term: Term

    def __init__(self, allowance: Allowance, amount: int) -> None:
        self.allowance = allowance
        self.amount = amount
        self.lease = self.total = self.whole = 0

    def hear(self, used: int, lease: int, earlier: int) -> None:
        self.lease = lease
        self.total, self.whole = self.allowance.account(used, earlier)

    @property
    def told(self) -> Told:
        """What the client is told of."""
        return self.allowance, self.total, self.whole, self.window

    def reservation(self) -> Reservation:
        one, term = self.allowance, self.term
        if not term.steps and not term.last:
            term = NO_STEPS
        return Reservation(
            self.lease, one.limit, self.amount, bool(one.currency), self.key, *term[4:], one.name, one.span, one.ends
        )


def budget(
    candidate: Candidate, purse: Purse, request: Request, appraisal: Appraisal, world: World, trace: Trace
) -> Found:
    """Put aside what the request may take."""
    if appraisal.kind != "ask":
        return _unread(candidate, purse, request, appraisal, trace), (), None
    tokens = min(appraisal.tokens, TOKENS_MAX)
    allowances, refusal = _priced(candidate, purse.of(request), appraisal, trace)
    if refusal is not None:
        return refusal, (), None
    claims: list[Claim] = []
    for one in allowances:
        amount = max(one.asked(appraisal), 1)
        if amount > one.limit + one.carried_max:
            trace.add((LARGER_THAN_BUDGET, one.span, (one.name, one.told(amount), one.told(one.amount))))
            return _reject(candidate, LARGER_THAN_BUDGET, (NO_RETRY,)), (), None
        claims.append(Claim(one, amount))
    if not claims:
        return None, (), Spending(tokens)
    for claim in claims:
        one = claim.allowance
        claim.window = window = world.window(one.period, one.time_zone)
        claim.key = one.key(request, appraisal, window.start_s)
        claim.term = one.term(claim.key, claim.amount, window)
    answer = world.reserve(tuple([one.key for one in claims]), tuple([one.term for one in claims]))
    outcome, count, at = answer[0], len(claims), 2
    for claim in claims:
        claim.hear(answer[at], answer[at + count], answer[at + 2 * count])
        at += 1
    if outcome != ADMITTED:
        return _refused(candidate, outcome, claims[answer[1]], trace), (), None
    for claim in claims:
        one = claim.allowance
        reason = WITHIN_BUDGET if claim.total <= claim.whole else Reason.BUDGET_EXCEEDED
        trace.add((
            reason, one.span, (one.name, one.told(claim.total), one.told(claim.whole), one.told(claim.amount))
        ))  # fmt: skip
    warned = _warned(claims, trace)
    fields = fields_of([claim.told for claim in claims if not claim.allowance.is_observer])
    if warned and (said := ", ".join([f'"{one.name}";at={percent}' for one, percent in warned if one.warns_clients])):
        fields = *fields, (WARNING, said)
    return None, fields, Spending(tokens, tuple([one.reservation() for one in claims]), warned=len(warned))


def _warned(claims: list[Claim], trace: Trace) -> list[tuple[Allowance, int]]:
    """The budgets of which so much is used that somebody wants to know."""
    found = []
    for claim in claims:
        one = claim.allowance
        if percent := one.warned(claim.total):
            told = one.name, one.told(claim.total), one.told(one.amount), f"{percent}%"
            trace.add((Reason.BUDGET_WARNED, one.span, told))
            found.append((one, percent))
    return found


def _priced(
    candidate: Candidate, allowances: tuple[Allowance, ...], appraisal: Appraisal, trace: Trace
) -> tuple[tuple[Allowance, ...], Reject | None]:
    """The budgets that can tell what the request would take: of money only for a model that has a price."""
    if appraisal.money >= 0:
        return allowances, None
    unable = [one for one in allowances if one.currency]
    for one in unable:
        reason = Reason.NO_PRICE if one.rejects_unpriced else Reason.UNPRICED
        trace.add((reason, one.span, (appraisal.model, one.name)))
        if one.rejects_unpriced:
            return (), _reject(candidate, Reason.NO_PRICE, (NO_RETRY,))
    return (tuple([one for one in allowances if not one.currency]) if unable else allowances), None


def _unread(
    candidate: Candidate, purse: Purse, request: Request, appraisal: Appraisal, trace: Trace
) -> Reject | None:
    """What is no request for tokens, or none that could be read."""
    if appraisal.kind == "free":
        return None
    if appraisal.kind == "count":
        trace.add((Reason.TOKENS_ASKED, purse.inference.span, (appraisal.model,)))
        return None
    is_malformed = appraisal.kind == "malformed"
    reason = Reason.INFERENCE_MALFORMED if is_malformed else Reason.INFERENCE_UNKNOWN
    span = purse.inference.span
    if purse.is_strict and purse.refuses(request):
        trace.add((reason, span, (appraisal.fault,) if is_malformed else ()))
        return _reject(candidate, reason, ())
    trace.add((Reason.UNCOUNTED, span, (appraisal.fault or "no dialect that is known here",)))
    return None


def _refused(
    candidate: Candidate, outcome: int, claim: Claim, trace: Trace
) -> Reject:
    one, used, whole, window = claim.told
    if outcome == FULL:
        trace.add((Reason.BUDGETS_FULL, one.span, (one.name,)))
        return _reject(candidate, Reason.BUDGETS_FULL, (("retry-after", "1"),))
    trace.add((Reason.BUDGET_EXHAUSTED, one.span, (one.name, one.told(used), one.told(whole), one.told(claim.amount))))
    told = ("retry-after", str(window.left_s)), NO_RETRY, *fields_of([claim.told])
    return _reject(candidate, Reason.BUDGET_EXHAUSTED, told)


def _reject(candidate: Candidate, reason: Reason, fields: tuple[Field, ...]) -> Reject:
    return Reject(reason.status, reason, candidate.route, fields)
