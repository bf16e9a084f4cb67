"""Which upstream a request is for, by the model that it names: a real worker, and models that keep what they get."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import brotli
import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.record import Record, decode
from sentinel.core.routes import compile_routes
from sentinel.explain import render_text
from sentinel.explain.diff import compare
from sentinel.explain.generate import Generated
from sentinel.explain.recorded import explain_record
from tests.directives.house import serving, written
from tests.directives.test_budgets import CHAT, HEAD, Model, Stream, ask, chunk, closed, said, usage, words
from tests.directives.test_cases import holds, refused
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, closed_port, scripted

HI = '"messages":[{"role":"user","content":"hi"}]'


class House:
    """A worker that chooses between two models' houses and the route's own, and what each was asked."""

    def __init__(self, worker: Worker, origins: dict[str, Origin], models: dict[str, Model]) -> None:
        self.worker = worker
        self.origins = origins
        self.models = models

    def ask(self, body: bytes, *fields: str, path: str = CHAT) -> tuple[int, str]:
        return said(ask(Client(self.worker.port), *fields, path=path, body=body))

    def asked(self, name: str) -> bytes:
        """The body that this one was asked last."""
        script: Any = self.origins[name].script
        found: bytes = script.bodies[-1]
        return found

    def line(self, name: str) -> str:
        """The request line that this one was asked last."""
        return self.origins[name].heads[-1].partition(b"\r\n")[0].decode()

    def steps(self, nth: int) -> list[str]:
        """The reasons in the record of the request that came so many after the first."""
        return [step.reason for step in self.record(nth).steps]

    def record(self, nth: int) -> Record:
        self.worker.log(nth + 1)
        records = [decode(one) for one in self.worker.region.journal_read(self.worker.slot)]
        return sorted(records, key=lambda one: one.time_ns)[nth]

    def replace(self, name: str, model: str | Ill | Stream | Says) -> None:
        """Whoever connects from now on finds this one."""
        self.origins[name].script = Ill(model) if isinstance(model, str) else model

    def fell(self, nth: int) -> list[list[str]]:
        """What the record of a request says of models that failed: how, and who was asked instead."""
        return [list(step.details) for step in self.record(nth).steps if step.reason == "fell-back"]

    def counts(self) -> tuple[int, ...]:
        return tuple(len(origin.heads) for origin in self.origins.values())


@contextmanager
def house(
    directory: Path, models: str, *, own: bool = False, budget: str = "", upstreams: dict[str, str] | None = None,
    more: str = "", dead: str = "", **parts: str,
) -> Iterator[House]:  # fmt: skip
    """`a` and `b` are houses of models, `own` is the route's own upstream, if it has one."""
    upstreams = upstreams or {}
    with ExitStack() as stack:
        answering = {name: Model() for name in ("a", "b", "own")}
        origins = {name: stack.enter_context(scripted(model)) for name, model in answering.items()}
        rooms = "".join(
            f'}}\nupstream "{name}" {{\nendpoint "127.0.0.1:{closed_port() if name == dead else origins[name].port}"\n'
            f'{upstreams.get(name, "")}\n'
            for name in answering
        )
        upstream = 'upstream "own"' if own else ""
        filters = f'token-budget "one" {{\n{budget}\n}}' if budget else ""
        routes = (
            f'route "llm" {{\nmatches {{ path-prefix "/v1"; path-prefix "/v1beta"; path-prefix "/openai"; }}\n'
            f"inference\nmodels {{\n{models}\n}}\n{upstream}\n{more}\n}}"
        )
        parts |= {"routes": routes, "filters": filters, "upstream": rooms}
        worker = stack.enter_context(serving(directory, **parts))
        yield House(worker, origins, answering)


TWO = 'model "gpt-*" { upstream "a"; }\nmodel "fast" "quick" { upstream "b"; send-as "llama \\"3\\""; }'


