"""The loop: wait, gather facts, ask the policy, carry out. All that touches the world passes through here.

    signals ----+
    pidfds -----+--> wake --> turn: words -> facts -> policy.plan -> actions -> news --> wait until `look_again_ns`
    channel ----+

Intuition: a night porter. He sleeps until a bell rings or his alarm does, looks at
the board, does what the house rules say for such a board, and sleeps again. He
decides nothing himself; the rules are policy.py.

Rule 1: one thread, and no await inside a turn: what the policy saw is still so when
    its actions are carried out.
Rule 2: an action that cannot be carried out leaves its mark in the notebook (a
    death, a refused generation) and is seen by the policy at the next turn.
Rule 3: the alarm is at most a quarter of a second away, so that a lost wake-up
    or a heartbeat that stops is noticed by looking.
Rule 4: an exception that nobody expected ends the supervisor. Its workers see the
    leash end, finish what they have, and leave: failing loudly loses less than
    a porter who walks in his sleep.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import msgspec
import trio

from sentinel.core.machines.rollout import UNDER_WAY, RolloutEvent, RolloutState
from shm.faults import RegionDamaged
from shm.mapping import place
from shm.region import Region
from supervisor import policy
from supervisor.actions import (
    Action,
    Advance,
    Close,
    EndControl,
    Enter,
    Exit,
    Facts,
    Fork,
    ForkSweeper,
    Give,
    Hush,
    Kill,
    KillControl,
    Prepare,
    Restore,
    StartControl,
    Stop,
)  # fmt: skip
from supervisor.controlling import Desk
from supervisor.crew import Crew
from supervisor.fleet import Fleet, Mode
from supervisor.requests import Requests
from supervisor.sdnotify import Systemd
from supervisor.sockets import BindFault, Sockets
from supervisor.spawn import WorkerMain
from supervisor.words import write_now

GAP_NS: Final = 2_000_000_000
"""Turns are a quarter of a second apart. Longer than this, and we (so the machine, most likely) were asleep."""
STOP_WITHOUT_PLAN_NS: Final = 5_000_000_000
"""How long stopping may take when no generation says how patient to be."""
HEIR_PAUSE_NS: Final = 20_000_000
COUNTED: Final = frozenset({RolloutState.HANDOVER, RolloutState.CANARY, RolloutState.PROBATION})
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
UNRESTED: Final = UNDER_WAY - {RolloutState.CANARY}
"""States in which systemd waits for the end of a reload. A canary waits for an operator, who may take days."""
_encode = msgspec.json.Encoder().encode


def say(text: str) -> None:
    """One line on standard error: the supervisor's log. Lost when it is not taken at once (see supervisor.words)."""
    write_now(2, f"sentinel: {text}\n".encode("utf-8", "backslashreplace"))


