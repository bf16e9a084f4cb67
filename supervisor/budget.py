"""How often something may die before it is not tried again at once: pure arithmetic over deaths.

Intuition: a child that falls is set on its feet at once. One that falls again and
again is held by the hand for longer and longer, and after so many falls within
a window somebody asks whether walking was a good idea (a rollback, if there is
something to go back to).

The first death costs nothing, since a process may be killed for reasons of its
surroundings, and its lane's queue waits. From the second within the window on
the pause doubles. It is never unbounded: a service that crashes with every
hundredth request still answers the other ninety-nine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from supervisor.fleet import Death, Generation

MS: Final = 1_000_000
PAUSE_FIRST_NS: Final = 100 * MS
PAUSE_MAX_NS: Final = 5_000 * MS


def pause_ns(deaths_count: int) -> int:
    """How long to wait after that many deaths within the window."""
    if deaths_count < 2:
        return 0
    return min(PAUSE_FIRST_NS << min(deaths_count - 2, 16), PAUSE_MAX_NS)


def recent(deaths: Iterable[Death], generation: Generation, lane: int, now_ns: int) -> list[Death]:
    """The deaths that count against a lane of a generation."""
    since_ns = now_ns - generation.terms.restarts_window_ns
    return [
        one for one in deaths
        if one.generation == generation.number and one.lane == lane and one.at_ns > since_ns
    ]  # fmt: skip


def not_before_ns(deaths: Iterable[Death], generation: Generation, lane: int, now_ns: int) -> int:
    """When the next worker of a lane may be forked."""
    counted = recent(deaths, generation, lane, now_ns)
    return counted[-1].at_ns + pause_ns(len(counted)) if counted else 0


def crash_loop(deaths: Iterable[Death], generation: Generation, now_ns: int) -> str:
    """Why the generation's workers crash too often; empty while they do not."""
    deaths = tuple(deaths)
    for lane in generation.lanes:
        counted = recent(deaths, generation, lane, now_ns)
        if len(counted) > generation.terms.restarts_max:
            window_s = generation.terms.restarts_window_ns / 1e9
            return f"lane {lane} crashed {len(counted)} times within {window_s:g} s, at last: {counted[-1].cause}"
    return ""
