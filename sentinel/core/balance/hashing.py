"""By a key: the same key goes to the same endpoint, and stays there when others come and go.

Intuition: a cloakroom where the hook follows from the name. With `name mod hooks` one hook
more moves nearly everybody; here only those move whose hook is gone.

maglev  A table of a prime size that endpoints fill in turn, each after a permutation of its own
        (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016).
        A look-up is one index; shares are even to about one in a hundred.
ring    Each endpoint has points on a circle, a key belongs to the next point (Karger et al.,
        "Consistent Hashing and Random Trees", 1997). When one leaves, nobody else's keys move.

Rules:
1. Tables are made of the *configured* endpoints. Who is only unusable for now keeps his places;
   his keys go on from place to place, by a step of their own, and come back with him.
2. Bounded load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016): who has
   more than `max_load` of his fair part in flight is passed over too. So one hot key cannot drown
   an endpoint, and all others stay.
3. Names are hashed, not positions: the order in the file means nothing. The hash is BLAKE2b with
   a fixed personalisation, the same in every process, release and restart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, Protocol

PRIMES: Final = (251, 1009, 4093, 16_381, 65_521, 131_071, 1_048_573)
ENTRIES_EACH: Final = 100
"""Places in Maglev's table for an endpoint of average weight: shares are even to one in so many."""
POINTS_EACH: Final = 160
PROBES_MAX: Final = 64
"""So many places are looked at for one that may be used; then all endpoints are ranked for this key."""

Allows = Callable[[int], bool]


class Lookup(Protocol):
    """A table of endpoints; the index for a key (64 bits) among those that are allowed, -1 for none."""

    def find(self, key: int, allows: Allows) -> int: ...


def key_of(octets: bytes) -> int:
    """64 bits of a key."""
    return int.from_bytes(blake2b(octets, digest_size=8, person=b"sentinel-balance").digest(), "big")


class Maglev:
    """One table; names must differ."""

    __slots__ = ("_names", "_table", "_weights")

    def __init__(self, names: Sequence[str], weights: Sequence[int]) -> None:
        self._names, self._weights = tuple(names), tuple(weights)
        size = next((prime for prime in PRIMES if prime >= ENTRIES_EACH * len(names)), PRIMES[-1])
        self._table = _filled(self._names, self._weights, size)

    def find(self, key: int, allows: Allows) -> int:
        table = self._table
        size = len(table)
        at = key % size
        index = table[at]
        if allows(index):
            return index
        step = 1 + (key >> 32) % (size - 1)  # the size is prime: any step comes by everywhere
        for _ in range(PROBES_MAX):
            at = (at + step) % size
            if allows(table[at]):
                return table[at]
        return _ranked(key, self._names, self._weights, allows)

    def shares(self) -> list[float]:
        """Which part of all keys each endpoint gets."""
        return [self._table.count(index) / len(self._table) for index in range(len(self._names))]


class Ring:
    """Points on a circle of 64 bits; names must differ."""

    __slots__ = ("_names", "_owners", "_points", "_weights")

    def __init__(self, names: Sequence[str], weights: Sequence[int]) -> None:
        self._names, self._weights = tuple(names), tuple(weights)
        total = sum(weights)
        points: list[tuple[int, int]] = []
        for index, (name, weight) in enumerate(zip(names, weights, strict=True)):
            count = max(1, round(POINTS_EACH * len(names) * weight / total))
            points += [(key_of(f"{name}#{number}".encode()), index) for number in range(count)]
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [index for _, index in points]

    def find(self, key: int, allows: Allows) -> int:
        owners = self._owners
        at = bisect_left(self._points, key)
        for step in range(PROBES_MAX):
            index = owners[(at + step) % len(owners)]
            if allows(index):
                return index
        return _ranked(key, self._names, self._weights, allows)


def is_within(
    index: int, max_load: int, flights: Sequence[int], weights: Sequence[int], allowed: Sequence[int]
) -> bool:
    """May one more go to an endpoint, when it shall have at most `max_load` thousandths of its fair part?"""
    total = sum(flights[one] for one in allowed) + 1
    share = sum(weights[one] for one in allowed)
    return (flights[index] + 1) * 1000 * share <= max_load * total * weights[index] + 999 * share


def _filled(names: tuple[str, ...], weights: tuple[int, ...], size: int) -> list[int]:
    """Each in turn takes the next free place of his permutation; who weighs less sits out some turns."""
    table = [-1] * size
    offsets = [key_of(f"{name} offset".encode()) % size for name in names]
    steps = [1 + key_of(f"{name} step".encode()) % (size - 1) for name in names]
    heaviest = max(weights)
    credit = [0] * len(names)
    filled = 0
    while True:
        for index, weight in enumerate(weights):
            credit[index] += weight
            if credit[index] < heaviest:
                continue
            credit[index] -= heaviest
            at = offsets[index]
            while table[at] >= 0:
                at = (at + steps[index]) % size
            offsets[index] = (at + steps[index]) % size
            table[at] = index
            filled += 1
            if filled == size:
                return table


def _ranked(key: int, names: tuple[str, ...], weights: tuple[int, ...], allows: Allows) -> int:
    """The best of all that are allowed, in an order of this key's own (rendezvous hashing); -1 for none."""
    best, highest = -1, -1.0
    for index, name in enumerate(names):
        if allows(index):
            drawn = (key_of(f"{key:x} {name}".encode()) + 1) / 2**64
            score = drawn ** (1 / weights[index])
            if score > highest:
                best, highest = index, score
    return best
