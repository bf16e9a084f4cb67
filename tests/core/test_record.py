"""A record comes back as it was written, never exceeds its cell, and damage is told from content."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.reasons import Reason
from sentinel.core.record import (
    LAST_STEPS,
    LONG_BYTES_MAX,
    STEPS_MAX,
    TEXT_CAPS,
    TEXTS,
    RecordEncoder,
    RecordFault,
    RecordStep,
    decode,
)
from sentinel.core.span import NOWHERE, Span
from sentinel.core.trace import Step

USUAL: dict[str, Any] = {
    "request_id": "0192f0c4a1b27c3d8e9fa0b1c2d3e4f5", "time_ns": 1_763_900_000_000_000_000, "duration_ns": 1_234_567,
    "generation": 7, "listener": "web", "client_ip": "192.0.2.1", "method": "GET", "host": "api.example.com",
    "path": "/v1/users/42", "query_length": 12, "route": "api", "upstream": "api", "endpoint": "10.0.0.1:9001",
    "attempts": 1, "status": 200, "reason_number": 0, "bytes_in": 0, "bytes_out": 1024,
}  # fmt: skip
STEPS: list[Step] = [
    (Reason.ROUTE_MATCHED, Span("sentinel.kdl", 12, 9), ("api",)),
    (Reason.ENDPOINT_CHOSEN, Span("sentinel.kdl", 40, 9), ("api", "10.0.0.1", 9001)),
    (Reason.NO_ROUTE, NOWHERE, ()),
]


@pytest.mark.parametrize("encoder", [RecordEncoder(), RecordEncoder(STEPS), RecordEncoder(STEPS[:1])])
def test_a_record_comes_back_as_it_was_written(encoder: RecordEncoder) -> None:
    data = encoder.encode(**USUAL, steps=STEPS)
    assert len(data) < 300
    record = decode(data)
    assert {name: getattr(record, name) for name in USUAL} == USUAL
    assert record.steps == (
        RecordStep(Reason.ROUTE_MATCHED.number, "sentinel.kdl:12:9", ("api",)),
        RecordStep(Reason.ENDPOINT_CHOSEN.number, "sentinel.kdl:40:9", ("api", "10.0.0.1", "9001")),
        RecordStep(Reason.NO_ROUTE.number, "", ()),
    )
    assert not record.is_cut
    assert (record.reason, record.steps[0].reason) == ("proxied", "route-matched")


def test_what_is_too_long_is_cut_and_says_so() -> None:
    long = {**USUAL, "path": "/" + "p" * 8000, "host": "h" * 253}
    record = decode(RecordEncoder().encode(**long, steps=STEPS))
    assert record.is_cut
    assert record.path.startswith("/ppp")
    assert record.request_id == USUAL["request_id"]
    assert len(record.path) == TEXT_CAPS[TEXTS.index("path")]
    assert record.steps[0] == RecordStep(Reason.ROUTE_MATCHED.number, "sentinel.kdl:12:9", ("api",))


def test_three_tries_for_three_models_at_budgets_of_four_levels_are_recorded_whole() -> None:
    steps: list[Step] = [(Reason.MODEL_ROUTED, Span("s.kdl", 9, 1), ("claude-sonnet", "eu", "claude-sonnet"))]
    for at, model in enumerate(("claude-sonnet-4-5", "gpt-4.1-2025-04-14", "meta-llama/Llama-3.3-70B-Instruct")):
        for line, name in enumerate(("org-monthly", "team-daily", "key-daily", "user-daily")):
            steps.append((Reason.WITHIN_BUDGET, Span("s.kdl", 20 + line, 1), (name, 2908, 200_000_000, 2908)))
        steps.append((Reason.ENDPOINT_CHOSEN, Span("s.kdl", 40 + at, 9), ("anthropic-eu", "10.20.30.40", 443)))
        steps.append((Reason.ATTEMPTED, Span("s.kdl", 40 + at, 9), ("10.20.30.40", "reused", 9, "503", 99, 99)))
        steps.append((Reason.FELL_BACK, Span("s.kdl", 9, 60), ("503", model, "azure-openai")))
    record = decode(RecordEncoder().encode(**USUAL, steps=steps))
    assert not record.is_cut
    assert [(step.reason_number, step.details) for step in record.steps] == [
        (reason.number, tuple(map(str, details))) for reason, _, details in steps
    ]


def test_details_go_before_steps_do_the_longest_first() -> None:
    wordy: list[Step] = [(Reason.RETRIED, Span("s.kdl", line, 1), ("d" * 40 * line,)) for line in range(1, 17)]
    record = decode(RecordEncoder().encode(**USUAL, steps=wordy))
    assert record.is_cut and [step.place for step in record.steps] == [f"s.kdl:{line}:1" for line in range(1, 17)]
    kept = [bool(step.details) for step in record.steps]
    assert kept == sorted(kept, reverse=True) and kept[0] and not kept[-1]


@pytest.mark.parametrize("files", ["aaa", "aba", "abb", "abc"])
def test_of_many_steps_the_first_and_the_last_are_kept_with_their_places(files: str) -> None:
    """How it ended, and what it cost, is worth more than one try among many."""
    count = 3 * STEPS_MAX
    places = [Span(f"{files[3 * at // count]}.kdl", at + 1, 1) for at in range(count)]
    steps: list[Step] = [(Reason.RETRIED, span, ("d" * 9,)) for span in places[:-1]]
    steps.append((Reason.PRICED, places[-1], ("1 USD",)))
    record = decode(RecordEncoder().encode(**USUAL, steps=steps))
    kept = places[: STEPS_MAX - LAST_STEPS] + places[-LAST_STEPS:]
    assert record.is_cut and [step.place for step in record.steps] == [f"{one.file}:{one.line}:1" for one in kept]
    assert record.steps[-1] == RecordStep(Reason.PRICED.number, f"{files[2]}.kdl:{count}:1", ("1 USD",))


def test_a_file_is_named_once() -> None:
    places = [Span("a.kdl", 1, 2), NOWHERE, Span("a.kdl", 3, 4), Span("b.kdl", 5, 6), Span("a.kdl", 7, 8)]
    places.append(Span("", 9, 1))
    data = RecordEncoder().encode(**USUAL, steps=[(Reason.NO_ROUTE, span, ()) for span in places])
    assert data.count(b"a.kdl") == 2
    assert [step.place for step in decode(data).steps] == [str(span) if span.line else "" for span in places]


def test_keys_are_marked_and_redacted_fields_too() -> None:
    encoder = RecordEncoder(redacted=("client-ip", "path"), mark=lambda octets: zlib.crc32(octets))
    steps: list[Step] = [(Reason.WITHIN_LIMIT, NOWHERE, ("one", 3, 5, b"10.0.0.7 planted"))]
    data = encoder.encode(**USUAL, steps=steps)
    assert not any(text in data for text in (b"planted", b"192.0.2.1", b"/v1/users"))
    record = decode(data)
    assert record.client_ip == f"~{zlib.crc32(b'192.0.2.1'):08x}" and record.host == USUAL["host"]
    assert record.steps[0].details == ("one", "3", "5", f"~{zlib.crc32(b'10.0.0.7 planted'):08x}")
    assert decode(encoder.encode(**{**USUAL, "path": ""}, steps=[])).path == ""


WORDS = st.text(max_size=400) | st.text(st.sampled_from("a\0\x1fé\ud800😀"), max_size=200)
NAMES = [name for name, value in USUAL.items() if isinstance(value, str)]
NUMBERS = [name for name, value in USUAL.items() if isinstance(value, int)]
DETAILS = st.lists(WORDS | st.integers() | st.binary(max_size=40), max_size=3).map(tuple)
ANY_STEPS = st.lists(
    st.tuples(st.sampled_from(Reason), st.builds(Span, WORDS, st.integers(0, 9), st.integers(0, 9)), DETAILS),
    max_size=20,
)


@given(
    st.fixed_dictionaries({name: WORDS for name in NAMES}),
    st.fixed_dictionaries({name: st.integers(-(2**70), 2**70) | st.integers(0, 99) for name in NUMBERS}),
    ANY_STEPS,
)
def test_whatever_is_recorded_fits_and_can_be_read(
    texts: dict[str, str], numbers: dict[str, int], steps: list[Step]
) -> None:
    data = RecordEncoder().encode(**texts, **numbers, steps=steps)
    assert len(data) <= LONG_BYTES_MAX
    record = decode(data)
    if not record.is_cut:
        assert {name: getattr(record, name) for name in numbers} == numbers
        assert len(record.steps) == len(steps)
        for (reason, span, details), step in zip(steps, record.steps, strict=True):
            assert step.reason_number == reason.number and len(step.details) in (len(details), 0)
            assert bool(step.place) == bool(span.line)
            assert not span.line or step.place.endswith(f":{span.line}:{span.column}")


@given(st.binary(max_size=LONG_BYTES_MAX))
def test_damage_is_a_record_fault_or_a_record(data: bytes) -> None:
    for octets in (data, b"\x02" + data):
        try:
            decode(octets)
        except RecordFault:
            continue


@given(st.integers(0, 300), st.integers(0, 255))
def test_a_flipped_octet_does_no_harm(at: int, value: int) -> None:
    data = bytearray(RecordEncoder().encode(**USUAL, steps=STEPS))
    data[at % len(data)] = value
    try:
        decode(bytes(data))
    except RecordFault:
        return


def test_a_torn_record_is_a_fault() -> None:
    data = RecordEncoder().encode(**USUAL, steps=STEPS)
    for length in (0, 10, 40, 50, 60):
        with pytest.raises(RecordFault):
            decode(data[:length])


def test_a_reason_of_another_release_keeps_its_number() -> None:
    assert decode(RecordEncoder().encode(**{**USUAL, "reason_number": 127}, steps=[])).reason == "reason-127"
