"""Faults of processes, clocks, disks and tables: what is lost is what must be, and it is known how much.

tests/system/test_faults.py asks whether the service goes on; here is counted, to the request, what that cost.
docs/explanation/faults.md shows this to operators.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.directives.patients import patients
from tests.system import ills
from tests.system.fleet import Fleet, running_load, wait_until
from tests.system.test_fault_table import Lab
from tests.system.test_limits import FILTERS, Crowd
from tests.system.test_limits import ROUTES as LIMITED
from tests.system.test_reload import Slow, get
from tests.workers.child import Client
from tests.workers.origin import scripted

FAKETIMES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
"""Where Debian has it; .ci/run installs it."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, fleet: Fleet) -> Fleet:
    stack.callback(fleet.kill)
    return fleet.start()


def serving(fleet: Fleet) -> dict[int, int]:
    """The pids of the workers that serve, by slot."""
    return {one["slot"]: one["pid"] for one in fleet.workers() if one["state"] == "serving"}


def slot_of(fleet: Fleet, request_id: str) -> int:
    """Which worker answered."""
    return int(Lab(fleet).line_of(request_id)["worker"])


def counted(fleet: Fleet) -> int:
    """Requests that were counted, whatever became of them."""
    return sum(Lab(fleet).metrics("sentinel_requests_total", "class").values())


def is_cut(client: Client) -> bool:
    """Does the connection end without an answer?"""
    try:
        client.head()
    except (EOFError, ConnectionError):
        return True
    return False


# Workers.

HELD = 'route "held" { matches { path "/held"; }; upstream "held"; }'
HELD_BY = 'upstream "held" {{ endpoint "127.0.0.1:{0}"; }}'
"""An upstream that answers when the test says so."""


