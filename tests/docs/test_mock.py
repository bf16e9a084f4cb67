"""The mock upstream answers as its docstring says; asked directly, and as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sentinel.cli.mock import SHOWN_BYTES_MAX, Upstream


def ask(target: str, body: bytes = b"", method: str = "GET") -> tuple[int, dict[str, str], list[bytes]]:
    """One request; returns status, headers and the pieces of the body."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(b"x-one", b"1")],
    }  # fmt: skip
    coming = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "body": body[10:]},
    ]
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    asyncio.run(Upstream()(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], headers, [message["body"] for message in said[1:] if message["body"]]


def test_it_says_what_it_was_asked() -> None:
    status, headers, pieces = ask("/a/b?c=d", b"hello mock upstream", "PUT")
    assert (status, headers["content-type"]) == (200, "application/json")
    document = json.loads(b"".join(pieces))
    assert document == {
        "method": "PUT", "path": "/a/b", "query": "c=d", "headers": {"x-one": "1"}, "body": "hello mock upstream",
        "body_bytes": 19,
    }  # fmt: skip


def test_a_large_body_is_counted_and_shown_in_part() -> None:
    _, _, pieces = ask("/", b"x" * (SHOWN_BYTES_MAX + 100))
    document = json.loads(b"".join(pieces))
    assert (document["body_bytes"], len(document["body"])) == (SHOWN_BYTES_MAX + 100, SHOWN_BYTES_MAX)


@pytest.mark.parametrize(("path", "status"), [("/status/503", 503), ("/status/999", 200), ("/status/x", 200)])
def test_it_answers_with_the_status_asked_for(path: str, status: int) -> None:
    assert ask(path)[0] == status


def test_it_streams_events_one_by_one() -> None:
    status, headers, pieces = ask("/stream?events=3&pause=0")
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert [piece.splitlines()[1] for piece in pieces] == [b"data: event %d of 3" % number for number in (1, 2, 3)]


@pytest.mark.parametrize("target", ["/slow?seconds=0", "/slow?seconds=-1", "/stream?events=1&pause=x"])
def test_numbers_are_bounded_and_need_not_be_numbers(target: str) -> None:
    assert ask(target)[0] == 200