@pytest.mark.directive(
    "route/models/model", "route/models/model/upstream", "route/models/model/send-as", "route/models/unknown"
)
def test_the_model_in_the_body_says_where_a_request_goes(tmp_path: Path) -> None:
    with house(tmp_path, TWO) as found:
        body = b'{ "stream":false,"model" : "gpt-4o", ' + HI.encode() + b" }\n"
        assert found.ask(body) == (200, "")
        assert found.asked("a") == body, "what needs no other name is sent to the octet"
        alias = b'{"metadata":{"model":"x"}, "mod\\u0065l" :\t"fast" ,' + HI.encode() + b"}"
        assert found.ask(alias) == (200, "")
        assert found.asked("b") == alias.replace(b'"fast"', b'"llama \\"3\\""'), "and all else is left as it was"
        assert found.counts() == (1, 1, 0)
        lost = ask(Client(found.worker.port), body=b'{"model":"GPT-4o",' + HI.encode() + b"}")
        assert said(lost) == (404, "model-unknown")
        error = json.loads(lost.body)["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "model_not_found")
        claude = b'{"model":"x","max_tokens":9,"messages":[]}'
        anthropic = ask(Client(found.worker.port), path="/v1/messages", body=claude)
        assert json.loads(anthropic.body)["error"]["type"] == "not_found_error"
        for path, octets, reason in ((CHAT, b"{", "inference-malformed"), ("/v1/other", b"{}", "inference-unknown")):
            assert found.ask(octets, path=path) == (400, reason)
        assert Client(found.worker.port).get("/v1/files").status == 404, "there is nobody whom to ask for it"
        assert found.counts() == (1, 1, 0)
        assert [line["upstream"] for line in found.worker.log(7)] == ["a", "b", "", "", "", "", ""]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/v1beta/models/fast:generateContent?alt=sse", "/v1beta/models/llama%20%223%22:generateContent?alt=sse"),
        ("/openai/deployments/quick/chat/completions", "/openai/deployments/llama%20%223%22/chat/completions"),
    ],
)
def test_a_name_that_stands_in_the_path_is_another_one_there(tmp_path: Path, asked: str, sent: str) -> None:
    with house(tmp_path, TWO) as found:
        assert found.ask(b'{"contents":[],"messages":[],"model":"gpt-4o"}', path=asked) == (200, "")
        assert found.line("b") == f"POST {sent} HTTP/1.1"
        assert json.loads(found.asked("b"))["model"] == 'llama "3"', "nobody acts on another one"


@pytest.mark.directive("route/models/unknown")
def test_what_no_line_takes_goes_to_the_route_s_own_upstream_if_so_said(tmp_path: Path) -> None:
    with house(tmp_path, TWO + '\nunknown "forward"', own=True) as found:
        assert found.ask(b'{"model":"other",' + HI.encode() + b"}") == (200, "")
        assert found.ask(b"{") == (200, "") and found.asked("own") == b"{"
        assert found.ask(b"{}", path="/v1/other") == (200, "")
        assert Client(found.worker.port).get("/v1/models").status == 200
        assert found.ask(b'{"model":"gpt-1",' + HI.encode() + b"}") == (200, "")
        assert found.counts() == (1, 0, 4)
        assert "model-defaulted" in found.steps(0) and "model-routed" in found.steps(4)


def test_a_request_that_fell_back_twice_is_recorded_whole(tmp_path: Path) -> None:
    names = ["organisation-of-all-monthly", "team-of-this-key-daily", "key-daily", "user-daily"]
    budgets = "tokens 2000000\n}\n" + "}\n".join(f'token-budget "{name}" {{\ntokens 2000000\n' for name in names)
    models = 'model "claude-sonnet-4-5" { upstream "a"; fallback "gpt-4.1" "llama-3.3-70b-instruct"; }\n'
    models += 'model "gpt-4.1" { upstream "b"; send-as "gpt-4.1-2025-04-14"; }\n'
    models += 'model "llama-3.3-70b-instruct" { upstream "own"; send-as "meta-llama/Llama-3.3-70B-Instruct"; }'
    filters = "filters " + " ".join(f'"{name}"' for name in names)
    with house(tmp_path, models, more=filters, budget=budgets) as found:
        for name in ("a", "b"):
            found.replace(name, "503")
        assert found.ask(b'{"model":"claude-sonnet-4-5","max_tokens":60,' + HI.encode() + b"}") == (200, "")
        record = found.record(0)
        assert not record.is_cut, "the gate of a reload passes over what was cut"
        assert len([step for step in record.steps if step.reason == "within-budget"]) == 12
        assert [one[1] for one in found.fell(0)] == ["gpt-4.1-2025-04-14", "meta-llama/Llama-3.3-70B-Instruct"]


