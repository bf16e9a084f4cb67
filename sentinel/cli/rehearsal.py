"""A rehearsal: a request that nobody sends goes the way of a real one, up to where it would be forwarded.

Intuition: actors in costume, an empty house. The stage, the light and the text are those
of the evening: the parser with its limits, the intake, the decision. The stand-ins
here are for those who would be in the audience: a connection, and an exchange that
writes down what would be said to the upstream.

Rejected: building the request by hand. It would be a second reading of Host, path
and forwarded addresses, and the day would come when it differs from the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.host import parse_authority
from sentinel.core.path import BadTarget, split_target
from sentinel.core.plan import Listener, Plan
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Reject, Verdict
from sentinel.explain import Node, explain
from sentinel.explain.exhaustive import Preview
from workers.http1.faults import ClientFault
from workers.http1.heads import RequestHead, parse_request
from workers.intake import Intake

if TYPE_CHECKING:
    from workers.downstream import Downstream
    from workers.exchange import Exchange

PORTS: Final = {"http": 80, "https": 443}
IS_URL: Final = re.compile(r"https?://", re.IGNORECASE).match


class Misasked(Exception):
    """What was asked is no request, or is asked of nobody; the text is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """The request as a client would send it. `scheme` and `port` say which listener is meant; "" and 0: any."""

    method: str
    target: str
    headers: tuple[str, ...]
    host: str = ""
    scheme: str = ""
    port: int = 0

    def octets(self, listener: Listener) -> bytes:
        """Write it out. Without a Host it names the address that the client must have connected to."""
        has_host = any(header.partition(":")[0].strip().lower() == "host" for header in self.headers)
        host = [] if has_host else [f"host: {self.host or listener.address}"]
        lines = [f"{self.method} {self.target} HTTP/1.1", *host, *self.headers, "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would happen. `request` is None when it would be refused before it is read completely."""

    request: Request | None
    verdict: Verdict
    steps: tuple[Step, ...]
    tree: Node


def read_question(request: str, headers: tuple[str, ...] = ()) -> Question:
    """Take `METHOD URL`, `METHOD /path` or a URL alone apart."""
    first, space, rest = request.strip().partition(" ")
    method, target = (first, rest.strip()) if space else ("GET", first)
    bad = next((header for header in headers if ":" not in header), None)
    if bad is not None:
        raise Misasked(f"a header is `name: value`, not `{bad}`")
    if not IS_URL(target):
        if not target.startswith("/") and target != "*":
            raise Misasked(f'a request is a method and a URL, like "GET https://example.com/", not `{request}`')
        return Question(method, _escaped(target), headers)
    split = split_target(_escaped(target.partition("#")[0]), method)  # a client keeps the fragment to itself
    if isinstance(split, BadTarget):
        raise Misasked(f"`{target}`: {split.detail}")
    authority = parse_authority(split.authority)
    port = authority.port if authority is not None and authority.port else PORTS[split.scheme]
    return Question(method, split.origin, headers, split.authority, split.scheme, port)


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


def rehearse(plan: Plan, listener: Listener, question: Question, peer: str) -> Rehearsal:
    """Let a request go the way of a real one, up to where it would be forwarded."""
    intake = Intake(listener)
    try:
        request, head = read_request(intake, question, peer)
    except ClientFault as fault:
        return _refused(listener, question, fault)
    table, trace = compile_routes(plan), Trace()
    verdict = run(decide(table, request, Preview(), trace))
    tree = explain(table, request)
    if head.content_length > intake.body_max(verdict.route):
        verdict = Reject(Reason.BODY_TOO_LARGE.status, Reason.BODY_TOO_LARGE, verdict.route)
        tree = replace(tree, children=(*tree.children[:-1], _refusal(verdict.reason, "", "")))
    origin = Node("note", f"from {request.client_ip} at listener `{listener.name}`")
    return Rehearsal(request, verdict, tuple(trace.steps), replace(tree, children=(origin, *tree.children)))


def read_request(intake: Intake, question: Question, peer: str) -> tuple[Request, RequestHead]:
    """Parse and take in a request as a worker does; raises ClientFault as it would."""
    listener = intake.listener
    head = parse_request(
        question.octets(listener), 0, listener.max_header_bytes, listener.max_headers, listener.max_uri_bytes
    )
    if head is None:
        raise ClientFault(Reason.HEADER_TIMEOUT, "the head does not end")
    return _taken(intake, head, peer), head


class _Ids:
    """Gives the one rehearsal its name."""

    def new(self) -> str:
        return "dry-run"


@dataclass(slots=True)
class _Service:
    ids: _Ids = field(default_factory=_Ids)


@dataclass(slots=True)
class _Visitor:
    """Stands in for a connection: as much of one as the intake looks at."""

    peer: str
    is_trusted: bool
    stranger_lines: bytes = b""
    service: _Service = field(default_factory=_Service)


@dataclass(slots=True)
class _Visit:
    """Stands in for an exchange; the lines for the upstream are written down and sent to nobody."""

    head: RequestHead
    downstream: _Visitor
    authority: str = ""
    lines: bytes = b""
    id_line: bytes = b""
    request: Request | None = None

    def name(self, request_id: str) -> None:
        self.id_line = request_id.encode()


def _taken(intake: Intake, head: RequestHead, peer: str) -> Request:
    visitor = _Visitor(peer, intake.trust.trusts(peer))
    return intake.take(cast("Exchange", _Visit(head, visitor)), cast("Downstream", visitor))


def _refused(listener: Listener, question: Question, fault: ClientFault) -> Rehearsal:
    """What happens to a request that is refused before anything is decided."""
    reason = fault.reason
    children = (_refusal(reason, fault.detail, str(listener.span) if listener.span.line else ""),)
    tree = Node("request", f"{question.method} {question.target} at listener `{listener.name}`", children=children)
    return Rehearsal(None, Reject(reason.status, reason, None), (), tree)


def _refusal(reason: Reason, detail: str, place: str) -> Node:
    meaning = reason.value
    text = f"reject with {meaning.status}: {meaning.text}" + (f" ({detail})" if detail else "")
    remedy = Node("note", f"remedy: {meaning.remedy}")
    return Node("verdict", text, reason=meaning.word, place=place, children=(remedy,))


def _escaped(target: str) -> str:
    """Escape what is not ASCII, as every client does; the rest is sent as it was written."""
    return target if target.isascii() else "".join(one if one.isascii() else quote(one) for one in target)
