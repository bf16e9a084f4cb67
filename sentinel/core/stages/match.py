"""Match stage: find the route, and say which line of the configuration it is.

Intuition: the doorman looks at the invitation and names the table. The whole
search is the route table's (core.routes); here its result becomes a step.
"""

from __future__ import annotations

from sentinel.core.candidates import Candidate
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.trace import Trace


def match(table: RouteTable, request: Request, trace: Trace) -> Candidate | None:
    """Return the best candidate, or None when no route matches."""
    found = table.find(request)
    trace.add(table.no_route_step if found is None else found.step)
    return found
