"""Who a process is: its number and the moment of its birth.

Pids come again, sometimes within seconds; the pair of pid and start time does
not. The kernel tells the start in clock ticks since boot, which we keep in
nanoseconds, as all times here.
"""

from __future__ import annotations

import os
from typing import Final

TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
START_FIELD: Final = 22
"""`starttime` in proc_pid_stat(5), counted from 1."""
ENDED: Final = frozenset((b"Z", b"X"))


def birth_ns(pid: int) -> int | None:
    """When the process began, in ns since boot; None when there is none of this number, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses and may hold anything, also parentheses and spaces.
    fields = stat[stat.rindex(b")") + 1 :].split()
    return None if fields[0] in ENDED else int(fields[START_FIELD - 3]) * TICK_NS


def is_alive(pid: int, born_ns: int) -> bool:
    """Whether exactly this process still runs, not another one with its number."""
    return pid > 0 and birth_ns(pid) == born_ns
