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
4. Tokens are workers.tokens' affair, passwords workers.passwords'. Here they are only found.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from hashlib import blake2b, sha256
from typing import Final

from sentinel.core.conditions import query_values
from sentinel.core.gates import Authenticator, gates_of
from sentinel.core.identity import MISSING, Finding, Identity, recognised
from sentinel.core.plan import ApiKey, Basic, Jwt, Mtls, Plan
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.secured import Secured, Shown
from workers.passwords import BUSY, ILLEGIBLE, Desk, PasswordBook
from workers.tokens import TokenBook, want

KEY_CHARS_MAX: Final = 4096
"""A longer one is no key; the head is bounded, and hashing it would still be work."""
TWICE: Final = Finding(Reason.KEY_UNKNOWN, None, "there are two of them")
TOO_LONG: Final = Finding(Reason.KEY_UNKNOWN, None, "it is too long")
STRANGE: Final = Finding(Reason.KEY_UNKNOWN)
TWO_TOKENS: Final = Finding(Reason.TOKEN_MALFORMED, None, "there are two of them")
CERTIFICATES_MAX: Final = 4096
Waiter = Callable[[Finding], None]
WANT_NS: Final = 1_000_000_000
"""How often a worker says that it needs other keys."""


class Identities:
    """Finds out who asks, for all authenticators of a plan. `secret`: of this process, and of nobody else."""

    __slots__ = ("_books", "_certificates", "_desk", "_passwords", "_secret", "_tokens", "_wanted_ns")

    def __init__(self, plan: Plan, secret: bytes = b"") -> None:
        self._secret = secret or os.urandom(32)
        gates = gates_of(plan).values()
        self._books = {one.name: self._book(one) for one in gates if isinstance(one, ApiKey)}
        run_dir = plan.system.run_dir
        self._tokens = {one.name: TokenBook(one, self._secret, run_dir) for one in gates if isinstance(one, Jwt)}
        self._certificates: dict[tuple[str, str], Finding] = {}
        self._passwords = {one.name: PasswordBook(one, self._secret) for one in gates if isinstance(one, Basic)}
        self._desk = Desk()
        self._wanted_ns = 0

    def identify(self, one: Authenticator, request: Request, now_s: float = 0) -> Finding | None:
        """Who asks, by what the request shows to this authenticator; None: that has to be computed first.

        now_s 0: at the present time.
        """
        if type(one) is Mtls:
            return self._certified(one, request.secured)
        shown = presented(one.read_from, request)
        if shown is None:
            return MISSING
        if type(one) is Jwt:
            return self._tokens[one.name].identify(shown, now_s) if shown else TWO_TOKENS
        if type(one) is Basic:
            return self._passwords[one.name].identify(shown) if shown else ILLEGIBLE
        if not shown:
            return TWICE
        if len(shown) > KEY_CHARS_MAX:
            return TOO_LONG
        digest = sha256(shown.encode("latin-1", "replace")).digest()
        return self._books[one.name].get(self._kept(digest), STRANGE)

    def _certified(self, one: Mtls, secured: Secured | None) -> Finding:
        """Who asks, by the certificate of the connection: it was verified when that began."""
        shown = None if secured is None else secured.shown
        if shown is None:
            return MISSING
        known = self._certificates.get((one.name, shown.fingerprint))
        if known is None:
            if len(self._certificates) >= CERTIFICATES_MAX:
                self._certificates.clear()
            known = self._certificates[one.name, shown.fingerprint] = certified(one, shown)
        return known

    def compute(self, one: Authenticator, request: Request, loop: asyncio.AbstractEventLoop, told: Waiter) -> None:
        """Compute what `identify` could not say, aside; `told` is called with it, never at once."""
        book, shown = self._passwords[one.name], presented(one.read_from, request) or ""
        work = self._desk.submit(lambda: book.verify(shown))
        if work is None:
            loop.call_soon(told, BUSY)
            return

        def done() -> None:
            self._desk.waiting -= 1
            found = BUSY if work.exception() is not None else work.result()  # there was no memory for it
            book.remember(shown, found)
            told(found)

        work.add_done_callback(lambda _: loop.call_soon_threadsafe(done))

    def computed(self, one: Authenticator, request: Request, now_s: float = 0) -> Finding:
        """The same here and now, where nobody waits behind it."""
        found = self.identify(one, request, now_s)
        if found is not None:
            return found
        shown = presented(one.read_from, request) or ""
        return self._passwords[one.name].verify(shown)

    def tick(self, now_ns: int) -> None:
        """Say which keys are needed that are not there."""
        if now_ns - self._wanted_ns < WANT_NS:
            return
        self._wanted_ns = now_ns
        for book in self._tokens.values():
            if book.is_wanted and book.path:
                book.is_wanted = False
                want(book.path)

    @property
    def has_tokens(self) -> bool:
        return bool(self._tokens)

    def _book(self, one: ApiKey) -> dict[bytes, Finding]:
        book: dict[bytes, Finding] = {}
        for key in one.keys:
            found = recognised(Identity(one.name, "api-key", key.name, key.claims))
            book.update((self._kept(bytes.fromhex(digest)), found) for digest in key.digests)
        return book

    def _kept(self, digest: bytes) -> bytes:
        return blake2b(digest, digest_size=32, key=self._secret).digest()


def certified(one: Mtls, shown: Shown) -> Finding:
    """What a certificate says of whom it is of."""
    subject = shown.part(one.part)
    if not subject:
        return Finding(Reason.CREDENTIALS_MISSING, None, f"its certificate has no `{one.part}`")
    claims = tuple((name, value) for name in one.claims if (value := shown.part(name)))
    return recognised(Identity(one.name, "mtls", subject, claims))


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
                values = [rest.strip(" ")] if scheme.lower() == kind else []
        if values:
            return values[0] if len(values) == 1 and "," not in values[0] else ""
    return None
