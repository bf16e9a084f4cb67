"""A reading of the fleet in which every family of metrics occurs, for what is compared with a scrape."""

from __future__ import annotations

from dataclasses import replace

from sentinel.core.machines.breaker import BreakerState
from sentinel.core.machines.health import Admin, Finding, Health
from sentinel.core.reasons import Reason
from shm.board import PlaceView, Toll
from shm.budgets import BudgetsStatistics
from shm.counters import Counter, SeriesTotals, Totals
from shm.layout import BUCKETS
from shm.leases import LeasesStatistics
from shm.limits import LimitsStatistics
from shm.tallies import Histogram, Labels, Tally
from supervisor.control.numbers import Expiry, Numbers
from supervisor.control.retention import Kept


def everything() -> Numbers:
    series = SeriesTotals(
        index=2, name="api", classes=(0, 0, 1, 0, 0, 1), reasons={0: 1}, histogram=(1,) * BUCKETS, duration_sum_ns=1,
        bytes_in=1, bytes_out=1,
    )  # fmt: skip
    reasons = {Reason.GUARDRAIL_REDACTED.number: 2}
    kind = replace(series, index=3, name="guardrail pii kind email", reasons=reasons)
    side = replace(series, index=4, name="guardrail pii on request", reasons=reasons)
    worker = {"slot": 0, "state": "serving", "heartbeat_age_ms": 1, "open_connections": 1, "open_requests": 1}
    toll = Toll(
        requests=1, failures=1, latency_sum_us=1, refused=1, connects=1, connect_failures=1, retries=1, opened=1
    )
    place = PlaceView(
        index=0, name="api/10.0.0.1:80", admin=Admin.READY, health=Health.HEALTHY, finding=Finding.GOOD, checked_ms=1,
        changed_ms=1, ejected_until_ms=0, ejections=0, recovered_ms=0, breaker=BreakerState.CLOSED, breaker_until_ms=0,
        trips=0, consecutive=0, in_flight=1, tokens=1, reported_ms=1,
        waiting=1, cache=1, ewma_us=1, budget=0, toll=toll,
    )  # fmt: skip
    tally = Tally(
        Labels("api", "m", "openai-chat", "acme", "USD"), 1, 1, 1, 1, Histogram((1,) * 15, 1), Histogram((1,) * 15, 1),
        Histogram((1,) * 15, 1), Histogram((1,) * 17, 1), Histogram((1,) * 14, 1), Histogram((1,) * 10, 1),
        Histogram((1,) * 10, 1),
    )  # fmt: skip
    return Numbers(
        tallies=(tally,), labels_used=1,
        totals=Totals(series=(series, kind, side), counters=dict.fromkeys(Counter, 1)),
        status={"generation": 1, "mode": "serving", "control": {"restarts": 0}, "workers": [worker]},
        reloads={"serving": 1}, surprises=0, places=(place,),
        leases=LeasesStatistics(leases_max=64, used=1, keys=1, held=2, busy=0),
        limits=LimitsStatistics(limits_max=64, used=1, live=1, void=0, busy=0),
        retention=Kept(kept=1, missed=1, lost=1),
        budgets=BudgetsStatistics(budgets_max=64, used=1, keys=1, open=2, busy=0), ledger_failures=1, ledger_lag_s=0.5,
        expiries=(Expiry("web", "example.com", "ec", 1),), key_ages={"tokens": 1.0},
    )  # fmt: skip
