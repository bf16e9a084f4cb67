"""Guardrails, as clients of language models meet them: a real worker, and a model that says whatever it is told to."""

from __future__ import annotations

import gzip
import json
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.reasons import Reason
from sentinel.core.record import decode
from sentinel.explain.words import step_text
from tests.directives.house import serving, written
from tests.directives.test_cases import holds, refused
from tests.workers.child import Answer, Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, scripted

CARD = "4111 1111 1111 1111"
MAIL = "joe@example.com"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
TYPE = "HTTP/1.1 200 OK\r\ncontent-type: application/json"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Parrot:
    """A model that answers with what it is told; `pieces`: so many octets of a stream at a time."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.answer = chat("fine")
        self.head = TYPE
        self.stream: list[bytes] | None = None
        self.is_ended = True

    def __call__(self, conversation: Conversation) -> None:
        while True:
            self.bodies.append(conversation.body(conversation.head()))
            if self.stream is None:
                conversation.answer(self.answer, self.head)
                continue
            conversation.send(STREAM)
            for piece in self.stream:
                conversation.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            if not self.is_ended:
                conversation.rest()
                return
            conversation.send(b"0\r\n\r\n")

    @property
    def read(self) -> str:
        """What it was asked last."""
        return self.bodies[-1].decode()


def chat(*texts: str, **more: Any) -> bytes:
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return json.dumps({"id": "x", "model": "m", "choices": choices, "usage": usage, **more}).encode()


def events(*documents: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in documents) + end


def delta(text: str | None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [
        {"index": index, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    ]}  # fmt: skip


@contextmanager
def guarded(directory: Path, *lines: str, **parts: Any) -> Iterator[tuple[Worker, Parrot]]:
    """A worker whose last route has the guardrail `one`."""
    model, text = Parrot(), "\n".join(lines)
    parts = {
        "filters": f'guardrail "one" {{\n{text}\n}}', "route": 'filters "one"\ninference', **parts,
    }  # fmt: skip
    with scripted(model) as origin, serving(directory, origin=origin.port, **parts) as worker:
        assert isinstance(origin, Origin)
        yield worker, model


def ask(worker: Worker, text: Any = "hello", path: str = CHAT, **more: Any) -> Answer:
    document = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return post(worker, json.dumps(document).encode(), path)


def post(worker: Worker, body: bytes, path: str = CHAT) -> Answer:
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    return Client(worker.port).send(head.encode() + body).answer()


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.fields.get("x-sentinel-reason", "")


def text_of(answer: Answer) -> str:
    return str(json.loads(answer.body)["choices"][0]["message"]["content"])


def streamed(answer: Answer, index: int = 0) -> str:
    """The text of a choice, as clients put it together."""
    found = ""
    for line in answer.body.split(b"\n"):
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:]).get("choices", ()):
                found += choice["delta"].get("content") or "" if choice["index"] == index else ""
    return found


def steps(worker: Worker, count: int = 1) -> list[tuple[str, ...]]:
    """What the record of the last exchange says of guardrails."""
    wait_until(lambda: worker.log(count), "it is written down")
    record = list(worker.region.journal_read(worker.slot))[-1]
    words = ("guardrail", "answer-")
    return [(one.reason, *map(str, one.details)) for one in decode(record).steps if one.reason.startswith(words)]


@pytest.mark.directive("guardrail", "guardrail/detect", "guardrail/replacement")
def test_what_is_found_in_a_request_is_replaced_before_it_is_sent(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "credit-card" "email"', 'on "request"') as (worker, model):
        answer = ask(worker, f"my card is {CARD}", user=MAIL, tools=[{"function": {"description": f"of {MAIL}"}}])
        assert answer.status == 200
        sent = json.loads(model.read)
        assert sent["messages"][0] == {"role": "user", "content": "my card is [credit-card]"}
        assert sent["user"] == "[email]" and sent["tools"][0]["function"]["description"] == "of [email]"
        assert steps(worker) == [("guardrail-redacted", "one", "request", "credit-card 1, email 2", "0")]
        assert worker.log()[0]["guardrails"] == "one request guardrail-redacted"
        log = (worker.directory / "access.log").read_text()
        record = list(worker.region.journal_read(worker.slot))[-1]
        assert "4111" not in log and b"4111" not in record and MAIL.encode() not in record
        assert ask(worker, "nothing here").status == 200
        assert json.loads(model.read)["messages"][0]["content"] == "nothing here"
        assert steps(worker, 2) == [("guardrail-passed", "one", "request", "", "0")]


SPOKEN: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"model": "m", "messages": [{"role": "system", "content": MAIL}, {"role": "tool", "content": MAIL}]}),
    (CHAT, {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": MAIL}]}]}),
    (MESSAGES, {"model": "m", "max_tokens": 9, "system": MAIL, "messages": []}),
    (MESSAGES, {"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": MAIL}]}]}),
    (MESSAGES, {"model": "m", "max_tokens": 9, "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "f", "input": {"to": MAIL}}]}]}),
    ("/v1/embeddings", {"model": "m", "input": ["a", MAIL]}),
    ("/v1/completions", {"model": "m", "prompt": MAIL}),
    ("/v1/responses", {"model": "m", "instructions": MAIL, "input": [{"role": "user", "content": [
        {"type": "input_text", "text": MAIL}]}, {"type": "function_call_output", "call_id": "x", "output": MAIL}]}),
    ("/v1beta/models/m:generateContent", {"systemInstruction": {"parts": [{"text": MAIL}]}, "contents": [
        {"role": "user", "parts": [{"text": MAIL}, {"functionResponse": {"name": "f", "response": {"a": MAIL}}}]}]}),
    ("/api/chat", {"model": "m", "stream": False, "messages": [{"role": "user", "content": MAIL}]}),
    ("/api/generate", {"model": "m", "stream": False, "prompt": MAIL, "system": MAIL}),
]  # fmt: skip


def test_texts_are_found_wherever_a_dialect_has_them(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'on "request"') as (worker, model):
        for path, document in SPOKEN:
            assert post(worker, json.dumps(document).encode(), path).status == 200, path
            before, sent = json.dumps(document), json.dumps(json.loads(model.read))
            assert sent == before.replace(MAIL, "[email]"), path


@pytest.mark.directive("guardrail/action")
def test_a_request_is_stopped_in_the_words_of_its_dialect(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "123-45-6789"}]
    document = {"model": "m", "max_tokens": 9, "messages": messages, "contents": [{"parts": [{"text": "123-45-6789"}]}]}
    with guarded(tmp_path, 'detect "us-ssn"', 'action "block"') as (worker, model):
        for path, place, word in [
            (CHAT, "code", "guardrail-blocked"), (MESSAGES, "type", "invalid_request_error"),
            ("/v1beta/models/m:generateContent", "status", "INVALID_ARGUMENT"), ("/api/chat", "", "guardrail-blocked"),
        ]:  # fmt: skip
            answer = post(worker, json.dumps(document).encode(), path)
            assert said(answer) == (400, "guardrail-blocked") and b"123-45" not in answer.body
            error = json.loads(answer.body)["error"]
            assert word in (error[place] if place else error)
        assert not model.bodies, "nobody was asked"
        assert steps(worker) == [("guardrail-blocked", "one", "request", "us-ssn 2", "0")]


def test_what_is_only_observed_goes_on_as_it_was(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'action "observe"') as (worker, model):
        model.answer = chat(f"write to {MAIL}")
        body = b'{"model": "m",  "messages": [{"role":"user","content":"' + MAIL.encode() + b'"}] }'
        answer = post(worker, body)
        assert model.bodies == [body] and answer.body == model.answer, "to the octet"
        assert steps(worker) == [
            ("guardrail-observed", "one", "request", "email 1", "0"), ("guardrail-watches", "one"),
            ("guardrail-observed", "one", "response", "email 1", "0"),
        ]  # fmt: skip


@pytest.mark.directive("guardrail/pattern", "guardrail/words")
def test_own_patterns_and_words(tmp_path: Path) -> None:
    lines = 'pattern "ticket" "PROJ-[0-9]{4,6}"', 'words "names" "manta" "blue heron"', 'replacement "#{kind}#"'
    with guarded(tmp_path, *lines) as (worker, model):
        model.answer = chat("Blue Heron has PROJ-12345")
        assert text_of(ask(worker, "what of Manta and mantas?")) == "#names# has #ticket#"
        assert json.loads(model.read)["messages"][0]["content"] == "what of #names# and mantas?"


@pytest.mark.directive("guardrail/on")
def test_only_the_sides_that_are_named_are_read(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'on "response"') as (worker, model):
        model.answer = chat(f"write to {MAIL}")
        assert text_of(ask(worker, MAIL)) == "write to [email]" and MAIL in model.read
        assert [one[0] for one in steps(worker)] == ["guardrail-watches", "guardrail-redacted"]
    with guarded(tmp_path / "request", 'detect "email"', 'on "request"') as (worker, model):
        model.answer = chat(f"write to {MAIL}")
        assert text_of(ask(worker, MAIL)) == f"write to {MAIL}" and MAIL not in model.read


@pytest.mark.directive("guardrail/when-unreadable")
def test_what_cannot_be_read_is_stopped_or_told(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"model":"m","messages":[]}')
    unreadable = [(b"{", CHAT), (b'{"model":"m"}', "/v1/audio/speech"), (packed, CHAT)]
    with guarded(tmp_path, 'detect "email"') as (worker, model):
        for body, path in unreadable:
            assert said(post(worker, body, path)) == (400, "guardrail-unreadable") and not model.bodies
        assert Client(worker.port).get("/v1/models").status == 200, "there is nothing to read in it"
    with guarded(tmp_path / "passing", 'detect "email"', 'when-unreadable "pass"') as (worker, model):
        for count, (body, path) in enumerate(unreadable, 1):
            assert post(worker, body, path).status == 200 and model.bodies[-1] == body
            assert steps(worker, count)[0][:3] == ("guardrail-skipped", "one", "request")


@pytest.mark.directive("guardrail/max-text")
def test_texts_that_are_too_long_are_not_read(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'max-text "1KiB"') as (worker, model):
        assert said(ask(worker, "x" * 1025)) == (400, "guardrail-unreadable")
        model.answer = chat("y" * 1025)
        assert said(ask(worker)) == (502, "answer-unreadable") and len(model.bodies) == 1
        assert steps(worker, 2)[-1][:3] == ("answer-unreadable", "one", "response")


SLOW = ('pattern "slow" "a[ab]{200}c"', 'on "request"')
"""A text of nothing but `a` keeps this busy for seconds."""


def long(kib: int, more: str = "") -> bytes:
    texts = ["a" * 64 * 1024] * (kib // 64) + [more]
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": one} for one in texts]}).encode()


def test_a_long_request_is_read_while_others_are_served(tmp_path: Path) -> None:
    with guarded(tmp_path, *SLOW, 'detect "email"') as (worker, model):
        body = long(192, MAIL)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        slow = Client(worker.port).send(head.encode() + body)
        leaver = Client(worker.port).send(head.encode() + body)
        quick = Client(worker.port)
        for _ in range(20):
            assert quick.get("/fixed").status == 200
        assert not select.select([slow.socket], [], [], 0)[0], "it is still being read"
        leaver.socket.close()
        assert slow.answer().status == 200
        (sent,) = model.bodies
        assert json.loads(sent)["messages"][-1]["content"] == "[email]" and sent.count(b"a" * 1024) == 192
        wait_until(lambda: len(worker.log(22)) == 22, "the other one has ended, too")
        assert worker.log(22)[-1]["status"] in (200, 499)
        assert said(post(worker, body.replace(b'"m"', b'"m", "max_tokens": "x"'))) == (400, "guardrail-unreadable")
        assert len(model.bodies) == 1, "who left before it was read is nobody's request"


def test_an_answer_is_replaced_in_all_its_texts_and_charged_as_it_was_made(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'on "response"') as (worker, model):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": MAIL})}}
        spelt = {"content": [{"token": MAIL, "logprob": -0.1, "top_logprobs": []}]}
        message = {"role": "assistant", "content": MAIL, "reasoning_content": MAIL, "tool_calls": [call]}
        choices = [{"index": 0, "message": message, "logprobs": spelt, "finish_reason": "tool_calls"}]
        model.answer = json.dumps({"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()
        answer = ask(worker)
        assert answer.status == 200 and MAIL.encode() not in answer.body
        message = json.loads(answer.body)["choices"][0]["message"]
        assert message["content"] == message["reasoning_content"] == "[email]"
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"to": "[email]"}
        line = worker.log()[0]
        assert (line["input_tokens"], line["output_tokens"], line["tokens_reported"]) == (1, 2, True)


def test_an_answer_is_stopped_and_was_paid_for(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "credit-card"', 'action "block"') as (worker, model):
        model.answer = chat("fine", f"it is {CARD}")
        answer = ask(worker)
        assert said(answer) == (403, "answer-blocked") and b"4111" not in answer.body
        assert json.loads(answer.body)["error"]["code"] == "answer-blocked"
        line = worker.log()[0]
        assert (line["output_tokens"], line["reason"]) == (4, "answer-blocked")
        assert line["guardrails"] == "one request guardrail-passed, one response answer-blocked"
        model.answer = chat("fine")
        assert ask(worker).status == 200


def test_an_answer_that_cannot_be_read_is_stopped_or_told(tmp_path: Path) -> None:
    for more, status in (("", 502), ('when-unreadable "pass"', 200)):
        with guarded(tmp_path / str(status), 'detect "email"', more) as (worker, model):
            for count, body in enumerate([b"<html>", b'"text"', gzip.compress(chat("fine"))], 1):
                packed = "\r\ncontent-encoding: gzip" if body[:2] == b"\x1f\x8b" else ""
                model.answer, model.head = body, TYPE + packed
                answer = ask(worker)
                assert answer.status == status and (status == 502 or answer.body == body)
                reason = "guardrail-skipped" if more else "answer-unreadable"
                assert steps(worker, count)[-1][:3] == (reason, "one", "response")


@pytest.mark.parametrize("headers", ["false", "true"])
def test_whoever_only_observes_keeps_nobody_waiting(tmp_path: Path, headers: str) -> None:
    route = f'filters "one"\ninference {{ response-headers {headers}; }}'
    with guarded(tmp_path, 'detect "email"', 'action "observe"', 'on "response"', route=route) as (worker, model):
        model.answer = chat(MAIL)
        assert ask(worker).body == model.answer
        assert steps(worker)[-1] == ("guardrail-observed", "one", "response", "email 1", "0")
        large = chat(MAIL, "y" * (5 << 20))
        model.answer = large
        assert ask(worker).body == large
        assert steps(worker, 2)[-1][:2] == ("guardrail-skipped", "one")
        model.answer, model.head = gzip.compress(chat("fine")), TYPE + "\r\ncontent-encoding: gzip"
        assert ask(worker).body == model.answer
        assert steps(worker, 3)[-1][:2] == ("guardrail-skipped", "one")


@pytest.mark.parametrize(("more", "status"), [("", 502), ('when-unreadable "pass"', 200)])
def test_an_answer_that_is_too_large_is_stopped_or_told(tmp_path: Path, more: str, status: int) -> None:
    with guarded(tmp_path, 'detect "email"', 'on "response"', more) as (worker, model):
        model.answer = chat("y" * (5 << 20))
        assert ask(worker).status == status
        reason = "guardrail-skipped" if more else "answer-unreadable"
        assert [one[0] for one in steps(worker)] == ["guardrail-watches", reason]


def test_an_answer_that_is_no_success_passes_as_it_is(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'action "block"') as (worker, model):
        model.answer, model.head = f'{{"error":"{MAIL}"}}'.encode(), "HTTP/1.1 429 Slow"
        answer = ask(worker)
        assert (answer.status, answer.body) == (429, model.answer)
        assert [one[0] for one in steps(worker)] == ["guardrail-passed", "guardrail-watches"]


def test_a_card_in_a_stream_is_replaced_however_it_is_cut(tmp_path: Path) -> None:
    text = f"her card is {CARD}, and that is all"
    whole = events(*[delta(text[at : at + 3]) for at in range(0, len(text), 3)], delta(None, "stop"))
    with guarded(tmp_path, 'detect "credit-card"', 'on "response"') as (worker, model):
        for step in (1, 7, 64, len(whole)):
            model.stream = [whole[at : at + step] for at in range(0, len(whole), step)]
            answer = ask(worker, stream=True)
            assert streamed(answer) == "her card is [credit-card], and that is all"
            assert answer.body.endswith(b"data: [DONE]\n\n") and b"4111" not in answer.body
        assert steps(worker, 4)[-1] == ("guardrail-redacted", "one", "response", "credit-card 1", "0")


def test_choices_of_a_stream_are_told_apart_and_each_gets_its_end(tmp_path: Path) -> None:
    stream = events(
        delta("4111 1111 ", index=0), delta("to joe@exam", index=1), delta("1111 1111", index=0),
        delta("ple.com", index=1), delta(None, "stop", index=1), delta(None, "stop", index=0),
    )  # fmt: skip
    with guarded(tmp_path, 'detect "credit-card" "email"', 'on "response"') as (worker, model):
        model.stream = [stream]
        answer = ask(worker, stream=True, n=2)
        assert streamed(answer, 0) == "[credit-card]" and streamed(answer, 1) == "to [email]"


def test_a_stream_that_just_ends_loses_nothing(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "email"', 'on "response"') as (worker, model):
        model.stream = [events(delta("write to joe@exa"), end=b"")]
        assert streamed(ask(worker, stream=True)) == "write to joe@exa"


def test_a_stream_without_a_find_goes_on_as_the_octets_that_it_was(tmp_path: Path) -> None:
    stream = b": hello\n\n" + events(delta("All "), delta("is well. "), delta(None, "stop"))
    with guarded(tmp_path, 'detect "credit-card" "iban"', 'on "response"') as (worker, model):
        model.stream = [stream]
        assert ask(worker, stream=True, stream_options={"include_usage": True}).body == stream


def test_a_stream_is_stopped_before_a_digit_of_it_and_settled_as_it_was_made(tmp_path: Path) -> None:
    budget = 'token-budget "all" { tokens 100000; }\nguardrail "one" { detect "credit-card"; action "block"; }'
    with guarded(tmp_path, filters=budget, route='filters "all" "one"\ninference') as (worker, model):
        pieces = [events(delta(one), end=b"") for one in ("her card is ", "4111 11", "11 1111 11", "11. ", "More")]
        model.stream, model.is_ended = pieces, False
        answer = ask(worker, stream=True)
        assert streamed(answer) == "her card is " and b"11" not in answer.body
        last = answer.body.split(b"\n\n")[-3:]
        assert json.loads(last[0].removeprefix(b"data: "))["error"]["code"] == "answer-blocked"
        assert last[1] == b"data: [DONE]"
        line = worker.log()[0]
        assert (line["status"], line["reason"]) == (200, "answer-blocked") and line["output_tokens"] > 3
        assert steps(worker)[-1] == ("answer-blocked", "one", "response", "credit-card 1", "0")


def test_what_cannot_be_read_of_a_stream_ends_it_or_passes(tmp_path: Path) -> None:
    stream = events(delta("fine "), end=b"") + b"data: {no\n\n" + events(delta("so", "stop"))
    for more, reason in (("", "answer-unreadable"), ('when-unreadable "pass"', "guardrail-skipped")):
        with guarded(tmp_path / reason, 'detect "email"', 'on "response"', more) as (worker, model):
            model.stream = [stream]
            answer = ask(worker, stream=True)
            assert (b"{no" in answer.body) is bool(more)
            assert (b'"answer-unreadable"' in answer.body) is not bool(more)
            assert steps(worker)[-1][0] == reason


def test_answers_in_another_dialect_are_looked_through_in_the_clients(tmp_path: Path) -> None:
    provider = 'provider { dialect "anthropic"; translate { max-tokens 99; }; }'
    text = f"her card is {CARD}, and that is all"
    with guarded(tmp_path, 'detect "credit-card" "email"', upstream=provider) as (worker, model):
        usage = {"input_tokens": 3, "output_tokens": 9}
        model.answer = json.dumps({
            "id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "usage": usage,
            "content": [{"type": "text", "text": text}],
        }).encode()  # fmt: skip
        assert text_of(ask(worker, MAIL)) == "her card is [credit-card], and that is all"
        assert json.loads(model.read)["messages"][0]["content"] == "[email]" and "max_tokens" in model.read
        stream = spoken(text, 2)
        model.stream = [stream[at : at + 5] for at in range(0, len(stream), 5)]
        assert streamed(ask(worker, MAIL, stream=True)) == "her card is [credit-card], and that is all"
        assert [one["output_tokens"] for one in worker.log(2)] == [9, 9]
    blocking = 'action "block"'
    with guarded(tmp_path / "b", 'detect "credit-card"', blocking, upstream=provider) as (worker, model):
        model.stream = [spoken(text, 2)]
        assert b'"answer-blocked"' in ask(worker, stream=True).body
        content = [{"type": "text", "text": CARD}]
        answer = {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn", "usage": usage}
        model.stream, model.answer = None, json.dumps(answer).encode()
        assert said(ask(worker)) == (403, "answer-blocked")


def test_a_list_of_events_is_judged_whole(tmp_path: Path) -> None:
    """As Gemini streams without `alt=sse`."""
    pieces = [{"candidates": [{"content": {"parts": [{"text": one}]}}]} for one in (f"it is {CARD}", " or so")]
    with guarded(tmp_path, 'detect "credit-card"', 'on "response"') as (worker, model):
        model.answer = json.dumps(pieces).encode()
        answer = post(worker, b'{"contents":[{"parts":[{"text":"x"}]}]}', "/v1beta/models/m:streamGenerateContent")
        texts = [one["candidates"][0]["content"]["parts"][0]["text"] for one in json.loads(answer.body)]
        assert texts == ["it is [credit-card]", " or so"]


def test_what_is_not_changed_goes_on_as_the_octets_that_it_was(tmp_path: Path) -> None:
    with guarded(tmp_path, 'detect "credit-card"') as (worker, model):
        body = b'{"messages" : [{"role":"user","content":"\\u00e4 hello"}],\n"model":"m"}'
        model.answer, model.head = b"  " + chat("fine"), TYPE + '\r\netag: "x"'
        answer = post(worker, body)
        assert model.bodies == [body] and answer.body == model.answer and answer.fields["etag"] == '"x"'
        model.answer = chat(CARD)
        assert "etag" not in post(worker, body).fields, "it was of another text"


def spoken(text: str, step: int) -> bytes:
    """Anthropic's events of a text."""
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "x", "type": "message", "role": "assistant", "content": [],
                                              "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text[at : at + step]}}
          for at in range(0, len(text), step)],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return b"".join([f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in found])


