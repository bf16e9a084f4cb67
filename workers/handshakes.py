"""TLS to endpoints: the connection is made, and then whoever answers has to prove who he is.

Intuition: a courier who asks for papers. He knows whose house he was sent to (the name), whose signature on papers he
believes (the authorities), and sometimes the face itself (the pinned key). Without all of that he goes home with the
letter unopened, and can say what was wrong.

    connect ──▶ handshake ──▶ pin ──▶ the transport, and what was seen of the peer
       │           │           │
       │           └───────────┴──▶ HandshakeFault: its reason, and what OpenSSL said of it
       └──▶ OSError, as without TLS

Rules:
1. Equal settings share a context, since reading whom the system trusts takes thirty milliseconds. What the contexts of
   a worker hold was read and checked with its generation.
2. No session is ever resumed: each connection proves anew who is there, so nothing that was proved to one upstream,
   under one name or by one generation can count for another (docs/adr/0030).
3. Nothing is written before the handshake is over and the pin compared. What a peer says before it ends the handshake.
4. The end of a stream is its `close_notify`. A connection that merely ends was cut (workers.pool).
5. What a certificate says of itself is a stranger's text: bounded, and without what cannot be printed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from sentinel.core.plan import Endpoint, Upstream, UpstreamTls
from sentinel.core.reasons import Reason
from sentinel.core.span import NOWHERE
from shm.counters import Counter
from workers.tls import client_context

if TYPE_CHECKING:
    from workers.service import Service

SHUTDOWN_S: Final = 1.0
"""So long a peer has to answer our `close_notify`; nobody waits for it."""
SHOWN_MAX: Final = 64
WRONG_NAME: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
EXPIRED: Final = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_TOO_SMALL"})
"""What OpenSSL says of octets that are no record of TLS."""
COUNTED: Final[dict[Reason, Counter]] = {
    Reason.TLS_UNTRUSTED: Counter.UPSTREAM_TLS_UNTRUSTED, Reason.TLS_WRONG_NAME: Counter.UPSTREAM_TLS_WRONG_NAME,
    Reason.TLS_EXPIRED: Counter.UPSTREAM_TLS_EXPIRED, Reason.TLS_WRONG_PIN: Counter.UPSTREAM_TLS_WRONG_PIN,
    Reason.TLS_NOT_SPOKEN: Counter.UPSTREAM_TLS_NOT_SPOKEN, Reason.TLS_REFUSED: Counter.UPSTREAM_TLS_REFUSED,
    Reason.TLS_TIMEOUT: Counter.UPSTREAM_TLS_TIMEOUT,
}  # fmt: skip
Facts = tuple[str, ...]
"""Of `Reason.TLS_SECURED`: version, cipher, whom the certificate names, who issued it, until when, what proved it."""
Factory = Callable[[], asyncio.BaseProtocol]


class HandshakeFault(OSError):
    """Connected, but not to whom we wanted, or not as we wanted."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Handshakes:
    """What the worker's upstreams need for TLS; made while it warms up."""

    __slots__ = ("_contexts", "_service")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._contexts: dict[UpstreamTls, ssl.SSLContext] = {}

    def handshaker(self, upstream: Upstream, tls: UpstreamTls, endpoint: Endpoint) -> Handshaker:
        """Of connections to this endpoint. Raises OSError."""
        if tls.pins:
            importlib.import_module("cryptography.x509")  # forty milliseconds, for which no request should have to wait
        settings = replace(tls, server_name="", pins=(), span=NOWHERE)
        context = self._contexts.get(settings)
        if context is None:
            context = self._contexts[settings] = client_context(tls)
        return Handshaker(self._service, upstream, tls, context, tls.server_name or endpoint.host)


