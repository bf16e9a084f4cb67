"""One client's connection: which octets are a head, a body, a tunnel, or nobody's.

           PREFACE (PROXY protocol only)
              |
              v        head complete             body complete
  .-------> HEAD ------------------> BODY ------------------> ANSWER
  |           |                        |                        |
  |           | refused                | answered early         | exchange ended
  |           v                        v                        v
  |        LINGER <--------------------+---- not kept alive ----+---- 101 ---> TUNNEL
  |           |                                                 |
  |           v                        kept alive               |
  |         GONE   <--------------------------------------------'
  '---------------------------------------------------------------

Rules:
1. Requests are served one after the other. Octets that come while an exchange runs wait
   unparsed in `buffer`, and the client is not read any further: at most one read (256 KiB).
2. After an Upgrade request nothing is parsed before the upstream's answer: on 101 it belongs to
   the tunnel, on any other answer the connection ends, for it might be either.
3. An end of file while an exchange runs means that the client has gone: a proxy cannot tell
   a half-closed client from a lost one, and those who wait are rarer than those who left.
4. A connection that we end while the client may still be sending is closed in two steps
   (LINGER): our half first, then all of it when the client has closed too, or has sent
   LINGER_BYTES, or LINGER_NS have passed. Else the kernel would answer unread octets with a
   reset, and that reset would destroy the answer on its way.
5. While draining, a connection that is kept alive is closed by its next answer, not under the
   client's hands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from sentinel.core.reasons import Reason
from workers import answer, errors
from workers.exchange import Exchange, opened
from workers.forwarded import canonical_peer, lines_for_stranger
from workers.http1 import proxy_protocol
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import ClientFault
from workers.http1.heads import RequestHead, parse_request
from workers.pool import WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from workers.timers import NEVER, SLACK_NS

if TYPE_CHECKING:
    from workers.guests import Guest
    from workers.intake import Intake
    from workers.service import Service
    from workers.tls import Choice

PREFACE, HEAD, BODY, ANSWER, TUNNEL, LINGER, GONE = range(7)

HANDSHAKE: Final = b"\x16\x03"
"""How a connection over TLS begins, which no request does."""
LINGER_NS: Final = 2_000_000_000
LINGER_BYTES: Final = 1 << 20


class Downstream:
    """One connection from a client: an `asyncio.Protocol` in all but its base, which a compiled class cannot have."""

    __slots__ = (
        "_discarded_bytes", "_is_serving", "_max_bytes", "_max_headers", "_max_uri", "_stall_ns", "_waiting_bytes",
        "begun_ns", "buffer", "choice", "deadline_ns", "exchange", "guest", "intake", "is_met", "is_trusted",
        "is_write_paused",
        "leases", "peer",
        "phase", "served", "service", "stranger_lines", "transport", "turned_away",
    )  # fmt: skip

    def __init__(self, service: Service, intake: Intake, turned_away: Reason | None = None) -> None:
        listener = intake.listener
        self.service = service
        self.intake = intake
        self.turned_away = turned_away
        self.leases: tuple[int, ...] = ()  # of the listener's turnstile
        self.choice: Choice | None = None  # over TLS: what the client is served
        self.guest: Guest | None = None  # and what it has shown
        self.transport: asyncio.Transport | None = None
        self.phase = HEAD if listener.proxy_protocol == "off" else PREFACE
        self.buffer = b""
        self.exchange: Exchange | None = None
        self.served = 0
        self.peer = ""
        self.is_met = False
        self.is_trusted = False
        self.stranger_lines = b""
        self.is_write_paused = False
        self.begun_ns = time.monotonic_ns()
        self.deadline_ns = NEVER
        self._stall_ns = NEVER
        self._is_serving = False
        self._discarded_bytes = 0
        self._waiting_bytes = 0
        self._max_bytes = listener.max_header_bytes
        self._max_headers = listener.max_headers
        self._max_uri = listener.max_uri_bytes

    # The transport's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are registered with no base class
        self.transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        address = transport.get_extra_info("peername")
        if not self.is_met:
            self.meet(canonical_peer(address[0]) if isinstance(address, tuple) else "unix:")
        self.service.connections.add(self)
        self.intake.open_count += 1
        if self.turned_away is not None:
            self._turn_away(self.turned_away)
            return
        if self.choice is not None:
            self.guest = self.intake.receive(self.choice, transport)
        listener = self.intake.listener
        first_ns = listener.header_timeout_ns if self.phase == PREFACE else listener.idle_timeout_ns
        self.deadline_ns = self.service.ticker.after(first_ns)

    def data_received(self, data: bytes) -> None:
        try:
            phase = self.phase
            if phase == HEAD:
                if self.is_write_paused:
                    self._put_off(data)
                else:
                    self._serve(self.buffer + data if self.buffer else data)
            elif phase == BODY:
                self._body(data)
            elif phase == ANSWER:
                self._put_off(data)
            elif phase == TUNNEL:
                assert self.exchange is not None
                answer.to_tunnel(self.exchange, data)
            elif phase == PREFACE:
                self._preface(self.buffer + data)
            else:
                self._discard(data)
        except Exception as fault:
            self.surprised(fault)

    def eof_received(self) -> bool:
        exchange = self.exchange
        # TLS cannot say that one half has ended: there it is the end of both.
        if self.phase == TUNNEL and exchange is not None and self.transport and self.transport.can_write_eof():
            answer.client_fell_silent(exchange)
            return self.exchange is not None
        self._left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        self.transport = None
        self.phase = GONE
        self.service.connection_ended(self)

    def pause_writing(self) -> None:
        self.is_write_paused = True
        self._note_stall(self.intake.listener.write_timeout_ns)
        exchange, transport = self.exchange, self.transport
        self._waiting_bytes = transport.get_write_buffer_size() if transport is not None else 0
        if exchange is not None and exchange.link is not None and exchange.link.transport is not None:
            exchange.link.transport.pause_reading()

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self._stall_ns = NEVER
        exchange = self.exchange
        if exchange is not None and exchange.link is not None and exchange.link.transport is not None:
            exchange.link.transport.resume_reading()
            if self.phase == BODY:
                self._note_stall(self.intake.listener.body_timeout_ns)
        elif self.phase == HEAD:
            self._go_on()

    # Heads.

    def meet(self, peer: str) -> None:
        """It is known who the client is."""
        self.peer = peer
        self.is_met = True
        self.is_trusted = self.intake.trust.trusts(peer)
        self.stranger_lines = lines_for_stranger(peer, self.intake.scheme)

    def _is_let_in(self) -> bool:
        """The proxy has said who the client is: whether there is room for another connection of theirs."""
        turnstile = self.intake.turnstile
        mine = turnstile.meet(self.peer) if turnstile is not None else ()
        if mine is not None:
            self.leases += mine
        return mine is not None

    def introduced(self, data: bytes) -> int | None:
        """How long the PROXY header is that says who the client is; None: it is not whole. Raises ClientFault.

        Only proxies that we trust may say so. Over TLS it comes before the handshake (workers.listener).
        """
        if not self.is_trusted:
            raise ClientFault(Reason.BAD_PROXY_HEADER)
        wanted = self.intake.listener.proxy_protocol
        if (wanted == "v1" and data[:1] != b"P") or (wanted == "v2" and data[:1] != b"\r"):
            raise ClientFault(Reason.BAD_PROXY_HEADER)
        parsed = proxy_protocol.parse(data)
        if parsed is None:
            return None
        info, used = parsed
        if info is not None:
            self.meet(canonical_peer(info.src_ip))
        if not self._is_let_in():
            raise ClientFault(Reason.CONNECTION_LIMITED)
        self.phase = HEAD
        return used

    def _preface(self, data: bytes) -> None:
        self.buffer = data
        try:
            used = self.introduced(data)
        except ClientFault as fault:
            self._refuse_head(fault.reason)
            return
        if used is None:
            return
        self.buffer = b""
        self.deadline_ns = self.service.ticker.after(self.intake.listener.idle_timeout_ns)
        if len(data) > used:
            self._serve(data[used:])

    def _serve(self, data: bytes) -> None:
        """Serve the requests that begin in `data`, until one is under way or the octets end."""
        self._is_serving = True
        while True:
            try:
                head = parse_request(data, 0, self._max_bytes, self._max_headers, self._max_uri)
            except ClientFault as fault:
                self.buffer = data
                is_tls = self.served == 0 and data.startswith(HANDSHAKE)
                self._refuse_head(Reason.TLS_ON_PLAIN_HTTP if is_tls else fault.reason)
                break
            if head is None:
                self._wait_for_head(data)
                break
            size = head.size
            self.buffer = data[size:] if len(data) > size else b""
            self._begin(head)
            data = self.buffer
            if not data or self.phase != HEAD or self.is_write_paused:
                break
        self._is_serving = False

    def _begin(self, head: RequestHead) -> None:
        exchange = self.exchange = opened(self, head)
        self.served += 1
        self.service.open_requests += 1
        self.intake.open_requests += 1
        if exchange.body_done:
            self.phase = ANSWER
        else:
            self.phase = BODY
            self._note_stall(self.intake.listener.body_timeout_ns)
        exchange.begin()
        if self.buffer and self.phase == ANSWER and self.transport is not None:
            self.transport.pause_reading()

    def _wait_for_head(self, data: bytes) -> None:
        """A head has begun: the time for it runs from its first octet, not from the latest."""
        if not self.buffer:
            self.begun_ns = time.monotonic_ns()
            self.deadline_ns = self.service.ticker.after(self.intake.listener.header_timeout_ns)
        self.buffer = data

    def _refuse_head(self, reason: Reason) -> None:
        """There is no exchange, since there is no request: answer, and write it down."""
        request_id = self.service.ids.new()
        raw = errors.refusal(
            reason.status, reason, request_id, as_json=False, keep_alive=False, minor=1, head_only=False,
            fields=self.intake.promised,
        )
        self.write(raw)
        self.service.ledger.enter_bare(self, reason, request_id, len(self.buffer), len(raw))
        self.buffer = b""
        self._part()

    def _turn_away(self, reason: Reason) -> None:
        """This connection was accepted only to be told why it is not served."""
        self._refuse_head(reason)

    def is_last(self) -> bool:
        """Is the request under way the last that this connection may bring?"""
        return 0 < self.intake.listener.max_requests <= self.served

    # Bodies.

    def take_body(self, exchange: Exchange) -> None:
        """The part of the body that came with the head; raises ClientFault."""
        if exchange.head.chunked:
            exchange.body = ChunkedBody(reframe=True, fault=ClientFault)
        data, self.buffer = self.buffer, b""
        if data:
            self._take(exchange, data)

    def _body(self, data: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        self._stall_ns = self.service.ticker.now_ns + self.intake.listener.body_timeout_ns + SLACK_NS
        try:
            self._take(exchange, data)
        except ClientFault as fault:
            exchange.fail(fault.reason)

    def _take(self, exchange: Exchange, data: bytes) -> None:
        """Cut the body's octets out of `data`; the rest begins the next request."""
        left, body = exchange.body_left, exchange.body
        if body is None:
            out = data if len(data) <= left else data[:left]
            used = len(out)
            exchange.body_left = left - used
            done = left == used
        else:
            out, used = body.feed(data)
            done = body.done
            if body.payload_bytes > exchange.body_max:
                raise ClientFault(Reason.BODY_TOO_LARGE)
        exchange.bytes_in += used
        if done:
            self.phase = ANSWER
            self._stall_ns = NEVER
            if used < len(data):
                self._put_off(data[used:])
        exchange.body_arrived(out, done)

    def hold(self) -> None:
        """Do not read: the body has nowhere to go. (One that has come whole holds nobody up.)"""
        if self.transport is not None and self.phase in (BODY, TUNNEL):
            self._stall_ns = NEVER
            self.transport.pause_reading()

    def more(self) -> None:
        """Read on, if a body is what is missing."""
        if self.phase == BODY and self.transport is not None:
            self._note_stall(self.intake.listener.body_timeout_ns)
            self.transport.resume_reading()
        elif self.phase == TUNNEL and self.transport is not None:
            self.transport.resume_reading()

    def _put_off(self, data: bytes) -> None:
        self.buffer += data
        if self.transport is not None:
            self.transport.pause_reading()

    # The exchange's side.

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        if self.transport is not None:
            self.transport.writelines(parts)

    def cut(self) -> None:
        """The answer cannot be completed: make sure that it does not look complete."""
        self.phase = GONE
        if self.transport is not None:
            self.transport.abort()

    def exchange_ended(self, exchange: Exchange, keep_alive: bool) -> None:
        self.exchange = None
        service = self.service
        service.open_requests -= 1
        self.intake.open_requests -= 1
        self._stall_ns = NEVER
        if self.phase >= LINGER:
            return
        if not keep_alive:
            said_so = not exchange.head.keep_alive and self.phase == ANSWER
            self._part(is_expected=said_so or exchange.client_is_silent)
            return
        self.phase = HEAD
        self.deadline_ns = service.ticker.now_ns + self.intake.listener.idle_timeout_ns + SLACK_NS
        if self.buffer and not self._is_serving:
            service.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Serve what waited while the last exchange ran."""
        if self.phase != HEAD or self.is_write_paused or self.transport is None:
            return
        try:
            self.transport.resume_reading()
            data, self.buffer = self.buffer, b""
            if data:
                self._serve(data)
        except Exception as fault:
            self.surprised(fault)

    def tunnel_opened(self) -> None:
        self.phase = TUNNEL
        self._stall_ns = NEVER
        exchange, data = self.exchange, self.buffer
        self.buffer = b""
        assert exchange is not None
        if data:
            answer.to_tunnel(exchange, data)
        if self.transport is not None:
            self.transport.resume_reading()

    # Ends.

    def _part(self, *, is_expected: bool = False) -> None:
        """Close after what was written, without destroying it (rule 4). `is_expected`: the client sends no more."""
        transport = self.transport
        if transport is None or transport.is_closing():
            self.phase = GONE
            return
        self.deadline_ns = self.service.ticker.after(LINGER_NS)
        self._note_stall(self.intake.listener.write_timeout_ns)
        self.phase = LINGER
        is_expected = is_expected and not self.buffer
        self._discarded_bytes = len(self.buffer)
        self.buffer = b""
        if not is_expected and transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > LINGER_BYTES and self.transport is not None:
            self.transport.abort()

    def _left(self) -> None:
        """The client has gone."""
        exchange = self.exchange
        if exchange is not None:
            self.phase = GONE if self.phase != TUNNEL else TUNNEL
            exchange.client_gone(Reason.CLIENT_GONE)
        elif self.phase <= HEAD and self.buffer.strip(b"\r\n"):
            self.service.ledger.enter_bare(self, Reason.CLIENT_GONE, self.service.ids.new(), len(self.buffer), 0)
            self.buffer = b""

    def _note_stall(self, timeout_ns: int) -> None:
        stall_ns = self._stall_ns = self.service.ticker.after(timeout_ns)
        if stall_ns < self.deadline_ns:
            self.deadline_ns = stall_ns

    def expire(self, now_ns: int) -> None:
        """The ticker found `deadline_ns` passed; see what it was, if anything."""
        exchange, phase = self.exchange, self.phase
        if exchange is not None:
            if self._stall_ns <= now_ns:
                self._stalled(exchange)
            elif exchange.total_ns <= now_ns:
                exchange.timed_out(Reason.TOTAL_TIMEOUT)
            elif exchange.deadline_ns <= now_ns:
                exchange.timed_out(exchange.deadline_reason)
            elif exchange.rival is not None and exchange.rival.deadline_ns <= now_ns:
                exchange.rival.timed_out()
            if self.exchange is exchange:
                rival_ns = NEVER if exchange.rival is None else exchange.rival.deadline_ns
                self.deadline_ns = min(self._stall_ns, exchange.total_ns, exchange.deadline_ns, rival_ns)
        elif phase <= HEAD and self.buffer.strip(b"\r\n") and not self.is_write_paused:
            self._refuse_head(Reason.HEADER_TIMEOUT)
        elif phase == LINGER and self._is_flowing():
            self.deadline_ns = self.service.ticker.after(LINGER_NS)
        elif self.transport is not None:
            self._close_silent(self.transport)

    def _close_silent(self, transport: asyncio.Transport) -> None:
        if self.phase == HEAD and transport.get_write_buffer_size() == 0:
            transport.close()
        else:
            transport.abort()
        self.phase = GONE
        self.deadline_ns = self.service.ticker.after(LINGER_NS)

    def _stalled(self, exchange: Exchange) -> None:
        if not self.is_write_paused:
            exchange.fail(Reason.BODY_TIMEOUT)
        elif self._is_flowing():
            self._note_stall(self.intake.listener.write_timeout_ns)
        else:
            if self.transport is not None:
                self.transport.abort()
            exchange.client_gone(Reason.SLOW_READER)

    def _is_flowing(self) -> bool:
        """Has the client read anything since we last looked?"""
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        before, self._waiting_bytes = self._waiting_bytes, waiting
        return 0 < waiting < before

    def drain_deadline(self) -> None:
        """The worker must go now."""
        exchange = self.exchange
        if exchange is None:
            if self.transport is not None:
                self.transport.close()
        elif exchange.is_tunnel:
            exchange.end_tunnel()
        else:
            exchange.fail(Reason.DRAIN_DEADLINE)

    def surprised(self, fault: BaseException) -> None:
        """A fault of ours in a callback of this connection: this exchange fails, the worker goes on."""
        self.service.surprise(fault)
        exchange = self.exchange
        try:
            if exchange is not None and not exchange.is_ended:
                exchange.fail(Reason.INTERNAL)
                return
            if exchange is None and self.phase < LINGER:
                self._refuse_head(Reason.INTERNAL)
                return
        except Exception as second:  # even saying so failed: what is left is to close
            self.service.surprise(second)
        if exchange is not None and self.exchange is exchange:
            exchange.abandon()
            self.exchange = None
            self.service.open_requests -= 1
            self.intake.open_requests -= 1
        self.cut()
