"""Every path of the admin API, in one table.

The application makes its routes from this table, the OpenAPI document is made
from this table, and a test holds the reference page against it. So a path that
is served is documented, and one that is documented is served.

`name` is the operation's id, and the name of the method of `Api` that serves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

API: Final = "/api/v1"

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    text: str
    kind: str = "string"
    where: str = "query"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path with one method. `answers`: status to what it means; `body`: properties of the JSON body."""

    name: str
    method: str
    path: str
    text: str
    answers: dict[int, str]
    parameters: tuple[Parameter, ...] = ()
    body: tuple[Parameter, ...] = ()
    media: str = JSON


SUPERVISOR_GONE: Final = "the supervisor cannot be asked"
UNREADABLE: Final = "shared memory, or the plan that runs, cannot be read"
WAIT: Final = Parameter("wait", "answer when it is done (the default), not when it has begun", "boolean")

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "status", "GET", f"{API}/status",
        "mode, generation, rollout, workers, obituaries, and what control knows of itself",
        {200: "the status", 503: SUPERVISOR_GONE},
    ),
    Endpoint(
        "workers", "GET", f"{API}/workers", "the worker processes: slot, pid, generation, lane, state, gauges",
        {200: "a list of workers", 503: SUPERVISOR_GONE},
    ),
    Endpoint(
        "generations", "GET", f"{API}/generations",
        "the last generations with how each ended, newest last",
        {200: "a list of generations", 503: SUPERVISOR_GONE},
    ),
    Endpoint(
        "config", "GET", f"{API}/config", "the plan that runs, secrets redacted, and the files it was made from",
        {200: "fingerprint, sources and plan", 404: "nothing runs", 503: SUPERVISOR_GONE},
    ),
    Endpoint(
        "reload", "POST", f"{API}/reload",
        "read the configuration, check it, and roll it out",
        {
            200: "it serves (outcome `serving`, `canary`), or nothing was to be done (`valid`, `unchanged`)",
            202: "the rollout has begun (`wait` is false)",
            400: "the body is not understood",
            409: "the gate refused it, or the generation was refused or rolled back; what served before serves on",
            422: "the configuration has problems, all of which are listed",
            503: "too many reloads wait, or " + SUPERVISOR_GONE,
            504: "the supervisor has not said in time how it ended",
        },
        body=(
            Parameter("canary", "number of lanes that shall serve the new generation; 0: all", "integer"),
            WAIT,
            Parameter("dry", "check only", "boolean"),
            Parameter("if_changed", "do nothing when the same content runs already", "boolean"),
            Parameter("force", "pass the reload gate; it is in the audit log", "boolean"),
            Parameter("content", "the `content` of a diff: refuse when the files are other ones by now"),
        ),
    ),
    Endpoint(
        "diff", "POST", f"{API}/diff",
        "which requests the files, as they are now, would treat differently from what runs; nothing is changed",
        {
            200: "the comparison with recorded and with generated requests", 400: "the body is not understood",
            409: "nothing runs", 422: "the configuration has problems, all of which are listed", 503: UNREADABLE,
        },
        body=(Parameter("recent", "how many of the newest recorded requests; 1000 unless told", "integer"),),
    ),
    Endpoint(
        "promote", "POST", f"{API}/promote", "let a canary serve on all lanes",
        {200: "it serves", 409: "there is no canary, or it failed", 503: SUPERVISOR_GONE, 504: "not known in time"},
    ),
    Endpoint(
        "rollback", "POST", f"{API}/rollback",
        "serve the former content again under a new number, or end a canary",
        {200: "it serves", 409: "there is nothing to go back to, or it failed", 503: SUPERVISOR_GONE,
         504: "not known in time"},
    ),
    Endpoint(
        "drain", "POST", f"{API}/drain", "take no new work, and finish what runs",
        {200: "the mode: `draining` or `drained`", 400: "the body is not understood", 409: "refused",
         503: SUPERVISOR_GONE, 504: "not drained in time"},
        body=(WAIT,),
    ),
    Endpoint(
        "resume", "POST", f"{API}/resume", "serve again after a drain",
        {200: "the mode", 409: "refused", 503: SUPERVISOR_GONE},
    ),
    Endpoint(
        "endpoints", "GET", f"{API}/endpoints",
        "the endpoints of all upstreams: health, ejections, what is in flight in the fleet, failures, latency",
        {200: "a list of endpoints", 503: UNREADABLE},
    ),
    Endpoint(
        "set_endpoint", "POST", f"{API}/endpoints",
        "take an endpoint out, or put it back; the change is in the audit log",
        {200: "the state before and after", 400: "the body is not understood", 404: "no such endpoint, or state",
         503: UNREADABLE},
        body=(
            Parameter("upstream", "the upstream's name"), Parameter("endpoint", "the address, as the list has it"),
            Parameter("state", "`ready`, `drain` (sticky clients only) or `maintenance` (nobody, no checks)"),
        ),
    ),
    Endpoint(
        "breakers", "GET", f"{API}/breakers", "the circuit breakers: state, time left, what they have counted",
        {200: "a list of breakers", 503: UNREADABLE},
    ),
    Endpoint(
        "set_breaker", "POST", f"{API}/breakers",
        "open a breaker until it is closed by hand, or close it and forget its failures; it is in the audit log",
        {200: "the state before and after", 400: "the body is not understood", 404: "no such breaker, or state",
         503: UNREADABLE},
        body=(
            Parameter("upstream", "the upstream's name"),
            Parameter("endpoint", "the address; without it: the breaker of the whole upstream"),
            Parameter("state", "`open` or `closed`"),
        ),
    ),
    Endpoint(
        "limits", "GET", f"{API}/limits", "the rate limits, and how full their table in shared memory is",
        {200: "the table, and a list of limits", 503: UNREADABLE},
    ),
    Endpoint(
        "bucket", "GET", f"{API}/limits/{{limit}}", "one bucket of a rate limit",
        {200: "what remains, and when it is full again", 404: "no such limit, or other parts of a key",
         503: UNREADABLE},
        parameters=(
            Parameter("limit", "the limit's name", where="path"),
            Parameter("key", "a value for each part of the limit's key, in the order of the list; repeated"),
        ),
    ),
    Endpoint(
        "reset_limit", "POST", f"{API}/limits/reset", "make a bucket full again; the change is in the audit log",
        {200: "whether it was used", 400: "the body is not understood", 404: "no such limit, or other parts of a key",
         503: UNREADABLE},
        body=(
            Parameter("limit", "the limit's name"),
            Parameter("key", "a value for each part of its key, in the order in which the list has them", "array"),
        ),
    ),
    Endpoint(
        "budgets", "GET", f"{API}/budgets",
        "the windows of budgets that are open: spent, reserved, left; those first that have most",
        {200: "the table, how many there are, and a list of windows; amounts of money are in micro-units",
         400: "a filter is not understood",
         503: UNREADABLE},
        parameters=(
            Parameter("budget", "only this budget"),
            Parameter("last", "how many at most; 100 unless told, 10000 at most", "integer"),
        ),
    ),
    Endpoint(
        "usage", "GET", f"{API}/usage", "who spent how much of budgets, from the durable ledger and shared memory",
        {200: "sums of each unit, and a list of who spent most; amounts of money are in micro-units",
         400: "a filter is not understood",
         503: UNREADABLE + ", or the ledger"},
        parameters=(
            Parameter("by", "`budget` (the default), `key`: each by itself, `model` or `tenant`: of keys that have it"),
            Parameter("since", "windows that are open, or ended within `90m`, `24h` (the default), `35d` at most"),
            Parameter("budget", "only this budget"),
            Parameter("last", "how many at most; 100 unless told, 10000 at most", "integer"),
        ),
    ),
    Endpoint(
        "dry_run", "POST", f"{API}/dry-run",
        "what would become of a request now, with the plan that runs and the fleet's state; nothing is sent or charged",
        {200: "request, verdict, steps, the fields of answer and upstream request, and the explanation",
         400: "the request, or a line of the state, is not understood", 409: "nothing runs", 503: UNREADABLE},
        body=(
            Parameter("request", "method and URL, or a path"),
            Parameter("headers", "lines `name: value`", "array"),
            Parameter("body_bytes", "how long its body is; -1 (the default): it has none", "integer"),
            Parameter("body", "its body in Base64, where what it asks a language model for is to be read"),
            Parameter("client_ip", "the address that connects; 127.0.0.1 unless told"),
            Parameter("listener", "where it arrives; without it: as scheme and port of the URL say"),
            Parameter("state", "lines that say otherwise of the fleet, as `--state` of `sentinelctl dry-run`", "array"),
        ),
    ),
    Endpoint(
        "why", "GET", f"{API}/why/{{request_id}}", "why a request was answered so: its recorded decision",
        {200: "the record", 404: "it is not in the journal (any more)", 503: "shared memory cannot be read"},
        parameters=(Parameter("request_id", "the `x-request-id` of the answer", where="path"),),
    ),
    Endpoint(
        "requests", "GET", f"{API}/requests", "the recorded requests, newest first",
        {200: "a list of records", 400: "a filter is not understood", 503: "shared memory cannot be read"},
        parameters=(
            Parameter("last", "how many at most; 20 unless told, 20000 at most", "integer"),
            Parameter("status", "only this status (`404`) or class (`5xx`)"),
            Parameter("route", "only this route"),
            Parameter("reason", "only this reason"),
        ),
    ),
    Endpoint(
        "follow", "GET", f"{API}/requests/events",
        "requests as they are recorded: server-sent events `request` (a record with its steps) and `lost` (how "
        "many were not told, because the reader or control was too slow)",
        {200: "events, until one of both ends it", 400: "a filter is not understood",
         503: "there are too many who follow, or shared memory cannot be read"},
        parameters=(
            Parameter("status", "only this status (`404`) or class (`5xx`)"),
            Parameter("route", "only this route"),
            Parameter("reason", "only this reason"),
        ),
        media="text/event-stream",
    ),
    Endpoint(
        "statistics", "GET", f"{API}/metrics", "the numbers of /metrics as JSON",
        {200: "the numbers"},
    ),
    Endpoint(
        "ask_playground", "POST", f"{API}/playground",
        "what is wrong with one or two configurations, how they decide a request, and where they part",
        {200: "of each configuration problems, what can be set, and the decision; and what differs",
         400: "the question is not understood", 503: "too many questions wait, or this one takes too long"},
        body=(
            Parameter("configurations", "one or two objects `name`, `text`", "array"),
            Parameter("request", "an object `line` (method and URL), `headers`, `client_ip`, `listener`, `body_bytes`",
                      "object"),
            Parameter("settings", "the state: an object `endpoints`, `open`, `remaining`, `held`, `chance`", "object"),
            Parameter("reasons", "words whose meaning is wanted beside those of the decisions", "array"),
        ),
    ),
    Endpoint(
        "playground", "GET", "/playground/{file}", "the playground: a page for a browser, and the files that it loads",
        {200: "the file", 304: "it is as `If-None-Match` has it", 404: "there is no such file"},
        parameters=(Parameter("file", "the name of a file; empty: the page", where="path"),), media="text/html",
    ),
    Endpoint("openapi", "GET", f"{API}/openapi.json", "this document", {200: "an OpenAPI 3.1 document"}),
    Endpoint(
        "metrics", "GET", "/metrics", "metrics for Prometheus: OpenMetrics or text format, by Accept",
        {200: "the metrics"}, media="text/plain",
    ),
    Endpoint("live", "GET", "/health/live", "whether the control process answers", {200: "it does"}),
    Endpoint(
        "ready", "GET", "/health/ready", "whether a generation serves, and the fleet takes work",
        {200: "ready", 503: "not ready; the body says why"},
    ),
)  # fmt: skip


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the table."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sentinel admin API", "version": version},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}, "remedy": {"type": "string"}},
                    "required": ["error"],
                }
            },
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.text,
        "responses": {str(status): _response(endpoint, status, text) for status, text in endpoint.answers.items()},
    }
    if endpoint.parameters:
        operation["parameters"] = [
            {
                "name": parameter.name, "in": parameter.where, "description": parameter.text,
                "required": parameter.where == "path", "schema": {"type": parameter.kind},
            }
            for parameter in endpoint.parameters
        ]  # fmt: skip
    if endpoint.method == "POST":
        properties = {item.name: {"type": item.kind, "description": item.text} for item in endpoint.body}
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        operation["requestBody"] = {"required": False, "content": {JSON: {"schema": schema}}}
    return operation


def _response(endpoint: Endpoint, status: int, text: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": "#/components/schemas/Error"} if status >= 500 else {}
    return {"description": text, "content": {endpoint.media: {"schema": schema}}}
