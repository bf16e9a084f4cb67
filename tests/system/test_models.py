"""Models of two providers behind one address: asked are the real SDKs of OpenAI and Anthropic, which know nothing.

The providers are two mocks with language models. One answers 429 to whoever names it so, and one is killed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.system.fleet import Fleet, wait_until
from tests.system.mock import mock
from tests.system.test_inference import Books

MESSAGES: Any = [{"role": "user", "content": "Tell me about gateways"}]
SECRET = "sk-of-the-gateway-0123456789"
MINE = "sk-of-a-client-0123456789"
ROUTES = """
    route "llm" {
        matches { path-prefix "/llm"; }
        filters "all"
        inference
        models {
            model "near" { upstream "first"; send-as "mock near"; fallback "far"; }
            model "far" { upstream "second"; send-as "mock far"; }
            model "busy" { upstream "first"; send-as "mock mock-error=429"; fallback "far"; }
            model "worse" { upstream "first"; send-as "mock mock-error=500"; fallback "broken" "far"; }
            model "broken" { upstream "first"; send-as "mock mock-error=503"; }
            model "lame" {
                upstream "first"; send-as "mock mock-slow mock-delay=20"
                fallback "far" { on "timeout"; first-token-timeout "400ms"; }
            }
            list true
        }
    }
"""


class Providers:
    """A fleet before two providers."""

    def __init__(self, fleet: Fleet, first: subprocess.Popen[bytes], directory: Path) -> None:
        self.fleet = fleet
        self.first = first
        self.directory = directory

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.fleet.port}/llm{path}"

    def gpt(self) -> openai.OpenAI:
        return openai.OpenAI(api_key=MINE, base_url=self.url("/v1"), max_retries=0)

    def claude(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(api_key=MINE, base_url=self.url(""), max_retries=0)

    def why(self, number: str | None) -> str:
        assert number is not None
        found: str = wait_until(lambda: self.fleet.ctl("why", number, check=False).stdout, "the journal knows it")
        return found

    def spent(self) -> int:
        """Tokens that the fleet's one budget has spent, once nothing is open."""
        books = Books(self.fleet)
        try:
            return books.settled("all")
        finally:
            books.region.close()


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    directory = tmp_path_factory.mktemp("models")
    (directory / "first.key").write_text(SECRET)
    with mock() as (first, process), mock() as (second, _):
        upstreams = "".join(
            f'upstream "{name}" {{\nendpoint "127.0.0.1:{port}"\n'
            f'provider {{ credential (file)"{directory}/first.key"; }}\n}}\n'
            for name, port in (("first", first), ("second", second))
        )
        filters = '}\nfilters { token-budget "all" { tokens 1000000; key "all"; }\n'
        fleet = Fleet(directory, second, workers=2, routes=ROUTES, upstreams=upstreams + filters).start()
        try:
            yield Providers(fleet, process, directory)
        finally:
            fleet.stop()


def test_one_address_has_the_models_of_all_providers(providers: Providers) -> None:
    with providers.gpt() as gpt, providers.claude() as claude:
        names = ["near", "far", "busy", "worse", "broken", "lame"]
        assert [one.id for one in gpt.models.list()] == names == [one.id for one in claude.models.list()]
        for name in ("near", "far"):
            assert gpt.chat.completions.create(model=name, messages=MESSAGES).model == f"mock {name}"
            assert claude.messages.create(model=name, messages=MESSAGES, max_tokens=20).model == f"mock {name}"
            assert gpt.models.retrieve(name).owned_by and claude.models.retrieve(name).id == name
            before = providers.spent()
            assert claude.messages.count_tokens(model=name, messages=MESSAGES).input_tokens > 0
            assert providers.spent() == before, "that took nothing"
        with pytest.raises(openai.NotFoundError) as lost:
            gpt.chat.completions.create(model="nothing", messages=MESSAGES)
        assert lost.value.code == "model_not_found"
        with pytest.raises(anthropic.NotFoundError, match="model-unknown"):
            claude.messages.create(model="nothing", messages=MESSAGES, max_tokens=20)


