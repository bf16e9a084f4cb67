"""What operators see and set in shared memory over the admin API, and that it is written down."""

from __future__ import annotations

import json
import time

import pytest

from sentinel.core.ceilings import Ceiling
from sentinel.core.limits import TERM, Limiter
from sentinel.core.machines.health import Finding, Health
from sentinel.core.plan import SECOND, ConcurrencyLimit, RateLimit, TokenLimit
from sentinel.core.throttles import token_bucket
from shm.places import FAILURE, pack_terms
from shm.region import Role
from tests.supervisor.control.stage import Stage

FILE = """\
schema-version "1.0"
system {{ run-dir "{run_dir}"; }}
admin {{ address "{admin}"; }}
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }}; }}
filters {{
    rate-limit "per-client" {{ rate "10/s"; burst 5; key "client-ip" "header:x-t"; }}
    concurrency-limit "few" {{ max 2; key "header:x-t"; }}
    token-limit "tpm" {{ tokens "600/m"; burst 100; key "client-ip" "model"; }}
}}
routes {{ route "r" {{ matches {{ path-prefix "/"; }}; filters "per-client" "few"; upstream "api"; }}; }}
upstreams {{
    upstream "api" {{
        endpoint "127.0.0.1:9001"; endpoint "127.0.0.1:9002"
        circuit-breaker {{ failures 2; open-for "1h"; }}
        health-check {{ path "/h"; }}
    }}
}}
"""


@pytest.fixture
def served(stage: Stage) -> Stage:
    stage.config.write_text(FILE.format(run_dir=stage.run_dir, admin=stage.address))
    stage.serving()
    return stage


def place(stage: Stage, name: str) -> int:
    return next(view.index for view in stage.region.places() if view.name == name)


def audited(stage: Stage) -> list[dict[str, object]]:
    return [json.loads(line) for line in (stage.run_dir / "audit.log").read_bytes().splitlines()]


def test_endpoints_are_shown_as_the_fleet_sees_them(served: Stage) -> None:
    index = place(served, "api/127.0.0.1:9002")
    served.region.board.set_health(index, Health.UNHEALTHY, Finding.REFUSED, time.monotonic_ns())
    one, two = served.get("endpoints").document
    assert (one["endpoint"], one["standing"], one["health"]) == ("127.0.0.1:9001", "usable", "unknown")
    assert (two["endpoint"], two["standing"], two["finding"]) == ("127.0.0.1:9002", "unhealthy", "refused")


def test_an_endpoint_is_taken_out_and_that_is_written_down(served: Stage) -> None:
    answer = served.post("endpoints", upstream="api", endpoint="127.0.0.1:9001", state="drain")
    assert answer.document == {"what": "api/127.0.0.1:9001", "before": "ready", "after": "drain"}
    assert served.get("endpoints").document[0]["standing"] == "draining"
    assert served.post("reload").document["outcome"] == "serving"
    assert served.get("endpoints").document[0]["admin"] == "drain", "over reloads"
    entry = next(entry for entry in audited(served) if entry["action"] == "set-endpoint")
    assert (entry["who"], entry["what"], entry["before"], entry["after"]) == (
        "control.sock", "api/127.0.0.1:9001", "ready", "drain",
    )  # fmt: skip


def test_what_is_not_there_is_said_with_what_is(served: Stage) -> None:
    wrong = served.post("endpoints", upstream="api", endpoint="127.0.0.1:1", state="drain")
    assert wrong.status == 404 and "127.0.0.1:9001" in wrong.document["error"]
    assert served.post("endpoints", upstream="x", endpoint="", state="drain").status == 404
    assert served.post("endpoints", upstream="api", endpoint="127.0.0.1:9001", state="off").status == 404
    assert served.post("breakers", upstream="api", state="open").status == 404, "it has none for all endpoints"
    assert served.get("limits", "none").status == 404
    assert served.get("limits", "per-client").status == 404, "two values are missing"
    assert served.post("endpoints", upstream="api").status == 400


