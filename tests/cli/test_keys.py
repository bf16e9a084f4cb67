"""hash-key: a key that nobody guesses, and the line that knows it."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from click.testing import CliRunner

from sentinel.cli.keys import hash_key
from sentinel.config import load_text, render_problems

TEXT = """schema-version "1.0"
listeners {{ listener "l" {{ address "127.0.0.1:8080"; }}; }}
routes {{ route "r" {{ matches {{ path "/"; }}; filters "clients"; respond 200; }}; }}
filters {{ api-key "clients" {{ {line}; }}; }}
"""


def printed(*words: str, given: str | None = None) -> dict[str, str]:
    done = CliRunner().invoke(hash_key, [*words, "--json"], input=given)
    assert done.exit_code == 0, done.output
    document: dict[str, str] = json.loads(done.output)
    return document


def test_the_line_is_one_that_the_configuration_takes_and_has_the_hash_of_the_key() -> None:
    one, other = printed('acme "inc"'), printed("acme")
    assert one["key"] != other["key"] and len(one["key"]) >= 50
    assert one["hash"] == f"sha256:{sha256(one['key'].encode()).hexdigest()}"
    loaded = load_text(TEXT.format(line=one["line"]))
    assert loaded.plan is not None, render_problems(loaded.problems)
    (key,) = loaded.plan.api_keys[0].keys
    assert (key.name, key.digests) == ('acme "inc"', (one["hash"].removeprefix("sha256:"),))
    assert one["key"] not in one["line"]


def test_the_key_is_shown_once_and_for_people_with_the_line() -> None:
    output = CliRunner().invoke(hash_key, ["acme"]).output
    key = output.split()[1]
    assert output.count(key) == 1 and sha256(key.encode()).hexdigest() in output


def test_a_key_that_is_there_already_is_hashed_and_not_shown() -> None:
    key = "a-key-that-has-been-there-for-years"
    document = printed("acme", "--stdin", given=f"{key}\n")
    assert "key" not in document and document["hash"] == f"sha256:{sha256(key.encode()).hexdigest()}"


@pytest.mark.parametrize("given", ["short", "a key with blanks in it, long enough", "x" * 23, "ü" * 40, ""])
def test_a_key_that_could_be_guessed_or_is_none_is_refused(given: str) -> None:
    done = CliRunner().invoke(hash_key, ["acme", "--stdin"], input=given + "\n")
    assert done.exit_code == 2 and "at least 24" in done.output
    assert not given or given not in done.output
