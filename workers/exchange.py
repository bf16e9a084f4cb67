"""One exchange: a request and its answer, end to end.

Intuition: a waiter with one table and one order. He takes the order (intake), asks
what to do with it (decide), carries it to the kitchen, perhaps to a second one if
the first is closed (workers.attempt), brings the dishes as they come (workers.answer),
and writes exactly one line into the book at the end, whatever happened.

Rules:
1. An exchange ends once, in `end`: answered, refused, failed or left. There is its one
   entry in the ledger, and before it the link was given back or cut.
2. While no link is there the body waits in `backlog` and the client is not read, so at most
   one read (256 KiB) waits. Afterwards octets pass from one transport to the other, and
   whoever is slow pauses the other's reading. What one client can make us hold is bounded:
   a head, one read in each direction, and a write buffer (64 KiB, and the read that
   overflowed it) on each side; below 1 MiB in the worst case, about 3 KiB while idle. Where a route
   has `inference`, the body comes before the decision, and is held whole up to its `max-body-size`.
3. A client's fault in the middle of a body (bad chunk, too large, stalled) is answered if the
   answer has not begun; else the connection is cut, since no status can be said any more.
4. An answer that begins before the request's body has ended says `Connection: close`; what
   still comes is discarded within limits and never read as a request.
5. A tunnel (101) is an exchange that lasts: octets pass both ways, each side may end its half.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from sentinel.core.appraisal import Appraisal
from sentinel.core.compiled import COMPILED
from sentinel.core.decide import Rest, decide_now
from sentinel.core.drive import Pause, Unsettled, Wanted, advance
from sentinel.core.gates import Authenticator
from sentinel.core.identity import Finding
from sentinel.core.models import Errand
from sentinel.core.plan import Endpoint, Retry, Route, Upstream
from sentinel.core.plan import Respond as Said
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject, Respond, Verdict
from sentinel.core.world import NO_WISH
from shm.counters import Counter
from shm.places import FAILURE, NEUTRAL, SUCCESS
from workers import answer, attempt, errors, falling, metering, retrying
from workers.blanks import copy_of
from workers.errors import Fields
from workers.http1.faults import ClientFault
from workers.http1.heads import RequestHead, ResponseHead
from workers.intake import said_id
from workers.outward import Outward, outward_of, stamp_of
from workers.pool import Link, Pool
from workers.telling import written
from workers.timers import NEVER, SLACK_NS

if TYPE_CHECKING:
    from workers.downstream import Downstream
    from workers.falling import Hold
    from workers.hedging import Rival
    from workers.http1.bodies import ChunkedBody
    from workers.metering import Tab
    from workers.passports import Drops
    from workers.places import Group, Permit, Stint
    from workers.shadowing import Shadow

Decision = Coroutine[Any, Any, Verdict]

PROXIED: Final = Reason.PROXIED
TOTAL_TIMEOUT: Final = Reason.TOTAL_TIMEOUT  # an enum's member costs a search where it is named: once is enough

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Ours to say where a body is read before anybody is asked."""
KEPT_BYTES_MAX: Final = 64 * 1024
"""A body that is larger is not kept for a second try on a fresh link."""


