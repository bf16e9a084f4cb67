"""What is given back of a charge later: never more than time has left of it, whoever else gives back, or dies.

The yardstick is the bucket as it would be had each request been charged what it took, when it was admitted.
"""

from __future__ import annotations

import random
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm import limits, twin
from shm.cells import Cells
from shm.layout import LIMIT_CLOSED, Geometry
from shm.limits import ADMITTED, REFUSED, Key, Steps
from tests.shm.implementations import IMPLEMENTATIONS, open_on

GEOMETRY = Geometry(slots_max=4, series_max=2, journal_records=1, limits_max=64, places_max=4)
SECOND = 1_000_000_000
NOW = 1000 * SECOND
CAPACITY = 100
Mark = tuple[int, int, int]


@pytest.fixture(params=IMPLEMENTATIONS)
def cells(request: pytest.FixtureRequest) -> Iterator[Cells]:
    cells = open_on(request.param, memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
    yield cells
    cells.release()


def term(amount: int, capacity: int = CAPACITY, flags: int = LIMIT_CLOSED) -> bytes:
    return array("Q", (amount, capacity, flags)).tobytes()


def charged(cells: Cells, amount: int, now: int = NOW, key: bytes = b"a") -> tuple[int, int, Mark]:
    outcome, _, used, place, end, shift = cells.charge_marked(0, now, (key,), term(amount))
    return outcome, used, (place, end, shift)


def used(cells: Cells, now: int = NOW, key: bytes = b"a") -> int:
    return max(0, cells.peek(now, key) - now)


def test_what_was_not_taken_can_be_taken_by_others(cells: Cells) -> None:
    outcome, in_use, mark = charged(cells, 80)
    assert (outcome, in_use, mark[1]) == (ADMITTED, 80, NOW + 80)
    assert charged(cells, 30)[0] == REFUSED
    assert cells.give_back(0, NOW, b"a", mark, 50) == 50
    assert used(cells) == 30 and charged(cells, 70)[0] == ADMITTED and charged(cells, 1)[0] == REFUSED


def test_time_has_filled_the_bucket_first(cells: Cells) -> None:
    mark = charged(cells, 80)[2]
    assert cells.give_back(0, NOW + 60, b"a", mark, 50) == 20, "the rest is full again already"
    assert used(cells, NOW + 60) == 0
    mark = charged(cells, 80, NOW + 100)[2]
    assert charged(cells, 90, NOW + 200)[0] == ADMITTED
    assert cells.give_back(0, NOW + 200, b"a", mark, 80) == 0, "another one's is not given back"


def test_what_an_earlier_one_gave_back_has_moved_the_later_ones(cells: Cells) -> None:
    first, second = charged(cells, 50)[2], charged(cells, 50)[2]
    assert cells.give_back(0, NOW + 10, b"a", first, 50) == 40
    assert used(cells, NOW + 10) == 50, "the second alone, which has only begun"
    assert charged(cells, 100, NOW + 60)[0] == ADMITTED
    assert cells.give_back(0, NOW + 61, b"a", second, 50) == 0, "its part was over at 60, and not at 100"


def test_nothing_comes_back_of_what_was_reset_or_never_charged(cells: Cells) -> None:
    mark = charged(cells, 80)[2]
    assert cells.reset(NOW, b"a") and charged(cells, 80)[0] == ADMITTED
    assert cells.give_back(0, NOW, b"a", mark, 80) == 0
    assert cells.give_back(0, NOW, b"b", mark, 80) == 0, "a key that is not there"
    watched = array("Q", (101, CAPACITY, limits.LIMIT_OBSERVE)).tobytes()
    outcome, _, _, *none = cells.charge_marked(0, NOW, (b"c",), watched)
    assert (outcome, none) == (ADMITTED, [0, 0, 0]) and cells.give_back(0, NOW, b"c", (0, 0, 0), 80) == 0


def test_of_several_all_are_marked_or_none(cells: Cells) -> None:
    both = term(80) + term(10)
    outcome, index, *words = cells.charge_marked(0, NOW, (b"a", b"b"), both)
    assert (outcome, index, words[:2]) == (ADMITTED, -1, [80, 10]) and (words[3], words[6]) == (NOW + 80, NOW + 10)
    outcome, index, *words = cells.charge_marked(0, NOW, (b"b", b"a"), term(10) + term(80))
    assert (outcome, index, words[:2], words[2:]) == (REFUSED, 1, [10, 80], [0] * 6)


def test_what_was_taken_beyond_is_charged_whatever_the_capacity(cells: Cells) -> None:
    charged(cells, 80)
    assert cells.take_more(0, NOW, b"a", 50) == 50 and used(cells) == 130
    assert charged(cells, 1, NOW + 30)[0] == REFUSED and charged(cells, 1, NOW + 31)[0] == ADMITTED
    assert cells.take_more(0, NOW, b"new", 7) == 7 and used(cells, NOW, b"new") == 7
    most = (1 << 60) - 1
    assert cells.take_more(0, NOW, b"a", most) and cells.take_more(0, NOW, b"a", most) == 0, "no time beyond the marks"
    assert cells.peek(NOW, b"a") == NOW + most
    with pytest.raises(ValueError, match="out of bounds"):
        cells.take_more(0, NOW, b"a", 1 << 61)


@pytest.mark.parametrize("mark", [(1, 2), [1, 2, 3], (1, 2, -1), (1, 2, "3")])
def test_what_is_no_mark_is_refused(cells: Cells, mark: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        cells.give_back(0, NOW, b"a", mark, 1)


EVENTS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 90), st.integers(0, 90), st.integers(0, 3)), min_size=1, max_size=40
)
"""So much time passes, so much is charged, of which so much is taken, and so many wait before one is settled."""


