"""The pattern language of routes: its grammar, as a tree.

    alternatives  sequence ("|" sequence)*
    sequence      (item repeat?)*
    repeat        "*" | "+" | "?" | "{" n "}" | "{" n ",}" | "{" n "," m "}"
    item          character | "." | class | "\\" escape | "(" alternatives ")" | "(?:" alternatives ")"
    class         "[" "^"? (character ("-" character)? | "\\" escape)+ "]"
    escape        d D w W s S | t n r f v | xHH | any punctuation, for itself

A pattern always matches the *whole* value, in the case it is written in. `.`
is any character, `\\d \\w \\s` are those of ASCII. What other dialects have
beyond that is refused with a position and a word of advice, and never read as
something else: anchors (they would say nothing, or mislead), lazy and possessive
repeats (they would change nothing), look-around and back references (they
cannot be matched in linear time).

A bounded repeat is written out, so `(a{100}){100}` would be large: the number of
characters a pattern expands to is limited (POSITIONS_MAX).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POSITIONS_MAX: Final = 500
"""A step of the automaton costs time in proportion to this, in the worst case."""
DEPTH_MAX: Final = 50  # nested groups; the parser recurses
DIGITS_MAX: Final = 4  # of a bound, well beyond POSITIONS_MAX


class BadPattern(ValueError):
    """The pattern is not of our language; `position` counts characters from 0."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"{problem} (at character {position + 1})")
        self.position = position
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Chars:
    """One character: of the set, or (negated) any but those of the set."""

    members: frozenset[str]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`count_max` None: without end."""

    part: Tree
    count_min: int
    count_max: int | None


Tree = Chars | Sequence | Alternatives | Repeat

ASCII: Final = frozenset(map(chr, range(128)))
DIGITS: Final = frozenset("0123456789")
WORD: Final = DIGITS | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
SPACE: Final = frozenset(" \t\n\r\f\v")
SETS: Final = {"d": DIGITS, "w": WORD, "s": SPACE}
CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
ADVICE: Final = {
    "^": "a pattern always matches the whole value: leave `^` out",
    "$": "a pattern always matches the whole value: leave `$` out",
}


def parse(text: str) -> Tree:
    """Parse a pattern, or raise BadPattern."""
    parser = _Parser(text)
    tree = parser.alternatives(depth=0)
    if parser.at < len(text):
        raise BadPattern(parser.at, "`)` without `(`")
    if positions(tree) > POSITIONS_MAX:
        raise BadPattern(0, f"the pattern is too large: written out, it has more than {POSITIONS_MAX} characters")
    return tree


def positions(tree: Tree) -> int:
    """Count the characters that the tree has once its repeats are written out."""
    match tree:
        case Chars():
            return 1
        case Repeat(part, count_min, count_max):
            return positions(part) * max(count_min if count_max is None else count_max, 1)
        case Sequence(parts) | Alternatives(parts):
            return max(sum(positions(part) for part in parts), 1)  # `(){9999}` costs time too


class _Parser:
    """Recursive descent; `at` is the place of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        return self.text[self.at + ahead : self.at + ahead + 1]

    def take(self) -> str:
        character = self.peek()
        self.at += 1
        return character

    def fail(self, problem: str, position: int | None = None) -> BadPattern:
        return BadPattern(self.at if position is None else position, problem)

    def alternatives(self, depth: int) -> Tree:
        if depth > DEPTH_MAX:
            raise self.fail(f"groups are nested deeper than {DEPTH_MAX}")
        parts = [self.sequence(depth)]
        while self.peek() == "|":
            self.take()
            parts.append(self.sequence(depth))
        return parts[0] if len(parts) == 1 else _alternatives(parts)

    def sequence(self, depth: int) -> Tree:
        parts: list[Tree] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.item(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def item(self, depth: int) -> Tree:
        start = self.at
        character = self.take()
        if character == "(":
            return self.group(depth, start)
        if character == "[":
            return self.character_class(start)
        if character == ".":
            return Chars(frozenset(), is_negated=True)
        if character == "\\":
            return self.escape(start)
        if character in "*+?{":
            raise self.fail(f"`{character}` repeats nothing; write `\\{character}` for the character", start)
        if character in ADVICE:
            raise self.fail(ADVICE[character], start)
        return Chars(frozenset(character))

    def group(self, depth: int, start: int) -> Tree:
        if self.peek() == "?":
            if self.peek(1) != ":":
                raise self.fail("only plain groups `(…)` and `(?:…)` exist here", start)
            self.at += 2
        tree = self.alternatives(depth + 1)
        if self.take() != ")":
            raise self.fail("`(` is never closed", start)
        return tree

    def repeated(self, item: Tree) -> Tree:
        start = self.at
        bounds = self.bounds()
        if bounds is None:
            return item
        if self.peek() in ("?", "+", "*", "{") and self.peek():
            raise self.fail("a repeat of a repeat: use a group; lazy and possessive repeats do not exist here")
        if bounds[1] is not None and bounds[1] < bounds[0]:
            raise self.fail("the bounds of the repeat are the wrong way round", start)
        return Repeat(item, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        match self.peek():
            case "*":
                self.at += 1
                return 0, None
            case "+":
                self.at += 1
                return 1, None
            case "?":
                self.at += 1
                return 0, 1
            case "{":
                return self.braces()
            case _:
                return None

    def braces(self) -> tuple[int, int | None]:
        start = self.at
        inner, closed, _ = self.text[start + 1 :].partition("}")
        low, comma, high = inner.partition(",")
        if not closed or not _is_bound(low) or (high and not _is_bound(high)):
            raise self.fail("a repeat is `{n}`, `{n,}` or `{n,m}`; write `\\{` for the character", start)
        self.at += len(inner) + 2
        return int(low), (int(high) if high else None) if comma else int(low)

    def character_class(self, start: int) -> Chars:
        is_negated = self.peek() == "^"
        self.at += is_negated
        members: set[str] = set()
        while self.peek() != "]" or not members:
            if not self.peek():
                raise self.fail("`[` is never closed", start)
            if self.peek() == "]":
                raise self.fail("an empty class; write `\\]` for the character")
            members |= self.class_item()
        self.take()
        return Chars(frozenset(members), is_negated)

    def class_item(self) -> frozenset[str]:
        start = self.at
        low = self.class_member()
        if self.peek() != "-" or self.peek(1) in ("]", ""):
            return low
        self.take()
        high = self.class_member()
        if len(low) != 1 or len(high) != 1:
            raise self.fail("a range needs a character on both sides", start)
        first, last = ord(min(low)), ord(min(high))
        if first > last:
            raise self.fail("the range is the wrong way round", start)
        if last > 0xFF:
            raise self.fail("ranges end at U+00FF: values are octets here", start)
        return frozenset(map(chr, range(first, last + 1)))

    def class_member(self) -> frozenset[str]:
        start = self.at
        character = self.take()
        if character != "\\":
            return frozenset(character)
        chars = self.escape(start)
        if chars.is_negated:
            raise self.fail("a negated set inside a class does not exist here; negate the class", start)
        return chars.members

    def escape(self, start: int) -> Chars:
        letter = self.take()
        if letter.lower() in SETS:
            return Chars(SETS[letter.lower()], is_negated=letter.isupper())
        if letter in CONTROLS:
            return Chars(frozenset(CONTROLS[letter]))
        if letter == "x":
            digits = self.text[self.at : self.at + 2]
            if len(digits) != 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise self.fail("`\\x` wants two hexadecimal digits", start)
            self.at += 2
            return Chars(frozenset(chr(int(digits, 16))))
        if not letter or letter not in ASCII or letter in WORD - {"_"}:
            raise self.fail(f"the escape `\\{letter}` does not exist here", start)
        return Chars(frozenset(letter))


def _alternatives(parts: list[Tree]) -> Tree:
    """Fold alternatives of one character each into a class: it is cheaper to match."""
    if all(isinstance(part, Chars) and not part.is_negated for part in parts):
        return Chars(frozenset().union(*(part.members for part in parts if isinstance(part, Chars))))
    return Alternatives(tuple(parts))


def _is_bound(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX
