"""The vocabulary of reasons is closed: each word has a page with a remedy, a number, and a test that brings it about.

A test brings a reason about when it names it, as `Reason.NAME` or as its word. The sources are read, so this holds also
when only tests/style is run. Tests that go through all reasons prove nothing about one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from sentinel.core.reasons import BY_WORD, REASONS_MAX, Reason
from tests.style.sources import ROOT

PAGE = ROOT / "docs" / "reference" / "reasons.md"


def named() -> set[str]:
    """The names of all reasons that tests outside of this folder name within an assertion, or in a table for one."""
    found: set[str] = set()
    for file in sorted((ROOT / "tests").rglob("*.py")):
        if file.parent.name != "style":
            found |= set(reasons_in(ast.parse(file.read_text(encoding="utf-8"), str(file))))
    return found


def reasons_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in BY_WORD:
            yield BY_WORD[node.value].name


def test_every_reason_is_brought_about_by_a_test() -> None:
    missing = sorted({reason.name for reason in Reason} - named())
    assert not missing, f"no test names {', '.join(missing)}: write one that brings it about"


def test_a_reason_without_a_test_would_be_noticed() -> None:
    tree = ast.parse("def test_a():\n    assert one.reason is Reason.PROXIED and word == 'no-route' and 'no route'")
    assert set(reasons_in(tree)) == {"PROXIED", "NO_ROUTE"}


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.word)
def test_every_reason_has_its_page_and_its_remedy(reason: Reason) -> None:
    _, found, rest = PAGE.read_text().partition(f"\n### `{reason.word}`\n")
    assert found, "write it with `python -m sentinel.cli.reference --write`"
    section = rest.partition("\n##")[0]
    assert f"Number {reason.number}," in section and f"Remedy: {reason.value.remedy}." in section
    assert reason.value.text and reason.value.remedy and 0 <= reason.number < REASONS_MAX
    assert reason.value.status == 0 or 100 <= reason.value.status <= 599
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason.word)