def test_sdks_read_streams_of_which_each_octet_comes_by_itself(tmp_path: Path) -> None:
    text = f"her card is {CARD}, and that is all"
    clean = "her card is [credit-card], and that is all"
    filters = 'guardrail "one" { detect "credit-card"; on "response"; }\n'
    filters += 'guardrail "two" { detect "email"; action "block"; }'
    with guarded(tmp_path, filters=filters, route='filters "one" "two"\ninference') as (worker, model):
        gpt = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{worker.port}/v1", max_retries=0)
        claude = anthropic.Anthropic(api_key="k", base_url=f"http://127.0.0.1:{worker.port}", max_retries=0)
        messages: Any = [{"role": "user", "content": "hello"}]
        for said, step in ((text, 1), (text, 4), (text.replace(CARD, MAIL), 3)):
            stream = events(*[delta(said[at : at + step]) for at in range(0, len(said), step)], delta(None, "stop"))
            model.stream = [stream[at : at + 1] for at in range(len(stream))]
            heard: list[str] = []
            try:
                for chunk in gpt.chat.completions.create(model="m", messages=messages, stream=True):
                    heard.append(chunk.choices[0].delta.content or "")
                assert "".join(heard) == clean and said == text
            except openai.APIError as fault:
                assert fault.code == "answer-blocked" and said != text
            assert not any(character.isdigit() for character in "".join(heard)) and "@" not in "".join(heard)
            stream = spoken(said, step)
            model.stream = [stream[at : at + 1] for at in range(len(stream))]
            heard.clear()
            try:
                with claude.messages.stream(model="m", max_tokens=99, messages=messages) as events_:
                    heard.extend(events_.text_stream)
                    assert events_.get_final_message().usage.output_tokens == 9
                assert "".join(heard) == clean and said == text
            except anthropic.APIStatusError as fault:
                assert "answer-blocked" in str(fault.body) and said != text
            assert not any(character.isdigit() for character in "".join(heard)) and "@" not in "".join(heard)


