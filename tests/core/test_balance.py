"""Turns are fair, smooth, and count nobody who may not be tried."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.balance.turns import smooth_round_robin, weighted_choice

WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def test_turns_are_spread_as_in_the_essay() -> None:
    purse = [0, 0, 0]
    turns = [smooth_round_robin(purse, (5, 1, 1), (0, 1, 2)) for _ in range(7)]
    assert turns == [0, 0, 1, 0, 2, 0, 0]
    assert purse == [0, 0, 0]


@given(WEIGHTS)
def test_a_full_round_gives_everybody_his_weight_and_squares_the_purse(weights: list[int]) -> None:
    purse = [0] * len(weights)
    turns = Counter(smooth_round_robin(purse, weights, range(len(weights))) for _ in range(sum(weights)))
    assert [turns[index] for index in range(len(weights))] == weights
    assert purse == [0] * len(weights)


@given(WEIGHTS, st.data())
def test_who_is_left_out_neither_earns_nor_pays(weights: list[int], data: st.DataObject) -> None:
    allowed = data.draw(st.lists(st.sampled_from(range(len(weights))), unique=True))
    purse = [0] * len(weights)
    chosen = smooth_round_robin(purse, weights, allowed)
    assert chosen in allowed if allowed else chosen == -1
    assert all(purse[index] == 0 for index in range(len(weights)) if index not in allowed)
    assert sum(purse) == 0


@given(WEIGHTS)
def test_a_number_falls_on_each_in_proportion(weights: list[int]) -> None:
    falls = Counter(weighted_choice(number, weights, range(len(weights))) for number in range(sum(weights)))
    assert [falls[index] for index in range(len(weights))] == weights


def test_nobody_is_chosen_among_none() -> None:
    assert smooth_round_robin([0], [1], ()) == -1
    assert weighted_choice(7, [1], ()) == -1
    assert weighted_choice(7, [0], (0,)) == -1
