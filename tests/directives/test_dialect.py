"""A client and a provider of different dialects: each sees its own, and the budget what it took."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.record import decode
from tests.directives.house import serving, written
from tests.directives.test_budgets import closed
from tests.directives.test_cases import holds
from tests.workers.child import Answer, Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, fields_of, scripted

CHAT, MESSAGES = "/llm/v1/chat/completions", "/llm/v1/messages"
HELLO = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"model": "m", "max_tokens": 50, "messages": HELLO}
"""In both dialects."""
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hi"}],
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 20},
}  # fmt: skip
COMPLETION = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 15, "completion_tokens": 20, "total_tokens": 35},
}  # fmt: skip
JSON = "content-type: application/json\r\n"
FOREIGN = 'provider { dialect "anthropic"; translate; }'
TRANSCRIPTS = Path(__file__).parents[1] / "inference"


def transcript(name: str) -> bytes:
    """What a provider streams (tests/inference/transcripts)."""
    return (TRANSCRIPTS / "transcripts" / f"{name}.txt").read_bytes().split(b"\n----\n")[1]


class Provider:
    """Answers each request with these octets, as they are."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.bodies: list[bytes] = []

    def __call__(self, conversation: Conversation) -> None:
        while True:
            self.bodies.append(conversation.body(conversation.head()))
            for piece in self.pieces:
                conversation.send(piece)
            if b"content-length" not in self.pieces[0] and b"chunked" not in self.pieces[0]:
                conversation.connection.close()
                return


def whole(document: Any, status: str = "200 OK", fields: str = JSON) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\n{fields}content-length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes, size: int, kind: str = "text/event-stream") -> list[bytes]:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [head, *(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces), b"0\r\n\r\n"]


@contextmanager
def between(
    directory: Path, dialect: str, provider: Any, more: str = "", how: str = ""
) -> Iterator[tuple[Worker, Origin]]:
    """A worker whose providers speak this dialect, with a budget of a million tokens."""
    parts = {
        "filters": 'token-budget "one" { tokens 1000000; key "all"; }', "route": 'filters "one"\ninference',
        "upstream": f"provider {{ dialect {dialect}; translate {{ {how} }}; }}\n{more}",
    }  # fmt: skip
    with scripted(provider) as origin, serving(directory, origin=origin.port, **parts) as worker:
        yield worker, origin


