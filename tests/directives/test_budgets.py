"""Token budgets, as clients of language models meet them: a real worker, and a model that says what it took."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anthropic
import bpe_openai
import brotli
import openai
import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.plan import Plan
from sentinel.core.record import decode
from sentinel.explain.assumed import Assumed
from shm.region import Counter, Role
from tests.directives.house import serving, written
from tests.directives.test_cases import holds, refused
from tests.workers.child import Answer, Client, Worker, wait_until
from tests.workers.origin import Conversation, Gone, Origin, fields_of, scripted
from workers.rehearsal import House, read_question

CHAT = "/v1/chat/completions"
PROXIED = {"listener": 'trusted-proxies "127.0.0.0/8"'}


def usage(read: int, made: int) -> bytes:
    """An answer of OpenAI's chat that took so much."""
    told = {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
    said = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return json.dumps({"model": "m", "choices": [said], "usage": told}).encode()


class Model:
    """An origin that answers each request with the next of these bodies, the last one again and again."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers) or [usage(10, 20)]
        self.bodies: list[bytes] = []

    def __call__(self, conversation: Conversation) -> None:
        while True:
            self.bodies.append(conversation.body(conversation.head()))
            body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            conversation.answer(body, "HTTP/1.1 200 OK\r\ncontent-type: application/json")


@contextmanager
def governed(
    directory: Path, *budget: str, inference: str = "", model: Any = None, **parts: str
) -> Iterator[tuple[Worker, Origin]]:
    """A worker whose last route has the token budget `one`."""
    lines = "\n".join(budget)
    parts |= {
        "filters": f'token-budget "one" {{\n{lines}\n}}',
        "route": f'filters "one"\ninference {{\n{inference}\n}}',
    }
    with scripted(model or Model()) as origin, serving(directory, origin=origin.port, **parts) as worker:
        yield worker, origin


def ask(client: Client, *fields: str, path: str = CHAT, cap: int | None = 50, body: bytes | None = None) -> Answer:
    document: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    if cap is not None:
        document["max_tokens"] = cap
    octets = json.dumps(document).encode() if body is None else body
    lines = "".join(f"{field}\r\n" for field in (*fields, f"Content-Length: {len(octets)}"))
    client.send(f"POST {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode() + octets)
    return client.answer()


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.fields.get("x-sentinel-reason", "")


def left(answer: Answer) -> int:
    return int(answer.fields["ratelimit"].partition(";r=")[2].partition(";")[0])


def settled(worker: Worker) -> list[tuple[str, int, int]]:
    """Of each window: its parts, what is spent, what is open."""
    found = worker.region.budgets()
    return sorted((str(json.loads(one.title)[2:]), one.settled, one.open) for one in found)


def closed(worker: Worker) -> list[tuple[str, int]]:
    """The same, once nothing is open."""
    wait_until(lambda: all(opened == 0 for _, _, opened in settled(worker)), "nothing is put aside any more")
    return [(parts, spent) for parts, spent, _ in settled(worker)]


EXHAUSTED = (429, "budget-exhausted")


@pytest.mark.directive("token-budget", "token-budget/tokens")
def test_what_was_taken_is_taken_from_the_budget_and_not_what_was_put_aside(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 100", model=Model(usage(10, 20), usage(30, 5))) as (worker, origin):
        client = Client(worker.port)
        first = ask(client)
        assert first.status == 200 and json.loads(first.body)["usage"]["total_tokens"] == 30
        assert 30 < left(first) < 50, "50 of output and what the input may be"
        assert first.fields["ratelimit-policy"] == '"one";q=100;qu="tokens";w=86400'
        assert closed(worker) == [("['127.0.0.1/32']", 30)], "as reported"
        assert ask(client).status == 200
        assert closed(worker) == [("['127.0.0.1/32']", 65)]
        last = ask(client)
        assert said(last) == EXHAUSTED and left(last) == 35
        assert last.fields["x-should-retry"] == "false" and 0 < int(last.fields["retry-after"]) <= 86400
        error = json.loads(last.body)["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "budget-exhausted")
        assert ask(client, cap=10).status == 200, "who asks for less may"
        assert len(origin.heads) == 3, "who was refused never came there"
        assert closed(worker) == [("['127.0.0.1/32']", 100)], "the last one took more than it had asked for"
        assert worker.counter(Counter.BUDGETS_OVERDRAWN) > 0, "and that is counted"
        assert worker.log(4)[2]["reason"] == "budget-exhausted"


def test_what_is_larger_than_a_whole_window_never_fits(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 100") as (worker, origin):
        answer = ask(Client(worker.port), cap=101)
        assert said(answer) == (413, "larger-than-budget")
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
        anthropic = ask(Client(worker.port), path="/v1/messages", cap=101)
        assert json.loads(anthropic.body)["error"]["type"] == "request_too_large"
        assert not origin.heads and settled(worker) == []


@pytest.mark.directive("token-budget/key")
@pytest.mark.parametrize(
    ("key", "mine", "others"),
    [
        ('key "header:x-tenant"', "X-Tenant: a", "X-Tenant: b"),
        ('key "header:x-tenant" "route"', "X-Tenant: a", "X-Tenant: b"),
        ("", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"),
        ('key "all"', "X-Forwarded-For: 192.0.2.1", None),
    ],
)
def test_each_value_of_the_key_has_its_own_budget(tmp_path: Path, key: str, mine: str, others: str | None) -> None:
    with governed(tmp_path, "tokens 70", key, **PROXIED) as (worker, _):
        client = Client(worker.port)
        assert ask(client, mine).status == 200
        assert said(ask(client, mine)) == EXHAUSTED
        assert said(ask(client, others or "X-Forwarded-For: 192.0.2.9")) == ((200, "") if others else EXHAUSTED)


@pytest.mark.directive("token-budget/ipv4-prefix", "token-budget/ipv6-prefix")
@pytest.mark.parametrize(("same", "other"), [("192.0.2.7", "198.51.100.1"), ("2001:db8::7", "2001:db9::1")])
def test_clients_of_one_network_share_a_budget(tmp_path: Path, same: str, other: str) -> None:
    first = "192.0.2.1" if "." in same else "2001:db8:1::1"
    with governed(tmp_path, "tokens 70", "ipv4-prefix 24", "ipv6-prefix 32", **PROXIED) as (worker, _):
        client = Client(worker.port)
        assert ask(client, f"X-Forwarded-For: {first}").status == 200
        assert said(ask(client, f"X-Forwarded-For: {same}")) == EXHAUSTED
        assert ask(client, f"X-Forwarded-For: {other}").status == 200


@pytest.mark.directive("token-budget/exempt")
def test_clients_of_exempt_networks_are_counted_nowhere(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 70", 'exempt "192.0.2.0/24"', **PROXIED) as (worker, _):
        client = Client(worker.port)
        assert [ask(client, "X-Forwarded-For: 192.0.2.1").status for _ in range(4)] == [200] * 4
        assert settled(worker) == []
        assert [ask(client).status for _ in range(2)] == [200, 429]


@pytest.mark.directive("token-budget/per", "token-budget/time-zone")
@pytest.mark.parametrize(("per", "zone"), [("hour", "UTC"), ("day", "UTC"), ("day", "Asia/Kolkata"), ("week", "UTC")])
def test_a_window_ends_when_the_clock_of_its_zone_says_so(tmp_path: Path, per: str, zone: str) -> None:
    with governed(tmp_path, "tokens 100", f'per "{per}"', f'time-zone "{zone}"') as (worker, _):
        before = datetime.now(ZoneInfo(zone))
        answer = ask(Client(worker.port))
        left_s = int(answer.fields["ratelimit"].partition(";t=")[2])
        ends = {
            "hour": before.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1),
            "day": before.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1),
            "week": before.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=7 - before.weekday()),
        }
        assert abs(ends[per].timestamp() - before.timestamp() - left_s) < 5
        (window,) = worker.region.budgets()
        assert window.until_ns / 1e9 - time.monotonic() == pytest.approx(left_s, abs=5)


@pytest.mark.directive("token-budget/rolling")
def test_a_window_that_rolls_counts_what_was_spent_in_the_last_minute(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 100", 'rolling "1m"', model=Model(usage(10, 50))) as (worker, _):
        client = Client(worker.port)
        first = ask(client)
        assert first.fields["ratelimit-policy"] == '"one";q=100;qu="tokens";w=60'
        ((_, spent),) = closed(worker)
        assert spent == 60 and said(ask(client)) == EXHAUSTED and left(ask(client, cap=10)) < 30


def test_steps_of_a_window_that_rolls_count_for_as_long_as_it_is(tmp_path: Path) -> None:
    lines = "tokens 100", 'rolling "1m"', 'key "header:x-tenant"'
    with governed(tmp_path, *lines, model=Model(usage(1, 1))) as (worker, _):
        region, now_s = worker.region, int(time.time()) // 2 * 2
        for tenant, back, amount in (("near", 40, 90), ("far", 100, 90)):
            key = json.dumps(["one", now_s - back, tenant], separators=(",", ":")).encode()
            term = b"".join(word.to_bytes(8, "little") for word in (time.monotonic_ns() + 10**11, amount, 1000, 0))
            region.reserve(worker.slot, time.monotonic_ns(), (key,), term)
        assert said(ask(Client(worker.port), "X-Tenant: near")) == EXHAUSTED
        assert left(ask(Client(worker.port), "X-Tenant: near", cap=1)) < 10
        assert said(ask(Client(worker.port), "X-Tenant: far")) == (200, "")


@pytest.mark.directive("token-budget/rollover")
def test_what_was_not_used_of_the_last_window_is_added(tmp_path: Path) -> None:
    lines = "tokens 100", 'rollover "50%"', 'key "header:x-tenant"'
    with governed(tmp_path, *lines, model=Model(usage(1, 1))) as (worker, _):
        region, today_s = worker.region, int(time.time()) // 86400 * 86400
        for tenant, used in (("saver", 80), ("spender", 100)):
            key = json.dumps(["one", today_s - 86400, tenant], separators=(",", ":")).encode()
            term = b"".join(word.to_bytes(8, "little") for word in (time.monotonic_ns() + 10**14, used, 1000, 0))
            _, _, _, lease = region.reserve(worker.slot, time.monotonic_ns(), (key,), term)
            region.settle(worker.slot, lease, used, used, 1)
        caps = {"new": 130, "saver": 100, "spender": 80}
        for tenant, cap in caps.items():
            answer = ask(Client(worker.port), f"X-Tenant: {tenant}", cap=cap)
            assert answer.status == 200, "100, and 50, 20 and none of the last window"
            assert said(ask(Client(worker.port), f"X-Tenant: {tenant}", cap=cap + 30)) != (200, "")
        assert said(ask(Client(worker.port), "X-Tenant: spender", cap=101)) == EXHAUSTED
        assert said(ask(Client(worker.port), "X-Tenant: new", cap=151)) == (413, "larger-than-budget")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('rolling "1h"; per "day"', "`per` has no effect where the window rolls"),
        ('rolling "1h"; rollover "5%"', "`rollover` has no effect where the window rolls"),
        ('rolling "32d"', "of 31 days at most"),
        ('rolling "90500ms"', "of whole seconds"),
    ],
)
def test_windows_that_cannot_be_are_refused(tmp_path: Path, lines: str, told: str) -> None:
    loaded = load_text(written(tmp_path, 1, filters=f'token-budget "one" {{ tokens 10; {lines}; }}'))
    assert loaded.plan is None and told in render_problems(loaded.problems)


@pytest.mark.directive("token-budget/on-limit")
def test_one_that_observes_refuses_nobody_and_says_what_it_would(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 70", 'on-limit "observe"') as (worker, _):
        client = Client(worker.port)
        assert [ask(client).status for _ in range(3)] == [200] * 3
        assert "ratelimit" not in ask(client, cap=1000).fields
        assert closed(worker) == [("['127.0.0.1/32']", 120)]


@pytest.mark.directive("token-budget/warn-at", "token-budget/warn-at@header")
@pytest.mark.parametrize("header", [True, False])
def test_a_threshold_that_is_passed_is_told(tmp_path: Path, header: bool) -> None:
    warn = f"warn-at 60 90 header={'true' if header else 'false'}"
    with governed(tmp_path, "tokens 100", warn) as (worker, _):
        client = Client(worker.port)
        answers = [ask(client, cap=cap) for cap in (20, 40, 5)]
        told = [answer.fields.get("x-sentinel-budget-warning") for answer in answers]
        assert [answer.status for answer in answers] == [200] * 3
        assert told == ([None, '"one";at=60', '"one";at=60'] if header else [None] * 3)
        assert said(ask(client, cap=50)) == EXHAUSTED, "who is refused is told that"
        assert worker.counter(Counter.BUDGETS_WARNED) == 2
        wait_until(lambda: len(list(worker.region.journal_read(worker.slot))) == 4, "all are in the journal")
        steps = [step for one in worker.region.journal_read(worker.slot) for step in decode(one).steps]
        warned = [step.details for step in steps if step.reason == "budget-warned"]
        assert [(one[0], one[2], one[3]) for one in warned] == [("one", "100", "60%")] * 2


def test_a_threshold_that_nobody_passes_is_refused(tmp_path: Path) -> None:
    text = written(tmp_path, 1, filters='token-budget "one" { tokens 10; warn-at 80 101; }')
    loaded = load_text(text)
    assert loaded.plan is None and "no more than 100% of `one`" in render_problems(loaded.problems)


@pytest.mark.directive("token-budget/when-full")
@pytest.mark.parametrize(("when", "found"), [("admit", (200, "")), ("reject", (503, "budgets-full"))])
def test_a_full_table_admits_uncounted_or_refuses(tmp_path: Path, when: str, found: tuple[int, str]) -> None:
    with governed(tmp_path, "tokens 100", f'when-full "{when}"') as (worker, _):
        region = worker.region
        other = region.claim_slot(pid=os.getpid(), birth_ns=0, role=Role.WORKER, generation=7, lane=1)
        until_ns = time.monotonic_ns() + 10**15
        term = b"".join(word.to_bytes(8, "little") for word in (until_ns, 1, 100, 0))
        for number in range(4 * region.budgets_statistics().budgets_max):
            region.reserve(other, time.monotonic_ns(), (b'["other",0,"%d"]' % number,), term)
        assert said(ask(Client(worker.port))) == found
        assert not any(one.title.startswith(b'["one"') for one in region.budgets())


@pytest.mark.directive("route/inference/default-output-tokens")
def test_a_request_without_a_bound_puts_the_default_aside(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000", inference="default-output-tokens 600") as (worker, _):
        assert 380 < left(ask(Client(worker.port), cap=None)) < 400
        two = b'{"model":"m","n":2,"messages":[]}'
        assert said(ask(Client(worker.port), body=two)) == (413, "larger-than-budget"), "for each answer"


@pytest.mark.directive("route/inference/max-body-size")
def test_a_body_that_is_too_large_to_be_kept_is_refused(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000", inference='max-body-size "2KiB"') as (worker, origin):
        assert said(ask(Client(worker.port), body=b"x" * 2049)) == (413, "body-too-large")
        chunked = "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = Client(worker.port).send(chunked).send(b"500\r\n" + b" " * 0x500 + b"\r\n")
        client.send(b"500\r\n" + b" " * 0x500 + b"\r\n0\r\n\r\n")
        assert said(client.answer()) == (413, "body-too-large")
        assert not origin.heads
        assert ask(Client(worker.port)).status == 200


@pytest.mark.directive("route/inference/family", "route/inference/unrecognised")
@pytest.mark.parametrize(
    ("inference", "path", "body", "found"),
    [
        ("", CHAT, None, (200, "")),
        ("", "/v1/other", None, (400, "inference-unknown")),
        ("", CHAT, b'{"model":"m","model":"n","messages":[]}', (400, "inference-malformed")),
        ("", CHAT, b"\x1f\x8b", (400, "inference-malformed")),
        ('family "anthropic"', CHAT, None, (400, "inference-unknown")),
        ('family "anthropic"', "/v1/messages", None, (200, "")),
        ('unrecognised "admit"', "/v1/other", None, (200, "")),
        ('unrecognised "admit"', CHAT, b"{", (200, "")),
    ],
)
def test_what_cannot_be_counted_does_not_pass_by_a_budget(
    tmp_path: Path, inference: str, path: str, body: bytes | None, found: tuple[int, str]
) -> None:
    model = Model()
    with governed(tmp_path, "tokens 1000", inference=inference, model=model) as (worker, _):
        assert said(ask(Client(worker.port), path=path, body=body)) == found
        assert Client(worker.port).get("/v1/models").status == 200, "what costs nothing passes"
        upgrade = Client(worker.port).get("/v1/realtime", "Connection: upgrade", "Upgrade: websocket")
        assert upgrade.status == (200 if "admit" in inference else 400), "what might cost and cannot be read"
        if body is not None and found[0] == 200:
            assert model.bodies[0] == body, "as it came"


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ('filters "one"\nupstream "origin"', "the route does not say that it is for language models"),
        ("inference\nrespond 200", "`inference` has no effect where nothing is forwarded"),
        ('inference\nupstream "origin"\nshadow "origin"', "copies of requests to language models"),
        ('inference { unrecognised "admit"; }\nupstream "origin"', "`unrecognised` has no effect"),
        ('inference { max-body-size "2KiB"; }\nmax-body-size "1KiB"\nupstream "origin"', "has another `max-body-size`"),
        ('filters "onee"\ninference\nupstream "origin"', "did you mean `one`?"),
    ],
)
def test_what_would_not_be_obeyed_is_refused(tmp_path: Path, route: str, said: str) -> None:
    more = f'route "more" {{ matches {{ path "/more"; }}\n{route}\n }}'
    text = written(tmp_path, 1, routes=more, filters='token-budget "one" { tokens 10; }')
    loaded = load_text(text)
    assert loaded.plan is None and said in render_problems(loaded.problems)


def test_a_zone_that_there_is_not_is_refused(tmp_path: Path) -> None:
    loaded = load_text(written(tmp_path, 1, filters='token-budget "one" { tokens 10; time-zone "Mars/Base"; }'))
    assert loaded.plan is None and "no time zone `Mars/Base`" in render_problems(loaded.problems)


LLM = 'request "POST http://a.example/llm/v1/chat/completions"'


@pytest.mark.directive(
    "case/state/spent", "case/state/spent@tokens", "case/state/tokens", "case/state/tokens@input",
    "case/state/tokens@output",
)  # fmt: skip
def test_a_test_says_what_is_spent_and_what_is_asked_for() -> None:
    spent = 'state {{ spent "tokens" "acme" tokens={}; tokens input=60 output=40; }}; '
    tenant = LLM + ' { header "x-t" "acme"; }; '
    assert holds(spent.format(900) + tenant + 'expect { upstream "api"; step "within-budget"; }')
    assert holds(spent.format(901) + tenant + 'expect { status 429; reason "budget-exhausted"; header "retry-after"; }')
    assert holds(spent.format(901) + LLM + '; expect { upstream "api"; }'), "of another tenant"
    assert holds("state { tokens input=1 output=1000; }; " + tenant + "expect { status 413; }")
    assert holds("state { tokens input=600; }; " + tenant + tenant + "expect { status 429; }"), "it stays put aside"
    assert holds('request "POST http://a.example/llm/v1/images"; expect { reason "inference-unknown"; }')
    assert holds('request "GET http://a.example/llm/v1/models"; expect { upstream "api"; }')
    assert "did you mean `tokens`?" in refused('state { spent "token" "acme"; }; ' + LLM + "; expect { status 429; }")
    assert "has 1 parts" in refused('state { spent "tokens"; }; ' + LLM + "; expect { status 429; }")


# Ends of exchanges: whatever happens, nothing stays put aside, and what was taken is settled.

EVENT = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
STREAM = b'{"model":"m","stream":true,"max_tokens":500,"messages":[{"role":"user","content":"hello"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
REPORT = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n\n'


def chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(octets), octets)


class Stream:
    """A model that streams words until it is told how to end."""

    def __init__(self, words: int, end: str) -> None:
        self.words = words
        self.end = end
        self.body = b""
        self.go = threading.Event()

    def __call__(self, conversation: Conversation) -> None:
        head = conversation.head()
        self.body = conversation.body(head)
        assert fields_of(head)["accept-encoding"] == "identity", "what is edited must be readable"
        if self.end == "mute":
            conversation.rest()
            return
        conversation.send(HEAD + b"".join([chunk(EVENT % b"words and more") for _ in range(self.words)]))
        if self.end == "reported":
            conversation.send(chunk(REPORT) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        elif self.end == "silent":
            conversation.rest()
        else:
            assert self.go.wait(20)
            conversation.reset()


def streaming(worker: Worker) -> Client:
    lines = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\nContent-Length: {len(STREAM)}\r\n\r\n"
    return Client(worker.port).send(lines.encode() + STREAM)


def taken(worker: Worker, reason: str) -> list[str]:
    """What the record of the only exchange says of what it took."""
    wait_until(lambda: worker.log(1), "it is written down")  # which comes after it was settled
    (found,) = worker.region.journal_read(worker.slot)
    (step,) = (one for one in decode(found).steps if one.reason == reason)
    return list(step.details)


def words(client: Client, count: int) -> None:
    """Read until so many pieces of text have come."""
    while client.buffer.count(b"words and more") < count:
        client.buffer += client.socket.recv(65536)


def test_usage_is_asked_for_and_taken_out_again(tmp_path: Path) -> None:
    model = Stream(3, "reported")
    with governed(tmp_path, "tokens 1000", model=model) as (worker, _):
        answer = streaming(worker).answer()
        assert answer.body == EVENT % b"words and more" * 3 + b"data: [DONE]\n\n", "what the client did not ask for"
        asked = json.loads(model.body)
        assert asked.pop("stream_options") == {"include_usage": True} and asked == json.loads(STREAM)
        assert closed(worker) == [("['127.0.0.1/32']", 16)]
        counters = worker.region.totals().counters
        assert (counters[Counter.INFERENCE_INPUT_TOKENS], counters[Counter.INFERENCE_OUTPUT_TOKENS]) == (7, 9)
        assert taken(worker, "tokens-reported") == ["m", "7", "9"]


@pytest.mark.parametrize(("end", "least", "most"), [("silent", 100, 500), ("mute", 0, 0)])
def test_who_leaves_has_taken_what_had_passed(tmp_path: Path, end: str, least: int, most: int) -> None:
    with governed(tmp_path, "tokens 1000", model=Stream(30, end)) as (worker, origin):
        client = streaming(worker)
        wait_until(lambda: origin.heads, "the model is asked")
        if end == "silent":
            client.head()
            words(client, 29)
        client.close()
        wait_until(lambda: worker.log(1), "it is over")
        ((_, spent),) = closed(worker)
        assert least <= spent <= most


def test_a_stream_that_breaks_has_taken_what_had_passed(tmp_path: Path) -> None:
    model = Stream(30, "breaks")
    with governed(tmp_path, "tokens 1000", model=model) as (worker, _):
        client = streaming(worker)
        words(client, 30)
        model.go.set()
        with pytest.raises((EOFError, ConnectionError)):
            client.answer()
        ((_, spent),) = closed(worker)
        assert 100 <= spent < 500
        assert worker.counter(Counter.INFERENCE_COUNTED) == 1
        model_name, read, made, why = taken(worker, "tokens-counted")
        assert (model_name, why) == ("m", "cut") and int(read) + int(made) == spent


@pytest.mark.parametrize(("tokens", "is_overdrawn"), [(100_000, False), (600, True)])
def test_a_stream_that_outgrows_what_was_put_aside_reserves_more_or_overdraws(
    tmp_path: Path, tokens: int, is_overdrawn: bool
) -> None:
    with governed(tmp_path, f"tokens {tokens}", model=Stream(400, "silent")) as (worker, _):
        client = streaming(worker)
        client.head()
        words(client, 399)
        wait_until(lambda: settled(worker)[0][1] > 1000, "what was produced is settled while it goes on")
        assert settled(worker)[0][2] > 0, "and something stays put aside"
        assert (worker.counter(Counter.BUDGETS_OVERDRAWN) > 0) == is_overdrawn
        if is_overdrawn:
            assert said(ask(Client(worker.port), cap=500)) == EXHAUSTED
        client.close()
        closed(worker)
        if is_overdrawn:
            wait_until(lambda: len(worker.log(2)) == 2, "both are written down")
            told = [one for record in records(worker) for one in record if one[0] == "budget-overdrawn"]
            assert told == [("budget-overdrawn", "one")], "once"


def records(worker: Worker) -> list[list[tuple[str, ...]]]:
    """The steps of all exchanges, the oldest first."""
    found = worker.region.journal_read(worker.slot)
    return [[(step.reason, *map(str, step.details)) for step in decode(one).steps] for one in found]


class Flood:
    """A model that never stops, in pieces of `size` octets which do not end where events do."""

    def __init__(self, event: bytes, size: int, head: bytes = HEAD) -> None:
        self.octets = event * 1000  # more than a piece
        self.size = size
        self.head = head
        self.was_left = threading.Event()

    def __call__(self, conversation: Conversation) -> None:
        conversation.body(conversation.head())
        try:
            conversation.send(self.head)
            at = 0
            while True:
                conversation.send(chunk((self.octets * 2)[at : at + self.size]))
                at = (at + self.size) % len(self.octets)
        except Gone:
            self.was_left.set()


@pytest.mark.directive("token-budget/on-outgrown")
@pytest.mark.parametrize("size", [7, 1000, 60_000])
def test_a_stream_that_outgrows_its_budget_is_ended_after_an_event_where_that_is_wanted(
    tmp_path: Path, size: int
) -> None:
    model = Flood(EVENT % b"words and more", size)
    with governed(tmp_path, "tokens 600", 'on-outgrown "end"', model=model) as (worker, _):
        answer = streaming(worker).answer()
        *events, error, done, rest = answer.body.split(b"\n\n")
        assert set(events) == {(EVENT % b"words and more")[:-2]} and (done, rest) == (b"data: [DONE]", b"")
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "budget-outgrown"
        assert model.was_left.wait(10), "the provider is not kept at work"
        ((_, spent),) = closed(worker)
        assert 4 * len(events) <= spent < 5 * len(events) + 50, "what had come is paid, and no more"
        line = worker.log(1)[0]
        assert (line["status"], line["reason"], line["output_tokens"] > 0) == (200, "budget-outgrown", True)
        assert ("budget-outgrown", "one") in records(worker)[0]
        assert said(ask(Client(worker.port))) == EXHAUSTED


def test_the_end_of_a_stream_is_an_error_to_the_providers_clients(tmp_path: Path) -> None:
    claude = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"words and more"}}\n\n'
    )
    start = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
             "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}}  # fmt: skip
    begin = b"event: message_start\ndata: " + json.dumps({"type": "message_start", "message": start}).encode()
    begin += b'\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,'
    begin += b'"content_block":{"type":"text","text":""}}\n\n'
    limits = "tokens 600", 'on-outgrown "end"'
    with governed(tmp_path, *limits, model=Flood(claude, 1000, HEAD + chunk(begin))) as (worker, _):
        url = f"http://127.0.0.1:{worker.port}"
        with anthropic.Anthropic(api_key="x", base_url=url, max_retries=0) as client, pytest.raises(
            anthropic.APIStatusError, match="budget-outgrown"
        ), client.messages.stream(
            model="m", max_tokens=50, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            assert all(text == "words and more" for text in stream.text_stream)
    event = EVENT % b"words and more"
    with governed(tmp_path / "openai", *limits, model=Flood(event, 1000)) as (worker, _):
        url = f"http://127.0.0.1:{worker.port}/v1"
        with openai.OpenAI(api_key="x", base_url=url, max_retries=0) as client, pytest.raises(openai.APIError) as error:
            list(client.chat.completions.create(
                model="m", max_tokens=50, stream=True, messages=[{"role": "user", "content": "hi"}]
            ))  # fmt: skip
        assert error.value.code == "budget-outgrown"


def test_a_stream_that_cannot_be_ended_is_cut(tmp_path: Path) -> None:
    packed = gzip.compress(EVENT % b"words and more" * 4000, 0)
    head = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    model = Flood(packed[:200_000], 9000, head)
    with governed(tmp_path, "tokens 600", 'on-outgrown "end"', model=model) as (worker, _):
        with pytest.raises((EOFError, ConnectionError)):
            streaming(worker).answer()
        assert worker.log(1)[0]["reason"] == "budget-outgrown"
        closed(worker)


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_answer_that_is_no_success_takes_nothing(tmp_path: Path, status: int) -> None:
    def ill(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.answer(usage(10, 20), f"HTTP/1.1 {status} X")

    with governed(tmp_path, "tokens 1000", model=ill) as (worker, _):
        assert ask(Client(worker.port)).status == status
        assert closed(worker) == [("['127.0.0.1/32']", 0)]


def test_no_endpoint_takes_nothing(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000", endpoints='endpoint "127.0.0.1:1"') as (worker, _):
        answer = ask(Client(worker.port))
        assert answer.status == 502 and json.loads(answer.body)["error"]["type"] == "server_error"
        assert closed(worker) == [("['127.0.0.1/32']", 0)]


def test_a_request_that_is_tried_again_is_charged_once(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def moody(conversation: Conversation) -> None:
        seen.append(conversation.body(conversation.head()))
        conversation.answer(usage(10, 20), "HTTP/1.1 503 X" if len(seen) == 1 else "HTTP/1.1 200 OK")

    retry = 'retry { on "503"; unsafe-methods true; backoff "0s"; }'
    parts = {
        "filters": 'token-budget "one" { tokens 100; }', "route": f'filters "one"\ninference\n{retry}',
    }  # fmt: skip
    with scripted(moody) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        assert ask(Client(worker.port)).status == 200
        assert len(seen) == 2 and seen[0] == seen[1]
        assert closed(worker) == [("['127.0.0.1/32']", 30)]


def test_a_drain_that_ends_a_stream_settles_it(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000", model=Stream(30, "silent")) as (worker, _):
        client = streaming(worker)
        client.head()
        words(client, 29)
        worker.drain(0.2)
        worker.wait()
        ((_, spent),) = closed(worker)
        assert 100 <= spent < 500


def test_who_expects_to_be_told_to_go_on_is_told(tmp_path: Path) -> None:
    with governed(tmp_path, "tokens 1000") as (worker, origin):
        lines = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {len(STREAM)}\r\n\r\n"
        client = Client(worker.port).send(lines)
        assert client.head()[0] == 100
        client.send(STREAM.replace(b"true", b"null"))
        assert client.answer().status == 200
        assert "expect" not in fields_of(origin.heads[0])
        assert "transfer-encoding" not in fields_of(origin.heads[0])


def rehearsed(plan: Plan, body: bytes) -> int:
    """What a dry run says that is put aside."""
    question = read_question(f"POST {CHAT}", ("host: h",), len(body), body)
    steps = House(plan).rehearse(plan.listeners[0], question, "127.0.0.1", Assumed(plan)).steps
    ((_, _, _, amount),) = (details for reason, _, details in steps if reason.word == "within-budget")
    return int(amount)  # type: ignore[call-overload, no-any-return]


@pytest.mark.directive("system/vocabularies")
def test_what_is_put_aside_is_counted_with_the_models_own_vocabulary_where_there_is_one(tmp_path: Path) -> None:
    texts = "a" * 900, "-" * 40_000, "\ud83d\ude00 <|endoftext|>"
    body = json.dumps({"model": "gpt-4o-mini", "max_tokens": 50, "messages": [
        {"role": "user", "content": text} for text in texts
    ]}).encode()  # fmt: skip
    encoding = bpe_openai.get_encoding("o200k_base")
    counted = sum(len(encoding.encode_ordinary(text)) for text in texts)
    for name, system in (("own", 'vocabularies "o200k"'), ("other", 'vocabularies "cl100k"'), ("none", "")):
        with governed(tmp_path / name, "tokens 100000", system=system) as (worker, _):
            put_aside = 100_000 - left(ask(Client(worker.port), body=body)) - 50
            assert put_aside == rehearsed(worker.plan, body) - 50, "and a dry run says so"
        if name == "own":
            assert counted <= put_aside <= counted + 8 * len(texts), "and how they are wrapped"
        else:
            assert put_aside > 2 * counted, "by the ratio of the first day"


def test_an_answer_in_brotli_is_looked_into_and_goes_on_as_it_is(tmp_path: Path) -> None:
    packed = brotli.compress(usage(10, 20))
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: br"
    asked: list[bytes] = []

    def model(conversation: Conversation) -> None:
        while True:
            asked.append(conversation.head())
            conversation.body(asked[-1])
            conversation.answer(packed, head)

    with governed(tmp_path, "tokens 1000", model=model) as (worker, _):
        answer = ask(Client(worker.port), "Accept-Encoding: zstd, br;q=0.9, gzip")
        assert answer.body == packed and answer.fields["content-encoding"] == "br"
        assert fields_of(asked[0])["accept-encoding"] == "br;q=0.9, gzip"
        assert closed(worker) == [("['127.0.0.1/32']", 30)]