class Handshaker:
    """Makes connections to one endpoint, and has it prove who it is."""

    __slots__ = ("_connect_s", "_context", "_handshake_s", "_name", "_service", "tls")

    def __init__(
        self, service: Service, upstream: Upstream, tls: UpstreamTls, context: ssl.SSLContext, name: str
    ) -> None:
        self.tls = tls
        self._service = service
        self._context = context
        self._name = "localhost" if name.startswith("unix:") else name  # only where nobody compares it
        self._connect_s = upstream.connect_timeout_ns / 1e9
        self._handshake_s = upstream.tls_handshake_timeout_ns / 1e9

    async def connect(self, factory: Factory, host: str, port: int) -> tuple[asyncio.Transport, Facts]:
        """Connect a protocol; raises HandshakeFault, another OSError, and TimeoutError when it took too long."""
        connection = await self._reach(host, port)
        loop = self._service.loop
        create: Any = loop.create_unix_connection if host.startswith("unix:") else loop.create_connection
        try:
            made, _ = await create(
                factory, sock=connection, ssl=self._context, server_hostname=self._name,
                ssl_handshake_timeout=self._handshake_s, ssl_shutdown_timeout=SHUTDOWN_S,
            )  # fmt: skip
        except OSError as fault:  # the loop closes the socket, which became its own
            reason, detail = judged(fault)
            raise self._failed(reason, detail) from None
        transport = cast(asyncio.Transport, made)
        session = transport.get_extra_info("ssl_object")
        try:
            facts = self._looked_at(session)
        except Exception as fault:  # two parsers read a stranger's octets, each with exceptions of its own
            transport.abort()
            if isinstance(fault, HandshakeFault):
                raise
            raise self._failed(Reason.TLS_UNTRUSTED, "its certificate cannot be read") from None
        is_newest = session.version() == "TLSv1.3"
        self._count(Counter.UPSTREAM_TLS_13 if is_newest else Counter.UPSTREAM_TLS_12)
        return transport, facts

    def _looked_at(self, session: ssl.SSLObject) -> Facts:
        """What is seen of the peer, whose key is one of `pin` if there are any."""
        certificate = session.getpeercert(binary_form=True) or b""
        if self.tls.pins and (pin := pin_of(certificate)) not in self.tls.pins:
            raise self._failed(Reason.TLS_WRONG_PIN, f"its public key is sha256//{pin}")
        return facts_of(session, certificate, self.tls)

    def gone(self, fault: Exception | None) -> HandshakeFault:
        """It ended as soon as the handshake was over: what the endpoint thinks of us came after what we think of it."""
        return self._failed(Reason.TLS_REFUSED, refused_late(fault) or "the connection was closed after the handshake")

    async def _reach(self, host: str, port: int) -> socket.socket:
        is_unix = host.startswith("unix:")
        family = socket.AF_UNIX if is_unix else socket.AF_INET6 if ":" in host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            async with asyncio.timeout(self._connect_s):
                await self._service.loop.sock_connect(connection, host[5:] if is_unix else (host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def _failed(self, reason: Reason, detail: str) -> HandshakeFault:
        self._count(COUNTED[reason])
        return HandshakeFault(reason, detail[: 2 * SHOWN_MAX])

    def _count(self, counter: Counter) -> None:
        self._service.region.add(self._service.slot, counter)


async def open_streams(
    handshaker: Handshaker | None, host: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection for somebody who asks one question (checks): over TLS where that is spoken."""
    if handshaker is None:
        if host.startswith("unix:"):
            return await asyncio.open_unix_connection(host[5:])
        return await asyncio.open_connection(host, port)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await handshaker.connect(lambda: protocol, host, port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def judged(fault: OSError) -> tuple[Reason, str]:
    """Why a handshake failed, and what was said of it."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        code = fault.verify_code
        found = Reason.TLS_WRONG_NAME if code in WRONG_NAME else Reason.TLS_EXPIRED if code in EXPIRED else None
        return found or Reason.TLS_UNTRUSTED, printable(fault.verify_message.rstrip("."))
    if isinstance(fault, ssl.SSLError):
        said = fault.reason or "no reason"
        return Reason.TLS_NOT_SPOKEN if said in NO_TLS else Reason.TLS_REFUSED, _spoken(said)
    if isinstance(fault, ConnectionAbortedError) and fault.errno is None:  # the loop's own word for it
        return Reason.TLS_TIMEOUT, "no answer in time"
    return Reason.TLS_REFUSED, "the connection was closed during the handshake"


def refused_late(fault: Exception | None) -> str:
    """What an endpoint said that ended the connection instead of answering; "": nothing.

    In TLS 1.3 the client has finished before the server has looked at its certificate, so `certificate required` comes
    when the request is on its way already.
    """
    if isinstance(fault, ssl.SSLError) and fault.reason and "ALERT" in fault.reason:
        return _spoken(fault.reason)
    return ""


def facts_of(session: ssl.SSLObject, certificate: bytes, tls: UpstreamTls) -> Facts:
    """What was negotiated, and what the certificate says."""
    cipher = session.cipher()
    known = session.getpeercert() or {}
    subject = _named(known.get("subject", ()), "commonName")
    issuer = _named(known.get("issuer", ()), "organizationName", "commonName")
    alternatives: Any = known.get("subjectAltName", ())
    names = [str(value) for _, value in alternatives]
    proof = "verified" if tls.is_verified else "pinned" if tls.pins else "not verified"
    whom = subject or next(iter(names), "") or f"sha256:{hashlib.sha256(certificate).hexdigest()[:16]}"
    until = ""
    if "notAfter" in known:
        until = f"{datetime.fromtimestamp(ssl.cert_time_to_seconds(str(known['notAfter'])), UTC):%Y-%m-%d}"
    version = (session.version() or "").replace("TLSv", "TLS ")
    return version, cipher[0] if cipher else "", printable(whom), printable(issuer), until, proof


def pin_of(certificate: bytes) -> str:
    """The SHA-256 of a certificate's public key, in base64."""
    from cryptography import x509  # only who pins pays for it
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(certificate).public_key()
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(octets).digest()).decode()


def _spoken(reason: str) -> str:
    """OpenSSL's word for what went wrong, as one reads it."""
    return printable(reason.lower().replace("_", " "))


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:SHOWN_MAX])


def _named(name: Any, *kinds: str) -> str:
    """A part of a name, the first of these kinds."""
    parts = {kind: str(value) for group in name for kind, value in group}
    return next((parts[kind] for kind in kinds if kind in parts), "")
