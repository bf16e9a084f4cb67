"""What guardrails find in texts: whole, cut anywhere, and in texts that were made to be expensive."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.guard.finders import built_in
from sentinel.core.guard.guards import Guard
from sentinel.core.guard.sieve import Sieve
from sentinel.core.plan import Guardrail, OwnPattern, WordList
from sentinel.core.regex import BadPattern
from sentinel.core.regex.search import Search

CARD = "4111111111111111"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
EVERYTHING = Guardrail(
    "all", tuple(sorted(built_in())),
    patterns=(OwnPattern("ticket", "PROJ-[0-9]{4,6}"), OwnPattern("odd", "(ab|ba){1,3}c?")),
    words=(WordList("names", ("manta", "blue heron", "über straße")),), replacement="<{kind}>",
)  # fmt: skip


def found(kind: str, text: str) -> list[str]:
    return [text[start:end] for start, end in built_in()[kind]().spans(text)]


@pytest.mark.parametrize(
    ("kind", "text", "finds"),
    [
        ("credit-card", f"pay {CARD} now", [CARD]),
        ("credit-card", "4111 1111 1111 1111 12/29", ["4111 1111 1111 1111"]),
        ("credit-card", "on 3 4111-1111-1111-1111", ["4111-1111-1111-1111"]),
        ("credit-card", "amex 378282246310005.", ["378282246310005"]),
        ("credit-card", "４１１１ 1111 1111 1111", ["４１１１ 1111 1111 1111"]),
        ("credit-card", "4111111111111112", []),
        ("credit-card", "1" + CARD, []),
        ("credit-card", CARD + "1", []),
        ("credit-card", "411111111111111", []),
        ("email", "to joe.doe+x@mail.example.com, please", ["joe.doe+x@mail.example.com"]),
        ("email", "a@b", []),
        ("email", "@example.com and joe@", []),
        ("email", "<joe@example.org>", ["joe@example.org"]),
        ("iban", "to DE89 3704 0044 0532 0130 00 and then", ["DE89 3704 0044 0532 0130 00"]),
        ("iban", "gb82west12345698765432", ["gb82west12345698765432"]),
        ("iban", "DE89370400440532013001", []),
        ("iban", "XX89370400440532013000", []),
        ("us-ssn", "ssn 123-45-6789 or 123 45 6789", ["123-45-6789", "123 45 6789"]),
        ("us-ssn", "000-12-3456 666-12-3456 123-45-67890 123-00-1234", []),
        ("ipv4", "at 10.0.0.1. or 1.2.3.4.5 or 256.1.1.1", ["10.0.0.1"]),
        ("ipv6", "at 2001:db8::1, 12:30:45 and fe80::1.", ["2001:db8::1", "fe80::1"]),
        ("phone", "call +49 (30) 1234-5678 or 415-555-0132", ["+49 (30) 1234-5678", "415-555-0132"]),
        ("phone", "in 2026-11-25 or 12345678", []),
        ("secret", f"key AKIAIOSFODNN7EXAMPLE and {JWT}", ["AKIAIOSFODNN7EXAMPLE", JWT]),
        ("secret", "sk-proj-abcdefghijklmnopqrst, task-force-one-two-three", ["sk-proj-abcdefghijklmnopqrst"]),
        ("secret", "ghp_0123456789abcdefghijABCDEFGHIJ012345", ["ghp_0123456789abcdefghijABCDEFGHIJ012345"]),
    ],
)  # fmt: skip
def test_shapes(kind: str, text: str, finds: list[str]) -> None:
    assert found(kind, text) == finds


@pytest.mark.parametrize("text", ["A Manta!", "the BLUE  heron", "ÜBER STRASSE"])
def test_words_are_found_whole_and_whatever_their_case(text: str) -> None:
    assert Guard(EVERYTHING).judge(text, {}) != text


@pytest.mark.parametrize("text", ["mantas", "blue, or heron", "blueheron"])
def test_parts_of_words_are_none(text: str) -> None:
    assert Guard(EVERYTHING).judge(text, {}) == text


ALPHABET = st.lists(
    st.sampled_from([
        CARD, "4111 1111 ", "1111", "1111 1111", " ", "-", "4", "1", "joe@", "example.com", "@", "a", ".", "DE89 3704 ",
        "0044 0532 0130 00", "DE", "123-45-", "6789", "10.0", ".0.1", "2001:db8", "::1", ":", "+49 30 ", "1234567", "(",
        "sk-", "abcdefghijklmnopqrst", "AKIA", "IOSFODNN7EXAMPLE", JWT[:30], JWT[30:], "PROJ-", "12345", "ab", "c",
        "blue", "heron", "manta", "über", "straße", "\n", '"', "\\", "4111111111111111 378282246310005", "5", "😀",
    ]),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(ALPHABET, st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_a_text_that_is_cut_anywhere_leads_to_what_the_whole_does(text: str, cuts: list[int], is_json: bool) -> None:
    guard = Guard(EVERYTHING)
    whole: dict[str, int] = {}
    expected = Sieve(guard, whole, is_json=is_json).feed(text, is_end=True)
    counts: dict[str, int] = {}
    sieve, places = Sieve(guard, counts, is_json=is_json), sorted({0, *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in zip(places, [*places[1:], len(text)], strict=True)]
    out = "".join([sieve.feed(piece) for piece in pieces]) + sieve.feed("", is_end=True)
    assert out == expected and counts == whole
    if not is_json:
        assert expected == guard.judge(text, {})


def test_a_card_that_comes_by_the_character_never_goes_on() -> None:
    sieve = Sieve(Guard(EVERYTHING), {})
    text = f"her card is {CARD}, thanks"
    out = [sieve.feed(character) for character in text]
    assert "".join(out) + sieve.feed("", is_end=True) == "her card is <credit-card>, thanks"
    assert not re.search("[0-9]", "".join(out))


def test_prose_is_withheld_by_a_word_and_no_more() -> None:
    sieve, held = Sieve(Guard(EVERYTHING), {}), []
    for character in "The quick brown fox jumps over the lazy dog. " * 3:
        sieve.feed(character)
        held.append(sieve.held_chars)
    assert max(held) <= len("quick brown"[:6])


@pytest.mark.parametrize(
    "piece", ["1", "4 ", "a", "a@", "1.", ":", "ab", "sk-", "+1", "DE89", "blue ", "manta ", "eyJ.", "é"]
)
def test_what_is_withheld_and_what_it_costs_are_bounded(piece: str) -> None:
    guard = Guard(EVERYTHING)
    sieve = Sieve(guard, {})
    begun = time.perf_counter()
    text = piece * (16 * 1024 // len(piece))
    guard.judge(text, {})
    assert time.perf_counter() - begun < 2, "linear: it takes some tens of ms"
    for at in range(0, len(text), 1024):
        sieve.feed(text[at : at + 1024])
        assert sieve.held_chars <= 2 * guard.chars_max + 1024


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"card": 4111111111111111}', '{"card": "<credit-card>"}'),
        ('{"card": "4111111111111111"}', '{"card": "<credit-card>"}'),
        ('{"a": "x\\njoe@example.com"}', None),
        ('["\\\\", 4111111111111111]', '["\\\\", "<credit-card>"]'),
    ],
)
def test_what_is_json_stays_json(before: str, after: str | None) -> None:
    for step in (1, 3, len(before)):
        sieve = Sieve(Guard(EVERYTHING), {}, is_json=True)
        out = "".join([sieve.feed(before[at : at + step]) for at in range(0, len(before), step)])
        out += sieve.feed("", is_end=True)
        json.loads(out)
        assert "4111" not in out and "@example" not in out
        assert after is None or out == after


@pytest.mark.parametrize("pattern", ["a+", "a*b", "x{2,}", "(a{1,20}){1,20}", "a{0,3}", "^a", "(?=a)b"])
def test_patterns_without_a_bound_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Search(pattern)


def covered(pattern: str, text: str) -> set[int]:
    """The union of all matches, as the standard library finds them one by one."""
    whole = re.compile(pattern)
    return {
        at for start in range(len(text)) for end in range(start + 1, len(text) + 1)
        if whole.fullmatch(text, start, end) for at in range(start, end)
    }  # fmt: skip


@given(
    st.sampled_from(["a", "ab", "a|abc|b", "a{2,4}", "(ab|ba){1,3}", "[^a]b", "ab?c", "a(bc)?a", "x?a{1,3}b", ".a."]),
    st.text("abcx", max_size=12), st.text("abcx", max_size=6),
)  # fmt: skip
def test_a_search_finds_the_union_of_all_matches(pattern: str, text: str, more: str) -> None:
    search = Search(pattern)
    now = {at for start, end in search.spans(text) for at in range(start, end)}
    later = {at for start, end in search.spans(text + more) for at in range(start, end)}
    assert now == covered(pattern, text)
    settled = search.open_from(text)
    assert {at for at in later if at < settled} == {at for at in now if at < settled}
