"""Token budgets are the fleet's: exact under many streams at once, over reloads, and over the death of workers.

Asked are the real SDKs of OpenAI and Anthropic, against the mock's language models, which count by themselves.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from shm.region import Region
from supervisor.rundir import region_name
from tests.system.fleet import Fleet, wait_until
from tests.system.mock import mock

SAID = "Tell me about gateways"
MESSAGES: Any = [{"role": "user", "content": SAID}]
STREAMS, CAP = 50, 20
AMOUNT = 1000
LOOKING_S = 1.0
"""How long a settling worker may be kept from going on."""
"""Of the fifty streams some must be refused: each puts its cap and its input aside."""
FILTERS = f"""}}
filters {{
    token-budget "small" {{ tokens {AMOUNT}; key "header:x-tenant"; }}
    token-budget "large" {{ tokens 1000000; key "all"; }}
    token-budget "organisation" {{ tokens {4 * AMOUNT}; key "header:x-tenant"; }}
    token-budget "team" {{ tokens {3 * AMOUNT}; key "header:x-tenant" "header:x-team"; rolling "24h"; }}
    token-budget "user" {{ tokens {2 * AMOUNT}; key "header:x-tenant" "header:x-user"; rollover "10%"; }}
    token-budget "model" {{ money "10.00"; key "header:x-tenant" "model"; }}
    guardrail "cards" {{ detect "credit-card"; on "response"; }}
    guardrail "keys" {{ detect "secret"; action "block"; }}
    token-limit "steady" {{ tokens "1000000/h"; key "header:x-tenant"; }}
}}
prices {{
    currency "USD"
    price "*" {{ input "1000.00"; output "1000.00"; }}
"""
ROUTES = """
    route "tree" {
        matches { path-prefix "/tree"; }
        filters "organisation" "team" "user" "model" "steady"
        inference
        upstream "origin"
    }
    route "llm" {
        matches { path-prefix "/llm"; }
        filters "small" "large"
        inference
        upstream "origin"
    }
    route "guarded" {
        matches { path-prefix "/guarded"; }
        filters "cards" "keys"
        inference
        upstream "origin"
    }
    route "watched" {
        matches { path-prefix "/watched"; }
        inference
        upstream "origin"
    }
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("inference")
    settings = {"workers": 4, "routes": ROUTES, "upstreams": FILTERS}
    with mock() as (port, _):
        fleet = Fleet(directory, port, **settings).start()
        try:
            yield fleet
        finally:
            fleet.stop()


class Books:
    """What the fleet has spent, as whoever only reads sees it."""

    def __init__(self, fleet: Fleet) -> None:
        self.region = Region.attach(region_name(fleet.run_dir))

    def of(self, budget: str, *parts: str) -> tuple[int, int]:
        """Settled and open."""
        for one in self.region.budgets():
            name, _, *found = json.loads(one.title)
            if name == budget and tuple(found) == parts:
                return one.settled, one.open
        return 0, 0

    def total(self, amount: int, budget: str, *parts: str) -> int:
        """Both together. What is just being settled counts twice until its worker goes on: above this, look again."""
        until = time.monotonic() + LOOKING_S
        while (found := sum(self.of(budget, *parts))) > amount and time.monotonic() < until:
            pass
        return found

    def settled(self, budget: str, *parts: str) -> int:
        """The same once nothing is open."""
        wait_until(lambda: self.of(budget, *parts)[1] == 0, "nothing is put aside any more")
        return self.of(budget, *parts)[0]


@pytest.fixture
def books(fleet: Fleet) -> Iterator[Books]:
    found = Books(fleet)
    yield found
    found.region.close()


def gpt(fleet: Fleet, tenant: str, path: str = "llm") -> openai.OpenAI:
    return openai.OpenAI(
        api_key="none", base_url=f"http://127.0.0.1:{fleet.port}/{path}/v1", max_retries=2,
        default_headers={"x-tenant": tenant},
    )  # fmt: skip


def claude(fleet: Fleet, tenant: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key="none", base_url=f"http://127.0.0.1:{fleet.port}/llm", max_retries=2,
        default_headers={"x-tenant": tenant},
    )  # fmt: skip


def test_the_sdks_see_their_provider_and_the_budget_what_they_took(fleet: Fleet, books: Books) -> None:
    with gpt(fleet, "sdk") as client:
        whole = client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=CAP)
        assert whole.usage is not None
        spent = whole.usage.total_tokens
        assert books.settled("small", "sdk") == spent
        stream = client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=CAP, stream=True)
        chunks = list(stream)
        assert all(chunk.choices and chunk.usage is None for chunk in chunks), "usage was not asked for by the client"
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == whole.choices[0].message.content
        assert books.settled("small", "sdk") == 2 * spent, "and yet it is known exactly"
        reported = client.chat.completions.create(
            model="mock", messages=MESSAGES, max_tokens=CAP, stream=True, stream_options={"include_usage": True}
        )
        assert list(reported)[-1].usage == whole.usage, "who asks for it gets it"
        assert books.settled("small", "sdk") == 3 * spent
    with claude(fleet, "claude") as other:
        message = other.messages.create(model="mock", messages=MESSAGES, max_tokens=CAP)
        spent = message.usage.input_tokens + message.usage.output_tokens
        assert books.settled("small", "claude") == spent
        with other.messages.stream(model="mock", messages=MESSAGES, max_tokens=CAP) as streamed:
            assert "".join(streamed.text_stream) == message.content[0].text  # type: ignore[union-attr]
        assert books.settled("small", "claude") == 2 * spent


