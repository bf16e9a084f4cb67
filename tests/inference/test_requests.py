"""What is read from a request: in each dialect, in all its forms, and when it is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.adapters import read_request
from sentinel.inference.ask import Ask, Detail
from sentinel.inference.dialect import Call, Dialect, recognise
from sentinel.inference.fault import InferenceFault

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
GEMINI = "/v1beta/models/gemini-x:streamGenerateContent"


def ask(path: str, body: Any) -> Ask:
    call = recognise(path)
    assert call is not None
    return read_request(call, json.dumps(body).encode())


def fault(path: str, body: Any) -> str:
    with pytest.raises(InferenceFault) as found:
        ask(path, body)
    return found.value.path


def test_a_chat() -> None:
    found = ask(CHAT, {
        "model": "gpt-4o", "stream": True, "stream_options": {"include_usage": True}, "n": 3, "max_tokens": 10,
        "max_completion_tokens": 20, "temperature": 0.1,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "messages": [
            {"role": "system", "content": "Be brief", "name": "boss"},
            {"role": "user", "content": [
                {"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "u"}}, {"type": "input_audio", "input_audio": {}},
                {"type": "file", "file": {}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "42", "tool_call_id": "c"},
        ],
    })  # fmt: skip
    assert (found.model, found.is_stream, found.output_cap, found.choices_count) == ("gpt-4o", True, 20, 3)
    assert (found.has_tools, found.wants_usage) == (True, True)
    given_ = found.input
    assert given_.texts == (
        "boss", "system", "Be brief", "user", "See", "assistant", "f", "{}", "tool", "42",
        '[{"type":"function","function":{"name":"f"}}]',
    )  # fmt: skip
    assert (given_.messages_count, given_.names_count, given_.audio_count, given_.files_count) == (4, 1, 1, 1)
    assert given_.images == (Detail.LOW, Detail.AUTO)


def test_a_schema_for_the_answer_counts_as_input() -> None:
    body = {"model": "m", "response_format": {"type": "json_schema", "json_schema": {"name": "s"}}}
    assert ask(CHAT, body).input.texts == ('{"name":"s"}',)


@pytest.mark.parametrize(("given_", "cap"), [
    ({}, None), ({"max_tokens": None}, None), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 7.0}, 7),
    ({"max_tokens": 0}, 0),
])  # fmt: skip
def test_the_cap_of_a_chat(given_: dict[str, Any], cap: int | None) -> None:
    assert ask(CHAT, {"model": "m", **given_}).output_cap == cap


@pytest.mark.parametrize(("given_", "wants"), [
    ({}, True), ({"stream": False}, True), ({"stream": True}, False),
    ({"stream": True, "stream_options": None}, False), ({"stream": True, "stream_options": {}}, False),
    ({"stream": True, "stream_options": {"include_usage": False}}, False),
    ({"stream": True, "stream_options": {"include_usage": True}}, True),
])  # fmt: skip
def test_who_wants_usage(given_: dict[str, Any], wants: bool) -> None:
    assert ask(CHAT, {"model": "m", **given_}).wants_usage is wants


def test_a_host_keeps_the_model_in_the_path() -> None:
    assert ask("/openai/deployments/mine/chat/completions", {"messages": []}).model == "mine"


@pytest.mark.parametrize(("prompt", "texts", "tokens", "choices"), [
    ("one", ("one",), 0, 4), (["one", "two"], ("one", "two"), 0, 8), ([1, 2, 3], (), 3, 4), ([[1, 2], [3]], (), 3, 8),
])  # fmt: skip
def test_prompts_of_completions(prompt: Any, texts: tuple[str, ...], tokens: int, choices: int) -> None:
    found = ask("/v1/completions", {"model": "m", "prompt": prompt, "n": 2, "best_of": 4})
    assert (found.input.texts, found.input.token_ids_count, found.choices_count) == (texts, tokens, choices)
    assert found.output_cap == 16, "which is what the provider cuts at"


def test_embeddings_have_no_output() -> None:
    found = ask("/v1/embeddings", {"model": "e", "input": [[1, 2], [3]]})
    assert (found.output_cap, found.input.token_ids_count) == (0, 3)


def test_a_response() -> None:
    found = ask(RESPONSES, {
        "model": "gpt-5", "stream": True, "max_output_tokens": 99, "instructions": "Be brief",
        "previous_response_id": "resp_0", "tools": [{"type": "web_search"}],
        "text": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": "See"}, {"type": "input_image", "detail": "high"},
                {"type": "input_file"}, {"type": "input_audio"},
            ]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "output": "42"},
            {"type": "item_reference", "id": "i"},
        ],
    })  # fmt: skip
    assert (found.output_cap, found.is_stream, found.wants_usage, found.has_hidden_input) == (99, True, True, True)
    assert found.input.texts == ("Be brief", "user", "See", "f", "{}", "42", '[{"type":"web_search"}]',
                                 '{"type":"object"}')  # fmt: skip
    assert (found.input.images, found.input.files_count, found.input.audio_count) == ((Detail.HIGH,), 1, 1)


def test_a_message() -> None:
    found = ask(MESSAGES, {
        "model": "claude-x", "max_tokens": 5, "system": [{"type": "text", "text": "Be brief"}],
        "tools": [{"name": "f"}],
        "messages": [
            {"role": "user", "content": [
                {"type": "image", "source": {}}, {"type": "document", "source": {"type": "text", "data": "paper"}},
                {"type": "document", "source": {"type": "base64"}},
                {"type": "tool_result", "content": [{"type": "text", "text": "42"}, {"type": "image"}]},
                {"type": "tool_result", "content": "43"},
            ]},
            {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"a": 1}}]},
        ],
    })  # fmt: skip
    assert (found.output_cap, found.is_stream, found.has_tools, found.wants_usage) == (5, False, True, True)
    assert found.input.texts == ("Be brief", "user", "paper", "42", "43", "assistant", "f", '{"a":1}', '[{"name":"f"}]')
    assert (len(found.input.images), found.input.files_count) == (2, 1)


@pytest.mark.parametrize("names", [
    ("generationConfig", "maxOutputTokens", "candidateCount", "systemInstruction", "inlineData", "mimeType"),
    ("generation_config", "max_output_tokens", "candidate_count", "system_instruction", "inline_data", "mime_type"),
])  # fmt: skip
def test_gemini_in_both_ways_of_writing_names(names: tuple[str, ...]) -> None:
    settings, cap, count, system, data, kind = names
    found = ask(GEMINI, {
        settings: {cap: "77", count: 2}, system: {"parts": [{"text": "Be brief"}]},
        "contents": [{"parts": [{"text": "See"}, {data: {kind: "image/png"}}, {data: {kind: "audio/wav"}}]}],
    })  # fmt: skip
    assert (found.model, found.output_cap, found.choices_count, found.is_stream) == ("gemini-x", 77, 2, True)
    assert (found.input.texts, len(found.input.images), found.input.audio_count) == (("Be brief", "See"), 1, 1)


@pytest.mark.parametrize(("given_", "is_stream", "cap"), [
    ({}, True, None), ({"stream": False}, False, None), ({"options": {"num_predict": 9}}, True, 9),
    ({"options": {"num_predict": -1}}, True, None),
])  # fmt: skip
def test_ollama_streams_unless_told_not_to(given_: dict[str, Any], is_stream: bool, cap: int | None) -> None:
    body = {"model": "l", "messages": [{"role": "user", "content": "x", "images": ["b", "b"]}], **given_}
    found = ask("/api/chat", body)
    assert (found.is_stream, found.output_cap, len(found.input.images)) == (is_stream, cap, 2)


def test_ollama_generates_and_embeds() -> None:
    assert ask("/api/generate", {"model": "l", "prompt": "p", "system": "s"}).input.texts == ("s", "p")
    assert ask("/api/embed", {"model": "l", "input": ["a", "b"]}).input.texts == ("a", "b")


# -- what is no request


@pytest.mark.parametrize(("path", "body", "place"), [
    (CHAT, [], "$"), (CHAT, {}, "$.model"), (CHAT, {"model": 7}, "$.model"), (CHAT, {"model": "m" * 300}, "$.model"),
    (CHAT, {"model": "m", "messages": {}}, "$.messages"),
    (CHAT, {"model": "m", "messages": ["x"]}, "$.messages[0]"),
    (CHAT, {"model": "m", "messages": [{}, {"content": 7}]}, "$.messages[1].content"),
    (CHAT, {"model": "m", "messages": [{"content": [{"type": "text", "text": 1}]}]}, "$.messages[0].content[0].text"),
    (CHAT, {"model": "m", "stream": "yes"}, "$.stream"), (CHAT, {"model": "m", "max_tokens": -1}, "$.max_tokens"),
    (CHAT, {"model": "m", "max_tokens": True}, "$.max_tokens"), (CHAT, {"model": "m", "n": 0}, "$.n"),
    (CHAT, {"model": "m", "n": 10**6}, "$.n"), (CHAT, {"model": "m", "max_tokens": 10**30}, "$.max_tokens"),
    ("/v1/completions", {"model": "m", "prompt": {}}, "$.prompt"),
    ("/v1/embeddings", {"model": "m", "input": [[1], "x"]}, "$.input[1]"),
    (MESSAGES, {"model": "m", "system": [{"type": "text", "text": 1}]}, "$.system[0].text"),
    (RESPONSES, {"model": "m", "input": [{"type": "message", "content": 7}]}, "$.input[0].content"),
    (GEMINI, {"contents": [{"parts": [7]}]}, "$.contents[0].parts[0]"),
    ("/api/embed", {"model": "m", "input": ["a", 7]}, "$.input[0]"),
])  # fmt: skip
def test_a_wrong_shape_is_said_with_its_place(path: str, body: Any, place: str) -> None:
    assert fault(path, body) == place


@pytest.mark.parametrize("body", [
    b"", b"{", b"\xff", b"nul", b'{"model":"a","model":"b"}', b'{"model":"a","\\u006dodel":"b"}', b'{"n":NaN}',
    b'{"messages":[{"role":"a","role":"b"}],"model":"m"}', b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000,
    "{}".encode("utf-16"), b"\xef\xbb\xbf{}",
])  # fmt: skip
def test_what_is_no_json_or_says_a_name_twice_is_a_fault(body: bytes) -> None:
    with pytest.raises(InferenceFault) as found:
        read_request(Call(Dialect.OPENAI_CHAT), body)
    assert found.value.path == "$"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        "model", "messages", "content", "type", "text", "tools", "input", "prompt", "n", "parts", "contents", "system",
        "stream", "stream_options", "source", "image_url", "options", "text", "format", "function", "tool_calls",
    ]), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(st.sampled_from(Dialect), JSON | st.binary(max_size=40))
def test_any_body_is_read_or_is_a_fault(dialect: Dialect, body: Any) -> None:
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        found = read_request(Call(dialect), octets)
    except InferenceFault as fault:
        assert fault.path.startswith("$") and fault.message
    else:
        assert found.model and found.choices_count > 0


# -- sizes that broke others


def test_a_body_of_32769_octets() -> None:
    """One more than a power of two that is a buffer's size somewhere."""
    frame = '{"model":"m","messages":[{"role":"user","content":"%s"}]}'
    content = "x" * (32_769 - len(frame % ""))
    body = (frame % content).encode()
    assert len(body) == 32_769
    assert read_request(Call(Dialect.OPENAI_CHAT), body).input.texts == ("user", content)


