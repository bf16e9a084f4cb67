"""Budgets: how much of something the fleet has spent and reserved under a key in a window, exact, also over deaths.

Intuition: a household with many purses and one budget. Whoever goes shopping first writes into his own page of
the book how much he takes along at most (open), and adds up all pages; if that is more than there is for
the month he strikes it out again. When he knows what something cost, he writes it down as spent, and only then
strikes out that part of what he took along. If somebody never comes back, what he wrote as spent stays, and
what he had with him is struck out: it was not spent. A new month is a new book; nobody resets anything.

An entry is one key in one window: the window is part of the key, and `tat` is when it ends. The names of entries are a
table like that of limits, with the same way of inserting, robbing and helping (shm.limits); a slot's row has a record
for each entry, which the slot alone writes (layout.SPENDING):

    reserve:  open += amount -> swap tat for tat + 1 -> add up all rows -> above the limit: open -= amount
    settle:   settled += spent -> open -= released

Rule 1: the limit is never passed by what is reserved. Of two who reserve at once one swaps after the other, and he
    sees what both have open. INVARIANT: whoever stays has seen a sum within the limit, with all who swapped before him.
Rule 2: nothing is seen less than it is. Settling adds before it takes away, and readers read `open` before
    `settled`: in between both count. So a sum may be too high for an instant, never too low.
Rule 3: a death tears nothing. The reaper strikes out what the dead had open; what he had settled stays. So
    whoever settles piece by piece, as a stream is produced, loses nothing and takes nothing with him.
Rule 4: an entry is given to another key only when its window has ended and nobody has anything open there, by swapping
    a tat that was read before a column of zeros (as in shm.leases). A flood of new keys finds the table full.
Rule 5: `settled` and `requests` of a row mean the key whose key_high is in `whose`; what a slot has left from
    another key counts as nothing. They are zeroed before `whose` is set.
Rule 6: who finds no room takes his amount back, looks again for as long as others in the same position need to do
    that, and only then is refused.
Rule 7: a lease names the entry and its key. One that comes after the entry was given away changes nothing, and is
    counted.

What a request really costs may be more than was reserved. That is its caller's affair: he reserves more while it
goes on (`extend`), or settles an overdraft, which is counted.

The title of an entry is its key's beginning, for people and for the durable ledger, and what was spent in the window
before this region was made. Whoever finds that it is another key's writes it: carried 0, length, text, then `whose`.

This file is the twin of `_native/budgets.h`, in steps, and the specification.

Rejected: one shared sum a key. Who dies between that sum and his own note of it leaves the two different. A reset at
the end of the window: somebody is always late, and charges the old month to the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import add
from typing import Final

from shm.counters import Counter
from shm.layout import (
    BUDGET_AMOUNT_MAX,
    BUDGET_INDEX_BITS,
    BUDGET_UNCOUNTED,
    LIMIT_ATTEMPTS_MAX,
    LIMIT_CLOSED,
    LIMIT_OBSERVE,
    LIMIT_SPINS,
    SPENDING,
    TITLE,
    WORD,
    Geometry,
)  # fmt: skip
from shm.leases import Leases
from shm.limits import ADMITTED, FULL, KEY, LIMIT_WORDS, MARKS, REFUSED, TAT, Key, Outcome, Steps, finish

MASK: Final = (1 << 64) - 1
SIGN: Final = 1 << 63
SPENDING_WORDS: Final = SPENDING.size // WORD
TITLE_WORDS: Final = TITLE.size // WORD
OPEN, SETTLED, REQUESTS, WHOSE = (SPENDING.offset(name) // WORD for name in ("open", "settled", "requests", "whose"))
(TITLE_WHOSE, CARRIED, CARRIED_REQUESTS, LENGTH, TEXT) = (
    TITLE.offset(name) // WORD for name in ("whose", "carried", "carried_requests", "length", "text")
)
TITLE_BYTES_MAX: Final = TITLE.size - TITLE.offset("text")
INDEX_MASK: Final = (1 << BUDGET_INDEX_BITS) - 1
BudgetTerm = tuple[int, int, int, int]
"""until_ns, amount, limit, flags"""
Mark = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BudgetView:
    """One key in one window: `title` is the key, or its beginning; `until_ns` (monotonic): its end, about."""

    title: bytes
    is_whole: bool
    until_ns: int
    settled: int
    open: int
    requests: int


@dataclass(frozen=True, slots=True)
class BudgetsStatistics:
    """How full the table of budgets is: `used` entries were some key's at some time, `keys` have `open` reserved."""

    budgets_max: int
    used: int
    keys: int
    open: int
    busy: int


