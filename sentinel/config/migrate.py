"""From an older vocabulary to the present one: a chain of steps on the text itself.

Intuition: a proofreader with a red pencil. A step marks the words that changed and
writes the new ones above them; everything else, above all the comments, stays as
the author left it. Many versions are many proofreaders, one after another.

    0.9   servers/server, proxy, backend, times in numbers of milliseconds
    1.0   listeners/listener, upstream, endpoint, durations with units

Rules:
1. A step goes from one version to the next, and is a list of edits: place, and what stands there now.
2. Nodes behind `/-` are migrated as well: they are there to be used again.
3. What a step cannot carry over exactly is a problem with its place, and nothing is changed.
4. Files that are included have no version of their own; whoever migrates one says
   from which version it comes.

Rejected: reading both vocabularies for a while. Two names for one thing are two
things to check, to explain and to get wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sentinel.config.concrete import Body, Item, Written, read_concrete
from sentinel.config.fmt import located
from sentinel.config.problem import Problem
from sentinel.config.schema import VERSION
from sentinel.config.tokens import Kind, TextFault, Token, visible

UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


@dataclass(frozen=True, slots=True)
class Edit:
    """A token that is replaced."""

    token: Token
    text: str


Rewrite = Callable[[Body], list[Edit]]


@dataclass(frozen=True, slots=True)
class Step:
    """The way from one version to the next."""

    source: str
    target: str
    rewrite: Rewrite


@dataclass(frozen=True, slots=True)
class Change:
    """One word that was replaced; `line` is the one that it had before its step."""

    line: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Migrated:
    """The text in the present vocabulary, and what was done. Nothing was where `source` is the present version."""

    text: str
    source: str
    target: str
    changes: tuple[Change, ...]


class Immovable(Exception):
    """Something that has no exact counterpart; becomes a problem at its place."""

    def __init__(self, token: Token, message: str, remedy: str) -> None:
        self.fault = TextFault(token.offset, message, remedy)


def migrate(text: str, file: str = "", source: str = "") -> Migrated | Problem:
    """Return the text in the present vocabulary. `source`: the version of a text that names none."""
    body = read_concrete(text)
    if isinstance(body, TextFault):
        return located(body, text, file)
    named = _version_token(body)
    if named is None and not source:
        remedy = f'begin it with `schema-version "{VERSION}"`, or say from which version it comes (--from)'
        return located(TextFault(0, "the text names no `schema-version`", remedy), text, file)
    version = _plain(named) if named is not None else source
    if version not in VERSIONS:
        offset = named.offset if named is not None else 0
        remedy = f"known are {', '.join(VERSIONS)}"
        return located(TextFault(offset, f"`{visible(version)}` is no known version", remedy), text, file)
    return _carry(text, file, version)


def _carry(text: str, file: str, source: str) -> Migrated | Problem:
    """Take the steps from a known version on."""
    changes: list[Change] = []
    for step in STEPS[VERSIONS.index(source) :]:
        body = read_concrete(text)
        assert isinstance(body, Body), "a step leaves KDL as KDL"
        try:
            edits = sorted(step.rewrite(body), key=lambda edit: edit.token.offset)
        except Immovable as fault:
            return located(fault.fault, text, file)
        changes += [Change(text.count("\n", 0, edit.token.offset) + 1, edit.token.text, edit.text) for edit in edits]
        text = _edited(text, edits)
    return Migrated(text, source, VERSION, tuple(changes))


def _edited(text: str, edits: list[Edit]) -> str:
    pieces, at = [], 0
    for edit in edits:
        pieces += [text[at : edit.token.offset], edit.text]
        at = edit.token.end
    return "".join([*pieces, text[at:]])


# Reading the concrete tree.


def _nodes(body: Body, parent: str = "") -> Iterator[tuple[str, Written]]:
    """Walk over all nodes, each with the name of the node that it is in; "" at the top."""
    for node in body.nodes:
        yield parent, node
        if node.block is not None:
            yield from _nodes(node.block, _plain(_name(node)))


def _name(node: Written) -> Token:
    return node.words[0].tokens[-1]


def _arguments(node: Written) -> list[Item]:
    """The values of a node that are no properties."""
    return [word for word in node.words[1:] if all(token.kind is not Kind.EQUALS for token in word.tokens)]


def _plain(token: Token) -> str:
    """Return what a name or a text says, without its quotes; of escapes, nothing that is looked for here has any."""
    match token.kind:
        case Kind.STRING:
            return token.text[1:-1]
        case Kind.RAW_STRING:
            return token.text[1:].strip("#")[1:-1]
        case _:
            return token.text


def _version_token(body: Body) -> Token | None:
    """Find the value of the `schema-version` node."""
    for node in body.nodes:
        if _plain(_name(node)) == "schema-version" and node.items[0] is node.words[0] and _arguments(node):
            return _arguments(node)[0].tokens[-1]
    return None


# 0.9 → 1.0.

RENAMED: Final = {
    ("", "servers"): "listeners",
    ("", "server"): "listener",  # in a file that `servers` includes
    ("servers", "server"): "listener",
    ("route", "servers"): "listeners",
    ("route", "proxy"): "upstream",
    ("upstream", "backend"): "endpoint",
}
"""Where a name stands, and what it was: what it is."""

MILLISECONDS: Final = frozenset({
    "timeout-ms", "connect-ms", "first-byte-ms", "idle-ms", "header-timeout-ms", "body-timeout-ms", "idle-timeout-ms",
    "drain-deadline-ms",
})  # fmt: skip


def _from_0_9(body: Body) -> list[Edit]:
    edits: list[Edit] = []
    for parent, node in _nodes(body):
        token = _name(node)
        name = _plain(token)
        if (parent, name) in RENAMED:
            edits.append(Edit(token, RENAMED[parent, name]))
        elif name in MILLISECONDS:
            edits.append(Edit(token, name.removesuffix("-ms")))
            edits += [_with_unit(argument, name) for argument in _arguments(node)]
    version = _version_token(body)
    return [*edits, Edit(version, '"1.0"')] if version is not None else edits


def _with_unit(argument: Item, name: str) -> Edit:
    """Write a number of milliseconds in the largest unit that divides it."""
    token = argument.tokens[-1]
    if len(argument.tokens) > 1 or token.kind is not Kind.NUMBER or (milliseconds := _whole(token.text)) is None:
        remedy = f'write the duration with its unit by hand, as `{name.removesuffix("-ms")} "30s"`, and migrate again'
        raise Immovable(argument.tokens[0], f"`{name}` has no whole number of milliseconds here", remedy)
    unit = next(unit for unit, size in UNITS_MS.items() if milliseconds % size == 0) if milliseconds else "s"
    return Edit(token, f'"{milliseconds // UNITS_MS[unit]}{unit}"')


def _whole(text: str) -> int | None:
    """Read a KDL number, if it is a whole one and not negative."""
    digits = text.removeprefix("+").replace("_", "")
    bases = {"0x": 16, "0o": 8, "0b": 2}
    try:
        return int(digits[2:], bases[digits[:2]]) if digits[:2] in bases else _natural(digits)
    except ValueError:
        return None


def _natural(digits: str) -> int | None:
    return int(digits) if digits.isdecimal() else None


STEPS: Final = (Step("0.9", "1.0", _from_0_9),)
VERSIONS: Final = (*(step.source for step in STEPS), VERSION)
assert STEPS[-1].target == VERSION, "the chain ends at the present vocabulary"
assert [step.target for step in STEPS] == [*VERSIONS[1:]], "the chain has no gap"
