"""The life of a worker and the orders it obeys, as a table; the encoding that shared memory keeps.

         CLAIMED         WARMED       SERVE, SWEEP      DRAIN           FINISHED
   FREE ---------> BOOTING ----> READY -----> SERVING -------> DRAINING ---------> GONE
    ^                 |            | QUIT        | QUIT            | QUIT           |
    |                 |            +------------>+---------------->+--------------->|
    |                 |  DIED, from wherever it lived                               |
    |                 +------------------------------------------------------------>|
    +-------------------------------------------------------------------------------+
                                           REAPED

Intuition: an actor and the stage manager. The manager gives cues (orders), the
actor tells where he is (states). He only ever goes forward: who has begun to
leave the stage does not come back, a successor does.

Rule 1: the numbers are the encoding (shm.layout): they are not changed, and a
    change of their meaning bumps shm.layout.VERSION.
Rule 2: the supervisor orders, the worker tells its state. Neither writes the
    other's word while both live.
Rule 3: every change of state is a row of TRANSITIONS. An event that a state
    ignores is a row too (a loop); a missing row is a bug, not a shrug.
Rule 4: an order is a standing one: it stays in the slot until another replaces
    it. So a worker that is still booting ignores an order only for now: it
    looks again when it is ready, and that look is the event.
Rule 5: to sweep is to serve, with the end in sight: whoever sweeps accepts, so it
    is SERVING, and an empty queue means to it what DRAIN means.

Rejected: a way back from DRAINING to SERVING for `resume`. Answers have been told
`Connection: close` by then, and a fork costs some milliseconds.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class WorkerState(IntEnum):
    """Where a worker is in its life."""

    FREE, BOOTING, READY, SERVING, DRAINING, GONE = range(6)


@unique
class Order(IntEnum):
    """What the supervisor wants of a worker.

    HOLD   be ready, and wait
    SERVE  accept connections
    DRAIN  accept no more, finish what runs, leave before the deadline
    QUIT   leave at once
    SWEEP  accept what already waits in the queues, until they are empty, then drain: for a listener that
           is about to be closed, so that nobody who was let into its queue is reset
    """

    HOLD, SERVE, DRAIN, QUIT, SWEEP = range(5)


@unique
class WorkerEvent(IntEnum):
    """What happens to a worker: its own steps, the orders it meets, and its end."""

    CLAIMED, WARMED, SERVE, DRAIN, QUIT, FINISHED, DIED, REAPED, SWEEP = range(9)


FREE, BOOTING, READY, SERVING, DRAINING, GONE = WorkerState
Row = tuple[
    WorkerState, WorkerState, WorkerState, WorkerState, WorkerState, WorkerState, WorkerState, WorkerState, WorkerState
]  # fmt: skip
TRANSITIONS: Final[dict[WorkerState, Row]] = {
    #          CLAIMED   WARMED    SERVE     DRAIN     QUIT      FINISHED  DIED  REAPED  SWEEP
    FREE:     (BOOTING,  FREE,     FREE,     FREE,     FREE,     FREE,     FREE, FREE,   FREE),  # nobody lives here
    BOOTING:  (BOOTING,  READY,    BOOTING,  BOOTING,  BOOTING,  BOOTING,  GONE, FREE,   BOOTING),  # obeys nothing yet
    READY:    (READY,    READY,    SERVING,  DRAINING, GONE,     READY,    GONE, FREE,   SERVING),
    SERVING:  (SERVING,  SERVING,  SERVING,  DRAINING, GONE,     SERVING,  GONE, FREE,   SERVING),
    DRAINING: (DRAINING, DRAINING, DRAINING, DRAINING, GONE,     GONE,     GONE, FREE,   DRAINING),  # only forward
    GONE:     (GONE,     GONE,     GONE,     GONE,     GONE,     GONE,     GONE, FREE,   GONE),  # waits to be reaped
}  # fmt: skip

FRESH: Final = frozenset({BOOTING, READY})
"""States in which nothing was accepted yet: whoever dies here takes nothing with it."""


def step(state: WorkerState, event: WorkerEvent) -> WorkerState:
    return TRANSITIONS[state][event]
