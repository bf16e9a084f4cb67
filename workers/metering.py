"""Traffic to language models, metered: what a request may take is put aside, what its answer took is settled.

Intuition: a taxi with a deposit. The passenger leaves as much as the ride can cost at most; the meter runs while the
car moves, and every few streets the driver books what has been driven. At the end the rest is handed back. If
the driver drops dead, what he has booked stays booked, and what lies in the box is the passenger's.

    body is whole ─▶ appraise ─▶ (core: reserve) ─▶ take, prepare ─▶ head ─▶ begin, feed … finish ─▶ close

Rules:
1. Only routes with `inference` come here, and of their requests only those in a dialect: what costs tokens has a `Tab`.
   The body is kept whole, at most `max-body-size` of it, and sent with a length whatever its framing was.
2. Octets of an answer go on when they come. Every LOOK_BYTES of a stream what was produced is settled, so a worker
   that is killed takes at most that with it, and the rest of what was put aside is free again.
3. A stream that outgrows what was put aside reserves more while it goes on. If the budget has no more, it says whether
   the stream goes on (what it takes beyond is settled all the same, and counted: Counter.BUDGETS_OVERDRAWN), or is
   ended with the next event that is whole.
4. All ends of an exchange come through `close`, and it settles once. No answer, or one that is no success:
   all goes back. An answer that the provider reports: that. A stream that broke, or whose client left: what had
   passed. An answer that could not be read to its end: what was put aside, since nobody can say that it was less.
5. A request that falls back on another model is the other one's: what was put aside for the first comes back, and
   accounts and price are those of the model that answers. It is one request, however many models are asked: where
   requests are counted, it counts with the last of them.
6. Where endpoints are balanced by tokens, what a try has under way becomes less as its stream is produced.
7. What tokens cost is what the price book said when the request was appraised; a reload meanwhile changes nothing.
8. However often a request is tried, there is one tab: retries and hedges are never charged twice.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentinel.core.allowances import MONEY_MAX
from sentinel.core.appraisal import (
    FREE,
    UNKNOWN,
    Appraisal,
    Reservation,
    Spending,
    Taking,
    Translation,
)  # fmt: skip
from sentinel.core.guard.guards import Guard
from sentinel.core.inspection import Inspection
from sentinel.core.keys import raw_part_of
from sentinel.core.models import Errand
from sentinel.core.plan import Inference, Provider, Route
from sentinel.core.prices import Rates, money
from sentinel.core.reasons import Reason
from sentinel.core.throttles import CHARGE_NS_MAX
from sentinel.core.trace import Step
from sentinel.inference.adapters import Framing
from sentinel.inference.ask import Ask
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.encodings import accepted
from sentinel.inference.estimate import Estimate
from sentinel.inference.fault import InferenceFault
from sentinel.inference.insist import asking_for_usage
from sentinel.inference.inspection import Look, look_through_request
from sentinel.inference.meter import Meter
from sentinel.inference.prices import cost
from sentinel.inference.sheet import Doubt, Reading
from sentinel.inference.spans import replaced
from sentinel.inference.stops import stop
from sentinel.inference.usage import Usage, fit
from shm.counters import Counter
from shm.layout import BUDGET_UNCOUNTED
from shm.tallies import Label
from workers.bill import Bill, headers_of
from workers.calls import Called, call_of, pair_of, read_call, recognises, say, translated
from workers.decoding import decode_answer, decode_request
from workers.glances import GLANCES
from workers.guarding import Escort, count_unread, escort_of
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import ClientFault
from workers.http1.heads import RequestHead, ResponseHead
from workers.inflating import INFLATERS, ORDINARY
from workers.interpreting import Collector, Interpreter

if TYPE_CHECKING:
    from sentinel.core.request import Request
    from workers.exchange import Exchange
    from workers.places import Stint
    from workers.service import Service

# Members of enums cost a search where they are named: once is enough.
INFERENCE_REQUESTS: Final = Counter.INFERENCE_REQUESTS
INPUT_TOKENS: Final = Counter.INFERENCE_INPUT_TOKENS
OUTPUT_TOKENS: Final = Counter.INFERENCE_OUTPUT_TOKENS
BUDGET_OVERDRAWN: Final = Reason.BUDGET_OVERDRAWN
BUDGET_OUTGROWN: Final = Reason.BUDGET_OUTGROWN
TOKENS_REPORTED: Final = Reason.TOKENS_REPORTED

AT_ONCE_BYTES: Final = 32 * 1024
"""A longer body is read by another thread, if its text is to be counted or looked through: milliseconds of work."""
LOOK_BYTES: Final = 4 * 1024
"""Of a stream: some sixteen tokens of OpenAI's chat. A look costs about what reading the events did."""
EXTENSION_TOKENS: Final = 256
"""What a stream that has outgrown its reservation reserves at a time."""
FREE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
EXPECT: Final = re.compile(rb"\r\nexpect:[^\r\n]*", re.IGNORECASE)
"""What has been said already, where it was. The framing and `accept-encoding` are said anew, since the body is whole,
may have been edited, and its answer must be readable."""


