"""The explanation of a decision, as a tree of plain values.

Intuition: a well kept file. The cover says what was decided, the sheets below say
why, in the order of the thinking, and each names the line of the configuration
that it rests on. The command line draws it, the admin API sends it as JSON, the
playground shows it: all three show the same tree.

`kind` says what a node is, so that a reader can colour or filter without reading the text:

    request   the cover           verdict   what shall happen, or what happened
    step      a conclusion        loser     a better ranked candidate, and why not
    group     several losers that lost in the same way
    note      something a reader should know about this explanation
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sentinel.core.reasons import BY_WORD

Kind = Literal["request", "verdict", "step", "loser", "group", "note"]


@dataclass(frozen=True, slots=True)
class Node:
    """One statement; `reason` is a word of core.reasons or "", `place` is "file:line:column" or ""."""

    kind: Kind
    text: str
    reason: str = ""
    place: str = ""
    children: tuple[Node, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is empty is left out, but for the children."""
        plain: dict[str, Any] = {"kind": self.kind, "text": self.text}
        if self.reason:
            plain["reason"] = self.reason
            plain["remedy"] = remedy_of(self.reason)
        if self.place:
            plain["place"] = self.place
        plain["children"] = [child.to_dict() for child in self.children]
        return plain


def node_of(document: Mapping[str, Any]) -> Node:
    """The node that `to_dict` made this of."""
    children = tuple(node_of(child) for child in document["children"])
    return Node(document["kind"], document["text"], document.get("reason", ""), document.get("place", ""), children)


def meaning_of(word: str) -> str:
    """Return the sentence of a reason; of one that this release does not know, the word itself."""
    reason = BY_WORD.get(word)
    return word if reason is None else reason.value.text


def remedy_of(word: str) -> str:
    reason = BY_WORD.get(word)
    return "" if reason is None else reason.value.remedy
