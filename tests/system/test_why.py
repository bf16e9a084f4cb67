"""Why did this happen? A real fleet is asked about each of some hundred requests, and held against the truth.

The truth is the configuration's text and the offline walk through all candidates (sentinel.explain.losers.compare): the
route, every loser with its place, every step's reason, and that each place is the directive that it claims to be.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from sentinel.config import load
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.explain.losers import compare, loser_nodes
from tests.system.fleet import ROOT, Fleet, free_port, running_origin, wait_until

CONFIG = """\
schema-version "1.0"
system {{
    workers 2
    run-dir "{run_dir}"
    drain-deadline "5s"
    access-log "off"
    journal {{ file "{directory}/decisions.jsonl" {{ keep status="4xx"; keep route="split"; }}; }}
}}
admin {{ address "127.0.0.1:{admin_port}"; }}
listeners {{
    listener "web" {{ address "127.0.0.1:{port}"; }}
}}
routes {{
    route "beta" {{
        matches {{ path-prefix "/shop"; header "x-beta" "yes"; method "GET"; }}
        respond 200 body="beta"
    }}
    route "posts" {{
        matches {{ path-prefix "/shop"; method "POST"; }}
        upstream "one"
    }}
    route "debug" {{
        matches {{ host "*.example"; path-regex "/shop/[a-z]+"; query "debug"; }}
        respond 200 body="debug"
    }}
    route "hidden" {{
        matches {{ path-prefix "/shop"; header "authorization" "Bearer planted-secret-of-the-test"; }}
        respond 200
    }}
    route "shop" {{
        matches {{ host "shop.example" "a.b.example"; path-prefix "/shop"; }}
        filters "tight" "wide"
        upstream "pair"
    }}
    route "split" {{
        matches {{ path-prefix "/split"; }}
        split {{
            upstream "one" weight=1
            upstream "pair" weight=1
            key "header:x-user"
        }}
    }}
    route "dead" {{
        matches {{ path "/dead" "/dead/too"; }}
        upstream "dead"
    }}
    route "again" {{
        matches {{ path "/again"; }}
        retry {{ attempts 2; on "connect-failure"; }}
        upstream "half"
    }}
    route "tripped" {{
        matches {{ path "/tripped"; }}
        upstream "fragile"
    }}
    route "tea" {{
        matches {{ any {{ host "tea.example"; path "/tea"; }}; not {{ method "PUT"; }}; }}
        filters "few"
        respond 418
    }}
}}
filters {{
    rate-limit "tight" {{ rate "3/d"; burst 3; key "header:x-tenant"; }}
    rate-limit "wide" {{ rate "100000/s"; key "client-ip"; }}
    concurrency-limit "few" {{ max 50; }}
}}
upstreams {{
    upstream "one" {{
        endpoint "127.0.0.1:{origin_port}"
    }}
    upstream "pair" {{
        endpoint "127.0.0.1:{origin_port}"
        endpoint "127.0.0.1:{other_port}"
        balance "least-request"
    }}
    upstream "dead" {{
        endpoint "127.0.0.1:{closed}"
    }}
    upstream "half" {{
        endpoint "127.0.0.1:{closed}"
        endpoint "127.0.0.1:{origin_port}"
    }}
    upstream "fragile" {{
        endpoint "127.0.0.1:{closed}"
        circuit-breaker {{ failures 2; open-for "10m"; }}
    }}
}}
"""
OTHER = """\
schema-version "1.0"
system {{
    workers 2
    run-dir "{run_dir}"
    access-log "off"
    journal {{ file "{directory}/decisions.jsonl"; }}
}}
admin {{ address "127.0.0.1:{admin_port}"; }}
listeners {{
    listener "web" {{ address "127.0.0.1:{port}"; }}
}}
routes {{
    route "all" {{
        matches {{ path-prefix "/"; }}
        respond 200
    }}
}}
"""

# What stands at the place of a step, by its reason; and which steps a route's requests have, in their order.
DIRECTIVES: Final = {
    "route-matched": "matches", "condition-failed": r"(header|method|query|any|not|path|host|matches)\b",
    "within-limit": "rate-limit", "rate-limited": "rate-limit", "within-concurrency": "concurrency-limit",
    "load-compared": "upstream", "endpoint-chosen": "endpoint", "attempted": "endpoint", "responded": "respond",
    "split-chosen": "upstream", "retried": "retry", "tried-another": "upstream", "breaker-open": "upstream",
    "endpoint-passed-over": "endpoint",
}  # fmt: skip
FORWARDED: Final = "(load-compared )?endpoint-chosen attempted "
STEPS: Final = {
    "beta": "route-matched responded ", "debug": "route-matched responded ", "hidden": "route-matched responded ",
    "posts": f"route-matched {FORWARDED}",
    "shop": f"route-matched (within-limit within-limit {FORWARDED}|rate-limited )",
    "split": f"route-matched split-chosen {FORWARDED}",
    "dead": f"route-matched {FORWARDED}", "tea": "route-matched within-concurrency responded ",
    "again": "route-matched endpoint-chosen (attempted (tried-another|retried) )?attempted ",
    "tripped": f"route-matched ({FORWARDED}|endpoint-passed-over breaker-open )", "": "no-route ",
}  # fmt: skip
STATUSES: Final = {"responded": {200, 418}, "proxied": {200}, "no-route": {404}, "rate-limited": {429},
                   "connect-failed": {502}, "breaker-open": {503}}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the corpus, and what its answer said."""

    method: str
    host: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    request_id: str = ""
    status: int = 0
    reason: str = ""

    def request(self) -> Request:
        return Request(
            method=self.method, scheme="http", host=self.host, path=self.path, query=self.query, target=self.path,
            headers=self.headers, client_ip="127.0.0.1", listener="web",
        )  # fmt: skip


