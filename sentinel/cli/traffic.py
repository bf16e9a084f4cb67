"""Many requests from one file: JSON lines, an access log of ours, or a HAR file of a browser.

Intuition: a pile of letters of three post offices. Whatever the envelope looks like, what lies in it
is a request that somebody could send, and each can be held against its place in the pile.

    {"method": "POST", "url": "https://shop.example/a?b=c", "headers": {"x-tenant": "acme"},
     "client_ip": "192.0.2.7", "body_bytes": 120, "listener": "web"}         a request; only `url` must be there
    {"method": "GET", "host": "shop.example", "path": "/a", "request_id": …}   a line of the access log
    {"log": {"entries": [{"request": {…}}]}}                                 a HAR file (1.2)

Rules:
1. A file may be hostile. A line has at most LINE_BYTES_MAX octets, a HAR file HAR_BYTES_MAX, a file
   REQUESTS_MAX requests; what is more is a fault, and is not read.
2. Nothing is guessed and nothing passed over: what is no request is a fault with its place.
3. A value cannot become another line of the request: line ends and NUL are faults.
4. The access log knows neither query nor headers. Such a request says so (`is_partial`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

from sentinel.cli.files import STANDARD_INPUT, Unreadable
from sentinel.core.reasons import Reason
from sentinel.explain.arrival import NO_CALL, RecordedCall
from workers.rehearsal import Misasked, Question, read_question

LINE_BYTES_MAX: Final = 1 << 20
HAR_BYTES_MAX: Final = 256 << 20
"""Browsers put the answers in, too."""
REQUESTS_MAX: Final = 1_000_000
PEEK_BYTES: Final = 4096
SHOWN_MAX: Final = 60

IS_HAR: Final = re.compile(rb'\s*\{\s*"log"\s*:').match
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
UNSAFE: Final = re.compile("[\0\r\n\ud800-\udfff]").search
SPACED: Final = re.compile(r"[\x00-\x20\x7f]").search
LOGGED: Final = ("method", "host", "path", "request_id")
"""What tells a line of the access log, or a record of the journal, from a request."""
KNOWN: Final = frozenset({"method", "url", "headers", "client_ip", "body_bytes", "listener"})


class BadTraffic(Exception):
    """What is in the file is no request; the text names the place and says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a file. `client_ip` and `listener` are "" where the file does not say.

    is_partial: it was recorded without query and headers; `route` is the one that took it then, "" for none, None
    where that is not known. place: where it stands, for people. call: what it asked a language model for, as recorded.
    who: who asked, as lines of state.
    """

    question: Question
    client_ip: str = ""
    listener: str = ""
    place: str = ""
    is_partial: bool = False
    route: str | None = None
    call: RecordedCall = NO_CALL
    who: tuple[str, ...] = ()


def read_traffic(path: str, requests_max: int = REQUESTS_MAX) -> Iterator[Asked]:
    """Walk over the requests of a file (`-`: standard input); raises Unreadable and BadTraffic."""
    try:
        with nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else open(path, "rb") as file:
            name = "<stdin>" if path == STANDARD_INPUT else path
            start = _peek(file)
            documents = _har(file, start, name) if IS_HAR(start) else _lines(file, start, name)
            for number, asked in enumerate(documents):
                if number >= requests_max:
                    raise BadTraffic(f"{asked.place}: more than {requests_max} requests; ask for fewer at a time")
                yield asked
    except OSError as fault:
        raise Unreadable(f"{path}: {fault.strerror or fault}") from fault


def asked_of(document: Any, place: str) -> Asked:
    """Read one request, or one line of the access log; raises BadTraffic."""
    if not isinstance(document, dict):
        raise BadTraffic(f"{place}: a request is an object with a `url`, not {_shown(document)}")
    if "url" not in document and all(name in document for name in LOGGED):
        return _logged(document, place)
    unknown = sorted(document.keys() - KNOWN)
    if unknown:
        raise BadTraffic(f"{place}: `{_shown(unknown[0])}` is not known; a request has {', '.join(sorted(KNOWN))}")
    headers = _headers(document.get("headers", {}), place)
    body_bytes = document.get("body_bytes", 0)
    if not isinstance(body_bytes, int) or isinstance(body_bytes, bool) or body_bytes < 0:
        raise BadTraffic(f"{place}: `body_bytes` is a number of octets, not {_shown(body_bytes)}")
    question = _question(document.get("method", "GET"), document.get("url"), headers, body_bytes, place)
    return Asked(question, _text(document, "client_ip", place), _text(document, "listener", place), place)


def was_never_read(document: Any) -> bool:
    """Whether this tells of octets that were refused before they were a request.

    Anybody can send such octets, so that one of them must not spoil what is asked of a whole log.
    """
    if not isinstance(document, dict) or "url" in document or not all(name in document for name in LOGGED):
        return False
    method, path = document["method"], document["path"]
    is_undecided = not document.get("route") and document.get("reason") != Reason.NO_ROUTE.word
    return is_undecided and (method == "" or (isinstance(path, str) and path != "*" and not path.startswith("/")))


def _logged(document: dict[str, Any], place: str) -> Asked:
    """What the access log and the journal know of a request. The host is there as it was read, not as it was sent."""
    question = _question(document["method"], document["path"], (), 0, place)
    host = _text(document, "host", place)
    route = _text(document, "route", place)
    is_decided = bool(route) or document.get("reason") == Reason.NO_ROUTE.word
    return Asked(
        replace(question, host=host), _text(document, "client_ip", place), _text(document, "listener", place), place,
        is_partial=True, route=route if is_decided else None,
    )  # fmt: skip


# JSON lines.


def _peek(file: BinaryIO) -> bytes:
    return file.read(PEEK_BYTES)


def _lines(file: BinaryIO, start: bytes, name: str) -> Iterator[Asked]:
    for number, line in enumerate(_bounded(file, start, name), 1):
        if line.strip():
            place = f"{name}:{number}"
            document = _decoded(line, place)
            if not was_never_read(document):
                yield asked_of(document, place)


def _bounded(file: BinaryIO, start: bytes, name: str) -> Iterator[bytes]:
    """Walk over lines, none longer than LINE_BYTES_MAX."""
    rest, number = start, 1
    while True:
        line, end, rest = rest.partition(b"\n")
        if not end:
            line += file.readline(LINE_BYTES_MAX + 1)
            if not line:
                return
        if len(line.rstrip(b"\n")) > LINE_BYTES_MAX:
            raise BadTraffic(f"{name}:{number}: the line is longer than {LINE_BYTES_MAX} octets")
        yield line
        number += 1


# HAR.


def _har(file: BinaryIO, start: bytes, name: str) -> Iterator[Asked]:
    data = start + file.read(max(0, HAR_BYTES_MAX + 1 - len(start)))
    if len(data) > HAR_BYTES_MAX:
        raise BadTraffic(f"{name}: the file is larger than {HAR_BYTES_MAX >> 20} MiB; export fewer requests")
    log = _decoded(data, name).get("log")
    entries = log.get("entries") if isinstance(log, dict) else None
    if not isinstance(entries, list):
        raise BadTraffic(f"{name}: this is no HAR file: it has no `log.entries`")
    for number, entry in enumerate(entries, 1):
        place = f"{name}: entry {number}"
        request = entry.get("request") if isinstance(entry, dict) else None
        if not isinstance(request, dict):
            raise BadTraffic(f"{place}: it has no `request`")
        # Browsers note the pseudo-headers of HTTP/2 among the others; the URL says the same.
        said = [one for one in _list(request.get("headers", []), place) if not str(one.get("name", "")).startswith(":")]
        headers = _headers([[one.get("name"), one.get("value")] for one in said], place)
        size = request.get("bodySize", 0)
        body_bytes = size if isinstance(size, int) and size > 0 else 0  # -1: the browser does not know
        question = _question(request.get("method", "GET"), request.get("url"), headers, body_bytes, place)
        yield Asked(question, place=place)


def _list(items: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise BadTraffic(f"{place}: its `headers` are no list of objects")
    return items


# What both have in common.


def _question(method: Any, url: Any, headers: tuple[str, ...], body_bytes: int, place: str) -> Question:
    if not isinstance(method, str) or not TOKEN(method):
        raise BadTraffic(f"{place}: `method` is a word like GET, not {_shown(method)}")
    if not isinstance(url, str) or not url or SPACED(url) or UNSAFE(url):
        raise BadTraffic(f"{place}: `url` is a URL or a path without spaces, not {_shown(url)}")
    has_length = any(
        header.partition(":")[0].strip().lower() in ("content-length", "transfer-encoding") for header in headers
    )
    if body_bytes and not has_length:
        headers += (f"content-length: {body_bytes}",)
    try:
        return read_question(f"{method} {url}", headers)
    except Misasked as fault:
        raise BadTraffic(f"{place}: {fault}") from fault


def _headers(found: Any, place: str) -> tuple[str, ...]:
    """Headers as an object (a list of values for those that come in several lines), or as a list of pairs."""
    pairs: Iterable[Any]
    if isinstance(found, dict):
        several = [(name, value if isinstance(value, list) else [value]) for name, value in found.items()]
        pairs = [(name, one) for name, values in several for one in values]
    elif isinstance(found, list):
        pairs = found
    else:
        raise BadTraffic(f"{place}: `headers` is an object or a list of pairs, not {_shown(found)}")
    lines: list[str] = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise BadTraffic(f"{place}: a header is a name and a text, not {_shown(pair)}")
        name, value = pair
        if not TOKEN(name):
            raise BadTraffic(f"{place}: {_shown(name)} is no name of a header")
        if UNSAFE(value):
            raise BadTraffic(f"{place}: the value of header `{name}` contains a line end, a NUL or half a character")
        lines.append(f"{name}: {value}")
    return tuple(lines)


def _text(document: dict[str, Any], name: str, place: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str) or UNSAFE(value):
        raise BadTraffic(f"{place}: `{name}` is a text, not {_shown(value)}")
    return value


def _decoded(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except RecursionError as fault:
        raise BadTraffic(f"{place}: it is nested too deeply") from fault
    except ValueError as fault:
        raise BadTraffic(f"{place}: this is not JSON: {fault}") from fault


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return "".join(one if one.isprintable() else "?" for one in text[:SHOWN_MAX]) or "nothing"
