"""What operators are told of budgets: open windows and usage, bounded, filtered, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sentinel.cli.fleet import COMMANDS
from sentinel.cli.keys import hashed
from sentinel.core.budgets import write_key
from shm.region import Role
from supervisor.control.spending import Asked, Misread, stamp
from tests.supervisor.control.stage import Stage
from tests.supervisor.control.test_bookkeeping import spend
from tests.system.fleet import wait_until

START_S = int(time.time()) // 3600 * 3600
GROUP = click.Group("sentinelctl", commands=COMMANDS)
TENANTS = {"acme": 70, "=2+2": 30, "x" * 300: 20}


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    try:
        stage.write(system=f'state-dir "{stage.directory / "state"}"; ledger-flush "100ms"')
        with stage.config.open("a") as file:
            file.write('filters { token-budget "tokens" { tokens 60; per "hour"; key "header:x-t"; }; }\n')
        stage.serving()
        slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
        for tenant, amount in TENANTS.items():
            spend(stage.region, slot, write_key("tokens", START_S, (tenant, "gpt")), amount)
        spend(stage.region, slot, write_key("-sum", START_S, ()), 5)
        spend(stage.region, slot, b"no key", 1000)
        yield stage
    finally:
        stage.close()


def run(stage: Stage, *words: str) -> Result:
    return CliRunner().invoke(GROUP, [*words, "--socket", str(stage.run_dir / "control.sock")])


def test_windows_are_shown_with_those_first_that_have_most(spent: Stage) -> None:
    document = spent.get("budgets").document
    assert [one["settled"] for one in document["budgets"]] == [70, 30, 20, 5]
    first, hashed = document["budgets"][0], document["budgets"][2]
    assert (first["budget"], first["key"], first["open"], first["requests"]) == ("tokens", ["acme", "gpt"], 0, 1)
    assert first["start"] == stamp(START_S)
    assert [(one["amount"], one["left"]) for one in document["budgets"]] == [(60, 0), (60, 30), (60, 40), (None, None)]
    assert hashed["is_hashed"] and hashed["key"][0].startswith("~")
    assert document["table"]["size"] == 64 and document["table"]["used"] == 5


def test_they_are_filtered_and_bounded(spent: Stage) -> None:
    assert [one["settled"] for one in spent.get("budgets", budget="-sum").document["budgets"]] == [5]
    document = spent.get("budgets", last=1).document
    assert (len(document["budgets"]), document["count"]) == (1, 4)
    for wrong in ("0", "x", "10001", "-1", "١"):
        assert spent.get("budgets", last=wrong).status == 400


def test_usage_by_budget_and_by_key(spent: Stage) -> None:
    document = spent.get("usage").document
    assert [(one["budget"], one["settled"], one["requests"]) for one in document["usage"]] == [
        ("tokens", 120, 3), ("-sum", 5, 1),
    ]  # fmt: skip
    assert document["totals"] == [{"unit": "tokens", "settled": 125, "requests": 4}] and document["is_durable"]
    document = spent.get("usage", by="key", budget="tokens", since="35d", last=2).document
    assert [one["key"] for one in document["usage"]] == [["acme", "gpt"], ["=2+2", "gpt"]]
    assert (document["count"], document["totals"][0]["settled"]) == (3, 120)


@pytest.mark.parametrize("query", [{"by": "client"}, {"since": "1y"}, {"since": "36d"}, {"since": "0s"}, {"last": "0"}])
def test_questions_that_are_not_understood_are_told(spent: Stage, query: dict[str, str]) -> None:
    assert spent.get("usage", **query).status == 400
    with pytest.raises(Misread):
        Asked.of(query)


def test_the_ledger_is_written_every_interval(spent: Stage) -> None:
    wait_until(lambda: lag_s(spent) < 0.9, "the book is kept")
    text = spent.client.text("/metrics")
    for line in ("sentinel_budgets_reserved_total 5.0", "sentinel_budget_keys_size 64.0", "sentinel_budgets_open 0.0"):
        assert line in text


def test_tables_for_people(spent: Stage) -> None:
    output = run(spent, "budgets", "tokens", "--last", "1").output
    assert "acme gpt" in output and "2 more are not shown" in output and "-sum" not in output
    output = run(spent, "usage", "--since", "90m").output
    assert "125 tokens in 4 requests" in output and "acme" not in output
    assert "acme gpt" in run(spent, "usage", "--by", "key").output


def test_for_programs_and_spreadsheets(spent: Stage) -> None:
    assert json.loads(run(spent, "usage", "--json").stdout)["totals"][0]["settled"] == 125
    rows = list(csv.DictReader(io.StringIO(run(spent, "usage", "--by", "key", "--csv").stdout)))
    assert [(row["budget"], row["settled"]) for row in rows][:2] == [("tokens", "70"), ("tokens", "30")]
    assert json.loads(rows[1]["key"]) == ["=2+2", "gpt"]
    assert rows[3]["budget"] == "'-sum", "a spreadsheet computes nothing of it"
    assert run(spent, "usage", "--csv", "--json").exit_code == 2
    assert run(spent, "usage", "--since", "forever").exit_code == 1


def test_without_a_state_dir_usage_is_what_shared_memory_has(stage: Stage) -> None:
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    spend(stage.region, slot, write_key("tokens", START_S, ("acme",)), 70)
    document = stage.get("usage").document
    assert (document["totals"][0]["settled"], document["is_durable"]) == (70, False)
    assert "there is no `state-dir`" in run(stage, "usage").output
    assert "sentinel_ledger" not in stage.client.text("/metrics")


def test_money_is_told_in_its_currency_and_never_added_to_tokens(stage: Stage) -> None:
    with stage.config.open("a") as file:
        file.write('''filters {
            token-budget "both" { money "2.50"; key "header:x-t" "model"; on-limit "observe"; }
            token-budget "count" { tokens 1000; key "model"; }
        }
        prices { currency "EUR"; price "*" { input "1"; output "1"; }; }\n''')
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    for tenant, model, amount in (("acme", "m", 1_500_000), ("acme", "n", 250_000), ("zoo", "m", 7)):
        spend(stage.region, slot, write_key("both EUR", START_S, (tenant, model)), amount)
    spend(stage.region, slot, write_key("both EUR", START_S, ("x" * 300, "m")), 1)
    spend(stage.region, slot, write_key("count", START_S, ("m",)), 70)
    first = stage.get("budgets").document["budgets"][0]
    assert (first["budget"], first["unit"], first["amount"], first["left"]) == ("both", "EUR", 2_500_000, 1_000_000)
    assert "1.50 EUR" in run(stage, "budgets").output
    document = stage.get("usage", by="model").document
    assert [(one["budget"], one["unit"], one["key"], one["settled"]) for one in document["usage"]] == [
        ("both", "EUR", ["m"], 1_500_007), ("both", "EUR", ["n"], 250_000), ("count", "tokens", ["m"], 70),
        ("both", "EUR", ["(in a hashed key)"], 1),
    ]  # fmt: skip
    assert [(one["unit"], one["settled"], one["requests"]) for one in document["totals"]] == [
        ("tokens", 70, 1), ("EUR", 1_750_008, 4),
    ]  # fmt: skip
    assert document["prices"]["currency"] == "EUR" and len(document["prices"]["version"]) == 12
    printed = run(stage, "usage", "--by", "model").output
    assert "1.500007 EUR" in printed and f"price book {document['prices']['version']}" in printed
    rows = list(csv.DictReader(io.StringIO(run(stage, "usage", "both", "--by", "model", "--csv").stdout)))
    assert [(row["unit"], row["settled"], row["key"]) for row in rows][:2] == [
        ("EUR", "1.500007", '["m"]'), ("EUR", "0.25", '["n"]'),
    ]  # fmt: skip
    assert f"prices {document['prices']['version']} in EUR" in run(stage, "config").output


def test_what_each_tenant_spent_is_added_up_over_models_and_clients(stage: Stage) -> None:
    digests = [hashed(f"a-key-of-{name}-that-nobody-guesses") for name in ("acme", "beta")]
    with stage.config.open("a") as file:
        file.write(f'''filters {{
            api-key "clients" {{
                key "web" "{digests[0]}" {{ claim "tenant" "acme"; }}
                key "app" "{digests[1]}" {{ claim "tenant" "acme"; }}
            }}
            token-budget "both" {{ tokens 1000; key "claim:tenant" "model"; }}
            token-budget "each" {{ tokens 1000; key "identity"; }}
            token-budget "none" {{ tokens 1000; }}
        }}\n''')
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    for tenant, model, amount in (("acme", "m", 30), ("acme", "n", 5), ("zoo", "m", 7)):
        spend(stage.region, slot, write_key("both", START_S, (tenant, model)), amount)
    spend(stage.region, slot, write_key("each", START_S, ("clients:web",)), 9)
    spend(stage.region, slot, write_key("none", START_S, ("192.0.2.1/32",)), 99)
    document = stage.get("usage", by="tenant").document
    assert [(one["budget"], one["key"], one["settled"]) for one in document["usage"]] == [
        ("both", ["acme"], 35), ("each", ["clients:web"], 9), ("both", ["zoo"], 7),
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(run(stage, "usage", "both", "--by", "tenant", "--csv").stdout)))
    assert [(row["key"], row["settled"]) for row in rows] == [('["acme"]', "35"), ('["zoo"]', "7")]


def test_what_each_tenant_spent_on_each_model_is_told_of_budgets_whose_keys_have_both(stage: Stage) -> None:
    with stage.config.open("a") as file:
        file.write("""filters {
            token-budget "both" { tokens 1000; key "client-ip" "header:x-team" "model"; }
            token-budget "half" { tokens 1000; key "header:x-team"; }
        }
        routes {
            route "chat" {
                matches { path-prefix "/chat"; }
                filters "both"
                inference { tenant "header:x-team"; }
                upstream "models"
            }
        }
        upstreams { upstream "models" { endpoint "127.0.0.1:1"; }; }\n""")
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    for parts, amount in ((("192.0.2.1/32", "acme", "m"), 30), (("192.0.2.2/32", "acme", "m"), 4),
                          (("192.0.2.1/32", "acme", "n"), 5), (("192.0.2.1/32", "zoo", "m"), 7)):  # fmt: skip
        spend(stage.region, slot, write_key("both", START_S, parts), amount)
    spend(stage.region, slot, write_key("half", START_S, ("acme",)), 99)
    spend(stage.region, slot, write_key("both", START_S, ("x" * 300, "y", "z")), 1)
    document = stage.get("usage", by="tenant,model").document
    assert [(one["budget"], one["key"], one["settled"]) for one in document["usage"]] == [
        ("both", ["acme", "m"], 34), ("both", ["zoo", "m"], 7), ("both", ["acme", "n"], 5),
        ("both", ["(in a hashed key)", "(in a hashed key)"], 1),
    ]  # fmt: skip
    assert [one["settled"] for one in document["totals"]] == [47]
    rows = list(csv.DictReader(io.StringIO(run(stage, "usage", "--by", "tenant,model", "--csv").stdout)))
    assert [(row["key"], row["settled"]) for row in rows][:1] == [('["acme", "m"]', "34")]
    assert "acme m" in run(stage, "usage", "--by", "tenant,model").output


def test_a_threshold_is_told_once_for_a_window(stage: Stage) -> None:
    with stage.config.open("a") as file:
        file.write('filters { token-budget "b" { tokens 100; key "header:x-t"; warn-at 50 80; }; }\n')
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    audit = stage.run_dir / "audit.log"

    def told() -> list[tuple[str, str]]:
        lines = [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []
        return [(one["what"], one["after"]) for one in lines if one["action"] == "budget-warning"]

    spend(stage.region, slot, write_key("b", START_S, ("acme",)), 49)
    spend(stage.region, slot, write_key("b", START_S, ("zoo",)), 99)
    wait_until(lambda: told() == [("b zoo", "80%: 99 of 100")], "one has passed both, and the higher one is told")
    for amount in (2, 1, 1):
        spend(stage.region, slot, write_key("b", START_S, ("acme",)), amount)
        wait_until(lambda: len(told()) == 2, "the other one has passed one")
    assert told()[1][0] == "b acme" and told()[1][1].startswith("50%: 5")
    spend(stage.region, slot, write_key("b", START_S, ("acme",)), 40)
    wait_until(lambda: told()[2:] == [("b acme", "80%: 93 of 100")], "and the next, once")


def test_windows_that_roll_or_are_carried_over_are_told_as_one_account(stage: Stage) -> None:
    with stage.config.open("a") as file:
        file.write('''filters {
            token-budget "roll" { tokens 100; rolling "24h"; key "header:x-t"; }
            token-budget "over" { tokens 100; rollover "50%"; key "header:x-t"; }
        }\n''')
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    today_s = int(time.time()) // 86400 * 86400
    for name, start_s, amount in (("roll", START_S - 7200, 30), ("roll", START_S, 20), ("over", today_s - 86400, 80),
                                  ("over", today_s, 10)):  # fmt: skip
        spend(stage.region, slot, write_key(name, start_s, ("acme",)), amount)
    found = {one["budget"]: one for one in stage.get("budgets").document["budgets"]}
    assert len(stage.get("budgets").document["budgets"]) == 2
    assert (found["roll"]["settled"], found["roll"]["left"], found["roll"]["start"]) == (50, 50, stamp(START_S - 7200))
    assert (found["over"]["settled"], found["over"]["amount"], found["over"]["left"]) == (10, 120, 110)
    assert found["over"]["end"] == stamp(today_s + 86400)


@pytest.mark.directive("system/ledger-flush")
def test_how_often_is_said_in_the_configuration(stage: Stage) -> None:
    """An hour, and nothing is on the disk until the end; a reload to a moment, and it is there at once."""
    state = stage.directory / "state"
    stage.write(system=f'state-dir "{state}"; ledger-flush "1h"')
    stage.serving()
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    spend(stage.region, slot, write_key("tokens", START_S, ("acme",)), 70)
    wait_until(lambda: lag_s(stage) > 2.5, "an interval of the default would be over")
    assert rows(state) == 0
    stage.write(system=f'state-dir "{state}"; ledger-flush "100ms"')
    assert stage.post("reload").document["outcome"] == "serving"
    wait_until(lambda: rows(state) == 1, "the ledger has it")
    stage.write(system=f'state-dir "{state}"; ledger-flush "1h"')
    assert stage.post("reload").document["outcome"] == "serving"
    spend(stage.region, slot, write_key("tokens", START_S, ("other",)), 7)
    assert stage.stop()[0] == 0
    assert rows(state) == 2, "who leaves writes the rest"


def lag_s(stage: Stage) -> float:
    text = stage.client.text("/metrics")
    assert "sentinel_ledger_failures_total 0.0" in text
    return float(text.partition("\nsentinel_ledger_lag_seconds ")[2].partition("\n")[0])


def rows(state: Path) -> int:
    database = sqlite3.connect(f"file:{state / 'ledger.db'}?mode=ro", uri=True)
    try:
        (count,) = database.execute("SELECT count(*) FROM spent").fetchone()
    finally:
        database.close()
    return int(count)