def needs_body(exchange: Exchange, route: Route) -> bool:
    """Whether an appraisal needs the body."""
    request = exchange.request
    assert request is not None
    return not exchange.head.upgrade and recognises(route, request)


def appraise(exchange: Exchange, route: Route) -> Appraisal | None:
    """What the request may take; one that is read has a tab from here on.

    None: it is long, and another thread reads it; the exchange goes on when that is done (`Exchange.appraised`).
    """
    request, inference = exchange.request, route.inference
    assert request is not None and inference is not None
    service = exchange.downstream.service
    call = None if exchange.head.upgrade else call_of(inference, request.method, request.path)
    if call is None:
        found = FREE if request.method in FREE_METHODS and not exchange.head.upgrade else UNKNOWN
        if found is UNKNOWN:
            count_unread(service, route)
        return found
    body = _body_of(exchange)
    if len(body) > AT_ONCE_BYTES and (service.estimator.counts or _guards_of(service, route)):
        _read_aside(exchange, route, call, body)
        return None
    return _entered(exchange, route, call, body, _read(service, route, call, body))


class Read(NamedTuple):
    """What a body says. called: None where it is not in its dialect, as `fault` says. seen: by guardrails."""

    called: Called | None
    fault: str = ""
    seen: tuple[list[Look], bytes] | None = None


def _read(service: Service, route: Route, call: Call, body: bytes, guards: tuple[Guard, ...] = ()) -> Read:
    """Read a body; nothing is changed by it, in whatever thread. `guards`: those that look through it as well."""
    inference, table, prices = route.inference, service.table, service.prices
    assert inference is not None
    try:
        called = read_call(
            call, inference, body, directory=table.directories.get(route.name), is_marked=route.name in table.marked,
            estimator=service.estimator, book=prices.book, rates_of=prices.rates, decode=decode_request,
        )  # fmt: skip
    except InferenceFault as fault:
        return Read(None, str(fault))
    return Read(called, "", look_through_request(body, guards, decode_request) if guards else None)


def _guards_of(service: Service, route: Route) -> tuple[Guard, ...]:
    """The guardrails that look through requests."""
    guards = service.table.guards.get(route.name)
    return () if guards is None else guards.requests


def _read_aside(exchange: Exchange, route: Route, call: Call, body: bytes) -> None:
    """Have a body read by the worker's second thread: the event loop goes on, with pauses of some milliseconds."""
    service, decision = exchange.downstream.service, exchange.decision

    def done(future: asyncio.Future[Read]) -> None:
        if exchange.decision is not decision or future.cancelled():
            return  # nobody waits for it any more
        fault = future.exception()
        if fault is not None:
            exchange.surprised(fault)
        else:
            exchange.appraised(_entered(exchange, route, call, body, future.result()))

    work = service.loop.run_in_executor(
        service.reader, _read, service, route, call, body, _guards_of(service, route)
    )
    work.add_done_callback(done)


def _entered(exchange: Exchange, route: Route, call: Call, body: bytes, read: Read) -> Appraisal:
    """Open the tab of a call that was read."""
    service, request, inference = exchange.downstream.service, exchange.request, route.inference
    assert request is not None and inference is not None
    if read.called is None:
        count_unread(service, route)
        return Appraisal("malformed", fault=read.fault)
    table = service.table
    found, billed, estimate, rates = read.called
    tenant = raw_part_of(inference.tenant)(request) if inference.tenant else None
    tab = exchange.tab = Tab(service, inference, billed, estimate, body, rates, tenant, call.is_count)
    service.world.tabs[id(request)] = tab
    if table.guards:
        tab.escort = escort_of(service, route)
        if tab.escort is not None:
            tab.escort.seen = read.seen
    return found


