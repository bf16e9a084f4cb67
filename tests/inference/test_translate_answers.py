"""What a provider answers reads the same in the other dialect, however it comes, and both SDKs read it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.inference.fault import InferenceFault
from sentinel.inference.translate.failures import KINDS
from sentinel.inference.translate.streams import Stream
from tests.inference.transcript import Transcript
from tests.inference.translation import (
    CREATED_S,
    TO_CLAUDE,
    TO_GPT,
    expected,
    pair_of,
    said,
    stream_of,
    streamed,
    translated,
)  # fmt: skip


def named(found: list[Transcript]) -> list[object]:
    return [pytest.param(one, id=one.name) for one in found]


# -- however it comes


@pytest.mark.parametrize("transcript", named(translated()))
def test_a_transcript_is_said_as_it_was_looked_through(transcript: Transcript) -> None:
    assert said(transcript, transcript.answer) == expected(transcript)


@pytest.mark.parametrize("transcript", named(streamed()))
def test_cut_at_every_octet_it_is_said_the_same(transcript: Transcript) -> None:
    answer, whole = transcript.answer, expected(transcript)
    for at in range(1, len(answer)):
        assert said(transcript, answer[:at], answer[at:]) == whole, at


@pytest.mark.parametrize("transcript", named(streamed()))
def test_octet_by_octet_it_is_said_the_same_and_nothing_waits(transcript: Transcript) -> None:
    """Each event is said when its last octet has come."""
    stream, answer, out = stream_of(transcript), transcript.answer, b""
    for at in range(len(answer)):
        came = stream.feed(answer[at : at + 1])
        assert not came or answer[: at + 1].endswith(b"\n\n")
        out += came
    assert out + stream.finish() == expected(transcript)


@given(st.sampled_from(streamed()), st.data())
def test_broken_off_anywhere_it_never_looks_complete(transcript: Transcript, data: st.DataObject) -> None:
    """What was said stays said, and then comes an end or an error, once."""
    at = data.draw(st.integers(0, len(transcript.answer)))
    out, whole = said(transcript, transcript.answer[:at]), expected(transcript)
    ends = sum(out.count(word) for word in (b"data: [DONE]", b"event: message_stop", b'"error":{'))
    assert ends == 1
    error = max(out.rfind(b"event: error\n"), out.rfind(b'data: {"error"'))
    if error >= 0 and out != whole:
        assert whole.startswith(out[:error])
    else:  # all that may be missing of a chat is what it took, and [DONE]
        assert out == whole or out.partition(b"event: message_delta")[0] == whole.partition(b"event: message_delta")[0]


# -- and back again


@pytest.mark.parametrize("name", ["anthropic", "anthropic-cumulative", "openai-chat-usage-asked", "openai-chat-tools"])
def test_a_stream_that_is_said_there_and_back_says_the_same(name: str) -> None:
    """In the words of the one who reads it: text, calls, why it ended, and what it took."""
    transcript = next(one for one in streamed() if one.name == name)
    back = TO_GPT if pair_of(transcript) is TO_CLAUDE else TO_CLAUDE
    once = said(transcript, transcript.answer)
    stream = back.stream(CREATED_S, wants_usage=True)
    again = stream.feed(once) + stream.finish()
    ours, theirs = (transcript.meter(is_usage_removed=False) for _ in range(2))
    ours.feed(transcript.answer)
    theirs.feed(again)
    before, after = ours.reading(), theirs.reading()
    assert (after.produced, after.finish_reasons, after.model, after.is_ended) == (
        before.produced, before.finish_reasons, before.model, True
    )  # fmt: skip
    assert before.usage is not None and after.usage is not None
    assert (after.usage.input_tokens, after.usage.output_tokens, after.usage.cached_tokens) == (
        before.usage.input_tokens, before.usage.output_tokens, before.usage.cached_tokens
    )  # fmt: skip


TEXTS = st.text(max_size=20)
NUMBERS = st.integers(0, 1000)
INPUTS = st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers() | TEXTS | st.lists(NUMBERS), max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Answers of Anthropic's that a chat can give back: one text, then calls."""
    uses = draw(st.lists(st.tuples(st.uuids(), st.text(min_size=1, max_size=20), INPUTS), max_size=3))
    words = draw(st.text(min_size=1, max_size=20))
    content: list[Any] = [{"type": "text", "text": words}]
    content += [{"type": "tool_use", "id": str(one), "name": name, "input": given} for one, name, given in uses]
    usage = {name: draw(NUMBERS) for name in (
        "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"
    )}  # fmt: skip
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": draw(TEXTS), "content": content,
        "stop_reason": draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal"])),
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip


