"""The real SDKs, unchanged, with providers of the other dialect: a fleet between them and the mock's language models.

The mock shares no code with the translation, and is strict about what Anthropic's messages need.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from shm.region import Region
from supervisor.rundir import region_name
from tests.system.fleet import Fleet, wait_until
from tests.system.mock import mock

MESSAGES: Any = [{"role": "user", "content": "Tell me about gateways"}]
SYSTEM = "Be brief"
CAP = 20
ROUTES = """
    route "to-claude" {
        matches { path-prefix "/to-claude"; }
        filters "tenant"
        inference { default-output-tokens 64; }
        upstream "claude"
    }
    route "to-gpt" {
        matches { path-prefix "/to-gpt"; }
        filters "tenant"
        inference { default-output-tokens 64; }
        upstream "gpt"
    }
"""
UPSTREAMS = """
    upstream "claude" {
        endpoint "127.0.0.1:%d"
        provider { dialect "anthropic"; translate { max-tokens 64; }; }
    }
    upstream "gpt" {
        endpoint "127.0.0.1:%d"
        provider { dialect "openai"; translate { leave-out "cache_control"; }; }
    }
}
filters {
    token-budget "tenant" { tokens 1000; key "header:x-tenant"; }
"""
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOL: Any = {"type": "function", "function": {"name": "say", "parameters": SCHEMA}}
TOOL_OF_CLAUDE: Any = {"name": "say", "input_schema": SCHEMA}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with mock() as (port, _):
        fleet = Fleet(tmp_path_factory.mktemp("translation"), port, routes=ROUTES, upstreams=UPSTREAMS % (port, port))
        try:
            yield fleet.start()
        finally:
            fleet.stop()


def settled(fleet: Fleet, tenant: str) -> int:
    region = Region.attach(region_name(fleet.run_dir))
    try:

        def found() -> list[int]:
            mine = [one for one in region.budgets() if json.loads(one.title)[2:] == [tenant]]
            return [one.settled for one in mine if one.open == 0]

        return int(wait_until(found, "nothing is put aside any more")[0])
    finally:
        region.close()


def gpt(fleet: Fleet, tenant: str, kind: Any = openai.OpenAI) -> Any:
    """A client of OpenAI's, whose provider is Anthropic."""
    base = f"http://127.0.0.1:{fleet.port}/to-claude/v1"
    return kind(api_key="none", base_url=base, max_retries=0, default_headers={"x-tenant": tenant})


def claude(fleet: Fleet, tenant: str, kind: Any = anthropic.Anthropic) -> Any:
    """A client of Anthropic's, whose provider is OpenAI."""
    base = f"http://127.0.0.1:{fleet.port}/to-gpt"
    return kind(api_key="none", base_url=base, max_retries=0, default_headers={"x-tenant": tenant})


def test_openais_sdk_talks_to_anthropics_provider(fleet: Fleet) -> None:
    chat = [{"role": "system", "content": SYSTEM}, *MESSAGES]
    with gpt(fleet, "a") as client:
        whole = client.chat.completions.create(model="mock-cached", messages=chat, max_tokens=CAP)
        assert whole.choices[0].finish_reason == "length" and whole.choices[0].message.content
        assert whole.usage.completion_tokens == CAP and whole.usage.prompt_tokens_details.cached_tokens > 0
        assert settled(fleet, "a") == whole.usage.total_tokens
        stream = client.chat.completions.create(
            model="mock-cached", messages=chat, max_tokens=CAP, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        said = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
        assert said == whole.choices[0].message.content and chunks[-1].usage == whole.usage
        assert settled(fleet, "a") == 2 * whole.usage.total_tokens
        uncapped = client.chat.completions.create(model="mock-tokens=100", messages=MESSAGES)
        assert uncapped.usage.completion_tokens == 64, "the operator's cap"


def test_anthropics_sdk_talks_to_openais_provider(fleet: Fleet) -> None:
    hint = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    with claude(fleet, "b") as client:
        asked: Any = {"model": "mock-cached", "max_tokens": CAP, "system": hint, "messages": MESSAGES}
        whole = client.messages.create(**asked)
        assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == CAP
        assert whole.usage.cache_read_input_tokens > 0
        took = whole.usage.input_tokens + whole.usage.cache_read_input_tokens + CAP
        assert settled(fleet, "b") == took
        with client.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == whole.content[0].text
            assert stream.get_final_message().usage.output_tokens == CAP
        assert settled(fleet, "b") == 2 * took


def test_tools_are_called_in_both_directions(fleet: Fleet) -> None:
    """And their results go back."""
    with gpt(fleet, "c") as client:
        asked: Any = {"model": "mock-tool", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
        whole = client.chat.completions.create(**asked)
        (call,) = whole.choices[0].message.tool_calls
        assert whole.choices[0].finish_reason == "tool_calls" and call.function.name == "say"
        with client.chat.completions.stream(**asked) as stream:
            (again,) = stream.get_final_completion().choices[0].message.tool_calls
        assert json.loads(again.function.arguments) == json.loads(call.function.arguments)
        answer = whole.choices[0].message.model_dump(exclude_none=True)
        result = {"role": "tool", "tool_call_id": call.id, "content": "so it is"}
        last = client.chat.completions.create(model="mock", messages=[*MESSAGES, answer, result], max_tokens=9)
        assert "so it is" in (last.choices[0].message.content or "")
    with claude(fleet, "d") as client:
        asked = {"model": "mock-tool", "max_tokens": 64, "messages": MESSAGES, "tools": [TOOL_OF_CLAUDE]}
        (use,) = client.messages.create(**asked).content
        with client.messages.stream(**asked) as stream:
            (other,) = stream.get_final_message().content
        assert use.name == "say" and use.input == other.input and set(use.input) == {"text"}


def test_both_sdks_are_refused_in_their_own_words(fleet: Fleet) -> None:
    with gpt(fleet, "e") as client:
        with pytest.raises(openai.BadRequestError, match=r"\$\.seed") as odd:
            client.chat.completions.create(model="mock", messages=MESSAGES, seed=1)
        assert odd.value.param == "$.seed" and odd.value.code == "untranslatable"
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="mock-error=429", messages=MESSAGES)
        assert limited.value.code == "rate_limit_error", "the provider's own"
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="mock-error=529", messages=MESSAGES)
        with pytest.raises(openai.APIError, match="asked to fail"):
            list(client.chat.completions.create(model="mock-fails", messages=MESSAGES, stream=True))
        with pytest.raises(openai.APIStatusError, match="more tokens"):
            client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=5000)
    with claude(fleet, "f") as client:
        asked: Any = {"model": "mock", "max_tokens": CAP, "messages": MESSAGES}
        with pytest.raises(anthropic.BadRequestError, match=r"\$\.top_k"):
            client.messages.create(**asked, extra_body={"top_k": 3})
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**asked | {"model": "mock-error=429"})
        with pytest.raises(anthropic.APIStatusError, match="asked to fail"):
            list(client.messages.create(**asked | {"model": "mock-fails"}, stream=True))
        assert settled(fleet, "f") < 100, "what failed took nothing but what had been streamed"
        with pytest.raises(anthropic.RateLimitError, match="budget-exhausted"):
            for _ in range(100):
                client.messages.create(**asked)


