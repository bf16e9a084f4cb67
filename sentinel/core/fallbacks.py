"""When a request is sent to another model: the rules, without time and chance.

Intuition: a list of substitutes beside the telephone. Who is on it, and for what they are called, was written down in
calm times; whoever is at the telephone only goes down the list, and stops when somebody has begun to speak.

Rules:
1. The list is that of the line which took the model that the client named. A substitute is named as a client would name
   it, and the first line that takes its name says where it is; what that line itself falls back on is nobody's affair.
2. Nothing falls back once an octet of an answer has gone to the client.
3. What falls back: a refusal of the decision (a budget, no endpoint, an open breaker), a try that failed, after the
   route's own `retry` has done what it may, or an answer whose status the list names. A stream that begins with an
   error is an answer with the status that this error has elsewhere (`status_of`), whatever its head said.
4. Each substitute is decided like the first one: its own budgets, price, provider and endpoint. What was put aside for
   the one before comes back first.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.plan import Fallback
from sentinel.core.reasons import Reason
from sentinel.core.retry import CONDITIONS, GATEWAY_ERRORS

WORDS: Final[dict[Reason, str]] = CONDITIONS | {
    Reason.FIRST_TOKEN_TIMEOUT: "timeout", Reason.UPSTREAM_IDLE_TIMEOUT: "timeout", Reason.UPSTREAM_ABORTED: "reset",
    Reason.BREAKER_OPEN: "breaker-open", Reason.NONE_USABLE: "no-endpoint", Reason.NO_ENDPOINT: "no-endpoint",
    Reason.NAME_UNRESOLVED: "no-endpoint", Reason.MODEL_MISSING: "no-endpoint", Reason.UPSTREAM_FULL: "full",
    Reason.BUDGET_EXHAUSTED: "budget", Reason.LARGER_THAN_BUDGET: "budget", Reason.NO_PRICE: "budget",
    Reason.BUDGETS_FULL: "budget",
    Reason.TOKEN_LIMITED: "budget", Reason.LARGER_THAN_TOKEN_LIMIT: "budget",
}  # fmt: skip
"""By which word of `on` an end without an answer falls back."""


FAILURES: Final[dict[str, int]] = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "rate_limit_exceeded": 429,
    "insufficient_quota": 429, "requests": 429, "tokens": 429, "timeout_error": 504, "overloaded_error": 529,
    "INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
"""What providers call their errors, and with which status they come where they come in time."""


def status_of(failure: str) -> int:
    """The status of an error within a stream, by its kind; of one that nobody knows, that of a server's."""
    return FAILURES.get(failure, 500)


def falls_on(fallback: Fallback, reason: Reason) -> bool:
    """Does a refusal, or a try that ended so without an answer, fall back?"""
    return WORDS.get(reason) in fallback.on


def falls_on_answer(fallback: Fallback, status: int) -> bool:
    """Does an answer with this status?"""
    return (
        str(status) in fallback.on
        or (status >= 500 and "5xx" in fallback.on)
        or (status in GATEWAY_ERRORS and "gateway-error" in fallback.on)
    )


def ends_in(fallback: Fallback, how: str) -> bool:
    """The same of what a description says of an upstream: a status, or a word of `on`."""
    return falls_on_answer(fallback, int(how)) if how.isdecimal() else how in fallback.on
