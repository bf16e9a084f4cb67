"""A certificate authority of the test's own: what it issues is made on the spot, and never expires in a drawer."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate (with its chain) and its key, as PEM."""

    certificate: str
    key: str
    pin: str

    def written(self, directory: Path, name: str) -> tuple[Path, Path]:
        directory.mkdir(parents=True, exist_ok=True)
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        paths[0].write_text(self.certificate)
        paths[1].write_text(self.key)
        return paths

    def context(self, trusted: str = "", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """To serve with; `trusted`: who must vouch for clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = min(newest, ssl.TLSVersion.TLSv1_2)
        context.maximum_version = newest
        context.set_alpn_protocols(["h2", "http/1.1"])
        if trusted:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=trusted)
        with _file(self) as path:
            context.load_cert_chain(path)
        return context


    def client(self, trusted: str) -> ssl.SSLContext:
        """To connect with, and to be known by."""
        context = ssl.create_default_context(cadata=trusted)
        with _file(self) as path:
            context.load_cert_chain(path)
        return context


class Authority:
    """Vouches for whom the test wants; `parent`: it is itself vouched for."""

    def __init__(self, name: str = "test authority", parent: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        signer = self if parent is None else parent
        made = _builder(self._name, signer._name, self._key, (-9, 9))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = made.sign(signer._key, hashes.SHA256())
        self.pem = _pem(self.certificate)

    def issue(
        self, *names: str, days: tuple[float, float] = (-1, 1), subject: str = "", sends_chain: bool = False,
        is_rsa: bool = False, fetched_at: str = "",
    ) -> Identity:  # fmt: skip
        """A certificate that is made out in these names; `fetched_at`: where its issuer's would be."""
        key: Any = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        made = _builder(_name(subject or names[0]), self._name, key, days)
        if fetched_at:
            place = x509.UniformResourceIdentifier(fetched_at)
            access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)
            made = made.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        made = made.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        return _identity(made.sign(self._key, hashes.SHA256()), key, self.pem if sends_chain else "")


    def revoked(self, *identities: Identity, days: tuple[float, float] = (-1, 9)) -> str:
        """The list of what it has taken back, as PEM."""
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateRevocationListBuilder().issuer_name(self._name)
            .last_update(now + datetime.timedelta(days=days[0])).next_update(now + datetime.timedelta(days=days[1]))
        )  # fmt: skip
        for one in identities:
            number = x509.load_pem_x509_certificate(one.certificate.encode()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            made = made.add_revoked_certificate(entry)
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def self_signed(name: str) -> Identity:
    """Who vouches for himself."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(_name(name), _name(name), key, (-1, 1))
    made = made.add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
    return _identity(made.sign(key, hashes.SHA256()), key, "")


def unreadable(name: str) -> Identity:
    """Who vouches for himself, by a certificate of a version that there is not: OpenSSL serves it, and few read it."""
    whole = self_signed(name)
    octets = ssl.PEM_cert_to_DER_cert(whole.certificate).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
    return replace(whole, certificate=ssl.DER_cert_to_PEM_cert(octets))


def _identity(certificate: x509.Certificate, key: Any, chain: str) -> Identity:
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pin = base64.b64encode(hashlib.sha256(public).digest()).decode()
    return Identity(_pem(certificate) + chain, written, f"sha256//{pin}")


def _builder(subject: x509.Name, issuer: x509.Name, key: Any, days: tuple[float, float]) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@contextlib.contextmanager
def _file(identity: Identity) -> Iterator[str]:
    """Both in a file that is gone afterwards: the standard library reads no others."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(identity.certificate + identity.key)
        file.flush()
        yield file.name
