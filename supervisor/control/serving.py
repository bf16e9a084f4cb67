"""uvicorn, twice in one loop: one server for each socket, each with its own door.

Two servers and not one with two sockets, because an application cannot tell for
sure which socket a request came by, and the answer decides whether it is trusted.

The sockets were bound by the supervisor and are shared with it: a server that
ends closes its own descriptor and nothing else, and who connects meanwhile waits
in the queue for the next control process.

uvicorn's handling of signals is turned off: there is one handler, and it stops both.

Whoever connects and says nothing holds one of few places. uvicorn waits for ever for a head and
for a body; `Impatient` does not. It also logs each request that it refuses or cannot read; `Seldom` lets one
such line a minute through, so that nobody fills a log by knocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Generator, Iterable
from types import TracebackType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX = 128
"""Per socket. Scrapers and operators are few; the rest is answered 503 by uvicorn."""

HEAD_BYTES_MAX = 32 * 1024
"""Of one request's head. h11 and not httptools, because it bounds this, and nobody asks fast enough to notice."""

REQUEST_S = 10.0
"""For a head, and for a body: ours are short, and so is the way to us."""
KEEP_ALIVE_S = 30
GRACE_S = 3
"""Answers in flight get this long at the end. Whoever waits for a reload then asks the next control process."""


SELDOM_S = 60.0
MESSAGES_MAX = 64


class Seldom(logging.Filter):
    """Lets a warning through once in a while, with how many were held back since; what is worse always passes."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        now_s = time.monotonic()
        told_s, held = self._told.get(record.msg, (-SELDOM_S, 0))
        if now_s - told_s < SELDOM_S:
            self._told[record.msg] = told_s, held + 1
            return False
        if len(self._told) >= MESSAGES_MAX:
            self._told.clear()
        self._told[record.msg] = now_s, 0
        if held:
            record.msg = f"{record.msg} ({held} more of these in the meantime)"
        return True


class Impatient(H11Protocol):
    """uvicorn's protocol, which closes a connection whose request is not there in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._let_go()

    def _watch(self) -> None:
        is_resting = self.timeout_keep_alive_task is not None  # between two requests: uvicorn's own timer runs
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not is_resting:
            self._timer = self._timer or self.loop.call_later(REQUEST_S, self.transport.abort)
        else:
            self._let_go()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """A server that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Serving:
    """Both servers, as one context: entered when they accept, left when they have ended."""

    def __init__(self, doors: Iterable[tuple[socket.socket, ASGIApp]]) -> None:
        self._doors = [(connection, _server(app)) for connection, app in doors]
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom = Seldom()

    async def __aenter__(self) -> Serving:
        loop = asyncio.get_running_loop()
        logging.getLogger("uvicorn.error").addFilter(self._seldom)
        self._tasks = [loop.create_task(server.serve([connection])) for connection, server in self._doors]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        logging.getLogger("uvicorn.error").removeFilter(self._seldom)

    def stop(self) -> None:
        """Accept no more, finish what is in flight."""
        for _, server in self._doors:
            server.should_exit = True

    async def wait(self) -> None:
        """Wait until both have ended; a fault of one ends the other, and is raised."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self.stop()
        await asyncio.gather(*self._tasks)


def _server(app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            http=Impatient,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
