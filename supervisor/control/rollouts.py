"""What the supervisor has told us about rollouts, and waiting for one to end.

The supervisor drives a rollout; control only watches. Every event is remembered
by generation, so that it does not matter whether the event or the answer to our
question comes first, and a waiter is woken by every change.

    starting --> canary --promote--> starting --> probation --> current
        |           |                    |            |
        +--> refused +--> rolled-back     +--> refused +--> rolled-back

A reload is over for the operator when the generation serves: the states
`probation` and `current` are equally good, since what fails within the
probation time is undone without anybody waiting for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

REMEMBERED_MAX = 64
"""Generations remembered; more than the supervisor's own history, fewer than would matter."""

SERVING: Final = frozenset({"probation", "current"})
FAILED: Final = frozenset({"refused", "rolled-back"})
OVER: Final = SERVING | FAILED
"""States that end the waiting of an ordinary reload."""

OVER_CANARY: Final = OVER | {"canary"}


@dataclass(frozen=True, slots=True)
class Rollout:
    """The last word about one generation."""

    generation: int
    state: str
    why: str = ""

    @classmethod
    def of(cls, message: dict[str, Any]) -> Rollout | None:
        """Read an event or the `rollout` part of a status; None when it is neither."""
        generation, state = message.get("generation"), message.get("state")
        if not isinstance(generation, int) or not isinstance(state, str):
            return None
        return cls(generation, state, str(message.get("why") or ""))


class Rollouts:
    """The memory of rollouts. One per control process, used inside its loop."""

    def __init__(self) -> None:
        self._known: dict[int, Rollout] = {}
        self._changed = asyncio.Event()

    def get(self, generation: int) -> Rollout | None:
        return self._known.get(generation)

    def record(self, rollout: Rollout) -> None:
        self._known.pop(rollout.generation, None)
        self._known[rollout.generation] = rollout
        while len(self._known) > REMEMBERED_MAX:
            del self._known[next(iter(self._known))]
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, generation: int, states: frozenset[str], timeout_s: float) -> Rollout | None:
        """Wait until `generation` is in one of `states`; None when that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while (rollout := self._in(generation, states)) is None:
                    await self._changed.wait()
                return rollout
        except TimeoutError:
            return None

    def _in(self, generation: int, states: frozenset[str]) -> Rollout | None:
        rollout = self._known.get(generation)
        return rollout if rollout is not None and rollout.state in states else None
