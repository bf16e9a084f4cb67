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

from sentinel.core.plan import Tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """The context of one listener; raises OSError (ssl.SSLError is one) when chain and key do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, f"{tls.certificate_pem}\n{tls.key_pem}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    finally:
        os.close(fd)
    return context


def _no_password() -> str:
    raise OSError("the private key is encrypted")
