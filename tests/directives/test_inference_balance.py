"""How endpoints of language models are chosen: by tokens, as clients meet it and as a rehearsal tells it."""

from __future__ import annotations

import json
import threading
import time
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


def page_of(waiting: int, cache: float, names: tuple[str, str] = ("vllm:num_requests_waiting", "")) -> bytes:
    """A page of metrics."""
    lines = f'# TYPE it gauge\n{names[0]}{{model_name="m"}} {waiting}.0\n'
    return f"{lines}{names[1] or 'vllm:gpu_cache_usage_perc'} {cache}\n".encode()


class Model:
    """An endpoint with a model. `hold`: while it is clear, nobody is answered; `stream`: pieces of text before that."""

    def __init__(self, stream: int = 0) -> None:
        self.asked = 0
        self.names = ["m"]  # that it lists
        self.checks: list[tuple[bytes, bytes]] = []  # heads and bodies of what checks asked
        self.pages: list[bytes] = []  # heads that asked for the page of metrics
        self.page, self.page_status = page_of(0, 0), 200
        self.token = usage(1, 1)  # what a check gets that asks for one
        self.late_s = 0.0  # with that
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
            body = conversation.body(head)
            if b"sentinel-load-report" in head:
                self.pages.append(head)
                conversation.answer(self.page, f"HTTP/1.1 {self.page_status} X\r\ncontent-type: text/plain")
                return
            if b"sentinel-health-check" in head:
                self.check(conversation, head, body)
                return
            self.asked += 1
            is_stream = b'"stream": true' in body
            if is_stream:
                conversation.send(HEAD + b"".join(chunk(EVENT % b"words and more") for _ in range(self.stream)))
            assert self.hold.wait(20)
            if is_stream:
                conversation.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            else:
                conversation.answer(usage(10, 20), "HTTP/1.1 200 OK\r\ncontent-type: application/json")


    def check(self, conversation: Conversation, head: bytes, body: bytes) -> None:
        self.checks.append((head, body))
        if head.startswith(b"POST"):
            time.sleep(self.late_s)  # an endpoint that is slow: what is tested is that it is
            conversation.answer(self.token, "HTTP/1.1 200 OK\r\ncontent-type: application/json")
            return
        document = {"object": "list", "data": [{"id": name} for name in self.names]}
        conversation.answer(json.dumps(document).encode(), "HTTP/1.1 200 OK\r\ncontent-type: application/json")


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


# Checks that ask for models.

QUICK = 'interval "20ms"; timeout "500ms"; unhealthy-after 1'


def state(worker: Worker, model: Model) -> tuple[str, str]:
    view = next(view for view in worker.region.places() if view.name == f"origin/{model.name}")
    return view.health.name, view.finding.name


def answers(worker: Worker, model: str) -> tuple[int, str]:
    answer = asking(worker, 10, model=model).answer()
    return answer.status, answer.fields.get("x-sentinel-reason", "")


@pytest.mark.directive("upstream/health-check/kind")
def test_a_request_goes_only_where_its_model_is(tmp_path: Path) -> None:
    check = f'health-check {{ kind "inference"; healthy-after 1; {QUICK}; }}'
    with models(2) as (one, other):
        one.names, other.names = ["llama", "qwen"], ["qwen"]
        with balanced(tmp_path, '"round-robin"', (one, other), upstream=check) as worker:
            wait_until(lambda: {state(worker, at) for at in (one, other)} == {("HEALTHY", "GOOD")}, "both are well")
            assert one.checks[0][0].startswith(b"GET /v1/models HTTP/1.1\r\n")
            assert {answers(worker, "llama") for _ in range(4)} == {(200, "")}
            assert (one.asked, other.asked) == (4, 0)
            for _ in range(4):
                answers(worker, "qwen")
            assert other.asked == 2, "in turn"
            assert answers(worker, "gpt") == (404, "model-missing"), "nobody has it"
            passed = told(worker, "endpoint-passed-over")
            assert [f"127.0.0.1:{other.origin.port}", "it does not serve the model"] in passed
            other.names = ["gpt"]
            wait_until(lambda: answers(worker, "gpt") == (200, ""), "it serves it now")
            assert "serves models: llama, qwen" in worker.stderr()
            one.names = []
            wait_until(lambda: answers(worker, "llama") == (404, "model-missing"), "nobody serves it any more")


