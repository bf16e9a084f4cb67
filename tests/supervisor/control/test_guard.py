"""The doors of the admin API: strangers on the network, pages in a browser, bodies without end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from supervisor.control.guard import BODY_BYTES_MAX, TcpDoor, UnixDoor

JSON = ("content-type", "application/json")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that tells how much it was sent."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def status(door: TcpDoor, method: str, path: str, *fields: tuple[str, str]) -> int:
    headers = Headers(raw=[(name.encode(), value.encode()) for name, value in fields])
    refusal = door.judge(method, path, headers)
    return refusal.status if refusal else 200


def door(address: str = "127.0.0.1:9901", token: str | None = "") -> TcpDoor:
    return TcpDoor(echo, address=address, token=lambda: token)


LOCAL = ("host", "127.0.0.1:9901")
POST = "/api/v1/reload"


@pytest.mark.parametrize("host", ["127.0.0.1:9901", "localhost:9901", "LOCALHOST:9901", "[::1]:9901", "127.0.0.1"])
def test_names_of_this_machine_may_enter_a_loopback_address(host: str) -> None:
    assert status(door(), "GET", "/api/v1/status", ("host", host)) == 200


FOREIGN = (
    "evil.example", "evil.example:9901", "127.0.0.1.evil.example:9901", "", "10.0.0.1:9901", "localhost:80",
    "localhost.evil:9901",
)  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_was_bound_to_loopback_by_its_owner_may_not(host: str) -> None:
    assert status(door(), "GET", "/api/v1/status", ("host", host)) == 403


def test_no_host_and_two_hosts_may_not() -> None:
    assert status(door(), "GET", "/api/v1/status") == 403
    assert status(door(), "GET", "/api/v1/status", LOCAL, LOCAL) == 403


def test_a_token_is_asked_for_when_there_is_one_and_host_is_not() -> None:
    guarded = door("0.0.0.0:9901", "s3cret")
    far = ("host", "gateway.example:9901")
    assert status(guarded, "GET", "/api/v1/status", far) == 401
    assert status(guarded, "GET", "/api/v1/status", far, ("authorization", "Bearer wrong")) == 401
    assert status(guarded, "GET", "/api/v1/status", far, ("authorization", "Basic s3cret")) == 401
    assert status(guarded, "GET", "/api/v1/status", far, ("authorization", "Bearer ")) == 401
    assert status(guarded, "GET", "/api/v1/status", far, ("authorization", "Bearer s3cret")) == 200
    assert status(guarded, "GET", "/metrics", far, ("authorization", "bearer s3cret")) == 200
    assert status(guarded, "GET", "/metrics", far) == 401


def test_a_token_on_loopback_is_asked_for_too() -> None:
    assert status(door(token="s3cret"), "GET", "/api/v1/status", LOCAL) == 401


def test_a_token_may_have_any_letters() -> None:
    raw = [(b"authorization", "Bearer schlüssel".encode())]
    assert door(token="schlüssel").judge("GET", "/metrics", Headers(raw=raw)) is None
    assert door(token="schlussel").judge("GET", "/metrics", Headers(raw=raw)) is not None


def test_an_open_address_without_a_token_lets_nobody_in() -> None:
    assert status(door("0.0.0.0:9901"), "GET", "/api/v1/status", LOCAL) == 403


def test_nobody_enters_before_the_token_is_known() -> None:
    assert status(door(token=None), "GET", "/api/v1/status", LOCAL) == 503


def test_health_is_open_to_probes_and_to_reading_only() -> None:
    for guarded in (door("0.0.0.0:9901", "s3cret"), door(), door(token=None), door("0.0.0.0:9901")):
        assert status(guarded, "GET", "/health/ready", ("host", "10.1.2.3:9901")) == 200
        assert status(guarded, "POST", "/health/ready", ("host", "10.1.2.3:9901"), JSON) != 200


def test_changes_are_json_posts() -> None:
    assert status(door(), "POST", POST, LOCAL, JSON) == 200
    assert status(door(), "POST", POST, LOCAL, ("content-type", "application/json; charset=utf-8")) == 200
    assert status(door(), "POST", POST, LOCAL) == 415
    assert status(door(), "POST", POST, LOCAL, ("content-type", "text/plain")) == 415
    assert status(door(), "POST", POST, LOCAL, ("content-type", "application/x-www-form-urlencoded")) == 415
    for method in ("PUT", "DELETE", "PATCH"):
        assert status(door(), method, POST, LOCAL, JSON) == 405


def test_pages_of_other_origins_change_nothing() -> None:
    def post(*fields: tuple[str, str]) -> int:
        return status(door(), "POST", POST, LOCAL, JSON, *fields)

    assert post(("origin", "http://127.0.0.1:9901")) == 200
    assert post(("origin", "http://evil.example")) == 403
    assert post(("origin", "null")) == 403
    assert post(("origin", "http://127.0.0.1:8080")) == 403
    assert post(("origin", "http://127.0.0.1:9901"), ("origin", "http://evil.example")) == 403
    assert post(("sec-fetch-site", "cross-site")) == 403
    assert post(("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:9901")) == 403
    assert post(("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:9901")) == 200


def exchange(app: Any, body: list[bytes], announced: int | None = None) -> tuple[int, bytes]:
    """Send a body in pieces, and return status and content of the answer."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    if announced is not None:
        headers.append((b"content-length", str(announced).encode()))
    scope = {"type": "http", "method": "POST", "path": POST, "headers": headers, "query_string": b""}
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    pieces.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("guarded", [UnixDoor(echo), door()])
def test_bodies_are_bounded_on_both_doors_announced_or_not(guarded: Any) -> None:
    assert exchange(guarded, [b"x" * BODY_BYTES_MAX]) == (200, str(BODY_BYTES_MAX).encode())
    code, content = exchange(guarded, [b"x" * BODY_BYTES_MAX, b"x"])
    assert (code, "remedy" in json.loads(content)) == (413, True)
    assert exchange(guarded, [], announced=BODY_BYTES_MAX + 1)[0] == 413
