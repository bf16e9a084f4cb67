"""The way of an answer: from a link's octets to the client, as they come.

Intuition: a hose with two couplings. The framing on the upstream's side (a length,
chunks, or the end of the connection) may be another than on the client's side, but
the water is passed on as it comes, and never collected.

Rules:
1. An answer is complete to the octet, or the client's connection is cut: a short body never
   looks whole. What comes after the end of an answer spoils the link.
2. Interim answers (1xx) pass, at most INTERIMS_MAX; `100 Continue` only to whom asked for it,
   and none to HTTP/1.0. A 101 that nobody asked for is malformed.
3. A small head and body leave in one write; larger ones are handed over without a copy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sentinel.core.reasons import Reason
from workers import attempt, falling, guarding, hedging, interpreting, metering, retrying
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import UpstreamFault
from workers.http1.heads import (
    INTERIMS_MAX,
    RESPONSE_BYTES_MAX,
    RESPONSE_HEADERS_MAX,
    ResponseHead,
    build_response,
    parse_response,
)  # fmt: skip
from workers.timers import NEVER, SLACK_NS

if TYPE_CHECKING:
    from workers.exchange import Exchange
    from workers.metering import Tab

PROXIED: Final = Reason.PROXIED

HELD_BYTES_MAX: Final = 64 * 1024
"""Of an answer whose head shall say what it took (`response-headers`): so much is held until it is whole."""
COPIED_BYTES_MAX: Final = 16 * 1024
"""Up to here joining head and body is cheaper than a second buffer in the write."""


def head_arrived(exchange: Exchange, data: bytes) -> None:
    """Octets before the final head is complete, or before it may go to the client."""
    if exchange.hold is not None:
        beginning = falling.held(exchange, data)
        if beginning is not None:
            final(exchange, *beginning)
        return
    while True:
        if exchange.answer_part:
            data = exchange.answer_part + data
        try:
            head = parse_response(data, 0, RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, exchange.head.method)
        except UpstreamFault as fault:
            exchange.fail(fault.reason)
            return
        if head is None:
            _wait_for_rest(exchange, data)
            return
        exchange.answer_part = b""
        if head.status >= 200:
            if exchange.tab is not None and exchange.tab.has_headers and _is_held(exchange, head, data):
                return
            final(exchange, head, data)
            return
        if head.status == 101:
            _tunnel(exchange, head, data)
            return
        exchange.interims += 1
        hedging.settle(exchange)
        if exchange.interims > INTERIMS_MAX:
            exchange.fail(Reason.UPSTREAM_MALFORMED)
            return
        _interim(exchange, head)
        data = data[head.size :]
        if not data:
            return


def _is_held(exchange: Exchange, head: ResponseHead, data: bytes) -> bool:
    """Whether the answer waits for the rest of its body, and with it its head, which shall say what it took."""
    length, have = head.content_length, len(data) - head.size
    if not 200 <= head.status < 300 or not have < length <= HELD_BYTES_MAX:
        return False
    exchange.answer_part = b""  # each piece has its own time
    _wait_for_rest(exchange, data)
    return True


def _wait_for_rest(exchange: Exchange, data: bytes) -> None:
    upstream = exchange.upstream
    assert upstream is not None
    if not exchange.answer_part:
        exchange.arm(upstream.idle_timeout_ns, Reason.UPSTREAM_IDLE_TIMEOUT)
    exchange.answer_part = data


def _interim(exchange: Exchange, head: ResponseHead) -> None:
    request = exchange.head
    if request.minor == 0 or (head.status == 100 and not request.expect_continue):
        return
    raw, _ = build_response(head, b"", True, request.minor, exchange.downstream.intake.dropped_from_answers)
    exchange.bytes_out += len(raw)
    exchange.downstream.write(raw)


def final(exchange: Exchange, head: ResponseHead, data: bytes) -> None:
    downstream, request, size = exchange.downstream, exchange.head, head.size
    retry = exchange.retry
    if retry is not None:
        if retrying.again(exchange, retry, None, head.status):
            return
        if exchange.hedge is not None or exchange.rival is not None:
            hedging.settle(exchange)
        exchange.try_ns = NEVER
    errand = exchange.errand
    if errand is not None and (
        falling.again(exchange, errand, None, head.status) or falling.holds(exchange, head, data)
    ):
        return
    group = exchange.group
    if group is not None and group.chooser.tags is not None:
        exchange.answer_lines += group.tag(exchange)
    tab, have = exchange.tab, len(data) - size
    if tab is not None:
        interpreter = tab.interpreter
        if interpreter is not None and interpreting.collects(exchange, tab, interpreter, head):
            _delivered(exchange, interpreting.begin(exchange, tab, interpreter, head, data))
            return
        if interpreter is None:
            tab.begin(head, exchange.stint)
        if tab.escort is not None and tab.escort.collects(head, tab.ask):
            _delivered(exchange, interpreting.begin(exchange, tab, tab.escort, head, data))
            return
        if tab.has_headers:
            is_whole = have >= head.content_length >= 0
            exchange.answer_lines += tab.answer_lines(data[size : size + head.content_length] if is_whole else None)
    keep = exchange.may_keep_alive()
    dropped = downstream.intake.dropped_from_answers
    raw, framing = build_response(head, exchange.answer_lines, keep, request.minor, dropped)
    exchange.answer_started = True
    exchange.answer_head = head
    exchange.status = head.status
    exchange.keep_alive = keep and framing != "close"
    exchange.framing = framing
    if have != head.content_length:  # the end is not yet there: it has a time of its own
        exchange.answered_ns = time.monotonic_ns()
    if framing == "none":
        exchange.bytes_out += len(raw)
        downstream.write(raw)
        _complete(exchange, have == 0)
        return
    if head.content_length >= 0:
        left = head.content_length - have
        if left < 0:
            data, have = data[: size + head.content_length], head.content_length
        exchange.answer_left = left
        exchange.bytes_out += len(raw) + have
        if tab is not None:
            tab.feed(data[size:])
        if have > COPIED_BYTES_MAX:
            downstream.write_all((raw, memoryview(data)[size:]))
        else:
            downstream.write(raw + data[size:] if have else raw)
        if left <= 0:
            _complete(exchange, left == 0)
            return
    else:
        if head.chunked:
            exchange.answer_body = ChunkedBody(reframe=framing == "chunked" and tab is None, fault=UpstreamFault)
        exchange.bytes_out += len(raw)
        downstream.write(raw)
        if have:
            body_arrived(exchange, data[size:])
            if exchange.is_ended:
                return
    upstream = exchange.upstream
    assert upstream is not None
    exchange.arm(upstream.idle_timeout_ns, Reason.UPSTREAM_IDLE_TIMEOUT)


def body_arrived(exchange: Exchange, data: bytes) -> None:
    """Octets of the answer's body."""
    downstream, left = exchange.downstream, exchange.answer_left
    upstream = exchange.upstream
    assert upstream is not None
    # Only ever moved later here: no word to the ticker.
    exchange.deadline_ns = downstream.service.ticker.now_ns + upstream.idle_timeout_ns + SLACK_NS
    tab = exchange.tab
    if tab is not None and tab.collector is not None:
        _delivered(exchange, interpreting.collect(exchange, tab, tab.collector, data))
        return
    if left >= 0:
        left -= len(data)
        exchange.answer_left = left
        out = data if left >= 0 else data[:left]
        exchange.bytes_out += len(out)
        if exchange.tab is not None:
            exchange.tab.feed(out)
        downstream.write(out)
        if left <= 0:
            _complete(exchange, left == 0)
    elif exchange.answer_body is not None:
        _chunks(exchange, exchange.answer_body, data)
        if tab is not None:
            _stop(exchange, tab)
    else:
        if tab is not None:
            data = tab.feed(data)
            if not data:
                return
        exchange.bytes_out += len(data)
        if exchange.framing == "chunked":
            downstream.write_all((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            downstream.write(data)
        if tab is not None:
            _stop(exchange, tab)


def _stop(exchange: Exchange, tab: Tab) -> None:
    """End it, if a guardrail or a budget has."""
    if tab.escort is not None:
        guarding.stop(exchange, tab.escort)
    if tab.is_over:
        metering.stop_here(exchange, tab)


def _chunks(exchange: Exchange, body: ChunkedBody, data: bytes) -> None:
    if exchange.framing == "chunked" and (payload := body.one(data)) is not None:
        tab = exchange.tab
        out = payload if tab is None else tab.feed(payload)
        if out is not payload:
            data = b"%x\r\n%b\r\n" % (len(out), out) if out else b""
        if data:
            exchange.bytes_out += len(data)
            exchange.downstream.write(data)
        return
    try:
        out, used = body.feed(data)
    except UpstreamFault as fault:
        exchange.fail(fault.reason)
        return
    if exchange.tab is not None:
        out = _metered(exchange, exchange.tab, body, out)
    if out:
        exchange.bytes_out += len(out)
        exchange.downstream.write(out)
    if body.done:
        _complete(exchange, used == len(data))


def _metered(exchange: Exchange, tab: Tab, body: ChunkedBody, payload: bytes) -> bytes:
    """The payload as its meter lets it go on, framed as the client shall get it."""
    out = tab.feed(payload) if payload else b""
    if body.done:
        out += tab.finish()
    if exchange.framing != "chunked":
        return out
    framed = b"%x\r\n%b\r\n" % (len(out), out) if out else b""
    if body.done:
        trailers = "".join([f"{name}: {value}\r\n" for name, value in body.trailers]).encode("latin-1")
        framed += b"0\r\n" + trailers + b"\r\n"
    return framed


def ended(exchange: Exchange, fault: Exception | None) -> None:
    """The upstream said that it has no more to say, or (with a fault) broke off."""
    head = exchange.answer_head
    if head is None:
        if exchange.hold is not None:
            beginning = falling.broke_off(exchange, exchange.hold, fault)
            if beginning is not None:
                final(exchange, *beginning)
                if not exchange.is_ended:
                    ended(exchange, fault)
        elif exchange.answer_part:
            exchange.fail(Reason.UPSTREAM_CLOSED)
        else:
            attempt.link_died(exchange, fault)
    elif head.until_close and fault is None and exchange.tab is not None and exchange.tab.collector is not None:
        _delivered(exchange, exchange.tab.collector.deliver(exchange, exchange.tab, is_clean=False))
    elif head.until_close and fault is None:
        if exchange.tab is not None and (rest := exchange.tab.finish()):
            exchange.bytes_out += len(rest)
            exchange.downstream.write(b"%x\r\n%b\r\n" % (len(rest), rest) if exchange.framing == "chunked" else rest)
        if exchange.framing == "chunked":
            exchange.bytes_out += 5
            exchange.downstream.write(b"0\r\n\r\n")
        _complete(exchange, False)
    else:
        exchange.fail(Reason.UPSTREAM_ABORTED)


def _delivered(exchange: Exchange, is_clean: bool | None) -> None:
    """An answer that was collected has been said, if it is whole."""
    if is_clean is not None:
        _complete(exchange, is_clean)


def _complete(exchange: Exchange, is_clean: bool) -> None:
    """The whole answer has gone to the client's transport."""
    link, pool, head = exchange.link, exchange.pool, exchange.answer_head
    assert link is not None and pool is not None and head is not None
    exchange.link = None
    transport = link.transport
    if is_clean and head.keep_alive and exchange.body_done and transport is not None:
        if exchange.downstream.is_write_paused:
            transport.resume_reading()
        # A request that is still in our buffer was answered before it was heard: such a link is not kept.
        if transport.get_write_buffer_size() == 0:
            pool.give_back(link)
        else:
            link.abort()
    else:
        link.abort()
    tab = exchange.tab
    stopped = None if tab is None else tab.stopped
    exchange.end(stopped or PROXIED, exchange.keep_alive)


# Tunnels.


def _tunnel(exchange: Exchange, head: ResponseHead, data: bytes) -> None:
    """The upstream agrees to another protocol: from here on octets are only carried."""
    downstream, upstream, link = exchange.downstream, exchange.upstream, exchange.link
    assert upstream is not None and link is not None and link.transport is not None
    if not exchange.head.upgrade or not exchange.body_done:
        exchange.fail(Reason.UPSTREAM_MALFORMED)
        return
    dropped = exchange.downstream.intake.dropped_from_answers
    raw, _ = build_response(head, exchange.answer_lines, True, exchange.head.minor, dropped)
    raw += data[head.size :]
    exchange.answered_ns = time.monotonic_ns()
    exchange.is_tunnel = True
    exchange.answer_started = True
    exchange.answer_head = head
    exchange.status = 101
    exchange.total_ns = 1 << 62  # a route's timeout is for answers; a tunnel lives while it is used
    exchange.bytes_out += len(raw)
    exchange.arm(tunnel_idle_ns(exchange), Reason.UPSTREAM_IDLE_TIMEOUT)
    downstream.write(raw)
    downstream.tunnel_opened()


def tunnel_idle_ns(exchange: Exchange) -> int:
    upstream = exchange.upstream
    assert upstream is not None
    return max(upstream.idle_timeout_ns, exchange.downstream.intake.listener.idle_timeout_ns)


def from_tunnel(exchange: Exchange, data: bytes) -> None:
    downstream = exchange.downstream
    exchange.deadline_ns = downstream.service.ticker.now_ns + tunnel_idle_ns(exchange) + SLACK_NS
    exchange.bytes_out += len(data)
    downstream.write(data)


def to_tunnel(exchange: Exchange, data: bytes) -> None:
    exchange.deadline_ns = exchange.downstream.service.ticker.now_ns + tunnel_idle_ns(exchange) + SLACK_NS
    exchange.bytes_in += len(data)
    link = exchange.link
    if link is not None and link.transport is not None:
        link.transport.write(data)


def client_fell_silent(exchange: Exchange) -> None:
    """The client's half of the tunnel has ended; the other half may last."""
    link = exchange.link
    exchange.client_is_silent = True
    if exchange.upstream_is_silent or link is None or link.transport is None:
        exchange.end_tunnel()
    else:
        link.transport.write_eof()


def upstream_fell_silent(exchange: Exchange) -> None:
    """The upstream's half has ended; the client's may last, if its transport can be told so."""
    transport = exchange.downstream.transport
    exchange.upstream_is_silent = True
    if exchange.client_is_silent or transport is None or transport.is_closing() or not transport.can_write_eof():
        exchange.end_tunnel()
    else:
        transport.write_eof()
