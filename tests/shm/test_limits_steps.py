"""The table of limits, one step at a time: several workers at once, in random orders, some stopped, some dead.

The twin's operations are generators that stop before each access to shared memory,
so a schedule is a sequence of names. After every step the whole table is looked at:

- no key is in two entries that can be seen;
- no value comes again in an entry under another key (rule 1 of shm/limits.py);
- whoever is scheduled comes to an end in a bounded number of steps of his own,
  whatever the others do not do;

and at the end of a schedule: no more was admitted in any stretch of time than the
stretch and the burst allow, and reaping leaves nothing held.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import pytest

from shm import limits, twin
from shm.layout import LIMIT_BUSY, LIMIT_CLOSED, LIMIT_GRACE_NS, LIMIT_VOID, Geometry
from shm.limits import ADMITTED, FULL, LIMIT_WORDS, REFUSED, TIME_MASK, Key, Steps, finish
from tests.shm.implementations import open_on

GEOMETRY = Geometry(slots_max=5, series_max=2, journal_records=1, limits_max=64, places_max=4)
WINDOW = 4
"""Less than the table's own, so that there are fewer steps and more schedules."""
HOME = 62
"""Near the end: windows wrap round."""
STEPS_MAX = 4_000
"""Of one operation. Each attempt robs, helps or finds; with two spins a hundred of them would be far too many."""
INCREMENT, CAPACITY = 10, 25
TERM = (INCREMENT, CAPACITY, LIMIT_CLOSED)
FAR = 1 << 50
KEYS: list[Key] = [(HOME + 64 * number, number) for number in range(1, 4)]


@pytest.fixture(autouse=True)
def _short_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT_SPINS", 2)
    monkeypatch.setattr(limits, "LIMIT_WINDOW", WINDOW)


