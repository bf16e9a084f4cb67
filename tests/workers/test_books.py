"""The native books and their twin write the same octets, whatever they are told; and cut records are counted."""

from __future__ import annotations

import gc
import json
import re
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sentinel.core.reasons import Reason
from sentinel.core.record import LONG_BYTES_MAX, decode, mark_text
from sentinel.core.span import NOWHERE, Span
from sentinel.core.trace import Step
from workers.accesslog import LINE_BYTES_MAX
from workers.books import Books, marker, open_books

NEEDS_NATIVE = pytest.mark.skipif(
    find_spec("workers._native.books") is None, reason="build it: python setup.py build_ext --inplace"
)
STEPS: list[Step] = [
    (Reason.ROUTE_MATCHED, Span("sentinel.kdl", 12, 9), ("api",)),
    (Reason.ENDPOINT_CHOSEN, Span("sentinel.kdl", 40, 9), ("api", "10.0.0.1", 9001)),
    (Reason.NO_ROUTE, NOWHERE, ()),
    (Reason.NO_ENDPOINT, Span("ümlaut\ud800.kdl", 1, 1), ("\0", "é")),
]
STRANGE: Step = (Reason.CONDITION_FAILED, Span("a.kdl", 1, 2), ("made on the spot",))
SPANS = [Span("sentinel.kdl", 50, 1), Span("other.kdl", 3, 2), NOWHERE]

USUAL: list[Any] = [
    1_763_900_000_123_456_789, 1_234_567, "0192f0c4a1b27c3d8e9fa0b1c2d3e4f5", "192.0.2.1", "GET", "api.example.com",
    "/v1/users/42", 12, "HTTP/1.1", 200, 0, "proxied", "api", "api", "10.0.0.1:9001", 1, 987_654, 210, 1290, "curl/8",
    "web", STEPS[:2],
]  # fmt: skip
PATH, HOST, AGENT, QUERY, DURATION, ANSWERED = 6, 5, 19, 7, 1, 16


