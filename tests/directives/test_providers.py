"""What a provider is told instead of what its client said, and where its credential is never seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.config import load_text, redacted, render_problems
from sentinel.config.states import read_state
from sentinel.core.record import decode
from sentinel.core.routes import compile_routes
from sentinel.core.state import State
from sentinel.explain import render_text
from sentinel.explain.assumed import Assumed
from sentinel.explain.diff import compare
from sentinel.explain.generate import Generated
from sentinel.explain.recorded import explain_record
from tests.directives.house import serving, written
from tests.directives.test_budgets import CHAT, Model
from tests.directives.test_models import HI, house
from tests.workers.child import Client, wait_until
from tests.workers.origin import fields_of, scripted
from workers.rehearsal import House, document, read_question

SECRET = "sk-of-the-gateway-0123456789"
OTHER = "sk-of-another-line-0123456789"
MINE = "sk-of-a-client-0123456789"
BODY = b'{"model":"gpt-1",' + HI.encode() + b"}"
SPELLINGS = (
    "Authorization", "X-Api-Key", "x_api_key", "API-KEY", "api_key", "X-Goog-Api-Key", "x_goog-api_key",
    "Proxy-Authorization", "OpenAI-Organization", "openai_project", "X-Goog-User-Project", "Cookie", "COOKIE",
    "X-Forwarded-Access-Token", "x_forwarded_email", "X-Auth-Request-Access-Token", "X-Amzn-Oidc-Data",
    "X-Goog-IAP-JWT-Assertion", "Cf-Access-Jwt-Assertion", "X-Ms-Token-Aad-Access-Token", "x-access_token",
)  # fmt: skip
ONE = 'model "gpt-*" { upstream "a"; }'


@pytest.mark.directive(
    "upstream/provider/credential", "upstream/provider/credential/header", "upstream/provider/credential/scheme",
    "upstream/provider/dialect",
)  # fmt: skip
@pytest.mark.parametrize(
    ("provider", "field", "value"),
    [
        (f'credential "{SECRET}"', "authorization", f"Bearer {SECRET}"),
        (f'credential "{SECRET}" {{ scheme "Token"; }}', "authorization", f"Token {SECRET}"),
        (f'credential "{SECRET}" {{ header "x-own"; }}', "x-own", SECRET),
        (f'dialect "ollama"; credential "{SECRET}"', "authorization", f"Bearer {SECRET}"),
    ],
)
def test_a_client_s_credentials_never_reach_a_provider(
    tmp_path: Path, provider: str, field: str, value: str
) -> None:
    with house(tmp_path, ONE, upstreams={"a": f"provider {{ {provider}; }}"}) as found:
        own = ("X-Own", "x_own") if field == "x-own" else ()
        lines = [f"{name}: {MINE}" for name in (*SPELLINGS, *own)] + ["X-Kept: yes"]
        path = f"{CHAT}?a=1&key={MINE}&b=2;%6bey={MINE}&API_KEY={MINE}&access_token={MINE}&keys=3"
        assert found.ask(BODY, *lines, path=path) == (200, "")
        head = found.origins["a"].heads[0]
        assert MINE.encode() not in head
        fields = fields_of(head)
        assert fields[field] == value and fields["x-kept"] == "yes"
        assert head.lower().count(field.encode() + b":") == 1
        assert found.line("a") == f"POST {CHAT}?a=1&keys=3 HTTP/1.1"
        assert found.asked("a") == BODY


TWO = 'model "gpt-1" { upstream "a"; fallback "llama"; }\nmodel "llama" { upstream "b"; }'


@pytest.mark.directive("upstream/provider/client-credentials", "route/models/model/provider/client-credentials")
@pytest.mark.parametrize(
    ("first", "second", "passes"),
    [
        (f'provider {{ credential "{SECRET}"; }}', "", False),
        (f'provider {{ credential "{SECRET}"; }}', 'provider { client-credentials "pass"; }', True),
        ('provider { host "a.example"; }', "", True),
        ('provider { host "a.example"; }', 'provider { client-credentials "drop"; }', False),
    ],
)
def test_a_key_that_was_meant_for_the_gateway_goes_to_nobody_else(
    tmp_path: Path, first: str, second: str, passes: bool
) -> None:
    """A model with the gateway's credential has failed, and the one that is asked instead has none."""
    with house(tmp_path, TWO, upstreams={"a": first, "b": second}) as found:
        found.replace("a", "503")
        lines = f"Authorization: Bearer {MINE}", f"Cookie: session={MINE}", "X-Kept: yes"
        assert found.ask(BODY, *lines, path=f"{CHAT}?key={MINE}") == (200, "")
        sent = found.origins["b"].heads[0]
        assert (sent.count(MINE.encode()) == 3) is passes and (MINE.encode() in sent) is passes
        assert fields_of(sent)["x-kept"] == "yes"
        assert (MINE.encode() in found.origins["a"].heads[0]) is ("host" in first)
        question = read_question(f"POST {CHAT}", (*lines, "Content-Type: application/json"), body=BODY)
        plan = found.worker.plan
        state = read_state(["upstream a answers=503"], plan)
        assert isinstance(state, State)
        told = document(House(plan).rehearse(plan.listeners[0], question, "127.0.0.1", Assumed(plan, state)))
        assert told["verdict"]["upstream"] == "b"
        names = [name for name, _ in told["sent"]]
        assert ("authorization" in names) is ("cookie" in names) is passes, "a dry run says the same"


