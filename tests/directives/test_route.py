"""What a route does with a request that it matches."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.directives.house import serving
from tests.workers.child import Client
from tests.workers.origin import Conversation, Script, echo, scripted


@pytest.mark.directive("route/respond", "route/respond@body", "route/respond/header")
def test_a_route_answers_as_it_is_told(tmp_path: Path) -> None:
    routes = """
        route "plain" { matches { path "/plain"; }; respond 204; }
        route "full" { matches { path "/full"; }; respond 503 body="closed" { header "retry-after" "60"; }; }
    """
    with serving(tmp_path, routes=routes) as worker:
        client = Client(worker.port)
        plain, full = client.get("/plain"), client.get("/full")
        assert (plain.status, plain.body) == (204, b"")
        assert "retry-after" not in plain.fields
        assert (full.status, full.body, full.fields["retry-after"]) == (503, b"closed", "60")


@pytest.mark.directive("route/upstream", "upstream", "upstream/endpoint")
def test_a_route_forwards_to_its_upstream(tmp_path: Path) -> None:
    def named(name: bytes) -> Script:
        def script(conversation: Conversation) -> None:
            conversation.head()
            conversation.answer(name)

        return script

    with scripted(named(b"one")) as one, scripted(named(b"two")) as two:
        parts = {
            "routes": 'route "two" { matches { path "/two"; }; upstream "second"; }',
            "upstream": f'\n}}\nupstream "second" {{ endpoint "127.0.0.1:{two.port}"',
        }
        with serving(tmp_path, origin=one.port, **parts) as worker:
            client = Client(worker.port)
            assert (client.get("/").body, client.get("/two").body) == (b"one", b"two")
            assert [line["upstream"] for line in worker.log(2)] == ["origin", "second"]
            assert [line["route"] for line in worker.log(2)] == ["rest", "two"]


@pytest.mark.directive("route/timeout")
def test_an_exchange_takes_no_longer_than_its_route_allows(tmp_path: Path) -> None:
    released = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.head()
        released.wait(10)

    with scripted(slow) as origin, serving(tmp_path, origin=origin.port, route='timeout "100ms"') as worker:
        client = Client(worker.port)
        client.socket.settimeout(5)
        answer = client.get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (504, "total-timeout")
        released.set()


@pytest.mark.directive("route/max-body-size")
def test_a_route_may_allow_more_or_less_than_its_listener(tmp_path: Path) -> None:
    post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n" + "b" * 20
    with scripted(echo) as origin:
        for route, status in (("", 413), ('max-body-size "20B"', 200), ('max-body-size "5B"', 413)):
            listener = 'limits { max-body-size "10B"; }'
            with serving(tmp_path / str(len(route)), origin=origin.port, listener=listener, route=route) as worker:
                assert Client(worker.port).send(post).answer().status == status
