"""The concrete tree: nodes as they are written, with every comment at its place.

Intuition: a shorthand of the page. The page says what stands beside what: this
comment belongs to that line, here the author left a blank line, there two
nodes share one. Spaces are not in it; whoever prints the tree decides about them.

    Body      the nodes of a file or a block, and the comment lines after the last
    Written   one node: comment lines above it, its items, its block, comments behind it
    Item      a word (`name`, `"value"`, `key=(type)1`), a comment, a continuation, a `/-`

Rules:
1. The tree holds all significant tokens and all comments, in their order. What
   is left out: spaces, line ends, and semicolons.
2. What KDL 1.0 does not allow is a fault with its offset, and there is no tree.
   A semicolon before `}` may be missing (later versions of KDL allow that).
3. No recursion: depth is bounded by NESTING_MAX, not by the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Final

from sentinel.config.tokens import LINE_BREAK, Kind, TextFault, Token, fault_of, tokenize, visible

NESTING_MAX: Final = 64
"""Blocks within blocks. Our deepest directives need eight; the rest is a mistake or an attack."""


@unique
class ItemKind(Enum):
    WORD, SLASHDASH, COMMENT, LINE_COMMENT, CONTINUATION = range(5)


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of a node's line. Words are whole: `key=(type)"value"` is one, made of `tokens`."""

    kind: ItemKind
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


@dataclass(slots=True)
class CommentLine:
    """Comments that have a line to themselves."""

    comments: list[Item]
    has_blank_above: bool


@dataclass(slots=True)
class Written:
    """One node. `behind` are the comments after its last word or its block, on the same line."""

    above: list[CommentLine] = field(default_factory=list)
    before: list[Item] = field(default_factory=list)  # comments on the same line
    has_blank_above: bool = False
    items: list[Item] = field(default_factory=list)
    block: Body | None = None
    behind: list[Item] = field(default_factory=list)

    @property
    def words(self) -> list[Item]:
        return [item for item in self.items if item.kind is ItemKind.WORD]

    @property
    def has_name(self) -> bool:
        return any(item.kind is ItemKind.WORD for item in self.items)


@dataclass(slots=True)
class Body:
    """What a file or a block holds. `is_inline`: it was written on one line."""

    is_inline: bool
    opening: list[Item] = field(default_factory=list)  # comments behind `{`, on its line
    nodes: list[Written] = field(default_factory=list)
    below: list[CommentLine] = field(default_factory=list)  # after the last node


COMMENTS: Final = {Kind.LINE_COMMENT: ItemKind.LINE_COMMENT, Kind.BLOCK_COMMENT: ItemKind.COMMENT}
VALUES: Final = frozenset({Kind.STRING, Kind.RAW_STRING, Kind.NUMBER, Kind.KEYWORD})
NAMES: Final = frozenset({Kind.STRING, Kind.RAW_STRING, Kind.IDENTIFIER})
WORD_STARTS: Final = VALUES | NAMES | {Kind.TYPE_OPEN}
NODE_ENDS: Final = frozenset({Kind.NEWLINE, Kind.LINE_COMMENT, Kind.SEMICOLON, Kind.CLOSE})


def read_concrete(text: str) -> Body | TextFault:
    """Return the tree of a text, or the first thing in it that is no KDL."""
    tokens = tokenize(text)
    bad = next((token for token in tokens if token.kind is Kind.ERROR), None)
    if bad is not None:
        return fault_of(bad)
    try:
        return _Reader(tokens, len(text)).read()
    except _Wrong as wrong:
        return wrong.fault


class _Wrong(Exception):
    """Leaves the reader; never leaves this file."""

    def __init__(self, token: Token, message: str, remedy: str) -> None:
        self.fault = TextFault(token.offset, message, remedy)


@dataclass(slots=True)
class _Open:
    """A body that is being read, and the `{` that opened it; the file has none."""

    body: Body
    opening: Token | None
    breaks: int  # line ends before it


