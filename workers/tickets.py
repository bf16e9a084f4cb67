"""Sessions that are resumed at any worker: the keys of tickets are the fleet's, and change twice a day.

Intuition: a cloakroom ticket of a house with many doors. Written by one doorman, it is good at every door of the same
hall, for the doormen of a hall have one stamp. In another hall it is paper, and tomorrow it is paper here, too.

    ratchet of the supervisor ──▶ key for (generation, listener, what is served on which terms) ──▶ each context

Rules:
1. A context's keys are those of its generation, its listener, its certificates and its terms. So a ticket that was
   written when somebody had proved less (or to an older generation, who trusted others) resumes nothing: the
   handshake is whole, and proves everything anew.
2. Keys are in memory only (shm.ratchet), and made anew when its epoch ends. Tickets of the epoch before are not taken:
   with a lifetime of two hours, a few in a hundred are met by that, and cost a handshake.
3. Where the keys cannot be set (workers.contexts), each worker has its own, as
   OpenSSL draws them: sessions are resumed where chance leads back to the same worker.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from shm.ratchet import EPOCH_NS, Ratchet
from workers.contexts import set_keys

if TYPE_CHECKING:
    from shm.heritage import Heritage

KEYS_BYTES: Final = 80  # name 16, HMAC 32, AES 32


class Tickets:
    """The keys of all contexts of one worker."""

    __slots__ = ("_contexts", "_ends_ns", "_ratchet", "is_shared")

    def __init__(self, heritage: Heritage, contexts: Iterable[tuple[str, ssl.SSLContext]]) -> None:
        self._contexts = [(f"tickets\0{heritage.generation}\0{purpose}", context) for purpose, context in contexts]
        self._ratchet: Ratchet | None = heritage.tickets
        self._ends_ns = 0
        self.is_shared = False
        self.turn(0)

    def turn(self, _: int) -> None:
        """Take the keys of the present epoch, if they are not taken already."""
        now_ns = time.monotonic_ns()  # other processes turn with us, so it is everybody's clock
        if now_ns < self._ends_ns or self._ratchet is None:
            return
        ratchet = self._ratchet = self._ratchet.at(now_ns)
        self._ends_ns = (ratchet.epoch + 1) * EPOCH_NS
        keyed = [set_keys(context, ratchet.key(purpose, KEYS_BYTES)) for purpose, context in self._contexts]
        self.is_shared = all(keyed)
