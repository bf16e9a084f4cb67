"""hash-key: a key that nobody guesses, and the line that knows it."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from click.testing import CliRunner

from sentinel.cli.keys import hash_key, hash_password
from sentinel.config import load_text, render_problems
from sentinel.core.passwords import is_right, read_hash

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


def test_a_password_is_hashed_with_a_salt_of_its_own_and_shown_nowhere() -> None:
    text = TEXT.replace('"clients"', '"staff"').replace("api-key", "basic")
    words = ["alice", "--stdin", "--json"]
    runs = [CliRunner().invoke(hash_password, words, input="correct horse\n") for _ in range(2)]
    one, other = (json.loads(done.output) for done in runs)
    assert one["hash"] != other["hash"] and "correct" not in runs[0].output
    loaded = load_text(text.format(line=one["line"]))
    assert loaded.plan is not None, render_problems(loaded.problems)
    kept = read_hash(loaded.plan.basics[0].users[0].password_hash)
    assert kept is not None and is_right(b"correct horse", kept)
    asked = CliRunner().invoke(hash_password, ["alice"], input="battery staple\nbattery staple\n")
    assert asked.exit_code == 0 and "battery" not in asked.output and '$scrypt$ln=15' in asked.output
    for name, given in (("alice", "short"), ("a:b", "long enough it is"), ("alice", "x" * 1025)):
        assert CliRunner().invoke(hash_password, [name, "--stdin"], input=given + "\n").exit_code == 2
