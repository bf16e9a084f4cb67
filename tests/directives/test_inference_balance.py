"""How endpoints of language models are chosen: by tokens, as clients meet it and as a rehearsal tells it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.record import decode
from sentinel.explain.cases import CaseResult, failed_text, run_case
from tests.directives.house import serving
from tests.directives.test_budgets import CHAT, EVENT, HEAD, chunk, usage
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, scripted
from workers.rehearsal import House, ask_in


class Model:
    """An endpoint with a model. `hold`: while it is clear, nobody is answered; `stream`: pieces of text before that."""

    def __init__(self, stream: int = 0) -> None:
        self.asked = 0
        self.stream = stream
        self.hold = threading.Event()
        self.hold.set()
        self.origin: Origin

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.origin.port}"

    def talk(self, conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            self.asked += 1
            is_stream = b'"stream": true' in conversation.body(head)
            if is_stream:
                conversation.send(HEAD + b"".join(chunk(EVENT % b"words and more") for _ in range(self.stream)))
            assert self.hold.wait(20)
            if is_stream:
                conversation.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            else:
                conversation.answer(usage(10, 20), "HTTP/1.1 200 OK\r\ncontent-type: application/json")


@contextmanager
def models(count: int, stream: int = 0) -> Iterator[tuple[Model, ...]]:
    found = tuple(Model(stream) for _ in range(count))
    with ExitStack() as stack:
        for one in found:
            one.origin = stack.enter_context(scripted(one.talk))
        try:
            yield found
        finally:
            for one in found:
                one.hold.set()


@contextmanager
def balanced(directory: Path, balance: str, found: tuple[Model, ...], **parts: Any) -> Iterator[Worker]:
    endpoints = "\n".join(f'endpoint "{one.name}"' for one in found)
    with serving(
        directory, endpoints=endpoints, upstream=f"balance {balance}\n{parts.pop('upstream', '')}",
        route=f"inference\n{parts.pop('route', '')}", **parts,
    ) as worker:  # fmt: skip
        yield worker


def asking(worker: Worker, cap: int, *, text: str = "hello", is_stream: bool = False, model: str = "m") -> Client:
    document = {"model": model, "max_tokens": cap, "messages": [{"role": "user", "content": text}], "stream": is_stream}
    body = json.dumps(document).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    return Client(worker.port).send(head.encode() + body)


def one_more(found: tuple[Model, ...], worker: Worker, cap: int, **asked: Any) -> tuple[Client, Model]:
    """Ask, and see who is asked."""
    before = [one.asked for one in found]
    client = asking(worker, cap, **asked)
    wait_until(lambda: sum(one.asked for one in found) == sum(before) + 1, "somebody is asked")
    return client, next(one for one, count in zip(found, before, strict=True) if one.asked > count)


def tokens(worker: Worker, model: Model) -> int:
    return next(view.tokens for view in worker.region.places() if view.name == f"origin/{model.name}")


def told(worker: Worker, reason: str) -> list[list[str]]:
    """Details of all steps of that reason, in all records."""
    records = [decode(one) for one in worker.region.journal_read(worker.slot)]
    return [list(step.details) for record in records for step in record.steps if step.reason == reason]


@pytest.mark.directive("upstream/balance")
def test_a_long_request_weighs_more_than_many_short_ones(tmp_path: Path) -> None:
    with models(2) as found, balanced(tmp_path, '"least-tokens"', found) as worker:
        for one in found:
            one.hold.clear()
        first, busy = one_more(found, worker, 50_000)
        other = next(one for one in found if one is not busy)
        assert 50_000 < tokens(worker, busy) < 50_100, "what is estimated of the input comes with it"
        waiting = [one_more(found, worker, 100) for _ in range(5)]
        assert {id(model) for _, model in waiting} == {id(other)}, "by requests in flight four would go to the busy one"
        assert 500 < tokens(worker, other) < 700
        for one in found:
            one.hold.set()
        for client in (first, *(client for client, _ in waiting)):
            assert client.answer().status == 200
        wait_until(lambda: tokens(worker, busy) == tokens(worker, other) == 0, "nothing is under way any more")
        steps = told(worker, "tokens-compared")
        assert len(steps) == 6 and all(len(details) == 4 for details in steps), "chosen, its own, and of each endpoint"
        assert any(max(map(int, details[2:])) > 50_000 for details in steps), "as they were when it was chosen"


def test_what_a_stream_has_produced_is_not_under_way_any_more(tmp_path: Path) -> None:
    with models(1, stream=400) as found, balanced(tmp_path, '"least-tokens"', found) as worker:
        (model,) = found
        model.hold.clear()
        client = asking(worker, 5000, is_stream=True)
        wait_until(lambda: 0 < tokens(worker, model) < 4500, "it becomes less while the stream goes on")
        model.hold.set()
        wait_until(lambda: tokens(worker, model) == 0, "and nothing at its end")
        client.close()


@pytest.mark.parametrize("end", ["client leaves", "endpoint dies"])
def test_whatever_the_end_nothing_stays_under_way(tmp_path: Path, end: str) -> None:
    def dies(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.reset()

    with models(1) as found, scripted(dies) as ill:
        parts = {"upstream": f'endpoint "127.0.0.1:{ill.port}"'} if end == "endpoint dies" else {}
        with balanced(tmp_path, '"least-tokens"', found, **parts) as worker:
            found[0].hold.clear()
            clients = [asking(worker, 100 * (at + 1)) for at in range(4)]
            wait_until(lambda: tokens(worker, found[0]), "one is under way")
            if end == "client leaves":
                for client in clients:
                    client.close()
            found[0].hold.set()
            wait_until(lambda: len(worker.log(4)) == 4, "all are over")
            assert sum(view.tokens for view in worker.region.places()) == 0


TEXT = """\
schema-version "1.0"
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }};  }}
routes {{
    route "llm" {{ matches {{ path-prefix "/v1"; }}; inference; upstream "gpus"; }}
    route "rest" {{ matches {{ path-prefix "/"; }}; upstream "plain"; }}
}}
upstreams {{
    upstream "gpus" {{ endpoint "10.0.0.1:80"; endpoint "10.0.0.2:80" weight=2; {upstream}
    }}
    upstream "plain" {{ endpoint "10.0.0.3:80"; }}
}}
tests {{ case "one" {{ {lines}
}}; }}
"""
CALL = f'request "POST http://a.example{CHAT}";'


def ran(lines: str, upstream: str) -> CaseResult:
    loaded = load_text(TEXT.format(lines=lines, upstream=upstream))
    assert loaded.plan is not None, render_problems(loaded.problems)
    return run_case(loaded.cases[0], loaded.plan, ask_in(House(loaded.plan)))


def holds(lines: str, upstream: str) -> bool:
    result = ran(lines, upstream)
    for failed in result.failed:
        print("\n".join(failed_text(failed)))
    return result.is_passed


def refused(lines: str, upstream: str) -> str:
    loaded = load_text(TEXT.format(lines=lines, upstream=upstream))
    assert loaded.problems
    return render_problems(loaded.problems)


@pytest.mark.directive("case/state/endpoint", "case/state/endpoint@tokens")
def test_tokens_under_way_are_assumed_and_compared_by_weight() -> None:
    by_tokens = 'balance "least-tokens";'
    for first, second, chosen in ((1000, 4000, "10.0.0.1:80"), (1000, 1500, "10.0.0.2:80"), (0, 0, "10.0.0.2:80")):
        state = f'state {{ endpoint "10.0.0.1:80" tokens={first}; endpoint "10.0.0.2:80" tokens={second}; }};'
        assert holds(f'{state} {CALL} expect {{ endpoint "{chosen}"; step "tokens-compared"; }}', by_tokens)
    # What the request itself takes counts too: 100 beside 0 is less than half of 1000 beside 950.
    state = 'state {{ endpoint "10.0.0.1:80" tokens=0; endpoint "10.0.0.2:80" tokens=950; tokens output={}; }};'
    assert holds(state.format(100) + CALL + 'expect { endpoint "10.0.0.1:80"; }', by_tokens)
    assert holds(state.format(2000) + CALL + 'expect { endpoint "10.0.0.2:80"; }', by_tokens)
    result = ran(f'{CALL} expect {{ endpoint "10.0.0.1:80"; }}', by_tokens)
    texts = [node.text for node in result.failed[0].tree.children]
    assert any("fewest tokens under way" in text for text in texts), texts


def test_tokens_are_said_only_where_they_count() -> None:
    state = 'state { endpoint "10.0.0.1:80" tokens=5; };'
    assert "`tokens` changes nothing" in refused(state + CALL + 'expect { status 200; }', 'balance "least-request";')
