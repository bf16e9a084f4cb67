"""A region remembers: slots and orders, counts that never go down, names in their order, the journal."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.core.machines.worker import Order, WorkerState
from shm import journal
from shm.birth import birth_ns
from shm.journal import PART_BYTES, Stretch
from shm.layout import CHANGING, HEADER, JOURNAL_RECORD_BYTES, LIVES, NAME_BYTES_MAX, SLOT, SLOTS_RESTING, WORD
from shm.region import Counter, Region, RegionFault, RegionFull, Role, Slot


def claim(region: Region, generation: int = 1) -> int:
    return region.claim_slot(pid=4711, birth_ns=5, role=Role.WORKER, generation=generation, lane=1)


def count(region: Region, slot: int, status: int = 200, series: int = 0) -> None:
    region.record(slot, series, status, 0, 1_000_000, 100, 200)


class TestSlots:
    def test_a_claimed_slot_tells_its_tenant(self, region: Region) -> None:
        index = claim(region, generation=3)
        assert region.slots() == [region.slot(index)] == [Slot(
            index=0, pid=4711, birth_ns=5, role=Role.WORKER, generation=3, lane=1, state=WorkerState.BOOTING,
            order=Order.HOLD, order_deadline_ns=0, heartbeat_ns=0, open_connections=0, open_requests=0,
        )]  # fmt: skip

    def test_the_fork_is_noted_with_its_birth(self, region: Region) -> None:
        index = region.claim_slot(pid=0, birth_ns=0, role=Role.CONTROL, generation=0, lane=0)
        region.set_pid(index, os.getpid())
        assert region.slot(index).pid == os.getpid()
        assert region.slot(index).birth_ns == birth_ns(os.getpid())

    def test_state_heartbeat_and_gauges(self, region: Region) -> None:
        index = claim(region)
        region.set_state(index, WorkerState.SERVING)
        region.beat(index, 77, 8, 9)
        slot = region.slot(index)
        assert (slot.state, slot.heartbeat_ns) == (WorkerState.SERVING, 77)
        assert (slot.open_connections, slot.open_requests) == (8, 9)

    def test_an_order_comes_with_its_deadline(self, region: Region) -> None:
        index = claim(region)
        region.set_order(index, Order.DRAIN, 70 * 365 * 86_400 * 10**9)
        assert region.order(index) == (Order.DRAIN, 70 * 365 * 86_400 * 10**9)
        region.set_order(index, Order.DRAIN, 1 << 63)
        assert region.order(index) == (Order.DRAIN, (1 << 61) - 1)
        region.set_order(index, Order.QUIT)
        assert region.order(index) == (Order.QUIT, 0)

    def test_a_reaped_slot_is_empty_and_its_gauges_are_gone(self, region: Region) -> None:
        index = claim(region)
        region.beat(index, 77, 8, 9)
        region.reap_slot(index)
        region.reap_slot(index)
        assert region.slots() == []
        with pytest.raises(LookupError):
            region.slot(index)
        # Its lowest number comes again only when others have been freed in between.
        successors = [claim(region) for _ in range(region.geometry.slots_max)]
        assert successors[-1] == index and region.slot(index).open_connections == 0

    def test_a_freed_slot_rests_until_others_were_freed(self, region: Region) -> None:
        first, other = claim(region), claim(region)
        region.reap_slot(first)
        for _ in range(SLOTS_RESTING - 1):
            region.reap_slot(other)
            other = claim(region)
            assert other != first
        region.reap_slot(other)
        assert claim(region) == first

    def test_a_full_table_is_a_fault_and_one_freed_slot_is_enough(self, region: Region) -> None:
        slots = [claim(region) for _ in range(region.geometry.slots_max)]
        with pytest.raises(RegionFull, match="all 12 slots are claimed"):
            claim(region)
        region.reap_slot(slots[5])
        assert claim(region) == slots[5]

    def test_a_slot_that_is_changing_is_nobodys(self, region: Region) -> None:
        index = claim(region)
        life = region.geometry.slot(index) + SLOT.offset("life")
        region._cells.store(life, region._cells.load(life) | CHANGING)
        assert region.slots() == []

    @pytest.mark.parametrize("index", [-1, 12, 1 << 40])
    def test_there_is_no_slot_beyond_the_table(self, region: Region, index: int) -> None:
        for call in (region.slot, region.order, lambda slot: region.set_order(slot, Order.SERVE)):
            with pytest.raises(IndexError):
                call(index)

    def test_a_damaged_slot_is_a_fault_with_a_remedy(self, region: Region) -> None:
        index = claim(region)
        region._cells.store(region.geometry.slot(index) + SLOT.offset("state"), 99)
        with pytest.raises(RegionFault, match=r"slot 0 says WorkerState 99.*the next start makes a new region"):
            region.slots()


class TestGeneration:
    def test_the_published_number_only_rises(self, region: Region) -> None:
        assert region.generation() == 0
        region.publish(3)
        region.publish(3)
        with pytest.raises(ValueError, match="generation 2 cannot follow 3"):
            region.publish(2)
        region.publish(4)
        assert region.generation() == 4

    def test_requests_and_failures_of_the_living_and_the_dead(self, region: Region) -> None:
        old, new = claim(region, generation=1), claim(region, generation=2)
        for slot, status in ((old, 200), (old, 502), (old, 404), (new, 200)):
            count(region, slot, status)
        region.reap_slot(old)
        assert region.generation_totals(1) == (3, 1)
        assert region.generation_totals(2) == (1, 0)
        assert region.generation_totals(0) == region.generation_totals(9) == (0, 0)

    def test_a_generation_is_forgotten_when_its_slot_has_had_other_tenants(self, region: Region) -> None:
        for index in range(region.geometry.slots_max - 1):
            claim(region, generation=1000 + index)
        for generation in range(1, LIVES + 2):
            slot = claim(region, generation)
            count(region, slot)
            region.reap_slot(slot)
        assert region.generation_totals(1) == (0, 0)
        assert all(region.generation_totals(generation) == (1, 0) for generation in range(2, LIVES + 2))


class TestTotals:
    def test_the_sum_is_over_all_slots_and_over_the_dead(self, region: Region) -> None:
        series = region.series_index("api")
        for _ in range(3):
            slot = claim(region)
            region.record(slot, series, 503, 49, 7_000_000, 10, 20)
            region.add(slot, Counter.ACCEPTED, 5)
            region.add(slot, Counter.SURPRISES)
            region.reap_slot(slot)
        totals = region.totals()
        api = totals.series[series]
        assert (api.name, api.index, api.requests) == ("api", series, 3)
        assert api.classes == (0, 0, 0, 0, 0, 3) and api.reasons == {49: 3}
        assert sum(api.histogram) == api.histogram[4] == 3
        assert (api.duration_sum_ns, api.bytes_in, api.bytes_out) == (21_000_000, 30, 60)
        assert totals.counters[Counter.ACCEPTED] == 15 and totals.counters[Counter.SURPRISES] == 3
        assert [series.name for series in totals.series] == ["(none)", "(other)", "api"]

    @settings(max_examples=60, deadline=None)
    @given(steps=st.lists(st.tuples(st.sampled_from(["claim", "reap", "record"]), st.integers(0, 11)), max_size=60))
    def test_no_number_ever_goes_down(self, steps: list[tuple[str, int]]) -> None:
        region = Region.create(f"/sentinel-test-{os.getpid()}-rising", series_max=2, slots_max=12, journal_records=1)
        try:
            before, counted = region.totals(), 0
            for step, number in steps:
                live = region.slots()
                if step == "claim" and len(live) < 12:
                    claim(region)
                elif live and step == "reap":
                    region.reap_slot(live[number % len(live)].index)
                elif live and step == "record":
                    count(region, live[number % len(live)].index, 100 * (number % 6))
                    counted += 1
                after = region.totals()
                assert after.series[0].requests == counted == sum(after.series[0].histogram)
                pairs = zip(before.series[0].classes, after.series[0].classes, strict=True)
                assert all(low <= high for low, high in pairs)
                before = after
        finally:
            region.unlink()
            region.close()


class TestSeries:
    def test_numbers_are_given_in_order_and_kept(self, region: Region) -> None:
        assert [region.series_index(name) for name in ("a", "b", "a", "(other)")] == [2, 3, 2, 1]
        assert region.series_names() == ["(none)", "(other)", "a", "b"]

    def test_another_process_goes_on_where_the_last_one_stopped(self, region: Region) -> None:
        region.series_index("a")
        successor = Region.attach(region.name)
        assert successor.series_index("b") == 3
        assert region.series_index("c") == 4
        assert successor.series_names() == ["(none)", "(other)", "a", "b", "c"]
        successor.close()

    def test_what_finds_no_room_counts_as_other(self, region: Region) -> None:
        numbers = [region.series_index(f"route-{number}") for number in range(20)]
        assert numbers == [*range(2, 16), *[1] * 6]
        assert region.statistics().series_refused == 6

    def test_long_names_stay_different(self, region: Region) -> None:
        long = "é" * NAME_BYTES_MAX
        numbers = [region.series_index(long + ending) for ending in ("", "1", "2", "")]
        assert numbers == [2, 3, 4, 2]
        assert all(len(name.encode()) <= NAME_BYTES_MAX for name in region.series_names())

    def test_a_name_that_was_not_finished_is_not_there(self, region: Region) -> None:
        at = region.geometry.name(2)
        region._mapping.memory[at + WORD : at + WORD + 4] = b"half"
        assert region.series_names() == ["(none)", "(other)"]
        assert region.series_index("whole") == 2

    def test_damaged_names_do_not_shift_the_others(self, region: Region) -> None:
        for name in ("a", "b"):
            region.series_index(name)
        at = region.geometry.name(2)
        region._cells.store(at, 1 << 60)
        region._mapping.memory[at + WORD : at + WORD + 2] = b"\xff\xfe"
        region._cells.store(HEADER.offset("series_count"), 1 << 60)
        reader = Region.attach(region.name)
        names = reader.series_names()
        assert len(names) == reader.geometry.series_max and names.index("b") == 3
        reader.close()


class TestJournal:
    def test_the_oldest_is_overwritten(self, region: Region) -> None:
        slot = claim(region)
        for number in range(11):
            region.journal_write(slot, b"record %d" % number)
        assert list(region.journal_read(slot)) == [b"record %d" % number for number in range(3, 11)]

    @pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 500, JOURNAL_RECORD_BYTES])
    def test_records_come_back_as_they_were(self, region: Region, length: int) -> None:
        slot = claim(region)
        region.journal_write(slot, b"\xff" * JOURNAL_RECORD_BYTES)
        region.journal_write(slot, bytes(range(256))[:length] + b"z" * max(0, length - 256))
        assert list(region.journal_read())[1] == bytes(range(256))[:length] + b"z" * max(0, length - 256)

    def test_a_record_that_is_too_long_is_refused_whole(self, region: Region) -> None:
        slot = claim(region)
        with pytest.raises(ValueError, match="at most 504 octets"):
            region.journal_write(slot, bytes(JOURNAL_RECORD_BYTES + 1))
        assert list(region.journal_read()) == []

    def test_the_dead_are_read_and_the_next_tenant_goes_on_behind_them(self, region: Region) -> None:
        slots = [claim(region) for _ in range(region.geometry.slots_max)]
        region.journal_write(slots[0], b"last words")
        region.reap_slot(slots[0])
        assert list(region.journal_read()) == [b"last words"]
        assert claim(region) == slots[0]
        region.journal_write(slots[0], b"first words")
        assert list(region.journal_read()) == [b"last words", b"first words"]

    def test_a_record_whose_writer_died_before_raising_the_head_is_kept(self, region: Region) -> None:
        slots = [claim(region) for _ in range(region.geometry.slots_max)]
        region.journal_write(slots[0], b"last words")
        region._cells.store(region.geometry.slot(slots[0]) + SLOT.offset("journal_head"), 0)
        assert list(region.journal_read()) == [b"last words"]
        region.reap_slot(slots[0])
        assert claim(region) == slots[0]
        region.journal_write(slots[0], b"first words")
        assert list(region.journal_read()) == [b"last words", b"first words"]

    def test_a_record_that_is_being_written_is_not_there(self, region: Region) -> None:
        slot = claim(region)
        for text in (b"one", b"two"):
            region.journal_write(slot, text)
        region._cells.store(region.geometry.ring(slot), 0)
        assert list(region.journal_read()) == [b"two"]


def long(number: int, sheets: int) -> bytes:
    """A record of so many sheets, like no other."""
    record = b"".join(b"%07d." % (1000 * number + at) for at in range(PART_BYTES * (sheets - 1) // 8 + 2))
    assert PART_BYTES * (sheets - 1) < len(record) <= PART_BYTES * sheets
    return record


class TestLongRecords:
    def test_they_come_back_among_short_ones(self, region: Region) -> None:
        slot = claim(region)
        records = [b"one", long(2, 2), long(3, 4), b"four"]
        for record in records:
            (region.journal_write if len(record) < 9 else region.journal_write_long)(slot, record)
        assert list(region.journal_read(slot)) == records
        assert region.journal_since(slot, 0, 100) == Stretch(tuple(records), 8, 0)

    def test_one_that_is_overwritten_in_part_is_gone_as_a_whole(self, region: Region) -> None:
        slot = claim(region)
        region.journal_write_long(slot, long(1, 4))
        for number in range(6):  # of the ring's eight
            region.journal_write(slot, b"%d" % number)
        assert list(region.journal_read(slot)) == [b"%d" % number for number in range(6)]
        assert region.journal_since(slot, 0, 100) == Stretch(tuple(b"%d" % n for n in range(6)), 10, 2)

    def test_a_reader_that_takes_few_at_a_time_reads_to_its_end(self, region: Region) -> None:
        slot = claim(region)
        region.journal_write(slot, b"one")
        region.journal_write_long(slot, long(2, 3))
        region.journal_write(slot, b"three")
        assert region.journal_since(slot, 0, 2) == Stretch((b"one", long(2, 3)), 4, 0)
        assert region.journal_since(slot, 4, 2) == Stretch((b"three",), 5, 0)

    @pytest.mark.parametrize("written", [1, 2])
    def test_one_that_is_being_written_is_waited_for_until_something_else_follows(
        self, region: Region, written: int
    ) -> None:
        slot = claim(region)
        sheets = journal.sheets(long(1, 3))
        region.journal_write(slot, b"zero")
        for sheet in sheets[:written]:
            region.journal_write(slot, sheet)
        assert list(region.journal_read(slot)) == [b"zero"]
        assert region.journal_since(slot, 0, 100) == Stretch((b"zero",), 1, 0)
        region.journal_write_long(slot, long(2, 2))  # its writer died, and this is the next tenant's
        assert region.journal_since(slot, 1, 100) == Stretch((long(2, 2),), 3 + written, 1)
        assert list(region.journal_read(slot)) == [b"zero", long(2, 2)]

    def test_what_is_too_long_is_refused_whole(self, region: Region) -> None:
        slot = claim(region)
        with pytest.raises(ValueError, match="at most 2000 octets"):
            region.journal_write_long(slot, bytes(journal.LONG_RECORD_BYTES + 1))
        assert list(region.journal_read()) == []

    @given(st.lists(st.one_of(st.none(), st.binary(max_size=9), st.builds(
        lambda at, total, rest: journal.PART_HEAD.pack(journal.PART, at, total) + rest,
        st.integers(0, 5), st.integers(0, 5), st.binary(max_size=3),
    )), max_size=20))  # fmt: skip
    def test_whatever_lies_there_makes_no_record_of_more_than_its_sheets(self, found: list[bytes | None]) -> None:
        binder = journal.Binder()
        for sheet in found:
            record = binder.take(sheet)
            assert record is None or len(record) <= 3 * journal.SHEETS_MAX or record == sheet


def test_statistics_tell_how_full_it_is(region: Region) -> None:
    claim(region)
    region.publish(2)
    statistics = region.statistics()
    assert (statistics.slots_live, statistics.slots_used, statistics.slots_max) == (1, 1, 12)
    assert (statistics.series_count, statistics.series_max, statistics.generation) == (2, 16, 2)
    assert 0 < statistics.resident_bytes < statistics.size_bytes == region.geometry.size_bytes
    region.unlink()
    assert region.statistics().resident_bytes == 0


def test_an_unlinked_region_works_on(region: Region) -> None:
    slot = claim(region)
    region.unlink()
    region.unlink()
    count(region, slot)
    assert claim(region) == slot + 1
    assert region.series_index("late") == 2
    assert region.totals().series[0].requests == 1


def test_a_closed_region_refuses_instead_of_crashing(region: Region) -> None:
    slot = claim(region)
    record = region.record
    region.close()
    region.close()
    with pytest.raises(ValueError):
        record(slot, 0, 200, 0, 0, 0, 0)
    with pytest.raises(ValueError):
        region.totals()


@pytest.mark.parametrize("sizes", [{"series_max": 65_536, "slots_max": 256}, {}], ids=["largest", "default"])
def test_pages_that_nobody_touched_cost_nothing(name: str, sizes: dict[str, int]) -> None:
    region = Region.create(name, **sizes)
    try:
        slot = claim(region)
        count(region, slot)
        region.series_index("api")
        assert region.totals().series[0].requests == 1
        assert region.statistics().resident_bytes < 7 << 20 < region.statistics().size_bytes
    finally:
        region.close()
