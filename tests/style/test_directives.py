"""No directive parses and does nothing: each has a test that shows what it changes.

Tests say so with `@pytest.mark.directive("listener/limits/max-headers", ...)`: the names from the
file's root down, without the tables (`listeners`, `routes`, `upstreams`) that only hold others,
and `endpoint@weight` for a property. The markers are read from the sources, not collected:
so this holds also when only tests/style is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from sentinel.config.kinds import integer
from sentinel.config.schema import INCLUDE, ROOT, Argument, Directive, Property
from tests.style.sources import ROOT as TREE

INTEGER = integer(0, 9)


def paths(parent: Directive, prefix: str = "") -> Iterator[str]:
    """Walk over everything that an operator can set, by name; a block that may stand once only holds others."""
    for one in parent.children:
        path = prefix + one.name
        if one.args or one.props or one.is_recursive or one.is_repeatable:
            yield path
        for prop in one.props:
            yield f"{path}@{prop.name}"
        yield from paths(one, "" if one.is_table else path + "/")


def marked() -> dict[str, list[str]]:
    """Every path that a test is marked with, and where."""
    found: dict[str, list[str]] = {}
    for file in sorted((TREE / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            for marker in node.decorator_list:
                if isinstance(marker, ast.Call) and ast.unparse(marker.func) == "pytest.mark.directive":
                    for argument in marker.args:
                        place = f"{file.relative_to(TREE)}::{node.name}"
                        found.setdefault(ast.literal_eval(argument), []).append(place)
    return found


def missing(root: Directive) -> list[str]:
    """What no test is marked with."""
    return sorted({*paths(root), INCLUDE.name} - marked().keys())


def test_every_directive_has_a_test_that_shows_what_it_changes() -> None:
    found = missing(ROOT)
    assert not found, "no test is marked with " + ", ".join(found)


def test_a_directive_without_a_test_is_noticed() -> None:
    """Wherever it is added: at the root, in a table's entry, as a property."""
    value = (Argument("value", INTEGER),)
    property_ = Property("step", INTEGER, "")
    inner = Directive("route", "", value, children=(Directive("retries", "", value, (property_,)),), is_repeatable=True)
    added = (Directive("plugins", "", value), Directive("routes", "", children=(inner,), is_table=True))
    root = replace(ROOT, children=(*ROOT.children, *added))
    assert missing(root) == ["plugins", "route/retries", "route/retries@step"]


def test_every_marker_names_a_directive() -> None:
    wanted = {*paths(ROOT), INCLUDE.name}
    wrong = {path: places for path, places in marked().items() if path not in wanted}
    assert not wrong, f"these are no directives: {wrong}"
