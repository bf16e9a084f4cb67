"""The course of one generation, from staged to current or refused, as a table.

             PREPARED            TAKES_OVER            SETTLED              PROVEN
   STAGED -----------> STARTING ------------> HANDOVER --------> PROBATION --------> CURRENT
      |                   |                    |    |                |                  |
      | FAILED            | FAILED             |    | LENT           | FAILED           | REPLACED
      v                   v                    |    v                v                  v
   REFUSED <--------------+                    |  CANARY --FAILED--> FAILING          RETIRED
                                               |    | PROMOTED       ^  |  |
                                               |    v         FAILED |  |  +--KEPT---> CURRENT
                                   FAILED      |  PROMOTING ---------+  |
                                               |    | TAKES_OVER        +--REPLACED--> ROLLED_BACK
                                               |    +----> HANDOVER     ^
                                               +------------------------+ (to FAILING)

Intuition: a new cook. He is let into the kitchen (STARTING) while the old one
still cooks; when he has his knives out he takes the stove (HANDOVER); for a
while somebody tastes every plate (PROBATION). A canary is a cook who gets one of
the stoves only. If the plates come back, the former recipe is cooked again, by
whoever is hired next: numbers never go back, contents may.

Rule 1: every change is a row of TRANSITIONS, an ignored event too. No clock and
    no counts here: the supervisor's policy turns them into events.
Rule 2: before TAKES_OVER nothing that serves was touched, so a failure is a
    refusal. After it, clients have met the generation, so a failure is undone.
Rule 3: FAILING is a state, not a moment: the generation serves on until what
    replaces it does serve. If that cannot be had, it is KEPT: bad is more than
    nothing.
Rule 4: REFUSED, ROLLED_BACK and RETIRED are final.

Rejected: publishing the former generation again under its old number. Workers,
logs and metrics would then mean two things by one number.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class RolloutState(IntEnum):
    """Where a generation is on its course."""

    (
        STAGED, STARTING, HANDOVER, CANARY, PROMOTING, PROBATION, CURRENT, FAILING, REFUSED, ROLLED_BACK, RETIRED,
    ) = range(11)  # fmt: skip


@unique
class RolloutEvent(IntEnum):
    """What happens to a generation.

    PREPARED    there is room for its workers, and its addresses are bound
    TAKES_OVER  all its workers are ready: they are told to serve
    SETTLED     they all serve, and nobody else accepts any more
    LENT        the same on the lanes of a canary
    PROMOTED    the operator wants the canary on all lanes
    PROVEN      its probation is over
    FAILED      it did not start, crashed, failed too many requests, or the operator wants it back
    KEPT        what should replace the failing one could not be started
    REPLACED    another one serves in its place
    """

    PREPARED, TAKES_OVER, SETTLED, LENT, PROMOTED, PROVEN, FAILED, KEPT, REPLACED = range(9)


(
    STAGED, STARTING, HANDOVER, CANARY, PROMOTING, PROBATION, CURRENT, FAILING, REFUSED, ROLLED_BACK, RETIRED,
) = RolloutState  # fmt: skip
S = RolloutState
Row = tuple[S, S, S, S, S, S, S, S, S]

# Short names keep the table a table: one look tells what is a loop.
SGD, SRT, HND, CAN, PMT, PRB, CUR, FLG, REF, RBK, RET = RolloutState
TRANSITIONS: Final[dict[RolloutState, Row]] = {
    #             PREPARED TAKES_OVER SETTLED LENT PROMOTED PROVEN FAILED KEPT REPLACED
    STAGED:      (SRT,     SGD,       SGD,    SGD, SGD,     SGD,   REF,   SGD, REF),
    STARTING:    (SRT,     HND,       SRT,    SRT, SRT,     SRT,   REF,   SRT, REF),
    HANDOVER:    (HND,     HND,       PRB,    CAN, HND,     HND,   FLG,   HND, RBK),
    CANARY:      (CAN,     CAN,       CAN,    CAN, PMT,     CAN,   FLG,   CAN, RBK),  # without end, until told
    PROMOTING:   (PMT,     HND,       PMT,    PMT, PMT,     PMT,   FLG,   PMT, RBK),
    PROBATION:   (PRB,     PRB,       PRB,    PRB, PRB,     CUR,   FLG,   PRB, RET),
    CURRENT:     (CUR,     CUR,       CUR,    CUR, CUR,     CUR,   FLG,   CUR, RET),  # FAILED: by the operator
    FAILING:     (FLG,     FLG,       FLG,    FLG, FLG,     FLG,   FLG,   CUR, RBK),
    REFUSED:     (REF,     REF,       REF,    REF, REF,     REF,   REF,   REF, REF),
    ROLLED_BACK: (RBK,     RBK,       RBK,    RBK, RBK,     RBK,   RBK,   RBK, RBK),
    RETIRED:     (RET,     RET,       RET,    RET, RET,     RET,   RET,   RET, RET),
}  # fmt: skip

FINAL: Final = frozenset({REFUSED, ROLLED_BACK, RETIRED})
"""Nothing leads out of these."""
UNDER_WAY: Final = frozenset({STAGED, STARTING, HANDOVER, CANARY, PROMOTING, FAILING})
"""Another rollout has to wait: one at a time. PROBATION is not among them, it only watches."""

WORDS: Final[dict[RolloutState, str]] = {
    STAGED: "starting", STARTING: "starting", HANDOVER: "starting", CANARY: "canary", PROMOTING: "starting",
    PROBATION: "probation", CURRENT: "current", FAILING: "failing", REFUSED: "refused", ROLLED_BACK: "rolled-back",
    RETIRED: "retired",
}  # fmt: skip
"""What operators are told; the steps of a start are one word to them."""


def step(state: RolloutState, event: RolloutEvent) -> RolloutState:
    return TRANSITIONS[state][event]
