"""Workers killed and stopped at random instructions while they use the places of endpoints.

Their clock is a word that each of them puts forward, so that breakers trip, cool, probe and close thousands of
times, and probes are lost with those who made them. Each worker keeps a private tally beside the region,
raised before and after what it does: when it is dead, its row must lie between the two.
After every kill:

- before the reap, the dead worker's row tells of what it held, give or take the one call it was in; after it,
  of nothing;
- every breaker is in a state that the table knows, and its round ends: no probe is waited for for ever;
- a budget is within its bounds, was never spent twice, and no moment was paid for twice;
- counters never go back, and what was counted of an upstream is what was counted of its endpoints, but for one;
- who leads is not dead; health and ejections are words that mean something;
- the ceiling was never passed.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
from array import array
from collections.abc import Iterator

import pytest

from sentinel.core.machines.breaker import BreakerState, Terms, split
from sentinel.core.machines.health import Finding, Health
from shm.layout import BUDGET_MAX, BUDGET_PAID_MS, PLACE, STAMP_BITS, SUBWINDOWS, WINDOW_BITS, WORD
from shm.places import (
    BREAKER,
    BUDGET,
    EJECTED_UNTIL,
    FAILURE,
    HEALTH,
    NEUTRAL,
    SUCCESS,
    TOLL_WORDS,
    WINDOW,
    Permit,
    pack_terms,
)  # fmt: skip
from shm.region import Region, Role
from tests.shm.implementations import NEEDS_NATIVE

KILLS, WORKERS, SLOTS_MAX = 2000, 3, 16
MS = 1_000_000
NAMES = ["a", "a/1", "a/2", "a/3", "b", "b/1", "b/2", "narrow", "narrow/1"]
A, B, NARROW = (NAMES.index(name) for name in ("a", "b", "narrow"))
UPSTREAMS = {A: [A + 1, A + 2, A + 3], B: [B + 1, B + 2]}
ENDPOINTS = [place for places in UPSTREAMS.values() for place in places]
ONE = Terms(failures=3, open_ms=20, open_max_ms=80, probes=3, probe_ms=40)
ALL = Terms(error_share=500, calls_min=5, window_ms=100, open_ms=10, open_max_ms=40, probes=2, probe_ms=30)
EARNED, PER_SECOND, CEILING = 200, 10, 2
TERMS = pack_terms(ONE, ALL, endpoint_max=9, half_life_ms=50, earned=EARNED)
CEILED = pack_terms(endpoint_max=CEILING)
BEGUN_MS = 1_000_000
LEASE_MS, EJECTED_MS = 50, 60
LOST_MS = 200
"""More than a worker's reading of the clock is ever behind: they are few, and read it before each call."""
WORDS = 24
TURNS, PASSED, ASKED, HELD, ENDING, ENDED, SPENT, LED, CLOCK, INSIDE, WEIGHT = range(11)
TOKENS = 7
"""The burden of each call at its endpoint, as one of a language model."""
FINDING, EJECTIONS = (PLACE.offset(name) // WORD for name in ("finding", "ejections"))
WEDGED_MAX_MS = max(ONE.open_max_ms, ALL.open_max_ms, ONE.probe_ms, ALL.probe_ms)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), NEEDS_NATIVE]


