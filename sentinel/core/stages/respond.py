"""Respond stage: a route that answers by itself ends the decision.

The verdict and the step are the same for every request of a route, so both
were made with the table.
"""

from __future__ import annotations

from sentinel.core.candidates import Candidate
from sentinel.core.trace import Trace
from sentinel.core.verdict import Respond


def respond(candidate: Candidate, trace: Trace) -> Respond | None:
    """Return the route's own answer, or None when it has an upstream."""
    if candidate.answer_step is not None:
        trace.add(candidate.answer_step)
    return candidate.answer
