"""Checking a document against the schema: every node, property, value and unit, all problems at once.

    Node (as written) -> Block (as meant): values read, children by name, defaults at hand

Intuition: a clerk with the form. Whatever is not on the form is marked, with the line
that it was probably meant to be; whatever is filled in wrongly is marked with what
belongs there; and the clerk goes on to the end of the form.

Rule 1: the clerk knows the table (schema.py) and nothing else. What several directives
    mean together is compile.py's affair.
Rule 2: a block in which something was marked is `is_faulty`. What seems to be missing in
    it may be what was marked, so later steps do not complain about it again.
Rule 3: what came from `(env)` or `(file)` is never printed, and remembered as secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final

from sentinel.config.document import Node, Value
from sentinel.config.kinds import Kind, Unfit
from sentinel.config.problem import Problems
from sentinel.config.schema import INCLUDE, Argument, Directive
from sentinel.config.source import Source, why
from sentinel.core.span import Span

TAGS: Final = ("env", "file")


@dataclass(slots=True)
class Block:
    """One directive as it was meant. `args` and `props` are read values; spans are those of the values."""

    directive: Directive
    span: Span
    args: tuple[Any, ...] = ()
    arg_spans: tuple[Span, ...] = ()
    props: dict[str, Any] = field(default_factory=dict)
    prop_spans: dict[str, Span] = field(default_factory=dict)
    children: list[Block] = field(default_factory=list)
    is_faulty: bool = False

    def all(self, name: str) -> Iterator[Block]:
        return (child for child in self.children if child.directive.name == name)

    def one(self, name: str) -> Block:
        """The only child of a name, or what it is when it is not written."""
        found = next(self.all(name), None)
        if found is not None:
            return found
        directive = self.directive.child(name)
        assert directive is not None, f"{self.directive.name} has no {name}"
        return unwritten(directive)

    def has(self, name: str) -> bool:
        return any(True for _ in self.all(name))

    def value(self, name: str) -> Any:
        """The one argument of the child of a name, or its default; None when it could not be read."""
        args = self.one(name).args
        return args[0] if args else None


def unwritten(directive: Directive) -> Block:
    """A directive that nobody wrote: its defaults. Faulty ones have no argument that could be read."""
    args = (_default(directive.args[0].kind, directive.default),) if directive.default is not None else (None,)
    block = Block(directive, Span("", 0, 0), args, (Span("", 0, 0),))
    block.props = {prop.name: _default(prop.kind, prop.default) for prop in directive.props}
    return block


def _default(kind: Kind, written: str | None) -> Any:
    """Read a default, which is written as in a file: text in quotes, or a bare number or word."""
    if written is None:
        return None
    if written.startswith('"'):
        return kind.read(written[1:-1])
    return kind.read({"true": True, "false": False}.get(written, written))


class Checker:
    """Checks one configuration. `secrets` are texts that came from outside of the files."""

    def __init__(self, problems: Problems, source: Source) -> None:
        self.secrets: set[str] = set()
        self._problems = problems
        self._source = source

    def block(self, directive: Directive, nodes: Sequence[Node], span: Span) -> Block:
        """Check nodes as the children of a directive."""
        block = Block(directive, span)
        self._children(block, nodes)
        return block

    def _children(self, block: Block, nodes: Sequence[Node]) -> None:
        directive = block.directive
        known = {child.name: child for child in directive.children}
        tables: dict[str, list[Node]] = {}
        for node in nodes:
            child = known.get(node.name)
            if child is None:
                self._unknown(node, directive)
                block.is_faulty = True
            elif child.is_table:
                tables.setdefault(node.name, []).append(node)
            else:
                if child.is_recursive:
                    child = replace(child, children=directive.children)
                found = self._node(child, node)
                block.is_faulty |= found.is_faulty
                block.children.append(found)
        for name, group in tables.items():
            table = self.block(known[name], [child for node in group for child in node.children], group[0].span)
            for node in group:
                self._entries(table, node)
            block.is_faulty |= table.is_faulty
            block.children.append(table)
        self._counts(block)

    def _node(self, directive: Directive, node: Node) -> Block:
        block = Block(directive, node.span)
        self._entries(block, node)
        if node.children and not directive.children:
            self._mark(block, node.children[0].span, f"`{directive.name}` has no children", "remove the braces")
        else:
            self._children(block, node.children)
        return block

    def _entries(self, block: Block, node: Node) -> None:
        """Type annotation, arguments and properties of a node."""
        directive = block.directive
        if node.tag is not None:
            self._mark(block, node.span, f"`{directive.name}` takes no type annotation", f"remove `({node.tag})`")
        self._args(block, node)
        block.props = {prop.name: _default(prop.kind, prop.default) for prop in directive.props}
        known = {prop.name: prop for prop in directive.props}
        for name, value in node.props.items():
            if name not in known:
                self._unknown_property(block, node, name)
                continue
            block.prop_spans[name] = value.span
            block.props[name] = self._read(block, value, known[name].kind, f"property `{name}` of `{directive.name}`")

    def _args(self, block: Block, node: Node) -> None:
        directive = block.directive
        slots = list(_slots(directive.args, len(node.args)))
        least = sum(1 for arg in directive.args if not arg.is_optional)
        if len(node.args) < least:
            missing = directive.args[len(node.args)]
            self._mark(
                block, node.span, f"`{directive.name}` needs {_arity(directive)}", f"expected {missing.kind.expects}"
            )
        elif len(node.args) > len(slots):
            extra = node.args[len(slots)]
            self._mark(block, extra.span, f"`{directive.name}` takes {_arity(directive)}", "remove this one")
        pairs = list(zip(node.args, slots, strict=False))
        block.args = tuple(self._read(block, value, arg.kind, f"`{directive.name}`") for value, arg in pairs)
        block.arg_spans = tuple(value.span for value, _ in pairs)

    def _read(self, block: Block, value: Value, kind: Kind, where: str) -> Any:
        """The value that is meant, or None after a problem was reported."""
        plain: Any = value.value
        is_secret = value.tag in TAGS
        if value.tag is not None:
            plain = self._from_outside(block, value, where)
            if plain is None:
                return None
        elif value.kind == "null":
            self._mark(block, value.span, f"{where}: `null` says nothing", f"expected {kind.expects}")
            return None
        try:
            read = kind.read(plain)
        except Unfit as fault:
            written = f"the value of ({value.tag}){value.written}" if is_secret else f"`{_short(value.written)}`"
            message, remedy = _without(fault, plain) if is_secret else (fault.message, fault.remedy)
            self._mark(block, value.span, f"{where}: {written}: {message}", remedy or f"expected {kind.expects}")
            return None
        if is_secret:
            self.secrets.update(_texts(read))
        return read

    def _from_outside(self, block: Block, value: Value, where: str) -> str | None:
        if value.tag not in TAGS:
            close = meant(value.tag or "", TAGS)
            self._mark(block, value.span, f"{where}: the type annotation `({value.tag})` is not known",
                       close or "known are (env)\"NAME\" and (file)\"path\"")  # fmt: skip
            return None
        if value.kind != "text":
            self._mark(block, value.span, f"{where}: ({value.tag}) takes text", f'for example ({value.tag})"NAME"')
            return None
        name = str(value.value)
        if value.tag == "env":
            found = self._source.environ(name)
            if found is None:
                self._mark(block, value.span, f"{where}: the environment has no variable `{name}`",
                           "set it for the service, e.g. by Environment= or EnvironmentFile= of systemd")  # fmt: skip
            return found
        return self._content(block, value, name, where)

    def _content(self, block: Block, value: Value, name: str, where: str) -> str | None:
        path = beside(value.span.file, name)
        try:
            return self._source.read(path).decode().removesuffix("\n").removesuffix("\r")
        except OSError as fault:
            self._mark(block, value.span, f"{where}: {path} cannot be read: {why(fault)}", "check path and permissions")
        except UnicodeDecodeError:
            self._mark(block, value.span, f"{where}: {path} is not UTF-8 text")
        return None

    def _counts(self, block: Block) -> None:
        """What is there twice, and what is missing."""
        for directive in block.directive.children:
            found = list(block.all(directive.name))
            if not directive.is_repeatable and not directive.is_table:
                for again in found[1:]:
                    self._mark(block, again.span, f"`{directive.name}` is given twice", "remove one of the two",
                               [(found[0].span, "the other one")])  # fmt: skip
            if directive.key:
                self._keys(block, directive, found)
            if directive.is_required and not found and not block.is_faulty:
                remedy = f"add `{directive.example or directive.name}`"
                self._mark(block, block.span, f"{_called(block)} needs `{directive.name}`", remedy)

    def _keys(self, block: Block, directive: Directive, found: list[Block]) -> None:
        seen: dict[Any, Block] = {}
        for one in found:
            key = one.args[0] if one.args else None
            if key is None:
                continue
            if key in seen:
                shown = key if isinstance(key, str) else f"{key[0]}:{key[1]}"
                self._mark(
                    block, one.arg_spans[0], f"there are two `{directive.name}` with the {directive.key} `{shown}`",
                    "rename or remove one of the two", [(seen[key].span, "the other one")],
                )  # fmt: skip
            seen.setdefault(key, one)

    def _unknown(self, node: Node, parent: Directive) -> None:
        names = [child.name for child in parent.children]
        if node.name == INCLUDE.name:
            remedy = "it is allowed in a file and in `listeners`, `routes`, `filters`, `upstreams` and `tests`"
        else:
            remedy = meant(node.name, names) or (f"known are {_listed(names)}" if names else "nothing is allowed here")
        where = f"in `{parent.name}`" if parent.name else "here"
        self._problems.add(node.span, f"`{_short(node.name)}` is not known {where}", remedy)

    def _unknown_property(self, block: Block, node: Node, name: str) -> None:
        directive = block.directive
        names = [prop.name for prop in directive.props]
        remedy = meant(name, names) or (f"known are {_listed(names)}" if names else "it takes none")
        if directive.child(name) is not None:
            remedy = f"write it as a child: `{name} …`"
        self._mark(block, node.keys[name], f"`{directive.name}` has no property `{_short(name)}`", remedy)

    def _mark(
        self, block: Block, span: Span, message: str, remedy: str = "", also: Sequence[tuple[Span, str]] = ()
    ) -> None:
        block.is_faulty = True
        self._problems.add(span, message, remedy, also)


def beside(file: str, name: str) -> str:
    """A path that a file says, relative to that file."""
    return os.path.join(os.path.dirname(file), name)


def _slots(args: tuple[Argument, ...], count: int) -> Iterator[Argument]:
    """The argument that each position stands for; a list takes all the rest."""
    for arg in args:
        if arg.is_list:
            yield from (arg for _ in range(count))
            return
        yield arg


def _arity(directive: Directive) -> str:
    args = directive.args
    if not args:
        return "no argument"
    if args[-1].is_list:
        least = sum(1 for arg in args if not arg.is_optional)
        return f"at least {least} argument{'s' if least > 1 else ''}"
    return f"{len(args)} argument{'s' if len(args) > 1 else ''}"


def _called(block: Block) -> str:
    if not block.directive.name:
        return "the configuration"
    named = f' "{block.args[0]}"' if block.directive.key and block.args and isinstance(block.args[0], str) else ""
    return f"`{block.directive.name}{named}`"


def meant(name: str, names: Sequence[str]) -> str:
    """A suggestion for a name that is not known; empty if there is none that is like it."""
    close = get_close_matches(name[:64], names, n=1, cutoff=0.66)
    return f"did you mean `{close[0]}`?" if close else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _texts(part)


def _without(fault: Unfit, plain: str) -> tuple[str, str]:
    """What a reader says may quote what it read: then only that it does not fit is said."""
    if any(part and part in fault.message + fault.remedy for part in (plain, plain.strip(), plain.rpartition(":")[0])):
        return "it does not fit", ""
    return fault.message, fault.remedy
