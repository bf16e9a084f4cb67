"""Attempts: bringing one request to one endpoint, and to the next one when that is safe.

Rules:
1. While nothing was written anywhere, a failed connect tries the next address of the
   endpoint, then the next endpoint the world allows, at most ATTEMPTS_MAX in all.
2. A reused link may have died unseen. If it ends without one octet of an answer, the request
   is repeated once, on a fresh link of the same address, when none of it had left our
   buffer, or when its method is idempotent (RFC 9110 section 9.2.2); in both cases only if
   its body is empty or kept whole. A POST that may have arrived is never sent twice: 502.
3. For a request that could not be repeated, an idle link is looked at twice (a poll for an
   unread farewell) before it is used. That closes most of the gap that rule 2 leaves.
4. Octets that an upstream sent on a reused link before our request has left are no answer to it
   (a server's parting 408, most often): the link is treated as dead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sentinel.core.plan import Endpoint
from sentinel.core.reasons import Reason
from shm.counters import Counter
from workers.forwarded import DROPPED
from workers.http1.heads import build_request
from workers.pool import Link, Pool
from workers.timers import NEVER

if TYPE_CHECKING:
    from workers.exchange import Exchange

ATTEMPTS_MAX: Final = 8
"""Connects of one exchange over all addresses: a dead upstream must not hold a client for minutes."""

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


def aim(exchange: Exchange, endpoint: Endpoint) -> None:
    """Send the request to this endpoint: over an idle link, or a new one."""
    place = exchange.downstream.service.world.place(endpoint)
    exchange.endpoint = endpoint
    exchange.endpoint_name = place.name
    pool = place.next_pool(exchange.tried_pools)
    if pool is None:
        next_one(exchange, Reason.CONNECT_FAILED if place.pools else Reason.NAME_UNRESOLVED)
        return
    exchange.pool = pool
    link = pool.take(sure=exchange.head.method not in IDEMPOTENT)
    if link is None:
        connect(exchange, pool)
    else:
        _send(exchange, link)


def next_one(exchange: Exchange, reason: Reason) -> None:
    """This attempt failed before anything was sent: try elsewhere, or fail with its reason."""
    task, exchange.connecting = exchange.connecting, None
    if task is not None:
        task.cancel()
    endpoint, upstream = exchange.endpoint, exchange.upstream
    assert endpoint is not None and upstream is not None
    service = exchange.downstream.service
    if exchange.pool is not None:
        service.region.add(service.slot, Counter.UPSTREAM_CONNECT_FAILURES)
        exchange.tried_pools += (exchange.pool,)
        exchange.pool = None
    if exchange.attempts >= ATTEMPTS_MAX:
        exchange.fail(reason)
        return
    world = service.world
    pool = world.place(endpoint).next_pool(exchange.tried_pools)
    if pool is not None:
        exchange.pool = pool
        connect(exchange, pool)
        return
    exchange.tried += (endpoint,)
    other = world.choose_endpoint(upstream, exchange.tried)
    if other is None:
        exchange.fail(reason)
    else:
        aim(exchange, other)


def connect(exchange: Exchange, pool: Pool) -> None:
    """Make a new link; the only place where an exchange needs a task."""
    upstream = exchange.upstream
    assert upstream is not None
    exchange.attempts += 1
    exchange.arm(upstream.connect_timeout_ns, Reason.CONNECT_TIMEOUT)
    exchange.connecting = exchange.downstream.service.loop.create_task(_connect(exchange, pool))


async def _connect(exchange: Exchange, pool: Pool) -> None:
    task = asyncio.current_task()
    try:
        link = await pool.connect()
        if exchange.connecting is not task:
            link.abort()
            return
        exchange.connecting = None
        if link.transport is None or link.transport.is_closing():
            next_one(exchange, Reason.CONNECT_FAILED)
        else:
            _send(exchange, link)
    except OSError:
        if exchange.connecting is task:
            exchange.connecting = None
            next_one(exchange, Reason.CONNECT_FAILED)
    except Exception as fault:
        exchange.surprised(fault)


def _send(exchange: Exchange, link: Link) -> None:
    """Write the head, and the part of the body that has come."""
    head, request, transport = exchange.head, exchange.request, link.transport
    assert request is not None and transport is not None
    exchange.link = link
    link.caller = exchange
    link.uses += 1
    authority = exchange.authority or _own_name(exchange)
    raw = build_request(head, request.target, authority, exchange.lines, DROPPED, head.chunked)
    if exchange.backlog:
        raw = b"".join((raw, *exchange.backlog))
        exchange.backlog.clear()
    if link.uses == 1:
        exchange.kept = None
    else:
        service = exchange.downstream.service
        service.region.add(service.slot, Counter.UPSTREAM_REUSES)
    exchange.sent_bytes = len(raw)
    transport.write(raw)
    if exchange.body_done:
        wait_for_answer(exchange)
    else:
        exchange.deadline_ns = NEVER
        if exchange.total_ns < exchange.downstream.deadline_ns:
            exchange.downstream.deadline_ns = exchange.total_ns
        exchange.downstream.more()


def _own_name(exchange: Exchange) -> str:
    """Whom to name in Host when the client (HTTP/1.0) named nobody."""
    name = exchange.endpoint_name
    return "localhost" if name.startswith("unix:") else name


def wait_for_answer(exchange: Exchange) -> None:
    upstream = exchange.upstream
    assert upstream is not None
    exchange.arm(upstream.first_byte_timeout_ns, Reason.FIRST_BYTE_TIMEOUT)


def is_unsent(exchange: Exchange) -> bool:
    """Has nothing of the request left our buffer?"""
    link = exchange.link
    if link is None or link.transport is None:
        return False
    return link.transport.get_write_buffer_size() >= exchange.sent_bytes


def link_died(exchange: Exchange) -> None:
    """The link ended and there is no octet of an answer: repeat the request, or fail."""
    link, pool = exchange.link, exchange.pool
    assert link is not None and pool is not None
    has_whole_body = exchange.kept is not None or (exchange.head.content_length <= 0 and not exchange.head.chunked)
    may_repeat = exchange.head.method in IDEMPOTENT or is_unsent(exchange)
    is_stale = link.uses > 1 and not exchange.is_repeated and exchange.interims == 0
    exchange.link = None
    link.abort()
    if is_stale and has_whole_body and may_repeat:
        exchange.is_repeated = True
        exchange.backlog = list(exchange.kept or ())
        connect(exchange, pool)
    else:
        exchange.fail(Reason.UPSTREAM_CLOSED)
