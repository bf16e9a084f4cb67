"""The table of path forms: one reading for everybody, or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.path import BadTarget, SplitTarget, Target, canonical_literal, normalise, split_target
from sentinel.core.plan import PathRules
from sentinel.core.reasons import Reason

DEFAULT = PathRules()
STRICT = PathRules(encoded_slash="reject", double_slash="reject", dot_segments="reject", parameters="reject")
KEEPING = PathRules(encoded_slash="keep", double_slash="keep", dot_segments="resolve", parameters="keep")
REFUSED = None

FORMS = [
    # rules, what was sent, the path that is matched and sent on (None: refused)
    (DEFAULT, "/", "/"),
    (DEFAULT, "/a", "/a"),
    (DEFAULT, "/a/", "/a/"),
    (DEFAULT, "/A/b-c_d~e.f", "/A/b-c_d~e.f"),
    (DEFAULT, "/!$&'()*+,=:@", "/!$&'()*+,=:@"),
    (STRICT, "/v1/users/42", "/v1/users/42"),
    # dot segments
    (DEFAULT, "/a/./b", "/a/b"),
    (DEFAULT, "/a/../b", "/b"),
    (DEFAULT, "/a/..", "/"),
    (DEFAULT, "/a/.", "/a/"),
    (DEFAULT, "/a/b/..", "/a/"),
    (DEFAULT, "/a/b/../", "/a/"),
    (DEFAULT, "/.", "/"),
    (DEFAULT, "/./", "/"),
    (DEFAULT, "/a/%2e%2e/b", "/b"),
    (DEFAULT, "/a/%2E./b", "/b"),
    (DEFAULT, "/a/.%2e/b", "/b"),
    (DEFAULT, "/a/%2e/b", "/a/b"),
    (DEFAULT, "/a//../b", "/b"),
    (KEEPING, "/a//../b", "/a/b"),
    (DEFAULT, "/..", REFUSED),
    (DEFAULT, "/../a", REFUSED),
    (DEFAULT, "/a/../../b", REFUSED),
    (DEFAULT, "/%2e%2e/a", REFUSED),
    (DEFAULT, "/.well-known/x", "/.well-known/x"),
    (DEFAULT, "/a/...", "/a/..."),
    (DEFAULT, "/a/..b", "/a/..b"),
    (STRICT, "/.well-known/x", "/.well-known/x"),
    (STRICT, "/a/./b", REFUSED),
    (STRICT, "/a/%2e%2e", REFUSED),
    # encoded slashes and backslashes
    (DEFAULT, "/a%2Fb", REFUSED),
    (DEFAULT, "/a%2fb", REFUSED),
    (DEFAULT, "/a%5Cb", REFUSED),
    (DEFAULT, "/a%5cb", REFUSED),
    (KEEPING, "/a%2fb", "/a%2Fb"),
    (KEEPING, "/a%5cb", "/a%5Cb"),
    (KEEPING, "/a%2F..%2Fb", REFUSED),
    (KEEPING, "/..%2fb", REFUSED),
    (KEEPING, "/a/%2e%2e%5cb", REFUSED),
    (KEEPING, "/a%2f..", REFUSED),
    (DEFAULT, "/a\\b", REFUSED),
    (KEEPING, "/a\\..\\b", REFUSED),
    # double slashes
    (DEFAULT, "//", "/"),
    (DEFAULT, "//a///b//", "/a/b/"),
    (DEFAULT, "//evil.example/x", "/evil.example/x"),
    (KEEPING, "//a//b", "//a//b"),
    (STRICT, "//a", REFUSED),
    # parameters
    (DEFAULT, "/a;v=1/b", "/a;v=1/b"),
    (DEFAULT, "/a%3Bv=1", "/a%3Bv=1"),
    (DEFAULT, "/a/..;/b", REFUSED),
    (DEFAULT, "/a/.;x=1/b", REFUSED),
    (DEFAULT, "/a/%2e%2e;/b", REFUSED),
    (DEFAULT, "/a/..%3b/b", REFUSED),
    (DEFAULT, "/..;", REFUSED),
    (STRICT, "/a;v=1", REFUSED),
    # escapes
    (DEFAULT, "/%61%42%7e%2D%5f%2E%30", "/aB~-_.0"),
    (DEFAULT, "/a%20b", "/a%20b"),
    (DEFAULT, "/caf%c3%a9", "/caf%C3%A9"),
    (DEFAULT, "/%3a%40%2b", "/%3A%40%2B"),
    (DEFAULT, "/%252e%252e/a", "/%252e%252e/a"),
    (DEFAULT, "/%25%32%65", "/%252e"),
    (DEFAULT, "/%2525", "/%2525"),
    (DEFAULT, "/%e9", "/%E9"),
    (DEFAULT, "/100%", REFUSED),
    (DEFAULT, "/%", REFUSED),
    (DEFAULT, "/%4", REFUSED),
    (DEFAULT, "/%zz", REFUSED),
    (DEFAULT, "/%%411", REFUSED),
    (DEFAULT, "/%2%35", REFUSED),
    (DEFAULT, "/%u002e", REFUSED),
    (DEFAULT, "/% 41", REFUSED),
    (DEFAULT, "/a%00", REFUSED),
    (DEFAULT, "/a%0d%0aX:1", REFUSED),
    (DEFAULT, "/a%1f", REFUSED),
    (DEFAULT, "/a%7F", REFUSED),
    (DEFAULT, "/%c0%af", REFUSED),
    (DEFAULT, "/%c0%ae%c0%ae/", REFUSED),
    (DEFAULT, "/%e0%80%af", REFUSED),
    (DEFAULT, "/%f0%80%80%af", REFUSED),
    # raw octets
    (DEFAULT, "/a b", REFUSED),
    (DEFAULT, "/a\tb", REFUSED),
    (DEFAULT, "/a\x00", REFUSED),
    (DEFAULT, "/a\x7f", REFUSED),
    (DEFAULT, "/a\n", REFUSED),
    (DEFAULT, "/caf\xe9", REFUSED),
    (DEFAULT, "/a#b", REFUSED),
    (DEFAULT, "/a[1]{2}|^`<>\"", "/a%5B1%5D%7B2%7D%7C%5E%60%3C%3E%22"),
    # forms that are no path
    (DEFAULT, "", REFUSED),
    (DEFAULT, "a", REFUSED),
    (DEFAULT, "*", REFUSED),
    (DEFAULT, "http://example.com/", REFUSED),
    (DEFAULT, "example.com:443", REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "sent", "wanted"), FORMS)
def test_each_form_has_one_reading_or_none(rules: PathRules, sent: str, wanted: str | None) -> None:
    for query in ("", "?", "?a=%2e%2e/%00&b=[1]|;"):
        target = normalise(sent + query, rules)
        if wanted is None:
            assert isinstance(target, BadTarget)
            assert target.reason is Reason.BAD_PATH
            assert target.detail
        else:
            assert target == Target(wanted, query[1:], wanted + query)


def test_the_table_is_as_long_as_promised() -> None:
    assert len({(sent, rules) for rules, sent, _ in FORMS}) >= 60


@pytest.mark.parametrize("query", ["a b", "a#b", "a\x00", "a\xe9", "a\r\nX: 1", "a\x7f"])
def test_a_query_that_cannot_stand_in_a_request_line_is_refused(query: str) -> None:
    assert isinstance(normalise(f"/?{query}", DEFAULT), BadTarget)


def test_a_query_travels_untouched() -> None:
    assert normalise("/a?b=%2e%2e//;?%zz&\"<>\\^`{|}", DEFAULT) == Target(
        "/a", "b=%2e%2e//;?%zz&\"<>\\^`{|}", "/a?b=%2e%2e//;?%zz&\"<>\\^`{|}"
    )


def test_the_asterisk_is_for_options_only() -> None:
    assert normalise("*", DEFAULT, "OPTIONS") == Target("*", "", "*")
    assert isinstance(normalise("*", DEFAULT, "GET"), BadTarget)
    assert isinstance(normalise("*?a", DEFAULT, "OPTIONS"), BadTarget)


ALPHABET = st.sampled_from([*"/.%;2eEfF5cC\\ab#?", "%2e", "%2F", "//", "/../", "%25", "%c0", "\xe9", "\x00"])
TARGETS = st.lists(ALPHABET, max_size=12).map(lambda parts: "/" + "".join(parts))
RULES = st.builds(
    PathRules,
    encoded_slash=st.sampled_from(["reject", "keep"]),
    double_slash=st.sampled_from(["reject", "merge", "keep"]),
    dot_segments=st.sampled_from(["reject", "resolve"]),
    parameters=st.sampled_from(["reject", "keep"]),
)


@given(TARGETS, RULES)
def test_what_was_normalised_stays_as_it_is(sent: str, rules: PathRules) -> None:
    """Idempotence: the upstream, were it a gateway like us, would read the same."""
    once = normalise(sent, rules)
    if isinstance(once, Target):
        assert normalise(once.target, rules) == once


@given(TARGETS, RULES)
def test_no_reader_finds_a_dot_segment_in_what_we_send(sent: str, rules: PathRules) -> None:
    target = normalise(sent, rules)
    if isinstance(target, BadTarget):
        return
    assert target.target.partition("?")[0] == target.path
    text = target.path.replace("%2F", "/").replace("%5C", "/")
    segments = [segment.partition(";")[0].partition("%3B")[0] for segment in text.split("/")]
    assert "." not in segments
    assert ".." not in segments


SPLITS = [
    ("/a?b", "GET", SplitTarget("", "", "/a?b")),
    ("*", "OPTIONS", SplitTarget("", "", "*")),
    ("http://example.com", "GET", SplitTarget("http", "example.com", "/")),
    ("http://example.com", "OPTIONS", SplitTarget("http", "example.com", "*")),
    ("http://example.com/", "OPTIONS", SplitTarget("http", "example.com", "/")),
    ("HTTPS://Example.com:8443/a?b=c", "GET", SplitTarget("https", "Example.com:8443", "/a?b=c")),
    ("http://example.com?q=1", "GET", SplitTarget("http", "example.com", "/?q=1")),
    ("http://[::1]:80/x", "GET", SplitTarget("http", "[::1]:80", "/x")),
    ("//example.com/x", "GET", SplitTarget("", "", "//example.com/x")),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "method", "wanted"), SPLITS)
def test_targets_split_into_their_parts(sent: str, method: str, wanted: SplitTarget) -> None:
    assert split_target(sent, method) == wanted


@pytest.mark.parametrize("sent", ["", "a", "ftp://a/", "http:/a", "http:a", "://a/", "a:80", "javascript:alert(1)"])
def test_other_targets_are_refused(sent: str) -> None:
    assert isinstance(split_target(sent), BadTarget)


def test_an_absolute_target_names_a_host() -> None:
    target = split_target("http:///path")
    assert isinstance(target, BadTarget)
    assert target.reason is Reason.BAD_HOST


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("/", "/"),
        ("/v1/users", "/v1/users"),
        ("/café", "/caf%C3%A9"),
        ("/a b", "/a%20b"),
        ("/%7euser", "/~user"),
        ("/{id}", "/%7Bid%7D"),
        ("/a//b", "/a//b"),
        ("a", None),
        ("", None),
        ("/100%", None),
        ("/a/../b", None),
        ("/a?b", None),
        ("/a#b", None),
    ],
)
def test_operators_may_write_paths_as_they_read(written: str, wanted: str | None) -> None:
    assert canonical_literal(written) == wanted
