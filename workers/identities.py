"""Who asks: credentials are looked for in a request, and verified.

Intuition: the guard at the gate with his list. He looks where the badge has to be worn, compares what is written on it
with his list, and says a name, or why there is none. Nothing of the badge itself goes any further than him.

Rules:
1. What is kept of a key is a hash, in the plan as here: SHA-256 of the key, hashed again with a secret of this process.
   So what is compared are values that nobody outside can choose, and a look-up in a dictionary tells him nothing by
   the time it takes.
2. One credential is one value: a field that comes twice, or a key with a comma in it, is no key. What is presented in
   two places is read in the first of them that the filter names.
3. Of what was refused nothing is remembered and nothing is written down.
"""

from __future__ import annotations

import os
from hashlib import blake2b, sha256
from typing import Final

from sentinel.core.conditions import query_values
from sentinel.core.gates import Authenticator, gates_of
from sentinel.core.identity import MISSING, Finding, Identity, recognised
from sentinel.core.plan import ApiKey, Plan
from sentinel.core.reasons import Reason
from sentinel.core.request import Request

KEY_CHARS_MAX: Final = 4096
"""A longer one is no key; the head is bounded, and hashing it would still be work."""
TWICE: Final = Finding(Reason.KEY_UNKNOWN, None, "there are two of them")
TOO_LONG: Final = Finding(Reason.KEY_UNKNOWN, None, "it is too long")
STRANGE: Final = Finding(Reason.KEY_UNKNOWN)


class Identities:
    """Finds out who asks, for all authenticators of a plan. `secret`: of this process, and of nobody else."""

    __slots__ = ("_books", "_secret")

    def __init__(self, plan: Plan, secret: bytes = b"") -> None:
        self._secret = secret or os.urandom(32)
        self._books = {name: self._book(one) for name, one in gates_of(plan).items()}

    def identify(self, one: Authenticator, request: Request) -> Finding:
        """Who asks, by what the request shows to this authenticator."""
        shown = presented(one.read_from, request)
        if shown is None:
            return MISSING
        if not shown:
            return TWICE
        if len(shown) > KEY_CHARS_MAX:
            return TOO_LONG
        digest = sha256(shown.encode("latin-1", "replace")).digest()
        return self._books[one.name].get(self._kept(digest), STRANGE)

    def _book(self, one: ApiKey) -> dict[bytes, Finding]:
        book: dict[bytes, Finding] = {}
        for key in one.keys:
            found = recognised(Identity(one.name, "api-key", key.name, key.claims))
            book.update((self._kept(bytes.fromhex(digest)), found) for digest in key.digests)
        return book

    def _kept(self, digest: bytes) -> bytes:
        return blake2b(digest, digest_size=32, key=self._secret).digest()


def presented(places: tuple[str, ...], request: Request) -> str | None:
    """What is shown in the first of these places where something is; None: nothing, "": more than one."""
    for place in places:
        kind, _, name = place.partition(":")
        if kind == "query":
            values = query_values(request, name)
        elif kind == "header":
            values = request.values(name)
        else:
            values = request.values("authorization")
            if len(values) == 1:
                scheme, _, rest = values[0].partition(" ")
                values = [rest.strip(" ")] if scheme.lower() == "bearer" else []
        if values:
            return values[0] if len(values) == 1 and "," not in values[0] else ""
    return None
