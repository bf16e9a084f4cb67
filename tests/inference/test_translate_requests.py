"""A request says the same in the other dialect, or it is refused with the place of what cannot be said."""

from __future__ import annotations

import json
from typing import Any

import anthropic.types
import openai.types.chat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sentinel.inference.fault import InferenceFault
from sentinel.inference.translate.form import LEFT_OUT_MAX, Terms
from tests.inference.translation import TO_CLAUDE, TO_GPT

GPT = TypeAdapter(openai.types.chat.CompletionCreateParams)
CLAUDE = TypeAdapter(anthropic.types.MessageCreateParams)
TERMS = Terms(max_tokens=4096)


def to_claude(body: Any, terms: Terms = TERMS) -> Any:
    found = json.loads(TO_CLAUDE.request(json.dumps(body).encode(), terms).body)
    CLAUDE.validate_python(found)
    return found


def to_gpt(body: Any, terms: Terms = TERMS) -> Any:
    found = json.loads(TO_GPT.request(json.dumps(body).encode(), terms).body)
    GPT.validate_python(found)
    return found


# -- what both can say: the chat, and the messages


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


HELLO = user("Hello")
FUNCTION = {"name": "weather", "description": "How it is", "parameters": {"type": "object", "properties": {}}}
TOOL = {"name": "weather", "description": "How it is", "input_schema": {"type": "object", "properties": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Wien"}'}}
USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Wien"}}
PIXEL = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}

SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("the least", {}, {}),
    ("instructions", {"messages": [{"role": "system", "content": "Be brief"}, HELLO]}, {"system": "Be brief"}),
    ("instructions in parts",
     {"messages": [{"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                   HELLO]},
     {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
    ("an image",
     {"messages": [user([{"type": "text", "text": "See"},
                         {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}])]},
     {"messages": [user([{"type": "text", "text": "See"},
                         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}])]}),
    ("an image elsewhere",
     {"messages": [user([{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}])]},
     {"messages": [user([{"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}])]}),
    ("a conversation",
     {"messages": [HELLO, {"role": "assistant", "content": "Hi"}, user("Bye")]},
     {"messages": [HELLO, {"role": "assistant", "content": "Hi"}, user("Bye")]}),
    ("calls and their results",
     {"messages": [HELLO, {"role": "assistant", "content": "Let me see",
                           "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
                   {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
                   {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
                   user("Thanks")]},
     {"messages": [HELLO, {"role": "assistant", "content": [{"type": "text", "text": "Let me see"}, USE,
                                                            {**USE, "id": "call_2"}]},
                   user([{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                         {"type": "tool_result", "tool_use_id": "call_2",
                          "content": [{"type": "text", "text": "rain"}]},
                         {"type": "text", "text": "Thanks"}])]}),
    ("a call without a word",
     {"messages": [HELLO, {"role": "assistant", "tool_calls": [CALL]},
                   {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]},
     {"messages": [HELLO, {"role": "assistant", "content": [USE]},
                   user([{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}])]}),
    ("numbers", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
    ("stops", {"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
    ("a stream", {"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
    ("no stream", {"stream": False}, {"stream": False}),
    ("a user", {"user": "u-1"}, {"metadata": {"user_id": "u-1"}}),
    ("tools", {"tools": [{"type": "function", "function": FUNCTION}]}, {"tools": [TOOL]}),
    ("a strict tool", {"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]},
     {"tools": [{**TOOL, "strict": True}]}),
    *((f"the choice {ours}", {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": ours},
       {"tools": [TOOL], "tool_choice": {"type": theirs}})
      for ours, theirs in (("auto", "auto"), ("none", "none"), ("required", "any"))),
    ("the choice of one", {"tools": [{"type": "function", "function": FUNCTION}],
                           "tool_choice": {"type": "function", "function": {"name": "weather"}}},
     {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}}),
    ("one call at a time", {"tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False},
     {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
    ("exactly one call", {"tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False,
                          "tool_choice": "required"},
     {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}),
    ("a schema",
     {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}},
     {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
]  # fmt: skip
LEAST_GPT = {"model": "m", "max_completion_tokens": 9, "messages": [HELLO]}
LEAST_CLAUDE = {"model": "m", "max_tokens": 9, "messages": [HELLO]}


@pytest.mark.parametrize(("ours", "theirs"), [pytest.param(ours, theirs, id=name) for name, ours, theirs in SAME])
def test_both_say_the_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    chat, message = {**LEAST_GPT, **ours}, {**LEAST_CLAUDE, **theirs}
    assert to_claude(chat) == message
    assert to_gpt(message) == chat


@pytest.mark.parametrize(("ours", "theirs"), [
    ({"max_completion_tokens": None, "max_tokens": 7}, {"max_tokens": 7}),
    ({"max_completion_tokens": None}, {"max_tokens": 4096}),
    ({"stop": "a"}, {"stop_sequences": ["a"]}), ({"stop": []}, {}), ({"stop": None}, {}),
    ({"n": 1, "logprobs": False, "presence_penalty": 0.0, "store": False, "logit_bias": {}, "seed": None}, {}),
    ({"stream": True, "stream_options": {"include_obfuscation": False}}, {"stream": True}),
    ({"response_format": {"type": "text"}}, {}), ({"parallel_tool_calls": True}, {}),
    ({"parallel_tool_calls": False}, {}),
    ({"messages": [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, HELLO]},
     {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
    ({"tools": [{"type": "function", "function": {"name": "now"}}]},
     {"tools": [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]}),
    ({"messages": [HELLO, {"role": "assistant", "content": "", "refusal": None, "annotations": [], "audio": None,
                           "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": ""}}]},
                   {"role": "tool", "tool_call_id": "call_1", "content": "x"}]},
     {"messages": [HELLO, {"role": "assistant", "content": [{**USE, "input": {}}]},
                   user([{"type": "tool_result", "tool_use_id": "call_1", "content": "x"}])]}),
])  # fmt: skip
def test_other_ways_for_a_chat_to_say_it(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert to_claude({**LEAST_GPT, **ours}) == {**LEAST_CLAUDE, **theirs}


@pytest.mark.parametrize(("theirs", "ours"), [
    ({"thinking": {"type": "disabled"}, "service_tier": "auto", "stop_sequences": [], "tools": []}, {}),
    ({"tools": [{**TOOL, "type": "custom"}]}, {"tools": [{"type": "function", "function": FUNCTION}]}),
    ({"messages": [user([{"type": "text", "text": "a", "citations": None}])]},
     {"messages": [user([{"type": "text", "text": "a"}])]}),
    ({"metadata": {}}, {}),
])  # fmt: skip
def test_other_ways_for_messages_to_say_it(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert to_gpt({**LEAST_CLAUDE, **theirs}) == {**LEAST_GPT, **ours}


# -- generated: what both can say comes back as it was

WORDS = st.text(min_size=1, max_size=8)
IDS = st.from_regex(r"\A[a-zA-Z0-9_-]{1,12}\Z")
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
INPUTS = st.dictionaries(WORDS, VALUES, max_size=3)
IMAGES = [f"data:image/{kind};base64,{PIXEL}" for kind in ("png", "jpeg", "gif", "webp")]
URLS = st.sampled_from([*IMAGES, "https://a.b/c"])


def of(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


PART = of("text", text=WORDS)
IMAGE = of("image_url", image_url=st.fixed_dictionaries({"url": URLS}))
CALLS = st.lists(
    st.builds(
        lambda id, name, given: {
            "id": id, "type": "function",
            "function": {"name": name, "arguments": json.dumps(given, ensure_ascii=False, separators=(",", ":"))},
        },
        IDS, WORDS, INPUTS,
    ),
    min_size=1, max_size=2,
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    if draw(st.booleans()):
        out.append({"role": "system", "content": draw(WORDS | st.lists(PART, min_size=1, max_size=2))})
    for _ in range(draw(st.integers(0, 3))):
        out.append(user(draw(WORDS | st.lists(PART | IMAGE, min_size=1, max_size=3))))
        kind = draw(st.sampled_from(["says", "says", "calls", "silent"]))
        if kind == "says":
            out.append({"role": "assistant", "content": draw(WORDS | st.lists(PART, min_size=1, max_size=2))})
        elif kind == "calls":
            content = draw(st.none() | WORDS | st.lists(PART, min_size=2, max_size=2))
            calls = draw(CALLS)
            said = {} if content is None else {"content": content}
            out.append({"role": "assistant", **said, "tool_calls": calls})
            for call in calls:
                content = draw(WORDS | st.lists(PART, min_size=1, max_size=2))
                out.append({"role": "tool", "tool_call_id": call["id"], "content": content})
            if draw(st.booleans()):
                out.append(user(draw(WORDS)))
            out.append({"role": "assistant", "content": draw(WORDS)})
    return [*out, user(draw(WORDS))]


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    numbers = st.floats(0, 1) | st.sampled_from([0, 1])
    out = draw(st.fixed_dictionaries(
        {"model": WORDS, "max_completion_tokens": st.integers(1, 1 << 20), "messages": conversations()},
        optional={"temperature": numbers, "top_p": numbers, "user": WORDS,
                  "stop": st.lists(WORDS, min_size=1, max_size=4)},
    ))  # fmt: skip
    if draw(st.booleans()):
        out |= {"stream": True, "stream_options": {"include_usage": True}}
    if draw(st.booleans()):
        out["tools"] = [{"type": "function", "function": {**FUNCTION, "name": name}}
                        for name in draw(st.lists(WORDS, min_size=1, max_size=2))]  # fmt: skip
        choice = draw(st.sampled_from([None, "none", "required", "auto", "one"]))
        if choice == "one":
            out["tool_choice"] = {"type": "function", "function": {"name": draw(WORDS)}}
        elif choice is not None:
            out["tool_choice"] = choice
        if choice not in ("none", "auto") and draw(st.booleans()):
            out["parallel_tool_calls"] = False
    return out


@settings(max_examples=60)
@given(chats())
def test_there_and_back_is_the_same(chat: dict[str, Any]) -> None:
    once = TO_CLAUDE.request(json.dumps(chat).encode(), TERMS)
    twice = TO_GPT.request(once.body, TERMS)
    assert json.loads(twice.body) == chat
    assert TO_CLAUDE.request(twice.body, TERMS).body == once.body  # and so from the other side
    assert not once.left_out and not twice.left_out


# -- what cannot be said


@pytest.mark.parametrize(("body", "place"), [
    ({"n": 2}, "$.n"), ({"n": True}, "$.n"), ({"seed": 7}, "$.seed"), ({"logprobs": True}, "$.logprobs"),
    ({"logit_bias": {"1": 2}}, "$.logit_bias"), ({"frequency_penalty": 0.1}, "$.frequency_penalty"),
    ({"temperature": 1.5}, "$.temperature"), ({"temperature": "hot"}, "$.temperature"),
    ({"temperature": True}, "$.temperature"), ({"top_p": -1}, "$.top_p"), ({"max_tokens": 8}, "$.max_tokens"),
    ({"reasoning_effort": "low"}, "$.reasoning_effort"), ({"metadata": {"a": "b"}}, "$.metadata"),
    ({"model": None}, "$.model"), ({"stop": [7]}, "$.stop"), ({"stop": 7}, "$.stop"),
    ({"stream_options": {"x": 1}}, "$.stream_options.x"), ({"brand_new": 1}, "$.brand_new"),
    ({"response_format": {"type": "json_object"}}, "$.response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
     "$.response_format.json_schema.strict"),
    ({"response_format": {"type": "json_schema", "json_schema": {"strict": True, "description": "d", "schema": {}}}},
     "$.response_format.json_schema.description"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "$.tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}, {"type": "function"}]}, "$.tools[1].function"),
    ({"tool_choice": "most"}, "$.tool_choice"), ({"tool_choice": {"type": "allowed_tools"}}, "$.tool_choice.type"),
    ({"functions": [{"name": "f"}]}, "$.functions"), ({"messages": {}}, "$.messages"),
    ({"messages": [HELLO, {"role": "system", "content": "x"}]}, "$.messages[1].role"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "$.messages[0].role"),
    ({"messages": [{**HELLO, "name": "Ann"}]}, "$.messages[0].name"),
    ({"messages": [HELLO, {"role": "assistant", "content": "Once"}]}, "$.messages[1].role"),
    ({"messages": [user(None)]}, "$.messages[0].content"),
    ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, "$.messages[0].content[0].type"),
    ({"messages": [user([{"type": "image_url", "image_url": {"url": "http://x"}}])]},
     "$.messages[0].content[0].image_url.url"),
    ({"messages": [user([{"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}}])]},
     "$.messages[0].content[0].image_url.detail"),
    ({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}, HELLO]},
     "$.messages[0].content[0].type"),
    ({"messages": [{"role": "assistant", "refusal": "No", "content": "x"}, HELLO]}, "$.messages[0].refusal"),
    ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "id": "a b"}]}, HELLO]},
     "$.messages[0].tool_calls[0].id"),
    *(({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": wrong}}]},
                     HELLO]}, "$.messages[0].tool_calls[0].function.arguments")
      for wrong in ("[1]", "{", "NaN", "[" * 9999)),
])  # fmt: skip
def test_what_a_chat_says_and_messages_cannot_is_named(body: dict[str, Any], place: str) -> None:
    with pytest.raises(InferenceFault) as fault:
        TO_CLAUDE.request(json.dumps({**LEAST_GPT, **body}).encode(), TERMS)
    assert fault.value.path == place


@pytest.mark.parametrize(("body", "place"), [
    ({"max_tokens": None}, "$.max_tokens"), ({"top_k": 5}, "$.top_k"), ({"container": "c"}, "$.container"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "$.thinking"), ({"brand_new": 1}, "$.brand_new"),
    ({"stop_sequences": list("abcde")}, "$.stop_sequences"), ({"stop_sequences": [1]}, "$.stop_sequences"),
    ({"metadata": {"tenant": "t"}}, "$.metadata.tenant"),
    ({"output_config": {"effort": "low"}}, "$.output_config.effort"),
    ({"output_config": {"format": {"type": "xml"}}}, "$.output_config.format.type"),
    ({"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}, "$.system[0].cache_control"),
    ({"system": [{"type": "image"}]}, "$.system[0].type"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "$.tools[0].type"),
    ({"tools": [{"name": "x"}]}, "$.tools[0].input_schema"), ({"tool_choice": {"type": "most"}}, "$.tool_choice.type"),
    ({"messages": [{"role": "system", "content": "x"}]}, "$.messages[0].role"),
    ({"messages": [HELLO, {"role": "assistant", "content": "Once"}]}, "$.messages[1].role"),
    ({"messages": [user([{"type": "document", "source": {}}])]}, "$.messages[0].content[0].type"),
    ({"messages": [user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])]},
     "$.messages[0].content[0].source.type"),
    ({"messages": [user([{"type": "text", "text": "a"}, {"type": "tool_result", "tool_use_id": "t"}])]},
     "$.messages[0].content[1].type"),
    ({"messages": [user([{"type": "tool_result", "tool_use_id": "t", "is_error": True}])]},
     "$.messages[0].content[0].is_error"),
    ({"messages": [user([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}])]},
     "$.messages[0].content[0].content[0].type"),
    ({"messages": [{"role": "assistant", "content": [USE, {"type": "text", "text": "a"}]}, HELLO]},
     "$.messages[0].content[1].type"),
    ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "a"}]}, HELLO]},
     "$.messages[0].content[0].type"),
])  # fmt: skip
def test_what_messages_say_and_a_chat_cannot_is_named(body: dict[str, Any], place: str) -> None:
    with pytest.raises(InferenceFault) as fault:
        TO_GPT.request(json.dumps({**LEAST_CLAUDE, **body}).encode(), TERMS)
    assert fault.value.path == place


def test_without_a_configured_cap_a_chat_has_to_set_one() -> None:
    with pytest.raises(InferenceFault, match=r"\$\.max_tokens: "):
        to_claude({"model": "m", "messages": [HELLO]}, Terms())


def test_an_operator_may_have_hints_left_out_and_they_are_told() -> None:
    marked = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]
    body = {**LEAST_CLAUDE, "system": marked, "messages": [user(marked)], "top_k": 5}
    terms = Terms(left_out=frozenset({"cache_control", "top_k"}))
    found = TO_GPT.request(json.dumps(body).encode(), terms)
    assert found.left_out == ("$.system[0].cache_control", "$.messages[0].content[0].cache_control", "$.top_k")
    assert b"cache_control" not in found.body and b"top_k" not in found.body
    many = {**LEAST_CLAUDE, "messages": [user(marked * 40)]}
    assert len(TO_GPT.request(json.dumps(many).encode(), terms).left_out) == LEFT_OUT_MAX


@pytest.mark.parametrize("name", ["a secret", "s\u00e9cret", "x" * 999, "a\nb", ""])
def test_a_fault_does_not_repeat_what_a_client_made_up(name: str) -> None:
    with pytest.raises(InferenceFault) as fault:
        to_claude({**LEAST_GPT, name: 1})
    assert fault.value.path == "$.(an odd name)"


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["model", "messages", "role", "content", "type", "text", "tools", "system", "max_tokens", "x"]),
    inner, max_size=4), max_leaves=15), st.sampled_from([TO_CLAUDE, TO_GPT]))  # fmt: skip
def test_nothing_else_is_ever_raised(body: object, pair: Any) -> None:
    octets = json.dumps(body).encode()
    try:
        found = pair.request(octets, TERMS)
    except InferenceFault:
        return
    assert json.loads(found.body)["messages"] is not None


def test_half_a_character_and_large_numbers_survive() -> None:
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"\\ud83d"}]}'
    assert b"\\ud83d" in TO_GPT.request(body, TERMS).body
    with pytest.raises(InferenceFault, match="too large"):
        TO_GPT.request(b'{"model":"m","max_tokens":9,"messages":[],"tools":[{"name":"f","input_schema":{"a":1e999}}]}',
                       TERMS)  # fmt: skip
    huge = b'{"messages":[],"model":"m","max_tokens":9,"system":' + b'"x"}'
    assert json.loads(TO_GPT.request(huge, TERMS).body)["messages"] == [{"role": "system", "content": "x"}]
