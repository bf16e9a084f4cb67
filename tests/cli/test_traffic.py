"""Files of requests: what each form says, and that a hostile file is told of and never believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sentinel.cli import traffic
from sentinel.cli.files import Unreadable
from sentinel.cli.traffic import Asked, BadTraffic, read_traffic
from workers.rehearsal import Question


def lines(directory: Path, *documents: Any) -> Path:
    path = directory / "traffic.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in documents))
    return path


def har(directory: Path, *requests: Any, indent: int | None = None) -> Path:
    path = directory / "shop.har"
    path.write_text(json.dumps({"log": {"entries": [{"request": one} for one in requests]}}, indent=indent))
    return path


def test_a_line_is_a_request(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"method": "POST", "url": "https://shop.example/a?b=c", "headers": {"x-tenant": "acme", "accept": ["a", "b"]},
         "client_ip": "192.0.2.7", "body_bytes": 120, "listener": "web"},
        "",
        {"url": "/only"},
    )  # fmt: skip
    headers = ("x-tenant: acme", "accept: a", "accept: b", "content-length: 120")
    assert list(read_traffic(str(path))) == [
        Asked(Question("POST", "/a?b=c", headers, "shop.example", "https", 443), "192.0.2.7", "web", f"{path}:1"),
        Asked(Question("GET", "/only", ()), place=f"{path}:3"),
    ]


def test_a_line_of_the_access_log_is_a_request_without_query_and_headers(tmp_path: Path) -> None:
    logged = {"ts": "…", "request_id": "7", "client_ip": "192.0.2.7", "method": "GET", "host": "shop.example",
              "path": "/a", "query_bytes": 3, "status": 200, "listener": "web"}  # fmt: skip
    (found,) = read_traffic(str(lines(tmp_path, logged)))
    assert found.is_partial
    assert (found.question.host, found.question.target, found.listener) == ("shop.example", "/a", "web")


@pytest.mark.parametrize(("method", "path", "reason"), [
    ("", "", "bad-request-line"), ("", "", "bad-header"), ("GET", "...@h/a", "bad-path"), ("GET", "", "bad-path"),
    ("CONNECT", "h:443", "method-refused"),
])  # fmt: skip
def test_octets_that_never_were_a_request_do_not_spoil_a_log(
    tmp_path: Path, method: str, path: str, reason: str
) -> None:
    refused = {"request_id": "6", "method": method, "host": "", "path": path, "route": "", "reason": reason}
    served = {"request_id": "7", "method": "GET", "host": "h", "path": "/a", "route": "r", "reason": "proxied"}
    assert [one.question.target for one in read_traffic(str(lines(tmp_path, refused, served, refused)))] == ["/a"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_har_file_is_known_by_its_beginning(tmp_path: Path, indent: int | None) -> None:
    path = har(
        tmp_path,
        {"method": "GET", "url": "https://shop.example/a#part", "bodySize": -1,
         "headers": [{"name": ":authority", "value": "shop.example"}, {"name": "Accept", "value": "*/*"}]},
        {"method": "PUT", "url": "http://shop.example:8080/b", "bodySize": 9, "headers": []},
        indent=indent,
    )  # fmt: skip
    assert list(read_traffic(str(path))) == [
        Asked(Question("GET", "/a", ("Accept: */*",), "shop.example", "https", 443), place=f"{path}: entry 1"),
        Asked(
            Question("PUT", "/b", ("content-length: 9",), "shop.example:8080", "http", 8080), place=f"{path}: entry 2"
        ),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("7", "an object"),
        ('{"path": "/"}', "`path` is not known"),
        ('{"url": "/", "method": "GET /x HTTP/1.1\\r\\nevil: 1"}', "`method`"),
        ('{"url": "/ HTTP/1.1\\r\\nevil: 1"}', "`url`"),
        ('{"url": "ftp://a/"}', "a request is"),
        ('{"url": "/", "headers": {"a": "b\\r\\nevil: 1"}}', "line end"),
        ('{"url": "/", "headers": {"a": "\\ud800"}}', "half a character"),
        ('{"url": "/", "headers": {"a b": "c"}}', "no name of a header"),
        ('{"url": "/", "headers": [["a"]]}', "a name and a text"),
        ('{"url": "/", "body_bytes": -1}', "`body_bytes`"),
        ('{"url": "/", "body_bytes": true}', "`body_bytes`"),
        ('{"url": "/", "client_ip": 7}', "`client_ip`"),
    ],
)
def test_what_is_no_request_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = lines(tmp_path, {"url": "/"}, line)
    with pytest.raises(BadTraffic) as found:
        list(read_traffic(str(path)))
    assert str(found.value).startswith(f"{path}:2: ") and said in str(found.value)
    assert str(found.value).isprintable()


def test_lines_files_and_counts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path, {"url": "/"}, {"url": "/"})
    with pytest.raises(BadTraffic, match="more than 1 requests"):
        list(read_traffic(str(path), 1))
    monkeypatch.setattr(traffic, "LINE_BYTES_MAX", 5000)
    path = lines(tmp_path, {"url": "/" + "a" * 4900}, {"url": "/" + "a" * 5000})
    with pytest.raises(BadTraffic, match=":2: the line is longer"):
        list(read_traffic(str(path)))
    monkeypatch.setattr(traffic, "HAR_BYTES_MAX", 100)
    with pytest.raises(BadTraffic, match="larger"):
        list(read_traffic(str(har(tmp_path, {"method": "GET", "url": "/" + "a" * 100}))))


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        list(read_traffic(str(tmp_path / "nothing")))


@pytest.mark.parametrize("text", ['{"log": 7}', '{"log": {"entries": [7]}}', '{"log": {"entries": [{"request": {}}]}}'])
def test_a_har_file_without_requests_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.har"
    path.write_text(text)
    with pytest.raises(BadTraffic, match=r"x\.har: "):
        list(read_traffic(str(path)))
