"""A worker's life: booting, ready, serving, draining, gone.

Intuition: an actor who listens to the stage manager. He dresses (loads the plan), says that
he is ready, waits for the cue, plays, and when the cue to leave comes he finishes his
sentence and goes. If the manager vanishes, he finishes the scene all the same.

Rules:
1. Orders stand in the slot (shared memory); a byte on the leash says "look", and the heart
   looks four times a second anyway, so that a lost wake-up costs a quarter of a second.
2. Where an order leads is for the table to say (core.machines.worker). Here stands what is done
   on entering a state, and only the way there is gone once.
3. The end of the leash means that the supervisor has died: let in who waits, give up the doors
   (nobody else can any more), and drain with the plan's deadline.
4. Draining stops accepting, lets each answer carry `Connection: close`, and waits. At the
   deadline silent connections are closed, what runs is told `drain-deadline`, and shadows are cut.
5. Sweeping accepts on while answers say `Connection: close`, and becomes draining when nothing
   came in between two looks QUIET_NS apart: the queue is hushed, so what is not there by then
   will not come, but for a handshake that was under way. A queue that is not empty after
   SWEEP_NS is one that nobody hushed (systemd's own): whoever starts next will serve it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import suppress
from typing import Final

from sentinel.core.machines.worker import Order, WorkerEvent, WorkerState, step
from shm.counters import Counter
from shm.heritage import Heritage
from workers.listener import Acceptor
from workers.resolver import Resolver
from workers.service import Service
from workers.timers import NEVER

BEAT_S: Final = 0.25
LAST_WORDS_S: Final = 1.0
"""How long cut connections and the log may take after the deadline."""
QUIET_NS: Final = 50_000_000
SWEEP_NS: Final = 5_000_000_000

EVENTS: Final = {
    Order.SERVE: WorkerEvent.SERVE, Order.DRAIN: WorkerEvent.DRAIN, Order.QUIT: WorkerEvent.QUIT,
    Order.SWEEP: WorkerEvent.SWEEP,
}  # fmt: skip
"""What an order is to a life; HOLD is none, since nothing changes by waiting."""


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
        self._is_orphan = False
        self._sweep_until_ns = 0  # 0: not sweeping
        self._empty_since_ns = 0
        self._accepted_count = 0

    async def live(self) -> None:
        """Return when the worker is done."""
        loop, service = self._service.loop, self._service
        service.ticker.start()
        service.ticker.add(self._look_at_deadline)
        loop.add_reader(self._leash.fileno(), self._pulled)
        loop.add_signal_handler(signal.SIGUSR1, service.log.reopen)
        self._beat()
        await self._resolver.start()
        self._meet(WorkerEvent.WARMED)
        self._obey()
        if self._is_orphan:
            self._leave_the_house()
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
        self._is_orphan = True
        self._leave_the_house()

    def _leave_the_house(self) -> None:
        """The supervisor has died: who waits is let in, then the doors are given up, so that an heir can have them."""
        if self._state is WorkerState.SERVING:
            for acceptor in self._acceptors:
                acceptor.look()
        self._meet(WorkerEvent.DRAIN, time.monotonic_ns() + self._service.plan.system.drain_deadline_ns)
        if self._state is WorkerState.BOOTING:
            return  # it looks again when it is ready
        for acceptor in self._acceptors:
            acceptor.close()
        for fd in {fd for fds in self._heritage.sockets.values() for fd in fds}:
            with suppress(OSError):
                os.close(fd)

    def _obey(self) -> None:
        order, deadline_ns = self._service.region.order(self._heritage.slot)
        event = EVENTS.get(order)
        if event is not None:
            self._meet(event, deadline_ns or NEVER)

    def _meet(self, event: WorkerEvent, deadline_ns: int = NEVER) -> None:
        """Go where the table leads."""
        before, after = self._state, step(self._state, event)
        if event in (WorkerEvent.DRAIN, WorkerEvent.SWEEP) and not self._is_past_deadline:
            self._deadline_ns = min(self._deadline_ns, deadline_ns)
        if after is not before:
            self._enter(after)
        if event is WorkerEvent.SWEEP and after is WorkerState.SERVING and not self._sweep_until_ns:
            self._sweep()

    def _enter(self, state: WorkerState) -> None:
        self._state = state
        if state is WorkerState.GONE:  # said at the very end, in `_leave`
            self._over.set()
            return
        if state is WorkerState.SERVING:
            for acceptor in self._acceptors:
                acceptor.open()
        elif state is WorkerState.DRAINING:
            for acceptor in self._acceptors:
                acceptor.close()
            self._say_goodbye()
        self._service.region.set_state(self._heritage.slot, state)
        self._maybe_over()

    # The way out.

    def _sweep(self) -> None:
        """Accept who already waits, and part with everybody who is served."""
        now_ns = time.monotonic_ns()
        self._sweep_until_ns = now_ns + SWEEP_NS
        self._empty_since_ns = now_ns
        self._say_goodbye()
        self._service.ticker.add(self._look_at_queues)
        self._look_at_queues(0)

    def _look_at_queues(self, _: int) -> None:
        if self._state is not WorkerState.SERVING:
            return
        now_ns = time.monotonic_ns()
        is_empty = all([acceptor.look() for acceptor in self._acceptors])
        accepted_count = sum(acceptor.accepted_count for acceptor in self._acceptors)
        if not is_empty or accepted_count != self._accepted_count:
            self._accepted_count = accepted_count
            self._empty_since_ns = now_ns
        if now_ns - self._empty_since_ns >= QUIET_NS or now_ns >= min(self._sweep_until_ns, self._deadline_ns):
            self._meet(WorkerEvent.DRAIN)

    def _say_goodbye(self) -> None:
        """From now on every answer is the last of its connection."""
        self._service.is_draining = True
        self._service.on_quiet = self._maybe_over
        self._service.world.close()

    def _maybe_over(self) -> None:
        if (
            self._state is WorkerState.DRAINING
            and not self._service.connections
            and not self._service.shadows.under_way
            and not any(acceptor.busy for acceptor in self._acceptors)
        ):
            self._meet(WorkerEvent.FINISHED)

    def _look_at_deadline(self, _: int) -> None:
        if self._state is not WorkerState.DRAINING:
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
            self._service.shadows.cut()
        else:
            self._meet(WorkerEvent.QUIT)

    # What it says.

    def _beat(self) -> None:
        service = self._service
        self._heart = service.loop.call_later(BEAT_S, self._beat)
        service.region.beat(
            self._heritage.slot, time.monotonic_ns(), len(service.connections), service.open_requests
        )
        self._obey()

    async def _leave(self) -> None:
        service = self._service
        service.ticker.stop()
        if self._heart is not None:
            self._heart.cancel()
        for connection in list(service.connections):  # QUIT, or deaf after the deadline
            connection.drain_deadline()
            connection.cut()
        service.shadows.cut()
        service.round.stop()
        await self._resolver.stop()
        service.world.close()
        await asyncio.sleep(0)
        service.ledger.close(LAST_WORDS_S)
        service.region.beat(self._heritage.slot, time.monotonic_ns(), 0, 0)
        service.region.set_state(self._heritage.slot, WorkerState.GONE)
        self._leash.detach()