@pytest.mark.directive("route/models/list")
def test_the_gateway_says_which_models_there_are(tmp_path: Path) -> None:
    with house(tmp_path, TWO + "\nlist true", own=True) as found:
        answer = Client(found.worker.port).get("/v1/models")
        assert answer.status == 200 and answer.fields["content-type"] == "application/json"
        listed = json.loads(answer.body)
        assert [(one["id"], one["owned_by"]) for one in listed["data"]] == [("fast", "b"), ("quick", "b")]
        assert Client(found.worker.port).get("/v1/files").status == 200
        assert found.counts() == (0, 0, 1)
        assert "models-listed" in found.steps(0) and "models-listed" not in found.steps(1)
        one = Client(found.worker.port).get("/v1/models/quick")
        assert (one.status, json.loads(one.body)) == (200, listed["data"][1]) and "models-listed" in found.steps(2)
        assert Client(found.worker.port).get("/v1/models/gpt-4o").status == 200, "of a pattern the own upstream knows"
        assert found.counts() == (0, 0, 2)
    with house(tmp_path / "alone", TWO + "\nlist true") as found:
        assert said(Client(found.worker.port).get("/v1/models/gpt-4o")) == (404, "model-unknown")


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/responses/input_tokens", "/v1/responses/input_tokens"),
        ("/v1beta/models/quick:countTokens", "/v1beta/models/llama%20%223%22:countTokens"),
    ],
)
def test_who_asks_how_many_tokens_it_would_be_is_sent_where_the_model_is_and_pays_nothing(
    tmp_path: Path, path: str, sent: str
) -> None:
    with house(tmp_path, TWO, more='filters "one"', budget="tokens 100") as found:
        found.models["b"].answers = [b'{"input_tokens":2095}']
        body = b'{"model":"quick",' + HI.encode() + b"}"
        answer = ask(Client(found.worker.port), path=path, body=body)
        assert (answer.status, answer.body) == (200, b'{"input_tokens":2095}')
        assert found.line("b") == f"POST {sent} HTTP/1.1" and json.loads(found.asked("b"))["model"] == 'llama "3"'
        assert {"model-routed", "tokens-asked"} <= set(found.steps(0)) and not found.worker.region.budgets()
        line = found.worker.log(1)[0]
        assert (line["model"], line["input_tokens"], line["output_tokens"]) == ('llama "3"', None, None)
        assert found.worker.region.tallied() == [], "it is no call of a model"
        found.models["b"].answers = [usage(10, 80)]
        asked = b'{"model":"fast","max_tokens":80,' + HI.encode() + b"}"
        assert [found.ask(asked) for _ in range(2)] == [(200, ""), (429, "budget-exhausted")]
        found.models["b"].answers = [b"{}"]
        assert found.ask(body, path=path) == (200, ""), "who has nothing left may ask what it would be"
        assert found.ask(body[:-1], path=path) == (400, "inference-malformed")
        assert closed(found.worker) == [("['127.0.0.1/32']", 90)]


@pytest.mark.directive("route/models/model/filters")
def test_a_line_has_budgets_of_its_own(tmp_path: Path) -> None:
    models = 'model "dear" { upstream "a"; filters "one"; }\nmodel "*" { upstream "b"; }'
    with house(tmp_path, models, budget="tokens 100") as found:
        dear = b'{"model":"dear","max_tokens":60,' + HI.encode() + b"}"
        assert found.ask(dear.replace(b"dear", b"cheap")) == (200, "")
        assert found.worker.region.budgets() == []
        found.models["a"].answers = [usage(10, 60)]
        assert [found.ask(dear) for _ in range(2)] == [(200, ""), (429, "budget-exhausted")]
        assert closed(found.worker) == [("['127.0.0.1/32']", 70)]


