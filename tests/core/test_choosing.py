"""How endpoints are chosen: shares, who moves when one leaves, and what is told; with figures that may be expected."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.balance.chooser import Chooser
from sentinel.core.balance.hashing import Lookup, Maglev, Ring, is_within, key_of
from sentinel.core.balance.levels import (
    DRAIN,
    EJECTED,
    MAINTENANCE,
    OPEN,
    UNHEALTHY,
    UNRESOLVED,
    USABLE,
    WARMING,
    allowed,
)
from sentinel.core.balance.loads import TOKENS_MAX, least_request, lighter, lightest, quicker, two_of
from sentinel.core.balance.outliers import Marks, ejected_for_ns, outliers
from sentinel.core.balance.prefixes import mark_of
from sentinel.core.balance.reports import PER_FLIGHT, Report, least_load, loads_of, said
from sentinel.core.balance.rosters import serves
from sentinel.core.balance.sticky import Tag, Tags, set_cookie
from sentinel.core.balance.warming import SCALE, warmed
from sentinel.core.plan import Balance, Endpoint, HealthCheck, OutlierEjection, Sticky, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.span import NOWHERE
from sentinel.core.world import NO_WISH, Wish

KEYS = [key_of(b"key %d" % number) for number in range(20_000)]
NAMES = [f"10.0.0.{number}:80" for number in range(10)]
TABLES = [Maglev, Ring]


def everybody(index: int) -> bool:
    return True


def homes(table: Lookup, allows: Any = everybody) -> list[int]:
    return [table.find(key, allows) for key in KEYS]


# Hashing.


@pytest.mark.parametrize(("table", "off"), [(Maglev, 0.03), (Ring, 0.25)])
def test_keys_are_spread_by_weight(table: type[Maglev] | type[Ring], off: float) -> None:
    weights = [1, 1, 2, 1, 1, 1, 3, 1, 1, 1]
    counts = Counter(homes(table(NAMES, weights)))
    for index, weight in enumerate(weights):
        expected = len(KEYS) * weight / sum(weights)
        # Chance has its part too: four standard deviations of a count.
        assert abs(counts[index] - expected) < off * expected + 4 * expected**0.5


@pytest.mark.parametrize("table", TABLES)
def test_one_that_is_unusable_moves_only_its_own_keys(table: type[Maglev] | type[Ring]) -> None:
    found = table(NAMES, [1] * 10)
    before, after = homes(found), homes(found, lambda index: index != 3)
    assert all(now == was for was, now in zip(before, after, strict=True) if was != 3)
    spread = Counter(now for was, now in zip(before, after, strict=True) if was == 3)
    assert len(spread) == 9 and max(spread.values()) < 0.3 * sum(spread.values()), "nobody inherits them all"


@pytest.mark.parametrize(("table", "more"), [(Maglev, 0.03), (Ring, 0.0)])
def test_one_that_leaves_moves_few_others(table: type[Maglev] | type[Ring], more: float) -> None:
    before = [NAMES[index] for index in homes(table(NAMES, [1] * 10))]
    names = [name for name in NAMES if name != NAMES[3]]
    after = [names[index] for index in homes(table(names, [1] * 9))]
    moved = sum(was != now for was, now in zip(before, after, strict=True) if was != NAMES[3])
    assert moved <= more * len(KEYS)


@pytest.mark.parametrize("table", TABLES)
def test_the_order_of_the_file_and_the_process_mean_nothing(table: type[Maglev] | type[Ring]) -> None:
    turned = list(reversed(NAMES))
    one, other = table(NAMES, [1] * 10), table(turned, [1] * 10)
    if table is Ring:
        assert [NAMES[at] for at in homes(one)] == [turned[at] for at in homes(other)]
    assert NAMES[Maglev(NAMES, [1] * 10).find(key_of(b"known"), everybody)] == "10.0.0.2:80", "for ever"


@pytest.mark.parametrize("table", TABLES)
def test_only_who_is_allowed_is_found(table: type[Maglev] | type[Ring]) -> None:
    found = table(NAMES, [1000, *[1] * 9])
    assert {found.find(key, lambda index: index == 7) for key in KEYS[:500]} == {7}, "however small its share"
    assert {found.find(key, lambda index: False) for key in KEYS[:5]} == {-1}


def test_with_bounded_load_nobody_has_more_than_his_part() -> None:
    table, flights = Maglev(NAMES, [1] * 10), [0] * 10
    for key in [KEYS[0]] * 300 + KEYS[:700]:  # one hot key, and many others
        at = table.find(key, lambda index: is_within(index, 1250, flights, [1] * 10, range(10)))
        flights[at] += 1
    assert max(flights) <= 1.25 * 1000 / 10 + 1
    assert flights[table.find(KEYS[0], everybody)] > 0.9 * max(flights), "its own endpoint has nearly what it may"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1010, 5000))
def test_with_bounded_load_there_is_always_room_somewhere(flights: list[int], max_load: int) -> None:
    indices = range(len(flights))
    assert any(is_within(index, max_load, flights, [1] * len(flights), indices) for index in indices)


# Loads.


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=8), st.integers(0, 9), st.data())
def test_least_request_is_the_least(pairs: list[tuple[int, int]], start: int, data: st.DataObject) -> None:
    flights, weights = [one for one, _ in pairs], [two for _, two in pairs]
    may = data.draw(st.lists(st.sampled_from(range(len(pairs))), unique=True))
    at = least_request(flights, weights, may, start)
    if not may:
        assert at == -1
    else:
        assert at in may and (flights[at] + 1) / weights[at] <= min((flights[i] + 1) / weights[i] for i in may) + 1e-9


@given(
    st.lists(st.tuples(st.integers(0, TOKENS_MAX), st.integers(1, 5)), min_size=1, max_size=8), st.integers(0, 9),
    st.integers(1, TOKENS_MAX), st.data(),
)  # fmt: skip
def test_least_tokens_is_the_least_with_the_request_itself(
    pairs: list[tuple[int, int]], start: int, tokens: int, data: st.DataObject
) -> None:
    burdens, weights = [one for one, _ in pairs], [two for _, two in pairs]
    may = data.draw(st.lists(st.sampled_from(range(len(pairs))), unique=True))
    at = lightest(burdens, weights, may, start, tokens)
    if not may:
        assert at == -1
    else:
        shares = {i: Fraction(min(burdens[i] + tokens, TOKENS_MAX), weights[i]) for i in may}
        assert shares[at] == min(shares.values())


def test_by_tokens_no_endpoint_has_much_more_than_another_where_by_requests_one_has() -> None:
    """Requests of very unequal size that stay: ten thousand, on ten endpoints."""
    dice = random.Random(11)
    sizes = [int(min(dice.paretovariate(1.1) * 100, 128_000)) for _ in range(10_000)]
    by_tokens, requests, by_requests = [0] * 10, [0] * 10, [0] * 10
    for turn, size in enumerate(sizes):
        by_tokens[lightest(by_tokens, [1] * 10, range(10), turn, size)] += size
        at = least_request(requests, [1] * 10, range(10), turn)
        requests[at] += 1
        by_requests[at] += size
    mean = sum(sizes) / 10
    assert max(by_tokens) - min(by_tokens) <= max(sizes), "as near as the largest request"
    assert max(by_tokens) / mean < 1.05 < max(by_requests) / mean


# Reports.


def test_who_waits_outweighs_the_cache_and_the_cache_decides_where_nobody_waits() -> None:
    def first(*reports: Report | None, flights: tuple[int, ...] = (0, 0, 0)) -> int:
        return least_load(loads_of(reports, flights), [1] * len(reports), range(len(reports)), 0)

    assert first(Report(1, 0, 0), Report(0, 999, 0), Report(2, 0, 0)) == 1
    assert first(Report(0, 700, 0), Report(0, 650, 0), Report(0, 660, 0)) == 1
    assert first(Report(0, 700, 4), Report(0, 650, 4), Report(0, 660, 4), flights=(4, 5, 4)) == 2, "sent since then"
    assert first(Report(0, 700, 9), Report(0, 650, 4), Report(0, 660, 4), flights=(8, 4, 4)) == 0, "and over since then"
    assert first(None, None, None, flights=(3, 1, 2)) == 1, "where nobody reports: by what is in flight"


def test_who_does_not_report_is_neither_shunned_nor_flooded() -> None:
    reports = [Report(0, 300, 0), Report(0, 500, 0), None]
    flights, chosen = [0, 0, 0], Counter[int]()
    for turn in range(30):
        at = least_load(loads_of(reports, flights), [1, 1, 1], range(3), turn)
        flights[at] += 1
        chosen[at] += 1
    assert chosen[2] == 10 and chosen[0] == chosen[1] + 2, "its part, as of one with a cache between the others'"


def test_between_two_readings_nobody_is_stormed() -> None:
    """All workers see the same page for a second; what they send meanwhile makes up for it."""
    reports, flights = [Report(0, 100, 0), *[Report(0, 200 + 10 * at, 0) for at in range(9)]], [0] * 10
    for turn in range(200):
        flights[least_load(loads_of(reports, flights), [1] * 10, range(10), turn)] += 1
    assert max(flights) - min(flights) <= 2 and flights[0] == max(flights)
    flights = [0] * 10
    for turn in range(300):
        flights[least_load(loads_of(reports, flights), [2, *[1] * 9], range(10), turn)] += 1
    assert flights[0] in range(52, 60), "twice the weight, twice the part"


REPORTS = st.builds(Report, st.integers(0, 9), st.integers(0, 1000), st.integers(0, 9))


@given(st.lists(st.none() | REPORTS, min_size=1), st.data())
def test_a_load_is_never_below_nothing_and_grows_with_each_request(
    reports: list[Report | None], data: st.DataObject
) -> None:
    flights = data.draw(st.lists(st.integers(0, 20), min_size=len(reports), max_size=len(reports)))
    before, after = loads_of(reports, flights), loads_of(reports, [one + 1 for one in flights])
    assert all(0 <= one <= other <= one + PER_FLIGHT for one, other in zip(before, after, strict=True))


def test_loads_are_told_with_their_readings() -> None:
    upstream = upstream_of(1, 1, 1, balance=Balance("least-load"))
    stage = Stage(upstream)
    stage.said = [Report(2, 450, 0), Report(0, 820, 1), None]
    stage.under_way = [1, 3, 0]
    choice = Chooser(upstream).choose(stage, (), NO_WISH)
    assert choice.notes[-1] == (Reason.REPORTS_COMPARED, NOWHERE, (2, "2550:2:450", "1020:0:820", "1585:-"))
    assert said("2550:2:450") == "2550 (2 waiting, cache 45%)" and said("1585:-") == "1585 (no fresh reading)"


# Beginnings of prompts.


def test_a_mark_stays_while_a_conversation_grows_but_for_two_steps() -> None:
    system, turns = "You are a helpful assistant. " * 20, ["And then what happened? " * 12] * 100
    marks = [mark_of(["system", system, *turns[:count]]) for count in range(len(turns))]
    assert marks[0] == 0 and 0 not in marks[2:], "too short to be worth a way"
    assert len(set(marks)) == 4 and marks == sorted(marks, key=marks.index), "none, 1 KiB, 4 KiB, 16 KiB"
    assert marks[-1] == mark_of(["system", system, *turns, "something else", "x" * 10**6])
    assert mark_of(["system", system + "!", *turns]) != marks[-1]
    assert mark_of(["ab" * 600]) != mark_of(["ab", "ab" * 600]), "where a text ends belongs to it"
    assert mark_of(["\ud800" * 2000]) and mark_of(["é" * 512]) and mark_of([]) == 0


def prefixed(count: int, max_load: int = 1250) -> tuple[Upstream, Chooser, Stage]:
    upstream = upstream_of(*[1] * count, balance=Balance("prefix-affinity", max_load=max_load))
    return upstream, Chooser(upstream), Stage(upstream)


def test_when_an_endpoint_leaves_only_its_own_prompts_move_and_they_come_back() -> None:
    upstream, chooser, stage = prefixed(8)
    marks = KEYS[:4000]

    def owners() -> list[Endpoint | None]:
        return [chooser.choose(stage, (), Wish(mark=mark, tokens=10)).endpoint for mark in marks]

    before = owners()
    share = before.count(upstream.endpoints[3]) / len(marks)
    assert 0.7 / 8 < share < 1.4 / 8
    stage.codes = bytes([USABLE] * 3 + [UNHEALTHY] + [USABLE] * 4)
    moved = [one is not other for one, other in zip(before, owners(), strict=True)]
    assert moved == [one is upstream.endpoints[3] for one in before], f"{share:.1%} of all, and nobody else"
    stage.codes = bytes(8)
    assert owners() == before


def test_an_owner_over_its_part_is_passed_by_for_the_one_with_fewest_tokens() -> None:
    upstream, chooser, stage = prefixed(4)
    owner = chooser.choose(stage, (), Wish(mark=KEYS[0], tokens=100)).endpoint
    assert owner is not None
    at, least = upstream.endpoints.index(owner), (upstream.endpoints.index(owner) + 2) % 4
    stage.under_way = [1000] * 4
    stage.under_way[least] = 600
    followed = chooser.choose(stage, (), Wish(mark=KEYS[0], tokens=100))
    assert followed.endpoint is owner
    assert followed.notes == ((Reason.PREFIX_FOLLOWED, NOWHERE, (owner.name, 1000, 1250 * 3700 // 4000)),)
    stage.under_way[at] = 1400
    passed = chooser.choose(stage, (), Wish(mark=KEYS[0], tokens=100))
    assert passed.endpoint is upstream.endpoints[least]
    assert [(reason, details[:2]) for reason, _, details in passed.notes] == [
        (Reason.PREFIX_PASSED_BY, (owner.name, 1400)), (Reason.TOKENS_COMPARED, (least + 1, 100))
    ]  # fmt: skip
    unmarked = chooser.choose(stage, (), Wish(tokens=100))
    assert unmarked.endpoint is upstream.endpoints[least] and len(unmarked.notes) == 1


def test_one_prompt_for_all_drowns_nobody_and_few_move_for_it() -> None:
    """Half of the traffic begins alike. Ten endpoints, each with what it was sent; nothing ends."""
    upstream, chooser, stage = prefixed(10)
    hot, followed = KEYS[0], Counter[bool]()
    for turn in range(2000):
        mark = hot if turn % 2 else KEYS[turn]
        choice = chooser.choose(stage, (), Wish(mark=mark, tokens=100))
        assert choice.endpoint is not None
        stage.under_way[upstream.endpoints.index(choice.endpoint)] += 100
        if mark != hot:
            followed[choice.notes[0][0] is Reason.PREFIX_FOLLOWED] += 1
    assert max(stage.under_way) <= 1.25 * 20_000 + 100, "the bound, and the one request that was let in below it"
    assert followed[True] > 0.6 * 1000, "of those that begin otherwise most go where they belong"


# Chance.


def test_two_choices_keep_the_fullest_far_below_that_of_one() -> None:
    """Balls into bins: the gap over the mean is about ln n / ln ln n with one choice, ln ln n / ln 2 with two."""
    chance, count = random.Random(7), 100
    one, two = [0] * count, [0] * count
    for _ in range(10_000):
        drawn = two_of(chance.getrandbits(64), [1] * count, range(count))
        one[drawn[0]] += 1
        two[lighter(*drawn, two, [1] * count)] += 1
    assert max(one) - 100 > 15
    assert max(two) - 100 <= 4


def test_draws_are_by_weight_and_never_the_same_twice() -> None:
    chance, firsts = random.Random(7), Counter[int]()
    for _ in range(20_000):
        first, second = two_of(chance.getrandbits(64), [5, 3, 1, 1], [0, 1, 2, 3])
        assert first != second
        firsts[first] += 1
    assert [round(firsts[index] / 2000) for index in range(4)] == [5, 3, 1, 1]
    assert two_of(1 << 63, [5, 3], [1]) == (1, 1)


def test_quicker_weighs_latency_with_the_queue() -> None:
    assert quicker(0, 1, [0, 3], [9000, 2000], [1, 1]) == 1, "3 before us at 2 ms are sooner done than 9 ms"
    assert quicker(0, 1, [0, 4], [9000, 2000], [1, 1]) == 0
    assert quicker(0, 1, [5, 4], [9000, 0], [1, 1]) == 1, "never measured: by the queue alone"


# Levels.


def test_all_of_the_first_priority_while_enough_of_it_is_well() -> None:
    standing = [USABLE] * 5 + [UNHEALTHY] * 2 + [USABLE] * 3
    found = allowed(standing, [1] * 10, [0] * 7 + [1] * 3, [""] * 10, here="", panic_share=0, chance=999)
    assert (found.indices, found.priority) == ([0, 1, 2, 3, 4], 0), "five of seven times 1.4 is all"


def test_what_the_first_priority_cannot_take_goes_to_the_next() -> None:
    standing = [USABLE] * 2 + [UNHEALTHY] * 2 + [USABLE] * 4
    chance, levels = random.Random(7), Counter[int]()
    for _ in range(20_000):
        found = allowed(
            standing, [1] * 8, [0] * 4 + [1] * 4, [""] * 8, here="", panic_share=0, chance=chance.getrandbits(64)
        )
        levels[found.priority] += 1
    assert levels[0] / 20_000 == pytest.approx(0.7, abs=0.015), "a half, times 1.4"


def test_when_none_of_the_first_is_well_the_next_takes_all() -> None:
    found = allowed([OPEN, USABLE], [1, 1], [0, 5], ["", ""], here="", panic_share=0, chance=0)
    assert (found.indices, found.priority) == ([1], 5)


def test_in_a_panic_all_but_those_taken_out_are_used() -> None:
    standing = [USABLE, UNHEALTHY, EJECTED, DRAIN, MAINTENANCE]
    found = allowed(standing, [1] * 5, [0] * 5, [""] * 5, here="", panic_share=500, chance=0)
    assert found.is_panic and found.indices == [0, 1, 2]
    calm = allowed(standing, [1] * 5, [0] * 5, [""] * 5, here="", panic_share=300, chance=0)
    assert not calm.is_panic and calm.indices == [0]


def test_near_ones_take_their_part_and_the_rest_goes_everywhere() -> None:
    chance, near = random.Random(7), 0
    standing = [USABLE, UNHEALTHY, USABLE, USABLE]
    for _ in range(20_000):
        found = allowed(
            standing, [1] * 4, [0] * 4, ["a", "a", "b", "b"], here="a", panic_share=0, chance=chance.getrandbits(64)
        )
        near += found.indices == [0]
    assert near / 20_000 == pytest.approx(0.7, abs=0.015)


STANDINGS = st.integers(USABLE, UNRESOLVED)


@given(
    st.lists(st.tuples(STANDINGS, st.integers(1, 9), st.integers(0, 2), st.sampled_from(["", "a", "b"])), min_size=1,
             max_size=8),
    st.sampled_from(["", "a"]), st.integers(0, 1000), st.integers(0, (1 << 64) - 1),
)  # fmt: skip
def test_only_usable_ones_of_one_priority_are_allowed_and_some_if_any_is(
    members: list[tuple[int, int, int, str]], here: str, panic: int, chance: int
) -> None:
    standing, weights, priorities, localities = (list(part) for part in zip(*members, strict=True))
    found = allowed(standing, weights, priorities, localities, here=here, panic_share=panic, chance=chance)
    if found.is_panic:
        assert all(standing[index] not in (DRAIN, MAINTENANCE) for index in found.indices)
    else:
        assert all(standing[index] == USABLE for index in found.indices)
        assert len({priorities[index] for index in found.indices}) <= 1
        assert found.indices or USABLE not in standing


# Sticky.

SECRET, NEWER = "0123456789abcdef", "fedcba9876543210"
TAGS = Tags("api", NAMES, [SECRET])


@given(st.integers(0, 9), st.integers(0, 1 << 33), st.integers(0, 1 << 20))
def test_a_tag_brings_back_until_it_expires(index: int, now_s: int, max_age_s: int) -> None:
    tag = TAGS.make(NAMES[index], now_s, max_age_s)
    assert TAGS.read(tag, now_s) == (index, Tag.GOOD)
    assert TAGS.read(tag, now_s + max_age_s) == ((-1, Tag.EXPIRED) if max_age_s else (index, Tag.GOOD))
    assert NAMES[index] not in tag


@given(st.integers(0, 61), st.integers(1, 127))
def test_a_tag_that_was_changed_is_none(at: int, flip: int) -> None:
    tag = TAGS.make(NAMES[0], 1_700_000_000, 86_400)
    forged = tag[: at % len(tag)] + chr(ord(tag[at % len(tag)]) ^ flip) + tag[at % len(tag) + 1 :]
    assert TAGS.read(forged, 1_700_000_000)[0] == -1


@given(st.text(max_size=200))
def test_anything_is_read(value: str) -> None:
    assert TAGS.read(value, 0)[1] is not Tag.GOOD


def test_a_tag_is_of_one_upstream_and_of_a_secret_that_is_still_known() -> None:
    tag = TAGS.make(NAMES[4], 0, 0)
    assert Tags("other", NAMES, [SECRET]).read(tag, 0) == (-1, Tag.FORGED)
    assert Tags("api", NAMES, [NEWER, SECRET]).read(tag, 0) == (4, Tag.GOOD)
    assert Tags("api", NAMES, [NEWER]).read(tag, 0) == (-1, Tag.FORGED)
    assert Tags("api", NAMES[:4], [SECRET]).read(tag, 0) == (-1, Tag.UNKNOWN)


def test_a_cookie_is_written_as_the_standard_says() -> None:
    made = set_cookie("srv", "1.a", path="/", max_age_s=60, same_site="strict", is_secure=True)
    assert made == "srv=1.a; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure"


# Outliers, slow start.

RULE = OutlierEjection(failures=3, requests_min=10, deviations=1000, latency_factor=4000, max_ejected=300)
WELL = Marks(requests=100, failures=1, latency_sum_us=100_000, consecutive=0)


def test_who_stands_out_is_named_with_figures() -> None:
    failing, slow = replace(WELL, failures=60), replace(WELL, latency_sum_us=900_000)
    found = outliers([WELL, failing, WELL, slow, WELL, WELL, WELL], RULE)
    assert [(one.who, one.why) for one in found] == [
        (1, "success rate 40.0%, the mean is 90.6%"), (3, "mean latency 9.0 ms, the median is 1.0 ms"),
    ]  # fmt: skip
    assert outliers([replace(WELL, consecutive=3), WELL], RULE)[0] == (0, "3 failures in a row")


MARKS = st.builds(
    lambda requests, failed, latency, row, out: Marks(requests, min(failed, requests), latency, row, out),
    st.integers(0, 200), st.integers(0, 200), st.integers(0, 10**7), st.integers(0, 5), st.booleans(),
)  # fmt: skip


@given(st.lists(MARKS, min_size=1, max_size=12), st.integers(0, 1000))
def test_never_more_than_the_share_and_never_the_last(marks: list[Marks], share: int) -> None:
    found = outliers(marks, replace(RULE, max_ejected=share))
    out = sum(mark.is_ejected for mark in marks)
    assert len({one.who for one in found}) == len(found) and not any(marks[one.who].is_ejected for one in found)
    if found:
        assert out + len(found) <= max(1, len(marks) * share // 1000) and out + len(found) < len(marks)


def test_an_ejection_is_longer_each_time() -> None:
    second = 1_000_000_000
    rule = OutlierEjection(eject_for_ns=30 * second, eject_for_max_ns=70 * second)
    assert [ejected_for_ns(count, rule) // second for count in (1, 2, 3)] == [30, 60, 70]


@given(st.integers(1, 1000), st.integers(-5, 200), st.integers(0, 100))
def test_a_weight_grows_and_is_never_nothing(weight: int, since_ms: int, slow_ms: int) -> None:
    now, later = warmed(weight, since_ms, slow_ms), warmed(weight, since_ms + 1, slow_ms)
    assert weight * SCALE // 10 <= now <= later <= weight * SCALE


# The chooser.


class Stage:
    """A scene that a test sets."""

    def __init__(self, upstream: Upstream, standing: Sequence[int] = ()) -> None:
        self.weights: Sequence[int] = [endpoint.weight for endpoint in upstream.endpoints]
        self.purse = [0] * len(self.weights)
        self.codes = bytes(standing or [USABLE] * len(self.weights))
        self.under_way = [0] * len(self.weights)
        self.said: list[Report | None] = [None] * len(self.weights)
        self.models: list[tuple[str, ...] | None] = [None] * len(self.weights)
        self.turns = 0

    def standing(self) -> bytes:
        return self.codes

    def flights(self) -> Sequence[int]:
        return self.under_way

    def reports(self) -> Sequence[Report | None]:
        return self.said

    def lacking(self, model: str) -> bytes:
        return bytes(one is not None and model not in one for one in self.models)

    def burdens(self) -> Sequence[int]:
        return self.under_way

    def lightest(self, allowed: bytes, tokens: int) -> int:
        usable = [at for at, octet in enumerate(allowed) if octet]
        return lightest(self.under_way, self.weights, usable, 0, tokens)

    def latencies(self) -> Sequence[int]:
        return [1] * len(self.weights)

    def least(self, allowed: bytes) -> int:
        return least_request(self.under_way, self.weights, [at for at, octet in enumerate(allowed) if octet], 0)

    def least_of_all(self) -> int:
        return -1 if any(self.codes) else self.least(b"\1" * len(self.codes))

    def turn(self) -> int:
        self.turns += 1
        return self.turns

    def chance(self) -> int:
        return 0

    def now_s(self) -> int:
        return 0


def upstream_of(*weights: int, **settings: Any) -> Upstream:
    endpoints = tuple(Endpoint(f"10.0.0.{at}", 80, weight=weight) for at, weight in enumerate(weights))
    return Upstream("api", endpoints, **settings)


def test_when_nothing_is_wrong_nothing_is_made() -> None:
    upstream = upstream_of(1, 1)
    chooser, stage = Chooser(upstream), Stage(upstream)
    first, second, third = (chooser.choose(stage, (), NO_WISH) for _ in range(3))
    assert first is third and {one.endpoint for one in (first, second)} == set(upstream.endpoints)
    assert first.notes == ()


def test_who_was_passed_over_is_told_with_the_reason() -> None:
    upstream = upstream_of(1, 1, 1)
    choice = Chooser(upstream).choose(Stage(upstream, [UNHEALTHY, USABLE, OPEN]), (), NO_WISH)
    assert choice.endpoint is upstream.endpoints[1]
    assert [(reason, details) for reason, _, details in choice.notes] == [
        (Reason.ENDPOINT_PASSED_OVER, ("10.0.0.0:80", "unhealthy")),
        (Reason.ENDPOINT_PASSED_OVER, ("10.0.0.2:80", "its circuit breaker is open")),
    ]


@pytest.mark.parametrize(("standing", "refusal"), [
    ([UNHEALTHY, EJECTED], Reason.NONE_USABLE), ([OPEN, OPEN], Reason.BREAKER_OPEN), ([DRAIN] * 2, Reason.NONE_USABLE),
])  # fmt: skip
def test_when_there_is_nobody_the_reason_is_told(standing: list[int], refusal: Reason) -> None:
    upstream = upstream_of(1, 1)
    choice = Chooser(upstream).choose(Stage(upstream, standing), (), NO_WISH)
    assert (choice.endpoint, choice.refusal) == (None, refusal)


@pytest.mark.parametrize("kind", [
    "round-robin", "random", "least-request", "power-of-two", "peak-ewma", "least-tokens", "least-load",
    "prefix-affinity", "ip-hash", "maglev", "ring",
])  # fmt: skip
@given(data=st.data())
def test_every_balance_chooses_somebody_who_may_be_tried(kind: Any, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    upstream = upstream_of(*weights, balance=Balance(kind, key=("client-ip",)))
    stage = Stage(upstream, data.draw(st.lists(STANDINGS, min_size=len(weights), max_size=len(weights))))
    tried = tuple(data.draw(st.lists(st.sampled_from(upstream.endpoints), unique=True, max_size=2)))
    choice = Chooser(upstream).choose(stage, tried, Wish(b"key", mark=7, tokens=1))
    may = [
        endpoint for endpoint, code in zip(upstream.endpoints, stage.codes, strict=True)
        if code in (USABLE, UNRESOLVED) and not any(endpoint is one for one in tried)
    ]  # fmt: skip
    assert (choice.endpoint in may) if may else choice.endpoint is None


def test_who_does_not_serve_the_model_is_no_candidate() -> None:
    upstream = upstream_of(1, 1, 1, health=HealthCheck("inference"), balance=Balance("least-request"))
    chooser, stage = Chooser(upstream), Stage(upstream)
    stage.models = [("a", "b"), None, ("b",)]
    asked = Wish(model="a")
    chosen = {chooser.choose(stage, (), asked).endpoint for _ in range(6)}
    stage.under_way = [5, 9, 0]
    choice = chooser.choose(stage, (), asked)
    assert chosen | {choice.endpoint} <= {upstream.endpoints[0], upstream.endpoints[1]}, "of the second nobody knows"
    assert choice.endpoint is upstream.endpoints[0]
    assert choice.notes[0] == (Reason.ENDPOINT_PASSED_OVER, NOWHERE, ("10.0.0.2:80", "it does not serve the model"))
    assert chooser.choose(stage, (), Wish(model="b")).endpoint is upstream.endpoints[2]
    assert chooser.choose(stage, (), NO_WISH).endpoint is upstream.endpoints[2], "who names no model"


@pytest.mark.parametrize(("standing", "refusal"), [
    ([USABLE, USABLE], Reason.MODEL_MISSING), ([DRAIN, MAINTENANCE], Reason.MODEL_MISSING),
    ([USABLE, UNHEALTHY], Reason.NONE_USABLE), ([USABLE, OPEN], Reason.BREAKER_OPEN),
])  # fmt: skip
def test_where_nobody_serves_the_model_that_is_told_and_panic_sends_nobody_there(
    standing: list[int], refusal: Reason
) -> None:
    upstream = upstream_of(1, 1, health=HealthCheck("inference"), panic_share=1000 if USABLE in standing else 0)
    stage = Stage(upstream, standing)
    stage.models = [("a",), None if any(code in (UNHEALTHY, OPEN) for code in standing) else ("a",)]
    choice = Chooser(upstream).choose(stage, (), Wish(model="x"))
    if None in stage.models:
        assert choice.endpoint is upstream.endpoints[1], "in a panic the one of which nobody knows"
    else:
        assert (choice.endpoint, choice.refusal) == (None, refusal)
    calm = replace(upstream, panic_share=0)
    assert Chooser(calm).choose(stage, (), Wish(model="x")).refusal == refusal


def test_a_cookie_does_not_bring_a_client_to_who_lacks_the_model() -> None:
    upstream = upstream_of(1, 1, sticky=Sticky("srv", (SECRET,)), health=HealthCheck("inference"))
    chooser = Chooser(upstream)
    assert chooser.tags is not None
    wish = Wish(cookie=chooser.tags.make("10.0.0.0:80", 0, 0), model="x")
    for code in (USABLE, DRAIN):
        stage = Stage(upstream, [code, USABLE])
        stage.models = [("a",), ("x",)]
        moved = chooser.choose(stage, (), wish)
        assert moved.endpoint is upstream.endpoints[1] and moved.notes[0][0] is Reason.STICKY_IGNORED


def test_a_name_without_a_tag_means_the_latest() -> None:
    assert serves(["llama3:latest"], "llama3") and serves(["llama3:latest"], "llama3:latest")
    assert not serves(["llama3:8b"], "llama3") and not serves(["llama3"], "llama3:latest") and not serves([], "x")


def test_who_warms_up_is_not_used_even_in_a_panic() -> None:
    upstream = upstream_of(1, 1, panic_share=1000)
    choice = Chooser(upstream).choose(Stage(upstream, [WARMING, UNHEALTHY]), (), NO_WISH)
    assert choice.endpoint is upstream.endpoints[1]
    assert Chooser(upstream).choose(Stage(upstream, [WARMING] * 2), (), NO_WISH).refusal is Reason.NONE_USABLE


def test_a_drained_endpoint_keeps_those_who_are_its_own() -> None:
    upstream = upstream_of(1, 1, sticky=Sticky("srv", (SECRET,)))
    chooser = Chooser(upstream)
    assert chooser.tags is not None
    wish = Wish(cookie=chooser.tags.make("10.0.0.0:80", 0, 0))
    followed = chooser.choose(Stage(upstream, [DRAIN, USABLE]), (), wish)
    assert followed.endpoint is upstream.endpoints[0] and followed.notes[0][0] is Reason.STICKY_FOLLOWED
    moved = chooser.choose(Stage(upstream, [MAINTENANCE, USABLE]), (), wish)
    assert moved.endpoint is upstream.endpoints[1] and moved.notes[0][0] is Reason.STICKY_IGNORED


# What is told of it.


class Crowd:
    """Endpoints of which some are out, and each has so many in flight (chooser.Scene)."""

    def __init__(self, standing: bytes, flights: Sequence[int]) -> None:
        self._standing, self._flights = standing, flights
        self.weights: Sequence[int] = [1] * len(standing)
        self.purse = [0] * len(standing)

    def standing(self) -> bytes:
        return self._standing

    def flights(self) -> Sequence[int]:
        return self._flights

    def reports(self) -> Sequence[Report | None]:
        return [None] * len(self._flights)

    def lacking(self, model: str) -> bytes:
        return bytes(len(self._flights))

    def burdens(self) -> Sequence[int]:
        return self._flights

    def lightest(self, allowed: bytes, tokens: int) -> int:
        usable = [at for at, octet in enumerate(allowed) if octet]
        return lightest(self._flights, self.weights, usable, 0, tokens)

    def latencies(self) -> Sequence[int]:
        return [0] * len(self._flights)

    def least(self, allowed: bytes) -> int:
        return least_request(self._flights, self.weights, [at for at, octet in enumerate(allowed) if octet], 0)

    def least_of_all(self) -> int:
        return -1 if any(self._standing) else self.least(b"\1" * len(self.weights))

    def turn(self) -> int:
        return 0

    def chance(self) -> int:
        return 0

    def now_s(self) -> int:
        return 0


def told(upstream: Upstream, standing: Sequence[int], flights: Sequence[int]) -> tuple[str | None, list[Any]]:
    choice = Chooser(upstream).choose(Crowd(bytes(standing), flights), (), NO_WISH)
    name = None if choice.endpoint is None else choice.endpoint.name
    return name, [(reason, details) for reason, _, details in choice.notes]


def levelled(count: int, **parts: Any) -> Upstream:
    endpoints = tuple(Endpoint("10.0.0.1", 80 + at, priority=at // 2) for at in range(count))
    return Upstream("api", endpoints, **parts)


@pytest.mark.parametrize("kind", ["least-request", "power-of-two", "peak-ewma"])
def test_what_was_in_flight_is_told_where_that_decides(kind: Any) -> None:
    two = replace(levelled(2), balance=Balance(kind))
    name, notes = told(two, [USABLE, USABLE], [7, 3])
    assert (name, notes) == ("10.0.0.1:81", [(Reason.LOAD_COMPARED, (2, 7, 3))])
    assert told(two, [EJECTED, USABLE], [0, 3])[1] == [
        (Reason.ENDPOINT_PASSED_OVER, ("10.0.0.1:80", "ejected"))
    ], "one alone is not compared"
    assert told(levelled(2), [USABLE, USABLE], [7, 3])[1] == []


def test_tokens_that_were_under_way_are_told_with_those_of_the_request() -> None:
    two = replace(levelled(2), balance=Balance("least-tokens"))
    choice = Chooser(two).choose(Crowd(bytes(2), [900, 300]), (), Wish(tokens=70))
    assert choice.endpoint is two.endpoints[1]
    assert [(reason, details) for reason, _, details in choice.notes] == [(Reason.TOKENS_COMPARED, (2, 70, 900, 300))]


def test_of_many_only_the_chosen_ones_load_is_told() -> None:
    many = Upstream("api", tuple(Endpoint("10.0.0.1", 80 + at) for at in range(17)), balance=Balance("least-request"))
    assert told(many, [USABLE] * 17, [*range(1, 17), 0])[1] == [(Reason.LOAD_COMPARED, (17, 0))]


def test_a_lower_priority_and_a_panic_are_told() -> None:
    _, notes = told(levelled(4), [EJECTED, UNHEALTHY, USABLE, USABLE], [0] * 4)
    assert (Reason.PRIORITY_LOWERED, ("api", 1)) in notes
    name, notes = told(levelled(2, panic_share=500), [UNHEALTHY, EJECTED], [0] * 2)
    assert name is not None and (Reason.PANIC, ("api",)) in notes
