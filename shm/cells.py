"""The operations on the words of a region, and the choice of who carries them out.

Two implementations promise the same: `_native/cells.c` (C11 atomics, one call
for a whole exchange) and `twin.py` (plain Python). The first is used when it is
built, unless SENTINEL_PURE is set, which lets every test run on the twin.

All offsets are octets from the region's start and are checked against its end
in each call, so no number that comes out of a damaged region leads outside.
Slots, series, reasons and counters out of range raise IndexError; values that
are no 64-bit word raise OverflowError; a released object raises ValueError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from shm import twin
from shm.layout import Geometry


class Cells(Protocol):
    """What both implementations promise. Arguments are positional: a call costs less than a name."""

    def load(self, offset: int, /) -> int:
        """Read one word; acquire: what was stored before it was released is visible."""

    def store(self, offset: int, value: int, /) -> None:
        """Write one word; release: publishes what was stored before."""

    def fetch_add(self, offset: int, n: int, /) -> int:
        """Add to a word with several writers; the value before. Wraps at 2**64."""

    def compare_exchange(self, offset: int, expected: int, desired: int, /) -> bool:
        """Store `desired` if the word is `expected`; whether it was."""

    def publish(self, offset: int, value: int, /) -> bool:
        """Raise a word to `value`; False, and nothing stored, if it is not below it."""

    def record(
        self, slot: int, series: int, status: int, reason: int, duration_ns: int, bytes_in: int, bytes_out: int, /
    ) -> None:
        """Count one finished exchange: class, reason, bucket, sums, octets, and the slot's present life."""

    def add(self, slot: int, counter: int, n: int = 1, /) -> None:
        """Add to a counter of the slot, whose one writer is the caller."""

    def beat(self, slot: int, now_ns: int, open_connections: int, open_requests: int, /) -> None:
        """Write the gauges, then the heartbeat."""

    def journal_write(self, slot: int, record: bytes, /) -> None:
        """Append a record to the slot's ring, over the oldest one; ValueError if it is too long."""

    def journal_read(self, slot: int, sequence: int, /) -> bytes | None:
        """The record of this number; None if it is not there any more, not yet, or torn."""

    def sums(self, offset: int, stride: int, count: int, words: int, /) -> bytes:
        """Word by word the sum of `count` blocks of `words` words, `stride` octets apart; native order."""

    def charge(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        """Take from the buckets of all these keys, or of none: (outcome, index, tat of each).

        `terms` has three native words a key: increment_ns, capacity_ns, flags (LIMIT_CLOSED, LIMIT_OBSERVE).
        Outcome ADMITTED, REFUSED, or FULL: no room, and the flags say closed; `index` is the limit that refused,
        or -1. Each tat is what its bucket holds now; 0 for a full bucket, or one that has no entry.
        """

    def charge_used(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        """The same, but told of each bucket is for how long from now it is in use: its tat - now_ns, or 0."""

    def charge_marked(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        """The same, and then three words of each: the mark of its charge, for `give_back`; three 0 if it has none."""

    def give_back(self, slot: int, now_ns: int, key: bytes, mark: tuple[int, int, int], amount_ns: int, /) -> int:
        """Give back of a charge that was marked so: how much was, which is what no time has filled yet, at most."""

    def take_more(self, slot: int, now_ns: int, key: bytes, amount_ns: int, /) -> int:
        """Charge what was taken beyond a charge, whatever the capacity: how much was. No room: nothing."""

    def peek(self, now_ns: int, key: bytes, /) -> int:
        """The theoretical arrival time of a key's bucket; 0 when it is full, which nobody needs to remember."""

    def reset(self, now_ns: int, key: bytes, /) -> bool:
        """Make a key's bucket full; False if it was."""

    def limits_reap(self, slot: int, /) -> None:
        """Finish, or undo, the insertion in which the slot's process died. Twice is as once."""

    def limits_statistics(self, now_ns: int, /) -> tuple[int, int, int, int]:
        """How many entries were ever used, are live (limit something now), void, and busy."""

    def begin(self, slot: int, endpoint: int, upstream: int, now_ns: int, terms: bytes, /) -> int | tuple[int, int]:
        """Let an attempt begin: 0, or the rounds that it probes in; negative (shm.places): it may not."""

    def finish(
        self, slot: int, endpoint: int, upstream: int, now_ns: int, permit: int | tuple[int, int], outcome: int,
        latency_ns: int, terms: bytes, /,
    ) -> int:  # fmt: skip
        """An attempt that was let begin is over: what that changed (shm.places.OPENED, CLOSED)."""

    def standing(self, places: bytes, now_ns: int, probes: int, /) -> bytes:
        """An octet for each place (native 32 bits each): why it may not be used. `probes` 0: it has no breaker."""

    def flights(self, places: bytes, /) -> tuple[int, ...]:
        """What the fleet has in flight at each place."""

    def ewmas(self, places: bytes, now_ns: int, half_life_ns: int, /) -> tuple[int, ...]:
        """The peak latency of each place in µs, as it has faded by now; 0 where nothing was measured lately."""

    def least(self, places: bytes, weights: bytes, allowed: bytes, start: int, /) -> int:
        """The position with the least (in flight + 1) / weight of those allowed, from `start` on round; -1 for none."""

    def observe(self, place: int, now_ns: int, latency_ns: int, half_life_ns: int, /) -> None:
        """A latency of a place that `finish` does not see: that of a first token."""

    def lightest(self, places: bytes, weights: bytes, allowed: bytes, start: int, tokens: int, /) -> int:
        """As `least`, by (tokens under way + tokens) / weight."""

    def burden(self, slot: int, place: int, more: int, less: int, /) -> None:
        """So many more and so many fewer tokens of the slot are under way at a place; never below 0."""

    def burdens(self, places: bytes, /) -> tuple[int, ...]:
        """The tokens that the fleet has under way at each place; BURDEN_MAX for more."""

    def pick(self, places: bytes, weights: bytes, now_ns: int, probes: int, start: int, /) -> int:
        """`least` of all of them, if each may be used (`standing`); -1 when there is one that may not."""

    def spend(self, place: int, now_ns: int, per_second: int, /) -> bool:
        """Take one retry from an upstream's budget, which gets `per_second` besides what attempts earn it."""

    def lead(self, slot: int, generation: int, now_ns: int, lease_ns: int, /) -> bool:
        """Become, or stay, the one that leads; a worker of the published generation asks."""

    def toll(self, slot: int, place: int, counter: int, n: int = 1, /) -> None:
        """Add to a counter of a place (shm.places), whose one writer is the slot."""

    def places_reap(self, slot: int, /) -> None:
        """Nothing of a dead process is in flight any more, and it leads no more. Twice is as once."""

    def hold(self, slot: int, now_ns: int, key: bytes, most: int, /) -> tuple[int, int, int]:
        """Hold one more under the key: (outcome, how many are held, lease), unless `most` are held (shm.leases).

        Outcome ADMITTED, REFUSED, or FULL: the table has no room, nothing is held. The lease is for `release_lease`.
        """

    def release_lease(self, slot: int, lease: int, /) -> None:
        """Give back one of what the slot holds there."""

    def held(self, key: bytes, /) -> int:
        """How many the fleet holds under the key."""

    def leases_reap(self, slot: int, /) -> None:
        """Nobody holds what a dead process held. Twice is as once."""

    def leases_statistics(self, /) -> tuple[int, int, int, int]:
        """How many entries were ever used, hold something, what they hold in all, and how many are busy."""

    def reserve(self, slot: int, now_ns: int, keys: tuple[bytes, ...], terms: bytes, /) -> tuple[int, ...]:
        """Reserve of all these budgets, or of none (shm.budgets): (outcome, index, used of each, lease of each).

        `terms` has four native words a key: until_ns, amount, limit, flags (LIMIT_CLOSED, LIMIT_OBSERVE). Outcome
        ADMITTED, REFUSED, or FULL: no room, and the flags say closed; `index` is the budget that refused, or -1. Used
        is what is settled and open, with this reservation if it was admitted. A lease is for `extend` and
        `settle`; BUDGET_UNCOUNTED where there was no room, or nothing is held.
        """

    def extend(self, slot: int, lease: int, amount: int, limit: int, /) -> tuple[int, int]:
        """Reserve more of one budget: (ADMITTED or REFUSED, used)."""

    def settle(self, slot: int, lease: int, spent: int, released: int, is_end: int, /) -> bool:
        """Add to what was spent (or take from it: negative), and give so much of the reservation back.

        `is_end` counts a request. False, and nothing done: the window is over and its entry another's.
        INVARIANT for callers: all but the last keep something of the reservation, else the entry may be given away.
        """

    def carry(self, slot: int, now_ns: int, key: bytes, until_ns: int, settled: int, requests: int, /) -> bool:
        """Put what was spent in a window before this region was made; False: no room. Before any worker is there."""

    def spent(self, key: bytes, /) -> tuple[int, int, int]:
        """What the fleet has settled and has open under the key, and how many requests were settled."""

    def budgets_reap(self, slot: int, /) -> None:
        """What a dead process had reserved is free; what it had settled stays. Twice is as once."""

    def budgets_statistics(self, /) -> tuple[int, int, int, int]:
        """How many entries were ever used, have something open, what is open in all, and how many are busy."""

    def release(self) -> None:
        """Let go of the memory; every later call raises ValueError."""


def open_cells(memory: memoryview, geometry: Geometry, environ: Mapping[str, str] = os.environ) -> Cells:
    """The operations on this memory, native where they can be had."""
    if not environ.get("SENTINEL_PURE"):
        try:
            from shm._native import cells as native
        except ImportError:
            pass
        else:
            return native.Cells(memory, *numbers_of(geometry))
    return twin.Cells(memory, *numbers_of(geometry))


def numbers_of(geometry: Geometry) -> tuple[int, ...]:
    """Sizes and places of all tables, as both implementations take them."""
    return (
        geometry.slots_max, geometry.series_max, geometry.journal_records, geometry.slots_offset,
        geometry.rings_offset, geometry.ring_stride, geometry.counters_offset, geometry.counters_stride,
        geometry.limits_max, geometry.limits_offset, geometry.guards_offset, geometry.places_max,
        geometry.places_offset, geometry.flights_offset, geometry.flights_stride, geometry.tolls_offset,
        geometry.tolls_stride, geometry.leases_max, geometry.leases_offset, geometry.lease_guards_offset,
        geometry.holdings_offset, geometry.holdings_stride, geometry.budgets_max, geometry.budgets_offset,
        geometry.budget_guards_offset, geometry.titles_offset, geometry.spendings_offset, geometry.spendings_stride,
    )  # fmt: skip