def test_why_tells_which_line_it_was_and_which_were_passed_over(tmp_path: Path) -> None:
    with house(tmp_path, TWO) as found:
        found.ask(b'{"model":"quick",' + HI.encode() + b"}")
        wait_until(lambda: found.worker.log(1), "it is written down")
        (octets,) = found.worker.region.journal_read(found.worker.slot)
        text = render_text(explain_record(decode(octets), compile_routes(found.worker.plan)))
    assert 'passed over: models for `a`: the model is "quick", not "gpt-*"' in text
    assert 'model "quick" is for upstream `b`, which is asked for "llama "3""' in text
    assert 'model "llama "3"" took 10 tokens and made 20 (reported)' in text, "billed by the name that answered"


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ('models { model "a" { upstream "origin"; }; }', "`models` needs to read requests"),
        ("inference\nmodels", "`models` needs `model`"),
        ('inference\nmodels { model "a" { upstream "origins"; }; }', "did you mean `origin`?"),
        ('inference\nmodels { model "a"; }', "`model` needs `upstream`"),
        ('inference\nmodels { model "a" { upstream "origin"; }; unknown "forward"; }', "there is nowhere to forward"),
        ('inference\nmodels { model "a" { upstream "origin"; }; }\nrespond 200', "the route answers by itself"),
        ('inference\nmodels { model "a*"  "ab*" { upstream "origin"; }; }', "no request comes here"),
        ('inference\nmodels { model "a" { upstream "origin"; }; model "a" { upstream "origin"; }; }', "the one before"),
        ('inference\nmodels { model "a" { upstream "origin"; send-as "b*"; }; }', "one model is meant here"),
        ('inference\nmodels { model "a" { upstream "origin"; filters "rate"; }; }',
         "there is no token-limit or token-budget `rate`"),
        (
            'inference { unrecognised "admit"; }\nmodels { model "a" { upstream "origin"; }; }',
            "refuses what it cannot read",
        ),
    ],
)
def test_what_would_not_be_obeyed_is_refused(tmp_path: Path, route: str, told: str) -> None:
    more = f'route "more" {{ matches {{ path "/more"; }}\n{route}\n }}'
    loaded = load_text(written(tmp_path, 1, routes=more, filters='rate-limit "rate" { rate "1/s"; }'))
    assert loaded.plan is None and told in render_problems(loaded.problems)


@pytest.mark.directive("case/state/tokens@model")
def test_a_test_says_which_model_is_asked_for() -> None:
    llm = 'request "POST http://a.example/chosen/v1/chat/completions"; '
    assert holds('state { tokens model="gpt-4o"; }; ' + llm + 'expect { upstream "api"; step "model-routed"; }')
    assert holds('state { tokens model="fast"; }; ' + llm + 'expect { upstream "peak"; }')
    assert holds('state { tokens model="other"; }; ' + llm + 'expect { status 404; reason "model-unknown"; }')
    assert holds('request "GET http://a.example/chosen/v1/models"; expect { status 200; step "models-listed"; }')
    count = 'request "POST http://a.example/{}/v1/responses/input_tokens"; expect {{ {} }}'
    assert holds('state { tokens model="fast"; }; ' + count.format("chosen", 'upstream "peak";'))
    assert holds("state { tokens input=999999; }; " + count.format("llm", 'upstream "api"; step "tokens-asked";'))
    assert holds(count.format("foreign", 'status 400; reason "untranslatable";'))


# Falling back.

FALL = (
    'model "dear" {{\nupstream "a"\n{filters}\nfallback "cheap" "last" {{\n{fallback}\n}}\n}}\n'
    'model "cheap" {{ upstream "b"; send-as "b-1"; }}\nmodel "last" {{ upstream "own"; }}'
)
DEAR = b'{"model":"dear","max_tokens":50,' + HI.encode() + b"}"


def chain(fallback: str = "", filters: str = "") -> str:
    return FALL.format(fallback=fallback, filters=filters)