class Instance(Fleet):
    """A fleet with the configuration above."""

    text = CONFIG
    closed = free_port()

    def write(self, **settings: Any) -> None:
        self.settings |= settings
        self.config.write_text(self.text.format(
            directory=self.directory, run_dir=self.run_dir, port=self.port, admin_port=self.admin_port,
            origin_port=self.settings["origin_port"], other_port=self.settings["other_port"], closed=self.closed,
        ))  # fmt: skip

    def why(self, request_id: str) -> dict[str, Any]:
        status, document = self.api("GET", f"/why/{request_id}")
        assert status == 200, document
        answer: dict[str, Any] = document
        return answer


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running_origin() as origin, running_origin() as other:
        fleet = Instance(tmp_path_factory.mktemp("why"), origin, other_port=other)
        fleet.start()
        try:
            yield fleet
        finally:
            fleet.kill()


@pytest.fixture(scope="module")
def corpus(fleet: Instance) -> list[Asked]:
    return list(ask(fleet.port, requests()))


def requests() -> list[Asked]:
    """All kinds of requests, in an order that one seed gives."""
    hosts = ("shop.example", "a.b.example", "tea.example", "elsewhere.test")
    paths = ("/shop", "/shop/items", "/split/x", "/dead", "/dead/too", "/again", "/tripped", "/tea", "/nothing")
    fields: tuple[tuple[tuple[str, str], ...], ...] = (
        (), (("x-beta", "yes"),), (("x-beta", "no"), ("x-tenant", "acme")), (("authorization", "Bearer wrong"),),
    )  # fmt: skip
    all_kinds = [
        Asked(method, host, path, query, headers)
        for method, host, path, query, headers in itertools.product(
            ("GET", "POST", "PUT"), hosts, paths, ("", "debug=1"), fields
        )
    ]
    chosen = random.Random(20).sample(all_kinds, 300)
    chosen += [Asked("GET", "shop.example", "/split/x", "", (("x-user", f"u{number}"),)) for number in range(20)]
    return chosen


def ask(port: int, asked: list[Asked]) -> Iterator[Asked]:
    """Ask one after the other, by connections of ten requests: so all workers are asked."""
    for start in range(0, len(asked), 10):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            for one in asked[start : start + 10]:
                yield answered(connection, one)


def answered(connection: http.client.HTTPConnection, one: Asked) -> Asked:
    target = f"{one.path}?{one.query}" if one.query else one.path
    connection.request(one.method, target, headers={"Host": one.host} | dict(one.headers))
    response = connection.getresponse()
    response.read()
    request_id, reason = response.headers["x-request-id"], response.headers["x-sentinel-reason"] or ""
    return replace(one, request_id=request_id, status=response.status, reason=reason)


def faults_of(document: dict[str, Any], asked: Asked, table: RouteTable, lines: list[str]) -> Iterator[str]:
    """Everything in an explanation that is not as it was."""
    comparison = compare(table, asked.request())
    route = "" if comparison.winner is None else comparison.winner.route.name
    if document["route"] != route:
        yield f"the route is {document['route']}, and should be {route}"
    told = [node for node in document["explanation"]["children"] if node["kind"] in ("loser", "group")]
    expected = [node.to_dict() for node in loser_nodes(comparison)]
    if [(one["kind"], one.get("place"), one.get("reason")) for one in told] != [
        (one["kind"], one.get("place"), one.get("reason")) for one in expected
    ]:
        yield f"the losers are {told}, and should be {expected}"
    reasons = "".join(f"{step['reason']} " for step in document["steps"] if step["reason"] != "condition-failed")
    if re.fullmatch(STEPS[route], reasons) is None:
        yield f"the steps are {reasons}, and should be {STEPS[route]}"
    if document["status"] != asked.status or document["status"] not in STATUSES[document["reason"]]:
        yield f"status {document['status']} for {document['reason']}, the client got {asked.status}"
    if asked.reason and document["reason"] != asked.reason:
        yield f"the reason is {document['reason']}, the client was told {asked.reason}"
    for node in (*document["steps"], *told):
        if node.get("place") and not is_at(node["place"], DIRECTIVES.get(node["reason"], ""), lines):
            yield f"{node['reason']} is not at {node['place']}"


