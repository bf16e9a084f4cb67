"""The table of what upstreams do wrong: for each fault the exact status, reason, counters and explanation.

One real fleet has a route and an upstream for each fault. Every client keeps its connection as long as it is
let, never tries again, and writes down what it saw. What it saw is then found again, one for one, in
the access log, in the counters and in what `why` tells: nothing is lost, nothing is counted twice.
docs/explanation/faults.md shows this table to operators.
"""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.directives.house import serving
from tests.system import ills
from tests.system.fleet import ROOT, Fleet, wait_until
from tests.workers.child import Client
from tests.workers.origin import Script, closed_port, scripted

TIMES = 3
"""How often each fault is met."""
CONNECT_MS, FIRST_BYTE_MS, IDLE_MS, TOTAL_MS = 250, 300, 350, 400
REFUSED, BLACKHOLE, UNRESOLVED = "refused", "blackhole", "unresolved"


@dataclass(frozen=True)
class Fault:
    """A row. `script` is what the endpoint does, or why there is nobody."""

    name: str
    script: Script | str
    status: int
    reason: str
    _: KW_ONLY
    is_cut: bool = False  # the answer had begun: no status can tell of it any more, so the connection is cut
    failed: int = 1  # attempts that the endpoint is blamed for, for each request
    unconnected: int = 0
    attempts: int = 1
    at_least_ms: int = 0
    route: str = ""


FAULTS = [
    # what the endpoint does        the script, or nobody      status  reason
    Fault("refuses-connections",    REFUSED,                   502, "connect-failed", unconnected=1),
    Fault("never-accepts",          BLACKHOLE,                 504, "connect-timeout", unconnected=1,
          at_least_ms=CONNECT_MS),
    Fault("has-no-address",         UNRESOLVED,                503, "name-unresolved", attempts=0),
    Fault("says-nothing",           ills.silent,               504, "first-byte-timeout", at_least_ms=FIRST_BYTE_MS),
    Fault("says-nothing-in-time",   ills.silent,               504, "total-timeout", at_least_ms=150,
          route='timeout "150ms"'),
    Fault("is-slow",                ills.slow,                 200, "proxied", failed=0, at_least_ms=100),
    Fault("fails",                  ills.failing,              500, "proxied"),
    Fault("resets",                 ills.resets,               502, "upstream-closed"),
    Fault("hangs-up",               ills.hangs_up,             502, "upstream-closed"),
    Fault("hangs-up-in-its-head",   ills.says(b"HTTP/1.1 200 OK\r\nx-a", then=ills.closes), 502, "upstream-closed"),
    Fault("stops-in-its-head",      ills.says(b"HTTP/1.1 200 OK\r\nx-a", then=ills.waits), 504,
          "upstream-idle-timeout", at_least_ms=IDLE_MS),
    Fault("speaks-nonsense",        ills.says(b"SSH-2.0-OpenSSH\r\n\r\n", then=ills.waits), 502, "upstream-malformed"),
    Fault("has-two-lengths",        ills.says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
                                              then=ills.waits), 502, "upstream-malformed"),
    Fault("resets-in-its-body",     ills.says(ills.HALF, then=ills.breaks_off), 200, "upstream-aborted", is_cut=True),
    Fault("hangs-up-in-its-body",   ills.says(ills.HALF, then=ills.closes), 200, "upstream-aborted", is_cut=True),
    Fault("stops-in-its-body",      ills.says(ills.HALF, then=ills.waits), 200, "upstream-idle-timeout", is_cut=True,
          at_least_ms=IDLE_MS),
    Fault("never-ends",             ills.drips,                200, "total-timeout", is_cut=True, at_least_ms=TOTAL_MS,
          route=f'timeout "{TOTAL_MS}ms"'),
]  # fmt: skip
ROUTE = 'route "{0}" {{ matches {{ path "/{0}"; }}; upstream "{0}"; {1} }}\n'
TIMEOUTS = f'timeouts {{ connect "{CONNECT_MS}ms"; first-byte "{FIRST_BYTE_MS}ms"; idle "{IDLE_MS}ms"; }}'
UPSTREAM = 'upstream "{0}" {{ endpoint "{1}"; {2}; }}\n'


@dataclass(frozen=True)
class Seen:
    """What a client saw of one request."""

    request_id: str
    status: int
    reason: str
    is_whole: bool
    is_kept: bool


