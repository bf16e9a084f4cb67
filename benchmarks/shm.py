"""What one operation on shared memory costs from Python, in nanoseconds.

Run by hand: `python -m benchmarks.shm` (with SENTINEL_PURE=1 for the twin). Each
figure is the best of several rounds, since whatever else the machine does only
ever adds; the loop's own cost is measured and taken off. Nothing here is
asserted: numbers belong to a machine, targets to its reader. Targets on the
2-core reference machine: record 250, journal_write 300, one charge 500.

Charges of many keys go through a list of them in a random order: most of what they
cost beside is that neither the key nor its bucket is in any cache.
"""

from __future__ import annotations

import os
import platform
import random
import time
from array import array
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


def limits_of(limits_max: int) -> tuple[Region, int]:
    name = f"/sentinel-benchmark-{os.getpid()}-limits"
    region = Region.create(name, series_max=2, slots_max=4, limits_max=limits_max)
    return region, region.claim_slot(pid=os.getpid(), birth_ns=0, role=Role.WORKER, generation=1, lane=0)


def through_ns(call: Callable[..., object], keys: list[tuple[bytes, ...]], slot: int, now: int, terms: bytes) -> float:
    start = time.perf_counter_ns()
    for _ in keys:
        pass
    empty = time.perf_counter_ns()
    for key in keys:
        call(slot, now, key, terms)
    return (time.perf_counter_ns() - empty - (empty - start)) / len(keys)


def charges() -> None:
    generous = array("Q", (1, 1 << 58, 1)).tobytes()
    now = time.monotonic_ns()
    region, slot = limits_of(65_536)
    two_keys = (b"per-client/198.51.100.7", b"per-tenant/42")
    refusing = array("Q", (1 << 50, 1 << 50, 1)).tobytes()
    print(f"{'charge, 1 key':<28} {best_ns(region.charge, slot, now, two_keys[:1], generous):>8.0f} ns")
    print(f"{'charge, 2 keys':<28} {best_ns(region.charge, slot, now, two_keys, generous * 2):>8.0f} ns")
    print(f"{'charge refused':<28} {best_ns(region.charge, slot, now, two_keys[:1], refusing):>8.0f} ns")
    print(f"{'peek':<28} {best_ns(region.peek, now, two_keys[0]):>8.0f} ns")
    contended = contended_ns(lambda rival: region.charge(rival, now, two_keys[:1], generous), region,
                             lambda: best_ns(region.charge, slot, now, two_keys[:1], generous))  # fmt: skip
    print(f"{'charge, 1 key, 2 processes':<28} {contended:>8.0f} ns")
    taken = best_ns(hold_and_release, region, slot, now, two_keys[0])
    print(f"{'lease taken and given back':<28} {taken:>8.0f} ns")
    contended = contended_ns(lambda rival: hold_and_release(region, rival, now, two_keys[0]), region,
                             lambda: best_ns(hold_and_release, region, slot, now, two_keys[0]))  # fmt: skip
    print(f"{'the same, 2 processes':<28} {contended:>8.0f} ns")
    region.unlink()
    region.close()
    for count in (10, 10_000, 1_000_000):
        live_keys(count, 1 << 22, now)


def hold_and_release(region: Region, slot: int, now: int, key: bytes) -> None:
    region.release_lease(slot, region.hold(slot, now, key, 100)[2])


def contended_ns(rivals: Callable[[int], object], region: Region, measured: Callable[[], float]) -> float:
    """What is measured while another process does the same to the same key without a pause."""
    rival = region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        while os.getppid() == parent:
            for _ in repeat(None, 10_000):
                rivals(rival)
        os._exit(0)
    try:
        return measured()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def live_keys(count: int, limits_max: int, now: int) -> None:
    """Charges of random keys among so many live ones, and what a new one costs."""
    hour = array("Q", (3_600_000_000_000, 1 << 58, 1)).tobytes()
    region, slot = limits_of(limits_max)
    keys = [(b"per-client/%d" % number,) for number in range(count)]
    inserted = through_ns(region.charge, keys, slot, now, hour)
    random.Random(1).shuffle(keys)
    calls = [keys[at % count] for at in range(max(count, CALLS))]
    call = min(through_ns(region.charge, calls, slot, now, hour) for _ in range(3))
    start = time.perf_counter_ns()
    statistics = region.limits_statistics(now)
    scan_ms = (time.perf_counter_ns() - start) / 1e6
    print(f"{f'{count:,} of {limits_max:,} live':<28} {call:>8.0f} ns; first charges {inserted:.0f} ns; "
          f"{count - statistics.live} found no room; statistics {scan_ms:.1f} ms; 32 octets a bucket")  # fmt: skip
    region.unlink()
    region.close()


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
        charges()
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