def test_a_breaker_is_opened_and_closed_by_hand(served: Stage) -> None:
    index, upstream = place(served, "api/127.0.0.1:9001"), place(served, "api")
    slot = served.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    for _ in range(3):
        served.region.finish(slot, index, upstream, time.monotonic_ns(), 0, FAILURE, 1, pack_terms())
    assert served.get("breakers").document[0]["consecutive_failures"] == 3
    opened = served.post("breakers", upstream="api", endpoint="127.0.0.1:9001", state="open")
    assert (opened.document["before"], opened.document["after"]) == ("closed", "open")
    first = served.get("breakers").document[0]
    assert (first["state"], first["ms_left"]) == ("open", None)
    served.post("breakers", upstream="api", endpoint="127.0.0.1:9001", state="closed")
    first = served.get("breakers").document[0]
    assert (first["state"], first["consecutive_failures"]) == ("closed", 0)


def test_a_bucket_is_shown_and_made_full(served: Stage) -> None:
    limit = RateLimit("per-client", SECOND, 10, 5, key=("client-ip", "header:x-t"))
    limiter = Limiter(limit, "r")
    key, slot = limiter.key_of(["10.0.0.9", "acme"]), 0
    served.region.charge(slot, time.monotonic_ns(), (key,), TERM.pack(5 * limiter.increment_ns, 1 << 40, 0))
    shown = served.get("limits", "per-client", key=["10.0.0.9", "acme"]).document
    assert (shown["remaining"], shown["is_limited"]) == (0, True)
    assert served.get("limits").document["table"]["live"] == 1
    reset = served.post("limits", "reset", limit="per-client", key=["10.0.0.9", "acme"]).document
    assert (reset["before"], reset["after"]) == ("used", "full")
    mistyped = served.post("limits", "reset", limit="per-client", key=["10.0.0.999", "acme"])
    assert mistyped.status == 404 and "`10.0.0.999` is no client-ip" in mistyped.document["error"]
    assert served.get("limits", "per-client", key=["10.0.0.9", "acme"]).document["remaining"] == 5


def test_a_bucket_of_tokens_is_shown_and_made_full(served: Stage) -> None:
    limit = TokenLimit("tpm", 600, 60 * SECOND, 100, key=("client-ip", "model"))
    measure, key = token_bucket(limit, "r", ["10.0.0.9", "m"])
    slot = served.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    served.region.charge(slot, time.monotonic_ns(), (key,), TERM.pack(measure.charge_ns(60), 1 << 40, 0))
    shown = served.get("limits", "tpm", key=["10.0.0.9", "m"]).document
    assert 40 <= shown["remaining"] <= 42 and shown["burst"] == 100 and not shown["is_limited"]
    assert served.get("limits").document["tokens"][0]["name"] == "tpm"
    assert served.post("limits", "reset", limit="tpm", key=["10.0.0.9", "m"]).document["before"] == "used"
    assert served.get("limits", "tpm", key=["10.0.0.9", "m"]).document["remaining"] == 100
    assert served.get("limits", "tpm", key=["10.0.0.9"]).status == 404


def test_what_is_held_under_a_key_is_shown_and_ends_with_its_requests(served: Stage) -> None:
    slot = served.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    key = Ceiling(ConcurrencyLimit("few", 2, key=("header:x-t",)), "r").key_of(["acme"])
    for _ in range(2):
        served.region.hold(slot, time.monotonic_ns(), key, 2)
    shown = served.get("limits", "few", key=["acme"]).document
    assert (shown["held"], shown["max"], shown["is_limited"]) == (2, 2, True)
    assert served.get("limits", "few", key=["other"]).document["held"] == 0
    listed = served.get("limits").document
    assert (listed["leases"]["keys"], listed["leases"]["held"]) == (1, 2)
    assert (listed["concurrency"][0]["name"], listed["concurrency"][0]["routes"]) == ("few", ["r"])
    refused = served.post("limits", "reset", limit="few", key=["acme"])
    assert refused.status == 404 and "cannot be reset" in refused.document["error"]


def test_a_change_that_cannot_be_written_down_stands_and_says_so(served: Stage) -> None:
    (served.run_dir / "audit.log").unlink(missing_ok=True)
    (served.run_dir / "audit.log").mkdir()
    answer = served.post("endpoints", upstream="api", endpoint="127.0.0.1:9001", state="maintenance")
    assert answer.document["after"] == "maintenance" and "audit.log" in answer.document["warning"]
