"""Names of endpoints, resolved in the background and never on the way of a request.

Intuition: an address book that a clerk keeps up to date. Who needs an address
looks into the book, and the book always has the last answer that was good.

Rules:
1. A failure (no such name, a silent server) keeps the last good addresses.
2. A worker becomes ready without waiting longer than WARM_UP_S for names: a name that
   does not resolve costs its own requests (`name-unresolved`), not the start.
3. At most AT_ONCE look-ups run at a time: they run in the loop's thread pool, which
   others need too. A look-up that hangs keeps its seat until the C library gives
   up; asking again meanwhile would only take another seat.
4. Addresses are sorted, so that an answer in another order changes nothing, and at
   most ADDRESSES_MAX are used.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from workers.places import Group, Place

WARM_UP_S: Final = 2.0
AT_ONCE: Final = 3
ADDRESSES_MAX: Final = 16

Lookup = Callable[[str, int], Awaitable[list[str]]]


async def system_lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Resolver:
    """Keeps the addresses of all endpoints that are names."""

    __slots__ = ("_lookup", "_seats", "_tasks", "_work")

    def __init__(self, groups: list[Group], lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._work = [
            (place, group.upstream.resolve_interval_ns / 1e9)
            for group in groups for place in group.places if place.is_name
        ]  # fmt: skip
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Resolve everything once, for a limited time, and go on in the background."""
        if not self._work:
            return
        first = [asyncio.create_task(self.resolve(place)) for place, _ in self._work]
        await asyncio.wait(first, timeout=WARM_UP_S)
        self._tasks = [
            asyncio.create_task(self._keep(place, interval_s, begun))
            for (place, interval_s), begun in zip(self._work, first, strict=True)
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def resolve(self, place: Place) -> bool:
        """Look one name up; False when that failed and the old addresses stay."""
        endpoint = place.endpoint
        async with self._seats:
            try:
                addresses = await self._lookup(endpoint.host, endpoint.port)
            except (OSError, UnicodeError) as fault:
                known = len(place.pools)
                sys.stderr.write(f"resolver: {endpoint.host}: {fault}; {known} known addresses stay in use\n")
                return False
        if not addresses:
            return False
        place.resolved(sorted(set(addresses))[:ADDRESSES_MAX])
        return True

    async def _keep(self, place: Place, interval_s: float, begun: asyncio.Task[bool]) -> None:
        await asyncio.wait([begun])
        while True:
            await asyncio.sleep(interval_s if place.pools else min(interval_s, 1.0))
            await self.resolve(place)
