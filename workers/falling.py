"""Falling back: what happens between a model that failed and the next one on its line's list.

    a try failed, or its answer is a failure ──▶ listed, and somebody left? ──no──▶ that is what the client gets
                                                     │yes
                    give back what was put aside ──▶ decide for the next one ──▶ its body, its head, its endpoint

The rules are the core's (core.fallbacks), and so is the decision (core.decide); the route's own `retry` has had its
turn before. Here is what must be taken back, as for another try, and the waiting for a first token.

Where somebody is left to ask, the head of a stream is held back until its first event is there: providers that are
overloaded say so in it, behind a head that says 200. Both leave in one write.

Where the line has `first-token-timeout` besides, it is held back until its first token is there: once it has gone to
the client nothing can be done any more. No token comes later than it would have. At most HELD_BYTES_MAX are held; a
stream that has said so much without one is let go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sentinel.core.decide import fall_back
from sentinel.core.fallbacks import falls_on, falls_on_answer, status_of
from sentinel.core.reasons import Reason
from sentinel.core.verdict import Forward
from sentinel.inference.adapters import Framing, framing_of
from sentinel.inference.meter import Meter
from sentinel.inference.sheet import Failure
from shm.places import FAILURE, SUCCESS
from workers import attempt
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import UpstreamFault
from workers.http1.heads import ResponseHead
from workers.inflating import INFLATERS
from workers.timers import NEVER

if TYPE_CHECKING:
    from sentinel.core.models import Errand
    from sentinel.inference.ask import Ask
    from workers.exchange import Exchange

HELD_BYTES_MAX: Final = 64 * 1024
END_OF_EVENT: Final = re.compile(rb"\n\r?\n|\r\r|[^\x00-\x1f]\r?\n(?=\{)").search
"""Of server-sent events; or of lines, where the next one has begun."""
END_BYTES: Final = 3
"""So much of what came before may belong to it."""
Beginning = tuple[ResponseHead, bytes]
"""The head of an answer, and its octets so far, the head's among them."""


def again(exchange: Exchange, errand: Errand, reason: Reason | None, status: int = 0) -> bool:
    """A try ended for this reason, or with an answer of this status: is another model asked? If so, that has begun."""
    fallback, tab, request, route = errand.first.fallback, exchange.tab, exchange.request, exchange.route
    if fallback is None or errand.following is None or tab is None or request is None or route is None:
        return False
    if exchange.interims or exchange.is_tunnel or exchange.is_ended:
        return False
    if tab.collector is not None:  # its head was taken for the answer's
        return False
    if not (falls_on_answer(fallback, status) if reason is None else falls_on(fallback, reason)):
        return False
    what = str(status) if reason is None else reason.word
    tab.withdraw()
    service = exchange.downstream.service
    verdict = fall_back(service.table, route, request, errand, what, service.world, exchange.trace)
    if type(verdict) is not Forward:
        tab.remain()
        return False
    outcome = FAILURE if reason is not None or status >= 500 else SUCCESS
    attempt.over(exchange, outcome, reason or Reason.PROXIED, status)
    exchange.drop_link()
    _take_back(exchange)
    exchange.forward(verdict)
    return True


def expect(exchange: Exchange, errand: Errand) -> None:
    """The request is sent to a model: if somebody else is left to ask, its first token has so long."""
    fallback = errand.first.fallback
    if fallback is not None and fallback.first_token_ns and errand.following is not None:
        loop = exchange.downstream.service.loop
        exchange.patience = loop.call_later(fallback.first_token_ns / 1e9, _too_late, exchange)


def holds(exchange: Exchange, head: ResponseHead, data: bytes) -> bool:
    """The head of an answer is there: is it held back until its first token is?"""
    tab, errand = exchange.tab, exchange.errand
    if tab is None or tab.was_held or errand is None or errand.following is None:
        return False
    if tab.ask.is_stream and 200 <= head.status < 300:
        hold = Hold(tab.asked, head, is_for_token=exchange.patience is not None)
        if hold.is_stream or hold.is_for_token:
            exchange.hold = hold
            tab.was_held = True
            return held(exchange, data) is None
    _be_patient(exchange)
    return False


