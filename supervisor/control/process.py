"""The control process as a whole: its parts, its beginning and its end.

    open the channel -> serve the API on both sockets -> adopt what runs, or make the first rollout
                     -> reload when told -> end by SIGTERM, or when the supervisor is gone

The API is served before anything is known, so that `status` can be asked while the
first rollout is still under way; until the running plan is known the TCP door
does not know its token, and stays shut (the Unix door is open).

A control process that is started into a running fleet adopts it: it reads the
plan that runs and changes nothing. If nothing runs, the first rollout is its
task, and when that fails there is no fleet to keep: the reasons are written to
standard error, and the supervisor is asked to stop. A first rollout that a
predecessor began before it died is waited for, since the supervisor drives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

from shm.region import Region
from supervisor.control.api import Api
from supervisor.control.archive import Archive
from supervisor.control.audit import AuditLog
from supervisor.control.bookkeeping import Bookkeeper
from supervisor.control.channel import ChannelFault, SupervisorRefusal
from supervisor.control.compile import Compiler
from supervisor.control.environment import ControlEnvironment
from supervisor.control.fleet import Fleet
from supervisor.control.followers import Followers
from supervisor.control.gate import Gate
from supervisor.control.guard import TcpDoor, UnixDoor
from supervisor.control.journal import Journal
from supervisor.control.ledger import Ledger
from supervisor.control.memory import Memory, MemoryFault
from supervisor.control.numbers import Expiry, Numbers, expiries, key_ages
from supervisor.control.release import release
from supervisor.control.reload import Options, Outcome, Reloader
from supervisor.control.retention import Retention
from supervisor.control.rollouts import SERVING, Rollout
from supervisor.control.running import PlanFault, RunningPlan
from supervisor.control.serving import Serving
from supervisor.control.store import PlanStore
from supervisor.control.thresholds import Thresholds
from supervisor.control.watching import Concierge

BREATH_S = 2.0
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""A terminal sends these to the whole group. They mean the supervisor, which tells us what to do."""

FATAL = frozenset({"invalid", "refused", "rolled-back", "internal"})
"""Ends of the first rollout that leave nothing to serve."""


