"""By load: what is in flight at each endpoint in the whole fleet, and how long it takes there.

Intuition: the shortest queue at the tills, by how fast the cashier is (weight). To look at
all queues is best and costs a look at each; to look at two and take the shorter is nearly
as good (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), and
does not send everybody to the same till at the same moment.

Peak EWMA looks at time besides: a queue of two at a slow till is longer than one of five
at a fast one. The latency rises at once with a slow answer, and is forgotten slowly.

For language models requests are a poor measure: one asks for ten tokens and the next for ten thousand. There the
queue is counted in tokens, those of the request that comes with it.

An endpoint that was never measured has no latency, and is compared by its queue alone:
a guess would either shun it or flood it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

TOKENS_MAX: Final = (1 << 31) - 1
"""Tokens under way at one endpoint, as they are compared; more is this much (shm.layout.BURDEN_MAX)."""


def least_request(flights: Sequence[int], weights: Sequence[int], allowed: Sequence[int], start: int) -> int:
    """Return the index with the least (in flight + 1) / weight, ties from `start` on; -1 when none is allowed."""
    best = -1
    for step in range(len(allowed)):
        index = allowed[(start + step) % len(allowed)]
        if best < 0 or (flights[index] + 1) * weights[best] < (flights[best] + 1) * weights[index]:
            best = index
    return best


def lightest(
    burdens: Sequence[int], weights: Sequence[int], allowed: Sequence[int], start: int, tokens: int
) -> int:
    """Return the index with the least (tokens under way + tokens) / weight, ties from `start` on; -1 for none."""
    best = -1
    loads = [min(burden + tokens, TOKENS_MAX) for burden in burdens]
    for step in range(len(allowed)):
        index = allowed[(start + step) % len(allowed)]
        if best < 0 or loads[index] * weights[best] < loads[best] * weights[index]:
            best = index
    return best


def two_of(chance: int, weights: Sequence[int], allowed: Sequence[int]) -> tuple[int, int]:
    """Draw two different indices by weight, from 64 bits of chance; the same twice when only one is allowed."""
    total = sum(weights[index] for index in allowed)
    first = _drawn((chance & 0xFFFFFFFF) % total, weights, allowed)
    if len(allowed) < 2:
        return first, first
    others = [index for index in allowed if index != first]
    return first, _drawn((chance >> 32) % (total - weights[first]), weights, others)


def lighter(one: int, other: int, flights: Sequence[int], weights: Sequence[int]) -> int:
    """The one of two with the shorter queue for its weight."""
    return other if (flights[other] + 1) * weights[one] < (flights[one] + 1) * weights[other] else one


def quicker(one: int, other: int, flights: Sequence[int], latencies: Sequence[int], weights: Sequence[int]) -> int:
    """The one of two where a request would be done sooner: latency times queue, by weight."""
    if not latencies[one] or not latencies[other]:
        return lighter(one, other, flights, weights)
    cost = latencies[one] * (flights[one] + 1) * weights[other]
    return other if latencies[other] * (flights[other] + 1) * weights[one] < cost else one


def _drawn(left: int, weights: Sequence[int], allowed: Sequence[int]) -> int:
    for index in allowed:
        left -= weights[index]
        if left < 0:
            return index
    return allowed[-1]
