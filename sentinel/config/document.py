"""From KDL text to a document: nodes, arguments and properties, each with its place.

The parser is kdl-py; it tells its converters where a node or a value stands, and we keep
that. It is a recursive parser without bounds of its own, so before it sees a text a
scan of one pass decides what it may be asked to parse: the nesting, the length of numbers
and exponents. So whatever the text is, the answer is a document or one located fault.

    text -> scan (bounds) -> kdl-py (converters keep offsets) -> Node, Value, Span

Rule 1: nothing is interpreted here. A value is text, number, boolean or null with an
    optional type annotation; what it means is the schema's affair.
Rule 2: KDL 1.0 lets the last of equal properties win. An operator who wrote two meant
    one of them: that is a fault.

Rejected: a parser of our own with spans everywhere. It would be the third parser of KDL in the
world that is nearly right; the spans that kdl-py does not give (of property names)
can be found from those that it does.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Final, Literal

from kdl.errors import ParseError, ParseFragment
from kdl.parsefuncs import parse as parse_kdl
from kdl.parsing import ParseConfig
from kdl.types import Bool, Decimal, Null, RawString, String

from sentinel.core.span import Span

NESTING_MAX: Final = 64
"""Depth of children and of nested comments; ours is at most 8."""
PROPERTIES_MAX: Final = 64
"""Of one node; ours have two at most, and the place of each is searched for in the node's text."""
NUMBER_CHARS_MAX: Final = 40
"""A longer number is none that any directive takes."""

