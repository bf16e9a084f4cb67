"""Writers killed at random instructions, hundreds of them: nothing torn, nothing lost, nothing twice.

Intuition: a writer keeps a private tally beside the region, raised before and
after every exchange. When it is dead, each cell of its slot must lie between
the two, which differ by the one exchange it was counting. Everything else is
exact: the records it finished are there, untorn, in order.

A kill needs no clock: the parent reads the region a random number of times
while the writer runs, which at the same time proves that no reading goes down.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from shm.counters import SeriesTotals, read_series
from shm.layout import FAILING_REASONS, SERIES_WORDS, SLOT
from shm.region import Counter, Region, Role
from tests.shm.implementations import IMPLEMENTATIONS, environment

KILLS = {"native": 400, "twin": 100}
WRITERS = 3
STARTED, FINISHED = 0, 1
DURATION_NS, BYTES_IN, BYTES_OUT = 3_000_000, 11, 13
ORPHAN_CHECK_TURNS = 256
FAILING = min(FAILING_REASONS)
"""A reason that counts as a failure of the generation."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Writer:
    pid: int
    slot: int
    life: int
    tally: memoryview
    base: SeriesTotals
    accepted: int

    def said(self) -> tuple[int, int]:
        """At least and at most so many exchanges."""
        finished = self.tally[FINISHED]
        return finished, self.tally[STARTED]


def record_of(life: int, number: int) -> bytes:
    body = b"%d %d " % (life, number) + random.Random(number).randbytes(number * 7 % 400)
    return zlib.crc32(body).to_bytes(4, "little") + body


def checked(record: bytes) -> tuple[int, int]:
    """The life and number of a record that is whole."""
    assert zlib.crc32(record[4:]).to_bytes(4, "little") == record[:4], "a torn record was read"
    life, number, _ = record[4:].split(b" ", 2)
    return int(life), int(number)


def write_until_killed(region: Region, slot: int, life: int, tally: memoryview) -> None:
    parent, number = os.getppid(), 0
    while number % ORPHAN_CHECK_TURNS or os.getppid() == parent:
        number += 1
        record = record_of(life, number)
        tally[STARTED] = number
        region.record(slot, 0, 503, FAILING, DURATION_NS, BYTES_IN, BYTES_OUT)
        region.add(slot, Counter.ACCEPTED)
        region.journal_write(slot, record)
        tally[FINISHED] = number


class Fleet:
    """Some writers, and what is known of them."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.writers: list[Writer] = []
        self.lives = 0
        self.before = region.totals()

    def spawn(self) -> None:
        self.lives += 1
        tally = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        slot = self.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=self.lives, lane=0)
        writer = Writer(0, slot, self.lives, tally, self.counted(slot), self.accepted(slot))
        writer.pid = os.fork()
        if writer.pid == 0:
            try:
                write_until_killed(self.region, slot, self.lives, tally)
            finally:
                os._exit(1)
        self.region.set_pid(slot, writer.pid)
        self.writers.append(writer)

    def kill(self, writer: Writer) -> tuple[int, int]:
        """Kill it, compare, and reap; what it had counted at least and at most."""
        os.kill(writer.pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(writer.pid, 0)[1]) == -signal.SIGKILL
        self.writers.remove(writer)
        self.compare(writer)
        before = self.region.totals()
        self.region.reap_slot(writer.slot)
        for low, high in zip(before.series[0].classes, self.region.totals().series[0].classes, strict=True):
            assert low <= high
        self.compare(writer)
        return writer.said()

    def compare(self, writer: Writer) -> None:
        least, most = writer.said()
        assert most - least <= 1
        base, now = writer.base, self.counted(writer.slot)
        for name, grown in (
            ("class", now.classes[5] - base.classes[5]),
            ("reason", now.reasons.get(FAILING, 0) - base.reasons.get(FAILING, 0)),
            ("bucket", sum(now.histogram) - sum(base.histogram)),
            ("duration", (now.duration_sum_ns - base.duration_sum_ns) / DURATION_NS),
            ("octets in", (now.bytes_in - base.bytes_in) / BYTES_IN),
            ("octets out", (now.bytes_out - base.bytes_out) / BYTES_OUT),
            ("accepted", self.accepted(writer.slot) - writer.accepted),
            *zip(("requests", "failures"), self.region.generation_totals(writer.life), strict=True),
        ):
            assert grown in (least, most), f"{name}: {grown}, the writer said {least} to {most}"
        records = [checked(record) for record in self.region.journal_read(writer.slot)]
        mine = [number for life, number in records if life == writer.life]
        assert mine == list(range(mine[0], mine[-1] + 1)) if mine else not least
        assert not mine or mine[-1] in (least, most)

    def counted(self, slot: int) -> SeriesTotals:
        geometry = self.region.geometry
        memory = self.region._cells.sums(geometry.counters(slot, 0), 0, 1, SERIES_WORDS)
        return read_series(OneSlot(memory), geometry, 1, 0, "")  # type: ignore[arg-type]

    def accepted(self, slot: int) -> int:
        return self.region._cells.load(self.region.geometry.slot(slot) + SLOT.offset("counters"))

    def look(self) -> None:
        """Read everything while writers write: whole records only, and no number smaller than before."""
        now = self.region.totals()
        for before, after in zip(self.before.series, now.series, strict=True):
            assert all(low <= high for low, high in zip(before.classes, after.classes, strict=True))
            assert all(low <= high for low, high in zip(before.histogram, after.histogram, strict=True))
            assert before.duration_sum_ns <= after.duration_sum_ns and before.bytes_out <= after.bytes_out
            assert all(count <= after.reasons[number] for number, count in before.reasons.items())
        assert all(count <= now.counters[counter] for counter, count in self.before.counters.items())
        self.before = now
        for record in self.region.journal_read(random.choice(self.writers).slot):
            checked(record)


@dataclass
class OneSlot:
    """Answers a reading with the sums of one slot."""

    memory: bytes

    def sums(self, offset: int, stride: int, count: int, words: int) -> bytes:
        return self.memory


@pytest.fixture(params=IMPLEMENTATIONS)
def fleet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fleet, int]]:
    environment(request.param, monkeypatch)
    region = Region.create(f"/sentinel-test-{os.getpid()}-kill", series_max=2, slots_max=12, journal_records=64)
    fleet = Fleet(region)
    try:
        yield fleet, KILLS[request.param]
    finally:
        for writer in fleet.writers:
            os.kill(writer.pid, signal.SIGKILL)
            os.waitpid(writer.pid, 0)
        region.unlink()
        region.close()


def test_writers_killed_at_any_instruction_leave_nothing_torn(fleet: tuple[Fleet, int]) -> None:
    writers, kills = fleet
    dice = random.Random(1)
    least = most = 0
    for _ in range(WRITERS):
        writers.spawn()
    for _ in range(kills):
        victim = dice.choice(writers.writers)
        while not victim.tally[FINISHED]:
            writers.look()
        for _ in range(dice.randrange(4)):
            writers.look()
        low, high = writers.kill(victim)
        least, most = least + low, most + high
        writers.spawn()
    for writer in list(writers.writers):
        low, high = writers.kill(writer)
        least, most = least + low, most + high
    total = writers.region.totals()
    assert least <= total.series[0].requests <= most <= least + kills + WRITERS
    assert least <= total.counters[Counter.ACCEPTED] <= most
    assert writers.region.slots() == []
