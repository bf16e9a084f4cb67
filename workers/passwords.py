"""Names and passwords, verified aside: a hash that is slow on purpose must not stop those who wait behind it.

Intuition: a clerk in the back room who compares handwriting. It takes him a moment, so the counter goes on meanwhile;
only so many letters may lie on his desk; and whose hand he has compared this morning need not wait again.

Rules:
1. THREADS threads of a worker verify; at most WAITING_MAX passwords wait for them, others are refused at once (503).
   The hash lets other threads run while it is computed.
2. A name that is not known takes as long as one that is, by a hash of the same cost.
3. What was right is remembered for REMEMBERED_S under a hash with a secret of this process, so many at most. What was
   wrong is not: who guesses pays for each guess.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from typing import Final

from sentinel.core.identity import Finding, Identity, recognised
from sentinel.core.passwords import DECOY, Hash, is_right, read_hash
from sentinel.core.plan import Basic
from sentinel.core.reasons import Reason

THREADS: Final = 2
WAITING_MAX: Final = 32
"""At a tenth of a second each the last one waits for less than two seconds."""
REMEMBERED_MAX: Final = 1024
REMEMBERED_S: Final = 300.0
SHOWN_CHARS_MAX: Final = 4096

WRONG: Final = Finding(Reason.PASSWORD_WRONG)
ILLEGIBLE: Final = Finding(Reason.PASSWORD_WRONG, None, "it is no name and password in base64")
BUSY: Final = Finding(Reason.PASSWORDS_WAITING)
Waiter = Callable[[Finding], None]


class Desk:
    """The threads of one worker, for all filters; they begin with the first password."""

    __slots__ = ("_pool", "waiting")

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self.waiting = 0

    def submit(self, work: Callable[[], Finding]) -> Future[Finding] | None:
        """None: there is no room."""
        if self.waiting >= WAITING_MAX:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "passwords")
        self.waiting += 1
        return self._pool.submit(work)


class PasswordBook:
    """The users of one filter."""

    __slots__ = ("_decoy", "_known", "_secret", "_users", "rule")

    def __init__(self, rule: Basic, secret: bytes) -> None:
        self.rule = rule
        self._secret = secret
        self._users: dict[str, tuple[Hash, Finding]] = {}
        for one in rule.users:
            kept = read_hash(one.password_hash)
            assert kept is not None, "the plan was checked"
            self._users[one.name] = kept, recognised(Identity(rule.name, "basic", one.name, one.claims))
        self._decoy = next((kept for kept, _ in self._users.values()), DECOY)._replace(digest=DECOY.digest)
        self._known: dict[bytes, tuple[Finding, float]] = {}

    def identify(self, shown: str) -> Finding | None:
        """What is known without computing: somebody who was here lately, or nothing that could be right."""
        if read(shown) is None:
            return ILLEGIBLE
        known = self._known.get(self._mark(shown))
        return known[0] if known is not None and time.monotonic() < known[1] else None

    def verify(self, shown: str) -> Finding:
        """Compute it; in a thread where others wait."""
        pair = read(shown)
        if pair is None:
            return ILLEGIBLE
        name, password = pair
        kept, found = self._users.get(name, (self._decoy, WRONG))
        return found if is_right(password, kept) else WRONG

    def remember(self, shown: str, found: Finding) -> None:
        """Somebody has shown that he knows it."""
        if found.identity is not None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[self._mark(shown)] = found, time.monotonic() + REMEMBERED_S

    def _mark(self, shown: str) -> bytes:
        return blake2b(shown.encode("latin-1", "replace"), digest_size=24, key=self._secret).digest()


def read(shown: str) -> tuple[str, bytes] | None:
    """The name and the password of a credential (RFC 7617); None when it is none."""
    if len(shown) > SHOWN_CHARS_MAX:
        return None
    try:
        octets = base64.b64decode(shown, validate=True)
        name, colon, password = octets.partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):  # also no UTF-8
        return None
