"""A real fleet and a corpus of requests: what was recorded live is what a dry run says, request by request.

Two dry runs are held against each live record: one asked of the running fleet just before the request is sent
(`POST /api/v1/dry-run`: shared memory as it is), and one offline, from the configuration and the state that the
corpus began with. Compared are route, upstream, endpoint, reason, status where the gateway says it, and each step
with its place and details; but for the seconds that a limit is used up for, which pass while one looks.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sentinel.cli.keys import hashed
from sentinel.config import load
from sentinel.config.states import read_state
from sentinel.core.reasons import Reason
from sentinel.explain.assumed import Assumed
from tests.system.fleet import Fleet, running_origin, wait_until
from workers.rehearsal import House, choose_listener, document, read_question

CORPUS = 400
ROUTES = """
    route "beta" {
        matches { host "api.example.com" "*.example.org"; path-prefix "/v1"; header "x-beta" "yes"; }
        filters "tight" "watch"
        upstream "pair"
    }
    route "api" {
        matches { host "api.example.com"; path-prefix "/v1"; method "GET" "POST"; }
        filters "few" "wide"
        upstream "pair"
        max-body-size "8B"
    }
    route "lot" {
        matches { path-prefix "/lot"; path "/lost"; }
        split { upstream "pair"; upstream "origin"; key "client-ip"; }
    }
    route "down" { matches { path "/down"; }; upstream "down"; }
    route "fixed" {
        matches { path "/fixed"; not { query "no"; }; }
        filters "wide"
        respond 204
    }
    route "keyed" {
        matches { path-prefix "/keyed"; }
        filters "each" "clients" "others"
        split { upstream "pair"; upstream "origin"; key "identity"; }
    }
    route "strict" { matches { host "strict.example.com"; path-prefix "/"; method "GET"; }; respond 200 body="ok"; }
