"""Limits of tokens in time, as clients of language models meet them: a real worker, and a model that counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text, render_problems
from shm.region import Role
from tests.directives.house import serving, written
from tests.directives.test_budgets import PROXIED, Model, Stream, ask, said, streaming, usage, words
from tests.directives.test_cases import holds, refused
from tests.workers.child import Answer, Client, Worker, wait_until
from tests.workers.origin import Origin, scripted

LIMITED = (429, "token-limited")


@contextmanager
def limited(directory: Path, *limit: str, model: Any = None, **parts: str) -> Iterator[tuple[Worker, Origin]]:
    """A worker whose last route has the token limit `one`; a bucket fills in an hour, so nothing comes back by time."""
    lines = "\n".join(limit)
    parts |= {"filters": f'token-limit "one" {{\n{lines}\n}}', "route": 'filters "one"\ninference'}
    with scripted(model or Model()) as origin, serving(directory, origin=origin.port, **parts) as worker:
        yield worker, origin


def left(answer: Answer, unit: str = "tokens") -> int:
    return int(answer.fields[f"x-ratelimit-remaining-{unit}"])


def drawn(worker: Worker) -> int:
    """How many tokens of 100,000 an hour the bucket of the only client lacks."""
    key = b"one tokens" + b"12:127.0.0.1/32"
    now_ns = time.monotonic_ns()
    return max(0, worker.region.peek(now_ns, key) - now_ns) * 100_000 // (3600 * 10**9)


def remaining(client: Client) -> int:
    """What is left, as a request of one token is told that takes nothing else."""
    return left(ask(client, cap=1))


@pytest.mark.directive("token-limit", "token-limit/tokens")
def test_the_most_is_taken_and_what_was_not_needed_comes_back(tmp_path: Path) -> None:
    with limited(tmp_path, 'tokens "100/h"', model=Model(usage(10, 20), usage(1, 1))) as (worker, _):
        client = Client(worker.port)
        first = ask(client)
        assert first.status == 200 and 30 < left(first) < 50, "50 of output and what the input may be"
        assert first.fields["x-ratelimit-limit-tokens"] == "100" and first.fields["x-ratelimit-reset-tokens"][-1] == "s"
        assert '"one";q=100;qu="tokens";w=3600' in first.fields["ratelimit-policy"]
        wait_until(lambda: 60 <= remaining(client) < 70, "30 were taken, and some for asking")
        refusal = ask(client, cap=90)
        assert said(refusal) == LIMITED and 1 < int(refusal.fields["retry-after"]) <= 3600
        assert left(refusal) > 0 and "x-should-retry" not in refusal.fields
        error = json.loads(refusal.body)["error"]
        assert (error["type"], error["code"]) == ("tokens", "token-limited")
        anthropic = ask(client, path="/v1/messages", cap=90)
        assert json.loads(anthropic.body)["error"]["type"] == "rate_limit_error"
        assert said(ask(client, cap=101)) == (413, "larger-than-token-limit")


def test_what_is_taken_beyond_is_charged(tmp_path: Path) -> None:
    with limited(tmp_path, 'tokens "1000/h"', model=Model(usage(200, 300), usage(0, 1))) as (worker, _):
        client = Client(worker.port)
        assert left(ask(client)) > 900
        wait_until(lambda: 400 < remaining(client) < 500, "it took 500")


@pytest.mark.parametrize("status", [400, 503])
def test_an_answer_that_is_no_success_takes_nothing(tmp_path: Path, status: int) -> None:
    def ill(conversation: Any) -> None:
        while True:
            conversation.body(conversation.head())
            conversation.answer(usage(10, 20), f"HTTP/1.1 {status} X")

    with limited(tmp_path, 'tokens "100/h"', model=ill) as (worker, _):
        client = Client(worker.port)
        assert [ask(client, cap=80).status for _ in range(3)] == [status] * 3


def test_a_stream_is_charged_as_it_outgrows_what_was_taken(tmp_path: Path) -> None:
    with limited(tmp_path, 'tokens "100000/h"', model=Stream(400, "silent")) as (worker, _):
        client = streaming(worker)
        client.head()
        words(client, 399)
        mine = worker.region.limits_statistics(time.monotonic_ns())
        assert mine.live == 1
        wait_until(lambda: drawn(worker) > 1000, "it is charged while it goes on")
        client.close()


@pytest.mark.directive("token-limit/burst", "token-limit/requests", "token-limit/request-burst")
@pytest.mark.parametrize(
    ("lines", "caps", "found"),
    [
        (['tokens "100/h"', "burst 300"], [100, 100], [200, 200]),
        (['tokens "1000/h"', "burst 150"], [100, 140], [200, 429]),
        (['tokens "1000/h"', 'requests "2/h"'], [1, 1, 1], [200, 200, 429]),
        (['tokens "1000/h"', 'requests "2/h"', "request-burst 1"], [1, 1], [200, 429]),
    ],
)
def test_bursts_and_requests(tmp_path: Path, lines: list[str], caps: list[int], found: list[int]) -> None:
    model = Model(usage(1, 99) if len(caps) == 2 else usage(1, 1))
    with limited(tmp_path, *lines, model=model) as (worker, _):
        answers = [ask(Client(worker.port), cap=cap) for cap in caps]
        assert [answer.status for answer in answers] == found
        if "requests" in lines[-1]:
            assert left(answers[0], "requests") == 1 and answers[0].fields["x-ratelimit-limit-requests"] == "2"


@pytest.mark.directive("token-limit/key")
@pytest.mark.parametrize(
    ("key", "mine", "others"),
    [
        ('key "header:x-tenant"', "X-Tenant: a", "X-Tenant: b"),
        ("", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"),
        ('key "all"', "X-Forwarded-For: 192.0.2.1", None),
    ],
)
def test_each_value_of_the_key_has_its_own_bucket(tmp_path: Path, key: str, mine: str, others: str | None) -> None:
    with limited(tmp_path, 'tokens "70/h"', key, model=Model(usage(10, 50)), **PROXIED) as (worker, _):
        client = Client(worker.port)
        assert ask(client, mine).status == 200
        assert said(ask(client, mine)) == LIMITED
        assert said(ask(client, others or "X-Forwarded-For: 192.0.2.9")) == ((200, "") if others else LIMITED)


def test_the_model_is_a_part_of_keys(tmp_path: Path) -> None:
    with limited(tmp_path, 'tokens "70/h"', 'key "model"', model=Model(usage(10, 50))) as (worker, _):
        bodies = [json.dumps({"model": name, "max_tokens": 50, "messages": []}).encode() for name in "aab"]
        assert [ask(Client(worker.port), body=body).status for body in bodies] == [200, 429, 200]


@pytest.mark.directive("token-limit/ipv4-prefix", "token-limit/ipv6-prefix")
@pytest.mark.parametrize(("same", "other"), [("192.0.2.7", "198.51.100.1"), ("2001:db8::7", "2001:db9::1")])
def test_clients_of_one_network_share_a_bucket(tmp_path: Path, same: str, other: str) -> None:
    first = "192.0.2.1" if "." in same else "2001:db8:1::1"
    lines = 'tokens "70/h"', "ipv4-prefix 24", "ipv6-prefix 32"
    with limited(tmp_path, *lines, model=Model(usage(10, 50)), **PROXIED) as (worker, _):
        client = Client(worker.port)
        assert ask(client, f"X-Forwarded-For: {first}").status == 200
        assert said(ask(client, f"X-Forwarded-For: {same}")) == LIMITED
        assert ask(client, f"X-Forwarded-For: {other}").status == 200


@pytest.mark.directive("token-limit/exempt", "token-limit/on-limit")
@pytest.mark.parametrize("line", ['exempt "127.0.0.0/8"', 'on-limit "observe"'])
def test_who_is_exempt_or_only_observed_is_not_refused(tmp_path: Path, line: str) -> None:
    with limited(tmp_path, 'tokens "70/h"', line, model=Model(usage(10, 50))) as (worker, _):
        answers = [ask(Client(worker.port)) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3 and "ratelimit" not in answers[0].fields
        assert ask(Client(worker.port), cap=1000).status == 200


@pytest.mark.directive("token-limit/when-full")
@pytest.mark.parametrize(("when", "found"), [("admit", (200, "")), ("reject", (503, "limits-full"))])
def test_a_full_table_admits_uncounted_or_refuses(tmp_path: Path, when: str, found: tuple[int, str]) -> None:
    with limited(tmp_path, 'tokens "100/h"', f'when-full "{when}"') as (worker, _):
        region = worker.region
        other = region.claim_slot(pid=1, birth_ns=0, role=Role.WORKER, generation=7, lane=1)
        term = b"".join(word.to_bytes(8, "little") for word in (10**15, 10**15, 0))
        for number in range(4 * region.limits_statistics(time.monotonic_ns()).limits_max):
            region.charge(other, time.monotonic_ns(), (b"other %d" % number,), term)
        assert said(ask(Client(worker.port))) == found


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ('tokens "100/h"; request-burst 5', "`request-burst` has no effect"),
        ('tokens "1/30d"; burst 1000000', "more than ten years to fill"),
        ("burst 5", "needs `tokens`"),
    ],
)
def test_what_would_not_be_obeyed_is_refused(tmp_path: Path, limit: str, told: str) -> None:
    loaded = load_text(written(tmp_path, 1, filters=f'token-limit "one" {{ {limit}; }}'))
    assert loaded.plan is None and told in render_problems(loaded.problems)


LLM = 'request "POST http://a.example/llm/v1/chat/completions" { header "x-t" "acme"; header "x-tpm" "yes"; }; '


def test_a_policy_test_says_what_is_left_of_a_bucket() -> None:
    state = 'state {{ limit "tpm" "acme" "m" remaining={}; tokens model="m" input=60 output=40; }}; '
    assert holds(state.format(100) + LLM + 'expect { upstream "api"; step "within-token-limit"; }')
    assert holds(state.format(99) + LLM + 'expect { reason "token-limited"; header "retry-after" "1"; }')
    assert holds(state.format(99) + LLM.replace("acme", "zoo") + 'expect { upstream "api"; }')
    assert "never has more than" in refused(state.format(1001) + LLM + "expect { status 429; }")
    assert "has 2 parts" in refused('state { limit "tpm" "acme"; }; ' + LLM + "expect { status 429; }")
