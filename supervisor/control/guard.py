"""Who may talk to the admin API: one door for the Unix socket, one for TCP.

The Unix socket is mode 0600 in the run-dir: whoever can open it is the operator.
The TCP door must expect three kinds of strangers, and has a rule for each:

1. Somebody on the network. A token is required when one is configured, and an
   address beyond loopback without a token is refused altogether (the check of
   the configuration says so earlier; this is the second lock).
2. A web page in the operator's browser that posts to 127.0.0.1. Whatever changes
   something must be a POST of `application/json`, which no page can send to
   another origin without asking first, and an `Origin` must be our own.
3. A web page whose name was re-bound to 127.0.0.1. Its requests carry its own name
   in `Host`; without a token only names of this machine are believed.

`/health/…` is open to all: probes of orchestrators carry neither token nor a
sensible Host, and learn one word from it.

`/playground/…` can be read without the token, where there is one: a browser that opens a page
sends none. The files are the same in every instance; the page asks the person for the token, and sends it
with what it asks. Rule 3 holds for them too.

Bodies are bounded on both doors: no document of ours comes near the bound.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 64 * 1024
"""A reload's options take fifty bytes. This is room for what comes, and no more than a process can lose."""

PLAYGROUND_BYTES_MAX = 512 * 1024
"""Two configurations of 128 KiB, as JSON, and a request."""

DRY_RUN_BYTES_MAX = 2 * 1024 * 1024
"""The body of a request to a language model, in Base64."""

LONGER = {"/api/v1/playground": PLAYGROUND_BYTES_MAX, "/api/v1/dry-run": DRY_RUN_BYTES_MAX}

READING = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    text: str
    remedy: str


class BodyTooLarge(Exception):
    """Raised through the application, which cannot have answered before it read the body."""


class UnixDoor:
    """The door of `control.sock`: trusted, its bodies bounded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _bounded(self._app, scope, receive, send)


class TcpDoor:
    """The door of `admin.address`. `token` is asked at each request: a reload may change it (None: not known yet)."""

    def __init__(self, app: ASGIApp, *, address: str, token: Callable[[], str | None]) -> None:
        self._app = app
        self._host, self._port = split_address(address)
        self._is_loopback = is_loopback(self._host)
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self.judge(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is not None:
            await _answer(send, refusal)
            return
        await _bounded(self._app, scope, receive, send)

    def judge(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Return why this request may not enter, or None."""
        if path.startswith("/health/") and method in READING:
            return None
        token = self._token()
        if token is None:
            return Refusal(503, "the control process is starting, and does not know its token yet", "ask again")
        if token:
            if path.startswith("/playground/") and method in READING:
                return None
            if not _carries(headers, token):
                return Refusal(401, "this admin API needs its token", "send `Authorization: Bearer TOKEN`")
        elif not self._is_loopback:
            return Refusal(403, "the admin address is not loopback and no token is set", "set `token` in `admin`")
        elif not self._is_local_host(headers):
            return Refusal(
                403, "the Host field names another machine", "use the address of `admin`, or set `token` in `admin`"
            )
        return None if method in READING else self._judge_change(method, headers)

    def _judge_change(self, method: str, headers: Headers) -> Refusal | None:
        if method != "POST":
            return Refusal(405, "changes are made with POST", "use POST")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return Refusal(415, "changes need a JSON body", "send `Content-Type: application/json`")
        if not self._is_same_origin(headers):
            return Refusal(403, "a page of another origin may not do this", "use sentinelctl, or a page of this server")
        return None

    def _is_local_host(self, headers: Headers) -> bool:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return False
        host, port = split_address(hosts[0])
        if port not in ("", self._port):
            return False
        return host in LOCAL_NAMES or host == self._host or is_loopback(host)

    def _is_same_origin(self, headers: Headers) -> bool:
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        origins = headers.getlist("origin")
        if not origins:
            return True  # not a browser
        scheme, separator, authority = origins[0].partition("://")
        return (
            len(origins) == 1
            and separator != ""
            and scheme in ("http", "https")
            and authority.lower() == headers.get("host", "").lower()
        )


def split_address(text: str) -> tuple[str, str]:
    """Split `host:port` or `[v6]:port`; the port is "" when there is none."""
    text = text.strip().lower()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = text.partition(":")
    return host.removesuffix("."), port


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOCAL_NAMES


def _carries(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token.encode())


async def _bounded(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application with a body that cannot exceed its bound, announced or not."""
    most = LONGER.get(scope["path"], BODY_BYTES_MAX)
    seen = 0
    is_started = False

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise BodyTooLarge
        return message

    async def watched(message: Message) -> None:
        nonlocal is_started
        is_started = True
        await send(message)

    announced = Headers(scope=scope).get("content-length", "0")
    try:
        if announced.isdigit() and int(announced) > most:
            raise BodyTooLarge
        await app(scope, counted, watched)
    except BodyTooLarge:
        if not is_started:
            await _answer(send, Refusal(413, f"a body may have {most} bytes", "send less"))


async def _answer(send: Send, refusal: Refusal) -> None:
    content = json.dumps({"error": refusal.text, "remedy": refusal.remedy}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"connection", b"close")]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