def is_at(place: str, directive: str, lines: list[str]) -> bool:
    _, line, column = place.rsplit(":", 2)
    return re.match(directive, lines[int(line) - 1][int(column) - 1 :]) is not None


def test_every_request_of_the_corpus_is_explained_as_it_was(fleet: Instance, corpus: list[Asked]) -> None:
    loaded = load(str(fleet.config))
    assert loaded.plan is not None
    table, lines = compile_routes(loaded.plan), fleet.config.read_text().splitlines()
    faults = {one: list(faults_of(fleet.why(one.request_id), one, table, lines)) for one in corpus}
    right = sum(not found for found in faults.values())
    print(f"explained as they were: {right} of {len(corpus)} ({100 * right / len(corpus):.1f} %)")
    assert not {one: found for one, found in faults.items() if found}
    assert len(corpus) >= 200 and {one.status for one in corpus} >= {200, 404, 418, 429, 502, 503}


def test_limits_tell_what_is_left_and_who_shares_a_bucket(fleet: Instance, corpus: list[Asked]) -> None:
    found: dict[str, set[str]] = {}
    for one in corpus:
        for step in fleet.why(one.request_id)["steps"]:
            if step["reason"] == "within-limit" and step["details"][0] == "tight":
                tenant = dict(one.headers).get("x-tenant", "")
                _, left, burst, mark = step["details"]
                assert int(left) < int(burst) == 3 and re.fullmatch("~[0-9a-f]{8}", mark)
                found.setdefault(tenant, set()).add(mark)
    assert set(found) == {"", "acme"} and all(len(marks) == 1 for marks in found.values())
    assert found[""] != found["acme"]


def test_each_attempt_is_told_with_its_times_and_its_end(fleet: Instance, corpus: list[Asked]) -> None:
    documents = [fleet.why(one.request_id) for one in corpus if one.path == "/again"]
    tries = [
        [step["details"] for step in document["steps"] if step["reason"] == "attempted"] for document in documents
    ]
    assert {len(one) for one in tries} == {1, 2}, "some begin at the endpoint that is dead"
    for document, one in zip(documents, tries, strict=True):
        endpoint, reached, began_us, answered_us, lasted_us, reason, status = one[-1]
        assert endpoint == document["endpoint"] and reached in "12" and (reason, status) == ("0", "200")
        assert int(began_us) >= 0 and 0 < int(answered_us) <= int(lasted_us) <= document["duration_ms"] * 1000 + 1
        if len(one) == 2:
            assert one[0][1] == "0" and one[0][5] == "40", "no connection, connect-failed"


def test_nothing_secret_is_in_a_record(fleet: Instance, corpus: list[Asked]) -> None:
    told = json.dumps([fleet.why(one.request_id) for one in corpus if one.headers])
    assert "Bearer" not in told and "planted-secret" not in told and "debug=1" not in told


