"""The plans of generations, old and new, for whoever explains a request of the past.

Intuition: a court that keeps the old law books. A case is judged by the law of its day, so
an old record is explained with the plan by which it was decided, also when a reload has
replaced that since.

The supervisor knows which file belongs to which of the last generations (its status), and the store keeps these
files; here some of them are kept read and indexed. Bounded three ways: the supervisor remembers twenty generations,
here are TABLES_MAX of them, and together no more than OCTETS_MAX on disk (which is about a tenth of what they take in
memory). A plan that is not known any more, or cannot be read, is None: then less is told, and that is said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sentinel.core.routes import RouteTable, compile_routes
from supervisor.control.channel import ChannelFault, SupervisorRefusal
from supervisor.control.running import PlanFault, read_plan

TABLES_MAX: Final = 8
OCTETS_MAX: Final = 32 * 1024 * 1024

Status = Callable[[], Awaitable[dict[str, Any]]]


class Archive:
    """Route tables by generation. Used inside the loop; plans are read and indexed in a thread."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._tables: dict[str, tuple[RouteTable, int]] = {}  # by fingerprint, the longest unused first

    async def table(self, generation: int) -> RouteTable | None:
        """The table by which requests of this generation were decided."""
        try:
            place = place_of(await self._status(), generation)
        except (ChannelFault, SupervisorRefusal):
            return None
        if place is None:
            return None
        path, fingerprint = place
        known = self._tables.pop(fingerprint, None)
        if known is None:
            try:
                known = await asyncio.to_thread(_read, path, fingerprint)
            except (PlanFault, OSError, ValueError):
                return None
        self._tables[fingerprint] = known
        self._forget()
        return known[0]

    def _forget(self) -> None:
        while len(self._tables) > 1 and (
            len(self._tables) > TABLES_MAX or sum(octets for _, octets in self._tables.values()) > OCTETS_MAX
        ):
            del self._tables[next(iter(self._tables))]


def place_of(status: dict[str, Any], generation: int) -> tuple[str, str] | None:
    """Path and fingerprint of a generation's plan, as the supervisor's status has them."""
    for entry in status.get("history") or ():
        if isinstance(entry, dict) and entry.get("generation") == generation and entry.get("path"):
            return str(entry["path"]), str(entry.get("fingerprint", ""))
    return None


def _read(path: str, fingerprint: str) -> tuple[RouteTable, int]:
    return compile_routes(read_plan(path, fingerprint)), os.stat(path).st_size