def send(worker: Worker, path: str, document: Any, *fields: str) -> Client:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = "".join(f"{field}\r\n" for field in (*fields, f"Content-Length: {len(body)}"))
    return Client(worker.port).send(f"POST {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode() + body)


def ask(worker: Worker, path: str, document: Any, *fields: str) -> Answer:
    return send(worker, path, document, *fields).answer()


def spent(worker: Worker) -> int:
    ((_, tokens),) = closed(worker)
    return tokens


def steps(worker: Worker) -> dict[str, list[str]]:
    """Of the newest record."""
    *_, found = wait_until(lambda: list(worker.region.journal_read(worker.slot)), "the record")
    return {one.reason: list(one.details) for one in decode(found).steps}


def test_a_client_of_openais_and_a_provider_of_anthropics(tmp_path: Path) -> None:
    provider = Provider(whole(MESSAGE, fields=JSON + "anthropic-request-id: r1\r\netag: x\r\n"))
    with between(tmp_path, '"anthropic"', provider) as (worker, origin):
        fields = "Authorization: Bearer my-key", "OpenAI-Organization: o", "Accept-Encoding: gzip, br", "X-Else: 1"
        answer = ask(worker, f"{CHAT}?a=b", ASKED, *fields)
        assert answer.status == 200 and answer.fields["content-type"] == "application/json"
        assert "etag" not in answer.fields and answer.fields["anthropic-request-id"] == "r1"
        found = json.loads(answer.body)
        assert found["object"] == "chat.completion" and found["choices"][0]["message"]["content"] == "Hi"
        assert found["usage"]["prompt_tokens"] == 15 and found["usage"]["total_tokens"] == 35
        assert origin.heads[0].startswith(b"POST /llm/v1/messages?a=b HTTP/1.1\r\n")
        sent = fields_of(origin.heads[0])
        assert sent["x-api-key"] == "my-key" and "authorization" not in sent and sent["x-else"] == "1"
        assert sent["anthropic-version"] == "2023-06-01" and "openai-organization" not in sent
        assert sent["accept-encoding"] == "identity" and int(sent["content-length"]) == len(provider.bodies[0])
        assert json.loads(provider.bodies[0]) == ASKED
        assert spent(worker) == 35, "as the provider reported it, once"
        told = steps(worker)
        assert told["translated"] == ["openai-chat", "anthropic-messages", ""]
        assert told["tokens-reported"] == ["m", "15", "20"]
        assert ask(worker, CHAT, ASKED).status == 200 and origin.connections == 1, "the link is used again"


def test_a_client_of_anthropics_and_a_provider_of_openais(tmp_path: Path) -> None:
    provider = Provider(whole(COMPLETION))
    with between(tmp_path, '"openai"', provider) as (worker, origin):
        fields = "X-API-Key: my-key", "Anthropic-Version: 2023-06-01", "Anthropic-Beta: b"
        answer = ask(worker, MESSAGES, ASKED, *fields)
        found = json.loads(answer.body)
        assert found["type"] == "message" and found["content"] == [{"type": "text", "text": "Hi"}]
        assert found["usage"]["input_tokens"] == 15 and found["stop_reason"] == "end_turn"
        sent = fields_of(origin.heads[0])
        assert origin.heads[0].startswith(b"POST /llm/v1/chat/completions HTTP/1.1\r\n")
        assert sent["authorization"] == "Bearer my-key" and "x-api-key" not in sent
        assert not [name for name in sent if name.startswith("anthropic-")]
        assert json.loads(provider.bodies[0]) == {"model": "m", "max_completion_tokens": 50, "messages": HELLO}
        assert spent(worker) == 35
        ask(worker, MESSAGES, ASKED, "x-api-key: one", "authorization: Bearer other")
        assert fields_of(origin.heads[1])["authorization"] == "Bearer other"


@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_streams_are_said_as_they_come(tmp_path: Path, size: int) -> None:
    """Both ways, from chunks of any size; usage is asked for upstream and not shown to who did not ask."""
    with between(tmp_path / "a", '"anthropic"', Provider(*chunked(transcript("anthropic"), size))) as (worker, _):
        answer = ask(worker, CHAT, {**ASKED, "stream": True})
        chunks = [line[6:] for line in answer.body.splitlines() if line.startswith(b"data: ")]
        assert chunks[-1] == b"[DONE]" and b": ping" in answer.body
        found = [json.loads(chunk) for chunk in chunks[:-1]]
        said = "".join(one["choices"][0]["delta"].get("content", "") for one in found)
        assert said == "Grüß dich 🌍" and not any("usage" in one for one in found)
        assert spent(worker) == 40 and steps(worker)["tokens-reported"] == ["m", "25", "15"]
    provider = Provider(*chunked(transcript("openai-chat-tools"), size))
    with between(tmp_path / "b", '"openai"', provider) as (worker, _):
        answer = ask(worker, MESSAGES, {**ASKED, "stream": True})
        assert answer.body == (TRANSCRIPTS / "translations" / "openai-chat-tools.txt").read_bytes()
        assert json.loads(provider.bodies[0])["stream_options"] == {"include_usage": True}
        assert spent(worker) == 85


def test_what_it_took_is_told_in_the_head_of_a_translated_answer(tmp_path: Path) -> None:
    parts = {"route": "inference { response-headers true; }", "upstream": FOREIGN}
    with scripted(Provider(whole(MESSAGE))) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        told = [value for name, value in ask(worker, CHAT, ASKED).field_list if "tokens" in name]
        assert {"15", "20"} <= set(told), told


def test_a_stream_begins_before_it_ends(tmp_path: Path) -> None:
    """The first token is through while the provider still makes the others."""
    head, *pieces = chunked(transcript("anthropic"), 400)
    gone: list[bytes] = []

    def slow(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.send(head + b"".join(pieces[:3]))
        gone.append(conversation.rest())

    with between(tmp_path, '"anthropic"', slow) as (worker, _):
        client = send(worker, CHAT, {**ASKED, "stream": True})
        client.head()
        wait_until(lambda: b"Gr" in client.buffer or _read(client), "the first token")
        client.close()
        wait_until(lambda: gone, "the provider is told that nobody listens")
        assert 25 <= spent(worker) < 100, "what had passed: input as reported, output as counted"


def _read(client: Client) -> bool:
    """Read on; whether that was enough is to be asked again."""
    client.buffer += client.socket.recv(65536)
    return False


@pytest.mark.parametrize("pieces", [
    [whole(transcript("anthropic"), fields="content-type: text/event-stream\r\n")],
    [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + transcript("anthropic")],
], ids=["with a length", "until it closes"])  # fmt: skip
def test_streams_of_any_framing(tmp_path: Path, pieces: list[bytes]) -> None:
    with between(tmp_path, '"anthropic"', Provider(*pieces)) as (worker, _):
        answer = ask(worker, CHAT, {**ASKED, "stream": True})
        assert answer.fields["content-type"] == "text/event-stream" and answer.body.endswith(b"data: [DONE]\n\n")
        assert spent(worker) == 40


@pytest.mark.parametrize("pieces", [
    chunked(json.dumps(MESSAGE).encode(), 7, "application/json"),
    [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + json.dumps(MESSAGE).encode()],
], ids=["chunks", "until it closes"])  # fmt: skip
def test_whole_answers_of_any_framing(tmp_path: Path, pieces: list[bytes]) -> None:
    with between(tmp_path, '"anthropic"', Provider(*pieces)) as (worker, _):
        answer = ask(worker, CHAT, ASKED)
        assert int(answer.fields["content-length"]) == len(answer.body)
        assert json.loads(answer.body)["usage"]["total_tokens"] == 35 and spent(worker) == 35


def test_a_request_in_chunks_is_said_too(tmp_path: Path) -> None:
    provider = Provider(whole(MESSAGE))
    with between(tmp_path, '"anthropic"', provider) as (worker, _):
        body = json.dumps(ASKED).encode()
        lines = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        assert Client(worker.port).send(lines + framed).answer().status == 200
        assert json.loads(provider.bodies[0]) == ASKED


def test_the_providers_address_and_credential_are_said_in_its_own_way(tmp_path: Path) -> None:
    """By a line of `models`, which also has another name for the model."""
    provider = Provider(whole(MESSAGE))
    line = 'model "fast" { upstream "origin"; send-as "claude-x"; provider { path-prefix "/anthropic"; translate; }; }'
    parts = {
        "route": f"inference\nmodels {{ {line}; }}",
        "upstream": 'provider { dialect "anthropic"; credential "a-secret-of-16-characters"; host "api.example"; }',
    }  # fmt: skip
    with scripted(provider) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        answer = ask(worker, CHAT, {**ASKED, "model": "fast"}, "authorization: Bearer mine")
        assert answer.status == 200 and origin.heads[0].startswith(b"POST /anthropic/v1/messages HTTP/1.1\r\n")
        sent = fields_of(origin.heads[0])
        assert sent["x-api-key"] == "a-secret-of-16-characters" and b"mine" not in origin.heads[0]
        assert sent["host"] == "api.example" and json.loads(provider.bodies[0])["model"] == "claude-x"


# -- what cannot be said


@pytest.mark.parametrize(("dialect", "path", "body", "place", "kind"), [
    ('"anthropic"', CHAT, {**ASKED, "n": 2}, "$.n", "invalid_request_error"),
    ('"anthropic"', CHAT, {"model": "m", "messages": HELLO}, "$.max_tokens", "invalid_request_error"),
    ('"anthropic"', CHAT, {**ASKED, "messages": [*HELLO, {"role": "system", "content": "x"}]}, "$.messages[1].role",
     "invalid_request_error"),
    ('"openai"', MESSAGES, {**ASKED, "top_k": 3}, "$.top_k", "invalid_request_error"),
    ('"anthropic"', "/llm/v1/embeddings", {"model": "m", "input": "x"}, "not translated", "invalid_request_error"),
    ('"anthropic"', "/openai/deployments/m/chat/completions", ASKED, "names the model", "invalid_request_error"),
    ('"openai"', "/llm/v1beta/models/g:generateContent", {"contents": []}, "not translated", None),
])  # fmt: skip
def test_what_cannot_be_said_is_refused_with_its_place(
    tmp_path: Path, dialect: str, path: str, body: Any, place: str, kind: str | None
) -> None:
    with between(tmp_path, dialect, Provider(whole(MESSAGE))) as (worker, origin):
        answer = ask(worker, path, body)
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (400, "untranslatable")
        error = json.loads(answer.body)["error"]
        assert place in error["message"] and error.get("type") == kind
        if path == CHAT:
            assert error["param"] == place
        assert not origin.heads and spent(worker) == 0, "nobody was asked, and nothing was taken"
        assert place in steps(worker)["untranslatable"][2]


def test_what_cannot_be_read_is_not_sent_in_the_wrong_dialect(tmp_path: Path) -> None:
    """Also where it would pass uncounted."""
    parts = {"route": "inference", "upstream": FOREIGN}
    with scripted(Provider(whole(MESSAGE))) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        for body in (b"\x1f\x8b", b'{"model":"m","model":"n","messages":[]}', b""):
            answer = ask(worker, CHAT, body)
            assert (answer.status, answer.fields["x-sentinel-reason"]) == (400, "untranslatable")
        assert not origin.heads


@pytest.mark.parametrize("path", [MESSAGES, "/llm/v1/messages/count_tokens"])
def test_what_is_in_the_providers_dialect_passes_as_it_is(tmp_path: Path, path: str) -> None:
    provider = Provider(whole(MESSAGE))
    parts = {"route": "inference", "upstream": FOREIGN}
    with scripted(provider) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        body = b' {"model" : "m", "max_tokens":1, "messages":[]}'
        assert ask(worker, path, body).body == json.dumps(MESSAGE).encode() and provider.bodies == [body]
        assert Client(worker.port).get("/llm/v1/models").status == 200 and origin.heads[1].startswith(b"GET /llm/v1/m")


@pytest.mark.directive(
    "upstream/provider/translate/max-tokens", "upstream/provider/translate/leave-out",
    "route/models/model/provider/translate/max-tokens", "route/models/model/provider/translate/leave-out",
)  # fmt: skip
def test_the_cap_and_the_hints_are_the_operators(tmp_path: Path) -> None:
    provider = Provider(whole(MESSAGE))
    with between(tmp_path, '"anthropic"', provider, how='max-tokens 77; leave-out "seed" "store";') as (worker, _):
        assert ask(worker, CHAT, {"model": "m", "messages": HELLO, "seed": 1, "store": True}).status == 200
        assert json.loads(provider.bodies[0]) == {"model": "m", "max_tokens": 77, "messages": HELLO}
        assert steps(worker)["translated"][2] == "$.seed, $.store"
        assert ask(worker, CHAT, {**ASKED, "seed": 1, "n": 2}).status == 400


# -- what goes wrong on the way back


@pytest.mark.parametrize(("status", "shown"), [
    ("400 Bad Request", 400), ("401 Unauthorized", 401), ("429 Too Many Requests", 429), ("529 Overloaded", 503),
])  # fmt: skip
def test_the_providers_errors_are_said_in_the_clients_dialect(tmp_path: Path, status: str, shown: int) -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "because"}}
    provider = Provider(whole(error, status, JSON + "retry-after: 7\r\n"))
    with between(tmp_path, '"anthropic"', provider) as (worker, _):
        answer = ask(worker, CHAT, {**ASKED, "stream": True})
        assert answer.status == shown and answer.fields["retry-after"] == "7" and spent(worker) == 0
        assert json.loads(answer.body)["error"]["message"] == "because"
        assert worker.log(1)[0]["status"] == shown


