"""The playground over the admin API: its files and their policy, who may ask, and how much."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from typing import Any

import pytest
from starlette.datastructures import Headers

from supervisor.control import playing
from supervisor.control.guard import BODY_BYTES_MAX, PLAYGROUND_BYTES_MAX, TcpDoor
from supervisor.control.playing import WAITING_MAX, Busy, Playground
from tests.supervisor.control.stage import Stage
from tests.system.fleet import ROOT

PAGE = ROOT / "sentinel" / "playground" / "page"
QUESTION = {
    "configurations": [{"text": (ROOT / "deploy" / "examples" / "minimal.kdl").read_text()}],
    "request": {"line": "GET /"},
}
JSON = "application/json"


def test_the_page_and_all_its_files_are_served_with_their_policy(serving: Stage) -> None:
    assert serving.tcp("GET", "/playground/")[2] == (PAGE / "index.html").read_bytes()
    for path in [one for one in PAGE.rglob("*") if one.is_file()]:
        status, headers, content = serving.tcp("GET", f"/playground/{path.relative_to(PAGE)}")
        assert (status, content) == (200, path.read_bytes()), path
        policy = {one.split()[0]: one.split()[1:] for one in headers["content-security-policy"].split(";")}
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
        assert headers["x-content-type-options"] == "nosniff"
        assert (headers["content-type"].startswith("text/javascript")) == (path.suffix == ".js")


def test_a_file_is_kept_as_long_as_it_is_the_same(serving: Stage) -> None:
    _, headers, _ = serving.tcp("GET", "/playground/main.js")
    assert headers["cache-control"] == "no-cache"
    status, _, content = serving.tcp("GET", "/playground/main.js", if_none_match=headers["etag"])
    assert (status, content) == (304, b"")
    assert serving.tcp("GET", "/playground/main.js", if_none_match='"another"')[0] == 200


@pytest.mark.parametrize("path", [
    "../ask.py", "..%2fask.py", "%2e%2e/ask.py", "/etc/passwd", "//etc/passwd", "examples", "examples/",
    "examples/../main.js", "main.js/", "main.js%00", "..\\ask.py", "x" * 5000, "__pycache__", "examples/../../ask.py",
])  # fmt: skip
def test_nothing_else_is(serving: Stage, path: str) -> None:
    status, _, content = serving.tcp("GET", f"/playground/{path}")
    assert status == 404 and b"import" not in content and b"root:" not in content


def test_a_question_is_answered_and_not_kept(serving: Stage) -> None:
    status, headers, content = serving.tcp("POST", "/api/v1/playground", QUESTION, content_type=JSON)
    assert status == 200 and headers["cache-control"] == "no-store"
    assert json.loads(content)["sides"][0]["decision"]["endpoint"] == "127.0.0.1:9001"


@pytest.mark.parametrize("body", ["{", "[]", "{}", "[" * 30_000, '"\\ud800"', json.dumps(QUESTION | {"x": 1})])
def test_what_is_no_question_is_said(serving: Stage, body: str) -> None:
    status, _, content = raw(serving, body.encode())
    assert status == 400 and json.loads(content)["error"]


def raw(stage: Stage, body: bytes) -> tuple[int, dict[str, str], bytes]:
    host, port = stage.address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("POST", "/api/v1/playground", body, {"content-type": JSON})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_its_bodies_are_larger_than_others_and_bounded(serving: Stage) -> None:
    longer = QUESTION | {"configurations": [{"text": "// " + "x" * (BODY_BYTES_MAX + 1)}]}
    assert raw(serving, json.dumps(longer).encode())[0] == 200
    host, port = serving.address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.putrequest("POST", "/api/v1/playground")
    for name, value in (("content-type", JSON), ("content-length", str(PLAYGROUND_BYTES_MAX + 1))):
        connection.putheader(name, value)
    connection.endheaders()  # nothing of it is sent: what is announced is enough
    assert connection.getresponse().status == 413
    connection.close()


def test_a_page_of_another_origin_may_not_ask(serving: Stage) -> None:
    status, _, _ = serving.tcp("POST", "/api/v1/playground", QUESTION, content_type=JSON, origin="http://evil.example")
    assert status == 403
    assert serving.tcp("POST", "/api/v1/playground", QUESTION, content_type="text/plain")[0] == 415


def test_the_files_need_no_token_and_everything_else_does() -> None:
    """A browser that opens a page sends none; what the page then asks carries the one that the person gave it."""

    async def nobody(*_: Any) -> None:
        raise AssertionError

    def status(method: str, path: str, token: str = "secret", address: str = "127.0.0.1:9901", **fields: str) -> int:
        door = TcpDoor(nobody, address=address, token=lambda: token)
        headers = Headers(raw=[(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()])
        refusal = door.judge(method, path, headers)
        return refusal.status if refusal else 200

    host = "127.0.0.1:9901"
    assert status("GET", "/playground/", host=host) == 200
    assert status("GET", "/playground/main.js", host=host) == 200
    assert status("POST", "/playground/", host=host, content_type=JSON) == 401
    for path in ("/playgrounds/", "/playground", "/api/v1/status", "/api/v1/playground", "/metrics"):
        assert status("GET", path, host=host) == 401, path
    assert status("POST", "/api/v1/playground", host=host, content_type=JSON) == 401
    assert status("POST", "/api/v1/playground", host=host, content_type=JSON, authorization="Bearer secret") == 200
    # Without a token this machine's names only, and beyond loopback nothing at all.
    assert status("GET", "/playground/", token="", host="evil.example") == 403
    assert status("GET", "/playground/", token="", address="0.0.0.0:9901", host=host) == 403


def test_questions_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes too long keeps its place until it ends: others wait, and some are sent away."""
    monkeypatch.setattr(playing, "TIME_S", 0.05)
    go_on = threading.Event()

    def slow(document: object, open_house: object) -> dict[str, Any]:
        assert go_on.wait(20)
        return {"done": True}

    async def all_of_it() -> None:
        playground = Playground()
        with monkeypatch.context() as patch:
            patch.setattr(playing, "ask", slow)
            first = await asyncio.gather(*[playground.ask(b"{}") for _ in range(WAITING_MAX)], return_exceptions=True)
            assert [type(one) for one in first] == [Busy] * WAITING_MAX, "none is answered in time"
            with pytest.raises(Busy, match="other questions"):
                await playground.ask(b"{}")
            go_on.set()
            while playground._waiting:
                await asyncio.sleep(0)
        monkeypatch.setattr(playing, "TIME_S", 20.0)
        assert (await playground.ask(json.dumps(QUESTION).encode()))["sides"]

    asyncio.run(all_of_it())