@pytest.mark.parametrize(
    ("reason", "details", "words"),
    [
        (Reason.GUARDRAIL_PASSED, ("pii", "request", "", 2), "`pii` finds nothing in the request; 2 parts"),
        (Reason.GUARDRAIL_REDACTED, ("pii", "request", "email 2", 0), "`pii` replaces in the request: email 2"),
        (Reason.GUARDRAIL_OBSERVED, ("pii", "response", "email 1", 0), "observes, and finds in the answer: email 1"),
        (Reason.ANSWER_BLOCKED, ("pii", "response", "iban 1", 0), "`pii` stops the answer: iban 1"),
        (Reason.GUARDRAIL_SKIPPED, ("pii", "response", "it is encoded"), "goes on as it is: it is encoded"),
        (Reason.GUARDRAIL_UNREADABLE, ("pii", "request", "why"), "`pii` cannot read the request: why"),
        (Reason.GUARDRAIL_WATCHES, ("pii",), "`pii` will look through the answer"),
    ],
)
def test_steps_in_words(reason: Reason, details: tuple[Any, ...], words: str) -> None:
    assert words in step_text(reason, details)


FILTERS = 'guardrail "one" {{ {}; }}'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('on "request"', "looks for nothing"),
        ('detect "e-mail"', "email"),
        ('pattern "p" "a+"', "bound its repeats"),
        ('pattern "p" "(a{1,20}){1,20}"', "256 are the most"),
        ('pattern "p" "a?"', "matches the empty text"),
        ('pattern "p" "(?=a)b"', "only plain groups"),
        ('detect "email"; pattern "email" "a"', "is the name of another kind"),
        ('detect "email"; action "block"; replacement "x"', "`replacement` has no effect"),
        ('detect "email"; action "observe"; when-unreadable "pass"', "`when-unreadable` has no effect"),
        ('detect "email"; replacement "no-reply@example.com"', "would be found itself"),
        ('words "w" "-"', "between one word and 8"),
        ('detect "email"; replacement "\\""', "up to 64 characters"),
    ],
)
def test_what_would_do_nothing_or_harm_is_refused(tmp_path: Path, lines: str, words: str) -> None:
    loaded = load_text(written(tmp_path, 8080, filters=FILTERS.format(lines), route='filters "one"\ninference'))
    assert loaded.plan is None and words in render_problems(loaded.problems)


