"""Leases: the native ones are their twin, no interleaving passes the ceiling, and the dead hold nothing.

The twin's operations stop before each access to shared memory, so a schedule is a sequence of slots. A holder
counts as one from the end of `hold` to the beginning of `release_lease`; what the rules of shm.leases promise is
looked at after every single step.
"""

from __future__ import annotations

import mmap
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm import leases, limits, twin
from shm.layout import HEADER, LIMIT, LIMIT_BUSY, LIMIT_GRACE_NS, LIMIT_VOID, WORD, Geometry
from shm.leases import Leases
from shm.limits import ADMITTED, FULL, LIMIT_WORDS, REFUSED, Key, Steps, finish
from shm.region import Counter, Region, Role
from tests.shm.implementations import IMPLEMENTATIONS, NEEDS_NATIVE, SMALL, open_on
from tests.shm.test_cells import outcome
from tests.shm.test_processes import ended, in_child

GEOMETRY = Geometry(slots_max=5, series_max=2, journal_records=1, limits_max=64, places_max=4, leases_max=64)
NOW = 1000 * LIMIT_GRACE_NS
WINDOW, HOME, MOST = 3, 62, 2
KEYS: list[Key] = [(HOME + 64 * number, number) for number in range(1, 6)]
USED = HEADER.offset("slots_used")

NAMES = st.integers(0, 80).map(lambda number: b"key %d" % number)
SLOTS = st.integers(0, 3)
WORDS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
TIMES = st.integers(0, 40).map(lambda step: step * LIMIT_GRACE_NS)
TABLE = st.one_of(
    st.integers(0, SMALL.leases_max * LIMIT.size // WORD - 1).map(lambda word: SMALL.lease(0) + word * WORD),
    st.integers(0, 63).map(lambda guard: SMALL.lease_guards_offset + guard * WORD),
    st.tuples(st.integers(0, 2), st.integers(0, 63)).map(lambda at: SMALL.holding(*at)),
)


def operation(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*arguments))


HOLDS = operation("hold", SLOTS, TIMES, NAMES, st.integers(0, 4))
OPERATIONS = st.one_of(
    HOLDS, HOLDS, HOLDS,
    operation("hold", SLOTS, WORDS, NAMES, WORDS), operation("hold", SLOTS, TIMES, st.text(max_size=1), WORDS),
    operation("release_lease", SLOTS, st.integers(0, 64)), operation("held", NAMES), operation("held", WORDS),
    operation("leases_reap", SLOTS), operation("leases_statistics"),
    operation("store", TABLE, st.one_of(WORDS, st.integers(0, 63).map(lambda bit: 1 << bit))),
)  # fmt: skip


