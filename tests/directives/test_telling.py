"""What is told of calls of language models: in the access log, and in the head of an answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shm.region import Counter
from tests.directives.test_budgets import ask, closed, governed, said, usage
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation

BOOK = 'prices { currency "USD"; price "m" { input "1.00"; cached-input "0.10"; output "2.00"; }; }'
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOLD = ("model", "answer_model", "input_tokens", "cached_tokens", "output_tokens", "tokens_reported", "finish_reason")


def events(*documents: Any) -> bytes:
    octets = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in documents) + b"data: [DONE]\n\n"
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(octets), octets)


def delta(text: str | None, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return {"model": "m-2026", "choices": [choice], "usage": None}


def line(worker: Worker, count: int = 1) -> dict[str, Any]:
    return worker.log(count)[-1]


def test_a_line_says_what_a_call_took_and_others_say_nothing_of_it(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000", model=lambda c: replying(c, usage(10, 20)), top=BOOK) as (worker, _):
        client = Client(worker.port)
        assert ask(client).status == 200
        found = line(worker)
        assert [found[name] for name in TOLD] == ["m", "m", 10, 0, 20, True, "stop"]
        assert (found["cost"], found["currency"], found["first_token_ms"]) == (0.00005, "USD", None)
        assert list(found)[-2:] == ["generation", "worker"]
        assert ask(client, cap=5000).status == 413
        refused = line(worker, 2)
        assert [refused[name] for name in TOLD] == ["m", "", None, None, None, None, ""] and refused["cost"] is None
        client.send(b"GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.answer().status == 200
        assert "model" not in line(worker, 3)


def test_without_prices_nothing_is_said_of_money(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000", model=lambda c: replying(c, usage(10, 20))) as (worker, _):
        ask(Client(worker.port))
        assert not {"cost", "currency"} & set(line(worker))


def test_of_a_stream_the_time_to_its_first_token_is_told(tmp_path: Path) -> None:
    def streaming(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        first = b"data: %b\n\n" % json.dumps(delta("hello")).encode()
        conversation.send(STREAM + b"%x\r\n%b\r\n" % (len(first), first))
        assert has_come.wait(10), "the client has it while the stream goes on"
        conversation.send(events(delta(None, "length"), {"choices": [], "usage": {
            "prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4},
        }}))  # fmt: skip

    body = json.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True},
                       "messages": [{"role": "user", "content": "x"}]}).encode()  # fmt: skip
    with governed(tmp_path, "tokens 100000", model=streaming) as (worker, _):
        client, has_come = Client(worker.port), threading.Event()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while b"hello" not in client.buffer:
            client.buffer += client.socket.recv(65536)
        has_come.set()
        answer = client.answer()
        assert b"hello" in answer.body and b"completion_tokens" in answer.body
        found = line(worker)
        assert [found[name] for name in TOLD] == ["m", "m-2026", 9, 4, 3, True, "length"]
        assert 0 < found["first_token_ms"] < found["duration_ms"]


def replying(conversation: Conversation, body: bytes, head: str = HEAD) -> None:
    while True:
        conversation.body(conversation.head())
        conversation.answer(body, head)


HEADERS = ("x-sentinel-model", "x-sentinel-input-tokens", "x-sentinel-cached-tokens", "x-sentinel-output-tokens",
           "x-sentinel-cost")  # fmt: skip
ON = "response-headers true"


def told(answer: Any) -> list[str | None]:
    return [answer.fields.get(name) for name in HEADERS]


@pytest.mark.directive("route/inference/response-headers")
def test_an_answer_says_in_its_head_what_it_took(tmp_path: Path) -> None:
    body = usage(10, 20)
    with governed(tmp_path, "tokens 1000", inference=ON, model=lambda c: replying(c, body), top=BOOK) as (worker, _):
        answer = ask(Client(worker.port))
        assert told(answer) == ["m", "10", "0", "20", "0.00005 USD"] and answer.body == body
        assert closed(worker) == [("['127.0.0.1/32']", 30)], "it was read twice and is charged once"
        assert [line(worker)[name] for name in TOLD] == ["m", "m", 10, 0, 20, True, "stop"]
        wait_until(lambda: worker.counter(Counter.INFERENCE_REQUESTS) == 1, "one call is counted")
    with governed(tmp_path / "off", "tokens 1000", model=lambda c: replying(c, body), top=BOOK) as (worker, _):
        assert told(ask(Client(worker.port))) == [None] * 5


def unread(connection: socket.socket) -> int:
    """How many octets the other side's kernel has of what was sent, that it has not read."""
    mine, theirs = connection.getsockname()[1], connection.getpeername()[1]
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if (int(fields[1][-4:], 16), int(fields[2][-4:], 16)) == (theirs, mine):
            return int(fields[4].partition(":")[2], 16)
    return 0


