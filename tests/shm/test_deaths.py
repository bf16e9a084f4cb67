"""Every operation, cut off before each of its stores: what is left is whole, and goes on.

The twin does its stores one by one, so that a test can end it before the n-th,
for every n. It has the order of the native kernel; that one is killed at random
instructions by tests/stress/test_shm_kill.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from shm import twin
from shm.layout import BUCKETS, CLASSES, REASONS_MAX, SERIES, SERIES_WORDS, WORD
from shm.region import Region, Role
from tests.shm.implementations import environment


class Died(Exception):
    """The process ended here."""


@dataclass
class Mortal:
    """A view that lets so many stores through, and then none."""

    view: memoryview
    left: list[int] = field(default_factory=lambda: [1 << 30])

    def __getitem__(self, at: Any) -> Any:
        return self.view[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if self.left[0] == 0:
            raise Died
        self.left[0] -= 1
        self.view[at] = value

    def __len__(self) -> int:
        return len(self.view)

    def release(self) -> None:
        self.view.release()


def mortal(region: Region) -> list[int]:
    """Make the region's stores countable; the list's one number is how many are left."""
    cells: Any = region._cells
    assert isinstance(cells, twin.Cells)
    left = [1 << 30]
    cells._words, cells._octets = Mortal(cells._words, left), Mortal(cells._octets, left)  # type: ignore[assignment]
    return left


def cut_short(left: list[int], stores: int, work: Callable[[], object]) -> bool:
    """Do the work with so many stores; whether it came to its end."""
    left[0] = stores
    try:
        work()
    except Died:
        return False
    finally:
        left[0] = 1 << 30
    return True


@pytest.fixture
def region(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    environment("twin", monkeypatch)
    region = Region.create(name, series_max=4, slots_max=3, journal_records=4)
    yield region
    region.close()


def claim(region: Region, generation: int = 1) -> int:
    return region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=generation, lane=0)


def words_of(region: Region, slot: int) -> list[int]:
    geometry = region.geometry
    return memoryview(region._cells.sums(geometry.counters(slot, 0), 0, 1, SERIES_WORDS)).cast("Q").tolist()


def test_a_worker_that_dies_in_a_record_has_counted_it_or_not_in_each_cell(region: Region) -> None:
    left, slot = mortal(region), claim(region)
    for stores in count():
        before = words_of(region, slot)
        ended = cut_short(left, stores, lambda: region.record(slot, 0, 503, 49, 2_000_000, 100, 200))
        after = words_of(region, slot)
        for at, full in ((0, 1), (SERIES.offset("histogram") // WORD, 1), (SERIES.offset("reasons") // WORD, 1)):
            size = {0: CLASSES, SERIES.offset("histogram") // WORD: BUCKETS}.get(at, REASONS_MAX)
            assert sum(after[at : at + size]) - sum(before[at : at + size]) in (0, full)
        duration = SERIES.offset("duration_sum_ns") // WORD
        for at, full in ((duration, 2_000_000), (duration + 1, 100), (duration + 2, 200)):
            assert after[at] - before[at] in (0, full)
        if ended:
            break
    assert stores == 8, "class, reason, bucket, three sums, requests and failures of the life"
    requests, failures = region.generation_totals(1)
    assert failures <= requests <= stores + 1


def test_a_worker_that_dies_in_a_journal_record_leaves_the_others_whole(region: Region) -> None:
    left = mortal(region)
    written: list[bytes] = []
    for stores in count():
        slot = claim(region)
        for number in range(3):
            region.journal_write(slot, b"whole %d" % number)
        before = list(region.journal_read(slot))
        ended = cut_short(left, stores, lambda slot=slot: region.journal_write(slot, b"cut short"))  # type: ignore[misc]
        written = list(region.journal_read(slot))
        finished = stores >= 3
        assert written[-1] == (b"cut short" if finished else b"whole 2")
        assert set(written) <= {*before, b"cut short"} and len(written) >= 3
        region.reap_slot(slot)
        for other in [claim(region) for _ in range(3)]:
            region.journal_write(other, b"successor")
            if other == slot:
                expected = [b"whole 1", b"whole 2", b"cut short"] if finished else [b"whole 0", b"whole 1", b"whole 2"]
                assert list(region.journal_read(other)) == [*expected, b"successor"]
            region.reap_slot(other)
        if ended:
            break
    assert stores == 4, "mark, payload, word, head"


@pytest.mark.parametrize("operation", ["claim", "reap"])
def test_a_supervisor_that_dies_over_a_slot_counts_nothing_twice_and_loses_nothing(
    region: Region, operation: str
) -> None:
    left = mortal(region)
    for stores in count():
        slot = claim(region, generation=stores + 1)
        region.record(slot, 0, 500, 0, 1, 1, 1)
        region.journal_write(slot, b"kept")
        totals, lives = region.totals(), region.generation_totals(stores + 1)
        assert lives == (1, 1)

        def work(slot: int = slot) -> None:
            if operation == "claim":
                claim(region, generation=10_000)
            else:
                region.reap_slot(slot)

        ended = cut_short(left, stores, work)
        assert region.totals() == totals
        assert region.generation_totals(stores + 1) == lives and region.generation_totals(10_000) == (0, 0)
        assert b"kept" in region.journal_read(slot)
        assert all(tenant.generation in (stores + 1, 10_000) for tenant in region.slots())
        # Whoever goes on from here finds every slot again, whatever stage it was left in.
        for tenant in region.slots():
            region.reap_slot(tenant.index)
        taken = [claim(region, generation=20_000) for _ in range(region.geometry.slots_max)]
        assert sorted(taken) == [0, 1, 2]
        for index in taken:
            region.reap_slot(index)
        assert region.totals() == totals
        if ended:
            break


def test_control_that_dies_over_a_name_has_written_it_or_not(region: Region) -> None:
    left = mortal(region)
    for stores in count():
        reader = Region.attach(region.name)
        before = reader.series_names()
        if len(before) == region.geometry.series_max:
            break
        cut_short(left, stores % 3, lambda stores=stores: region.series_index(f"route-{stores}"))  # type: ignore[misc]
        after = reader.series_names()
        assert after[: len(before)] == before and after[len(before) :] in ([], [f"route-{stores}"])
        reader.close()
