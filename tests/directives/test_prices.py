"""The price book and budgets of money, as clients meet them: a real worker, and a model that says what it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.allowances import MONEY_MAX
from sentinel.core.plan import Plan
from sentinel.core.record import decode
from shm.layout import BUDGET_AMOUNT_MAX
from shm.region import Counter
from tests.directives.house import plan_from, serving, written
from tests.directives.test_budgets import EXHAUSTED, Model, Stream, ask, closed, said, streaming, usage, words
from tests.directives.test_budgets import settled as windows
from tests.directives.test_cases import holds, refused
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import scripted

BOOK = 'prices { currency "USD"; price "m" { input "1.00"; cached-input "0.10"; output "2.00"; }; }'
BUDGET = 'token-budget "one" { money "0.0004"; key "all"; }'
ROUTE = 'filters "one"\ninference'


def cached(read: int, hit: int, made: int) -> bytes:
    document = json.loads(usage(read, made))
    document["usage"]["prompt_tokens_details"] = {"cached_tokens": hit}
    return json.dumps(document).encode()


def steps(worker: Worker, reason: str) -> list[list[str]]:
    """The details of the steps with a reason, in all records."""
    wait_until(lambda: list(worker.region.journal_read(worker.slot)), "it is in the journal")
    records = [decode(one) for one in worker.region.journal_read(worker.slot)]
    return [list(step.details) for record in records for step in record.steps if step.reason == reason]


@pytest.mark.directive(
    "token-budget/money", "prices/currency", "prices/price", "prices/price/input", "prices/price/output",
    "prices/price/cached-input",
)  # fmt: skip
def test_money_is_put_aside_at_the_dearest_price_and_settled_by_kind(tmp_path: Path) -> None:
    model = Model(cached(100, 50, 20), usage(10, 20))
    with scripted(model) as origin, serving(
        tmp_path, origin=origin.port, top=BOOK, filters=BUDGET, route=ROUTE
    ) as worker:
        client = Client(worker.port)
        first = ask(client)
        assert first.fields["ratelimit-policy"] == '"one";q=400;qu="micro-USD";w=86400'
        assert closed(worker) == [("[]", 50 + 5 + 40)], "50 plain, 50 from the cache, 20 of output"
        version = worker.plan.prices.version if isinstance(worker.plan, Plan) and worker.plan.prices else ""
        assert steps(worker, "priced") == [["0.000095 USD", version]]
        assert ask(client).status == 200
        assert closed(worker) == [("[]", 95 + 50)]
        refusal = ask(client, cap=150)
        assert said(refusal) == EXHAUSTED and json.loads(refusal.body)["error"]["type"] == "insufficient_quota"
        assert said(ask(client, cap=201)) == (413, "larger-than-budget"), "201 tokens cost more than there is"


def test_what_a_provider_claims_is_settled_and_counted_however_much_it_costs(tmp_path: Path) -> None:
    """Else a reservation would stay open for as long as the worker lives, and nothing would be told of the exchange."""
    model = Model(*[usage(1 << 39, (1 << 39) - 1)] * 3)
    book = 'prices { currency "XTS"; price "m" { input "1000000"; output "1000000"; }; }'
    with scripted(model) as origin, serving(
        tmp_path, origin=origin.port, top=book, route=ROUTE,
        filters='token-budget "one" { money "5"; key "all"; on-limit "observe"; }',
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert [ask(client).status for _ in range(3)] == [200] * 3
        assert closed(worker) == [("[]", min(3 * MONEY_MAX, BUDGET_AMOUNT_MAX))]
        assert worker.region.tallied()[0].cost == 3 * MONEY_MAX
        assert not worker.counter(Counter.SURPRISES)


def test_what_a_book_says_of_each_kind_is_what_is_read(tmp_path: Path) -> None:
    line = 'input "1"; output "2"; cached-input "3"; cache-write "4"; cache-write-long "5"; audio-input "6"'
    top = f'prices {{ currency "USD"; price "m" {{ {line}; reasoning "7"; audio-output "8.000001"; }}; }}'
    book = plan_from(written(tmp_path, 1, top=top, route="inference")).prices
    assert book is not None
    rates = book.price("m", "2026-01-01")
    assert rates is not None and [getattr(rates, name) for name in (
        "input", "output", "cached_input", "cache_write", "cache_write_long", "audio_input", "reasoning", "audio_output"
    )] == [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 6_000_000, 7_000_000, 8_000_001]  # fmt: skip


@pytest.mark.directive(
    "prices/price/cache-write", "prices/price/cache-write-long", "prices/price/audio-input", "prices/price/reasoning",
    "prices/price/audio-output",
)  # fmt: skip
@pytest.mark.parametrize(
    ("line", "taken", "costs"),
    [
        ('cache-write "4"', {"cache_creation_input_tokens": 10}, 40),
        ('cache-write "4"; cache-write-long "5"',
         {"cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_1h_input_tokens": 10}}, 50),
        ('audio-input "6"', {"prompt_tokens_details": {"audio_tokens": 10}}, 60),
        ('reasoning "7"', {"completion_tokens_details": {"reasoning_tokens": 10}}, 70),
        ('audio-output "8"', {"completion_tokens_details": {"audio_tokens": 10}}, 80),
    ],
)  # fmt: skip
def test_each_kind_of_token_has_its_price(tmp_path: Path, line: str, taken: dict[str, object], costs: int) -> None:
    """Of ten tokens that are nothing else."""
    is_anthropic = "cache_creation_input_tokens" in taken
    if is_anthropic:
        told = {"type": "message", "content": [], "usage": {"input_tokens": 0, "output_tokens": 0, **taken}}
    else:
        read, made = (10, 0) if "prompt_tokens_details" in taken else (0, 10)
        told = json.loads(usage(read, made))
        told["usage"] |= taken
    top = f'prices {{ currency "USD"; price "m" {{ input "1"; output "1"; {line}; }}; }}'
    budget = BUDGET.replace("0.0004", "1")
    with scripted(Model(json.dumps(told).encode())) as origin, serving(
        tmp_path, origin=origin.port, top=top, filters=budget, route=ROUTE
    ) as worker:
        path = "/v1/messages" if is_anthropic else "/v1/chat/completions"
        assert ask(Client(worker.port), path=path).status == 200
        assert closed(worker) == [("[]", costs)]


@pytest.mark.directive("prices/price/from", "prices/price/until", "token-budget/unpriced")
@pytest.mark.parametrize(
    ("days", "unpriced", "found"),
    [
        ('from "2020-01-01"; until "2999-01-01"', "", (200, "")),
        ('from "2999-01-01"', "", (400, "no-price")),
        ('until "2020-01-01"', "", (400, "no-price")),
        ('until "2020-01-01"', 'unpriced "admit"', (200, "")),
    ],
)
def test_a_price_holds_on_its_days_and_without_one_a_budget_of_money_refuses(
    tmp_path: Path, days: str, unpriced: str, found: tuple[int, str]
) -> None:
    top = BOOK.replace("input", f"{days}; input", 1)
    budget = BUDGET.replace("key", f"{unpriced}; key") if unpriced else BUDGET
    with scripted(Model()) as origin, serving(
        tmp_path, origin=origin.port, top=top, filters=budget, route=ROUTE
    ) as worker:
        assert said(ask(Client(worker.port))) == found
        if unpriced:
            assert windows(worker) == [], "it passes uncounted"
            assert steps(worker, "unpriced") == [["m", "one"], ["m"]]


@pytest.mark.directive("prices/file")
def test_prices_of_a_file_are_read_with_those_that_stand_here_first(tmp_path: Path) -> None:
    entries = [{"models": ["m"], "input": 9, "output": 9}, {"models": ["n*"], "input": 4, "output": 4}]
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "EUR", "prices": entries}))
    text = written(tmp_path, 1, top=f'prices {{ file "{path}"; price "n-1" {{ input "5"; output "5"; }}; }}',
                   route="inference")  # fmt: skip
    book = plan_from(text).prices
    assert book is not None and book.currency == "EUR"
    found = [book.price(name, "2026-01-01") for name in ("m", "n-1", "n-2", "o")]
    assert [None if one is None else one.input for one in found] == [9, 5_000_000, 4, None]
    path.write_text(json.dumps({"currency": "EUR", "prices": [entries[0] | {"input": 10}, entries[1]]}))
    other = plan_from(text).prices
    assert other is not None and other.version != book.version and len(book.version) == 12


@pytest.mark.parametrize(
    ("top", "budget", "told"),
    [
        ("prices { }", "", "there are no prices in it"),
        ('prices { price "m" { input "1"; output "1"; }; }', "", "in no currency"),
        ('prices { currency "usd"; price "m" { input "1"; output "1"; }; }', "", "three capital letters"),
        ('prices { currency "USD"; price "m" { input 1.5; output "1"; }; }', "", "an amount of money is expected"),
        ('prices { currency "USD"; price "m" { input "1"; }; }', "", "needs `output`"),
        ('prices { currency "USD"; price "m" { input "0.0000001"; output "1"; }; }', "", "six decimals at most"),
        ('prices { currency "USD"; price "m**" { input "1"; output "1"; }; }', "", "two wildcards"),
        ('prices { currency "USD"; price "m" "m" { input "1"; output "1"; }; }', "", "has a price on the same days"),
        ('prices { currency "USD"; price "m" { input "1"; output "1"; from "2026-02-30"; }; }', "", "a day is"),
        ('prices { currency "USD"; price "m" { input "1"; output "1"; from "2026-02-03"; until "2026-01-01"; }; }', "",
         "is not after `from`"),
        ('prices { file "/nowhere.json"; }', "", "cannot be read"),
        ('prices { currency "EUR"; file "FILE"; }', "", "a book has one currency"),
        ('prices { file "BAD"; }', "", "$.prices[0].output"),
        ("", 'token-budget "b" { money "1"; }', "there is no price book"),
        (BOOK, 'token-budget "b" { money "1"; tokens 1; }', "has both tokens and money"),
        ("", 'token-budget "b" { key "all"; }', "has no amount"),
        (BOOK, 'token-budget "b" { tokens 1; unpriced "admit"; }', "`unpriced` has no effect"),
        (BOOK, 'token-budget "b" { money "0"; }', "it must be above 0"),
        ("", 'rate-limit "b" { rate "1/s"; key "model"; }', "not a part of a key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_prices_is_told(tmp_path: Path, top: str, budget: str, told: str) -> None:
    entry = {"models": ["m"], "input": 1, "output": 1}
    (tmp_path / "good.json").write_text(json.dumps({"currency": "USD", "prices": [entry]}))
    (tmp_path / "bad.json").write_text(json.dumps({"currency": "USD", "prices": [entry | {"output": -1}]}))
    top = top.replace("FILE", str(tmp_path / "good.json")).replace("BAD", str(tmp_path / "bad.json"))
    loaded = load_text(written(tmp_path, 1, top=top, filters=budget, route="inference"))
    assert loaded.plan is None and told in render_problems(loaded.problems)


def test_prices_that_nobody_looks_at_are_warned_of(tmp_path: Path) -> None:
    assert "nobody looks at the prices" in render_problems(load_text(written(tmp_path, 1, top=BOOK)).warnings)
    key = 'token-budget "b" { tokens 1; key "model"; }'
    text = written(tmp_path, 1, filters=key, route='inference\nfilters "b"')
    assert "that a client invents" in render_problems(load_text(text).warnings)


def test_a_stream_settles_its_money_while_it_goes_on_and_reserves_more(tmp_path: Path) -> None:
    budget = BUDGET.replace("0.0004", "1")
    with scripted(Stream(400, "silent")) as origin, serving(
        tmp_path, origin=origin.port, top=BOOK, filters=budget, route=ROUTE
    ) as worker:
        client = streaming(worker)
        client.head()
        words(client, 399)
        wait_until(lambda: windows(worker)[0][1] > 2000, "what was produced is settled while it goes on")
        assert windows(worker)[0][2] > 0 and worker.counter(Counter.BUDGETS_OVERDRAWN) == 0
        client.close()
        ((_, spent),) = closed(worker)
        assert spent > 2000


LLM = 'request "POST http://a.example/llm/v1/chat/completions"'


@pytest.mark.directive("case/state/spent@money", "case/state/tokens@model")
def test_a_test_says_which_model_is_asked_and_how_much_money_is_spent() -> None:
    spent = 'state {{ spent "purse" money="{}"; tokens model="{}" input=100 output=100; }}; '
    asked = LLM + ' { header "x-t" "acme"; header "x-purse" "yes"; }; '
    assert holds(spent.format("0.9997", "m") + asked + 'expect { upstream "api"; step "within-budget"; }')
    assert holds(spent.format("0.999701", "m") + asked + 'expect { reason "budget-exhausted"; }')
    assert holds(spent.format("0", "unknown") + asked + 'expect { status 400; reason "no-price"; }')
    end = f"{LLM}; expect {{ status 429; }}"
    assert "is not in money" in refused('state { spent "tokens" "acme" money="1"; }; ' + end)
    assert "one model" in refused('state { tokens model="m*"; }; ' + end)