def forget(exchange: Exchange) -> None:
    """Nobody asks any more what this request says."""
    exchange.downstream.service.world.tabs.pop(id(exchange.request), None)


def _body_of(exchange: Exchange) -> bytes:
    body = b"".join(exchange.backlog)
    if exchange.head.chunked:
        body, _ = ChunkedBody(reframe=False, fault=ClientFault).feed(body)
    return body


class Account:
    """What of one budget is put aside for one exchange, in the budget's unit."""

    __slots__ = ("amount", "is_money", "is_outgrown", "lease", "open", "reservation", "settled")

    def __init__(self, reservation: Reservation) -> None:
        self.lease = reservation.lease
        self.reservation = reservation
        self.is_money = reservation.is_money
        self.amount = reservation.amount  # put aside at first
        self.open = reservation.amount
        self.settled = 0
        self.is_outgrown = False  # more was needed than there was


class Tab:
    """What one exchange has put aside, takes, and has settled."""

    __slots__ = (
        "_accounts", "_book", "_currency", "_drawn", "_estimate", "_estimator", "_first_ns", "_inference",
        "_is_count", "_is_ending", "_is_usage_asked", "_later", "_lines", "_prices", "_region", "_requests",
        "_said_models", "_slot", "_steps", "_stint", "_takings", "_tenant", "_tokens", "_unlooked_bytes", "_world",
        "ask", "bill", "body", "collector", "escort", "has_headers", "interpreter", "is_closed", "is_cut", "is_over",
        "is_read", "meter", "rates", "was_held",
    )  # fmt: skip

    def __init__(
        self, service: Service, inference: Inference, ask: Ask, estimate: Estimate, body: bytes, rates: Rates | None,
        tenant: str | None, is_count: bool,
    ) -> None:  # fmt: skip
        self.ask = ask
        self.body = body
        self.meter: Meter | None = None  # from the head of a good answer on
        self.interpreter: Interpreter | None = None  # between a client and a provider of different dialects
        self.collector: Collector | None = None  # who has to have the answer whole before it goes on
        self.escort: Escort | None = None  # the route's guardrails
        self._is_count = is_count  # it takes nothing, and its answer has no usage
        self.is_closed = False
        self.was_held = False  # back, until its first event was there
        self.is_read = False  # before it was sent, so that its head could say what it took
        self.has_headers = inference.has_headers
        self._currency = "" if service.prices.book is None else service.prices.book.currency
        self._tenant = tenant  # as metrics and the log tell them apart
        self.bill = Bill(ask.model, currency=self._currency, tenant=tenant)
        self._first_ns = 0  # when a stream brought its first token
        self._inference = inference
        self._estimate = estimate
        self._estimator = service.estimator
        self._region, self._slot, self._world = service.region, service.slot, service.world
        self._prices, self._book = service.prices, service.prices.book
        self._said_models = service.table.said_models
        self._later = service.loop.call_soon
        self._steps: list[Step] = []  # of budgets that a stream has outgrown
        self._is_ending = False  # by the next end of an event
        self.is_over = False  # it was ended here
        self.is_cut = False  # and could not be ended properly
        self.rates = rates
        """What the model costs: as of the moment in which the request was appraised, or sent to it."""
        self._accounts: list[Account] = []
        self._stint: Stint | None = None  # from the head of a good answer on, where there is one
        self._takings: list[Taking] = []  # of limits of tokens
        self._requests: list[Taking] = []  # of limits of requests, which stay taken unless another model is asked
        self._drawn = 0  # tokens beyond what was taken of those that were charged already
        self._tokens = 0  # put aside at first
        self._unlooked_bytes = 0
        self._is_usage_asked = False
        self._lines = b""

    # The request.

    def take(self, spending: Spending | None) -> None:
        """This was put aside, and is to be settled here."""
        if spending is not None:
            self._tokens = spending.tokens
            if spending.warned:
                self._region.add(self._slot, Counter.BUDGETS_WARNED, spending.warned)
            self._takings = [one for one in spending.takings if one.is_of_tokens]
            self._requests = [one for one in spending.takings if not one.is_of_tokens]
            self._accounts = [Account(one) for one in spending.reservations if one.lease != BUDGET_UNCOUNTED]

    def inspect(self) -> tuple[Inspection, ...]:
        """What the route's guardrails find in the request; what they replace is replaced from here on."""
        if self.escort is None:
            return ()
        found, self.body = self.escort.inspect(self.body)
        return found

    def translate(self, route: Route, provider: Provider, request: Request) -> Translation:
        """Say the request in the provider's dialect; until it is prepared for another one there is an interpreter."""
        found, said = say(translated(route, provider, request), provider, self.body, decode_request)
        if said is not None:
            self.interpreter = Interpreter(pair_of(found), said.body, wants_usage=self.ask.wants_usage)
        return found

    @property
    def asked(self) -> Ask:
        """What the provider was asked, in its own dialect."""
        return self.ask if self.interpreter is None else replace(self.ask, dialect=self.interpreter.pair.provider)

    def prepare(self, exchange: Exchange) -> None:
        """The request as it will be sent: with a length, the provider's name for the model, and asking for usage."""
        body, errand, interpreter = self.body, exchange.errand, self.interpreter
        self.was_held = False
        if interpreter is not None and (exchange.outward is None or exchange.outward.pair is None):
            interpreter = self.interpreter = None  # that was for a provider which has failed
        if interpreter is not None:
            body, interpreter.body = interpreter.body, b""
        if errand is not None:
            body = self._renamed(exchange, errand, body)
            self.ask = replace(self.ask, model=errand.sent)
            self.bill = replace(self.bill, model=errand.sent)
            self.rates = self._prices.rates(errand.sent)
        if errand is None or errand.following is None:  # nobody else is asked: it need not be kept as it came
            self.body = b""
        edited = asking_for_usage(self.ask, body) if interpreter is None else None
        if edited is not None:
            self._is_usage_asked = True
            body = edited
        offered = ", ".join(exchange.head.values("accept-encoding"))
        encodings = accepted(offered, is_edited=self._is_edited, inflaters=INFLATERS, known=ORDINARY)
        self._lines = f"content-length: {len(body)}\r\naccept-encoding: {encodings}\r\n\r\n".encode("latin-1")
        exchange.backlog = [body]
        exchange.kept = [body]
        exchange.kept_bytes = len(body)

    @property
    def _is_edited(self) -> bool:
        """Whether the answer has to come as it is, since some of it may be changed."""
        is_watched = self.escort is not None and bool(self.escort.guards.responses)
        may_end = self.ask.is_stream and any([one.reservation.ends for one in self._accounts])
        return self._is_usage_asked or self.interpreter is not None or is_watched or may_end

    def _renamed(self, exchange: Exchange, errand: Errand, body: bytes) -> bytes:
        """The body with the name by which the provider knows the model; also where a path's name has overruled it."""
        request = exchange.request
        assert request is not None
        call = call_of(self._inference, request.method, request.path)
        if errand.sent == errand.asked and (call is None or call.model is None):
            return body
        found = replaced(body, ("model",), errand.sent)
        return body if found is None else found

    def head(self, raw: bytes, lines_bytes: int, head: RequestHead) -> bytes:
        """The head of the request, with what is said anew. `lines_bytes`: what was put behind the client's lines."""
        if head.expect_continue:
            raw = EXPECT.sub(b"", raw)
        end = len(raw) - lines_bytes - 2
        framing = raw.rfind(b"\r\n", 0, end - 2) + 2  # the one line before those: every request here has a body
        return raw[:framing] + raw[end:-2] + self._lines

    # The answer.

    def begin(self, head: ResponseHead, stint: Stint | None) -> None:
        """The answer that the client gets begins: one that is no success takes nothing."""
        if self._is_count or not 200 <= head.status < 300:
            return
        self._stint = stint
        content_type = encoding = ""
        for name, value in head.headers:
            if name == "content-type":
                content_type = value
            elif name == "content-encoding":
                encoding = value
        self.meter = Meter(
            self.asked, content_type=content_type, encoding=encoding,
            # What has a length is not shortened; nobody sends a stream so.
            is_usage_removed=self._is_usage_asked and head.content_length < 0,
            count=self._estimator.counter(self.ask.model), decode=decode_answer,
            inflaters=INFLATERS, glances=GLANCES, later=self._later,
        )  # fmt: skip

    def answer_lines(self, body: bytes | None) -> bytes:
        """What the head of an answer says of it. `body`: all of it, and perhaps more; None while some is to come."""
        if self.meter is None:
            return b""
        bill = Bill(self.ask.model)
        if body is not None:
            self.meter.feed(body)
            self.meter.finish()
            if self.escort is not None and self.collector is None:
                self.escort.feed(body)
            self.is_read = True
            reading = self.meter.reading()
            bill = self._bill(reading, self._estimator.fallback(self.ask, reading), 0)
        return headers_of(bill)

    def feed(self, data: bytes) -> bytes:
        """Octets of the answer's payload; returns what goes on."""
        meter = self.meter
        if self.is_read:
            return data
        if self.is_over:
            return b""
        if meter is None:
            return data if self.escort is None else self.escort.feed(data)
        out = meter.feed(data)
        stint = self._stint
        if not self._first_ns and meter.has_begun:
            self._first_ns = time.monotonic_ns()
            if stint is not None and stint.is_timed and self.ask.is_stream:
                stint.began()
        if self._accounts or self._takings or (stint is not None and stint.tokens):
            self._unlooked_bytes += len(data)
            if self._unlooked_bytes >= LOOK_BYTES and self.ask.is_stream:
                self._unlooked_bytes = 0
                self._settle_on(meter.reading())
        if self.interpreter is not None:
            out = self.interpreter.feed(out)
        if self.escort is not None:
            out = self.escort.feed(out)
        return self._ended(out) if self._is_ending else out

    def finish(self) -> bytes:
        """The answer is through; returns what was held back of it."""
        if self.is_over:
            return b""
        rest = b"" if self.meter is None else self.meter.finish()
        if self.interpreter is not None:
            rest = self.interpreter.finish(rest)
        return rest if self.escort is None else self.escort.finish(rest)

    def _settle_on(self, reading: Reading) -> None:
        """What was produced so far is spent, whatever becomes of this worker."""
        known = reading.usage if reading.is_input_reported else None
        so_far = fit(
            input_tokens=self._estimate.input_tokens if known is None else known.input_tokens,
            cached=0 if known is None else known.cached_tokens,
            cache_write=0 if known is None else known.cache_write_tokens,
            cache_write_long=0 if known is None else known.cache_write_long_tokens,
            audio_input=0 if known is None else known.audio_input_tokens,
            output=self._estimator.produced_tokens(self.ask.model, reading),
        )  # fmt: skip
        if self._stint is not None:
            self._stint.become(self._tokens - so_far.total_tokens)
        self._draw_on(so_far.total_tokens)
        for one in self._accounts:
            more = self._taken(one, so_far) - one.settled
            if more <= 0:
                continue
            one.settled += more
            if one.open <= more:
                wanted = more - one.open + self._extension(one)
                if self._world.extend(one.reservation, wanted):
                    one.open += wanted
                elif not one.is_outgrown:
                    self._outgrow(one)
            released = min(more, one.open - 1)  # something stays open, so that the entry stays the key's
            self._region.settle(self._slot, one.lease, more, released, 0)
            one.open -= released

    def _outgrow(self, account: Account) -> None:
        account.is_outgrown = True
        one = account.reservation
        self._steps.append((BUDGET_OUTGROWN if one.ends else BUDGET_OVERDRAWN, one.span, (one.name,)))
        self._is_ending = self._is_ending or one.ends

    def _ended(self, out: bytes) -> bytes:
        """The stream up to the end of its last event, and why it goes no further; all of it if none ends here."""
        meter = self.meter
        assert meter is not None
        framing, marks = meter.framing, meter.ends
        if self.interpreter is not None:
            framing, marks = Framing.SSE, (b"\n\n",)
        if not marks:
            self.is_cut = self.is_over = True
            return b""
        ends = [out.rfind(one) + len(one) for one in marks if one in out]
        if not ends:
            return out
        self.is_over = True
        return out[: max(ends)] + stop(self.ask.dialect, framing, BUDGET_OUTGROWN)

    @property
    def stopped(self) -> Reason | None:
        """Why the answer goes no further than it has come."""
        if self.is_over:
            return BUDGET_OUTGROWN
        return None if self.escort is None else self.escort.stopped

    def _draw_on(self, tokens: int) -> None:
        """What a stream takes beyond what was taken for it is charged as it comes."""
        if not self._takings or tokens <= max(self._tokens, self._drawn):
            return
        before = max(self._tokens, self._drawn)
        for one in self._takings:
            more = one.charge_ns(tokens) - one.charge_ns(before)
            self._region.take_more(self._slot, time.monotonic_ns(), one.key, min(more, CHARGE_NS_MAX))
        self._drawn = tokens

    def _return(self, tokens: int) -> None:
        """So many were taken in all; what was taken beyond that goes back, as far as no time has filled it."""
        if tokens >= self._tokens:
            self._draw_on(tokens)
        else:
            for one in self._takings:
                back = one.charged_ns - one.charge_ns(tokens)
                self._region.give_back(self._slot, time.monotonic_ns(), one.key, one.mark, max(back, 0))
        self._takings = []

    def _taken(self, account: Account, usage: Usage) -> int:
        """What usage is in the unit of an account."""
        if not account.is_money:
            return usage.total_tokens
        assert self.rates is not None, "without a price nothing is put aside of money"
        return min(cost(usage, self.rates).total, MONEY_MAX)  # whatever a provider claims, it can be settled

    def _extension(self, account: Account) -> int:
        if account.is_money and self.rates is not None:
            return max(self.rates.at_most(0, EXTENSION_TOKENS), 1)
        return EXTENSION_TOKENS

    # The end.

    def close(self, exchange: Exchange) -> None:
        """The exchange is over, in whatever way: settle what it took, and say so in its trace."""
        if self.is_closed:
            return
        self.is_closed = True
        forget(exchange)
        exchange.trace.extend(self._steps)
        self._close(exchange)
        if self.escort is not None:
            self.bill = replace(self.bill, guardrails=self.escort.tell(exchange))

    def _close(self, exchange: Exchange) -> None:
        meter = self.meter
        if meter is None:
            self.refund()
            return
        meter.finish()
        reading = meter.reading(is_last=True)
        usage = self._estimator.fallback(self.ask, reading)
        is_doubted = not usage.is_reported and any(doubt is not Doubt.CUT for doubt in reading.doubts)
        self._return(max(usage.total_tokens, self._tokens) if is_doubted else usage.total_tokens)
        while self._accounts:
            one = self._accounts.pop()
            taken = self._taken(one, usage)
            self._end(one, max(taken, one.amount) if is_doubted else taken, 1)
        self._tell(exchange, reading, usage)

    def withdraw(self) -> None:
        """Another model is asked: nothing was taken, and where this one's requests are counted it was none."""
        self.refund()
        for one in self._requests:
            self._region.give_back(self._slot, time.monotonic_ns(), one.key, one.mark, one.charged_ns)

    def remain(self) -> None:
        """Nobody else may be asked after all: it was this one's request."""
        for one in self._requests:
            self._region.take_more(self._slot, time.monotonic_ns(), one.key, one.charged_ns)

    def refund(self) -> None:
        """Nothing was taken. (A request it was all the same.)"""
        self._return(0)
        while self._accounts:
            self._end(self._accounts.pop(), 0, 0)

    def _end(self, one: Account, taken: int, is_end: int) -> None:
        self._region.settle(self._slot, one.lease, taken - one.settled, one.open, is_end)

    def _bill(self, reading: Reading, usage: Usage, first_ns: int) -> Bill:
        finishes, book = reading.finish_reasons, self._book
        return Bill(
            self.ask.model, reading.model or "", usage,
            None if book is None or self.rates is None else cost(usage, self.rates).total,
            self._currency, finishes[0][1] if finishes else "", first_ns, "", self._tenant,
        )  # fmt: skip

    def _tell(self, exchange: Exchange, reading: Reading, usage: Usage) -> None:
        reason = TOKENS_REPORTED if usage.is_reported else Reason.TOKENS_COUNTED
        model = self.ask.model
        doubts = () if usage.is_reported else reading.doubts
        why = (", ".join([one.value for one in doubts]),) if doubts else ()
        exchange.trace.step(reason, self._inference.span, model, usage.input_tokens, usage.output_tokens, *why)
        first_ns = self._first_ns - exchange.started_ns if self._first_ns and self.ask.is_stream else 0
        bill = self.bill = self._bill(reading, usage, first_ns)
        if bill.cost is not None and self._book is not None:
            text = f"{money(bill.cost)} {bill.currency}"
            exchange.trace.step(Reason.PRICED, self._book.span, text, self._book.version)
        elif self._book is not None:
            exchange.trace.step(Reason.UNPRICED, self._book.span, model)
        region, slot = self._region, self._slot
        stream = None if self.interpreter is None else self.interpreter.stream
        if stream is not None and stream.fault:
            exchange.trace.step(Reason.ANSWER_UNTRANSLATABLE, self._inference.span, stream.fault)
        assert exchange.route is not None
        lesson = self._estimator.learn(self.ask, self._estimate, usage)
        labels: Label = (
            exchange.route.name, model, self.asked.dialect._value_,
            self._tenant or "", bill.currency,
        )  # fmt: skip
        region.tallies.add(
            slot, labels, (
                usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.is_reported,
                min(bill.cost or 0, MONEY_MAX), exchange.ended_ns - exchange.started_ns, first_ns,
                None if lesson is None else lesson.error_thousandths,
            ), model in self._said_models,
        )  # fmt: skip
        region.add(slot, INFERENCE_REQUESTS)
        region.add(slot, INPUT_TOKENS, usage.input_tokens)
        region.add(slot, OUTPUT_TOKENS, usage.output_tokens)
        if not usage.is_reported:
            region.add(slot, Counter.INFERENCE_COUNTED)


