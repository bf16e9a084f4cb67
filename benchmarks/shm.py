"""What one operation on shared memory costs from Python, in nanoseconds.

Run by hand: `python -m benchmarks.shm` (with SENTINEL_PURE=1 for the twin). Each
figure is the best of several rounds, since whatever else the machine does only
ever adds; the loop's own cost is measured and taken off. Nothing here is
asserted: numbers belong to a machine, targets to its reader. Targets on the
2-core reference machine: record 250, journal_write 300.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from itertools import repeat

from shm.birth import birth_ns
from shm.region import Counter, Region, Role

CALLS = 200_000
ROUNDS = 7


def best_ns(call: Callable[..., object], *arguments: object) -> float:
    return min(_round(call, arguments) for _ in range(ROUNDS))


def _round(call: Callable[..., object], arguments: tuple[object, ...]) -> float:
    start = time.perf_counter_ns()
    for _ in repeat(None, CALLS):
        pass
    empty = time.perf_counter_ns()
    for _ in repeat(None, CALLS):
        call(*arguments)
    return (time.perf_counter_ns() - empty - (empty - start)) / CALLS


def main() -> None:
    region = Region.create(f"/sentinel-benchmark-{os.getpid()}")
    try:
        pid = os.getpid()
        slot = region.claim_slot(pid=pid, birth_ns=birth_ns(pid) or 0, role=Role.WORKER, generation=1, lane=0)
        series = region.series_index("api")
        rows: list[tuple[str, Callable[..., object], tuple[object, ...]]] = [
            ("record", region.record, (slot, series, 200, 0, 1_500_000, 512, 1024)),
            ("journal_write 500 B", region.journal_write, (slot, bytes(500))),
            ("journal_write 120 B", region.journal_write, (slot, bytes(120))),
            ("add", region.add, (slot, Counter.ACCEPTED)),
            ("beat", region.beat, (slot, 1, 2, 3)),
            ("generation (a load)", region.generation, ()),
            ("order", region.order, (slot,)),
        ]
        print(f"{type(region.record).__name__} on {platform.machine()}, Python {platform.python_version()}")
        for name, call, arguments in rows:
            print(f"{name:<22} {best_ns(call, *arguments):>8.0f} ns")
        for count in (3, 100, 1000):
            while len(region.series_names()) < count:
                region.series_index(f"series-{len(region.series_names())}")
            start = time.perf_counter_ns()
            region.totals()
            print(f"{f'totals of {count} series':<22} {(time.perf_counter_ns() - start) / 1000:>8.0f} µs")
    finally:
        region.unlink()
        region.close()


if __name__ == "__main__":
    main()
