"""Slow start: an endpoint that was away gets its share back bit by bit.

Intuition: a runner after an injury. Caches are cold and pools are empty; with all its share
at once it would be slow, look ill, and be left out again.
"""

from __future__ import annotations

from typing import Final

SCALE: Final = 100
"""Weights are multiplied by this, so that a part of a weight of 1 is a whole number."""
LEAST: Final = 10


def warmed(weight: int, since_ms: int, slow_start_ms: int) -> int:
    """The weight, scaled, so long after an endpoint became usable; it grows evenly from a tenth to all of it."""
    if slow_start_ms <= 0 or since_ms >= slow_start_ms:
        return weight * SCALE
    return weight * max(LEAST, SCALE * max(since_ms, 0) // slow_start_ms)