class Ill:
    """A model that fails in its way, and keeps what it was asked."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.bodies: list[bytes] = []

    def __call__(self, conversation: Conversation) -> None:
        self.bodies.append(conversation.body(conversation.head()))
        if self.how.isdecimal():
            head = f"HTTP/1.1 {self.how} X\r\ncontent-type: application/json"
            conversation.answer(b'{"error":{"message":"no"}}', head)
            conversation.rest()
        elif self.how == "nonsense":
            conversation.send(b"HTTP/9 what\r\n\r\n")
            conversation.rest()
        elif self.how == "silent head":
            conversation.rest()
        elif self.how == "head alone":
            conversation.send(HEAD + chunk(b": waiting\n\n"))
            conversation.rest()
        elif self.how == "broken head":
            conversation.send(HEAD + chunk(b'data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant"},'))
            conversation.reset()


@pytest.mark.directive("route/models/model/fallback", "route/models/model/fallback/on")
@pytest.mark.parametrize(
    ("how", "on", "found", "what"),
    [
        ("429", "", (200, ""), "429"),
        ("503", "", (200, ""), "503"),
        ("closes", "", (200, ""), "upstream-closed"),
        ("nonsense", 'on "malformed"', (200, ""), "upstream-malformed"),
        ("refuses", 'on "connect-failure"', (200, ""), "connect-failed"),
        ("500", 'on "429" "gateway-error"', (500, ""), ""),
        ("429", 'on "5xx"', (429, ""), ""),
        ("closes", 'on "429"', (502, "upstream-closed"), ""),
        ("400", "", (400, ""), ""),
    ],
)
def test_a_model_that_fails_is_replaced_by_the_next_one(
    tmp_path: Path, how: str, on: str, found: tuple[int, str], what: str
) -> None:
    dead = "a" if how == "refuses" else ""
    with house(tmp_path, chain(on, 'filters "one"'), own=True, budget="tokens 1000", dead=dead) as rooms:
        rooms.replace("a", how)
        assert rooms.ask(DEAR) == found
        if what:
            assert rooms.asked("b") == DEAR.replace(b"dear", b"b-1"), "with the name by which it is known there"
            assert rooms.fell(0) == [[what, "b-1", "b"]]
            assert rooms.worker.log(1)[0]["upstream"] == "b"
        else:
            assert rooms.fell(0) == [] and rooms.counts()[1:] == (0, 0)
        assert closed(rooms.worker) == [("['127.0.0.1/32']", 0)], "what did not answer has taken nothing"


def test_it_goes_down_the_list_and_the_last_one_s_answer_is_the_client_s(tmp_path: Path) -> None:
    with house(tmp_path, chain(), own=True) as rooms:
        for name, how in (("a", "closes"), ("b", "529")):
            rooms.replace(name, how)
        assert rooms.ask(DEAR) == (200, "")
        assert rooms.fell(0) == [["upstream-closed", "b-1", "b"], ["529", "last", "own"]]
        assert json.loads(rooms.asked("own"))["model"] == "last"
    with house(tmp_path / "again", chain(), own=True) as rooms:
        for name, how in (("a", "closes"), ("b", "529"), ("own", "429")):
            rooms.replace(name, how)
        assert rooms.ask(DEAR) == (429, "") and len(rooms.fell(0)) == 2


def test_a_budget_that_is_used_up_falls_back_and_the_model_that_answers_pays(tmp_path: Path) -> None:
    with house(tmp_path, chain(filters='filters "one"'), own=True, budget="tokens 100") as rooms:
        rooms.models["a"].answers = [usage(10, 60)]
        assert [rooms.ask(DEAR) for _ in range(3)] == [(200, "")] * 3
        assert rooms.counts() == (1, 2, 0)
        assert rooms.fell(2) == [["budget-exhausted", "b-1", "b"]]
        assert closed(rooms.worker) == [("['127.0.0.1/32']", 70)]


@pytest.mark.directive("route/models/model/fallback/first-token-timeout")
@pytest.mark.parametrize("how", ["silent head", "head alone", "broken head"])
def test_a_stream_without_a_token_is_given_up_for_another_one(tmp_path: Path, how: str) -> None:
    """The head of an answer that brings no token has not gone to the client."""
    models = chain('first-token-timeout "300ms"', 'filters "one"')
    with house(tmp_path, models, own=True, budget="tokens 1000") as rooms:
        rooms.replace("a", how)
        rooms.replace("b", Stream(2, "reported"))
        client = Client(rooms.worker.port)
        body = DEAR.replace(b"{", b'{"stream":true,', 1)
        client.send(f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = client.answer()
        assert answer.status == 200 and answer.body.count(b"words and more") == 2
        ((what, _, _),) = rooms.fell(0)
        assert what == ("upstream-aborted" if how == "broken head" else "first-token-timeout")
        assert closed(rooms.worker) == [("['127.0.0.1/32']", 0)]


OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


class Says:
    """A model whose stream begins so, and waits until it may go on."""

    def __init__(self, *pieces: bytes, head: bytes = HEAD) -> None:
        self.pieces = pieces
        self.head = head
        self.go = threading.Event()

    def __call__(self, conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.send(self.head + chunk(self.pieces[0]))
        assert self.go.wait(20)
        conversation.send(b"".join(map(chunk, self.pieces[1:])) + b"0\r\n\r\n")
        conversation.rest()


def streamed(rooms: House, path: str = CHAT) -> Client:
    body = DEAR.replace(b"{", b'{"stream":true,', 1)
    client = Client(rooms.worker.port)
    client.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


@pytest.mark.parametrize(
    ("path", "pieces", "status"),
    [
        ("/v1/messages", (OVERLOADED,), "529"), ("/v1/messages", (OVERLOADED[:20], OVERLOADED[20:]), "529"),
        (CHAT, (b'data: {"error":{"message":"busy","type":"server_error"}}\n\n',), "500"),
        (CHAT, (b'data: {"error":{"message":"slower","type":"rate_limit_exceeded"}}\r\n\r\n',), "429"),
    ],
)  # fmt: skip
def test_a_stream_that_begins_with_an_error_is_given_up_for_another_one(
    tmp_path: Path, path: str, pieces: tuple[bytes, ...], status: str
) -> None:
    with house(tmp_path, chain(filters='filters "one"'), own=True, budget="tokens 1000") as rooms:
        says = Says(*pieces)
        says.go.set()
        rooms.replace("a", says)
        rooms.replace("b", Stream(2, "reported"))
        answer = streamed(rooms, path).answer()
        assert answer.status == 200 and answer.body.count(b"words and more") == 2 and b"error" not in answer.body
        assert [one[0] for one in rooms.fell(0)] == [status]


def test_who_is_asked_after_a_stream_that_was_an_error_has_its_time_for_a_first_token_too(tmp_path: Path) -> None:
    with house(tmp_path, chain('first-token-timeout "300ms"'), own=True) as rooms:
        says = Says(OVERLOADED)
        says.go.set()
        rooms.replace("a", says)
        rooms.replace("b", "head alone")
        rooms.replace("own", Stream(2, "reported"))
        answer = streamed(rooms, "/v1/messages").answer()
        assert answer.status == 200 and answer.body.count(b"words and more") == 2
        assert [one[0] for one in rooms.fell(0)] == ["529", "first-token-timeout"]


@pytest.mark.parametrize(
    "pieces",
    [
        (b": waiting\n\n",),  # what keeps clients from giving up
        (b'data: {"error":{"message":"no","type":"invalid_request_error"}}\n\n',),  # nobody is asked for that
        (b'data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n', OVERLOADED),
    ],
)
def test_any_other_beginning_goes_to_the_client_at_once(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    with house(tmp_path, chain(), own=True) as rooms:
        says = Says(*pieces)
        rooms.replace("a", says)
        client = streamed(rooms)
        while pieces[0] not in client.buffer:  # while the model waits
            client.buffer += client.socket.recv(65536)
        says.go.set()
        assert client.answer().status == 200
        assert rooms.counts() == (1, 0, 0)


def test_the_first_token_of_an_encoded_stream_is_seen(tmp_path: Path) -> None:
    """Whoever waits for it looks into all that the gateway lets come; else a model that answers at once is given up."""
    packer = brotli.Compressor()
    event = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    first = packer.process(event) + packer.flush()
    rest = packer.process(b"data: [DONE]\n\n") + packer.finish()
    with house(tmp_path, chain('first-token-timeout "10s"'), own=True) as rooms:
        says = Says(first, rest, head=HEAD.replace(b"\r\n", b"\r\ncontent-encoding: br\r\n", 1))
        rooms.replace("a", says)
        body = DEAR.replace(b"{", b'{"stream":true,"stream_options":{"include_usage":true},', 1)
        client = Client(rooms.worker.port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(head.encode() + body)
        while first not in client.buffer:  # while the model waits
            client.buffer += client.socket.recv(65536)
        says.go.set()
        assert brotli.decompress(client.answer().body) == event + b"data: [DONE]\n\n"
        assert rooms.counts() == (1, 0, 0)


def test_a_stream_that_has_begun_is_never_begun_anew(tmp_path: Path) -> None:
    stream = Stream(3, "breaks")
    with house(tmp_path, chain('first-token-timeout "20s"'), own=True) as rooms:
        rooms.replace("a", stream)
        client = Client(rooms.worker.port)
        body = DEAR.replace(b"{", b'{"stream":true,', 1)
        client.send(f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        words(client, 3)
        stream.go.set()
        with pytest.raises((EOFError, ConnectionError)):
            client.answer()
        assert rooms.counts() == (1, 0, 0)


def test_a_request_is_one_request_however_many_models_are_asked(tmp_path: Path) -> None:
    limit = 'tokens 1000\n}\ntoken-limit "rpm" {\ntokens "100000/h"; requests "3/h"\n'
    with house(tmp_path, chain(), own=True, budget=limit, more='filters "rpm"') as rooms:
        for name in ("a", "b"):
            rooms.replace(name, "503")
        assert [rooms.ask(DEAR) for _ in range(4)] == [(200, "")] * 3 + [(429, "token-limited")]
        assert rooms.counts() == (3, 3, 3) and len(rooms.fell(2)) == 2
        left = [step.details for step in rooms.record(2).steps if step.details[1:2] == ("requests",)]
        assert [one[2] for one in left] == ["0", "0", "0"], "each time it was the third"


def test_retries_come_first_and_an_open_breaker_asks_nobody(tmp_path: Path) -> None:
    retry = 'retry { attempts 2; on "503"; unsafe-methods true; backoff "1ms"; }'
    breaker = 'circuit-breaker { failures 2; open-for "60s"; }'
    with house(tmp_path, chain(), own=True, upstreams={"a": breaker}, more=retry) as rooms:
        rooms.replace("a", "503")
        assert rooms.ask(DEAR) == (200, "")
        assert rooms.counts() == (2, 1, 0)
        assert rooms.ask(DEAR) == (200, "")
        assert rooms.counts() == (2, 2, 0) and rooms.fell(1)[0][0] == "breaker-open"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('model "a" { upstream "origin"; fallback "b"; }', "no line takes the model `b`"),
        ('model "a" { upstream "origin"; fallback "a"; }', "`a` has been asked already"),
        ('model "a" "b" { upstream "origin"; fallback "b"; }', "`b` has been asked already"),
        ('model "a*" { upstream "origin"; fallback "a2" { on "sunday"; }; }', "not a reason to ask another model"),
        (
            'model "a" { upstream "origin"; provider { dialect "openai"; }; fallback "b"; }\n'
            'model "b" { upstream "origin"; provider { dialect "anthropic"; }; }', "speaks `anthropic`",
        ),
    ],
)  # fmt: skip
def test_substitutes_that_could_not_be_asked_are_refused(tmp_path: Path, lines: str, told: str) -> None:
    more = f'route "more" {{ matches {{ path "/more"; }}\ninference\nmodels {{\n{lines}\n}}\n }}'
    loaded = load_text(written(tmp_path, 1, routes=more))
    assert loaded.plan is None and told in render_problems(loaded.problems)


@pytest.mark.directive("case/state/upstream@answers")
def test_a_test_says_how_an_upstream_answers() -> None:
    llm = 'request "POST http://a.example/chosen/v1/chat/completions"; '
    dear = 'tokens model="dear"'
    assert holds(f"state {{ {dear}; }}; " + llm + 'expect { upstream "api"; }')
    for how in ("429", "reset", "503"):
        state = f'state {{ {dear}; upstream "api" answers="{how}"; }}; '
        assert holds(state + llm + 'expect { upstream "peak"; step "fell-back"; }')
    assert holds(f'state {{ {dear}; upstream "api" answers="400"; }}; ' + llm + 'expect { upstream "api"; }')
    assert holds(f'state {{ {dear}; upstream "api" "breaker-open"; }}; ' + llm + 'expect { upstream "peak"; }')
    ill = "; ".join(f'endpoint "10.0.0.{number}:80" "unhealthy" upstream="api"' for number in (1, 2))
    assert holds(f"state {{ {dear}; {ill}; }}; " + llm + 'expect { upstream "peak"; }')
    assert "changes nothing" in refused('state { upstream "sticky" answers="429"; }; ' + llm + "expect { status 200; }")


def test_budgets_by_model_and_of_money_are_those_of_the_model_that_answered(tmp_path: Path) -> None:
    """An alias has no price and is no part of a key; who failed before has paid nothing."""
    budgets = (
        'tokens 1000\nkey "model"\n}\ntoken-budget "cash" { money "900"; key "model"; }\n}\n'
        'prices {\ncurrency "USD"\nprice "b-1" { input "500000"; output "1000000"; }\n'
        'price "dear" {\ninput "1"\noutput "1"'
    )
    filters = 'filters "one" "cash"'
    models = chain(filters=filters).replace('send-as "b-1"', 'send-as "b-1"; ' + filters)
    with house(tmp_path, models, own=True, budget=budgets) as rooms:
        rooms.replace("a", "429")
        answer = ask(Client(rooms.worker.port), body=DEAR)
        assert answer.status == 200
        told = [value for name, value in answer.field_list if name == "ratelimit-policy"]
        assert len(told) == 1, "of the budgets of the one that answered, and of no other"
        assert [name for name, _ in answer.field_list].count("x-request-id") == 1
        spent = dict(closed(rooms.worker))
        assert {name: one for name, one in spent.items() if one} == {"['b-1']": 25_000_000}, "10 read, 20 made"
        step = next(one for one in rooms.record(0).steps if one.reason == "priced")
        assert step.details[0] == "25.00 USD"


DIFFED = """\
schema-version "1.0"
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }}; }}
routes {{
    route "llm" {{
        matches {{ path-prefix "/v1"; }}
        inference
        models {{
            {}
        }}
    }}
}}
upstreams {{ upstream "a" {{ endpoint "127.0.0.1:1"; }}; upstream "b" {{ endpoint "127.0.0.1:2"; }}; }}
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('model "x" { upstream "a"; }', 'model "x" { upstream "a"; send-as "y"; }', "model x"),
        ('model "x" { upstream "a"; }', 'model "x" { upstream "b"; }', "model x"),
        ('model "x*" { upstream "a"; }', 'model "xw" { upstream "b"; }; model "x*" { upstream "a"; }', "model xw"),
        ('model "x" { upstream "a"; }', 'model "x" { upstream "a"; }; model "*" { upstream "b"; }', "w-no-such-model"),
        ('model "x" { upstream "a"; }', 'model "x" { upstream "a"; fallback "y"; }; model "y" { upstream "b"; }', "x"),
        ('model "x" { upstream "a"; }', 'model "x" { upstream "a"; }; list true', "GET "),
    ],
)
def test_a_diff_asks_for_each_model(old: str, new: str, told: str) -> None:
    plans = [load_text(DIFFED.format(lines)).plan for lines in (old, new)]
    tables = [compile_routes(plan) for plan in plans if plan is not None]
    report = compare(tables[0], tables[1], Generated(tables[0], tables[1]).cases())
    assert any(told in example for group in report.groups for example in group.examples)
    same = compare(tables[1], tables[1], Generated(tables[1], tables[1]).cases())
    assert same.is_same
