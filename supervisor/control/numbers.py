"""One reading of all numbers: what the region, the supervisor and control have counted.

`/metrics` and `/api/v1/metrics` show the same value in two forms, so they cannot
disagree. A part that cannot be read is None, and the forms leave it out and say
so (`sentinel_region_up 0`, `sentinel_supervisor_up 0`): a scrape never fails because
something else did.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from sentinel.core.gates import keys_file
from sentinel.core.plan import Plan
from sentinel.core.prices import money
from sentinel.core.record import reason_word
from shm.board import PlaceView
from shm.budgets import BudgetsStatistics
from shm.counters import SeriesTotals, Totals
from shm.layout import BOUNDS_NS
from shm.leases import LeasesStatistics
from shm.limits import LimitsStatistics
from shm.tallies import Tally
from supervisor.control.guardrails import is_guardrail
from supervisor.control.retention import Kept

CLASS_WORDS = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""By the first digit of the status; `none`: the client was gone before there was one."""

STATES = ("booting", "ready", "serving", "draining")
"""The states in which a worker process exists; all are shown, also with no worker in them."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate expires. name: the first that it is made out in, for it may have a hundred."""

    listener: str
    name: str
    key_kind: str
    expires_s: int


def expiries(plan: Plan) -> tuple[Expiry, ...]:
    """Of all certificates that listeners serve; each name and kind of key is one series."""
    found = {
        (listener.name, one.names[0] if one.names else "", one.key_kind): one.expires_s
        for listener in plan.listeners if listener.tls is not None
        for one in reversed(listener.tls.certificates)
    }  # fmt: skip
    return tuple(Expiry(*labels, expires_s) for labels, expires_s in found.items())


def key_ages(plan: Plan, now_s: float) -> dict[str, float | None]:
    """Of each filter whose keys are fetched: how long ago that was done last; None: it was never."""
    found: dict[str, float | None] = {}
    for one in plan.jwts:
        if one.keys_from is not None:
            try:
                found[one.name] = max(0.0, now_s - os.stat(keys_file(plan.system.run_dir, one)).st_mtime)
            except OSError:
                found[one.name] = None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Everything countable, at one moment."""

    totals: Totals | None
    status: dict[str, Any] | None
    reloads: dict[str, int]
    surprises: int
    series_used: int = 0
    series_refused: int = 0
    places: tuple[PlaceView, ...] = ()
    limits: LimitsStatistics | None = None
    leases: LeasesStatistics | None = None
    retention: Kept | None = None
    budgets: BudgetsStatistics | None = None
    tallies: tuple[Tally, ...] = ()
    labels_used: int = 0
    expiries: tuple[Expiry, ...] = ()
    key_ages: dict[str, float | None] = field(default_factory=dict)
    ledger_failures: int = 0
    ledger_lag_s: float | None = None
    """How old what the ledger has of budgets may be; None: there is no ledger."""

    @property
    def workers(self) -> list[dict[str, Any]]:
        found = (self.status or {}).get("workers")
        return [worker for worker in found if isinstance(worker, dict)] if isinstance(found, list) else []

    def worker_states(self) -> dict[str, int]:
        counts = dict.fromkeys(STATES, 0)
        for worker in self.workers:
            state = str(worker.get("state", "")).lower()
            if state in counts:
                counts[state] += 1
        return counts

    def gauge(self, name: str) -> int:
        """The sum of a gauge over the workers."""
        return sum(number(worker.get(name)) for worker in self.workers)

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        status = self.status or {}
        totals = self.totals
        return {
            "generation": number(status.get("generation")),
            "mode": status.get("mode"),
            "region_up": totals is not None,
            "supervisor_up": self.status is not None,
            "open_connections": self.gauge("open_connections"),
            "open_requests": self.gauge("open_requests"),
            "workers": self.worker_states(),
            "reloads": self.reloads,
            "decisions": None if self.retention is None else asdict(self.retention),
            "keys": self.key_ages,
            "counters": {counter.name.lower(): count for counter, count in totals.counters.items()} if totals else {},
            "models": [_model(tally) for tally in self.tallies],
            "routes": {one.name: _route(one) for one in totals.series if not is_guardrail(one)} if totals else {},
        }


def number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _route(series: SeriesTotals) -> dict[str, Any]:
    return {
        "requests": series.requests,
        "classes": dict(zip(CLASS_WORDS, series.classes, strict=False)),
        "reasons": {reason_word(key): count for key, count in series.reasons.items()},
        "bytes_in": series.bytes_in,
        "bytes_out": series.bytes_out,
        "duration_ms_mean": series.duration_sum_ns / series.requests / 1e6 if series.requests else 0.0,
        "duration_ms_p50": quantile_ms(series.histogram, 0.5),
        "duration_ms_p99": quantile_ms(series.histogram, 0.99),
    }


def _model(tally: Tally) -> dict[str, Any]:
    """What calls of some labels took."""
    return {
        **tally.labels._asdict(), "requests": tally.calls, "counted": tally.counted,
        "input_tokens": tally.inputs.total, "cached_tokens": tally.cached_tokens, "output_tokens": tally.outputs.total,
        "cost": money(tally.cost) if tally.labels.currency else None,
        "duration_ms_mean": tally.duration_ns.total / tally.calls / 1e6 if tally.calls else 0.0,
    }  # fmt: skip


def quantile_ms(histogram: tuple[int, ...], share: float) -> float:
    """Upper bound of the bucket in which the quantile lies; the last bound stands for all beyond it."""
    wanted = share * sum(histogram)
    seen = 0
    if not wanted:
        return 0.0
    for bound_ns, count in zip(BOUNDS_NS, histogram, strict=False):
        seen += count
        if seen >= wanted:
            return bound_ns / 1e6
    return BOUNDS_NS[-1] / 1e6
