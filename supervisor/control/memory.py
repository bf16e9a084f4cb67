"""Control's hold on shared memory: attached when needed, used by one thread at a time.

Control reads the region (counters, journal) and writes one table of it, the names
of the series. It must survive a region that is missing or damaged: then metrics
say so, `why` says so, routes count as "(none)", and the traffic, which is the
workers' affair, does not notice.

Rule 1: reading takes milliseconds for a large region, so it happens in a thread;
    and a `Region` remembers what it has read, so it is one thread at a time.
Rule 2: whatever a reading raises is a fault of the region, not of control. The
    region is let go, and attached anew for the next question: a restarted
    control process would do nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from shm.faults import RegionFault
from shm.region import Region

T = TypeVar("T")


class MemoryFault(Exception):
    """Shared memory cannot be used; the text says why."""


class Memory:
    """The region of this instance."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._region: Region | None = None
        self._lock = threading.Lock()

    async def ask(self, question: Callable[[Region], T]) -> T:
        """Answer a question about the region without blocking the loop; raises MemoryFault."""
        return await asyncio.to_thread(self.ask_now, question)

    def ask_now(self, question: Callable[[Region], T]) -> T:
        """The same, in a thread that may block."""
        with self._lock:
            try:
                if self._region is None:
                    self._region = Region.attach(self.name)
                return question(self._region)
            except (RegionFault, OSError, ValueError, LookupError, ArithmeticError, TypeError) as error:
                self._let_go()
                text = str(error) if isinstance(error, RegionFault) else f"{type(error).__name__}: {error}"
                raise MemoryFault(f"shared memory cannot be read: {text}") from error

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        region, self._region = self._region, None
        if region is not None:
            region.close()
