"""Budgets: the native ones are their twin, no interleaving passes a limit, and deaths neither lose nor invent.

The twin's operations stop before each access to shared memory, so a schedule is a sequence of slots, and a death may
come between any two. Beside the table a plain sum is kept of what was granted and what was settled.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shm import budgets as module
from shm import leases, limits, twin
from shm.budgets import Budgets
from shm.cells import Cells
from shm.layout import (
    BUDGET_AMOUNT_MAX,
    BUDGET_UNCOUNTED,
    HEADER,
    LIMIT,
    LIMIT_BUSY,
    LIMIT_CLOSED,
    LIMIT_GRACE_NS,
    LIMIT_OBSERVE,
    LIMIT_VOID,
    SLOT,
    WORD,
    Geometry,
)  # fmt: skip
from shm.limits import ADMITTED, FULL, LIMIT_WORDS, REFUSED, Key, Steps, finish
from shm.region import Counter, Region, Role
from tests.shm.implementations import IMPLEMENTATIONS, NEEDS_NATIVE, SMALL, open_on
from tests.shm.test_cells import outcome
from tests.shm.test_processes import ended, in_child

GEOMETRY = Geometry(slots_max=5, series_max=2, journal_records=1, limits_max=64, places_max=4, budgets_max=64)
NOW = 1000 * LIMIT_GRACE_NS
MONTH = 100 * LIMIT_GRACE_NS
USED = HEADER.offset("slots_used")


def term(amount: int, limit: int, *, until: int = NOW + MONTH, flags: int = LIMIT_CLOSED) -> bytes:
    return struct.pack("=4Q", until, amount, limit, flags)


def cells_on(implementation: str) -> Cells:
    cells = open_on(implementation, memoryview(bytearray(SMALL.size_bytes)))
    cells.store(USED, SMALL.slots_max)
    return cells


def counted(cells: Cells, slot: int, counter: Counter) -> int:
    return cells.load(SMALL.slot(slot) + SLOT.offset("counters") + counter * WORD)


# What is promised, by example.


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_budget_is_of_all_slots_and_what_was_not_spent_is_there_again(implementation: str) -> None:
    cells = cells_on(implementation)
    assert cells.reserve(0, NOW, (b"a",), term(60, 100))[:3] == (ADMITTED, -1, 60)
    outcome, index, used, lease = cells.reserve(1, NOW, (b"a",), term(60, 100))
    assert (outcome, index, used, lease) == (REFUSED, 0, 60, BUDGET_UNCOUNTED)
    lease = cells.reserve(1, NOW, (b"a",), term(40, 100))[3]
    assert cells.spent(b"a") == (0, 100, 0)
    assert cells.settle(1, lease, 10, 40, 1)
    assert cells.spent(b"a") == (10, 60, 1)
    assert cells.reserve(2, NOW, (b"a",), term(30, 100))[:3] == (ADMITTED, -1, 100)
    assert cells.spent(b"b") == (0, 0, 0), "another key's is another budget"
    assert (counted(cells, 1, Counter.BUDGETS_REFUSED), counted(cells, 1, Counter.BUDGETS_RESERVED)) == (1, 1)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_all_levels_are_charged_or_none(implementation: str) -> None:
    cells = cells_on(implementation)
    cells.reserve(0, NOW, (b"team",), term(95, 100))
    levels = (b"organisation", b"team", b"user")
    answer = cells.reserve(0, NOW, levels, term(10, 1000) + term(10, 100) + term(10, 100))
    assert answer[:5] == (REFUSED, 1, 10, 95, 0)
    assert answer[5:] == (BUDGET_UNCOUNTED,) * 3
    assert [cells.spent(level)[1] for level in levels] == [0, 95, 0]
    answer = cells.reserve(0, NOW, levels, term(5, 1000) + term(5, 100) + term(5, 100))
    assert answer[:5] == (ADMITTED, -1, 5, 100, 5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_stream_settles_piece_by_piece_and_extends(implementation: str) -> None:
    cells = cells_on(implementation)
    lease = cells.reserve(0, NOW, (b"a",), term(10, 30))[3]
    for _ in range(9):
        assert cells.settle(0, lease, 1, 1, 0)
    assert cells.spent(b"a") == (9, 1, 0)
    assert cells.extend(0, lease, 20, 30) == (ADMITTED, 30)
    assert cells.extend(0, lease, 1, 30) == (REFUSED, 30)
    assert cells.settle(0, lease, -2, 21, 1), "it was counted too high"
    assert cells.spent(b"a") == (7, 0, 1)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_death_leaves_what_was_settled_and_frees_what_was_open(implementation: str) -> None:
    cells = cells_on(implementation)
    lease = cells.reserve(0, NOW, (b"a",), term(50, 100))[3]
    cells.settle(0, lease, 20, 20, 0)
    cells.budgets_reap(0)
    cells.budgets_reap(0)
    assert cells.spent(b"a") == (20, 0, 0)
    assert cells.reserve(0, NOW, (b"a",), term(80, 100))[0] == ADMITTED, "the slot's next tenant"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_overdraft_is_counted_and_no_sum_wraps(implementation: str) -> None:
    cells = cells_on(implementation)
    lease = cells.reserve(0, NOW, (b"a",), term(10, 100))[3]
    assert cells.settle(0, lease, 25, 9, 0)
    assert counted(cells, 0, Counter.BUDGETS_OVERDRAWN) == 16
    assert cells.settle(0, lease, -1000, 0, 0)
    assert cells.spent(b"a") == (0, 1, 0), "less than nothing was never spent"
    for _ in range(3):
        assert cells.settle(0, lease, BUDGET_AMOUNT_MAX, 0, 0)
    assert cells.spent(b"a") == (BUDGET_AMOUNT_MAX, 1, 0)
    assert cells.reserve(1, NOW, (b"a",), term(1, BUDGET_AMOUNT_MAX))[0] == REFUSED


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_never_fits_takes_no_entry_and_who_only_observes_is_never_refused(implementation: str) -> None:
    cells = cells_on(implementation)
    assert cells.reserve(0, NOW, (b"a",), term(101, 100))[:3] == (REFUSED, 0, 0)
    assert cells.budgets_statistics() == (0, 0, 0, 0)
    assert cells.reserve(0, NOW, (b"a",), term(101, 100, flags=LIMIT_OBSERVE))[:3] == (ADMITTED, -1, 101)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_entry_goes_to_another_key_when_its_window_is_over_and_nothing_is_open(implementation: str) -> None:
    cells = cells_on(implementation)
    kept = cells.reserve(0, NOW, (b"kept",), term(10, 100))[3]
    late = cells.reserve(0, NOW, (b"late",), term(10, 100))[3]
    cells.settle(0, late, 7, 10, 1)
    flood = [cells.reserve(1, NOW, (b"%d" % number,), term(1, 9, flags=LIMIT_CLOSED))[0] for number in range(500)]
    assert FULL in flood and flood.count(ADMITTED) < SMALL.budgets_max
    assert cells.spent(b"late") == (7, 0, 1), "a window that lasts is never forgotten"
    assert cells.reserve(1, NOW, (b"one more",), term(1, 9, flags=0))[:4] == (ADMITTED, -1, 0, BUDGET_UNCOUNTED)
    cells.budgets_reap(1)
    later = NOW + 2 * MONTH
    for number in range(500):
        answer = cells.reserve(2, later, (b"next %d" % number,), term(1, 9, until=later + MONTH))
        if answer[0] == ADMITTED:
            cells.settle(2, answer[3], 1, 1, 1)
    assert cells.spent(b"kept") == (0, 10, 0), "somebody has something open there"
    assert cells.spent(b"late") == (0, 0, 0)
    assert not cells.settle(0, late, 1, 0, 0), "that window is another's entry"
    assert counted(cells, 0, Counter.BUDGETS_LATE) == 1
    assert cells.settle(0, kept, 5, 10, 1) and cells.spent(b"kept") == (5, 0, 1)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_was_spent_before_this_region_is_carried_over(implementation: str) -> None:
    cells = cells_on(implementation)
    assert cells.carry(0, NOW, b"a", NOW + MONTH, 90, 7)
    assert cells.spent(b"a") == (90, 0, 7)
    assert cells.reserve(1, NOW, (b"a",), term(11, 100))[0] == REFUSED
    lease = cells.reserve(1, NOW, (b"a",), term(10, 100))[3]
    cells.settle(1, lease, 10, 10, 1)
    assert cells.spent(b"a") == (100, 0, 8)


@pytest.mark.parametrize("length", [0, 1, 8, 159, 160, 161, 1000])
def test_an_entry_says_which_key_it_is(length: int) -> None:
    key = bytes(range(1, 251))[:length].ljust(length, b"x")
    memory = bytearray(SMALL.size_bytes)
    for implementation in ("native", "twin"):
        if implementation == "native" and not module_is_built():
            continue
        cells = open_on(implementation, memoryview(memory))
        cells.store(USED, 3)
        cells.settle(0, cells.reserve(0, NOW, (key,), term(5, 9))[3], 2, 5, 1)
        (view,) = open_on("twin", memoryview(memory))._budgets.views()  # type: ignore[attr-defined]
        assert (view.title, view.open) == (key[:160], 0)
        assert NOW + MONTH < view.until_ns < NOW + MONTH + 10
    assert view.settled == view.requests * 2


def module_is_built() -> bool:
    from tests.shm.implementations import NATIVE_IS_BUILT

    return NATIVE_IS_BUILT


# The native ones are their twin.

NAMES = st.integers(0, 80).map(lambda number: b"key %d" % number)
SLOTS = st.integers(0, 3)
WORDS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
TIMES = st.integers(0, 40).map(lambda step: step * LIMIT_GRACE_NS)
AMOUNTS = st.one_of(st.integers(0, 30), st.integers(0, 30), WORDS)
INDEXES = st.integers(0, SMALL.budgets_max - 1)
TABLE = st.one_of(
    st.integers(0, SMALL.budgets_max * LIMIT.size // WORD - 1).map(lambda word: SMALL.budget(0) + word * WORD),
    st.integers(0, 63).map(lambda guard: SMALL.budget_guards_offset + guard * WORD),
    st.tuples(st.integers(0, 2), INDEXES, st.integers(0, 3)).map(lambda at: SMALL.spending(*at[:2]) + at[2] * WORD),
    st.tuples(INDEXES, st.integers(0, 23)).map(lambda at: SMALL.title(at[0]) + at[1] * WORD),
)
FLAGS = st.sampled_from([0, LIMIT_CLOSED, LIMIT_OBSERVE, 3])
TERM = st.tuples(TIMES, AMOUNTS, AMOUNTS, FLAGS).map(lambda numbers: struct.pack("=4Q", *numbers))


def operation(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*arguments))


def reservation(names: Sequence[bytes], terms: Sequence[bytes]) -> tuple[tuple[bytes, ...], bytes]:
    return tuple(names), b"".join(terms)


RESERVATIONS = st.integers(0, 4).flatmap(
    lambda count: st.tuples(
        st.just("reserve"),  # of as many keys as terms
        st.tuples(SLOTS, TIMES, st.lists(NAMES, min_size=count, max_size=count),
                  st.lists(TERM, min_size=count, max_size=count))
        .map(lambda four: (four[0], four[1], *reservation(four[2], four[3]))),
    )
)  # fmt: skip
LEASES = st.one_of(st.tuples(st.just("last")), WORDS)
OPERATIONS = st.one_of(
    RESERVATIONS, RESERVATIONS, RESERVATIONS,
    operation("reserve", SLOTS, WORDS, st.one_of(NAMES, st.just(())), st.binary(max_size=40)),
    operation("extend", SLOTS, LEASES, AMOUNTS, AMOUNTS),
    operation("settle", SLOTS, LEASES, st.integers(-30, 30), AMOUNTS, st.integers(0, 1)),
    operation("settle", SLOTS, LEASES, st.integers(-(1 << 65), 1 << 65), AMOUNTS, WORDS),
    operation("carry", SLOTS, TIMES, NAMES, TIMES, AMOUNTS, AMOUNTS),
    operation("spent", NAMES), operation("spent", WORDS), operation("budgets_reap", SLOTS),
    operation("budgets_statistics"),
    operation("store", TABLE, st.one_of(WORDS, st.integers(0, 63).map(lambda bit: 1 << bit))),
)  # fmt: skip


@NEEDS_NATIVE
@settings(max_examples=400, deadline=None)
@given(st.lists(OPERATIONS, max_size=40))
def test_the_native_budgets_do_what_their_twin_does(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    memories = [bytearray(SMALL.size_bytes) for _ in range(2)]
    native, twins = open_on("native", memoryview(memories[0])), open_on("twin", memoryview(memories[1]))
    for cells in (native, twins):
        cells.store(USED, SMALL.slots_max)
    last = 0
    for name, arguments in calls:
        call = name, tuple(last if argument == ("last",) else argument for argument in arguments)
        answer = outcome(native, call)
        assert answer == outcome(twins, call), call
        if name == "reserve" and isinstance(answer, tuple) and len(answer) > 2 and answer[-1] != BUDGET_UNCOUNTED:
            last = answer[-1]
    native.release()
    twins.release()
    assert memories[0] == memories[1]


# A plain sum beside it.


class OneLedger(RuleBasedStateMachine):
    """One process, many slots, three keys, windows that pass: against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = cells_on("native" if module_is_built() else "twin")
        self.now = NOW
        self.settled: dict[bytes, int] = {}
        self.requests: dict[bytes, int] = {}
        self.open: list[list[Any]] = []  # slot, key, lease, amount

    def key(self, name: str) -> bytes:
        return f"{name}/{self.now // MONTH}".encode()

    def used(self, key: bytes) -> int:
        return self.settled.get(key, 0) + sum(one[3] for one in self.open if one[1] == key)

    @rule(slot=st.integers(0, 2), name=st.sampled_from("abc"), amount=st.integers(1, 40), limit=st.integers(20, 120))
    def reserve(self, slot: int, name: str, amount: int, limit: int) -> None:
        key, until = self.key(name), (self.now // MONTH + 1) * MONTH
        answer, _, used, lease = self.cells.reserve(slot, self.now, (key,), term(amount, limit, until=until))
        assert (answer == ADMITTED) == (self.used(key) + amount <= limit)
        if answer == ADMITTED:
            self.open.append([slot, key, lease, amount])
            assert used == self.used(key)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), amount=st.integers(1, 40), limit=st.integers(20, 120))
    def extend(self, data: st.DataObject, amount: int, limit: int) -> None:
        one = data.draw(st.sampled_from(self.open))
        answer, _ = self.cells.extend(one[0], one[2], amount, limit)
        assert (answer == ADMITTED) == (self.used(one[1]) + amount <= limit)
        one[3] += amount if answer == ADMITTED else 0

    @precondition(lambda self: self.open)
    @rule(data=st.data(), is_end=st.booleans(), spent=st.integers(-5, 50))
    def settle(self, data: st.DataObject, is_end: bool, spent: int) -> None:
        one = data.draw(st.sampled_from(self.open))
        released = one[3] if is_end else min(one[3] - 1, max(spent, 0))
        assert self.cells.settle(one[0], one[2], spent, released, int(is_end))
        # A row never holds less than nothing: with several rows that is more than the plain sum would be.
        before = self.cells.spent(one[1])[0]
        assert before >= max(0, self.settled.get(one[1], 0) + spent)
        self.settled[one[1]] = before
        one[3] -= released
        if is_end:
            self.requests[one[1]] = self.requests.get(one[1], 0) + 1
            self.open.remove(one)

    @rule(slot=st.integers(0, 2))
    def die(self, slot: int) -> None:
        self.cells.budgets_reap(slot)
        self.open = [one for one in self.open if one[0] != slot]

    @rule(steps=st.integers(1, 3))
    def wait(self, steps: int) -> None:
        self.now += steps * MONTH // 2

    @invariant()
    def agrees(self) -> None:
        for name in "abc":
            key = self.key(name)
            opened = sum(one[3] for one in self.open if one[1] == key)
            assert self.cells.spent(key) == (self.settled.get(key, 0), opened, self.requests.get(key, 0))


