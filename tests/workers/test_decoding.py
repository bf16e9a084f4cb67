"""The fast decoder says what the careful one says, of whatever octets: the same value, or the same refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.inference import look
from tests.inference.transcript import transcripts
from workers import decoding

TEXT = st.text(alphabet='ab":\\ \n{}é\ud83d\ude00\udc00', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8,
)  # fmt: skip
PIECES = ['{"a":', '{"a" :', '"a":', '"b"', ",", "{", "}", "[", "]", ":", " ", "1", "1.0", "1e400", "NaN", "-0", '\\":',
          '"\\":"', '"\\\\":', "null", "\ufeff", "18446744073709551616", "\x00", '"\\ud83d"', "0" * 400,
          "'"]  # fmt: skip


def outcome(decode: Callable[[bytes], Any], octets: bytes) -> str:
    """The value, told apart to the type (1 is not 1.0 here), or that there is none and why."""
    try:
        return repr(decode(octets))
    except ValueError as fault:
        return "repeated" if "repeated" in str(fault) else "no JSON"
    except RecursionError:
        return "too deep"


def both(octets: bytes) -> None:
    assert outcome(decoding.decode_request, octets) == outcome(look.decode_request, octets), octets
    assert outcome(decoding.decode_answer, octets) == outcome(look.decode_answer, octets), octets


@settings(max_examples=300)
@given(VALUES, st.sampled_from([None, (",", ":"), (", ", ": "), (",", " : "), (",", "\n:")]), st.booleans())
def test_what_is_json_is_read_the_same(value: Any, separators: Any, is_ascii: bool) -> None:
    text = json.dumps(value, separators=separators, ensure_ascii=is_ascii)
    both(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=10))
@example(['{"a":', "1", ",", '"a":', "1", "}"])
@example(['{"a":', "1", ",", '"a"', " ", ":", "1", "}"])
def test_what_is_nearly_json_is_read_the_same(pieces: list[str]) -> None:
    both("".join(pieces).encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=12))
def test_any_octets_are_read_the_same(octets: bytes) -> None:
    both(octets)
    both(b'{"a":"' + octets + b'"}')


REPEATED = [
    '{"model":"a","model":"b"}', '{"model":"a","model" :"b"}', '{"model" :"a","model" :"b"}', '{"a":"\\":","a":1}',
    '{"a":[{"b":1,"b":2}]}', '{"a":{"b":1,"\\u0062":2}}', '{"a":"x\\":","b\\\\":1,"b\\\\":2}',
    '{"a":1,"a"\r:2,"c":"\\":"}',
]  # fmt: skip


@pytest.mark.parametrize("text", REPEATED)
def test_a_name_that_is_repeated_is_refused_however_it_is_hidden(text: str) -> None:
    assert outcome(decoding.decode_request, text.encode()) == "repeated"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a":[' * 100_000])
def test_what_is_nested_without_an_end_is_a_fault_and_no_crash(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        decoding.decode_request(text.encode())
    with pytest.raises((ValueError, RecursionError)):
        decoding.decode_answer(text.encode())


@pytest.mark.parametrize("transcript", [pytest.param(one, id=one.name) for one in transcripts()])
def test_transcripts_are_read_the_same(transcript: Any) -> None:
    for line in (transcript.answer, *transcript.answer.splitlines()):
        both(line.removeprefix(b"data:").strip())