"""
UPSTREAMS = """
    upstream "pair" {{
        endpoint "127.0.0.1:{one}"; endpoint "127.0.0.1:{other}"; endpoint "127.0.0.1:{out}"
        balance "maglev" {{ key "client-ip"; }}
    }}
    upstream "down" {{ endpoint "127.0.0.1:{out}"; }}
}}
filters {{
    rate-limit "tight" {{ rate "1/h"; burst 4; }}
    rate-limit "watch" {{ rate "1/h"; burst 2; key "method"; on-limit "observe"; }}
    rate-limit "wide" {{ rate "1/h"; burst 30; key "header:x-tenant"; }}
    rate-limit "each" {{ rate "1/h"; burst 3; key "claim:tenant"; }}
    api-key "clients" {{
        key "acme" "{acme}" {{ claim "tenant" "one"; }}
        key "beta" "{beta}" {{ claim "tenant" "one"; }}
        pass-identity {{ header "x-user" "subject"; }}
    }}
    api-key "others" {{ key "gamma" "{gamma}" {{ claim "tenant" "two"; }}; read-from "bearer"; }}
    concurrency-limit "few" {{ max 2; key "client-ip"; }}
"""
KEYS = {name: f"sk-sentinel-{name}-0123456789" for name in ("acme", "beta", "gamma")}
LISTENER = 'trusted-proxies "127.0.0.0/8"'


def corpus(seed: int) -> list[tuple[str, tuple[str, ...], int]]:
    """Requests as (method and path, headers, octets of body): most are good, some are malformed."""
    dice = random.Random(seed)
    paths = [
        "/v1/a", "/v1", "/v12", "/keyed", "/keyed/a", "/lot/7", "/lot/x", "/down", "/fixed", "/fixed?no=1",
        "/x/../v1/b", "/a%2Fb", "//v1",
    ]  # fmt: skip
    found = []
    for _ in range(CORPUS):
        method = dice.choices(["GET", "POST", "DELETE", "TRACE"], [6, 3, 1, 0.2])[0]
        hosts = ["api.example.com", "a.example.org", "strict.example.com", "other.example"]
        headers = [f"host: {dice.choice(hosts)}", f"x-forwarded-for: 192.0.2.{dice.randrange(6)}"]
        if dice.random() < 0.3:
            headers.append(f"x-beta: {dice.choice(['yes', 'no'])}")
        if dice.random() < 0.5:
            headers.append(f"x-tenant: {dice.choice('ab')}")
        shown = dice.choice([*KEYS.values(), "nobodys"])
        headers += dice.choice([[], [f"x-api-key: {shown}"], [f"authorization: Bearer {shown}"]])
        body = dice.choice([0, 0, 8, 9]) if method == "POST" else -1
        found.append((f"{method} {dice.choice(paths)}", tuple(headers), body))
    return found


def send(port: int, line: str, headers: tuple[str, ...], body: int) -> str:
    """Send a request on a connection of its own; returns its id."""
    lines = [f"{line} HTTP/1.1", *headers, "connection: close", *([f"content-length: {body}"] if body >= 0 else [])]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + b"x" * max(body, 0))
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head = answer.partition(b"\r\n\r\n")[0].decode()
    return next(one.partition(":")[2].strip() for one in head.split("\r\n") if one.startswith("x-request-id:"))


def is_down(fleet: Fleet) -> bool:
    """Whether the worker that happened to be asked knows that the endpoint is out: it looks once a tick."""
    request_id = send(fleet.port, "GET /down", ("host: h",), -1)
    return bool(recorded(fleet, request_id)["reason"] == Reason.NONE_USABLE.word)


def recorded(fleet: Fleet, request_id: str) -> dict[str, Any]:
    def look() -> Any:
        status, record = fleet.api("GET", f"/why/{request_id}")
        return record if status == 200 else None

    record = wait_until(look, f"a record of {request_id}")
    assert not record["is_cut"], "paths are short here, so that records are whole"
    is_forwarded = record["reason"] == "proxied"
    return {
        "route": record["route"] or None, "upstream": record["upstream"] or None,
        "endpoint": record["endpoint"] or None, "reason": record["reason"],
        "status": None if is_forwarded else record["status"], "steps": comparable(record["steps"]),
    }  # fmt: skip


def decided(dry: dict[str, Any]) -> dict[str, Any]:
    verdict = dry["verdict"]
    names = ("route", "upstream", "endpoint", "reason", "status")
    return {name: verdict[name] for name in names} | {"steps": comparable(dry["steps"])}


def comparable(steps: list[dict[str, Any]]) -> list[tuple[str, str, tuple[str, ...]]]:
    """What was decided: not what attempts came to afterwards, and not the marks of keys, which are of one instance."""
    kept = []
    for step in steps:
        if step["reason"] == Reason.ATTEMPTED.word:
            continue
        details = tuple(str(one) for one in step["details"] if not str(one).startswith("~"))
        if step["reason"] == Reason.RATE_LIMITED.word:
            details = details[:1]
        kept.append((step["reason"], step["place"], details))
    return kept


@pytest.mark.timeout(300)
def test_every_live_record_is_what_the_dry_runs_say(origin_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with running_origin() as one, running_origin() as other, running_origin() as out, TemporaryDirectory() as place:
        upstreams = UPSTREAMS.format(
            one=one, other=other, out=out, **{name: hashed(key) for name, key in KEYS.items()}
        )
        fleet = Fleet(Path(place), origin_port, routes=ROUTES, upstreams=upstreams, listener=LISTENER).start()
        try:
            for upstream in ("pair", "down"):
                change = {"upstream": upstream, "endpoint": f"127.0.0.1:{out}", "state": "maintenance"}
                assert fleet.api("POST", "/endpoints", change)[0] == 200
            wait_until(lambda: all(is_down(fleet) for _ in range(20)), "all workers have heard of it")
            compared = compare(fleet, out)
        finally:
            fleet.kill()
    wrong = [one for one in compared if not one[0] == one[1] == one[2]]
    kinds = {one[0]["reason"] for one in compared}
    with capsys.disabled():
        share = 100 * (len(compared) - len(wrong)) / len(compared)
        print(f"\n{len(compared)} live records, {share:.1f} % equal to both dry runs; {', '.join(sorted(kinds))}")
    assert not wrong, "\n".join(str(part) for part in wrong[0])
    wanted = {"proxied", "responded", "rate-limited", "none-usable", "body-too-large", "bad-path", "method-refused",
              "credentials-missing", "key-unknown"}  # fmt: skip
    assert wanted <= kinds, "the corpus meets all of these"
    words = {step[0] for one in compared for step in one[0]["steps"]}
    assert {"would-be-limited", "within-concurrency", "split-chosen", "endpoint-passed-over"} <= words


def compare(fleet: Fleet, out: int) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Of each request: the live record, the dry run of the fleet before it, and the offline one."""
    plan = load(str(fleet.config)).plan
    assert plan is not None
    house = House(plan)
    lines = [f"endpoint 127.0.0.1:{out} maintenance upstream={name}" for name in ("pair", "down")]
    state = read_state(lines, plan)
    assert not isinstance(state, tuple), state
    world = Assumed(plan, state)
    compared = []
    for line, headers, body in corpus(seed=7):
        asked = {"request": line, "headers": headers, "body_bytes": body}
        status, before = fleet.api("POST", "/dry-run", asked)
        assert status == 200, before
        live = recorded(fleet, send(fleet.port, line, headers, body))
        question = read_question(line, headers, body)
        listener, _ = choose_listener(plan, question, None)
        offline = document(house.rehearse(listener, question, "127.0.0.1", world))
        compared.append((live, decided(before), decided(offline)))
    return compared
