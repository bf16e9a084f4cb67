"""Who is asked at all: of the usable ones, those of the first priority, and near ones before far ones.

Intuition: the first team plays as long as enough of it is fit. With two injured of ten there
are still enough; with six, some of the second team play with them, as many as are missing.

Rules:
1. A priority takes all requests while its usable part, by weight, times OVERPROVISION covers them; what it
   does not cover goes to the next. Where all together do not cover, they share what there is.
2. Within a priority, endpoints of our own locality take their part in the same way, and the rest goes to all.
3. Panic: when fewer of all endpoints are usable than the threshold says, health says more about the
   checks than about the endpoints, and all that an operator has not taken out are used.
4. Where nothing is wrong nothing is computed: see Chooser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

OVERPROVISION: Final = 1400
"""Thousandths: five of seven suffice for all."""
USABLE, DRAIN, MAINTENANCE, UNHEALTHY, EJECTED, OPEN, UNRESOLVED, WARMING, NO_MODEL = range(9)
"""Standing of an endpoint, as shared memory tells it (shm.places); UNRESOLVED is the worker's own knowledge, and
NO_MODEL is for one request: the endpoint does not serve the model that is asked for."""
STANDING_WORDS: Final = (
    "usable", "draining", "in maintenance", "unhealthy", "ejected", "its circuit breaker is open", "not resolved",
    "warming up", "it does not serve the model",
)  # fmt: skip
TAKEN_OUT: Final = frozenset({DRAIN, MAINTENANCE, WARMING, NO_MODEL})
"""Those that even a panic leaves alone: an operator said so, or it is known that they cannot answer."""


class Allowed(NamedTuple):
    """The indices that may be tried, and how they were found."""

    indices: list[int]
    priority: int = 0
    is_panic: bool = False


def allowed(
    standing: Sequence[int], weights: Sequence[int], priorities: Sequence[int], localities: Sequence[str], *,
    here: str, panic_share: int, chance: int,
) -> Allowed:  # fmt: skip
    """Find who may be tried. `panic_share` in thousandths, `chance` uniform and at least 32 bits."""
    everybody = [index for index, code in enumerate(standing) if code not in TAKEN_OUT]
    usable = [index for index in everybody if standing[index] == USABLE]
    if len(usable) * 1000 < panic_share * len(everybody):
        return Allowed(everybody, is_panic=True)
    if not usable:
        return Allowed([])
    levels = sorted({priorities[index] for index in everybody})
    share = {level: _covered(level, everybody, usable, weights, priorities) for level in levels}
    left = chance % 1000 * sum(_taken(levels, share)) // 1000
    chosen = levels[-1]
    for level, part in zip(levels, _taken(levels, share), strict=True):
        left -= part
        if left < 0:
            chosen = level
            break
    fit = [index for index in usable if priorities[index] == chosen]
    if here:
        members = [index for index in everybody if priorities[index] == chosen and localities[index] == here]
        near = [index for index in fit if localities[index] == here]
        part = min(1000, OVERPROVISION * sum(weights[i] for i in near) // max(sum(weights[i] for i in members), 1))
        if near and chance // 1000 % 1000 < part:
            fit = near
    return Allowed(fit, chosen)


def _covered(
    level: int, everybody: Sequence[int], usable: Sequence[int], weights: Sequence[int], priorities: Sequence[int]
) -> int:
    """Thousandths of the requests that a priority can take."""
    members = sum(weights[index] for index in everybody if priorities[index] == level)
    fit = sum(weights[index] for index in usable if priorities[index] == level)
    return min(1000, OVERPROVISION * fit // members)


def _taken(levels: Sequence[int], share: dict[int, int]) -> list[int]:
    """What each priority takes: its share, as far as those before have left something."""
    left, taken = 1000, []
    for level in levels:
        part = min(left, share[level])
        taken.append(part)
        left -= part
    return taken
