"""How a region comes to be, how it is recognised, and when a leftover may be removed.

Intuition: a founding stone. It tells who laid it and how the house is built,
and it is the last thing that is finished; a house without it is a ruin.

Rule 1: the supervisor creates, alone. Everybody else attaches, and believes
    nothing before magic, version, checksums and size agree.
Rule 2: a name that exists is never taken from the living. The header holds the
    creator's pid and birth; if that process still runs, a second start is
    refused (RegionBusy) and has changed nothing.
Rule 3: the remains of the dead are removed and replaced, since a region outlives
    every kind of end. A header that cannot be read names no creator; then the
    region is a leftover only if no process has it mapped.
Rule 4: while it is being created the region is locked (flock). So of two starts
    at the same moment one wins and the other is told so.

Rejected: keeping that lock for life as the proof of life. Mappings keep it, and
children inherit them: a worker that drains after the supervisor's death would
keep the next supervisor from starting.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from shm.birth import birth_ns, is_alive
from shm.faults import RegionBusy, RegionFault
from shm.layout import HEADER, IDENTITY_WORDS, LAYOUT_CRC, MAGIC, VERSION, WORD, Geometry
from shm.mapping import Mapping, create_name, is_named, open_name, place, reserve, unlink_name

ATTEMPTS_MAX: Final = 8
"""Each attempt removes one leftover; that many in a row are a rival, not leftovers."""
READY_AT: Final = HEADER.offset("ready")
CRC_AT: Final = HEADER.offset("header_crc")
REMOVE: Final = "stop the fleet, then start it again: a new region is made"


def found(name: str, geometry: Geometry, secret: tuple[int, int] | None = None) -> Mapping:
    """Create the region, empty and ready, with this secret or a new one; run by the supervisor."""
    for problem in geometry.faults():
        raise RegionFault(problem, culprit="the configuration", place=place(name), remedy="stay within them")
    for _ in range(ATTEMPTS_MAX):
        try:
            fd = create_name(name)
        except FileExistsError:
            _clear(name)
            continue
        try:
            return _lay(fd, name, geometry, secret or _drawn())
        finally:
            # Said, not left to the close: the mapping keeps the open file, and with it the lock, alive.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
    raise _busy(name, "the name is taken again and again while this start removes leftovers")


def recognise(name: str) -> tuple[Mapping, Geometry]:
    """Attach to an existing region, or say exactly what is wrong with it."""
    fd = open_name(name)
    try:
        geometry = _checked(os.pread(fd, HEADER.size, 0), os.fstat(fd).st_size, name)
        return Mapping(fd, geometry.size_bytes), geometry
    finally:
        os.close(fd)


def is_abandoned(name: str) -> bool:
    """Whether there is a region that a dead instance left."""
    try:
        fd = open_name(name)
    except RegionFault:
        return False
    try:
        header = os.pread(fd, 4 * WORD, 0)
    finally:
        os.close(fd)
    words = memoryview(header).cast("Q") if len(header) == 4 * WORD else None
    return words is not None and words[0] == MAGIC and not is_alive(words[2], words[3])


def _drawn() -> tuple[int, int]:
    low, high = memoryview(os.urandom(2 * WORD)).cast("Q").tolist()
    return low, high


def _lay(fd: int, name: str, geometry: Geometry, secret: tuple[int, int]) -> Mapping:
    if not _lock(fd) or not is_named(fd, name):
        raise _busy(name, "another start took the name at this very moment")
    try:
        os.ftruncate(fd, geometry.size_bytes)
        reserve(fd, name, 0, geometry.names_offset)
        reserve(fd, name, geometry.limits_offset, geometry.holdings_offset - geometry.limits_offset)
        reserve(fd, name, geometry.budgets_offset, geometry.titles_offset - geometry.budgets_offset)
        reserve(fd, name, geometry.places_offset, geometry.flights_offset - geometry.places_offset)
        reserve(fd, name, geometry.labels_offset, geometry.tallies_offset - geometry.labels_offset)
        mapping = Mapping(fd, geometry.size_bytes)
    except (OSError, RegionFault):
        unlink_name(name)
        raise
    pid = os.getpid()
    born = birth_ns(pid)
    assert born is not None, "this very process is alive"
    words = (MAGIC, VERSION, pid, born, geometry.size_bytes, geometry.slots_max, geometry.series_max,
             geometry.journal_records, geometry.limits_max, geometry.places_max,
             geometry.leases_max, geometry.budgets_max, *secret, LAYOUT_CRC)  # fmt: skip
    cells = mapping.memory.cast("Q")
    for at, word in enumerate((*words, _crc(words))):
        cells[at] = word
    cells[READY_AT // WORD] = 1
    cells.release()
    return mapping


def _checked(header: bytes, size: int, name: str) -> Geometry:
    """The geometry, if everything that the header says agrees; what does not is the first fault."""
    if len(header) < HEADER.size:
        raise _damaged(name, f"it has {size} octets, which is less than a header")
    words = memoryview(header).cast("Q")
    magic, version, _, _, said, *sizes, _, _, layout_crc = words[:IDENTITY_WORDS].tolist()
    if magic != MAGIC:
        raise _damaged(name, "it does not begin with the magic of a region")
    if version != VERSION or layout_crc != LAYOUT_CRC:
        raise RegionFault(
            f"its layout is version {version} ({layout_crc:#x}), we know version {VERSION} ({LAYOUT_CRC:#x})",
            culprit="another version of sentinel made it", place=place(name),
            remedy="use the tools of the version that is running, or stop the fleet and start it again",
        )  # fmt: skip
    if words[CRC_AT // WORD] != _crc(words[:IDENTITY_WORDS].tolist()):
        raise _damaged(name, "the checksum of its header is wrong")
    geometry = Geometry(*sizes)
    problems = geometry.faults()
    if problems or not geometry.size_bytes == said == size:
        raise _damaged(name, "; ".join(problems) or f"it has {size} octets instead of {geometry.size_bytes}")
    if words[READY_AT // WORD] != 1:
        raise _damaged(name, "its creation was never finished")
    return geometry


def _clear(name: str) -> None:
    """Remove what a dead instance left; RegionBusy if it is not dead."""
    try:
        fd = open_name(name)
    except RegionFault:
        if not Path(place(name)).exists():
            return  # it has gone by itself
        raise
    try:
        if not _lock(fd):
            raise _busy(name, "another start is creating it at this very moment")
        header = os.pread(fd, HEADER.size, 0)
        words = memoryview(header[: len(header) // WORD * WORD]).cast("Q")
        if len(words) > 4 and words[0] == MAGIC:
            if is_alive(words[2], words[3]):
                raise _busy(name, f"process {words[2]} made it and is alive")
        elif any(header) and (pid := _mapped_by(name)):
            raise _busy(name, f"its header is damaged, and process {pid} still uses it")
        if is_named(fd, name):
            unlink_name(name)
    finally:
        os.close(fd)


def _mapped_by(name: str) -> int:
    """Some process that has the region mapped, 0 if none is seen."""
    wanted = place(name).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if any(line.split(None, 5)[5:] == [wanted] for line in (entry / "maps").read_bytes().splitlines()):
                return int(entry.name)
    return 0


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _crc(words: Sequence[int]) -> int:
    return zlib.crc32(b"".join(word.to_bytes(WORD, "little") for word in words))


def _busy(name: str, message: str) -> RegionBusy:
    return RegionBusy(
        message, culprit="another instance with the same run-dir", place=place(name),
        remedy="stop that instance first, or give this one its own `run-dir`",
    )  # fmt: skip


def _damaged(name: str, message: str) -> RegionFault:
    return RegionFault(message, culprit="the region is damaged", place=place(name), remedy=REMOVE)
