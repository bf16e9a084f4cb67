"""The numbers in the forms that Prometheus reads: OpenMetrics, or its older text.

The fleet counts in shared memory, so there is nothing to register or to reset
here: each scrape makes its families from one reading and forgets them.

Cardinality is bounded by construction: labels are route names (the region has
`series_max` of them, the rest count as "(other)"), reasons (a closed vocabulary),
classes, states, outcomes and slots. Models, and tenants where the operator has them told apart, are names that clients
send; they are bounded in shared memory (shm.tallies), and the rest counts as "(other)".
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sentinel.core.machines.health import Admin, Health
from sentinel.core.record import reason_word
from shm.board import PlaceView
from shm.counters import Counter, SeriesTotals
from shm.layout import BOUNDS_NS
from supervisor.control.calls import calls
from supervisor.control.guardrails import guardrails, is_guardrail
from supervisor.control.numbers import CLASS_WORDS, Numbers, number
from supervisor.control.release import release

COUNTERS: Final[dict[Counter, tuple[str, str]]] = {
    Counter.ACCEPTED: ("connections_accepted", "Client connections accepted."),
    Counter.CLOSED: ("connections_closed", "Client connections closed."),
    Counter.UPSTREAM_CONNECTS: ("upstream_connects", "Connections made to endpoints."),
    Counter.UPSTREAM_REUSES: ("upstream_reuses", "Requests sent over a pooled connection."),
    Counter.UPSTREAM_CONNECT_FAILURES: ("upstream_connect_failures", "Connections to endpoints that failed."),
    Counter.LOG_DROPPED: ("log_dropped", "Access log lines dropped because the log could not be written in time."),
    Counter.JOURNAL_TRUNCATED: ("journal_truncated", "Decision records that were cut to the size of a record."),
    Counter.SURPRISES: ("surprises", "Faults of the gateway that were survived."),
    Counter.INFERENCE_REQUESTS: ("inference_requests", "Answers of language models that were metered."),
    Counter.INFERENCE_INPUT_TOKENS: ("inference_input_tokens", "Tokens of input that they took."),
    Counter.INFERENCE_OUTPUT_TOKENS: ("inference_output_tokens", "Tokens of output that they made."),
    Counter.INFERENCE_COUNTED: ("inference_counted", "Of them, those whose tokens were counted here."),
    Counter.OVERLOADS: ("overloads", "Connections or requests shed because a limit was reached."),
    Counter.DRAIN_CLOSED: ("drain_closed", "Connections closed at the drain deadline."),
    Counter.ACCEPT_FAILURES: ("accept_failures", "Connections that the kernel could not hand over."),
    Counter.LIMITS_CHARGED: ("limits_charged", "Charges of rate limits that were admitted."),
    Counter.LIMITS_REFUSED: ("limits_refused", "Requests that a rate limit refused."),
    Counter.LIMITS_FULL: ("limits_full", "Charges that found no room in the table of limits."),
    Counter.LIMITS_RECLAIMED: ("limits_reclaimed", "Entries of limits and leases that were given to another key."),
    Counter.LIMITS_STOLEN: ("limits_stolen", "Insertions of keys taken over from a silent worker."),
    Counter.LEASES_REFUSED: ("leases_refused", "Requests and connections for which a ceiling had no room."),
    Counter.LEASES_FULL: ("leases_full", "Requests and connections whose key found no room in the table of leases."),
    Counter.BUDGETS_RESERVED: ("budgets_reserved", "Reservations of budgets that were admitted."),
    Counter.BUDGETS_REFUSED: ("budgets_refused", "Requests for which a budget had not enough left."),
    Counter.BUDGETS_FULL: ("budgets_full", "Reservations that found no room in the table of budgets."),
    Counter.BUDGETS_OVERDRAWN: ("budgets_overdrawn", "What was spent beyond what had been reserved."),
    Counter.BUDGETS_WARNED: ("budgets_warned", "Reservations of budgets that were admitted at or above a `warn-at`."),
    Counter.BUDGETS_LATE: ("budgets_late", "Settlements that came when their window was another's."),
    Counter.JWKS_FETCHES: ("jwks_fetches", "Sets of keys of those who sign tokens that were fetched."),
    Counter.JWKS_FAILURES: ("jwks_failures", "Times that such a set could not be fetched, and the last one stayed."),
    Counter.HEDGES: ("hedges", "Second tries that began beside a slow one."),
    Counter.HEDGES_WON: ("hedges_won", "Second tries that answered first."),
}
"""Names and texts of the workers' counters, without prefix and `_total`."""
SHADOWS: Final[dict[Counter, str]] = {
    Counter.SHADOWS_ANSWERED: "answered", Counter.SHADOWS_FAILED: "failed", Counter.SHADOWS_REFUSED: "refused",
    Counter.SHADOWS_ABANDONED: "abandoned", Counter.SHADOWS_DROPPED: "dropped",
}  # fmt: skip
"""Counters that are one family, by what became of a copy."""

