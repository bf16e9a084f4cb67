"""Find what a pattern matches anywhere in a text, in linear time: two walks, and where they meet.

Intuition: a footpath with many beginnings. One walker goes forwards and marks every place that some beginning leads
to; another one goes backwards from every end. Where both have been there is a way from a beginning to an end: these
places are the path.

What is found is the *union* of all matches: a character belongs to it if some match has it. That is what whoever blots
out wants; it needs no rule about which of two overlapping matches counts, and it takes two walks whatever the text is.
(The one forwards says that there is nothing, which is what it says nearly always.)

The fingers are those of `automaton`; here one is put down anew before each character. A match has at most `CHARS_MAX`
characters: what is looked for in a stream, and may go on for ever, could never be let go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sentinel.core.regex.automaton import ROW_CELLS_MAX, ROWS_MAX, Program
from sentinel.core.regex.syntax import Alternatives, BadPattern, Chars, Repeat, Sequence, Tree, parse

CHARS_MAX: Final = 256

Spans = list[tuple[int, int]]
"""Begins and ends, in order; none touches another one."""


class Search:
    """A pattern that is looked for; raises BadPattern for one that has no bound, or matches nothing at all."""

    __slots__ = ("_backward", "_begins", "_forward", "_program", "chars_max", "text")

    def __init__(self, text: str) -> None:
        tree = parse(text)
        least, most = _lengths(tree)
        if most is None:
            raise BadPattern(0, "what it finds could be of any length; bound its repeats, like `{1,64}` for `+`")
        if least == 0:
            raise BadPattern(0, "it matches the empty text, so it would be found everywhere")
        if most > CHARS_MAX:
            raise BadPattern(0, f"what it finds could have {most} characters; {CHARS_MAX} are the most")
        self.text = text
        self.chars_max = most
        self._program = program = Program(tree)
        self._forward = _Rows(lambda bits, character: program.after(bits | 1, character))
        self._backward = _Rows(lambda bits, character: bits & program.masks.get(character, program.other))
        self._begins = _beginnings(program)

    def spans(self, text: str) -> Spans:
        """Where the characters of all matches are."""
        reached, ends = self._walk(text)
        if not ends:
            return []
        program, rows = self._program, self._backward
        found: list[int] = []
        wanted, accepting = 0, program.accepting
        for at in range(max(ends), -1, -1):
            if at in ends:
                wanted |= accepting
            if wanted:
                row = rows.at(wanted)[text[at]]
                if row.bits & reached.get(at, 0):
                    found.append(at)
                if row.before < 0:
                    row.before = program.before(row.bits)
                wanted = row.before
        return _joined(found)

    def open_from(self, text: str) -> int:
        """From where on more text could make a match, or a longer one; the length of the text: from nowhere."""
        row = idle = self._forward.at(0)
        since = start = max(0, len(text) - self.chars_max)
        for at in range(start, len(text)):
            if row is idle:
                since = at
            row = row[text[at]]
            if not row.bits:
                row = idle
        return len(text) if row is idle else since

    def _walk(self, text: str) -> tuple[dict[int, int], set[int]]:
        """The fingers after each character where there are any; and the characters that are the last of a match."""
        reached: dict[int, int] = {}
        ends: set[int] = set()
        row = idle = self._forward.at(0)
        accepting, begins = self._program.accepting, self._begins
        at, size = 0, len(text)
        while at < size:
            if row is idle and begins is not None:
                beginning = begins.search(text, at)
                if beginning is None:
                    break
                at = beginning.start()
            row = row[text[at]]
            bits = row.bits
            if bits:
                reached[at] = bits
                if bits & accepting:
                    ends.add(at)
            else:
                row = idle
            at += 1
        return reached, ends

    def __repr__(self) -> str:
        return f"Search({self.text!r})"


class _Row(dict[str, "_Row"]):
    """A set of fingers, and where each character leads from it."""

    __slots__ = ("before", "bits", "rows")

    def __init__(self, rows: _Rows, bits: int) -> None:
        self.rows = rows
        self.bits = bits
        self.before = -1  # where they may come from, once somebody wanted to know

    def __missing__(self, character: str) -> _Row:
        row = self.rows.at(self.rows.step(self.bits, character))
        if len(self) < ROW_CELLS_MAX:
            self[character] = row
        return row


class _Rows:
    """The steps that are remembered in one direction; when there are too many they are forgotten."""

    __slots__ = ("_known", "step")

    def __init__(self, step: Callable[[int, str], int]) -> None:
        self.step = step
        self._known: dict[int, _Row] = {}

    def at(self, bits: int) -> _Row:
        row = self._known.get(bits)
        if row is None:
            if len(self._known) >= ROWS_MAX:
                for one in self._known.values():
                    one.clear()  # rows point at each other: break the circles
                self._known.clear()
            row = self._known[bits] = _Row(self, bits)
        return row


def _lengths(tree: Tree) -> tuple[int, int | None]:
    """How few and how many characters a match has; None: there is no most."""
    match tree:
        case Chars():
            return 1, 1
        case Sequence(parts):
            pairs = [_lengths(part) for part in parts]
            most = [one for _, one in pairs if one is not None]
            return sum(one for one, _ in pairs), sum(most) if len(most) == len(pairs) else None
        case Alternatives(parts):
            pairs = [_lengths(part) for part in parts]
            most = [one for _, one in pairs if one is not None]
            return min(one for one, _ in pairs), max(most) if len(most) == len(pairs) else None
        case Repeat(part, count_min, count_max):
            least, longest = _lengths(part)
            if count_max is None or longest is None:
                return least * count_min, 0 if longest == 0 else None
            return least * count_min, longest * count_max


def _beginnings(program: Program) -> re.Pattern[str] | None:
    """What finds the next character with which a match may begin; None where that is nearly any."""
    first = program.after(1, "\0") if program.other else 0
    members = [character for character in program.masks if program.after(1, character)]
    if first or not members:
        return None
    return re.compile(f"[{re.escape(''.join(sorted(members)))}]")


def _joined(backwards: list[int]) -> Spans:
    """Places, the last one first, as spans."""
    found: Spans = []
    for at in reversed(backwards):
        if found and found[-1][1] == at:
            found[-1] = found[-1][0], at + 1
        else:
            found.append((at, at + 1))
    return found
