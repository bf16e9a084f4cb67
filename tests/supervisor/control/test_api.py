"""The admin API over both sockets, as the table of endpoints promises it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sentinel.core.reasons import Reason
from sentinel.core.record import RecordEncoder
from sentinel.core.span import Span
from shm.counters import Counter
from shm.region import Role
from supervisor.control.api import Told
from supervisor.control.endpoints import ENDPOINTS, openapi
from supervisor.control.followers import FOLLOWERS_MAX, Followers
from supervisor.control.journal import Filters
from supervisor.control.memory import Memory
from supervisor.control.metrics import CLIENT_HANDSHAKES, COUNTERS, HANDSHAKES, SHADOWS
from tests.supervisor.control.stage import Stage
from tests.system.fleet import ROOT, wait_until

GOOD = {endpoint.name: min(endpoint.answers) for endpoint in ENDPOINTS}


def write_record(
    stage: Stage, slot: int, request_id: str, *, status: int = 200, route: str = "rest", path: str = "/",
    method: str = "GET",
) -> None:  # fmt: skip
    reason = Reason.RESPONDED if status < 500 else Reason.CONNECT_FAILED
    steps = [(Reason.ROUTE_MATCHED, Span("sentinel.kdl", 12, 5), (route,))]
    record = RecordEncoder().encode(
        request_id=request_id, time_ns=time.time_ns(), duration_ns=1_500_000, generation=1, listener="web",
        client_ip="127.0.0.1", method=method, host="example.com", path=path, query_length=0,
        route=route, upstream="", endpoint="", attempts=0, status=status, reason_number=reason.number,
        bytes_in=100, bytes_out=200, steps=steps,
    )  # fmt: skip
    stage.region.journal_write(slot, record)


@pytest.fixture(scope="module")
def recorded(serving: Stage) -> Iterator[Stage]:
    """A stage whose region has seen some traffic."""
    slot = serving.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    series = serving.region.series_index("rest")
    for status in (200, 200, 404, 502):
        serving.region.record(slot, series, status, Reason.RESPONDED.number, 3_000_000, 100, 1000)
    serving.region.add(slot, Counter.LOG_DROPPED, 7)
    write_record(serving, slot, "one")
    serving.region.journal_write(slot, b"\xff damaged")
    write_record(serving, slot, "two", status=502)
    write_record(serving, slot, "three", route="other", path="/\x1b[2J")
    yield serving


def test_every_endpoint_that_is_documented_is_served(serving: Stage) -> None:
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET" and "{" not in endpoint.path and endpoint.media != "text/event-stream":
            status, headers, content = serving.tcp("GET", endpoint.path)
            assert status == GOOD[endpoint.name], (endpoint, content)
            assert headers["content-type"].startswith(endpoint.media)
            assert headers["cache-control"] == "no-store"


def test_the_openapi_document_has_every_path_and_operation(serving: Stage) -> None:
    document = serving.get("openapi.json").document
    assert document["openapi"].startswith("3.1")
    served = {(endpoint.path, endpoint.method.lower()) for endpoint in ENDPOINTS}
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(ENDPOINTS)
    assert json.loads(json.dumps(openapi("1"))) == openapi("1"), "nothing but plain values"


def test_the_reference_names_every_path_option_and_metric(serving: Stage) -> None:
    page, metrics = ((ROOT / f"docs/reference/{name}.md").read_text() for name in ("admin-api", "metrics"))
    for endpoint in ENDPOINTS:
        assert f"{endpoint.method} {endpoint.path}" in page or endpoint.path in page, endpoint.path
        for item in (*endpoint.body, *endpoint.parameters):
            assert item.name in page, item.name
    _, _, content = serving.tcp("GET", "/metrics")
    for name in re.findall(r"^# TYPE (\S+)", content.decode(), re.MULTILINE):
        assert f"`{name}" in metrics, name


def test_unknown_paths_and_methods_are_errors_in_json(serving: Stage) -> None:
    status, _, content = serving.tcp("GET", "/api/v1/nothing")
    assert (status, "error" in json.loads(content)) == (404, True)
    assert serving.tcp("POST", "/api/v1/status", {}, content_type="application/json")[0] == 405
    assert serving.tcp("DELETE", "/api/v1/status")[0] == 405
    assert serving.get("reload").status == 405, "reading never changes anything"


def test_strangers_are_kept_out_of_tcp_and_the_operator_of_nothing(serving: Stage) -> None:
    assert serving.tcp("GET", "/api/v1/status", host="evil.example")[0] == 403
    assert serving.tcp("POST", "/api/v1/resume", {}, content_type="text/plain")[0] == 415
    evil = serving.tcp("POST", "/api/v1/resume", {}, content_type="application/json", origin="http://evil.example")
    assert evil[0] == 403
    assert serving.supervisor.ops("resume") == []
    assert serving.tcp("POST", "/api/v1/resume", {}, content_type="application/json")[0] == 200
    assert serving.tcp("POST", "/api/v1/resume", "x" * 70_000, content_type="application/json")[0] == 413


def test_a_head_without_end_is_cut_off(serving: Stage) -> None:
    with socket.create_connection(serving.admin.getsockname()) as connection:
        connection.settimeout(20)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n")
        with contextlib.suppress(ConnectionError):  # it may be closed while we still send
            connection.sendall(b"x-filler: " + b"x" * 200_000)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(65536).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


def test_a_token_is_asked_for_as_soon_as_its_generation_serves(stage: Stage) -> None:
    stage.serving()
    assert stage.tcp("GET", "/api/v1/status")[0] == 200
    stage.write(admin='token "s3cret-token-of-tests"; ')
    assert stage.post("reload").status == 200
    assert stage.tcp("GET", "/api/v1/status")[0] == 401
    assert stage.tcp("GET", "/api/v1/status", authorization="Bearer s3cret-token-of-tests")[0] == 200
    assert stage.tcp("GET", "/health/live")[0] == 200
    assert stage.get("status").status == 200, "the Unix socket needs none"
    assert "s3cret-token-of-tests" not in json.dumps(stage.get("config").document), "secrets are redacted"


def test_ready_follows_generation_and_mode(stage: Stage) -> None:
    stage.supervisor.refusal = "not yet"
    stage.start()
    status, _, content = stage.tcp("GET", "/health/ready")
    assert (status, json.loads(content)["why"]) == (503, "no generation serves yet")
    assert stage.tcp("GET", "/health/live")[0] == 200
    stage.supervisor.refusal = ""
    assert stage.post("reload").status == 200
    assert stage.tcp("GET", "/health/ready")[0] == 200
    stage.supervisor.mode = "draining"
    status, _, content = stage.tcp("GET", "/health/ready")
    assert (status, json.loads(content)["why"]) == (503, "the fleet is draining")


def test_drain_and_resume(serving: Stage) -> None:
    assert serving.post("drain").document == {"mode": "drained"}
    assert serving.tcp("GET", "/health/ready")[0] == 503
    assert serving.post("resume").document == {"mode": "serving"}
    assert serving.tcp("GET", "/health/ready")[0] == 200


def test_config_shows_the_plan_and_its_sources(serving: Stage) -> None:
    document = serving.get("config").document
    assert document["fingerprint"] == serving.supervisor.ops("rollout")[-1]["fingerprint"]
    assert str(serving.config) in document["sources"]
    assert [route["name"] for route in document["plan"]["routes"]] == ["rest"]


def test_workers_and_generations_are_lists(serving: Stage) -> None:
    (worker,) = serving.get("workers").document
    assert {"slot", "pid", "generation", "state"} <= set(worker)
    assert serving.get("generations").document[-1]["state"] == "current"


# The journal.


def test_why_explains_a_recorded_request(recorded: Stage) -> None:
    document = recorded.get("why", "two").document
    assert (document["status"], document["reason"], document["route"]) == (502, "connect-failed", "rest")
    assert document["steps"][0] == {"reason": "route-matched", "place": "sentinel.kdl:12:5", "details": ["rest"]}
    assert document["explanation"]["children"]


def test_why_of_an_unknown_request_says_that_records_do_not_last(recorded: Stage) -> None:
    answer = recorded.get("why", "../../etc/passwd")
    assert answer.status == 404 and "journal" in answer.remedy


def test_requests_are_listed_newest_first_and_filtered(recorded: Stage) -> None:
    def ids(**query: str | int) -> list[str]:
        return [record["request_id"] for record in recorded.get("requests", **query).document]

    assert ids() == ["three", "two", "one"]
    assert ids(last=1) == ["three"]
    assert ids(status="5xx") == ["two"]
    assert ids(status=200) == ["three", "one"]
    assert ids(route="other") == ["three"]
    assert ids(route="rest", status="2xx", reason="responded") == ["one"]
    assert ids(status="404") == []


@pytest.mark.parametrize(
    "query", [{"last": 0}, {"last": 20001}, {"last": "x"}, {"status": "6xx"}, {"status": "20"}, {"colour": "red"}]
)
def test_a_filter_that_is_not_understood_is_refused(recorded: Stage, query: dict[str, str]) -> None:
    assert recorded.get("requests", **query).status == 400


def test_requests_are_told_as_they_are_recorded(serving: Stage) -> None:
    slot = serving.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    write_record(serving, slot, "before")
    events = iter(hear(serving, "/api/v1/requests/events?status=5xx"))
    assert next(events) == (":", "the journal is followed")
    for name, status in (("good", 200), ("bad", 502), ("worse", 503)):
        write_record(serving, slot, name, status=status)
    for name in ("bad", "worse"):
        assert next(events) == ("event", "request")
        field, data = next(events)
        document = json.loads(data)
        assert field == "data" and document["request_id"] == name and document["steps"][0]["reason"] == "route-matched"
    events.close()


def test_a_slow_reader_is_told_how_much_he_missed(serving: Stage) -> None:
    """He reads nothing while more comes than may wait for him, and then hears of each request, or that it was lost."""
    slot = serving.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    events = iter(hear(serving, "/api/v1/requests/events"))
    assert next(events)[0] == ":"
    written, path = 0, "/" + "p" * 100
    for _ in range(12):  # 12 x 1,000 lines of half a kibibyte: beyond the queue, and what sockets hold
        for _ in range(1000):
            write_record(serving, slot, f"r{written}", path=path)
            written += 1
    told = lost = 0
    for field, data in events:
        if field == "data":
            document = json.loads(data)
            lost, told = lost + document.get("lost", 0), told + ("request_id" in document)
        if told + lost == written:
            break
    assert lost > 0 and told > 0
    events.close()


def test_so_many_may_follow_and_each_leaves_room(serving: Stage) -> None:
    hearing = [hear(serving, "/api/v1/requests/events") for _ in range(FOLLOWERS_MAX)]
    for events in hearing:
        assert next(events)[0] == ":"
    assert serving.tcp("GET", "/api/v1/requests/events")[0] == 503
    for events in hearing:
        events.close()
    wait_until(lambda: next(hear(serving, "/api/v1/requests/events"), None), "room for another one", 30)


def test_who_is_gone_before_the_answer_begins_leaves_room_too(serving: Stage) -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def unheard(message: object) -> None:
        await asyncio.Event().wait()  # he has not read what was written before

    async def come_and_go() -> None:
        memory = Memory(serving.region.name)
        followers = Followers(memory)
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        for _ in range(FOLLOWERS_MAX + 1):
            await Told(await followers.join(Filters()), followers)(scope, gone, unheard)
        memory.close()

    asyncio.run(come_and_go())


def test_a_follower_asks_for_no_filter_that_there_is_not(serving: Stage) -> None:
    assert serving.tcp("GET", "/api/v1/requests/events?last=3")[0] == 400


def hear(stage: Stage, path: str) -> Generator[tuple[str, str], None, None]:
    """The lines of an event stream: field and value, ":" for comments; nothing when it is refused."""
    host, port = stage.address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        while response.status == 200 and (line := response.readline()):
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if line.strip():
                yield field or ":", value
    finally:
        connection.close()


# The numbers.


def test_prometheus_reads_both_formats(recorded: Stage) -> None:
    _, headers, text = recorded.tcp("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain")
    _, headers, openmetrics = recorded.tcp("GET", "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    for families in (parse_text(text.decode()), parse_openmetrics(openmetrics.decode())):
        samples = {
            (sample.name, frozenset(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }

        def of(name: str, *labels: str, samples: dict[tuple[str, frozenset[str]], float] = samples) -> float:
            return samples[f"sentinel_{name}", frozenset(labels)]

        assert of("requests_total", "rest", "2xx") == 2
        assert of("requests_total", "rest", "5xx") == 1
        assert of("request_reasons_total", "rest", "responded") == 4
        assert of("request_duration_seconds_count", "rest") == 4
        assert of("request_duration_seconds_sum", "rest") == pytest.approx(0.012)
        assert of("request_duration_seconds_bucket", "rest", "0.005") == 4
        assert of("request_duration_seconds_bucket", "rest", "0.0025") == 0
        assert of("response_bytes_total", "rest") == 4000
        assert of("log_dropped_total") == 7
        assert of("generation") == 1
        assert of("workers", "serving") == 1
        assert of("worker_heartbeat_age_seconds", "0") == 0.25
        assert of("reloads_total", "serving") >= 1


STRANGE = ("application/openmetrics-text; version=x", "*/*", ",;", "text/plain; version=9.9.9", "text/plain; version=.")


@pytest.mark.parametrize("accept", STRANGE)
def test_strange_accept_fields_get_some_format(recorded: Stage, accept: str) -> None:
    assert recorded.tcp("GET", "/metrics", accept=accept)[0] == 200


def test_every_counter_of_the_workers_has_a_metric() -> None:
    named = {*COUNTERS, *SHADOWS, *HANDSHAKES, *CLIENT_HANDSHAKES}
    assert named == set(Counter), "name new counters in supervisor/control/metrics.py and in the reference"


def test_the_numbers_as_json_are_those_of_prometheus(recorded: Stage) -> None:
    document = recorded.get("metrics").document
    route = document["routes"]["rest"]
    assert (route["requests"], route["classes"]["2xx"], route["reasons"]) == (4, 2, {"responded": 4})
    assert route["duration_ms_p99"] == 5.0
    assert document["counters"]["log_dropped"] == 7
    assert document["workers"]["serving"] == 1
