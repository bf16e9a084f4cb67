"""Keeping the book of budgets: what shared memory has is written into the durable ledger, now and then.

Intuition: a shop that counts its till every minute. The till is right at any moment; the book is behind by a minute
at most, and only matters when the till burns.

    every `ledger-flush`: read all windows -> those that changed since they were last written -> one transaction

Rule 1: nothing of it is in a request's way. Reading and writing happen in a thread of control; when the ledger takes
    nothing, requests go on, and shared memory keeps the sum, which the next flush that succeeds writes whole.
Rule 2: a power cut loses what was settled since the last flush, and what was open: a stream's reservation is no
    expense. How far the book is behind is a metric (`sentinel_ledger_lag_seconds`).
Rule 3: a change of state is told once: that the ledger takes nothing, and that it does again.
Rule 4: an entry that is given to another key between two flushes takes with it what was settled in between. That
    happens to windows only that are over.

Rule 5: looking costs little when little happens: columns of the table are compared with what they were, and only
    windows that changed are read.

Rejected: workers that append what they spend. The disk would be in the request's way, or a queue that must be bounded,
and dropped, and recovered; shared memory has the sum already.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sentinel.core.budgets import read_key
from sentinel.core.plan import Plan
from shm.budgets import BudgetView, Mark
from shm.layout import BUDGETS_LIMIT
from shm.region import Region
from supervisor.control.book import LedgerFault, Spent
from supervisor.control.ledger import Ledger, home_of
from supervisor.control.memory import Memory, MemoryFault

IDLE_S: Final = 1.0
"""How often to look whether the plan says something else by now."""
SECOND_NS: Final = 1_000_000_000
MINUTE_S: Final = 60
JITTER_NS: Final = 50_000_000
"""Ends are whole seconds; who made one has taken whole seconds of the clock, or was held up for a moment."""


class Bookkeeper:
    """Writes what was spent into the ledger; one in a control process."""

    def __init__(self, memory: Memory, ledger: Ledger, plan: Callable[[], Plan | None]) -> None:
        self._memory, self._ledger, self._plan = memory, ledger, plan
        self._marks: list[Mark] = []
        self._home = ""
        self._even_s = time.monotonic()
        self._turn = asyncio.Lock()
        self.failures = 0
        """Flushes that failed."""
        self.fault = ""
        """Why the last one failed; "": it did not."""

    async def run(self) -> None:
        """Flush for ever, as often as the plan that runs says."""
        begun_s = time.monotonic()
        while True:
            await asyncio.sleep(min(self._interval_s(), IDLE_S))
            if time.monotonic() - begun_s >= self._interval_s():
                begun_s = time.monotonic()
                await self.flush()

    async def flush(self) -> None:
        """Bring the ledger to what shared memory has; a failure is told and counted."""
        async with self._turn:
            plan = self._plan()
            home = home_of(plan.system) if plan is not None else ""
            if home:
                await asyncio.to_thread(self._flush, home)

    def lag_s(self) -> float | None:
        """How old what the ledger has may be; None: there is no ledger."""
        plan = self._plan()
        return time.monotonic() - self._even_s if plan is not None and home_of(plan.system) else None

    def _interval_s(self) -> float:
        plan = self._plan()
        return plan.system.ledger_flush_ns / SECOND_NS if plan is not None else IDLE_S

    def _flush(self, home: str) -> None:
        if home != self._home:
            self._home, self._marks, self._even_s = home, [], time.monotonic()
        begun_s, now_s = time.monotonic(), time.time()
        try:
            views, marks = self._memory.ask_now(lambda region: region.changed_budgets(self._marks))
            if windows := list(_windows(views)):
                self._ledger.spend(home, windows, now_s)
        except (LedgerFault, MemoryFault) as fault:
            self._failed(str(fault))
            return
        self._marks, self._even_s = marks, begun_s
        if self.fault:
            self.fault = ""
            _say("the ledger takes what was spent of budgets again, and has all of it")

    def _failed(self, why: str) -> None:
        self.failures += 1
        if not self.fault:
            _say(f"what was spent of budgets is not written, and requests go on; a reboot would forget it: {why}")
        self.fault = why


def windows_of(region: Region) -> Iterator[Spent]:
    """The windows of budgets in which something was spent, as the ledger has them."""
    return _windows(region.budgets())


def _windows(views: Iterable[BudgetView]) -> Iterator[Spent]:
    ahead_ns = time.time_ns() - time.monotonic_ns()
    for view in views:
        if not view.is_whole or not (view.settled or view.requests):
            continue
        try:
            key = read_key(view.title)
        except ValueError:
            continue  # not written by us, or half written
        until_s = end_of(view, ahead_ns)
        yield Spent(view.title.decode(), key.name, key.start_s, until_s, view.settled, view.requests)


def end_of(view: BudgetView, ahead_ns: int) -> int:
    """When a window ends, in unix seconds; `ahead_ns`: the wall clock's time less the monotonic one's."""
    end_s = (view.until_ns + ahead_ns + JITTER_NS) // SECOND_NS
    # Workers count from the second that has begun, so that some ends come late by a part of one. Windows of the
    # calendar end with a minute.
    return end_s - 1 if end_s % MINUTE_S == 1 else end_s


def restore(memory: Memory, ledger: Ledger, home: str) -> None:
    """Tell a fresh region what was spent in windows that are still open; raises LedgerFault and MemoryFault."""
    windows = ledger.open_windows(home, time.time(), BUDGETS_LIMIT)
    if not windows:
        return
    now_ns = time.monotonic_ns()
    behind_ns = now_ns - time.time_ns()
    found = memory.ask_now(lambda region: region.restore(
        [(one.key.encode(), max(now_ns, one.until_s * SECOND_NS + behind_ns), one.settled, one.requests)
         for one in windows], now_ns,
    ))  # fmt: skip
    if found is not None and any(found):
        put, lost = found
        without = f"; {lost} found no room: raise `budget-keys`" if lost else ""
        _say(f"{put} windows of budgets go on where they were before the machine was started anew{without}")


def _say(text: str) -> None:
    print(f"sentinel control: {text}", file=sys.stderr, flush=True)