@pytest.mark.parametrize(("route", "words"), [('filters "one"', "add `inference`"), ("inference", "no route asks")])
def test_a_guardrail_needs_a_route_that_reads(tmp_path: Path, route: str, words: str) -> None:
    loaded = load_text(written(tmp_path, 8080, filters=FILTERS.format('detect "email"'), route=route))
    assert words in render_problems([*loaded.problems, *loaded.warnings])


ASK = 'request "POST http://a.example/guarded/v1/chat/completions"'


@pytest.mark.directive("case/state/found", "case/state/found@unreadable")
def test_policy_tests_say_what_is_found() -> None:
    assert holds(f'{ASK}; expect {{ verdict "forward"; step "guardrail-passed"; step "guardrail-watches"; }}')
    assert holds(f'state {{ found "guard" "email"; }}; {ASK}; expect {{ step "guardrail-redacted"; }}')
    assert holds(f'state {{ found "strict" "us-ssn"; }}; {ASK}; expect {{ status 400; reason "guardrail-blocked"; }}')
    assert holds(f'state {{ found "guard" unreadable=true; }}; {ASK}; expect {{ reason "guardrail-unreadable"; }}')
    for said, words in [
        ('"guard" "phone"', "does not look for `phone`"), ('"gard" "email"', "there is no guardrail"),
        ('"guard" "email" unreadable=true', "nothing is found"),
    ]:  # fmt: skip
        assert words in refused(f"state {{ found {said}; }}; {ASK}; expect {{ status 400; }}")
