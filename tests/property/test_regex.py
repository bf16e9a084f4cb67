"""Our patterns agree with `re` where both know the language, and stay linear where `re` does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.regex import BadPattern, compile_pattern
from sentinel.core.regex.automaton import ROWS_MAX

ATOMS = st.sampled_from(["a", "b", "/", ".", "[ab]", "[^a]", r"\d", r"\w", r"\W", "[a-c0]", r"\.", r"[\d/]", "1"])


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = inner.map(lambda text: f"({text})") | inner.map(lambda text: f"(?:{text})")
    repeats = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "{0}", "{0,}"])
    return (
        st.lists(inner, min_size=2, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
        | st.tuples(groups, repeats).map("".join)
        | st.tuples(ATOMS, repeats).map("".join)
    )


PATTERNS = st.recursive(ATOMS, _grow, max_leaves=8)
VALUES = st.text(st.sampled_from("ab1/.é \n"), max_size=10)


@settings(max_examples=400)
@given(PATTERNS, st.lists(VALUES, min_size=1, max_size=8))
def test_a_pattern_agrees_with_re(pattern: str, values: list[str]) -> None:
    ours, theirs = compile_pattern(pattern), re.compile(pattern, re.ASCII | re.DOTALL)
    for value in values:
        assert ours.matches(value) == (theirs.fullmatch(value) is not None), (pattern, value)


@given(st.from_regex(r"(?:ab|c{1,3}|[d-f]+){0,6}", fullmatch=True))
def test_what_re_generates_matches(value: str) -> None:
    assert compile_pattern("(ab|c{1,3}|[d-f]+){0,6}").matches(value)


ADVERSARIAL = [
    ("(a|a)*b", "a" * 65536),
    ("(a*)*b", "a" * 65536),
    ("(a+)+b", "a" * 65536),
    ("(a|aa)+b", "a" * 65536),
    ("(.*a){12}b", "a" * 65536),
    (".*a.{12}", "ab" * 32768),
    ("(a?){100}a{100}", "a" * 65536),
    (".*.*.*=.*", "x" * 65536),
    ("([a-z]+,)*end", "abc," * 16384),
]


@pytest.mark.parametrize(("pattern", "value"), ADVERSARIAL)
def test_no_text_makes_a_match_explode(pattern: str, value: str) -> None:
    """With `re` most of these would not end; here the steps are counted by the characters."""
    compiled = compile_pattern(pattern)
    compiled.matches(value)
    assert len(compiled._program.rows) <= ROWS_MAX


def test_memory_stays_bounded_and_answers_right_when_rows_are_forgotten() -> None:
    compiled = compile_pattern(".*a.{11}")
    state, text = 1, []
    for _ in range(20_000):  # a fixed pseudo-random text visits thousands of sets
        state = (state * 1103515245 + 12345) % 2**31
        text.append("ab"[state >> 16 & 1])
    value = "".join(text)
    assert compiled.matches(value) == (value[-12] == "a")
    assert len(compiled._program.rows) <= ROWS_MAX
    assert compiled.matches(value[:-1]) == (value[-13] == "a")


BAD = [
    ("(", 0), ("a)", 1), ("[a", 0), ("[]a", 1), ("*a", 0), ("a**", 2), ("a*?", 2), ("a{2", 1), ("a{x}", 1),
    ("a{3,1}", 1),
    ("^a", 0), ("a$", 1), (r"\1", 0), (r"\b", 0), ("\\", 0), ("(?=a)", 0), ("(?i)a", 0), ("(?P<n>a)", 0), ("[z-a]", 1),
    (r"[\d-a]", 1), (r"[\D]", 1), (r"\xg0", 0), ("a{1000}", 0), ("((((a{9}){9}){9}){9}){9}", 0),
    ("(" * 60 + ")" * 60, 51),
    ("a{2}{3}", 4), ("{2}", 0), ("(){9999}", 0), ("a|*", 2),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "position"), BAD)
def test_a_bad_pattern_says_where(pattern: str, position: int) -> None:
    with pytest.raises(BadPattern) as caught:
        compile_pattern(pattern)
    assert caught.value.position == position
    assert caught.value.problem


def test_the_whole_value_must_match() -> None:
    pattern = compile_pattern(r"/users/\d+(/posts)?")
    assert pattern.prefix == "/users/"
    assert pattern.matches("/users/42")
    assert pattern.matches("/users/42/posts")
    assert not pattern.matches("/users/42/")
    assert not pattern.matches("/x/users/42")
    assert not pattern.matches("/users/")


def test_an_empty_pattern_matches_only_nothing() -> None:
    assert compile_pattern("").matches("")
    assert not compile_pattern("").matches("a")
