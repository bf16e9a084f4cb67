"""From places in a text to the stretch of it that is meant: where an editor draws its line.

Problems and steps name where something begins (core.span). Where it ends is what the tokens of the
text say (config.tokens): a name, a string, a number is one token, however the parser read it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from sentinel.config.tokens import Kind, tokenize
from sentinel.core.span import Span

SPACELIKE = frozenset({Kind.SPACE, Kind.NEWLINE, Kind.LINE_COMMENT, Kind.BLOCK_COMMENT})


class Ends:
    """Where what begins at a place ends; columns count characters from 1, and the end is the first one after it."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines[:-1]:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._tokens = [token for token in tokenize(text) if token.kind not in SPACELIKE]
        self._offsets = [token.offset for token in self._tokens]

    def of(self, span: Span) -> int:
        """The column where it ends, on its own line; 0 when the place is not in this text."""
        if span.file != self._file or not 1 <= span.line <= len(self._lines) or span.column < 1:
            return 0
        line = self._lines[span.line - 1].rstrip("\r")
        start = self._starts[span.line - 1]
        offset = start + span.column - 1
        at = bisect_right(self._offsets, offset) - 1
        end = self._tokens[at].end if at >= 0 and self._tokens[at].end > offset else offset + 1
        return max(min(end - start + 1, len(line) + 1), span.column)

    def among(self, places: Iterable[str]) -> dict[str, int]:
        """The ends of places that are written `file:line:column`, of those that are in this text."""
        found = {}
        for place in places:
            file, _, rest = place.rpartition(":")
            file, _, line = file.rpartition(":")
            if line.isdecimal() and rest.isdecimal() and (end := self.of(Span(file, int(line), int(rest)))):
                found[place] = end
        return found
