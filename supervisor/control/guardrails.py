"""What guardrails have found, as metrics: by guardrail, kind and what was done; and how often each looked.

They are counted in series of their own (core.plan.Guardrail.metric_names), of which only the reasons are used.
Labels are words of the configuration, so there are as many as it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from sentinel.core.record import reason_word
from shm.counters import SeriesTotals

BEGIN: Final = "guardrail "
ACTIONS: Final = {
    "guardrail-redacted": "redact", "guardrail-blocked": "block", "answer-blocked": "block",
    "guardrail-observed": "observe",
}  # fmt: skip
OUTCOMES: Final = {
    "guardrail-passed": "passed", "guardrail-skipped": "skipped", "guardrail-redacted": "redacted",
    "guardrail-observed": "observed", "guardrail-blocked": "blocked", "answer-blocked": "blocked",
    "guardrail-unreadable": "unreadable", "answer-unreadable": "unreadable",
}  # fmt: skip


def is_guardrail(series: SeriesTotals) -> bool:
    """A route's name has no blank."""
    return series.name.startswith(BEGIN)


def guardrails(series: tuple[SeriesTotals, ...]) -> Iterator[Metric]:
    finds = CounterMetricFamily(
        "sentinel_guardrail_finds", "What guardrails have found, by kind and by what was done.",
        labels=["guardrail", "kind", "action"],
    )  # fmt: skip
    looks = CounterMetricFamily(
        "sentinel_guardrail_inspections", "Requests and answers that guardrails looked through, and what came of it.",
        labels=["guardrail", "on", "outcome"],
    )  # fmt: skip
    for one in series:
        parts = one.name.split(" ")
        if not is_guardrail(one) or len(parts) != 4:
            continue
        _, name, what, word = parts
        for number, count in one.reasons.items():
            reason = reason_word(number)
            if what == "kind" and reason in ACTIONS:
                finds.add_metric([name, word, ACTIONS[reason]], count)
            elif what == "on" and reason in OUTCOMES:
                looks.add_metric([name, word, OUTCOMES[reason]], count)
    yield finds
    yield looks