class Loop:
    """The supervisor at work. Made and used inside one trio run."""

    def __init__(
        self, *, region: Region, sockets: Sockets, desk: Desk, systemd: Systemd, worker_main: WorkerMain,
        slots_max: int, heir_until_ns: int = 0,
    ) -> None:  # fmt: skip
        self._fleet = Fleet()
        self._sockets = sockets
        self._desk = desk
        self._systemd = systemd
        self._region = region
        self._slots_max = slots_max
        self._heir_until_ns = heir_until_ns
        self._pause_until_ns = 0
        self._crew = Crew(region, self._fleet, sockets, worker_main, say)
        self._requests = Requests(self._fleet, self._crew, sockets, desk, region.name, self._begin_stop)
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._looked_ns = self._awake_ns = self._changed_ns = self._alive_ns = time.monotonic_ns()
        self._exit_status: int | None = None
        self._is_ready = self._is_reloading = False
        self._is_reload_owed = False

    async def run(self) -> int:
        """Keep the fleet alive until it is told to end; returns the exit status."""
        with trio.open_signal_receiver(*SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._hear_signals, signals)
                while self._exit_status is None:
                    self._wake = trio.Event()
                    look_again_ns = self._turn()
                    pause_s = max(0, look_again_ns - time.monotonic_ns()) / 1e9
                    with trio.move_on_after(pause_s):
                        await self._wake.wait()
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        self._crew.close()
        assert self._exit_status is not None
        return self._exit_status

    # What we hear.

    async def _hear_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            match number:
                case signal.SIGHUP:
                    say("SIGHUP: reload")
                    self._is_reload_owed = True
                case signal.SIGUSR1:
                    say("SIGUSR1: logs are reopened")
                    self._crew.signal_all(signal.SIGUSR1)
                    self._event("reopen-logs")
                case _:
                    self._begin_stop(0, signal.Signals(number).name)
            self._stir()

    async def _await_worker(self, slot: int, pidfd: int) -> None:
        await trio.lowlevel.wait_readable(pidfd)
        self._crew.bury(slot)
        self._stir()

    async def _await_control(self, pidfd: int) -> None:
        await trio.lowlevel.wait_readable(pidfd)
        os.close(pidfd)
        is_ordered = bool(self._desk.facts().ordered_ns)
        pid = self._desk.pid
        if self._desk.channel is not None:
            trio.lowlevel.notify_closing(self._desk.channel)  # wakes whoever listens to it
        status = self._desk.bury(time.monotonic_ns())
        if not is_ordered and self._fleet.mode is not Mode.STOPPING:  # a group was sent SIGTERM, and control is in it
            say(f"control {pid} ended with status {status}; it is started again, and traffic goes on")
        self._stir()

    async def _hear_control(self) -> None:
        channel = self._desk.channel
        while channel is not None and channel is self._desk.channel:
            try:
                await trio.lowlevel.wait_readable(channel)
            except trio.ClosedResourceError:
                return
            messages = self._desk.messages()
            if messages is None:
                return  # it ends, or has ended; its pidfd tells
            self._desk.heard_ns = time.monotonic_ns()
            for data in messages:
                self._desk.say(self._requests.answer(data))
            self._stir()

    def _stir(self) -> None:
        """Something has changed: turn now."""
        self._changed_ns = time.monotonic_ns()
        self._wake.set()

    def _begin_stop(self, status: int, why: str) -> None:
        fleet = self._fleet
        if fleet.mode is Mode.STOPPING:
            if not fleet.is_forced and why:
                say(f"{why} again: ends at once")
                fleet.is_forced = True
            return
        serving = fleet.serving()
        patience_ns = serving.terms.drain_deadline_ns if serving else STOP_WITHOUT_PLAN_NS
        fleet.mode = Mode.STOPPING
        fleet.stop_status = status
        fleet.stop_deadline_ns = time.monotonic_ns() + patience_ns
        say(f"stops ({why}): what runs may finish within {patience_ns / 1e9:g} s")
        self._systemd.stopping()

    # What we do.

    def _turn(self) -> int:
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns > GAP_NS:
            self._awake_ns = now_ns
        self._looked_ns = now_ns
        self._crew.pass_on_words()
        self._desk.pass_on_words()
        self._watchdog(now_ns)
        if self._is_reload_owed:  # until somebody has taken it: control may be away, or its channel full
            self._is_reload_owed = not self._event("reload")
        plan = policy.plan(self._facts(now_ns))
        for action in plan.actions:
            self._carry_out(action, now_ns)
        if plan.actions:
            self._changed_ns = now_ns
        self._tell_news()
        return max(plan.look_again_ns, self._pause_until_ns)

    def _facts(self, now_ns: int) -> Facts:
        fleet = self._fleet
        for one in fleet.generations():
            if one.state in COUNTED:
                fleet.count(one.number, *self._region.generation_totals(one.number))
        return Facts(
            now_ns=now_ns, awake_ns=self._awake_ns, changed_ns=self._changed_ns, mode=fleet.mode, current=fleet.current,
            generations=fleet.generations(), members=tuple(self._crew.look()), deaths=tuple(fleet.deaths),
            doors=self._sockets.doors(), control=self._desk.facts(), slots_max=self._slots_max,
            stop_deadline_ns=fleet.stop_deadline_ns, stop_status=fleet.stop_status, is_forced=fleet.is_forced,
            sweepers_forked=fleet.sweepers_forked,
        )  # fmt: skip

    def _carry_out(self, action: Action, now_ns: int) -> None:
        fleet = self._fleet
        match action:
            case Prepare(generation):
                self._prepare(generation, now_ns)
            case Advance(generation, event, why):
                self._advance(generation, event, why, now_ns)
            case Restore(source, failed):
                origin = fleet.generation(source)
                assert origin is not None
                fleet.stage(origin.terms, now_ns, restores=failed)
            case Fork(generation, lane):
                self._fork(generation, lane, ())
            case ForkSweeper(generation, addresses):
                fleet.sweepers_forked += 1
                self._fork(generation, 0, addresses)
            case Give(slot, order, deadline_ns):
                self._crew.give(slot, order, deadline_ns)
            case Kill(slot, number, why):
                if why:
                    fleet.members[slot] = replace(fleet.members[slot], killed_ns=now_ns)
                    say(f"worker {fleet.members[slot].pid} is ended by {number.name}: {why}")
                self._crew.kill(slot, number, why)
            case Hush(address):
                self._sockets.hush(address)
            case Close(address):
                fleet.sweepers_forked = 0
                if lost := self._sockets.close(address):
                    say(f"{address} is closed with {lost} connections in its queues, which nobody could accept")
            case Enter(mode):
                fleet.mode = mode
                say(f"the fleet is {mode.value}")
            case StartControl():
                self._start_control(now_ns)
            case KillControl(why):
                say(why)
                self._desk.kill()
            case EndControl(number):
                self._desk.end(number, now_ns)
            case Stop(status, why):
                say(why)
                self._begin_stop(status, why)
            case Exit(status):
                self._exit_status = status

    def _prepare(self, number: int, now_ns: int) -> None:
        generation = self._fleet.generation(number)
        assert generation is not None
        try:
            self._sockets.prepare(generation.terms.addresses, generation.lanes)
        except BindFault as fault:
            if fault.is_taken and now_ns < self._heir_until_ns:
                self._pause_until_ns = now_ns + HEIR_PAUSE_NS
                return  # by workers of our predecessor, who was killed: tried again at the next turn
            self._fleet.advance(number, RolloutEvent.FAILED, now_ns, str(fault))
        else:
            self._heir_until_ns = 0
            self._fleet.advance(number, RolloutEvent.PREPARED, now_ns)

    def _advance(self, number: int, event: RolloutEvent, why: str, now_ns: int) -> None:
        generation = self._fleet.generation(number)
        assert generation is not None
        if event is RolloutEvent.TAKES_OVER:
            try:
                self._sockets.open(generation.terms.addresses, generation.lanes)
            except BindFault as fault:
                self._fleet.advance(number, RolloutEvent.FAILED, now_ns, str(fault))
                return
        self._fleet.advance(number, event, now_ns, why)
        if event is RolloutEvent.TAKES_OVER and self._fleet.current == number:
            try:
                self._region.publish(number)
            except ValueError as fault:
                raise RegionDamaged(str(fault), place(self._region.name)) from None

    def _fork(self, number: int, lane: int, sweeping: tuple[str, ...]) -> None:
        generation = self._fleet.generation(number)
        assert generation is not None and self._nursery is not None
        born = self._crew.fork(generation, lane, sweeping)
        if born is not None:
            self._nursery.start_soon(self._await_worker, *born)

    def _start_control(self, now_ns: int) -> None:
        assert self._nursery is not None
        try:
            pidfd = self._desk.start()
        except OSError as fault:
            self._desk.fail(now_ns, f"control cannot be started: {fault.strerror}")
            say(f"control cannot be started: {fault.strerror}")
            return
        self._desk.heard_ns = now_ns
        self._nursery.start_soon(self._await_control, pidfd)
        self._nursery.start_soon(self._hear_control)

    # What we say.

    def _tell_news(self) -> None:
        for news in self._fleet.take_news():
            say(f"generation {news.generation}: {news.word}" + (f": {news.why}" if news.why else ""))
            self._event("rollout", generation=news.generation, state=news.word, why=news.why)
            self._tell_systemd(news.word)
        count = sum(1 for member in self._fleet.members.values() if member.generation == self._fleet.current)
        self._systemd.status(f"{self._fleet.mode.value}: generation {self._fleet.current}, {count} workers")

    def _tell_systemd(self, word: str) -> None:
        """READY when the first generation serves; RELOADING and READY round each later one."""
        if self._fleet.mode is Mode.STOPPING:
            return
        if self._fleet.current and not self._is_ready:
            self._is_ready = True
            self._systemd.ready()
        elif self._is_ready and word == "starting":
            self._is_reloading = True
            self._systemd.reloading()
        elif self._is_reloading and not any(one.state in UNRESTED for one in self._fleet.generations()):
            self._is_reloading = False
            self._systemd.ready()

    def _watchdog(self, now_ns: int) -> None:
        period_ns = self._systemd.watchdog_ns
        if period_ns and now_ns - self._alive_ns >= period_ns // 2:
            self._alive_ns = now_ns
            self._systemd.alive()

    def _event(self, event: str, **fields: object) -> bool:
        return self._desk.say(_encode({"event": event, **fields}))