def test_what_was_no_request_is_explained_too(fleet: Instance) -> None:
    with socket.create_connection(("127.0.0.1", fleet.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    found = re.search(rb"x-request-id: (\S+)", answer)
    assert found is not None
    document = fleet.why(found[1].decode())
    assert (document["status"], document["reason"], document["source"]) == (400, "bad-host", "gateway")
    assert not [node for node in document["explanation"]["children"] if node["kind"] in ("loser", "group")]


def test_people_read_it_as_a_tree_and_programs_as_the_same_document(fleet: Instance, corpus: list[Asked]) -> None:
    one = next(asked for asked in corpus if asked.status == 429)
    drawn = fleet.ctl("why", one.request_id).stdout
    assert "[rate-limited]" in drawn and f"{fleet.config}:" in drawn
    nobody = next(asked for asked in corpus if asked.path == "/nothing")
    assert "passed over: another path" in fleet.ctl("why", nobody.request_id).stdout
    assert fleet.ctl_json("why", one.request_id) == fleet.why(one.request_id)
    listed = fleet.ctl_json("why", "--last", "1000", "--status", "4xx", "--route", "shop")
    assert {record["request_id"] for record in listed} == {one.request_id for one in corpus if one.status == 429}
    lines = fleet.ctl("trace", "--last", "1000", "--reason", "breaker-open").stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [one.request_id for one in corpus if one.status == 503]


def test_what_is_kept_is_in_the_file_also_over_a_crash_of_control(fleet: Instance, corpus: list[Asked]) -> None:
    path = fleet.directory / "decisions.jsonl"

    def kept() -> list[str]:
        return [json.loads(line)["request_id"] for line in path.read_bytes().splitlines()]

    wanted = {one.request_id for one in corpus if 400 <= one.status < 500 or one.path == "/split/x"}
    wait_until(lambda: path.exists() and wanted <= set(kept()), "the corpus is kept")
    control = fleet.ctl_json("status")["control"]["pid"]
    os.kill(control, signal.SIGKILL)
    more = list(ask(fleet.port, [Asked("GET", "shop.example", "/split/later", "", ())] * 20))
    wanted |= {one.request_id for one in more}
    wait_until(lambda: wanted <= set(kept()), "what came while control was dead is kept", 40)
    lines = kept()
    assert len(lines) == len(set(lines)), "and nothing twice"
    wait_until(lambda: fleet.api("GET", "/metrics")[0] == 200, "control answers")
    counts = fleet.api("GET", "/metrics")[1]["decisions"]
    assert counts["missed"] == counts["lost"] == 0 and counts["kept"] == len(lines)
    moved = path.rename(path.with_suffix(".1"))
    last = next(ask(fleet.port, [Asked("GET", "shop.example", "/split/rotated", "", ())]))
    wait_until(lambda: path.exists() and kept() == [last.request_id], "a file that was moved away is made anew")
    assert moved.exists()


def test_it_works_after_a_reload_and_after_the_death_of_the_worker(fleet: Instance, corpus: list[Asked]) -> None:
    """The last of this file: nothing is as it was afterwards."""
    some = corpus[::10]
    before = {one: fleet.why(one.request_id) for one in some}
    pids = {worker["pid"] for worker in fleet.workers()}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len({w["pid"] for w in fleet.workers() if w["state"] == "serving"} - pids) == 2, "others", 30)
    assert {one: fleet.why(one.request_id) for one in some} == before
    fleet.text = OTHER
    fleet.write()
    assert fleet.ctl_json("reload")["outcome"] == "serving"
    assert {one: fleet.why(one.request_id) for one in some} == before
    for plan in (fleet.run_dir / "generations").glob("*.plan"):
        if plan.read_bytes().find(b'"tripped"') >= 0:
            plan.unlink()
    control = fleet.ctl_json("status")["control"]["pid"]
    os.kill(control, signal.SIGKILL)  # it remembers plans that it has read
    document = wait_until(lambda: told(fleet, some[0]), "control is back", 30)
    assert document["steps"] == before[some[0]]["steps"]
    notes = [node["text"] for node in document["explanation"]["children"] if node["kind"] == "note"]
    assert any("the plan of generation 1 is not known any more" in note for note in notes)


def told(fleet: Instance, one: Asked) -> dict[str, Any] | None:
    try:
        status, document = fleet.api("GET", f"/why/{one.request_id}")
    except OSError:
        return None
    return document if status == 200 else None


def test_follow_tells_requests_as_they_come(tmp_path: Path) -> None:
    """A fleet of its own: the other one is not what it was."""
    with running_origin() as origin:
        fleet = Fleet(tmp_path, origin).start()
        asked: list[Asked] = []
        try:
            command = [sys.executable, "-m", "sentinel.cli.sentinelctl", "trace", "--follow", "--json"]
            filters = ["--count", "3", "--status", "404", "--socket", str(fleet.run_dir / "control.sock")]
            with subprocess.Popen([*command, *filters], cwd=ROOT, stdout=subprocess.PIPE, text=True) as follow:
                paths = ("/status/404", "/status/200")

                def is_over() -> bool:  # when it begins to listen, nobody tells: so it is asked until it has heard
                    asked.extend(ask(fleet.port, [Asked("GET", "a.test", path, "", ()) for path in paths]))
                    return follow.poll() is not None

                wait_until(is_over, "three requests are told", 40)
                assert follow.stdout is not None and follow.returncode == 0
                told = [json.loads(line) for line in follow.stdout]
            assert len(told) == 3 and {one["path"] for one in told} == {"/status/404"}
            ids = [one.request_id for one in asked if one.status == 404]
            heard = [ids.index(one["request_id"]) for one in told]
            assert sorted(heard) == list(range(min(heard), min(heard) + 3)), "none between was left out"
        finally:
            fleet.kill()