def stop_here(exchange: Exchange, tab: Tab) -> None:
    """If the tab has ended the stream, so it is for the client; what was produced is settled."""
    if not tab.is_over or exchange.is_ended:
        return
    if exchange.framing == "chunked" and not tab.is_cut:
        exchange.bytes_out += 5
        exchange.downstream.write(b"0\r\n\r\n")
    exchange.drop_link()
    exchange.end(BUDGET_OUTGROWN, exchange.keep_alive and not tab.is_cut)


# What a provider's client understands.

OPENAI_TYPES: Final = {400: "invalid_request_error", 401: "invalid_request_error", 403: "permission_error",
                       404: "invalid_request_error", 408: "invalid_request_error", 413: "invalid_request_error",
                       429: "rate_limit_exceeded"}  # fmt: skip
OPENAI_CODES: Final = {Reason.MODEL_UNKNOWN: "model_not_found", Reason.KEY_UNKNOWN: "invalid_api_key"}
ANTHROPIC_TYPES: Final = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
                          404: "not_found_error", 408: "invalid_request_error", 413: "request_too_large",
                          429: "rate_limit_error", 503: "overloaded_error"}  # fmt: skip
GEMINI_STATES: Final = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                        413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 504: "DEADLINE_EXCEEDED"}  # fmt: skip

