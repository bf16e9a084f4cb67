"""fmt: one form, reached in one step, that means the same and has every comment."""

from __future__ import annotations

import re

import kdl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.config.concrete import NESTING_MAX
from sentinel.config.fmt import LINE_CHARS_MAX, fmt
from sentinel.config.problem import Problem
from sentinel.config.tokens import Kind, tokenize
from tests.config.kdltext import SOUP, documents, meaning

LAYOUT = {Kind.SPACE, Kind.NEWLINE, Kind.SEMICOLON, Kind.CONTINUATION}


def formatted(text: str) -> str:
    result = fmt(text)
    assert isinstance(result, str), (text, result)
    return result


def said(text: str) -> list[str]:
    """All that is not layout, comments included, in order."""
    return [token.text.rstrip() for token in tokenize(text) if token.kind not in LAYOUT]


@settings(max_examples=150)
@given(documents())
def test_the_meaning_stays(text: str) -> None:
    assert meaning(formatted(text)) == meaning(text)


@settings(max_examples=150)
@given(documents())
def test_twice_is_once(text: str) -> None:
    once = formatted(text)
    assert formatted(once) == once


@given(documents())
def test_nothing_that_was_said_is_lost(text: str) -> None:
    assert said(formatted(text)) == said(text)


@given(documents())
def test_lines_are_tidy(text: str) -> None:
    result = formatted(text)
    authored = (Kind.STRING, Kind.RAW_STRING, Kind.BLOCK_COMMENT)  # within these the author decides
    plain = "".join(" " if token.kind in authored else token.text for token in tokenize(result))
    assert "\n\n\n" not in plain
    assert not plain.startswith("\n")
    assert "\r" not in plain
    assert result == "" or (result.endswith("\n") and not result.endswith("\n\n"))


@settings(max_examples=300)
@given(st.one_of(SOUP, st.text()))
def test_any_text_is_formatted_or_refused_with_its_place(text: str) -> None:
    result = fmt(text, "x.kdl")
    if isinstance(result, Problem):
        assert result.span.file == "x.kdl"
        assert result.span.line >= 1
        assert result.span.column >= 1
        assert result.remedy
        with pytest.raises(kdl.errors.ParseError):
            kdl.parse(text, None)
    else:
        meaning(result)  # is KDL
        assert formatted(result) == result


def test_the_golden_form() -> None:
    text = """

// The head.
schema-version   "1.0"; system{workers 2 ;run-dir "/run"
   // at the end
}


admin {address "127.0.0.1:9901";}   // loopback
listeners { // all of them


  listener "web"  /* main */ { /- address "x"; limits { max-header-size "32KiB";  idle-timeout   "75s"; }
     z 1 \\
       key=(u8)2  \\ // why
     /-3  /-{ }


  // end
  }; b
  }
matches { host "api.example.com" "*.api.example.com"; path-prefix "/v1/chat/completions"; method "GET" "POST"; }
/-off{

}
last 1 \\ // c1
 \\ // c2
 ; // c3"""
    assert (
        fmt(text)
        == """\
// The head.
schema-version "1.0"
system {
    workers 2
    run-dir "/run"
    // at the end
}

admin { address "127.0.0.1:9901"; } // loopback
listeners { // all of them
    listener "web" /* main */ {
        /-address "x"
        limits { max-header-size "32KiB"; idle-timeout "75s"; }
        z 1 \\
            key=(u8)2 \\ // why
            /-3 /-{}

        // end
    }
    b
}
matches {
    host "api.example.com" "*.api.example.com"
    path-prefix "/v1/chat/completions"
    method "GET" "POST"
}
/-off {}
last 1 // c1
// c2
// c3
"""
    )


def test_a_semicolon_that_lacks_before_a_brace_is_written() -> None:
    assert fmt("a { b { c 1 } }") == "a { b { c 1; }; }\n"
    assert fmt("a {\n b }") == "a {\n    b\n}\n"


@pytest.mark.parametrize("width", [LINE_CHARS_MAX, LINE_CHARS_MAX + 1])
def test_a_line_of_exactly_the_limit_stays(width: int) -> None:
    line = "a { b; }".replace("b", "b" * (width - 7))
    assert len(line) == width
    assert (fmt(line) == line + "\n") is (width <= LINE_CHARS_MAX)


def test_nothing_is_formatted_to_nothing() -> None:
    assert fmt("") == fmt(" \n\n\ufeff\t\n") == ""


REFUSED = {
    "a {": (1, 3, "this block is never closed"),
    "a\n}": (2, 1, "this `}` closes nothing"),
    "a { };\n/* x": (2, 1, "this comment is never closed"),
    "a=1": (1, 2, "`=` stands between"),
    "a b": (1, 3, "a value is expected here, not `b`"),
    'a 1"x"': (1, 4, '`"x"` is not expected here'),
    "(t) a": (1, 4, "a node's name is expected here, not a space"),
    "(t a": (1, 1, "a type is a name in brackets"),
    "(1)a": (1, 1, "a type is a name in brackets"),
    "a {;}": (1, 4, "a `;` ends a node, and here is none"),
    "a { } 1": (1, 7, "a block ends its line"),
    "a /-": (1, 5, "`/-` disables what follows it"),
    "a /- /- 1": (1, 6, "`/-` disables what follows it"),
    "a\\ b": (1, 2, "a `\\` outside of a string"),
    "a\\": (1, 2, "a `\\` outside of a string"),
    "a (t)": (1, 6, "a value is expected here, not the end of the line"),
    "1": (1, 1, "a node's name is expected here, not `1`"),
    "true": (1, 1, "a node's name is expected here, not `true`"),
    "a k= 1": (1, 5, "a value is expected here, not a space"),
    "{": (1, 1, "a node's name is expected here, not `{`"),
    "a {" * (NESTING_MAX + 1): (1, 3 * NESTING_MAX + 3, "blocks are nested deeper than"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_kdl_is_refused_at_its_place(text: str) -> None:
    line, column, start = REFUSED[text]
    problem = fmt(text, "f.kdl")
    assert isinstance(problem, Problem)
    assert (problem.span.line, problem.span.column) == (line, column)
    assert problem.message.startswith(start)
    assert problem.remedy
    assert problem.source == re.split("\n", text)[line - 1]


def test_the_deepest_nesting_is_formatted() -> None:
    text = "a {" * NESTING_MAX + "}" * NESTING_MAX
    assert isinstance(fmt(text), str)
