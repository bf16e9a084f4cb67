"""Those who watch decisions as they are made: `sentinelctl trace --follow`, and programs that hear server-sent events.

Intuition: a lecture that is not interrupted for those who write slowly. Who cannot keep up has gaps in his notes, and
is told how large they are.

Rule 1: at most FOLLOWERS_MAX at a time, and QUEUED_MAX records wait for each. What finds no room is counted, and told
    as soon as there is some.
Rule 2: the rings are read once for all of them, and not at all while there is nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from sentinel.core.record import Record, RecordFault, decode
from supervisor.control.journal import Filters, with_steps
from supervisor.control.memory import Memory, MemoryFault
from supervisor.control.tail import PAUSE_S, Batch, Tail

FOLLOWERS_MAX: Final = 16
QUEUED_MAX: Final = 2048
HEARTBEAT_S: Final = 10.0
FAULT_PAUSE_S: Final = 1.0


class TooMany(Exception):
    """There are as many followers as there may be."""


class Follower:
    """One who listens."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._queue: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._is_over = False
        self._news = asyncio.Event()

    def tell(self, records: list[Record], missed: int) -> None:
        """Give what it wants to hear; what finds no room, or nobody has read, is lost."""
        self._lost += missed
        for record in records:
            if not self._filters.hold(record):
                continue
            if len(self._queue) < QUEUED_MAX:
                self._queue.append(with_steps(record))
            else:
                self._lost += 1
        if self._queue or self._lost:
            self._news.set()

    def end(self) -> None:
        self._is_over = True
        self._news.set()

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events: `request` with a record, `lost` with a number; a comment when there was nothing."""
        yield b": the journal is followed\n\n"
        while not self._is_over:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            self._news.clear()
            while self._queue:
                yield b"event: request\ndata: " + msgspec.json.encode(self._queue.popleft()) + b"\n\n"
            lost, self._lost = self._lost, 0
            if lost:
                yield b'event: lost\ndata: {"lost":%d}\n\n' % lost


class Followers:
    """All who listen, and the one who reads to them. Used inside the loop."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._all: set[Follower] = set()
        self._anybody = asyncio.Event()
        self._tail = Tail({})
        self._joining = asyncio.Lock()

    async def join(self, filters: Filters) -> Follower:
        """Listen from now on; raises TooMany, and MemoryFault when there is nothing to be read."""
        async with self._joining:
            if len(self._all) >= FOLLOWERS_MAX:
                raise TooMany(f"{FOLLOWERS_MAX} follow the journal already")
            if not self._all:
                self._tail = await self._memory.ask(Tail.at_the_end)
            follower = Follower(filters)
            self._all.add(follower)
            self._anybody.set()
        return follower

    def leave(self, follower: Follower) -> None:
        self._all.discard(follower)
        if not self._all:
            self._anybody.clear()

    def end(self) -> None:
        """Control ends: so does what is listened to."""
        for follower in self._all:
            follower.end()

    async def run(self) -> None:
        """Read to those who listen, for ever."""
        while True:
            await self._anybody.wait()
            try:
                batch = await self._memory.ask(self._tail.read)
            except MemoryFault:
                await asyncio.sleep(FAULT_PAUSE_S)
                continue
            records = await asyncio.to_thread(_decoded, batch)
            for follower in self._all:
                follower.tell(records, batch.missed)
            await asyncio.sleep(0 if batch.has_more else PAUSE_S)


def _decoded(batch: Batch) -> list[Record]:
    records = []
    for octets in batch.records:
        try:
            records.append(decode(octets))
        except RecordFault:
            continue
    return sorted(records, key=_time)


def _time(record: Record) -> int:
    return record.time_ns + record.duration_ns
