"""Hashes of passwords, as they are kept: slow on purpose, since people choose what can be guessed.

    $scrypt$ln=15,r=8,p=1$<salt>$<hash>        base64 without padding; N is 2**ln (RFC 7914)

Intuition: a lock that takes a tenth of a second to turn. Its owner hardly notices; who has a million keys to try does.

Rules:
1. What a hash costs is bounded on both sides: cheap ones would be guessed, dear ones would be a way to stop the gateway
   (32 MiB and some 80 ms with ln=15; at most 64 MiB).
2. Whoever verifies has to take as long for a name that is not known: `DECOY` is for that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final, NamedTuple

LN: Final = 15
R: Final = 8
P: Final = 1
LN_MIN: Final = 14
LN_MAX: Final = 16
P_MAX: Final = 4
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
MEMORY_MAX: Final = 80 << 20
PASSWORD_BYTES_MAX: Final = 1024
WRITTEN: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=8,p=([0-9]{1,2})\$([A-Za-z0-9+/]{22,86})\$([A-Za-z0-9+/]{43,86})"
)


class Hash(NamedTuple):
    """A hash that was read."""

    ln: int
    p: int
    salt: bytes
    digest: bytes


def read_hash(text: str) -> Hash | None:
    """None: it is none, or costs too little or too much."""
    found = WRITTEN.fullmatch(text)
    if found is None:
        return None
    ln, p = int(found[1]), int(found[2])
    if not (LN_MIN <= ln <= LN_MAX and 1 <= p <= P_MAX):
        return None
    try:
        salt, digest = (base64.b64decode(part + "=" * (-len(part) % 4), validate=True) for part in found.groups()[2:])
    except (binascii.Error, ValueError):
        return None
    return Hash(ln, p, salt, digest) if len(salt) >= SALT_BYTES and len(digest) >= HASH_BYTES else None


def write_hash(password: bytes, salt: bytes) -> str:
    """As the configuration has it."""
    digest = _scrypt(password, LN, P, salt, HASH_BYTES)
    coded = (base64.b64encode(part).decode().rstrip("=") for part in (salt, digest))
    return f"$scrypt$ln={LN},r={R},p={P}${'$'.join(coded)}"


def is_right(password: bytes, kept: Hash) -> bool:
    """Whether it is the password of the hash; takes a tenth of a second, and lets others run meanwhile."""
    if len(password) > PASSWORD_BYTES_MAX:
        return False
    return hmac.compare_digest(_scrypt(password, kept.ln, kept.p, kept.salt, len(kept.digest)), kept.digest)


def _scrypt(password: bytes, ln: int, p: int, salt: bytes, length: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << ln, r=R, p=p, maxmem=MEMORY_MAX, dklen=length)


DECOY: Final = Hash(LN, P, b"\0" * SALT_BYTES, b"\0" * HASH_BYTES)
"""Nobody's."""
