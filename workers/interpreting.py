"""Answers of providers that speak another dialect than the client: said anew on their way back.

Intuition: an interpreter between two people. A speech he translates while it is held; a letter he has to have read to
its end before he can write it in the other language, since it says on top how long it is.

    stream without a length ─▶ goes the way of all answers, event by event (the tab's `feed`)
    all else                ─▶ collected, up to COLLECTED_BYTES_MAX; then said with a length of its own

Rules:
1. The meter reads what the provider said, before it is translated: accounts are as exact as without.
2. While an answer is collected nothing was sent: what goes wrong meanwhile is a refusal in the client's dialect.
3. What has no word in the client's dialect is 502, and names what it was. It is no failure of the endpoint: what a
   model says depends on who asks, and nobody may open a circuit breaker by asking for it.
4. The client's key goes on in the provider's field. Fields that only tell of a dialect's versions stay behind.
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from sentinel.core.reasons import Reason
from sentinel.inference.dialect import Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.translate.pairs import Pair
from sentinel.inference.translate.streams import Stream
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import UpstreamFault
from workers.http1.heads import RESPONSE_BYTES_MAX, RESPONSE_HEADERS_MAX, ResponseHead, build_response, parse_response

if TYPE_CHECKING:
    from workers.exchange import Exchange
    from workers.metering import Tab

COLLECTED_BYTES_MAX: Final = 4 * 1024 * 1024
"""As much as a meter reads of a JSON body; a model's answer has a hundredth of it."""
EVENTS: Final = "text/event-stream"
PLAIN: Final = ("", "identity")
STALE: Final = frozenset({
    "content-length", "content-type", "content-encoding", "content-md5", "content-digest", "repr-digest", "digest",
    "etag", "transfer-encoding", "connection", "keep-alive", "trailer", "upgrade", "te",
})  # fmt: skip
"""Fields of an answer that do not hold for what is made of it."""
FRAMING: Final = frozenset({
    "content-length", "content-type", "transfer-encoding", "connection", "keep-alive", "trailer",
})  # fmt: skip
"""Those that do not hold for the same octets, sent with a length."""
VERSION: Final = b"anthropic-version: 2023-06-01\r\n"
LEFT_BEHIND: Final = re.compile(
    rb"\r\n(?:openai-(?:organization|project|beta)|anthropic-(?:version|beta|dangerous-direct-browser-access)):[^\r\n]*",
    re.IGNORECASE,
)
BEARER: Final = re.compile(rb"\r\nauthorization:[ \t]*bearer[ \t]+([^\r\n]*)", re.IGNORECASE)
KEY: Final = re.compile(rb"\r\nx-api-key:[ \t]*([^\r\n]*)", re.IGNORECASE)
AUTHORIZATION: Final = re.compile(rb"\r\nauthorization:", re.IGNORECASE)


def said_head(raw: bytes, pair: Pair) -> bytes:
    """The fields of a request as a client of the provider's own dialect would write them."""
    raw = LEFT_BEHIND.sub(b"", raw)
    if pair.provider is Dialect.ANTHROPIC_MESSAGES:
        raw = BEARER.sub(b"", raw) if KEY.search(raw) else BEARER.sub(rb"\r\nx-api-key: \1", raw)
        return raw[:-2] + VERSION + b"\r\n"
    return KEY.sub(b"", raw) if AUTHORIZATION.search(raw) else KEY.sub(rb"\r\nauthorization: Bearer \1", raw)


class Interpreter:
    """Between one client and its provider."""

    __slots__ = ("_collected", "_collected_bytes", "_is_finished", "body", "chunks", "left", "pair", "stream",
                 "wants_usage")  # fmt: skip

    def __init__(self, pair: Pair, body: bytes, *, wants_usage: bool) -> None:
        self.pair = pair
        self.body = body  # of the request, as the provider shall get it
        self.wants_usage = wants_usage
        self.stream: Stream | None = None
        self.left = -1
        self.chunks: ChunkedBody | None = None
        self._collected: list[bytes] = []
        self._collected_bytes = 0
        self._is_finished = False

    def open_stream(self) -> Stream:
        return self.pair.stream(int(time.time()), wants_usage=self.wants_usage)

    def feed(self, data: bytes) -> bytes:
        return b"" if self.stream is None else self.stream.feed(data)

    def finish(self, rest: bytes) -> bytes:
        if self.stream is None or self._is_finished:
            return b""
        self._is_finished = True
        return self.stream.feed(rest) + self.stream.finish()

    def keep(self, data: bytes) -> bool:
        """Collect; says whether it is still within bounds."""
        self._collected.append(data)
        self._collected_bytes += len(data)
        return self._collected_bytes <= COLLECTED_BYTES_MAX

    def refuse(self, exchange: Exchange, why: str) -> None:
        _refuse(exchange, why)

    def deliver(self, exchange: Exchange, tab: Tab, *, is_clean: bool) -> bool | None:
        return _deliver(exchange, tab, self, is_clean=is_clean)

    def said(self, head: ResponseHead, content_type: str) -> tuple[int, bytes]:
        """Status and body of a collected answer for the client; raises InferenceFault."""
        body = b"".join(self._collected)
        if not 200 <= head.status < 300:
            return self.pair.failure(head.status, body)
        if content_type.startswith(EVENTS):
            stream = self.stream = self.open_stream()
            return head.status, stream.feed(body) + stream.finish()
        return head.status, self.pair.answer(body, int(time.time()))