@given(messages())
def test_an_answer_that_is_said_there_and_back_is_the_same(message: dict[str, Any]) -> None:
    once = TO_CLAUDE.answer(json.dumps(message).encode(), CREATED_S)
    openai.types.chat.ChatCompletion.model_validate_json(once)
    assert json.loads(TO_GPT.answer(once, CREATED_S)) == message


@settings(max_examples=20)
@given(messages(), st.integers(1, 40))
def test_a_stream_says_what_the_whole_answer_says(message: dict[str, Any], size: int) -> None:
    """Read by the real SDKs, from pieces of any size."""
    chat = json.loads(TO_CLAUDE.answer(json.dumps(message).encode(), CREATED_S))
    stream = TO_GPT.stream(CREATED_S)
    events = fed(stream, as_chunks(chat), size)
    with claude(events, "text/event-stream").messages.stream(**ASK) as reading:
        found = reading.get_final_message()
    assert found.model_dump(include={"content", "stop_reason", "model", "id"}, exclude_none=True) == {
        name: message[name] for name in ("content", "stop_reason", "model", "id")
    }
    usage = found.usage.model_dump(exclude_none=True)
    assert {name: usage[name] for name in message["usage"]} == message["usage"]
    back = TO_CLAUDE.stream(CREATED_S, wants_usage=True)
    chunks = list(gpt(fed(back, events, size), "text/event-stream").chat.completions.create(**CHAT, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == chat["choices"][0]["message"]["content"]
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == chat["usage"]["total_tokens"]


def fed(stream: Stream, octets: bytes, size: int) -> bytes:
    return b"".join(stream.feed(octets[at : at + size]) for at in range(0, len(octets), size)) + stream.finish()


def as_chunks(chat: dict[str, Any]) -> bytes:
    """A completion as a server streams it, a character at a time."""
    message, finish = chat["choices"][0]["message"], chat["choices"][0]["finish_reason"]
    deltas: list[Any] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": one} for one in message["content"] or ""]
    for number, call in enumerate(message.get("tool_calls") or ()):
        function, arguments = call["function"], call["function"]["arguments"]
        first = {**call, "index": number, "function": {**function, "arguments": ""}}
        pieces = [arguments[at : at + 7] for at in range(0, len(arguments), 7)]
        rest = [{"index": number, "function": {"arguments": piece}} for piece in pieces]
        deltas += [{"tool_calls": [one]} for one in (first, *rest)]
    choices: list[Any] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    head = {"id": chat["id"], "object": "chat.completion.chunk", "created": 1, "model": chat["model"]}
    documents: list[Any] = [{**head, "choices": [choice]} for choice in choices]
    documents.append({**head, "choices": [], "usage": chat["usage"]})
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in documents) + b"data: [DONE]\n\n"


# -- what the real SDKs make of it

ASK: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
CHAT: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def transport(body: bytes, content_type: str, status: int = 200) -> httpx2.MockTransport:
    return httpx2.MockTransport(
        lambda _: httpx2.Response(status, headers={"content-type": content_type}, content=body)
    )


def gpt(body: bytes, content_type: str, status: int = 200) -> openai.OpenAI:
    client = httpx2.Client(transport=transport(body, content_type, status))
    return openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=client, max_retries=0)


def claude(body: bytes, content_type: str, status: int = 200) -> anthropic.Anthropic:
    client = httpx2.Client(transport=transport(body, content_type, status))
    return anthropic.Anthropic(api_key="k", base_url="http://x", http_client=client, max_retries=0)


