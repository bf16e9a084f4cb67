"""Calls of language models in the forms that Prometheus reads, by the names of OpenTelemetry's semantic conventions.

    gen_ai.client.token.usage            gen_ai_client_token_usage
    gen_ai.server.time_to_first_token    gen_ai_server_time_to_first_token_seconds        and so on

Intuition: a dictionary at a border. Dashboards that were made for any gateway shall find here what they know, so these
families have the conventions' names and buckets and not our prefix; what the conventions do not know has it.

The conventions' `gen_ai.request.model` is the model that the upstream was asked for. `tenant` and `route` are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from shm.tallies import (
    DURATION_BOUNDS_MS,
    EACH_BOUNDS_MS,
    ERROR_BOUNDS,
    FIRST_BOUNDS_MS,
    OTHERS,
    TOKEN_BOUNDS,
    Histogram,
    Tally,
)  # fmt: skip

WHOSE: Final = ("route", "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "tenant")
DIALECTS: Final[dict[str, tuple[str, str]]] = {
    "openai-chat": ("chat", "openai"), "openai-responses": ("chat", "openai"),
    "openai-completions": ("text_completion", "openai"), "openai-embeddings": ("embeddings", "openai"),
    "anthropic-messages": ("chat", "anthropic"), "gemini-generate": ("generate_content", "gcp.gemini"),
    "ollama-chat": ("chat", "ollama"), "ollama-generate": ("text_completion", "ollama"),
    "ollama-embed": ("embeddings", "ollama"), OTHERS.dialect: (OTHERS.dialect, OTHERS.dialect),
}  # fmt: skip
"""The conventions' operation and provider. A compatible server speaks OpenAI's language, and is told as that."""
NS_PER_S: Final = 1_000_000_000


def calls(tallies: Sequence[Tally]) -> Iterator[Metric]:
    """All families, also those without a sample."""
    usage = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens of calls of language models.", labels=[*WHOSE, "gen_ai_token_type"]
    )
    duration = HistogramMetricFamily(
        "gen_ai_server_request_duration_seconds", "From the request to the end of the answer.", labels=WHOSE
    )
    first = HistogramMetricFamily(
        "gen_ai_server_time_to_first_token_seconds", "From the request to a stream's first token.", labels=WHOSE
    )
    each = HistogramMetricFamily(
        "gen_ai_server_time_per_output_token_seconds", "Of streams: for each token after the first.", labels=WHOSE
    )
    cached = CounterMetricFamily("sentinel_inference_cached_tokens", "Of the input: from a cache.", labels=WHOSE)
    counted = CounterMetricFamily("sentinel_inference_calls_counted", "Calls with tokens counted here.", labels=WHOSE)
    cost = CounterMetricFamily("sentinel_inference_cost", "What calls cost.", labels=[*WHOSE, "currency"])
    error = HistogramMetricFamily(
        "sentinel_inference_estimate_error_ratio", "By how much of what a provider counted its input was misjudged.",
        labels=[*WHOSE, "direction"],
    )  # fmt: skip
    for one in tallies:
        whose = labels_of(one)
        for kind, histogram in (("input", one.inputs), ("output", one.outputs)):
            _add(usage, [*whose, kind], histogram, TOKEN_BOUNDS, 1, 1)
        _add(duration, whose, one.duration_ns, DURATION_BOUNDS_MS, 1000, NS_PER_S)
        _add(first, whose, one.first_ns, FIRST_BOUNDS_MS, 1000, NS_PER_S)
        _add(each, whose, one.each_ns, EACH_BOUNDS_MS, 1000, NS_PER_S)
        for direction, histogram in (("over", one.over), ("under", one.under)):
            _add(error, [*whose, direction], histogram, ERROR_BOUNDS, 1000, 1000)
        cached.add_metric(whose, one.cached_tokens)
        counted.add_metric(whose, one.counted)
        if one.labels.currency:
            cost.add_metric([*whose, one.labels.currency], one.cost / 1e6)
    return iter((usage, duration, first, each, cached, counted, cost, error))


def labels_of(tally: Tally) -> list[str]:
    labels = tally.labels
    operation, provider = DIALECTS.get(labels.dialect, (labels.dialect, labels.dialect))
    return [labels.route, operation, provider, labels.model, labels.tenant]


def _add(
    family: HistogramMetricFamily, labels: list[str], found: Histogram, bounds: Sequence[int], per_unit: int,
    per_total: int,
) -> None:  # fmt: skip
    names = [*(str(bound / per_unit) for bound in bounds), "+Inf"]
    buckets = list(zip(names, accumulate(found.counts), strict=True))
    family.add_metric(labels, buckets=buckets, sum_value=found.total / per_total)
