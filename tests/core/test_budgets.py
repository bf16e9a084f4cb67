"""Names of windows have one spelling and are never too long; windows tile time, over changes of the clocks too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.budgets import (
    DAY_S,
    HOUR_S,
    KEY_BYTES_MAX,
    PERIODS,
    TIME_S_MAX,
    Offset,
    is_name,
    read_key,
    utc,
    window,
    write_key,
)
from shm.budgets import TITLE_BYTES_MAX

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/St_Johns", "Australia/Lord_Howe",
    "Pacific/Apia", "Asia/Kathmandu", "Asia/Beirut", "Africa/Cairo", "Pacific/Kiritimati", "Antarctica/Troll",
)  # fmt: skip
"""Clocks that change at midnight, at one minute past it, by half an hour, by two; and a day that was left out."""
YEAR_2040 = 2_208_988_800
times = st.integers(0, YEAR_2040)
names = st.text(max_size=20).filter(is_name)
starts = st.integers(0, TIME_S_MAX)
halves = st.characters(categories=["L", "N", "P", "Cs", "Cc", "Zs", "So"])
parts_of_all_kinds = st.lists(st.text(halves, max_size=60), max_size=5)


def offset_of(name: str) -> Offset:
    zone = ZoneInfo(name)

    def offset(moment: int) -> int:
        found = datetime.fromtimestamp(moment, zone).utcoffset()
        assert found is not None
        return int(found.total_seconds())

    return offset


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def test_a_title_holds_the_longest_key() -> None:
    assert KEY_BYTES_MAX == TITLE_BYTES_MAX


def test_a_key_is_json_for_people_and_the_ledger() -> None:
    octets = write_key("tenants", 1767225600, ("acmé", 'gpt "4"'))
    assert octets == '["tenants",1767225600,"acmé","gpt \\"4\\""]'.encode()
    assert json.loads(octets) == ["tenants", 1767225600, "acmé", 'gpt "4"']


@given(names, starts, parts_of_all_kinds)
def test_what_is_written_is_read(name: str, start: int, parts: list[str]) -> None:
    octets = write_key(name, start, parts)
    found = read_key(octets)
    assert len(octets) <= KEY_BYTES_MAX
    assert (found.budget, found.start_s) == (name, start)
    assert found.is_hashed or found.parts == tuple(parts)


@given(parts_of_all_kinds, parts_of_all_kinds)
def test_other_parts_are_another_key(one: list[str], other: list[str]) -> None:
    assert (write_key("b", 0, one) == write_key("b", 0, other)) == (one == other)


def test_nobody_gets_into_anothers_account_by_sending_its_hash() -> None:
    victim = write_key("b", 0, ("x" * 500,))
    (shown,) = read_key(victim).parts
    assert shown.startswith("~")
    assert write_key("b", 0, (shown,)) != victim


def test_a_name_leaves_room_for_the_hash() -> None:
    longest = "n" * 98
    assert is_name(longest)
    assert not is_name(longest + "n")
    assert not is_name("\0" * 17)
    assert not is_name("\udc80")
    assert len(write_key(longest, TIME_S_MAX, ("x" * 500,))) <= KEY_BYTES_MAX


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"[", b"\xff\xfe", b"null", b"{}", b"[]", b'["b"]', b'["b",true]', b'["b",1.0]', b'["b",-1]', b"[1,1]",
     b'["b",1,2]', b'["b",1,null]', b'["b", 1]', b'["b",1] ', b'["b",01]', b'["\\u0062",1]', b'["b",NaN]',
     b'["b",1,"\\ud800"]', b'["b",99999999999999999999]', b"[" * 160, b'["b",1,"' + b"x" * 200 + b'"]'],
)  # fmt: skip
def test_rubbish_is_told(rubbish: bytes) -> None:
    with pytest.raises(ValueError):
        read_key(rubbish)


@given(st.binary(max_size=200))
def test_whatever_is_read_is_read_or_told(octets: bytes) -> None:
    try:
        found = read_key(octets)
    except ValueError:
        return
    assert found.is_hashed or write_key(*found) == octets


@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), times)
def test_windows_tile_time(period: str, zone: str, now: int) -> None:
    offset = offset_of(zone)
    start, end = window(period, offset, now)
    assert start <= now < end
    assert window(period, offset, start) == (start, end)
    assert window(period, offset, end - 1) == (start, end)
    assert window(period, offset, end)[0] == end


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", PERIODS)
def test_windows_tile_time_where_clocks_change(period: str, zone: str) -> None:
    offset = offset_of(zone)
    changes = [day for day in range(0, YEAR_2040, DAY_S) if offset(day) != offset(day + DAY_S)]
    for change in changes[-12:]:
        moment, last = change - DAY_S, change + 2 * DAY_S
        while moment < last:
            start, end = window(period, offset, moment)
            assert start <= moment < end
            assert moment == change - DAY_S or start == moment
            assert window(period, offset, (start + end) // 2) == (start, end)
            moment = end


@given(st.sampled_from(ZONES), times)
def test_a_day_is_the_date_on_the_wall(zone: str, now: int) -> None:
    """Of moments in one window that are no more than a day's length after its start, the date is the same."""
    offset = offset_of(zone)
    start, end = window("day", offset, now)
    assert 0 < end - start <= 26 * HOUR_S
    middle = datetime.fromtimestamp((start + end) // 2, ZoneInfo(zone)).date()
    assert middle == datetime.fromtimestamp(start, ZoneInfo(zone)).date()


@given(times)
def test_weeks_and_months_are_those_of_the_calendar(now: int) -> None:
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0)
    monday, first = day - timedelta(days=day.weekday()), day.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    week = (max(0, int(monday.timestamp())), int((monday + timedelta(days=7)).timestamp()))
    assert window("week", utc, now) == week
    assert window("month", utc, now) == (first.timestamp(), following.timestamp())


def test_a_day_has_23_hours_and_25_where_summer_begins_and_ends() -> None:
    offset = offset_of("Europe/Berlin")
    for text, hours in (("2026-03-29 12:00", 23), ("2026-10-25 12:00", 25), ("2026-07-01 12:00", 24)):
        start, end = window("day", offset, at(text, "Europe/Berlin"))
        assert start == at(text[:10], "Europe/Berlin")
        assert end - start == hours * HOUR_S


def test_an_hour_that_is_lived_twice_is_two_windows() -> None:
    offset = offset_of("Europe/Berlin")
    twice = at("2026-10-25 02:30", "Europe/Berlin")
    one, other = window("hour", offset, twice), window("hour", offset, twice + HOUR_S)
    assert one[1] - one[0] == other[1] - other[0] == HOUR_S
    assert one[1] == other[0]


def test_a_day_that_a_country_left_out_has_no_window() -> None:
    offset = offset_of("Pacific/Apia")
    start, end = window("day", offset, at("2011-12-29 12:00", "Pacific/Apia"))
    assert end - start == DAY_S
    assert datetime.fromtimestamp(end, ZoneInfo("Pacific/Apia")).day == 31


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("now", [-5.0, 1e300, float(TIME_S_MAX) + 5])
def test_a_clock_that_is_out_of_its_mind_ends_nothing(period: str, now: float) -> None:
    start, end = window(period, utc, now)
    assert 0 <= start < end
