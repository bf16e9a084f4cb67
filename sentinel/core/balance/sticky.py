"""Sticky clients: a cookie that names the endpoint, signed, and telling nobody which it is.

    1.<endpoint: 8 octets>.<expires: seconds, 0 never>.<signature: 16 octets>      (hexadecimal, decimal)

Intuition: the cloakroom's number tag. It brings you back to your coat, it says nothing to
who finds it, and it cannot be made at home.

Rules:
1. The endpoint is named by a keyed hash of its name, so that addresses inside stay inside, and
   a tag outlives reloads and restarts. A secret that was replaced still verifies while it is configured.
2. Anything else than a tag of ours is no tag: it is not an error of the request, another endpoint is
   chosen, and a new tag is given. What was wrong is told in the trace.
3. Signatures are compared in constant time; a value is looked at only up to VALUE_CHARS_MAX.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from enum import Enum, unique
from hashlib import blake2b
from typing import Final

VALUE_CHARS_MAX: Final = 128
FORM: Final = re.compile(r"1\.([0-9a-f]{16})\.(0|[1-9][0-9]{0,11})\.([0-9a-f]{32})")


@unique
class Tag(Enum):
    """What a cookie's value turned out to be; the words stand in traces."""

    GOOD = "good"
    NONE = "none"
    MALFORMED = "malformed"
    FORGED = "forged"
    EXPIRED = "expired"
    UNKNOWN = "names no endpoint"


class Tags:
    """Makes and reads the tags of one upstream. `names`: of its endpoints, in their order."""

    __slots__ = ("_by_secret", "_secrets", "_upstream")

    def __init__(self, upstream: str, names: Sequence[str], secrets: Sequence[str]) -> None:
        self._upstream = upstream
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._by_secret = [
            {_identity(secret, upstream, name): index for index, name in enumerate(names)} for secret in self._secrets
        ]

    def make(self, name: str, now_s: int, max_age_s: int) -> str:
        """The tag of an endpoint; `max_age_s` 0: it does not expire."""
        secret = self._secrets[0]
        body = f"1.{_identity(secret, self._upstream, name)}.{now_s + max_age_s if max_age_s else 0}"
        return f"{body}.{self._signed(secret, body)}"

    def read(self, value: str, now_s: int) -> tuple[int, Tag]:
        """The index of the endpoint, or -1, and what the value is."""
        if not value:
            return -1, Tag.NONE
        found = FORM.fullmatch(value) if len(value) <= VALUE_CHARS_MAX else None
        if found is None:
            return -1, Tag.MALFORMED
        identity, expires, signature = found.groups()
        body = value[: -len(signature) - 1]
        for secret, indices in zip(self._secrets, self._by_secret, strict=True):
            if hmac.compare_digest(self._signed(secret, body), signature):
                if int(expires) and int(expires) <= now_s:
                    return -1, Tag.EXPIRED
                index = indices.get(identity, -1)
                return index, Tag.GOOD if index >= 0 else Tag.UNKNOWN
        return -1, Tag.FORGED

    def _signed(self, secret: bytes, body: str) -> str:
        # The upstream is signed too: a tag of one is none of another with the same secret.
        return hmac.new(secret, f"{self._upstream}\n{body}".encode(), "sha256").hexdigest()[:32]


def _identity(secret: bytes, upstream: str, name: str) -> str:
    return blake2b(f"{upstream}\n{name}".encode(), key=secret[:64], digest_size=8).hexdigest()


def set_cookie(
    name: str, value: str, *, path: str, max_age_s: int, same_site: str, is_secure: bool
) -> str:
    """The value of Set-Cookie (RFC 6265 section 4.1); `max_age_s` 0: until the browser closes."""
    parts = [f"{name}={value}", f"Path={path}", "HttpOnly", f"SameSite={same_site.capitalize()}"]
    if max_age_s:
        parts.append(f"Max-Age={max_age_s}")
    if is_secure:
        parts.append("Secure")
    return "; ".join(parts)
