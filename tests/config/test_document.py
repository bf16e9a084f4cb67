"""KDL 1.0: what is accepted, what is rejected, and where everything stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.config import load_text
from sentinel.config.document import NESTING_MAX, PROPERTIES_MAX, Node, SyntaxFault, parse

ACCEPTED: dict[str, Any] = {
    # text: what it says, as nested tuples (name, args, props, children)
    "": [],
    "a": [("a", [], {}, [])],
    "a;b": [("a", [], {}, []), ("b", [], {}, [])],
    "a\nb\n": [("a", [], {}, []), ("b", [], {}, [])],
    "a\r\nb\r\n": [("a", [], {}, []), ("b", [], {}, [])],
    "\ufeffa": [("a", [], {}, [])],
    "a 1 2": [("a", [1, 2], {}, [])],
    "a -1 +2": [("a", [-1, 2], {}, [])],
    "a 1_000": [("a", [1000], {}, [])],
    "a 0x1F 0o17 0b1_0": [("a", [31, 15, 2], {}, [])],
    "a 1.5 -2.5e3 1e-2": [("a", [1.5, -2500.0, 0.01], {}, [])],
    "a true false null": [("a", [True, False, None], {}, [])],
    'a "text"': [("a", ["text"], {}, [])],
    r'a "\n\t\"\\\/\b\f\r"': [("a", ['\n\t"\\/\b\f\r'], {}, [])],
    r'a "\u{e9}\u{1F600}"': [("a", ["é😀"], {}, [])],
    'a "two\nlines"': [("a", ["two\nlines"], {}, [])],
    'a r"C:\\x"': [("a", ["C:\\x"], {}, [])],
    'a r#"say "yes""#': [("a", ['say "yes"'], {}, [])],
    'a r##"#"#"##': [("a", ['#"#'], {}, [])],
    "a k=1": [("a", [], {"k": 1}, [])],
    'a "k"=1': [("a", [], {"k": 1}, [])],
    'a "two words"="v"': [("a", [], {"two words": "v"}, [])],
    "a 1 k=2 3": [("a", [1, 3], {"k": 2}, [])],
    '"quoted name" 1': [("quoted name", [1], {}, [])],
    "a { b; }": [("a", [], {}, [("b", [], {}, [])])],
    "a {\n b 1\n c\n}": [("a", [], {}, [("b", [1], {}, []), ("c", [], {}, [])])],
    "a { }": [("a", [], {}, [])],
    "a {}": [("a", [], {}, [])],
    "a 1 { b; }; c": [("a", [1], {}, [("b", [], {}, [])]), ("c", [], {}, [])],
    "// comment\na": [("a", [], {}, [])],
    "a // comment": [("a", [], {}, [])],
    "a /* in line */ 1": [("a", [1], {}, [])],
    "a /* one /* two */ one */ 1": [("a", [1], {}, [])],
    "/-a 1\nb": [("b", [], {}, [])],
    "a /-1 2": [("a", [2], {}, [])],
    "a /-k=1 k=2": [("a", [], {"k": 2}, [])],
    'a "x k=1 y" k=2': [("a", ["x k=1 y"], {"k": 2}, [])],
    'a r#"x k=1 "#  k=2': [("a", ["x k=1 "], {"k": 2}, [])],
    'a "k=1" k=2': [("a", ["k=1"], {"k": 2}, [])],
    "a /* k=1 */ k=2": [("a", [], {"k": 2}, [])],
    "a { b k=1; }; c k=2": [("a", [], {}, [("b", [], {"k": 1}, [])]), ("c", [], {"k": 2}, [])],
    "a /-k=1 l=2": [("a", [], {"l": 2}, [])],
    "a /-{ b; } ": [("a", [], {}, [])],
    "/-a { b; }\nc": [("c", [], {}, [])],
    "a \\\n 1": [("a", [1], {}, [])],
    "a \\ // why\n 1": [("a", [1], {}, [])],
    "(t)a": [("a", [], {}, [])],
    "a (env)\"X\"": [("a", ["X"], {}, [])],
    "a k=(u8)1": [("a", [], {"k": 1}, [])],
    "\t a\t1": [("a", [1], {}, [])],
    "naïve-ünit": [("naïve-ünit", [], {}, [])],
    "a.b:c*": [("a.b:c*", [], {}, [])],
    "--flag": [("--flag", [], {}, [])],
    "a \"\"": [("a", [""], {}, [])],
}  # fmt: skip

REJECTED: dict[str, tuple[int, int]] = {
    # text: line and column of the fault
    "a {": (1, 3),
    "}": (1, 1),
    "a }": (1, 3),
    "a { b }": (1, 7),
    'a "open': (1, 3),
    'a r#"open"': (1, 3),
    'a "\\q"': (1, 4),
    'a "\\u{}"': (1, 7),
    'a "\\u{110000}"': (1, 7),
    'a "\\u{d800}"': (1, 3),
    "a bare": (1, 3),
    "a 1b": (1, 4),
    "a 0x": (1, 5),
    "a 0xg": (1, 5),
    "a 0b2": (1, 5),
    "a 1__0..": (1, 8),
    "a 1.": (1, 5),
    "a .5": (1, 3),
    "a k=": (1, 5),
    "a k= 1": (1, 5),
    "a =1": (1, 3),
    "1": (1, 1),
    "1a": (1, 1),
    '"a""b"': (1, 4),
    'a"b"': (1, 2),
    "a 1{b;}2": (1, 8),
    "a {}{}": (1, 5),
    "true": (1, 1),
    "null 1": (1, 1),
    "a /* open": (1, 3),
    "a */": (1, 3),
    "a \\ 1": (1, 3),
    "a /-": (1, 3),
    "/-": (1, 1),
    "(t a": (1, 3),
    "()a": (1, 1),
    "a ()1": (1, 3),
    "a[1]": (1, 2),
    "a,b": (1, 2),
    "a <b>": (1, 3),
    "a k=1 k=2": (1, 7),
    'a "k"=1 k=2': (1, 9),
    'a k=1 r#"k"#=2': (1, 7),
    'a k=1 "k"=2': (1, 7),
    "ok\n\n  a bare\n": (3, 5),
    "a " + "1" * 50: (1, 3),
    "a 1e9999": (1, 3),
}


def said(nodes: tuple[Node, ...]) -> list[Any]:
    return [
        (node.name, [one.value for one in node.args], {name: one.value for name, one in node.props.items()},
         said(node.children)) for node in nodes
    ]  # fmt: skip


@pytest.mark.parametrize("text", ACCEPTED, ids=repr)
def test_what_kdl_accepts(text: str) -> None:
    assert said(parse(text, "f")) == ACCEPTED[text]


@pytest.mark.parametrize("text", REJECTED, ids=lambda text: repr(text)[:40])
def test_what_kdl_rejects_is_told_with_its_place(text: str) -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse(text, "f")
    assert (caught.value.span.line, caught.value.span.column) == REJECTED[text], caught.value
    assert "\n" not in caught.value.message


def test_everything_has_its_place() -> None:
    (node,) = parse('\n  outer "one" (env)"two" key="v" {\n    inner 2\n  }\n', "f")
    assert str(node.span) == "f:2:3"
    assert [str(one.span) for one in node.args] == ["f:2:9", "f:2:20"]  # of the value, behind its annotation
    assert str(node.keys["key"]) == "f:2:26"
    assert str(node.props["key"].span) == "f:2:30"
    assert str(node.children[0].span) == "f:3:5"
    assert str(node.children[0].args[0].span) == "f:3:11"
    assert node.args[1].tag == "env"


def test_places_count_characters_not_octets() -> None:
    (node,) = parse('ä "ö" 1', "f")
    assert [one.span.column for one in node.args] == [3, 7]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a {\n" * (NESTING_MAX + 1), "nested deeper"),
        ("/*" * (NESTING_MAX + 2), "nested deeper"),
        ("a " + " ".join(f"k{number}=1" for number in range(PROPERTIES_MAX + 1)), "properties"),
        (' r#"' * 1000, "no end"),
    ],
    ids=["children", "comments", "properties", "raw strings"],
)
def test_what_would_cost_too_much_is_refused_beforehand(text: str, words: str) -> None:
    with pytest.raises(SyntaxFault, match=words):
        parse(text, "f")


PIECES = st.sampled_from([
    "a", "b", " ", "\n", "\r\n", ";", "{", "}", '"', '"x"', "=", "k=1", "1", "0x", "-", "+", ".", "_", "(", ")", "/-",
    "//", "/*", "*/", "\\", "\\\n", 'r"', 'r#"', '"#', "true", "null", "\ufeff", "\0", "é", "\u2028", "\\u{", "[", ",",
    "routes", "listeners", "matches", "host", "respond", 'include "*"', '(env)"X"', '(file)"/"', "schema-version",
])  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
@example('a "\ud800"')
@example("a " + "9" * 5000)
@example("\\")
def test_whatever_the_text_is_the_answer_is_a_document_or_one_located_fault(text: str) -> None:
    lines = text.count("\n") + 1
    try:
        parse(text, "f")
    except SyntaxFault as fault:
        assert 1 <= fault.span.line <= lines
        assert fault.span.column >= 1
    loaded = load_text(text, "/nowhere/f")
    assert loaded.plan is None
    assert loaded.problems


@given(st.binary(max_size=200))
def test_whatever_the_octets_are_the_answer_is_a_problem(octets: bytes) -> None:
    class Source:
        def read(self, path: str) -> bytes:
            return octets

        def glob(self, pattern: str) -> list[str]:
            return []

        def environ(self, name: str) -> str | None:
            return None

    from sentinel.config import load

    loaded = load("f", Source())
    assert loaded.plan is None
    assert all(one.span.file == "f" for one in loaded.problems)
