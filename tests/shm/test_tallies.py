"""Tallies: exact over processes, their deaths and their heirs; bounded, whoever names what."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.faults import RegionFault
from shm.layout import TALLIES_MAX
from shm.region import Region, Role
from shm.tallies import (
    COST_MAX,
    EACH_BOUNDS_MS,
    ERROR_MAX,
    LESSONS,
    OTHER,
    OTHERS,
    PART_OCTETS,
    RESERVED,
    TOKEN_BOUNDS,
    UNSAID_AT_ONCE,
    UNSAID_MAX,
    Labels,
    Notch,
    Tally,
    text_of,
)

MS = 1_000_000
CHAT = Labels("models", "gpt-4o", "openai-chat", "acme", "USD")
NOTCH = Notch(140, 40, 126, True, 97, 2_000 * MS, 500 * MS)


def claim(region: Region) -> int:
    return region.claim_slot(pid=os.getpid(), birth_ns=5, role=Role.WORKER, generation=1, lane=0)


def only(region: Region) -> Tally:
    (found,) = region.tallied()
    return found


def test_a_call_is_in_every_sum_and_in_one_bucket_of_each(region: Region) -> None:
    slot = claim(region)
    region.tallies.add(slot, CHAT, NOTCH)
    region.tallies.add(slot, CHAT, NOTCH._replace(is_reported=False, first_ns=0))
    found = only(region)
    assert found.labels == CHAT and (found.calls, found.counted, found.cached_tokens, found.cost) == (2, 1, 80, 194)
    assert (found.inputs.total, found.outputs.total, found.duration_ns.total) == (280, 252, 4_000 * MS)
    assert found.inputs.counts[TOKEN_BOUNDS.index(256)] == found.outputs.counts[TOKEN_BOUNDS.index(256)] == 2
    assert sum(found.inputs.counts) == sum(found.duration_ns.counts) == 2
    assert (found.first_ns.total, sum(found.first_ns.counts)) == (500 * MS, 1), "a whole answer has no first token"
    assert (found.each_ns.total, found.each_ns.counts[EACH_BOUNDS_MS.index(25)]) == (12 * MS, 1)


def test_an_error_of_an_estimate_is_told_by_its_direction(region: Region) -> None:
    slot = claim(region)
    for error in (None, 0, 10, 11, -10, -300, 5001, 1 << 40):
        region.tallies.add(slot, CHAT, NOTCH._replace(error=error))
    over, under = only(region).over, only(region).under
    assert (over.total, under.total) == (10 + 11 + 5001 + ERROR_MAX, 310), "what is told as more than it can be is cut"
    assert over.counts == (2, 1, 0, 0, 0, 0, 0, 0, 0, 2)
    assert under.counts == (1, 0, 0, 0, 0, 1, 0, 0, 0, 0)


@given(st.sampled_from([0, 1, 4, 5, 1 << 26, (1 << 26) + 1, 1 << 40]), st.booleans())
@settings(max_examples=20)
def test_bounds_are_inclusive_and_the_last_bucket_has_none(tokens: int, is_stream: bool) -> None:
    name = f"/sentinel-test-tallies-{os.getpid()}"
    region = Region.create(name, slots_max=2, series_max=4, journal_records=2, limits_max=64, places_max=4)
    try:
        region.tallies.add(claim(region), CHAT, Notch(tokens, 0, tokens, True, 0, 10 * MS, 10 * MS * is_stream))
        found = only(region)
        bucket = found.inputs.counts.index(1)
        assert bucket == next((at for at, bound in enumerate(TOKEN_BOUNDS) if tokens <= bound), len(TOKEN_BOUNDS))
        assert found.duration_ns.counts[0] == 1 and sum(found.first_ns.counts) == is_stream
        assert sum(found.each_ns.counts) == (is_stream and tokens > 1)
    finally:
        region.unlink()
        region.close()


def test_what_calls_cost_grows_up_to_a_bound(region: Region) -> None:
    slot = claim(region)
    for cost in (COST_MAX - 5, 4, 1 << 51, 1 << 51):
        region.tallies.add(slot, CHAT, NOTCH._replace(cost=cost))
    assert (only(region).cost, only(region).calls) == (COST_MAX, 4)


def test_labels_are_told_apart_and_shared_by_all_who_look(region: Region) -> None:
    slot, other = claim(region), Region.attach(region.name)
    heir = other.claim_slot(pid=os.getpid(), birth_ns=5, role=Role.WORKER, generation=1, lane=1)
    different = [CHAT._replace(**{name: "x"}) for name in Labels._fields]
    for labels in (CHAT, *different):
        region.tallies.add(slot, labels, NOTCH)
        other.tallies.add(heir, labels, NOTCH)
    assert [(one.labels, one.calls) for one in other.tallied()] == [(labels, 2) for labels in (CHAT, *different)]
    assert region.tallies.used() == len(different) + 1
    other.close()


def test_when_there_is_no_room_all_others_are_counted_as_one(region: Region) -> None:
    slot = claim(region)
    for number in range(TALLIES_MAX + 10):
        region.tallies.add(slot, CHAT._replace(model=f"m{number}"), NOTCH)
    region.tallies.add(slot, CHAT._replace(model="m0"), NOTCH)
    found = {one.labels: one.calls for one in region.tallied()}
    assert len(found) == TALLIES_MAX and found[OTHERS] == 11 and found[CHAT._replace(model="m0")] == 2
    assert sum(found.values()) == TALLIES_MAX + 11, "nobody is lost"
    assert region.tallies.used() == TALLIES_MAX - 1
    for number in range(5000):  # whoever goes on with names finds a bounded memory of them
        assert region.tallies.index(CHAT._replace(tenant=f"t{number}")) == OTHER


def test_names_that_clients_invent_displace_nobody(region: Region) -> None:
    slot, tallies = claim(region), region.tallies
    for number in range(3000):
        tallies.add(slot, CHAT._replace(model=f"invented-{number}"), NOTCH, False)
    assert tallies.used() == UNSAID_AT_ONCE
    real = CHAT._replace(model="gpt-4o-2024")  # of a pattern: it comes again and again, among others that do not
    for number in range(2 * LESSONS):
        tallies.add(slot, real, NOTCH, False)
        tallies.add(slot, CHAT._replace(model=f"another-{number}"), NOTCH, False)
    found = {one.labels: one.calls for one in region.tallied()}
    assert found[real] == LESSONS + 1 and tallies.used() == UNSAID_AT_ONCE + 1
    assert sum(found.values()) == 3000 + 4 * LESSONS, "nobody is lost"
    for number in range(TALLIES_MAX):
        for _ in range(LESSONS):
            tallies.add(slot, CHAT._replace(model=f"insistent-{number}"), NOTCH, False)
    assert tallies.used() == UNSAID_MAX
    tallies.add(slot, CHAT, NOTCH)
    found = {one.labels: one.calls for one in region.tallied()}
    assert found[CHAT] == 1, "there is room for what the configuration names"
    # After a reload it names another one: what has a label keeps it.
    other = Region.attach(region.name)
    other.tallies.add(slot, real, NOTCH, True)
    tallies.add(slot, CHAT, NOTCH, False)
    found = {one.labels: one.calls for one in region.tallied()}
    assert (found[CHAT], found[real], other.tallies.used()) == (2, LESSONS + 2, UNSAID_MAX + 1)
    other.close()


def test_a_label_that_two_have_added_is_shown_once(region: Region) -> None:
    slot, tallies = claim(region), region.tallies
    tallies.add(slot, CHAT, NOTCH, False)
    tallies._numbers.clear()
    region._cells.store(region.geometry.label(2), tallies._hash(text_of(CHAT)))  # as if both had found it free
    tallies._refresh()
    tallies._known.clear()
    tallies.add(slot, CHAT, NOTCH)
    assert only(region).calls == 2


def test_long_names_keep_their_beginning_and_stay_apart() -> None:
    long = [CHAT._replace(model="m" * 200 + end, tenant="é" * 90 + end) for end in ("a", "b")]
    texts = [text_of(labels) for labels in (*long, CHAT, CHAT._replace(model="a\x1fb"), CHAT._replace(model="\ud800"))]
    assert len(set(texts)) == 5
    for text in texts:
        parts = text.split(b"\x1f")
        assert len(parts) == len(PART_OCTETS)
        assert all(len(part) <= most for part, most in zip(parts, PART_OCTETS, strict=True))
    assert texts[0].split(b"\x1f")[1].startswith(b"m" * 60)


def test_counts_stay_when_their_worker_dies_and_go_on_with_its_heir(region: Region) -> None:
    slot = claim(region)
    region.tallies.add(slot, CHAT, NOTCH)
    region.reap_slot(slot)
    assert only(region).calls == 1
    for _ in range(20):
        heir = claim(region)
        region.tallies.add(heir, CHAT, NOTCH)
        region.reap_slot(heir)
    assert only(region).calls == 21


def test_a_label_whose_writer_died_before_its_text_is_named_by_the_next(region: Region) -> None:
    slot, geometry = claim(region), region.geometry
    index = region.tallies.index(CHAT)
    region._cells.store(geometry.label(index) + 8, 0)  # its length: as if he had died there
    assert region.tallied() == []
    other = Region.attach(region.name)
    other.tallies.add(slot, CHAT, NOTCH)
    assert only(region).labels == CHAT
    other.close()


def test_a_damaged_label_is_not_shown_and_harms_no_other(region: Region) -> None:
    slot, geometry = claim(region), region.geometry
    for model in ("a", "b"):
        region.tallies.add(slot, CHAT._replace(model=model), NOTCH)
    region._cells.store(geometry.label(1) + 8, 1 << 60)
    region._cells.store(geometry.label(1), region._cells.load(geometry.label(2)))
    other = Region.attach(region.name)
    assert [one.labels.model for one in other.tallied()][-1] == "b" and len(other.tallied()) <= 2
    other.close()


def test_without_memory_for_a_row_a_call_is_another_and_without_any_it_is_not_counted(region: Region) -> None:
    slot, tallies = claim(region), region.tallies

    def full(at: int, size: int) -> None:
        raise RegionFault("no room", culprit="the disk", place="here", remedy="more")

    for number in range(RESERVED - 1):
        tallies.add(slot, CHAT._replace(model=f"m{number}"), NOTCH)
    tallies._reserve = full
    tallies.add(slot, CHAT, NOTCH)
    tallies.add(slot, CHAT._replace(model="m1"), NOTCH)
    tallies._ready.clear()
    tallies.add(slot, CHAT, NOTCH)
    found = {one.labels.model: one.calls for one in region.tallied()}
    assert (found[OTHERS.model], found["m1"], sum(found.values())) == (1, 2, RESERVED + 1)


def child(region: Region, body: Callable[[Region, int], None], slot: int, out: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        mine = Region.attach(region.name)
        for calls in count(1):
            body(mine, slot)
            os.write(out, b".")
            if calls == 400:
                break
    finally:
        os._exit(0)


@pytest.mark.parametrize("deaths", [0, 3])
def test_no_call_is_lost_or_counted_twice_by_processes_that_are_killed(region: Region, deaths: int) -> None:
    """Each tells of a call after it was counted: what is counted is what was told, and one more for a death at most."""
    read, write = os.pipe()
    slots = [claim(region) for _ in range(4)]

    def one(mine: Region, slot: int) -> None:
        mine.tallies.add(slot, CHAT._replace(model=f"m{os.getpid() % 2}"), NOTCH)

    pids = [child(region, one, slot, write) for slot in slots]
    os.close(write)
    told = len(os.read(read, 1))
    for pid in pids[:deaths]:
        told += len(os.read(read, 40))
        os.kill(pid, signal.SIGKILL)
    while more := os.read(read, 65536):
        told += len(more)
    os.close(read)
    for pid in pids:
        os.waitpid(pid, 0)
    found = region.tallied()
    calls = sum(one.calls for one in found)
    assert told <= calls <= told + deaths
    for tally in found:
        assert abs(tally.inputs.total - 140 * tally.calls) <= 140 * deaths
        assert abs(sum(tally.duration_ns.counts) - tally.calls) <= deaths
    if not deaths:
        assert calls == 1600 and sum(one.inputs.total for one in found) == 1600 * 140
