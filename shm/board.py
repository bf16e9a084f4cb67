"""The board of places, as control and tools read and write it: names, health, breakers, what is in flight.

Workers' operations are in shm.places. What is here is seldom done, one place at a time, and in
words that this process may write: control's (`admin`), the leader's (`health`, ejections), and,
for an operator's intervention, the breaker's, which anybody may change whole.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from sentinel.core.machines import breaker
from sentinel.core.machines.breaker import BreakerState
from sentinel.core.machines.health import Admin, Finding, Health
from shm.cells import Cells
from shm.faults import RegionFull
from shm.layout import HEADER, PLACE, STAMP_BITS, SUBWINDOWS, TOLL, WORD, Geometry
from shm.names import Names
from shm.places import QUANTITY_MAX, USABLE, WARMING, window_sums

Known = TypeVar("Known", bound=IntEnum)

MS: Final = 1_000_000
COUNT_AT: Final = HEADER.offset("places_count")
LEADER_AT: Final = HEADER.offset("leader")
SWAPS_MAX: Final = 256
CACHE_AT, FLIGHTS_AT = 20, 32
WAITING_MAX, CACHE_MAX, FLIGHTS_MAX = (1 << 20) - 1, (1 << 12) - 1, (1 << 32) - 1
"""Parts of a place's report."""
(
    ADMIN, HEALTH, EJECTED_UNTIL, BREAKER, REPORT, REPORTED, CONSECUTIVE, EWMA, BUDGET, WINDOW, CHECKED,
    FINDING, CHANGED, EJECTIONS, RECOVERED,
) = (offset for offset, field in PLACE.places() if field.name not in ("length", "text"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """What was counted of a place since the region was made."""

    requests: int
    failures: int
    latency_sum_us: int
    refused: int
    connects: int
    connect_failures: int
    retries: int
    opened: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceView:
    """One upstream, or one endpoint, at one moment. Times are ms after boot, 0 for never."""

    index: int
    name: str
    admin: Admin
    health: Health
    finding: Finding
    checked_ms: int
    changed_ms: int
    ejected_until_ms: int
    ejections: int
    recovered_ms: int
    breaker: BreakerState
    breaker_until_ms: int
    trips: int
    consecutive: int
    in_flight: int
    tokens: int  # under way
    reported_ms: int
    waiting: int  # as it reported
    cache: int  # thousandths in use
    ewma_us: int
    budget: int  # thousandths of a retry
    toll: Toll


class Board:
    """All places of one region."""

    __slots__ = ("_cells", "_first", "_geometry", "_names")

    def __init__(self, cells: Cells, geometry: Geometry, memory: memoryview) -> None:
        self._cells = cells
        self._geometry = geometry
        self._first = geometry.places_offset  # once: to work it out costs more than to read a word
        self._names = Names(cells, memory, count_at=COUNT_AT, most=geometry.places_max, place=geometry.place)

    def numbers(self, names: Sequence[str], where: str) -> list[int]:
        """The numbers of these names, new ones where need be, or RegionFull and nothing given. Control."""
        new = {name for name in names if self._names.known(name) is None}
        if self._names.count() + len(new) > self._geometry.places_max:
            raise RegionFull(
                f"there is room for {self._geometry.places_max} names of upstreams and endpoints, those of former "
                f"configurations included; {self._names.count()} are taken, and {len(new)} are new",
                culprit="many different endpoints since the service was started", place=where,
                remedy="restart the service: it makes room for twice as many as its configuration has",
            )  # fmt: skip
        return [known if (known := self._names.known(name)) is not None else self._names.append(name) for name in names]

    def known(self, names: Sequence[str]) -> list[int]:
        """The same, -1 for names that have no number."""
        return [-1 if (known := self._names.known(name)) is None else known for name in names]

    def view(self, index: int, used: int) -> PlaceView:
        """One place; `used`: how many slots were ever in use."""
        names = self._names.all()
        return self._view(index, names[index] if index < len(names) else "", used)

    def views(self, used: int) -> list[PlaceView]:
        return [self._view(index, name, used) for index, name in enumerate(self._names.all())]

    def window(self, index: int, now_ns: int, window_ms: int) -> tuple[int, int, int]:
        """Calls, failures and slow calls of a breaker's window, as of now."""
        tenths = [self._word(index, WINDOW + at * WORD) for at in range(SUBWINDOWS)]
        return window_sums(tenths, now_ns // MS // max(window_ms // SUBWINDOWS, 1))

    def _view(self, index: int, name: str, used: int) -> PlaceView:
        parts = breaker.split(self._word(index, BREAKER))
        geometry = self._geometry
        sums = self._cells.sums(geometry.toll(0, index), geometry.tolls_stride, used, TOLL.size // WORD)
        return PlaceView(
            index=index, name=name, admin=_known(Admin, self._word(index, ADMIN)),
            health=_known(Health, self._word(index, HEALTH)), finding=_known(Finding, self._word(index, FINDING)),
            checked_ms=self._word(index, CHECKED), changed_ms=self._word(index, CHANGED),
            ejected_until_ms=self._word(index, EJECTED_UNTIL), ejections=self._word(index, EJECTIONS),
            recovered_ms=self._word(index, RECOVERED), breaker=parts.state, breaker_until_ms=parts.until_ms,
            trips=parts.trips, consecutive=self._word(index, CONSECUTIVE),
            in_flight=self._cells.flights(array("I", [index]).tobytes())[0],
            tokens=self._cells.burdens(array("I", [index]).tobytes())[0],
            reported_ms=self._word(index, REPORTED), waiting=self._word(index, REPORT) & WAITING_MAX,
            cache=self._word(index, REPORT) >> CACHE_AT & CACHE_MAX,
            ewma_us=self._word(index, EWMA) & QUANTITY_MAX, budget=self._word(index, BUDGET) & (1 << STAMP_BITS) - 1,
            toll=Toll(**dict(zip(_TOLLS, memoryview(sums).cast("Q").tolist(), strict=True))),
        )  # fmt: skip

    def set_admin(self, index: int, admin: Admin) -> None:
        """What the operator wants of an endpoint. Control."""
        self._store(index, ADMIN, admin)

    def set_health(self, index: int, health: Health, finding: Finding, now_ns: int) -> bool:
        """What a check found; whether that changed its health. The leader."""
        now_ms = now_ns // MS
        before = self._word(index, HEALTH)
        self._store(index, CHECKED, now_ms)
        self._store(index, FINDING, finding)
        if before == health:
            return False
        if health is Health.HEALTHY and before == Health.UNHEALTHY:
            self._store(index, RECOVERED, now_ms)  # before it is healthy: who sees that also sees since when
        self._store(index, CHANGED, now_ms)
        self._store(index, HEALTH, health)
        return True

    def set_report(self, index: int, waiting: int, cache: int, now_ns: int) -> None:
        """What an endpoint says of its load, with what the fleet has in flight there now. The leader."""
        flights = min(self._cells.flights(array("I", [index]).tobytes())[0], FLIGHTS_MAX)
        word = flights << FLIGHTS_AT | min(cache, CACHE_MAX) << CACHE_AT | min(waiting, WAITING_MAX)
        self._store(index, REPORT, word)
        self._store(index, REPORTED, now_ns // MS)

    def report(self, index: int, now_ns: int, stale_ns: int) -> tuple[int, int, int] | None:
        """Waiting, thousandths of the cache, in flight when that was read; None when it is too old, or never was."""
        at = self._word(index, REPORTED)
        if not at or now_ns // MS - at > stale_ns // MS:
            return None
        word = self._word(index, REPORT)
        return word & WAITING_MAX, word >> CACHE_AT & CACHE_MAX, word >> FLIGHTS_AT

    def set_ejected(self, index: int, until_ns: int, ejections: int) -> None:
        """Leave an endpoint out until then. The leader."""
        self._store(index, EJECTIONS, ejections)
        self._store(index, RECOVERED, until_ns // MS)
        self._store(index, CONSECUTIVE, 0)
        self._store(index, EJECTED_UNTIL, until_ns // MS)

    def forgive(self, index: int) -> None:
        """It did well for an interval: its next ejection is not as long. The leader."""
        self._store(index, EJECTIONS, max(self._word(index, EJECTIONS) - 1, 0))

    def set_breaker(self, index: int, is_open: bool, now_ns: int) -> BreakerState:
        """Open a breaker until it is reset, or close it and forget its failures; what it was. Control."""
        at = self._geometry.place(index)
        if not is_open:
            self._store(index, CONSECUTIVE, 0)
            for tenth in range(SUBWINDOWS):
                self._store(index, WINDOW + tenth * WORD, 0)
        after = breaker.join(BreakerState.OPEN, breaker.UNTIL_MAX, 1) if is_open else breaker.join(
            BreakerState.CLOSED, now_ns // MS
        )
        for _ in range(SWAPS_MAX):
            before = self._cells.load(at + BREAKER)
            if self._cells.compare_exchange(at + BREAKER, before, after):
                return breaker.split(before).state
        raise TimeoutError("the breaker changes faster than it can be set")

    def remarkable(self, now_ns: int) -> Iterator[tuple[str, bytes]]:
        """Places of which the next instance should know, and their words (shm.estate). Supervisor."""
        for index, name in enumerate(self._names.all()):
            if (
                0 < self._word(index, ADMIN) < len(Admin)
                or self._word(index, HEALTH) == Health.UNHEALTHY
                or breaker.split(self._word(index, BREAKER)).state is not BreakerState.CLOSED
                or self._word(index, EJECTED_UNTIL) > now_ns // MS
            ):
                words = [self._word(index, offset) for offset in range(ADMIN, PLACE.size, WORD)]
                yield name, struct.pack(f"={len(words)}Q", *words)

    def settle(self, places: Sequence[tuple[str, bytes]]) -> None:
        """Give names and words to places of a new region; at most half of its room. Supervisor, before control."""
        for name, octets in places[: self._geometry.places_max // 2]:
            if len(octets) == PLACE.size - ADMIN and self._names.known(name) is None:
                index = self._names.append(name)
                for at, word in enumerate(struct.unpack(f"={len(octets) // WORD}Q", octets)):
                    self._store(index, ADMIN + at * WORD, word)

    def cold(self, standing: bytes, places: Sequence[int]) -> bytes:
        """The same, where those that would be usable and were never found healthy are warming up."""
        return bytes([
            WARMING if code == USABLE and self._word(place, HEALTH) == Health.UNKNOWN else code
            for code, place in zip(standing, places, strict=True)
        ])  # fmt: skip

    def recovered_ms(self, index: int) -> int:
        """When an endpoint became healthy again, or its ejection ended (or will); 0 for never."""
        return self._word(index, RECOVERED)

    def leader(self) -> int:
        """The slot that leads, or last did; -1 for none."""
        return (self._cells.load(LEADER_AT) & 0xFFF) - 1

    def count(self) -> int:
        return self._names.count()

    def _word(self, index: int, offset: int) -> int:
        return self._cells.load(self._first + index * PLACE.size + offset)

    def _store(self, index: int, offset: int, value: int) -> None:
        self._cells.store(self._first + index * PLACE.size + offset, value)


_TOLLS: Final = tuple(field.name for field in TOLL.fields)


def _known(kind: type[Known], number: int) -> Known:
    """A word as what it means; a damaged one as the first, harmless meaning."""
    return kind(number) if number < len(kind) else kind(0)
