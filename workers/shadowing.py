"""Shadows: copies of requests on their way to another upstream, whose answers are thrown away.

Intuition: somebody copies each page of a letter as it goes by, and posts the copies elsewhere. The
letter never waits for the copyist: who falls too far behind throws away what he has.

Rules:
1. A shadow never delays and never fails the request that it is a copy of. It begins after that was sent on, it
   reads no clock of it, and whatever goes wrong here is counted here.
2. The copy is the same request (method, target, fields, body, x-request-id, what is said of the client), and has
   one field more, `x-sentinel-shadow`, with the route's name. Host stays as it is: a service that looks at it
   would do something else with another one, and then the copy would teach nothing.
3. The body is copied as it comes. While the shadow does not read, at most BYTES_MAX of it wait; more, and the shadow is
   abandoned. At most SHADOWS_MAX are under way in a worker, so that all of them hold 64 MiB at most; what would be
   one more is dropped.
4. To its own upstream a shadow is a request like any other: balance, health, breakers and ceilings hold, and it has a
   permit of its own. It is tried once, and waits for nobody.
5. Of the answer only the framing is read, so that the link can be used again; at most ANSWER_BYTES_MAX of it.
6. It goes on when its client has gone, if the body was whole; and ends with the upstream's timeouts, after LIFE_NS at
   the latest, and at the worker's drain deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.verdict import Copy
from sentinel.core.world import Wish
from shm.counters import Counter
from shm.places import FAILURE, NEUTRAL, SUCCESS
from workers import attempt
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import UpstreamFault
from workers.http1.heads import (
    INTERIMS_MAX,
    RESPONSE_BYTES_MAX,
    RESPONSE_HEADERS_MAX,
    ResponseHead,
    parse_response,
)
from workers.outward import Outward, outward_of, stamp_of
from workers.pool import Link, Pool
from workers.timers import NEVER

if TYPE_CHECKING:
    from workers.exchange import Exchange
    from workers.places import Group, Permit
    from workers.service import Service

SHADOWS_MAX: Final = 128
BYTES_MAX: Final = 512 * 1024
"""Twice what is read from a client at a time: one such piece may wait for the other to leave."""
ANSWER_BYTES_MAX: Final = 1 << 20
"""A longer answer is not read to its end: a new connection costs less."""
LIFE_NS: Final = 300_000_000_000
"""A shadow whose upstream sends an octet a minute is nobody's use."""

ANSWERED, FAILED = Counter.SHADOWS_ANSWERED, Counter.SHADOWS_FAILED
REFUSED, ABANDONED, DROPPED = Counter.SHADOWS_REFUSED, Counter.SHADOWS_ABANDONED, Counter.SHADOWS_DROPPED


class Shadows:
    """All shadows of one worker."""

    __slots__ = ("_service", "under_way")

    def __init__(self, service: Service) -> None:
        self._service = service
        self.under_way: set[Shadow] = set()

    def cast(self, exchange: Exchange, copies: tuple[Copy, ...], pieces: Sequence[bytes]) -> None:
        """Begin the copies of a request, of whose body these pieces have come; more is fed."""
        for copy in copies:
            try:
                shadow = self._begin(exchange, copy, pieces)
                if shadow is not None and not exchange.body_done:
                    exchange.shadows += (shadow,)
            except Exception as fault:
                self._service.surprise(fault)
        if exchange.is_ended:
            self.leave(exchange)

    def feed(self, exchange: Exchange, data: bytes, done: bool) -> None:
        """Some more of the body."""
        shadows = exchange.shadows
        if done:
            exchange.shadows = ()
        for shadow in shadows:
            try:
                shadow.feed(data, done)
            except Exception as fault:
                shadow.surprised(fault)

    def leave(self, exchange: Exchange) -> None:
        """The rest of the body will never come."""
        shadows, exchange.shadows = exchange.shadows, ()
        for shadow in shadows:
            shadow.end(ABANDONED, NEUTRAL)

    def tick(self, now_ns: int) -> None:
        late = [shadow for shadow in self.under_way if shadow.deadline_ns <= now_ns]
        for shadow in late:
            try:
                shadow.expire(now_ns)
            except Exception as fault:
                shadow.surprised(fault)

    def cut(self) -> None:
        """The worker leaves."""
        for shadow in list(self.under_way):
            shadow.end(ABANDONED, NEUTRAL)

    def ended(self, shadow: Shadow, outcome: Counter) -> None:
        service = self._service
        self.under_way.discard(shadow)
        service.region.add(service.slot, outcome)
        if not self.under_way and service.on_quiet is not None:
            service.on_quiet()

    def _begin(self, exchange: Exchange, copy: Copy, pieces: Sequence[bytes]) -> Shadow | None:
        service = self._service
        if len(self.under_way) >= SHADOWS_MAX:
            service.region.add(service.slot, DROPPED)
            return None
        group = service.world.group(copy.upstream)
        endpoint = group.choose((), copy.wish).endpoint
        if endpoint is None:
            service.region.add(service.slot, REFUSED)
            return None
        assert exchange.route is not None
        # Before the permit: between that and the shadow that gives it back nothing may go wrong.
        head = attempt.request_head(
            exchange, endpoint.name, f"x-sentinel-shadow: {exchange.route.name}\r\n".encode(),
            _outward(exchange, copy.upstream),
        )  # fmt: skip
        now_ns = time.monotonic_ns()
        permit = group.begin(endpoint, now_ns)
        if type(permit) is int and permit < 0:
            service.region.add(service.slot, REFUSED)
            return None
        shadow = Shadow(service, group, endpoint, permit, now_ns, exchange.head.method, copy.wish)
        self.under_way.add(shadow)
        try:
            shadow.feed(b"".join((head, *pieces)), exchange.body_done)
            shadow.begin()
        except Exception as fault:
            shadow.surprised(fault)
        return None if shadow.is_over else shadow


