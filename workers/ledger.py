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

from sentinel.core.reasons import Meaning, Reason
from sentinel.core.record import RecordEncoder
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
        "_encode", "_generation", "_journal_write", "_log", "_ms", "_ms_text", "_record", "_second", "_second_text",
        "_slot", "_wall_offset_ns",
    )  # fmt: skip

    def __init__(
        self, region: Region, log: AccessLog, encoder: RecordEncoder, *, slot: int, generation: int
    ) -> None:
        self._encode = encoder.encode
        self._record = region.record
        self._journal_write = region.journal_write
        self._slot = slot
        self._generation = generation
        self._log = log
        self._ms = 0
        self._ms_text = ""
        self._second = 0
        self._second_text = ""
        self._wall_offset_ns = 0
        self.tick(0)

    def tick(self, now_ns: int) -> None:
        """Follow the wall clock, which may be set while we run."""
        self._wall_offset_ns = time.time_ns() - time.monotonic_ns()

    def enter(self, exchange: Exchange, reason: Reason) -> None:
        """An exchange has ended."""
        started_ns = exchange.started_ns
        duration_ns = time.monotonic_ns() - started_ns
        meaning: Meaning = reason._value_  # `.value` is a descriptor in Python, thrice as slow
        route, upstream, request, head = exchange.route, exchange.upstream, exchange.request, exchange.head
        status, number, word, method = exchange.status, meaning.number, meaning.word, head.method
        bytes_in, bytes_out = exchange.bytes_in, exchange.bytes_out
        request_id, endpoint = exchange.request_id, exchange.endpoint_name
        listener = exchange.downstream.intake.listener.name
        series = SERIES_NONE if route is None else route.series
        self._record(self._slot, series, status, number, duration_ns, bytes_in, bytes_out)
        if request is not None:
            client_ip, host, path, query_bytes = request.client_ip, request.host, request.path, len(request.query)
        else:
            path, _, query = head.target.partition("?")
            client_ip, host, query_bytes = exchange.downstream.peer, head.host or "", len(query)
        route_name = "" if route is None else route.name
        upstream_name = "" if upstream is None else upstream.name
        self._journal_write(self._slot, self._encode(
            request_id=request_id, time_ns=started_ns + self._wall_offset_ns, duration_ns=duration_ns,
            generation=self._generation, listener=listener, client_ip=client_ip, method=method, host=host,
            path=path, query_length=query_bytes, route=route_name, upstream=upstream_name, endpoint=endpoint,
            attempts=exchange.attempts, status=status, reason_number=number, bytes_in=bytes_in, bytes_out=bytes_out,
            steps=exchange.trace.steps,
        ))  # fmt: skip
        if not self._log.is_on:
            return
        agent = ""
        for name, value in head.headers:
            if name == "user-agent":
                agent = value[:AGENT_CHARS_MAX]
                break
        self._log.write(Entry(
            self._timestamp(started_ns), request_id, client_ip, method, host[:WORD_CHARS_MAX], path[:PATH_CHARS_MAX],
            query_bytes, PROTOCOLS[head.minor], status, word, route_name, upstream_name, endpoint,
            duration_ns // 1000 / 1000, bytes_in, bytes_out, agent, listener, self._generation, self._slot,
        ))  # fmt: skip

    def enter_bare(
        self, downstream: Downstream, reason: Reason, request_id: str, bytes_in: int, bytes_out: int
    ) -> None:
        """Something ended before it was a request."""
        now_ns = time.monotonic_ns()
        duration_ns = max(0, now_ns - downstream.begun_ns)
        listener, started_ns = downstream.intake.listener.name, now_ns - duration_ns
        self._record(self._slot, SERIES_NONE, reason.status, reason.number, duration_ns, bytes_in, bytes_out)
        self._journal_write(self._slot, self._encode(
            request_id=request_id, time_ns=started_ns + self._wall_offset_ns, duration_ns=duration_ns,
            generation=self._generation, listener=listener, client_ip=downstream.peer, method="", host="", path="",
            query_length=0, route="", upstream="", endpoint="", attempts=0, status=reason.status,
            reason_number=reason.number, bytes_in=bytes_in, bytes_out=bytes_out, steps=(),
        ))  # fmt: skip
        if self._log.is_on:
            self._log.write(Entry(
                self._timestamp(started_ns), request_id, downstream.peer, "", "", "", 0, "", reason.status,
                reason.word, "", "", "", duration_ns // 1000 / 1000, bytes_in, bytes_out, "",
                listener, self._generation, self._slot,
            ))  # fmt: skip

    def _timestamp(self, at_ns: int) -> str:
        """RFC 3339 in UTC with milliseconds; a text is made once a millisecond, its date once a second."""
        now_ms = (at_ns + self._wall_offset_ns) // 1_000_000
        if now_ms != self._ms:
            self._ms = now_ms
            second, ms = divmod(now_ms, 1000)
            if second != self._second:
                self._second = second
                self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._ms_text = f"{self._second_text}{ms:03d}Z"
        return self._ms_text
