"""Frames: all octets, in order, cut where they say, in linear time."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.adapters import Framing
from sentinel.inference.frames import Framer, comments_of, entry_of, event_of

FRAMINGS = [Framing.SSE, Framing.LINES, Framing.LIST]


def frames(framing: Framing, *pieces: bytes, most: int = 1000) -> list[tuple[bytes, bool]]:
    framer = Framer(framing, most)
    found = [frame for piece in pieces for frame in framer.feed(piece)]
    return [*found, *framer.finish()]


@pytest.mark.parametrize(("octets", "expected"), [
    (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]),
    (b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"]),
    (b"data: a\n\rdata: b\r\n\n", [b"data: a\n\r", b"data: b\r\n\n"]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"\xef\xbb\xbf", b"data: a\n\n"]),
    (b"\n\n\n\n", [b"\n\n", b"\n\n"]),
    (b": only a comment\n\nrest", [b": only a comment\n\n", b"rest"]),
])  # fmt: skip
def test_events_end_at_empty_lines(octets: bytes, expected: list[bytes]) -> None:
    assert [frame for frame, _ in frames(Framing.SSE, octets)] == expected


@pytest.mark.parametrize(("frame", "event"), [
    (b"data: a\n\n", ("", b"a")), (b"data:a\ndata: b\n\n", ("", b"a\nb")), (b"data:  a\n\n", ("", b" a")),
    (b"event: e\r\nid: 1\r\nretry: 2\r\ndata: {}\r\n\r\n", ("e", b"{}")), (b": c\n\n", ("", b"")),
    (b"data\n\n", ("", b"")), (b"dat: a\n\n", ("", b"")), (b"event: \xff\ndata: a\r\r", ("\ufffd", b"a")),
])  # fmt: skip
def test_fields_of_events(frame: bytes, event: tuple[str, bytes]) -> None:
    assert event_of(frame) == event


def test_comments_of_a_removed_event_stay() -> None:
    assert comments_of(b": a\r\ndata: x\r\n: b\r\n\r\n") == b": a\r\n: b\r\n\r\n"
    assert comments_of(b"data: x\n\n") == b""


def test_entries_of_a_list() -> None:
    entries = [{"a": "}]{["}, {"b": [{"c": {}}]}, {"d": 'quote " and \\'}]
    octets = json.dumps(entries, indent=1).encode()
    found = [entry_of(Framing.LIST, frame)[1] for frame, _ in frames(Framing.LIST, octets)]
    assert [json.loads(one) for one in found if one] == entries


def test_an_object_that_stands_in_no_list_is_one_entry() -> None:
    assert frames(Framing.LIST, b'{"error":{"a":{}}}') == [(b'{"error":{"a":{}}}', True)]


OCTETS = st.lists(
    st.sampled_from([b"data: a", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b'"',
                     b"\\", b"x" * 30, b"\xc3", b"\xa9"]),
    max_size=25,
).map(b"".join)  # fmt: skip


@given(st.sampled_from(FRAMINGS), OCTETS, st.lists(st.integers(0, 300), max_size=5), st.integers(5, 60))
def test_nothing_is_lost_whatever_the_cuts(framing: Framing, octets: bytes, cuts: list[int], most: int) -> None:
    places = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    pieces = [octets[start:end] for start, end in pairwise(places)]
    found = frames(framing, *pieces, most=most)
    assert b"".join(frame for frame, _ in found) == octets
    whole = [frame for frame, is_whole in frames(framing, octets, most=most) if is_whole]
    assert [frame for frame, is_whole in found if is_whole] == whole
    assert all(len(frame) <= most for frame in whole)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_nothing_is_kept_of_a_frame_without_an_end(framing: Framing) -> None:
    framer = Framer(framing, 1000)
    passed = sum(len(frame) for _ in range(5000) for frame, is_whole in framer.feed(b"x" * 100) if not is_whole)
    assert passed >= 5000 * 100 - 1000
    assert framer.oversized_count == 1 and len(framer._buffer) <= 1000


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_frame_that_drips_in_costs_linear_time(framing: Framing) -> None:
    def seconds(count: int) -> float:
        framer = Framer(framing, 10**6)
        before = time.process_time()
        for _ in range(count):
            framer.feed(b"x")
        return time.process_time() - before

    small = min(seconds(20_000) for _ in range(3))
    assert seconds(200_000) < 40 * small, "ten times as much may take ten times as long, not a hundred times"
