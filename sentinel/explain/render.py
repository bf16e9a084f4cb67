"""Draw an explanation as lines of text, with boxes for branches and without colour.

A line carries its node's kind, so that the command line can colour it; this file
knows no terminal and runs in a browser too.

    GET http://api.example.com/v1/users
    ├─ route `api` matches  [route-matched]  sentinel.kdl:12:9
    ├─ passed over: route `beta`: header `x-beta` is absent  sentinel.kdl:20:9
    └─ forwarded to 127.0.0.1:9001 of `api`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sentinel.explain.tree import Kind, Node

CONTROL = dict.fromkeys([*range(32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")
"""What a client sent may end up on a terminal, and must not be able to drive it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the drawing; `branch` is the box drawing before the text."""

    branch: str
    text: str
    reason: str
    place: str
    kind: Kind

    def __str__(self) -> str:
        reason = f"  [{self.reason}]" if self.reason else ""
        place = f"  {self.place}" if self.place else ""
        return f"{self.branch}{self.text}{reason}{place}"


def render_text(node: Node) -> str:
    """Draw the whole tree, one statement a line."""
    return "\n".join(str(line) for line in render_lines(node))


def render_lines(node: Node) -> Iterator[Line]:
    """Walk over the lines of the drawing, for whoever wants to colour them."""
    yield from _lines(node, "", "")


def _lines(node: Node, branch: str, margin: str) -> Iterator[Line]:
    yield Line(branch, node.text.translate(CONTROL), node.reason, node.place.translate(CONTROL), node.kind)
    for child in node.children:
        is_last = child is node.children[-1]
        yield from _lines(child, margin + ("└─ " if is_last else "├─ "), margin + ("   " if is_last else "│  "))