def test_a_budget_that_is_exhausted_is_an_error_that_the_sdks_know(fleet: Fleet, books: Books) -> None:
    with gpt(fleet, "poor") as client, claude(fleet, "poor") as other:
        client.chat.completions.create(model="mock mock-tokens=900", messages=MESSAGES, max_tokens=900)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=500)
        assert (refused.value.type, refused.value.code) == ("insufficient_quota", "budget-exhausted")
        assert int(refused.value.response.headers["retry-after"]) > 0
        with pytest.raises(anthropic.RateLimitError, match="budget-exhausted"):
            other.messages.create(model="mock", messages=MESSAGES, max_tokens=500)
        with pytest.raises(openai.APIStatusError) as large:
            client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=AMOUNT + 1)
        assert large.value.status_code == 413
        assert books.settled("small", "poor") <= AMOUNT


def at_once(count: int, ask: Callable[[], str]) -> Counter[str]:
    """So many ask at the same time; what came of it."""
    found: Counter[str] = Counter()
    start, lock = threading.Barrier(count), threading.Lock()

    def one() -> None:
        start.wait(60)
        try:
            came = ask()
        except openai.RateLimitError:
            came = "refused"
        with lock:
            found[came] += 1

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return found


def test_fifty_streams_at_once_never_pass_the_amount(fleet: Fleet, books: Books) -> None:
    seen: list[int] = []

    def stream() -> str:
        with gpt(fleet, "crowd") as client:
            for _ in client.chat.completions.create(
                model="mock mock-rate=50", messages=MESSAGES, max_tokens=CAP, stream=True
            ):
                seen.append(books.total(AMOUNT, "small", "crowd"))
        return "served"

    found = at_once(STREAMS, stream)
    assert found["served"] >= AMOUNT // (CAP + 20) and found["refused"] > 0 and found.total() == STREAMS
    assert max(seen) <= AMOUNT, "put aside and spent together, at every moment that anybody looked"
    assert books.settled("small", "crowd") <= AMOUNT


def test_eight_first_requests_at_once_find_one_budget(fleet: Fleet, books: Books) -> None:
    def whole() -> str:
        with gpt(fleet, "first") as client:
            answer = client.chat.completions.create(
                model="mock mock-slow mock-tokens=300", messages=MESSAGES, max_tokens=300
            )
        assert answer.usage is not None
        return str(answer.usage.total_tokens)

    found = at_once(8, whole)
    assert found["refused"] == 5 and found.total() == 8, "three times 300 and the input, and not a fourth"
    (spent,) = [int(one) for one in found if one != "refused"]
    assert books.settled("small", "first") == 3 * spent


def test_without_a_budget_it_is_counted_and_told(fleet: Fleet) -> None:
    with gpt(fleet, "any", "watched") as client:
        answer = client.chat.completions.with_raw_response.create(model="mock", messages=MESSAGES)
        number = answer.headers["x-request-id"]
    why = wait_until(lambda: fleet.ctl("why", number, check=False).stdout, "the journal knows it")
    assert 'model "mock" took 6 tokens and made 32 (reported)' in why


def test_a_reload_amid_a_stream_keeps_the_budget(fleet: Fleet, books: Books) -> None:
    with gpt(fleet, "reload") as client:
        stream = client.chat.completions.create(
            model="mock mock-rate=20", messages=MESSAGES, max_tokens=30, stream=True
        )
        chunks = iter(stream)
        next(chunks)
        before = books.of("small", "reload")
        assert before[1] > 0
        fleet.ctl("reload")
        assert sum(books.of("small", "reload")) >= before[0]
        assert len(list(chunks)) > 5, "it goes on to its end"
        assert books.settled("small", "reload") == 6 + 30
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=AMOUNT - 30)


def test_what_a_worker_had_streamed_is_settled_when_it_is_killed_and_the_rest_is_free(
    fleet: Fleet, books: Books
) -> None:
    produced = 0
    with gpt(fleet, "killed") as client:
        stream = client.chat.completions.create(
            model="mock mock-tokens=800 mock-rate=400", messages=MESSAGES, max_tokens=800, stream=True
        )
        with pytest.raises(Exception):  # noqa: B017  # whatever the SDK's transport says of a lost connection
            for chunk in stream:
                produced += bool(chunk.choices and chunk.choices[0].delta.content)
                if produced == 200:
                    for worker in fleet.workers():
                        os.kill(worker["pid"], signal.SIGKILL)
    wait_until(fleet.is_serving, "there are workers again")
    spent = books.settled("small", "killed")
    assert produced >= 200 and spent <= AMOUNT
    assert spent >= 100, "all but the last piece"
    with gpt(fleet, "killed") as client:
        client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=AMOUNT - spent - 50)


