"""The plain way: a request goes up, its answer comes down, and the connections are kept."""

from __future__ import annotations

from pathlib import Path

from tests.workers.child import Client, working, upstream_of
from tests.workers.origin import echo, scripted


def test_a_request_is_relayed_and_its_answer_returned(tmp_path: Path) -> None:
    with scripted(echo) as origin, working(upstream_of(origin.port), tmp_path) as worker:
        client = Client(worker.port)
        answer = client.get("/a?b=c", "X-One: 1")
        assert (answer.status, answer.body) == (200, b"ok")
        assert origin.heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
        assert client.get("/again").status == 200
        assert origin.connections == 1
