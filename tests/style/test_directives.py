"""No directive parses and does nothing: each has a test that shows what it changes.

Tests say so with `@pytest.mark.directive("listener/limits/max-headers", ...)`: the names from the
file's root down, without the tables (`listeners`, `routes`, `upstreams`) that only hold others,
and `endpoint@weight` for a property. The markers are read from the sources, not collected:
so this holds also when only tests/style is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from sentinel.config.schema import INCLUDE, ROOT, Directive
from tests.style.sources import ROOT as TREE


def paths(parent: Directive, prefix: str = "") -> Iterator[str]:
    """Walk over everything that an operator can set, by name."""
    for one in parent.children:
        path = prefix + one.name
        if one.args or one.props or one.is_recursive:
            yield path
        for prop in one.props:
            yield f"{path}@{prop.name}"
        yield from paths(one, "" if one.is_table else path + "/")


def marked() -> dict[str, list[str]]:
    """Every path that a test is marked with, and where."""
    found: dict[str, list[str]] = {}
    for file in sorted((TREE / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for marker in node.decorator_list:
                if isinstance(marker, ast.Call) and ast.unparse(marker.func) == "pytest.mark.directive":
                    for argument in marker.args:
                        place = f"{file.relative_to(TREE)}::{node.name}"
                        found.setdefault(ast.literal_eval(argument), []).append(place)
    return found


def test_every_directive_has_a_test_that_shows_what_it_changes() -> None:
    wanted = {*paths(ROOT), INCLUDE.name}
    missing = sorted(wanted - marked().keys())
    assert not missing, "no test is marked with " + ", ".join(missing)


def test_every_marker_names_a_directive() -> None:
    wanted = {*paths(ROOT), INCLUDE.name}
    wrong = {path: places for path, places in marked().items() if path not in wanted}
    assert not wrong, f"these are no directives: {wrong}"
