"""Leases: how many of something the fleet holds under a key, exact, and given back when the holder dies.

Intuition: a hotel that lends bicycles. Each porter has a board of his own (the slot) with a peg for each guest
family (the key), and how many bicycles the family has out is the sum of its pegs on all boards. A
porter moves nobody's pegs but his own. If one drops dead, all pegs of his board are set to zero: what
he had lent came back with him. A column whose pegs are all zero may be given to another family.

The columns' names are a table like that of limits, with the same way of inserting, robbing and helping
(shm.limits); `tat` is here the time at which somebody last asked, and there is no charge:

    take:   peg += 1 -> swap tat for a later one -> add up the column -> above the ceiling: peg -= 1
    return: peg -= 1

Rule 1: the ceiling is never passed. Of two who take at once one swaps after the other; he sees both
    pegs. INVARIANT: whoever stays has seen a sum, with all who swapped before him, below the ceiling.
Rule 2: nobody's column is taken away. An entry is claimed by swapping a tat that was read before a column of zeros. Who
    takes swaps that tat too, after he moved his peg: either the claim fails, or the taker does and begins again.
Rule 3: who finds no room takes his peg back, waits for as long as others in the same position need to do that,
    and adds up again; so a place that is free is not refused because two asked for it together. Only one who is
    stopped in just that moment makes others believe for longer that he is there.
Rule 4: a peg has one writer. So there is nothing that a death could tear: the reaper sets the pegs of the dead
    to zero. An insertion cut in half is mended as in the table of limits.

This file is the twin of `_native/leases.h`, in steps, and the specification.

Rejected: one shared count a key. Who dies between that count and his own note of it leaves the two different, and no
reader can tell which is wrong. Counts with the owner and his number in the same word, and help for those who
were overtaken, can be told apart; but then one word more is written for everybody else's sake with each request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shm.counters import Counter
from shm.layout import LIMIT_ATTEMPTS_MAX, LIMIT_SPINS
from shm.limits import ADMITTED, FULL, LIMIT_WORDS, REFUSED, TAT, Key, Limits, Outcome, Steps

MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class LeasesStatistics:
    """How full the table of leases is: `keys` hold `held` in all; `used` entries held something at some time."""

    leases_max: int
    used: int
    keys: int
    held: int
    busy: int


class Leases(Limits):
    """The table as words, one step at a time: the entries of shm.limits, and words of each slot."""

    RECORD_WORDS = 1
    """Of a slot, for each entry; the first of them is what it holds there."""

    def __init__(
        self, words: memoryview, leases: int, guards: int, leases_max: int, place: Callable[[int], int],
        slots_max: int, holdings: tuple[int, int, Callable[[], int]],
    ) -> None:  # fmt: skip
        super().__init__(words, leases, guards, leases_max, place, slots_max)
        self._holdings, self._stride, self._used = holdings

    def hold(self, slot: int, now: int, key: Key, most: int) -> Steps[tuple[Outcome, int, int]]:
        """See shm.cells.Cells."""
        for attempt in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None:
                outcome, _ = yield from self._insert(slot, now, key, now, attempt)
                if outcome == FULL:
                    break
                continue
            entry, tat = found
            index = (entry - self._limits) // LIMIT_WORDS
            self._add(index, slot, 1)
            if not (yield from self._swap(entry + TAT, tat, max(tat, now) + 1)):
                self._add(index, slot, -1)
                continue
            held = yield from self._held(index)
            if held <= most:
                return ADMITTED, held, index
            self._add(index, slot, -1)
            for _ in range(LIMIT_SPINS):
                if held < most:
                    break
                held = yield from self._held(index)
            if held >= most:
                self._count(slot, Counter.LEASES_REFUSED)
                return REFUSED, held, 0
        self._count(slot, Counter.LEASES_FULL)
        return FULL, 0, 0

    def release(self, slot: int, index: int) -> None:
        """See shm.cells.Cells."""
        if self._words[self._holding(index, slot)]:
            self._add(index, slot, -1)

    def held(self, key: Key) -> Steps[int]:
        """See shm.cells.Cells."""
        for _ in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            held = (yield from self._held((found[0] - self._limits) // LIMIT_WORDS)) if found else 0
            again = (yield from self._find(key)) if found else None
            if found is None or (again is not None and again[0] == found[0]):
                return held
        return 0

    def reap(self, slot: int) -> Steps[None]:
        yield from super().reap(slot)
        for index in range(self._mask + 1):
            if self._words[self._entry(index) + TAT]:
                self._words[self._holding(index, slot)] = 0

    def totals(self) -> tuple[int, int, int, int]:
        tats = self._words[self._limits : self._limits + (self._mask + 1) * LIMIT_WORDS].tolist()[TAT::LIMIT_WORDS]
        held = [self._sum(index) for index, tat in enumerate(tats) if tat]
        return len(held), sum(count != 0 for count in held), sum(held) & MASK, sum(tat >> 63 for tat in tats)

    def _is_kept(self, entry: int) -> Steps[bool]:
        return (yield from self._held((entry - self._limits) // LIMIT_WORDS)) != 0

    def _held(self, index: int) -> Steps[int]:
        held = 0
        for slot in range(self._used()):
            yield
            held += self._words[self._holding(index, slot)]
        return held & MASK

    def _sum(self, index: int) -> int:
        return sum(self._words[self._holding(index, slot)] for slot in range(self._used())) & MASK

    def _add(self, index: int, slot: int, n: int) -> None:
        at = self._holding(index, slot)
        self._words[at] = (self._words[at] + n) & MASK

    def _holding(self, index: int, slot: int) -> int:
        return self._holdings + slot * self._stride + (index & self._mask) * self.RECORD_WORDS
