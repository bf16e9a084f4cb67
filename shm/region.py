"""The region: all that the fleet remembers, behind one object that is the same in every process.

Intuition: the wall of a workshop. Who works there, what each was told, how much
was done, what happened lately: everybody may look at any time, each writes in
his own field only, and when somebody drops dead his field stays as it was.

Rule 1: the supervisor creates it, workers inherit the mapping through fork,
    control and tools attach by name. No process locks anything.
Rule 2: each word has one writer (see LAYOUT.md), but for the table of limits,
    which has rules of its own (shm.limits). Methods say whose they are.
Rule 3: what workers do with every request (`record`, `charge`, `begin`, …) are operations of the
    cells themselves (shm.cells.Cells), bound at construction: a request pays one native call for
    all its counters. Their arguments are positional.

Rejected: one region per kind of table. They would be created, checked and lost
separately, and half an instance is worse than none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sentinel.core.machines.worker import Order, WorkerState
from shm import journal
from shm.birth import birth_ns as birth_of
from shm.birth import is_alive
from shm.board import Board, PlaceView
from shm.budgets import BudgetsStatistics, BudgetView, Mark, marks, views
from shm.cells import open_cells
from shm.counters import Counter, SeriesTotals, Totals, read_counters, read_series
from shm.estate import Estate
from shm.faults import RegionBusy, RegionFault, RegionFull
from shm.founding import found, is_abandoned, recognise
from shm.journal import Stretch
from shm.layout import HEADER, REASONS_MAX, SERIES, WORD, Geometry
from shm.leases import LeasesStatistics
from shm.limits import LimitsStatistics, limiting, settle
from shm.mapping import Mapping, open_name, place, reserve, unlink_name
from shm.rosters import Rosters
from shm.series import SeriesNames
from shm.slots import BIRTH, PID, STATE, Role, Slot, Slots
from shm.tallies import Tallies, Tally

__all__ = [
    "BudgetView", "BudgetsStatistics", "Counter", "LeasesStatistics", "LimitsStatistics", "PlaceView", "Region",
    "RegionBusy", "RegionFault", "RegionFull", "RegionStatistics", "Role", "SeriesTotals", "Slot", "Totals",
]  # fmt: skip

IDENTITY_AT: Final = HEADER.offset("creator_pid"), HEADER.offset("creator_birth_ns")
GENERATION_AT: Final = HEADER.offset("generation")
SERIES_RESERVED: Final = 64
"""Room for counters is reserved for so many series at a time: 80 KiB a slot."""
SECRET_AT: Final = HEADER.offset("secret_low")
JOURNAL_RECORDS: Final = 4096
"""The last so many requests of each slot can be explained: 2 MiB a slot, so that a fleet of eight workers and
its reloads (24 slots) fit in the 64 MiB that a container has for shared memory by default."""

LIMITS_MAX: Final = 65_536
"""Buckets of rate limits, 32 octets each: 2 MiB. While up to half of them limit somebody, every new key finds room; at
three quarters 3 in 100 new keys find none, at nine tenths 25."""


LEASES_MAX: Final = 16_384
"""Keys that hold something at the same time, 32 octets each and 8 for each slot in use."""
BUDGETS_MAX: Final = 64
"""Windows of budgets, 224 octets each and 32 for each slot in use: the least, for instances that have no budgets."""
PLACES_MAX: Final = 256
"""Upstreams and endpoints: 640 octets each, and 72 for each slot."""


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """How full the region is; `resident_bytes` is the memory that it really takes."""

    size_bytes: int
    resident_bytes: int
    slots_max: int
    slots_used: int
    slots_live: int
    series_max: int
    series_count: int
    series_refused: int
    generation: int


class Region:
    """One mapped region. Made by `create` or `attach` only."""

    def __init__(self, name: str, mapping: Mapping, geometry: Geometry) -> None:
        self.name = name
        self.geometry = geometry
        self._mapping = mapping
        self._cells = cells = open_cells(mapping.memory, geometry)
        self._slots = Slots(cells, geometry, place(name))
        self._names = SeriesNames(cells, geometry, mapping.memory, partial(_reserve_series, self))
        self.board = Board(cells, geometry, mapping.memory)
        self.rosters = Rosters(cells, geometry, mapping.memory, lambda at, size: _reserve(self, [(at, size)]))
        self.tallies = Tallies(
            cells, geometry, mapping.memory, lambda at, size: _reserve(self, [(at, size)]), self.secret()
        )
        self.record = cells.record
        """(slot, series, status, reason_number, duration_ns, bytes_in, bytes_out): count one exchange; worker."""
        self.add = cells.add
        """(slot, counter, n=1): add to a worker's counter; worker."""
        self.beat = cells.beat
        """(slot, now_ns, open_connections, open_requests): gauges and heartbeat; the slot's process."""
        self.journal_write = cells.journal_write
        """(slot, record): append to the slot's ring; the slot's process."""
        self.charge = cells.charge
        """(slot, now_ns, keys, terms): take from several buckets, or from none; worker. See shm.cells.Cells."""
        self.charge_used = cells.charge_used
        """The same, but of each bucket for how long it is in use; worker."""
        self.charge_marked = cells.charge_marked
        """(slot, now_ns, keys, terms): the same, marked so that it can be given back later; worker."""
        self.give_back = cells.give_back
        """(slot, now_ns, key, mark, amount_ns): give back of a marked charge; worker."""
        self.take_more = cells.take_more
        """(slot, now_ns, key, amount_ns): charge what was taken beyond; worker."""
        self.peek = cells.peek
        """(now_ns, key): the theoretical arrival time of a key's bucket, 0 when it is full; anybody."""
        self.reset = cells.reset
        """(now_ns, key): make a key's bucket full; whether it was not. Control."""
        self.hold, self.release_lease = cells.hold, cells.release_lease
        """(slot, now_ns, key, most): hold one more under a key; (slot, lease): give it back; worker."""
        self.held = cells.held
        """(key): how many the fleet holds under it; anybody."""
        self.reserve, self.extend, self.settle = cells.reserve, cells.extend, cells.settle
        """Reserve of budgets, reserve more, and settle; worker. See shm.cells.Cells."""
        self.carry, self.spent = cells.carry, cells.spent
        """(key): settled, open, requests of a budget; anybody."""
        self.begin, self.finish, self.standing = cells.begin, cells.finish, cells.standing
        self.flights, self.ewmas, self.least, self.pick = cells.flights, cells.ewmas, cells.least, cells.pick
        self.lightest, self.burden, self.burdens = cells.lightest, cells.burden, cells.burdens
        self.observe = cells.observe
        self.spend, self.lead, self.toll = cells.spend, cells.lead, cells.toll

    @classmethod
    def create(
        cls, name: str, *, series_max: int = 1024, slots_max: int = 64, journal_records: int = JOURNAL_RECORDS,
        limits_max: int = LIMITS_MAX, places_max: int = PLACES_MAX, leases_max: int = LEASES_MAX,
        budgets_max: int = BUDGETS_MAX, secret: tuple[int, int] | None = None,
    ) -> Region:  # fmt: skip
        """Make the region, removing what a dead instance left; RegionBusy if a live one has it. Supervisor."""
        geometry = Geometry(slots_max=slots_max, series_max=series_max, journal_records=journal_records,
                            limits_max=limits_max, places_max=places_max, leases_max=leases_max,
                            budgets_max=budgets_max)  # fmt: skip
        region = cls(name, found(name, geometry, secret), geometry)
        region._names.found()
        return region

    @classmethod
    def attach(cls, name: str) -> Region:
        """Map an existing region; RegionFault says what is wrong with it. Control and tools."""
        return cls(name, *recognise(name))

    @classmethod
    def estate_of(cls, name: str, now_ns: int) -> Estate | None:
        """What a killed instance left in its region; None if there is no such region. Supervisor, before `create`.

        Raises RegionFault for a region that cannot be read.
        """
        if not is_abandoned(name):
            return None
        region = cls.attach(name)
        try:
            for slot in region.slots():
                if not is_alive(slot.pid, slot.birth_ns):
                    region.reap_slot(slot.index)
            return region.estate(now_ns)
        finally:
            region.close()

    def estate(self, now_ns: int) -> Estate:
        """What the next instance shall know (shm.estate). Supervisor, when nobody else is there any more."""
        words = self._mapping.memory.cast("Q")
        try:
            return Estate(
                (words[SECRET_AT // WORD], words[SECRET_AT // WORD + 1]),
                b"".join(limiting(words, self.geometry, now_ns)), tuple(self.board.remarkable(now_ns)),
                tuple((one.title, one.until_ns, one.settled, one.requests) for one in self.budgets()
                      if one.is_whole and one.until_ns > now_ns and (one.settled or one.requests)),
            )  # fmt: skip
        finally:
            words.release()

    def inherit(self, estate: Estate, now_ns: int) -> int:
        """Put what another instance left in its place; how many keys found no room. Supervisor, before control."""
        words = self._mapping.memory.cast("Q")
        try:
            lost = settle(words, self.geometry, estate.buckets, now_ns)
        finally:
            words.release()
        self.board.settle(estate.places)
        for key, until_ns, settled, requests in estate.budgets:
            lost += not self.carry(0, now_ns, key, until_ns, settled, requests)
        return lost

    def is_fresh(self) -> bool:
        """Whether no worker was ever here: then, and only then, a ledger knows what this does not."""
        return not self._slots.used()

    def restore(self, windows: Iterable[tuple[bytes, int, int, int]], now_ns: int) -> tuple[int, int] | None:
        """Put what was spent before a reboot in its place: how many windows, and how many found no room. Control.

        `windows`: key, until_ns, settled, requests. None, and nothing done, once a worker was ever here: what the fleet
        knows is newer. What the estate has brought stays as well.

        Why control may write with slot 0: a slot's notes (shm.limits) are its process's alone, and nobody has had this
        one. The supervisor puts its estate there before it starts control; it claims slots for a rollout only, which
        control asks for when this has returned. A control process that was killed in here is dead before the next
        one is started, and what it has left half done is reaped before anything else.
        """
        if not self.is_fresh():
            return None
        self._cells.budgets_reap(0)
        put = lost = 0
        for key, until_ns, settled, requests in windows:
            if any(self.spent(key)):
                continue
            is_put = self.carry(0, now_ns, key, until_ns, settled, requests)
            put, lost = put + is_put, lost + (not is_put)
        return put, lost

    def close(self) -> None:
        """Let go of the memory; the name and everybody else's mapping stay."""
        self.tallies.release()
        self._cells.release()
        self._mapping.close()

    def unlink(self) -> None:
        """Take the name away; mappings stay until their processes end. Supervisor."""
        unlink_name(self.name)

    def secret(self) -> tuple[int, int]:
        """What keys are hashed with in this instance; it leaves no process of it."""
        return self._cells.load(SECRET_AT), self._cells.load(SECRET_AT + WORD)

    def generation(self) -> int:
        """The published generation; 0 before the first."""
        return self._cells.load(GENERATION_AT)

    def publish(self, number: int) -> None:
        """Make a generation the published one; ValueError if a later one is. Supervisor."""
        if not self._cells.publish(GENERATION_AT, number) and number != self.generation():
            raise ValueError(f"generation {number} cannot follow {self.generation()}: numbers never go back")

    def claim_slot(self, *, pid: int, birth_ns: int, role: Role, generation: int, lane: int) -> int:
        """Give a slot to a process (pid 0: not yet forked); RegionFull if there is none. Supervisor."""
        index = self._slots.choose()
        _reserve_slot(self, index)
        self._slots.claim(index, pid=pid, birth_ns=birth_ns, role=role, generation=generation, lane=lane)
        return index

    def reap_slot(self, index: int) -> None:
        """Free the slot of a dead process: its counts and journal stay, its gauges go. Supervisor."""
        # Before the slot is free: its next tenant signs with the same number.
        self._cells.limits_reap(index)
        self._cells.leases_reap(index)
        self._cells.budgets_reap(index)
        self._cells.places_reap(index)
        self._slots.free(index)

    def slots(self) -> list[Slot]:
        """The claimed slots, in the order of their numbers."""
        return self._slots.live()

    def slot(self, index: int) -> Slot:
        """One claimed slot; LookupError if nobody lives there."""
        slot = self._slots.read(index)
        if slot is None:
            raise LookupError(f"slot {index} is not claimed")
        return slot

    def set_pid(self, index: int, pid: int) -> None:
        """Note the process that was forked for this slot, and its birth. Supervisor."""
        self._slots.set_word(index, BIRTH, birth_of(pid) or 0)
        self._slots.set_word(index, PID, pid)

    def set_state(self, index: int, state: WorkerState) -> None:
        """Tell where the slot's process is in its life; that process, or the supervisor at its end."""
        self._slots.set_word(index, STATE, state)

    def set_order(self, index: int, order: Order, deadline_ns: int = 0) -> None:
        """Tell the slot's process what to do, until when; order and deadline change as one. Supervisor."""
        self._slots.set_order(index, order, deadline_ns)

    def order(self, index: int) -> tuple[Order, int]:
        return self._slots.order(index)

    def totals(self) -> Totals:
        """All that was ever counted here, by the living and the dead; no number of it ever goes down."""
        used = self._slots.used()
        names = enumerate(self._names.names())
        series = tuple(read_series(self._cells, self.geometry, used, index, name) for index, name in names)
        return Totals(series, read_counters(self._cells, self.geometry, used))

    def tallied(self) -> list[Tally]:
        """What calls of language models took so far, by whose they were; anybody."""
        return self.tallies.read(self._slots.used())

    def generation_totals(self, generation: int) -> tuple[int, int]:
        """Requests of a generation, and those that upstreams or we failed; kept until its slots had 32 more claims."""
        return self._slots.generation_totals(generation)

    def notch(self, slot: int, series: int, reason: int, count: int) -> None:
        """Count a reason of a series that is no exchange's end; the slot's one writer is the caller. Worker."""
        if not (0 <= series < self.geometry.series_max and 0 <= reason < REASONS_MAX):
            raise IndexError(series)
        at = self.geometry.counters(slot, series) + SERIES.offset("reasons") + reason * WORD
        self._cells.fetch_add(at, count)

    def series_index(self, name: str) -> int:
        """The number of a series, given now if need be; 1, (other), when the table is full. Control."""
        return self._names.index(name)

    def series_names(self) -> list[str]:
        return self._names.names()

    def journal_write_long(self, slot: int, record: bytes) -> None:
        """Append a record that is longer than a sheet."""
        for sheet in journal.sheets(record):
            self.journal_write(slot, sheet)

    def journal_read(self, slot: int | None = None) -> Iterator[bytes]:
        """The untorn records of one ring, or of all, those of freed slots too; oldest first in each."""
        for index in range(self._slots.used()) if slot is None else (slot,):
            yield from journal.read(self._cells, self.geometry, index)

    def journal_heads(self) -> list[int]:
        """How many records each ring ever had, by slot."""
        return [journal.head_of(self._cells, self.geometry, slot) for slot in range(self._slots.used())]

    def journal_since(self, slot: int, sequence: int, most: int) -> Stretch:
        """Go on reading a ring; what was overwritten meanwhile is counted."""
        return journal.since(self._cells, self.geometry, slot, sequence, most)

    def identity(self) -> tuple[int, int]:
        """Which instance this is: pid and birth of its supervisor."""
        pid, birth = IDENTITY_AT
        return self._cells.load(pid), self._cells.load(birth)

    def place_numbers(self, names: Sequence[str]) -> list[int]:
        """The numbers of upstreams and endpoints, given now if need be; RegionFull, and none given. Control."""
        return self.board.numbers(names, place(self.name))

    def place(self, index: int) -> PlaceView:
        """One upstream or endpoint, at this moment."""
        return self.board.view(index, self._slots.used())

    def places(self) -> list[PlaceView]:
        """All upstreams and endpoints that ever were."""
        return self.board.views(self._slots.used())

    def budgets_statistics(self) -> BudgetsStatistics:
        """How full the table of budgets is."""
        used, keys, opened, busy = self._cells.budgets_statistics()
        return BudgetsStatistics(self.geometry.budgets_max, used, keys, opened, busy)

    def budgets(self) -> list[BudgetView]:
        """All windows of budgets that there are, in no order; anybody."""
        words = self._mapping.memory.cast("Q")
        try:
            return list(views(words, self.geometry, self._slots.used()))
        finally:
            words.release()

    def changed_budgets(self, since: list[Mark]) -> tuple[list[BudgetView], list[Mark]]:
        """The windows in which something was settled since these marks were made ([]: all), and new marks; anybody."""
        words = self._mapping.memory.cast("Q")
        used = self._slots.used()
        try:
            now = marks(words, self.geometry, used)  # before the windows are read: what comes later differs again
            known = since if len(since) == len(now) else [()] * len(now)
            changed = [at for at, (new, old) in enumerate(zip(now, known, strict=True)) if new != old]
            return list(views(words, self.geometry, used, changed)), now
        finally:
            words.release()

    def limits_statistics(self, now_ns: int) -> LimitsStatistics:
        """How full the table of limits is; reads all of it, for milliseconds in the largest tables. Control."""
        used, live, void, busy = self._cells.limits_statistics(now_ns)
        return LimitsStatistics(limits_max=self.geometry.limits_max, used=used, live=live, void=void, busy=busy)

    def leases_statistics(self) -> LeasesStatistics:
        """How full the table of leases is; reads all of it. Control."""
        used, keys, held, busy = self._cells.leases_statistics()
        return LeasesStatistics(leases_max=self.geometry.leases_max, used=used, keys=keys, held=held, busy=busy)

    def statistics(self) -> RegionStatistics:
        try:
            resident = os.stat(place(self.name)).st_blocks * 512
        except FileNotFoundError:
            resident = 0  # unlinked: still mapped, but nobody tells its size any more
        return RegionStatistics(
            size_bytes=self.geometry.size_bytes, resident_bytes=resident, slots_max=self.geometry.slots_max,
            slots_used=self._slots.used(), slots_live=len(self.slots()), series_max=self.geometry.series_max,
            series_count=self._names.count(), series_refused=self._names.refused(), generation=self.generation(),
        )  # fmt: skip


def _reserve_slot(region: Region, index: int) -> None:
    """Have memory for the slot's ring and for its counters of all series that there are."""
    geometry = region.geometry
    chunks = -(-region._names.count() // SERIES_RESERVED)
    size = min(chunks * SERIES_RESERVED * SERIES.size, geometry.counters_stride)
    _reserve(region, [
        (geometry.ring(index), geometry.ring_stride), (geometry.counters(index, 0), size),
        (geometry.holding(index, 0), geometry.holdings_stride), (geometry.flight(index, 0), geometry.flights_stride),
        (geometry.toll(index, 0), geometry.tolls_stride), (geometry.spending(index, 0), geometry.spendings_stride),
    ])  # fmt: skip


def _reserve_series(region: Region, index: int) -> None:
    """Have memory for the name and, at the first series of a chunk, for the chunk's counters of all used slots."""
    geometry = region.geometry
    room = [(geometry.name(index), geometry.name(1) - geometry.name(0))]
    if index % SERIES_RESERVED == 0:
        size = min(SERIES_RESERVED, geometry.series_max - index) * SERIES.size
        room += [(geometry.counters(slot, index), size) for slot in range(region._slots.used())]
    _reserve(region, room)


def _reserve(region: Region, room: list[tuple[int, int]]) -> None:
    try:
        fd = open_name(region.name)
    except RegionFault:
        return  # the name was taken away while we live; then pages come at first touch
    try:
        for offset, size in room:
            reserve(fd, region.name, offset, size)
    finally:
        os.close(fd)
