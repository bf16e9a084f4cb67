"""Records that are kept: each once, or counted; whatever the disk, the load, or the life of control is like."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.plan import Journal, Plan
from sentinel.core.routes import RouteTable
from shm.region import Region, Role
from supervisor.control.archive import TABLES_MAX, Archive
from supervisor.control.memory import Memory
from supervisor.control.retention import Kept, Retention
from supervisor.control.running import RunningPlan
from supervisor.control.tail import BATCH_MAX, Tail
from tests.core.build import match, plan, route
from tests.directives.test_journal import KINDS, record

RING = 32


@pytest.fixture
def region() -> Iterator[Region]:
    region = Region.create(f"/sentinel-test-{secrets.token_hex(8)}", series_max=4, slots_max=4, journal_records=RING)
    try:
        yield region
    finally:
        region.unlink()
        region.close()


def claimed(region: Region) -> int:
    return region.claim_slot(pid=os.getpid(), birth_ns=1, role=Role.WORKER, generation=1, lane=0)


def write(region: Region, slot: int, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        region.journal_write(slot, record(f"id{number}", **KINDS[0]))


def keeping(path: Path) -> Plan:
    whole = plan()
    return replace(whole, system=replace(whole.system, journal=Journal(file=str(path))))


def clerk(region: Region, directory: Path) -> Retention:
    return Retention(Memory(region.name), RunningPlan(), str(directory))


def ids(path: Path) -> list[str]:
    return [msgspec.json.decode(line)["request_id"] for line in path.read_bytes().splitlines()]


# Reading behind the writers.


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3 * RING), st.booleans()), max_size=12))
def test_each_record_is_read_once_or_counted(turns: list[tuple[int, int, bool]]) -> None:
    """Two rings, any bursts, a look now and then: what was read and what was missed is all that was written."""
    region = Region.create(f"/sentinel-test-{secrets.token_hex(8)}", series_max=4, slots_max=4, journal_records=RING)
    try:
        slots, tail = (claimed(region), claimed(region)), Tail({})
        written: dict[int, int] = dict.fromkeys(slots, 0)
        seen: list[bytes] = []
        missed = 0
        for which, count, is_looked in [*turns, (0, 0, True)]:
            for number in range(count):
                region.journal_write(slots[which], b"%d %d" % (which, written[slots[which]] + number))
            written[slots[which]] += count
            if is_looked:
                batch = tail.read(region)
                seen, missed = [*seen, *batch.records], missed + batch.missed
        assert len(seen) == len(set(seen)) and len(seen) + missed == sum(written.values())
        for which in (0, 1):
            numbers = [int(one.split()[1]) for one in seen if one.split()[0] == b"%d" % which]
            assert numbers == sorted(numbers)
    finally:
        region.unlink()
        region.close()


def test_a_look_is_bounded_and_says_that_there_is_more() -> None:
    region = Region.create(f"/sentinel-test-{secrets.token_hex(8)}", series_max=4, slots_max=4, journal_records=4096)
    try:
        slot, tail = claimed(region), Tail({})
        for number in range(BATCH_MAX + 5):
            region.journal_write(slot, b"%d" % number)
        first, second = tail.read(region), tail.read(region)
        assert (len(first.records), first.has_more) == (BATCH_MAX, True)
        assert (len(second.records), second.has_more, second.missed) == (5, False, 0)
    finally:
        region.unlink()
        region.close()


# Keeping.


def test_it_begins_with_what_there_still_is(region: Region, tmp_path: Path) -> None:
    write(region, claimed(region), RING + 10)
    retention, path = clerk(region, tmp_path), tmp_path / "kept"
    retention.turn(keeping(path))
    assert ids(path) == [f"id{number}" for number in range(10, RING + 10)]
    assert retention.statistics() == Kept(RING, 0, 0), "what was before it began, it has not missed"


def test_who_comes_after_a_crash_goes_on_and_counts_what_it_missed(region: Region, tmp_path: Path) -> None:
    slot, path = claimed(region), tmp_path / "kept"
    write(region, slot, 5)
    clerk(region, tmp_path).turn(keeping(path))
    write(region, slot, RING + 7, first=5)
    successor = clerk(region, tmp_path)
    successor.turn(keeping(path))
    assert ids(path) == [*(f"id{number}" for number in range(5)), *(f"id{number}" for number in range(12, RING + 12))]
    assert successor.statistics() == Kept(5 + RING, 7, 0)


def test_what_another_instance_left_is_not_gone_on_with(region: Region, tmp_path: Path) -> None:
    slot, path = claimed(region), tmp_path / "kept"
    write(region, slot, 3)
    clerk(region, tmp_path).turn(keeping(path))
    state = msgspec.json.decode((tmp_path / "journal.state").read_bytes())
    (tmp_path / "journal.state").write_bytes(msgspec.json.encode(state | {"instance": [1, 2], "kept": 99}))
    successor = clerk(region, tmp_path)
    successor.turn(keeping(path))
    assert successor.statistics() == Kept(3, 0, 0) and ids(path) == ["id0", "id1", "id2"] * 2
    (tmp_path / "journal.state").write_bytes(b"no state at all")
    clerk(region, tmp_path).turn(keeping(path))
    assert len(ids(path)) == 9


def test_a_full_disk_costs_lines_which_are_counted(
    region: Region, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slot = claimed(region)
    write(region, slot, 4)
    retention = clerk(region, tmp_path)
    retention.turn(keeping(Path("/dev/full")))
    retention.turn(keeping(tmp_path / "no" / "directory"))
    write(region, slot, 2)
    retention.turn(keeping(tmp_path / "no" / "directory"))
    assert retention.statistics() == Kept(0, 0, 6)
    assert capsys.readouterr().err.count("\n") == 1, "it is said, but not with every batch"


def test_a_pipe_keeps_nobody_waiting(region: Region, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slot = claimed(region)
    os.mkfifo(tmp_path / "pipe")
    retention = clerk(region, tmp_path)
    write(region, slot, 1)
    retention.turn(keeping(tmp_path / "pipe"))
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(region, slot, 1)
    retention.turn(keeping(tmp_path / "pipe"))
    assert os.read(reader, 100) == b"" and retention.statistics() == Kept(0, 0, 2)
    os.close(reader)
    assert "pipe" in capsys.readouterr().err


def test_a_line_that_was_cut_off_is_taken_back(
    region: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, path, write_all = claimed(region), tmp_path / "kept", os.write
    write(region, slot, 3)
    room = [700]

    def scarce(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        done = write_all(descriptor, bytes(data)[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", scarce)
    retention = clerk(region, tmp_path)
    retention.turn(keeping(path))
    monkeypatch.undo()
    kept = len(ids(path))
    assert path.read_bytes().endswith(b"\n") and 0 < kept < 3
    assert retention.statistics() == Kept(kept, 0, 3 - kept)


def test_damage_in_a_ring_is_passed_over(region: Region, tmp_path: Path) -> None:
    slot, path = claimed(region), tmp_path / "kept"
    region.journal_write(slot, b"\xff damaged")
    region.journal_write(slot, b"")
    write(region, slot, 1)
    clerk(region, tmp_path).turn(keeping(path))
    assert ids(path) == ["id0"]


# Plans of the past.


def test_old_plans_are_found_by_generation_and_bounded(tmp_path: Path) -> None:
    asyncio.run(_ask_archive(tmp_path))


async def _ask_archive(directory: Path) -> None:
    import hashlib

    history = []
    for number in range(1, TABLES_MAX + 4):
        data = msgspec.json.encode(plan(route(f"r{number}", match(line=1))))
        path = directory / f"{number}.plan"
        path.write_bytes(data)
        history.append({"generation": number, "path": str(path), "fingerprint": hashlib.sha256(data).hexdigest()})

    async def status() -> dict[str, object]:
        return {"history": history}

    archive = Archive(status)
    for number in range(1, TABLES_MAX + 4):
        table = await archive.table(number)
        assert isinstance(table, RouteTable) and table.plan.routes[0].name == f"r{number}"
    for entry in history:
        Path(str(entry["path"])).unlink()
    known = [number for number in range(1, TABLES_MAX + 4) if await archive.table(number) is not None]
    assert known == list(range(4, TABLES_MAX + 4)), "the last ones are remembered, the others' files are gone"
    assert await archive.table(99) is None
    history[-1]["fingerprint"] = "0" * 64
    assert await archive.table(TABLES_MAX + 3) is None, "a plan that was changed is no plan"
