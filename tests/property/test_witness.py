"""A witness is one, whoever can be reached has one, and whoever is called dead is never reached."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.path import Target, normalise
from sentinel.core.plan import PathRules, Plan
from sentinel.core.regex import compile_pattern
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.core.witness import PATH_ALPHABET, holds, is_dead, witness
from tests.property.test_regex import PATTERNS
from tests.property.test_routes import REQUESTS, plans

LENIENT = PathRules("keep", "keep", "resolve", "keep")


def is_sendable(asked: Request) -> bool:
    read = normalise(asked.path, LENIENT)
    return isinstance(read, Target) and read.path == asked.path and bool(asked.host) and asked.path != "*"


@settings(max_examples=150, deadline=None)
@given(plans(), st.lists(REQUESTS, min_size=6, max_size=6))
def test_who_can_be_reached_has_a_witness_and_is_not_dead(whole: Plan, requests: list[Request]) -> None:
    for candidate in compile_routes(whole).candidates:
        found = witness(candidate)
        assert found is None or holds(candidate, found.request())
        assert found is None or not is_dead(candidate)
        for asked in requests:
            if holds(candidate, asked):
                assert not is_dead(candidate), (candidate.match, asked.path, asked.host)
                if is_sendable(asked):
                    assert found is not None, (candidate.match, candidate.host, candidate.path, asked.path, asked.host)


@settings(max_examples=300, deadline=None)
@given(PATTERNS)
def test_examples_of_a_pattern_match_it(text: str) -> None:
    pattern = compile_pattern(text)
    found = pattern.examples(PATH_ALPHABET, count=8)
    assert all(pattern.matches(one) for one in found.texts)
    assert sorted(found.texts, key=len) == list(found.texts), "the shortest first"
    assert len(set(found.texts)) == len(found.texts)
    assert set("".join(found.texts)) <= set(PATH_ALPHABET)


def test_a_pattern_without_examples_matches_nothing() -> None:
    assert compile_pattern("users/[0-9]+").examples(PATH_ALPHABET, "/", 1) == ((), True)
    assert compile_pattern("/a(b|c)d").examples(PATH_ALPHABET, "/", 9).texts == ("/abd",)


def test_a_search_for_examples_is_bounded() -> None:
    """Sets of fingers grow exponentially with this one."""
    pattern = compile_pattern("/(a|b)*a(a|b){60}[^a-z/]{40}#")
    found = pattern.examples(PATH_ALPHABET, "/", 1)
    assert found.texts == () and not found.is_complete
