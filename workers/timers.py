"""The worker's clock for deadlines: one tick for all, no timer for any request.

Intuition: a night watchman with a list, instead of an alarm clock per door.
Each connection carries one word, `deadline_ns`, that may be moved at the cost of
an assignment. The watchman walks the list twenty times a second and knocks where
the time has passed: `expire(now_ns)`. Walking 10 000 idle connections costs
about half a millisecond a second; arming and cancelling a loop timer for every
request would cost more than that at a few hundred requests a second.

Rules:
1. A deadline may be found a few ticks late, never early: `now_ns` is the time of the last
   tick, so whoever arms from it adds SLACK_NS, and no tick moves the time by more than that.
2. So this clock stands still while the process does (stopped, starved, suspended): those who
   wait for us are not punished for our absence. It is for deadlines only; durations and
   the deadlines of others (the supervisor's) use the system's monotonic clock.
3. A deadline that was moved later needs no word to anybody. `expire` looks again
   and may find that nothing has expired.
4. Rejected: a wheel. It saves the walk and costs a list operation whenever a
   request starts or ends, which is far more often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

TICK_NS: Final = 50_000_000
SLACK_NS: Final = 2 * TICK_NS
NEVER: Final = 1 << 62

Tick = Callable[[int], None]


class Ticker:
    """Calls every registered function twenty times a second with its own time, `now_ns`."""

    __slots__ = ("_calls", "_handle", "_last_ns", "_loop", "_surprise", "now_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop, surprise: Callable[[BaseException], None]) -> None:
        self._loop = loop
        self._calls: list[Tick] = []
        self._handle: asyncio.TimerHandle | None = None
        self._surprise = surprise
        self.now_ns = self._last_ns = time.monotonic_ns()

    def add(self, call: Tick) -> None:
        self._calls.append(call)

    def start(self) -> None:
        self._handle = self._loop.call_later(TICK_NS / 1e9, self._tick)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def after(self, timeout_ns: int) -> int:
        """The deadline of a timeout that starts about now."""
        return self.now_ns + timeout_ns + SLACK_NS

    def _tick(self) -> None:
        self.start()
        last_ns, self._last_ns = self._last_ns, time.monotonic_ns()
        now_ns = self.now_ns = self.now_ns + min(self._last_ns - last_ns, SLACK_NS)
        for call in self._calls:
            try:
                call(now_ns)
            except Exception as fault:  # one broken chore must not stop the clock of all others
                self._surprise(fault)
