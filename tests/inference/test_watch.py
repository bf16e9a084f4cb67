"""Streams under guardrails, in all dialects: whole, cut anywhere, and broken off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sentinel.core.guard.guards import Guard
from sentinel.core.plan import Guardrail, WordList
from sentinel.inference.adapters import Framing
from sentinel.inference.dialect import Dialect
from sentinel.inference.inspection import look_through
from sentinel.inference.watch import TEXTS_MAX, Watch

CARD = "4111111111111111"
SAID = f"Her card is {CARD}, or {CARD[:4]} {CARD[4:8]} {CARD[8:12]} {CARD[12:]}. "
CLEAN = "Her card is [credit-card], or [credit-card]. "
Event = tuple[str, dict[str, Any]]


def guard(action: Any = "redact", unreadable: Any = "block", *kinds: str) -> Guard:
    return Guard(Guardrail("one", kinds or ("credit-card",), action=action, when_unreadable=unreadable))


def pieces(step: int, text: str = SAID) -> list[str]:
    return [text[at : at + step] for at in range(0, len(text), step)]


def sse(events: list[Event], end: bytes = b"") -> bytes:
    found = [f"event: {name}\n".encode() if name else b"" for name, _ in events]
    data = [b"data: " + json.dumps(event).encode() + b"\n\n" for _, event in events]
    return b"".join([name + one for name, one in zip(found, data, strict=True)]) + end


def lines(events: list[Event]) -> bytes:
    return b"".join([json.dumps(event).encode() + b"\n" for _, event in events])


def chat(step: int) -> bytes:
    events: list[Event] = [
        ("", {"choices": [{"index": 0, "delta": {"content": one}, "finish_reason": None}]}) for one in pieces(step)
    ]
    calls: list[Event] = [
        ("", {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": one}}]}}]})
        for one in pieces(step, json.dumps({"card": CARD, "number": int(CARD)}))
    ]
    last: Event = ("", {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return sse([*events, *calls, last], b"data: [DONE]\n\n")


def chat_text(events: list[dict[str, Any]]) -> str:
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    arguments = "".join(
        [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", ())]
    )  # fmt: skip
    assert json.loads(arguments) == {"card": "[credit-card]", "number": "[credit-card]"}
    return "".join([delta.get("content") or "" for delta in deltas])


def messages(step: int) -> bytes:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "x", "content": [], "role": "assistant"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}}
          for one in pieces(step)],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "4"}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return sse([(event["type"], event) for event in events])


def messages_text(events: list[dict[str, Any]]) -> str:
    kinds = [event["type"] for event in events]
    last = len(kinds) - 1 - kinds[::-1].index("content_block_delta")
    assert kinds.index("content_block_stop") > last, "nothing of a block comes after its end"
    assert events[-2]["delta"]["stop_sequence"] == "4"
    return "".join([event["delta"]["text"] for event in events if event["type"] == "content_block_delta"])


def responses(step: int) -> bytes:
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    kind = "response.output_text.delta"
    deltas: list[Event] = [(kind, {"type": kind, **place, "delta": one}) for one in pieces(step)]
    done: Event = ("response.output_text.done", {"type": "response.output_text.done", **place, "text": SAID})
    output = [{"type": "message", "content": [{"type": "output_text", "text": SAID}]}]
    whole = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": output}}
    return sse([*deltas, done, ("response.completed", whole)])


def responses_text(events: list[dict[str, Any]]) -> str:
    assert events[-2]["text"] == CLEAN and events[-1]["response"]["output"][0]["content"][0]["text"] == CLEAN
    return "".join([event["delta"] for event in events if event["type"].endswith(".delta")])


def gemini(step: int) -> bytes:
    events: list[Event] = [("", {"candidates": [{"content": {"parts": [{"text": one}]}}]}) for one in pieces(step)]
    last = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}], "usageMetadata": {"x": 1}}
    return sse([*events, ("", last)])


def gemini_text(events: list[dict[str, Any]]) -> str:
    return "".join([event["candidates"][0]["content"]["parts"][0]["text"] for event in events])


def ollama(step: int) -> bytes:
    events: list[Event] = [("", {"message": {"content": one}, "done": False}) for one in pieces(step)]
    return lines([*events, ("", {"message": {"content": ""}, "done": True, "eval_count": 3})])


def ollama_text(events: list[dict[str, Any]]) -> str:
    assert events[-1]["done"] and events[-1]["eval_count"] == 3
    return "".join([event["message"]["content"] for event in events])


DIALECTS: list[tuple[Dialect, Framing, Callable[[int], bytes], Callable[[list[dict[str, Any]]], str]]] = [
    (Dialect.OPENAI_CHAT, Framing.SSE, chat, chat_text),
    (Dialect.ANTHROPIC_MESSAGES, Framing.SSE, messages, messages_text),
    (Dialect.OPENAI_RESPONSES, Framing.SSE, responses, responses_text),
    (Dialect.GEMINI_GENERATE, Framing.SSE, gemini, gemini_text),
    (Dialect.OLLAMA_CHAT, Framing.LINES, ollama, ollama_text),
]


def documents(octets: bytes) -> list[dict[str, Any]]:
    found = [line.removeprefix(b"data: ") for line in octets.split(b"\n")]
    return [json.loads(line) for line in found if line.startswith(b"{")]


@pytest.mark.parametrize(("dialect", "framing", "stream", "text"), DIALECTS, ids=lambda one: getattr(one, "value", ""))
def test_nothing_of_a_find_goes_on_however_texts_and_octets_are_cut(
    dialect: Dialect, framing: Framing, stream: Callable[[int], bytes], text: Callable[[list[dict[str, Any]]], str]
) -> None:
    for step in (1, 2, 5, 16, len(SAID)):
        octets = stream(step)
        for cut in (1, 37, len(octets)):
            watch, out = Watch([guard()], dialect, framing), b""
            for at in range(0, len(octets), cut):
                out += watch.feed(octets[at : at + cut])
                assert b"1111" not in out and b"4111" not in out
            out += watch.finish()
            assert text(documents(out)) == CLEAN
            assert watch.counts[0]["credit-card"] >= 2 and watch.blocked is None


@pytest.mark.parametrize(("dialect", "framing", "stream", "text"), DIALECTS, ids=lambda one: getattr(one, "value", ""))
def test_what_blocks_ends_the_stream_with_an_error_of_the_dialect(
    dialect: Dialect, framing: Framing, stream: Callable[[int], bytes], text: object
) -> None:
    octets = stream(3)
    for cut in range(1, len(octets), 41):
        watch = Watch([guard("block")], dialect, framing)
        out = watch.feed(octets[:cut]) + watch.feed(octets[cut:]) + watch.finish()
        assert watch.is_over and watch.blocked is not None and b"11" not in out
        last = documents(out)[-1]
        assert "answer-blocked" in json.dumps(last) and ("error" in last or last["type"] == "error")


@pytest.mark.parametrize(("dialect", "framing", "stream", "text"), DIALECTS, ids=lambda one: getattr(one, "value", ""))
def test_a_stream_that_is_cut_off_loses_nothing_but_what_never_came(
    dialect: Dialect, framing: Framing, stream: Callable[[int], bytes], text: object
) -> None:
    octets = stream(4)
    end = b"\n\n" if framing is Framing.SSE else b"\n"
    for count in range(1, octets.count(end), 3):
        cut = end.join(octets.split(end)[:count]) + end
        watch = Watch([guard("redact", "block", "phone")], dialect, framing)  # there is none in it
        out = watch.feed(cut) + watch.finish()
        words = [json.dumps(documents(one)) for one in (cut, out)]
        assert all(len("".join(filter(str.isdigit, one))) >= words[0].count("4111") for one in words)
        assert texts(documents(out)) == texts(documents(cut))


def texts(events: list[dict[str, Any]]) -> str:
    """All that clients would put together, of any dialect."""
    found = ""
    for event in events:
        delta = event.get("delta")
        found += delta if isinstance(delta, str) else (delta or {}).get("text", "")
        message = event.get("message", {}).get("content")
        found += message if isinstance(message, str) else ""
        for choice in event.get("choices", ()):
            found += choice["delta"].get("content") or ""
        for candidate in event.get("candidates", ()):
            found += "".join([part["text"] for part in candidate["content"]["parts"]])
    return found


MAIL = "joe@example.com"
CALL = {"name": "send", "args": {"to": "joe", "of": "ann@example", "by": MAIL}}
RATED = {"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}
CITED = {"type": "char_location", "cited_text": "as joe", "document_title": f"of {MAIL}", "document_index": 0}
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
WHOLE: list[tuple[Dialect, Framing, list[dict[str, Any]]]] = [
    (Dialect.GEMINI_GENERATE, Framing.SSE, [
        {"candidates": [{"content": {"parts": [{"functionCall": CALL}, {"functionCall": CALL}]}}]},
        *[{"candidates": [{"content": {"parts": [{"text": "So. "}]}, "safetyRatings": [RATED, RATED]}]}] * 2,
        {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}]),
    (Dialect.OLLAMA_CHAT, Framing.LINES, [
        {"message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": CALL}}]}, "done": False},
        {"message": {"content": ""}, "done": True}]),
    (Dialect.ANTHROPIC_MESSAGES, Framing.SSE, [
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": CITED}}] * 2,
        {"type": "content_block_stop", "index": 0}]),
    (Dialect.OPENAI_CHAT, Framing.SSE, [
        *[{"choices": [{"index": 0, "delta": {"content": "So. "}, "content_filter_results": SAFE}]}] * 2,
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "framing", "events"), WHOLE, ids=lambda one: getattr(one, "value", ""))
def test_what_comes_whole_within_a_stream_is_judged_whole(
    dialect: Dialect, framing: Framing, events: list[dict[str, Any]]
) -> None:
    octets = (sse if framing is Framing.SSE else lines)([("", one) for one in events])
    watch = Watch([guard("redact", "block", "email")], dialect, framing)
    out = watch.feed(octets) + watch.finish()
    assert documents(out) == json.loads(json.dumps(events).replace(MAIL, "[email]"))


def test_what_is_withheld_goes_out_alone() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"to": "joe"}'}}
    delta = {"role": "assistant", "content": "I ask joe", "tool_calls": [call]}
    first = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": {"total_tokens": 7}}
    last = {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    watch = Watch([guard("redact", "block", "email")], Dialect.OPENAI_CHAT, Framing.SSE)
    found = documents(watch.feed(sse([("", first), ("", last)])) + watch.finish())
    rest = {"index": 0, "type": "function", "function": {"arguments": "}"}}
    assert found[0]["choices"][0]["delta"]["content"] == "I ask " and found[-1] == last
    assert found[1:-1] == [
        {"id": "x", "choices": [{"index": 0, "delta": one, "finish_reason": None}]}
        for one in ({"content": "joe"}, {"tool_calls": [rest]})
    ]  # fmt: skip
    part = {"candidates": [{"content": {"role": "model", "parts": [{"text": "I ask joe"}, {"functionCall": CALL}]}}]}
    watch = Watch([guard("redact", "block", "credit-card", "email")], Dialect.GEMINI_GENERATE, Framing.SSE)
    found = documents(watch.feed(sse([("", part)])) + watch.finish())
    assert found[1] == {"candidates": [{"content": {"role": "model", "parts": [{"text": "joe"}]}}]}


def test_an_observer_changes_not_an_octet() -> None:
    watch = Watch([guard("observe")], Dialect.OPENAI_CHAT, Framing.SSE)
    assert b"".join([watch.feed(chat(2)[at : at + 9]) for at in range(0, len(chat(2)), 9)]) == chat(2)
    assert watch.finish() == b"" and watch.counts[0] == {"credit-card": 4}


def test_guardrails_see_what_those_before_them_have_left() -> None:
    first, second = guard(), guard("block", "block", "credit-card", "email")
    watch = Watch([first, second], Dialect.OPENAI_CHAT, Framing.SSE)
    out = watch.feed(chat(7)) + watch.finish()
    assert chat_text(documents(out)) == CLEAN and watch.blocked is None


def test_logprobs_do_not_spell_what_is_withheld() -> None:
    spelt = {"content": [{"token": "4111", "bytes": [52, 49, 49, 49], "top_logprobs": []}]}
    event = {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": spelt}]}
    watch = Watch([guard()], Dialect.OPENAI_CHAT, Framing.SSE)
    assert b"4111" not in watch.feed(sse([("", event)])) + watch.finish()


@pytest.mark.parametrize("data", [b"data: {no\n\n", b"data: [1]\n\n", b"data: " + b"x" * (1 << 20) + b"\n\n"])
@pytest.mark.parametrize("unreadable", ["block", "pass"])
def test_events_that_cannot_be_read_end_the_stream_or_pass(data: bytes, unreadable: str) -> None:
    watch = Watch([guard("redact", unreadable)], Dialect.OPENAI_CHAT, Framing.SSE)
    out = watch.feed(data) + watch.feed(chat(9)) + watch.finish()
    assert watch.fault and watch.is_over is (unreadable == "block")
    assert (data in out) is (unreadable == "pass") and (b"answer-unreadable" in out) is (unreadable == "block")


def test_items_of_a_request_are_no_objects_of_a_tool() -> None:
    call = {"type": "function_call", "call_id": "type", "name": "type", "arguments": '{"type": 1}'}
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a type"}]}, call]
    document: dict[str, Any] = {"input": items, "tools": [{"input": [{"type": "type"}]}]}
    look_through(document, Guard(Guardrail("one", (), words=(WordList("w", ("type", "message")),), replacement="*")))
    assert [one["type"] for one in document["input"]] == ["message", "function_call"] and call["call_id"] == "type"
    assert items[0]["content"] == [{"type": "input_text", "text": "a *"}] and call["arguments"] == '{"*": 1}'
    assert document["tools"] == [{"input": [{"type": "*"}]}], "what a tool is given is anybody's"


@pytest.mark.parametrize("begin", ["data:;base64,", "data:image/png;base64,AAAA "])
def test_text_behind_the_beginning_of_a_data_url_is_read(begin: str) -> None:
    image = {"image_url": "data:image/png;base64,iVBORw0KGgo4111111111111111"}
    document = {"input": [image, {"content": f"{begin} {SAID}"}]}
    finding = look_through(document, guard())
    assert (finding.counts, finding.attached_count) == ({"credit-card": 2}, 1)
    assert document["input"][0] == image and document["input"][1]["content"] == f"{begin} {CLEAN}"
    events: list[Event] = [("", {"message": {"content": one}}) for one in (begin + CARD[:9], CARD[9:])]
    watch = Watch([guard()], Dialect.OLLAMA_CHAT, Framing.LINES)
    assert texts(documents(watch.feed(lines(events)) + watch.finish())) == f"{begin}[credit-card]"


def test_texts_at_a_time_are_bounded() -> None:
    watch = Watch([guard()], Dialect.OPENAI_CHAT, Framing.SSE)
    for index in range(TEXTS_MAX + 1):
        watch.feed(sse([("", {"choices": [{"index": index, "delta": {"content": "4111"}}]})]))
    assert watch.is_over and watch.fault