def pair(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> tuple[Books, Books, list[int]]:
    """The native books, the twin, and how often a record was cut."""
    cuts: list[int] = []
    arguments: dict[str, Any] = {
        "generation": 7, "worker": 3, "is_logged": True, "steps": STEPS, "on_cut": lambda: cuts.append(1),
        "spans": SPANS, "secret": SECRET,
    } | parts  # fmt: skip
    monkeypatch.delenv("SENTINEL_PURE", raising=False)
    native = open_books(**arguments)
    monkeypatch.setenv("SENTINEL_PURE", "1")
    twin = open_books(**arguments)
    assert (type(native).__module__, type(twin).__module__) == ("workers._native.books", "workers.books_twin")
    return native, twin, cuts


TEXTS = (
    st.text(max_size=60)
    | st.text(st.characters(max_codepoint=255), max_size=1200)
    | st.text(st.sampled_from('a"\\\0\x1f\x7f\n\r\t\b\f\xe9\ud800😀'), max_size=300)
    | st.integers(120, 260).map("é".__mul__)
    | st.integers(1000, 1100).map("x".__mul__)
)
SECRET = (0x0123456789ABCDEF, 0xFEDCBA9876543210)
DETAILS = st.lists(
    st.sampled_from(["api", "10.0.0.1:9001", "a\x1fb", "a\0b", "\x1e", "é", True, -1, 1 << 80])
    | st.text(st.characters(max_codepoint=127), max_size=30) | st.integers(0, 1 << 64) | st.binary(max_size=40),
    max_size=6,
)  # fmt: skip
SPOKEN = st.tuples(st.sampled_from(Reason), st.sampled_from(SPANS), DETAILS.map(tuple))
NUMBERS = st.integers(0, 70_000) | st.integers(0, 2**62)
ENTRIES = st.tuples(
    st.integers(0, 4_000_000_000_000_000_000), st.integers(0, 10**15), TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, NUMBERS,
    st.sampled_from(["HTTP/1.0", "HTTP/1.1", ""]), st.integers(100, 599), st.integers(0, 127), TEXTS, TEXTS, TEXTS,
    TEXTS, NUMBERS, st.integers(0, 10**15), NUMBERS, NUMBERS, TEXTS, TEXTS,
    st.lists(st.sampled_from([*STEPS, STRANGE]) | SPOKEN, max_size=20),
)  # fmt: skip
SHORT = st.text(st.characters(max_codepoint=255), max_size=12)
USUAL_ENTRIES = st.tuples(
    st.integers(0, 4_000_000_000_000_000_000), st.integers(0, 10**15), SHORT, SHORT, SHORT, SHORT, SHORT,
    st.integers(0, 65_535), st.just("HTTP/1.1"), st.integers(100, 599), st.integers(0, 127), SHORT, SHORT, SHORT,
    SHORT, st.integers(0, 9), st.just(0) | st.integers(0, 10**10), NUMBERS, NUMBERS, TEXTS, SHORT,
    st.lists(st.sampled_from(STEPS) | SPOKEN, max_size=5),
)  # fmt: skip


MORE = st.dictionaries(st.sampled_from(["model", "tokens"]), TEXTS | NUMBERS).map(
    lambda fields: b"".join(b',"%b":%b' % (name.encode(), json.dumps(value).encode()) for name, value in fields.items())
)
REDACTED = st.lists(st.sampled_from(["client-ip", "host", "path"]), max_size=3, unique=True)


@NEEDS_NATIVE
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # under sanitizers it is
@given(
    st.lists(
        ENTRIES | USUAL_ENTRIES | st.tuples(ENTRIES | USUAL_ENTRIES, MORE).map(lambda found: (*found[0], found[1])),
        min_size=1, max_size=4,
    ), REDACTED,
)  # fmt: skip
@example([tuple(USUAL)], ["client-ip", "path", "host"])
@example([(*USUAL[:DURATION], ns, *USUAL[DURATION + 1 :]) for ns in (0, 999, 1000, 10_000, 1_010_000, 10**15)], [])
@example([(*USUAL[:ANSWERED], ns, *USUAL[ANSWERED + 1 :]) for ns in (0, 1, 999, 1000, 10**15)], [])
@example(
    [(2**61, 2**53, *[""] * 5, 2**62, "HTTP/1.1", 599, 127, *[""] * 4, 2**62, 2**53, 2**62, 2**62, "", "", [])], []
)  # fmt: skip
@example([tuple([*USUAL[:-1], STEPS * 64])], [])
def test_both_write_the_same(entries: list[tuple[Any, ...]], redacted: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        native, twin, _ = pair(monkeypatch, redacted=redacted)
        for entry in entries:
            record = native.enter(*entry)
            assert record == twin.enter(*entry)
            assert len(record) <= LONG_BYTES_MAX
        assert native.lines_count == twin.lines_count == len(entries)
        assert native.lines_bytes == twin.lines_bytes
        lines = native.take_lines()
        assert lines == twin.take_lines()
        assert native.lines_bytes == native.lines_count == 0 and native.take_lines() == b""
        assert lines.count(b"\n") == len(entries) and not re.search(rb"[\x00-\x09\x0b-\x1f]", lines)
        for line in lines.splitlines():
            assert json.loads(line)["worker"] == 3


@NEEDS_NATIVE
def test_what_only_some_lines_have_is_left_out_of_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    native, twin, _ = pair(monkeypatch)
    native.enter(*USUAL)
    room = LINE_BYTES_MAX - native.lines_bytes
    for books in (native, twin):
        for size in (room, room + 1):
            books.take_lines()
            books.enter(*USUAL, b',"x":"%b"' % (b"y" * (size - 7)))
            assert len(books.take_lines()) == (LINE_BYTES_MAX if size == room else LINE_BYTES_MAX - room)


@NEEDS_NATIVE
def test_a_usual_record_is_written_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any) -> bytes:
        raise AssertionError("this is not rare")

    monkeypatch.setattr("workers.books.record_writer", lambda *_: nobody)
    native = open_books(
        generation=7, worker=3, is_logged=True, steps=STEPS, on_cut=lambda: None, spans=SPANS, secret=SECRET
    )
    measured: Step = (Reason.WITHIN_LIMIT, SPANS[0], ("per-client", 99, 100, b"9:client-ip"))
    record = decode(native.enter(*USUAL[:-1], [*STEPS[:2], measured]))
    assert (record.path, record.endpoint, record.generation, len(record.steps)) == (USUAL[PATH], USUAL[14], 7, 3)
    assert record.steps[2].details == ("per-client", "99", "100", mark_text(marker(SECRET)(b"9:client-ip")))
    assert record.steps[2].place == "sentinel.kdl:50:1" and not record.is_cut


@NEEDS_NATIVE
def test_a_cut_record_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    native, twin, cuts = pair(monkeypatch)
    long = [*USUAL]
    long[PATH] = "/" + "p" * 600
    for books in (native, twin):
        assert decode(books.enter(*USUAL)).is_cut is False
        assert decode(books.enter(*long)).is_cut is True
    assert len(cuts) == 2


@NEEDS_NATIVE
def test_a_step_made_on_the_spot_is_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    native, _, cuts = pair(monkeypatch)
    record = decode(native.enter(*USUAL[:-1], [*STEPS[:1], STRANGE]))
    assert record.steps[1].details == ("made on the spot",) and not cuts


@NEEDS_NATIVE
def test_without_a_log_nothing_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    native, twin, _ = pair(monkeypatch, is_logged=False)
    assert native.enter(*USUAL) == twin.enter(*USUAL)
    assert native.lines_bytes == twin.lines_bytes == 0 and native.take_lines() == b""


@NEEDS_NATIVE
def test_without_a_journal_there_is_a_line_and_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    for books in pair(monkeypatch, is_recorded=False)[:2]:
        assert books.enter(*USUAL) == books.enter(*USUAL[:-1], [STRANGE] * 40) == b""
        assert books.lines_count == 2


@NEEDS_NATIVE
@pytest.mark.parametrize(
    ("at", "value"),
    [(0, "1"), (0, -1), (1, 1 << 64), (2, b"bytes"), (PATH, None), (21, ()), (QUERY, 1.5), (ANSWERED, -1)],
)
def test_nonsense_is_refused_and_leaves_no_half_line(monkeypatch: pytest.MonkeyPatch, at: int, value: Any) -> None:
    native, _, _ = pair(monkeypatch)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        native.enter(*(value if place == at else one for place, one in enumerate(USUAL)))
    assert native.lines_bytes == 0
    with pytest.raises(TypeError):
        native.enter(*USUAL[:-1])


@NEEDS_NATIVE
def test_books_are_thrown_away_with_whoever_kept_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keeper:
        ended = 0

        def __init__(self) -> None:
            self.books = open_books(generation=1, worker=0, is_logged=True, steps=STEPS, on_cut=self.cut)

        def cut(self) -> None:
            raise NotImplementedError

        def __del__(self) -> None:
            Keeper.ended += 1

    monkeypatch.delenv("SENTINEL_PURE", raising=False)
    Keeper().books.enter(*USUAL)
    gc.collect()
    assert Keeper.ended == 1
