"""A value is replaced where it stands, and every other octet stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.address import addressed
from sentinel.inference.dialect import recognise
from sentinel.inference.spans import member, replaced

NAMES = st.sampled_from(["model", "a", ",", "{", 'mo"del', "m\\odel", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.sampled_from(["model", '"model":"x"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.text(max_size=9), st.sampled_from([None, 1]), st.booleans())
def test_only_the_value_is_another_one(body: dict[str, Any], name: str, indent: int | None, is_ascii: bool) -> None:
    octets = b" " + json.dumps(body, indent=indent, ensure_ascii=is_ascii).encode() + b"\n"
    found = replaced(octets, ("model",), name)
    if "model" not in body:
        assert found is None
        return
    assert found is not None and json.loads(found) == body | {"model": name}
    place = member(octets, octets.find(b"{"), "model")
    assert place is not None and json.loads(octets[slice(*place)]) == body["model"]
    start, end = place
    assert found.startswith(octets[:start]) and found.endswith(octets[end:])
    assert len(found) == len(octets) - (end - start) + len(json.dumps(name))


@pytest.mark.parametrize(
    ("body", "path", "found"),
    [
        (b'{"in":{"model":"a","x":{"model":"b"}}}', ("in", "model"), b'{"in":{"model":"n","x":{"model":"b"}}}'),
        (b'{"\\u006dodel":"a"}', ("model",), b'{"\\u006dodel":"n"}'),
        (b'{"message":"model","model":"a"}', ("message", "model"), None),
        (b'[{"model":"a"}]', ("message", "model"), None),
        (b"", ("model",), None),
    ],
)
def test_names_lead_there_one_by_one(body: bytes, path: tuple[str, ...], found: bytes | None) -> None:
    assert replaced(body, path, "n") == found


@pytest.mark.parametrize(
    ("path", "sent", "prefix", "found"),
    [
        ("/llm/v1/chat/completions", "m", "", "/llm/v1/chat/completions"),
        ("/llm/v1/chat/completions", "m", "/v1", "/v1/chat/completions"),
        ("/v1/chat/completions", "m/x:é", "/deployments/{model}/", "/deployments/m%2Fx%3A%C3%A9/chat/completions"),
        ("/v1/completions", "m", "/", "/completions"),
        ("/llm/v1/messages", "m", "/anthropic", "/anthropic/v1/messages"),
        ("/v1beta/models/a:generateContent", "b", "/v1", "/v1/models/b:generateContent"),
        ("/v1beta/models/a%20b:generateContent", "a%20b", "", "/v1beta/models/a%20b:generateContent"),
        ("/openai/deployments/a/embeddings", "b", "", "/openai/deployments/b/embeddings"),
        ("/openai/deployments/a/embeddings", "a", "", "/openai/deployments/a/embeddings"),
        ("/openai/deployments/a/x/embeddings", "b", "/v1", "/v1/embeddings"),
        ("/api/chat", "b", "/ollama", "/ollama/api/chat"),
    ],
)
def test_the_end_of_a_path_stays_and_what_stands_before_is_the_provider_s(
    path: str, sent: str, prefix: str, found: str
) -> None:
    call = recognise(path)
    assert call is not None and addressed(path, call, sent, prefix) == found
