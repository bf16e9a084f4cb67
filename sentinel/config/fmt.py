"""One way to write a configuration, so that nobody discusses blanks and a diff shows what changed.

    admin    {address "127.0.0.1:9901";}      admin { address "127.0.0.1:9901"; }
    routes { // all of them                   routes { // all of them
      route "rest"{                               route "rest" {
    respond 404   body="nothing here"    }            respond 404 body="nothing here"
    }                                             }
                                              }

Rules:
1. What the text means does not change, and every comment stays at its node. Only
   spaces, line ends and semicolons do.
2. `fmt(fmt(text)) == fmt(text)`.
3. Four spaces a level, one space between words. A block that was written on one
   line stays there while the line has LINE_CHARS_MAX characters at most; any
   other block has one node a line. Groups that blank lines separate stay
   groups: one blank line, none at the edges of a block.
4. Words are left as they are: quotes, raw strings, hexadecimal numbers, continued lines. The
   author chose them.

Rejected: printing the document that the parser gives. It has no comments, and
would write what was meant instead of what was written.
"""

from __future__ import annotations

from typing import Final

from sentinel.config.concrete import Body, CommentLine, Item, ItemKind, Written, read_concrete
from sentinel.config.document import Places
from sentinel.config.problem import Problem
from sentinel.config.tokens import TextFault

INDENT: Final = "    "
LINE_CHARS_MAX: Final = 100


def fmt(text: str, file: str = "") -> str | Problem:
    """Return the text in its one form; or the problem, located in `file`, if it is no KDL."""
    body = read_concrete(text)
    if isinstance(body, TextFault):
        return located(body, text, file)
    printer = _Printer()
    printer.print_body(body, "")
    return "".join(line + "\n" for line in printer.lines)


def located(fault: TextFault, text: str, file: str) -> Problem:
    """Return a fault of a text as a problem, with its place and the line that it is in."""
    span = Places(text, file).span(fault.offset)
    source = text.split("\n")[span.line - 1].rstrip("\r")
    return Problem(span, fault.message, fault.remedy, source)


class _Printer:
    """Collects lines; a "line" with a string or a comment of several lines has these in it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def print_body(self, body: Body, indent: str) -> None:
        start = len(self.lines)
        for node in body.nodes:
            self._print_comment_lines(node.above, indent, start)
            if node.has_blank_above and len(self.lines) > start:
                self.lines.append("")
            self._print_node(node, indent)
        self._print_comment_lines(body.below, indent, start)

    def _print_comment_lines(self, lines: list[CommentLine], indent: str, start: int) -> None:
        for line in lines:
            if line.has_blank_above and len(self.lines) > start:
                self.lines.append("")
            self.lines.append(indent + _joined(line.comments))

    def _print_node(self, node: Written, indent: str) -> None:
        line = indent + _head(node, indent)
        block = node.block
        if block is not None:
            short = f"{_before_brace(line)}{_inline(block)}" if _may_be_inline(block) else None
            if short is not None and len(short.rpartition("\n")[2]) <= LINE_CHARS_MAX:
                line = short
            else:
                self.lines.append(" ".join([f"{_before_brace(line)}{{", *map(_comment, block.opening)]))
                self.print_body(block, indent + INDENT)
                line = indent + "}"
        self._print_ended(line, node.behind, indent)

    def _print_ended(self, line: str, behind: list[Item], indent: str) -> None:
        """Put comments behind a node; what follows a comment to the line's end has a line of its own."""
        for comment in behind:
            line += (" " if line != indent else "") + _comment(comment)
            if comment.kind is ItemKind.LINE_COMMENT:
                self.lines.append(line)
                line = indent
        if line != indent:
            self.lines.append(line)


def _head(node: Written, indent: str) -> str:
    """Write a node up to its block: comments before it, and its items."""
    text = "".join(_comment(comment) + " " for comment in node.before)
    items = _needed(node.items)
    for at, item in enumerate(items):
        last = items[at - 1].kind if at else None
        if item.kind is ItemKind.WORD and last is ItemKind.SLASHDASH:
            text += item.text
            continue
        is_line_start = not text or text.endswith((" ", "\n" + indent + INDENT))
        text += ("" if is_line_start else " ") + _comment(item)
        is_commented = item.kind is ItemKind.CONTINUATION and at + 1 < len(items)
        is_commented = is_commented and items[at + 1].kind is ItemKind.LINE_COMMENT
        if item.kind is ItemKind.LINE_COMMENT or (item.kind is ItemKind.CONTINUATION and not is_commented):
            text += "\n" + indent + INDENT
    return text


def _needed(items: list[Item]) -> list[Item]:
    """Leave out continuations that nothing follows or that continue nothing; commented ones stay."""
    kept: list[Item] = []
    words_left = sum(item.kind is ItemKind.WORD for item in items)
    for at, item in enumerate(items):
        words_left -= item.kind is ItemKind.WORD
        if item.kind is ItemKind.CONTINUATION:
            is_commented = at + 1 < len(items) and items[at + 1].kind is ItemKind.LINE_COMMENT
            continues = kept[-1].kind in (ItemKind.WORD, ItemKind.COMMENT) and words_left
            if not is_commented and not continues:
                continue
        kept.append(item)
    return kept


def _may_be_inline(block: Body) -> bool:
    has_content = bool(block.nodes or block.below or block.opening)
    return block.is_inline or not has_content


def _inline(block: Body) -> str:
    """Write a block on one line; nothing in it has a line end."""
    parts = []
    for node in block.nodes:
        line = _head(node, "")
        if node.block is not None:
            line = _before_brace(line) + _inline(node.block)
        parts.append(" ".join([line, *map(_comment, node.behind)]) + ";")
    parts += [_joined(line.comments) for line in block.below]
    return f"{{ {' '.join(parts)} }}" if parts else "{}"


def _before_brace(line: str) -> str:
    """Put the space before a block, except where a `/-` or the indentation stands."""
    return line if line.endswith(("/-", " ")) else line + " "


def _joined(comments: list[Item]) -> str:
    return " ".join(map(_comment, comments))


def _comment(item: Item) -> str:
    """Return an item's text; spaces at the end of a line are nobody's intention."""
    return item.text.rstrip() if item.kind is ItemKind.LINE_COMMENT else item.text