def test_a_line_of_models_keeps_back_what_its_upstream_would_pass(tmp_path: Path) -> None:
    models = 'model "gpt-*" { upstream "a"; provider { client-credentials "drop"; }; }\nmodel "*" { upstream "a"; }'
    with house(tmp_path, models) as found:
        for name in ("gpt-1", "other"):
            body = BODY.replace(b"gpt-1", name.encode())
            assert found.ask(body, f"Authorization: Bearer {MINE}") == (200, "")
        assert [MINE.encode() in head for head in found.origins["a"].heads] == [False, True]


@pytest.mark.parametrize(("dialect", "path", "field"), [
    ("anthropic", "/v1/messages", "x-api-key"), ("gemini", "/v1beta/models/gpt-1:generateContent", "x-goog-api-key"),
])  # fmt: skip
def test_a_dialect_has_its_own_field(tmp_path: Path, dialect: str, path: str, field: str) -> None:
    more = {"a": f'provider {{ dialect "{dialect}"; credential "{SECRET}"; }}'}
    with house(tmp_path, ONE, upstreams=more) as found:
        body = b'{"model":"gpt-1","max_tokens":9,"messages":[]}'
        assert found.ask(body, "Authorization: Bearer " + MINE, path=path) == (200, "")
        fields = fields_of(found.origins["a"].heads[0])
        assert fields[field] == SECRET and "authorization" not in fields


@pytest.mark.directive(
    "upstream/provider/host", "upstream/provider/path-prefix", "upstream/provider/query",
)  # fmt: skip
def test_a_provider_has_another_host_and_other_paths(tmp_path: Path) -> None:
    azure = 'host "Acme.example:8443"; path-prefix "/openai/deployments/{model}"; query "api-version" "2024 10"'
    models = 'model "fast" { upstream "a"; send-as "gpt/4"; }'
    with house(tmp_path, models, upstreams={"a": f"provider {{ {azure}; }}"}) as found:
        path = CHAT + "?api-version=1&x=%20"
        assert found.ask(BODY.replace(b"gpt-1", b"fast"), "Authorization: " + MINE, path=path) == (200, "")
        sent = "/openai/deployments/gpt%2F4/chat/completions?x=%20&api-version=2024%2010"
        assert found.line("a") == f"POST {sent} HTTP/1.1"
        fields = fields_of(found.origins["a"].heads[0])
        assert fields["host"] == "acme.example:8443"
        assert fields["authorization"] == MINE, "without a credential of its own it is the client's"


