"""Paths and families."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.dialect import Call, Dialect, Family, recognise


@pytest.mark.parametrize(("path", "call"), [
    ("/v1/chat/completions", Call(Dialect.OPENAI_CHAT)),
    ("/chat/completions", Call(Dialect.OPENAI_CHAT)),
    ("/v1beta/openai/chat/completions", Call(Dialect.OPENAI_CHAT)),
    ("/openai/deployments/my-gpt/chat/completions", Call(Dialect.OPENAI_CHAT, "my-gpt")),
    ("/v1/responses", Call(Dialect.OPENAI_RESPONSES)),
    ("/v1/completions", Call(Dialect.OPENAI_COMPLETIONS)),
    ("/v1/embeddings", Call(Dialect.OPENAI_EMBEDDINGS)),
    ("/v1/messages", Call(Dialect.ANTHROPIC_MESSAGES)),
    ("/anthropic/v1/messages", Call(Dialect.ANTHROPIC_MESSAGES)),
    ("/v1beta/models/gemini-x:generateContent", Call(Dialect.GEMINI_GENERATE, "gemini-x", False)),
    ("/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent",
     Call(Dialect.GEMINI_GENERATE, "g", True)),
    ("/api/chat", Call(Dialect.OLLAMA_CHAT)),
    ("/api/generate", Call(Dialect.OLLAMA_GENERATE)),
    ("/api/embed", Call(Dialect.OLLAMA_EMBED)),
    ("/anthropic/v1/messages/count_tokens", Call(Dialect.ANTHROPIC_MESSAGES, None, False, True)),
    ("/v1/responses/input_tokens", Call(Dialect.OPENAI_RESPONSES, None, False, True)),
    ("/v1beta/models/g:countTokens", Call(Dialect.GEMINI_GENERATE, "g", False, True)),
])  # fmt: skip
def test_a_dialect_is_known_by_its_path(path: str, call: Call) -> None:
    assert recognise(path) == call


@pytest.mark.parametrize("path", [
    "/", "", "/v1/models", "/messages/count_tokens", "/v1/messages/batches", "/v1/threads/t/messages",
    "/v1/responses/resp_1", "/v1/chat/completions/", "/v1beta/models/g:counttokens", "/models/:generateContent",
    "/v1beta/models/a/b:generateContent", f"/models/{'g' * 300}:generateContent", "/api/chats", "/xchat",
])  # fmt: skip
def test_other_paths_are_not(path: str) -> None:
    assert recognise(path) is None


@pytest.mark.parametrize(("family", "known", "unknown"), [
    (Family.OPENAI, "/v1/responses", "/v1/messages"),
    (Family.COMPATIBLE, "/v1/chat/completions", "/api/chat"),
    (Family.ANTHROPIC, "/v1/messages", "/v1/chat/completions"),
    (Family.ANTHROPIC, "/v1/messages/count_tokens", "/v1/responses/input_tokens"),
    (Family.OPENAI, "/v1/responses/input_tokens", "/v1/messages/count_tokens"),
    (Family.GEMINI, "/v1/models/g:generateContent", "/v1/responses"),
    (Family.GEMINI, "/v1/models/g:countTokens", "/v1/messages/count_tokens"),
    (Family.OLLAMA, "/api/chat", "/v1/messages"),
    (Family.OLLAMA, "/v1/chat/completions", "/v1/models/g:generateContent"),
])  # fmt: skip
def test_a_family_has_its_own_dialects_only(family: Family, known: str, unknown: str) -> None:
    assert recognise(known, family) is not None
    assert recognise(unknown, family) is None


@given(st.text(max_size=40), st.sampled_from([None, *Family]))
def test_any_path_is_recognised_or_not(path: str, family: Family | None) -> None:
    found = recognise(path, family)
    assert found is None or isinstance(found.dialect, Dialect)
