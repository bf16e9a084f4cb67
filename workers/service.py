"""What all connections of one worker share: the plan, the region, the clock, the books.

Intuition: the back office of a shop. The people at the counters (connections) do not
know each other; what they have in common lies here, in one object that is handed to
each of them, and nowhere in module globals.

The one catch-all of the process is `surprise`: callbacks that meet an exception which
nobody expected end their own connection and report here, where it is counted and its
traceback written to standard error. The worker goes on.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sentinel.core.plan import Plan
from sentinel.core.routes import compile_routes
from sentinel.inference.estimate import Estimator
from shm.counters import Counter
from workers.accesslog import AccessLog
from workers.handshakes import Handshakes
from workers.health import Round
from workers.identities import Identities
from workers.ids import RequestIds
from workers.ledger import Ledger
from workers.passports import Passports
from workers.pricing import Prices
from workers.shadowing import Shadows
from workers.telling import tell
from workers.timers import NEVER, Ticker
from workers.vocabularies import counters
from workers.world import LiveWorld

if TYPE_CHECKING:
    from shm.region import Region
    from workers.downstream import Downstream

TRACEBACKS_PER_TICK: Final = 1
"""A fault that strikes with every request must not turn standard error into a second disk."""


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """How busy the worker is."""

    open_connections: int
    open_requests: int
    is_draining: bool


class Service:
    """The worker's own state; made once, after the fork."""

    __slots__ = (
        "_tracebacks", "connections", "drops", "estimator", "handshakes", "identities", "ids", "is_draining", "ledger",
        "log", "loop", "on_quiet", "open_requests", "open_requests_max", "passports", "plan", "prices", "reader",
        "region", "round", "shadows", "slot", "table", "ticker", "world",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, plan: Plan, region: Region, *, slot: int, generation: int
    ) -> None:
        self.loop = loop
        self.plan = plan
        self.region = region
        self.slot = slot
        self.table = compile_routes(plan, tell)
        self.ticker = Ticker(loop, self.surprise)
        self.ids = RequestIds()
        self.log = AccessLog(plan.system.access_log, plan.system.access_log_buffer_bytes, self._log_dropped)
        self.ledger = Ledger(region, self.log, self.table, slot=slot, generation=generation)
        self.prices = Prices(plan.prices)
        self.identities = Identities(plan)
        self.passports = Passports(plan)
        self.drops = self.passports.drops
        self.handshakes = Handshakes(self)
        self.world = LiveWorld(self, plan)
        self.round = Round(self, self.world.groups(), generation)
        self.shadows = Shadows(self)
        self.estimator = Estimator(counters(plan.system.vocabularies))
        self.reader = ThreadPoolExecutor(1, "reader")
        """Reads what would hold up the loop. Its thread begins with the first such body."""
        self.connections: set[Downstream] = set()
        self.open_requests = 0
        self.open_requests_max = plan.system.max_worker_requests or NEVER
        self.is_draining = False
        self.on_quiet: Callable[[], None] | None = None
        self._tracebacks = TRACEBACKS_PER_TICK
        for chore in (self.log.tick, self.ledger.tick, self.world.sweep, self.round.tick, self._expire):
            self.ticker.add(chore)
        if self.identities.has_tokens:
            self.ticker.add(self.identities.tick)
        if any(route.shadows for route in plan.routes):
            self.ticker.add(self.shadows.tick)
        loop.set_exception_handler(self._loop_fault)

    def statistics(self) -> ServiceStatistics:
        return ServiceStatistics(len(self.connections), self.open_requests, self.is_draining)

    def never_began(self, connection: Downstream) -> None:
        """It was accepted, and ended before anything could be read from it."""
        self.world.let_go(connection.leases)
        connection.leases = ()
        self.region.add(self.slot, Counter.CLOSED)

    def connection_ended(self, connection: Downstream) -> None:
        leases, connection.leases = connection.leases, ()
        if leases:
            self.world.let_go(leases)
        if connection in self.connections:
            self.connections.remove(connection)
            connection.intake.open_count -= 1
            self.region.add(self.slot, Counter.CLOSED)
            if not self.connections and self.on_quiet is not None:
                self.on_quiet()

    def surprise(self, fault: BaseException) -> None:
        """Count what should not have happened, and say what it was; the caller ends its own connection."""
        self.region.add(self.slot, Counter.SURPRISES)
        if self._tracebacks > 0:
            self._tracebacks -= 1
            sys.stderr.write("surprise: " + "".join(traceback.format_exception(fault)))

    def _loop_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """What escaped from a callback without reaching its connection; the loop has closed the transport."""
        fault = context.get("exception")
        self.surprise(fault if isinstance(fault, BaseException) else RuntimeError(str(context.get("message"))))

    def _log_dropped(self, count: int) -> None:
        self.region.add(self.slot, Counter.LOG_DROPPED, count)

    def _expire(self, now_ns: int) -> None:
        self._tracebacks = TRACEBACKS_PER_TICK
        late = [connection for connection in self.connections if connection.deadline_ns <= now_ns]
        for connection in late:
            try:
                connection.expire(now_ns)
            except Exception as fault:
                connection.surprised(fault)
