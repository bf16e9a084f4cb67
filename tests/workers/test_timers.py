"""The clock for deadlines: never early, and standing still while the process does."""

from __future__ import annotations

import asyncio

import pytest

from workers import timers
from workers.timers import SLACK_NS, TICK_NS, Ticker


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timers, "time", clock)
    return clock


@pytest.mark.interpreted
def test_no_deadline_is_found_early_however_late_the_ticks_are(clock: Clock) -> None:
    loop = asyncio.new_event_loop()
    faults: list[BaseException] = []
    ticker = Ticker(loop, faults.append)
    found: list[int] = []
    timeout_ns = 200_000_000
    for late_ns in (0, TICK_NS, 3 * TICK_NS, 100 * TICK_NS, 1):
        clock.now_ns += late_ns  # somebody arms just before a tick that is late
        armed_ns, deadline_ns = clock.now_ns, ticker.after(timeout_ns)
        while ticker.now_ns < deadline_ns:
            ticker._tick()
            clock.now_ns += TICK_NS
        found.append(clock.now_ns - armed_ns)
    ticker.stop()
    loop.close()
    assert all(timeout_ns <= waited <= timeout_ns + 2 * SLACK_NS for waited in found), found
    assert not faults
