"""What checks say of an endpoint, as a table.

                 good                 good, healthy-after in a row
    UNKNOWN ------------> HEALTHY <------------------------------- UNHEALTHY
       |                     |                                        ^
       |   bad               |      bad, unhealthy-after in a row     |
       +---------------------+----------------------------------------+

Intuition: a sick note. One bad morning makes nobody ill and one good one nobody
well: it takes some in a row. Only of somebody who is new the first look decides,
since there is nothing to weigh it against.

Rule 1: the numbers are the encoding in shared memory (shm.layout).
Rule 2: what speaks for the present state ends the streak; a streak never outlives a change.
Rule 3: UNKNOWN is usable: an endpoint that nobody has asked yet is not at fault.
Rule 4: who has to warm up is not: from UNKNOWN and from UNHEALTHY alike, so many good findings in a row make it
    HEALTHY, and until then nobody goes there (shm.board.Board.cold).
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class Health(IntEnum):
    """What is known of an endpoint from checks."""

    UNKNOWN, HEALTHY, UNHEALTHY = range(3)


@unique
class Finding(IntEnum):
    """What one check found; the numbers are kept in shared memory and shown to operators."""

    NONE, GOOD, REFUSED, TIMED_OUT, BAD_STATUS, MALFORMED, UNRESOLVED, SLOW, NO_MODEL, NO_METRIC = range(10)
    # What a TLS handshake came to, called as the reason of a request that meets it (core.reasons).
    TLS_UNTRUSTED, TLS_WRONG_NAME, TLS_EXPIRED, TLS_WRONG_PIN, TLS_NOT_SPOKEN, TLS_REFUSED, TLS_TIMEOUT = range(10, 17)


@unique
class Admin(IntEnum):
    """What an operator wants of an endpoint: use it, give it no new requests, or have nothing to do with it.

    DRAIN     new requests go elsewhere; those of sticky clients still come, until their cookie ends
    MAINTENANCE  nobody goes there, and checks do not ask
    """

    READY, DRAIN, MAINTENANCE = range(3)


UNKNOWN, HEALTHY, UNHEALTHY = Health
AGAINST: Final[dict[Health, tuple[Health, Health]]] = {
    # after enough   bad        good      findings in a row
    UNKNOWN:         (UNHEALTHY, HEALTHY),
    HEALTHY:         (UNHEALTHY, HEALTHY),
    UNHEALTHY:       (UNHEALTHY, HEALTHY),
}  # fmt: skip


def judge(
    state: Health, streak: int, is_good: bool, *, healthy_after: int, unhealthy_after: int, warm_up: int = 0
) -> tuple[Health, int]:
    """Return the state after one more finding, and how many in a row now speak against it."""
    becomes = AGAINST[state][is_good]
    if becomes is state:
        return state, 0
    if is_good and warm_up:
        needed = warm_up
    else:
        needed = 1 if state is UNKNOWN else healthy_after if is_good else unhealthy_after
    return (becomes, 0) if streak + 1 >= needed else (state, streak + 1)
