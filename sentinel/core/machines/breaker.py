"""The circuit breaker: a total table over one word, and the arithmetic of when.

                 too many failures                    open-for has passed, first asker
      CLOSED ----------------------> OPEN ----------------------------------------> HALF_OPEN
        ^                             ^    one probe failed (trips + 1)                |   |
        |                             +------------------------------------------------+   |
        |                                        all probes succeeded                      |
        +----------------------------------------------------------------------------------+
                                       HALF_OPEN -> HALF_OPEN: its time is over, first asker: a new round

Intuition: a door with a guard. While it is closed as a circuit is, everybody passes.
After too much trouble the guard lets nobody through for a while; then a few scouts,
and what they report decides. Scouts who never come back are not waited for: after a
time the next ones are sent, and what the lost ones say later counts nothing.

A word has everything, so that each change is one compare-and-swap, and no process that
dies can leave half of one:

    state 2 | trips 6 | given 8 | passed 8 | until_ms 40

Rule 1: `until_ms` names a round: a permit carries it, and a report is believed only if it
    still stands there. CLOSED keeps the time since when, so that a decision
    taken from older figures finds another word and comes to nothing.
Rule 2: a permit is a lease. It ends with its report, or with the round; nothing needs to be given
    back by whoever died.
Rule 3: the functions are total: any word, whatever it came from, has an answer and a successor.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final, NamedTuple


@unique
class BreakerState(IntEnum):
    """The numbers are the encoding in shared memory; 3 is read as CLOSED."""

    CLOSED, OPEN, HALF_OPEN = range(3)


CLOSED, OPEN, HALF_OPEN = BreakerState
UNTIL_BITS: Final = 40
UNTIL_MAX: Final = (1 << UNTIL_BITS) - 1
"""34 years after boot. An operator who opens a breaker by hand opens it until then."""
COUNT_MAX: Final = 255
TRIPS_MAX: Final = 63
SUBWINDOWS: Final = 10
REFUSED: Final = -1


class Terms(NamedTuple):
    """When a breaker trips. Shares in thousandths, times in ms; 0 of the first three: this is not looked at.

    Without any of the three there is no breaker, and its word is not looked at.
    """

    failures: int = 0
    error_share: int = 0
    slow_ms: int = 0
    slow_share: int = 0
    calls_min: int = 1
    window_ms: int = 10_000
    open_ms: int = 10_000
    open_max_ms: int = 10_000
    probes: int = 1
    probe_ms: int = 30_000

    @property
    def looks(self) -> bool:
        return bool(self.failures or self.error_share or self.slow_ms)


class Parts(NamedTuple):
    """What a word says."""

    state: BreakerState
    trips: int
    given: int
    passed: int
    until_ms: int


def split(word: int) -> Parts:
    state = word & 3
    return Parts(
        BreakerState(state) if state < 3 else CLOSED, word >> 2 & TRIPS_MAX, word >> 8 & COUNT_MAX,
        word >> 16 & COUNT_MAX, word >> 24 & UNTIL_MAX,
    )  # fmt: skip


def join(state: BreakerState, until_ms: int, trips: int = 0, given: int = 0, passed: int = 0) -> int:
    return min(until_ms, UNTIL_MAX) << 24 | passed << 16 | given << 8 | min(trips, TRIPS_MAX) << 2 | state


def ask(word: int, now_ms: int, terms: Terms) -> tuple[int, int]:
    """May a request pass? Returns (0 it may, REFUSED, or the round that it probes in; the word that follows)."""
    state, trips, given, _, until_ms = split(word)
    if state is CLOSED:
        return 0, word
    if now_ms >= until_ms:  # open long enough, or a round that nobody finished
        deadline_ms = max(now_ms + terms.probe_ms, until_ms + 1)
        return min(deadline_ms, UNTIL_MAX), join(HALF_OPEN, deadline_ms, trips, given=1)
    if state is HALF_OPEN and given < terms.probes:
        return until_ms, word + (1 << 8)
    return REFUSED, word


def would_refuse(word: int, now_ms: int, probes: int) -> bool:
    """The same question without asking."""
    state, _, given, _, until_ms = split(word)
    return state is not CLOSED and now_ms < until_ms and (state is OPEN or given >= probes)


def give_back(word: int, round_ms: int) -> int:
    """A probe that came to nothing: another one may be sent in its place."""
    state, _, given, _, until_ms = split(word)
    return word - (1 << 8) if state is HALF_OPEN and until_ms == round_ms and given else word


def report(word: int, round_ms: int, is_bad: bool, now_ms: int, terms: Terms) -> int:
    """What a probe of this round found; a round that is over stays as it is."""
    state, trips, given, passed, until_ms = split(word)
    if state is not HALF_OPEN or until_ms != round_ms:
        return word
    if is_bad:
        return tripped(now_ms, trips + 1, terms)
    if passed + 1 >= terms.probes:
        return join(CLOSED, now_ms)
    return join(HALF_OPEN, until_ms, trips, given, min(passed + 1, COUNT_MAX))


def tripped(now_ms: int, trips: int, terms: Terms) -> int:
    """The word of a breaker that opens for the `trips`-th time in a row: each time twice as long, up to the longest."""
    doubled_ms = terms.open_ms << min(max(trips, 1) - 1, 20)
    return join(OPEN, now_ms + max(terms.open_ms, min(doubled_ms, terms.open_max_ms)), max(trips, 1))


def is_too_much(consecutive: int, calls: int, failures: int, slow: int, terms: Terms) -> bool:
    """Does what was counted open the breaker?"""
    if terms.failures and consecutive >= terms.failures:
        return True
    if calls < max(terms.calls_min, 1):
        return False
    if terms.error_share and failures * 1000 >= terms.error_share * calls:
        return True
    return bool(terms.slow_ms) and slow * 1000 >= terms.slow_share * calls