def collects(exchange: Exchange, tab: Tab, interpreter: Interpreter, head: ResponseHead) -> bool:
    """Whether the answer has to be whole before it can be said; otherwise it is said as it comes."""
    tab.begin(head, exchange.stint)
    fields = dict(head.headers)
    is_stream = (
        200 <= head.status < 300 and head.content_length < 0 and (head.chunked or head.until_close)
        and fields.get("content-type", "").lower().startswith(EVENTS) and fields.get("content-encoding", "") in PLAIN
    )  # fmt: skip
    if is_stream:
        interpreter.stream = interpreter.open_stream()
    return not is_stream


class Collector(Protocol):
    """Who has to have an answer whole before it can be said: an interpreter, or guardrails (workers.guarding)."""

    left: int
    chunks: ChunkedBody | None

    def keep(self, data: bytes) -> bool: ...

    def refuse(self, exchange: Exchange, why: str) -> None: ...

    def deliver(self, exchange: Exchange, tab: Tab, *, is_clean: bool) -> bool | None: ...


def begin(exchange: Exchange, tab: Tab, collector: Collector, head: ResponseHead, data: bytes) -> bool | None:
    """Begin to collect. Says, as `collect` does, whether the answer was delivered and its link is clean; else None."""
    tab.collector = collector
    exchange.answer_head, exchange.retry = head, None
    exchange.answered_ns = time.monotonic_ns()
    if head.chunked:
        collector.chunks = ChunkedBody(reframe=False, fault=UpstreamFault)
    elif head.content_length < 0 and not head.until_close:
        return collector.deliver(exchange, tab, is_clean=len(data) == head.size)
    collector.left = head.content_length
    upstream = exchange.upstream
    assert upstream is not None
    done = collect(exchange, tab, collector, data[head.size :])
    if done is None and not exchange.is_ended:
        exchange.arm(upstream.idle_timeout_ns, Reason.UPSTREAM_IDLE_TIMEOUT)
    return done


def collect(exchange: Exchange, tab: Tab, collector: Collector, data: bytes) -> bool | None:
    """Octets of a collected answer's body."""
    is_whole, is_clean = False, True
    if collector.chunks is not None:
        try:
            payload, used = collector.chunks.feed(data)
        except UpstreamFault as fault:
            exchange.refuse(fault.reason)
            return None
        is_whole, is_clean = collector.chunks.done, used == len(data)
    elif collector.left >= 0:
        payload, is_clean = data[: collector.left], len(data) <= collector.left
        collector.left -= len(payload)
        is_whole = collector.left == 0
    else:
        payload = data
    if tab.meter is not None:
        tab.feed(payload)  # to be read; nothing goes on yet
    if not collector.keep(payload):
        collector.refuse(exchange, "it is too large")
        return None
    return collector.deliver(exchange, tab, is_clean=is_clean) if is_whole else None


def _deliver(exchange: Exchange, tab: Tab, interpreter: Interpreter, *, is_clean: bool) -> bool | None:
    """The answer is whole: say it."""
    head = exchange.answer_head
    assert head is not None
    fields = dict(head.headers)
    content_type = fields.get("content-type", "").lower()
    if fields.get("content-encoding", "") not in PLAIN:
        _refuse(exchange, "it is encoded, which was not asked for")
        return None
    try:
        status, body = interpreter.said(head, content_type)
    except InferenceFault as fault:
        _refuse(exchange, str(fault))
        return None
    kept = content_type if 200 <= status < 300 and content_type.startswith(EVENTS) else "application/json"
    if tab.escort is not None and 200 <= status < 300:
        seen = tab.escort.whole(body, kept, "", tab.ask)
        if seen is None:
            exchange.refuse(tab.escort.stopped or Reason.ANSWER_UNREADABLE)
            return None
        body = seen
    return send(exchange, tab, anew(head, status, kept, len(body)), body, is_clean=is_clean)


def send(exchange: Exchange, tab: Tab, head: ResponseHead, body: bytes, *, is_clean: bool) -> bool:
    """An answer that was collected goes to the client; returns `is_clean`."""
    if tab.has_headers:
        exchange.answer_lines += tab.answer_lines(b"")
    keep, status = exchange.may_keep_alive(), head.status
    dropped = exchange.downstream.intake.dropped_from_answers
    raw, framing = build_response(head, exchange.answer_lines, keep, exchange.head.minor, dropped)
    exchange.answer_started = True
    exchange.status, exchange.framing, exchange.keep_alive = status, framing, keep
    exchange.bytes_out += len(raw) + len(body)
    exchange.downstream.write(raw + body)
    return is_clean


def anew(
    head: ResponseHead, status: int, content_type: str, body_bytes: int, *, is_changed: bool = True
) -> ResponseHead:
    """The head of an answer that was made here, with what the provider's had that still holds."""
    phrase = head.phrase if status == head.status else HTTPStatus(status).phrase
    stale = STALE if is_changed else FRAMING
    kept = "".join(f"{name}: {value}\r\n" for name, value in head.headers if name not in stale)
    text = f"HTTP/1.1 {status} {phrase}\r\n{kept}content-type: {content_type}\r\ncontent-length: {body_bytes}\r\n\r\n"
    made = parse_response(text.encode("latin-1"), 0, 2 * RESPONSE_BYTES_MAX, 2 * RESPONSE_HEADERS_MAX, "POST")
    assert made is not None, "what was parsed once is a head without a few of its lines, too"
    return made


def _refuse(exchange: Exchange, why: str) -> None:
    route = exchange.route
    assert route is not None and route.inference is not None
    exchange.trace.step(Reason.ANSWER_UNTRANSLATABLE, route.inference.span, why)
    exchange.refuse(Reason.ANSWER_UNTRANSLATABLE)
