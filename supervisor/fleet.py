"""What the supervisor remembers, and nothing that touches the world.

Intuition: the manager's notebook. Which generations there were and where each
stands, who works on which lane, who died of what, and what the house is doing at
all (serving, draining, stopping). The notebook is written by the loop as it
carries out actions, and read, as frozen `Facts`, by the policy.

Rule 1: entries are frozen values; a change replaces one. So facts that were
    handed out stay what they were.
Rule 2: a generation moves only through `advance`, by its table; each move is a
    line of `news`, which the loop tells to control and to the log.
Rule 3: everything is bounded: deaths, generations, obituaries. What serves, what
    is under way, and what a failure would fall back to is never forgotten.

Rejected: keeping this in shared memory, for a successor to take over. A supervisor
that was killed leaves workers that drain, and a new instance begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Final

import msgspec

from sentinel.core.machines.rollout import FINAL, UNDER_WAY, WORDS, RolloutEvent, RolloutState, step
from sentinel.core.machines.worker import FRESH, Order, WorkerState
from supervisor.terms import Terms

GENERATIONS_MAX: Final = 20
"""Remembered for `status` and for going back; more are only history, which is the log's affair."""
DEATHS_MAX: Final = 1024
"""More crashes than that within a window, and every budget is long used up."""
OBITUARIES_MAX: Final = 20
WHY_CHARS_MAX: Final = 1000
"""A reason is told in every status, and a message is 64 KiB at most."""
RESTORABLE: Final = frozenset({RolloutState.RETIRED, RolloutState.CURRENT, RolloutState.PROBATION})
"""States of a generation whose content may be served again: it has served, and was not found wanting."""


