"""A region is created once, recognised exactly, and taken from the dead only."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shm import founding, mapping
from shm.birth import birth_ns, is_alive
from shm.founding import READY_AT, found
from shm.layout import HEADER, LAYOUT_CRC, MAGIC, VERSION, WORD, Geometry
from shm.mapping import Mapping, create_name, open_name, place, reserve
from shm.region import Region, RegionBusy, RegionFault, RegionFull
from tests.shm.implementations import NEEDS_NATIVE, SMALL, open_on

STEPS = [field.name for field in HEADER.fields[: READY_AT // WORD]]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its input ends."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def small(name: str) -> Region:
    return Region.create(name, series_max=4, slots_max=3, journal_records=2, limits_max=64, places_max=4, leases_max=64)


def poke(name: str, field: str, value: int) -> None:
    """Overwrite a word of the header behind everybody's back."""
    with open(place(name), "r+b") as file:
        file.seek(HEADER.offset(field))
        file.write(value.to_bytes(WORD, sys.byteorder))


def inode(name: str) -> int:
    return os.stat(place(name)).st_ino


class TestCreation:
    def test_only_the_owner_may_open_it(self, name: str) -> None:
        small(name).close()
        assert os.stat(place(name)).st_mode & 0o777 == 0o600

    def test_no_descriptor_stays_open(self, name: str) -> None:
        before = os.listdir("/proc/self/fd")
        region = small(name)
        attached = Region.attach(name)
        assert os.listdir("/proc/self/fd") == before
        attached.close()
        region.close()

    def test_sizes_out_of_bounds_are_refused(self, name: str) -> None:
        with pytest.raises(RegionFault, match=r"slots_max is 3000, outside 1\.\.1024"):
            Region.create(name, slots_max=3000)
        assert not os.path.exists(place(name))

    def test_without_room_there_is_no_region_and_no_remains(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_room(fd: int, name: str, offset: int, size: int) -> None:
            raise RegionFull("no room", culprit="-", place=name, remedy="-")

        monkeypatch.setattr(founding, "reserve", no_room)
        with pytest.raises(RegionFull):
            small(name)
        assert not os.path.exists(place(name))

    def test_room_that_is_not_there_is_told_before_it_is_used(self, name: str) -> None:
        fd = create_name(name)
        try:
            with pytest.raises(RegionFull, match=r"docker: --shm-size"):
                reserve(fd, name, 0, 1 << 50)
        finally:
            os.close(fd)


class TestSecondStart:
    def test_a_live_instance_is_not_disturbed(self, name: str, child: subprocess.Popen[bytes]) -> None:
        region, before = small(name), inode(name)
        born = birth_ns(child.pid)
        assert born is not None
        poke(name, "creator_pid", child.pid)
        poke(name, "creator_birth_ns", born)
        with pytest.raises(RegionBusy, match=f"process {child.pid} made it and is alive"):
            small(name)
        assert inode(name) == before
        region.close()

    def test_a_dead_instance_is_replaced(self, name: str, child: subprocess.Popen[bytes]) -> None:
        small(name).close()
        poke(name, "creator_pid", child.pid)
        poke(name, "creator_birth_ns", birth_ns(child.pid) or 0)
        child.kill()
        child.wait()
        before = inode(name)
        small(name).close()
        assert inode(name) != before

    def test_a_creator_who_is_a_zombie_is_dead(self, child: subprocess.Popen[bytes]) -> None:
        born = birth_ns(child.pid)
        assert born is not None and is_alive(child.pid, born)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(child.pid, born)

    def test_another_process_with_the_creators_number_is_not_the_creator(self, name: str) -> None:
        small(name).close()
        poke(name, "creator_birth_ns", 1)
        region = small(name)
        assert Region.attach(name).statistics() == region.statistics()
        region.close()

    @pytest.mark.parametrize("octets", [b"", bytes(10), bytes(HEADER.size), b"garbage!" * 600], ids=len)
    def test_remains_that_name_no_creator_are_replaced_when_nobody_uses_them(self, name: str, octets: bytes) -> None:
        with open(place(name), "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(octets)
        small(name).close()
        Region.attach(name).close()

    def test_a_damaged_region_in_use_is_not_taken_away(self, name: str) -> None:
        region, before = small(name), inode(name)
        poke(name, "magic", 1)
        with pytest.raises(RegionBusy, match=f"header is damaged, and process {os.getpid()} still uses it"):
            small(name)
        assert inode(name) == before
        region.close()

    def test_of_two_starts_at_the_same_moment_one_is_told(self, name: str) -> None:
        rival = create_name(name)
        try:
            fcntl.flock(rival, fcntl.LOCK_EX)
            with pytest.raises(RegionBusy, match="at this very moment"):
                small(name)
        finally:
            os.close(rival)

    def test_a_name_that_was_taken_between_open_and_lock_is_noticed(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def create_and_lose(name: str) -> int:
            fd = create_name(name)
            mapping.unlink_name(name)
            return fd

        monkeypatch.setattr(founding, "create_name", create_and_lose)
        with pytest.raises(RegionBusy):
            small(name)

    def test_a_rival_who_never_stops_is_told_of(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(founding, "_clear", lambda name: None)
        small(name).close()
        with pytest.raises(RegionBusy, match="again and again"):
            found(name, SMALL)


class TestRecognition:
    def test_what_is_not_there_is_said_so(self, name: str) -> None:
        with pytest.raises(RegionFault, match=r"there is no such region .*start it with `sentinel run`"):
            Region.attach(name)

    @pytest.mark.parametrize(("field", "value", "message"), [
        ("magic", MAGIC + 1, "magic"),
        ("version", 99, "layout is version 99"),
        ("layout_crc", LAYOUT_CRC ^ 1, "another version of sentinel"),
        ("creator_pid", 1 << 40, "checksum"),
        ("creator_birth_ns", 7, "checksum"),
        ("size_bytes", 0, "checksum"),
        ("slots_max", 200, "checksum"),
        ("series_max", 1 << 63, "checksum"),
        ("journal_records", 0, "checksum"),
        ("limits_max", 128, "checksum"),
        ("places_max", 5, "checksum"),
        ("leases_max", 128, "checksum"),
        ("budgets_max", 128, "checksum"),
        ("secret_low", 1, "checksum"),
        ("secret_high", 1, "checksum"),
        ("header_crc", 0, "checksum"),
        ("ready", 0, "never finished"),
    ])  # fmt: skip
    def test_every_word_of_the_header_is_checked(self, name: str, field: str, value: int, message: str) -> None:
        small(name).close()
        poke(name, field, value)
        with pytest.raises(RegionFault, match=message):
            Region.attach(name)

    def test_no_word_of_the_identity_was_forgotten(self) -> None:
        cases = self.test_every_word_of_the_header_is_checked.pytestmark[0].args[1]  # type: ignore[attr-defined]
        assert {case[0] for case in cases} == {*STEPS, "ready"}

    def test_sizes_beyond_the_bounds_are_refused_even_with_a_right_checksum(self, name: str) -> None:
        small(name).close()
        words = [MAGIC, VERSION, 1, 1, 1 << 50, 1 << 20, 4, 2, 64, 4, 64, 64, 5, 6, LAYOUT_CRC]
        for field, word in zip(HEADER.fields, (*words, founding._crc(words)), strict=False):
            poke(name, field.name, word)
        with pytest.raises(RegionFault, match=r"slots_max is 1048576, outside 1\.\.1024"):
            Region.attach(name)

    @pytest.mark.parametrize("size", [0, 100, HEADER.size, SMALL.size_bytes - 1, SMALL.size_bytes + 4096])
    def test_a_region_of_the_wrong_size_is_refused(self, name: str, size: int) -> None:
        small(name).close()
        os.truncate(place(name), size)
        with pytest.raises(RegionFault, match=f"it has {size} octets"):
            Region.attach(name)

    def test_a_region_that_others_may_open_is_refused(self, name: str) -> None:
        small(name).close()
        os.chmod(place(name), 0o666)
        with pytest.raises(RegionFault, match="belongs to another user, or others may open it"):
            Region.attach(name)
        with pytest.raises(RegionFault, match="belongs to another user, or others may open it"):
            small(name)

    def test_a_fault_names_culprit_place_and_remedy(self, name: str) -> None:
        small(name).close()
        poke(name, "ready", 0)
        with pytest.raises(RegionFault) as caught:
            Region.attach(name)
        fault = caught.value
        assert (fault.place, fault.culprit) == (f"/dev/shm{name}", "the region is damaged")
        assert fault.remedy.startswith("stop the fleet")
        assert str(fault) == f"{fault.place}: {fault.message} ({fault.culprit}); {fault.remedy}"


@NEEDS_NATIVE
def test_a_mapping_in_use_is_not_pulled_away(name: str) -> None:
    fd = create_name(name)
    os.ftruncate(fd, SMALL.size_bytes)
    mapped = Mapping(fd, SMALL.size_bytes)
    os.close(fd)
    cells = open_on("native", mapped.memory, SMALL)
    with pytest.raises(BufferError):
        mapped.close()
    assert cells.load(0) == 0
    cells.release()
    mapped.close()
    mapped.close()


def test_a_mapping_that_cannot_be_made_is_an_error(name: str) -> None:
    fd = create_name(name)
    try:
        with pytest.raises(OSError, match="mmap"):
            Mapping(fd, 0)
    finally:
        os.close(fd)


def test_opening_takes_no_name_that_is_none(name: str) -> None:
    with pytest.raises(RegionFault):
        os.close(open_name(name))


def test_geometry_of_a_region_is_that_of_its_creation(name: str) -> None:
    small(name).close()
    attached = Region.attach(name)
    assert attached.geometry == Geometry(slots_max=3, series_max=4, journal_records=2, limits_max=64, places_max=4)
    attached.close()
