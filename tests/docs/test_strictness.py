"""What the page about strictness says of paths is what happens to them."""

from __future__ import annotations

import re

import pytest

from sentinel.core.path import BadTarget, normalise
from sentinel.core.plan import PathRules
from tests.system.fleet import ROOT

PAGE = (ROOT / "docs" / "explanation" / "strictness.md").read_text()
ROWS = [
    (path, told)
    for before, told in re.findall(r"^\| (`/.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    for path in re.findall(r"`([^`]+)`", before)
]


@pytest.mark.parametrize(("path", "told"), ROWS, ids=[path for path, _ in ROWS])
def test_a_path_becomes_what_is_said(path: str, told: str) -> None:
    found = normalise(path, PathRules())
    if told.startswith("refused"):
        assert isinstance(found, BadTarget)
        assert found.reason.word in told
    else:
        assert not isinstance(found, BadTarget)
        assert found.path == (path if told.startswith("stays") else told.split("`")[1])


def test_the_page_has_such_rows() -> None:
    assert len(ROWS) >= 8