def test_who_is_busy_is_replaced_and_what_was_used_is_paid(providers: Providers) -> None:
    before = providers.spent()
    with providers.gpt() as gpt, providers.claude() as claude:
        raw = gpt.chat.completions.with_raw_response.create(model="busy", messages=MESSAGES, max_tokens=30)
        whole = raw.parse()
        assert whole.model == "mock far" and whole.usage is not None
        spent = whole.usage.total_tokens
        assert providers.spent() - before == spent
        stream = list(gpt.chat.completions.create(model="busy", messages=MESSAGES, max_tokens=30, stream=True))
        assert "".join(one.choices[0].delta.content or "" for one in stream) == whole.choices[0].message.content
        assert providers.spent() - before == 2 * spent
        assert claude.messages.create(model="busy", messages=MESSAGES, max_tokens=20).model == "mock far"
        assert gpt.chat.completions.create(model="worse", messages=MESSAGES).model == "mock far"
        with pytest.raises(openai.InternalServerError):
            gpt.chat.completions.create(model="broken", messages=MESSAGES)
    why = providers.why(raw.headers["x-request-id"])
    assert 'is for upstream `first`, which is asked for "mock mock-error=429"' in why
    assert 'the model failed (429), so "mock far" of upstream `second` is asked' in why
    assert why.count("[attempted]") == 2 and 'model "mock far" took' in why


def test_who_brings_no_token_is_replaced_before_anybody_sees_it(providers: Providers) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(api_key=MINE, base_url=providers.url("/v1"), max_retries=0) as gpt:
            stream = await gpt.chat.completions.create(model="lame", messages=MESSAGES, max_tokens=9, stream=True)
            return [chunk.model async for chunk in stream]

    assert set(asyncio.run(ask())) == {"mock far"}


def test_the_secret_is_in_nothing_that_is_shown(providers: Providers) -> None:
    with providers.gpt() as gpt:
        raw = gpt.chat.completions.with_raw_response.create(model="near", messages=MESSAGES)
    number = raw.headers["x-request-id"]
    fleet = providers.fleet
    shown = [providers.why(number), raw.text, str(raw.headers)]
    for words in (("config",), ("config", "--json"), ("why", number, "--json"), ("metrics",), ("endpoints", "--json"),
                  ("dry-run", "--live", "--request", f"POST {providers.url('/v1/chat/completions')}", "--json"),
                  ("diff", str(fleet.config), str(fleet.config))):  # fmt: skip
        found = fleet.ctl(*words, check=False)
        shown += [found.stdout, found.stderr]
    shown.append((providers.directory / "access.log").read_text())
    assert any("(redacted)" in one for one in shown), "it was looked for where it would be"
    for one in shown:
        assert SECRET not in one and MINE not in one


def test_a_dry_run_like_a_request_is_for_its_model_and_as_much(providers: Providers) -> None:
    fleet = providers.fleet
    with providers.gpt() as gpt:
        for name, upstream in (("near", "first"), ("far", "second")):
            raw = gpt.chat.completions.with_raw_response.create(model=name, messages=MESSAGES, max_tokens=30)
            number = raw.headers["x-request-id"]
            providers.why(number)
            recorded = json.loads(fleet.ctl("why", number, "--json").stdout)
            reserved = {one["details"][-1] for one in recorded["steps"] if one["reason"] == "within-budget"}
            body = json.dumps({"model": name, "messages": MESSAGES, "max_tokens": 30})
            written = ("--request", f"POST {providers.url('/v1/chat/completions')}", "--body", body)
            for words in (("--like", number), ("-c", str(fleet.config), "--like", number), written):
                live = () if "-c" in words else ("--live",)
                dry = json.loads(fleet.ctl("dry-run", "--json", *live, *words).stdout)
                assert dry["verdict"]["upstream"] == upstream, words
                assert {str(one["details"][-1]) for one in dry["steps"] if one["reason"] == "within-budget"} == reserved
    told = fleet.ctl("dry-run", "--live", "--like", number).stdout
    assert "which asked for: tokens model=far input=" in told


def test_who_is_dead_is_replaced(providers: Providers) -> None:
    providers.first.kill()
    providers.first.wait(10)
    with providers.gpt() as gpt, providers.claude() as claude:
        for _ in range(3):
            assert gpt.chat.completions.create(model="near", messages=MESSAGES).model == "mock far"
        assert claude.messages.create(model="near", messages=MESSAGES, max_tokens=20).model == "mock far"
        with pytest.raises(openai.InternalServerError):
            gpt.chat.completions.create(model="broken", messages=MESSAGES)
