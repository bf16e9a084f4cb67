"""The slots: which process lives where, what it was told, and when it was last heard of.

Intuition: a row of mail boxes. The supervisor gives a box to a tenant and puts
orders in; the tenant shows by its heartbeat that it still opens it; when the
tenant is gone the box is emptied of what concerned him, and its meter, which
belongs to the house, runs on for the next one.

Rule 1: the supervisor alone claims and frees. Whatever it does to a slot it
    does between life = changing and life = claimed, so that a reader who sees
    the same life word before and after has seen one tenant.
Rule 2: freeing copies nothing. Counters, lives and journal go on under the next
    tenant, the former writer being dead. So there is no moment at which a crash
    of the supervisor could count something twice, or not at all, and reaping
    twice is the same as reaping once.
Rule 3: a freed slot rests: among the free ones the lowest is taken that was
    never used or has seen SLOTS_RESTING others be freed after it; if none has,
    the one that has rested longest. Low numbers first keeps memory small.

Rejected: a retired block into which the counters of the dead are folded. The
fold must be undone or finished after a crash in its middle, and a reader must
not look during it; two-phase marks solve both, at a cost that nothing repays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, TypeVar

from sentinel.core.machines.worker import Order, WorkerState
from shm.cells import Cells
from shm.faults import RegionDamaged, RegionFull
from shm.layout import (
    CHANGING,
    CLAIMED,
    EMPTY,
    HEADER,
    LIFE_WORDS,
    LIVES,
    ORDER_BITS,
    RESTING,
    SLOT,
    SLOTS_RESTING,
    STAGE_BITS,
    WORD,
    Geometry,
)  # fmt: skip

Known = TypeVar("Known", bound=IntEnum)

READ_ATTEMPTS_MAX: Final = 16
"""A claim is a handful of stores: who meets a change that often meets a dead supervisor."""
STAGE_MASK: Final = (1 << STAGE_BITS) - 1
ORDER_MASK: Final = (1 << ORDER_BITS) - 1
DEADLINE_MAX_NS: Final = (1 << 64 - ORDER_BITS) - 1
"""73 years after boot; a later deadline is as good as this one."""
USED_AT: Final = HEADER.offset("slots_used")
FREED_AT: Final = HEADER.offset("slots_freed")
(
    LIFE, PID, BIRTH, ROLE, GENERATION, LANE, ORDER, SLOT_FREED_AT,
    STATE, HEARTBEAT, CONNECTIONS, REQUESTS, HEAD, *_LIMITS, _COUNTERS, LIVES_AT,
) = (offset for offset, _ in SLOT.places())  # fmt: skip

assert max(Order) <= ORDER_MASK, "an order fits beside its deadline"


@unique
class Role(IntEnum):
    """What kind of process lives in a slot."""

    WORKER, CONTROL = range(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One process's place, as it was at one moment."""

    index: int
    pid: int
    birth_ns: int
    role: Role
    generation: int
    lane: int
    state: WorkerState
    order: Order
    order_deadline_ns: int
    heartbeat_ns: int
    open_connections: int
    open_requests: int


