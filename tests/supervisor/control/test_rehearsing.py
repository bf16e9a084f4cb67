"""Dry runs against a running fleet: they see what shared memory knows, and charge nothing."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner, Result

from sentinel.cli.dry import dry_run
from sentinel.core.ceilings import Ceiling
from sentinel.core.limits import TERM, Limiter
from sentinel.core.plan import SECOND, ConcurrencyLimit, RateLimit
from shm.places import pack_terms
from shm.region import Role
from tests.supervisor.control.stage import Stage
from tests.supervisor.control.test_api import write_record
from tests.supervisor.control.test_governing import place

FILE = """\
schema-version "1.0"
system {{ run-dir "{run_dir}"; }}
admin {{ address "{admin}"; }}
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }}; }}
filters {{
    rate-limit "per-client" {{ rate "1/h"; burst 5; }}
    concurrency-limit "few" {{ max 2; key "header:x-t"; }}
}}
routes {{
    route "secret" {{ matches {{ path "/s"; header "x-key" (file)"key.txt"; }}; respond 204; }}
    route "r" {{ matches {{ path-prefix "/"; }}; filters "per-client" "few"; upstream "api"; }}
}}
upstreams {{
    upstream "api" {{
        endpoint "127.0.0.1:9001"; endpoint "127.0.0.1:9002"
        balance "least-request"
        circuit-breaker {{ scope "upstream"; failures 2; open-for "1h"; }}
    }}
}}
"""
PER_CLIENT = Limiter(RateLimit("per-client", 3600 * SECOND, 1, 5), "r")
FEW = Ceiling(ConcurrencyLimit("few", 2, key=("header:x-t",)), "r")


@pytest.fixture
def served(stage: Stage) -> Stage:
    stage.config.write_text(FILE.format(run_dir=stage.run_dir, admin=stage.address))
    (stage.directory / "key.txt").write_text("a-planted-secret")
    stage.serving()
    return stage


def charge(stage: Stage, count: int) -> bytes:
    key = PER_CLIENT.key_of(["127.0.0.1"])
    slot = stage.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    for _ in range(count):
        stage.region.charge(slot, time.monotonic_ns(), (key,), TERM.pack(PER_CLIENT.increment_ns, 1 << 50, 0))
    return key


def left(stage: Stage) -> int:
    return int(stage.get("limits", "per-client", key=["127.0.0.1"]).document["remaining"])


def verdict(stage: Stage, **options: object) -> dict[str, object]:
    answer = stage.post("dry-run", **({"request": "GET /x"} | options))
    assert answer.status == 200, answer.document
    found: dict[str, object] = answer.document["verdict"]
    return found


def test_a_bucket_that_is_used_up_refuses_and_stays_as_it_is(served: Stage) -> None:
    assert verdict(served)["kind"] == "forward"
    charge(served, 4)
    for _ in range(3):
        assert verdict(served)["kind"] == "forward", "the last one, each time"
    assert left(served) == 1, "nothing was charged"
    charge(served, 1)
    refused = served.post("dry-run", request="GET /x").document
    assert (refused["verdict"]["status"], refused["verdict"]["reason"]) == (429, "rate-limited")
    assert dict(map(tuple, refused["answer"]))["retry-after"] == "3600"
    assert verdict(served, client_ip="192.0.2.7")["kind"] == "forward", "another client's bucket"
    statistics = served.region.limits_statistics(time.monotonic_ns())
    assert statistics.used == 1, "looking at a key makes no entry"


def test_endpoints_breakers_and_what_is_held_are_seen(served: Stage) -> None:
    first = place(served, "api/127.0.0.1:9001")
    upstream = place(served, "api")
    slot = served.region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    assert verdict(served)["endpoint"] == "127.0.0.1:9001"
    served.region.begin(slot, first, upstream, time.monotonic_ns(), pack_terms())
    assert verdict(served)["endpoint"] == "127.0.0.1:9002", "the other one has more to do"
    served.post("endpoints", upstream="api", endpoint="127.0.0.1:9002", state="maintenance")
    assert verdict(served)["endpoint"] == "127.0.0.1:9001"
    served.post("breakers", upstream="api", state="open")
    assert verdict(served)["reason"] == "breaker-open"
    served.post("breakers", upstream="api", state="closed")
    key = FEW.key_of(["acme"])
    for _ in range(2):
        served.region.hold(slot, time.monotonic_ns(), key, 2)
    assert verdict(served, headers=["x-t: acme"])["reason"] == "concurrency-limited"
    assert served.region.held(key) == 2
    assert verdict(served, headers=["x-t: other"])["kind"] == "forward"


def test_lines_say_otherwise_and_the_rest_stays_as_it_is(served: Stage) -> None:
    charge(served, 5)
    assert verdict(served)["reason"] == "rate-limited"
    assert verdict(served, state=["limit per-client 127.0.0.1 remaining=2"])["kind"] == "forward"
    assert verdict(served, state=["held few '' count=2"])["reason"] == "concurrency-limited"
    assert verdict(served, state=["chance 3"])["reason"] == "rate-limited", "of the bucket nothing was said"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"request": "GET nowhere"}, "a request is a method and a URL"),
        ({"request": "GET /x", "headers": ["x-a"]}, "a header is `name: value`"),
        ({"request": "GET /x", "headers": ["x-a: b\r\nx-c: d"]}, "no line ends"),
        ({"request": "GET /x", "client_ip": "nobody"}, "is no IP address"),
        ({"request": "GET /x", "listener": "wep"}, "did you mean `web`?"),
        ({"request": "GET /x", "state": ["endpoint 127.0.0.1:9003"]}, "did you mean `127.0.0.1:9002`?"),
        ({"request": "GET /x", "state": ["endpoint 127.0.0.1:9001 ejected"]}, "has no outlier-ejection"),
        ({"request": "GET /x", "state": ['limit "per-client']}, "the quotes do not match"),
        ({"request": "GET /x", "state": ["'limit \"per-client\" (file)\"key.txt\"'"]}, "is not known in `state`"),
        ({"request": "GET /x", "state": ["chance 1; chance 2"]}, "`chance` takes 1 argument"),
        ({"request": "GET /x", "state": ["chance 1"] * 1001}, "length <= 1000"),
        ({"request": "GET /" + "x" * 16_384}, "length <= 16384"),
        ({"request": "GET /x", "body_bytes": -2}, ""),
        ({"request": "GET /x", "colour": "red"}, "colour"),
        ({}, "request"),
    ],
)
def test_what_is_not_understood_is_refused(served: Stage, options: dict[str, object], words: str) -> None:
    answer = served.post("dry-run", **options)
    assert answer.status in (400, 413) and words in answer.document["error"], answer.document


def test_secrets_of_the_configuration_are_not_told(served: Stage) -> None:
    answer = served.post("dry-run", request="GET /s", headers=["x-key: other"])
    text = json.dumps(answer.document)
    assert answer.status == 200 and "x-key" in text and "a-planted-secret" not in text


def run(stage: Stage, *words: str) -> Result:
    return CliRunner().invoke(dry_run, [*words, "--socket", str(stage.run_dir / "control.sock")])


def test_the_command_line_asks_the_fleet(served: Stage) -> None:
    charge(served, 5)
    told = run(served, "--live", "--request", "GET /x")
    assert told.exit_code == 0, told.output
    assert "rate limit `per-client` is used up" in told.output and "[rate-limited]" in told.output
    other = run(served, "--live", "--request", "GET /x", "--state", "limit per-client 127.0.0.1 remaining=1")
    assert other.exit_code == 0 and "[rate-limited]" not in other.output
    programs = json.loads(run(served, "--live", "--request", "GET /x", "--json").stdout)
    assert programs["verdict"]["status"] == 429
    wrong = run(served, "--live", "--request", "GET /x", "-c", str(served.config))
    assert wrong.exit_code == 2 and "leave -c out, or --live" in wrong.output
    assert run(served, "--live", "--at", "2026-01-01T00:00:00Z", "--request", "/").exit_code == 2


def test_a_recorded_request_is_asked_again(served: Stage) -> None:
    slot = served.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    write_record(served, slot, "one")
    told = run(served, "--like", "one")
    assert told.exit_code == 0, told.output
    assert "request one of the journal: recorded without headers and query" in told.output
    offline = run(served, "--like", "one", "-c", str(served.config))
    assert offline.exit_code == 0 and "verdict" not in offline.stderr, offline.output
    assert run(served, "--like", "none").exit_code == 2