class Exchange:
    """The state of one request and its answer. Made once a request, by `opened`: no dataclass, no inheritance.

    `__init__` makes the blank form: whatever is the same in each at its beginning, and shared by all.
    """

    __slots__ = (
        "answer_body", "answer_head", "answer_left", "answer_lines", "answer_part", "answer_started",
        "answered_ns", "attempts", "authority", "backlog", "body", "body_done", "body_left", "body_max",
        "bytes_in", "bytes_out", "client_is_silent", "connecting", "deadline_ns", "deadline_reason",
        "decision", "downstream", "drops", "ended_ns", "endpoint", "endpoint_name", "errand", "framing", "group",
        "has_body", "head", "hedge", "hold", "id_line", "interims", "is_ended", "is_pending", "is_repeated",
        "is_tunnel", "keep_alive", "kept", "kept_bytes", "kept_max", "leases", "lines", "link", "outward", "patience",
        "pause",
        "permit", "pool", "reached", "request", "request_id", "retry", "rival", "route", "shadows", "started_ns",
        "status", "stint", "tab", "total_ns", "trace", "tried", "tried_pools", "tries", "try_ns", "try_started_ns",
        "upstream",
        "upstream_is_silent", "wanted", "was_sent", "wish",
    )  # fmt: skip

    # An exchange's own from its beginning.
    downstream: Downstream
    head: RequestHead
    started_ns: int
    trace: Trace
    backlog: list[bytes]
    body_left: int  # counts a Content-Length down and is -1 for chunks
    has_body: bool
    body_done: bool
    bytes_in: int

    def __init__(self) -> None:
        self.request: Request | None = None
        self.request_id = ""
        self.id_line = self.answer_lines = b""
        self.authority = ""
        self.lines = b""
        # The decision and its attempts.
        self.decision: Decision | None = None  # while it waits
        self.leases: tuple[int, ...] = ()
        self.wanted: Route | None = None  # while the decision waits for the body, which this route reads
        self.tab: Tab | None = None  # of a request to a language model
        self.errand: Errand | None = None  # for which model it is sent on, where a line of `models` says so
        self.patience: asyncio.TimerHandle | None = None  # before the first token of a model takes too long
        self.hold: Hold | None = None  # the beginning of an answer that nobody has seen yet
        self.drops: Drops | None = None  # fields that do not pass here, where these are others than everywhere
        self.outward: Outward | None = None  # what the upstream is told instead of what the client said
        self.route: Route | None = None
        self.upstream: Upstream | None = None
        self.group: Group | None = None
        self.wish = NO_WISH
        self.endpoint: Endpoint | None = None
        self.endpoint_name = ""
        self.pool: Pool | None = None
        self.link: Link | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.permit: Permit | None = None  # while a try is under way
        self.stint: Stint | None = None  # of it, where the upstream is balanced by tokens
        self.reached = 0  # over which connection (attempt.NEW, KEPT, AGAIN)
        self.retry: Retry | None = None
        self.tries = 0  # of the retry policy
        self.hedge: asyncio.TimerHandle | None = None  # before a second try is begun beside this one
        self.rival: Rival | None = None  # that second try
        self.shadows: tuple[Shadow, ...] = ()  # those that still wait for octets of the body
        self.pause: asyncio.TimerHandle | None = None  # before another try, or before the decision goes on
        self.try_ns = NEVER  # when the try that is under way has lasted too long
        self.was_sent = False
        self.is_pending = False  # it waits for room below the upstream's limits
        self.try_started_ns = 0
        self.answered_ns = 0  # when the head of the answer was there; 0: not yet, or at the end
        self.ended_ns = 0
        self.attempts = 0  # links that were asked for, idle ones and new ones
        self.tried: tuple[Endpoint, ...] = ()
        self.tried_pools: tuple[Pool, ...] = ()
        self.is_repeated = False
        # The request's body.
        self.body: ChunkedBody | None = None
        self.body_max = NEVER
        self.kept: list[bytes] | None = None
        self.kept_bytes = 0
        self.kept_max = KEPT_BYTES_MAX
        # The answer.
        self.status = 0
        self.answer_started = False
        self.answer_head: ResponseHead | None = None
        self.answer_part = b""
        self.answer_left = -1
        self.answer_body: ChunkedBody | None = None
        self.framing = ""
        self.keep_alive = False
        self.interims = 0
        self.is_tunnel = False
        self.client_is_silent = False  # its half of a tunnel has ended
        self.upstream_is_silent = False
        # Measures and deadlines.
        self.bytes_out = 0
        self.deadline_ns = NEVER
        self.deadline_reason = TOTAL_TIMEOUT
        self.total_ns = NEVER
        self.is_ended = False

    # The beginning.

    def name(self, request_id: str) -> None:
        """Give it the id that upstream, client and log shall see."""
        self.request_id = request_id
        self.id_line = self.answer_lines = f"x-request-id: {request_id}\r\n".encode()
        if promise := self.downstream.intake.promise:
            self.answer_lines += promise

    def begin(self) -> None:
        """Decide, and act on the verdict."""
        downstream = self.downstream
        service, intake = downstream.service, downstream.intake
        try:
            head, is_trusted = self.head, downstream.is_trusted
            # First: who is refused is told his id too.
            self.name((is_trusted and said_id(head)) or service.ids.new())
            request, self.authority, self.lines = intake.take(
                head, downstream.peer, is_trusted, downstream.stranger_lines, self.id_line
            )
            self.request = request
            guest = downstream.guest
            if guest is not None:
                guest.ask(request, self.trace, downstream.served)
                request.secured = guest.secured
            if not self.body_done:
                self.kept = []
                downstream.take_body(self)
        except ClientFault as fault:
            self.refuse(fault.reason)
            return
        if service.open_requests > service.open_requests_max or intake.open_requests > intake.open_requests_max:
            service.region.add(service.slot, Counter.OVERLOADS)
            self.refuse(Reason.OVERLOADED)
            return
        verdict = decide_now(service.table, request, service.world, self.trace)
        if type(verdict) is Rest:
            self.decision = verdict.coroutine
            self._decide_on()
        else:
            self._act(verdict)

    def _decide_on(self, answered: Appraisal | Finding | None = None) -> None:
        """The decision goes on: it has something to wait for, or what it waited for has come."""
        self.pause, decision = None, self.decision
        if decision is None:
            return
        try:
            verdict = advance(decision, answered)
            if type(verdict) is Pause:
                self.pause = self.downstream.service.loop.call_later(verdict.wait_ns / 1e9, self._decide_on)
            elif type(verdict) is Wanted:
                self._read(verdict.route)
            elif type(verdict) is Unsettled:
                self._find_out(verdict.authenticator)
            else:
                self.decision = None
                self._act(verdict)
        except Exception as fault:
            self.surprised(fault)

    def _find_out(self, authenticator: Authenticator) -> None:
        """The decision wants to know who asks, which is computed aside."""
        service, request = self.downstream.service, self.request
        assert request is not None
        service.identities.compute(authenticator, request, service.loop, self._decide_on)

    def _read(self, route: Route) -> None:
        """The decision wants to know what the body says: tell it, or read on until the body is whole."""
        if metering.needs_body(self, route) and not self._has_body_for(route):
            return
        self.wanted = None
        found = metering.appraise(self, route)
        if found is not None:
            self._decide_on(found)

    def appraised(self, found: Appraisal) -> None:
        """A body that was read aside has been read."""
        self._decide_on(found)

    def _has_body_for(self, route: Route) -> bool:
        """Whether the body is whole; if not it is read on, or refused for its size."""
        assert route.inference is not None
        downstream, head, body = self.downstream, self.head, self.body
        self.wanted = self.route = route
        self.body_max = min(downstream.intake.body_max(route), route.inference.max_body_bytes)
        if head.content_length > self.body_max or (body is not None and body.payload_bytes > self.body_max):
            self.refuse(Reason.BODY_TOO_LARGE)
            return False
        if self.body_done:
            return True
        if head.expect_continue and not self.backlog:
            downstream.write(CONTINUE)
            self.bytes_out += len(CONTINUE)
        downstream.more()
        return False

    def _act(self, verdict: Verdict) -> None:
        """Do what was decided."""
        service, intake = self.downstream.service, self.downstream.intake
        route = self.route = verdict.route
        if type(verdict) is not Reject:
            self.leases = verdict.leases
        if self.tab is not None and type(verdict) is Forward:
            self.tab.take(verdict.spending)
        if verdict.fields:
            self.answer_lines = written(self.answer_lines, verdict.fields)
        if self.has_body:
            self.body_max = intake.body_max(route)
            if self.head.content_length > self.body_max or (self.body and self.body.payload_bytes > self.body_max):
                self.refuse(Reason.BODY_TOO_LARGE)
                return
        if type(verdict) is Forward:
            if self.request is not None and self.request.identity is not None:
                self._show(self.request, verdict.route)
            if verdict.route.timeout_ns:
                self.total_ns = service.ticker.after(verdict.route.timeout_ns)
            if verdict.errand is not None:
                self._forward(verdict)
                return
            self.upstream = verdict.upstream
            self.wish = verdict.wish
            self.group = service.world.group(verdict.upstream)
            if verdict.upstream.provider is not None:
                self._turn_outward(verdict)
            if self.tab is not None:
                self.tab.prepare(self)
            if verdict.route.retry is not None:
                retrying.prepare(self, verdict.route.retry)
            copies = verdict.shadows
            if not copies:
                attempt.aim(self, verdict.endpoint)
                return
            pieces = self.backlog[:]
            attempt.aim(self, verdict.endpoint)
            service.shadows.cast(self, copies, pieces)
        elif type(verdict) is Reject:
            self.refuse(verdict.reason, verdict.status, verdict.fields)
        elif type(verdict) is Respond:
            self._respond(verdict.said, verdict.fields)

    def _show(self, request: Request, route: Route) -> None:
        """It goes on without the credential, and with what the upstream is told of who asks."""
        passport = self.downstream.service.passports.of(route)
        if passport is not None and request.identity is not None:
            passport.strip(request)
            self.drops = passport.drops
            self.lines += passport.lines(request.identity)

    def forward(self, verdict: Forward) -> None:
        """Another model is asked than the one before, which failed."""
        if self.tab is not None:
            self.tab.take(verdict.spending)
        if verdict.fields:
            self.answer_lines = written(self.answer_lines, verdict.fields)
        self._forward(verdict)

    def _forward(self, verdict: Forward) -> None:
        """Send it to the model that its errand is for. (What is for language models is not copied to shadows.)"""
        self.upstream = verdict.upstream
        self.wish = verdict.wish
        self.group = self.downstream.service.world.group(verdict.upstream)
        self._turn_outward(verdict)
        if self.tab is not None:
            self.tab.prepare(self)
        if verdict.route.retry is not None:
            retrying.prepare(self, verdict.route.retry)
        if verdict.errand is not None:
            falling.expect(self, verdict.errand)
        attempt.aim(self, verdict.endpoint)

    def _turn_outward(self, verdict: Forward) -> None:
        """It goes to a provider of models, who is told some things anew."""
        request, provider = self.request, verdict.provider
        assert request is not None
        self.errand = verdict.errand
        stamp = stamp_of(provider, verdict.errand, self.downstream.service.world.stamp)
        self.outward = outward_of(
            request, verdict.route.inference, verdict.errand, provider, stamp, verdict.translation
        )

    def _respond(self, said: Said, fields: Fields) -> None:
        head, keep = self.head, self.may_keep_alive()
        raw = errors.fixed(
            said, self.request_id, keep_alive=keep, minor=head.minor, head_only=head.method == "HEAD",
            fields=fields + self.downstream.intake.promised,
        )
        self._say(raw, said.status)
        self.end(Reason.RESPONDED, keep)

    def may_keep_alive(self) -> bool:
        """May the client send another request on this connection after this answer?"""
        return (
            self.body_done
            and self.head.keep_alive
            and not self.head.upgrade
            and not self.downstream.service.is_draining
            and not self.downstream.is_last()
        )

    # The request's body.

    def body_arrived(self, data: bytes, done: bool) -> None:
        """Some of the body, framed as the upstream shall get it."""
        self.body_done = done
        if data:
            if self.kept is not None:
                self.kept_bytes += len(data)
                if self.kept_bytes <= self.kept_max:
                    self.kept.append(data)
                else:
                    self.kept = None
            link = self.link
            if link is None or link.transport is None:
                self.backlog.append(data)
                if self.wanted is not None:
                    if done:
                        self._read(self.wanted)
                        return
                elif not done:
                    self.downstream.hold()
            else:
                link.transport.write(data)
        if done and self.link is not None and not self.answer_started:
            attempt.wait_for_answer(self)
        if self.shadows:
            self.downstream.service.shadows.feed(self, data, done)

    # The upstream's side (workers.pool.Caller).

    def answer_bytes(self, data: bytes) -> None:
        if self.is_tunnel:
            answer.from_tunnel(self, data)
        elif self.answer_head is None:
            answer.head_arrived(self, data)
        else:
            answer.body_arrived(self, data)

    def answer_eof(self) -> None:
        if self.is_tunnel:
            answer.upstream_fell_silent(self)
        else:
            answer.ended(self, None)

    def link_lost(self, fault: Exception | None) -> None:
        if self.is_tunnel:
            self.end_tunnel()
        else:
            answer.ended(self, fault)

    def link_paused(self) -> None:
        """The upstream does not read as fast as the client sends."""
        self.downstream.hold()
        if not self.answer_started:
            attempt.wait_for_answer(self)

    def link_resumed(self) -> None:
        if not self.body_done and not self.answer_started:
            self.deadline_ns = NEVER
        self.downstream.more()

    def surprised(self, fault: BaseException) -> None:
        self.downstream.surprised(fault)

    # The ends.

    def arm(self, timeout_ns: int, reason: Reason) -> None:
        """From now on the upstream has so long."""
        downstream = self.downstream
        self.deadline_reason = reason
        deadline_ns = self.deadline_ns = downstream.service.ticker.now_ns + timeout_ns + SLACK_NS
        if self.try_ns < deadline_ns:
            deadline_ns = self.deadline_ns = self.try_ns
            self.deadline_reason = Reason.TRY_TIMEOUT
        if self.total_ns < deadline_ns:
            deadline_ns = self.total_ns
        if deadline_ns < downstream.deadline_ns:
            downstream.deadline_ns = deadline_ns

    def timed_out(self, reason: Reason) -> None:
        upstream = self.upstream
        if upstream is None:  # it waits for its turn, which is bounded by itself
            self.deadline_ns = NEVER
        elif self.is_tunnel:
            self.end_tunnel()
        elif reason is Reason.CONNECT_TIMEOUT:
            attempt.next_one(self, reason)
        elif reason is Reason.UPSTREAM_IDLE_TIMEOUT and self.downstream.is_write_paused:
            self.arm(upstream.idle_timeout_ns, reason)  # it waits for the client, not for the upstream
        else:
            self.fail(reason)

    def fail(self, reason: Reason) -> None:
        """It goes no further: say so if that can still be said, else cut the connection."""
        if self.answer_started:
            self.drop_link()
            self.downstream.cut()
            self.end(reason, False)
        elif self.retry is not None and retrying.again(self, self.retry, reason):
            return
        elif self.errand is None or not falling.again(self, self.errand, reason):
            self.refuse(reason)

    def refuse(self, reason: Reason, status: int = 0, fields: Fields = ()) -> None:
        """Answer with a refusal; a client whose bytes were ambiguous or too many is not listened to any longer."""
        self.drop_link()
        head = self.head
        if not self.request_id:
            self.name(self.downstream.service.ids.new())
        keep = reason.value.culprit != "client" and self.may_keep_alive()
        fields += self.downstream.intake.promised
        document = None
        if self.route is not None and self.route.inference is not None:
            document = metering.refusal_of(self, self.route.inference, status or reason.status, reason)
        raw = errors.refusal(
            status or reason.status, reason, self.request_id, as_json=errors.wants_json(head.headers),
            keep_alive=keep, minor=head.minor, head_only=head.method == "HEAD", fields=fields, document=document,
        )  # fmt: skip
        self._say(raw, status or reason.status)
        self.end(reason, keep)

    def client_gone(self, reason: Reason) -> None:
        """Nobody waits for the answer any more: the upstream shall not work on it either."""
        if self.is_tunnel:
            self.end_tunnel()
            return
        self.drop_link()
        self.status = self.status or reason.status
        self.end(reason, False)

    def end_tunnel(self) -> None:
        link, self.link = self.link, None
        if link is not None and link.transport is not None:
            link.caller = None
            link.transport.close()
        self.end(Reason.UPGRADED, False)

    def drop_link(self) -> None:
        """Cut what leads to the upstream: the link, or the attempt to get one."""
        task, self.connecting = self.connecting, None
        if task is not None:
            task.cancel()
        decision, self.decision = self.decision, None
        if decision is not None:
            decision.close()
        pause, self.pause = self.pause, None
        if pause is not None:
            pause.cancel()
        patience, self.patience = self.patience, None
        if patience is not None:
            patience.cancel()
        self.hold = None
        hedge, self.hedge = self.hedge, None
        if hedge is not None:
            hedge.cancel()
        rival, self.rival = self.rival, None
        if rival is not None:
            rival.cut(NEUTRAL)
        link, self.link = self.link, None
        if link is not None:
            link.abort()

    def end(self, reason: Reason, keep_alive: bool) -> None:
        """The one end of every exchange."""
        if self.is_ended:
            return
        self.is_ended = True
        self.ended_ns = time.monotonic_ns()
        downstream = self.downstream
        if self.permit is not None:
            attempt.over(self, self._outcome(reason), reason)
        if self.leases:
            self._let_go()
        if self.shadows:
            downstream.service.shadows.leave(self)
        if self.tab is not None:
            self.tab.close(self)
        downstream.service.ledger.enter(self, reason)
        downstream.exchange_ended(self, keep_alive)

    def abandon(self) -> None:
        """It could not even be ended: give back what others would miss."""
        self.is_ended = True
        self.drop_link()
        attempt.over(self, NEUTRAL)
        self.downstream.service.shadows.leave(self)
        if self.tab is not None:
            self.tab.refund()
            metering.forget(self)
        self._let_go()

    def _let_go(self) -> None:
        leases, self.leases = self.leases, ()
        self.downstream.service.world.let_go(leases)

    def _outcome(self, reason: Reason) -> int:
        """What the try that was under way says about its endpoint."""
        if self.answer_head is not None and self.answer_head.status >= 500:
            return FAILURE
        if reason is PROXIED or reason is Reason.UPGRADED:
            return SUCCESS
        if reason.value.culprit == "upstream":
            return FAILURE
        return SUCCESS if self.answer_head is not None else NEUTRAL

    def _say(self, raw: bytes, status: int) -> None:
        self.status = status
        self.answer_started = True
        self.bytes_out += len(raw)
        self.downstream.write(raw)


BLANK: Final = Exchange()


def opened(downstream: Downstream, head: RequestHead) -> Exchange:
    """A new exchange: a copy of the blank form, filled in."""
    if COMPILED:  # noqa: SIM108 - mypyc chooses between branches, not within an expression
        exchange = Exchange()
    else:
        exchange = copy_of(BLANK)
    exchange.downstream = downstream
    exchange.head = head
    exchange.started_ns = time.monotonic_ns()
    exchange.trace = Trace()
    exchange.backlog = []
    length = exchange.body_left = head.content_length
    has_body = exchange.has_body = length > 0 or head.chunked
    exchange.body_done = not has_body
    exchange.bytes_in = head.size
    return exchange