CLIENT_HANDSHAKES: Final[dict[Counter, tuple[str, str, str]]] = {
    Counter.TLS_12: ("completed", "1.2", "no"), Counter.TLS_12_RESUMED: ("completed", "1.2", "yes"),
    Counter.TLS_13: ("completed", "1.3", "no"), Counter.TLS_13_RESUMED: ("completed", "1.3", "yes"),
    Counter.TLS_FAILED: ("failed", "", ""), Counter.TLS_TIMEOUT: ("timeout", "", ""),
    Counter.TLS_UNKNOWN_NAME: ("unknown-name", "", ""), Counter.TLS_CLIENT_CERTIFICATE: ("client-certificate", "", ""),
}  # fmt: skip
"""The same of handshakes with clients: outcome, version, and whether a session was resumed."""

HANDSHAKES: Final[dict[Counter, tuple[str, str]]] = {
    Counter.UPSTREAM_TLS_12: ("completed", "1.2"), Counter.UPSTREAM_TLS_13: ("completed", "1.3"),
    Counter.UPSTREAM_TLS_UNTRUSTED: ("tls-untrusted", ""), Counter.UPSTREAM_TLS_WRONG_NAME: ("tls-wrong-name", ""),
    Counter.UPSTREAM_TLS_EXPIRED: ("tls-expired", ""), Counter.UPSTREAM_TLS_WRONG_PIN: ("tls-wrong-pin", ""),
    Counter.UPSTREAM_TLS_NOT_SPOKEN: ("tls-not-spoken", ""), Counter.UPSTREAM_TLS_REFUSED: ("tls-refused", ""),
    Counter.UPSTREAM_TLS_TIMEOUT: ("tls-timeout", ""),
}  # fmt: skip
"""The same of handshakes with endpoints, checks' among them: outcome, and version where there was one."""

TOLLS: Final = {
    "requests": "Attempts at an endpoint that ended with an outcome.",
    "failures": "Those that failed: no answer, or a 5xx.",
    "refused": "Attempts that its breaker or a limit did not let begin.",
    "connect_failures": "Connections that could not be made.",
    "retries": "Attempts that were repeated, by the endpoint that failed.",
    "opened": "How often its circuit breaker opened.",
}
BOUNDS_S: Final = (*(str(bound / 1e9) for bound in BOUNDS_NS), "+Inf")


def exposition(numbers: Numbers, accept: str) -> tuple[bytes, str]:
    """Encode for what the scraper accepts; returns the octets and their content type."""
    try:
        encode, media = choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is no number
        encode, media = choose_encoder("")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Reading(numbers))
    return encode(registry), media