class Table:
    """A table with few vacant places in the window of all keys, and what must hold of it."""

    def __init__(self, vacant: int) -> None:
        self.cells: Any = open_on("twin", memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
        assert isinstance(self.cells, twin.Cells)
        self.limits: limits.Limits = self.cells._limits
        self.first = GEOMETRY.limits_offset // 8
        for step in range(WINDOW - vacant):
            at = self.first + (HOME + step) % 64 * LIMIT_WORDS
            for offset, word in enumerate((1 << 60 | step, 7, FAR + step)):
                self.cells._words[at + offset] = word
        self.highest: dict[int, int] = {}
        self.owner: dict[int, Key] = {}
        self.check()

    def entries(self) -> list[tuple[Key, int]]:
        places = [self.first + (HOME + step) % 64 * LIMIT_WORDS for step in range(WINDOW)]
        words = self.cells._words
        return [((words[at], words[at + 1]), words[at + 2]) for at in places]

    def check(self) -> None:
        visible: dict[Key, int] = {}
        for index, (key, tat) in enumerate(self.entries()):
            if tat == 0 or tat & LIMIT_BUSY:
                continue
            if self.owner.get(index, key) != key and not tat & LIMIT_VOID:
                assert tat > self.highest[index], f"{tat} came again in entry {index}"
            self.highest[index] = max(self.highest.get(index, 0), tat & TIME_MASK)
            if tat & LIMIT_VOID:
                continue
            self.owner[index] = key
            assert key not in visible, f"{key} is in entries {visible[key]} and {index}"
            visible[key] = index

    def held(self) -> int:
        guards = self.cells._words[GEOMETRY.guard(0) // 8 : GEOMETRY.guard(64) // 8].tolist()
        return sum(tat & LIMIT_BUSY != 0 for _, tat in self.entries()) + sum(guard != 0 for guard in guards)

    def charge(self, slot: int, now: int, *keys: Key) -> Steps[Any]:
        return self.limits.charge(slot, now, list(keys), [TERM] * len(keys))


def advance(table: Table, steps: Steps[Any], count: int) -> tuple[bool, Any]:
    """So many steps of one operation, looked at after each: whether it ended, and its answer."""
    for _ in range(count):
        try:
            next(steps)
        except StopIteration as end:
            table.check()
            return True, end.value
        table.check()
    return False, None


def run(table: Table, steps: Steps[Any]) -> Any:
    ended, answer = advance(table, steps, STEPS_MAX)
    assert ended, "it waits for somebody"
    return answer


NOW = 1000 * LIMIT_GRACE_NS
PREPARED = {
    "an empty place": (lambda table: None, 2),
    "an expired bucket of its own": (lambda table: finish(table.charge(4, 1, KEYS[0])), 2),
    "an expired bucket of another": (lambda table: finish(table.charge(4, 1, KEYS[2])), 1),
    "a live bucket": (lambda table: finish(table.charge(4, NOW - 5, KEYS[0])), 2),
    "the last place": (lambda table: None, 1),
    "no place": (lambda table: None, 0),
}
FIRST = {
    "a charge": lambda table, now: table.charge(0, now, KEYS[0]),
    "a charge of two": lambda table, now: table.charge(0, now, KEYS[0], KEYS[1]),
    "a charge that is given back": lambda table, now: table.charge(0, now, KEYS[0], KEYS[0], KEYS[0]),
    "a reset": lambda table, now: table.limits.reset(now, KEYS[0]),
}
SECOND = {
    "a charge of the same": lambda table, now: table.charge(1, now, KEYS[0]),
    "a charge of another": lambda table, now: table.charge(1, now, KEYS[1]),
    "a reset of the same": lambda table, now: table.limits.reset(now, KEYS[0]),
    "one that is given back": lambda table, now: table.charge(1, now, KEYS[0], KEYS[1], KEYS[0], KEYS[0]),
    "one of the expired that is given back": lambda table, now: table.charge(1, now, KEYS[2], KEYS[2], KEYS[2]),
}


@pytest.mark.parametrize("prepared", PREPARED)
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("fate", ["stops and goes on", "dies", "stops for long", "dies and is reaped late"])
def test_one_is_cut_off_before_every_step_and_the_other_comes_through(
    prepared: str, first: str, second: str, fate: str
) -> None:
    prepare, vacant = PREPARED[prepared]
    for count in range(STEPS_MAX):
        table = Table(vacant)
        prepare(table)
        later = NOW + (50 * LIMIT_GRACE_NS if fate == "stops for long" else 0)
        one = FIRST[first](table, NOW)
        ended, _ = advance(table, one, count)
        if fate == "dies":
            one.close()
            run(table, table.limits.reap(0))
            assert table.held() == 0
        run(table, SECOND[second](table, later))
        if fate != "stops and goes on":  # else it would always find its guard taken
            third = run(table, table.charge(2, later, KEYS[0]))
            assert third[0] in (ADMITTED, REFUSED, FULL)
        if fate == "dies and is reaped late":
            one.close()
            run(table, table.limits.reap(0))
        if not ended and fate.startswith("stops"):
            run(table, one)
        run(table, table.limits.reap(0))
        assert table.held() == 0
        # All buckets are full after a while, and a place is found if there ever was one.
        outcome = run(table, table.charge(2, later + 10 * LIMIT_GRACE_NS, KEYS[0]))[0]
        assert outcome == (ADMITTED if vacant else FULL)
        if ended:
            return
    raise AssertionError("it does not end")


def test_an_entry_that_was_reset_is_given_to_nobody_before_its_time() -> None:
    """Else its next key could reach a value that somebody still remembers of the one before."""
    table, long = Table(1), (1000 * LIMIT_GRACE_NS, 2500 * LIMIT_GRACE_NS, LIMIT_CLOSED)

    def outcome(key: Key, grace: int) -> int:
        now = NOW + grace * LIMIT_GRACE_NS
        return int(run(table, table.limits.charge(0, now, [key], [long]))[0])

    assert [outcome(KEYS[0], 0) for _ in range(3)] == [ADMITTED, ADMITTED, REFUSED]
    assert run(table, table.limits.reset(NOW, KEYS[0]))
    assert [outcome(KEYS[1], grace) for grace in (50, 2001)] == [FULL, FULL]
    assert outcome(KEYS[1], 2002) == ADMITTED


@dataclass
class Actor:
    """A worker: its slot, what it is doing, since when, and whether it is stopped."""

    slot: int
    steps: Steps[Any] | None = None
    keys: tuple[Key, ...] = ()
    now: int = 0
    taken: int = 0
    is_stopped: bool = False
    is_reaping: bool = False


@dataclass
class Stage:
    """A random schedule, and what was admitted in it."""

    dice: random.Random
    table: Table
    actors: list[Actor]
    clock: int = NOW
    admitted: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    late: dict[Key, int] = field(default_factory=lambda: defaultdict(int))

    def step(self) -> None:
        actor = self.dice.choice(self.actors)
        chance = self.dice.random()
        if actor.steps is None:
            self.begin(actor)
        elif not actor.is_reaping and chance < 0.005:
            actor.steps.close()
            actor.steps, actor.is_reaping, actor.taken = self.table.limits.reap(actor.slot), True, 0
            actor.is_stopped = False
        elif chance < 0.01 and not actor.is_reaping:
            actor.is_stopped = not actor.is_stopped
        elif not actor.is_stopped:
            self.go_on(actor)
        if self.dice.random() < 0.05:
            self.let_time_pass()

    def begin(self, actor: Actor) -> None:
        actor.keys = tuple(self.dice.choices(KEYS, k=self.dice.choice((1, 1, 2, 3))))
        actor.now, actor.taken = self.clock, 0
        if self.dice.random() < 0.03:
            # A reset gives back what the bucket holds at most.
            self.late[actor.keys[0]] += CAPACITY
            actor.steps, actor.keys = self.table.limits.reset(actor.now, actor.keys[0]), ()
        else:
            actor.steps = self.table.charge(actor.slot, actor.now, *actor.keys)

    def go_on(self, actor: Actor) -> None:
        assert actor.steps is not None
        actor.taken += 1
        assert actor.taken < STEPS_MAX, "it waits for somebody"
        ended, answer = advance(self.table, actor.steps, 1)
        if not ended:
            return
        if actor.keys and not actor.is_reaping and answer[0] == ADMITTED:
            for key in actor.keys:
                if self.clock - actor.now >= LIMIT_GRACE_NS:
                    self.late[key] += INCREMENT
                else:
                    self.admitted[key].append(actor.now)
        actor.steps, actor.is_reaping = None, False

    def let_time_pass(self) -> None:
        """Seldom by more than the grace, and then nobody who is not stopped is at work with an older time."""
        pace = self.dice.choice((1, 3, 10, 10, LIMIT_GRACE_NS * 2))
        for actor in self.actors if pace >= LIMIT_GRACE_NS else []:
            while actor.steps and not actor.is_stopped:
                self.go_on(actor)
        self.clock += pace

    def finish(self) -> None:
        for actor in self.actors:
            actor.is_stopped = False
            while actor.steps:
                self.go_on(actor)
        assert self.table.held() == 0
        for key, times in self.admitted.items():
            times.sort()
            for since, until in combinations_with_replacement(range(len(times)), 2):
                spent = (until - since + 1) * INCREMENT
                assert spent <= times[until] - times[since] + CAPACITY + self.late[key], "more than the limit"


@pytest.mark.parametrize("seed", range(60))
def test_random_schedules_admit_no_more_than_the_limit_and_nobody_waits(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(5):
        actors = [Actor(slot) for slot in range(dice.choice((2, 3, 4)))]
        stage = Stage(dice, Table(dice.choice((0, 1, 1, 2, 3))), actors)
        for _ in range(600):
            stage.step()
        stage.finish()


def test_a_schedule_does_what_it_is_for() -> None:
    """The schedules above do rob, help, void and reclaim; else they would prove nothing."""
    robbed = reclaimed = voided = 0
    for seed in range(30):
        dice = random.Random(seed)
        stage = Stage(dice, Table(2), [Actor(slot) for slot in range(4)])
        for _ in range(600):
            stage.step()
            voided += any(tat & (LIMIT_VOID | LIMIT_BUSY) == LIMIT_VOID for _, tat in stage.table.entries())
        at = [GEOMETRY.slot(slot) + limits.SLOT.offset("counters") for slot in range(5)]
        robbed += sum(stage.table.cells.load(place + limits.Counter.LIMITS_STOLEN * 8) for place in at)
        reclaimed += sum(stage.table.cells.load(place + limits.Counter.LIMITS_RECLAIMED * 8) for place in at)
    assert min(robbed, reclaimed, voided) > 10, (robbed, reclaimed, voided)
