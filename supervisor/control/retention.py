"""Keeping decisions for longer: records of the rings that the operator wants, as JSON lines in a file.

Intuition: a clerk who copies from a blackboard that is wiped from the other end. He is quick, and
when he was called away he writes down how many lines he has missed; those who write on the
blackboard never look round.

    rings ──read──▶ glance (status, reason, request id) ──those that are kept──▶ decode ──▶ lines ──▶ file

Rule 1: nothing here is in the way of traffic, or of control's loop: rings are read without a lock, the disk is waited
    for in a thread. What is overwritten meanwhile is counted (`missed`), and so is what a disk did not take (`lost`).
Rule 2: the file is opened for each batch and appended to, so it can be moved away at any time: no signal is needed.
Rule 3: how far was read is written down behind each batch, in the run-dir. A control process that was started again
    goes on from there; a batch that was in its hands when it died may stand in the file twice, never half.
Rule 4: whether a record is in the sample follows from its request id alone: of two gateways in a row with one id
    both keep it, or none does.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sentinel.core.plan import Journal, Keep, Plan
from sentinel.core.reasons import BY_WORD
from sentinel.core.record import Glance, Record, RecordFault, decode, glance
from shm.region import Region
from supervisor.control.journal import with_steps
from supervisor.control.memory import Memory, MemoryFault
from supervisor.control.running import RunningPlan
from supervisor.control.tail import PAUSE_S, Batch, Tail

STATE: Final = "journal.state"
SHARES: Final = 1000
IDLE_S: Final = 0.5
"""How soon a plan that keeps records is noticed."""
COMPLAINT_S: Final = 60.0


class State(msgspec.Struct, kw_only=True):
    """How far it was read, in which instance, and what came of it."""

    instance: tuple[int, int] = (0, 0)
    places: dict[int, int] = {}
    kept: int = 0
    missed: int = 0
    lost: int = 0


_decode_state = msgspec.json.Decoder(State).decode


@dataclass(frozen=True, slots=True)
class Kept:
    """Records that were written, those that were overwritten unread, and those that the disk did not take."""

    kept: int
    missed: int
    lost: int


class Retention:
    """One instance's clerk. `run` is a task of the loop; a turn runs in a thread."""

    def __init__(self, memory: Memory, running: RunningPlan, run_dir: str) -> None:
        self._memory = memory
        self._running = running
        self._path = Path(run_dir) / STATE
        self._tail: Tail | None = None
        self._state = State()
        self._complained_s = 0.0

    def statistics(self) -> Kept:
        return Kept(self._state.kept, self._state.missed, self._state.lost)

    async def run(self) -> None:
        """Keep what the running plan wants kept, for ever."""
        while True:
            plan = self._running.plan
            if plan is None or not plan.system.journal.file:
                if plan is not None and self._tail is not None:
                    self._tail = None
                    await asyncio.to_thread(self._path.unlink, missing_ok=True)
                await asyncio.sleep(IDLE_S)
                continue
            try:
                has_more = await asyncio.to_thread(self.turn, plan)
            except (MemoryFault, OSError) as fault:
                self._complain(str(fault))
                has_more = False
            await asyncio.sleep(0 if has_more else PAUSE_S)

    def turn(self, plan: Plan) -> bool:
        """Read once and write what is to be kept; whether there is more. Blocks."""
        batch = self._memory.ask_now(self._read)
        if batch.records or batch.missed:
            journal = plan.system.journal
            lines = [line for octets in batch.records if (line := line_of(journal, octets))]
            self._state.missed += batch.missed
            self._append(journal.file, lines)
            assert self._tail is not None
            self._state.places = self._tail.places
            self._save()
        return batch.has_more

    def _read(self, region: Region) -> Batch:
        if self._tail is None:
            self._tail = self._resume(region)
        return self._tail.read(region)

    def _resume(self, region: Region) -> Tail:
        """Go on where a predecessor was, if it was in this instance."""
        instance = region.identity()
        try:
            state = _decode_state(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            state = State()
        if state.instance == instance:
            self._state = state
            return Tail(state.places)
        self._state = State(instance=instance)
        return Tail.at_the_beginning(region)

    def _append(self, path: str, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            # Not to be kept waiting by a pipe that nobody reads; what is no file is not written to.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(path, flags, 0o640)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "this is no file, so records cannot be kept in it")
                written = self._write(descriptor, lines)
            finally:
                os.close(descriptor)
        except OSError as fault:
            written = 0
            self._complain(f"{path}: {fault.strerror}")
        self._state.kept += written
        self._state.lost += len(lines) - written

    def _write(self, descriptor: int, lines: list[bytes]) -> int:
        """Write whole lines only: what a full disk has cut off is taken back. How many are written."""
        data, done = b"".join(lines), 0
        start = os.fstat(descriptor).st_size
        try:
            while done < len(data):
                done += os.write(descriptor, memoryview(data)[done:])
        except OSError as fault:
            self._complain(f"decisions are not kept: {fault.strerror}")
            whole = data.rfind(b"\n", 0, done) + 1
            os.ftruncate(descriptor, start + whole)
            return data.count(b"\n", 0, whole)
        return len(lines)

    def _save(self) -> None:
        draft = self._path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self._state))
        os.replace(draft, self._path)

    def _complain(self, why: str) -> None:
        """Say it, but not with every batch."""
        now_s = time.monotonic()
        if now_s - self._complained_s >= COMPLAINT_S or not self._complained_s:
            self._complained_s = now_s
            print(f"sentinel control: journal: {why}", file=sys.stderr, flush=True)


def line_of(journal: Journal, octets: bytes) -> bytes:
    """The line of a record; empty when it is not kept, or is no record."""
    try:
        seen = glance(octets)
        if journal.keep and not any(_may_keep(one, seen) for one in journal.keep):
            return b""
        record = decode(octets)
    except RecordFault:
        return b""
    if journal.keep and not any(_may_keep(one, seen) and _keeps(one, record) for one in journal.keep):
        return b""
    return msgspec.json.encode(with_steps(record)) + b"\n"


def _may_keep(keep: Keep, seen: Glance) -> bool:
    """What can be said without reading the record."""
    status = str(seen.status)
    return (
        (not keep.status or keep.status in (status, f"{status[:1]}xx"))
        and (not keep.reason or BY_WORD[keep.reason].number == seen.reason_number)
        and (keep.share >= SHARES or zlib.crc32(seen.request_id) % SHARES < keep.share)
    )


def _keeps(keep: Keep, record: Record) -> bool:
    return not keep.route or keep.route == record.route