@pytest.mark.slow
def test_a_stopped_worker_costs_its_own_connections_and_nobody_else_anything(
    tmp_path: Path, origin_port: int, stack: ExitStack
) -> None:
    fleet = started(stack, Fleet(tmp_path, origin_port, workers=3, system='heartbeat-timeout "2s"'))
    clients: dict[int, list[Client]] = {}
    asked = 0
    while sorted(len(mine) for mine in clients.values())[-3:-2] < [2]:  # at least two on each of three workers
        client = Client(fleet.port)
        request_id = client.get("/bytes/3").fields["x-request-id"]
        asked += 1
        clients.setdefault(slot_of(fleet, request_id), []).append(client)
        assert asked < 200
    victim, pid = next(iter(serving(fleet).items()))
    os.kill(pid, signal.SIGSTOP)
    mine, others = clients.pop(victim), [one for those in clients.values() for one in those]
    for client in mine:
        client.send("GET /bytes/3 HTTP/1.1\r\nHost: h\r\n\r\n")
    newcomers = [Client(fleet.port).send("GET /bytes/3 HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(12)]
    for _ in range(3):
        assert [client.get("/bytes/3").status for client in others] == [200] * len(others)
    assert [client.answer().status for client in newcomers] == [200] * 12, "its heir lets in who waited at its door"
    assert all(is_cut(client) for client in mine)
    wait_until(lambda: len(serving(fleet)) == 3 and pid not in serving(fleet).values(), "it was replaced")
    (obituary,) = (one for one in fleet.ctl_json("status")["obituaries"] if one["pid"] == pid)
    assert "no heartbeat for 2 s" in str(obituary)
    answered = asked + 3 * len(others) + len(newcomers)
    wait_until(lambda: counted(fleet) == answered, "each answer was counted once, and nothing else was")
    wait_until(lambda: len(fleet.access_log()) == answered, "and logged once")


def test_a_killed_worker_takes_with_it_what_it_had_in_flight_and_no_more(
    tmp_path: Path, origin_port: int, stack: ExitStack
) -> None:
    (patient,) = stack.enter_context(patients("patient"))
    fleet = started(stack, Fleet(tmp_path, origin_port, workers=3, routes=HELD, upstreams=HELD_BY.format(patient.port)))
    patient.hold.clear()
    clients = [Client(fleet.port).send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(12)]

    def in_flight() -> dict[int, int]:
        rows = {one["slot"]: one["open_requests"] for one in fleet.api("GET", "/workers")[1]}
        return rows if sum(rows.values()) == len(clients) else {}

    victim, lost = max(wait_until(in_flight, "all are in flight").items(), key=lambda row: row[1])
    os.kill(serving(fleet)[victim], signal.SIGKILL)
    late = [get(fleet.port, "/bytes/3")[0] for _ in range(12)]
    assert late == [200] * 12, "nobody is refused meanwhile"
    patient.hold.set()
    assert sum(is_cut(client) for client in clients) == lost > 0
    wait_until(lambda: counted(fleet) == len(clients) - lost + len(late), "all that was answered is counted")
    assert {one["in_flight"] for one in fleet.ctl_json("endpoints")} == {0}, "the dead have nothing in flight"


# Disks.


def test_a_full_disk_costs_the_lines_and_says_how_many(tmp_path: Path, origin_port: int, stack: ExitStack) -> None:
    fleet = started(stack, Fleet(tmp_path, origin_port, access_log="/dev/full"))
    assert [get(fleet.port, "/bytes/3")[0] for _ in range(40)] == [200] * 40
    lab = Lab(fleet)
    wait_until(lambda: lab.metrics("sentinel_log_dropped_total")[()] == 40, "each lost line is counted")
    assert counted(fleet) == 40
    fleet.write(access_log=tmp_path / "access.log")
    fleet.ctl("reload")
    assert get(fleet.port, "/bytes/3")[0] == 200
    wait_until(lambda: len(fleet.access_log()) == 1, "there is room again")
    assert lab.metrics("sentinel_log_dropped_total")[()] == 40


# Tables.


def test_when_there_is_no_room_for_more_endpoints_the_reload_is_refused_and_nothing_suffers(
    tmp_path: Path, origin_port: int, stack: ExitStack
) -> None:
    fleet = started(stack, Fleet(tmp_path, origin_port))
    before = fleet.ctl_json("status")["generation"]
    many = "; ".join(f'endpoint "10.0.{number // 250}.{number % 250}:80"' for number in range(300))
    fleet.write(upstreams=f'upstream "many" {{ {many}; }}')
    with running_load(fleet.port, clients=4) as load:
        answer = fleet.ctl("reload", check=False)
        result = load.finish()
    assert answer.returncode == 1
    assert "there is room for 256 names" in answer.stdout + answer.stderr
    assert "restart the service" in answer.stdout + answer.stderr, "the remedy is told"
    assert result["failure_count"] == 0, result
    assert fleet.ctl_json("status")["generation"] == before
    fleet.write(upstreams="")
    fleet.ctl("reload")


# Descriptors.


def test_workers_without_descriptors_lose_nobody_burn_nothing_and_blame_no_endpoint(
    tmp_path: Path, origin_port: int, stack: ExitStack
) -> None:
    fleet = started(stack, Fleet(tmp_path, origin_port))
    lab = Lab(fleet)
    before = {}
    for pid in serving(fleet).values():
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        room = next(fd for fd in range(1, 1 << 16) if fd - len([one for one in used if one < fd]) == 3)
        before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, before[pid][1]))
    clients = [Client(fleet.port).send("GET /bytes/3 HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(24)]
    wait_until(lambda: lab.metrics("sentinel_accept_failures_total")[()] >= 10, "both are out of descriptors")
    failures, begun_s = lab.metrics("sentinel_accept_failures_total")[()], time.monotonic()
    burnt_ms = sum(map(cpu_ms, before))
    threading.Event().wait(0.5)
    passed_s = time.monotonic() - begun_s
    assert sum(map(cpu_ms, before)) - burnt_ms < 0.2 * passed_s * 1000 + 100, "they wait, and do not spin"
    assert lab.metrics("sentinel_accept_failures_total")[()] - failures < 25 * passed_s
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    answers = [client.answer() for client in clients]
    shed = [one for one in answers if one.status != 200]
    assert {(one.status, one.fields["x-sentinel-reason"]) for one in shed} <= {(503, "overloaded")}
    assert len(shed) < 12, "only who was accepted with the last descriptors"
    assert lab.metrics("sentinel_endpoint_failures_total", "upstream") == Counter(), "the endpoint is not to blame"
    assert counted(fleet) == len(clients)
    assert get(fleet.port, "/bytes/3")[0] == 200


def cpu_ms(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 // os.sysconf("SC_CLK_TCK")


# Clocks.

POLICY = 'health-check { path "/h"; interval "100ms"; unhealthy-after 3; healthy-after 1; }; '
POLICY += 'circuit-breaker { failures 2; open-for "1h"; }; timeouts { first-byte "1s"; }'
CLOCKED = LIMITED + """
    route "ill" { matches { path "/ill"; }; upstream "ill"; }
    route "mute" { matches { path "/mute"; }; upstream "mute"; }
"""


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIMES, reason="libfaketime is not installed")
def test_jumps_of_the_wall_clock_change_nothing_but_the_dates_in_the_log(
    tmp_path: Path, origin_port: int, stack: ExitStack
) -> None:
    """To 2030 and back to 2020 under traffic: limits, timeouts, checks, breakers and heartbeats have another clock."""
    (ill,) = stack.enter_context(patients("ill"))
    mute = stack.enter_context(scripted(ills.silent))
    clock = tmp_path / "clock"
    clock.write_text("+0")
    fleet = Fleet(
        tmp_path, origin_port, routes=CLOCKED, system='heartbeat-timeout "3s"',
        upstreams=f"""
    upstream "ill" {{ endpoint "127.0.0.1:{ill.port}"; {POLICY}; }}
    upstream "mute" {{ endpoint "127.0.0.1:{mute.port}"; timeouts {{ first-byte "1s"; }}; }}
    {FILTERS.strip()}""",
    )  # fmt: skip
    fleet.environment = {
        "LD_PRELOAD": str(FAKETIMES[0]), "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1",
    }  # fmt: skip
    started(stack, fleet)
    before = serving(fleet)
    ill.status = 500
    assert [get(fleet.port, "/ill")[0] for _ in range(3)] == [500, 500, 503], "the breaker opens for an hour"
    ill.status = 200
    crowd = Crowd(fleet.port)
    with running_load(fleet.port, clients=4) as load:
        for year in (2030, 2020):
            waiting = Slow(fleet.port, "/mute")
            clock.write_text(f"@{year}-01-01 00:00:00")
            wait_until(lambda year=year: year_of_a_request(fleet) == year, "the log follows the clock")
            assert get(fleet.port, "/ill")[0] == 503, "an hour is an hour"
            seen = len(ill.checks)
            wait_until(lambda seen=seen: len(ill.checks) > seen + 3, "checks go on")
            assert waiting.status() == 504
            assert waiting.answer is not None
            line = Lab(fleet).line_of(waiting.answer.headers["x-request-id"])
            assert (line["reason"], 1000 <= line["duration_ms"] < 10_000) == ("first-byte-timeout", True)
        result = load.finish()
    crowd.end()
    crowd.is_exact()
    assert result["failure_count"] == 0 and result["longest_ms"] < 10_000, result
    assert serving(fleet) == before, "nobody was taken for dead"


def year_of_a_request(fleet: Fleet) -> int:
    """When a request that is made now says that it began."""
    request_id = Client(fleet.port).get("/bytes/3").fields["x-request-id"]
    wait_until(lambda: fleet.api("GET", f"/why/{request_id}")[0] == 200, "it is recorded, which comes after its answer")
    record = fleet.api("GET", f"/why/{request_id}")[1]
    assert record["time"] == Lab(fleet).line_of(request_id)["ts"]
    return datetime.fromisoformat(record["time"]).astimezone(UTC).year
