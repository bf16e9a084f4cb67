"""Workers killed and stopped at random instructions while they insert, reclaim and charge limits.

Their clock is a word that each of them puts forward, so that buckets expire at once
and most charges are insertions, into a table that is too small for all keys. After
every kill and reap:

- nothing is held by the dead: no busy entry, no guard;
- no key is in two entries;
- the key that is limited still is, and was never admitted more often than its burst,
  in all lives together;
- what was taken of the one that is given back to, less what came back, is no more than its rate and burst;
- the others have gone on, also while one of them was stopped in the middle.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from shm.layout import LIMIT_BUSY, LIMIT_CLOSED, LIMIT_GRACE_NS, LIMIT_KEYS_MAX, LIMIT_OBSERVE, LIMIT_VOID
from shm.limits import ADMITTED, SLOT_MASK, TICKET_BITS
from shm.region import Counter, Region, Role
from tests.shm.implementations import NEEDS_NATIVE

KILLS = 2000
WORKERS = 4
LIMITS_MAX = 128
KEYS = [b"key %d" % number for number in range(400)]
ADMITTED_COUNT, TURNS, TAKEN, GIVEN, GIVING, LATEST = range(6)
YEAR = 365 * 86_400 * 10**9
BURST = 3
SLOW = array("Q", (YEAR, BURST * YEAR + YEAR // 2, LIMIT_CLOSED)).tobytes()
QUICK = array("Q", (1000, 3000, LIMIT_CLOSED)).tobytes()
MANY = array("Q", (1000, 3000, LIMIT_OBSERVE) * LIMIT_KEYS_MAX).tobytes()
BOTH = array("Q", (1000, 3000, LIMIT_CLOSED, 1000, 1000, LIMIT_CLOSED)).tobytes()
TOKEN = LIMIT_GRACE_NS
"""The time of one token. The clock fills fewer of them a turn than everybody asks for."""
TOKENS_MAX = 100
TOKENS = array("Q", (10 * TOKEN, TOKENS_MAX * TOKEN, LIMIT_CLOSED)).tobytes()
BEGUN = 10 * LIMIT_GRACE_NS
ORPHAN_CHECK_TURNS = 1024

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), NEEDS_NATIVE]


@dataclass
class Worker:
    pid: int
    slot: int
    tally: memoryview


def charge_until_killed(region: Region, slot: int, seed: int, clock: memoryview, tally: memoryview) -> None:
    dice, parent = random.Random(seed), os.getppid()
    while tally[TURNS] % ORPHAN_CHECK_TURNS or os.getppid() == parent:
        for _ in range(10):
            # Many at a time: a kill should find it in the table, not in the interpreter.
            keys = tuple(dice.choices(KEYS, k=LIMIT_KEYS_MAX))
            clock[0] = now = clock[0] + LIMIT_GRACE_NS // 4
            region.charge(slot, now, keys, MANY)
        region.charge(slot, now, (keys[0], b"common"), BOTH)
        region.reset(now, dice.choice(KEYS))
        if region.charge(slot, now, (b"slow",), SLOW)[0] == ADMITTED:
            tally[ADMITTED_COUNT] += 1
        tally[LATEST] = max(tally[LATEST], now)
        call_and_give_back(region, slot, now, dice.randrange(11), tally)
        tally[TURNS] += 1


def call_and_give_back(region: Region, slot: int, now: int, less: int, tally: memoryview) -> None:
    """Reserve ten tokens, and give back what was not used. A kill makes what was taken too low, and what was given too
    high: the bound that is checked is never too strict."""
    outcome, _, _, place, end, shift = region.charge_marked(slot, now, (b"tokens",), TOKENS)
    if outcome == ADMITTED:
        tally[TAKEN] += 10 * TOKEN
        tally[GIVING] = less * TOKEN
        tally[GIVEN] += region.give_back(slot, now, b"tokens", (place, end, shift), less * TOKEN)
        tally[GIVING] = 0


class Fleet:
    def __init__(self, region: Region) -> None:
        self.region = region
        self.clock = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self.clock[0] = BEGUN
        self.workers: list[Worker] = []
        self.lives = self.admitted = self.taken = self.given = self.latest = 0

    def spawn(self) -> None:
        self.lives += 1
        tally = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        slot = self.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
        worker = Worker(os.fork(), slot, tally)
        if worker.pid == 0:
            try:
                charge_until_killed(self.region, slot, self.lives, self.clock, tally)
            finally:
                os._exit(1)
        self.workers.append(worker)

    def kill(self, worker: Worker) -> None:
        os.kill(worker.pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]) == -signal.SIGKILL
        self.workers.remove(worker)
        self.region.reap_slot(worker.slot)
        self.admitted += worker.tally[ADMITTED_COUNT]
        self.taken += worker.tally[TAKEN]
        self.given += worker.tally[GIVEN] + worker.tally[GIVING]
        self.latest = max(self.latest, worker.tally[LATEST])
        self.check(worker.slot)

    def wait_for_others(self, stopped: Worker) -> None:
        """Everybody else goes on: a wait for the stopped one would be a wait for ever."""
        for worker in self.workers:
            before = worker.tally[TURNS]
            while worker is not stopped and worker.tally[TURNS] < before + 3:
                os.sched_yield()

    def check(self, dead: int) -> None:
        visible: dict[tuple[int, int], int] = {}
        for index in range(LIMITS_MAX):
            key, tat = self.entry(index)
            assert not (tat & LIMIT_BUSY and tat >> TICKET_BITS & SLOT_MASK == dead), "held by the dead"
            if tat == 0 or tat & (LIMIT_BUSY | LIMIT_VOID):
                continue
            if key in visible:
                # The others move while we look; a key that was moved is not in both places at one moment.
                first = self.entry(visible[key])
                assert self.entry(index) != (key, tat) or self.entry(visible[key]) != first or first[0] != key or (
                    first[1] & (LIMIT_BUSY | LIMIT_VOID)
                ), f"a key is in entries {visible[key]} and {index}"  # fmt: skip
            visible[key] = index
        for stripe in range(self.region.geometry.guards_max):
            guard = self.region._cells.load(self.region.geometry.guard(stripe))
            assert not guard or guard >> TICKET_BITS & SLOT_MASK != dead, "a guard of the dead"
        assert self.admitted + sum(worker.tally[ADMITTED_COUNT] for worker in self.workers) <= BURST
        # Read before what was given, which grows: as with a kill, the bound is never too strict.
        taken = self.taken + sum(worker.tally[TAKEN] for worker in self.workers)
        given = self.given + sum(worker.tally[GIVEN] + worker.tally[GIVING] for worker in self.workers)
        assert taken - given <= self.filled(), "more was taken than there was"

    def filled(self) -> int:
        """What the bucket had at first, and what time has put into it until the latest reading of the clock."""
        latest = max(self.latest, self.clock[0], *(worker.tally[LATEST] for worker in self.workers))
        return latest - BEGUN + TOKENS_MAX * TOKEN

    def entry(self, index: int) -> tuple[tuple[int, int], int]:
        """Key and tat as they were at one moment, or busy."""
        load, at = self.region._cells.load, self.region.geometry.limit(index)
        for _ in range(1000):
            tat = load(at + 16)
            key = load(at), load(at + 8)
            if load(at + 16) == tat:
                return key, tat
        return (0, 0), LIMIT_BUSY


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    name = f"/sentinel-test-{os.getpid()}-limits-kill"
    region = Region.create(name, series_max=2, slots_max=16, journal_records=1, limits_max=LIMITS_MAX)
    fleet = Fleet(region)
    try:
        yield fleet
    finally:
        for worker in fleet.workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        region.unlink()
        region.close()


def test_workers_killed_and_stopped_at_any_instruction_hold_nobody_up(fleet: Fleet) -> None:
    dice = random.Random(1)
    for _ in range(WORKERS):
        fleet.spawn()
    for kill in range(KILLS):
        victim = dice.choice(fleet.workers)
        while victim.tally[TURNS] < dice.randrange(1, 4):
            os.sched_yield()
        # Else he would always be found at the beginning of a turn.
        sum(range(dice.randrange(30_000)))
        if kill % 10 == 0:
            os.kill(victim.pid, signal.SIGSTOP)
            fleet.wait_for_others(victim)
            if dice.random() < 0.5:
                os.kill(victim.pid, signal.SIGCONT)
        fleet.kill(victim)
        fleet.spawn()
    for worker in list(fleet.workers):
        fleet.kill(worker)
    now = fleet.clock[0]
    statistics = fleet.region.limits_statistics(now)
    assert statistics.busy == 0
    assert fleet.region.peek(now, b"slow") > now
    assert fleet.region.charge(0, now, (b"slow",), SLOW)[0] != ADMITTED
    counters = fleet.region.totals().counters
    assert counters[Counter.LIMITS_RECLAIMED] > KILLS and counters[Counter.LIMITS_FULL] > 0
    assert fleet.given > 0 and fleet.taken - fleet.given > fleet.filled() // 2, "the bucket was in use all the time"
    # A table that lost an entry to each of the dead would have none left.
    far = now + YEAR // 100
    assert sum(fleet.region.charge(0, far, (key,), QUICK)[0] == ADMITTED for key in KEYS) >= LIMITS_MAX - 2