class Lab:
    """The fleet, and what its clients saw."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.seen: dict[str, list[Seen]] = {}

    def meet(self, fault: Fault) -> list[Seen]:
        """Ask TIMES times, on one connection as long as it lasts."""
        client: Client | None = None
        seen = self.seen[fault.name] = []
        for _ in range(TIMES):
            client = client or Client(self.fleet.port)
            client.send(f"GET /{fault.name} HTTP/1.1\r\nHost: h\r\n\r\n")
            status, fields = client.head()
            named = dict(fields)
            is_whole = True
            try:
                if "content-length" in named:
                    client.exactly(int(named["content-length"]))
                else:
                    while client.line() != b"0":
                        pass
            except (EOFError, ConnectionError):
                is_whole = False
            is_kept = is_whole and named.get("connection") != "close"
            seen.append(Seen(named["x-request-id"], status, named.get("x-sentinel-reason", ""), is_whole, is_kept))
            if not is_kept:
                client.close()
                client = None
        if client is not None:
            client.close()
        return seen

    def lines(self, count: int) -> dict[str, dict[str, Any]]:
        """The log by request, once it has so many lines."""
        found = wait_until(lambda: len(lines := self.fleet.access_log()) >= count and lines, f"{count} lines")
        return {line["request_id"]: line for line in found}

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The one line of a request, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.fleet.access_log() if line["request_id"] == request_id]

        (line,) = wait_until(found, "its line")
        return dict(line)

    def why(self, request_id: str) -> dict[str, Any]:
        status, answer = self.fleet.api("GET", f"/why/{request_id}")
        assert status == 200, answer
        record: dict[str, Any] = answer
        return record

    def metrics(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        """What a family of counters says, by the values of these labels; without zeros."""
        found: Counter[tuple[str, ...]] = Counter()
        for words, value in re.findall(rf"^{name}(?:{{(.*)}})? ([0-9.e+]+)$", scraped(self.fleet), re.MULTILINE):
            named = dict(re.findall(r'(\w+)="([^"]*)"', words))
            found[tuple(named[label] for label in labels)] += int(float(value))
        return +found


def scraped(fleet: Fleet) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.admin_port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, origin_port: int) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        places = {REFUSED: f"127.0.0.1:{closed_port()}", UNRESOLVED: "has-no-address.invalid:80"}
        places[BLACKHOLE] = f"127.0.0.1:{stack.enter_context(ills.blackhole())}"
        upstreams = ""
        for fault in FAULTS:
            if isinstance(fault.script, str):
                place = places[fault.script]
            else:
                place = f"127.0.0.1:{stack.enter_context(scripted(fault.script)).port}"
            upstreams += UPSTREAM.format(fault.name, place, TIMEOUTS)
        routes = "".join(ROUTE.format(fault.name, fault.route and fault.route + ";") for fault in FAULTS)
        fleet = Fleet(
            tmp_path_factory.mktemp("lab"), origin_port, routes=routes, upstreams=upstreams,
            system='probation { duration "0s"; }',
        )  # fmt: skip
        stack.callback(fleet.kill)
        yield Lab(fleet.start())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_an_upstream_has_its_status_and_its_reason(lab: Lab, fault: Fault) -> None:
    seen = lab.meet(fault)
    is_refused = fault.reason != "proxied" and not fault.is_cut
    expected = (fault.status, fault.reason if is_refused else "", not fault.is_cut, not fault.is_cut)
    assert [(one.status, one.reason, one.is_whole, one.is_kept) for one in seen] == [expected] * TIMES
    lines = lab.lines(sum(map(len, lab.seen.values())))
    for line in (lines[one.request_id] for one in seen):
        assert (line["status"], line["reason"], line["route"]) == (fault.status, fault.reason, fault.name)
        assert line["duration_ms"] >= fault.at_least_ms, "never early"
        assert line["attempts"] == fault.attempts
        assert (line["upstream_ms"] is not None) is (fault.is_cut or fault.reason == "proxied")
    record = lab.why(seen[-1].request_id)
    assert (record["status"], record["reason"]) == (fault.status, fault.reason)


AGAIN = 'retry { attempts 2; on "reset"; }'


@pytest.mark.parametrize(("retry", "expected"), [("", [502, 200] * 4), (AGAIN, [200] * 8)])
def test_an_upstream_that_flaps_costs_every_other_request_or_every_other_attempt(
    tmp_path: Path, retry: str, expected: list[int]
) -> None:
    """A worker alone is enough, and a turn is not lost to chance."""
    with scripted(ills.flapping()) as origin, serving(tmp_path, origin=origin.port, route=retry) as worker:
        client = Client(worker.port)
        assert [client.get("/").status for _ in expected] == expected
        lines = worker.log(8)
        assert {line["attempts"] for line in lines} == {2 if retry else 1}
        (endpoint,) = (view for view in worker.region.places() if view.name.startswith("origin/"))
        assert (endpoint.toll.requests, endpoint.toll.failures) == (16, 8) if retry else (8, 4)


def test_operators_are_shown_this_table() -> None:
    text = (ROOT / "docs/explanation/faults.md").read_text()
    shown = re.findall(r"^\| (.*) \| (\d{3}) \| `(.*)` \| is (kept|cut) \| (yes|no) \|$", text, re.MULTILINE)
    assert shown == [
        (fault.name.replace("-", " "), str(fault.status), fault.reason, "cut" if fault.is_cut else "kept",
         "yes" if fault.failed else "no")
        for fault in FAULTS
    ]  # fmt: skip


def test_what_clients_saw_is_what_was_logged_and_counted_one_for_one(lab: Lab) -> None:
    missing = [fault for fault in FAULTS if fault.name not in lab.seen]
    for fault in missing:  # this test alone was asked for
        lab.meet(fault)
    requests = {one.request_id: one for seen in lab.seen.values() for one in seen}
    lines = lab.lines(len(requests))
    assert lines.keys() == requests.keys() and len(lab.fleet.access_log()) == len(lines), "one line each"
    failed_for_clients = sum(one.status >= 400 or not one.is_whole for one in requests.values())
    reasons = lab.metrics("sentinel_request_reasons_total", "route", "reason")
    assert reasons == {(fault.name, fault.reason): TIMES for fault in FAULTS}
    classes = lab.metrics("sentinel_requests_total", "class")
    cut = sum(reasons[fault.name, fault.reason] for fault in FAULTS if fault.is_cut)
    assert failed_for_clients == classes["4xx",] + classes["5xx",] + cut
    failures = lab.metrics("sentinel_endpoint_failures_total", "upstream")
    assert failures == +Counter({(fault.name,): TIMES * fault.failed for fault in FAULTS})
    unconnected = lab.metrics("sentinel_endpoint_connect_failures_total", "upstream")
    assert unconnected == +Counter({(fault.name,): TIMES * fault.unconnected for fault in FAULTS})
    assert not lab.metrics("sentinel_endpoint_in_flight", "upstream"), "nothing is in flight any more"
    assert not lab.metrics("sentinel_surprises_total")
