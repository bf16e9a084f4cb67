"""Everything that a worker receives from the supervisor, written down once.

Intuition: a will. What is not in it does not pass: the child closes every other
descriptor, and checks that they are closed, before it serves anybody. So a leak
is not a matter of discipline in ten places but of one value that can be read.

Rule 1: a worker is forked, not exec'd, so values travel as Python objects and
    the region as a mapping that the child already has. No descriptor belongs to
    the region (see shm.mapping): closing everything does not hurt it.
Rule 2: the listening sockets are the supervisor's. A worker accepts from them
    and never closes or shuts one down: others share the queue behind it.
Rule 3: the leash is one end of a socketpair. End of file says that the
    supervisor has died (drain, then leave); a byte says: look at your order.

Rejected: passing these through the environment, as control gets its heritage.
A fork needs no text form, and text would have to be parsed and could be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shm.ratchet import Ratchet
    from shm.region import Region


@dataclass(frozen=True, slots=True)
class Heritage:
    """What a worker inherits; made by the supervisor before the fork, read by the worker after it.

    `sockets`: the address of a listener, "host:port", to its listening descriptors,
    the own lane's first, then those that no lane owns any more.
    `plan_path`, `fingerprint`: the plan's file, and the SHA-256 (hex) that its octets must have.
    `tickets`: of what keys of TLS sessions are made, so that all workers have the same.
    """

    region: Region
    slot: int
    lane: int
    generation: int
    plan_path: str
    fingerprint: str
    sockets: dict[str, tuple[int, ...]]
    leash_fd: int
    cpu: int | None
    tickets: Ratchet | None = None

    def descriptors(self) -> frozenset[int]:
        """All descriptors that the worker keeps, besides the three standard ones."""
        return frozenset((self.leash_fd, *(fd for fds in self.sockets.values() for fd in fds)))
