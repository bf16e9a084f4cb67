"""TLS contexts from PEM text that lives in the plan.

The standard library loads certificates from files only, so the text passes through an
anonymous file in memory (memfd): no key is ever written to a disk, and the file is
gone when this function returns. Made while the worker warms up, so that a
certificate that does not load stops the generation and not a client.

TLS 1.2 is the oldest version offered; the cipher list is the library's, which drops what
is broken faster than we would. Only http/1.1 is offered by ALPN.
"""

from __future__ import annotations

import os
import ssl

from sentinel.core.plan import Tls, UpstreamTls


def server_context(tls: Tls) -> ssl.SSLContext:
    """The context of one listener; raises OSError (ssl.SSLError is one) when chain and key do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _load(context, tls.certificate_pem, tls.key_pem)
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
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, f"{certificate_pem}\n{key_pem}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    finally:
        os.close(fd)


def _no_password() -> str:
    raise OSError("the private key is encrypted")
