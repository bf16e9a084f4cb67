"""The stage that puts tokens aside: what a request may take at most, at all budgets of its route, or at none.

Intuition: a deposit. Nobody knows what an order will cost before it is done, so the most that it can cost is put
aside first; what was not needed comes back. Who checks the balance and pays later lets fifty orders through
on money for one.

It comes last before an endpoint is asked for: it needs the body, which nobody waits for whom a limit refuses.
What is put aside goes with the verdict (core.appraisal.Spending); who acts on the verdict settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sentinel.core.allowances import TOKENS_MAX, Allowance, Purse, Window, fields_of
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

WARNING: Final = "x-sentinel-budget-warning"
NO_RETRY: Final = ("x-should-retry", "false")
"""What the SDKs of OpenAI and Anthropic obey: to ask again within seconds is of no use until the window ends."""


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
    amounts = [max(one.asked(appraisal), 1) for one in allowances]
    for one, amount in zip(allowances, amounts, strict=True):
        if amount > one.limit + one.carried_max:
            trace.add((Reason.LARGER_THAN_BUDGET, one.span, (one.name, one.told(amount), one.told(one.amount))))
            return _reject(candidate, Reason.LARGER_THAN_BUDGET, (NO_RETRY,)), (), None
    if not allowances:
        return None, (), Spending(tokens)
    windows = [world.window(one.period, one.time_zone) for one in allowances]
    asked = list(zip(allowances, windows, strict=True))
    keys = tuple([one.key(request, appraisal, window.start_s) for one, window in asked])
    terms = tuple([
        one.term(key, amount, window) for (one, window), key, amount in zip(asked, keys, amounts, strict=True)
    ])  # fmt: skip
    outcome, index, *answer = world.reserve(keys, terms)
    count = len(asked)
    used, leases, earlier = answer[:count], answer[count : 2 * count], answer[2 * count :]
    accounts = [one.account(*found) for one, *found in zip(allowances, used, earlier, strict=True)]
    if outcome != ADMITTED:
        return _refused(candidate, outcome, asked[index], accounts[index], amounts[index], trace), (), None
    for one, (total, whole), amount in zip(allowances, accounts, amounts, strict=True):
        reason = Reason.WITHIN_BUDGET if total <= whole else Reason.BUDGET_EXCEEDED
        trace.add((reason, one.span, (one.name, one.told(total), one.told(whole), one.told(amount))))
    warned = _warned(allowances, accounts, trace)
    enforced = [
        (one, *account, window) for (one, window), account in zip(asked, accounts, strict=True) if not one.is_observer
    ]
    reservations = [
        Reservation(lease, one.limit, term.amount, bool(one.currency), key, *term[4:])
        for one, lease, key, term in zip(allowances, leases, keys, terms, strict=True)
    ]
    fields = fields_of(enforced)
    if said := ", ".join([f'"{one.name}";at={percent}' for one, percent in warned if one.warns_clients]):
        fields = *fields, (WARNING, said)
    return None, fields, Spending(tokens, tuple(reservations), warned=len(warned))


def _warned(
    allowances: Sequence[Allowance], accounts: Sequence[tuple[int, int]], trace: Trace
) -> list[tuple[Allowance, int]]:
    """The budgets of which so much is used that somebody wants to know."""
    found = []
    for one, (total, _) in zip(allowances, accounts, strict=True):
        if percent := one.warned(total):
            told = one.name, one.told(total), one.told(one.amount), f"{percent}%"
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
    is_malformed = appraisal.kind == "malformed"
    reason = Reason.INFERENCE_MALFORMED if is_malformed else Reason.INFERENCE_UNKNOWN
    span = purse.inference.span
    if purse.is_strict and purse.refuses(request):
        trace.add((reason, span, (appraisal.fault,) if is_malformed else ()))
        return _reject(candidate, reason, ())
    trace.add((Reason.UNCOUNTED, span, (appraisal.fault or "no dialect that is known here",)))
    return None


def _refused(
    candidate: Candidate, outcome: int, asked: tuple[Allowance, Window], account: tuple[int, int], amount: int,
    trace: Trace,
) -> Reject:
    (one, window), (used, whole) = asked, account
    if outcome == FULL:
        trace.add((Reason.BUDGETS_FULL, one.span, (one.name,)))
        return _reject(candidate, Reason.BUDGETS_FULL, (("retry-after", "1"),))
    trace.add((Reason.BUDGET_EXHAUSTED, one.span, (one.name, one.told(used), one.told(whole), one.told(amount))))
    told = ("retry-after", str(window.left_s)), NO_RETRY, *fields_of([(one, used, whole, window)])
    return _reject(candidate, Reason.BUDGET_EXHAUSTED, told)


def _reject(candidate: Candidate, reason: Reason, fields: tuple[Field, ...]) -> Reject:
    return Reject(reason.status, reason, candidate.route, fields)
