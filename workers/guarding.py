"""Guardrails on the way of one request and its answer.

Intuition: an escort. It goes through the bags before the journey, walks along on the way back, and at the end writes a
line on what it came to. What it has found it keeps to itself.

    request  ─▶ inspect: all its texts; what is redacted is replaced before anybody sends it
    answer   ─▶ collects? ── a stream of events ─▶ feed, finish: as it comes, a word behind (inference.watch)
                         ├─ only observers ─────▶ goes on as it comes; a copy is judged at the end
                         └─ all else ───────────▶ kept, at most COLLECTED_BYTES_MAX, judged whole, then sent

Rules:
1. Tokens are those that the provider's answer has: the meter reads it before anything is changed. A stream that is
   stopped here is settled as one that broke.
2. An answer that is no success passes as it is: it says what the provider has to say, not what a model has.
3. What could not be read is told as such, whether it was stopped or passed; nothing is counted as looked through that
   was not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sentinel.core.guard.guards import Counts, Guard, Guards, told
from sentinel.core.inspection import Inspection, unread
from sentinel.core.reasons import Reason
from sentinel.core.stages.guard import step_of
from sentinel.core.trace import Step
from sentinel.inference.adapters import Framing, framing_of
from sentinel.inference.inspection import Look, inspected, look_through, look_through_request, written
from sentinel.inference.watch import Watch
from shm.series import OTHER
from workers.decoding import decode_answer, decode_request
from workers.http1.bodies import ChunkedBody
from workers.http1.heads import ResponseHead
from workers.interpreting import COLLECTED_BYTES_MAX, PLAIN, anew, send

if TYPE_CHECKING:
    from sentinel.core.plan import Route
    from sentinel.inference.ask import Ask
    from shm.region import Region
    from workers.exchange import Exchange
    from workers.metering import Tab
    from workers.service import Service

STREAMED: Final = frozenset({Framing.SSE, Framing.LINES})
ENCODED: Final = "it is encoded, which was not asked for"
TOO_LARGE: Final = "it is too large"
SIDES: Final = {"request": 0, "response": 1}


def escort_of(service: Service, route: Route) -> Escort | None:
    """None for a route without guardrails."""
    guards = service.table.guards.get(route.name)
    return None if guards is None else Escort(guards, service.region, service.slot)


def count_unread(service: Service, route: Route) -> None:
    """A request of the route is in no dialect that could be read; its decision says what becomes of it."""
    guards = service.table.guards.get(route.name)
    if guards is not None:
        Escort(guards, service.region, service.slot).count_unread()


class Escort:
    """The guardrails of one exchange."""

    __slots__ = ("_bytes", "_copied", "_pieces", "_region", "_slot", "_steps", "_stopped", "_words", "chunks", "guards",
                 "left", "seen", "watch")  # fmt: skip

    def __init__(self, guards: Guards, region: Region, slot: int) -> None:
        self.guards = guards
        self._stopped: Reason | None = None
        self.seen: tuple[list[Look], bytes] | None = None
        """What was found in the request when it was read, where that was done by another thread."""
        self.watch: Watch | None = None  # of an answer that is a stream
        self.left = -1
        self.chunks: ChunkedBody | None = None
        self._region, self._slot = region, slot
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._copied: tuple[str, str, Ask] | None = None  # of an answer that goes on while it is kept: what it is
        self._steps: list[Step] = []
        self._words: list[str] = []

    @property
    def stopped(self) -> Reason | None:
        """Why the answer goes no further."""
        if self.watch is not None and self.watch.blocked is not None:
            return Reason.ANSWER_UNREADABLE if self.watch.fault else Reason.ANSWER_BLOCKED
        return self._stopped

    # The request.

    def inspect(self, body: bytes) -> tuple[tuple[Inspection, ...], bytes]:
        """What is found in a request that was read before, and the request as it may go on."""
        looks, body = self.seen or look_through_request(body, self.guards.requests, decode_request)
        self.seen = None
        for one, inspection, counts in looks:
            self._count(one, "request", inspection, counts)
        return tuple(look.inspection for look in looks), body

    def count_unread(self) -> None:
        for one in self.guards.both:
            if self._count(one, "request", unread(""), {}).status:
                return

    # The answer.

    def collects(self, head: ResponseHead, ask: Ask) -> bool:
        """Whether an answer has to be whole before it can be judged; a stream is watched from here on."""
        if not self.guards.responses or not 200 <= head.status < 300:
            return False
        fields = dict(head.headers)
        content_type, encoding = fields.get("content-type", ""), fields.get("content-encoding", "")
        framing = framing_of(ask.dialect, content_type, is_stream=ask.is_stream)
        is_open = head.content_length < 0 and (head.chunked or head.until_close)
        if is_open and framing in STREAMED and encoding in PLAIN:
            self.watch = Watch(self.guards.responses, ask.dialect, framing, decode_answer)
            return False
        if all(one.action == "observe" for one in self.guards.responses):
            self._copied = content_type, encoding, ask
            return False
        is_unreadable = encoding not in PLAIN or head.content_length > COLLECTED_BYTES_MAX
        if is_unreadable and not any(one.is_closed for one in self.guards.responses):
            self._unread(ENCODED if encoding not in PLAIN else TOO_LARGE, b"")
            return False
        return True

    def feed(self, data: bytes) -> bytes:
        """Octets of an answer that goes on as it comes; returns what does."""
        if self._copied is not None and self._bytes <= COLLECTED_BYTES_MAX:
            self.keep(data)
        if self.watch is None or not data:
            return data
        if self.watch.is_over:
            return b""
        return self.watch.feed(data)

    def finish(self, rest: bytes) -> bytes:
        return rest if self.watch is None else self.feed(rest) + self.watch.finish()

    def keep(self, data: bytes) -> bool:
        """Collect; says whether it is still within bounds."""
        self._pieces.append(data)
        self._bytes += len(data)
        return self._bytes <= COLLECTED_BYTES_MAX

    def refuse(self, exchange: Exchange, why: str) -> None:
        """The answer cannot be kept until it is whole."""
        one = next((one for one in self.guards.responses if one.is_closed), self.guards.responses[0])
        reason = self._stopped = Reason.ANSWER_UNREADABLE
        self._steps.append((reason, one.span, (one.name, "response", why)))
        self._enter(one, "response", reason, {})
        exchange.refuse(reason)

    def deliver(self, exchange: Exchange, tab: Tab, *, is_clean: bool) -> bool | None:
        """The answer is whole: judge it, and send what may be sent."""
        head = exchange.answer_head
        assert head is not None
        fields = dict(head.headers)
        content_type, encoding = fields.get("content-type", ""), fields.get("content-encoding", "")
        before = b"".join(self._pieces)
        self._pieces.clear()
        body = self.whole(before, content_type, encoding, tab.ask)
        if body is None:
            exchange.refuse(self.stopped or Reason.ANSWER_UNREADABLE)
            return None
        if body is not before or head.content_length < 0:
            head = anew(head, head.status, content_type or "application/json", len(body), is_changed=body is not before)
        return send(exchange, tab, head, body, is_clean=is_clean)

    def whole(self, body: bytes, content_type: str, encoding: str, ask: Ask) -> bytes | None:
        """A whole answer as it may go on; None: it is stopped."""
        framing = framing_of(ask.dialect, content_type, is_stream=ask.is_stream)
        if encoding not in PLAIN:
            return self._unread(ENCODED, body)
        if framing in STREAMED:
            return self._whole_stream(body, framing, ask)
        try:
            document = decode_answer(body)
        except (ValueError, RecursionError):
            return self._unread("it is not JSON", body)
        if not isinstance(document, dict | list):
            return self._unread("it is not in its dialect", body)
        return self._judged(document, body)

    def _judged(self, document: Any, body: bytes) -> bytes | None:
        is_changed = False
        holder = {"": document}  # a list of events is a document, too
        for one in self.guards.responses:
            finding = look_through(holder, one, is_answer=True)
            reason = self._told(one, inspected(finding), finding.counts)
            is_changed = is_changed or finding.is_changed
            if reason.status:
                return None
        return written(document) if is_changed else body

    def _whole_stream(self, body: bytes, framing: Framing, ask: Ask) -> bytes | None:
        watch = Watch(self.guards.responses, ask.dialect, framing, decode_answer)
        out = watch.feed(body)
        out += watch.finish()
        self._tell_watch(watch)
        return None if watch.blocked is not None else out

    def _unread(self, why: str, body: bytes) -> bytes | None:
        for one in self.guards.responses:
            if self._told(one, unread(why), {}).status:
                return None
        return body

    # The end.

    def tell(self, exchange: Exchange) -> str:
        """The exchange is over: its trace gets what was found in the answer; returns what the log says."""
        if self.watch is not None:
            self._tell_watch(self.watch)
        if self._copied is not None and self._bytes > COLLECTED_BYTES_MAX:
            self._unread(TOO_LARGE, b"")
        elif self._copied is not None:
            self.whole(b"".join(self._pieces), *self._copied)
        exchange.trace.extend(self._steps)
        return ", ".join(self._words)

    def _tell_watch(self, watch: Watch) -> None:
        for one, counts in zip(self.guards.responses, watch.counts, strict=True):
            found = Inspection("found" if counts else "clean", told(counts), watch.attached_count)
            self._told(one, unread(watch.fault) if watch.fault else found, counts)

    def _told(self, one: Guard, found: Inspection, counts: Counts) -> Reason:
        reason, step = step_of(one, "response", found)
        self._steps.append(step)
        if reason.status and self._stopped is None:
            self._stopped = reason
        self._count(one, "response", found, counts)
        return reason

    def _count(self, one: Guard, side: str, found: Inspection, counts: Counts) -> Reason:
        reason, _ = step_of(one, side, found)
        self._enter(one, side, reason, counts)
        return reason

    def _enter(self, one: Guard, side: str, reason: Reason, counts: Counts) -> None:
        self._words.append(f"{one.name} {side} {reason.word}")
        series, kinds = one.plan.series, one.plan.kinds
        if series:
            self._notch(series[SIDES[side]], reason, 1)
            for kind, count in counts.items():
                self._notch(series[len(SIDES) + kinds.index(kind)], reason, count)

    def _notch(self, series: int, reason: Reason, count: int) -> None:
        if series > OTHER:  # what found no room of its own is not counted as somebody else's
            self._region.notch(self._slot, series, reason.number, count)


def stop(exchange: Exchange, escort: Escort) -> None:
    """If a guardrail has ended the stream, so it is for the client; what was produced is settled."""
    watch = escort.watch
    if watch is None or not watch.is_over or exchange.is_ended:
        return
    if exchange.framing == "chunked":
        exchange.bytes_out += 5
        exchange.downstream.write(b"0\r\n\r\n")
    exchange.drop_link()
    exchange.end(escort.stopped or Reason.ANSWER_BLOCKED, exchange.keep_alive)
