"""KDL text as tokens: nothing is lost, and nothing is refused.

Intuition: a parser reads a configuration to know what it means; this file reads it to
know how it was written. The pieces, laid side by side, are the text again, to
the last blank. So what works on tokens (fmt, migrate) can keep every comment and
change exactly what it means to change.

Rules:
1. `"".join(token.text for token in tokenize(text)) == text`, for any text.
2. Total: what is no KDL becomes a token of kind ERROR with its place, and
   `fault_of` says what is wrong with it. Nothing is raised.
3. Linear: one regular expression that cannot backtrack, and two searches (raw
   strings, nested comments) that never look at a character twice. What is left
   open at the end of the file is one token up to there.
4. The grammar is KDL 1.0. A word is as long as it can be, and then judged:
   `1.5x` is one bad number, not a number beside an identifier.

Rejected: reading the whitespace out of a parser's tree. Parsers keep what
matters to them, and comments do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, unique
from typing import Final, NamedTuple


@unique
class Kind(Enum):
    """What a token is; the values are for tests and messages."""

    SPACE = "space"
    NEWLINE = "newline"  # one line end, of any kind
    LINE_COMMENT = "line comment"  # without its line end
    BLOCK_COMMENT = "block comment"  # may hold others
    SLASHDASH = "slashdash"  # `/-`: the next node, value or block does not count
    CONTINUATION = "continuation"  # the backslash; space, a comment and the line end follow as tokens
    OPEN = "{"
    CLOSE = "}"
    SEMICOLON = ";"
    TYPE_OPEN = "("
    TYPE_CLOSE = ")"
    EQUALS = "="
    STRING = "string"
    RAW_STRING = "raw string"
    NUMBER = "number"
    KEYWORD = "keyword"  # true, false, null
    IDENTIFIER = "identifier"
    ERROR = "error"


class Token(NamedTuple):
    """A piece of the text; `offset` counts characters from 0."""

    kind: Kind
    text: str
    offset: int

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


class TextFault(NamedTuple):
    """What is wrong with a piece of text, and what to do."""

    offset: int
    message: str
    remedy: str


SPACES: Final = "\\t \\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000\\ufeff"
NEWLINES: Final = "\\n\\r\\x0c\\x85\\u2028\\u2029"
NO_WORD: Final = rf'\\/(){{}}<>;\[\]=,"\x00-\x20{SPACES}{NEWLINES}'
ESCAPE: Final = r'\\(?:[nrt\\/"bf]|u\{(?:0?[0-9a-fA-F]{1,5}|10[0-9a-fA-F]{4})\})'

PIECE: Final = re.compile(
    rf"""
      (?P<SPACE> [{SPACES}]+ )
    | (?P<NEWLINE> \r\n | [{NEWLINES}] )
    | (?P<LINE_COMMENT> //[^{NEWLINES}]* )
    | (?P<SLASHDASH> /- )
    | (?P<CONTINUATION> \\ )
    | (?P<OPEN> \{{ )  | (?P<CLOSE> \}} )
    | (?P<SEMICOLON> ; )
    | (?P<TYPE_OPEN> \( )  | (?P<TYPE_CLOSE> \) )
    | (?P<EQUALS> = )
    | (?P<STRING> "(?:[^"\\]++|{ESCAPE})*+" )
    | (?P<bad_string> "(?:[^"\\]++|\\.)*+(?:"|\\?\Z) )
    | (?P<raw> r(?P<hashes>\#*)" )
    | (?P<word> [^{NO_WORD}]+ )
    | (?P<block> /\* )
    | (?P<ERROR> . )
    """,
    re.VERBOSE | re.DOTALL,
)
COMMENT_BORDER: Final = re.compile(r"/\*|\*/")
BAD_ESCAPE: Final = re.compile(rf'"(?:[^"\\]++|{ESCAPE})*+(?=\\)')
NUMBER_START: Final = re.compile(r"[+-]?[0-9]")
DIGITS: Final = "[0-9][0-9_]*"
NUMBER: Final = re.compile(
    rf"[+-]?(?:0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|{DIGITS}(?:\.{DIGITS})?(?:[eE][+-]?{DIGITS})?)"
)
KEYWORDS: Final = frozenset({"true", "false", "null"})
LINE_BREAK: Final = re.compile(r"[\n\r]")


def tokenize(text: str) -> list[Token]:
    """Cut the text into tokens."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    offset = 0
    while offset < len(text):
        found = PIECE.match(text, offset)
        assert found is not None and found.lastgroup is not None, "the last alternative takes any character"
        kind, end = _judged(text, found)
        yield Token(kind, text[offset:end], offset)
        offset = end


def _judged(text: str, found: re.Match[str]) -> tuple[Kind, int]:
    """Say what was found, and where it ends."""
    match found.lastgroup:
        case "word":
            return _word_kind(found[0]), found.end()
        case "raw":
            closing = '"' + found["hashes"]
            end = text.find(closing, found.end())
            return (Kind.ERROR, len(text)) if end < 0 else (Kind.RAW_STRING, end + len(closing))
        case "block":
            return _block_comment(text, found.end())
        case "bad_string":
            return Kind.ERROR, found.end()
        case group:
            return Kind[str(group)], found.end()


def _word_kind(word: str) -> Kind:
    if NUMBER_START.match(word):
        return Kind.NUMBER if NUMBER.fullmatch(word) else Kind.ERROR
    return Kind.KEYWORD if word in KEYWORDS else Kind.IDENTIFIER


def _block_comment(text: str, start: int) -> tuple[Kind, int]:
    """Find the end of a comment that may hold others; an open one ends with the text."""
    depth = 1
    for border in COMMENT_BORDER.finditer(text, start):
        depth += 1 if border[0] == "/*" else -1
        if depth == 0:
            return Kind.BLOCK_COMMENT, border.end()
    return Kind.ERROR, len(text)


def fault_of(token: Token) -> TextFault:
    """Say what is wrong with an ERROR token."""
    text, at = token.text, token.offset
    if text.startswith("/*"):
        return TextFault(at, "this comment is never closed", "end it with `*/`; one within another needs its own")
    if text.startswith('"'):
        escape = BAD_ESCAPE.match(text)
        if escape is not None and escape.end() + 1 < len(text):
            shown = text[escape.end() : escape.end() + 2]
            remedy = 'write one of \\n \\r \\t \\\\ \\/ \\" \\b \\f \\u{1F600}, or a raw string: r"..."'
            return TextFault(at + escape.end(), f"`{visible(shown)}` begins no escape that KDL knows", remedy)
        return TextFault(at, "this string is never closed", 'end it with `"`')
    if text[0] == "r" and text.lstrip("r#").startswith('"'):
        hashes = text[1:].partition('"')[0]
        return TextFault(at, "this raw string is never closed", f'end it with `"{hashes}`')
    if NUMBER_START.match(text):
        return TextFault(at, f"`{visible(text)}` begins like a number and is none", "put text in quotes")
    return TextFault(at, f"`{visible(text)}` has no meaning here", "put text in quotes; comments begin with `//`")


def visible(text: str) -> str:
    shown = text if len(text) <= 40 else text[:40] + "…"
    return "".join(one if one.isprintable() else f"\\u{{{ord(one):x}}}" for one in shown)