Kind = Literal["text", "integer", "number", "boolean", "null"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """An argument or the value of a property; `tag` is its type annotation, `written` the text that it stands for."""

    kind: Kind
    value: Any
    tag: str | None
    span: Span
    written: str
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node; `keys` has the places of the names of its properties."""

    name: str
    tag: str | None
    args: tuple[Value, ...]
    props: dict[str, Value]
    keys: dict[str, Span]
    children: tuple[Node, ...]
    span: Span


class SyntaxFault(Exception):
    """The text is not KDL 1.0, or beyond our bounds."""

    def __init__(self, span: Span, message: str, remedy: str = "") -> None:
        super().__init__(f"{span}: {message}")
        self.span = span
        self.message = message
        self.remedy = remedy


def parse(text: str, file: str) -> tuple[Node, ...]:
    """The nodes of a text; SyntaxFault says where it is not KDL 1.0."""
    places = Places(text, file)
    text = _scan(text, places)
    reader = _Reader(text, places)
    config = ParseConfig(
        nativeUntaggedValues=False, nativeTaggedValues=False,
        valueConverters={...: reader.value}, nodeConverters={...: reader.node},
    )  # fmt: skip
    try:
        return tuple(parse_kdl(text, config).nodes)
    except ParseError as fault:
        span = places.checked(fault.line, fault.col)
        if "Junk after node" in fault.msg and text.startswith("}", places.offset(span)):
            raise SyntaxFault(span, *UNENDED) from None
        raise SyntaxFault(span, *_said(fault)) from None


class Places:
    """Offsets to lines and columns of one text."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def span(self, offset: int) -> Span:
        line = bisect_right(self._starts, offset)
        return Span(self.file, line, offset - self._starts[line - 1] + 1)

    def offset(self, span: Span) -> int:
        return self._starts[span.line - 1] + span.column - 1

    def checked(self, line: int, column: int) -> Span:
        """A place told by the parser; at the end of the text it may be one beyond."""
        return Span(self.file, min(line, len(self._starts)), max(column, 1))


class _Reader:
    """kdl-py's converters: they see every value and node with its offset, innermost first."""

    def __init__(self, text: str, places: Places) -> None:
        self._text = text
        self._places = places

    def value(self, found: Any, fragment: ParseFragment) -> Value:
        offset = fragment._i - len(fragment.fragment)
        kind, value = _plain(found, fragment)
        span = self._places.span(offset)
        if kind == "text" and not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
            raise SyntaxFault(span, "half of a surrogate pair is no character", "write the character itself")
        return Value(kind, value, found.tag, span, fragment.fragment, offset)

    def node(self, found: Any, fragment: ParseFragment) -> Node:
        start = fragment._i
        if len(found.props) > PROPERTIES_MAX:
            raise SyntaxFault(self._places.span(start), f"this node has more than {PROPERTIES_MAX} properties")
        keys = {name: self._key(name, value, start) for name, value in found.props.items()}
        return Node(
            found.name, found.tag, tuple(found.args), dict(found.props), keys, tuple(found.nodes or ()),
            self._places.span(start),
        )  # fmt: skip

    def _key(self, name: str, value: Value, start: int) -> Span:
        """Where the name of a property stands: before the last `=` before its value."""
        equals = self._text.rfind("=", start, value.offset)
        word = re.escape(name)
        written = re.compile(rf'(?<=[\s\\])(?:{word}|"{word}"|r(#*)"{word}"\1)=')
        found = [one for one in written.finditer(self._text, start, equals + 1) if one.end() == equals + 1]
        if not found:
            return value.span  # its name is written with escapes
        key = found[0].start()
        before = written.search(self._text, start, key)
        if before and _is_key(self._text, start, before.start(), self._places):
            also = self._places.span(before.start())
            raise SyntaxFault(
                self._places.span(key), f"the property `{name}` is given twice",
                f"remove one of the two; the other is at {also.line}:{also.column}",
            )  # fmt: skip
        return self._places.span(key)


def _is_key(text: str, start: int, offset: int, places: Places) -> bool:
    """Whether what stands there is part of the node itself: not in a string or a comment, and not commented out."""
    at = start
    while (token := TOKENS.search(text, at)) is not None and token.start() < offset:
        at = _end_of_comment(text, token.start(), places) if token.lastgroup == "block" else token.end()
    return at <= offset and not re.compile(r"/-\s*$").search(text, max(start, offset - 80), offset)


def _plain(found: Any, fragment: ParseFragment) -> tuple[Kind, Any]:
    match found:
        case String() | RawString():
            return "text", found.value
        case Bool():
            return "boolean", found.value
        case Null():
            return "null", None
        case Decimal():
            if isinstance(found.mantissa, int) and not re.search("[.eE]", fragment.fragment):
                return "integer", found.mantissa
            try:
                return "number", float(fragment.fragment.replace("_", ""))
            except (ValueError, OverflowError):
                return "number", float("inf")
        case _:
            return "integer", found.value


# What the scan knows of KDL: where strings and comments are, so that it sees only the braces that count.
TOKENS: Final = re.compile(
    r"""
      (?P<raw>(?<![^\s=()\[\]{};,"<>/\\])r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<unclosed>(?<![^\s=()\[\]{};,"<>/\\])r\#*")
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<line>//[^\n\r\x85\x0c\u2028\u2029]*)
    | (?P<block>/\*)
    | (?P<continued>\\[^\S\r\n]*\r\n)
    | (?P<brace>[{}])
    | (?P<number>(?<![^\s=(){};])[+-]?[0-9][0-9a-zA-Z_.+-]*)
    """,
    re.VERBOSE | re.DOTALL,
)
COMMENT_EDGES: Final = re.compile(r"/\*|\*/")
EXPONENT_DIGITS_MAX: Final = 3


def _scan(text: str, places: Places) -> str:
    """Check the bounds; returns the text as kdl-py needs it (same length: offsets stay what they are)."""
    depth, at = 0, 0
    pieces: list[str] = []
    copied = 0
    while (token := TOKENS.search(text, at)) is not None:
        at = token.end()
        match token.lastgroup:
            case "brace":
                depth += 1 if token.group() == "{" else -1
                if depth > NESTING_MAX:
                    raise SyntaxFault(
                        places.span(token.start()), f"children are nested deeper than {NESTING_MAX} levels"
                    )
            case "unclosed":
                raise SyntaxFault(
                    places.span(token.start()), "this raw string has no end", 'close it as it began: r"…", r#"…"#'
                )
            case "block":
                at = _end_of_comment(text, token.start(), places)
            case "number":
                _check_number(token.group(), places.span(token.start()))
            case "continued":  # kdl-py knows only the line feed here
                pieces += [text[copied : token.end() - 2], " "]
                copied = token.end() - 1
    return "".join([*pieces, text[copied:]]) if pieces else text


def _end_of_comment(text: str, start: int, places: Places) -> int:
    depth, at = 0, start
    while (edge := COMMENT_EDGES.search(text, at)) is not None:
        at = edge.end()
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return at
        if depth > NESTING_MAX:
            raise SyntaxFault(places.span(edge.start()), f"comments are nested deeper than {NESTING_MAX} levels")
    raise SyntaxFault(places.span(start), "this comment has no end", "close it with `*/`")


def _check_number(written: str, span: Span) -> None:
    exponent = re.search(r"[eE][+-]?([0-9_]+)$", written)
    is_hexadecimal = written.lstrip("+-").startswith("0x")
    if len(written) > NUMBER_CHARS_MAX or (
        exponent and not is_hexadecimal and len(exponent.group(1)) > EXPONENT_DIGITS_MAX
    ):
        raise SyntaxFault(span, "this number is longer than any that a configuration needs", "put text in quotes")


def _said(fault: ParseError) -> tuple[str, str]:
    """kdl-py's message without its own place, in one line, and what to do about the frequent ones."""
    text = " ".join(fault.msg.split("parse error:", 1)[-1].split()).rstrip(".")
    for part, remedy in REMEDIES.items():
        if part in text:
            return f"not KDL: {text[:1].lower()}{text[1:]}", remedy
    return f"not KDL: {text[:1].lower()}{text[1:]}", ""


UNENDED: Final = (
    "the node before this `}` has not ended",
    "write `;` before the `}`, or put it on a line of its own: KDL 1.0 ends nodes with their line or with `;`",
)
REMEDIES: Final = {
    "Junk after node": "text is written in quotes, and a node ends with its line or with `;`",
    "Hit EOF while searching for end of child list": "a `{` has no `}`",
    "Hit EOF while looking for the end of the string": "close the string with a quotation mark",
    "Expected a node": "a node begins with its name, as in `workers 2`",
    "junk after the initial digit": "put text that begins with a digit in quotes",
    "Invalid character escape": 'write a backslash as `\\\\`, or use a raw string: r"…"',
}