@pytest.mark.directive(
    "upstream/health-check/completion", "upstream/health-check/completion@path", "upstream/health-check/bearer"
)
@pytest.mark.parametrize(("said", "path", "model"), [
    ('"qwen"', "/v1/chat/completions", "qwen"), ("", "/v1/chat/completions", "llama"),
    ('"qwen" path="/v1/completions"', "/v1/completions", "qwen"),
])  # fmt: skip
def test_one_token_is_asked_for(tmp_path: Path, said: str, path: str, model: str) -> None:
    check = f'health-check {{ kind "inference"; completion {said}; bearer "a-key"; healthy-after 1; {QUICK}; }}'
    with models(1) as (one,):
        one.names, one.token = ["llama", "qwen"], b'{"error":{"message":"CUDA error"}}'
        with balanced(tmp_path, '"round-robin"', (one,), upstream=check) as worker:
            wait_until(lambda: state(worker, one) == ("UNHEALTHY", "MALFORMED"), "an error with 200 is one")
            assert answers(worker, "llama") == (503, "none-usable")
            one.token = usage(1, 1)
            wait_until(lambda: state(worker, one) == ("HEALTHY", "GOOD"), "it answers")
            head, body = next(check for check in one.checks if check[0].startswith(b"POST"))
            asked = json.loads(body)
            assert head.startswith(f"POST {path} HTTP/1.1\r\n".encode())
            assert (asked["model"], asked["max_tokens"]) == (model, 1)
            assert all(b"\r\nauthorization: Bearer a-key\r\n" in head for head, _ in one.checks)
            one.names = ["other"]
            if said:
                wait_until(lambda: state(worker, one) == ("UNHEALTHY", "NO_MODEL"), "the one that is asked is gone")


@pytest.mark.directive("upstream/health-check/warm-up", "upstream/health-check/warm-up@within")
def test_an_endpoint_is_used_only_when_it_is_warm(tmp_path: Path) -> None:
    check = f'health-check {{ kind "inference"; completion; warm-up 5 within="200ms"; {QUICK}; }}'
    with models(1) as (one,):
        one.late_s = 0.25
        with balanced(tmp_path, '"least-request"', (one,), upstream=check) as worker:
            assert answers(worker, "m") == (503, "none-usable"), "nobody has looked yet, or not often enough"
            wait_until(lambda: state(worker, one) == ("UNHEALTHY", "SLOW"), "good, but not quick enough")
            one.late_s, before = 0.0, len(one.checks)
            wait_until(lambda: state(worker, one) == ("HEALTHY", "GOOD"), "warm")
            assert len(one.checks) - before >= 2 * 5, "so many in a row, of two questions each"
            assert answers(worker, "m") == (200, "")
            one.late_s = 0.25
            wait_until(lambda: len(one.checks) > before + 20, "it is asked on")
            assert state(worker, one) == ("HEALTHY", "GOOD"), "who is warm may be slow, within the timeout"


# Beginnings of prompts, and first tokens.

TALE = "Once upon a time there was a gateway. " * 60
BUSY = "The quick brown fox jumps over the lazy dog. " * 60


