"""A worker's life: booting, ready, serving, draining, gone.

Intuition: an actor who listens to the stage manager. He dresses (loads the plan), says that
he is ready, waits for the cue, plays, and when the cue to leave comes he finishes his
sentence and goes. If the manager vanishes, he finishes the scene all the same.

Rules:
1. Orders stand in the slot (shared memory); a byte on the leash says "look", and the heart
   looks four times a second anyway, so that a lost wake-up costs a quarter of a second.
2. The end of the leash means that the supervisor has died: drain with the plan's deadline.
3. Draining stops accepting, lets each answer carry `Connection: close`, and waits. At the
   deadline silent connections are closed, and what runs is told `drain-deadline`.
4. States only go forward. QUIT ends everything at once.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import Final

from sentinel.core.machines.worker import Order, WorkerState
from shm.counters import Counter
from shm.heritage import Heritage
from workers.listener import Acceptor
from workers.resolver import Resolver
from workers.service import Service
from workers.timers import NEVER

BEAT_S: Final = 0.25
LAST_WORDS_S: Final = 1.0
"""How long cut connections and the log may take after the deadline."""


class Life:
    """Runs one worker from ready to gone."""

    def __init__(self, service: Service, heritage: Heritage, acceptors: list[Acceptor], resolver: Resolver) -> None:
        self._service = service
        self._heritage = heritage
        self._acceptors = acceptors
        self._resolver = resolver
        self._leash = socket.socket(fileno=heritage.leash_fd)
        self._leash.setblocking(False)
        self._state = WorkerState.BOOTING
        self._over = asyncio.Event()
        self._deadline_ns = NEVER
        self._heart: asyncio.TimerHandle | None = None
        self._is_past_deadline = False

    async def live(self) -> None:
        """Return when the worker is done."""
        loop, service = self._service.loop, self._service
        service.ticker.start()
        service.ticker.add(self._look_at_deadline)
        loop.add_reader(self._leash.fileno(), self._pulled)
        loop.add_signal_handler(signal.SIGUSR1, service.log.reopen)
        self._beat()
        await self._resolver.start()
        self._become(WorkerState.READY)
        self._obey()
        await self._over.wait()
        await self._leave()

    # What the supervisor says.

    def _pulled(self) -> None:
        """The leash moved."""
        try:
            data = self._leash.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._obey()
            return
        self._service.loop.remove_reader(self._leash.fileno())
        self._drain(time.monotonic_ns() + self._service.plan.system.drain_deadline_ns)

    def _obey(self) -> None:
        order, deadline_ns = self._service.region.order(self._heritage.slot)
        if order is Order.QUIT:
            self._over.set()
        elif order is Order.DRAIN:
            self._drain(deadline_ns or NEVER)
        elif order is Order.SERVE and self._state is WorkerState.READY:
            self._become(WorkerState.SERVING)
            for acceptor in self._acceptors:
                acceptor.open()

    def _drain(self, deadline_ns: int) -> None:
        if self._state is WorkerState.DRAINING:
            self._deadline_ns = min(self._deadline_ns, deadline_ns)
            return
        self._deadline_ns = deadline_ns
        for acceptor in self._acceptors:
            acceptor.close()
        self._become(WorkerState.DRAINING)
        self._service.is_draining = True
        self._service.on_quiet = self._maybe_over
        self._service.world.close()
        self._maybe_over()

    def _maybe_over(self) -> None:
        service = self._service
        if service.is_draining and not service.connections and not any(acceptor.busy for acceptor in self._acceptors):
            self._over.set()

    def _look_at_deadline(self, _: int) -> None:
        if not self._service.is_draining:
            return
        self._maybe_over()
        now_ns = time.monotonic_ns()  # the deadline is the supervisor's, so is the clock
        if now_ns < self._deadline_ns:
            return
        if not self._is_past_deadline:
            self._is_past_deadline = True
            self._deadline_ns = now_ns + int(LAST_WORDS_S * 1e9)
            for connection in list(self._service.connections):
                self._service.region.add(self._service.slot, Counter.DRAIN_CLOSED)
                connection.drain_deadline()
        else:
            self._over.set()

    # What we say.

    def _beat(self) -> None:
        service = self._service
        self._heart = service.loop.call_later(BEAT_S, self._beat)
        service.region.beat(
            self._heritage.slot, time.monotonic_ns(), len(service.connections), service.open_requests
        )
        if self._state is not WorkerState.BOOTING:
            self._obey()

    def _become(self, state: WorkerState) -> None:
        self._state = state
        self._service.region.set_state(self._heritage.slot, state)

    async def _leave(self) -> None:
        service = self._service
        service.ticker.stop()
        if self._heart is not None:
            self._heart.cancel()
        for connection in list(service.connections):  # QUIT, or deaf after the deadline
            connection.drain_deadline()
            connection.cut()
        await self._resolver.stop()
        service.world.close()
        await asyncio.sleep(0)
        service.log.close(LAST_WORDS_S)
        service.region.beat(self._heritage.slot, time.monotonic_ns(), 0, 0)
        self._become(WorkerState.GONE)
        self._leash.detach()
