"""The decision journal, read for `why`: which requests are recorded, and what was concluded about each.

The rings hold octets that workers wrote (sentinel.core.record). A record that cannot
be read, of a worker of another release or of a damaged ring, is counted and passed
over: the question is about another one. There is no index; a glance at all records of the
rings takes milliseconds, happens in a thread, and only when somebody asks. What is wanted is decoded.

A record is explained with the plan of its own generation (supervisor.control.archive).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any

from sentinel.core.record import Glance, Record, RecordFault, decode, glance, reason_word
from sentinel.core.routes import RouteTable
from sentinel.explain import explain_record, source_of
from shm.region import Region
from supervisor.control.archive import Archive
from supervisor.control.memory import Memory

LAST_DEFAULT = 20
LAST_MAX = 20_000
"""More than anybody reads, and enough for `sentinelctl diff`; so many rows are some megabytes."""

CLASSES = frozenset(f"{digit}xx" for digit in range(1, 6))


class FilterFault(Exception):
    """A filter is not understood; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which records are wanted; all that are given must hold."""

    last: int = LAST_DEFAULT
    status: str = ""  # "404", "5xx", or "" for any
    route: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], known: Collection[str] = ("last", "status", "route", "reason")) -> Filters:
        """Read the query of a request; `known`: what it may ask for."""
        unknown = sorted(set(query) - set(known))
        if unknown:
            raise FilterFault(f"there is no filter `{unknown[0]}`")
        last, status = query.get("last", str(LAST_DEFAULT)), query.get("status", "").lower()
        if not _is_number(last) or not 1 <= int(last) <= LAST_MAX:
            raise FilterFault(f"`last` is a number from 1 to {LAST_MAX}")
        if status and status not in CLASSES and not (_is_number(status) and len(status) == 3):
            raise FilterFault("`status` is a number such as 404, or a class such as 5xx")
        return cls(last=int(last), status=status, route=query.get("route"), reason=query.get("reason"))

    def hold(self, record: Record) -> bool:
        return self.may_hold(record) and (self.route is None or self.route == record.route)

    def may_hold(self, seen: Glance | Record) -> bool:
        """Whether what a glance shows of a record is as wanted."""
        status = str(seen.status)
        return (not self.status or self.status in (status, f"{status[:1]}xx")) and (
            self.reason is None or self.reason == reason_word(seen.reason_number)
        )


class Journal:
    """Answers questions about recorded requests."""

    def __init__(self, memory: Memory, archive: Archive) -> None:
        self._memory = memory
        self._archive = archive
        self.unreadable_count = 0

    async def find(self, request_id: str) -> dict[str, Any] | None:
        """The record of one request with its explanation; the newest, should the id occur twice."""
        record = await self._memory.ask(lambda region: self._find(region, request_id))
        return None if record is None else _whole(record, await self._archive.table(record.generation))

    async def recent(self, filters: Filters) -> list[dict[str, Any]]:
        """The newest records for which the filters hold, newest first, without their steps."""
        return await self._memory.ask(lambda region: self._list(region, filters))

    async def newest(self, count: int) -> list[Record]:
        """The newest records, newest first."""
        return await self._memory.ask(lambda region: list(islice(self._newest(region, lambda _: True), count)))

    def _find(self, region: Region, request_id: str) -> Record | None:
        name = request_id.encode("utf-8", "replace")
        return next(self._newest(region, lambda seen: seen.request_id == name), None)

    def _list(self, region: Region, filters: Filters) -> list[dict[str, Any]]:
        found = filter(filters.hold, self._newest(region, filters.may_hold))
        return [row(record) for record in islice(found, filters.last)]

    def _newest(self, region: Region, is_wanted: Callable[[Glance], bool]) -> Iterator[Record]:
        """The records for which a glance is enough to want them, newest first; each is decoded when it is asked for."""
        self.unreadable_count = 0
        found: list[tuple[int, bytes]] = []
        for octets in region.journal_read():
            try:
                seen = glance(octets)
            except RecordFault:
                self.unreadable_count += 1
                continue
            if is_wanted(seen):
                found.append((seen.time_ns, octets))
        found.sort(key=itemgetter(0))
        while found:
            try:
                yield decode(found.pop()[1])
            except RecordFault:
                self.unreadable_count += 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def row(record: Record) -> dict[str, Any]:
    """What the record holds, without the decision."""
    return {
        "request_id": record.request_id,
        "time": _timestamp(record.time_ns),
        "duration_ms": record.duration_ns / 1_000_000,
        "listener": record.listener,
        "client_ip": record.client_ip,
        "method": record.method,
        "host": record.host,
        "path": record.path,
        "query_length": record.query_length,
        "status": record.status,
        "reason": record.reason,
        "source": source_of(record),
        "route": record.route,
        "upstream": record.upstream,
        "endpoint": record.endpoint,
        "attempts": record.attempts,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "generation": record.generation,
        "is_cut": record.is_cut,
    }


def with_steps(record: Record) -> dict[str, Any]:
    """The same with the steps of the decision, as they were recorded."""
    steps = [{"reason": step.reason, "place": step.place, "details": step.details} for step in record.steps]
    return row(record) | {"steps": steps}


def _whole(record: Record, table: RouteTable | None) -> dict[str, Any]:
    """And with the explanation as a tree of sentences."""
    return with_steps(record) | {"explanation": explain_record(record, table).to_dict()}


def _timestamp(time_ns: int) -> str:
    """RFC 3339 with milliseconds, as in the access log; a time that no calendar has is 1970."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment, rest_ns = datetime.fromtimestamp(0, UTC), 0
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"