def held(exchange: Exchange, data: bytes) -> Beginning | None:
    """Octets of an answer that is held back, its head first; returns what may go to the client now."""
    hold = exchange.hold
    assert hold is not None
    try:
        hold.feed(data)
    except UpstreamFault as fault:
        exchange.hold = None
        exchange.fail(fault.reason)
        return None
    if not hold.is_over:
        return None
    failure, errand = hold.failure, exchange.errand
    if failure is not None and errand is not None:
        exchange.hold = None
        if again(exchange, errand, None, status_of(failure.kind)):
            return None
    return _let_go(exchange, hold)


def broke_off(exchange: Exchange, hold: Hold, fault: Exception | None) -> Beginning | None:
    """The upstream has no more to say, and there was no token: what may go to the client, if that was all."""
    if hold.head.until_close and fault is None:
        return _let_go(exchange, hold)
    exchange.hold = None
    exchange.fail(Reason.UPSTREAM_ABORTED)
    return None


class Hold:
    """The beginning of a stream that nobody has seen yet."""

    __slots__ = (
        "_bytes", "_chunks", "_is_encoded", "_left", "_meter", "_said", "head", "is_for_token", "is_over", "is_stream",
        "pieces",
    )  # fmt: skip

    def __init__(self, ask: Ask, head: ResponseHead, *, is_for_token: bool) -> None:
        fields = dict(head.headers)
        kind, encoding = fields.get("content-type", ""), fields.get("content-encoding", "")
        self.head = head
        self.is_for_token = is_for_token  # and not only for an event
        self.is_stream = framing_of(ask.dialect, kind, is_stream=True) is not Framing.WHOLE
        self.pieces: list[bytes] = []
        self.is_over = False
        self._meter = Meter(ask, content_type=kind, encoding=encoding, inflaters=INFLATERS)
        self._is_encoded = bool(encoding)
        self._said = b""
        self._chunks = ChunkedBody(reframe=False, fault=UpstreamFault) if head.chunked else None
        self._left = head.content_length
        self._bytes = -head.size

    def feed(self, data: bytes) -> None:
        """Take octets, the head among them; `is_over`: a token is there, or the end, or too much."""
        payload = data[self.head.size :] if not self.pieces else data
        self.pieces.append(data)
        self._bytes += len(data)
        is_whole = False
        if self._chunks is not None:
            payload, _ = self._chunks.feed(payload)
            is_whole = self._chunks.done
        elif self._left >= 0:
            is_whole = self._bytes >= self._left
        self._meter.feed(payload)
        self.is_over = self._meter.has_begun or is_whole or self._bytes >= HELD_BYTES_MAX
        if not self.is_over and payload:
            self.is_over = self.failure is not None or not (self.is_for_token or self._is_within_an_event(payload))

    @property
    def failure(self) -> Failure | None:
        """What went wrong, if that is all that it says."""
        return None if self._meter.has_begun else self._meter.reading().failure

    def _is_within_an_event(self, payload: bytes) -> bool:
        """Whether nothing has come to an end yet: an event, or a comment that keeps the client waiting."""
        said = self._said + payload
        self._said = said[-END_BYTES:]
        return not self._is_encoded and END_OF_EVENT(said) is None


def _let_go(exchange: Exchange, hold: Hold) -> Beginning:
    exchange.hold = None
    _be_patient(exchange)
    return hold.head, b"".join(hold.pieces)


def _be_patient(exchange: Exchange) -> None:
    """The first token is there, or no other model would be asked any more."""
    patience, exchange.patience = exchange.patience, None
    if patience is not None:
        patience.cancel()


def _too_late(exchange: Exchange) -> None:
    exchange.patience = None
    if exchange.is_ended or exchange.answer_started:
        return
    try:
        exchange.fail(Reason.FIRST_TOKEN_TIMEOUT)
    except Exception as fault:
        exchange.surprised(fault)


def _take_back(exchange: Exchange) -> None:
    """As if nobody had been asked; what was counted and told stays."""
    if exchange.is_pending and exchange.group is not None and exchange in exchange.group.waiting:
        exchange.group.waiting.remove(exchange)
    exchange.was_sent = exchange.is_repeated = exchange.is_pending = False
    exchange.answer_part = b""
    exchange.answered_ns = 0
    exchange.tries = 0
    exchange.tried, exchange.tried_pools = (), ()
    exchange.pool = None
    exchange.deadline_ns = exchange.try_ns = NEVER
    exchange.answer_lines = exchange.id_line + exchange.downstream.intake.promise