class ControlProcess:
    """All parts of control. Made and used inside the loop."""

    def __init__(self, environment: ControlEnvironment) -> None:
        self._environment = environment
        self._started_s = time.monotonic()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.memory = Memory(environment.region)
        self.fleet = Fleet(
            socket.socket(fileno=environment.channel_fd), on_reload=self._hang_up, on_rollout=self._rollout_changed
        )
        self.running = RunningPlan()
        self.archive = Archive(self.fleet.status)
        self.journal = Journal(self.memory, self.archive)
        self.followers = Followers(self.memory)
        self.retention = Retention(self.memory, self.running, environment.run_dir)
        self.audit = AuditLog(lambda: self._state_dir() or environment.run_dir)
        self.ledger = Ledger()
        self.books = Bookkeeper(self.memory, self.ledger, lambda: self.running.plan)
        self.thresholds = Thresholds(self.memory, self.audit, lambda: self.running.plan)
        compiler = Compiler(environment, self.memory, self.ledger)
        self.reloader = Reloader(
            self.fleet, self.running, PlanStore(environment.run_dir), compiler.compile, Gate(self.journal)
        )
        self.concierge = Concierge(self.reloader, self.audit, lambda: self.running.plan)

    async def run(self) -> int:
        """Work until told to end, or until the supervisor is gone; returns the exit status."""
        for number in TERMINAL_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.fleet.channel.open()
        app = Api(self).application()
        doors = (
            (socket.socket(fileno=self._environment.socket_fd), UnixDoor(app)),
            (
                socket.socket(fileno=self._environment.admin_fd),
                TcpDoor(app, address=self._environment.admin_address, token=self._token),
            ),
        )
        async with Serving(doors) as serving:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop, serving)
            self._start(self._begin())
            self._start(self._breathe())
            self._start(self.followers.run())
            self._start(self.retention.run())
            self._start(self.books.run())
            self._start(self.thresholds.run())
            self._start(self.concierge.run())
            self._start(self._end_with_supervisor(serving))
            await serving.wait()
        for task in self._tasks:
            task.cancel()
        await self.books.flush()  # what was spent last: workers end before control does
        self.fleet.channel.close()
        self.memory.close()
        self.ledger.close()
        return 0

    def about_control(self) -> dict[str, Any]:
        """What `status` adds about this process."""
        last = self.reloader.last
        return {
            "release": release(),
            "age_ms": int((time.monotonic() - self._started_s) * 1000),
            "config": self._environment.config,
            "run_dir": self._environment.run_dir,
            "admin_address": self._environment.admin_address,
            "reloads": dict(self.reloader.counts),
            "last_reload": None if last is None else {"outcome": last.outcome, "why": last.why},
        }

    async def numbers(self) -> Numbers:
        """One reading; parts that cannot be read are None."""
        status = None
        read: dict[str, Any] = {"totals": None}
        with contextlib.suppress(ChannelFault, SupervisorRefusal):  # supervisor_up 0 says so
            status = await self.fleet.status()
        served: tuple[Expiry, ...] = ()
        ages: dict[str, float | None] = {}
        if status is not None:
            with contextlib.suppress(PlanFault):  # `sentinelctl config` says it
                plan = await self.running.follow(status)
                if plan is not None:
                    served, ages = expiries(plan), key_ages(plan, time.time())
        with contextlib.suppress(MemoryFault):  # region_up 0 says so
            read = await self.memory.ask(read_region)
        return Numbers(
            status=status, reloads=dict(self.reloader.counts), surprises=self.fleet.channel.surprise_count,
            retention=self.retention.statistics(), ledger_failures=self.books.failures,
            ledger_lag_s=self.books.lag_s(), expiries=served, key_ages=ages, **read,
        )  # fmt: skip

    async def _begin(self) -> None:
        """Adopt the generation that runs, or make the first rollout."""
        status = await self.fleet.status()
        if not status.get("generation") and await self.fleet.wait_under_way(status):
            status = await self.fleet.status()
        if status.get("generation"):
            await self._follow()
            return
        outcome = await self.reloader.reload(Options())
        if outcome.status >= 400:
            _say(outcome)
        if outcome.outcome in FATAL:
            await self.fleet.channel.ask("stop", status=1, why=outcome.why)

    async def _breathe(self) -> None:
        """Show the supervisor that this loop turns: one that hangs is replaced."""
        while True:
            await asyncio.sleep(BREATH_S)
            with contextlib.suppress(ChannelFault, SupervisorRefusal):
                await self.fleet.status()

    async def _follow(self) -> None:
        """Know the plan that runs: for the token of the TCP door, before anybody asks."""
        try:
            await self.running.follow(await self.fleet.status())
        except (PlanFault, ChannelFault, SupervisorRefusal) as fault:
            print(f"sentinel control: {fault}", file=sys.stderr, flush=True)

    async def _end_with_supervisor(self, serving: Serving) -> None:
        await self.fleet.channel.closed.wait()
        self._stop(serving)

    def _stop(self, serving: Serving) -> None:
        self.followers.end()
        serving.stop()

    async def _reload_by_signal(self) -> None:
        outcome = await self.reloader.hang_up()
        if outcome is not None and outcome.status >= 400:
            _say(outcome)

    def _hang_up(self) -> None:
        self._start(self._reload_by_signal())

    def _rollout_changed(self, rollout: Rollout) -> None:
        if rollout.state in SERVING:
            self._start(self._follow())
        if rollout.state == "rolled-back":
            _say(Outcome(outcome="rolled-back", generation=rollout.generation, why=rollout.why))

    def _token(self) -> str | None:
        """The token of the TCP door; None while the running plan is not known."""
        return None if self.running.plan is None else self.running.plan.admin.token

    def _state_dir(self) -> str:
        return "" if self.running.plan is None else self.running.plan.system.state_dir

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the API; what it did not expect is said, and ends nothing else."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            print(f"sentinel control: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def _say(outcome: Outcome) -> None:
    """Tell whoever reads standard error how something went that nobody waits for."""
    about = f" (generation {outcome.generation})" if outcome.generation else ""
    print(f"sentinel control: {outcome.outcome}{about}: {outcome.why}", file=sys.stderr)
    if outcome.text:
        print(outcome.text, file=sys.stderr)
    sys.stderr.flush()


def read_region(region: Region) -> dict[str, Any]:
    """All that a scrape tells of shared memory, by the names of Numbers."""
    statistics = region.statistics()
    return {
        "totals": region.totals(), "series_used": statistics.series_count, "series_refused": statistics.series_refused,
        "places": tuple(region.places()), "limits": region.limits_statistics(time.monotonic_ns()),
        "leases": region.leases_statistics(), "budgets": region.budgets_statistics(),
        "tallies": tuple(region.tallied()), "labels_used": region.tallies.used(),
    }  # fmt: skip
