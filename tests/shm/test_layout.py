"""The layout is one sheet: its copies are true, nothing overlaps, and writers keep out of each other's lines."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sentinel.core.reasons import REASONS_MAX, Reason
from shm import drawing, layout
from shm.counters import Counter
from shm.layout import LINE, PAGE, PLACE, RECORDS, WORD, Geometry, Record


def test_the_copies_regenerate_byte_identical(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawing.main(["--check"]) == 0, capsys.readouterr().out


def test_the_generator_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawing.main([]) == 2
    assert capsys.readouterr().out.startswith("usage:")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_fields_do_not_overlap_and_are_whole_words(record: Record) -> None:
    places = record.places()
    for (offset, field), (following, _) in pairwise(places):
        assert offset % WORD == 0 and offset + field.words * WORD <= following, field
    assert len({field.name for _, field in places}) == len(places)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_writers_do_not_share_a_cache_line(record: Record) -> None:
    writers: dict[int, set[str]] = {}
    for offset, field in record.places():
        for line in range(offset // LINE, (offset + field.words * WORD - 1) // LINE + 1):
            writers.setdefault(line, set()).add(field.writer)
    # A field that both write changes hands at claim and end only, and stands among the worker's.
    shared = {PLACE.offset("admin") // LINE} if record is PLACE else set()  # read with every request, seldom written
    crowded = {line: names for line, names in writers.items() if len(names - {"both"}) > 1 and line not in shared}
    assert not crowded, "move fields of different writers to lines of their own (on_line=True)"


def test_there_is_a_counter_for_every_reason() -> None:
    assert layout.REASONS_MAX == REASONS_MAX


def test_failures_are_those_of_upstreams_and_our_own() -> None:
    ours = {reason.number for reason in Reason if reason.value.culprit == "upstream"} | {Reason.INTERNAL.number}
    assert ours == layout.FAILING_REASONS
    assert Reason.PROXIED.number == layout.RELAYED_REASON


def test_the_numbers_of_counters_have_no_gaps() -> None:
    assert sorted(Counter) == list(range(len(Counter)))


@pytest.mark.parametrize("geometry", [
    Geometry(slots_max=1, series_max=2, journal_records=1, limits_max=64, places_max=4),
    Geometry(slots_max=64, series_max=1024, journal_records=1024, limits_max=65_536, places_max=4),
    Geometry(slots_max=256, series_max=65_536, journal_records=1024, limits_max=1 << 24, places_max=4),
], ids=str)  # fmt: skip
def test_tables_follow_one_another(geometry: Geometry) -> None:
    last_slot, last_series = geometry.slots_max - 1, geometry.series_max - 1
    assert geometry.slot(geometry.slots_max) <= geometry.names_offset
    assert geometry.name(geometry.series_max) <= geometry.rings_offset
    assert geometry.ring(geometry.slots_max) == geometry.counters_offset
    assert geometry.counters(last_slot, last_series) + layout.SERIES.size <= geometry.limits_offset
    assert geometry.limit(geometry.limits_max) <= geometry.guards_offset
    assert geometry.guard(geometry.guards_max) <= geometry.places_offset
    assert geometry.place(geometry.places_max) <= geometry.flights_offset
    assert geometry.flight(geometry.slots_max, 0) <= geometry.tolls_offset
    assert geometry.flight(last_slot, 2 * geometry.places_max) <= geometry.flight(geometry.slots_max, 0)
    assert geometry.toll(last_slot, geometry.places_max) <= geometry.size_bytes
    for table in (geometry.names_offset, geometry.rings_offset, geometry.ring_stride, geometry.counters_offset,
                  geometry.limits_offset, geometry.guards_offset, geometry.places_offset, geometry.flights_offset,
                  geometry.tolls_offset, geometry.size_bytes):  # fmt: skip
        assert table % PAGE == 0
    assert not geometry.faults()


def test_sizes_out_of_bounds_are_named() -> None:
    assert Geometry(slots_max=0, series_max=1, journal_records=1 << 40, limits_max=96, places_max=4).faults() == [
        "slots_max is 0, outside 1..1024",
        "series_max is 1, outside 2..65536",
        "journal_records is 1099511627776, outside 1..1048576",
        "limits_max is 96, which is no power of two",
    ]
