"""Workers killed and stopped at random instructions while they hold and give back leases.

Keys are many more than entries, so that entries are claimed all the time. After every kill and reap nothing is
held by the dead, the ceiling was never passed, and at the end nothing is held at all.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
from collections.abc import Iterator

import pytest

from shm.layout import LIMIT_BUSY, LIMIT_GRACE_NS
from shm.limits import ADMITTED, SLOT_MASK, TICKET_BITS
from shm.region import Region, Role
from tests.shm.implementations import NEEDS_NATIVE

KILLS, WORKERS, LEASES_MAX, CEILING = 2000, 4, 64, 2
KEYS = [b"key %d" % number for number in range(200)]
TURNS, PASSED = 0, 1
INSIDE = 8
"""Where a worker's words tell how often it came to hold the common key for sure, and ceased to."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), NEEDS_NATIVE]


def hold_until_killed(region: Region, slot: int, seed: int, shared: memoryview) -> None:
    dice, parent = random.Random(seed), os.getppid()
    mine = shared[slot * 16 : slot * 16 + 16]
    held: list[int] = []
    while mine[TURNS] % 1024 or os.getppid() == parent:
        shared[0] = now = shared[0] + LIMIT_GRACE_NS // 4
        for key in dice.choices(KEYS, k=8):
            answer, _, lease = region.hold(slot, now, key, CEILING)
            if answer == ADMITTED:
                held.append(lease)
        if region.hold(slot, now, b"common", CEILING)[0] == ADMITTED:
            mine[INSIDE] += 1
            seen, again = (shared[INSIDE::16].tolist() for _ in range(2))
            # Odd while inside. Who is the same in both readings was so at one moment between them.
            if seen == again and sum(turn % 2 for turn in seen) > CEILING:
                mine[PASSED] += 1
            mine[INSIDE] += 1
            region.release_lease(slot, _lease_of(region, slot, now))
        while len(held) > dice.randrange(8):
            region.release_lease(slot, held.pop(dice.randrange(len(held))))
        mine[TURNS] += 1


def _lease_of(region: Region, slot: int, now: int) -> int:
    """The common key's lease; asked for a second time, and given back at once, so that two kinds of ends are hit."""
    answer, _, lease = region.hold(slot, now, b"common", 1 << 30)
    assert answer == ADMITTED
    region.release_lease(slot, lease)
    return lease


class Fleet:
    def __init__(self, region: Region) -> None:
        self.region, self.lives = region, 0
        self.shared = memoryview(mmap.mmap(-1, 16 * 16 * 8)).cast("Q")
        self.shared[0] = 10 * LIMIT_GRACE_NS
        self.workers: dict[int, int] = {}
        keeper = region.claim_slot(pid=0, birth_ns=0, role=Role.CONTROL, generation=0, lane=0)
        assert keeper == 0, "its words in the shared page are the clock"

    def spawn(self) -> None:
        self.lives += 1
        slot = self.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
        self.shared[slot * 16 + TURNS] = 0
        pid = os.fork()
        if pid == 0:
            try:
                hold_until_killed(self.region, slot, self.lives, self.shared)
            finally:
                os._exit(1)
        self.workers[slot] = pid

    def kill(self, slot: int) -> None:
        pid = self.workers.pop(slot)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        self.shared[slot * 16 + INSIDE] += self.shared[slot * 16 + INSIDE] % 2
        self.region.reap_slot(slot)
        load, geometry = self.region._cells.load, self.region.geometry
        for index in range(LEASES_MAX):
            assert load(geometry.holding(slot, index)) == 0, "held by the dead"
            tat = load(geometry.lease(index) + 16)
            assert not (tat & LIMIT_BUSY and tat >> TICKET_BITS & SLOT_MASK == slot), "claimed by the dead"
        assert not any(self.shared[other * 16 + PASSED] for other in range(1, 16)), "the ceiling was passed"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    name = f"/sentinel-test-{os.getpid()}-leases-kill"
    region = Region.create(
        name, series_max=2, slots_max=16, journal_records=1, limits_max=64, leases_max=LEASES_MAX
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


def test_the_dead_hold_nothing_and_the_ceiling_is_never_passed(fleet: Fleet) -> None:
    dice = random.Random(1)
    for _ in range(WORKERS):
        fleet.spawn()
    for kill in range(KILLS):
        slot = dice.choice(list(fleet.workers))
        while fleet.shared[slot * 16 + TURNS] < dice.randrange(1, 4):
            os.sched_yield()
        sum(range(dice.randrange(30_000)))  # else it would always be found at the beginning of a turn
        if kill % 10 == 0:
            os.kill(fleet.workers[slot], signal.SIGSTOP)
            for other in fleet.workers:
                before = fleet.shared[other * 16 + TURNS]
                while other != slot and fleet.shared[other * 16 + TURNS] < before + 3:
                    os.sched_yield()
        fleet.kill(slot)
        fleet.spawn()
    for slot in list(fleet.workers):
        fleet.kill(slot)
    statistics = fleet.region.leases_statistics()
    assert (statistics.held, statistics.keys, statistics.busy) == (0, 0, 0)
    far = fleet.shared[0] + 10 * LIMIT_GRACE_NS
    free = sum(fleet.region.hold(0, far, b"new %d" % number, 1)[0] == ADMITTED for number in range(400))
    assert free >= LEASES_MAX - 2, "a table that lost an entry to each of the dead would have none left"