def test_a_provider_that_breaks_off_does_not_look_complete(fleet: Fleet) -> None:
    with gpt(fleet, "g") as client, pytest.raises(Exception):  # noqa: B017 - which one is the transport's affair
        list(client.chat.completions.create(model="mock-dies", messages=MESSAGES, stream=True))
    with claude(fleet, "h") as client, pytest.raises(Exception):  # noqa: B017
        list(client.messages.create(model="mock-dies", max_tokens=CAP, messages=MESSAGES, stream=True))
    assert settled(fleet, "g") > 0 and settled(fleet, "h") > 0


def test_twenty_streams_at_once_keep_apart(fleet: Fleet) -> None:
    async def both() -> list[str]:
        async with gpt(fleet, "i", openai.AsyncOpenAI) as one, claude(fleet, "j", anthropic.AsyncAnthropic) as other:

            async def chat(number: int) -> str:
                messages = [{"role": "user", "content": f"number{number} " * 4}]
                made = await one.chat.completions.create(model="mock-rate=400", messages=messages, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in made if chunk.choices])

            async def message(number: int) -> str:
                messages = [{"role": "user", "content": f"number{number} " * 4}]
                async with other.messages.stream(model="mock-rate=400", max_tokens=32, messages=messages) as made:
                    return "".join([text async for text in made.text_stream])

            return await asyncio.gather(*(ask(number) for number in range(10) for ask in (chat, message)))

    found = asyncio.run(both())
    for number in range(10):
        for said in found[2 * number : 2 * number + 2]:
            assert set(said.split()) <= {f"number{number}", f"number{number}"[: len(said.split()[-1])]}, said


def test_why_tells_that_it_was_translated(fleet: Fleet) -> None:
    with gpt(fleet, "k") as client:
        raw = client.chat.completions.with_raw_response.create(model="mock", messages=MESSAGES, max_tokens=4)
    told = fleet.ctl("why", raw.headers["x-request-id"]).stdout
    assert "the request is in openai-chat, and is said in anthropic-messages" in told and "[translated]" in told
    asked = "POST", f"http://127.0.0.1:{fleet.port}/to-claude/v1/chat/completions"
    dry = fleet.ctl("dry-run", "-c", str(fleet.config), "--request", " ".join(asked)).stdout
    assert "[translated]" in dry