class Worker:
    """What a process does until it is killed."""

    def __init__(self, region: Region, slot: int, seed: int, shared: memoryview) -> None:
        self.region, self.slot, self.shared = region, slot, shared
        self.mine = shared[slot * WORDS : (slot + 1) * WORDS]
        self.dice = random.Random(seed)
        self.held: list[tuple[int, int, Permit | int]] = []

    def work(self) -> None:
        parent = os.getppid()
        while self.mine[TURNS] % 1024 or os.getppid() == parent:
            for _ in range(6):
                self.begin()
                while len(self.held) > self.dice.randrange(6):
                    self.finish(*self.held.pop(self.dice.randrange(len(self.held))))
            self.judge()
            self.squeeze()
            self.mine[TURNS] += 1

    def now(self) -> int:
        now = self.shared[0] = self.shared[0] + self.dice.randrange(4)
        self.mine[CLOCK] = max(self.mine[CLOCK], now)
        return now

    def begin(self) -> None:
        upstream = self.dice.choice(list(UPSTREAMS))
        endpoint = self.dice.choice(UPSTREAMS[upstream])
        self.mine[ASKED] += 1  # it earns the budget something, or was refused and earns nothing
        permit = self.region.begin(self.slot, endpoint, upstream, self.now() * MS, TERMS)
        if not (isinstance(permit, int) and permit < 0):
            self.mine[HELD] += 1
            self.region.burden(self.slot, endpoint, TOKENS, 0)
            self.mine[WEIGHT] += TOKENS
            self.held.append((endpoint, upstream, permit))
        else:
            self.mine[ASKED] -= 1
        if self.dice.random() < 0.3 and self.region.spend(upstream, self.now() * MS, PER_SECOND):
            self.mine[SPENT] += 1

    def finish(self, endpoint: int, upstream: int, permit: Permit | int) -> None:
        outcome = self.dice.choices((SUCCESS, FAILURE, NEUTRAL), (6, 3, 1))[0]
        self.mine[ENDING] += outcome != NEUTRAL
        self.region.burden(self.slot, endpoint, 0, TOKENS)
        self.mine[WEIGHT] -= TOKENS
        self.region.finish(self.slot, endpoint, upstream, self.now() * MS, permit, outcome, 3 * MS, TERMS)
        self.mine[ENDED] += outcome != NEUTRAL
        self.mine[HELD] -= 1

    def judge(self) -> None:
        now, board = self.now(), self.region.board
        if self.region.lead(self.slot, 1, now * MS, LEASE_MS * MS):
            self.mine[LED] += 1
            place = self.dice.choice(ENDPOINTS)
            board.set_health(place, self.dice.choice(list(Health)), self.dice.choice(list(Finding)), now * MS)
            board.set_ejected(place, (now + EJECTED_MS) * MS, self.dice.randrange(5))
            board.forgive(self.dice.choice(ENDPOINTS))

    def squeeze(self) -> None:
        """Through the narrow place, where at most CEILING may be at a time."""
        now = self.now() * MS
        permit = self.region.begin(self.slot, NARROW + 1, NARROW, now, CEILED)
        if isinstance(permit, int) and permit < 0:
            return
        self.mine[INSIDE] += 1
        # Odd while inside for sure. Who is the same in both readings was so at one moment between them.
        seen, again = (self.shared[INSIDE::WORDS].tolist() for _ in range(2))
        if seen == again and sum(turn % 2 for turn in seen) > CEILING:
            self.mine[PASSED] += 1
        self.mine[INSIDE] += 1
        self.region.finish(self.slot, NARROW + 1, NARROW, now, permit, NEUTRAL, 0, CEILED)


