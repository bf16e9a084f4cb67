"""Hedging: a second try beside the first, at another endpoint, when the first has been silent for too long.

Intuition: somebody waits at a counter, and after a while a friend queues at another one. Whoever is
served first calls the other back. If one counter closes, the friend at the other simply stays.

    first try ──hedge-after──▶ rival begins ──┬─ first has a good head ──▶ rival is cut      hedge-lost
                                              ├─ rival has a good head ──▶ it takes over     hedge-won
                                              ├─ first fails ────────────▶ rival takes over  hedge-failed
                                              └─ rival fails ────────────▶ first goes on     hedge-failed

Rules:
1. The exchange always holds one try, in its own fields; `Rival` is the other one, with a permit and a link of its
   own. Taking over is moving the rival's fields into the exchange's, whatever it was doing: from then on
   nothing tells it from a try that was alone.
2. A rival counts as one of `attempts` and takes from the fleet's budget of retries. There are never more than two
   tries under way. When one is left again, and `attempts` allow it, the time begins anew.
3. What may be sent again may be sent beside (core.retry): idempotent methods, or `unsafe-methods`, and only a
   body that has come and was kept whole. Not what asks for an interim answer or a tunnel, and nothing once an
   interim answer was there: the client may have seen it. Nor what a sticky cookie brought to its endpoint: another one
   does not know the client's session, and its answer would move him there for good.
4. A failed answer never wins while the other try is under way: a status that the route tries again, and any 5xx. An
   endpoint that fails quickly would win all races.
5. Who loses was slow, which says nothing about his health: NEUTRAL. Who failed is a FAILURE.
6. Routes without `hedge-after` know nothing of this: no timer, no object.

Rejected: a Caller that holds two links and an exchange above both. Every octet of every answer would pass through it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from sentinel.core.plan import Endpoint, Retry
from sentinel.core.reasons import Reason
from sentinel.core.retry import IDEMPOTENT, is_failed_answer, may_be_sent_again
from sentinel.core.span import NOWHERE
from shm.counters import Counter
from shm.places import FAILURE, NEUTRAL, SUCCESS
from workers import attempt
from workers.http1.faults import UpstreamFault
from workers.http1.heads import INTERIMS_MAX, RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, parse_response
from workers.pool import Link, Pool
from workers.timers import NEVER, SLACK_NS

if TYPE_CHECKING:
    from workers.exchange import Exchange
    from workers.places import Group, Permit

CUT_BOTH: Final = frozenset({Reason.TOTAL_TIMEOUT, Reason.FIRST_TOKEN_TIMEOUT})
"""What an upstream is blamed for, and no other try would change."""


def arm(exchange: Exchange, retry: Retry) -> None:
    """A try begins, or is left alone: another one begins beside it after a while."""
    if retry.hedge_ns and exchange.tries < retry.attempts:
        exchange.hedge = exchange.downstream.service.loop.call_later(retry.hedge_ns / 1e9, _due, exchange)


def settle(exchange: Exchange) -> None:
    """The try that the exchange holds is the one: nothing begins beside it, and what did is cut."""
    hedge, exchange.hedge = exchange.hedge, None
    if hedge is not None:
        hedge.cancel()
    rival, exchange.rival = exchange.rival, None
    if rival is not None:
        _step(exchange, Reason.HEDGE_LOST, exchange.endpoint_name, rival.name)
        rival.cut(NEUTRAL)


def goes_on(exchange: Exchange, rival: Rival, retry: Retry, reason: Reason | None, status: int) -> bool:
    """The try that the exchange holds failed for this reason, or has an answer of this status: does the rival go on?"""
    if reason is None:
        if not _is_bad(retry, status):
            return False
    elif reason.value.culprit != "upstream" or reason in CUT_BOTH:
        return False
    what = str(status) if reason is None else reason.word
    _step(exchange, Reason.HEDGE_FAILED, exchange.endpoint_name, what, rival.name)
    if exchange.endpoint is not None:
        exchange.tried += (exchange.endpoint,)
    outcome = FAILURE if reason is not None or status >= 500 else SUCCESS
    _take_over(exchange, rival, outcome, reason or Reason.PROXIED, status)
    arm(exchange, retry)
    return True


def _due(exchange: Exchange) -> None:
    """The try has been silent for so long."""
    exchange.hedge = None
    retry, group = exchange.retry, exchange.group
    if exchange.is_ended or exchange.answer_started or retry is None or group is None:
        return
    try:
        obstacle = _obstacle(exchange, retry)
        if not obstacle and (exchange.permit is None or not exchange.body_done):
            arm(exchange, retry)  # it waits for room, or for the client: not for the endpoint
            return
        obstacle = obstacle or _begin(exchange, retry, group)
        if obstacle:
            exchange.trace.step(Reason.HEDGE_DENIED, retry.span, exchange.endpoint_name, obstacle)
    except Exception as fault:
        exchange.surprised(fault)


def _obstacle(exchange: Exchange, retry: Retry) -> str:
    """Why the request cannot be sent to two endpoints; "" when it can."""
    head = exchange.head
    if head.upgrade or head.expect_continue or exchange.interims:
        return "it asks for more than one answer"
    if not may_be_sent_again(retry, head.method, was_sent=True):
        return f"{head.method} is not idempotent"
    if exchange.has_body and exchange.kept is None:
        return "its body is too large to be kept"
    if exchange.group is not None and exchange.group.is_followed(exchange.wish, exchange.endpoint):
        return "the client's cookie names it"
    return ""


def _begin(exchange: Exchange, retry: Retry, group: Group) -> str:
    """Begin the second try; returns what stands in its way, if something does."""
    first = exchange.endpoint
    assert first is not None
    choice = group.choose((*exchange.tried, first), exchange.wish)
    if choice.endpoint is None and exchange.tried:  # nobody who is fresh: one that failed before may do now
        choice = group.choose((first,), exchange.wish)
    endpoint = choice.endpoint
    if endpoint is None:
        return "there is no other endpoint"
    if not group.may_retry():
        return "the budget is used up"
    now_ns = time.monotonic_ns()
    permit = group.begin(endpoint, now_ns)
    if type(permit) is int and permit < 0:
        return f"{endpoint.name} takes no more"
    service = exchange.downstream.service
    service.region.add(service.slot, Counter.HEDGES)
    exchange.tries += 1
    exchange.tried += (endpoint,)  # nobody sends there a second time while the rival is at it
    rival = exchange.rival = Rival(exchange, retry, group, endpoint, permit, now_ns)
    exchange.trace.step(Reason.HEDGED, retry.span, first.name, retry.hedge_ns // 1_000_000, rival.name)
    rival.begin()
    return ""


def _take_over(exchange: Exchange, rival: Rival, outcome: int, reason: Reason, status: int = 0) -> None:
    """End the try that the exchange holds (for the trace: so), and put the rival in its place."""
    attempt.over(exchange, outcome, reason, status)
    task, exchange.connecting = exchange.connecting, rival.connecting
    if task is not None:
        task.cancel()
    link, exchange.link = exchange.link, rival.link
    if link is not None:
        link.abort()
    if rival.link is not None:
        rival.link.caller = exchange
    exchange.rival = None
    exchange.endpoint, exchange.endpoint_name = rival.endpoint, rival.name
    exchange.pool, exchange.tried_pools = rival.pool, ()
    exchange.stint = rival.stint
    exchange.permit, exchange.try_started_ns, exchange.reached = rival.permit, rival.started_ns, rival.reached
    exchange.is_repeated, exchange.was_sent = rival.is_repeated, rival.was_sent
    exchange.backlog = [] if rival.was_sent else list(exchange.kept or ())
    exchange.answer_part = rival.part
    exchange.answered_ns = 0
    exchange.try_ns = rival.try_ns
    exchange.deadline_ns, exchange.deadline_reason = rival.deadline_ns, rival.deadline_reason
    # The connection looks at the rival's deadline already: whoever set it has said so.


def _is_bad(retry: Retry, status: int) -> bool:
    return status >= 500 or is_failed_answer(retry, status)


def _step(exchange: Exchange, reason: Reason, *details: object) -> None:
    """What became of two tries names no place: `hedged` before it does, and a record has no room to say it twice."""
    exchange.trace.step(reason, NOWHERE, *details)


class Rival:
    """The second try of an exchange, until it takes over or is cut (workers.pool.Caller)."""

    __slots__ = (
        "connecting", "deadline_ns", "deadline_reason", "endpoint", "exchange", "group", "interims",
        "is_repeated", "link", "name", "part", "permit", "pool", "reached", "read_bytes", "retry", "started_ns",
        "stint", "try_ns", "was_sent",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, retry: Retry, group: Group, endpoint: Endpoint, permit: Permit, now_ns: int
    ) -> None:
        self.exchange = exchange
        self.retry = retry
        self.group = group
        self.endpoint = endpoint
        self.name = endpoint.name
        self.permit: Permit | None = permit
        self.stint = group.stint(endpoint, exchange.wish, now_ns) if group.has_stints else None
        self.started_ns = now_ns
        self.pool: Pool | None = None
        self.link: Link | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.was_sent = self.is_repeated = False
        self.reached = 0
        self.part = b""  # all that came: interim answers go to the client with the final one
        self.read_bytes = 0  # of it, in interim answers
        self.interims = 0
        ticker = exchange.downstream.service.ticker
        self.try_ns = ticker.after(retry.per_try_ns) if retry.per_try_ns else NEVER
        self.deadline_ns, self.deadline_reason = self.try_ns, Reason.TRY_TIMEOUT

    def begin(self) -> None:
        exchange = self.exchange
        place = exchange.downstream.service.world.place(self.endpoint)
        pool = self.pool = place.next_pool()
        if pool is None:
            self._failed(Reason.NAME_UNRESOLVED)
            return
        link = pool.take(for_once=exchange.head.method not in IDEMPOTENT)
        if link is None:
            self._connect(pool)
        else:
            exchange.attempts += 1
            self._send(link)

    def timed_out(self) -> None:
        if self.connecting is not None and self.deadline_reason is Reason.CONNECT_TIMEOUT:
            attempt.count_failed_connect(self.exchange.downstream.service, self.endpoint)
        self._failed(self.deadline_reason)

    def cut(self, outcome: int, reason: Reason = Reason.HEDGE_LOST, status: int = 0) -> None:
        """It came to this (for the trace: so): let go of all that it holds."""
        task, self.connecting = self.connecting, None
        if task is not None:
            task.cancel()
        link, self.link = self.link, None
        if link is not None:
            link.abort()
        permit, self.permit = self.permit, None
        if permit is not None:
            now_ns = time.monotonic_ns()
            self.group.finish(self.endpoint, permit, outcome, now_ns, now_ns - self.started_ns)
            if self.stint is not None:
                self.stint.end(outcome)
            self.exchange.trace.add(attempt.told(
                self.exchange, self.endpoint, self.reached, self.started_ns, now_ns, now_ns, reason, status
            ))  # fmt: skip
            if self.group.waiting:
                self.group.wake()

    # Its request.

    def _connect(self, pool: Pool) -> None:
        exchange, upstream = self.exchange, self.group.upstream
        exchange.attempts += 1
        self._arm(attempt.patience_ns(upstream), Reason.CONNECT_TIMEOUT)
        self.connecting = exchange.downstream.service.loop.create_task(self._connecting(pool))

    async def _connecting(self, pool: Pool) -> None:
        task, exchange = asyncio.current_task(), self.exchange
        try:
            link, why, detail = await attempt.dial(pool)
        except Exception as fault:
            exchange.surprised(fault)
            return
        if exchange.connecting is task:  # it has taken over meanwhile
            attempt.connected(exchange, link, why, detail)
        elif self.connecting is task:
            self._connected(link, why, detail)
        elif link is not None:
            link.abort()

    def _connected(self, link: Link | None, why: Reason, detail: str) -> None:
        self.connecting = None
        try:
            if why is Reason.OVERLOADED:
                self._failed(why)
            elif link is None or link.transport is None or link.transport.is_closing():
                attempt.count_failed_connect(self.exchange.downstream.service, self.endpoint)
                attempt.say_why(self.exchange, self.endpoint, why, detail)
                self._failed(why)
            else:
                self._send(link)
        except Exception as fault:
            self.surprised(fault)

    def _send(self, link: Link) -> None:
        exchange, transport = self.exchange, link.transport
        assert transport is not None
        self.link = link
        link.caller = self
        link.uses += 1
        self.reached = attempt.KEPT if link.uses > 1 else attempt.AGAIN if self.is_repeated else attempt.NEW
        if link.secured is not None:
            attempt.say_how(exchange, link, link.secured)
        if link.uses > 1:
            service = exchange.downstream.service
            service.region.add(service.slot, Counter.UPSTREAM_REUSES)
        head = attempt.request_head(exchange, self.name, outward=exchange.outward)
        transport.write(b"".join((head, *(exchange.kept or ()))))
        if transport.is_closing() and self.link is link:
            self._ended()
            return
        self.was_sent = True
        self._arm(self.group.upstream.first_byte_timeout_ns, Reason.FIRST_BYTE_TIMEOUT)

    # Its answer.

    def answer_bytes(self, data: bytes) -> None:
        if self.part:
            data = self.part + data
        try:
            head = parse_response(
                data, self.read_bytes, RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, self.exchange.head.method
            )
            while head is not None and head.status < 200:
                self.interims += 1
                if head.status == 101 or self.interims > INTERIMS_MAX:
                    self._failed(Reason.UPSTREAM_MALFORMED)
                    return
                self.read_bytes += head.size
                head = parse_response(
                    data, self.read_bytes, RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, self.exchange.head.method
                )
        except UpstreamFault as fault:
            self._failed(fault.reason)
            return
        if head is None:
            if not self.part:
                self._arm(self.group.upstream.idle_timeout_ns, Reason.UPSTREAM_IDLE_TIMEOUT)
            self.part = data
        elif _is_bad(self.retry, head.status):
            self._failed(None, head.status)
        else:
            self._win(data)

    def _win(self, data: bytes) -> None:
        exchange = self.exchange
        service = exchange.downstream.service
        service.region.add(service.slot, Counter.HEDGES_WON)
        _step(exchange, Reason.HEDGE_WON, self.name, exchange.endpoint_name)
        self.part = b""
        _take_over(exchange, self, NEUTRAL, Reason.HEDGE_WON)
        exchange.answer_bytes(data)

    def answer_eof(self) -> None:
        self._ended()

    def link_lost(self, fault: Exception | None) -> None:
        self._ended()

    def link_paused(self) -> None:
        """The body was kept whole: there is nobody to be paused."""

    def link_resumed(self) -> None:
        pass

    def surprised(self, fault: BaseException) -> None:
        self.exchange.surprised(fault)

    def _ended(self) -> None:
        """The link ended before the head was there. One that was used before may have died unseen: once more."""
        link, pool = self.link, self.pool
        if link is None or pool is None:
            return
        self.link = None
        link.abort()
        if link.uses > 1 and not self.is_repeated and not self.part:
            self.is_repeated, self.was_sent = True, False
            self._connect(pool)
        else:
            self._failed(Reason.UPSTREAM_CLOSED)

    def _failed(self, reason: Reason | None, status: int = 0) -> None:
        """The first try goes on alone."""
        exchange = self.exchange
        exchange.rival = None
        what = str(status) if reason is None else reason.word
        _step(exchange, Reason.HEDGE_FAILED, self.name, what, exchange.endpoint_name)
        if reason is Reason.OVERLOADED:  # nobody was asked
            self.cut(NEUTRAL, reason)
        else:
            self.cut(FAILURE if reason is not None or status >= 500 else SUCCESS, reason or Reason.PROXIED, status)
        arm(exchange, self.retry)

    def _arm(self, timeout_ns: int, reason: Reason) -> None:
        """From now on its endpoint has so long."""
        downstream = self.exchange.downstream
        self.deadline_ns, self.deadline_reason = downstream.service.ticker.now_ns + timeout_ns + SLACK_NS, reason
        if self.try_ns < self.deadline_ns:
            self.deadline_ns, self.deadline_reason = self.try_ns, Reason.TRY_TIMEOUT
        if self.deadline_ns < downstream.deadline_ns:
            downstream.deadline_ns = self.deadline_ns
