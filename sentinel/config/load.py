"""From a path to a plan, or to all problems: the one way in which a configuration is read.

    file -> document, with includes in their places -> check -> compile -> Loaded

Includes are expanded in the document, before anything is checked: a node keeps the
span of the file that it stands in, so nothing after this needs to know of files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sentinel.config.cases import compile_cases
from sentinel.config.check import Checker, beside
from sentinel.config.compile import Compiler
from sentinel.config.document import Node, SyntaxFault, parse
from sentinel.config.problem import Problem, Problems
from sentinel.config.proofs import prove
from sentinel.config.schema import INCLUDE, ROOT, VERSION
from sentinel.config.server_tls import MakeTlsFiles, checked_files
from sentinel.config.source import FILE_BYTES_MAX, Disk, Source, why
from sentinel.core.cases import Case
from sentinel.core.plan import Plan
from sentinel.core.span import Span

FILES_MAX: Final = 1000
CHAIN_MAX: Final = 16
GLOB_CHARS: Final = "*?["
TESTS_ONLY: Final = frozenset({"schema-version", "tests", "case"})
"""The nodes of a file that says nothing about what is served."""
OLDER: Final = ("0.9",)
"""Versions that `sentinelctl migrate` understands."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it: a plan, or problems. Warnings stop nobody.

    sources: the files that were read; those with tests only are not the plan's. cases: the policy tests;
    must_be_tested: only if they pass is it rolled out.
    """

    plan: Plan | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    document: tuple[Node, ...]
    sources: tuple[str, ...]
    notes: tuple[Problem, ...] = ()
    """What an operator should know; only told when it was to be proved."""
    cases: tuple[Case, ...] = ()
    must_be_tested: bool = False


def load(path: str, source: Source | None = None, *, now_s: float | None = None, is_proving: bool = False) -> Loaded:
    """Read, check and compile the configuration at `path`; never raises for what an operator wrote.

    is_proving: look also for what can be proved of it (proofs), which takes longer, and belongs to the warnings.
    """
    return _Loader(source or Disk(), time.time() if now_s is None else now_s, is_proving).load(path)


def load_text(
    text: str, file: str = "<text>", source: Source | None = None, *, now_s: float | None = None,
    is_proving: bool = False, tls_files: MakeTlsFiles = checked_files,
) -> Loaded:  # fmt: skip
    """The same for a text that stands nowhere yet; includes and (file) are relative to `file`."""
    handed = _Handed(text, file, source or Disk())
    return _Loader(handed, time.time() if now_s is None else now_s, is_proving, tls_files).load(file)


@dataclass(frozen=True, slots=True)
class _Handed:
    """A source in which one file has another content."""

    text: str
    file: str
    others: Source

    def read(self, path: str) -> bytes:
        return self.text.encode("utf-8", "surrogatepass") if path == self.file else self.others.read(path)

    def glob(self, pattern: str) -> list[str]:
        return self.others.glob(pattern)

    def environ(self, name: str) -> str | None:
        return self.others.environ(name)


class _Loader:
    def __init__(
        self, source: Source, now_s: float, is_proving: bool, tls_files: MakeTlsFiles = checked_files
    ) -> None:
        self._source = source
        self._now_s = now_s
        self._is_proving = is_proving
        self._tls_files = tls_files
        self._problems = Problems()
        self._warnings = Problems()
        self._notes = Problems()
        self._files: list[str] = []
        self._tests: set[str] = set()
        self._must_be_tested = False
        self._bytes = 0

    def load(self, path: str) -> Loaded:
        start = Span(path, 1, 1)
        nodes = self._read(path, None)
        if nodes is None:
            return self._loaded(None, ())
        body = self._versioned(nodes, start)
        if body is None:
            return self._loaded(None, nodes)
        expanded = self._expanded(body, (os.path.realpath(path),))
        checker = Checker(self._problems, self._source)
        root = checker.block(ROOT, expanded, start)
        compiler = Compiler(self._problems, self._warnings, self._source, self._now_s, self._tls_files)
        plan = compiler.plan(root, checker.secrets, tuple(file for file in self._files if file not in self._tests))
        # What tests name is looked up in the plan, which means something only if nothing was wrong with it.
        cases = () if self._problems else compile_cases(list(root.one("tests").all("case")), plan, self._problems)
        required = root.one("system").one("require-tests")
        self._must_be_tested = bool(required.args and required.args[0])
        if self._must_be_tested and not cases and not self._problems:
            self._problems.add(
                required.span, "the policy tests must pass, and there are none",
                'write some (`tests { case "…" { … }; }`), or say `require-tests false`',
            )  # fmt: skip
        if self._is_proving and not self._problems:
            for finding in prove(plan):
                target = self._notes if finding.is_note else self._warnings
                target.add(finding.span, finding.message, finding.remedy, finding.also)
        return self._loaded(plan, expanded, cases)

    def _loaded(self, plan: Plan | None, document: Sequence[Node], cases: tuple[Case, ...] = ()) -> Loaded:
        problems = tuple(self._problems.sorted())
        return Loaded(
            None if problems else plan, problems, tuple(self._warnings.sorted()), tuple(document), tuple(self._files),
            tuple(self._notes.sorted()),
            () if problems else cases, self._must_be_tested,
        )  # fmt: skip

    def _read(self, path: str, asked: Span | None) -> tuple[Node, ...] | None:
        """The nodes of one file, or None after a problem was reported, at the place that asked for the file."""
        span = asked or Span(path, 1, 1)
        if len(self._files) >= FILES_MAX:
            self._problems.add(span, f"more than {FILES_MAX} files are included", "have fewer, larger files")
            return None
        try:
            data = self._source.read(path)
        except OSError as fault:
            self._problems.add(span, f"{path} cannot be read: {why(fault)}", "check path and permissions")
            return None
        self._files.append(path)
        self._bytes += len(data)
        if self._bytes > FILE_BYTES_MAX:
            self._problems.add(
                span, f"the files are larger than {FILE_BYTES_MAX >> 20} MiB together", "have fewer routes"
            )
            return None
        try:
            text = data.decode()
        except UnicodeDecodeError as fault:
            line = data.count(b"\n", 0, fault.start)
            column = len(data[data.rfind(b"\n", 0, fault.start) + 1 : fault.start].decode("utf-8", "replace"))
            self._problems.add(Span(path, line + 1, column + 1), "this is not UTF-8 text", "save the file as UTF-8")
            return None
        self._problems.know(path, text)
        self._warnings.know(path, text)
        self._notes.know(path, text)
        try:
            nodes = parse(text, path)
        except SyntaxFault as fault:
            self._problems.add(fault.span, fault.message, fault.remedy)
            return None
        if asked is not None and nodes and {node.name for node in nodes} <= TESTS_ONLY:
            self._tests.add(path)
        return nodes

    def _versioned(self, nodes: tuple[Node, ...], start: Span) -> tuple[Node, ...] | None:
        """Check the version, without which no name means anything."""
        if not nodes or nodes[0].name != "schema-version":
            later = next((node for node in nodes if node.name == "schema-version"), None)
            self._problems.add(
                later.span if later else start, "the first node must be the schema-version",
                f'begin the file with `schema-version "{VERSION}"`',
            )  # fmt: skip
            return nodes if later is None else None
        value = nodes[0].args[0] if nodes[0].args else None
        if value is None or value.value == VERSION:
            return nodes
        if value.value in OLDER:
            self._problems.add(
                value.span, f'this is a configuration of version "{value.value}"; this release reads "{VERSION}"',
                "convert it: `sentinelctl migrate FILE`",
            )  # fmt: skip
        else:
            known = " and ".join(f'"{one}"' for one in (VERSION, *OLDER))
            self._problems.add(value.span, f"schema-version {value.written} is not known", f"known are {known}")
        return None

    def _expanded(self, nodes: Sequence[Node], chain: tuple[str, ...]) -> tuple[Node, ...]:
        """The same nodes with the files that they include in their places."""
        tables = {one.name for one in ROOT.children if one.is_table}
        found: list[Node] = []
        for node in nodes:
            if node.name == INCLUDE.name:
                found += self._included(node, chain)
            elif node.name in tables and any(child.name == INCLUDE.name for child in node.children):
                children = [
                    one
                    for child in node.children
                    for one in (self._included(child, chain) if child.name == INCLUDE.name else (child,))
                ]
                found.append(replace(node, children=tuple(children)))
            else:
                found.append(node)
        return tuple(found)

    def _included(self, node: Node, chain: tuple[str, ...]) -> tuple[Node, ...]:
        value = node.args[0] if len(node.args) == 1 else None
        if (
            value is None
            or value.kind != "text"
            or not value.value
            or "\0" in value.value
            or node.props
            or node.children
        ):
            self._problems.add(node.span, "`include` takes one pattern of files", f"for example `{INCLUDE.example}`")
            return ()
        pattern = beside(node.span.file, value.value)
        if not any(one in GLOB_CHARS for one in value.value):
            paths = [pattern]
        else:
            paths = self._source.glob(pattern)
            if not paths:
                self._warnings.add(value.span, f"no file matches {pattern}", "remove the include, or add a file")
        found: list[Node] = []
        for path in paths:
            found += self._one_included(path, value.span, chain)
        return tuple(found)

    def _one_included(self, path: str, span: Span, chain: tuple[str, ...]) -> tuple[Node, ...]:
        place = os.path.realpath(path)
        if place in chain:
            circle = " -> ".join([*chain[chain.index(place) :], place])
            self._problems.add(span, f"files include each other in a circle: {circle}", "break the circle")
            return ()
        if len(chain) >= CHAIN_MAX:
            self._problems.add(
                span, f"files include each other more than {CHAIN_MAX} deep", "include them from fewer places"
            )
            return ()
        nodes = self._read(path, span)
        if nodes is None:
            return ()
        return self._expanded([node for node in nodes if not _is_same_version(node)], (*chain, place))


def _is_same_version(node: Node) -> bool:
    """An included file may say the version too, so that it can be checked by itself."""
    return node.name == "schema-version" and len(node.args) == 1 and node.args[0].value == VERSION
