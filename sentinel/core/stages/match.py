"""Match stage: find the route, and say which line of the configuration it is, and why better ones are not.

Intuition: the doorman looks at the invitation and names the table. The whole
search is the route table's (core.routes); here its result becomes a step. Guests whom he
turned away from a better table at the last look, for a condition that does not hold, are
told one by one; those for whom it was the wrong house are not, for that can be seen later from the
address on the invitation.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.candidates import Candidate, Lost
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.span import NOWHERE
from sentinel.core.trace import Trace

LOST_MAX: Final = 8
"""So many better ones are told, the best first, and of the others how many there are: a record has room for more than
them, but not for a hundred."""


def match(table: RouteTable, request: Request, trace: Trace) -> Candidate | None:
    """Return the best candidate, or None when no route matches."""
    lost: list[Lost] = []
    found = table.find(request, lost)
    if lost:
        _tell(lost, found, trace)
    trace.add(table.no_route_step if found is None else found.step)
    return found


def _tell(lost: list[Lost], found: Candidate | None, trace: Trace) -> None:
    better = sorted([one for one in lost if found is None or one[0] < found.rank], key=_rank)
    for _, step in better[:LOST_MAX]:
        trace.add(step)
    if len(better) > LOST_MAX:
        trace.add((Reason.CONDITION_FAILED, NOWHERE, (len(better) - LOST_MAX,)))


def _rank(one: Lost) -> int:
    return one[0]
