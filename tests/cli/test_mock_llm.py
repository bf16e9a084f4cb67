"""The mock's language models, asked by the real SDKs; and read by the meter, which shares no code with them."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import anthropic
import openai
import pytest

from sentinel.cli.mock_llm import SEATS, TOKENS_DEFAULT, Script, tokens_of
from sentinel.inference.adapters import read_request
from sentinel.inference.dialect import recognise
from sentinel.inference.gauges import Dials, Gauges
from sentinel.inference.meter import Meter
from sentinel.inference.sheet import Doubt, Reading
from sentinel.inference.usage import fit
from tests.system.mock import mock
from tests.workers.child import wait_until

SAID = "Tell me about gateways"
"""Of six tokens: Tell, me, abou-t, gate-ways are 1 + 1 + 2 + 2."""
MESSAGES: Any = [{"role": "user", "content": SAID}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with mock() as (port, _):
        yield port


@pytest.fixture(scope="module")
def gpt(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(port: int) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="none", base_url=f"http://127.0.0.1:{port}", max_retries=0) as client:
        yield client


@asynccontextmanager
async def later_gpt(port: int) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:
        yield client


# -- OpenAI's SDK


def test_a_chat(gpt: openai.OpenAI) -> None:
    found = gpt.chat.completions.create(model="mock", messages=MESSAGES)
    text = found.choices[0].message.content
    assert text is not None and text.startswith(SAID) and len(tokens_of(text)) == TOKENS_DEFAULT
    assert found.choices[0].finish_reason == "stop" and found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (6, TOKENS_DEFAULT)
    assert gpt.chat.completions.create(model="mock", messages=MESSAGES) == found, "the same to the same"


def test_a_chat_has_a_cap_and_choices(gpt: openai.OpenAI) -> None:
    found = gpt.chat.completions.create(model="mock", messages=MESSAGES, max_completion_tokens=4, n=3)
    assert [len(tokens_of(one.message.content or "")) for one in found.choices] == [4, 4, 4]
    assert {one.finish_reason for one in found.choices} == {"length"}
    assert len({one.message.content for one in found.choices}) == 3
    assert found.usage is not None and found.usage.completion_tokens == 12


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_chat_streams_token_by_token(gpt: openai.OpenAI, wants_usage: bool) -> None:
    whole = gpt.chat.completions.create(model="mock", messages=MESSAGES)
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(gpt.chat.completions.create(model="mock", messages=MESSAGES, stream=True, **options))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) == TOKENS_DEFAULT
    assert [chunk.usage for chunk in chunks if chunk.usage] == ([whole.usage] if wants_usage else [])


def test_a_chat_streams_by_the_sdk_s_own_helper(gpt: openai.OpenAI) -> None:
    with gpt.chat.completions.stream(model="mock-tool", messages=MESSAGES, tools=[TOOL]) as stream:
        call = stream.get_final_completion().choices[0].message.tool_calls
    assert call is not None and call[0].function.name == "weather"
    assert json.loads(call[0].function.arguments)["text"].startswith(SAID)


def test_switches_of_usage(gpt: openai.OpenAI) -> None:
    assert gpt.chat.completions.create(model="mock-no-usage", messages=MESSAGES).usage is None
    usage = gpt.chat.completions.create(model="mock-cached-mock-reasons", messages=MESSAGES).usage
    assert usage is not None and usage.prompt_tokens_details and usage.completion_tokens_details
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.completion_tokens_details.reasoning_tokens == TOKENS_DEFAULT // 2


def test_completions_responses_embeddings_and_models(gpt: openai.OpenAI) -> None:
    completion = gpt.completions.create(model="mock", prompt=SAID, max_tokens=5)
    assert (completion.choices[0].text, completion.choices[0].finish_reason) == ("Tell me about gate", "length")
    response = gpt.responses.create(model="mock", input=SAID)
    assert response.output_text.startswith(SAID) and response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (6, TOKENS_DEFAULT)
    vectors = gpt.embeddings.create(model="mock-embed", input=["one", "two words"], dimensions=16)
    assert [len(one.embedding) for one in vectors.data] == [16, 16] and vectors.usage.prompt_tokens == 4
    exact = gpt.embeddings.create(model="mock-embed", input=["one"], dimensions=16, encoding_format="float")
    assert exact.data[0].embedding == vectors.data[0].embedding
    assert "mock" in [model.id for model in gpt.models.list()]
    assert gpt.models.retrieve("mock").id == "mock"


def test_a_response_streams(gpt: openai.OpenAI) -> None:
    with gpt.responses.stream(model="mock", input=SAID) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text and len(deltas) == TOKENS_DEFAULT
    assert final.usage is not None and final.usage.total_tokens == 6 + TOKENS_DEFAULT


@pytest.mark.parametrize(("model", "fault"), [
    ("mock-error=429", openai.RateLimitError), ("mock-error=503", openai.InternalServerError),
    ("mock-error=401", openai.AuthenticationError), ("mock-error=400", openai.BadRequestError),
])  # fmt: skip
def test_refusals_are_those_of_the_provider(gpt: openai.OpenAI, model: str, fault: type[openai.APIStatusError]) -> None:
    with pytest.raises(fault) as found:
        gpt.chat.completions.create(model=model, messages=MESSAGES)
    assert "asked to refuse" in found.value.message


def test_a_header_asks_for_trouble_too(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        gpt.chat.completions.create(model="any", messages=MESSAGES, extra_headers={"x-mock": "mock-error=429"})


def test_trouble_amid_a_stream(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="asked to fail"):
        list(gpt.chat.completions.create(model="mock-fails", messages=MESSAGES, stream=True))
    seen = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in gpt.chat.completions.create(model="mock-dies", messages=MESSAGES, stream=True):
            seen.append(chunk)
    assert len(seen) == 1 + TOKENS_DEFAULT // 2


def test_a_slow_one_is_slow_and_a_rate_is_kept(gpt: openai.OpenAI) -> None:
    before = time.monotonic()
    gpt.chat.completions.create(model="mock-slow-mock-delay=0.3", messages=MESSAGES)
    assert time.monotonic() - before >= 0.3
    before = time.monotonic()
    list(gpt.chat.completions.create(model="mock-rate=50-mock-tokens=10", messages=MESSAGES, stream=True))
    assert time.monotonic() - before >= 10 / 50


def test_openai_s_sdk_without_waiting(port: int) -> None:
    async def ask() -> None:
        async with later_gpt(port) as client:
            whole = await client.chat.completions.create(model="mock", messages=MESSAGES)
            stream = await client.chat.completions.create(model="mock", messages=MESSAGES, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(texts) == whole.choices[0].message.content
            both = await asyncio.gather(*(client.responses.create(model="mock", input=SAID) for _ in range(8)))
            assert len({one.output_text for one in both}) == 1

    asyncio.run(ask())


# -- Anthropic's SDK


def test_a_message(claude: anthropic.Anthropic) -> None:
    found = claude.messages.create(model="mock-cached", max_tokens=100, messages=MESSAGES, system="Be brief")
    assert isinstance(found.content[0], anthropic.types.TextBlock) and found.content[0].text.startswith(SAID)
    assert (found.stop_reason, found.usage.output_tokens) == ("end_turn", TOKENS_DEFAULT)
    assert (found.usage.input_tokens, found.usage.cache_read_input_tokens) == (5, 4), "be, brie-f, and the six"
    assert claude.messages.create(model="mock", max_tokens=3, messages=MESSAGES).stop_reason == "max_tokens"
    assert claude.messages.count_tokens(model="mock", messages=MESSAGES).input_tokens == 6


def test_a_message_streams(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="mock", max_tokens=100, messages=MESSAGES) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(texts) == TOKENS_DEFAULT and final.usage.output_tokens == TOKENS_DEFAULT
    assert isinstance(final.content[0], anthropic.types.TextBlock) and final.content[0].text == "".join(texts)


def test_a_tool_is_called(claude: anthropic.Anthropic) -> None:
    tools: Any = [{"name": "weather", "input_schema": {"type": "object"}}]
    with claude.messages.stream(model="mock-tool", max_tokens=100, messages=MESSAGES, tools=tools) as stream:
        final = stream.get_final_message()
    assert isinstance(final.content[0], anthropic.types.ToolUseBlock)
    assert final.content[0].name == "weather" and final.stop_reason == "tool_use"


def test_anthropic_s_refusals(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.create(model="mock-error=429", max_tokens=9, messages=MESSAGES)
    with pytest.raises(anthropic.APIStatusError, match="asked to fail"):
        list(claude.messages.create(model="mock-fails", max_tokens=9, messages=MESSAGES, stream=True))


def test_anthropic_s_sdk_without_waiting(port: int) -> None:
    async def ask() -> None:
        base = f"http://127.0.0.1:{port}"
        async with anthropic.AsyncAnthropic(api_key="none", base_url=base, max_retries=0) as client:
            whole = await client.messages.create(model="mock", max_tokens=9, messages=MESSAGES)
            async with client.messages.stream(model="mock", max_tokens=9, messages=MESSAGES) as stream:
                final = await stream.get_final_message()
            assert isinstance(whole.content[0], anthropic.types.TextBlock)
            assert isinstance(final.content[0], anthropic.types.TextBlock)
            assert whole.content[0].text == final.content[0].text

    asyncio.run(ask())


# -- read by the meter


def metered(port: int, path: str, body: dict[str, Any], size: int) -> Reading:
    call = recognise(path)
    assert call is not None
    octets = json.dumps(body).encode()
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, octets, {"content-type": "application/json"})
    response = connection.getresponse()
    meter = Meter(
        read_request(call, octets), content_type=response.headers["content-type"],
        count=lambda text: len(tokens_of(text)),
    )  # fmt: skip
    try:
        while data := response.read(size):
            assert meter.feed(data) == data
    except IncompleteRead as cut:
        meter.feed(cut.partial)
    meter.finish()
    connection.close()
    return meter.reading()


CHAT = {"messages": MESSAGES, "stream_options": {"include_usage": True}}
ASKED = {
    "/v1/chat/completions": CHAT, "/v1/completions": {"prompt": SAID, "stream_options": {"include_usage": True}},
    "/v1/responses": {"input": SAID}, "/v1/messages": {"messages": MESSAGES, "max_tokens": 1000},
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 100, 100_000])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", sorted(ASKED))
def test_the_meter_reads_what_the_mock_counted(port: int, path: str, is_stream: bool, size: int) -> None:
    body = {"model": "mock-cached-mock-tokens=50", "stream": is_stream, **ASKED[path]}
    reading = metered(port, path, body, size)
    usage = fit(input_tokens=6, cached=3, output=50)
    assert (reading.usage, reading.is_ended, reading.doubts) == (usage, True, ())
    assert reading.produced[0].tokens == 50


@pytest.mark.parametrize("path", sorted(ASKED))
def test_without_usage_the_text_says_as_much(port: int, path: str) -> None:
    reading = metered(port, path, {"model": "mock-no-usage", "stream": True, **ASKED[path]}, 1000)
    assert reading.usage is None or not reading.usage.is_reported
    assert reading.produced[0].tokens == TOKENS_DEFAULT


def test_a_stream_that_dies_is_told_from_one_that_ends(port: int) -> None:
    path = "/v1/chat/completions"
    dead = metered(port, path, {"model": "mock-dies", "stream": True, **CHAT}, 1000)
    assert (dead.usage, dead.doubts, dead.produced[0].tokens) == (None, (Doubt.CUT,), TOKENS_DEFAULT // 2)
    undone = metered(port, path, {"model": "mock-no-done", "stream": True, **CHAT}, 1000)
    assert (undone.is_ended, undone.doubts) == (False, ()) and undone.usage is not None


def test_an_error_amid_the_stream_is_read(port: int) -> None:
    for path, asked in ASKED.items():
        reading = metered(port, path, {"model": "mock-fails", "stream": True, **asked}, 1000)
        assert reading.failure is not None and reading.failure.message == "The mock was asked to fail"


# -- the mock's own words


@pytest.mark.parametrize(("name", "switches"), [
    ("gpt-4o", {}), ("mock", {}), ("mock-error-429", {"error": 429.0}), ("mock-error=429", {"error": 429.0}),
    ("mock-dies-mock-rate=2.5", {"dies": 0.0, "rate": 2.5}), ("x/mock-no-usage", {"no-usage": 0.0}),
])  # fmt: skip
def test_names_of_models_are_switches(name: str, switches: dict[str, float]) -> None:
    assert Script.of(name).switches == switches


@pytest.mark.parametrize(("text", "count"), [
    ("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("a b", 2), ("a, b!", 4), ("Grüße", 2), ("  x  ", 2),
])  # fmt: skip
def test_tokens_can_be_counted_by_hand(text: str, count: int) -> None:
    assert len(tokens_of(text)) == count and "".join(tokens_of(text)) == text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":7}', b'{"messages":[]}', b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_refused(port: int, body: bytes) -> None:
    for path in ASKED:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", path, body)
        response = connection.getresponse()
        assert response.status == 400 and "error" in json.loads(response.read())
        connection.close()


def test_other_paths_are_echoed_as_before(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/other", b"hi")
    assert json.loads(connection.getresponse().read())["body"] == "hi"
    connection.close()


# -- vLLM's page of metrics


def test_how_busy_it_is_stands_on_its_page_of_metrics(port: int, gpt: openai.OpenAI) -> None:
    dials = Dials(("vllm:num_requests_waiting",), ("vllm:kv_cache_usage_perc",))

    def read() -> Gauges | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return dials.read(answer.read())

    wait_until(lambda: read() == Gauges(0, 0), "nothing is under way")
    with ExitStack() as stack:
        streams = [
            stack.enter_context(gpt.chat.completions.create(
                model="mock-tokens=2000 mock-rate=20", messages=MESSAGES, stream=True, max_tokens=2000
            ))
            for _ in range(SEATS + 2)
        ]  # fmt: skip
        assert read() == Gauges(2, 625), "ten of eight seats"
        assert all(next(iter(one)).choices for one in streams)
    wait_until(lambda: read() == Gauges(0, 0), "all of them have left")
