"""Tokens that are counted: in slices as in one piece, and never more than is worth it at once."""

from __future__ import annotations

import sys

import bpe_openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.vocabularies import ENCODINGS, SLICE_CHARS, VocabularyFault, counters, sliced

SAID = ("the", "gateway", "reads", "caf\u00e9", "\u6f22\u5b57", "12,345", "x" * 40)
WORDS = st.lists(st.sampled_from(SAID), min_size=1)


COUNTERS = counters(list(ENCODINGS))


@pytest.mark.parametrize("name", ENCODINGS)
@given(WORDS, st.integers(1, 9000))
def test_slices_end_where_words_do(name: str, words: list[str], times: int) -> None:
    text = (" ".join(words) + " ") * min(times, 3 * SLICE_CHARS // (len(words) * 3) + 1)
    whole = len(bpe_openai.get_encoding(ENCODINGS[name]).encode_ordinary(text))
    assert COUNTERS[name](text) == whole


def test_what_has_no_blanks_is_cut_all_the_same() -> None:
    asked: list[int] = []
    count = sliced(lambda text: [asked.append(len(text))] * len(text))  # type: ignore[list-item,func-returns-value]
    assert count("x" * 10**6) == 10**6 and max(asked) == SLICE_CHARS
    assert COUNTERS["o200k"]("\u6f22" * 10**6) > 10**5


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counters([]) == {}
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    with pytest.raises(VocabularyFault, match="o200k cannot be loaded"):
        counters(["o200k"])
