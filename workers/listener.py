"""Accepting: from inherited listening sockets to connections.

Intuition: doormen who share one entrance with the doormen of other workers, older and
younger ones. Nobody of them ever locks the door: it belongs to the house. A doorman
who goes home just stops letting people in, and who waits outside is let in by the next.

Rules:
1. The listening sockets are the supervisor's: never closed, never shut down here. Stopping is
   removing our reader, nothing else.
2. At most ACCEPTS_PER_TURN connections a turn, so that a flood of new ones does not starve
   those that are being served.
3. Out of descriptors (EMFILE, ENFILE, ENOBUFS, ENOMEM): stop asking for BACK_OFF_S and count it. The
   socket stays readable meanwhile, and asking again at once would burn the processor.
4. Above `connection-limit`, which is the fleet's (workers.turnstile), a connection is told 429; above
   `max-connections` (listener) or `max-worker-connections`, 503. It is closed, counted and logged. At most
   TURNED_AWAY_MAX of these are told so at a time; beyond that, and on TLS listeners, the connection is only closed.
5. On TLS listeners what a client says first is looked at before the handshake (workers.hello): the name that it asks
   for chooses the certificates, and what is no handshake is most often plain HTTP, whose sender deserves a
   sentence (400 `plain-http-on-tls`). Looking takes nothing out of the socket, and nothing of OpenSSL's is made
   before a whole hello is there: who never finishes one costs a descriptor. The kernel wakes us when
   as many octets are there as are needed (SO_RCVLOWAT), not for each. A PROXY header stands before the handshake, and
   is taken out.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from sentinel.core.reasons import Reason
from shm.counters import Counter
from workers.downstream import PREFACE, Downstream
from workers.forwarded import canonical_peer
from workers.hello import HELLO_BYTES_MAX, Hello, read_hello
from workers.http1.faults import ClientFault
from workers.intake import Intake
from workers.pool import EXHAUSTED
from workers.service import Service
from workers.tls import CONNECTION, Choice, ServerContexts

ACCEPTS_PER_TURN: Final = 64
BACK_OFF_S: Final = 0.1
TURNED_AWAY_MAX: Final = 256
HANDSHAKE_OCTET: Final = 0x16
SHORT_S: Final = 0.02
"""So long is waited for octets when the kernel woke us for fewer than are needed (it is short of memory)."""
GONE: Final = select.POLLHUP | select.POLLERR | select.POLLRDHUP
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"
"""A record of TLS with the alert of that name, fatal (RFC 6066)."""
NO_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
COMPLETED: Final = {
    ("TLSv1.2", False): Counter.TLS_12, ("TLSv1.2", True): Counter.TLS_12_RESUMED,
    ("TLSv1.3", False): Counter.TLS_13, ("TLSv1.3", True): Counter.TLS_13_RESUMED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Coming:
    """A connection that has not said whom it asks for."""

    protocol: Downstream
    expiry: asyncio.TimerHandle


class Acceptor:
    """The doorman of one listener in one worker."""

    __slots__ = (
        "_intake", "_peeking", "_resting", "_service", "_sockets", "_tasks", "accepted_count", "connections_max",
        "contexts", "name",
    )  # fmt: skip

    def __init__(
        self, service: Service, intake: Intake, fds: tuple[int, ...], contexts: ServerContexts | None,
        connections_max: int,
    ) -> None:  # fmt: skip
        self._service = service
        self._intake = intake
        self.contexts = contexts
        self.name = intake.name
        self.connections_max = connections_max
        self._sockets = [socket.socket(fileno=fd) for fd in fds]
        for listening in self._sockets:
            listening.setblocking(False)
        self.accepted_count = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}  # not asked again before its timer
        self._peeking: dict[socket.socket, _Coming] = {}

    def open(self) -> None:
        for listening in self._sockets:
            self._service.loop.add_reader(listening.fileno(), self._accept, listening)

    def look(self) -> bool:
        """Accept what waits, as far as a turn goes; True when nobody is left waiting."""
        return all([listening not in self._resting and self._accept(listening) for listening in self._sockets])

    def close(self) -> None:
        """Accept no more; the sockets themselves stay as they are (rule 1)."""
        for handle in self._resting.values():
            handle.cancel()
        self._resting.clear()
        for listening in self._sockets:
            self._service.loop.remove_reader(listening.fileno())
            listening.detach()
        self._sockets = []

    @property
    def busy(self) -> bool:
        """Are there connections that were accepted and have no protocol yet?"""
        return bool(self._tasks or self._peeking)

    def _accept(self, listening: socket.socket) -> bool:
        """Take up to a turn's worth of connections; True when the queue is empty now."""
        service = self._service
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = listening.accept()
            except (InterruptedError, ConnectionAbortedError):
                continue
            except BlockingIOError:
                return True
            except OSError as fault:
                service.region.add(service.slot, Counter.ACCEPT_FAILURES)
                if fault.errno in EXHAUSTED:
                    self._rest(listening)
                else:
                    service.surprise(fault)
                return False
            self.accepted_count += 1
            service.region.add(service.slot, Counter.ACCEPTED)
            connection.setblocking(False)
            self._admit(connection, canonical_peer(address[0]) if isinstance(address, tuple) else "unix:")
        return False

    def _rest(self, listening: socket.socket) -> None:
        loop = self._service.loop
        loop.remove_reader(listening.fileno())

        def again() -> None:
            del self._resting[listening]
            loop.add_reader(listening.fileno(), self._accept, listening)

        self._resting[listening] = loop.call_later(BACK_OFF_S, again)

    def _admit(self, connection: socket.socket, peer: str) -> None:
        service = self._service
        coming_count = len(self._tasks) + len(self._peeking)  # in a handshake, or not even there
        open_count = len(service.connections) + coming_count
        limit = self._intake.listener.max_connections
        if open_count >= self.connections_max or self._intake.open_count + coming_count >= limit:
            service.region.add(service.slot, Counter.OVERLOADS)
            self._shed(connection, open_count, Reason.OVERLOADED, peer)
            return
        turnstile = self._intake.turnstile
        leases = turnstile.enter(peer) if turnstile is not None else ()
        if leases is None:
            self._shed(connection, open_count, Reason.CONNECTION_LIMITED, peer)
            return
        protocol = Downstream(service, self._intake)
        protocol.leases = leases
        if self.contexts is not None:
            protocol.meet(peer)
            self._peek(connection, protocol)
        else:
            self._start(connection, protocol, None)

    def _shed(self, connection: socket.socket, open_count: int, reason: Reason, peer: str) -> None:
        service = self._service
        protocol = Downstream(service, self._intake, reason)
        protocol.peer = peer
        if self.contexts is None and open_count < self.connections_max + TURNED_AWAY_MAX:
            self._start(connection, protocol, None)
        else:
            service.ledger.enter_bare(protocol, reason, service.ids.new(), 0, 0)
            service.region.add(service.slot, Counter.CLOSED)
            connection.close()

    def _start(self, connection: socket.socket, protocol: Downstream, context: ssl.SSLContext | None) -> None:
        task: asyncio.Task[object] = self._service.loop.create_task(self._open_transport(connection, protocol, context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_transport(
        self, connection: socket.socket, protocol: Downstream, context: ssl.SSLContext | None
    ) -> None:
        service, made = self._service, cast(asyncio.Protocol, protocol)
        try:
            if context is None:
                await service.loop.connect_accepted_socket(lambda: made, connection)
            else:
                timeout_s = self._intake.listener.header_timeout_ns / 1e9
                CONNECTION.set(connection)
                transport, _ = await service.loop.connect_accepted_socket(
                    lambda: made, connection, ssl=context, ssl_handshake_timeout=timeout_s
                )
                session: ssl.SSLObject = transport.get_extra_info("ssl_object")
                completed = COMPLETED[session.version() or "", bool(session.session_reused)]
                service.region.add(service.slot, completed)
        except OSError as fault:  # ssl.SSLError, a reset, a timeout: the peer's affair
            if context is not None:
                service.region.add(service.slot, _counted(fault))
            if protocol not in service.connections:
                service.never_began(protocol)
        except Exception as fault:
            service.surprise(fault)
            if protocol not in service.connections:
                service.never_began(protocol)

    # What a client says first, on a TLS port.

    def _peek(self, connection: socket.socket, protocol: Downstream) -> None:
        loop = self._service.loop
        timeout_s = self._intake.listener.header_timeout_ns / 1e9
        expiry = loop.call_later(timeout_s, self._drop, connection, Counter.TLS_TIMEOUT)
        self._peeking[connection] = _Coming(protocol, expiry)
        loop.add_reader(connection.fileno(), self._peeked, connection)

    def _peeked(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(HELLO_BYTES_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection, None)
            return
        protocol = self._peeking[connection].protocol
        if protocol.phase == PREFACE:
            self._introduce(connection, protocol, data)
            return
        if data[0] != HANDSHAKE_OCTET:
            self._serve(connection, None, Reason.PLAIN_HTTP_ON_TLS)
            return
        hello = read_hello(data)
        if isinstance(hello, int):
            self._wait_for(connection, hello)
            return
        assert self.contexts is not None
        choice = self.contexts.choice(hello.server_name if isinstance(hello, Hello) else "")
        if choice is not None:
            self._serve(connection, choice)
        else:
            with suppress(OSError):  # seven octets that nobody waits to be taken
                connection.send(UNRECOGNIZED_NAME)
            self._drop(connection, Counter.TLS_UNKNOWN_NAME)

    def _introduce(self, connection: socket.socket, protocol: Downstream, data: bytes) -> None:
        """The PROXY header, which stands before the handshake. Who may not say it, or says it badly, gets no answer."""
        service = self._service
        try:
            used = protocol.introduced(data)
        except ClientFault as fault:
            service.ledger.enter_bare(protocol, fault.reason, service.ids.new(), len(data), 0)
            self._drop(connection, None)
            return
        if used is None:
            self._wait_for(connection, len(data) + 1)
            return
        connection.recv(used)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._peeked(connection)

    def _wait_for(self, connection: socket.socket, count: int) -> None:
        """Look again when so many octets are there."""
        loop, fd = self._service.loop, connection.fileno()
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) != count:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            return
        poll = select.poll()
        poll.register(fd, GONE)
        if poll.poll(0):  # no more will come
            self._drop(connection, Counter.TLS_FAILED)
            return
        loop.remove_reader(fd)
        loop.call_later(SHORT_S, self._look_again, connection)

    def _look_again(self, connection: socket.socket) -> None:
        if connection in self._peeking:
            self._service.loop.add_reader(connection.fileno(), self._peeked, connection)

    def _serve(self, connection: socket.socket, choice: Choice | None, turned_away: Reason | None = None) -> None:
        protocol = self._unpeek(connection)
        protocol.turned_away = turned_away
        protocol.choice = choice
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._start(connection, protocol, None if choice is None else choice.context)

    def _drop(self, connection: socket.socket, counter: Counter | None) -> None:
        """Close what never came as far as a handshake."""
        service = self._service
        protocol = self._unpeek(connection)
        connection.close()
        if counter is not None:
            service.region.add(service.slot, counter)
        service.never_began(protocol)

    def _unpeek(self, connection: socket.socket) -> Downstream:
        self._service.loop.remove_reader(connection.fileno())
        coming = self._peeking.pop(connection)
        coming.expiry.cancel()
        return coming.protocol


def _counted(fault: OSError) -> Counter:
    """How a handshake failed."""
    if isinstance(fault, ConnectionAbortedError) and fault.errno is None:  # the loop's word for it
        return Counter.TLS_TIMEOUT
    if isinstance(fault, ssl.SSLCertVerificationError) or getattr(fault, "reason", "") == NO_CERTIFICATE:
        return Counter.TLS_CLIENT_CERTIFICATE
    return Counter.TLS_FAILED
