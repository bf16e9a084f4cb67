"""Prices: which one holds, what usage costs, and what is wrong with a book."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.globs import Glob
from sentinel.core.prices import MILLION, PRICE_MAX, PriceBook, Rates, is_date, read_prices
from sentinel.inference.prices import cost
from sentinel.inference.usage import Usage, fit
from tests.system.fleet import ROOT

EXAMPLE = (ROOT / "deploy" / "examples" / "prices.json").read_text()


def book(*prices: dict[str, Any]) -> PriceBook:
    found, problems = read_prices(json.dumps({"currency": "USD", "prices": prices}))
    assert found is not None, problems
    return found


def line(*models: str, input: int = 1, output: int = 1, **given_: Any) -> dict[str, Any]:
    return {"models": list(models), "input": input, "output": output, **given_}


def input_price(found: PriceBook, model: str, date: str = "2026-06-01") -> int | None:
    rates = found.price(model, date)
    return rates.input if rates else None


# -- which price


@pytest.mark.parametrize(("model", "price"), [
    ("gpt-4o-mini", 4), ("gpt-4o", 3), ("gpt-4o-2026", 3), ("gpt-4", 2), ("gpt-", 2), ("gpt", 1), ("", 1), ("GPT-4", 1),
])  # fmt: skip
def test_the_most_specific_pattern_holds_wherever_it_stands(model: str, price: int) -> None:
    lines = [line("*", input=1), line("gpt-*", input=2), line("gpt-4o*", input=3), line("gpt-4o-mini", input=4)]
    assert input_price(book(*lines), model) == price
    assert input_price(book(*reversed(lines)), model) == price


def test_a_whole_name_is_more_specific_than_any_pattern() -> None:
    assert input_price(book(line("abcdefgh*", input=1), line("*bcdefghi", input=2), line("abcdefghi", input=3)),
                       "abcdefghi") == 3  # fmt: skip


def test_of_two_that_say_as_much_the_first_holds() -> None:
    assert input_price(book(line("a*c", input=1), line("ab*", input=2)), "abc") == 1
    assert input_price(book(line("ab*", input=2), line("a*c", input=1)), "abc") == 2


@pytest.mark.parametrize(("date", "price"), [
    ("2025-12-31", 9), ("2026-01-01", 1), ("2026-06-30", 1), ("2026-07-01", 2), ("2027-01-01", 9),
])  # fmt: skip
def test_a_price_holds_from_its_first_day_until_before_the_other(date: str, price: int) -> None:
    found = book(
        line("m", input=1, **{"from": "2026-01-01", "until": "2026-07-01"}),
        line("m", input=2, **{"from": "2026-07-01", "until": "2027-01-01"}), line("*", input=9),
    )  # fmt: skip
    assert input_price(found, "m", date) == price


def test_no_price_is_not_the_price_nought() -> None:
    assert book(line("m", input=0, output=0)).price("m", "2026-01-01") == Rates(0, 0, 0, 0, 0, 0, 0, 0)
    assert book(line("m")).price("other", "2026-01-01") is None


def test_what_has_no_price_of_its_own_costs_what_it_is_a_part_of() -> None:
    assert book(line("m", input=3, output=5)).prices[0].rates == Rates(
        input=3, output=5, cached_input=3, cache_write=3, cache_write_long=3, audio_input=3, reasoning=5, audio_output=5
    )
    assert book(line("m", cache_write=7)).prices[0].rates.cache_write_long == 7


GLOBS = st.text(alphabet="ab*", max_size=6)


@given(GLOBS, st.text(alphabet="ab", max_size=7))
def test_a_pattern_matches_what_its_definition_says(pattern: str, name: str) -> None:
    def matches(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return matches(pattern[1:], name) or (bool(name) and matches(pattern, name[1:]))
        return bool(name) and pattern[0] == name[0] and matches(pattern[1:], name[1:])

    assert Glob(pattern).matches(name) == matches(pattern, name)


# -- what it costs


def test_what_a_request_costs() -> None:
    rates = Rates(
        input=2_500_000, output=10_000_000, cached_input=1_250_000, cache_write=3_000_000, cache_write_long=5_000_000,
        audio_input=40_000_000, reasoning=10_000_000, audio_output=80_000_000,
    )  # fmt: skip
    usage = fit(
        input_tokens=1000, cached=400, cache_write=100, cache_write_long=40, audio_input=10, output=300, reasoning=200,
        audio_output=5,
    )  # fmt: skip
    found = cost(usage, rates)
    assert found.input == 490 * 2.5
    assert (found.cached_input, found.cache_write, found.audio_input) == (500, 60 * 3 + 40 * 5, 400)
    assert (found.output, found.reasoning, found.audio_output) == (95 * 10, 200 * 10, 5 * 80)
    assert found.total == 1225 + 500 + 380 + 400 + 950 + 2000 + 400


@pytest.mark.parametrize(("price", "total"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)])
def test_it_is_rounded_half_up_once(price: int, total: int) -> None:
    assert cost(fit(input_tokens=1), book(line("m", input=price)).prices[0].rates).total == total


COUNTS, PRICES = st.integers(0, 10**9), st.integers(0, PRICE_MAX)
USAGES = st.builds(
    fit, input_tokens=COUNTS, cached=COUNTS, cache_write=COUNTS, cache_write_long=COUNTS, audio_input=COUNTS,
    output=COUNTS, reasoning=COUNTS, audio_output=COUNTS,
)  # fmt: skip


@given(USAGES, st.builds(Rates, *[PRICES] * 8))
def test_parts_add_up_to_the_total_and_each_is_right_within_one(usage: Usage, rates: Rates) -> None:
    found = cost(usage, rates)
    short = usage.cache_write_tokens - usage.cache_write_long_tokens
    exact = [
        usage.plain_input_tokens * rates.input, usage.cached_tokens * rates.cached_input,
        short * rates.cache_write + usage.cache_write_long_tokens * rates.cache_write_long,
        usage.audio_input_tokens * rates.audio_input, usage.plain_output_tokens * rates.output,
        usage.reasoning_tokens * rates.reasoning, usage.audio_output_tokens * rates.audio_output,
    ]  # fmt: skip
    parts = [found.input, found.cached_input, found.cache_write, found.audio_input, found.output, found.reasoning,
             found.audio_output]  # fmt: skip
    assert sum(parts) == found.total
    assert found.exact == sum(exact)
    assert abs(Fraction(found.exact, MILLION) - found.total) <= Fraction(1, 2)
    for part, right in zip(parts, exact, strict=True):
        assert part >= 0 and abs(part - Fraction(right, MILLION)) <= 1


@given(st.tuples(*[COUNTS] * 8))
def test_parts_of_usage_never_exceed_their_whole(counts: tuple[int, ...]) -> None:
    """However wrong a provider's numbers are; what it bills by stays."""
    names = ("input_tokens", "cached", "cache_write", "cache_write_long", "audio_input", "output", "reasoning",
             "audio_output")  # fmt: skip
    found = fit(**dict(zip(names, counts, strict=True)))
    assert (found.input_tokens, found.output_tokens) == (counts[0], counts[5])
    assert found.cached_tokens + found.cache_write_tokens + found.audio_input_tokens <= found.input_tokens
    assert found.reasoning_tokens + found.audio_output_tokens <= found.output_tokens