def test_prompts_that_begin_alike_go_to_one_endpoint_until_that_has_too_much(tmp_path: Path) -> None:
    with models(3) as found, balanced(tmp_path, '"prefix-affinity"', found) as worker:
        homes = {}
        for text in (TALE, BUSY):
            chosen = []
            for more in ("", " What then?", " And then?"):
                client, model = one_more(found, worker, 10, text=text + more)
                assert client.answer().status == 200
                chosen.append(model)
            assert len({id(model) for model in chosen}) == 1
            homes[text] = chosen[0]
        wait_until(lambda: len(told(worker, "prefix-followed")) == 6, "all of them are told")
        assert not told(worker, "prefix-passed-by")
        home = homes[TALE]
        for one in found:
            one.hold.clear()
        waiting = [one_more(found, worker, 5000, text=TALE + str(at)) for at in range(4)]
        assert waiting[0][1] is home and {id(model) for _, model in waiting} != {id(home)}, "it has more than its part"
        for one in found:
            one.hold.set()
        assert {client.answer().status for client, _ in waiting} == {200}
        wait_until(lambda: len(worker.log(10)) == 10, "all are over")
        passed = told(worker, "prefix-passed-by")
        assert passed and {details[0] for details in passed} == {home.name}
        compared = len(told(worker, "tokens-compared"))
        assert compared == len(passed)
        assert asking(worker, 10, text="short").answer().status == 200
        wait_until(lambda: len(told(worker, "tokens-compared")) == compared + 1, "too short to have a home")


def test_prompts_to_another_model_have_another_home(tmp_path: Path) -> None:
    with models(8) as found, balanced(tmp_path, '"prefix-affinity"', found) as worker:
        homes = []
        for name in ("a", "b", "c", "d", "e"):
            client, model = one_more(found, worker, 10, text=TALE, model=name)
            assert client.answer().status == 200
            homes.append(id(model))
        assert len(set(homes)) > 1, "caches of two models have nothing in common"


