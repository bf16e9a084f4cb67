"""A secret that all processes of an instance share, that is on no disk, and that nobody can turn back.

            at the end of each epoch
    secret ──────────────────────────▶ next secret ─────▶ …       what was made of the former one
      │                                  │                        can be made by nobody any more
      └──▶ key for a purpose             └──▶ another key

Intuition: watchmen who count the same steps. Each was told the word of the hour in which he came, and all make the next
word of the last one by the same rule and forget that one. So they agree without a word between them, and
whoever catches one of them learns nothing of yesterday.

Rules:
1. The supervisor draws the first secret, and hands the present one on by forking. It is never written anywhere.
2. An epoch is a part of the machine's monotonic clock, which is the same for all processes.
3. Keys for different purposes tell nothing of each other, nor of the secret.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Final

EPOCH_NS: Final = 12 * 3600 * 1_000_000_000
"""So long at most somebody with a key can read what it protects; the session that began before is begun anew."""
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Ratchet:
    """The secret of one epoch."""

    epoch: int
    secret: bytes = field(repr=False)

    @classmethod
    def drawn(cls, now_ns: int) -> Ratchet:
        """A new one; run by the supervisor when it starts."""
        return cls(now_ns // EPOCH_NS, os.urandom(SECRET_BYTES))

    def at(self, now_ns: int) -> Ratchet:
        """What has become of it by now; itself within its epoch."""
        epoch, secret = now_ns // EPOCH_NS, self.secret
        if epoch <= self.epoch:
            return self
        for _ in range(self.epoch, epoch):  # two a day, also after a year of sleep
            secret = _made(b"next", secret, SECRET_BYTES)
        return Ratchet(epoch, secret)

    def key(self, purpose: str, size_bytes: int) -> bytes:
        return _made(b"key\0" + purpose.encode(), self.secret, size_bytes)


def _made(what: bytes, secret: bytes, size_bytes: int) -> bytes:
    """Of a secret of fixed size, first, so that no two inputs are the same; SHAKE needs no more to be a keyed hash."""
    return hashlib.shake_256(secret + what).digest(size_bytes)
