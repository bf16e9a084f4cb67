"""What processes have used: processor time and memory, as the kernel counts them.

`/proc/PID/stat` counts all threads of a process, also those that have ended. The sum of user and
system time is exact to a clock tick (10 ms, against seconds measured); how it divides into the
two is sampled, and good for a picture. Work that the kernel does for a loopback packet runs
in the sender's time slice, so that sending is charged to the sender, delivery included.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
US_PER_TICK: Final = 1_000_000 // TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time so far, in microseconds."""

    user_us: int
    system_us: int

    def since(self, before: Usage) -> Usage:
        return Usage(self.user_us - before.user_us, self.system_us - before.system_us)

    @property
    def total_us(self) -> int:
        return self.user_us + self.system_us


def usage(pids: Iterable[int]) -> Usage:
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    return Usage(user * US_PER_TICK, system * US_PER_TICK)


def rss_kib(pids: Iterable[int]) -> int:
    """Resident memory; of processes that share pages each counts them."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total


def children(pid: int) -> tuple[int, ...]:
    return tuple(int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def pin(pid: int, core: int) -> None:
    """Move every thread of a running process to one core."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {core})
