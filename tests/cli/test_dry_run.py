"""`sentinelctl dry-run`: where requests come from, what is assumed, and what is printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sentinel.cli.curl import read_curl
from sentinel.cli.dry import dry_run
from workers.rehearsal import Misasked

TEXT = """\
schema-version "1.0"
listeners { listener "web" { address "127.0.0.1:8080"; }; }
routes {
    route "api" {
        matches { host "api.example.com"; path-prefix "/v1"; }
        filters "per-client"
        upstream "api"
        max-body-size "1KiB"
    }
    route "rest" { matches { path-prefix "/"; }; respond 404; }
}
filters { rate-limit "per-client" { rate "2/s"; burst 2; }; }
upstreams {
    upstream "api" { endpoint "127.0.0.1:9001"; endpoint "127.0.0.1:9002"; outlier-ejection; }
}
"""
API = "GET http://api.example.com/v1/x"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "s.kdl"
    path.write_text(TEXT)
    return str(path)


def run(*words: str) -> Result:
    return CliRunner().invoke(dry_run, words)


def verdict(config: str, *words: str) -> dict[str, object]:
    told = run("-c", config, "--json", *words)
    assert told.exit_code == 0, told.output
    found: dict[str, object] = json.loads(told.stdout)["verdict"]
    return found


def test_the_tree_as_a_whole(config: str) -> None:
    told = run("-c", config, "--request", API, "--state", "endpoint 127.0.0.1:9001 ejected", "--client-ip", "192.0.2.7",
               "--state", "limit per-client 192.0.2.7 remaining=1")  # fmt: skip
    assert told.output.replace(config, "s.kdl").splitlines() == [
        "GET http://api.example.com/v1/x",
        "├─ from 192.0.2.7 at listener `web`",
        "├─ route `api` matches  [route-matched]  s.kdl:5:9",
        "├─ rate limit `per-client` admits it, 0 of 2 left  [within-limit]  s.kdl:12:11",
        "├─ endpoint 127.0.0.1:9001 is passed over: ejected  [endpoint-passed-over]  s.kdl:14:22",
        "├─ upstream `api`: endpoint 127.0.0.1:9002  [endpoint-chosen]  s.kdl:14:49",
        "└─ forward to 127.0.0.1:9002 of `api` (one of 2 by round-robin)  [proxied]",
    ]


def test_an_unknown_name_in_a_state_has_a_caret_and_a_suggestion(config: str) -> None:
    told = run("-c", config, "--request", API, "--state", "limit per-clint 192.0.2.7")
    assert told.exit_code == 1
    assert told.stderr.splitlines() == [
        "--state:1:7: there is no rate-limit or token-limit `per-clint`",
        '    limit "per-clint" "192.0.2.7"',
        "          ^",
        "    did you mean `per-client`?",
    ]


def test_a_body_is_as_long_as_it_is(config: str, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 1025)
    post = ("--request", API.replace("GET", "POST"))
    assert verdict(config, *post, "--body", f"@{body}")["reason"] == "body-too-large"
    body.write_bytes(b"x" * 1024)
    assert verdict(config, *post, "--body", f"@{body}")["kind"] == "forward"
    assert verdict(config, *post, "--body", "y" * 1025)["status"] == 413
    assert run("-c", config, *post, "--body", "@/nowhere").exit_code == 2


def test_what_the_upstream_and_the_client_read(config: str) -> None:
    told = json.loads(run("-c", config, "--json", "--request", API, "-H", "x-forwarded-for: 1.2.3.4").stdout)
    sent = dict(map(tuple, told["sent"]))
    assert len(sent) == len(told["sent"]), "no line is told twice"
    assert (sent["host"], sent["x-forwarded-for"]) == ("api.example.com", "127.0.0.1"), "strangers are not believed"
    assert dict(map(tuple, told["answer"]))["ratelimit"] == '"per-client";r=1;t=1'


def test_many_requests_each_for_itself_or_one_after_the_other(config: str, tmp_path: Path) -> None:
    lines = tmp_path / "requests.jsonl"
    lines.write_text('{"url": "http://api.example.com/v1/x"}\n' * 5)

    def kinds(*words: str) -> list[str]:
        told = run("-c", config, "--json", "--jsonl", str(lines), *words)
        return [one["verdict"]["kind"] for one in json.loads(told.stdout)]

    assert kinds() == ["forward"] * 5
    assert kinds("--sequence", "0s") == ["forward"] * 2 + ["reject"] * 3
    assert kinds("--sequence", "500ms") == ["forward"] * 5
    har = tmp_path / "requests.har"
    entry = {"request": {"method": "GET", "url": "http://api.example.com/v1/y", "headers": [], "bodySize": 0}}
    har.write_text(json.dumps({"log": {"entries": [entry, entry]}}))
    (one, two) = json.loads(run("-c", config, "--json", "--har", str(har)).stdout)
    assert one["request"]["path"] == two["request"]["path"] == "/v1/y"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--request", "/"], "say -c FILE, or --live"),
        (["-c", "CONFIG"], "give one of --request"),
        (["-c", "CONFIG", "--request", "/", "--curl", "curl /"], "give one of --request"),
        (["-c", "CONFIG", "--curl", "curl http://a/", "-H", "a: b"], "belong to --request"),
        (["-c", "CONFIG", "--request", "/", "--at", "tomorrow"], "--at: a time with its zone"),
        (["-c", "CONFIG", "--request", "/", "--sequence", "5"], "--sequence: a duration"),
        (["-c", "CONFIG", "--request", "/", "--client-ip", "x"], "is no IP address"),
        (["-c", "CONFIG", "--jsonl", os.devnull], "there is no request in it"),
        (["-c", "CONFIG", "--curl", "curl -F a=b http://a/"], "-F is not understood"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(config: str, words: list[str], said: str) -> None:
    told = run(*[config if word == "CONFIG" else word for word in words])
    assert told.exit_code == 2 and said in " ".join(told.output.split()), told.output


@pytest.mark.parametrize(
    ("line", "method", "url", "headers", "size"),
    [
        ("curl http://a.example/x?y=1", "GET", "/x?y=1", [], -1),
        ("curl a.example/x", "GET", "/x", [], -1),
        ("curl -sSL -X DELETE 'http://a.example/x'", "DELETE", "/x", [], -1),
        ("curl -XPUT http://a.example/ -d a=b -d c", "PUT", "/",
         ["content-type: application/x-www-form-urlencoded"], 5),
        ("curl http://a.example/ --data-raw '@x'", "POST", "/", [], 2),
        ("curl http://a.example/ --json '{\"a\": 1}'", "POST", "/", ["content-type: application/json"], 8),
        ("curl -G http://a.example/?a=1 -d b=2 -d c=3", "GET", "/?a=1&b=2&c=3", [], -1),
        ("curl -G http://a.example/ --data-urlencode 'q=a b'", "GET", "/?q=a+b", [], -1),
        ("curl -I http://a.example/", "HEAD", "/", [], -1),
        ("curl http://a.example/ -u me:secret", "GET", "/", ["authorization: Basic bWU6c2VjcmV0"], -1),
        ("curl http://a.example/ -b 'a=b; c=d' -A me", "GET", "/", ["cookie: a=b; c=d", "user-agent: me"], -1),
        ("curl http://a.example/ -H 'X-Tenant: acme' --compressed", "GET", "/",
         ["X-Tenant: acme", "accept-encoding: deflate, gzip"], -1),
        ("curl \\\n  --max-time=5 -o /dev/null \\\n  --url http://a.example/", "GET", "/", [], -1),
        ("curl http://a.example/ -H 'accept:'", "GET", "/", ["user-agent: curl"], -1),
    ],
)  # fmt: skip
def test_a_curl_command_line_is_its_request(line: str, method: str, url: str, headers: list[str], size: int) -> None:
    question = read_curl(line)
    assert (question.method, question.target, question.body_bytes) == (method, url, size)
    assert set(headers) <= set(question.headers), question.headers
    assert question.host == "a.example" and question.port == 80


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("curl", "there is no URL"),
        ("curl http://a/ http://b/", "there are two URLs"),
        ("curl 'http://a/", "quotes do not match"),
        ("curl --frobnicate http://a/", "--frobnicate is not understood"),
        ("curl -sZ http://a/", "-Z is not understood"),
        ("curl -T file http://a/", "-T is not understood"),
        ("curl http://a/ -H", "-H needs a value"),
        ("curl http://a/ -H nonsense", "a header is `name: value`"),
        ("curl http://a/ -b jar.txt", "is a file of cookies"),
    ],
)
def test_a_curl_command_line_that_is_not_understood_names_the_word(line: str, said: str) -> None:
    with pytest.raises(Misasked, match=said.replace("(", r"\(")):
        read_curl(line)


MODELS = """\
schema-version "1.0"
listeners { listener "web" { address "127.0.0.1:8080"; }; }
routes {
    route "llm" {
        matches { path-prefix "/"; }
        filters "purse"
        inference
        models {
            model "near" { upstream "first"; }
            model "far*" { upstream "second"; }
            model "other" { upstream "third"; }
        }
    }
}
filters { token-budget "purse" { tokens 2000; key "all"; }; }
upstreams {
    upstream "first" { endpoint "127.0.0.1:9001"; }
    upstream "second" { endpoint "127.0.0.1:9002"; }
    upstream "third" {
        endpoint "127.0.0.1:9003"
        provider { dialect "anthropic"; translate; }
    }
}
"""
CHAT = "POST http://api.example.com/v1/chat/completions"


def test_a_model_that_the_path_names_is_the_one_that_is_asked_for_and_no_way_up(tmp_path: Path) -> None:
    path = tmp_path / "m.kdl"
    path.write_text(MODELS)

    def of(name: str, *words: str) -> dict[str, object]:
        url = f"POST http://api.example.com/v1beta/models/{name}:generateContent"
        return dict(json.loads(run("-c", str(path), "--json", "--request", url, *words).stdout)["verdict"])

    assert of("near")["upstream"] == "first" and of("far-off")["upstream"] == "second"
    assert of("far-off", "--state", "tokens model=near")["upstream"] == "second", "as live, the path overrules"
    for words in ((), ("--body", '{"contents": []}')):
        for name in ("..", "%2E%2E"):
            assert of(name, *words)["reason"] == "inference-malformed"


def test_what_a_body_asks_for_is_read_as_live_traffic_reads_it(tmp_path: Path) -> None:
    path, body = tmp_path / "m.kdl", tmp_path / "body.json"
    path.write_text(MODELS)

    def of(document: dict[str, object] | str, *words: str) -> dict[str, object]:
        body.write_text(document if isinstance(document, str) else json.dumps(document))
        told = run("-c", str(path), "--json", "--request", CHAT, "--body", f"@{body}", *words)
        assert told.exit_code == 0, told.output
        found: dict[str, object] = json.loads(told.stdout)
        return found

    messages = [{"role": "user", "content": "x" * 1000}]
    near = of({"model": "near", "messages": messages, "max_tokens": 70})
    assert near["verdict"]["upstream"] == "first"  # type: ignore[index]
    # 1000 octets and a role at 300 tokens a thousand, three for the message, three for the answer, 70 for its text.
    within = next(one for one in near["steps"] if one["reason"] == "within-budget")  # type: ignore[attr-defined]
    assert within["details"] == ["purse", 302 + 6 + 70, 2000, 302 + 6 + 70]
    assert of({"model": "far-off", "messages": messages, "max_tokens": 9})["verdict"]["upstream"] == "second"  # type: ignore[index]
    assert of({"model": "gone", "messages": messages})["verdict"]["reason"] == "model-unknown"  # type: ignore[index]
    dear = of({"model": "near", "messages": messages, "max_tokens": 7000})
    assert dear["verdict"]["reason"] == "larger-than-budget"  # type: ignore[index]
    assert of('{"model": "near", "model": "far"}')["verdict"]["reason"] == "inference-malformed"  # type: ignore[index]
    unsayable = of({"model": "other", "messages": messages, "max_tokens": 9, "logprobs": True})
    assert unsayable["verdict"]["reason"] == "untranslatable"  # type: ignore[index]
    curl = f"curl http://api.example.com/v1/chat/completions --data-binary @{body}"
    body.write_text(json.dumps({"model": "far", "messages": messages, "max_tokens": 9}))
    told = run("-c", str(path), "--json", "--curl", curl)
    assert json.loads(told.stdout)["verdict"]["upstream"] == "second", told.output
    # Whoever describes the call means it.
    said = of({"model": "near", "messages": messages}, "--state", "tokens model=far input=1 output=1")
    assert said["verdict"]["upstream"] == "second"  # type: ignore[index]


def test_a_body_that_cannot_be_counted_here_as_workers_do_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.kdl"
    path.write_text(MODELS + 'system { vocabularies "o200k"; }\n')
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    for model, status in (("near", 0), ("gpt-4o", 2)):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]})
        told = run("-c", str(path), "--request", CHAT, "--body", body)
        assert told.exit_code == status, told.output
    assert "vocabularies o200k cannot be loaded" in told.output and "sentinel-gateway[inference]" in told.output


GUARDED = """\
schema-version "1.0"
listeners { listener "web" { address "127.0.0.1:8080"; }; }
routes {
    route "llm" { matches { path-prefix "/"; }; filters "mail" "cards"; inference; upstream "u"; }
}
filters {
    guardrail "mail" { detect "email"; }
    guardrail "cards" { detect "credit-card"; action "block"; }
}
upstreams { upstream "u" { endpoint "127.0.0.1:9000"; }; }
"""


def test_guardrails_look_through_a_body_as_in_live_traffic(tmp_path: Path) -> None:
    path = tmp_path / "g.kdl"
    path.write_text(GUARDED)
    for said, state, words in [
        ("write to joe@example.com", (), ["guardrail-redacted", "guardrail-passed"]),
        ("pay with 4111 1111 1111 1111", (), ["guardrail-passed", "guardrail-blocked"]),
        ("hello", ("--state", 'found "cards" "credit-card"'), ["guardrail-passed", "guardrail-blocked"]),
    ]:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": said}]})
        told = run("-c", str(path), "--json", "--request", CHAT, "--body", body, *state)
        steps = [one["reason"] for one in json.loads(told.output)["steps"] if one["reason"].startswith("guardrail")]
        assert steps[:2] == words and ("guardrail-watches" in steps) is ("guardrail-blocked" not in words)
        assert "4111" not in told.output and "joe@" not in told.output
