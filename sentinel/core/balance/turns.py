"""Choose an endpoint: the arithmetic, without the state and without the dice.

Intuition for smooth weighted round-robin: every endpoint earns its weight at each
turn, the richest is chosen and pays the sum of all weights. One of weight 5
beside two of weight 1 is chosen `a a b a c a a`, not `a a a a a b c`: turns are
spread as evenly as the weights allow, and after a full round all are square.

The purse (one integer an endpoint) and the random number belong to the caller: live
traffic keeps them in the worker, a dry run starts from nothing, a replay has
recorded what was chosen. Endpoints that may not be tried now are left out by the
caller, and neither earn nor pay.
"""

from __future__ import annotations

from collections.abc import Sequence


def smooth_round_robin(purse: list[int], weights: Sequence[int], allowed: Sequence[int]) -> int:
    """Return the index of the endpoint whose turn it is, and settle the purse; -1 when none is allowed.

    `purse` and `weights` have one entry an endpoint, `allowed` holds the indices that may be tried.
    """
    richest, total = -1, 0
    for index in allowed:
        weight = weights[index]
        total += weight
        purse[index] += weight
        if richest < 0 or purse[index] > purse[richest]:
            richest = index
    if richest >= 0:
        purse[richest] -= total
    return richest


def weighted_choice(number: int, weights: Sequence[int], allowed: Sequence[int]) -> int:
    """Return the index that a random number falls on, in proportion to weight; -1 when none is allowed.

    `number` is uniform and much larger than the weights (32 bits or more), so that the
    remainder favours nobody noticeably.
    """
    total = sum(weights[index] for index in allowed)
    if total <= 0:
        return -1
    left = number % total
    for index in allowed:
        left -= weights[index]
        if left < 0:
            return index
    return -1
