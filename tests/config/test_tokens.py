"""Tokens: lossless and total on any text, exact on KDL, and every fault has its place."""

from __future__ import annotations

import kdl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.config.tokens import Kind, fault_of, tokenize
from tests.config.kdltext import SOUP, documents


@given(st.one_of(st.text(), SOUP, documents()))
def test_the_pieces_are_the_text(text: str) -> None:
    tokens = tokenize(text)
    assert "".join(token.text for token in tokens) == text
    assert all(token.text for token in tokens)
    assert all(text.startswith(token.text, token.offset) for token in tokens)


@given(documents())
def test_what_is_kdl_has_no_error(text: str) -> None:
    assert [token for token in tokenize(text) if token.kind is Kind.ERROR] == []


@given(st.one_of(st.text(), SOUP))
def test_what_has_an_error_is_no_kdl(text: str) -> None:
    if any(token.kind is Kind.ERROR for token in tokenize(text)):
        with pytest.raises(kdl.errors.ParseError):
            kdl.parse(text)


@given(st.one_of(st.text(), SOUP))
def test_every_error_can_be_told(text: str) -> None:
    for token in tokenize(text):
        if token.kind is Kind.ERROR:
            fault = fault_of(token)
            assert token.offset <= fault.offset < token.end
            assert fault.message.isprintable()
            assert fault.remedy


KINDS = [
    ("a", Kind.IDENTIFIER),
    ("r", Kind.IDENTIFIER),
    ("r#x", Kind.IDENTIFIER),
    ("-", Kind.IDENTIFIER),
    ("--1", Kind.IDENTIFIER),
    ("a'b", Kind.IDENTIFIER),
    (".5", Kind.IDENTIFIER),
    ("true", Kind.KEYWORD),
    ("trueish", Kind.IDENTIFIER),
    ("null", Kind.KEYWORD),
    ("1", Kind.NUMBER),
    ("-0x1f", Kind.NUMBER),
    ("+1_0.5e+1_0", Kind.NUMBER),
    ("0b10", Kind.NUMBER),
    ("0o17", Kind.NUMBER),
    ("1.", Kind.ERROR),
    ("0b2", Kind.ERROR),
    ("1x", Kind.ERROR),
    ("0x", Kind.ERROR),
    ('""', Kind.STRING),
    ('"a\nb"', Kind.STRING),
    ('"\\u{10FFFF}"', Kind.STRING),
    ('"\\u{110000}"', Kind.ERROR),
    ('"\\u{}"', Kind.ERROR),
    ('"\\x"', Kind.ERROR),
    ('"', Kind.ERROR),
    ('"\\', Kind.ERROR),
    ('"\\"', Kind.ERROR),
    ('r"\\"', Kind.RAW_STRING),
    ('r##"a"#"##', Kind.RAW_STRING),
    ('r#"a"', Kind.ERROR),
    ("// x", Kind.LINE_COMMENT),
    ("/* /* */ */", Kind.BLOCK_COMMENT),
    ("/*/", Kind.ERROR),
    ("/* /* */", Kind.ERROR),
    ("/-", Kind.SLASHDASH),
    ("\r\n", Kind.NEWLINE),
    ("\n", Kind.NEWLINE),
    ("\r", Kind.NEWLINE),
    ("\x0c", Kind.NEWLINE),
    ("\x85", Kind.NEWLINE),
    ("\u2028", Kind.NEWLINE),
    ("\u2029", Kind.NEWLINE),
    ("\ufeff \t\u3000", Kind.SPACE),
    ("\\", Kind.CONTINUATION),
    ("{", Kind.OPEN),
    ("}", Kind.CLOSE),
    ("(", Kind.TYPE_OPEN),
    (")", Kind.TYPE_CLOSE),
    ("=", Kind.EQUALS),
    (";", Kind.SEMICOLON),
    ("<", Kind.ERROR),
    ("\x0b", Kind.ERROR),
    ("/", Kind.ERROR),
]


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_a_piece_alone_is_one_token_of_its_kind(text: str, kind: Kind) -> None:
    assert [(token.kind, token.text) for token in tokenize(text)] == [(kind, text)]


def test_every_kind_is_produced() -> None:
    assert {kind for _, kind in KINDS} == set(Kind)


def test_a_raw_string_begins_only_where_a_word_does() -> None:
    assert [token.text for token in tokenize('abr"x"')] == ["abr", '"x"']


HOSTILE = ['"' * 3, "/*", 'r#"', "#", '"\\', "a\\q", "*/", "r", "{"]


@pytest.mark.parametrize("text", [start + piece * 50_000 for start in ('"', "r", "/*", "") for piece in HOSTILE])
def test_hostile_texts_cost_what_their_length_costs(text: str) -> None:
    """Quadratic work on these would run into the timeout of the test."""
    assert "".join(token.text for token in tokenize(text)) == text


def test_a_bad_escape_is_told_at_its_place() -> None:
    (token,) = tokenize('"ok\\n then \\q"')
    fault = fault_of(token)
    assert (fault.offset, fault.message) == (11, "`\\q` begins no escape that KDL knows")
