"""Certificates that a client or OpenSSL would refuse are refused when the configuration is checked."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from sentinel.config import load_text

TEXT = """\
schema-version "1.0"
listeners {
    listener "web" {
        address "127.0.0.1:8443"
        tls { certificate "cert.pem"; key "key.pem"; }
    }
}
routes { route "r" { matches { path "/"; }; respond 200; }; }
"""
NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def ec_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def x25519() -> Any:
    return X25519PrivateKey.generate()


def rsa_key(bits: int) -> Any:
    return rsa.generate_private_key(65537, bits)


def certificate(
    key: Any, *, subject: str = "server", issuer: str = "", issuer_key: Any = None,
    start: datetime.datetime = NOW - 30 * DAY, end: datetime.datetime = NOW + 90 * DAY,
) -> str:  # fmt: skip
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    made = (
        x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer or subject))
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(start).not_valid_after(end).sign(issuer_key or key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(serialization.Encoding.PEM).decode()


def pem(key: Any, password: bytes = b"") -> str:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()


def check(directory: Path, cert: str | bytes | None, key: str | None) -> tuple[list[str], list[str]]:
    """Problems and warnings, each with its place and remedy."""
    for name, content in (("cert.pem", cert), ("key.pem", key)):
        if content is not None:
            (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    loaded = load_text(TEXT, str(directory / "sentinel.kdl"), now_s=NOW.timestamp())
    assert (loaded.plan is None) == bool(loaded.problems)
    said = [
        [f"{one.span.line}:{one.span.column} {one.message} -> {one.remedy}" for one in found]
        for found in (loaded.problems, loaded.warnings)
    ]
    return said[0], said[1]


@pytest.mark.parametrize("make", [ec_key, lambda: rsa_key(2048)], ids=["ec", "rsa-2048"])
def test_what_is_good_is_taken_as_it_is(tmp_path: Path, make: Callable[[], Any]) -> None:
    key = make()
    assert check(tmp_path, certificate(key), pem(key)) == ([], [])


def test_a_chain_in_order_is_taken_and_another_order_is_told(tmp_path: Path) -> None:
    root, leaf = ec_key(), ec_key()
    chain = [certificate(leaf, issuer="root", issuer_key=root), certificate(root, subject="root")]
    assert check(tmp_path, "".join(chain), pem(leaf)) == ([], [])
    ((problem,), _) = check(tmp_path, "".join(reversed(chain)), pem(leaf))
    assert problem.startswith("5:27 the chain is out of order")


def cases() -> dict[str, tuple[Callable[[], tuple[str | bytes | None, str | None]], str]]:
    good = ec_key()
    return {
        "weak": (lambda: (certificate(key := rsa_key(1024)), pem(key)), "OpenSSL does not serve this certificate: ee"),
        "wrong kind": (lambda: (certificate(key := x25519(), issuer_key=good), pem(key)), "OpenSSL does not serve"),
        "mismatch": (lambda: (certificate(good), pem(ec_key())), "5:43 this key does not belong to the certificate of"),
        "encrypted": (lambda: (certificate(good), pem(good, b"secret")), "the private key is encrypted"),
        "no key": (lambda: (certificate(good), "nothing"), "there is no private key that can be read"),
        "no certificate": (lambda: ("nothing", pem(good)), "there is no certificate that can be read"),
        "der": (lambda: (b"\x30\x82\xff\xfe", pem(good)), "is not PEM"),
        "missing": (lambda: (None, pem(good)), "cannot be read: No such file or directory"),
        "expired": (lambda: (certificate(good, end=NOW - DAY), pem(good)), "expired on 2030-05-31"),
        "too early": (lambda: (certificate(good, start=NOW + DAY), pem(good)), "is not valid before 2030-06-02"),
    }


@pytest.mark.parametrize(("make", "words"), cases().values(), ids=cases())
def test_what_would_fail_later_is_told_now(
    tmp_path: Path, make: Callable[[], tuple[str | bytes | None, str | None]], words: str
) -> None:
    ((problem,), _) = check(tmp_path, *make())
    assert words in problem
    assert not problem.endswith("-> "), "there is a remedy"
    assert "PRIVATE KEY" not in problem


def test_an_end_within_a_month_is_a_warning(tmp_path: Path) -> None:
    key = ec_key()
    problems, (warning,) = check(tmp_path, certificate(key, end=NOW + 10 * DAY), pem(key))
    assert problems == []
    assert "expires in 10 days" in warning
