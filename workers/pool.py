"""Connections to upstreams: one pool per address, and the link, which is one such connection.

Intuition: a rack of telephones that are still off the hook. Taking the one that
was hung up last costs nothing; one that was silent for too long is put down;
one that suddenly speaks although nobody asked is cut off, for whatever it says
would be heard as the answer to the next question.

Rules:
1. A link belongs to at most one exchange. It comes back only when the answer was
   complete to the octet, the request was sent whole, and both sides agreed to
   keep the connection; else it is aborted. There is no third way.
2. Any octet or end of file on an idle link ends it. What the loop has not read yet is looked for
   (one poll) before a link is used that was idle for RESTED_NS or longer, and before one is used
   for a request that cannot be repeated: else a server's parting words, such as a 408 to
   nobody, could be taken for the answer to the request that we just wrote. Shorter rests are
   not looked into: servers end what is idle for seconds, and octets that came before the loop's
   present turn have ended the link by then. The poll costs two microseconds, a fifth of our own
   code for a request; what it could still find is an upstream that says two things at once
   within one turn, which may say anything it likes to the next request as well.
3. The newest idle link is taken first: it is the least likely to be stale, and the
   others grow old and leave.
4. The number of idle links is limited per upstream and worker
   (`keepalive-connections`), whatever the number of its addresses.
5. Over TLS a link has proved who is there (workers.handshakes) before anybody gets it; an end that was not announced
   is a cut, whatever was read until then.
"""

from __future__ import annotations

import asyncio
import errno
import select
from typing import TYPE_CHECKING, Final, Protocol, cast

from shm.counters import Counter

if TYPE_CHECKING:
    from workers.handshakes import Facts, Handshaker
    from workers.service import Service

WRITE_HIGH_BYTES: Final = 64 * 1024
WRITE_LOW_BYTES: Final = 16 * 1024
RESTED_NS: Final = 500_000_000
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the kernel says when it is we who have no room: no peer is to blame."""


class Caller(Protocol):
    """Whoever uses a link: the exchange."""

    def answer_bytes(self, data: bytes) -> None: ...
    def answer_eof(self) -> None: ...
    def link_lost(self, fault: Exception | None) -> None: ...
    def link_paused(self) -> None: ...
    def link_resumed(self) -> None: ...
    def surprised(self, fault: BaseException) -> None: ...


class Rack:
    """What all pools of one upstream share: its settings, and the count of idle links."""

    __slots__ = ("idle_count", "idle_max", "keepalive_ns")

    def __init__(self, idle_max: int, keepalive_ns: int) -> None:
        self.idle_count = 0
        self.idle_max = idle_max
        self.keepalive_ns = keepalive_ns


class Link:
    """One connection to an upstream: an `asyncio.Protocol` in all but its base, as a client's connection is.

    secured: what the handshake found; None: it is in the clear.
    """

    __slots__ = ("_has_ended", "_poll", "caller", "fault", "idle_since_ns", "pool", "secured", "transport", "uses")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.caller: Caller | None = None
        self.transport: asyncio.Transport | None = None
        self.idle_since_ns = 0
        self.uses = 0
        self.secured: Facts | None = None
        self.fault: Exception | None = None  # by which it ended while nobody used it
        self._has_ended = False
        self._poll: select.poll | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are registered with no base class
        self.transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)

    def data_received(self, data: bytes) -> None:
        caller = self.caller
        if caller is None:
            self.pool.forget(self)
            return
        try:
            caller.answer_bytes(data)
        except Exception as fault:
            caller.surprised(fault)

    def eof_received(self) -> bool:
        self._has_ended = True
        caller = self.caller
        if caller is None:
            self.pool.forget(self)
            return False
        try:
            caller.answer_eof()
        except Exception as fault:
            caller.surprised(fault)
        # A tunnel that is half closed goes on; over TLS the end of one half is the end of both.
        return self.caller is not None and self.secured is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        caller, self.caller = self.caller, None
        if caller is None:
            self.fault = exc
            self.pool.forget(self)
            return
        if exc is None and self.secured is not None and not self._has_ended:
            exc = ConnectionResetError("ended without close_notify")  # cut, perhaps by somebody on the way
        try:
            caller.link_lost(exc)
        except Exception as fault:
            caller.surprised(fault)

    def pause_writing(self) -> None:
        if self.caller is not None:
            self.caller.link_paused()

    def resume_writing(self) -> None:
        if self.caller is not None:
            self.caller.link_resumed()

    def abort(self) -> None:
        """Cut it; nobody hears of it again."""
        self.caller = None
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()

    def hang_up(self) -> None:
        """The same for one that is idle; over TLS it is said that this is the end."""
        if self.secured is None or self.transport is None:
            self.abort()
            return
        self.caller = None
        transport, self.transport = self.transport, None
        transport.close()

    def is_silent(self) -> bool:
        """Is it alive, and has the kernel nothing of it that the loop has not read?"""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)


class Pool:
    """The connections to one address."""

    __slots__ = ("_handshaker", "_idle", "_is_closed", "_rack", "_service", "host", "name", "port")

    def __init__(
        self, service: Service, rack: Rack, host: str, port: int, handshaker: Handshaker | None = None
    ) -> None:
        self._handshaker = handshaker
        self._service = service
        self._rack = rack
        self._idle: list[Link] = []
        self._is_closed = False
        self.host = host
        self.port = port
        self.name = host if host.startswith("unix:") else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def take(self, *, for_once: bool) -> Link | None:
        """An idle link, or None; `for_once`: the request that needs it cannot be repeated."""
        idle, rack = self._idle, self._rack
        while idle:
            link = idle.pop()
            rack.idle_count -= 1
            is_fresh = not for_once and self._service.ticker.now_ns - link.idle_since_ns < RESTED_NS
            if is_fresh or link.is_silent():
                return link
            link.abort()
        return None

    def give_back(self, link: Link) -> None:
        """Take back a link whose exchange has ended well."""
        link.caller = None
        transport, rack = link.transport, self._rack
        if transport is None or transport.is_closing():
            return
        if self._is_closed or rack.idle_count >= rack.idle_max or self._service.is_draining:
            link.hang_up()
            return
        rack.idle_count += 1
        link.idle_since_ns = self._service.ticker.now_ns
        self._idle.append(link)

    def forget(self, link: Link) -> None:
        """An idle link has ended, or must."""
        if link in self._idle:
            self._idle.remove(link)
            self._rack.idle_count -= 1
        link.hang_up()

    def sweep(self, now_ns: int) -> None:
        """End links that were idle for too long; the oldest stand first."""
        idle, oldest_ns = self._idle, now_ns - self._rack.keepalive_ns
        while idle and idle[0].idle_since_ns < oldest_ns:
            self.forget(idle[0])

    def close(self) -> None:
        """Keep nothing any more: the address is none of the name's, or the worker leaves."""
        self._is_closed = True
        while self._idle:
            self.forget(self._idle[0])

    async def connect(self) -> Link:
        """A new link; raises OSError, which may be a HandshakeFault."""
        service = self._service
        link = Link(self)
        protocol = cast(asyncio.Protocol, link)
        if self._handshaker is not None:
            _, link.secured = await self._handshaker.connect(lambda: protocol, self.host, self.port)
            if link.transport is None:
                raise self._handshaker.gone(link.fault)
        elif self.host.startswith("unix:"):
            await service.loop.create_unix_connection(lambda: protocol, self.host[5:])
        else:
            await service.loop.create_connection(lambda: protocol, self.host, self.port)
        service.region.add(service.slot, Counter.UPSTREAM_CONNECTS)
        return link
