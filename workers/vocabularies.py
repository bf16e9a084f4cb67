"""Tokens of text, counted with the vocabularies of OpenAI's models; who tells workers to is `system { vocabularies }`.

Intuition: a foreign-language dictionary. It is heavy, so only who was told to carries one; but who has it need not
guess.

A vocabulary takes some 0.1 GiB of each worker, and as many seconds of its start, and is there before the worker is
ready. Without one, tokens are estimated by a ratio that is learnt (sentinel/inference/estimate.py).

Long text is counted in slices: one call holds the interpreter for at most about two milliseconds, whatever is in
it, and the package refuses to take a million characters at once. A slice ends before a blank where there is one, for
there a word begins and no token goes over it; elsewhere a cut may count one token too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sentinel.inference.sheet import Count

ENCODINGS: Final = {"o200k": "o200k_base", "cl100k": "cl100k_base"}
SLICE_CHARS: Final = 16 * 1024


class VocabularyFault(OSError):
    """A vocabulary cannot be loaded."""


def counters(names: Sequence[str]) -> dict[str, Count]:
    """What counts, by the name of its vocabulary; raises VocabularyFault."""
    if not names:
        return {}
    try:
        import bpe_openai  # type: ignore[import-untyped,unused-ignore]

        return {name: sliced(bpe_openai.get_encoding(ENCODINGS[name]).encode_ordinary) for name in names}
    except (ImportError, OSError, ValueError) as fault:
        remedy = "; pip install 'sentinel-gateway[inference]'" if isinstance(fault, ImportError) else ""
        raise VocabularyFault(f"the vocabularies {', '.join(names)} cannot be loaded: {fault}{remedy}") from None


def late(names: Sequence[str]) -> dict[str, Count]:
    """The same for whoever may never count: each is loaded at its first use, which may raise VocabularyFault."""
    return {name: _late(name) for name in names}


def _late(name: str) -> Count:
    found: list[Count] = []

    def count(text: str) -> int:
        if not found:
            found.extend(counters((name,)).values())
        return found[0](text)

    return count


def sliced(encode: Callable[[str], list[int]]) -> Count:
    """A counter of any text. `encode`: of a slice; text that looks like a special token is text."""

    def count(text: str) -> int:
        if len(text) <= SLICE_CHARS:
            return len(encode(text))
        total = at = 0
        while len(text) - at > SLICE_CHARS:
            blank = text.rfind(" ", at + SLICE_CHARS // 2, at + SLICE_CHARS)
            end = at + SLICE_CHARS if blank < 0 else blank
            total += len(encode(text[at:end]))
            at = end
        return total + len(encode(text[at:]))

    return count