def test_embeddings_of_640_kb() -> None:
    inputs = ["word " * 64] * 2000
    found = ask("/v1/embeddings", {"model": "text-embedding-3-small", "input": inputs})
    assert sum(map(len, found.input.texts)) == 640_000 and len(found.input.texts) == 2000


@pytest.mark.parametrize("name", ["..", ".", "../admin", "a/../b", "a/..", "..\\..\\a", "./a"])
def test_a_name_that_leads_up_a_path_is_none(name: str) -> None:
    """Some providers have it in their path, also one that was escaped."""
    assert fault(CHAT, {"model": name}) == "$.model"


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "meta/llama-3.1", "..a", "a..", "a/..b", ".hidden", "v1...2", "a/b./c"]
)
def test_dots_within_a_name_are_part_of_it(name: str) -> None:
    assert ask(CHAT, {"model": name}).model == name


@pytest.mark.parametrize(
    "body",
    [
        {"model": "cheap", "Model": "dear"}, {"MODEL": "dear", "model": "cheap"},
        {"model": "m", "\u017ftream": True, "stream": False}, {"model": "m", "max_tokens": 1, "max_to\u212aens": 100},
    ],
)  # fmt: skip
def test_names_that_differ_in_their_case_only_are_refused(body: Any) -> None:
    """A server that does not tell them apart would act on another request than the one that was decided on."""
    assert fault(CHAT, body) == "$"


def test_names_with_capitals_are_read_as_they_are() -> None:
    assert ask(CHAT, {"model": "m", "topK": 1, "Extra": 2}).model == "m"
