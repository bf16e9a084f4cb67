"""The life of a worker and the orders it obeys: the encoding that shared memory keeps.

  FREE --> BOOTING --> READY --> SERVING --> DRAINING --> GONE

Rule 1: the numbers are the encoding (shm.layout): they are not changed, and a
    change of their meaning bumps shm.layout.VERSION.
Rule 2: the supervisor orders, the worker tells its state. Neither writes the
    other's word while both live.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class WorkerState(IntEnum):
    """Where a worker is in its life."""

    FREE, BOOTING, READY, SERVING, DRAINING, GONE = range(6)


@unique
class Order(IntEnum):
    """What the supervisor wants of a worker."""

    HOLD, SERVE, DRAIN, QUIT = range(4)
