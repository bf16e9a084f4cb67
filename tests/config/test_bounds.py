"""Whatever an operator or a generator writes, the answer is a plan or problems, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.config import Loaded, load, load_text, render_problems
from sentinel.config.schema import ROOT, Directive
from sentinel.config.source import FILE_BYTES_MAX

WORDS = st.sampled_from([
    '"127.0.0.1:8080"', '"web"', '"api"', '"/"', '"/a/../b"', '"GET"', '"x-a"', '"30s"', '"1MiB"', '"50%"', '"("', "0",
    "1", "-1", "99999999999999999999", "1.5", "true", "null", '""', '"\\u{0}"', '(env)"HOME"', '(file)"/none"',
    '(env)"NONE"', '(x)"y"', '"*.a.example"', '"[::1]:0"', '"unix:/x"', '"10.0.0.0/8"', '"é"',
])  # fmt: skip


def nodes(parent: Directive, depth: int = 0) -> st.SearchStrategy[str]:
    """Text made of the names of the schema, with any values: near enough to valid to get far."""
    if depth > 4:
        return st.just("")
    one = st.sampled_from(parent.children or (parent,)).flatmap(lambda child: node(child, depth))
    return st.lists(one, max_size=4).map("\n".join)


@st.composite
def node(draw: st.DrawFn, directive: Directive, depth: int) -> str:
    words = " ".join(draw(st.lists(WORDS, max_size=2)))
    names = [prop.name for prop in directive.props] or ["k"]
    props = draw(st.lists(st.tuples(st.sampled_from(names), WORDS).map("=".join), max_size=1))
    text = f"{directive.name or 'x'} {words} {' '.join(props)}"
    if directive.children and draw(st.booleans()):
        text += " {\n" + draw(nodes(directive, depth + 1)) + "\n}"
    return text


def is_sound(loaded: Loaded) -> None:
    assert (loaded.plan is None) == bool(loaded.problems)
    assert all(one.span.line >= 1 and one.span.column >= 1 and one.message for one in loaded.problems)
    render_problems(loaded.problems)


@given(nodes(ROOT))
def test_any_text_of_known_names_is_a_plan_or_problems(text: str) -> None:
    is_sound(load_text('schema-version "1.0"\n' + text, "/nowhere/main.kdl"))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "main.kdl"
    with path.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    (problem,) = load(str(path)).problems
    assert "larger than" in problem.message


@pytest.mark.parametrize("place", ["/dev/null", "/", "/none/main.kdl"])
def test_what_is_no_configuration_is_told(place: str) -> None:
    loaded = load(place)
    is_sound(loaded)
    assert loaded.problems


def test_ten_thousand_mistakes_are_all_told() -> None:
    loaded = load_text('schema-version "1.0"\n' + "oops 1\n" * 10_000)
    assert len(loaded.problems) == 10_000
