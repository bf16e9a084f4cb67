"""Who asks, over a whole fleet: one budget for all keys of a tenant and all workers, and keys that come and go."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from sentinel.cli.keys import hashed
from tests.system.fleet import Fleet, wait_until
from tests.system.mock import mock

KEYS = {name: f"sk-sentinel-{name}-0123456789" for name in ("web", "app", "beta", "next")}
MESSAGES: Any = [{"role": "user", "content": "Tell me about gateways"}]
AMOUNT, CAP = 400, 20
ROUTES = """
    route "llm" {
        matches { path-prefix "/v1"; }
        filters "clients" "monthly"
        inference { tenant "claim:tenant"; }
        upstream "origin"
    }
    route "limited" { matches { path-prefix "/limited"; }; filters "clients" "each"; respond 204; }
"""


def filters(*lines: str) -> str:
    return f"""}}
filters {{
    api-key "clients" {{
        {" ".join(f"{line};" for line in lines)}
        read-from "bearer" "header:x-api-key"
        pass-identity {{ header "x-tenant" "claim:tenant"; }}
    }}
    token-budget "monthly" {{ tokens {AMOUNT}; per "month"; key "claim:tenant"; }}
    rate-limit "each" {{ rate "1/h"; burst 7; key "identity"; }}
"""


def line(name: str, tenant: str, *keys: str) -> str:
    hashes = " ".join(f'"{hashed(KEYS[key])}"' for key in keys)
    return f'key "{name}" {hashes} {{ claim "tenant" "{tenant}"; }}'


FIRST = line("web", "acme", "web"), line("app", "acme", "app"), line("beta", "beta", "beta")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("identities")
    with mock() as (port, _):
        fleet = Fleet(directory, port, workers=2, routes=ROUTES, upstreams=filters(*FIRST)).start()
        try:
            yield fleet
        finally:
            fleet.stop()


def client(fleet: Fleet, key: str) -> openai.OpenAI:
    return openai.OpenAI(
        api_key=KEYS.get(key, key), base_url=f"http://127.0.0.1:{fleet.port}/v1", max_retries=0, timeout=60
    )


def ask(one: openai.OpenAI) -> str:
    try:
        one.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=CAP)
    except openai.APIStatusError as fault:
        return type(fault).__name__
    return "fine"


def test_all_keys_of_a_tenant_and_all_workers_have_one_budget(fleet: Fleet) -> None:
    found: list[str] = []

    def many(key: str) -> None:
        for _ in range(8):
            with client(fleet, key) as one:  # a connection of its own: any worker may get it
                found.append(ask(one))

    threads = [threading.Thread(target=many, args=(key,)) for key in ("web", "app") * 2]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    counts = Counter(found)
    assert set(counts) == {"fine", "RateLimitError"} and counts["fine"] >= AMOUNT // (2 * CAP)
    assert len({one["worker"] for one in fleet.access_log() if one["route"] == "llm"}) == 2
    (row,) = wait_until(lambda: fleet.ctl_json("budgets", "monthly")["budgets"], "it is told")
    assert row["key"] == ["acme"] and AMOUNT - 2 * CAP < row["settled"] <= AMOUNT
    with client(fleet, "beta") as one:
        assert ask(one) == "fine", "another tenant has a budget of his own"
    usage = fleet.ctl_json("usage", "--by", "tenant")["usage"]
    assert {one["key"][0] for one in usage} == {"acme", "beta"}
    assert {one["tenant"] for one in fleet.access_log() if one["route"] == "llm" and one["status"] == 200} == {
        "acme", "beta",
    }  # fmt: skip


def test_a_limit_by_identity_is_exact_over_workers(fleet: Fleet) -> None:
    url = f"http://127.0.0.1:{fleet.port}/limited"
    codes: dict[str, Counter[int]] = {}
    for key in ("web", "beta"):
        codes[key] = Counter()
        for _ in range(10):
            with openai.DefaultHttpxClient() as one:
                codes[key][one.get(url, headers={"x-api-key": KEYS[key]}).status_code] += 1
    assert codes == {key: Counter({204: 7, 429: 3}) for key in codes}


def test_keys_are_exchanged_and_taken_back_by_a_reload(fleet: Fleet) -> None:
    def may(key: str) -> bool:
        with client(fleet, key) as one:
            return ask(one) != "AuthenticationError"

    assert may("beta") and not may("next")
    fleet.write(upstreams=filters(*FIRST[:2], line("beta", "beta", "beta", "next")))
    fleet.ctl("reload")
    assert may("beta") and may("next"), "both are good while one is exchanged for the other"
    fleet.write(upstreams=filters(*FIRST[:2], line("beta", "beta", "next")))
    fleet.ctl("reload")
    assert not may("beta") and may("next")
    claude = anthropic.Anthropic(api_key=KEYS["beta"], base_url=f"http://127.0.0.1:{fleet.port}", max_retries=0)
    with claude, pytest.raises(anthropic.AuthenticationError):
        claude.messages.create(model="mock", max_tokens=CAP, messages=MESSAGES)
    assert KEYS["beta"] not in fleet.ctl("config", "--json").stdout
    dry = fleet.ctl("dry-run", "--live", "--request", "GET /limited", "-H", f"x-api-key: {KEYS['next']}").stdout
    assert '`clients` knows who asks, by api-key: "beta"' in dry
    request_id = [one["request_id"] for one in fleet.access_log() if one.get("identity") == "clients:beta"][-1]
    assert "knows who asks" in fleet.ctl("why", request_id).stdout
    again = fleet.ctl("dry-run", "--live", "--like", request_id).stdout
    assert '`clients` knows who asks, by api-key: "beta"' in again, "who asked is known from the record"
