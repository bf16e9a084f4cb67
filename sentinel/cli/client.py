"""A small HTTP client for the Unix socket of a running fleet; standard library only.

Which fleet? The first of: `--socket`, `$SENTINEL_SOCKET`, `./run/control.sock` (a
fleet started in this directory), `/run/sentinel/control.sock` (the service). A
named socket is taken at its word; the defaults are taken when they exist.

Whatever keeps the fleet from answering is one fault, `Unreachable`, whose text
says what was tried and what to do. Every command turns it into exit status 2.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

DEFAULT_SOCKETS: Final = ("run/control.sock", "/run/sentinel/control.sock")
VARIABLE: Final = "SENTINEL_SOCKET"

TIMEOUT_S: Final = 30.0
"""For questions that are answered from memory."""

PATIENT_TIMEOUT_S: Final = 3600.0
"""For reloads and drains: the server bounds these by the plan's own deadlines, and answers when they pass."""


class Unreachable(Exception):
    """The fleet cannot be asked; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `document` is the decoded JSON, or the text where it is none."""

    status: int
    document: Any

    @property
    def error(self) -> str:
        if isinstance(self.document, dict):
            return str(self.document.get("error") or self.document.get("why") or f"status {self.status}")
        return f"status {self.status}"

    @property
    def remedy(self) -> str:
        return str(self.document.get("remedy", "")) if isinstance(self.document, dict) else ""


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find_socket(option: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of the socket to talk to; raises Unreachable when no default exists."""
    named = option or environ.get(VARIABLE)
    if named:
        return named
    for path in DEFAULT_SOCKETS:
        if os.path.exists(path):
            return path
    tried = " nor ".join(DEFAULT_SOCKETS)
    raise Unreachable(f"no running fleet found: neither {tried} exists; name one with --socket or ${VARIABLE}")


class Client:
    """Asks one fleet. Each call is a connection of its own: a command makes one or two."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, *segments: str, **query: str | int | list[str] | None) -> Answer:
        """GET /api/v1/<segments>; queries that are None are left out."""
        chosen = {key: value for key, value in query.items() if value is not None}
        target = _target(segments) + (f"?{urlencode(chosen, doseq=True)}" if chosen else "")
        return self._ask("GET", target, None, TIMEOUT_S)

    def post(self, *segments: str, **options: Any) -> Answer:
        """POST options as JSON, and wait as long as the fleet needs."""
        return self._ask("POST", _target(segments), json.dumps(options).encode(), PATIENT_TIMEOUT_S)

    def events(self, *segments: str, **query: str | None) -> Iterator[tuple[str, Any]]:
        """GET server-sent events: name and decoded data of each; the fleet ends them, or whoever reads."""
        chosen = {key: value for key, value in query.items() if value is not None}
        target = _target(segments) + (f"?{urlencode(chosen)}" if chosen else "")
        connection = UnixConnection(self.path, TIMEOUT_S)  # comments come more often than that
        try:
            connection.request("GET", target, None, {"Accept": "text/event-stream"})
            response = connection.getresponse()
            if response.status != 200:
                raise Unreachable(_refusal(self.path, response.status, response.read()))
            yield from _events(response)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_explain(self.path, error)) from error
        finally:
            connection.close()

    def text(self, path: str) -> str:
        """GET a path that is not part of the JSON API, such as /metrics."""
        answer = self._ask("GET", path, None, TIMEOUT_S)
        if answer.status != 200 or not isinstance(answer.document, str):
            raise Unreachable(f"{self.path}: the control process answered {path} with status {answer.status}")
        return answer.document

    def _ask(self, method: str, target: str, body: bytes | None, timeout_s: float) -> Answer:
        connection = UnixConnection(self.path, timeout_s)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_explain(self.path, error)) from error
        finally:
            connection.close()
        if response.headers.get_content_type() != "application/json":
            return Answer(response.status, content.decode("utf-8", "replace"))
        try:
            return Answer(response.status, json.loads(content))
        except ValueError as error:
            raise Unreachable(f"{self.path}: the answer is not JSON; is this Sentinel's control socket?") from error


def _target(segments: tuple[str, ...]) -> str:
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    while line := response.readline():
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def _refusal(path: str, status: int, content: bytes) -> str:
    try:
        return f"{path}: {json.loads(content)['error']}"
    except (ValueError, KeyError, TypeError):
        return f"{path}: the control process answered with status {status}"


def _explain(path: str, error: Exception) -> str:
    """Say why nobody answers, and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no such socket; is the fleet running, and is this its `run-dir`?"
    if isinstance(error, PermissionError):
        return f"{path}: permission denied; the socket belongs to the user that runs the fleet"
    if isinstance(error, ConnectionRefusedError):
        return f"{path}: nobody listens; the fleet that made this socket is gone"
    if isinstance(error, TimeoutError):
        return f"{path}: no answer in time; the control process hangs or is starting, see its log"
    return f"{path}: the control process broke off ({error or type(error).__name__}); it is being started again"
