"""Pages of metrics, as inference servers write them, and as nobody should."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.gauges import WAITING_MAX, Dials, Gauges

DIALS = Dials(
    ("vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
)
VLLM = b"""\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a } b \\" {"} 2
# HELP vllm:gpu_cache_usage_perc GPU KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:gpu_cache_usage_perc gauge
vllm:gpu_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.25
vllm:gpu_cache_usage_perc{engine="1",model_name="meta-llama/Llama-3.1-8B"} 0.4567
vllm:num_requests_waiting_max 99
"""
SGLANG = b"""\
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{model_name="qwen"} 7.0
sglang:token_usage{model_name="qwen"} 0.28 1700000000000
"""


@pytest.mark.parametrize(("page", "found"), [
    (VLLM, Gauges(5, 457)), (VLLM.replace(b"\n", b"\r\n"), Gauges(5, 457)), (SGLANG, Gauges(7, 280)),
    (b"vllm:kv_cache_usage_perc 1", Gauges(0, 1000)), (b"vllm:num_requests_waiting 4\n", Gauges(4, 0)),
    (b"# vllm:num_requests_waiting 4\n", None), (b"x 1\n", None), (b"", None),
    (b"vllm:num_requests_waiting\n4\n", None),
    (b" vllm:num_requests_waiting 4\n", None), (b"vllm:num_requests_waiting NaN\n", None),
    (b"vllm:num_requests_waiting +Inf\nvllm:num_requests_waiting -3\n", Gauges(0, 0)),
    (b"vllm:num_requests_waiting 1e300\nvllm:kv_cache_usage_perc 700", Gauges(WAITING_MAX, 1000)),
    (b"vllm:num_requests_waiting four\n", None), (b"vllm:num_requests_waiting " + b"9" * 5000, None),
])  # fmt: skip
def test_what_a_page_says(page: bytes, found: Gauges | None) -> None:
    assert DIALS.read(page) == found


def test_names_are_names_and_no_patterns() -> None:
    assert Dials(("a:b",), ("c",)).read(b"aXb 1\na:b 2\nc 0.5\n") == Gauges(2, 500)


@given(st.binary(max_size=300))
def test_nothing_makes_it_fall_over(page: bytes) -> None:
    DIALS.read(page)
    found = DIALS.read(b"\nvllm:num_requests_waiting{" + page.replace(b"\n", b"") + b"} 2\n")
    assert found is not None and found.waiting >= 2


def test_the_worst_page_is_read_in_no_time() -> None:
    """A mebibyte of braces, or of beginnings: linear, so milliseconds; a square would be hours."""
    began = time.process_time()
    for piece in (b"waiting{}", b"waiting{\nvllm:num_requests_", b"}", b"waiting \nvllm:num_requests_"):
        DIALS.read((b"vllm:num_requests_" + piece * (1 << 20))[: 1 << 20])
    assert time.process_time() - began < 2
