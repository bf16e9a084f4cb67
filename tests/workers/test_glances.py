"""What is read at a glance is what the adapter reads; what is not ordinary leaves the sheet as it was."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.inference.ask import Ask, Input
from sentinel.inference.dialect import Dialect
from sentinel.inference.meter import Meter
from sentinel.inference.sheet import Reading
from tests.inference.transcript import Transcript, played, transcripts
from workers.decoding import decode_answer
from workers.glances import GLANCES

CHAT: dict[str, Any] = {
    "id": "c", "model": "m", "object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hé", "refusal": None}, "finish_reason": "stop"}
    ], "usage": {
        "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
    },
}  # fmt: skip
MESSAGE: dict[str, Any] = {
    "type": "message", "model": "m", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 7, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 5,
              "cache_creation": {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 2}},
}  # fmt: skip
ANSWERS = {Dialect.OPENAI_CHAT: CHAT, Dialect.ANTHROPIC_MESSAGES: MESSAGE}
ODD: list[Any] = [
    None, 0, 1, 20, -1, 1.0, 1.5, "x", "7", "", True, [], {}, [{}], {"a": 1}, 1 << 70, {"usage": {"prompt_tokens": 1}},
]
NAMES = [
    "error", "x_groq", "usage", "choices", "model", "text", "reasoning_content", "reasoning", "refusal", "tool_calls",
    "function_call", "audio", "input_tokens", "output_tokens", "total_tokens", "prompt_cache_hit_tokens",
    "cache_write_tokens", "cache_write_tokens_details", "reasoning_tokens", "cached_tokens", "thinking", "name",
    "input",    "output_tokens_details", "index", "finish_reason", "content", "stop_reason", "cache_creation",
]  # fmt: skip


PIECES = [
    b"", b'"', b"}", b"{", b"[", b",", b'"model":"n",', b"\xff", b"\x01", b"\n", b"\\", b"\\u12", b"\\ud83d", b"\\x",
    b"0", b"-", b".", b"e", b"NaN", b"+", b" ", b"\xc3\xa9", b"\xed\xa0\xbd",
]  # fmt: skip


def reading(dialect: Dialect, body: bytes, **settings: Any) -> Reading:
    meter = Meter(Ask(dialect, "m", Input()), content_type="application/json", **settings)
    meter.feed(body)
    meter.finish()
    return meter.reading()


def same(dialect: Dialect, body: bytes) -> None:
    assert reading(dialect, body, glances=GLANCES, decode=decode_answer) == reading(dialect, body), body


def holders(document: Any) -> list[dict[str, Any]]:
    """All objects in a document."""
    inside = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return ([document] if isinstance(document, dict) else []) + [one for value in inside for one in holders(value)]


@pytest.mark.parametrize("dialect", list(ANSWERS))
def test_an_ordinary_answer_needs_one_glance(dialect: Dialect) -> None:
    def never(body: bytes) -> Any:
        raise AssertionError("the glance should have been enough")

    body = json.dumps(ANSWERS[dialect]).encode()
    assert reading(dialect, body, glances=GLANCES, decode=never) == reading(dialect, body)


@settings(max_examples=600)
@given(st.sampled_from(list(ANSWERS)), st.data())
def test_whatever_is_changed_in_an_answer_it_is_read_as_the_adapter_reads_it(dialect: Dialect, data: Any) -> None:
    document = copy.deepcopy(ANSWERS[dialect])
    for _ in range(data.draw(st.integers(0, 3))):
        holder = data.draw(st.sampled_from(holders(document)))
        name = data.draw(st.sampled_from([*holder, *NAMES]))
        match data.draw(st.sampled_from(["set", "remove", "double"])):
            case "set":
                holder[name] = data.draw(st.sampled_from(ODD))
            case "remove":
                holder.pop(name, None)
            case _ if isinstance(holder.get(name), list):
                holder[name] = holder[name] * 2
    same(dialect, json.dumps(document, ensure_ascii=data.draw(st.booleans())).encode())


@settings(max_examples=600)
@given(st.sampled_from(list(ANSWERS)), st.data())
def test_whatever_is_cut_off_or_put_in_it_is_read_as_the_adapter_reads_it(dialect: Dialect, data: Any) -> None:
    body = json.dumps(ANSWERS[dialect]).encode()
    at = data.draw(st.integers(0, len(body)))
    same(dialect, body[:at] + data.draw(st.sampled_from(PIECES)) + body[at:])
    same(dialect, body[:at])


@pytest.mark.parametrize("transcript", [pytest.param(one, id=one.name) for one in transcripts()])
def test_transcripts_are_read_the_same_and_cut_at_every_octet(transcript: Transcript) -> None:
    fast = {"glances": GLANCES, "decode": decode_answer}
    whole = played(transcript, transcript.answer)
    for at in range(0, len(transcript.answer), 7):
        assert played(transcript, transcript.answer[:at], transcript.answer[at:], **fast) == whole, at