@unique
class Mode(Enum):
    """What the fleet as a whole is meant to do."""

    SERVING = "serving"
    DRAINING = "draining"
    DRAINED = "drained"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One worker process as seen now. `killed_ns`: when it was first sent a killing signal; 0: never."""

    slot: int
    pid: int
    generation: int
    lane: int
    born_ns: int
    state: WorkerState = WorkerState.BOOTING
    order: Order = Order.HOLD
    order_deadline_ns: int = 0
    heartbeat_ns: int = 0
    killed_ns: int = 0
    is_sweeper: bool = False
    open_connections: int = 0
    open_requests: int = 0

    @property
    def is_able(self) -> bool:
        """It serves, or will; nobody has told it to leave."""
        return (
            not self.is_sweeper
            and not self.killed_ns
            and self.order in (Order.HOLD, Order.SERVE)
            and (self.state in FRESH or self.state is WorkerState.SERVING)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A worker that ended without having been told to leave. `status` is its exit status, negative for a signal."""

    at_ns: int
    generation: int
    lane: int
    status: int
    was_fresh: bool
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generation on its course. `holds`: the lanes that it has taken over so far.

    restores: the number that it shall replace because that one failed; 0 for what control asked for.
    is_proven: it has shown that it can serve, so that it is worth falling back to.
    """

    number: int
    terms: Terms
    state: RolloutState = RolloutState.STAGED
    why: str = ""
    since_ns: int = 0
    lanes: tuple[int, ...] = ()
    holds: tuple[int, ...] = ()
    restores: int = 0
    is_published: bool = False
    is_proven: bool = False
    requests: int = 0
    failures: int = 0

    @property
    def is_partial(self) -> bool:
        return len(self.lanes) < self.terms.workers

    @property
    def has_proven_itself(self) -> bool:
        """It ended its probation, or answered enough requests before another one ended it."""
        return self.is_proven or (self.is_published and self.requests >= self.terms.probation.requests_min)


@dataclass(frozen=True, slots=True)
class News:
    """A generation has moved. `word` is what operators call its new state."""

    generation: int
    word: str
    why: str


class Fleet:
    """The notebook. Used by one thread, the supervisor's."""

    def __init__(self) -> None:
        self.mode = Mode.SERVING
        self.members: dict[int, Member] = {}
        self.deaths: deque[Death] = deque(maxlen=DEATHS_MAX)
        self.obituaries: deque[dict[str, object]] = deque(maxlen=OBITUARIES_MAX)
        self.news: list[News] = []
        self.current = 0
        self.stop_deadline_ns = 0
        self.stop_status = 0
        self.is_forced = False
        self.sweepers_forked = 0
        self._generations: dict[int, Generation] = {}
        self._last_number = 0

    def generations(self) -> tuple[Generation, ...]:
        """Those that are remembered, oldest first."""
        return tuple(self._generations.values())

    def generation(self, number: int) -> Generation | None:
        return self._generations.get(number)

    def serving(self) -> Generation | None:
        """The published generation."""
        return self._generations.get(self.current)

    def under_way(self) -> Generation | None:
        """The rollout that others have to wait for: the youngest that has not come to rest."""
        for generation in reversed(self._generations.values()):
            if generation.state in UNDER_WAY:
                return generation
        return None

    def latest(self) -> Generation | None:
        """The last one that was asked for."""
        return next(reversed(self._generations.values()), None)

    def stage(self, terms: Terms, now_ns: int, *, restores: int = 0) -> Generation:
        """Give the terms a number; the policy does the rest."""
        self._last_number += 1
        if restores:
            terms = msgspec.structs.replace(terms, canary_lanes=0)
        lanes = terms.canary_lanes or terms.workers
        staged = Generation(
            number=self._last_number, terms=terms, since_ns=now_ns, lanes=tuple(range(lanes)), restores=restores
        )
        self._generations[staged.number] = staged
        self._forget()
        self._tell(staged)
        return staged

    def advance(self, number: int, event: RolloutEvent, now_ns: int, why: str = "") -> bool:
        """Move a generation by its table; False when it stays where it is."""
        before = self._generations[number]
        state = step(before.state, event)
        if state is before.state:
            return False
        after = replace(before, state=state, since_ns=now_ns, why=why[:WHY_CHARS_MAX] or _kept(before, state))
        if event is RolloutEvent.PROMOTED:
            after = replace(after, lanes=tuple(range(before.terms.workers)))
        elif event is RolloutEvent.TAKES_OVER:
            after = replace(after, holds=before.lanes, is_published=not before.is_partial)
            if after.is_published:
                self.current = number
        elif event is RolloutEvent.PROVEN:
            after = replace(after, is_proven=True)
        self._generations[number] = after
        if WORDS[state] != WORDS[before.state]:
            self._tell(after)
        return True

    def count(self, number: int, requests: int, failures: int) -> None:
        """Note what shared memory has counted for a generation."""
        self._generations[number] = replace(self._generations[number], requests=requests, failures=failures)

    def take_news(self) -> list[News]:
        news, self.news = self.news, []
        return news

    def _tell(self, generation: Generation) -> None:
        self.news.append(News(generation.number, WORDS[generation.state], generation.why))

    def wanted_plans(self) -> set[str]:
        """The files that a worker may yet be started with."""
        return {self._generations[number].terms.plan_path for number in self._wanted() & self._generations.keys()}

    def _forget(self) -> None:
        kept = self._wanted()
        for number in list(self._generations)[:-GENERATIONS_MAX]:
            if number not in kept:
                del self._generations[number]

    def _wanted(self) -> set[int]:
        """Numbers that are never forgotten: the living, and what they would fall back to."""
        wanted = {number for number, one in self._generations.items() if one.state not in FINAL}
        wanted |= {member.generation for member in self.members.values()}
        for number in tuple(wanted):
            living = self._generations.get(number)
            if living is not None and (target := fallback(self.generations(), living)) is not None:
                wanted.add(target.number)
            if living is not None and (target := former(self.generations(), living)) is not None:
                wanted.add(target.number)
        return wanted


def fallback(generations: Iterable[Generation], failed: Generation) -> Generation | None:
    """What replaces a generation that fails by itself: something proven if there is, else what was there before.

    Nothing does if the same content has proven itself earlier: then it is not the content that is to blame, and an
    even older one would be no cure.
    """
    older = [one for one in generations if is_restorable(one, failed)]
    if any(one.terms.fingerprint == failed.terms.fingerprint and one.has_proven_itself for one in older):
        return None
    other = [one for one in older if one.terms.fingerprint != failed.terms.fingerprint]
    proven = [one for one in other if one.has_proven_itself]
    return next(reversed(proven or other), None)


def former(generations: Iterable[Generation], serving: Generation) -> Generation | None:
    """What an operator's rollback goes back to: the last other content that served and was not taken back."""
    older = (one for one in reversed(tuple(generations)) if is_restorable(one, serving))
    return next((one for one in older if one.terms.fingerprint != serving.terms.fingerprint), None)


def is_restorable(older: Generation, than: Generation) -> bool:
    return older.number < than.number and older.is_published and older.state in RESTORABLE


def able(members: Iterable[Member], generation: int, lane: int) -> Member | None:
    """The worker that serves a lane for a generation, or will; the most advanced if there are two."""
    found = [one for one in members if one.generation == generation and one.lane == lane and one.is_able]
    return max(found, key=lambda one: one.state, default=None)


def _kept(before: Generation, state: RolloutState) -> str:
    """A reason stays until another is given, so that what failed says why when it has been replaced."""
    return before.why if state in (RolloutState.ROLLED_BACK, RolloutState.REFUSED) else ""