# -- what is wrong


def test_the_example_is_a_book() -> None:
    found, problems = read_prices(EXAMPLE)
    assert not problems and found is not None
    assert input_price(found, "gpt-large-2026", "2026-09-30") == 5_000_000
    assert input_price(found, "gpt-large-2026", "2026-10-01") == 2_500_000


def test_all_problems_are_told_at_once_with_their_places() -> None:
    _, problems = read_prices(json.dumps({
        "currency": "dollars", "version": 1, "prices": [
            {"models": [], "input": 1, "output": -1, "imput": 3},
            {"models": ["a", "", 7, "b**"], "input": 1.5, "output": True, "from": "2026-02-30"},
            line("m", **{"from": "2026-05-01", "until": "2026-05-01"}), "text", line("m", cached_input=None),
        ],
    }))  # fmt: skip
    assert [one.path for one in problems] == [
        "$.version", "$.currency", "$.prices[0].imput", "$.prices[0].output", "$.prices[0].models",
        "$.prices[1].from", "$.prices[1].input", "$.prices[1].output", "$.prices[1].models[1]",
        "$.prices[1].models[2]", "$.prices[1].models[3]", "$.prices[2].until", "$.prices[3]",
        "$.prices[4].cached_input", "$.prices[2]",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "path"), [
    ("", "$"), ("{", "$"), ("[]", "$"), ('{"currency":"USD"}', "$.prices"), ('{"a":1,"a":2}', "$"),
    ("[" * 100_000, "$"), ('{"currency":"USD","prices":[]}', "$.prices"),
])  # fmt: skip
def test_what_is_no_book(text: str, path: str) -> None:
    found, problems = read_prices(text)
    assert found is None and path in [one.path for one in problems]


def test_two_prices_of_one_pattern_on_one_day() -> None:
    lines = [line("m", until="2026-02-01"), line("x"), line("m", **{"from": "2026-01-31"})]
    _, problems = read_prices(json.dumps({"currency": "USD", "prices": lines}))
    assert [(one.path, "$.prices[0]" in one.message) for one in problems] == [("$.prices[2]", True)]


@pytest.mark.parametrize(("text", "is_one"), [
    ("2026-01-31", True), ("2024-02-29", True), ("2000-02-29", True), ("2026-02-29", False), ("1900-02-29", False),
    ("2026-00-10", False), ("2026-13-01", False), ("2026-04-31", False), ("2026-1-1", False), ("2026-01-01 ", False),
    ("٢٠٢٦-٠١-٠١", False), ("2026-01-01T00:00", False),
])  # fmt: skip
def test_days_of_the_calendar(text: str, is_one: bool) -> None:
    assert is_date(text) is is_one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["currency", "prices", "models", "from", "until", "input", "output"]), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_book_or_has_problems(document: Any) -> None:
    found, problems = read_prices(json.dumps(document))
    assert (found is None) == bool(problems)