class Slots:
    """The table of slots of one region."""

    __slots__ = ("_cells", "_geometry", "_name")

    def __init__(self, cells: Cells, geometry: Geometry, name: str) -> None:
        self._cells = cells
        self._geometry = geometry
        self._name = name

    def used(self) -> int:
        """How many slots were ever claimed: they are the first ones. Bounded, whatever the word says."""
        return min(self._cells.load(USED_AT), self._geometry.slots_max)

    def choose(self) -> int:
        """The slot that the next claim takes; run by the supervisor."""
        freed = self._cells.load(FREED_AT)
        longest: tuple[int, int] | None = None
        for index in range(self._geometry.slots_max):
            life = self._word(index, LIFE)
            rested = freed - self._word(index, SLOT_FREED_AT)
            if life & STAGE_MASK == CLAIMED:
                continue
            if life & STAGE_MASK == EMPTY or rested >= SLOTS_RESTING:
                return index
            if longest is None or rested > longest[0]:
                longest = rested, index
        if longest is None:
            raise RegionFull(
                f"all {self._geometry.slots_max} slots are claimed", culprit="too many processes at a time",
                place=self._name, remedy="have fewer workers, or wait until old generations have drained",
            )  # fmt: skip
        return longest[1]

    def claim(self, index: int, *, pid: int, birth_ns: int, role: Role, generation: int, lane: int) -> None:
        """Give the slot to a process; run by the supervisor."""
        store, at = self._cells.store, self._geometry.slot(index)
        claims = (self._word(index, LIFE) >> STAGE_BITS) + 1
        store(at + LIFE, claims << STAGE_BITS | CHANGING)
        for offset, value in ((PID, pid), (BIRTH, birth_ns), (ROLE, role), (GENERATION, generation), (LANE, lane),
                              (ORDER, Order.HOLD), (STATE, WorkerState.BOOTING), (HEARTBEAT, 0),
                              (CONNECTIONS, 0), (REQUESTS, 0)):  # fmt: skip
            store(at + offset, value)
        life = at + LIVES_AT + claims % LIVES * LIFE_WORDS * WORD
        # The generation is 0 while the cell's two counts change hands, so that no reader adds a mixture.
        for word, value in ((0, 0), (1, 0), (2, 0), (0, generation)):
            store(life + word * WORD, value)
        self._mend_journal(index)
        store(at + LIFE, claims << STAGE_BITS | CLAIMED)
        self._cells.publish(USED_AT, index + 1)

    def free(self, index: int) -> None:
        """Take the slot back from a dead process, and let it rest; run by the supervisor. Twice is as once."""
        life, at = self._word(index, LIFE), self._geometry.slot(index)
        if life & STAGE_MASK != CLAIMED:
            return
        store = self._cells.store
        store(at + LIFE, life & ~STAGE_MASK | CHANGING)
        for offset, value in ((STATE, WorkerState.FREE), (CONNECTIONS, 0), (REQUESTS, 0), (ORDER, Order.HOLD)):
            store(at + offset, value)
        store(at + SLOT_FREED_AT, self._cells.fetch_add(FREED_AT, 1) + 1)
        store(at + LIFE, life & ~STAGE_MASK | RESTING)

    def read(self, index: int) -> Slot | None:
        """The slot's tenant; None when it has none."""
        if not 0 <= index < self._geometry.slots_max:
            raise IndexError(f"slot {index} is out of range, there are {self._geometry.slots_max}")
        for _ in range(READ_ATTEMPTS_MAX):
            before = self._word(index, LIFE)
            if before & STAGE_MASK in (EMPTY, RESTING):
                return None
            words = [self._word(index, offset) for offset in (PID, BIRTH, ROLE, GENERATION, LANE, STATE, ORDER,
                                                              HEARTBEAT, CONNECTIONS, REQUESTS)]  # fmt: skip
            if before & STAGE_MASK == CLAIMED and self._word(index, LIFE) == before:
                return self._slot(index, words)
        return None

    def live(self) -> list[Slot]:
        return [slot for index in range(self.used()) if (slot := self.read(index)) is not None]

    def set_word(self, index: int, offset: int, value: int) -> None:
        self._cells.store(self._geometry.slot(self._in_range(index)) + offset, value)

    def set_order(self, index: int, order: Order, deadline_ns: int) -> None:
        self.set_word(index, ORDER, min(deadline_ns, DEADLINE_MAX_NS) << ORDER_BITS | order)

    def order(self, index: int) -> tuple[Order, int]:
        word = self._word(self._in_range(index), ORDER)
        return self._known(Order, word & ORDER_MASK, index), word >> ORDER_BITS

    def generation_totals(self, generation: int) -> tuple[int, int]:
        """Requests and failures of a generation, over the last LIVES claims of every slot."""
        requests = failures = 0
        for index in range(self.used() if generation > 0 else 0):
            first = self._geometry.slot(index) + LIVES_AT
            for life in range(first, first + LIVES * LIFE_WORDS * WORD, LIFE_WORDS * WORD):
                if self._cells.load(life) != generation:
                    continue
                counts = self._cells.load(life + WORD), self._cells.load(life + 2 * WORD)
                if self._cells.load(life) == generation:
                    requests, failures = requests + counts[0], failures + counts[1]
        return requests, failures

    def _mend_journal(self, index: int) -> None:
        # The former tenant may have been killed between the record and the head that tells of it.
        head = self._word(index, HEAD)
        if self._cells.journal_read(index, head) is not None:
            self.set_word(index, HEAD, head + 1)

    def _slot(self, index: int, words: list[int]) -> Slot:
        pid, birth_ns, role, generation, lane, state, order, heartbeat_ns, connections, requests = words
        return Slot(
            index=index, pid=pid, birth_ns=birth_ns, role=self._known(Role, role, index), generation=generation,
            lane=lane, state=self._known(WorkerState, state, index),
            order=self._known(Order, order & ORDER_MASK, index), order_deadline_ns=order >> ORDER_BITS,
            heartbeat_ns=heartbeat_ns, open_connections=connections, open_requests=requests,
        )  # fmt: skip

    def _known(self, kind: type[Known], value: int, index: int) -> Known:
        try:
            return kind(value)
        except ValueError:
            raise RegionDamaged(
                f"slot {index} says {kind.__name__} {value}, which there is not", self._name
            ) from None

    def _word(self, index: int, offset: int) -> int:
        return self._cells.load(self._geometry.slot(index) + offset)

    def _in_range(self, index: int) -> int:
        if not 0 <= index < self._geometry.slots_max:
            raise IndexError(f"slot {index} is out of range, there are {self._geometry.slots_max}")
        return index
