"""Configurations as people write them: valid KDL 1.0 with comments, breaks and `/-` in odd places."""

from __future__ import annotations

from typing import Any

import kdl
from hypothesis import strategies as st

PLAIN = kdl.ParseConfig(nativeUntaggedValues=False, nativeTaggedValues=False)


def meaning(text: str) -> Any:
    """What the parser makes of a text, types and all."""
    return kdl.parse(text, PLAIN).nodes


COMMENTS = st.sampled_from(["/* c */", "/**/", "/* a /* b */ c */", "/*\n two\n   lines */", '/* } " */'])
SPACES = st.sampled_from([" ", "  ", "\t", "\u00a0", " /* s */ ", "/* t */"])
BREAKS = st.sampled_from([" \\\n", "\\ // why \n  ", " \\  /* b */ \n\t", "\\\n\\\n"])
GAPS = st.one_of(SPACES, SPACES, SPACES, BREAKS)
MAYBE_SPACES = st.one_of(st.just(""), st.just(""), SPACES)
NEWLINES = st.sampled_from(["\n", "\n", "\r\n", "\u2028", "\x0c", "\r"])
LINES = st.sampled_from(
    [
        "\n",
        "\n\n",
        "\n\n\n",
        " // tail \n",
        "\n  // own line\n",
        "\n/* own */ /* too */\n\n",
        "\r\n \r\n",
    ]
)
FILLINGS = st.one_of(st.just(""), st.just(" "), COMMENTS, LINES)

NAMES = st.sampled_from(["a", "route", "path-prefix", "r", "r#x", '"quoted name"', 'r"raw"', "-", "ünï", "a'b", "--x"])
TYPES = st.sampled_from(["", "", "", "(u8)", "(env)", '("my type")'])
VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "+0x1F",
        "0b1_0",
        "0o17",
        "1.5e-3",
        "1_000",
        "true",
        "null",
        '"x"',
        '"two\nlines"',
        '"{;}//"',
        '"\\"\\n"',
        'r"\\"',
        'r##"a"#b"##',
        '"long enough that no block with it can stay on one line' + " of this file" * 5 + '"',
    ]
)


@st.composite
def entries(draw: st.DrawFn) -> str:
    disabled = draw(st.sampled_from(["", "", "", "/-", "/- ", "/-/* c */"]))
    key = draw(st.one_of(st.just(""), NAMES.map(lambda name: name + "=")))
    return disabled + key + draw(TYPES) + draw(VALUES)


@st.composite
def blocks(draw: st.DrawFn, nodes: st.SearchStrategy[str]) -> str:
    disabled = draw(st.sampled_from(["", "", "", "/-", "/- /* c */"]))
    inside = draw(st.lists(nodes, max_size=4))
    if draw(st.booleans()):  # on one line, as far as the nodes allow it
        return disabled + "{" + "".join(draw(MAYBE_SPACES) + node + draw(MAYBE_SPACES) + ";" for node in inside) + " }"
    return (
        disabled
        + "{"
        + "".join(draw(FILLINGS) + node + draw(st.one_of(LINES, st.just(";"))) for node in inside)
        + (draw(FILLINGS) + "}")
    )


@st.composite
def nodes_of(draw: st.DrawFn, children: st.SearchStrategy[str]) -> str:
    disabled = draw(st.sampled_from(["", "", "", "", "/-", "/- ", "/-/* c */", "/- \\\n"]))
    text = disabled + draw(TYPES) + draw(NAMES)
    for entry in draw(st.lists(entries(), max_size=3)):
        text += draw(GAPS) + entry
    if draw(st.booleans()):
        text += draw(st.one_of(st.just(""), GAPS)) + draw(blocks(children))
    return text + draw(MAYBE_SPACES)


def node_texts() -> st.SearchStrategy[str]:
    return st.recursive(_leaves(), nodes_of, max_leaves=6)


def _leaves() -> st.SearchStrategy[str]:
    return st.builds(lambda name, gap, entry: name + gap + entry, NAMES, GAPS, entries())


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A file of nodes, ended in every way that a node may be."""
    ends = st.one_of(LINES, NEWLINES, st.just(";"), st.just("; /* c */"), st.just(" ; // c\n"))
    nodes = draw(st.lists(node_texts(), max_size=4))
    return draw(FILLINGS) + "".join(node + draw(ends) for node in nodes) + draw(FILLINGS)


SOUP = st.lists(
    st.sampled_from(
        [
            "a",
            "r",
            "1",
            "-",
            "+",
            "0x",
            ".",
            "true",
            '"',
            '"s"',
            "\\",
            "\\n",
            "\\q",
            "/",
            "//",
            "/*",
            "*/",
            "/-",
            "{",
            "}",
            "(t)",
            "(",
            ")",
            "=",
            ";",
            " ",
            "\t",
            "\n",
            "\r\n",
            "\u2028",
            "#",
            'r#"',
            '"#',
            "<",
            ",",
            "[",
            "\ufeff",
            "\x00",
            "é",
        ]
    ),
    max_size=25,
).map("".join)
"""Anything that a keyboard can do to a configuration."""