def pieces(*sent: bytes) -> Callable[[Conversation], None]:
    """An origin whose answer comes in so many pieces, each when the one before has been taken."""

    def answering(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        for piece in sent:
            conversation.send(piece)
            wait_until(lambda: unread(conversation.connection) == 0, "the gateway has read it")

    return answering


def one_call(directory: Path, *sent: bytes) -> tuple[Any, Worker]:
    with governed(directory, "tokens 100000", inference=ON, model=pieces(*sent)) as (worker, _):
        answer = ask(Client(worker.port))
        line(worker)
        return answer, worker


def test_an_answer_in_pieces_waits_until_it_is_whole(tmp_path: Path) -> None:
    body = usage(10, 20)
    head = f"{HEAD}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    answer, _ = one_call(tmp_path, head[:30], head[30:], body[:9], body[9:40], body[40:])
    assert told(answer)[:4] == ["m", "10", "0", "20"] and answer.body == body


def test_what_is_too_large_or_has_no_length_goes_on_at_once(tmp_path: Path) -> None:
    large = json.dumps(json.loads(usage(10, 20)) | {"padding": "x" * 65536}).encode()
    answer, _ = one_call(tmp_path / "large", f"{HEAD}\r\ncontent-length: {len(large)}\r\n\r\n".encode(), large)
    assert told(answer) == ["m", None, None, None, None] and answer.body == large
    stream, _ = one_call(tmp_path / "stream", STREAM, events(delta("hi"), delta(None, "stop")))
    assert told(stream) == ["m", None, None, None, None] and b"[DONE]" in stream.body


def test_an_answer_that_breaks_off_while_it_is_held_is_a_failure_and_takes_nothing(tmp_path: Path) -> None:
    body = usage(10, 20)

    def breaking(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.send(f"{HEAD}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:20])

    with governed(tmp_path, "tokens 1000", inference=ON, model=breaking) as (worker, _):
        answer = ask(Client(worker.port))
        assert said(answer) == (502, "upstream-closed")
        assert closed(worker) == [("['127.0.0.1/32']", 0)]


def test_no_octet_of_a_models_name_ends_a_line_of_a_head(tmp_path: Path) -> None:
    body = json.dumps({"model": "a\r\nx-evil: 1\u00e9 \ud800", "messages": [], "max_tokens": 1}).encode()
    with governed(tmp_path, "tokens 1000", inference=ON, model=lambda c: replying(c, usage(1, 1))) as (worker, _):
        answer = ask(Client(worker.port), body=body)
        assert answer.fields["x-sentinel-model"] == "a??x-evil:?1???" and "x-evil" not in answer.fields
        assert line(worker)["model"] == "a\r\nx-evil: 1\u00e9 ?"


def labels(worker: Worker) -> dict[tuple[str, str], int]:
    """Calls by model and tenant."""
    return {(one.labels.model, one.labels.tenant): one.calls for one in worker.region.tallied()}


@pytest.mark.directive("route/inference/tenant")
def test_metrics_tell_tenants_apart_where_the_operator_says_how(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"model": lambda c: replying(c, usage(10, 20)), "top": BOOK}
    with governed(tmp_path, "tokens 1000", inference='tenant "header:x-tenant"', **parts) as (worker, _):
        client = Client(worker.port)
        for tenant in ("acme", "acme", "other"):
            assert ask(client, f"x-tenant: {tenant}").status == 200
        assert ask(client, cap=5000).status == 413, "what is refused took nothing, and is no call"
        wait_until(lambda: labels(worker) == {("m", "acme"): 2, ("m", "other"): 1}, "three calls are counted")
        found = worker.region.tallied()[0]
        assert (found.inputs.total, found.outputs.total, found.cost, found.counted) == (20, 40, 100, 0)
        assert found.labels[0] == "rest" and found.labels[2:] == ("openai-chat", "acme", "USD")
        assert sum(found.duration_ns.counts) == 2 and not sum(found.first_ns.counts)
        assert sum(found.over.counts) + sum(found.under.counts) == 2, "how wrong the estimates of both were is told"
        assert found.under.total == 2 * 100, found
        assert [(one["tenant"], one["status"]) for one in worker.log(4)] == [
            ("acme", 200), ("acme", 200), ("other", 200), ("", 413),
        ]  # fmt: skip
        assert ask(client, "x-tenant: " + "t" * 100 + '"\\').status == 200
        assert line(worker, 5)["tenant"] == "t" * 64
    with governed(tmp_path / "off", "tokens 1000", model=parts["model"]) as (worker, _):
        assert ask(Client(worker.port), "x-tenant: acme").status == 200
        wait_until(lambda: labels(worker) == {("m", ""): 1}, "the call is counted")
        assert "tenant" not in line(worker)