class Fleet:
    def __init__(self, region: Region) -> None:
        self.region, self.lives = region, 0
        assert region.place_numbers(NAMES) == list(range(len(NAMES)))
        self.words = region._mapping.memory.cast("Q")
        places, slots = range(len(NAMES)), range(SLOTS_MAX)
        self.places = [region.geometry.place(place) // WORD for place in places]
        self.flights = [region.geometry.flight(slot, 0) // WORD for slot in slots]
        self.tolls = [region.geometry.toll(slot, 0) // WORD for slot in slots]
        self.shared = memoryview(mmap.mmap(-1, SLOTS_MAX * WORDS * WORD)).cast("Q")
        self.shared[0] = BEGUN_MS
        self.workers: dict[int, int] = {}
        self.before: dict[int, list[int]] = {}
        """What the counters of a slot said before its tenant."""
        self.seen = [0] * (len(NAMES) * TOLL_WORDS)
        self.paid_up_to = {A: 0, B: 0}
        keeper = region.claim_slot(pid=0, birth_ns=0, role=Role.CONTROL, generation=0, lane=0)
        assert keeper == 0, "its words in the shared page are the clock"

    def spawn(self) -> None:
        self.lives += 1
        slot = self.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
        words = self.shared[slot * WORDS : (slot + 1) * WORDS]
        for at in (TURNS, HELD, ENDING, ENDED, WEIGHT):
            words[at] = 0
        self.before[slot] = self.toll(slot)[::TOLL_WORDS]
        pid = os.fork()
        if pid == 0:
            try:
                Worker(self.region, slot, self.lives, self.shared).work()
            finally:
                os._exit(1)
        self.workers[slot] = pid

    def kill(self, slot: int) -> None:
        pid = self.workers.pop(slot)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        self.check_row(slot)
        # Out of the narrow place before its row is empty: the next one may be let in from then on.
        self.shared[slot * WORDS + INSIDE] += self.shared[slot * WORDS + INSIDE] % 2
        self.region.reap_slot(slot)
        assert not any(self.row(slot)), "in flight of the dead"
        assert not any(self.burdens(slot)), "tokens under way of the dead"
        assert self.region.board.leader() != slot, "the dead leads"
        for place in range(len(NAMES)):
            self.check_breaker(place)
            self.check_judgement(place)
        self.check_counters()
        for upstream in UPSTREAMS:
            self.check_budget(upstream)
        assert not any(self.shared[PASSED::WORDS]), "the ceiling was passed"

    def clock(self) -> int:
        """The latest time that anybody has ever used."""
        return max(self.shared[0], *self.shared[WORDS + CLOCK :: WORDS])

    def load(self, place: int, word: int) -> int:
        return self.words[self.places[place] + word]

    def row(self, slot: int) -> list[int]:
        """What the slot has in flight, for each place."""
        return self.words[self.flights[slot] : self.flights[slot] + len(NAMES)].tolist()

    def burdens(self, slot: int) -> list[int]:
        """The tokens that the slot has under way, for each place: the second half of its row."""
        at = self.flights[slot] + self.region.geometry.places_max
        return self.words[at : at + len(NAMES)].tolist()

    def toll(self, slot: int) -> list[int]:
        """What the slot counted: eight words for each place."""
        return self.words[self.tolls[slot] : self.tolls[slot] + len(NAMES) * TOLL_WORDS].tolist()

    def check_row(self, slot: int) -> None:
        """What the dead worker wrote lies between what it began and what it ended."""
        tally = self.shared[slot * WORDS : (slot + 1) * WORDS]
        row = self.row(slot)
        for places in (list(UPSTREAMS), ENDPOINTS):
            held = sum(row[place] for place in places)
            assert tally[HELD] - 1 <= held <= tally[HELD] + 1, "its row does not tell what it held"
        assert abs(sum(self.burdens(slot)) - tally[WEIGHT]) <= TOKENS, "its row does not tell what was under way"
        done = [now - old for now, old in zip(self.toll(slot)[::TOLL_WORDS], self.before[slot], strict=True)]
        for upstream, endpoints in UPSTREAMS.items():
            assert 0 <= sum(done[place] for place in endpoints) - done[upstream] <= 1, "half a call was counted"
        assert tally[ENDED] <= sum(done[place] for place in ENDPOINTS) <= tally[ENDING]

    def check_breaker(self, place: int) -> None:
        word = self.load(place, BREAKER)
        parts, probes = split(word), ALL.probes if place in UPSTREAMS else ONE.probes
        assert word & 3 < 3, "no state at all"
        if parts.state is BreakerState.CLOSED:
            assert (parts.trips, parts.given, parts.passed) == (0, 0, 0), parts
        elif parts.state is BreakerState.OPEN:
            assert parts.trips and (parts.given, parts.passed) == (0, 0), parts
        else:
            assert parts.trips and parts.passed < probes and parts.given <= probes, parts
        assert parts.until_ms <= self.clock() + WEDGED_MAX_MS + LOST_MS, "its round does not end"
        for tenth in range(SUBWINDOWS):
            counts = self.load(place, WINDOW + tenth)
            calls, failures, slow = (counts >> at * WINDOW_BITS & (1 << WINDOW_BITS) - 1 for at in range(3))
            assert failures <= calls and slow <= calls

    def check_judgement(self, place: int) -> None:
        health, until_ms = self.load(place, HEALTH), self.load(place, EJECTED_UNTIL)
        assert health < len(Health) and self.load(place, FINDING) < len(Finding) and self.load(place, EJECTIONS) < 5
        assert until_ms <= self.clock() + EJECTED_MS, "left out for ever"

    def check_counters(self) -> None:
        now = [sum(counts) for counts in zip(*map(self.toll, range(SLOTS_MAX)), strict=True)]
        assert all(old <= new for old, new in zip(self.seen, now, strict=True)), "a counter went back"
        self.seen = now

    def check_budget(self, upstream: int) -> None:
        word = self.load(upstream, BUDGET)
        assert word & (1 << STAMP_BITS) - 1 <= BUDGET_MAX
        paid_up_to = word >> STAMP_BITS
        assert self.paid_up_to[upstream] <= paid_up_to <= self.clock(), "a time was paid for twice"
        self.paid_up_to[upstream] = paid_up_to
        spent = sum(self.shared[SPENT::WORDS])  # first, for the others go on earning
        asked = sum(self.shared[ASKED::WORDS])
        time_ms = self.clock() - BEGUN_MS + BUDGET_PAID_MS
        assert spent * 1000 <= asked * EARNED + len(UPSTREAMS) * time_ms * PER_SECOND, "spent more than there was"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    name = f"/sentinel-test-{os.getpid()}-places-kill"
    region = Region.create(
        name, series_max=2, slots_max=SLOTS_MAX, journal_records=1, limits_max=64, leases_max=64,
        places_max=len(NAMES),
    )  # fmt: skip
    fleet = Fleet(region)
    try:
        yield fleet
    finally:
        for pid in fleet.workers.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        fleet.words.release()
        region.unlink()
        region.close()


def test_the_dead_hold_no_place_and_no_breaker_waits_for_them(fleet: Fleet) -> None:
    dice, shared, region = random.Random(1), fleet.shared, fleet.region
    for _ in range(WORKERS):
        fleet.spawn()
    for kill in range(KILLS):
        slot = dice.choice(list(fleet.workers))
        while shared[slot * WORDS + TURNS] < dice.randrange(1, 4):
            os.sched_yield()
        sum(range(dice.randrange(15_000)))  # else it would always be found at the beginning of a turn
        if kill % 10 == 0:
            os.kill(fleet.workers[slot], signal.SIGSTOP)
            for other in fleet.workers:
                before = shared[other * WORDS + TURNS]
                while other != slot and shared[other * WORDS + TURNS] < before + 3:
                    os.sched_yield()
            if kill % 20 == 0:
                os.kill(fleet.workers[slot], signal.SIGCONT)
        fleet.kill(slot)
        fleet.spawn()
    for slot in list(fleet.workers):
        fleet.kill(slot)
    assert set(region.flights(array("I", range(len(NAMES))).tobytes())) == {0}
    assert set(region.burdens(array("I", range(len(NAMES))).tobytes())) == {0}
    opened = [view.toll.opened for view in region.places()]
    assert min(opened[place] for place in (*UPSTREAMS, *ENDPOINTS)) > 10, "every breaker was in the play"
    assert sum(shared[SPENT::WORDS]) > KILLS and sum(shared[LED::WORDS]) > KILLS
    far = fleet.clock()
    for upstream, endpoints in UPSTREAMS.items():
        for endpoint in endpoints:
            assert is_closed_by_probes(region, endpoint, upstream, far)


def is_closed_by_probes(region: Region, endpoint: int, upstream: int, now_ms: int) -> bool:
    """Good news, as often as it takes: nobody waits for those who were lost."""
    for step in range(20):
        at = (now_ms + WEDGED_MAX_MS + step) * MS
        permit = region.begin(0, endpoint, upstream, at, TERMS)
        if not (isinstance(permit, int) and permit < 0):
            region.finish(0, endpoint, upstream, at, permit, SUCCESS, MS, TERMS)
    return all(region.place(place).breaker is BreakerState.CLOSED for place in (endpoint, upstream))
