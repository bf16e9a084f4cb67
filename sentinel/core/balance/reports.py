"""By what endpoints report of themselves: how many requests wait there, and how full the cache is.

Intuition: the board at the foot of the ski lifts. It says how long the queue was a second ago; who has seen a coach
set out for one of them since then adds its guests in his mind.

    load = 1000 x waiting + cache in thousandths + 100 x (in flight now - in flight when that was read), never below 0

Rules:
1. One that waits outweighs any cache: an engine lets nobody wait while it has room. Among those where nobody waits the
   emptier cache is chosen, and each request that we have sent since the reading counts as a tenth of a cache. So a
   whole fleet does not run to the one endpoint that looked best a second ago.
2. An endpoint without a fresh reading is taken for what the others report on average, besides what is in flight
   there: it is neither shunned nor flooded. Where nobody reports, it is all by requests in flight.
3. The least load for the weight is chosen, the request itself counted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

PER_WAITING: Final = 1000
PER_FLIGHT: Final = 100


class Report(NamedTuple):
    """What an endpoint said, and what was in flight there when it was read."""

    waiting: int
    cache: int
    flights: int


def loads_of(reports: Sequence[Report | None], flights: Sequence[int]) -> list[int]:
    """The load of each endpoint."""
    bases = [
        None if one is None else PER_WAITING * one.waiting + one.cache - PER_FLIGHT * one.flights for one in reports
    ]
    known = [one for one in bases if one is not None]
    mean = sum(known) // len(known) if known else 0
    return [
        max(0, (mean if base is None else base) + PER_FLIGHT * count)
        for base, count in zip(bases, flights, strict=True)
    ]  # fmt: skip


def least_load(loads: Sequence[int], weights: Sequence[int], allowed: Sequence[int], start: int) -> int:
    """Return the index with the least (load + one request) / weight, ties from `start` on; -1 when none is allowed."""
    best = -1
    for step in range(len(allowed)):
        index = allowed[(start + step) % len(allowed)]
        if best < 0 or (loads[index] + PER_FLIGHT) * weights[best] < (loads[best] + PER_FLIGHT) * weights[index]:
            best = index
    return best


def told(load: int, report: Report | None) -> str:
    """A load for the trace: `1450:1:450` where 1 waits and 450 thousandths are in use, `300:-` without a reading."""
    return f"{load}:-" if report is None else f"{load}:{report.waiting}:{report.cache}"


def said(text: str) -> str:
    """The same for people."""
    load, _, rest = text.partition(":")
    waiting, _, cache = rest.partition(":")
    if not load.isdecimal() or not waiting.isdecimal() or not cache.isdecimal():
        return f"{load} (no fresh reading)"
    return f"{load} ({waiting} waiting, cache {int(cache) / 10:g}%)"