def settled_at(history: list[tuple[int, int]]) -> int:
    """The tat had each been charged what it took, when it was admitted."""
    tat = 0
    for moment, amount in history:
        tat = max(tat, moment) + amount
    return tat


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=150, deadline=None)
@given(events=EVENTS)
def test_a_bucket_is_never_emptier_than_if_each_had_been_charged_what_it_took(
    implementation: str, events: list[tuple[int, int, int, int]]
) -> None:
    cells = open_on(implementation, memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
    now, history, waiting = NOW, [], []  # type: ignore[var-annotated]
    for pause, amount, taken, patience in events:
        now += pause
        outcome, _, mark = charged(cells, amount, now)
        if outcome == ADMITTED:
            history.append((now, amount))
            waiting.append((len(history) - 1, amount, min(taken, amount), mark))
        if len(waiting) > patience:
            at, whole, less, mark = waiting.pop(0 if amount % 2 else -1)
            back = cells.give_back(0, now, b"a", mark, whole - less)
            assert 0 <= back <= whole - less
            history[at] = (history[at][0], less)
        assert used(cells, now) >= settled_at(history) - now
    cells.release()


@settings(max_examples=150, deadline=None)
@given(events=EVENTS)
def test_both_implementations_do_the_same(events: list[tuple[int, int, int, int]]) -> None:
    regions = [bytearray(GEOMETRY.size_bytes) for _ in IMPLEMENTATIONS]
    both = [open_on(one, memoryview(region), GEOMETRY) for one, region in zip(IMPLEMENTATIONS, regions, strict=True)]
    now, marks = NOW, [[] for _ in both]  # type: ignore[var-annotated]
    for pause, amount, taken, kind in events:
        now += pause
        key = b"%d" % (taken % 3)
        for cells, mine in zip(both, marks, strict=True):
            if kind < 2:
                mine.append((key, charged(cells, amount, now, key)))
            elif kind == 2 and mine:
                of, (_, _, mark) = mine[taken % len(mine)]
                mine.append((key, (0, cells.give_back(0, now, of, mark, amount), (0, 0, 0))))
            else:
                mine.append((key, (0, cells.take_more(0, now, key, amount), (0, 0, 0))))
        assert all(one == marks[0] for one in marks) and all(region == regions[0] for region in regions)
    for cells in both:
        cells.release()


# One step at a time.

KEYS: list[Key] = [(62 + 64 * number, number) for number in (1, 2)]
INCREMENTS = (5, 20, 40)


@dataclass
class Actor:
    """A worker: charges, and gives some of it back a while later; it may be stopped, or die at any step."""

    slot: int
    steps: Steps[Any] | None = None
    then: Any = None
    key: Key = KEYS[0]
    now: int = 0
    charge: list[int] | None = None
    mark: Mark = (0, 0, 0)


@dataclass
class Stage:
    dice: random.Random
    limits: limits.Limits
    actors: list[Actor]
    clock: int = NOW
    taken: dict[Key, list[list[int]]] = field(default_factory=lambda: defaultdict(list))
    """Of each key: when, and how much, at most."""
    given: int = 0

    def step(self) -> None:
        actor = self.dice.choice(self.actors)
        if self.dice.random() < 0.1:
            self.clock += self.dice.choice((1, 5, 5, 30))
        if actor.steps is None:
            self.begin(actor)
            return
        if self.dice.random() < 0.01:  # it dies; what it had charged stays charged
            actor.steps.close()
            limits.finish(self.limits.reap(actor.slot))
            actor.steps = actor.charge = None
            return
        try:
            next(actor.steps)
        except StopIteration as end:
            actor.steps = None
            actor.then(actor, end.value)

    def begin(self, actor: Actor) -> None:
        actor.now = self.clock
        if actor.charge is None:
            actor.key, amount = self.dice.choice(KEYS), self.dice.choice(INCREMENTS)
            actor.steps = self.limits.charge(
                actor.slot, actor.now, [actor.key], [(amount, CAPACITY, LIMIT_CLOSED)], is_marked=True
            )
            actor.then = lambda actor, answer: self.charged(actor, amount, answer)
        elif self.dice.random() < 0.3:
            moment, amount = actor.charge
            back = self.dice.randrange(amount + 1)
            actor.steps = self.limits.give_back(actor.now, actor.key, actor.mark, back)
            actor.charge[1] = amount - back  # it took this much, whatever was given back
            actor.then = self.returned
            assert moment <= actor.now

    def charged(self, actor: Actor, amount: int, answer: tuple[int, ...]) -> None:
        outcome, _, _, *mark = answer
        if outcome == ADMITTED:
            actor.charge, actor.mark = [actor.now, amount], (mark[0], mark[1], mark[2])
            self.taken[actor.key].append(actor.charge)

    def returned(self, actor: Actor, back: int) -> None:
        self.given += back
        actor.charge = None


def play(seed: int) -> Stage:
    dice = random.Random(seed)
    cells = open_on("twin", memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
    assert isinstance(cells, twin.Cells)
    stage = Stage(dice, cells._limits, [Actor(slot) for slot in range(4)])
    for _ in range(1500):
        stage.step()
    return stage


@pytest.mark.parametrize("seed", range(40))
def test_random_schedules_never_take_more_than_the_rate_and_the_burst(seed: int) -> None:
    stage = play(seed)
    for moments in stage.taken.values():
        moments.sort()
        sums = [0]
        for _, amount in moments:
            sums.append(sums[-1] + amount)
        for since, until in combinations_with_replacement(range(len(moments)), 2):
            spent = sums[until + 1] - sums[since]
            # Who reads the clock and charges a moment later may be that much early (the clock moves by steps of 30).
            assert spent <= moments[until][0] - moments[since][0] + CAPACITY, "more than the limit"


def test_the_schedules_do_give_back() -> None:
    assert sum(play(seed).given for seed in range(5)) > 300
