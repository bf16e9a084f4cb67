"""Workers killed and stopped at random instructions while they reserve and settle.

Windows pass quickly and keys are many more than entries, so that entries are claimed all the time. Each worker writes
down, in a page of its own, what it is about to settle of the common budget and what it has settled for sure. After
every kill and reap nothing is open for the dead; in the end what the fleet has settled is what the workers have, and
at most what the killed were just about to.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
from collections.abc import Iterator

import pytest

from shm.layout import LIMIT_BUSY, LIMIT_CLOSED, LIMIT_GRACE_NS, LIMIT_TIME_MAX_NS
from shm.limits import ADMITTED, SLOT_MASK, TICKET_BITS
from shm.region import Region, Role
from tests.shm.implementations import NEEDS_NATIVE

KILLS, WORKERS, BUDGETS_MAX, LIMIT = 1000, 4, 64, 1 << 40
WINDOW = 8 * LIMIT_GRACE_NS
PAGE = 16
TURNS, PASSED, SURE, ABOUT, OUTSIDE = range(5)
TURNSTILE = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), NEEDS_NATIVE]


def term(until: int, amount: int, limit: int) -> bytes:
    return struct.pack("=4Q", until, amount, limit, LIMIT_CLOSED)


def shop_until_killed(region: Region, slot: int, seed: int, shared: memoryview) -> None:
    dice, parent = random.Random(seed), os.getppid()
    mine = shared[slot * PAGE : (slot + 1) * PAGE]
    while mine[TURNS] % 1024 or os.getppid() == parent:
        shared[0] = now = shared[0] + LIMIT_GRACE_NS // 4
        window = now // WINDOW
        for number in dice.choices(range(200), k=8):
            answer, _, _, lease = region.reserve(
                slot, now, (b"%d/%d" % (number, window),), term((window + 1) * WINDOW, 2, 9)
            )
            if answer == ADMITTED and dice.random() < 0.7:
                region.settle(slot, lease, 1, 2, 1)
        _spend(region, slot, now, mine, dice.randrange(1, 50))
        _pass_the_turnstile(region, slot, now, mine, shared)
        mine[TURNS] += 1


def _spend(region: Region, slot: int, now: int, mine: memoryview, amount: int) -> None:
    answer, _, _, lease = region.reserve(slot, now, (b"common",), term(LIMIT_TIME_MAX_NS - 1, amount, LIMIT))
    assert answer == ADMITTED
    for _ in range(amount - 1):
        mine[ABOUT] = 1
        region.settle(slot, lease, 1, 1, 0)
        mine[SURE] += 1  # a kill between these two is told apart from none by ABOUT alone: so it allows for one more
        mine[ABOUT] = 0
    region.settle(slot, lease, 0, 1, 1)


def _pass_the_turnstile(region: Region, slot: int, now: int, mine: memoryview, shared: memoryview) -> None:
    answer, _, used, lease = region.reserve(slot, now, (b"turnstile",), term(LIMIT_TIME_MAX_NS - 1, 5, TURNSTILE))
    if answer != ADMITTED:
        return
    mine[OUTSIDE] += 1
    seen, again = (shared[OUTSIDE::PAGE].tolist() for _ in range(2))
    # Odd while outside. Who is the same in both readings was so at one moment between them.
    if used > TURNSTILE or (seen == again and sum(turn % 2 for turn in seen) * 5 > TURNSTILE):
        mine[PASSED] += 1
    mine[OUTSIDE] += 1
    region.settle(slot, lease, 0, 5, 1)


class Fleet:
    def __init__(self, region: Region) -> None:
        self.region, self.lives = region, 0
        self.shared = memoryview(mmap.mmap(-1, 16 * PAGE * 8)).cast("Q")
        self.shared[0] = 10 * LIMIT_GRACE_NS
        self.workers: dict[int, int] = {}
        self.slack = 0  # what killed workers may have settled and not written down
        keeper = region.claim_slot(pid=0, birth_ns=0, role=Role.CONTROL, generation=0, lane=0)
        assert keeper == 0, "its words in the shared page are the clock"

    def spawn(self) -> None:
        self.lives += 1
        slot = self.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
        self.shared[slot * PAGE + TURNS] = 0
        pid = os.fork()
        if pid == 0:
            try:
                shop_until_killed(self.region, slot, self.lives, self.shared)
            finally:
                os._exit(1)
        self.workers[slot] = pid

    def kill(self, slot: int) -> None:
        pid = self.workers.pop(slot)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        page = slot * PAGE
        self.slack += self.shared[page + ABOUT]
        self.shared[page + ABOUT] = 0
        self.shared[page + OUTSIDE] += self.shared[page + OUTSIDE] % 2
        self.region.reap_slot(slot)
        load, geometry = self.region._cells.load, self.region.geometry
        for index in range(BUDGETS_MAX):
            assert load(geometry.spending(slot, index)) == 0, "open for the dead"
            tat = load(geometry.budget(index) + 16)
            assert not (tat & LIMIT_BUSY and tat >> TICKET_BITS & SLOT_MASK == slot), "claimed by the dead"
        assert not any(self.shared[other * PAGE + PASSED] for other in range(1, 16)), "the limit was passed"

    def check_sum(self) -> None:
        """Only while nobody shops."""
        sure = sum(self.shared[slot * PAGE + SURE] for slot in range(1, 16))
        settled = self.region.spent(b"common")[0]
        assert sure <= settled + self.slack and settled <= sure + self.slack, (sure, settled, self.slack)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    name = f"/sentinel-test-{os.getpid()}-budgets-kill"
    region = Region.create(
        name, series_max=2, slots_max=16, journal_records=1, limits_max=64, leases_max=64, budgets_max=BUDGETS_MAX
    )
    fleet = Fleet(region)
    try:
        yield fleet
    finally:
        for pid in fleet.workers.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        region.unlink()
        region.close()


def test_the_dead_keep_nothing_open_and_nothing_settled_is_lost(fleet: Fleet) -> None:
    dice = random.Random(1)
    for _ in range(WORKERS):
        fleet.spawn()
    for kill in range(KILLS):
        slot = dice.choice(list(fleet.workers))
        while fleet.shared[slot * PAGE + TURNS] < dice.randrange(1, 4):
            os.sched_yield()
        sum(range(dice.randrange(30_000)))  # else it would always be found at the beginning of a turn
        if kill % 10 == 0:
            os.kill(fleet.workers[slot], signal.SIGSTOP)
            for other in fleet.workers:
                before = fleet.shared[other * PAGE + TURNS]
                while other != slot and fleet.shared[other * PAGE + TURNS] < before + 3:
                    os.sched_yield()
        fleet.kill(slot)
        fleet.spawn()
    for slot in list(fleet.workers):
        fleet.kill(slot)
    fleet.check_sum()
    statistics = fleet.region.budgets_statistics()
    assert (statistics.open, statistics.keys, statistics.busy) == (0, 0, 0)
    assert fleet.slack < KILLS // 2, "else the sum would prove little"