class Budgets(Leases):
    """The table as words, one step at a time: entries, titles, and records of each slot."""

    RECORD_WORDS = SPENDING_WORDS

    def __init__(
        self, words: memoryview, budgets: int, guards: int, budgets_max: int, place: Callable[[int], int],
        slots_max: int, rows: tuple[int, int, Callable[[], int]], titles: int,
    ) -> None:  # fmt: skip
        super().__init__(words, budgets, guards, budgets_max, place, slots_max, rows)
        self._titles = titles

    def reserve(
        self, slot: int, now: int, keys: list[tuple[Key, bytes]], terms: list[BudgetTerm]
    ) -> Steps[tuple[int, ...]]:
        """See shm.cells.Cells."""
        used, leases = [0] * len(keys), [BUDGET_UNCOUNTED] * len(keys)
        outcome, refused = ADMITTED, -1
        for at, (key, text) in enumerate(keys):
            flags = terms[at][3]
            outcome, used[at], index = yield from self._reserve(slot, now, key, text, terms[at])
            if outcome == ADMITTED:
                leases[at] = _lease(index, key)
            elif outcome == FULL:
                self._count(slot, Counter.BUDGETS_FULL)
            if outcome == REFUSED or (outcome == FULL and flags & LIMIT_CLOSED and not flags & LIMIT_OBSERVE):
                refused = at
                break
        if refused < 0:
            self._count(slot, Counter.BUDGETS_RESERVED)
            return ADMITTED, -1, *used, *leases
        if outcome == REFUSED:
            self._count(slot, Counter.BUDGETS_REFUSED)
        for at in reversed(range(refused)):
            if leases[at] != BUDGET_UNCOUNTED:
                self._add(leases[at] & INDEX_MASK, slot, -terms[at][1])
                leases[at] = BUDGET_UNCOUNTED
        return outcome, refused, *used, *leases

    def extend(self, slot: int, lease: int, amount: int, limit: int) -> Steps[tuple[Outcome, int]]:
        """See shm.cells.Cells."""
        index, entry = lease & INDEX_MASK, self._entry(lease)
        for _ in range(LIMIT_ATTEMPTS_MAX):
            yield
            tat = self._words[entry + TAT]
            if not self._is_current(slot, lease):
                break
            outcome, used = yield from self._take_along(slot, index, tat, amount, limit)
            if outcome is not None:
                return outcome, used
        self._count(slot, Counter.BUDGETS_LATE)
        return REFUSED, 0

    def settle(self, slot: int, lease: int, spent: int, released: int, is_end: bool) -> Steps[bool]:
        """See shm.cells.Cells."""
        index = lease & INDEX_MASK
        if not self._is_current(slot, lease):
            self._count(slot, Counter.BUDGETS_LATE)
            return False
        at = self._holding(index, slot)
        if not spent & SIGN and spent > released:
            self._count(slot, Counter.BUDGETS_OVERDRAWN, spent - released)
        yield
        total = self._words[at + SETTLED] + spent & MASK
        self._words[at + SETTLED] = 0 if total & SIGN else min(total, BUDGET_AMOUNT_MAX)
        if is_end:
            self._words[at + REQUESTS] = self._words[at + REQUESTS] + 1 & MASK
        yield
        self._words[at + OPEN] -= min(released, self._words[at + OPEN])
        return True

    def carry(self, slot: int, now: int, key: Key, text: bytes, until: int, settled: int, requests: int) -> Steps[bool]:
        """See shm.cells.Cells."""
        for attempt in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None:
                outcome, _ = yield from self._insert(slot, now, key, max(until, now + 1), attempt)
                if outcome == FULL:
                    return False
                continue
            index = (found[0] - self._limits) // LIMIT_WORDS
            self._entitle(index, key, text)
            title = self._title(index)
            self._words[title + CARRIED] = settled
            self._words[title + CARRIED_REQUESTS] = requests
            return True
        return False

    def spent(self, key: Key) -> Steps[tuple[int, int, int]]:
        """See shm.cells.Cells."""
        for _ in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None:
                break
            seen = yield from self._sums((found[0] - self._limits) // LIMIT_WORDS, key[1])
            again = yield from self._find(key)
            if again is not None and again[0] == found[0]:
                return seen
        return 0, 0, 0

    def view(self, index: int) -> BudgetView | None:
        """One entry; None if it is nobody's. Others may be writing: a title of another key is not believed."""
        entry, title = self._entry(index), self._title(index)
        tat, key_high = self._words[entry + TAT], self._words[entry + KEY + 1]
        if tat == 0 or tat & MARKS or self._words[title + TITLE_WHOSE] != key_high:
            return None
        length = self._words[title + LENGTH]
        text = self._words[title + TEXT : title + TITLE_WORDS].tobytes()[: min(length, TITLE_BYTES_MAX)]
        settled, opened, requests = finish(self._sums(index, key_high))
        if self._words[title + TITLE_WHOSE] != key_high or self._words[entry + TAT] & MARKS:
            return None
        return BudgetView(text, length <= TITLE_BYTES_MAX, tat, settled, opened, requests)

    def views(self) -> Iterator[BudgetView]:
        for index in range(self._mask + 1):
            if (view := self.view(index)) is not None:
                yield view

    def _reserve(
        self, slot: int, now: int, key: Key, text: bytes, term: BudgetTerm
    ) -> Steps[tuple[Outcome, int, int]]:
        """Reserve of one budget: the outcome, what is used of it, and its index."""
        until, amount, limit, flags = term
        if flags & LIMIT_OBSERVE:
            limit = MASK
        for attempt in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None:
                if amount > limit:
                    return REFUSED, 0, 0
                outcome, _ = yield from self._insert(slot, now, key, max(until, now + 1), attempt)
                if outcome == FULL:
                    return FULL, 0, 0
                continue
            entry, tat = found
            index = (entry - self._limits) // LIMIT_WORDS
            answer, used = yield from self._take_along(slot, index, tat, amount, limit, key, text)
            if answer is not None:
                return answer, used, index
        return FULL, 0, 0

    def _take_along(
        self, slot: int, index: int, tat: int, amount: int, limit: int, key: Key | None = None, text: bytes = b""
    ) -> Steps[tuple[Outcome | None, int]]:
        """Have so much more open, if the limit allows it; None for the outcome: begin again."""
        at = self._holding(index, slot)
        self._add(index, slot, amount)
        if not (yield from self._swap(self._entry(index) + TAT, tat, tat + 1)):
            self._add(index, slot, -amount)
            return None, 0
        # From here on the entry is the key's for as long as we have something open.
        if key is not None:
            self._begin_row(at, key[1])
            self._entitle(index, key, text)
        whose = self._words[at + WHOSE]
        settled, opened, _ = yield from self._sums(index, whose)
        if settled + opened <= limit:
            return ADMITTED, settled + opened
        self._add(index, slot, -amount)
        for _ in range(LIMIT_SPINS):
            settled, opened, _ = yield from self._sums(index, whose)
            if settled + opened + amount <= limit:
                return None, 0  # others had come, and have gone away for the same reason
        return REFUSED, settled + opened

    def _sums(self, index: int, whose: int) -> Steps[tuple[int, int, int]]:
        """Settled, open and requests of all rows, and what was carried over."""
        title = self._title(index)
        settled = opened = requests = 0
        if self._words[title + TITLE_WHOSE] == whose:
            settled, requests = self._words[title + CARRIED], self._words[title + CARRIED_REQUESTS]
        for slot in range(self._used()):
            at = self._holding(index, slot)
            yield
            opened += self._words[at + OPEN]
            yield
            if self._words[at + WHOSE] == whose:
                settled += self._words[at + SETTLED]
                requests += self._words[at + REQUESTS]
        return settled, opened & MASK, requests

    def _begin_row(self, at: int, whose: int) -> None:
        if self._words[at + WHOSE] != whose:
            self._words[at + SETTLED] = self._words[at + REQUESTS] = 0
            self._words[at + WHOSE] = whose

    def _entitle(self, index: int, key: Key, text: bytes) -> None:
        title = self._title(index)
        if self._words[title + TITLE_WHOSE] == key[1]:
            return
        self._words[title + CARRIED] = self._words[title + CARRIED_REQUESTS] = 0
        self._words[title + LENGTH] = len(text)
        octets = text[:TITLE_BYTES_MAX].ljust(TITLE_BYTES_MAX, b"\0")
        self._words[title + TEXT : title + TITLE_WORDS] = memoryview(octets).cast("Q")
        self._words[title + TITLE_WHOSE] = key[1]

    def _is_current(self, slot: int, lease: int) -> bool:
        """Whether the entry is still the one that was reserved of, and the slot's row means it."""
        entry, at = self._entry(lease), self._holding(lease & INDEX_MASK, slot)
        key_high = self._words[entry + KEY + 1]
        return (
            lease >> BUDGET_INDEX_BITS == key_high & MASK >> BUDGET_INDEX_BITS
            and self._words[at + WHOSE] == key_high
            and not self._words[entry + TAT] & MARKS
        )

    def _title(self, index: int) -> int:
        return self._titles + (index & self._mask) * TITLE_WORDS


def views(
    words: memoryview, geometry: Geometry, slots_used: int, indexes: Iterable[int] | None = None
) -> Iterator[BudgetView]:
    """All windows of a region, or those of these entries, as whoever only reads sees them."""
    rows = (geometry.spendings_offset // WORD, geometry.spendings_stride // WORD, lambda: slots_used)
    table = Budgets(
        words, geometry.budgets_offset // WORD, geometry.budget_guards_offset // WORD, geometry.budgets_max,
        lambda slot: geometry.slot(slot) // WORD, geometry.slots_max, rows, geometry.titles_offset // WORD,
    )  # fmt: skip
    if indexes is None:
        return table.views()
    return (view for index in indexes if (view := table.view(index)) is not None)


def marks(words: memoryview, geometry: Geometry, slots_used: int) -> list[Mark]:
    """Of each entry what differs when something was settled there: a look at whole columns, for whoever looks often."""
    count = geometry.budgets_max
    sums = [[0] * count, [0] * count, [0] * count]
    for slot in range(slots_used):
        first = geometry.spendings_offset // WORD + slot * geometry.spendings_stride // WORD
        for at, field in enumerate((SETTLED, REQUESTS, WHOSE)):
            column = words[first + field : first + count * SPENDING_WORDS : SPENDING_WORDS]
            sums[at] = list(map(add, sums[at], column.tolist()))
    entries, titles = geometry.budgets_offset // WORD, geometry.titles_offset // WORD
    whose = words[entries + KEY + 1 : entries + count * LIMIT_WORDS : LIMIT_WORDS].tolist()
    entitled = words[titles + TITLE_WHOSE : titles + count * TITLE_WORDS : TITLE_WORDS].tolist()
    carried = words[titles + CARRIED : titles + count * TITLE_WORDS : TITLE_WORDS].tolist()
    return list(zip(whose, entitled, carried, *sums, strict=True))


def _lease(index: int, key: Key) -> int:
    return (key[1] << BUDGET_INDEX_BITS | index) & MASK

