"""Respond stage: a route that answers by itself ends the decision.

The verdict and the step are the same for every request of a route, so both
were made with the table. But for one: who is sent to HTTPS is sent to the very place that he asked for.
"""

from __future__ import annotations

from sentinel.core.candidates import Candidate
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject, Respond

HTTPS = 443


def respond(candidate: Candidate, request: Request, trace: Trace) -> Respond | Reject | None:
    """Return the route's own answer, or None when it has an upstream."""
    if candidate.answer_step is not None:
        if candidate.https_port and not request.host:  # HTTP/1.0 may name no host, and then there is nowhere to send it
            return Reject(Reason.BAD_HOST.status, Reason.BAD_HOST, candidate.route)
        trace.add(candidate.answer_step)
        if candidate.https_port:
            return Respond(candidate.route, (("location", _secured(request, candidate.https_port)),))
    return candidate.answer


def _secured(request: Request, port: int) -> str:
    """The same place over HTTPS. Host and target are canonical: nothing in them ends a line or names another host."""
    target = request.target if request.target.startswith("/") else "/"
    return f"https://{request.host}{'' if port == HTTPS else f':{port}'}{target}"
