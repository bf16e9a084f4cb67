"""One limit, several real processes: they admit exactly what one would.

The workers charge as fast as they can, so that after its burst the bucket is never
idle, and the number admitted is known from two clock readings to within one. Only
on the native cells: the twin's swaps are atomic within one process.
"""

from __future__ import annotations

import mmap
import os
import time
from array import array

import pytest

from shm.limits import ADMITTED
from shm.region import Counter, Region, Role
from tests.shm.implementations import NEEDS_NATIVE
from tests.shm.test_processes import ended, in_child

INCREMENT, CAPACITY = 1_000_000, 2_000_000_000
"""A thousand a second, two thousand at once: idle only if nothing runs for two seconds."""
RUN_NS = 300_000_000
KEYS = (b"route/198.51.100.7", b"tenant/42", b"a")
TERMS = array("Q", (INCREMENT, CAPACITY, 1)).tobytes()
ADMITTED_COUNT, FIRST_ADMITTED, LAST_ADMITTED, LAST_REFUSED = range(4)
WORDS = len(KEYS) * 4


def charge_all(region: Region, slot: int, results: memoryview, begin: int) -> None:
    """Charge the keys in turn for a while, and keep what was answered, and when."""
    os.read(begin, 1)
    end = time.monotonic_ns() + RUN_NS
    while (now := time.monotonic_ns()) < end:
        for at, key in enumerate(KEYS):
            now = time.monotonic_ns()
            is_admitted = region.charge(slot, now, (key,), TERMS)[0] == ADMITTED
            results[at * 4 + (LAST_ADMITTED if is_admitted else LAST_REFUSED)] = now
            if is_admitted:
                results[at * 4 + ADMITTED_COUNT] += 1
                results[at * 4 + FIRST_ADMITTED] = results[at * 4 + FIRST_ADMITTED] or now


@NEEDS_NATIVE
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_any_number_of_workers_enforce_one_limit(name: str, workers: int) -> None:
    region = Region.create(name, series_max=2, slots_max=12, journal_records=1, limits_max=1024)
    begin, start = os.pipe()
    shared = memoryview(mmap.mmap(-1, workers * WORDS * 8)).cast("Q")
    results = [shared[worker * WORDS : (worker + 1) * WORDS] for worker in range(workers)]
    slots = [region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0) for _ in results]
    children = [in_child(lambda slot=slot, mine=mine: charge_all(region, slot, mine, begin))  # type: ignore[misc]
                for slot, mine in zip(slots, results, strict=True)]  # fmt: skip
    os.write(start, b"!" * workers)
    assert [ended(child) for child in children] == [0] * workers
    admitted = 0
    for at in range(len(KEYS)):
        mine = [words[at * 4 : at * 4 + 4].tolist() for words in results]
        count = sum(words[ADMITTED_COUNT] for words in mine)
        first = [words[FIRST_ADMITTED] for words in mine if words[ADMITTED_COUNT]]
        spent, admitted = count * INCREMENT, admitted + count
        assert spent <= max(words[LAST_ADMITTED] for words in mine) - min(first) + CAPACITY
        assert spent > max(words[LAST_REFUSED] for words in mine) - max(first) + CAPACITY - INCREMENT
    assert region.totals().counters[Counter.LIMITS_CHARGED] == admitted
    assert region.limits_statistics(time.monotonic_ns()).used == len(KEYS), "no key has two buckets"
    for fd in (begin, start):
        os.close(fd)
    region.close()
