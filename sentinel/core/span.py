"""Where in the operator's text something was said: file, line and column.

Every node of the configuration carries a span, the plan keeps them, and each
step of a trace points to one. So "why did this happen?" always ends at a place
that the operator can open in an editor.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a source file; `line` and `column` count from 1, in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Span("", 0, 0)
"""The span of what no operator wrote: defaults, and faults of a peer."""


def first_known(*spans: Span) -> Span:
    """Return the most precise place that is known; they are given in that order."""
    return next((span for span in spans if span.line), NOWHERE)
