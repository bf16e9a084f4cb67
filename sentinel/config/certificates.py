"""Certificates are checked before they are served: what a client would refuse, a reload refuses first.

    readable PEM -> chain in order -> key fits -> OpenSSL takes both -> valid now (a warning 30 days ahead)

What fits may still be too weak: what OpenSSL accepts at SECURITY_LEVEL is asked of OpenSSL
itself, by loading both into a context as a server does. A worker that met this
refusal would meet it while starting, where it can only fail.

The files' text becomes part of the plan: workers read no files, and a generation
serves what was checked even if the files have changed since.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL

from sentinel.config.check import Block, beside
from sentinel.config.problem import Problems
from sentinel.config.source import Source, why
from sentinel.core.plan import Tls

DAY_S: Final = 86_400
WARN_S: Final = 30 * DAY_S
SECURITY_LEVEL: Final = 2
"""Debian's default, and OpenSSL's since 3.2: 112 bits, so RSA of 2048 bits at least, and no SHA-1 signatures."""


def read_tls(block: Block, source: Source, problems: Problems, warnings: Problems, now_s: float) -> Tls | None:
    """Chain and key of a listener or of what an upstream is shown, and who is trusted; None after problems."""
    is_served = block.directive.child("ca") is None or block.has("certificate")
    texts = [_text(block.one(name), source, problems) if is_served else "" for name in ("certificate", "key")]
    trusted = _text(block.one("ca"), source, problems) if block.directive.child("ca") and block.has("ca") else ""
    if texts[0] is None or texts[1] is None or trusted is None:
        return None
    if is_served:
        chain = _chain(block.one("certificate"), texts[0], problems)
        if chain and _fits(block, chain[0], texts[1], problems) and _is_served(block, chain, texts[1], problems):
            _dates(block.one("certificate"), chain, problems, warnings, now_s)
    if trusted:
        _trusted(block.one("ca"), trusted, problems, warnings, now_s)
    return Tls(certificate_pem=texts[0], key_pem=texts[1], ca_pem=trusted, span=block.span)


def _trusted(block: Block, text: str, problems: Problems, warnings: Problems, now_s: float) -> None:
    """Those who are trusted. That one of them is valid is enough: authorities are replaced one beside the other."""
    found = _read_chain(block, text, problems)
    valid = [one for one in found if now_s <= one.not_valid_after_utc.timestamp()]
    if found and not valid:
        problems.add(
            block.arg_spans[0], f"the certificate of {_name(found[0])} has expired: nobody is trusted", "renew it"
        )
    elif valid:
        last = max(valid, key=lambda one: one.not_valid_after_utc)
        left_s = last.not_valid_after_utc.timestamp() - now_s
        if left_s < WARN_S:
            warnings.add(
                block.arg_spans[0], f"the certificate of {_name(last)} expires in {int(left_s / DAY_S)} days, and then "
                "nobody is trusted", "add the next one",
            )  # fmt: skip


def _text(block: Block, source: Source, problems: Problems) -> str | None:
    if not block.args or block.args[0] is None:
        return None
    path = beside(block.span.file, block.args[0])
    try:
        return source.read(path).decode()
    except OSError as fault:
        problems.add(block.arg_spans[0], f"{path} cannot be read: {why(fault)}", "check path and permissions")
    except UnicodeDecodeError:
        problems.add(block.arg_spans[0], f"{path} is not PEM", "convert it: `openssl x509 -inform der -in FILE`")
    return None


def _read_chain(block: Block, text: str, problems: Problems) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as fault:
        problems.add(block.arg_spans[0], f"there is no certificate that can be read: {_line(fault)}", "it must be PEM")
        return []


def _chain(block: Block, text: str, problems: Problems) -> list[x509.Certificate]:
    chain = _read_chain(block, text, problems)
    for above, below in zip(chain[1:], chain, strict=False):
        if below.issuer != above.subject:
            problems.add(
                block.arg_spans[0],
                f"the chain is out of order: {_name(below)} was not issued by {_name(above)}, which follows it",
                "put the server's certificate first, and after each one that of its issuer",
            )  # fmt: skip
            return []
    return chain


def _fits(block: Block, certificate: x509.Certificate, text: str, problems: Problems) -> bool:
    where = block.one("key").arg_spans[0]
    try:
        key = load_pem_private_key(text.encode(), None)
    except TypeError:
        problems.add(where, "the private key is encrypted", "decrypt it: `openssl pkey -in FILE -out FILE`")
        return False
    except ValueError as fault:
        problems.add(where, f"there is no private key that can be read: {_line(fault)}", "it must be PEM")
        return False
    forms = [
        one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for one in (key.public_key(), certificate.public_key())
    ]
    if forms[0] != forms[1]:
        problems.add(
            where, f"this key does not belong to the certificate of {_name(certificate)}",
            "name the key that the certificate was made for", [(block.one("certificate").span, "the certificate")],
        )  # fmt: skip
        return False
    return True


def _is_served(block: Block, chain: list[x509.Certificate], text: str, problems: Problems) -> bool:
    """Whether OpenSSL serves these."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(f"DEFAULT@SECLEVEL={SECURITY_LEVEL}".encode())
    try:
        context.use_certificate(chain[0])
        for one in chain[1:]:
            context.add_extra_chain_cert(one)
        context.use_privatekey(load_pem_private_key(text.encode(), None))  # type: ignore[arg-type]  # of any kind
        context.check_privatekey()
    except (SSL.Error, TypeError) as fault:  # TypeError: a key of a kind that TLS has no use for
        problems.add(
            block.one("certificate").arg_spans[0], f"OpenSSL does not serve this certificate: {_reason(fault)}",
            "have it issued anew: an EC key, or RSA of 2048 bits or more, signed with SHA-256 or better",
        )  # fmt: skip
        return False
    return True


def _dates(block: Block, chain: list[x509.Certificate], problems: Problems, warnings: Problems, now_s: float) -> None:
    for one in chain:
        start_s, end_s = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
        if now_s > end_s:
            problems.add(
                block.arg_spans[0], f"the certificate of {_name(one)} expired on {one.not_valid_after_utc:%Y-%m-%d}",
                "renew it",
            )  # fmt: skip
        elif now_s < start_s:
            problems.add(
                block.arg_spans[0], f"the certificate of {_name(one)} is not valid before {one.not_valid_before_utc}",
                "check the clock of this machine",
            )  # fmt: skip
        elif end_s - now_s < WARN_S:
            warnings.add(
                block.arg_spans[0],
                f"the certificate of {_name(one)} expires in {int((end_s - now_s) / DAY_S)} days", "renew it",
            )  # fmt: skip


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "(no subject)"


def _reason(fault: Exception) -> str:
    """OpenSSL's own words: its errors are lists of (library, function, reason)."""
    entries = fault.args[0] if fault.args and isinstance(fault.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in entries) or "it gives no reason"


def _line(fault: Exception) -> str:
    return (str(fault).splitlines() or ["unknown"])[0].split(". See http")[0]