MODEL = "mock mock-rate=200 mock-tokens=60"
LEVELS = {
    "organisation": (("tree",), 4 * AMOUNT), "team": (("red", "tree"), 3 * AMOUNT),
    "user": (("tree", "ann"), 2 * AMOUNT + AMOUNT // 5), "model USD": (("tree", MODEL), 10_000_000),
}  # fmt: skip
"""The parts of each level's key, and its amount: one rolls, one has what yesterday left, one is of money."""
TREE = {"x-tenant": "tree", "x-team": "red", "x-user": "ann"}
MICRO_USD = 1000
"""What a token costs."""
PIECE = 300
"""What a killed worker may have settled at one level and not at the next: a look at a stream, and the input."""


def test_all_levels_of_a_hierarchy_are_charged_at_once_or_none_also_over_kills_and_a_reload(
    fleet: Fleet, books: Books
) -> None:
    seen: list[tuple[str, int]] = []
    killed: list[int] = []

    def stream() -> str:
        with openai.OpenAI(
            api_key="none", base_url=f"http://127.0.0.1:{fleet.port}/tree/v1", max_retries=0, default_headers=TREE
        ) as client:
            try:
                for _ in client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=60, stream=True):
                    for level, (parts, amount) in LEVELS.items():
                        seen.append((level, books.total(amount, level, *parts)))
            except openai.RateLimitError:
                return "refused"
            except Exception:  # whatever the SDK's transport says of a lost connection
                return "killed"
        return "served"

    def harm() -> None:
        for _ in range(3):
            wait_until(fleet.is_serving, "there are workers")
            for worker in fleet.workers()[:2]:
                os.kill(worker["pid"], signal.SIGKILL)
                killed.append(worker["pid"])
        fleet.ctl("reload", check=False)

    harming = threading.Thread(target=harm)
    harming.start()
    found = at_once(40, stream)
    harming.join(60)
    wait_until(fleet.is_serving, "there are workers again")
    assert len(killed) == 6 and found.total() == 40
    spent = {level: books.settled(level, *parts) for level, (parts, _) in LEVELS.items()}
    spent["model USD"] //= MICRO_USD
    assert max(spent.values()) > 0 and max(spent.values()) - min(spent.values()) <= len(killed) * PIECE, spent
    assert seen and all(total <= LEVELS[level][1] for level, total in seen), "at every moment that anybody looked"


def scraped(fleet: Fleet) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.admin_port}/metrics", timeout=20) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


CARD = "4111 1111 1111 1111"
KEY = "sk-proj-abcdefghijklmnopqrst"


def test_guardrails_hold_for_both_sdks_in_json_and_in_streams(fleet: Fleet) -> None:
    """The mock repeats what it is told, four letters at a time."""
    openai_client = gpt(fleet, "g", "guarded")
    anthropic_client = anthropic.Anthropic(
        api_key="none", base_url=f"http://127.0.0.1:{fleet.port}/guarded", max_retries=0
    )
    said: Any = [{"role": "user", "content": f"say {CARD} twice"}]
    whole = openai_client.chat.completions.create(model="m", messages=said, max_tokens=7)
    assert "[credit-card]" in str(whole.choices[0].message.content) and "1111" not in whole.model_dump_json()
    assert whole.usage is not None and whole.usage.completion_tokens == 7
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in openai_client.chat.completions.create(model="m", messages=said, max_tokens=7, stream=True)
        if chunk.choices
    ]
    assert "".join(pieces) == whole.choices[0].message.content
    message = anthropic_client.messages.create(model="m", messages=said, max_tokens=7)
    assert "1111" not in message.to_json() and message.usage.output_tokens == 7
    with anthropic_client.messages.stream(model="m", messages=said, max_tokens=7) as stream:
        assert "".join(stream.text_stream) == message.content[0].text  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.chat.completions.create(model="m", messages=[{"role": "user", "content": KEY}])
    assert refused.value.code == "guardrail-blocked"
    with pytest.raises(anthropic.BadRequestError):
        anthropic_client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": KEY}])
    with pytest.raises(urllib.error.HTTPError) as unread:
        urllib.request.urlopen(f"http://127.0.0.1:{fleet.port}/guarded/v1/files", data=b"{}", timeout=10)
    assert unread.value.headers["x-sentinel-reason"] == "guardrail-unreadable"
    metrics = scraped(fleet)
    assert metrics['sentinel_guardrail_finds_total{action="redact",guardrail="cards",kind="credit-card"}'] == 4
    assert metrics['sentinel_guardrail_finds_total{action="block",guardrail="keys",kind="secret"}'] == 2
    looks = "sentinel_guardrail_inspections_total"
    assert metrics[looks + '{guardrail="cards",on="response",outcome="redacted"}'] == 4
    assert metrics[looks + '{guardrail="keys",on="request",outcome="passed"}'] == 4
    assert metrics[looks + '{guardrail="cards",on="request",outcome="unreadable"}'] == 1
    assert not any(name.startswith("sentinel_requests") and "guardrail" in name for name in metrics)
