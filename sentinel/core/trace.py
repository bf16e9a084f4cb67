"""What the core concluded, step by step, and why.

Recording is one append of a small tuple; turning steps into words happens
elsewhere, later, and only when somebody asks (sentinel.explain).
"""

from __future__ import annotations

from typing import Any

from sentinel.core.compiled import COMPILED
from sentinel.core.reasons import Reason
from sentinel.core.span import Span

if COMPILED:  # noqa: SIM108 - mypyc chooses between branches, not within an expression
    Step = tuple[Any, ...]  # an object: of three values in a row it would make another one wherever one is needed
else:
    Step = tuple[Reason, Span, tuple[Any, ...]]
TRACE_STEPS_MAX = 64
"""A trace is bounded: what comes later is counted in `dropped`, not kept."""


class Trace:
    """The steps of one decision, in order. Details are strings and integers only."""

    __slots__ = ("dropped", "steps")

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.dropped = 0

    def add(self, step: Step) -> None:
        """Record a step that is already made: most are made with the table, once."""
        if len(self.steps) < TRACE_STEPS_MAX:
            self.steps.append(step)
        else:
            self.dropped += 1

    def extend(self, steps: list[Step]) -> None:
        """Record several."""
        if len(self.steps) + len(steps) <= TRACE_STEPS_MAX:
            self.steps += steps
        else:
            for step in steps:
                self.add(step)

    def step(self, reason: Reason, span: Span, *detail: Any) -> None:
        self.add((reason, span, detail))
