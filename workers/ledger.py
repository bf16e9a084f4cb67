"""The ledger: what happened to every request, written exactly once, in three books.

- metrics (shared memory): classes, reasons, durations and octets of the route's series;
- the journal (shared memory): the compact record that `sentinelctl why` reads;
- the access log: one JSON line.

Whatever ends a request, or what could have become one (a malformed head, a timeout
before the head, a connection that was shed), comes through here once and only here,
so that the number of failures that clients see is the sum of our counters.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sentinel.core.reasons import Reason
from workers.accesslog import AGENT_CHARS_MAX, PATH_CHARS_MAX, WORD_CHARS_MAX, AccessLog, Entry

if TYPE_CHECKING:
    from shm.region import Region
    from workers.downstream import Downstream
    from workers.exchange import Exchange

SERIES_NONE = 0
PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")


class Ledger:
    """One worker's books."""

    __slots__ = (
        "_generation", "_journal_write", "_log", "_record", "_second", "_second_text", "_slot", "_wall_offset_ns",
    )  # fmt: skip

    def __init__(self, region: Region, slot: int, generation: int, log: AccessLog) -> None:
        self._record = region.record
        self._journal_write = region.journal_write
        self._slot = slot
        self._generation = generation
        self._log = log
        self._second = 0
        self._second_text = ""
        self._wall_offset_ns = 0
        self.tick(time.monotonic_ns())

    def tick(self, now_ns: int) -> None:
        """Follow the wall clock, which may be set while we run."""
        self._wall_offset_ns = time.time_ns() - now_ns

    def enter(self, exchange: Exchange, reason: Reason) -> None:
        """An exchange has ended."""
        now_ns = time.monotonic_ns()
        duration_ns = now_ns - exchange.started_ns
        route = exchange.route
        self._record(
            self._slot, SERIES_NONE if route is None else route.series, exchange.status, reason.value.number,
            duration_ns, exchange.bytes_in, exchange.bytes_out,
        )  # fmt: skip
        if not self._log.is_on:
            return
        downstream, head, request, upstream = exchange.downstream, exchange.head, exchange.request, exchange.upstream
        agent = ""
        for name, value in head.headers:
            if name == "user-agent":
                agent = value[:AGENT_CHARS_MAX]
                break
        if request is not None:
            client_ip, host, path, query_bytes = request.client_ip, request.host, request.path, len(request.query)
        else:
            path, _, query = head.target.partition("?")
            client_ip, host, query_bytes = downstream.peer, head.host or "", len(query)
        self._log.write(Entry(
            self._timestamp(exchange.started_ns), exchange.request_id, client_ip, head.method[:WORD_CHARS_MAX],
            host[:WORD_CHARS_MAX], path[:PATH_CHARS_MAX], query_bytes, PROTOCOLS[head.minor], exchange.status,
            reason.value.word, "" if route is None else route.name, "" if upstream is None else upstream.name,
            exchange.endpoint_name, duration_ns // 1000 / 1000, exchange.bytes_in, exchange.bytes_out, agent,
            downstream.intake.listener.name, self._generation, self._slot,
        ))  # fmt: skip

    def enter_bare(
        self, downstream: Downstream, reason: Reason, request_id: str, bytes_in: int, bytes_out: int
    ) -> None:
        """Something ended before it was a request."""
        now_ns = time.monotonic_ns()
        duration_ns = max(0, now_ns - downstream.begun_ns)
        self._record(self._slot, SERIES_NONE, reason.status, reason.number, duration_ns, bytes_in, bytes_out)
        if self._log.is_on:
            self._log.write(Entry(
                self._timestamp(now_ns - duration_ns), request_id, downstream.peer, "", "", "", 0, "", reason.status,
                reason.word, "", "", "", duration_ns // 1000 / 1000, bytes_in, bytes_out, "",
                downstream.intake.listener.name, self._generation, self._slot,
            ))  # fmt: skip

    def _timestamp(self, at_ns: int) -> str:
        """RFC 3339 in UTC with milliseconds; the text of the second is made once a second."""
        second, rest_ns = divmod(at_ns + self._wall_offset_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._second_text}{rest_ns // 1_000_000:03d}Z"
