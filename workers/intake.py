"""From a head's octets to the request that the core decides on: one canonical reading of who, where and what.

Intuition: a customs officer. Whatever form the papers have (origin-form or absolute-form,
Host in capitals, a port, an address behind two proxies), what leaves his desk has one
form, and everybody behind him (routes, log, upstream) sees the same. Papers that can
be read in two ways are not stamped.

Rules:
1. The authority is Host in canonical form (sentinel.core.host); with absolute-form it must say
   the same as the target. HTTP/1.1 needs it; HTTP/1.0 may come without.
2. The path is normalised by the core (sentinel.core.path) before anything looks at it; the
   upstream is sent the normalised target.
3. The client's address is known here, before any policy: the socket's, the PROXY header's, or
   the trusted hops' of X-Forwarded-For.
4. What was read once is remembered (hosts and short targets repeat); memories are bounded and
   start anew when full, so that no client can make them grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel.core.host import parse_authority
from sentinel.core.path import BadTarget, Target, normalise, split_target
from sentinel.core.plan import Listener, Route
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from workers import forwarded
from workers.http1.faults import ClientFault
from workers.ids import is_acceptable
from workers.timers import NEVER

if TYPE_CHECKING:
    import asyncio

    from workers.guests import Guest, Reception
    from workers.http1.heads import RequestHead
    from workers.tls import Choice
    from workers.turnstile import Turnstile

Host = tuple[str, str, bytes]
"""A Host field, read: the name that routes match, the authority as the upstream is told, and the line for it."""

REMEMBERED_MAX: Final = 2048
REMEMBERED_CHARS_MAX: Final = 256

REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Intake:
    """What one listener makes of heads; shared by its connections."""

    __slots__ = (
        "_hosts", "_targets", "dropped_from_answers", "listener", "name", "open_count", "open_requests",
        "open_requests_max", "promise", "promised", "reception", "scheme", "trust", "turnstile",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.name = listener.name
        self.scheme = "https" if listener.tls is not None else "http"
        self.trust = forwarded.Trust(listener.trusted_proxies, listener.trusted_hops)
        self.turnstile: Turnstile | None = None  # of a listener whose connections are counted over the fleet
        self.reception: Reception | None = None  # of a listener that serves TLS
        # What its answers have besides, as fields and as lines, in the place of what an upstream says.
        said = listener.transport_security
        self.promised = ((forwarded.TRANSPORT_SECURITY, said),) if said else ()
        self.promise = f"{forwarded.TRANSPORT_SECURITY}: {said}\r\n".encode() if said else b""
        self.dropped_from_answers = forwarded.DROPPED_FROM_ANSWERS
        if said:
            self.dropped_from_answers |= {forwarded.TRANSPORT_SECURITY}
        self.open_count = 0  # connections
        self.open_requests = 0
        self.open_requests_max = listener.max_open_requests or NEVER
        self._hosts: dict[str, Host] = {}
        self._targets: dict[str, Target] = {}

    def body_max(self, route: Route | None) -> int:
        """How many octets a body may have; NEVER when there is no limit."""
        if route is not None and route.max_body_bytes >= 0:
            return route.max_body_bytes or NEVER
        return self.listener.max_body_bytes or NEVER

    def receive(self, choice: Choice, transport: asyncio.BaseTransport) -> Guest:
        """What is known of a client that has shaken hands."""
        assert self.reception is not None, "a choice is made by what the listener serves"
        session, peer = transport.get_extra_info("ssl_object"), transport.get_extra_info("peercert")
        return self.reception.receive(session, peer or {}, choice.server_name, choice.terms)

    def take(
        self, head: RequestHead, peer: str, is_trusted: bool, stranger_lines: bytes, id_line: bytes
    ) -> tuple[Request, str, bytes]:
        """The request, the authority as the upstream is told, and the lines for the upstream; raises ClientFault.

        stranger_lines: what the upstream is told of a peer that is not trusted (workers.forwarded).
        """
        method, raw_target, raw_host = head.method, head.target, head.host
        client_ip, lines = self._hear_proxy(head, peer) if is_trusted else (peer, stranger_lines)
        if method in REFUSED_METHODS:
            raise ClientFault(Reason.METHOD_REFUSED)
        target = self._targets.get(raw_target)
        if target is None:
            target = self._read_target(head)
        if raw_host is not None:
            host, written, host_line = self._hosts.get(raw_host) or self._read_host(raw_host)
        elif head.minor == 0:
            host = written = self._authority_of_target(raw_target)
            host_line = _host_line(written)
        else:
            raise ClientFault(Reason.BAD_HOST)
        if is_trusted:
            host_line = self._hear_host(head, host_line)
        request = Request(
            method, self.scheme, host, target.path, target.query, target.target, (), client_ip, self.name, head,
        )  # fmt: skip
        return request, written, lines + host_line + id_line

    # Targets and hosts.

    def _read_target(self, head: RequestHead) -> Target:
        raw = origin = head.target
        is_origin_form = raw.startswith("/")
        if not is_origin_form:
            split = split_target(raw, head.method)
            if isinstance(split, BadTarget):
                raise ClientFault(split.reason, split.detail)
            if split.scheme:
                self._agree(split.scheme, split.authority, head.host)
            origin = split.origin
        target = normalise(origin, self.listener.path_rules, head.method)
        if isinstance(target, BadTarget):
            raise ClientFault(target.reason, target.detail)
        # Only what reads the same for every method and Host may be remembered.
        if is_origin_form and len(raw) <= REMEMBERED_CHARS_MAX:
            if len(self._targets) >= REMEMBERED_MAX:
                self._targets.clear()
            self._targets[raw] = target
        return target

    def _agree(self, scheme: str, authority: str, host: str | None) -> None:
        """Absolute-form must name whom Host names (RFC 9112 section 3.2.2 lets us prefer one; we prefer neither)."""
        named = parse_authority(authority)
        if named is None:
            raise ClientFault(Reason.BAD_HOST)
        if host is None:
            return
        said = parse_authority(host)
        port = DEFAULT_PORTS[scheme]
        if said is None or (said.host, said.port or port) != (named.host, named.port or port):
            raise ClientFault(Reason.BAD_HOST)

    def _read_host(self, raw: str) -> Host:
        authority = parse_authority(raw)
        if authority is None:
            raise ClientFault(Reason.BAD_HOST)
        written = str(authority)
        host = (authority.host, written, _host_line(written))
        if len(raw) <= REMEMBERED_CHARS_MAX:
            if len(self._hosts) >= REMEMBERED_MAX:
                self._hosts.clear()
            self._hosts[raw] = host
        return host

    def _authority_of_target(self, target: str) -> str:
        """HTTP/1.0 without Host: the target may still name one; else nobody does, and the endpoint's name is sent."""
        split = split_target(target)
        named = None if isinstance(split, BadTarget) or not split.scheme else parse_authority(split.authority)
        return named.host if named is not None else ""

    # Trusted proxies.

    def _hear_proxy(self, head: RequestHead, peer: str) -> tuple[str, bytes]:
        """Who the client is, in the words of a proxy that we trust, and what the upstream is told of it."""
        chained = [value for name, value in head.headers if name == "x-forwarded-for"]
        said = [value.lower() for name, value in head.headers if name == "x-forwarded-proto"]
        chain = forwarded.split_chain(chained)
        client = self.trust.client(peer, chain)
        scheme = said[0] if len(said) == 1 and said[0] in DEFAULT_PORTS else self.scheme
        return client, forwarded.lines_for_trusted(peer, client, chain, scheme)

    def _hear_host(self, head: RequestHead, host_line: bytes) -> bytes:
        """Whom the client asked that proxy for, if it says so and it can be read."""
        said = [value for name, value in head.headers if name == "x-forwarded-host"]
        named = parse_authority(said[0]) if len(said) == 1 else None
        return host_line if named is None else _host_line(str(named))


def said_id(head: RequestHead) -> str:
    """What a trusted proxy calls the request, if that is acceptable; else ""."""
    said = [value for name, value in head.headers if name == "x-request-id"]
    return said[0] if len(said) == 1 and is_acceptable(said[0]) else ""


def _host_line(written: str) -> bytes:
    return f"x-forwarded-host: {written}\r\n".encode("latin-1") if written else b""