@pytest.mark.parametrize("name", ["anthropic-tools", "openai-chat-tools"])
def test_the_sdks_put_calls_together(name: str) -> None:
    transcript = next(one for one in streamed() if one.name == name)
    out = said(transcript, transcript.answer)
    if pair_of(transcript) is TO_GPT:
        with claude(out, transcript.content_type).messages.stream(**ASK) as reading:
            uses = [block for block in reading.get_final_message().content if block.type == "tool_use"]
        assert [(use.id, use.input) for use in uses] == [("call_0", {"city": "Wien"}), ("call_1", {})]
        return
    with gpt(out, transcript.content_type).chat.completions.stream(**CHAT) as chat:
        (call,) = chat.get_final_completion().choices[0].message.tool_calls or ()
    assert (call.id, call.function.arguments) == ("toolu_1", '{"city": "Wien"}')


def test_a_call_without_arguments_has_an_empty_object() -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
    stream = TO_CLAUDE.stream(CREATED_S)
    for event in (
        {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}},
    ):
        stream.feed(b"data: %b\n\n" % json.dumps(event).encode())
    out = stream.feed(b'data: {"type":"content_block_stop","index":0}\n\n')
    assert b'"arguments":"{}"' in out


@pytest.mark.parametrize("status", sorted(KINDS))
def test_an_sdk_raises_what_it_would_have_raised(status: int) -> None:
    error = {"type": "error", "error": {"type": KINDS[status], "message": "because"}}
    shown, body = TO_CLAUDE.failure(status, json.dumps(error).encode())
    with pytest.raises(openai.APIStatusError, match="because") as raised:
        gpt(body, "application/json", shown).chat.completions.create(**CHAT)
    assert raised.value.code == KINDS[status]
    again, back = TO_GPT.failure(shown, body)
    assert json.loads(back) == error and again == shown == (503 if status == 529 else status)
    with pytest.raises(anthropic.APIStatusError, match="because"):
        claude(back, "application/json", again).messages.create(**ASK)


def test_errors_that_sdks_tell_apart() -> None:
    limited = b'{"error":{"message":"slow","type":"tokens","param":null,"code":"rate_limit_exceeded"}}'
    with pytest.raises(anthropic.RateLimitError, match="slow"):
        claude(TO_GPT.failure(429, limited)[1], "application/json", 429).messages.create(**ASK)
    unknown = b'{"type":"error","error":{"type":"not_found_error","message":"no such model"}}'
    with pytest.raises(openai.NotFoundError, match="no such model"):
        gpt(TO_CLAUDE.failure(404, unknown)[1], "application/json", 404).chat.completions.create(**CHAT)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"error":7}', b'{"error":{"type":[]}}', b'{"a":' * 9999])
def test_an_error_that_is_in_no_dialect_is_said_to_be_one(body: bytes) -> None:
    for pair in (TO_CLAUDE, TO_GPT):
        status, out = pair.failure(502, body)
        assert status == 502 and json.loads(out)["error"]["message"] is not None


@pytest.mark.parametrize("name", ["anthropic-error-later", "openai-chat-error-later", "openai-chat-cut"])
def test_an_error_amid_a_stream_is_raised(name: str) -> None:
    transcript = next(one for one in streamed() if one.name == name)
    out = said(transcript, transcript.answer)
    if pair_of(transcript) is TO_GPT:
        with pytest.raises(anthropic.APIStatusError), claude(out, "text/event-stream").messages.stream(**ASK) as stream:
            stream.until_done()
    else:
        with pytest.raises(openai.APIError, match="Overloaded"):
            list(gpt(out, "text/event-stream").chat.completions.create(**CHAT, stream=True))


# -- what cannot be said


def failed(stream: Stream, *events: object) -> str:
    out = b"".join(stream.feed(b"data: %b\n\n" % json.dumps(event).encode()) for event in events)
    assert stream.is_over and not stream.feed(b'data: {"type":"message_stop"}\n\n') and not stream.finish()
    return str(json.loads(out.split(b"data: ")[-1])["error"]["message"])


def start(kind: str) -> object:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind}}


def delta(kind: str) -> object:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind}}


