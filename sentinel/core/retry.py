"""Whether a request is tried again: the rules, without time and chance.

Intuition: a messenger who comes back without an answer. Whether he may be sent again depends on
what went wrong (`on`), on whether the errand may be done twice (its method), on whether he can
still carry the whole message (the body), and on how many others are on their way again (the budget,
which belongs to the fleet and is the world's).

Rules:
1. Nothing is tried again once an octet of an answer has gone to the client.
2. A method that is not idempotent (RFC 9110 section 9.2.2) is tried again only if nothing was sent, or if the
   operator says that it may be done twice.
3. Waiting is drawn evenly from zero to a bound that doubles ("full jitter"): tries of many clients
   do not come back in step.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.plan import Retry
from sentinel.core.reasons import Reason

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
CONDITIONS: Final[dict[Reason, str]] = {
    Reason.CONNECT_FAILED: "connect-failure", Reason.CONNECT_TIMEOUT: "connect-failure",
    Reason.NAME_UNRESOLVED: "connect-failure", Reason.UPSTREAM_CLOSED: "reset",
    Reason.TLS_UNTRUSTED: "connect-failure", Reason.TLS_WRONG_NAME: "connect-failure",
    Reason.TLS_EXPIRED: "connect-failure", Reason.TLS_WRONG_PIN: "connect-failure",
    Reason.TLS_NOT_SPOKEN: "connect-failure", Reason.TLS_REFUSED: "connect-failure",
    Reason.TLS_TIMEOUT: "connect-failure",
    Reason.FIRST_BYTE_TIMEOUT: "timeout", Reason.TRY_TIMEOUT: "timeout", Reason.UPSTREAM_MALFORMED: "malformed",
}  # fmt: skip
GATEWAY_ERRORS: Final = frozenset({502, 503, 504})


def is_failed_try(retry: Retry, reason: Reason) -> bool:
    """Is a try that ended so, without an answer, one that is tried again?"""
    return CONDITIONS.get(reason) in retry.on


def is_failed_answer(retry: Retry, status: int) -> bool:
    """Is an answer with this status one that is tried again?"""
    return (
        str(status) in retry.on
        or (status >= 500 and "5xx" in retry.on)
        or (status in GATEWAY_ERRORS and "gateway-error" in retry.on)
    )


def may_be_sent_again(retry: Retry, method: str, was_sent: bool) -> bool:
    """Do the method and the operator allow it?"""
    return not was_sent or method in IDEMPOTENT or retry.is_unsafe_too


def backoff_ns(retry: Retry, tries: int, chance: int) -> int:
    """How long to wait after so many tries; `chance`: 32 bits."""
    bound_ns = min(retry.backoff_ns << min(tries - 1, 20), retry.backoff_max_ns)
    return bound_ns * (chance & 0xFFFFFFFF) >> 32