@NEEDS_NATIVE
@settings(max_examples=300, deadline=None)
@given(st.lists(OPERATIONS, max_size=40))
def test_the_native_leases_do_what_their_twin_does(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    memories = [bytearray(SMALL.size_bytes) for _ in range(2)]
    native, twins = open_on("native", memoryview(memories[0])), open_on("twin", memoryview(memories[1]))
    for cells in (native, twins):
        cells.store(USED, SMALL.slots_max)
    for call in calls:
        assert outcome(native, call) == outcome(twins, call), call
    native.release()
    twins.release()
    assert memories[0] == memories[1]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_ceiling_is_of_all_slots_and_what_was_given_back_is_free(implementation: str) -> None:
    cells = open_on(implementation, memoryview(bytearray(SMALL.size_bytes)))
    cells.store(USED, SMALL.slots_max)
    answers = [cells.hold(slot, NOW, b"a", 3) for slot in (0, 1, 2, 0, 1)]
    admitted, refused = [(ADMITTED, held) for held in (1, 2, 3)], [(REFUSED, 3)] * 2
    assert [answer[:2] for answer in answers] == admitted + refused
    assert cells.hold(0, NOW, b"b", 1)[0] == ADMITTED, "another key's is another ceiling"
    lease = answers[0][2]
    cells.release_lease(1, lease)
    assert (cells.held(b"a"), cells.held(b"b"), cells.held(b"c")) == (2, 1, 0)
    cells.release_lease(1, lease)
    assert cells.held(b"a") == 2, "a slot gives back no more than it holds"
    assert cells.hold(2, NOW, b"a", 3)[:2] == (ADMITTED, 3)
    assert cells.leases_statistics() == (2, 2, 4, 0)
    cells.leases_reap(2)
    assert cells.held(b"a") == 1
    assert cells.load(SMALL.slot(0) + leases_counter(Counter.LEASES_REFUSED)) == 1


def leases_counter(counter: Counter) -> int:
    return limits.SLOT.offset("counters") + counter * WORD


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_flood_of_keys_takes_no_entry_of_one_that_holds(implementation: str) -> None:
    cells = open_on(implementation, memoryview(bytearray(SMALL.size_bytes)))
    cells.store(USED, SMALL.slots_max)
    assert cells.hold(0, NOW, b"mine", 1)[0] == ADMITTED
    outcomes = []
    for number in range(3000):
        now = NOW + number * 2 * LIMIT_GRACE_NS
        found, _, lease = cells.hold(1, now, b"flood %d" % number, 1)
        outcomes.append(found)
        if found == ADMITTED and number % 2:
            cells.release_lease(1, lease)
    assert FULL in outcomes and outcomes.count(ADMITTED) >= SMALL.leases_max // 2
    assert cells.hold(2, NOW + 10**13, b"mine", 1)[:2] == (REFUSED, 1)
    cells.leases_reap(1)
    later = NOW + 10**14
    assert cells.hold(2, later, b"flood again", 1)[0] == ADMITTED, "what nobody holds is free again"
    assert cells.load(SMALL.slot(1) + leases_counter(Counter.LEASES_FULL)) == outcomes.count(FULL)


# One step at a time.


class Stage:
    """A few slots that take and give back, stop, and die in the middle; and a table with too little room."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.cells: Any = open_on("twin", memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
        assert isinstance(self.cells, twin.Cells)
        self.table: Leases = self.cells._leases
        self.cells.store(USED, GEOMETRY.slots_max)
        self.now = NOW
        self.holders: dict[tuple[int, int], list[Key]] = {}
        self.doing: dict[int, tuple[Key, Steps[Any]]] = {}
        self.held: dict[int, list[tuple[Key, int]]] = {slot: [] for slot in range(4)}
        self.counts = {ADMITTED: 0, REFUSED: 0, FULL: 0}
        self.moved = 0
        self.owner: dict[int, Key] = {}

    def holding(self, key: Key) -> int:
        return sum(held == key for mine in self.held.values() for held, _ in mine)

    def step(self) -> None:
        slot = self.dice.randrange(4)
        if slot not in self.doing:
            choice = self.dice.random()
            if self.held[slot] and choice < 0.5:
                _, lease = self.held[slot].pop(self.dice.randrange(len(self.held[slot])))
                self.table.release(slot, lease)
            else:
                self.now += self.dice.choice((1, LIMIT_GRACE_NS * 2))
                key = self.dice.choice(KEYS)
                self.doing[slot] = key, self.table.hold(slot, self.now, key, MOST)
        else:
            key, steps = self.doing[slot]
            for _ in range(self.dice.choice((1, 1, 3, 20))):
                if self.advance(slot, key, steps):
                    break
        if self.dice.random() < 0.01:
            self.die(slot)
        self.check()

    def advance(self, slot: int, key: Key, steps: Steps[Any]) -> bool:
        try:
            next(steps)
        except StopIteration as end:
            answer, count, lease = end.value
            self.counts[answer] += 1
            if answer == ADMITTED:
                assert count <= MOST
                self.held[slot].append((key, lease))
            del self.doing[slot]
            return True
        return False

    def die(self, slot: int) -> None:
        self.doing.pop(slot, None)
        self.held[slot].clear()
        finish(self.table.reap(slot))

    def check(self) -> None:
        words, first = self.cells._words, GEOMETRY.leases_offset // WORD
        visible: dict[Key, int] = {}
        for step in range(WINDOW):
            index = (HOME + step) % 64
            at = first + index * LIMIT_WORDS
            tat, key = words[at + limits.TAT], (words[at], words[at + 1])
            if tat and not tat & (LIMIT_BUSY | LIMIT_VOID):
                assert visible.setdefault(key, index) == index, f"{key} is in two entries"
                self.moved += self.owner.get(index, key) != key
                self.owner[index] = key
        for key in KEYS:
            count = self.holding(key)
            assert count <= MOST, f"{count} hold {key}"
            if count:
                assert key in visible, f"{key} is held and has no entry"
                row = [words[GEOMETRY.holding(slot, visible[key]) // WORD] for slot in range(5)]
                assert sum(row) >= count, f"{count} hold {key}, and its pegs are {row}"


@pytest.fixture
def _short_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_SPINS", 2)
    monkeypatch.setattr(leases, "LIMIT_SPINS", 2)
    monkeypatch.setattr(limits, "LIMIT_WINDOW", WINDOW)


@pytest.mark.usefixtures("_short_ways")
@pytest.mark.parametrize("seed", range(40))
def test_no_schedule_passes_the_ceiling_or_takes_an_entry_that_is_held(seed: int) -> None:
    stage = Stage(random.Random(seed))
    for _ in range(1500):
        stage.step()
    for slot in range(4):
        stage.die(slot)
    assert stage.table.totals()[1:] == (0, 0, 0), "nothing is held by the dead"


@pytest.mark.usefixtures("_short_ways")
def test_the_schedules_do_what_they_are_for() -> None:
    """They refuse, find no room, and give entries to other keys; else they would prove nothing."""
    stage = Stage(random.Random(7))
    for _ in range(20_000):
        stage.step()
    assert min(stage.counts.values()) > 20 and stage.moved > 20, (stage.counts, stage.moved)


@pytest.mark.usefixtures("_short_ways")
def test_one_that_claims_an_entry_is_seen_by_one_that_takes_it() -> None:
    """The taker found his key's old entry, moved his peg, and was overtaken by another key: he takes it back."""
    stage = Stage(random.Random(1))
    lease = finish(stage.table.hold(0, NOW, KEYS[0], MOST))[2]
    stage.table.release(0, lease)
    others = [finish(stage.table.hold(3, NOW, key, MOST))[0] for key in KEYS[1:WINDOW]]
    assert others == [ADMITTED] * (WINDOW - 1), "the window is full but for the one"
    later = NOW + 3 * LIMIT_GRACE_NS
    for before in range(1, 60):
        taker = stage.table.hold(1, later, KEYS[0], MOST)
        for _ in range(before):
            try:
                next(taker)
            except StopIteration:
                return
        other = finish(stage.table.hold(2, later, KEYS[4], MOST))
        answer = finish(taker)
        assert FULL in (other[0], answer[0]), "two keys in one entry"
        for slot, (found, _, index) in ((2, other), (1, answer)):
            if found == ADMITTED:
                stage.table.release(slot, index)
        later += 10 * LIMIT_GRACE_NS


# Real processes.

TURNS = 4000
SHARED: list[bytes] = [b"198.51.100.7", b"tenant/42"]
CEILING = 3


def hold_and_release(region: Region, slot: int, inside: memoryview, begin: int, tally: memoryview) -> None:
    os.read(begin, 1)
    clock = NOW
    for turn in range(TURNS):
        at = turn % 2
        clock += 1
        answer, _, lease = region.hold(slot, clock, SHARED[at], CEILING)
        tally[answer] += 1
        if answer == ADMITTED:
            inside[slot * 2 + at] += 1
            seen, again = (inside[at : at + 16 : 2].tolist() for _ in range(2))
            # Odd while inside. Who is the same in both readings was so at one moment between them.
            assert seen != again or sum(turn % 2 for turn in seen) <= CEILING
            inside[slot * 2 + at] += 1
            region.release_lease(slot, lease)


@NEEDS_NATIVE
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_any_number_of_processes_stay_below_one_ceiling(name: str, workers: int) -> None:
    region = Region.create(name, series_max=2, slots_max=12, journal_records=1, limits_max=64, leases_max=64)
    begin, start = os.pipe()
    inside = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    tallies = [memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q") for _ in range(workers)]
    slots = [region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0) for _ in tallies]
    children = [
        in_child(lambda slot=slot, mine=mine: hold_and_release(region, slot, inside, begin, mine))  # type: ignore[misc]
        for slot, mine in zip(slots, tallies, strict=True)
    ]
    os.write(start, b"!" * workers)
    assert [ended(child) for child in children] == [0] * workers
    admitted, refused = (sum(tally[answer] for tally in tallies) for answer in (ADMITTED, REFUSED))
    assert admitted + refused == workers * TURNS, "no key found the table full"
    assert workers > CEILING or refused == 0, "fewer than the ceiling never refuse each other"
    statistics = region.leases_statistics()
    assert (statistics.held, statistics.keys, statistics.used) == (0, 0, 2)
    for fd in (begin, start):
        os.close(fd)
    region.close()