TestOneLedger = OneLedger.TestCase
TestOneLedger.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# One step at a time.

WINDOW, HOME, MOST, NAMES_COUNT = 3, 62, 10, 5
WEEK = 20 * LIMIT_GRACE_NS


def key_of(name: int, now: int) -> Key:
    """The window is part of the key; all keys have the same home."""
    number = now // WEEK * NAMES_COUNT + name + 1
    return HOME + 64 * number, number


class Stage:
    """A few slots that reserve and settle, stop, and die in the middle; and a table with too little room."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.cells: Any = open_on("twin", memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
        assert isinstance(self.cells, twin.Cells)
        self.table: Budgets = self.cells._budgets
        self.cells.store(USED, GEOMETRY.slots_max)
        self.now = NOW
        self.doing: dict[int, tuple[Key, int, Steps[Any]]] = {}
        self.settling: dict[int, tuple[list[Any], bool]] = {}  # what, and whether it is the end of it
        self.mine: dict[int, list[list[Any]]] = {slot: [] for slot in range(4)}  # key, lease, amount
        self.settled: dict[Key, int] = {}
        self.counts = {ADMITTED: 0, REFUSED: 0, FULL: 0}
        self.moved = 0
        self.owner: dict[int, Key] = {}

    def granted(self, key: Key) -> int:
        return sum(amount for mine in self.mine.values() for held, _, amount in mine if held == key)

    def step(self) -> None:
        slot = self.dice.randrange(4)
        if slot not in self.doing:
            if self.mine[slot] and self.dice.random() < 0.6:
                self.settle(slot)
            else:
                self.now += self.dice.choice((1, LIMIT_GRACE_NS))
                key, amount = key_of(self.dice.randrange(NAMES_COUNT), self.now), self.dice.randrange(1, 6)
                terms = [((self.now // WEEK + 1) * WEEK, amount, MOST, LIMIT_CLOSED)]
                self.doing[slot] = key, amount, self.table.reserve(slot, self.now, [(key, b"text %d" % key[1])], terms)
        else:
            for _ in range(self.dice.choice((1, 1, 3, 20))):
                if self.advance(slot):
                    break
        if self.dice.random() < 0.01:
            self.die(slot)
        self.check()

    def settle(self, slot: int) -> None:
        one = self.dice.choice(self.mine[slot])
        key, lease, amount = one
        is_end = self.dice.random() < 0.6
        spent = self.dice.randrange(amount + 1) if is_end else self.dice.randrange(amount)
        self.settling[slot] = one, is_end
        self.doing[slot] = key, spent, self.table.settle(slot, lease, spent, amount if is_end else spent, is_end)

    def advance(self, slot: int) -> bool:
        key, amount, steps = self.doing[slot]
        try:
            next(steps)
        except StopIteration as end:
            del self.doing[slot]
            if slot in self.settling:
                assert end.value, "its window is its own as long as something is open"
                self.has_settled(slot, key, amount)
                return True
            answer, _, used, lease = end.value
            self.counts[answer] += 1
            if answer == ADMITTED:
                assert amount <= used <= MOST
                self.mine[slot].append([key, lease, amount])
            return True
        return False

    def has_settled(self, slot: int, key: Key, spent: int) -> None:
        one, is_end = self.settling.pop(slot)
        self.settled[key] = self.settled.get(key, 0) + spent
        one[2] -= one[2] if is_end else spent
        if is_end:
            self.mine[slot].remove(one)

    def die(self, slot: int) -> None:
        key, spent, _ = self.doing.pop(slot, ((0, 0), 0, None))
        self.mine[slot].clear()
        finish(self.table.reap(slot))
        if self.settling.pop(slot, None):  # it had been written as spent, or not; one of the two
            settled, before = finish(self.table.spent(key))[0], self.settled.get(key, 0)
            assert settled in (before, before + spent)
            self.settled[key] = settled

    def check(self) -> None:
        words, first = self.cells._words, GEOMETRY.budgets_offset // WORD
        visible: dict[Key, int] = {}
        for step in range(WINDOW):
            index = (HOME + step) % 64
            at = first + index * LIMIT_WORDS
            tat, key = words[at + limits.TAT], (words[at], words[at + 1])
            if tat and not tat & (LIMIT_BUSY | LIMIT_VOID):
                assert visible.setdefault(key, index) == index, f"{key} is in two entries"
                self.moved += self.owner.get(index, key) != key
                self.owner[index] = key
        for key in {held for mine in self.mine.values() for held, _, _ in mine}:
            assert key in visible, f"{self.granted(key)} of {key} are granted, and it has no entry"
        for key in visible:
            settled, opened, _ = finish(self.table.spent(key))
            under_way = sum(self.doing[slot][1] for slot, (one, _) in self.settling.items() if one[0] == key)
            before = self.settled.get(key, 0)
            assert before <= settled <= before + under_way, "settled is what was settled, whoever died"
            assert opened + settled >= self.granted(key) + before, "nothing is seen less than it is"
            assert self.granted(key) + before <= MOST, f"{self.granted(key)} and {before} of {key}"


@pytest.fixture
def _short_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (limits, leases, module):
        monkeypatch.setattr(one, "LIMIT_SPINS", 2)
    monkeypatch.setattr(limits, "LIMIT_WINDOW", WINDOW)


@pytest.mark.usefixtures("_short_ways")
@pytest.mark.parametrize("seed", range(40))
def test_no_schedule_passes_the_limit_or_loses_what_was_settled(seed: int) -> None:
    stage = Stage(random.Random(seed))
    for _ in range(1500):
        stage.step()
    for slot in range(4):
        stage.die(slot)
    assert stage.table.totals()[1:] == (0, 0, 0), "nothing is reserved by the dead"


@pytest.mark.usefixtures("_short_ways")
def test_the_schedules_do_what_they_are_for() -> None:
    """They refuse, find no room, and give entries to other keys; else they would prove nothing."""
    stage = Stage(random.Random(7))
    for _ in range(20_000):
        stage.step()
    assert min(stage.counts.values()) > 20 and stage.moved > 20, (stage.counts, stage.moved)


def test_whoever_is_killed_while_he_carries_over_leaves_it_to_the_next_one_in_his_slot() -> None:
    """Control has no slot: it carries over with slot 0 before anybody has that, and reaps it first (Region.restore)."""
    for steps in range(1000):
        cells: Any = open_on("twin", memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
        table: Budgets = cells._budgets
        killed = table.carry(0, NOW, key_of(0, NOW), b"text", NOW + WEEK, 90, 7)
        is_done = next((True for _ in range(steps) if next(killed, "end") == "end"), False)
        killed.close()
        finish(table.reap(0))
        assert finish(table.spent(key_of(0, NOW))) in ((0, 0, 0), (90, 0, 7))
        assert finish(table.carry(0, NOW, key_of(0, NOW), b"text", NOW + WEEK, 90, 7))
        assert finish(table.carry(0, NOW, key_of(1, NOW), b"other", NOW + WEEK, 5, 1))
        cells.store(USED, 2)  # the first worker comes, and has that slot
        for slot in (0, 1):
            terms = [(NOW + WEEK, 5, 100, LIMIT_CLOSED)]
            answer = finish(table.reserve(slot, NOW, [(key_of(0, NOW), b"text")], terms))
            assert answer[0] == ADMITTED
        assert finish(table.spent(key_of(0, NOW))) == (90, 10, 7)
        assert finish(table.spent(key_of(1, NOW))) == (5, 0, 1)
        assert {view.title for view in table.views()} == {b"text", b"other"}
        assert cells.budgets_statistics()[3] == 0, "no entry is left half made"
        if is_done:
            return
    raise AssertionError("it never ends")


def test_a_reader_between_the_two_halves_of_settling_sees_too_much_and_never_too_little() -> None:
    cells: Any = open_on("twin", memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
    cells.store(USED, GEOMETRY.slots_max)
    lease = cells.reserve(0, NOW, (b"a",), term(50, 100))[3]
    for between, after in ((between, after) for between in range(12) for after in range(4)):
        steps, settling = cells._budgets.spent(cells._hash(b"a")), cells._budgets.settle(0, lease, 1, 1, False)
        for _ in range(between):
            next(steps)
        for _ in range(after):
            next(settling, None)
        settled, opened, _ = finish(steps)
        assert settled + opened >= 50
        while next(settling, True) is None:
            pass
        if cells.spent(b"a")[1] < 5:
            assert cells.extend(0, lease, 0, 100)[0] == ADMITTED
            lease = cells.reserve(0, NOW, (b"a",), term(40, 200))[3]


# Real processes.

TURNS = 3000
LIMIT_OF_ALL = 1000


def shop(region: Region, slot: int, begin: int, tally: memoryview) -> None:
    os.read(begin, 1)
    dice = random.Random(slot)
    for _ in range(TURNS):
        amount = dice.randrange(1, 400)
        answer, _, used, lease = region.reserve(slot, NOW, (b"all",), term(amount, LIMIT_OF_ALL))
        tally[answer] += 1
        if answer != ADMITTED:
            continue
        assert used <= LIMIT_OF_ALL
        region.settle(slot, lease, 1, 1, 0) if amount > 1 else None
        region.settle(slot, lease, -1 if amount > 1 else 0, amount - 1 if amount > 1 else amount, 1)
    tally[3] = 1


@NEEDS_NATIVE
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_any_number_of_processes_stay_within_one_budget(name: str, workers: int) -> None:
    region = Region.create(name, series_max=2, slots_max=12, journal_records=1, limits_max=64, budgets_max=64)
    begin, start = os.pipe()
    tallies = [memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q") for _ in range(workers)]
    slots = [region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0) for _ in tallies]
    children = [
        in_child(lambda slot=slot, mine=mine: shop(region, slot, begin, mine))  # type: ignore[misc]
        for slot, mine in zip(slots, tallies, strict=True)
    ]
    os.write(start, b"!" * workers)
    assert [ended(child) for child in children] == [0] * workers
    admitted, refused = (sum(tally[answer] for tally in tallies) for answer in (ADMITTED, REFUSED))
    assert admitted + refused == workers * TURNS
    assert region.spent(b"all") == (0, 0, admitted)
    for fd in (begin, start):
        os.close(fd)
    region.close()