def test_an_error_page_of_somebody_else_is_an_error_too(tmp_path: Path) -> None:
    page = whole(b"<html>", "502 Bad Gateway", "content-type: text/html\r\n")
    with between(tmp_path, '"openai"', Provider(page)) as (worker, _):
        answer = ask(worker, MESSAGES, ASKED)
        assert answer.status == 502 and json.loads(answer.body)["type"] == "error"


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
BROKEN = {**COMPLETION, "choices": [{"message": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}
ENCODED = whole(gzip.compress(json.dumps(COMPLETION).encode()), fields=JSON + "content-encoding: gzip\r\n")


@pytest.mark.parametrize(("pieces", "why", "is_charged"), [
    ([ENCODED], "encoded", 35),
    ([whole(BROKEN)], "$.choices[0].message.tool_calls[0].function.arguments", 35),
    ([whole(b"{")], "not JSON", None),
    ([whole(b" " * (4 << 20) + b" ")], "too large", None),
], ids=["encoded", "arguments", "no JSON", "too large"])  # fmt: skip
def test_an_answer_that_cannot_be_said_is_502_and_charged(
    tmp_path: Path, pieces: list[bytes], why: str, is_charged: int | None
) -> None:
    with between(tmp_path, '"openai"', Provider(*pieces), 'circuit-breaker { failures 1; }') as (worker, _):
        for _ in range(2):
            answer = ask(worker, MESSAGES, ASKED)
            assert (answer.status, answer.fields["x-sentinel-reason"]) == (502, "answer-untranslatable")
            assert why in json.loads(answer.body)["error"]["message"]
        assert why in steps(worker)["answer-untranslatable"][0], "and no breaker opens for what a model says"
        assert spent(worker) == 2 * is_charged if is_charged else spent(worker) > 100, "what was put aside"


@pytest.mark.parametrize("pieces", [
    [whole(MESSAGE)[:-9]], chunked(json.dumps(MESSAGE).encode(), 9, "application/json")[:4],
    [*chunked(b"{}", 9, "application/json")[:1], b"zz\r\n"],
], ids=["short", "no last chunk", "a bad chunk"])  # fmt: skip
def test_an_answer_that_breaks_off_while_it_is_collected_is_refused_in_the_clients_dialect(
    tmp_path: Path, pieces: list[bytes]
) -> None:
    def breaks(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        for piece in pieces:
            conversation.send(piece)
        conversation.connection.close()

    with between(tmp_path, '"anthropic"', breaks) as (worker, _):
        answer = ask(worker, CHAT, ASKED)
        assert answer.status == 502 and json.loads(answer.body)["error"]["type"] == "server_error"


def test_an_answer_that_stalls_while_it_is_collected_times_out(tmp_path: Path) -> None:
    def stalls(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.send(whole(MESSAGE)[:-9])
        conversation.rest()

    with between(tmp_path, '"anthropic"', stalls, 'timeouts { idle "200ms"; }') as (worker, _):
        answer = ask(worker, CHAT, ASKED)
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "upstream-idle-timeout")


@pytest.mark.parametrize(("name", "message"), [
    ("anthropic-error-later", "Overloaded"), ("cut", "before the answer was complete"), ("odd", "cannot be said"),
])  # fmt: skip
def test_a_stream_that_goes_wrong_ends_with_an_error(tmp_path: Path, name: str, message: str) -> None:
    odd = b'data: {"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use"}}\n\n'
    octets = {"cut": transcript("anthropic")[:500], "odd": odd}.get(name) or transcript(name)
    with between(tmp_path, '"anthropic"', Provider(*chunked(octets, 90))) as (worker, _):
        answer = ask(worker, CHAT, {**ASKED, "stream": True})
        *_, last = [line for line in answer.body.splitlines() if line]
        assert message in json.loads(last[6:])["error"]["message"] and b"[DONE]" not in answer.body
        assert ("answer-untranslatable" in steps(worker)) == (name != "anthropic-error-later")
        closed(worker)


def test_a_try_that_fails_is_followed_by_another_in_the_same_words(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def moody(conversation: Conversation) -> None:
        seen.append(conversation.body(conversation.head()))
        conversation.send(whole(MESSAGE, "503 X" if len(seen) == 1 else "200 OK"))

    parts = {
        "filters": 'token-budget "one" { tokens 1000000; key "all"; }', "upstream": FOREIGN,
        "route": 'filters "one"\ninference\nretry { on "503"; unsafe-methods true; backoff "0s"; }',
    }  # fmt: skip
    with scripted(moody) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        assert ask(worker, CHAT, ASKED).status == 200
        assert seen[0] == seen[1] and origin.heads[0].split()[1] == origin.heads[1].split()[1]
        assert spent(worker) == 35


# -- before anything is sent


@pytest.mark.parametrize(("parts", "problem"), [
    ({"upstream": FOREIGN}, "`translate` has no effect: no route with `inference` leads here"),
    ({"upstream": "provider { translate; }", "route": "inference"}, "`translate` has no effect without `dialect`"),
    ({"upstream": 'provider { dialect "openai"; translate { max-tokens 5; }; }', "route": "inference"},
     "`max-tokens` has no effect"),
    ({"upstream": 'provider { dialect "gemini"; translate; }', "route": "inference"}, "nothing is translated"),
])  # fmt: skip
def test_what_would_not_work_is_refused(tmp_path: Path, parts: dict[str, str], problem: str) -> None:
    loaded = load_text(written(tmp_path, 80, origin=81, **parts))
    assert loaded.plan is None and problem in render_problems(loaded.problems)


LINE = 'request "POST http://a.example/foreign/v1/{}" {{ header "authorization" "Bearer k"; }}; expect {{ {} }}'


@pytest.mark.directive("case/state/untranslatable")
def test_a_rehearsal_knows_what_is_translated(tmp_path: Path) -> None:
    sent = 'upstream-header "x-api-key" "k"; upstream-header "anthropic-version" "2023-06-01"'
    assert holds(LINE.format("chat/completions", f'upstream "claude"; step "translated"; {sent};'))
    assert holds(LINE.format("messages", 'upstream "claude"; no-upstream-header "x-api-key";'))
    assert holds(LINE.format("embeddings", 'status 400; reason "untranslatable";'))
    state = 'state { untranslatable "$.seed"; }; '
    assert holds(state + LINE.format("chat/completions", 'status 400; reason "untranslatable";'))
    assert holds(state + 'state { untranslatable ""; }; ' + LINE.format("chat/completions", 'upstream "claude";'))
    assert holds(state + LINE.format("messages", 'upstream "claude";'))




def test_a_model_that_fails_is_replaced_by_one_in_the_other_dialect(tmp_path: Path) -> None:
    """And back: what each provider gets is in its own words, and the client hears only its own."""
    seen: list[bytes] = []

    def both(conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            conversation.body(head)
            seen.append(head.split()[1])
            is_claude = head.startswith(b"POST /llm/v1/messages")
            conversation.send(whole(MESSAGE, "529 Overloaded") if is_claude else whole(COMPLETION))

    lines = """
        model "claude-x" { upstream "origin"; fallback "gpt-x"; provider { dialect "anthropic"; translate; }; }
        model "gpt-x" { upstream "origin"; provider { dialect "openai"; translate; }; }
    """
    with scripted(both) as origin, serving(
        tmp_path, origin=origin.port, route=f"inference\nmodels {{ {lines} }}"
    ) as worker:
        answer = ask(worker, CHAT, {**ASKED, "model": "claude-x"})
        assert answer.status == 200 and json.loads(answer.body) == COMPLETION
        answer = ask(worker, MESSAGES, {**ASKED, "model": "claude-x"})
        assert json.loads(answer.body)["content"] == MESSAGE["content"]
        assert seen == [b"/llm/v1/messages", b"/llm/v1/chat/completions"] * 2
        assert not worker.region.budgets()
