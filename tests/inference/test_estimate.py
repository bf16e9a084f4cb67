"""Estimates: counted where that is possible, learnt where it is not, and never at an attacker's will."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.ask import Ask, Detail, Input
from sentinel.inference.dialect import Dialect
from sentinel.inference.estimate import (
    DEFAULT_RATIO,
    KNOWN_MAX,
    LESSONS_MIN,
    RATIO_MAX,
    RATIO_MIN,
    WAITING_MAX,
    Estimator,
    Method,
)
from sentinel.inference.meter import Meter
from sentinel.inference.usage import Usage, fit
from tests.inference.transcript import transcripts
from tests.system.fleet import ROOT
from workers.vocabularies import counters

COUNTERS = counters(["o200k", "cl100k"])


def ask(model: str, *texts: str, **given_: object) -> Ask:
    return Ask(Dialect.OPENAI_CHAT, model, Input(texts), **given_)  # type: ignore[arg-type]


def settle(estimator: Estimator, model: str, octets: int, tokens: int, times: int = 1) -> None:
    for _ in range(times):
        one = ask(model, "x" * octets)
        estimator.learn(one, estimator.estimate(one), fit(input_tokens=tokens))


# -- counted


@pytest.mark.parametrize(("model", "text", "tokens"), [
    ("gpt-4o-mini", "hello world", 2), ("gpt-4", "hello world", 2), ("openai/gpt-5", "hello world", 2),
    ("gpt-4o", "<|endoftext|>", 7), ("gpt-4o", "\ud800", 1),
])  # fmt: skip
def test_with_a_vocabulary_text_is_counted(model: str, text: str, tokens: int) -> None:
    found = Estimator(COUNTERS).estimate(ask(model, text))
    assert (found.input_tokens, found.method) == (tokens, Method.COUNTED)


def test_vocabularies_differ() -> None:
    text = "Überraschung: 東京は日本の首都です。" * 3
    estimator = Estimator(COUNTERS)
    assert estimator.estimate(ask("gpt-4o", text)).input_tokens < estimator.estimate(ask("gpt-4", text)).input_tokens


def test_a_chat_has_tokens_round_its_messages() -> None:
    """As documented: three a message, one for a name, three before the answer."""
    given_ = Input(("user", "hello", "bob"), messages_count=2, names_count=1)
    found = Estimator(COUNTERS).estimate(Ask(Dialect.OPENAI_CHAT, "gpt-4o", given_))
    assert found.input_tokens == 3 + (2 * 3 + 1 + 3)


@pytest.mark.parametrize(("given_", "tokens"), [
    (Input(images=(Detail.LOW, Detail.HIGH)), 85 + 765), (Input(audio_count=2), 2000), (Input(files_count=1), 2000),
    (Input(token_ids_count=17), 17),
])  # fmt: skip
def test_what_is_no_text_has_a_flat_figure(given_: Input, tokens: int) -> None:
    assert Estimator().estimate(Ask(Dialect.OPENAI_CHAT, "m", given_)).input_tokens == tokens


def test_the_cap_is_one_of_all_choices() -> None:
    assert Estimator().estimate(ask("m", output_cap=100, choices_count=3)).output_cap_tokens == 300
    assert Estimator().estimate(ask("m")).output_cap_tokens is None


# -- learnt


def test_without_anything_known_the_default_holds() -> None:
    found = Estimator().estimate(ask("m", "x" * 1000))
    assert (found.input_tokens, found.method) == (DEFAULT_RATIO, Method.DEFAULT)


def test_a_ratio_is_learnt_from_settled_requests() -> None:
    estimator = Estimator()
    settle(estimator, "m", 1000, 180, times=40)
    found = estimator.estimate(ask("m", "x" * 10_000))
    assert (found.input_tokens, found.method) == (1800, Method.LEARNT)


def test_it_follows_a_change() -> None:
    estimator = Estimator()
    settle(estimator, "m", 1000, 200, times=40)
    settle(estimator, "m", 1000, 400, times=40)
    assert estimator.estimate(ask("m", "x" * 1000)).input_tokens == 400


@pytest.mark.parametrize(("tokens", "error"), [(300, 0), (240, 250), (400, -250), (1, 299_000)])
def test_the_error_is_told(tokens: int, error: int) -> None:
    estimator = Estimator()
    one = ask("m", "x" * 1000)
    lesson = estimator.learn(one, estimator.estimate(one), fit(input_tokens=tokens))
    assert lesson is not None
    assert (lesson.error_thousandths, lesson.method) == (error, Method.DEFAULT)


@pytest.mark.parametrize("usage", [fit(), fit(input_tokens=5).counted()])
def test_what_was_not_reported_teaches_nothing(usage: Usage) -> None:
    estimator = Estimator()
    one = ask("m", "x" * 1000)
    assert estimator.learn(one, estimator.estimate(one), usage) is None
    assert estimator.statistics().waiting_count == 0


@pytest.mark.parametrize("one", [
    ask("m", "x" * 50), ask("m", "x" * 1000, has_hidden_input=True),
    Ask(Dialect.OPENAI_CHAT, "m", Input(("x" * 1000,), images=(Detail.AUTO,))),
])  # fmt: skip
def test_what_says_little_of_text_tells_its_error_and_teaches_nothing(one: Ask) -> None:
    estimator = Estimator()
    assert estimator.learn(one, estimator.estimate(one), fit(input_tokens=900)) is not None
    assert estimator.statistics().waiting_count == 0


def test_a_flood_of_misspelt_models_pushes_nobody_out_and_nothing_grows() -> None:
    estimator = Estimator()
    settle(estimator, "real", 1000, 200, times=40)
    for number in range(10_000):
        settle(estimator, f"misspelt-{number}", 1000, 999)
    found = estimator.statistics()
    assert (found.known_count, found.waiting_count) == (1, WAITING_MAX)
    assert estimator.estimate(ask("real", "x" * 1000)).input_tokens == 200


def test_names_that_are_all_answered_fill_the_table_and_stop_there() -> None:
    estimator = Estimator()
    settle(estimator, "real", 1000, 200, times=40)
    for number in range(KNOWN_MAX * 2):
        settle(estimator, f"alias-{number}", 1000, 400, times=LESSONS_MIN)
    assert estimator.statistics().known_count == KNOWN_MAX and estimator.statistics().is_full
    assert estimator.estimate(ask("real", "x" * 1000)).input_tokens == 200
    assert estimator.estimate(ask("late", "x" * 1000)).input_tokens == 400, "the mean of all"


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 10**9)), max_size=30))
def test_a_ratio_stays_what_a_tokenizer_can_do(settled: list[tuple[int, int]]) -> None:
    estimator = Estimator()
    for octets, tokens in settled:
        settle(estimator, "m", octets, tokens)
    assert RATIO_MIN <= estimator.statistics().mean_ratio <= RATIO_MAX


def test_on_real_text_a_learnt_ratio_is_within_a_tenth() -> None:
    """The project's own pages are the text, and a real tokenizer is the provider."""
    pages = [path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))]
    random.Random(7).shuffle(pages)
    estimator, errors = Estimator(), []
    for page in pages * 2:
        one = ask("secret", page)
        lesson = estimator.learn(one, estimator.estimate(one), fit(input_tokens=COUNTERS["o200k"](page)))
        assert lesson is not None
        errors.append(abs(lesson.error_thousandths))
    late = sorted(errors[len(pages) :])
    assert late[len(late) // 2] < 100


# -- usage that was not reported


@pytest.mark.parametrize(("name", "expected"), [
    ("openai-chat-no-usage", (9, 2, False)), ("anthropic-error-later", (25, 1, False)), ("anthropic", (25, 15, True)),
    ("ollama-cached", (10, 2, False)), ("openai-responses-error", (8, 4, False)),
])  # fmt: skip
def test_what_is_missing_is_counted_from_the_text(name: str, expected: tuple[int, int, bool]) -> None:
    transcript = next(one for one in transcripts() if one.name == name)
    estimator = Estimator(COUNTERS)
    meter = Meter(transcript.ask, content_type=transcript.content_type, count=estimator.counter(transcript.ask.model))
    meter.feed(transcript.answer)
    meter.finish()
    usage = estimator.fallback(transcript.ask, meter.reading())
    assert (usage.input_tokens, usage.output_tokens, usage.is_reported) == expected