@pytest.mark.directive(
    "route/models/model/provider/credential", "route/models/model/provider/credential/header",
    "route/models/model/provider/credential/scheme", "route/models/model/provider/host",
    "route/models/model/provider/path-prefix", "route/models/model/provider/query",
    "route/models/model/provider/dialect",
)  # fmt: skip
def test_what_a_line_says_of_its_provider_holds_and_the_rest_is_the_upstream_s(tmp_path: Path) -> None:
    line = (
        f'dialect "openai"; host "line.example"; path-prefix "/x"; query "v" "2"; '
        f'credential "{OTHER}" {{ header "api-key"; scheme "S"; }}'
    )
    models = f'model "gpt-*" {{ upstream "a"; provider {{ {line}; }}; }}\nmodel "*" {{ upstream "a"; }}'
    upstream = f'provider {{ host "upstream.example"; query "v" "1"; query "w" "1"; credential "{SECRET}"; }}'
    with house(tmp_path, models, upstreams={"a": upstream}) as found:
        assert found.ask(BODY) == (200, "")
        assert found.line("a") == "POST /x/chat/completions?w=1&v=2 HTTP/1.1"
        fields = fields_of(found.origins["a"].heads[-1])
        assert (fields["host"], fields["api-key"]) == ("line.example", f"S {OTHER}")
        assert SECRET.encode() not in found.origins["a"].heads[-1]
        assert found.ask(BODY.replace(b"gpt", b"x")) == (200, "")
        assert found.line("a") == f"POST {CHAT}?v=1&w=1 HTTP/1.1"
        assert fields_of(found.origins["a"].heads[-1])["authorization"] == f"Bearer {SECRET}"
        claude = b'{"model":"gpt-1","max_tokens":9,"messages":[]}'
        assert found.ask(claude, path="/v1/messages") == (400, "dialect-mismatch")
        assert "dialect-mismatch" in found.steps(2)


def test_a_route_that_knows_nothing_of_models_has_it_too_and_copies_have_their_own(tmp_path: Path) -> None:
    with scripted(Model()) as origin, scripted(Model()) as shade:
        upstream = (
            f'provider {{ credential "{SECRET}"; host "first.example"; }}\n}}\nupstream "copies" {{\n'
            f'endpoint "127.0.0.1:{shade.port}"\nprovider {{ credential "{OTHER}"; query "copy" "1"; }}'
        )
        with serving(tmp_path, origin=origin.port, upstream=upstream, route='shadow "copies"') as worker:
            answer = Client(worker.port).get(f"/any?key={MINE}", f"Authorization: {MINE}")
            assert answer.status == 200
            wait_until(lambda: shade.heads, "the copy is there")
        for head, secret in ((origin.heads[0], SECRET), (shade.heads[0], OTHER)):
            assert MINE.encode() not in head and fields_of(head)["authorization"] == f"Bearer {secret}"
        assert shade.heads[0].startswith(b"GET /any?copy=1 ") and fields_of(origin.heads[0])["host"] == "first.example"


TEXT = """\
schema-version "1.0"
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }}; }}
routes {{
    route "llm" {{
        matches {{ path-prefix "/v1"; }}
        inference
        models {{
            model "gpt-*" {{ upstream "a"; provider {{ credential {line}; }}; }}
            model "*" {{ upstream "a"; }}
        }}
    }}
}}
upstreams {{ upstream "a" {{ endpoint "127.0.0.1:1"; provider {{ credential {upstream}; }}; }}; }}
"""