@pytest.mark.directive("upstream/balance/measure")
@pytest.mark.parametrize(("measure", "is_measured"), [("answer", False), ("first-token", True)])
def test_the_time_to_the_first_token_is_measured_and_not_that_to_the_head(
    tmp_path: Path, measure: str, is_measured: bool
) -> None:
    go = threading.Event()

    def late(conversation: Conversation) -> None:
        """A server that answers at once, and has its first token much later."""
        conversation.body(conversation.head())
        conversation.send(HEAD + chunk(b": one moment\n\n"))
        assert go.wait(20)
        conversation.send(chunk(EVENT % b"words") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    with models(0) as none, scripted(late) as origin:
        balance = f'"peak-ewma" {{ half-life "1h"; measure "{measure}"; }}'
        with balanced(tmp_path, balance, none, upstream=f'endpoint "127.0.0.1:{origin.port}"') as worker:

            def latency() -> int:
                name = f"origin/127.0.0.1:{origin.port}"
                return next(view.ewma_us for view in worker.region.places() if view.name == name)

            client = asking(worker, 50, is_stream=True)
            wait_until(lambda: b"one moment" in more_of(client), "the head and a comment are there")
            assert latency() == 0
            go.wait(0.15)  # what is measured
            go.set()
            assert client.answer().status == 200
            wait_until(lambda: len(worker.log(1)) == 1, "it is over")
            assert (latency() > 140_000) == is_measured, "else the head's, which came at once"


def more_of(client: Client) -> bytes:
    client.buffer += client.socket.recv(65536)
    return client.buffer


# Pages of metrics.


def reported(worker: Worker, model: Model) -> tuple[int, int]:
    view = next(view for view in worker.region.places() if view.name == f"origin/{model.name}")
    return (view.waiting, view.cache) if view.reported_ms else (-1, -1)


@pytest.mark.directive("upstream/load-report/every", "upstream/load-report/stale-after")
def test_the_less_loaded_by_its_own_report_is_chosen_until_that_is_stale(tmp_path: Path) -> None:
    rule = 'load-report { every "20ms"; stale-after "400ms"; }'
    with models(2) as (one, other):
        one.page, other.page = page_of(4, 0.2), page_of(0, 0.9)
        with balanced(tmp_path, '"least-load"', (one, other), upstream=rule) as worker:
            wait_until(lambda: reported(worker, one) == (4, 200), "it was read")
            wait_until(lambda: reported(worker, other) == (0, 900), "and the other one")
            assert one.pages[0].startswith(b"GET /metrics HTTP/1.1\r\n")
            assert {answers(worker, "m") for _ in range(5)} == {(200, "")}
            assert (one.asked, other.asked) == (0, 5), "one that waits outweighs a cache"
            one.page = page_of(0, 0.1)
            wait_until(lambda: reported(worker, one) == (0, 100), "it was read again")
            assert answers(worker, "m") == (200, "") and one.asked == 1
            assert ["2", "4200:4:200", "900:0:900"] in told(worker, "reports-compared")
            one.page_status = 503
            wait_until(lambda: "reports no load: bad status" in worker.stderr(), "its page is gone")
            wait_until(lambda: next_is_stale(worker), "its reading has grown old, and that is told")
            one.page_status = 200
            wait_until(lambda: "reports its load" in worker.stderr(), "it is back")
            wait_until(lambda: not next_is_stale(worker), "and counts again")


def next_is_stale(worker: Worker) -> bool:
    """Whether one more request finds an endpoint without a fresh reading."""
    assert answers(worker, "m") == (200, "")
    return any(one.endswith(":-") for one in told(worker, "reports-compared")[-1][1:])


@pytest.mark.directive(
    "upstream/load-report/path", "upstream/load-report/port", "upstream/load-report/waiting",
    "upstream/load-report/cache",
)  # fmt: skip
def test_the_page_may_be_elsewhere_and_its_metrics_have_other_names(tmp_path: Path) -> None:
    names = ("my_queue", "my_cache")
    with models(2) as (one, page):
        page.page = page_of(7, 0.5, names)
        rule = f"""load-report {{
            path "/stats"; port {page.origin.port}; waiting "my_queue" "b"; cache "my_cache"; every "20ms"
        }}"""
        with balanced(tmp_path, '"least-load"', (one,), upstream=rule) as worker:
            wait_until(lambda: reported(worker, one) == (7, 500), "it was read there")
            assert page.pages[0].startswith(b"GET /stats HTTP/1.1\r\n") and not one.pages
            page.page = page_of(9, 0.5)
            wait_until(lambda: "reports no load: no metric" in worker.stderr(), "a page without these names")
            assert reported(worker, one) == (7, 500)


@pytest.mark.directive("upstream/load-report/timeout")
def test_a_page_that_takes_too_long_is_none(tmp_path: Path) -> None:
    def silent(conversation: Conversation) -> None:
        conversation.head()
        conversation.rest()

    with models(1) as found, scripted(silent) as page:
        rule = f'load-report {{ port {page.port}; timeout "50ms"; every "20ms"; }}'
        with balanced(tmp_path, '"least-load"', found, upstream=rule) as worker:
            wait_until(lambda: "reports no load: timed out" in worker.stderr(), "it is told")
            assert reported(worker, found[0]) == (-1, -1) and answers(worker, "m") == (200, "")


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


LISTED = 'health-check { kind "inference"; warm-up 2; };'


@pytest.mark.directive("case/state/endpoint@models")
def test_models_are_assumed_and_who_lacks_one_is_passed_over() -> None:
    known = 'state { endpoint "10.0.0.1:80" models="llama qwen"; endpoint "10.0.0.2:80" models="qwen"; };'
    known += 'state { tokens model="llama"; };'
    chosen = 'expect { endpoint "10.0.0.1:80"; step "endpoint-passed-over"; };'
    assert holds(known + CALL + chosen + CALL + chosen, LISTED)
    nobody = 'state { tokens model="gpt"; };' + CALL + 'expect { status 404; reason "model-missing"; };'
    assert holds(known + nobody, LISTED)
    assert "`models` changes nothing" in refused(known + CALL + "expect { status 200; };", "")
    warming = 'state { endpoint "10.0.0.1:80" "warming-up"; };' + CALL + 'expect { endpoint "10.0.0.2:80"; };'
    assert holds(warming + CALL + 'expect { endpoint "10.0.0.2:80"; };', LISTED)
    assert "no health-check with `warm-up`" in refused(warming, 'health-check { kind "inference"; };')


@pytest.mark.directive("case/state/endpoint@waiting", "case/state/endpoint@cache")
def test_reports_are_assumed_and_compared() -> None:
    by_load = 'balance "least-load";'

    def chosen(first: str, second: str, endpoint: str) -> bool:
        state = f'state {{ endpoint "10.0.0.1:80" {first}; endpoint "10.0.0.2:80" {second}; }};'
        return holds(f'{state} {CALL} expect {{ endpoint "10.0.0.{endpoint}:80"; step "reports-compared"; }}', by_load)

    assert chosen("waiting=0", "waiting=1", "1") and chosen("waiting=1", "waiting=1", "2"), "of twice the weight"
    assert chosen('cache="10%"', 'cache="80%"', "1") and chosen('cache="90%"', 'waiting=0 cache="20%"', "2")
    assert chosen('in-flight=9 cache="10%"', 'in-flight=0 cache="80%"', "1"), "it was there when that was read"
    assert chosen("in-flight=1", "in-flight=9", "1"), "nobody reports"
    assert "`waiting` changes nothing" in refused(
        'state { endpoint "10.0.0.1:80" waiting=1; };' + CALL + "expect { status 200; };", ""
    )


@pytest.mark.directive("case/state/tokens@prompt")
def test_prompts_that_begin_alike_are_assumed() -> None:
    by_prefix = 'balance "prefix-affinity" { max-load "110%"; };'
    homes = set()
    for text in ("one", "two", "three", "four", "five", "six", "seven", "eight"):
        said = f'state {{ tokens prompt="{text}" output=100; }};'
        here = [at for at in (1, 2) if holds(f'{said}{CALL} expect {{ endpoint "10.0.0.{at}:80"; }}', by_prefix)]
        homes.add(here[0])
        followed = f'{said}{CALL} expect {{ endpoint "10.0.0.{here[0]}:80"; step "prefix-followed"; }};'
        assert holds(followed + followed, by_prefix)
        busy = f'state {{ endpoint "10.0.0.{here[0]}:80" tokens=9000; tokens prompt="{text}" output=100; }};'
        passed = f'{busy}{CALL} expect {{ endpoint "10.0.0.{3 - here[0]}:80"; step "prefix-passed-by"; }};'
        assert holds(passed, by_prefix)
    assert homes == {1, 2}
    unsaid = CALL + 'expect { step "tokens-compared"; };'
    assert holds(unsaid, by_prefix), "of a prompt of which nothing is said nobody knows how it begins"


FALLING = """\
schema-version "1.0"
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }}; }}
routes {{
    route "llm" {{
        matches {{ path-prefix "/v1"; }}
        inference
        models {{
            model "large" {{ upstream "gpus"; send-as "llama"; fallback "small" {{ on {on}; }}; }}
            model "small" {{ upstream "other"; }}
        }}
    }}
}}
upstreams {{
    upstream "gpus" {{ endpoint "10.0.0.1:80"; health-check {{ kind "inference"; }}; }}
    upstream "other" {{ endpoint "10.0.0.2:80"; }}
}}
tests {{
    case "one" {{
        state {{ endpoint "10.0.0.1:80" models="{models}"; tokens model="large"; }}
        request "POST http://a.example/v1/chat/completions"
        expect {{ {expected}; }}
    }}
}}
"""


@pytest.mark.parametrize(("models", "on", "expected"), [
    ("llama", '"no-endpoint"', 'upstream "gpus"'), ("large", '"no-endpoint"', 'upstream "other"; step "model-missing"'),
    ("large", '"timeout"', 'status 404; reason "model-missing"'),
])  # fmt: skip
def test_a_model_that_no_endpoint_serves_falls_back(models: str, on: str, expected: str) -> None:
    """It is the name that is sent which has to be served, and not the one that the client said."""
    loaded = load_text(FALLING.format(models=models, on=on, expected=expected))
    assert loaded.plan is not None, render_problems(loaded.problems)
    result = run_case(loaded.cases[0], loaded.plan, ask_in(House(loaded.plan)))
    assert result.is_passed, [failed_text(one) for one in result.failed]
