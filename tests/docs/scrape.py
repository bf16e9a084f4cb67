"""A reading of the fleet in which every family of metrics occurs, for what is compared with a scrape."""

from __future__ import annotations

from shm.counters import Counter, SeriesTotals, Totals
from shm.layout import BUCKETS
from supervisor.control.numbers import Numbers


def everything() -> Numbers:
    series = SeriesTotals(
        index=2, name="api", classes=(0, 0, 1, 0, 0, 1), reasons={0: 1}, histogram=(1,) * BUCKETS, duration_sum_ns=1,
        bytes_in=1, bytes_out=1,
    )  # fmt: skip
    worker = {"slot": 0, "state": "serving", "heartbeat_age_ms": 1, "open_connections": 1, "open_requests": 1}
    return Numbers(
        totals=Totals(series=(series,), counters=dict.fromkeys(Counter, 1)),
        status={"generation": 1, "mode": "serving", "control": {"restarts": 0}, "workers": [worker]},
        reloads={"serving": 1}, surprises=0,
    )  # fmt: skip