class _Reader:
    """Walks over the tokens once."""

    def __init__(self, tokens: list[Token], length: int) -> None:
        self._tokens = [*tokens, Token(Kind.NEWLINE, "", length)]  # a file ends as a line does
        self._at = 0
        self._breaks = 0  # line ends so far, those within strings and comments too

    def read(self) -> Body:
        stack = [_Open(Body(is_inline=False), None, 0)]
        while True:
            here = stack[-1]
            node = self._read_above()
            token = self._token
            if token.kind is Kind.CLOSE:
                self._close(here, node)
                stack.pop()
            elif self._is_at_end:
                if here.opening is not None:
                    raise _Wrong(here.opening, "this block is never closed", "end it with `}`")
                here.body.below = node.above
                return here.body
            else:
                here.body.nodes.append(node)
                self._read_items(node)
                if self._token.kind is Kind.OPEN:
                    stack.append(self._open(node, len(stack)))
                    continue
                _move_comments_behind(node)
            self._read_end(stack[-1].body.nodes[-1])

    # Tokens.

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    @property
    def _is_at_end(self) -> bool:
        return self._at >= len(self._tokens) - 1

    def _take(self) -> Token:
        """Return the token and go on; the end of the file stays."""
        token = self._token
        if not self._is_at_end:
            self._at += 1
            self._breaks += token.kind is Kind.NEWLINE or LINE_BREAK.search(token.text) is not None
        return token

    # Blocks.

    def _open(self, node: Written, depth: int) -> _Open:
        if depth > NESTING_MAX:
            raise _Wrong(self._token, f"blocks are nested deeper than {NESTING_MAX}", "flatten this part")
        breaks = self._breaks
        opening = self._take()
        node.block = Body(is_inline=True)
        node.block.opening = self._read_comments_to_line_end()
        return _Open(node.block, opening, breaks)

    def _close(self, here: _Open, end: Written) -> None:
        """End a block at its `}`; `end` holds the comments that stand before it."""
        if here.opening is None:
            raise _Wrong(self._token, "this `}` closes nothing", "remove it, or look for a missing `{` above")
        here.body.below = end.above
        if end.before:
            here.body.below.append(CommentLine(end.before, end.has_blank_above))
        here.body.is_inline = here.breaks == self._breaks
        self._take()

    # Comments.

    def _read_above(self) -> Written:
        """Read the comment lines above a node, and the comments before it on its line."""
        node = Written()
        while True:
            token = self._token
            if token.kind is Kind.NEWLINE and not self._is_at_end:
                if node.before:
                    node.above.append(CommentLine(node.before, node.has_blank_above))
                    node.before, node.has_blank_above = [], False
                else:  # the end of the line before was taken with it, so this line is empty
                    node.has_blank_above = True
            elif token.kind in COMMENTS:
                node.before.append(Item(COMMENTS[token.kind], (token,)))
            elif token.kind is not Kind.SPACE:
                break
            self._take()
        if self._is_at_end and node.before:
            node.above.append(CommentLine(node.before, node.has_blank_above))
        return node

    def _read_comments_to_line_end(self) -> list[Item]:
        """Read comments that end the line; those before a node are left for it."""
        found: list[Item] = []
        at, breaks = self._at, self._breaks
        while self._token.kind in COMMENTS or self._token.kind is Kind.SPACE:
            token = self._take()
            if token.kind is not Kind.SPACE:
                found.append(Item(COMMENTS[token.kind], (token,)))
        if self._token.kind is Kind.NEWLINE:
            self._take()
            return found
        self._at, self._breaks = at, breaks
        return []

    # Nodes.

    def _read_items(self, node: Written) -> None:
        """Read up to the node's block or its end."""
        is_apart = True  # from the word before
        is_for_block = False  # a `/-` that is not apart can only disable a block
        while True:
            token = self._token
            if token.kind is Kind.SPACE:
                self._take()
            elif token.kind is Kind.BLOCK_COMMENT:
                node.items.append(Item(ItemKind.COMMENT, (self._take(),)))
            elif token.kind is Kind.CONTINUATION and node.items:
                node.items += self._read_continuation()
            elif token.kind is Kind.SLASHDASH and not _awaits_target(node):
                is_for_block = not is_apart
                node.items.append(Item(ItemKind.SLASHDASH, (self._take(),)))
            elif token.kind in WORD_STARTS and is_apart and not is_for_block:
                node.items.append(Item(ItemKind.WORD, self._read_word(is_name=not node.has_name)))
                is_apart = False
                continue
            else:
                break
            is_apart = True
        awaits = _awaits_target(node)
        if (token.kind is Kind.OPEN and node.has_name) or (token.kind in NODE_ENDS and node.has_name and not awaits):
            return
        raise _Wrong(token, *_complaint(token, node))

    def _read_continuation(self) -> list[Item]:
        """Read a backslash, and the comments between it and the line's end."""
        backslash = self._take()
        comments: list[Item] = []
        while self._token.kind in COMMENTS or self._token.kind is Kind.SPACE:
            token = self._take()
            if token.kind is not Kind.SPACE:
                comments.append(Item(COMMENTS[token.kind], (token,)))
        is_commented = bool(comments) and comments[-1].kind is ItemKind.LINE_COMMENT
        if self._token.kind is not Kind.NEWLINE or (self._is_at_end and not is_commented):
            raise _Wrong(backslash, "a `\\` outside of a string goes on in the next line", "end the line after it")
        self._take()
        behind = [comments.pop()] if is_commented else []
        return [*comments, Item(ItemKind.CONTINUATION, (backslash,)), *behind]

    def _read_word(self, *, is_name: bool) -> tuple[Token, ...]:
        """Read a name, a value or a property: tokens without anything between them."""
        word = self._read_type()
        token = self._token
        if is_name:
            if token.kind not in NAMES:
                remedy = "begin with a letter, or put the name in quotes"
                raise _Wrong(token, f"a node's name is expected here, not {_shown(token)}", remedy)
            return (*word, self._take())
        following = self._tokens[self._at + 1] if not self._is_at_end else token
        if following.kind is Kind.EQUALS and token.kind in NAMES and not word:
            word = [self._take(), self._take(), *self._read_type()]
            token = self._token
        if token.kind not in VALUES:
            remedy = "put text in quotes; a property is `key=value` without spaces"
            raise _Wrong(token, f"a value is expected here, not {_shown(token)}", remedy)
        return (*word, self._take())

    def _read_type(self) -> list[Token]:
        if self._token.kind is not Kind.TYPE_OPEN:
            return []
        opening, name, closing = self._take(), self._take(), self._take()
        if name.kind not in NAMES or closing.kind is not Kind.TYPE_CLOSE:
            raise _Wrong(opening, "a type is a name in brackets, without spaces", 'write it like `(env)"NAME"`')
        return [opening, name, closing]

    def _read_end(self, node: Written) -> None:
        """Read what ends a node, and the comments behind it on its line."""
        while self._token.kind in (Kind.SPACE, Kind.BLOCK_COMMENT, Kind.CONTINUATION):
            if self._token.kind is Kind.CONTINUATION:
                node.behind += [item for item in self._read_continuation() if item.kind is not ItemKind.CONTINUATION]
            elif (token := self._take()).kind is Kind.BLOCK_COMMENT:
                node.behind.append(Item(ItemKind.COMMENT, (token,)))
        token = self._token
        if token.kind not in NODE_ENDS:
            raise _Wrong(token, f"a block ends its line, but here follows {_shown(token)}", "begin a new line")
        if token.kind is Kind.CLOSE:
            return
        if token.kind is Kind.SEMICOLON:
            self._take()
        node.behind += self._read_comments_to_line_end()


