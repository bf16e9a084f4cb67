"""Match a pattern in linear time: positions in one integer, steps remembered.

Intuition: put a finger on every place of the pattern where the text read so
far may have got to. The next character moves all fingers at once. However
cunning the text, there are never more fingers than places, so a character costs
the same early and late: no text can make the match explode.

The fingers are the bits of one integer (Glushkov's automaton: one position a
character of the pattern, no empty moves). "y may follow x" is a union of
products `last × first`, one for each operator of the pattern; the commonest
product, "the next position", is a shift. Thus a step is a shift, a few tests and
a mask, whatever the number of fingers.

Steps are remembered (a deterministic automaton, built lazily): a row is a set of
fingers, and maps a character to the next row. `row[character]` is then all
that a character costs. Rows are bounded; when there are too many, all are
forgotten and built anew. Memory stays bounded, time stays linear.

The result never depends on what is remembered, so a Pattern counts as a value.
Rejected: `re` (exponential on `(a|a)*b`), RE2 (does not run in a browser).
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from sentinel.core.regex.syntax import Alternatives, Chars, Repeat, Sequence, Tree

ROWS_MAX: Final = 256
"""Rows remembered per pattern; each holds at most ROW_CELLS_MAX cells."""
ROW_CELLS_MAX: Final = 256  # values are latin-1; beyond that a step is computed anew


STEPS_MAX: Final = 50_000
"""Of a search for examples, some microseconds each: a pattern may have more sets of fingers than there is time for."""


class Examples(NamedTuple):
    """Texts that match. is_complete: nothing was left off that leads to other ones: without texts, nothing matches."""

    texts: tuple[str, ...]
    is_complete: bool


class Pattern:
    """A compiled pattern; `matches` is the only question."""

    __slots__ = ("_program", "prefix", "text")

    def __init__(self, text: str, tree: Tree) -> None:
        self.text = text
        self.prefix = _literal_prefix(tree)
        self._program = Program(tree)

    def matches(self, value: str) -> bool:
        """Say whether the whole value matches."""
        if not value.startswith(self.prefix):
            return False
        row = self._program.start
        for character in value:
            row = row[character]
        return row.is_accepting

    def examples(self, alphabet: str, first: str = "", count: int = 1) -> Examples:
        """Find up to `count` texts that match, the shortest first, made of the characters of an alphabet.

        Of characters that the pattern does not tell apart the first of the alphabet is taken; `first` are those
        that a text may begin with, if not with all. One text is found for each set of fingers.
        """
        program, seen, found = self._program, {1}, []
        choices, openings = program.representatives(alphabet), program.representatives(first or alphabet)
        if program.accepting & 1:
            found.append("")
        waiting, steps = deque([(1, "")]), 0
        while waiting and len(found) < count:
            bits, text = waiting.popleft()
            for character in choices if text else openings:
                steps += 1
                if steps > STEPS_MAX:
                    return Examples(tuple(found), is_complete=False)
                after = program.after(bits, character)
                if not after or after in seen:
                    continue
                seen.add(after)
                waiting.append((after, text + character))
                if after & program.accepting and len(found) < count:
                    found.append(text + character)
        return Examples(tuple(found), is_complete=not waiting)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


class _Row(dict[str, "_Row"]):
    """One set of fingers, and where each character leads from it."""

    __slots__ = ("bits", "is_accepting", "program")

    def __init__(self, program: Program, bits: int) -> None:
        self.program = program
        self.bits = bits
        self.is_accepting = bool(bits & program.accepting)

    def __missing__(self, character: str) -> _Row:
        return self.program.step(self, character)


class Program:
    """The positions of a pattern and the products that lead from one to another.

    Bit 0 is the place before the pattern; the positions of characters follow.
    """

    def __init__(self, tree: Tree) -> None:
        self.sets: list[Chars] = [Chars(frozenset())]
        self.products: dict[int, int] = {}  # last → first
        fragment = self._fragment(tree)
        self._follow(1, fragment.first)
        self.accepting = fragment.last | (1 if fragment.is_nullable else 0)
        self.chained = self._take_chain()
        self.moves = tuple(self.products.items())
        self.masks: dict[str, int] = {}
        self.other = sum(1 << at for at, chars in enumerate(self.sets) if chars.is_negated)
        for character in frozenset().union(*(chars.members for chars in self.sets)):
            self.masks[character] = sum(
                1 << at for at, chars in enumerate(self.sets) if (character in chars.members) is not chars.is_negated
            )
        self.rows: dict[int, _Row] = {}
        self.start = _Row(self, 1)

    def step(self, row: _Row, character: str) -> _Row:
        """Move all fingers of the row over the character, and remember where they went."""
        after = self.after(row.bits, character)
        found = self.rows.get(after)
        if found is None:
            if len(self.rows) >= ROWS_MAX:
                self._forget()
            found = self.rows[after] = _Row(self, after)
        if len(row) < ROW_CELLS_MAX:
            row[character] = found
        return found

    def representatives(self, alphabet: str) -> list[str]:
        """One character of an alphabet for each way in which the pattern looks at characters."""
        found: dict[int, str] = {}
        for character in alphabet:
            found.setdefault(self.masks.get(character, self.other), character)
        return list(found.values())

    def after(self, bits: int, character: str) -> int:
        """Where the fingers are after one more character."""
        after = (bits << 1) & self.chained
        for last, first in self.moves:
            if bits & last:
                after |= first
        return after & self.masks.get(character, self.other)

    def before(self, bits: int) -> int:
        """The places from which a finger may come to one of these."""
        before = (bits & self.chained) >> 1
        for last, first in self.moves:
            if bits & first:
                before |= last
        return before

    def _forget(self) -> None:
        for row in self.rows.values():
            row.clear()  # rows point at each other: break the circles
        self.rows.clear()
        self.start.clear()

    def _follow(self, last: int, first: int) -> None:
        if last and first:
            self.products[last] = self.products.get(last, 0) | first

    def _take_chain(self) -> int:
        """Take out of the products each "only the next position", and return their targets.

        INVARIANT: a position is a shift's target only if it may follow the one before it.
        """
        chained = 0
        for last, first in list(self.products.items()):
            if last & (last - 1) == 0 and first & (last << 1):
                chained |= last << 1
                self.products[last] = first & ~(last << 1)
                if not self.products[last]:
                    del self.products[last]
        return chained

    def _fragment(self, tree: Tree) -> _Fragment:
        match tree:
            case Chars():
                self.sets.append(tree)
                bit = 1 << (len(self.sets) - 1)
                return _Fragment(bit, bit, is_nullable=False)
            case Sequence(parts):
                whole = EMPTY
                for part in parts:
                    whole = self._joined(whole, self._fragment(part))
                return whole
            case Alternatives(parts):
                fragments = [self._fragment(part) for part in parts]
                whole = fragments[0]
                for other in fragments[1:]:
                    whole = _Fragment(
                        whole.first | other.first, whole.last | other.last, whole.is_nullable or other.is_nullable
                    )
                return whole
            case Repeat(part, count_min, count_max):
                return self._repeated(part, count_min, count_max)

    def _joined(self, before: _Fragment, after: _Fragment) -> _Fragment:
        self._follow(before.last, after.first)
        return _Fragment(
            before.first | (after.first if before.is_nullable else 0),
            after.last | (before.last if after.is_nullable else 0),
            before.is_nullable and after.is_nullable,
        )

    def _repeated(self, part: Tree, count_min: int, count_max: int | None) -> _Fragment:
        """Write the repeat out: the required copies, then a loop or the optional copies.

        x{0,3} is written as (x(x(x)?)?)?: a copy is followed by the next one only,
        and by what comes after the whole.
        """
        whole = EMPTY
        for _ in range(count_min - (1 if count_max is None and count_min else 0)):
            whole = self._joined(whole, self._fragment(part))
        if count_max is None:
            loop = self._fragment(part)
            self._follow(loop.last, loop.first)
            return self._joined(whole, _Fragment(loop.first, loop.last, loop.is_nullable or not count_min))
        optional = EMPTY
        previous = EMPTY
        for _ in range(count_max - count_min):
            copy = self._fragment(part)
            self._follow(previous.last, copy.first)
            is_first = previous is EMPTY
            optional = _Fragment(copy.first if is_first else optional.first, optional.last | copy.last, True)
            previous = copy
        return self._joined(whole, optional)


class _Fragment:
    """A part of the pattern: where it may begin, where it may end, whether it may be nothing."""

    __slots__ = ("first", "is_nullable", "last")

    def __init__(self, first: int, last: int, is_nullable: bool) -> None:
        self.first = first
        self.last = last
        self.is_nullable = is_nullable


EMPTY: Final = _Fragment(0, 0, is_nullable=True)


def _literal_prefix(tree: Tree) -> str:
    """Return the characters that every matching value begins with."""
    prefix = ""
    for part in tree.parts if isinstance(tree, Sequence) else (tree,):
        if not isinstance(part, Chars) or part.is_negated or len(part.members) != 1:
            break
        prefix += min(part.members)
    return prefix
