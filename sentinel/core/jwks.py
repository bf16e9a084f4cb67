"""Sets of public keys (JWK sets, RFC 7517), read as they come from a stranger.

Intuition: a list of the signatures that may stand on a letter. What is on the list and is no signature of a kind that
we know is not looked at; a list that is none is thrown away whole, and the old one stays on the wall.

Rules:
1. Only keys that verify: RSA of 2048 bits and more, the curves of ES256, ES384 and ES512, Ed25519. A shared secret
   (`oct`) is never one: whoever is told it could sign. Members that make a private key are left out.
2. A key is for signatures unless it says something else (`use`, `key_ops`), and for one algorithm where it names one.
3. Everything is bounded: octets, keys, and how many are tried for a token that does not say which.

Here nothing is verified, and no library is needed: whoever writes a configuration is told what a worker would find.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

JWKS_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 100
TRIED_MAX: Final = 4
"""Keys that are tried for one token: those that fit its `kid` and its algorithm."""
RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192
KID_CHARS_MAX: Final = 256

ALGORITHMS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "EdDSA": ("OKP", "Ed25519"),
}  # fmt: skip
"""By which tokens may be signed: the kind of a key, and its curve. Never `none`, never a shared secret."""
PUBLIC: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class PublicKey(NamedTuple):
    """One key that verifies. kid, algorithm: "" where it does not say. members: as JSON has them."""

    kid: str
    kind: str
    curve: str
    algorithm: str
    members: dict[str, str]

    def fits(self, algorithm: str) -> bool:
        """Whether a token of this algorithm may be verified with it."""
        return ALGORITHMS.get(algorithm) == (self.kind, self.curve) and self.algorithm in ("", algorithm)


def read_jwks(text: bytes | str) -> tuple[tuple[PublicKey, ...], str]:
    """The keys of a set, and what is wrong with it; "" when it may be used, which one with no key at all may not."""
    if len(text) > JWKS_BYTES_MAX:
        return (), f"it is longer than {JWKS_BYTES_MAX} octets"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return (), "it is no JSON"
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return (), "it has no list of `keys`"
    if len(entries) > KEYS_MAX:
        return (), f"it has more than {KEYS_MAX} keys"
    found = tuple(key for key in map(_key, entries) if key is not None)
    return found, "" if found else "none of its keys can verify a signature"


def candidates(keys: tuple[PublicKey, ...], kid: str | None, algorithm: str) -> list[PublicKey]:
    """The keys that a token may be verified with."""
    named = [key for key in keys if kid is None or key.kid == kid]
    return [key for key in named if key.fits(algorithm)][:TRIED_MAX]


def _key(entry: Any) -> PublicKey | None:
    """None: it is no key that verifies signatures which we accept."""
    if not isinstance(entry, dict):
        return None
    kind, kid, algorithm = entry.get("kty"), entry.get("kid", ""), entry.get("alg", "")
    operations = entry.get("key_ops", ["verify"])
    is_for_us = entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    names = PUBLIC.get(kind) if isinstance(kind, str) else None
    if names is None or not is_for_us or not isinstance(kid, str) or len(kid) > KID_CHARS_MAX:
        return None
    if algorithm != "" and algorithm not in ALGORITHMS:
        return None
    members = {name: entry.get(name) for name in names}
    if not all(isinstance(value, str) and value for value in members.values()):
        return None
    texts = {name: str(value) for name, value in members.items()}
    if not all(BASE64.issuperset(value) for name, value in texts.items() if name != "crv"):
        return None
    curve = texts.get("crv", "")
    if (kind, curve) not in ALGORITHMS.values():
        return None
    if kind == "RSA" and not RSA_BITS_MIN <= _bits(texts["n"]) <= RSA_BITS_MAX:
        return None
    return PublicKey(kid, str(kind), curve, algorithm, {"kty": str(kind), **texts})


def _bits(number: str) -> int:
    """How long a number is at least, written in base64url."""
    return (len(number) * 6 // 8) * 8