def _move_comments_behind(node: Written) -> None:
    """What follows the last word is behind the node; a continuation there continues nothing."""
    last = max(at for at, item in enumerate(node.items) if item.kind is ItemKind.WORD)
    tail = node.items[last + 1 :]
    del node.items[last + 1 :]
    node.behind = [item for item in tail if item.kind is not ItemKind.CONTINUATION]


def _awaits_target(node: Written) -> bool:
    """Say whether the last `/-` has nothing yet to disable."""
    for item in reversed(node.items):
        if item.kind in (ItemKind.WORD, ItemKind.SLASHDASH):
            return item.kind is ItemKind.SLASHDASH
    return False


def _complaint(token: Token, node: Written) -> tuple[str, str]:
    if token.kind is Kind.SEMICOLON and not node.items:
        return "a `;` ends a node, and here is none", "remove it"
    if token.kind is Kind.EQUALS:
        return "`=` stands between a property's name and its value, without spaces", "write `key=value`"
    if not node.has_name:
        return f"a node's name is expected here, not {_shown(token)}", "begin a line with a name"
    if token.kind in NODE_ENDS or token.kind is Kind.SLASHDASH:
        return "`/-` disables what follows it, and here is nothing to disable", "remove it"
    return f"{_shown(token)} is not expected here", "put a space between values, and text in quotes"


def _shown(token: Token) -> str:
    if token.kind in (Kind.NEWLINE, Kind.SPACE):
        return "the end of the line" if token.kind is Kind.NEWLINE else "a space"
    return f"`{visible(token.text)}`"
