"""Who asks: what each directive of an authenticator changes, with one real worker for all that clients can try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.reasons import Reason
from sentinel.core.record import Record, decode
from sentinel.explain.words import step_text
from tests.directives.house import serving, written
from tests.workers.child import Answer, Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, fields_of, scripted

ACME, BETA, NEXT = (f"sk-sentinel-{name}-0123456789" for name in ("acme", "beta", "next"))
SAID = json.dumps({
    "id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 3,
    "completion_tokens": 4, "total_tokens": 7}, "choices": [{"index": 0, "finish_reason": "stop",
    "message": {"role": "assistant", "content": "fine"}}],
}).encode()  # fmt: skip


def hashed(key: str) -> str:
    return f"sha256:{sha256(key.encode()).hexdigest()}"


ROUTES = """
route "keyed" { matches { path-prefix "/keyed"; }; filters "clients"; upstream "origin"; }
route "bearer" { matches { path-prefix "/bearer"; }; filters "bearers"; upstream "origin"; }
route "query" { matches { path-prefix "/query"; }; filters "queries"; upstream "origin"; }
route "kept" { matches { path-prefix "/kept"; }; filters "kept"; upstream "origin"; }
route "either" { matches { path-prefix "/either"; }; filters "clients" "bearers"; upstream "origin"; }
route "own" { matches { path-prefix "/own"; }; filters "clients"; respond 200 body="own"; }
route "by-client" { matches { path-prefix "/by-client"; }; filters "clients" "per-client"; respond 200; }
route "by-tenant" { matches { path-prefix "/by-tenant"; }; filters "clients" "per-tenant"; respond 200; }
route "llm" { matches { path-prefix "/v1"; }; filters "llm"; inference { tenant "claim:tenant"; }; upstream "origin"; }
"""
FILTERS = f"""
api-key "clients" {{
    key "acme" "{hashed(ACME)}" "{hashed(NEXT)}" {{ claim "tenant" "A%"; }}
    key "beta" "{hashed(BETA)}" {{ claim "tenant" "A%"; claim "plan" "free"; }}
    pass-identity {{ header "x-user" "subject"; header "x-tenant" "claim:tenant"; header "x-by" "method"; }}
}}
api-key "bearers" {{
    key "acme" "{hashed(ACME)}"; read-from "bearer"; pass-identity {{ header "x-bearer" "subject"; }}
}}
api-key "queries" {{ key "acme" "{hashed(ACME)}"; read-from "header:x-key" "query:api_key"; }}
api-key "kept" {{ key "acme" "{hashed(ACME)}"; read-from "bearer" "query:key"; forward-credential true; }}
api-key "llm" {{ key "acme" "{hashed(ACME)}" {{ claim "tenant" "acme"; }}; read-from "bearer" "header:x-api-key"; }}
rate-limit "per-client" {{ rate "1/h"; burst 1; key "identity"; }}
rate-limit "per-tenant" {{ rate "1/h"; burst 1; key "claim:tenant"; }}
"""


def talk(conversation: Conversation) -> None:
    while True:
        conversation.body(conversation.head())
        conversation.answer(SAID, "HTTP/1.1 200 OK\r\ncontent-type: application/json")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with scripted(talk) as one:
        yield one


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Worker]:
    directory = tmp_path_factory.mktemp("identities")
    listener = 'trusted-proxies "127.0.0.2/32"'
    with serving(directory, origin=origin.port, routes=ROUTES, filters=FILTERS, listener=listener) as one:
        yield one


def asked(worker: Worker, path: str, *fields: str) -> Answer:
    return Client(worker.port).get(path, *fields)


def why(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.fields.get("x-sentinel-reason", "")


def steps(worker: Worker, answer: Answer) -> list[str]:
    """What the record says, in words."""
    wanted = answer.fields["x-request-id"]

    def found() -> Record | None:
        records = (decode(one) for one in worker.region.journal_read(worker.slot))
        return next((one for one in records if one.request_id == wanted), None)

    record = wait_until(found, "it is recorded")
    return [step_text(Reason[_name(one.reason)], one.details) for one in record.steps]


def _name(word: str) -> str:
    return word.upper().replace("-", "_")


MISSING, UNKNOWN, FINE = (401, Reason.CREDENTIALS_MISSING.word), (401, Reason.KEY_UNKNOWN.word), (200, "")


@pytest.mark.directive("api-key", "api-key/key")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), MISSING),
        ((f"X-Api-Key: {ACME}",), FINE),
        ((f"x-api-key: {NEXT}",), FINE),  # while one is exchanged for another
        ((f"x-api-key: {BETA}",), FINE),
        ((f"x-api-key: {ACME}x",), UNKNOWN),
        ((f"x-api-key: {ACME[:-1]}",), UNKNOWN),
        ((f"x-api-key: {hashed(ACME)}",), UNKNOWN),
        ((f"x-api-key: {hashed(ACME)[7:]}",), UNKNOWN),
        ((f"x-api-key: {ACME.upper()}",), UNKNOWN),
        (("x-api-key:",), UNKNOWN),
        ((f"x-api-key: {ACME}", f"x-api-key: {ACME}"), UNKNOWN),
        ((f"x-api-key: {ACME}, {BETA}",), UNKNOWN),
        ((f"x-api-key: {'k' * 5000}",), UNKNOWN),
        ((f"x_api_key: {ACME}",), MISSING),
        ((f"authorization: Bearer {ACME}",), MISSING),
        ((f"cookie: x-api-key={ACME}",), MISSING),
    ],
)
def test_only_who_has_a_key_is_let_in(worker: Worker, fields: tuple[str, ...], expected: tuple[int, str]) -> None:
    answer = asked(worker, "/keyed", *fields)
    assert why(answer) == expected
    if expected[0] == 401:
        assert answer.fields["www-authenticate"] == 'ApiKey realm="clients"'
        assert answer.fields["cache-control"] == "no-store"
        assert ACME.encode() not in answer.body


def test_a_route_that_answers_itself_is_guarded_too(worker: Worker) -> None:
    assert why(asked(worker, "/own")) == MISSING
    assert asked(worker, "/own", f"x-api-key: {ACME}").body == b"own"


def test_who_is_refused_may_ask_again_on_the_same_connection(worker: Worker) -> None:
    client = Client(worker.port)
    assert [client.get("/keyed", f"x-api-key: {key}").status for key in ("wrong", ACME)] == [401, 200]


@pytest.mark.directive("api-key/read-from")
def test_the_key_is_where_the_filter_says(worker: Worker) -> None:
    assert why(asked(worker, "/bearer", f"Authorization: bearer {ACME}")) == FINE
    assert why(asked(worker, "/bearer", f"Authorization: Basic {ACME}")) == MISSING
    assert why(asked(worker, "/bearer", f"x-api-key: {ACME}")) == MISSING
    assert asked(worker, "/bearer").fields["www-authenticate"] == 'Bearer realm="bearers"'
    assert why(asked(worker, f"/query?a=1&api_key={ACME}")) == FINE
    assert why(asked(worker, f"/query?api_key={ACME}&api_key={ACME}")) == UNKNOWN
    assert why(asked(worker, f"/query?api_key={ACME}", "x-key: wrong")) == UNKNOWN, "the first place that has one"


def test_any_filter_that_knows_the_client_suffices(worker: Worker) -> None:
    assert why(asked(worker, "/either", f"x-api-key: {BETA}")) == FINE
    assert why(asked(worker, "/either", f"Authorization: Bearer {ACME}")) == FINE
    assert why(asked(worker, "/either", "x-api-key: wrong", f"Authorization: Bearer {ACME}")) == FINE
    assert why(asked(worker, "/either", "x-api-key: wrong")) == UNKNOWN
    answer = asked(worker, "/either")
    assert why(answer) == MISSING
    assert [value for name, value in answer.field_list if name == "www-authenticate"] == [
        'ApiKey realm="clients"', 'Bearer realm="bearers"',
    ]  # fmt: skip


@pytest.mark.directive("api-key/forward-credential")
@pytest.mark.parametrize(
    ("path", "fields", "left"),
    [
        ("/keyed", [f"X-Api-Key: {ACME}"], ""),
        ("/bearer", [f"Authorization: Bearer {ACME}"], ""),
        ("/either", [f"x-api-key: {BETA}", f"Authorization: Bearer {ACME}"], ""),
        ("/either", [f"x-api-key: {ACME}", f"X_Api-Key: {BETA}", f"x-api_key: {BETA}"], ""),
        (f"/query?a=1&api_key={ACME}&b=2", [], "/query?a=1&b=2"),
        (f"/query?%61pi_key={ACME}", [], "/query"),
        (f"/query?api_key={BETA}", [f"x-key: {ACME}"], "/query"),
        (f"/kept?key={ACME}", [], ACME),
        ("/kept", [f"Authorization: Bearer {ACME}"], ACME),
    ],
)
def test_a_key_goes_no_further_unless_the_filter_says_so(
    worker: Worker, origin: Origin, path: str, fields: list[str], left: str
) -> None:
    assert why(asked(worker, path, *fields)) == FINE
    sent = origin.heads[-1].decode()
    assert left in sent
    assert (ACME in sent) is (left == ACME) and BETA not in sent
    assert "api-key:" not in sent.lower().replace("_", "-")


@pytest.mark.directive("api-key/pass-identity/header", "api-key/key/claim")
def test_the_upstream_is_told_who_asks_and_nobody_else_can_tell_it(worker: Worker, origin: Origin) -> None:
    forged = ["X-User: root", "x-user: root", "X_User: root", "x-Tenant: root", "x_tenant: root", "X-By: root",
              "x-bearer: root", "Connection: keep-alive, x-user, x-tenant"]  # fmt: skip
    assert why(asked(worker, "/keyed", f"x-api-key: {BETA}", *forged)) == FINE
    sent = origin.heads[-1]
    assert b"root" not in sent
    told = fields_of(sent)
    assert (told["x-user"], told["x-tenant"], told["x-by"]) == ("beta", "A%25", "api-key")
    assert sent.lower().count(b"\r\nx-user:") == 1
    assert why(asked(worker, "/kept", f"Authorization: Bearer {ACME}", *forged)) == FINE
    assert b"root" not in origin.heads[-1] and b"x-user" not in origin.heads[-1].lower(), "another filter's names too"
    assert why(asked(worker, "/plain", "x-other: root", *forged)) == FINE, "a route with no filter at all"
    assert origin.heads[-1].count(b"root") == 1


def test_a_trusted_proxy_cannot_tell_it_either(worker: Worker, origin: Origin) -> None:
    import socket

    sock = socket.create_connection(("127.0.0.1", worker.port), source_address=("127.0.0.2", 0))
    answer = Client(worker.port, sock=sock).get("/plain", "X-User: root", "x_user: root")
    assert answer.status == 200 and b"root" not in origin.heads[-1]


def test_limits_count_clients_and_tenants(worker: Worker) -> None:
    codes = [asked(worker, "/by-client", f"x-api-key: {key}").status for key in (ACME, NEXT, BETA, BETA)]
    assert codes == [200, 429, 200, 429], "two keys of one client are one client"
    codes = [asked(worker, "/by-tenant", f"x-api-key: {key}").status for key in (BETA, ACME)]
    assert codes == [200, 429], "two clients of one tenant"
    assert asked(worker, "/by-tenant").status == 401, "who is not let in is charged nothing"


def test_the_trace_tells_who_asked_and_never_by_what(worker: Worker) -> None:
    answer = asked(worker, "/either", "x-api-key: wrong-and-secret", f"Authorization: Bearer {ACME}")
    said = steps(worker, answer)
    assert any(one.startswith("`clients` lets nobody in: the request shows a key") for one in said)
    assert "`bearers` knows who asks, by api-key: \"acme\"" in said
    told = steps(worker, asked(worker, "/keyed", f"x-api-key: {BETA}"))
    assert "`clients` knows who asks, by api-key: \"beta\", with \"tenant=A%\", \"plan=free\"" in told
    for one in worker.region.journal_read(worker.slot):
        assert ACME.encode() not in one and BETA.encode() not in one and b"wrong-and-secret" not in one
    wait_until(lambda: worker.log(1)[-1].get("identity") == "clients:beta", "and the log tells it")
    assert "wrong-and-secret" not in (worker.directory / "access.log").read_text()


def test_sdks_know_the_refusal_for_what_it_is(worker: Worker, origin: Origin) -> None:
    base = f"http://127.0.0.1:{worker.port}"
    messages: Any = [{"role": "user", "content": "hi"}]
    good = openai.OpenAI(api_key=ACME, base_url=f"{base}/v1", max_retries=0)
    assert good.chat.completions.create(model="m", messages=messages).choices[0].message.content == "fine"
    assert b"authorization" not in origin.heads[-1].lower()
    bad = openai.OpenAI(api_key="sk-nobody-knows-this-one", base_url=f"{base}/v1", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        bad.chat.completions.create(model="m", messages=messages)
    assert caught.value.code == "invalid_api_key" and "sk-nobody" not in str(caught.value)
    claude = anthropic.Anthropic(api_key="sk-nobody-knows-this-one", base_url=base, max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as other:
        claude.messages.create(model="m", max_tokens=9, messages=messages)
    assert "authentication_error" in str(other.value) and "key-unknown" in str(other.value)
    wait_until(lambda: worker.log(1)[-1]["reason"] == "key-unknown", "the log tells it too")


# What cannot be meant.


def problems(filters: str = FILTERS, routes: str = ROUTES, **parts: str) -> str:
    loaded = load_text(written(Path("/nowhere"), 8080, routes=routes, filters=filters, **parts))
    return render_problems(loaded.problems)


def gate(*more: str) -> str:
    return f'api-key "one" {{ key "a" "{hashed(ACME)}"; {"; ".join(more)}; }}' if more else ONE


ONE = f'api-key "one" {{ key "a" "{hashed(ACME)}"; }}'


@pytest.mark.parametrize(
    ("filters", "route", "said"),
    [
        ('rate-limit "r" { rate "1/s"; key "identity"; }', 'filters "r"', "finds out nobody's identity"),
        ('rate-limit "r" { rate "1/s"; key "claim:tenant"; }', 'filters "r"', "finds out nobody's identity"),
        (f'{ONE}; rate-limit "r" {{ rate "1/s"; key "claim:tenant"; }}', 'filters "one" "r"', "has a claim `tenant`"),
        (f'{ONE}; concurrency-limit "r" {{ max 1; key "identity"; }}', 'filters "r"', "finds out nobody's identity"),
        ("", 'inference { tenant "claim:t"; }', "finds out nobody's identity"),
        (f'api-key "one" {{ key "a" "{hashed(ACME)}"; key "b" "{hashed(ACME)}"; }}', "", "given out twice"),
        (f'api-key "one" {{ key "a" "{ACME}"; }}', "", "not the hash of a key"),
        ('api-key "one"', "", "needs `key`"),
        (f'{ONE}; rate-limit "one" {{ rate "1/s"; }}', "", "is the name of a api-key already"),
        (gate('read-from "cookie:a"'), "", "not where a key may be"),
        (gate('read-from "header:host"'), "", "a meaning of its own"),
        (gate('pass-identity { header "Host" "subject"; }'), "", "something else"),
        (gate('pass-identity { header "x-a" "name"; }'), "", "not a part of"),
        (gate('pass-identity { header "x-a" "claim:t"; }'), "", "has a claim `t`"),
        (gate('pass-identity { header "a-b-c-d-e-f_g-h" "subject"; }'), "", "dashes"),
    ],
)  # fmt: skip
def test_what_would_do_nothing_is_refused(filters: str, route: str, said: str) -> None:
    assert said in problems(filters, "", route=route)


def test_splits_and_balances_by_identity_need_somebody_who_finds_it_out() -> None:
    balance = 'balance "maglev" { key "identity"; }'
    assert "finds out nobody's identity" in problems(ONE, "", upstream=balance)
    shares = 'upstream "origin"; upstream "origin" weight=2'
    split = f'route "s" {{ matches {{ path "/s"; }}; split {{ {shares}; key "identity"; }}; }}'
    assert "finds out nobody's identity" in problems(ONE, split)
    guarded = ONE + '; api-key "two" { key "a" "' + hashed(BETA) + '"; }'
    assert problems(guarded, "", upstream=balance, route='filters "one"') == ""
