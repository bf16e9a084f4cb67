"""Splits: shares by weight, the same upstream for the same key, and nobody moves who need not."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.plan import Endpoint, Share, Split, Upstream
from sentinel.core.request import Request
from sentinel.core.split import BITS, Branch, Splitter
from sentinel.core.world import World
from tests.core.test_limits import request

COUNT = 20_000


class Dice:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def chance(self) -> int:
        return self._random.getrandbits(64)


DICE = cast(World, Dice())


def splitter(*weights: int, **settings: Any) -> Splitter:
    names = [f"u{number}" for number in range(len(weights))]
    upstreams = {name: Upstream(name, (Endpoint("127.0.0.1", 80),)) for name in names}
    shares = tuple(Share(name, weight) for name, weight in zip(names, weights, strict=True))
    return Splitter(Split(shares, **({"key": ("header:x",)} | settings)), upstreams)


REQUESTS: list[Request] = [request(headers=(("x", f"user {number}"),)) for number in range(COUNT)]


def homes(found: Splitter) -> list[str]:
    return [found.choose(one, DICE).upstream.name for one in REQUESTS]


@pytest.mark.parametrize("key", [("header:x",), ()])
@pytest.mark.parametrize("weights", [(1, 1), (95, 5), (1, 2, 3, 4), (999, 1)])
def test_each_upstream_gets_its_share(weights: tuple[int, ...], key: tuple[str, ...]) -> None:
    counts = Counter(homes(splitter(*weights, key=key)))
    for index, weight in enumerate(weights):
        expected = COUNT * weight / sum(weights)
        deviation = (expected * (1 - weight / sum(weights))) ** 0.5
        assert abs(counts[f"u{index}"] - expected) <= 4 * deviation


def test_a_key_stays_where_it_is_and_a_new_splitter_knows_it() -> None:
    assert homes(splitter(3, 2, 1)) == homes(splitter(3, 2, 1))


def test_a_canary_that_grows_takes_from_others_and_gives_nothing_back() -> None:
    before, after = homes(splitter(60, 35, 5)), homes(splitter(60, 35, 10))
    assert all(now in (was, "u2") for was, now in zip(before, after, strict=True))
    assert all(now == "u2" for was, now in zip(before, after, strict=True) if was == "u2")


def test_one_that_is_given_no_weight_gets_nothing_and_the_others_keep_theirs() -> None:
    before, after = homes(splitter(60, 35, 5)), homes(splitter(60, 35, 0))
    assert "u2" not in after
    assert all(now == was for was, now in zip(before, after, strict=True) if was != "u2")


@given(st.lists(st.integers(0, 5), min_size=2, max_size=5).filter(any), st.text(max_size=9))
def test_whoever_is_chosen_has_a_weight(weights: list[int], value: str) -> None:
    found = splitter(*weights)
    branch = found.choose(request(headers=(("x", value),)), DICE)
    assert branch.weight == weights[int(branch.upstream.name[1:])] > 0
    assert branch.step[2] == (branch.upstream.name, branch.weight, sum(weights))


def test_the_largest_number_that_is_drawn_is_still_below_one() -> None:
    assert ((1 << BITS) - 0.5) / (1 << BITS) < 1
    assert Branch(Upstream("u", ()), 1_000_000, splitter(1, 1).steps[0]).score(b"") > 0
