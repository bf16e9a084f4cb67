"""Attempts: bringing one request to one endpoint, and to the next one when that is safe.

Rules:
1. While nothing was written anywhere, a failed connect tries the next address of the
   endpoint, then the next endpoint the world allows, at most ATTEMPTS_MAX in all. A write
   that the kernel refuses at once has sent nothing either: a fresh link is made.
2. A reused link may have died unseen. If it ends without one octet of an answer, the request
   is repeated once, on a fresh link of the same address, when its method is idempotent
   (RFC 9110 section 9.2.2) and its body is empty or was kept whole. A POST that may have
   arrived is never sent twice: 502.
3. A request on a fresh link is not repeated: that it died is no accident of age.
4. Without a descriptor for a link nobody was asked, so nobody failed: the request is told that we are overloaded.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.retry import IDEMPOTENT
from sentinel.core.trace import Step
from shm.counters import Counter
from shm.places import CONNECT_FAILURES, ENDPOINT_FULL, FAILURE, UPSTREAM_BREAKER, UPSTREAM_FULL
from workers.handshakes import HandshakeFault, refused_late
from workers.http1.heads import build_request
from workers.pool import EXHAUSTED, Link, Pool

if TYPE_CHECKING:
    from workers.exchange import Exchange
    from workers.handshakes import Facts
    from workers.outward import Outward
    from workers.places import Group
    from workers.service import Service

ATTEMPTS_MAX: Final = 8
"""Of one exchange, over all addresses: a dead upstream must not hold a client for minutes."""

NEW, KEPT, AGAIN = 1, 2, 3
"""Over which connection a request went (`Exchange.reached`): a new one, one that was kept, or a new one after the kept
one had died unseen. 0: over none."""

PROXIED: Final = Reason.PROXIED
ATTEMPTED: Final = Reason.ATTEMPTED
FIRST_BYTE_TIMEOUT: Final = Reason.FIRST_BYTE_TIMEOUT
UPSTREAM_REUSES: Final = Counter.UPSTREAM_REUSES

FULL: Final = frozenset({ENDPOINT_FULL, UPSTREAM_FULL})
FOR_ALL: Final = frozenset({UPSTREAM_FULL, UPSTREAM_BREAKER})
"""Refusals that no other endpoint of the upstream would change."""


def aim(exchange: Exchange, endpoint: Endpoint) -> None:
    """Send the request to this endpoint, if its breaker and limits let it: over an idle link, or a new one."""
    group = exchange.group
    assert group is not None
    # The first try begins in the callback that brought the request: its time is good enough.
    now_ns = exchange.started_ns
    if exchange.attempts or exchange.tries > 1 or exchange.is_pending or exchange.tried:
        now_ns = time.monotonic_ns()
    permit = group.begin(endpoint, now_ns)
    if type(permit) is int and permit < 0:
        _not_let_in(exchange, group, endpoint, permit)
        return
    exchange.permit = permit
    if group.has_stints:
        exchange.stint = group.stint(endpoint, exchange.wish, now_ns)
    exchange.reached = 0
    exchange.is_pending = False
    exchange.try_started_ns = now_ns
    place = exchange.downstream.service.world.place(endpoint)
    exchange.endpoint = endpoint
    exchange.endpoint_name = place.name
    pool = place.next_pool(exchange.tried_pools)
    if pool is None:
        next_one(exchange, Reason.CONNECT_FAILED if place.pools else Reason.NAME_UNRESOLVED)
        return
    exchange.pool = pool
    link = pool.take(for_once=exchange.head.method not in IDEMPOTENT)
    if link is None:
        connect(exchange, pool)
    else:
        exchange.attempts += 1
        _send(exchange, link)


def over(exchange: Exchange, outcome: int, reason: Reason = PROXIED, status: int = 0) -> None:
    """The try that is under way, if one is, has come to this (shm.places.SUCCESS, FAILURE, NEUTRAL).

    reason, status: how it ended and, if there was an answer that is known by nobody else, what it was; for the trace.
    """
    permit, group, endpoint = exchange.permit, exchange.group, exchange.endpoint
    if permit is None:
        return
    assert group is not None and endpoint is not None
    exchange.permit = None
    now_ns, began_ns = exchange.ended_ns or time.monotonic_ns(), exchange.try_started_ns
    answered_ns = exchange.answered_ns or now_ns
    group.finish(endpoint, permit, outcome, now_ns, answered_ns - began_ns)
    if exchange.stint is not None:
        exchange.stint.end(outcome)
        exchange.stint = None
    if exchange.answer_head is not None:
        status = exchange.answer_head.status
    exchange.trace.add(
        told(exchange, endpoint, exchange.reached, began_ns, answered_ns, now_ns, reason, status)
    )
    if group.waiting:
        group.wake()


def told(
    exchange: Exchange, endpoint: Endpoint, reached: int, began_ns: int, answered_ns: int, ended_ns: int,
    reason: Reason, status: int,
) -> Step:  # fmt: skip
    """The step of one try: times in µs, its beginning since that of the exchange, the others since its own."""
    return ATTEMPTED, endpoint.span, (
        endpoint.name, reached, (began_ns - exchange.started_ns) // 1000,
        (answered_ns - began_ns) // 1000 if status else 0, (ended_ns - began_ns) // 1000, reason._value_.number, status,
    )  # fmt: skip


def _not_let_in(exchange: Exchange, group: Group, endpoint: Endpoint, refusal: int) -> None:
    """Another try had the place, or the breaker opened, between the choice and now."""
    exchange.tried += (endpoint,)
    choice = None if refusal in FOR_ALL else group.choose(exchange.tried, exchange.wish)
    if choice is not None and choice.endpoint is not None:
        aim(exchange, choice.endpoint)
        return
    exchange.tried = ()
    if exchange.rival is not None:  # it goes on: no need to wait for room
        exchange.fail(Reason.UPSTREAM_FULL if refusal in FULL else Reason.BREAKER_OPEN)
        return
    if refusal in FULL and exchange.is_pending:
        group.waiting.appendleft(exchange)  # it keeps its place, and its deadline
        return
    if refusal in FULL and len(group.waiting) < group.upstream.max_pending:
        exchange.is_pending = True
        exchange.arm(group.upstream.pending_timeout_ns, Reason.UPSTREAM_FULL)
        group.waiting.append(exchange)
        return
    exchange.fail(Reason.UPSTREAM_FULL if refusal in FULL else Reason.BREAKER_OPEN)


def after_waiting(exchange: Exchange) -> None:
    """There may be room now: choose as if the request had just come."""
    group = exchange.group
    assert group is not None
    choice = group.choose((), exchange.wish)
    if choice.endpoint is None:
        exchange.fail(choice.refusal or Reason.NO_ENDPOINT)
    else:
        aim(exchange, choice.endpoint)


def next_one(exchange: Exchange, reason: Reason) -> None:
    """This attempt failed before anything was sent: try elsewhere, or fail with its reason."""
    task, exchange.connecting = exchange.connecting, None
    if task is not None:
        task.cancel()
    endpoint, upstream = exchange.endpoint, exchange.upstream
    assert endpoint is not None and upstream is not None
    service = exchange.downstream.service
    if exchange.pool is not None:
        count_failed_connect(service, endpoint)
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
    over(exchange, FAILURE, reason)
    exchange.tried += (endpoint,)
    other = world.choose_endpoint(upstream, exchange.tried, exchange.wish).endpoint
    if other is None:
        exchange.fail(reason)
    else:
        exchange.trace.step(Reason.TRIED_ANOTHER, upstream.span, endpoint.name, reason.word, other.name)
        aim(exchange, other)


def count_failed_connect(service: Service, endpoint: Endpoint) -> None:
    service.region.add(service.slot, Counter.UPSTREAM_CONNECT_FAILURES)
    service.region.toll(service.slot, endpoint.place, CONNECT_FAILURES)


def connect(exchange: Exchange, pool: Pool) -> None:
    """Make a new link; the only place where an exchange needs a task."""
    upstream = exchange.upstream
    assert upstream is not None
    exchange.attempts += 1
    exchange.arm(patience_ns(upstream), Reason.CONNECT_TIMEOUT)
    exchange.connecting = exchange.downstream.service.loop.create_task(_connect(exchange, pool))


def patience_ns(upstream: Upstream) -> int:
    """How long a link may take to be there. Over TLS both halves of that are timed besides (workers.handshakes)."""
    handshake_ns = 0 if upstream.tls is None else upstream.tls_handshake_timeout_ns
    return upstream.connect_timeout_ns + handshake_ns


async def _connect(exchange: Exchange, pool: Pool) -> None:
    task = asyncio.current_task()
    try:
        link, why, detail = await dial(pool)
    except Exception as fault:
        exchange.surprised(fault)
        return
    if exchange.connecting is not task:  # given up meanwhile
        if link is not None:
            link.abort()
        return
    connected(exchange, link, why, detail)


async def dial(pool: Pool) -> tuple[Link | None, Reason, str]:
    """A new link; or none, why (it is the endpoint's fault, unless it is OVERLOADED), and what a handshake came to."""
    try:
        return await pool.connect(), Reason.CONNECT_FAILED, ""
    except HandshakeFault as fault:
        return None, fault.reason, fault.detail
    except TimeoutError as fault:
        return None, Reason.CONNECT_FAILED if fault.errno is not None else Reason.CONNECT_TIMEOUT, ""
    except OSError as fault:
        return None, Reason.OVERLOADED if fault.errno in EXHAUSTED else Reason.CONNECT_FAILED, ""


def connected(exchange: Exchange, link: Link | None, why: Reason, detail: str) -> None:
    """The connection that the exchange waited for is there, or (None) could not be made."""
    exchange.connecting = None
    try:
        if why is Reason.OVERLOADED:
            service = exchange.downstream.service
            service.region.add(service.slot, Counter.OVERLOADS)
            exchange.fail(Reason.OVERLOADED)
        elif link is None or link.transport is None or link.transport.is_closing():
            say_why(exchange, exchange.endpoint, why, detail)
            next_one(exchange, why)
        else:
            _send(exchange, link)
    except Exception as fault:
        exchange.surprised(fault)


def say_why(exchange: Exchange, endpoint: Endpoint | None, why: Reason, detail: str) -> None:
    """What was said of a handshake that failed."""
    if detail and endpoint is not None and exchange.upstream is not None and exchange.upstream.tls is not None:
        exchange.trace.step(why, exchange.upstream.tls.span, endpoint.name, detail)


def say_how(exchange: Exchange, link: Link, secured: Facts) -> None:
    """How the connection is encrypted; in full when it is new."""
    upstream = exchange.upstream
    if upstream is not None and upstream.tls is not None:
        exchange.trace.add((Reason.TLS_SECURED, upstream.tls.span, secured if link.uses == 1 else secured[:1]))


def _send(exchange: Exchange, link: Link) -> None:
    """Write the head, and the part of the body that has come."""
    head, request, transport = exchange.head, exchange.request, link.transport
    assert request is not None and transport is not None
    exchange.link = link
    link.caller = exchange
    link.uses += 1
    exchange.reached = KEPT if link.uses > 1 else AGAIN if exchange.is_repeated else NEW
    if link.secured is not None:
        say_how(exchange, link, link.secured)
    authority = exchange.authority or _own_name(exchange.endpoint_name)
    drops = exchange.drops or exchange.downstream.service.drops
    dropped = drops.trusted if exchange.downstream.is_trusted else drops.strangers
    outward, tab, lines = exchange.outward, exchange.tab, exchange.lines
    if outward is None and tab is None:
        raw = build_request(head, request.target, authority, lines, dropped, head.chunked)
    else:
        raw = _head_anew(exchange, authority, lines, dropped if tab is None else drops.metered[dropped], outward)
    if exchange.backlog:
        raw = b"".join((raw, *exchange.backlog))
        exchange.backlog.clear()
    if link.uses > 1:
        service = exchange.downstream.service
        service.region.add(service.slot, UPSTREAM_REUSES)
    transport.write(raw)
    if transport.is_closing() and exchange.link is link:
        _refused_at_once(exchange, link)
        return
    exchange.was_sent = True
    if link.uses == 1 and exchange.retry is None:
        exchange.kept = None
    if exchange.body_done:
        upstream = exchange.upstream
        assert upstream is not None
        exchange.arm(upstream.first_byte_timeout_ns, FIRST_BYTE_TIMEOUT)
    else:
        exchange.deadline_ns, exchange.deadline_reason = exchange.try_ns, Reason.TRY_TIMEOUT
        soonest_ns = min(exchange.total_ns, exchange.try_ns)
        if soonest_ns < exchange.downstream.deadline_ns:
            exchange.downstream.deadline_ns = soonest_ns
        exchange.downstream.more()


def request_head(exchange: Exchange, name: str, more: bytes = b"", outward: Outward | None = None) -> bytes:
    """The head as the endpoint of this name gets it; `_send` does the same without a call.

    more: a shadow's lines. outward: what is said anew there.
    """
    request = exchange.request
    assert request is not None
    authority = exchange.authority or _own_name(name)
    drops = exchange.drops or exchange.downstream.service.drops
    dropped = drops.strangers
    if exchange.downstream.is_trusted:
        dropped = drops.shadows if more else drops.trusted
    if exchange.tab is not None:
        dropped = drops.metered[dropped]
    return _head_anew(exchange, authority, exchange.lines + more, dropped, outward)


def _head_anew(
    exchange: Exchange, authority: str, lines: bytes, dropped: frozenset[str], outward: Outward | None
) -> bytes:
    """The head, and what is said anew in it: by the tab, of the body and its answer; by a provider's stamp."""
    request, head, tab = exchange.request, exchange.head, exchange.tab
    assert request is not None
    target = request.target
    if outward is not None:
        target, authority = outward.target, outward.authority or authority
    raw = build_request(head, target, authority, lines, dropped, head.chunked)
    if tab is not None:
        raw = tab.head(raw, len(lines), head)
    return raw if outward is None else outward.head(raw)


def _own_name(name: str) -> str:
    """Whom to name in Host when the client (HTTP/1.0) named nobody."""
    return "localhost" if name.startswith("unix:") else name


def wait_for_answer(exchange: Exchange) -> None:
    upstream = exchange.upstream
    assert upstream is not None
    exchange.arm(upstream.first_byte_timeout_ns, Reason.FIRST_BYTE_TIMEOUT)


def link_died(exchange: Exchange, fault: Exception | None) -> None:
    """The link ended and there is no octet of an answer: repeat the request, or fail."""
    link, pool = exchange.link, exchange.pool
    assert link is not None and pool is not None
    has_whole_body = exchange.kept is not None or not exchange.has_body
    may_repeat = exchange.head.method in IDEMPOTENT and has_whole_body
    is_stale = link.uses > 1 and not exchange.is_repeated and exchange.interims == 0
    exchange.link = None
    link.abort()
    if is_stale and may_repeat:
        _repeat(exchange, pool)
    else:
        said = refused_late(fault) if link.uses == 1 else ""
        say_why(exchange, exchange.endpoint, Reason.TLS_REFUSED, said)
        exchange.fail(Reason.TLS_REFUSED if said else Reason.UPSTREAM_CLOSED)


def _refused_at_once(exchange: Exchange, link: Link) -> None:
    """The kernel took nothing of the request: whatever it is, it was not sent."""
    pool = exchange.pool
    assert pool is not None
    exchange.link = None
    link.abort()
    if exchange.kept is None and exchange.has_body:
        exchange.fail(Reason.UPSTREAM_CLOSED)  # too much of the body has come to keep it for another try
    elif exchange.is_repeated:
        next_one(exchange, Reason.CONNECT_FAILED)
    else:
        _repeat(exchange, pool)


def _repeat(exchange: Exchange, pool: Pool) -> None:
    exchange.is_repeated = True
    exchange.backlog = list(exchange.kept or ())
    connect(exchange, pool)
