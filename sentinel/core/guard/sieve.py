"""A text that comes bit by bit, judged so that nothing of a find goes on before it is known to be none.

Intuition: a sieve on a running tap. What is small runs through at once; what might belong to something larger stays on
top until the next drop tells.

    settled                context  | undecided
    …and her card is [red  ,  "     | 4111 11            ◀── here it ends for now
                           `- kept for one look back

Rules:
1. What goes on is what `Guard.judge` would have made of the whole text, however it was cut (tests/property).
2. What is withheld is what some finder calls open, and finds that reach into it: at most two finds long. Of plain prose
   that is the last word, or nothing.
3. A find that is longer than that (many that overlap) goes on blotted out as far as it is settled; as much of it as a
   find is long is kept to know where it ends.
4. In a text that is JSON itself (arguments of tools, bit by bit) what replaces a number that stands for itself gets
   quotes, so that it stays JSON.
"""

from __future__ import annotations

import re
from typing import Final

from sentinel.core.guard.guards import Counts, Find, Guard

QUOTE: Final = re.compile(r'["\\]')


class Sieve:
    """One text on its way through one guardrail. What is found is added to `counts`."""

    __slots__ = ("_done", "_guard", "_is_escaped", "_is_inside", "_is_json", "_is_string", "_text", "counts")

    def __init__(self, guard: Guard, counts: Counts, *, is_json: bool = False) -> None:
        self.counts = counts
        self._guard = guard
        self._text = ""  # a look back, and what is undecided
        self._done = 0  # so much of it has gone on
        self._is_inside = False  # the last that went on was within a find
        self._is_json = is_json
        self._is_string = self._is_escaped = False

    @property
    def is_observer(self) -> bool:
        return self._guard.action == "observe"

    @property
    def held_chars(self) -> int:
        return len(self._text) - self._done

    def feed(self, more: str, *, is_end: bool = False) -> str:
        """What goes on of it."""
        text, guard = self._text + more, self._guard
        finds = guard.finds(text)
        border = len(text) if is_end else max(guard.open_from(text), self._done)
        across = next((one for one in finds if one.start < border < one.end), None)
        if across is not None and border - max(across.start, self._done) <= guard.chars_max:
            border = max(across.start, self._done)
            across = None
        out = self._said(text, finds, border)
        self._is_inside = across is not None and border > self._done
        # One character back for whoever looks at what stands before a find; of a find that goes on, all that matters.
        kept = max(0, border - (1 if across is None else guard.chars_max + 1))
        self._text, self._done = text[kept:], border - kept
        return out

    def _said(self, text: str, finds: list[Find], border: int) -> str:
        out: list[str] = []
        at = self._done
        guard, is_inside = self._guard, self._is_inside
        for find in finds:
            if find.end <= self._done:
                continue
            if find.start >= border:
                break
            is_new = not (is_inside and find.start <= self._done)
            if is_new:
                self.counts[find.kind] = self.counts.get(find.kind, 0) + 1
            if guard.action != "redact":
                continue
            before = self._plain(text[at : max(find.start, at)], out)
            if is_new:
                out.append(self._quoted(guard.replacement[find.kind], before))
            at = min(find.end, border)
        self._plain(text[at:border], out)
        return "".join(out)

    def _plain(self, piece: str, out: list[str]) -> str:
        """Let a piece go on; of JSON it is known whether a string is open at its end."""
        if self._is_json and piece:
            self._follow(piece)
        out.append(piece)
        return piece

    def _quoted(self, replacement: str, before: str) -> str:
        if not self._is_json:
            return replacement
        if not self._is_string:
            return f'"{replacement}"'
        if self._is_escaped:  # the find begins with what a backslash belonged to
            self._is_escaped = False
            return f"u002a{replacement}"
        return replacement

    def _follow(self, piece: str) -> None:
        at = 0
        while True:
            if self._is_escaped:
                self._is_escaped = False
                at += 1
            found = QUOTE.search(piece, at)
            if found is None:
                return
            at = found.end()
            if found.group() == '"':
                self._is_string = not self._is_string
            else:
                self._is_escaped = self._is_string
                if self._is_escaped and at >= len(piece):
                    return
