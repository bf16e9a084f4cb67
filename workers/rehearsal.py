"""A rehearsal: a request that nobody sends goes the way of a real one, up to where it would be forwarded.

Intuition: actors in costume, an empty house. The stage, the light and the text are those
of the evening: the parser with its limits, the intake, the decision, the heads that are written. The
stand-ins here are for those who would be in the audience: a connection, and an exchange that
writes down what would be said to the upstream.

`sentinelctl dry-run` and `test` rehearse, and so does control: for the tests that a reload has to pass, and
for dry runs against the fleet's state. What the world is asked is the world's affair (explain.assumed).

Rejected: building the request by hand. It would be a second reading of Host, path
and forwarded addresses, and the day would come when it differs from the first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from sentinel.core.appraisal import Appraisal, Translation
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.host import parse_authority
from sentinel.core.inspection import Inspection
from sentinel.core.path import BadTarget, split_target
from sentinel.core.plan import Listener, Plan, Provider, Route
from sentinel.core.prices import date_of
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.server_names import ServerTerms
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.explain import Node
from sentinel.explain.assumed import Assumed
from sentinel.explain.cases import Ask, Outcome, Query, Unasked, outcome_of
from sentinel.explain.exhaustive import tell
from sentinel.inference.estimate import Estimator
from sentinel.inference.fault import InferenceFault
from sentinel.inference.inspection import look_through_request
from workers import errors
from workers.calls import call_of, counts_only, dialect_of, named_in_path, read_call, say, translated
from workers.forwarded import canonical_peer, lines_for_stranger
from workers.http1.faults import ClientFault
from workers.http1.heads import RequestHead, build_request, parse_request, parse_response
from workers.identities import Identities
from workers.intake import Intake, said_id
from workers.outward import Stamp, outward_of, stamp_of
from workers.passports import Passports
from workers.vocabularies import VocabularyFault, late
from workers.zones import offset_of

PORTS: Final = {"http": 80, "https": 443}
ID: Final = "dry-run"
ANSWER_BYTES_MAX: Final = 1 << 20
ANSWER_HEADERS_MAX: Final = 1000
Fields = tuple[tuple[str, str], ...]
LINE_END: Final = re.compile("[\r\n\0]").search
IS_URL: Final = re.compile(r"https?://", re.IGNORECASE).match


class Misasked(Exception):
    """What was asked is no request, or is asked of nobody; the text is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """The request as a client would send it. `scheme` and `port` say which listener is meant; "" and 0: any.

    body_bytes: how long its body is; -1: it has none, or its headers say. body: what is in it, where that is known.
    """

    method: str
    target: str
    headers: tuple[str, ...]
    host: str = ""
    scheme: str = ""
    port: int = 0
    body_bytes: int = -1
    body: bytes | None = None

    def octets(self, listener: Listener) -> bytes:
        """Write it out. Without a Host it names the address that the client must have connected to."""
        names = {header.partition(":")[0].strip().lower() for header in self.headers}
        host = [] if "host" in names else [f"host: {self.host or listener.address}"]
        has_length = self.body_bytes < 0 or names & {"content-length", "transfer-encoding"}
        length = [] if has_length else [f"content-length: {self.body_bytes}"]
        lines = [f"{self.method} {self.target} HTTP/1.1", *host, *self.headers, *length, "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would happen.

    request: None when it would be refused before it is read completely. answer: the head of the answer, as far as the
    gateway writes it; of one that is forwarded only what it adds. sent: the head that the upstream would read.
    """

    question: Question
    listener: Listener
    request: Request | None
    verdict: Verdict
    steps: tuple[Step, ...]
    answer: Fields = ()
    sent: Fields = ()
    detail: str = ""  # of a refusal before the decision
    table: RouteTable | None = None

    def tree(self, notes: Iterable[str] = ()) -> Node:
        """The whole explanation; for people, so it may take its time."""
        told = tuple(Node("note", note) for note in notes)
        if self.request is None or self.table is None:
            return self._refused(told)
        tree = tell(self.table, self.request, self.verdict, self.steps)
        children = tree.children
        if isinstance(self.verdict, Reject) and not any(step[0] is self.verdict.reason for step in self.steps):
            children = (*children[:-1], _refusal(self.verdict.reason, "", ""))  # refused after the decision
        origin = Node("note", f"from {self.request.client_ip} at listener `{self.listener.name}`")
        return Node(tree.kind, tree.text, children=(*told, origin, *self._shown(self.request.host), *children))

    def _shown(self, host: str) -> tuple[Node, ...]:
        """On which terms a connection for this host is accepted, which is before a request and so taken for granted."""
        tls = self.listener.tls
        terms = -1 if tls is None else ServerTerms(tls.client_certificates).of(host)
        if tls is None or terms < 0:
            return ()
        asked = tls.client_certificates[terms]
        if asked.mode == "optional":
            said = "taken for granted: the client shows no certificate, or one that is admitted"
        else:
            said = "taken for granted: the client shows a certificate that is admitted"
        return (Node("note", said, place=str(asked.span) if asked.span.line else ""),)

    def outcome(self) -> Outcome:
        """The same in the words of a policy test."""
        return outcome_of(
            self.verdict, self.steps, answer=self.answer, sent=self.sent, request=self.request, tree=self.tree
        )

    def _refused(self, told: tuple[Node, ...]) -> Node:
        """What happens to a request that is refused before anything is decided."""
        assert isinstance(self.verdict, Reject), "what cannot be read is refused"
        place = str(self.listener.span) if self.listener.span.line else ""
        said = _refusal(self.verdict.reason, self.detail, place)
        text = f"{self.question.method} {self.question.target} at listener `{self.listener.name}`"
        return Node("request", text, children=(*told, said))


def read_question(
    request: str, headers: tuple[str, ...] = (), body_bytes: int = -1, body: bytes | None = None
) -> Question:
    """Take `METHOD URL`, `METHOD /path` or a URL alone apart. A body that is known is as long as it is."""
    if body is not None:
        body_bytes = len(body)
    first, space, rest = request.strip().partition(" ")
    method, target = (first, rest.strip()) if space else ("GET", first)
    bad = next((header for header in headers if ":" not in header), None)
    if bad is not None:
        raise Misasked(f"a header is `name: value`, not `{bad}`")
    if any(LINE_END(text) for text in (request.strip(), *headers)):
        raise Misasked("a request and its headers have no line ends and no NUL in them")
    if not IS_URL(target):
        if not target.startswith("/") and target != "*":
            raise Misasked(f'a request is a method and a URL, like "GET https://example.com/", not `{request}`')
        return Question(method, _escaped(target), headers, body_bytes=body_bytes, body=body)
    split = split_target(_escaped(target.partition("#")[0]), method)  # a client keeps the fragment to itself
    if isinstance(split, BadTarget):
        raise Misasked(f"`{target}`: {split.detail}")
    authority = parse_authority(split.authority)
    port = authority.port if authority is not None and authority.port else PORTS[split.scheme]
    return Question(method, split.origin, headers, split.authority, split.scheme, port, body_bytes, body)


def checked_address(text: str) -> str:
    """The address of who connects; raises Misasked."""
    try:
        return canonical_peer(str(ipaddress.ip_address(text)))
    except ValueError as fault:
        raise Misasked(f"`{text}` is no IP address") from fault


def choose_listener(plan: Plan, question: Question, name: str | None) -> tuple[Listener, list[str]]:
    """Return the listener where the request arrives, and what there is to say about the choice."""
    if name is not None:
        named = next((listener for listener in plan.listeners if listener.name == name), None)
        if named is None:
            close = get_close_matches(name, [listener.name for listener in plan.listeners], n=1)
            known = ", ".join(f"`{listener.name}`" for listener in plan.listeners)
            remedy = f"did you mean `{close[0]}`?" if close else f"there are {known}"
            raise Misasked(f"there is no listener `{name}`; {remedy}")
        return named, []
    fitting = [one for one in plan.listeners if question.scheme in ("", "https" if one.tls is not None else "http")]
    exact = [one for one in fitting if one.port == question.port]
    listener = (exact or fitting or list(plan.listeners))[0]
    if not fitting:
        return listener, [f"no listener serves {question.scheme}; asked at `{listener.name}` ({listener.address})"]
    if len(plan.listeners) > 1 and len(exact) != 1:
        return listener, [f"asked at `{listener.name}` ({listener.address}); --listener names another"]
    return listener, []


class House:
    """Where the requests of one plan are rehearsed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.table = compile_routes(plan)
        self._intakes = {listener.name: Intake(listener) for listener in plan.listeners}
        self._identities, self._passports = Identities(plan), Passports(plan)
        self._estimator = Estimator(late(plan.system.vocabularies))

    def rehearse(self, listener: Listener, question: Question, peer: str, world: Assumed) -> Rehearsal:
        """Let a request go the way of a real one, up to where it would be forwarded; then it is over.

        Raises Misasked where its body cannot be counted here as workers do.
        """
        intake = self._intakes[listener.name]
        try:
            visit, head = _arrived(intake, question, peer)
        except ClientFault as fault:
            refusal = Reject(fault.reason.status, fault.reason, None)
            answer = _answer(refusal, question.method) + intake.promised
            return Rehearsal(question, listener, None, refusal, (), answer, detail=fault.detail)
        request, trace = visit.request, Trace()
        world.verify = lambda one, asked: self._identities.computed(one, asked, world.now_s())
        world.dialect_of, world.offset_of, world.named_in_path = dialect_of, offset_of, named_in_path
        world.counts_only = counts_only
        reader = None if question.body is None else _Reader(self.table, world, question.body, self._estimator)
        world.read, world.translated = (None, translated) if reader is None else (reader.read, reader.translated)
        world.inspected = None if reader is None else reader.inspected
        decided = run(decide(self.table, request, world, trace))
        if head.content_length > intake.body_max(decided.route):
            verdict: Verdict = Reject(Reason.BODY_TOO_LARGE.status, Reason.BODY_TOO_LARGE, decided.route)
        else:
            verdict = world.carry_out(self.table, request, decided, trace)
        if not isinstance(decided, Reject):
            world.let_go(decided.leases)
        answer = _answer(verdict, request.method) + intake.promised
        return Rehearsal(
            question, listener, request, verdict, tuple(trace.steps), answer,
            _sent(verdict, visit, self._passports), table=self.table,
        )  # fmt: skip


def document(rehearsal: Rehearsal, notes: Iterable[str] = ()) -> dict[str, Any]:
    """The rehearsal for programs. `status` is None where the upstream says it."""
    request, outcome = rehearsal.request, rehearsal.outcome()
    names = ("method", "scheme", "host", "path", "query", "client_ip", "listener")
    steps = [
        {
            "reason": reason.word, "place": str(span) if span.line else "",
            "details": [one for one in details if not isinstance(one, bytes)],  # a key is for nobody to read
        }
        for reason, span, details in rehearsal.steps
    ]
    return {
        "request": None if request is None else {name: getattr(request, name) for name in names},
        "verdict": {
            "kind": outcome.verdict, "status": outcome.status, "reason": outcome.reason, "route": outcome.route or None,
            "upstream": outcome.upstream or None, "endpoint": outcome.endpoint or None,
        },
        "steps": steps,
        "answer": [list(field) for field in rehearsal.answer],
        "sent": [list(field) for field in rehearsal.sent],
        "explanation": rehearsal.tree(notes).to_dict(),
    }  # fmt: skip


def ask_in(house: House) -> Ask:
    """Who answers the requests of policy tests, and of the playground."""

    def ask(query: Query, world: Assumed) -> Outcome:
        try:
            question = read_question(query.request, query.headers, query.body_bytes)
            listener, _ = choose_listener(house.plan, question, query.listener or None)
            peer = checked_address(query.client_ip)
        except Misasked as fault:
            raise Unasked(str(fault)) from fault
        return house.rehearse(listener, question, peer, world).outcome()

    return ask


def _answer(verdict: Verdict, method: str) -> Fields:
    """The head of the answer, read back from what would be written; its id is nobody's."""
    if isinstance(verdict, Forward):
        return verdict.fields
    if isinstance(verdict, Reject):
        status = verdict.status
        written = errors.refusal(
            status, verdict.reason, ID, as_json=False, keep_alive=True, minor=1, head_only=True, fields=verdict.fields
        )
    else:
        written = errors.fixed(verdict.said, ID, keep_alive=True, minor=1, head_only=True, fields=verdict.fields)
    head = parse_response(written, 0, ANSWER_BYTES_MAX, ANSWER_HEADERS_MAX, "HEAD")
    return tuple(head.headers) if head is not None else ()


def _sent(verdict: Verdict, visit: _Visit, passports: Passports) -> Fields:
    """The head that the upstream would read."""
    if not isinstance(verdict, Forward):
        return ()
    head, request = visit.head, visit.request
    assert request is not None, "what was forwarded was read"
    drops, lines = passports.drops, visit.lines
    passport = None if request.identity is None else passports.of(verdict.route)
    if passport is not None and request.identity is not None:
        passport.strip(request)
        drops, lines = passport.drops, lines + passport.lines(request.identity)
    dropped = drops.trusted if visit.is_trusted else drops.strangers
    name = verdict.endpoint.name
    authority = visit.authority or ("localhost" if name.startswith("unix:") else name)  # as workers.attempt
    provider = verdict.provider
    if provider is None and verdict.errand is None:
        written = build_request(head, request.target, authority, lines, dropped, head.chunked)
    else:
        stamp = stamp_of(provider, verdict.errand, lambda credential: Stamp(credential, is_hidden=True))
        outward = outward_of(
            request, verdict.route.inference, verdict.errand, provider, stamp, verdict.translation
        )
        authority = outward.authority or authority
        written = outward.head(
            build_request(head, outward.target, authority, lines, dropped, head.chunked)
        )
    read = parse_request(written, 0, ANSWER_BYTES_MAX, ANSWER_HEADERS_MAX, ANSWER_BYTES_MAX)
    return tuple(read.headers) if read is not None else ()


class _Reader:
    """Reads the body that a request was given, as a worker does: there it has arrived before anybody asks.

    It counts with the vocabularies that workers have. What they have learnt of how models count is theirs: other text
    is estimated as on their first day.
    """

    def __init__(self, table: RouteTable, world: Assumed, body: bytes, estimator: Estimator) -> None:
        self._estimator = estimator
        self._table = table
        self._world = world
        self._body = body

    def read(self, route: Route, request: Request) -> Appraisal:
        """What it asks for; only asked of what is in a dialect."""
        assert route.inference is not None, "nobody else is appraised"
        call = call_of(route.inference, request.method, request.path)
        assert call is not None, "it is in a dialect"
        book = self._table.plan.prices
        try:
            return read_call(
                call, route.inference, self._body, directory=self._table.directories.get(route.name),
                is_marked=route.name in self._table.marked, estimator=self._estimator, book=book,
                rates_of=lambda model: None if book is None else book.price(model, date_of(self._world.now_s())),
            ).appraisal  # fmt: skip
        except InferenceFault as fault:
            return Appraisal("malformed", fault=str(fault))
        except VocabularyFault as fault:
            raise Misasked(str(fault)) from fault

    def inspected(self, route: Route, request: Request) -> tuple[Inspection, ...]:
        """What guardrails find in it; it goes on as they leave it."""
        guards = self._table.guards[route.name]
        looks, self._body = look_through_request(self._body, guards.requests)
        return tuple(look.inspection for look in looks)

    def translated(self, route: Route, provider: Provider, request: Request) -> Translation:
        return say(translated(route, provider, request), provider, self._body)[0]


class _Visit(NamedTuple):
    """What an exchange would know of its request; the lines for the upstream are written down and sent to nobody."""

    head: RequestHead
    is_trusted: bool
    request: Request
    authority: str
    lines: bytes


def read_request(intake: Intake, question: Question, peer: str) -> tuple[Request, RequestHead]:
    """Parse and take in a request as a worker does; raises ClientFault as it would."""
    visit, head = _arrived(intake, question, peer)
    return visit.request, head


def _arrived(intake: Intake, question: Question, peer: str) -> tuple[_Visit, RequestHead]:
    listener = intake.listener
    head = parse_request(
        question.octets(listener), 0, listener.max_header_bytes, listener.max_headers, listener.max_uri_bytes
    )
    if head is None:
        raise ClientFault(Reason.HEADER_TIMEOUT, "the head does not end")
    is_trusted = intake.trust.trusts(peer)
    id_line = f"x-request-id: {(is_trusted and said_id(head)) or ID}\r\n".encode()
    taken = intake.take(head, peer, is_trusted, lines_for_stranger(peer, intake.scheme), id_line)
    return _Visit(head, is_trusted, *taken), head


def _refusal(reason: Reason, detail: str, place: str) -> Node:
    meaning = reason.value
    text = f"reject with {meaning.status}: {meaning.text}" + (f" ({detail})" if detail else "")
    remedy = Node("note", f"remedy: {meaning.remedy}")
    return Node("verdict", text, reason=meaning.word, place=place, children=(remedy,))


def _escaped(target: str) -> str:
    """Escape what is not ASCII, as every client does; the rest is sent as it was written."""
    return target if target.isascii() else "".join(one if one.isascii() else quote(one) for one in target)