class Reading(Collector):
    """One reading as metric families."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is registered beside this, so nothing can collide

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("sentinel_build", "The release.", value={"version": release()})
        yield from self._supervisor()
        yield from self._control()
        yield from self._region()

    def _supervisor(self) -> Iterator[Metric]:
        numbers = self._numbers
        yield _gauge("supervisor_up", "Whether the supervisor answers control.", int(numbers.status is not None))
        if numbers.status is None:
            return
        yield _gauge("generation", "Number of the generation that serves.", number(numbers.status.get("generation")))
        is_serving = numbers.status.get("mode") == "serving"
        yield _gauge("serving", "Whether the fleet takes new work (0: draining or drained).", int(is_serving))
        control = numbers.status.get("control")
        if isinstance(control, dict):
            restarts = number(control.get("restarts"))
            yield _counter("control_restarts", "Times that the control process was started again.", restarts)
        yield _gauge("open_connections", "Client connections open.", numbers.gauge("open_connections"))
        yield _gauge("open_requests", "Exchanges under way.", numbers.gauge("open_requests"))
        states = GaugeMetricFamily("sentinel_workers", "Worker processes by state.", labels=["state"])
        for state, count in numbers.worker_states().items():
            states.add_metric([state], count)
        yield states
        ages = GaugeMetricFamily(
            "sentinel_worker_heartbeat_age_seconds", "Time since a worker's last sign of life.", labels=["slot"]
        )
        for worker in numbers.workers:
            ages.add_metric([str(number(worker.get("slot")))], number(worker.get("heartbeat_age_ms")) / 1000)
        yield ages

    def _control(self) -> Iterator[Metric]:
        numbers = self._numbers
        reloads = CounterMetricFamily(
            "sentinel_reloads", "Reloads by outcome, since control started.", labels=["outcome"]
        )
        for outcome, count in sorted(numbers.reloads.items()):
            reloads.add_metric([outcome], count)
        yield reloads
        if numbers.retention is not None:
            kept = numbers.retention
            yield _counter("decisions_kept", "Decision records written to the journal's file.", kept.kept)
            yield _counter("decisions_missed", "Decision records overwritten before they could be kept.", kept.missed)
            yield _counter("decisions_lost", "Decision records that the disk did not take.", kept.lost)
        yield _counter("control_surprises", "Messages of the supervisor not understood.", numbers.surprises)
        if numbers.ledger_lag_s is not None:
            failures = "Times that what was spent of budgets could not be written into the ledger."
            yield _counter("ledger_failures", failures, numbers.ledger_failures)
            yield _gauge("ledger_lag_seconds", "How old what the ledger has of budgets may be.", numbers.ledger_lag_s)
        if numbers.key_ages:
            ages = GaugeMetricFamily(
                "sentinel_jwks_age_seconds", "How long ago the keys that verify tokens were fetched.", labels=["filter"]
            )
            for name, age_s in numbers.key_ages.items():
                if age_s is not None:
                    ages.add_metric([name], age_s)
            yield ages
        if numbers.expiries:
            expiries = GaugeMetricFamily(
                "sentinel_certificate_expiry_timestamp_seconds", "When a certificate that is served, or one of its "
                "chain, expires.", labels=["listener", "name", "key"],
            )  # fmt: skip
            for one in numbers.expiries:
                expiries.add_metric([one.listener, one.name, one.key_kind], one.expires_s)
            yield expiries

    def _region(self) -> Iterator[Metric]:
        numbers, totals = self._numbers, self._numbers.totals
        yield _gauge("region_up", "Whether shared memory can be read.", int(totals is not None))
        if totals is None:
            return
        yield _gauge("series_used", "Names in the table of series.", numbers.series_used)
        yield _counter("series_refused", "Routes counted as (other): the table is full.", numbers.series_refused)
        shadows = CounterMetricFamily(
            "sentinel_shadow_requests", "Copies of requests by what became of them.", labels=["outcome"]
        )
        for counter, word in SHADOWS.items():
            shadows.add_metric([word], totals.counters.get(counter, 0))
        yield shadows
        clients = CounterMetricFamily(
            "sentinel_tls_handshakes", "TLS handshakes with clients.", labels=["outcome", "version", "resumed"]
        )
        for counter, said in CLIENT_HANDSHAKES.items():
            clients.add_metric(said, totals.counters.get(counter, 0))
        yield clients
        handshakes = CounterMetricFamily(
            "sentinel_upstream_tls_handshakes", "TLS handshakes with endpoints, those of checks among them.",
            labels=["outcome", "version"],
        )  # fmt: skip
        for counter, labels in HANDSHAKES.items():
            handshakes.add_metric(labels, totals.counters.get(counter, 0))
        yield handshakes
        for counter, count in totals.counters.items():
            if counter in SHADOWS or counter in HANDSHAKES or counter in CLIENT_HANDSHAKES:
                continue
            name, text = COUNTERS.get(counter, (counter.name.lower(), "A counter of the workers."))
            yield _counter(name, text, count)
        yield from _requests(tuple(one for one in totals.series if not is_guardrail(one)))
        yield from guardrails(totals.series)
        yield from _endpoints(numbers.places)
        yield _gauge("inference_labels_used", "Labels of calls of language models, of 255.", numbers.labels_used)
        yield from calls(numbers.tallies)
        if numbers.limits is not None:
            yield _gauge("limit_keys_size", "Places in the table of rate limit keys.", numbers.limits.limits_max)
            yield _gauge("limit_keys_live", "Keys whose bucket is not full now.", numbers.limits.live)
        if numbers.leases is not None:
            leases = numbers.leases
            yield _gauge("lease_keys_size", "Places in the table of keys that hold something.", leases.leases_max)
            yield _gauge("lease_keys_live", "Keys that hold something now.", leases.keys)
            yield _gauge("leases_held", "What they hold together: requests under way, connections.", leases.held)
        if numbers.budgets is not None:
            budgets = numbers.budgets
            yield _gauge("budget_keys_size", "Places in the table of windows of budgets.", budgets.budgets_max)
            yield _gauge("budget_keys_live", "Windows of which something is reserved now.", budgets.keys)
            yield _gauge("budgets_open", "What is reserved of them together.", budgets.open)


def _requests(series: tuple[SeriesTotals, ...]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "sentinel_requests", "Requests by route and class of status.", labels=["route", "class"]
    )
    reasons = CounterMetricFamily(
        "sentinel_request_reasons", "Requests by route and the reason for their end.", labels=["route", "reason"]
    )
    durations = HistogramMetricFamily(
        "sentinel_request_duration_seconds", "From the end of the request's head to the answer's last octet.",
        labels=["route"],
    )
    bytes_in = CounterMetricFamily("sentinel_request_bytes", "Octets received from clients.", labels=["route"])
    bytes_out = CounterMetricFamily("sentinel_response_bytes", "Octets sent to clients.", labels=["route"])
    for one in series:
        for word, count in zip(CLASS_WORDS, one.classes, strict=False):
            requests.add_metric([one.name, word], count)
        for reason_number, count in one.reasons.items():
            reasons.add_metric([one.name, reason_word(reason_number)], count)
        buckets = list(zip(BOUNDS_S, accumulate(one.histogram), strict=True))
        durations.add_metric([one.name], buckets=buckets, sum_value=one.duration_sum_ns / 1e9)
        bytes_in.add_metric([one.name], one.bytes_in)
        bytes_out.add_metric([one.name], one.bytes_out)
    return iter((requests, reasons, durations, bytes_in, bytes_out))


def _endpoints(places: tuple[PlaceView, ...]) -> Iterator[Metric]:
    labels = ["upstream", "endpoint"]
    now_ms = time.monotonic_ns() // 1_000_000
    counters = {
        name: CounterMetricFamily(f"sentinel_endpoint_{name}", text, labels=labels) for name, text in TOLLS.items()
    }
    latency = CounterMetricFamily(
        "sentinel_endpoint_latency_seconds", "Time to the first octet of answers, all of them together.", labels=labels
    )
    in_flight = GaugeMetricFamily("sentinel_endpoint_in_flight", "Requests in flight in the fleet.", labels=labels)
    tokens = GaugeMetricFamily(
        "sentinel_endpoint_tokens", "Tokens of language models under way, where endpoints are balanced by them.",
        labels=labels,
    )
    waiting = GaugeMetricFamily(
        "sentinel_endpoint_waiting", "Requests that wait at an inference server, as it reported.", labels=labels
    )
    cache = GaugeMetricFamily(
        "sentinel_endpoint_cache_used_ratio", "The part of its cache that is in use, as it reported.", labels=labels
    )
    reported = GaugeMetricFamily(
        "sentinel_endpoint_load_report_age_seconds", "How old these two are.", labels=labels
    )
    healthy = GaugeMetricFamily(
        "sentinel_endpoint_healthy", "0: its health checks found it unhealthy, or it was taken out.", labels=labels
    )
    breaker = GaugeMetricFamily(
        "sentinel_breaker_state", "0 closed, 1 open, 2 half-open; `endpoint` is empty for a whole upstream.",
        labels=labels,
    )
    for view in places:
        upstream, _, endpoint = view.name.partition("/")
        breaker.add_metric([upstream, endpoint], int(view.breaker))
        if not endpoint:
            continue
        for name, family in counters.items():
            family.add_metric([upstream, endpoint], getattr(view.toll, name))
        latency.add_metric([upstream, endpoint], view.toll.latency_sum_us / 1e6)
        in_flight.add_metric([upstream, endpoint], view.in_flight)
        tokens.add_metric([upstream, endpoint], view.tokens)
        if view.reported_ms:
            waiting.add_metric([upstream, endpoint], view.waiting)
            cache.add_metric([upstream, endpoint], view.cache / 1000)
            reported.add_metric([upstream, endpoint], max(0, now_ms - view.reported_ms) / 1000)
        is_well = view.health is not Health.UNHEALTHY and view.admin is Admin.READY
        healthy.add_metric([upstream, endpoint], int(is_well))
    return iter((*counters.values(), latency, in_flight, tokens, waiting, cache, reported, healthy, breaker))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sentinel_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"sentinel_{name}", text, value=value)
