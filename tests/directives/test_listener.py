"""Directives of a listener, as its clients meet them."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text
from tests.directives.house import serving, written
from tests.workers.child import Client, wait_until
from tests.workers.origin import Conversation, echo, scripted
from tests.workers.test_tls import make_tls

PATIENCE_S = 5.0
"""Less than every default time: who waits longer would not notice that a directive is ignored."""


def ask(directory: Path, octets: str, **parts: str) -> tuple[int, str]:
    """One request to a worker of its own: the answer's status and reason."""
    with serving(directory, **parts) as worker:
        client = Client(worker.port).send(octets)
        client.socket.settimeout(PATIENCE_S)
        answer = client.answer()
        return answer.status, answer.fields.get("x-sentinel-reason", "")


def get(path: str = "/fixed", *fields: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"


POST = "POST /fixed HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n"


@pytest.mark.directive(
    "listener/limits/max-header-size", "listener/limits/max-headers", "listener/limits/max-uri-size",
    "listener/limits/max-body-size", "listener/limits/header-timeout", "listener/limits/body-timeout",
)  # fmt: skip
@pytest.mark.parametrize(
    ("limit", "octets", "refusal", "is_refused_without"),
    [
        ('max-header-size "1KiB"', get("/fixed", "X-A: " + "a" * 2000), (431, "header-too-large"), False),
        ("max-headers 3", get("/fixed", "A: 1", "B: 2", "C: 3"), (431, "header-too-large"), False),
        ('max-uri-size "64B"', get("/fixed?" + "q" * 100), (414, "uri-too-long"), False),
        ('max-body-size "10B"', POST + "b" * 20, (413, "body-too-large"), False),
        ('header-timeout "100ms"', "GET /fix", (408, "header-timeout"), None),
        ('body-timeout "100ms"', POST.replace("/fixed", "/") + "b", (408, "body-timeout"), None),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) and '"' in value else None,
)
def test_a_limit_is_held(
    tmp_path: Path, limit: str, octets: str, refusal: tuple[int, str], is_refused_without: bool | None
) -> None:
    with scripted(echo) as origin:
        parts: dict[str, Any] = {"origin": origin.port}
        assert ask(tmp_path / "with", octets, listener=f"limits {{ {limit}; }}", **parts) == refusal
        if is_refused_without is False:
            assert ask(tmp_path / "without", octets, **parts) == (200, "")


@pytest.mark.directive("listener/limits/idle-timeout")
def test_a_silent_kept_connection_is_closed(tmp_path: Path) -> None:
    with serving(tmp_path, listener='limits { idle-timeout "100ms"; }') as worker:
        client = Client(worker.port)
        assert client.get("/fixed").status == 200
        client.socket.settimeout(PATIENCE_S)
        assert client.is_closed()


@pytest.mark.directive("listener/limits/write-timeout")
def test_a_client_that_does_not_read_is_left(tmp_path: Path) -> None:
    def flood(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            conversation.send(b"x" * 65536)

    with scripted(flood) as origin, serving(
        tmp_path, origin=origin.port, listener='limits { write-timeout "200ms"; }'
    ) as worker:  # fmt: skip
        client = Client(worker.port).send(get("/"))
        assert worker.log(1)[0]["reason"] == "slow-reader", "within less than the default of 30 s"
        client.close()


@pytest.mark.directive("listener/limits/max-connections", "system/max-worker-connections")
@pytest.mark.parametrize(
    "parts", [{"listener": "limits { max-connections 1; }"}, {"system": "max-worker-connections 1"}]
)
def test_connections_beyond_a_limit_are_told_so(tmp_path: Path, parts: dict[str, str]) -> None:
    with serving(tmp_path, **parts) as worker:
        first = Client(worker.port)
        assert first.get("/fixed").status == 200
        assert Client(worker.port).answer().fields["x-sentinel-reason"] == "overloaded"


@pytest.mark.directive("listener/limits/max-open-requests", "system/max-worker-requests")
@pytest.mark.parametrize(
    "parts", [{"listener": "limits { max-open-requests 1; }"}, {"system": "max-worker-requests 1"}]
)
def test_requests_beyond_a_limit_are_told_so(tmp_path: Path, parts: dict[str, Any]) -> None:
    released = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.head()
        released.wait(10)
        conversation.answer()

    with scripted(slow) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        first = Client(worker.port).send(get("/"))
        wait_until(lambda: origin.heads, "the first is under way")
        second = Client(worker.port)
        assert second.get("/fixed").fields["x-sentinel-reason"] == "overloaded"
        released.set()
        assert first.answer().status == 200
        assert second.get("/fixed").status == 200


@pytest.mark.directive("listener/limits/max-requests")
def test_a_connection_ends_after_so_many_requests(tmp_path: Path) -> None:
    with serving(tmp_path, listener="limits { max-requests 2; }") as worker:
        client = Client(worker.port)
        assert [client.get("/fixed").fields.get("connection") for _ in range(2)] == [None, "close"]


@pytest.mark.directive("listener/trusted-proxies", "listener/trusted-hops")
@pytest.mark.parametrize(
    ("listener", "client"),
    [
        ("", "127.0.0.1"),
        ('trusted-proxies "127.0.0.0/8"', "10.0.0.2"),
        ('trusted-proxies "127.0.0.0/8" "10.0.0.0/8"', "192.0.2.7"),
        ('trusted-proxies "127.0.0.0/8" "10.0.0.0/8"; trusted-hops 1', "10.0.0.2"),
    ],
)
def test_whose_word_is_taken_for_the_client(tmp_path: Path, listener: str, client: str) -> None:
    with serving(tmp_path, listener=listener) as worker:
        assert Client(worker.port).get("/fixed", "X-Forwarded-For: 192.0.2.7, 10.0.0.2").status == 200
        assert worker.log(1)[0]["client_ip"] == client


@pytest.mark.directive("listener/proxy-protocol")
@pytest.mark.parametrize(
    ("setting", "preface", "status"),
    [
        ("off", "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", 400),
        ("v1", "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", 200),
        ("v1", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 400),
        ("v2", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 200),
        ("any", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 200),
        ("any", "", 400),
    ],
)
def test_connections_begin_as_the_operator_says(tmp_path: Path, setting: str, preface: str, status: int) -> None:
    listener = f'trusted-proxies "127.0.0.0/8"; proxy-protocol "{setting}"'
    assert ask(tmp_path, preface + get(), listener=listener)[0] == status


@pytest.mark.directive(
    "listener/paths/encoded-slash", "listener/paths/double-slash", "listener/paths/dot-segments",
    "listener/paths/parameters",
)  # fmt: skip
@pytest.mark.parametrize(
    ("rule", "path", "seen"),
    [
        ('encoded-slash "reject"', "/a%2Fb", ""),
        ('encoded-slash "keep"', "/a%2Fb", "/a%2Fb"),
        ('double-slash "reject"', "/a//b", ""),
        ('double-slash "merge"', "/a//b", "/a/b"),
        ('double-slash "keep"', "/a//b", "/a//b"),
        ('dot-segments "reject"', "/a/../b", ""),
        ('dot-segments "resolve"', "/a/../b", "/b"),
        ('parameters "reject"', "/a;b", ""),
        ('parameters "keep"', "/a;b", "/a;b"),
    ],
)
def test_ambiguous_paths_are_read_as_the_operator_says(tmp_path: Path, rule: str, path: str, seen: str) -> None:
    with scripted(echo) as origin:
        found = ask(tmp_path, get(path), listener=f"paths {{ {rule}; }}", origin=origin.port)  # type: ignore[arg-type]
        assert found == ((200, "") if seen else (400, "bad-path"))
        assert [head.split()[1].decode() for head in origin.heads] == ([seen] if seen else [])


@pytest.mark.directive("listener")
@pytest.mark.parametrize("name", ["inside", "outside"])
def test_routes_and_logs_know_a_listener_by_its_name(tmp_path: Path, name: str) -> None:
    bound = 'route "bound" { matches { path "/bound"; }; listeners "%s"; respond 204; }'
    with serving(tmp_path, name=name, routes=bound % name) as worker:
        assert Client(worker.port).get("/bound").status == 204
        assert worker.log(1)[0]["listener"] == name
    assert load_text(written(tmp_path, 8080, name=name, routes=bound % "other")).plan is None


@pytest.mark.directive("listener/tls/certificate", "listener/tls/key")
def test_the_certificate_that_is_named_is_served(tmp_path: Path) -> None:
    served = []
    for name in ("one", "two"):
        tls = make_tls().certificates[0]
        directory = tmp_path / name
        directory.mkdir()
        (directory / "cert.pem").write_text(tls.chain_pem)
        (directory / "key.pem").write_text(tls.key_pem)
        listener = f'tls {{ certificate "{directory}/cert.pem"; key "{directory}/key.pem"; }}'
        with serving(directory, listener=listener) as worker:
            served.append(ssl.get_server_certificate(("127.0.0.1", worker.port), timeout=PATIENCE_S).strip())
        assert served[-1] == tls.chain_pem.strip()
    assert served[0] != served[1]


def test_the_key_must_belong_to_the_certificate(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text(make_tls().certificates[0].chain_pem)
    (tmp_path / "key.pem").write_text(make_tls().certificates[0].key_pem)
    text = written(tmp_path, 8443, listener=f'tls {{ certificate "{tmp_path}/cert.pem"; key "{tmp_path}/key.pem"; }}')
    assert load_text(text).plan is None