class Shadow:
    """One copy (workers.pool.Caller)."""

    __slots__ = (
        "_answer_bytes", "_answered_ns", "_body", "_connecting", "_endpoint", "_group", "_head", "_interims",
        "_is_sent", "_left", "_life_ns", "_link", "_method", "_part", "_permit", "_pool", "_service", "_started_ns",
        "_stint", "_waiting", "_waiting_bytes", "deadline_ns", "is_over",
    )  # fmt: skip

    def __init__(
        self, service: Service, group: Group, endpoint: Endpoint, permit: Permit, now_ns: int, method: str, wish: Wish
    ) -> None:
        self._service = service
        self._group = group
        self._endpoint = endpoint
        self._permit = permit
        self._stint = group.stint(endpoint, wish, 0) if group.has_stints else None
        self._method = method
        self._started_ns = now_ns
        self._answered_ns = 0
        self._pool: Pool | None = None
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        # The request: what waits for the connection, and whether all of it has come.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_sent = False
        # The answer.
        self._part = b""
        self._interims = 0
        self._head: ResponseHead | None = None
        self._left = -1  # of a Content-Length
        self._body: ChunkedBody | None = None
        self._answer_bytes = 0
        self._life_ns = service.ticker.after(LIFE_NS)
        self.deadline_ns = self._life_ns
        self.is_over = False

    def begin(self) -> None:
        if self.is_over:
            return
        service = self._service
        place = service.world.place(self._endpoint)
        pool = self._pool = place.next_pool()
        if pool is None:
            self.end(FAILED, FAILURE)
            return
        link = pool.take(for_once=True)  # nothing is repeated here, so it is looked into
        if link is not None:
            self._send(link)
            return
        self._wait(attempt.patience_ns(self._group.upstream))
        self._connecting = service.loop.create_task(self._connect(pool))

    def feed(self, data: bytes, done: bool) -> None:
        """Some of the request; `done`: it is whole now."""
        if self.is_over:
            return
        self._is_sent = done
        link = self._link
        if link is None or link.transport is None:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            is_behind = self._waiting_bytes > BYTES_MAX
        else:
            link.transport.write(data)
            is_behind = link.transport.get_write_buffer_size() > BYTES_MAX
        if is_behind:
            self.end(ABANDONED, NEUTRAL)
        elif done and link is not None and self._head is None:
            self._wait(self._group.upstream.first_byte_timeout_ns)

    def expire(self, now_ns: int) -> None:
        if self._life_ns <= now_ns:
            self.end(ABANDONED, NEUTRAL)
            return
        if self._connecting is not None:
            attempt.count_failed_connect(self._service, self._endpoint)
        self.end(FAILED, FAILURE)

    def end(self, outcome: Counter, tells: int) -> None:
        """Its one end. `tells`: what it says about its endpoint."""
        if self.is_over:
            return
        self.is_over = True
        self.deadline_ns = NEVER
        self._waiting.clear()
        task, self._connecting = self._connecting, None
        if task is not None:
            task.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.abort()
        group, now_ns = self._group, time.monotonic_ns()
        group.finish(self._endpoint, self._permit, tells, now_ns, (self._answered_ns or now_ns) - self._started_ns)
        if self._stint is not None:
            self._stint.end(tells)
        if group.waiting:
            group.wake()
        self._service.shadows.ended(self, outcome)

    # Its request.

    async def _connect(self, pool: Pool) -> None:
        try:
            link, why, _ = await attempt.dial(pool)
        except Exception as fault:
            self._connecting = None
            self.surprised(fault)
            return
        if self.is_over:
            if link is not None:
                link.abort()
            return
        self._connecting = None
        try:
            if why is Reason.OVERLOADED:
                self.end(DROPPED, NEUTRAL)
            elif link is None or link.transport is None or link.transport.is_closing():
                attempt.count_failed_connect(self._service, self._endpoint)
                self.end(FAILED, FAILURE)
            else:
                self._send(link)
        except Exception as fault:
            self.surprised(fault)

    def _send(self, link: Link) -> None:
        transport = link.transport
        assert transport is not None
        self._link = link
        link.caller = self
        link.uses += 1
        if link.uses > 1:
            self._service.region.add(self._service.slot, Counter.UPSTREAM_REUSES)
        transport.write(b"".join(self._waiting))
        self._waiting.clear()
        if transport.is_closing():
            self._broke_off()
        elif self._is_sent:
            self._wait(self._group.upstream.first_byte_timeout_ns)
        else:
            self.deadline_ns = self._life_ns

    def _wait(self, timeout_ns: int) -> None:
        self.deadline_ns = min(self._service.ticker.after(timeout_ns), self._life_ns)

    # Its answer.

    def answer_bytes(self, data: bytes) -> None:
        self._wait(self._group.upstream.idle_timeout_ns)
        try:
            if self._head is None:
                data = self._read_head(self._part + data)
            if self._head is not None:
                self._read_body(self._head, data)
        except UpstreamFault:
            self.end(FAILED, FAILURE)

    def _read_head(self, data: bytes) -> bytes:
        """Find the final head, and return what stands behind it."""
        while (head := parse_response(data, 0, RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, self._method)) is not None:
            data = data[head.size :]
            if head.status >= 200:
                self._head = head
                self._part = b""
                self._left = head.content_length
                self._answered_ns = time.monotonic_ns()
                if head.chunked:
                    self._body = ChunkedBody(reframe=False, fault=UpstreamFault)
                return data
            self._interims += 1
            if head.status == 101 or self._interims > INTERIMS_MAX:
                self.end(FAILED, FAILURE)
                return b""
        self._part = data
        return b""

    def _read_body(self, head: ResponseHead, data: bytes) -> None:
        self._answer_bytes += len(data)
        if self._body is not None:
            _, used = self._body.feed(data)
            is_whole, is_clean = self._body.done, used == len(data)
        elif self._left >= 0:
            self._left -= len(data)
            is_whole, is_clean = self._left <= 0, self._left == 0
        else:
            is_whole, is_clean = not head.until_close, not data
        if is_whole:
            self._answered(head, is_clean)
        elif self._answer_bytes > ANSWER_BYTES_MAX:
            self._answered(head, False)

    def _answered(self, head: ResponseHead, is_clean: bool) -> None:
        """The answer is read as far as it is read: give the link back, if it can be used again."""
        link, pool = self._link, self._pool
        assert link is not None and pool is not None
        transport = link.transport
        is_usable = is_clean and head.keep_alive and self._is_sent
        if is_usable and transport is not None and transport.get_write_buffer_size() == 0:
            self._link = None
            pool.give_back(link)
        is_good = head.status < 500
        self.end(ANSWERED if is_good else FAILED, SUCCESS if is_good else FAILURE)

    def answer_eof(self) -> None:
        self._broke_off()

    def link_lost(self, fault: Exception | None) -> None:
        self._broke_off()

    def link_paused(self) -> None:
        """Nobody is paused: what waits is measured with each piece."""

    def link_resumed(self) -> None:
        pass

    def surprised(self, fault: BaseException) -> None:
        self._service.surprise(fault)
        self.end(FAILED, NEUTRAL)

    def _broke_off(self) -> None:
        head = self._head
        if self.is_over:
            return
        if head is not None and head.until_close:
            self._answered(head, False)
        else:
            self.end(FAILED, FAILURE)


def _outward(exchange: Exchange, upstream: Upstream) -> Outward | None:
    """What is said anew to the upstream of a copy: its provider's, and nothing of that of the original."""
    request, provider = exchange.request, upstream.provider
    if request is None or provider is None:
        return None
    stamp = stamp_of(provider, None, exchange.downstream.service.world.stamp)
    return outward_of(request, None, None, provider, stamp)