TOLD: Final = frozenset({Reason.INFERENCE_MALFORMED, Reason.UNTRANSLATABLE, Reason.ANSWER_UNTRANSLATABLE})
"""Refusals whose step ends with a place and what is wrong there."""


def refusal_of(exchange: Exchange, inference: Inference, status: int, reason: Reason) -> dict[str, Any] | None:
    """What a refusal says in the shape of the provider's own errors; None for what is in no dialect."""
    request = exchange.request
    call = None if request is None else call_of(inference, request.method, request.path)
    if call is None:
        return None
    why = _why(exchange, reason)
    message = f"{reason.value.text}{f': {why}' if why else ''} (request id: {exchange.request_id})"
    match call.dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            kind = ANTHROPIC_TYPES.get(status, "api_error")
            error: dict[str, Any] = {"type": kind, "message": f"{reason.word}: {message}"}
            return {"type": "error", "error": error, "request_id": exchange.request_id}
        case Dialect.GEMINI_GENERATE:
            state = GEMINI_STATES.get(status, "UNAVAILABLE")
            return {"error": {"code": status, "message": f"{reason.word}: {message}", "status": state}}
        case Dialect.OLLAMA_CHAT | Dialect.OLLAMA_GENERATE | Dialect.OLLAMA_EMBED:
            return {"error": f"{reason.word}: {message}"}
        case _:
            kind = OPENAI_TYPES.get(status, "server_error")
            code = OPENAI_CODES.get(reason, reason.word)
            if reason is Reason.BUDGET_EXHAUSTED:
                kind = "insufficient_quota"
            elif reason is Reason.TOKEN_LIMITED:
                kind = "tokens"
            place = why.partition(":")[0] if why.startswith("$") else None
            return {"error": {"message": message, "type": kind, "param": place, "code": code}}


def _why(exchange: Exchange, reason: Reason) -> str:
    """What of a body could not be read or said, with its place; never a value of it."""
    if reason not in TOLD:
        return ""
    return next((str(step[2][-1]) for step in reversed(exchange.trace.steps) if step[0] is reason and step[2]), "")
