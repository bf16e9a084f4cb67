"""The table of limits: one bucket a key, for the whole fleet, exact, bounded, and nobody ever waits.

Intuition: a cloakroom with numbered hooks. A guest's hook follows from his name;
if it is taken he gets one of the next. A hook says until when its guest has used
up what he may (GCRA: one time, `tat`; a bucket is full when it is past). A hook
whose time is past is as good as free. The attendants work at the same rack with
no word among them, and some drop dead with a coat in their hands.

A charge of a key that has an entry is one compare-and-swap:

    load tat = v -> compare the key -> new = max(v, now) + increment
    admitted if new - now <= capacity -> swap v for new, or start again

Rule 1: a value of `tat` seen under one key never comes again under a later one.
    INVARIANT: charges raise it; whoever gives an entry to another key puts there
    more than it ever held. So a swap that succeeds proves that the key compared
    in between is the entry's, with no lock and no version beside it.
Rule 2: key words are written only while tat is BUSY, by the one whose ticket
    (slot and count, never the same twice) is in it. A BUSY entry is passed by.
Rule 3: an entry is claimed only when it has expired, GRACE_NS ago. Callers read
    the clock a moment before they charge: whoever still has an older time must
    find the bucket, or he would take from it twice.
Rule 4: what limits now is never evicted. When all entries of a window limit
    somebody, the outcome is FULL, and the limit's flag says whether that admits.

Insertion. Two processes may find that a key is missing at the same time, and it
must get one entry. So whoever inserts takes the guard of the home's stripe:

    1 guard: 0 -> ticket        3 entry: v -> BUSY|ticket, then the key words
    2 look again                4 guard: ticket -> DECIDED|place|ticket
                                5 entry: BUSY|ticket -> now + increment
                                6 guard: -> 0

Before 4 a silent holder is robbed by swapping his ticket for one's own: he will
notice at 4, and give his entry back as VOID. After 4 nobody can rob him, but
anybody can do 5 and 6 in his place, since slot and guard say how. So nobody
waits for a process that is stopped or dead; of the insertions that rob each
other one comes through, since each looks longer before it robs again.
INVARIANT: a key becomes visible only by 5, under the guard, after a look that
came after every earlier 5 of that guard. So it is never in two entries.

Death. A slot notes its guard and its entry before it takes them. The reaper
looks at these two, finishes what was decided, and voids what was not. A charge
cut off after 4 counts, and one before it does not; nothing else is left.

VOID|time is nobody's until that time: what becomes of an insertion that was
robbed, and of a bucket that an operator resets. The key words may be torn, and
other keys may have passed this entry by: it does not become 0, never used, where
a look ends early; and its time keeps rule 1.

Giving back. A call charges several limits, all or none: it looks at all of them
first, charges one by one, and gives back if one refuses meanwhile. That lowers
tat, so the value left is first kept in `peak`, and no entry is claimed before
its peak has passed, which keeps rule 1. It is given back only if nobody charged
in between: whether the bucket had been idle without us is not known any more
then, and to guess could admit too much.

Giving back later. What is charged before it is known (tokens: the most that a request may take) is given back when
it is known, maybe minutes later, and then the bucket must stand as if less had been charged at first, or fuller; never
emptier than that, or more would be admitted than the rate. Two things stand in the way: time, which has
filled the bucket meanwhile, and what others gave back, which has moved our charge forward. So a charge that may be
given back is marked by its entry (an operator may reset the bucket: that is another entry then), by where it ends (tat
after it) and by what had been given back of the bucket until then (`done`), and

    front = end - (announced - done, as marked)     where our charge ends by now, or before
    back  = min(amount, front - now, tat - now)     what of it no time has filled yet

    announced += back (a swap from what was read) -> peak -> swap tat -> done += back

INVARIANT: tat is never before what it would be had the request been charged what it took. What is given back after our
swap is announced before its own swap, so it is in `announced` when we look, and it was not in `done` when we
marked. Of two who give back at once one finds that `announced` or tat has changed, and reckons again. Who dies in
between leaves something announced that was not done: others give back that much less, never more. What a request took
beyond its charge is charged when it is known (`take_more`), whatever the capacity.

Rejected: a lock per stripe (its holder may be dead); a version beside tat (two
words, 16-octet swaps); key words cleared on expiry (a sweeper that races with
everybody); tat published empty and charged afterwards (it could be claimed in
between, and again). Chains and cuckoo paths move keys while others look.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, TypeVar

from shm.counters import Counter
from shm.estate import BUCKET
from shm.layout import (
    LIMIT,
    LIMIT_ATTEMPTS_MAX,
    LIMIT_BUSY,
    LIMIT_CLOSED,
    LIMIT_GRACE_NS,
    LIMIT_GUARDS_MIN,
    LIMIT_OBSERVE,
    LIMIT_SPIN_DOUBLINGS,
    LIMIT_SPINS,
    LIMIT_STRIPE,
    LIMIT_TERM_MAX_NS,
    LIMIT_VOID,
    LIMIT_WINDOW,
    OFFSET_BITS,
    SHIFT,
    SLOT,
    TICKET_BITS,
    WORD,
    Geometry,
)  # fmt: skip

Answer = TypeVar("Answer")
Steps = Generator[None, None, Answer]
"""An operation that stops before each access to shared memory: tests interleave several, and end some in the middle."""
Key = tuple[int, int]
Term = tuple[int, int, int]
"""increment_ns, capacity_ns, flags"""

LIMIT_WORDS: Final = LIMIT.size // WORD
SHIFT_WORDS: Final = SHIFT.size // WORD
ANNOUNCED, DONE = (SHIFT.offset(name) // WORD for name in ("announced", "done"))
MASK: Final = (1 << 64) - 1
NO_MARK: Final = (0, 0, 0)
"""Of what was not charged: it ends before any time, so nothing of it comes back."""
CHUNK_WORDS: Final = LIMIT_WORDS << 16
KEY, TAT, PEAK = (LIMIT.offset(name) // WORD for name in ("key_low", "tat", "peak"))
TICKET, GUARD, ENTRY, BEFORE, AFTER = (
    SLOT.offset(f"limit_{name}") // WORD for name in ("ticket", "guard", "entry", "before", "after")
)
COUNT_MASK: Final = (1 << TICKET_BITS) - 1
SLOT_MASK: Final = (1 << OFFSET_BITS - TICKET_BITS) - 1
TICKET_MASK: Final = (1 << OFFSET_BITS) - 1
OFFSET_MASK: Final = (1 << 63 - OFFSET_BITS) - 1
TIME_MASK: Final = LIMIT_VOID - 1
MARKS: Final = LIMIT_BUSY | LIMIT_VOID
DECIDED: Final = LIMIT_BUSY


@unique
class Outcome(IntEnum):
    """What became of a charge; the numbers are what `charge` returns first."""

    ADMITTED, REFUSED, FULL = range(3)


ADMITTED, REFUSED, FULL = Outcome
AGAIN: Final = -1
"""An insertion that another process was faster than, or disturbed."""


@dataclass(frozen=True, slots=True)
class LimitsStatistics:
    """How full the table of limits is: `live` entries limit something now, `used` were so at some time."""

    limits_max: int
    used: int
    live: int
    void: int
    busy: int


class Limits:
    """The table as words, one step at a time. Runs in workers, and in tests as several workers at once."""

    def __init__(
        self, words: memoryview, limits: int, guards: int, limits_max: int, place: Callable[[int], int], slots_max: int
    ) -> None:
        self._words = words
        self._limits, self._guards = limits, guards
        self._mask = limits_max - 1
        self._guards_mask = max(LIMIT_GUARDS_MIN, limits_max // LIMIT_STRIPE) - 1
        self._stripe = limits_max // (self._guards_mask + 1)
        self._place, self._slots_max = place, slots_max

    def charge(
        self, slot: int, now: int, keys: list[Key], terms: list[Term], *, is_marked: bool = False
    ) -> Steps[tuple[int, ...]]:
        """See shm.cells.Cells."""
        tats, paid = [0] * len(keys), []
        marks = [NO_MARK] * len(keys)
        seen: list[tuple[int, int] | None] = [None] * len(keys)
        passed = [False] * len(keys)
        outcome, index = ADMITTED, -1
        for at in range(len(keys) if len(keys) > 1 else 0):
            seen[at] = found = yield from self.look(keys[at])
            tat = found[1] if found else 0
            tats[at] = _limiting(tat, now)
            if not _is_admitted(tat, now, terms[at]):
                passed[at] = True
                if not terms[at][2] & LIMIT_OBSERVE and index < 0:
                    outcome, index = REFUSED, at
        for at in range(len(keys) if index < 0 else 0):
            if passed[at]:
                continue
            outcome, entry, before, after, shift = yield from self._take(
                slot, now, keys[at], terms[at], seen[at], is_marked
            )
            tats[at] = _limiting(after, now)
            if outcome == ADMITTED:
                if entry >= 0:
                    marks[at] = (entry - self._limits) // LIMIT_WORDS, after, shift
                paid.append((at, entry, before, after))
                continue
            if outcome == FULL:
                self._count(slot, Counter.LIMITS_FULL)
            if terms[at][2] & LIMIT_OBSERVE or (outcome == FULL and not terms[at][2] & LIMIT_CLOSED):
                outcome = ADMITTED
                continue
            index = at
            break
        if index < 0:
            self._count(slot, Counter.LIMITS_CHARGED, len(paid))
        else:
            if outcome == REFUSED:
                self._count(slot, Counter.LIMITS_REFUSED)
            for at, entry, before, after in reversed(paid):
                if (yield from self._give_back(entry, before, after)):
                    tats[at] = _limiting(before, now)
            marks = [NO_MARK] * len(keys)
        return outcome, index, *tats, *([word for mark in marks for word in mark] if is_marked else ())

    def give_back(self, now: int, key: Key, mark: tuple[int, int, int], amount: int) -> Steps[int]:
        """See shm.cells.Cells."""
        place, end, shift = mark
        for _ in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None or (found[0] - self._limits) // LIMIT_WORDS != place:
                return 0
            entry, tat = found
            at = self._shift(entry)
            yield
            announced = self._words[at + ANNOUNCED]
            front = end - (announced - shift & MASK)
            back = min(amount, front - now, tat - now)
            if back <= 0:
                return 0
            if not (yield from self._swap(at + ANNOUNCED, announced, announced + back & MASK)):
                continue
            if (yield from self._give_back(entry, tat - back, tat)):
                yield
                self._words[at + DONE] = self._words[at + DONE] + back & MASK
                return back
            yield
            self._words[at + ANNOUNCED] = self._words[at + ANNOUNCED] - back & MASK
        return 0

    def take_more(self, slot: int, now: int, key: Key, amount: int) -> Steps[int]:
        """See shm.cells.Cells."""
        for attempt in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None:
                outcome, _ = yield from self._insert(slot, now, key, now + amount, attempt)
                if outcome == ADMITTED:
                    return amount
                if outcome == FULL:
                    return 0
                continue
            entry, tat = found
            after = max(tat, min(max(tat, now) + amount, now + LIMIT_TERM_MAX_NS))
            if (yield from self._swap(entry + TAT, tat, after)):
                return after - max(tat, now)
        return 0

    def look(self, key: Key) -> Steps[tuple[int, int] | None]:
        """Where the key's entry is, and its tat, both true at one moment; None if it has none."""
        for _ in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None:
                return None
            yield
            if self._words[found[0] + TAT] == found[1]:
                return found
        return None

    def reset(self, now: int, key: Key) -> Steps[bool]:
        """See shm.cells.Cells. One swap: who dies before or after it has nothing in his hands."""
        for _ in range(LIMIT_ATTEMPTS_MAX):
            found = yield from self._find(key)
            if found is None or found[1] <= now:
                return False
            if (yield from self._swap(found[0] + TAT, found[1], LIMIT_VOID | found[1])):
                return True
        return False

    def reap(self, slot: int) -> Steps[None]:
        """See shm.cells.Cells; the slot's process is dead, so its words do not change under us."""
        place = self._place(slot)
        guard = self._guards + (self._words[place + GUARD] & self._guards_mask)
        entry = self._entry(self._words[place + ENTRY])
        yield
        held = self._words[guard]
        if held and held >> TICKET_BITS & SLOT_MASK == slot:
            if held & DECIDED:
                yield from self._help(guard, held)
            else:
                # If somebody robs the guard at this moment, it is his.
                yield from self._swap(guard, held, 0)
        yield
        tat = self._words[entry + TAT]
        if tat & LIMIT_BUSY and tat >> TICKET_BITS & SLOT_MASK == slot:
            yield from self._undo(slot, entry)

    def statistics(self, now: int) -> tuple[int, int, int, int]:
        tats = self._words[self._limits : self._limits + (self._mask + 1) * LIMIT_WORDS].tolist()[TAT::LIMIT_WORDS]
        busy = sum(tat & LIMIT_BUSY != 0 for tat in tats)
        void = sum(tat & MARKS == LIMIT_VOID for tat in tats)
        return sum(tat != 0 for tat in tats), sum(not tat & MARKS and tat > now for tat in tats), void, busy

    def _find(self, key: Key) -> Steps[tuple[int, int] | None]:
        for step in range(LIMIT_WINDOW):
            entry = self._entry(key[0] + step)
            yield
            tat = self._words[entry + TAT]
            if tat == 0:
                return None
            if tat & MARKS:
                continue
            yield
            if self._words[entry + KEY] != key[0]:
                continue
            yield
            if self._words[entry + KEY + 1] == key[1]:
                return entry, tat
        return None

    def _take(
        self, slot: int, now: int, key: Key, term: Term, seen: tuple[int, int] | None, is_marked: bool = False
    ) -> Steps[tuple[Outcome, int, int, int, int]]:
        """Charge one limit: the outcome, the entry or -1, tat before and after, and what was given back by then."""
        shift = 0
        increment, capacity, _ = term
        for attempt in range(LIMIT_ATTEMPTS_MAX):
            found = seen if seen and attempt == 0 else (yield from self._find(key))
            if found:
                entry, tat = found
                after = max(tat, now) + increment
                if after - now <= capacity:
                    if is_marked:  # before the swap: what is given back after it moves what is charged here
                        yield
                        shift = self._words[self._shift(entry) + DONE]
                    if (yield from self._swap(entry + TAT, tat, after)):
                        return ADMITTED, entry, tat, after, shift
                    continue
                yield
                if self._words[entry + TAT] == tat:
                    return REFUSED, entry, tat, tat, 0
                continue
            if increment > capacity:
                return REFUSED, -1, 0, 0, 0
            if increment == 0:
                return ADMITTED, -1, 0, 0, 0
            outcome, entry = yield from self._insert(slot, now, key, now + increment, attempt)
            if outcome == ADMITTED:
                if is_marked:  # nothing is before it that could be given back
                    yield
                    shift = self._words[self._shift(entry) + DONE]
                return ADMITTED, entry, now, now + increment, shift
            if outcome == FULL:
                return FULL, -1, 0, 0, 0
        return FULL, -1, 0, 0, 0

    def _insert(self, slot: int, now: int, key: Key, after: int, attempt: int) -> Steps[tuple[int, int]]:
        """Give the key an entry that is charged already; ADMITTED, FULL or AGAIN, and the entry."""
        home = key[0] & self._mask
        guard = self._guards + home // self._stripe
        ticket = self._ticket(slot)
        self._note(slot, GUARD, home // self._stripe)
        if not (yield from self._enter(slot, guard, ticket, attempt)):
            return AGAIN, -1
        found = yield from self._find(key)
        claimed = None if found else (yield from self._vacant(home, now))
        if found or claimed is None:
            yield from self._swap(guard, ticket, 0)
            return (AGAIN if found else FULL), -1
        entry, tat = claimed
        for field, value in ((ENTRY, (entry - self._limits) // LIMIT_WORDS), (BEFORE, now), (AFTER, after)):
            self._note(slot, field, value)
        if not (yield from self._swap(entry + TAT, tat, LIMIT_BUSY | ticket)):
            yield from self._swap(guard, ticket, 0)
            return AGAIN, -1
        offset = (entry - self._limits) // LIMIT_WORDS - home // self._stripe * self._stripe & self._mask
        decided = DECIDED | offset << OFFSET_BITS | ticket
        yield
        # A bucket was charged and given back between the look and the claim: rule 1 needs more than its peak here.
        is_fit = _is_past(self._words[entry + PEAK], now)
        for at in range(2 if is_fit else 0):
            yield
            self._words[entry + KEY + at] = key[at]
        if not is_fit or not (yield from self._swap(guard, ticket, decided)):
            yield from self._undo(slot, entry)
            yield from self._swap(guard, ticket, 0)
            return AGAIN, -1
        # Helpers may have done either by now.
        yield from self._swap(entry + TAT, LIMIT_BUSY | ticket, after)
        yield from self._swap(guard, decided, 0)
        if tat and not tat & LIMIT_VOID:
            self._count(slot, Counter.LIMITS_RECLAIMED)
        return ADMITTED, entry

    def _enter(self, slot: int, guard: int, ticket: int, attempt: int) -> Steps[bool]:
        """Take the guard: when it is free, or when its holder has been silent for long enough."""
        for _ in range(LIMIT_SPINS << min(attempt, LIMIT_SPIN_DOUBLINGS)):
            yield
            held = self._words[guard]
            if not held or held & DECIDED:
                break
        if held & DECIDED:
            yield from self._help(guard, held)
            return False
        if not (yield from self._swap(guard, held, ticket)):
            return False
        if held:
            self._count(slot, Counter.LIMITS_STOLEN)
        return True

    def _vacant(self, home: int, now: int) -> Steps[tuple[int, int] | None]:
        """The first entry of the window that no key needs, and its tat."""
        for step in range(LIMIT_WINDOW):
            entry = self._entry(home + step)
            yield
            tat = self._words[entry + TAT]
            if tat == 0:
                return entry, tat
            if tat & LIMIT_BUSY or (tat & TIME_MASK) + LIMIT_GRACE_NS >= now:
                continue
            yield
            if _is_past(self._words[entry + PEAK], now) and not (yield from self._is_kept(entry)):
                return entry, tat
        return None

    def _is_kept(self, entry: int) -> Steps[bool]:
        """Whether something else than its time keeps an entry for its key: nothing here, what is held in shm.leases."""
        return False
        yield  # a step of none, as the others are

    def _help(self, guard: int, held: int) -> Steps[None]:
        """Do the last two steps of an insertion that is decided, whoever began it."""
        slot, offset = held >> TICKET_BITS & SLOT_MASK, held >> OFFSET_BITS & OFFSET_MASK
        if slot < self._slots_max:
            yield
            # If the slot has gone on to another insertion this is another's number, but then the ticket has gone too.
            after = self._words[self._place(slot) + AFTER]
            entry = self._entry((guard - self._guards) * self._stripe + offset)
            yield from self._swap(entry + TAT, LIMIT_BUSY | held & TICKET_MASK, after)
        yield from self._swap(guard, held, 0)

    def _undo(self, slot: int, entry: int) -> Steps[None]:
        """Leave a claimed entry to nobody: with more than it ever held, as rule 1 has it."""
        yield
        peak = self._words[entry + PEAK]
        before = self._words[self._place(slot) + BEFORE]
        yield
        self._words[entry + TAT] = LIMIT_VOID | max(before, peak + 1) & TIME_MASK

    def _give_back(self, entry: int, before: int, after: int) -> Steps[bool]:
        if entry < 0:
            return True
        for _ in range(LIMIT_ATTEMPTS_MAX):
            yield
            peak = self._words[entry + PEAK]
            if peak >= after or (yield from self._swap(entry + PEAK, peak, after)):
                return (yield from self._swap(entry + TAT, after, before))
        return False

    def _swap(self, at: int, expected: int, desired: int) -> Steps[bool]:
        yield
        if self._words[at] != expected:
            return False
        self._words[at] = desired
        return True

    def _shift(self, entry: int) -> int:
        first = self._limits + (self._mask + 1) * LIMIT_WORDS
        return first + (entry - self._limits) // LIMIT_WORDS * SHIFT_WORDS

    def _entry(self, index: int) -> int:
        return self._limits + (index & self._mask) * LIMIT_WORDS

    def _ticket(self, slot: int) -> int:
        """A number that no insertion had before; counted before it is used, so that it outlives whoever used it."""
        at = self._place(slot) + TICKET
        count = self._words[at] + 1 & COUNT_MASK or 1
        self._words[at] = count
        return slot << TICKET_BITS | count

    def _note(self, slot: int, field: int, value: int) -> None:
        self._words[self._place(slot) + field] = value

    def _count(self, slot: int, counter: Counter, n: int = 1) -> None:
        at = self._place(slot) + SLOT.offset("counters") // WORD + counter
        self._words[at] = self._words[at] + n & (1 << 64) - 1


def finish(steps: Steps[Answer]) -> Answer:
    """Do all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def _is_admitted(tat: int, now: int, term: Term) -> bool:
    return max(tat, now) + term[0] - now <= term[1]


def _is_past(peak: int, now: int) -> bool:
    return peak == 0 or peak < now


def _limiting(tat: int, now: int) -> int:
    return tat if tat > now else 0


def limiting(words: memoryview, geometry: Geometry, now: int) -> Iterator[bytes]:
    """The buckets that limit somebody, as shm.estate.BUCKET; of a region in which nobody writes any more."""
    first = geometry.limits_offset // WORD
    for start in range(first, first + geometry.limits_max * LIMIT_WORDS, CHUNK_WORDS):
        end = min(start + CHUNK_WORDS, first + geometry.limits_max * LIMIT_WORDS)
        for at, tat in enumerate(words[start + TAT : end : LIMIT_WORDS].tolist()):
            if now < tat < LIMIT_VOID:
                entry = start + at * LIMIT_WORDS
                yield BUCKET.pack(words[entry + KEY], words[entry + KEY + 1], tat)


def settle(words: memoryview, geometry: Geometry, buckets: bytes, now: int) -> int:
    """Write buckets into a new table, which has the same secret and no users yet; how many found no room.

    Nobody remembers a value of the old table, so rule 1 begins anew: peaks are not needed.
    """
    first, mask, lost = geometry.limits_offset // WORD, geometry.limits_max - 1, 0
    for low, high, tat in BUCKET.iter_unpack(buckets):
        if not now < tat <= now + 2 * LIMIT_TERM_MAX_NS:
            continue  # full again meanwhile; what is later was never written by us
        for step in range(LIMIT_WINDOW):
            entry = first + ((low + step) & mask) * LIMIT_WORDS
            if not words[entry + TAT]:
                words[entry + KEY], words[entry + KEY + 1], words[entry + TAT] = low, high, tat
                break
        else:
            lost += 1
    return lost
