"""Values from the environment and from files, and that what is secret is never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.config import Loaded, encode_plan, load_text, redacted, render_problems
from sentinel.config.codec import fingerprint

SECRET = "a-very-secret-token-0123456789"
TEXT = """\
schema-version "1.0"
admin {{ address "127.0.0.1:9901"; token {token}; }}
listeners {{ listener "web" {{ address {address}; }}; }}
routes {{
    route "r" {{ matches {{ path "/"; }}; respond 200 body={body}; }}
}}
"""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SENTINEL_TEST_TOKEN", SECRET)
    monkeypatch.setenv("SENTINEL_TEST_PORT", "127.0.0.1:8080")
    monkeypatch.setenv("SENTINEL_TEST_EMPTY", "")
    (tmp_path / "token").write_text(SECRET + "\n")
    return tmp_path / "main.kdl"


def ask(path: Path, token: str = f'"{SECRET}"', address: str = '"127.0.0.1:8080"', body: str = '""') -> Loaded:
    return load_text(TEXT.format(token=token, address=address, body=body), str(path))


@pytest.mark.parametrize("token", ['(env)"SENTINEL_TEST_TOKEN"', '(file)"token"'])
def test_a_value_comes_from_outside_and_is_shown_nowhere(source: Path, token: str) -> None:
    loaded = ask(source, token)
    assert loaded.plan is not None, render_problems(loaded.problems)
    assert loaded.plan.admin.token == SECRET, "without the newline at the end of the file"
    assert SECRET not in json.dumps(redacted(loaded.plan))
    assert "secrets" not in redacted(loaded.plan)


def test_a_secret_is_hidden_wherever_else_its_text_appears(source: Path) -> None:
    loaded = ask(source, '(env)"SENTINEL_TEST_TOKEN"', body=f'"Bearer {SECRET}!"')
    assert loaded.plan is not None
    assert SECRET not in json.dumps(redacted(loaded.plan))


def test_a_token_in_the_file_itself_is_hidden_too(source: Path) -> None:
    loaded = ask(source)
    assert loaded.plan is not None
    assert SECRET not in json.dumps(redacted(loaded.plan))


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ('(env)"SENTINEL_TEST_NONE"', "SENTINEL_TEST_NONE"),
        ('(file)"none"', "cannot be read: No such file"),
        ('(vault)"x"', "vault"),
        ("(env)1", "(env) takes text"),
    ],
)
def test_what_is_not_there_is_told(source: Path, token: str, words: str) -> None:
    loaded = ask(source, token)
    (problem,) = loaded.problems
    assert words in problem.message + problem.remedy
    assert (problem.span.line, problem.source[: problem.span.column - 1].count("token")) == (2, 1)


def test_a_wrong_value_from_outside_is_told_without_the_value(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_TEST_TOKEN", "hunter2")
    loaded = ask(source, '(env)"SENTINEL_TEST_TOKEN"', address='(env)"SENTINEL_TEST_TOKEN"')
    assert len(loaded.problems) == 2
    assert "hunter2" not in render_problems(loaded.problems) + repr(loaded.problems)


def test_any_value_may_come_from_outside(source: Path) -> None:
    loaded = ask(source, address='(env)"SENTINEL_TEST_PORT"')
    assert loaded.plan is not None
    assert loaded.plan.listeners[0].port == 8080


def test_another_secret_is_another_plan(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a reload `if changed` would keep the old token."""
    prints = []
    for token in (SECRET, SECRET + "-rotated"):
        monkeypatch.setenv("SENTINEL_TEST_TOKEN", token)
        plan = ask(source, '(env)"SENTINEL_TEST_TOKEN"').plan
        assert plan is not None
        prints.append(fingerprint(encode_plan(plan)))
    assert prints[0] != prints[1]