def test_nothing_that_is_shown_has_the_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OTHER + "\n")
    text = TEXT.format(line='(file)"key"', upstream=f'"{SECRET}"')
    loaded = load_text(text, str(tmp_path / "s.kdl"))
    assert loaded.plan is not None, render_problems(loaded.problems)
    plan = loaded.plan
    line = plan.routes[0].models
    assert line is not None and line.lines[0].provider is not None and line.lines[0].provider.credential is not None
    assert line.lines[0].provider.credential.secret == OTHER, "without the end of its line"
    shown = [json.dumps(redacted(plan)), render_problems(loaded.warnings), render_problems(loaded.notes)]
    changed = load_text(TEXT.format(line='"sk-a-third-one-0123456789"', upstream=f'"{SECRET}x"'))
    assert changed.plan is not None
    report = compare(*(tables := (compile_routes(plan), compile_routes(changed.plan))), Generated(*tables).cases())
    assert report.differing, "a reload that changes a credential is told"
    shown.append(json.dumps(report.to_dict()))
    question = read_question("POST /v1/chat/completions", (f"Authorization: {MINE}",))
    rehearsal = House(plan).rehearse(plan.listeners[0], question, "127.0.0.1", Assumed(plan))
    told = document(rehearsal)
    assert ["authorization", "Bearer (redacted)"] in told["sent"] and MINE not in json.dumps(told["sent"])
    shown += [json.dumps(told), render_text(rehearsal.tree())]
    wrong = load_text(text.replace("upstream \"a\"; provider", "upstream \"b\"; provider"), str(tmp_path / "s.kdl"))
    shown.append(render_problems(wrong.problems))
    short = load_text(TEXT.format(line='(file)"key"', upstream='(file)"short"'), str(tmp_path / "s.kdl"))
    shown.append(render_problems(short.problems))
    for number, one in enumerate(shown):
        kept = one.replace(f'"{SECRET}"', "") if number == len(shown) - 2 else one  # the line as its author wrote it
        assert SECRET not in kept and OTHER not in kept and "third-one" not in kept, one


def test_neither_log_nor_journal_has_the_secret(tmp_path: Path) -> None:
    with house(tmp_path, ONE, upstreams={"a": f'provider {{ credential "{SECRET}"; }}'}) as found:
        found.ask(BODY)
        found.ask(b"{", f"Authorization: {MINE}")
        wait_until(lambda: found.worker.log(2), "it is written down")
        shown = (tmp_path / "access.log").read_bytes()
        for octets in found.worker.region.journal_read(found.worker.slot):
            shown += octets + render_text(
                explain_record(decode(octets), compile_routes(found.worker.plan))
            ).encode()
        assert SECRET.encode() not in shown and MINE.encode() not in shown


@pytest.mark.parametrize(
    ("route", "provider", "told"),
    [
        ('inference\nupstream "p"', "provider", "`provider` says nothing"),
        ('inference\nupstream "p"', 'provider { credential "short"; }', "at least 16"),
        ('inference\nupstream "p"', f'provider {{ credential "{SECRET}"; client-credentials "drop"; }}', "no effect"),
        ('inference\nupstream "p"', f'provider {{ credential "{SECRET}" {{ header "Host"; }}; }}', "something else"),
        ('inference\nupstream "p"', 'provider { path-prefix "/{model}"; }', "nobody knows the `{model}`"),
        ('inference\nupstream "p"', 'provider { path-prefix "v1"; }', 'begins with "/"'),
        ('inference\nupstream "p"', 'provider { host "http://x"; }', "not a host"),
        ('upstream "p"', 'provider { dialect "openai"; }', "`dialect` has no effect"),
        ('inference { family "openai"; }\nupstream "p"', 'provider { dialect "anthropic"; }', "speak `openai`"),
        (
            'inference { family "anthropic"; }\nmodels { model "a" { upstream "p"; provider { dialect "ollama"; }; }; }'
            "",
            'provider { dialect "anthropic"; }', "speak `anthropic`",
        ),
    ],
)  # fmt: skip
def test_what_would_not_be_obeyed_is_refused(tmp_path: Path, route: str, provider: str, told: str) -> None:
    more = f'route "more" {{ matches {{ path "/more"; }}\n{route}\n }}'
    upstream = f'}}\nupstream "p" {{\nendpoint "127.0.0.1:1"\n{provider}\n'
    loaded = load_text(written(tmp_path, 1, routes=more, upstream=upstream))
    assert loaded.plan is None and told in render_problems(loaded.problems)
