"""The ledger: what happened to every request, written exactly once, in three books.

- metrics (shared memory): classes, reasons, durations and octets of the route's series;
- the journal (shared memory): the compact record that `sentinelctl why` reads;
- the access log: one JSON line.

Whatever ends a request, or what could have become one (a malformed head, a timeout
before the head, a connection that was shed), comes through here once and only here,
so that the number of failures that clients see is the sum of our counters.

Here values are gathered; workers.books writes them, workers.accesslog carries the lines away.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sentinel.core.reasons import Meaning, Reason
from sentinel.core.record import LONG_BYTES_MAX, RECORD_BYTES_MAX
from shm.counters import Counter
from shm.journal import LONG_RECORD_BYTES
from shm.layout import JOURNAL_RECORD_BYTES
from workers.accesslog import FLUSH_BYTES, AccessLog
from workers.bill import line_of
from workers.books import open_books
from workers.passports import line_of_identity

if TYPE_CHECKING:
    from sentinel.core.routes import RouteTable
    from shm.region import Region
    from workers.downstream import Downstream
    from workers.exchange import Exchange

SERIES_NONE = 0
assert RECORD_BYTES_MAX <= JOURNAL_RECORD_BYTES and LONG_BYTES_MAX <= LONG_RECORD_BYTES, "records fit their sheets"
PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")


class Ledger:
    """One worker's books."""

    __slots__ = (
        "_books", "_journal_write", "_journal_write_long", "_log", "_record", "_slot", "_wall_offset_ns", "_write",
    )  # fmt: skip

    def __init__(
        self, region: Region, log: AccessLog, table: RouteTable, *, slot: int, generation: int
    ) -> None:
        journal = table.plan.system.journal
        self._record = region.record
        self._journal_write = region.journal_write if journal.records else _keep_nothing
        self._journal_write_long = region.journal_write_long
        self._slot = slot
        self._log = log
        self._books = open_books(
            generation=generation, worker=slot, is_logged=log.is_on, steps=table.fixed_steps(), spans=table.spans(),
            secret=region.secret(), redacted=journal.redacted, is_recorded=journal.records > 0,
            on_cut=lambda: region.add(slot, Counter.JOURNAL_TRUNCATED),
        )  # fmt: skip
        self._write = self._books.enter
        self._wall_offset_ns = 0
        self.tick(0)

    def tick(self, now_ns: int) -> None:
        """Follow the wall clock, which may be set while we run, and give the log what has gathered."""
        self._wall_offset_ns = time.time_ns() - time.monotonic_ns()
        self._flush()

    def close(self, wait_s: float) -> None:
        """Hand over the last lines, and give the log so long to carry them away."""
        self._flush()
        self._log.close(wait_s)

    def enter(self, exchange: Exchange, reason: Reason) -> None:
        """An exchange has ended."""
        started_ns = exchange.started_ns
        duration_ns = exchange.ended_ns - started_ns
        meaning: Meaning = reason._value_  # `.value` is a descriptor in Python, thrice as slow
        route, upstream, request, head = exchange.route, exchange.upstream, exchange.request, exchange.head
        status, bytes_in, bytes_out = exchange.status, exchange.bytes_in, exchange.bytes_out
        answered_ns = 0
        if exchange.answer_head is not None:
            answered_ns = (exchange.answered_ns or exchange.ended_ns) - exchange.try_started_ns
        if request is not None:
            client_ip, host, path, query = request.client_ip, request.host, request.path, request.query
        else:
            path, query = unread_target(head.target)
            client_ip, host = exchange.downstream.peer, head.host or ""
        self._record(
            self._slot, SERIES_NONE if route is None else route.series, status, meaning.number, duration_ns,
            bytes_in, bytes_out,
        )  # fmt: skip
        more = b"" if exchange.tab is None else line_of(exchange.tab.bill)
        if request is not None and request.identity is not None:
            more += line_of_identity(request.identity)
        guest = exchange.downstream.guest
        if guest is not None:
            more += guest.line
        record = self._write(
            started_ns + self._wall_offset_ns, duration_ns, exchange.request_id, client_ip, head.method, host, path,
            len(query), PROTOCOLS[head.minor], status, meaning.number, meaning.word,
            "" if route is None else route.name, "" if upstream is None else upstream.name, exchange.endpoint_name,
            exchange.attempts, answered_ns, bytes_in, bytes_out, head.first("user-agent"),
            exchange.downstream.intake.listener.name, exchange.trace.steps, more,
        )  # fmt: skip
        if len(record) <= RECORD_BYTES_MAX:
            self._journal_write(self._slot, record)
        else:
            self._journal_write_long(self._slot, record)
        if self._books.lines_bytes >= FLUSH_BYTES:
            self._flush()

    def enter_bare(
        self, downstream: Downstream, reason: Reason, request_id: str, bytes_in: int, bytes_out: int
    ) -> None:
        """Something ended before it was a request."""
        now_ns = time.monotonic_ns()
        duration_ns = max(0, now_ns - downstream.begun_ns)
        began_ns = now_ns - duration_ns + self._wall_offset_ns
        self._record(self._slot, SERIES_NONE, reason.status, reason.number, duration_ns, bytes_in, bytes_out)
        self._journal_write(self._slot, self._write(
            began_ns, duration_ns, request_id, downstream.peer, "", "", "", 0, "", reason.status, reason.number,
            reason.word, "", "", "", 0, 0, bytes_in, bytes_out, "", downstream.intake.listener.name, [],
        ))  # fmt: skip

    def _flush(self) -> None:
        if self._books.lines_bytes:
            count = self._books.lines_count
            self._log.put(self._books.take_lines(), count)


def unread_target(target: str) -> tuple[str, str]:
    """What may be written down of a target that was refused before it was read: its path, and its query to be measured.

    Nobody could say for sure where its parts begin, and three of them carry secrets: the query, the
    fragment (tokens of OAuth come in it), and the user and password before an `@`.
    """
    whole = target.partition("#")[0]
    path, _, query = whole.partition("?")
    user, at, rest = path.rpartition("@")
    if not at or path.startswith("/"):
        return path, query
    scheme, slashes, _ = user.partition("://")
    return f"{scheme}{slashes}...@{rest}" if slashes else f"...@{rest}", query


def _keep_nothing(slot: int, record: bytes, /) -> None:
    """The operator wants no journal."""
