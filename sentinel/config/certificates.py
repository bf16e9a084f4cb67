"""Certificates are checked before they are served: what a client would refuse, a reload refuses first.

    readable PEM -> chain in order, and whole -> key fits -> OpenSSL takes both -> valid now (a warning 30 days ahead)

What fits may still be too weak: what OpenSSL accepts at SECURITY_LEVEL is asked of OpenSSL
itself, by loading both into a context as a server does. A worker that met this
refusal would meet it while starting, where it can only fail.

A chain is whole when its last certificate was issued by somebody whom this system trusts, or by itself. A private
authority's need not be, and are known by what they do not say: where their issuer's certificate can be fetched. Only
what says that, and whose issuer is neither here nor trusted, is warned of.

The files' text becomes part of the plan: workers read no files, and a generation
serves what was checked even if the files have changed since.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import AuthorityInformationAccessOID
from OpenSSL import SSL, crypto

from sentinel.config.check import Block, beside
from sentinel.config.problem import Problems
from sentinel.config.source import Source, why
from sentinel.core.plan import Certificate

DAY_S: Final = 86_400
WARN_S: Final = 30 * DAY_S
SECURITY_LEVEL: Final = 2
"""Debian's default, and OpenSSL's since 3.2: 112 bits, so RSA of 2048 bits at least, and no SHA-1 signatures."""
KEY_KINDS: Final = ((EllipticCurvePublicKey, "ec"), (Ed25519PublicKey, "ed25519"), (Ed448PublicKey, "ed448"))
"""What OpenSSL has a place for in a context, besides RSA."""
CRL_WARN_S: Final = 2 * DAY_S
LIST: Final = re.compile(r"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
NO_ISSUER: Final = frozenset({2, 20})  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, and the same of the local one


@dataclass(frozen=True, slots=True)
class Files:
    """Reads what `tls` blocks name, a listener's or an upstream's (config.server_tls.TlsFiles)."""

    source: Source
    problems: Problems
    warnings: Problems
    now_s: float

    def certificate(self, chain: Block, key: Block) -> Certificate | None:
        """The chain in one file, whose first certificate is of the key in the other."""
        problems = self.problems
        texts = [_text(block, self.source, problems) for block in (chain, key)]
        if texts[0] is None or texts[1] is None:
            return None
        found = _chain(chain, texts[0], problems)
        if not found or not _fits(chain, key, found[0], texts[1], problems):
            return None
        if not _is_served(chain, found, texts[1], problems):
            return None
        _dates(chain, found, problems, self.warnings, self.now_s)
        _whole(chain, found, self.warnings)
        names = tuple(dict.fromkeys(_names(found[0])))
        return Certificate(
            texts[0], texts[1], names, _kind(found[0]),
            int(min(one.not_valid_after_utc for one in found).timestamp()), chain.span,
        )  # fmt: skip

    def authorities(self, ca: Block) -> str | None:
        """Certificates of those who are trusted."""
        text = _text(ca, self.source, self.problems)
        if text is not None:
            _trusted(ca, text, self.problems, self.warnings, self.now_s)
        return text

    def revoked(self, crl: Block, ca_pem: str) -> str | None:
        """Lists of what those in `ca_pem` have taken back."""
        text = _text(crl, self.source, self.problems)
        if text is not None:
            _lists(crl, text, ca_pem, self.problems, self.warnings, self.now_s)
        return text


def _names(certificate: x509.Certificate) -> Iterator[str]:
    """In whom it is made out; the common name has not counted for clients for ten years."""
    with suppress(x509.ExtensionNotFound, ValueError):
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from (name.lower().rstrip(".") for name in said.get_values_for_type(x509.DNSName) if name)
        yield from (str(address) for address in said.get_values_for_type(x509.IPAddress))


def _kind(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    return next((word for kind, word in KEY_KINDS if isinstance(key, kind)), "rsa")


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


def _lists(
    block: Block, text: str, ca_pem: str, problems: Problems, warnings: Problems, now_s: float
) -> None:  # fmt: skip
    """OpenSSL admits nobody of whose issuer it has no list, or one that is older than it says."""
    where = block.arg_spans[0]
    try:
        found = [x509.load_pem_x509_crl(one[0].encode()) for one in LIST.finditer(text)]
        authorities = x509.load_pem_x509_certificates(ca_pem.encode())
    except ValueError as fault:
        problems.add(where, f"there is a list that cannot be read: {_line(fault)}", "it must be PEM")
        return
    if not found:
        problems.add(where, "there is no list of revoked certificates in it", "it must be PEM: `X509 CRL`")
    for one in found:
        issuer = next((above for above in authorities if above.subject == one.issuer), None)
        if issuer is None or not one.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]  # of any kind
            problems.add(
                where, f"the list of {_named(one.issuer)} is not signed by any of those who are trusted",
                "name the file of the list's issuer as `ca`",
            )  # fmt: skip
        end_s = now_s + CRL_WARN_S if one.next_update_utc is None else one.next_update_utc.timestamp()
        if end_s <= now_s:
            problems.add(
                where, f"the list of {_named(one.issuer)} was to be replaced on {one.next_update_utc:%Y-%m-%d}: nobody "
                "would be admitted", "fetch the new one",
            )  # fmt: skip
        elif end_s < now_s + CRL_WARN_S:
            warnings.add(
                where, f"the list of {_named(one.issuer)} is to be replaced in {int((end_s - now_s) / 3600)} hours, "
                "and then nobody is admitted", "fetch the new one, and reload",
            )  # fmt: skip
    listed = {one.issuer for one in found}
    for authority in authorities if found else ():
        if authority.subject not in listed:
            warnings.add(
                where, f"there is no list of {_name(authority)}: nobody whom it vouches for itself is admitted",
                "add its list to the file",
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
        if not _is_issued(below, above):
            problems.add(
                block.arg_spans[0],
                f"the chain is out of order: {_name(below)} was not issued by {_name(above)}, which follows it",
                "put the server's certificate first, and after each one that of its issuer",
            )  # fmt: skip
            return []
    return chain


def _is_issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    """By name, and by its signature: after a change of keys an old authority has the name of the new one."""
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, InvalidSignature):
        return False
    except TypeError:  # by a key of a kind that signs nothing that could be verified here
        return below.issuer == above.subject
    return True


def _whole(block: Block, chain: Sequence[x509.Certificate], warnings: Problems) -> None:
    """Whether clients that trust whom this system trusts could follow the chain to its end."""
    last = chain[-1]
    if last.issuer == last.subject or not _is_public(last):
        return
    store = crypto.X509Store()
    paths = ssl.get_default_verify_paths()
    with suppress(crypto.Error):
        store.load_locations(paths.cafile, paths.capath)
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(last)).verify_certificate()
    except crypto.X509StoreContextError as fault:
        if fault.errors[0] in NO_ISSUER:
            warnings.add(
                block.arg_spans[0], f"the chain ends too early: the certificate of {_named(last.issuer)}, by whom "
                f"{_name(last)} was issued, is not in it, and this system does not know it",
                "use the file with the whole chain (fullchain.pem)",
            )  # fmt: skip


def _is_public(certificate: x509.Certificate) -> bool:
    """Whether it says where its issuer's certificate can be fetched."""
    try:
        said = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in said)


def _fits(block: Block, key_block: Block, certificate: x509.Certificate, text: str, problems: Problems) -> bool:
    where = key_block.arg_spans[0]
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
            "name the key that the certificate was made for", [(block.span, "the certificate")],
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
            block.arg_spans[0], f"OpenSSL does not serve this certificate: {_reason(fault)}",
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
    return _named(certificate.subject)


def _named(name: x509.Name) -> str:
    return name.rfc4514_string() or "(no subject)"


def _reason(fault: Exception) -> str:
    """OpenSSL's own words: its errors are lists of (library, function, reason)."""
    entries = fault.args[0] if fault.args and isinstance(fault.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in entries) or "it gives no reason"


def _line(fault: Exception) -> str:
    return (str(fault).splitlines() or ["unknown"])[0].split(". See http")[0]