@pytest.mark.parametrize(("events", "place"), [
    ([start("server_tool_use")], "$.content_block.type"), ([start("text"), start("text")], "$.type"),
    ([start("text"), delta("citations_delta")], "$.delta.type"), ([delta("text_delta")], "$.delta.type"),
    ([{"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}], "$.delta.stop_reason"),
    ([{"type": "message_stop"}], "$.type"), ([{"type": 7}], "$.type"), ([[]], "$"),
])  # fmt: skip
def test_what_a_chunk_cannot_say_ends_the_stream(events: list[object], place: str) -> None:
    assert f": {place}: " in failed(TO_CLAUDE.stream(CREATED_S), *events)


def chunk(**delta: object) -> object:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def call(number: int, name: str | None) -> object:
    return chunk(tool_calls=[{"index": number, "id": "c", "function": {"name": name, "arguments": "{"}}])


@pytest.mark.parametrize(("events", "place"), [
    ([call(0, None)], "$.choices[0].delta.tool_calls[0].function.name"),
    ([call(0, "a"), call(1, "b"), call(0, None)], "$.choices[0].delta.tool_calls[0].function.name"),
    ([chunk(function_call={"name": "x"})], "$.choices[0].delta.function_call"),
    ([{"choices": [{"index": 1, "delta": {}}]}], "$.choices[0].index"),
    ([{"choices": [{"index": 0}, {"index": 1}]}], "$.choices"),
    ([{"choices": [{"index": 0, "finish_reason": "tired"}]}], "$.choices[0].finish_reason"),
])  # fmt: skip
def test_what_an_event_cannot_say_ends_the_stream(events: list[object], place: str) -> None:
    assert f": {place}: " in failed(TO_GPT.stream(CREATED_S), *events)


def test_memory_is_bounded_by_one_event() -> None:
    stream = Stream(TO_GPT.stream(CREATED_S)._teller, 1024)
    out = b"".join(stream.feed(b"x" * 512) for _ in range(9))
    assert b"an event is too long" in out and stream.is_over and not stream.finish()


@given(st.binary(max_size=200), st.sampled_from([TO_CLAUDE, TO_GPT]))
def test_nothing_that_a_provider_sends_raises(octets: bytes, pair: Any) -> None:
    stream = pair.stream(CREATED_S)
    stream.feed(b"data: " + octets + b"\n\n")
    stream.finish()
    assert stream.is_over
    with pytest.raises(InferenceFault):
        pair.answer(octets, CREATED_S)


@pytest.mark.parametrize(("pair", "body", "place"), [
    (TO_CLAUDE, {"content": [{"type": "server_tool_use"}], "stop_reason": "end_turn"}, "$.content[0].type"),
    (TO_CLAUDE, {"content": [], "stop_reason": "pause_turn"}, "$.stop_reason"),
    (TO_CLAUDE, {"content": 7}, "$.content"),
    (TO_GPT, {"choices": []}, "$.choices"),
    (TO_GPT, {"choices": [{}, {}]}, "$.choices"),
    (TO_GPT, {"choices": [{"message": {"content": "x"}}]}, "$.choices[0].finish_reason"),
    (TO_GPT, {"choices": [{"message": {"tool_calls": [{"type": "custom"}]}}]},
     "$.choices[0].message.tool_calls[0].type"),
    (TO_GPT, {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}}]},
     "$.choices[0].message.tool_calls[0].function.arguments"),
])  # fmt: skip
def test_an_answer_that_cannot_be_said_is_a_fault(pair: Any, body: object, place: str) -> None:
    with pytest.raises(InferenceFault) as fault:
        pair.answer(json.dumps(body).encode(), CREATED_S)
    assert fault.value.path == place


def test_thoughts_are_not_told_to_who_could_not_have_asked_for_them() -> None:
    content = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Yes"}]
    message = {"id": "m", "model": "x", "content": content, "stop_reason": "end_turn"}
    found = json.loads(TO_CLAUDE.answer(json.dumps(message).encode(), CREATED_S))
    assert found["choices"][0]["message"]["content"] == "Yes" and "usage" not in found
