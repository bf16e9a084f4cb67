"""TLS contexts from PEM text that lives in the plan.

The standard library loads certificates from files only, so the text passes through an
anonymous file in memory (memfd): no key is ever written to a disk, and the file is
gone when this function returns. Made while the worker warms up, so that a
certificate that does not load stops the generation and not a client.

Profiles are Mozilla's (Server Side TLS 5.7), without what is left there of finite-field Diffie-Hellman: a client can
make a server work a hundred times for it (CVE-2002-20001), and who knows TLS 1.2 and no elliptic curve is older than
the browsers that Mozilla means. Only http/1.1 is offered by ALPN.

A client whose handshake fails is told why, by an alert. The loop closes such a connection without sending what OpenSSL
has written last, so it is sent here, by the object that fails (`_Session`).
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from sentinel.core.plan import Certificate, ClientCertificates, Tls, UpstreamTls
from sentinel.core.server_names import Served, ServerNames
from workers.contexts import set_groups
from workers.guests import Reception

CIPHERS_12: Final = ":".join((
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
))  # fmt: skip
"""All of them are good, so the client's order counts: it knows what its processor is fast at."""


GROUPS: Final = (("X25519MLKEM768", "X25519", "P-256", "P-384"), ("X25519", "P-256", "P-384"))
"""The first that the library knows all of. In large curves a client could have us work many times as long."""
CONNECTION: Final[ContextVar[socket.socket]] = ContextVar("connection")
"""Whose handshake it is, for the callbacks of the loop that begin it."""


class _Session(ssl.SSLObject):
    """A client's session. `alerts`: what OpenSSL writes; `connection`: where it goes, until the handshake is over."""

    alerts: ssl.MemoryBIO
    connection: socket.socket | None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.connection is not None and self.alerts.pending:
                with suppress(OSError):
                    self.connection.send(self.alerts.read())
            self.connection = None
            raise
        self.connection = None


class _Context(ssl.SSLContext):
    """A context whose sessions know their connection."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **more: Any) -> _Session:
        session = super().wrap_bio(incoming, outgoing, *args, **more)
        assert isinstance(session, _Session)
        session.alerts, session.connection = outgoing, CONNECTION.get(None)
        return session


class Choice(NamedTuple):
    """What a client is served that has asked for a name. terms: by their position in the plan; -1: none."""

    server_name: str
    context: ssl.SSLContext
    terms: int


class ServerContexts:
    """What one listener serves over TLS: a context for each choice of certificates and terms."""

    __slots__ = ("_contexts", "_names", "reception")

    def __init__(self, tls: Tls, *, is_discreet: bool = False) -> None:
        """Raises OSError (ssl.SSLError is one) when chain and key do not fit. is_discreet: as of Reception."""
        self._names = ServerNames(tls)
        self.reception = Reception(tls, is_discreet=is_discreet)
        self._contexts: dict[tuple[Served, int], ssl.SSLContext] = {
            (served, terms): _server_context(
                tls, [tls.certificates[index] for index in served],
                None if terms < 0 else tls.client_certificates[terms],
            )
            for served in self._names.all() for terms in self.reception.terms.all()
        }  # fmt: skip

    def choice(self, server_name: str) -> Choice | None:
        """For a client that asks for this name; None: it is refused."""
        served = self._names.serving(server_name)
        if served is None:
            return None
        terms = self.reception.terms.of(server_name)
        return Choice(server_name, self._contexts[served, terms], terms)

    def named(self) -> Iterator[tuple[str, ssl.SSLContext]]:
        """All contexts, each with what tells it from the others of the listener."""
        for (served, terms), context in self._contexts.items():
            yield f"{'+'.join(map(str, served))}/{terms}", context


def _server_context(tls: Tls, certificates: list[Certificate], terms: ClientCertificates | None) -> ssl.SSLContext:
    """Of several certificates, each of another kind of key, TLS takes what the client knows."""
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Session
    is_newest = tls.profile == "modern" or tls.min_version == "1.3"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if is_newest else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS_12)
    for names in GROUPS:
        if set_groups(context, *names):
            break
    context.set_alpn_protocols(["http/1.1"])
    for one in certificates:
        _load(context, one.chain_pem, one.key_pem)
    if terms is not None:
        context.verify_mode = ssl.CERT_REQUIRED if terms.mode == "require" else ssl.CERT_OPTIONAL
        # Whom the operator names is trusted, also an authority that another one has signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if terms.crl_pem:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        with _file(f"{terms.ca_pem}\n{terms.crl_pem}\n") as path:
            context.load_verify_locations(path)
    return context


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """The context by which endpoints are spoken to; raises OSError when something of it does not load.

    Who is not `is_verified` is asked for nothing; the name counts by the certificate's alternative names alone.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    if not tls.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_pem:
        # What the operator names is trusted, also an authority that another one has signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=tls.ca_pem)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.certificate_pem:
        _load(context, tls.certificate_pem, tls.key_pem)
    return context


def _load(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    with _file(f"{certificate_pem}\n{key_pem}\n") as path:
        context.load_cert_chain(path, password=_no_password)


@contextmanager
def _file(text: str) -> Iterator[str]:
    """The path of a file that is on no disk, and gone afterwards."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(fd, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _no_password() -> str:
    raise OSError("the private key is encrypted")
