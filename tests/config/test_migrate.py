"""migrate: the words change, the rest of the text does not; what has no exact counterpart is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.config import load_text
from sentinel.config.fmt import fmt
from sentinel.config.migrate import VERSIONS, Migrated, migrate
from sentinel.config.problem import Problem
from sentinel.config.schema import VERSION
from sentinel.config.tokens import Kind, tokenize
from tests.config.kdltext import documents

OLD = """\
// Gateway of the shop.
schema-version "0.9" // first
system { drain-deadline-ms 90000; }
servers { /* one is enough */
    server "web" {
        address   "127.0.0.1:8080"   // odd   spacing stays
        limits { header-timeout-ms 1500; idle-timeout-ms 0x124F8; }
    }
    /- server "off" { limits { body-timeout-ms 1_000 /* a second */; }; }
}
routes {
    route "api" {
        servers "web"
        matches { path-prefix "/proxy"; }
        proxy \\ // the only one
            "api"
        timeout-ms 60000
    }
}
upstreams {
    "upstream" "api" {
        backend "127.0.0.1:9001" weight=2
        timeouts { connect-ms 3600000; first-byte-ms 61000; idle-ms 86400000; }
    }
}
"""
NEW = """\
// Gateway of the shop.
schema-version "1.0" // first
system { drain-deadline "90s"; }
listeners { /* one is enough */
    listener "web" {
        address   "127.0.0.1:8080"   // odd   spacing stays
        limits { header-timeout "1500ms"; idle-timeout "75s"; }
    }
    /- listener "off" { limits { body-timeout "1s" /* a second */; }; }
}
routes {
    route "api" {
        listeners "web"
        matches { path-prefix "/proxy"; }
        upstream \\ // the only one
            "api"
        timeout "1m"
    }
}
upstreams {
    "upstream" "api" {
        endpoint "127.0.0.1:9001" weight=2
        timeouts { connect "1h"; first-byte "61s"; idle "1d"; }
    }
}
"""


def migrated(text: str, source: str = "") -> Migrated:
    result = migrate(text, "old.kdl", source)
    assert isinstance(result, Migrated), result
    return result


def refused(text: str, source: str = "") -> Problem:
    result = migrate(text, "old.kdl", source)
    assert isinstance(result, Problem), result
    return result


def test_a_whole_file_is_carried_over() -> None:
    result = migrated(OLD)
    assert result.text == NEW
    assert (result.source, result.target) == ("0.9", "1.0")
    assert [(change.line, change.before, change.after) for change in result.changes][:3] == [
        (2, '"0.9"', '"1.0"'), (3, "drain-deadline-ms", "drain-deadline"), (3, "90000", '"90s"'),
    ]  # fmt: skip


def test_what_was_carried_over_is_valid() -> None:
    assert load_text(migrated(OLD).text).problems == ()


def test_what_is_present_stays() -> None:
    assert migrated(NEW) == Migrated(NEW, "1.0", "1.0", ())


@given(documents())
def test_whatever_else_stands_there_stays(text: str) -> None:
    old = 'schema-version "0.9"\n' + text
    expected = 'schema-version "1.0"\n' + text
    assert migrated(old).text == expected


@given(st.lists(st.sampled_from(OLD.splitlines(keepends=True)), max_size=8), st.text("ab *", max_size=5))
def test_comments_stay(lines: list[str], words: str) -> None:
    text = 'schema-version "0.9"\n' + "".join(f"// {words}\n/* {words.replace('*', '')} */ {line}" for line in lines)
    result = migrate(text)
    if isinstance(result, Migrated):  # cut out of their blocks, not all lines are KDL
        assert _comments(result.text) == _comments(text)


def _comments(text: str) -> list[str]:
    return [token.text for token in tokenize(text) if token.kind in (Kind.LINE_COMMENT, Kind.BLOCK_COMMENT)]


@given(st.integers(0, 10**12))
def test_durations_are_exact(milliseconds: int) -> None:
    result = migrated(f"timeout-ms {milliseconds}", "0.9").text
    found = re.fullmatch(r'timeout "([0-9]+)(ms|s|m|h|d)"', result)
    assert found is not None
    assert int(found[1]) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]] == milliseconds


@pytest.mark.parametrize(
    ("number", "duration"),
    [
        ("0", "0s"),
        ("1", "1ms"),
        ("30000", "30s"),
        ("1500", "1500ms"),
        ("+60_000", "1m"),
        ("0b1", "1ms"),
        ("0o10", "8ms"),
    ],
)
def test_numbers_of_every_spelling(number: str, duration: str) -> None:
    assert migrated(f"idle-ms {number}", "0.9").text == f'idle "{duration}"'


@pytest.mark.parametrize("value", ["-1", "1.5", "1e3", '"30"', "true", '(env)"T"', "(u8)1"])
def test_what_has_no_exact_counterpart_is_refused(value: str) -> None:
    problem = refused(f'schema-version "0.9"\na {{\n    timeout-ms {value}\n}}')
    assert str(problem.span) == "old.kdl:3:16"
    assert "no whole number of milliseconds" in problem.message
    assert problem.source == f"    timeout-ms {value}"
    assert problem.remedy


def test_names_change_only_where_they_meant_something() -> None:
    text = 'schema-version "0.9"\nx { server "a"; proxy "b"; backend "c"; servers "d"; }\nroute { backend "e"; }\n'
    assert migrated(text).text == text.replace("0.9", "1.0")


def test_a_file_that_is_included_says_where_it_comes_from() -> None:
    assert migrated('server "a" { }', "0.9").text == 'listener "a" { }'
    problem = refused('server "a" { }')
    assert str(problem.span) == "old.kdl:1:1"
    assert "--from" in problem.remedy


def test_the_version_in_the_file_counts() -> None:
    assert migrated('schema-version "1.0"\nserver "a"', "0.9").changes == ()


@pytest.mark.parametrize("version", ["0.8", "2", "1.0 "])
def test_an_unknown_version_is_refused_with_those_known(version: str) -> None:
    problem = refused(f'// x\nschema-version "{version}"')
    assert str(problem.span) == "old.kdl:2:16"
    assert all(known in problem.remedy for known in VERSIONS)
    assert refused("a", "0.1").remedy == problem.remedy


def test_what_is_no_kdl_is_refused_at_its_place() -> None:
    assert str(refused('schema-version "0.9"\nservers {').span) == "old.kdl:2:9"


def test_a_disabled_version_is_none() -> None:
    assert "names no" in refused('/- schema-version "0.9"').message


def test_the_chain_ends_at_the_present() -> None:
    assert VERSIONS[-1] == VERSION


def test_formatting_and_migrating_do_not_disturb_each_other() -> None:
    assert fmt(migrated(OLD).text) == fmt(migrated(str(fmt(OLD))).text)
