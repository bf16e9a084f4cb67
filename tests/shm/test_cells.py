"""The native cells do what their twin does, and nothing outside their memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.core.reasons import Reason
from shm.cells import Cells, open_cells
from shm.layout import (
    BOUNDS_NS,
    JOURNAL_RECORD_BYTES,
    LIMIT,
    LIMIT_GRACE_NS,
    LIMIT_TERM_MAX_NS,
    LIMIT_TIME_MAX_NS,
    LIVES,
    OFFSET_BITS,
    SERIES,
    SERIES_WORDS,
    SLOT,
    TICKET_BITS,
    WORD,
)
from shm.mapping import Mapping
from tests.shm.implementations import IMPLEMENTATIONS, NEEDS_NATIVE, SMALL, open_on

HIGHEST = (1 << 64) - 1
OFFSETS = st.one_of(
    st.integers(0, SMALL.size_bytes // WORD).map(lambda word: word * WORD),
    st.sampled_from([SMALL.slot(0), SMALL.slot(1) + SLOT.offset("journal_head"), SMALL.ring(0), 4]),
    st.just(SMALL.counters(2, 3)),
)
WORDS = st.one_of(
    st.integers(0, 5), st.integers(0, HIGHEST), st.sampled_from([HIGHEST, HIGHEST - 1, 1 << 63, 1 << 48, (1 << 48) - 1])
)
MISFITS = st.sampled_from([-1, 1 << 64, "1", 1.0, None])
SLOTS = st.one_of(st.integers(0, 2), st.sampled_from([3, HIGHEST]))
DURATIONS = st.one_of(WORDS, st.sampled_from([bound + step for bound in BOUNDS_NS for step in (-1, 0, 1)]))
RECORDS = st.one_of(st.binary(max_size=40), st.integers(0, JOURNAL_RECORD_BYTES + 1).map(bytes))


TIMES = st.one_of(
    st.integers(0, 40).map(lambda step: step * LIMIT_GRACE_NS // 2), WORDS,
    st.sampled_from([LIMIT_TIME_MAX_NS, LIMIT_TIME_MAX_NS + 1]),
)  # fmt: skip
KEY = st.one_of(st.integers(0, 80).map(lambda number: b"%d" % number), st.integers(0, 1025).map(bytes), st.binary())
KEYS = st.lists(KEY, max_size=17).map(tuple)
NANOSECONDS = st.one_of(
    st.integers(0, 20).map(lambda step: step * LIMIT_GRACE_NS), WORDS,
    st.sampled_from([LIMIT_TERM_MAX_NS, LIMIT_TERM_MAX_NS + 1]),
)  # fmt: skip
GUARDED_WORDS = st.builds(
    # What a slot may have left behind: tickets with and without marks.
    lambda marks, place, slot, count: marks << 62 | place << OFFSET_BITS | slot << TICKET_BITS | count,
    st.integers(0, 3), st.integers(0, 63), st.integers(0, 4), st.integers(0, 3),
)  # fmt: skip


def charges(
    slot: int, now_ns: int, charged: list[tuple[bytes, tuple[int, int, int]]], name: str
) -> tuple[str, tuple[Any, ...]]:
    keys, terms = tuple(key for key, _ in charged), array("Q", [word for _, term in charged for word in term])
    return name, (slot, now_ns, keys, terms.tobytes())


SMALL_TERMS = st.tuples(st.integers(0, 3).map(lambda n: n * LIMIT_GRACE_NS), st.integers(0, 9).map(
    lambda n: n * LIMIT_GRACE_NS), st.integers(0, 3))  # fmt: skip
TERMS = st.one_of(SMALL_TERMS, SMALL_TERMS, st.tuples(NANOSECONDS, NANOSECONDS, WORDS))
CHARGES = st.builds(
    charges, st.integers(0, 2), TIMES, st.lists(st.tuples(KEY, TERMS), min_size=1, max_size=4),
    st.sampled_from(["charge", "charge_used", "charge_marked"]),
)
LIMIT_OFFSETS = st.one_of(
    st.integers(0, SMALL.limits_max * LIMIT.size // WORD).map(lambda word: SMALL.limit(0) + word * WORD),
    st.integers(0, SMALL.guards_max - 1).map(SMALL.guard),
)


def operation(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*arguments))


def spoilt(call: tuple[str, tuple[Any, ...]]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    """The same call with one argument that does not fit, or one argument fewer."""
    name, arguments = call
    places = st.integers(0, len(arguments) - 1)
    return st.one_of(
        st.tuples(places, MISFITS).map(lambda at: (name, (*arguments[: at[0]], at[1], *arguments[at[0] + 1 :]))),
        st.just((name, arguments[1:])),
    )


WELL_FORMED = st.one_of(
    operation("load", OFFSETS),
    operation("store", OFFSETS, WORDS),
    operation("store", LIMIT_OFFSETS, st.one_of(WORDS, GUARDED_WORDS)),
    operation("fetch_add", OFFSETS, WORDS),
    operation("compare_exchange", OFFSETS, WORDS, WORDS),
    operation("publish", OFFSETS, WORDS),
    operation("record", SLOTS, st.integers(0, 4), st.integers(0, 700), st.integers(0, 128), DURATIONS, WORDS, WORDS),
    operation("add", SLOTS, st.integers(0, 32)),
    operation("add", SLOTS, st.integers(0, 32), WORDS),
    operation("beat", SLOTS, WORDS, WORDS, WORDS),
    operation("journal_write", SLOTS, RECORDS),
    operation("journal_read", SLOTS, WORDS),
    operation("sums", OFFSETS, OFFSETS, st.integers(0, 4), st.integers(0, 8)),
    operation("sums", OFFSETS, WORDS, WORDS, WORDS),
    operation("charge", SLOTS, TIMES, KEYS, st.binary(max_size=48)),
    operation("charge_used", SLOTS, TIMES, KEYS, st.binary(max_size=48)),
    operation("charge_marked", SLOTS, TIMES, KEYS, st.binary(max_size=48)),
    operation("give_back", SLOTS, TIMES, KEY, st.tuples(st.integers(0, 64), TIMES, NANOSECONDS), NANOSECONDS),
    operation("take_more", SLOTS, TIMES, KEY, NANOSECONDS),
    CHARGES,
    CHARGES,
    CHARGES,
    operation("peek", TIMES, KEY),
    operation("reset", TIMES, KEY),
    operation("limits_reap", SLOTS),
    operation("limits_statistics", TIMES),
)
OPERATIONS = st.one_of(WELL_FORMED, WELL_FORMED, WELL_FORMED, WELL_FORMED.flatmap(spoilt))


def outcome(cells: Cells, call: tuple[str, tuple[Any, ...]]) -> object:
    """What the call returned, or the kind of its refusal."""
    name, arguments = call
    try:
        return getattr(cells, name)(*arguments)
    except (TypeError, ValueError, IndexError, OverflowError) as refusal:
        return type(refusal)


@NEEDS_NATIVE
@settings(max_examples=300, deadline=None)
@given(st.lists(OPERATIONS, max_size=30))
@example([("journal_write", (0, b"x" * n)) for n in range(20)] + [("journal_read", (0, n)) for n in range(20)])
@example([("store", (SMALL.slot(0) + SLOT.offset("journal_head"), HIGHEST)), ("journal_write", (0, b"wrap"))])
def test_the_native_cells_do_what_their_twin_does(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    memories = [bytearray(SMALL.size_bytes) for _ in range(2)]
    native, twin = open_on("native", memoryview(memories[0])), open_on("twin", memoryview(memories[1]))
    for call in calls:
        assert outcome(native, call) == outcome(twin, call), call
    native.release()
    twin.release()
    assert memories[0] == memories[1]


@NEEDS_NATIVE
def test_every_native_operation_has_a_twin_and_a_differential_test() -> None:
    cells = open_on("native", memoryview(bytearray(SMALL.size_bytes)))
    operations = {name for name in dir(cells) if not name.startswith("_")}
    twins = {name for name in dir(open_on("twin", memoryview(bytearray(SMALL.size_bytes)))) if not name.startswith("_")}
    assert operations == twins
    files = Path(__file__), *map(Path(__file__).with_name, ("test_places.py", "test_leases.py", "test_budgets.py"))
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    for name in operations - {"release"}:
        told = f'operation("{name}"' in text or f'st.just("{name}")' in text
        assert told, f"add {name} to WELL_FORMED, or to the operations of a table's own test"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_released_cells_refuse_and_let_the_memory_go(implementation: str) -> None:
    memory = memoryview(bytearray(SMALL.size_bytes))
    cells = open_on(implementation, memory)
    cells.release()
    cells.release()
    with pytest.raises(ValueError):
        cells.load(0)
    memory.release()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("memory", [
    memoryview(bytes(SMALL.size_bytes)),
    memoryview(bytearray(SMALL.tolls_offset)),
    memoryview(bytearray(SMALL.size_bytes + 1)),
    memoryview(bytearray(0)),
], ids=["read-only", "too short", "not whole words", "empty"])  # fmt: skip
def test_memory_that_cannot_be_a_region_is_refused(implementation: str, memory: memoryview) -> None:
    with pytest.raises((ValueError, BufferError)):
        open_on(implementation, memory)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_record_counts_in_every_cell_once(implementation: str) -> None:
    cells = open_on(implementation, memoryview(bytearray(SMALL.size_bytes)))
    for status in (200, 503, 503, 0, 999):
        cells.record(1, 2, status, 7, 500_000, 10, 20)
    words = memoryview(cells.sums(SMALL.counters(1, 2), 0, 1, SERIES_WORDS)).cast("Q").tolist()
    expected = array("Q", bytes(SERIES.size))
    for field, cell, count in (("classes", 2, 1), ("classes", 5, 2), ("classes", 0, 2), ("histogram", 0, 5),
                               ("reasons", 7, 5), ("duration_sum_ns", 0, 2_500_000), ("bytes_in", 0, 50),
                               ("bytes_out", 0, 100)):  # fmt: skip
        expected[SERIES.offset(field) // WORD + cell] = count
    assert words == expected.tolist()
    life = SMALL.slot(1) + SLOT.offset("lives")
    assert [cells.load(life + WORD), cells.load(life + 2 * WORD)] == [5, 0], "five requests, none of them failed"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("status", "reason", "is_failure"),
    [
        (502, Reason.CONNECT_FAILED, True),
        (200, Reason.UPSTREAM_ABORTED, True),
        (500, Reason.PROXIED, True),
        (500, Reason.INTERNAL, True),
        (404, Reason.PROXIED, False),
        (503, Reason.RESPONDED, False),
        (505, Reason.BAD_VERSION, False),
        (501, Reason.METHOD_REFUSED, False),
        (503, Reason.OVERLOADED, False),
    ],
)
def test_what_speaks_against_a_generation_is_nothing_that_clients_can_bring_about(
    implementation: str, status: int, reason: Reason, is_failure: bool
) -> None:
    cells = open_on(implementation, memoryview(bytearray(SMALL.size_bytes)))
    cells.record(0, 0, status, reason.number, 1, 0, 0)
    assert cells.load(SMALL.slot(0) + SLOT.offset("lives") + 2 * WORD) == is_failure


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_bucket_holds_its_upper_bound(implementation: str) -> None:
    cells = open_on(implementation, memoryview(bytearray(SMALL.size_bytes)))
    histogram = SMALL.counters(0, 0) + SERIES.offset("histogram")
    for bucket, bound in enumerate(BOUNDS_NS):
        before = cells.load(histogram + bucket * WORD)
        cells.record(0, 0, 200, 0, bound, 0, 0)
        assert cells.load(histogram + bucket * WORD) == before + 1
        cells.record(0, 0, 200, 0, bound + 1, 0, 0)
        assert cells.load(histogram + (bucket + 1) * WORD) == 1


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_operation_leaves_its_memory(implementation: str) -> None:
    """The region ends at a page that must not be touched; a child does the last of everything."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        try:
            use_the_last_of_everything(open_on(implementation, guarded_memory()))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def guarded_memory() -> memoryview:
    """Memory of exactly the region's size, followed by a page without any rights."""
    libc = ctypes.CDLL(None)
    size = SMALL.size_bytes + mmap.PAGESIZE
    file = os.memfd_create("guarded")
    os.ftruncate(file, size)
    mapping = Mapping(file, size)
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(mapping.memory))
    assert SMALL.size_bytes % mmap.PAGESIZE == 0
    assert libc.mprotect(ctypes.c_void_p(address + SMALL.size_bytes), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return mapping.memory[: SMALL.size_bytes]


def use_the_last_of_everything(cells: Cells) -> None:
    slot, series = SMALL.slots_max - 1, SMALL.series_max - 1
    cells.store(SMALL.slot(slot), (LIVES - 1) << 2)
    cells.record(slot, series, 599, 127, HIGHEST, HIGHEST, HIGHEST)
    cells.add(slot, 31)
    cells.beat(slot, 1, 2, 3)
    for _ in range(SMALL.journal_records):
        cells.journal_write(slot, b"x" * JOURNAL_RECORD_BYTES)
    assert cells.journal_read(slot, SMALL.journal_records - 1) == b"x" * JOURNAL_RECORD_BYTES
    assert cells.load(SMALL.size_bytes - WORD) == 0
    cells.sums(SMALL.counters(0, series), SMALL.counters_stride, SMALL.slots_max, SERIES_WORDS)
    for number in range(SMALL.limits_max * 2):
        terms = array("Q", (1 << 40, 1 << 50, 0) * 16).tobytes()
        cells.charge(slot, 1 << 60, tuple(b"%d.%d" % (number, at) + bytes(1000) for at in range(16)), terms)
    assert cells.limits_statistics(0)[0] > SMALL.limits_max // 2
    refused = [("load", (SMALL.size_bytes,)), ("load", (SMALL.size_bytes - 4,)),
               ("sums", (SMALL.size_bytes - WORD, WORD, 2, 1)), ("sums", (0, HIGHEST - 7, 256, 160))]  # fmt: skip
    assert [outcome(cells, call) for call in refused] == [IndexError] * len(refused)


TWO_TERMS = array("Q", (1000, 1 << 50, 0) * 2).tobytes()


def test_pure_is_asked_for_by_environment() -> None:
    cells = open_cells(memoryview(bytearray(SMALL.size_bytes)), SMALL, {"SENTINEL_PURE": "1"})
    assert type(cells).__module__ == "shm.twin"


@NEEDS_NATIVE
def test_no_operation_keeps_an_object() -> None:
    """A lost reference would show as a block a call; the few of the interpreter itself do not grow with them."""
    cells = open_on("native", memoryview(bytearray(SMALL.size_bytes)))
    big, calls = 1 << 40, 2000
    work = [("load", (0,)), ("store", (0, big)), ("fetch_add", (0, big)), ("compare_exchange", (0, big, 1)),
            ("publish", (0, big)), ("record", (0, 0, 200, 0, big, big, big)), ("add", (0, 0, big)),
            ("beat", (0, big, big, big)), ("journal_write", (0, b"x")), ("journal_read", (0, 0)),
            ("sums", (0, 8, 1, 4)), ("charge", (0, big, (b"a", b"b"), TWO_TERMS)), ("peek", (big, b"a")),
            ("charge", (0, big, (b"a", b"b"), b"")), ("charge", (0, big, (b"a", "b"), TWO_TERMS)),
            ("reset", (big, b"a")), ("limits_reap", (0,)), ("limits_statistics", (big,)), ("load", (-1,)),
            ("record", (9, 0, 0, 0, 0, 0, 0)), ("load", ())]  # fmt: skip
    for name, arguments in work:
        outcome(cells, (name, arguments))
        before = sys.getallocatedblocks()
        for _ in range(calls):
            outcome(cells, (name, arguments))
        assert sys.getallocatedblocks() - before < calls // 4, name
