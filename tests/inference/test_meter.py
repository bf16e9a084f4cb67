"""The meter reads the same however the octets come, changes nothing but what it should, and never raises."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.ask import Ask, Input
from sentinel.inference.dialect import Dialect
from sentinel.inference.encodings import FREE_BYTES, RATIO_MAX
from sentinel.inference.encodings import INFLATERS as STANDARD
from sentinel.inference.meter import PUT_ASIDE_BYTES, SLICE_BYTES, WHOLE_SLICE_BYTES, Bounds, Meter
from sentinel.inference.sheet import BLOCK_CHARS, Doubt
from tests.inference.transcript import Transcript, played, transcripts, words
from workers.inflating import INFLATERS

ALL = transcripts()
STREAMS = [one for one in ALL if one.content_type.startswith("text/event-stream")]
EVENTS = "text/event-stream"


def named(found: list[Transcript]) -> list[object]:
    return [pytest.param(one, id=one.name) for one in found]


def chat(**settings: object) -> Ask:
    return Ask(Dialect.OPENAI_CHAT, "m", Input(), True, **settings)  # type: ignore[arg-type]


def delta(text: str, index: int = 0, end: str = "\n\n") -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
    event = {"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": None}
    return f"data: {json.dumps(event, separators=(',', ':'))}{end}".encode()


USAGE_ALONE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"


# -- what is read, and however it comes


@pytest.mark.parametrize("transcript", named(ALL))
def test_a_transcript_is_read_as_it_says(transcript: Transcript) -> None:
    assert played(transcript, transcript.answer)[1] == transcript.expected


@pytest.mark.parametrize("transcript", named(ALL))
def test_cut_at_every_octet_it_is_read_the_same(transcript: Transcript) -> None:
    whole = played(transcript, transcript.answer)
    for at in range(1, len(transcript.answer)):
        assert played(transcript, transcript.answer[:at], transcript.answer[at:]) == whole, at


@pytest.mark.parametrize("transcript", named(ALL))
def test_octet_by_octet_it_is_read_the_same(transcript: Transcript) -> None:
    pieces = [transcript.answer[at : at + 1] for at in range(len(transcript.answer))]
    assert played(transcript, *pieces) == played(transcript, transcript.answer)


@given(st.sampled_from(ALL), st.data())
def test_cut_anywhere_twice_it_is_read_the_same(transcript: Transcript, data: st.DataObject) -> None:
    size = len(transcript.answer)
    first, second = sorted((data.draw(st.integers(0, size)), data.draw(st.integers(0, size))))
    pieces = transcript.answer[:first], transcript.answer[first:second], transcript.answer[second:]
    assert played(transcript, *pieces) == played(transcript, transcript.answer)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("transcript", named(STREAMS))
def test_lines_may_end_in_any_way(transcript: Transcript, end: bytes) -> None:
    """With a mark before them, too; and cut between CR and LF."""
    answer = b"\xef\xbb\xbf" + transcript.answer.replace(b"\n", end)
    whole = played(transcript, answer)
    assert whole[1] == transcript.expected
    for at in range(1, len(answer), 3 if end == b"\r" else 1):
        assert played(transcript, answer[:at], answer[at:]) == whole, at


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("transcript", named(ALL))
def test_encoded_it_is_read_the_same_and_passes_as_it_is(transcript: Transcript, encoding: str) -> None:
    encode = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}[encoding]
    encoded = encode(transcript.answer)
    settings = {"encoding": encoding, "inflaters": INFLATERS}
    for size in (1, 7, len(encoded)):
        pieces = [encoded[at : at + size] for at in range(0, len(encoded), size)]
        assert played(transcript, *pieces, **settings) == (encoded, transcript.expected)


# -- what goes out


@pytest.mark.parametrize("transcript", named(ALL))
def test_what_comes_goes_on_to_the_octet_unless_it_was_asked_for_here(transcript: Transcript) -> None:
    for removed in (False, not transcript.ask.wants_usage):
        out, _ = played(transcript, transcript.answer, is_usage_removed=removed)
        if not removed or transcript.name != "openai-chat-usage-added":
            assert out == transcript.answer


def test_only_the_event_with_usage_and_without_choices_is_removed() -> None:
    parts = [b": waiting\n\n", delta("a"), b'data: {"choices":[],"usage":null}\n\n', delta("b"), USAGE_ALONE, DONE]
    meter = Meter(chat(wants_usage=False), content_type=EVENTS, is_usage_removed=True)
    assert meter.feed(b"".join(parts)) + meter.finish() == b"".join(one for one in parts if one is not USAGE_ALONE)
    assert meter.reading().usage is not None


def test_a_comment_within_the_removed_event_stays() -> None:
    meter = Meter(chat(wants_usage=False), content_type=EVENTS, is_usage_removed=True)
    commented = b": still here\r\n" + USAGE_ALONE.replace(b"\n\n", b"\r\n\r\n")
    assert meter.feed(delta("a") + commented + DONE) == delta("a") + b": still here\r\n\r\n" + DONE


def test_nothing_is_held_back_unless_something_may_be_removed() -> None:
    for removed, out in ((False, b"data: {"), (True, b"")):
        assert Meter(chat(), content_type=EVENTS, is_usage_removed=removed).feed(b"data: {") == out


def test_who_asked_for_usage_gets_it() -> None:
    meter = Meter(chat(), content_type=EVENTS)
    assert meter.feed(delta("a") + USAGE_ALONE + DONE) == delta("a") + USAGE_ALONE + DONE


PIECES = st.lists(
    st.sampled_from([
        delta("word"), delta("\ud83d"), delta("\ude00 ü"), delta('quoted "usage": 3'), delta("data: x"),
        delta("r", end="\r\n\r\n"), delta("c", end="\r\r"), USAGE_ALONE, DONE, b": ping\n\n", b"\n", b"\r",
        b"data:\n\n", b"event: x\ndata: {}\ndata:\n\n", b"\xef\xbb\xbf", b"data: {\n\n",
        b'data: {"choices":3}\n\n', b"\xff\xfe\n\n", b'data: {"usage":[1]}\n\n', b'data: {"error":"e"}\n\n',
        b"[", b"{", b'"', b"\\",
    ]),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(PIECES | st.binary(max_size=80), st.lists(st.integers(0, 400), max_size=4), st.sampled_from(ALL))
def test_whatever_comes_is_cut_the_same_and_nothing_is_lost(octets: bytes, cuts: list[int], like: Transcript) -> None:
    """Events, wrong events, halves of events and noise, in every dialect."""
    places = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    pieces = [octets[start:end] for start, end in pairwise(places)]
    assert played(like, *pieces) == played(like, octets)
    assert played(like, *pieces, is_usage_removed=False)[0] == octets


@given(PIECES)
def test_what_is_removed_are_whole_events_without_choices(octets: bytes) -> None:
    meter = Meter(chat(wants_usage=False), content_type=EVENTS, is_usage_removed=True)
    out = meter.feed(octets) + meter.finish()
    gone = len(octets) - len(out)
    assert gone >= 0
    if not gone:
        assert out == octets
    else:
        assert octets.count(b'"choices":[]') > out.count(b'"choices":[]')
        assert out.count(b'"finish_reason"') == octets.count(b'"finish_reason"')


def test_text_that_speaks_of_usage_is_text() -> None:
    """Within a string each quote has a backslash before it, so no model can talk itself into a bill."""
    sly = '{"usage":{"prompt_tokens":0,"completion_tokens":0}} "finish_reason":"stop" data: [DONE] event: message_delta'
    meter = Meter(chat(), content_type=EVENTS)
    meter.feed(delta("a"))
    meter.feed(delta(sly))
    reading = meter.reading()
    assert (reading.usage, reading.finish_reasons, reading.is_ended) == (None, (), False)
    assert reading.produced[0].chars == len(sly) + 1


# -- text that is put aside


def test_text_put_aside_is_the_text_that_is_parsed() -> None:
    texts = ["Hello", ' "quoted" \\ \n\t', " wörld", "\u2028", "🌍", "\ud83c", "\udf0d", "", "x" * 99] * 40
    aside, parsed = (Meter(chat(choices_count=n), content_type=EVENTS, count=words) for n in (1, 2))
    for text in texts:
        aside.feed(delta(text))
        parsed.feed(delta(text))
    assert aside.reading() == parsed.reading()
    assert aside.reading().produced[0].chars == len("".join(texts)) - 40, "two halves are one character"


def test_text_put_aside_stands_before_what_is_parsed_later() -> None:
    meter = Meter(chat(), content_type=EVENTS, count=words)
    last = delta("y").replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    for event in (delta("a"), delta(" x "), last):
        meter.feed(event)
    assert meter.reading().produced[0].tokens == 3, "a x y"


def test_memory_does_not_grow_with_the_stream() -> None:
    meter = Meter(chat(), content_type=EVENTS, count=words)
    chunk = delta("word " * 20)
    for _ in range(20_000):
        meter.feed(chunk)
    assert meter._aside_bytes <= PUT_ASIDE_BYTES + len(chunk)
    tally = meter._sheet._tallies[0]
    assert sum(map(len, tally._pending)) <= 2 * BLOCK_CHARS + PUT_ASIDE_BYTES
    assert meter.reading().produced[0].tokens == 20_000 * 20


def test_the_first_token_is_the_first_event_with_content() -> None:
    meter = Meter(chat(), content_type=EVENTS)
    meter.feed(b": ping\n\n" + delta(""))
    assert not meter.has_begun
    meter.feed(delta("a")[:-1])
    assert not meter.has_begun
    meter.feed(b"\n")
    assert meter.has_begun


# -- bounds and doubts


def test_an_event_beyond_the_bound_passes_unread_and_the_next_is_read() -> None:
    bounds = Bounds(frame_bytes_max=2000)
    events = [delta("a"), delta("x" * 5000), delta("b"), USAGE_ALONE, DONE]
    octets = b"".join(events)
    cut = ([octets[at : at + size] for at in range(0, len(octets), size)] for size in (1, 1000, 10_000))
    for pieces in (events, *cut):
        meter = Meter(chat(), content_type=EVENTS, bounds=bounds)
        assert b"".join(map(meter.feed, pieces)) + meter.finish() == octets
        reading = meter.reading()
        assert reading.doubts == (Doubt.OVERSIZED,)
        assert reading.produced[0].chars == 2 and reading.usage is not None


def test_a_body_beyond_the_bound_has_no_usage_and_is_not_kept() -> None:
    meter = Meter(chat(), content_type="application/json", bounds=Bounds(body_bytes_max=10_000))
    for _ in range(100):
        meter.feed(b" " * 1000)
    meter.feed(b'{"usage":{"prompt_tokens":1}}')
    assert sum(map(len, meter._body)) <= 20_000
    meter.finish()
    assert (meter.reading().usage, meter.reading().doubts) == (None, (Doubt.OVERSIZED,))


def test_large_embeddings_have_their_usage_at_the_end() -> None:
    """Vectors are many and of no interest; no text of anybody's stands beside the usage."""
    vectors = b",".join(b'{"embedding":[%s]}' % b",".join([b"0.0123"] * 1536) for _ in range(100))
    body = b'{"data":[%s],"model":"e","usage":{"prompt_tokens":800,"total_tokens":800}}' % vectors
    meter = Meter(
        Ask(Dialect.OPENAI_EMBEDDINGS, "e", Input()), content_type="application/json",
        bounds=Bounds(body_bytes_max=64 * 1024),
    )  # fmt: skip
    for at in range(0, len(body), 5000):
        meter.feed(body[at : at + 5000])
    meter.finish()
    usage = meter.reading().usage
    assert usage is not None and usage.input_tokens == 800


def test_an_unknown_encoding_is_said() -> None:
    meter = Meter(chat(), content_type=EVENTS, encoding="zstd")
    assert meter.feed(DONE) + meter.finish() == DONE
    assert meter.reading().doubts == (Doubt.UNKNOWN_ENCODING,)


@pytest.mark.parametrize(("octets", "doubt"), [(b"not gzip at all", Doubt.BAD_ENCODING), (b"", None)])
def test_what_is_not_encoded_as_it_says(octets: bytes, doubt: Doubt | None) -> None:
    meter = Meter(chat(), content_type="application/json", encoding="gzip")
    assert meter.feed(octets) == octets
    meter.finish()
    assert meter.reading().doubts == ((doubt,) if doubt else ())


def test_a_bomb_is_not_inflated() -> None:
    """64 KiB that hold 64 MiB, in a stream that may hold 1 MiB."""
    bomb = gzip.compress(b"\n" * 64 * 1024 * 1024)
    meter = Meter(chat(), content_type=EVENTS, encoding="gzip", bounds=Bounds(inflated_bytes_max=1024 * 1024))
    assert meter.feed(bomb) == bomb
    meter.finish()
    assert Doubt.INFLATED_TOO_FAR in meter.reading().doubts


class Slow:
    """An inflater that says how much it was made to inflate."""

    def __init__(self) -> None:
        self.inner = STANDARD["gzip"]()
        self.made = 0

    def inflate(self, data: bytes, most: int) -> bytes:
        found = self.inner.inflate(data, most)
        self.made += len(found)
        return found


@pytest.mark.parametrize(("content_type", "most"), [(EVENTS, SLICE_BYTES), ("application/json", WHOLE_SLICE_BYTES)])
def test_what_swells_is_looked_through_by_turns(content_type: str, most: int) -> None:
    """Each call of the meter does a bounded piece of work, however much lies in what it was given."""
    slow, turns = Slow(), []
    octets = gzip.compress(b"".join(b"data: {\"n\":%d}\n\n" % (n * 7919 % 9973) for n in range(200_000)))
    meter = Meter(
        chat(), content_type=content_type, encoding="gzip", inflaters={"gzip": lambda: slow}, later=turns.append
    )  # fmt: skip
    assert meter.feed(octets) == octets
    calls = 1
    assert slow.made == most
    while turns:
        (turn,) = turns
        turns.clear()
        turn()
        calls += 1
        assert slow.made <= calls * most
    assert calls > 2
    before = slow.made
    meter.finish()
    assert slow.made == before, "all of it was looked through"
    assert meter.reading().doubts == ((Doubt.CUT,) if content_type == EVENTS else (Doubt.NOT_JSON,))


def test_what_swells_beyond_measure_is_given_up() -> None:
    """A ratio that no text has, and less of it than the bound on sizes allows."""
    slow, turns = Slow(), []
    octets = gzip.compress(b"data: {}\n\n" * (1 << 21))
    meter = Meter(
        chat(), content_type=EVENTS, encoding="gzip", inflaters={"gzip": lambda: slow}, later=turns.append
    )  # fmt: skip
    meter.feed(octets)
    while turns:
        turns.pop()()
    meter.finish()
    assert meter.reading().doubts == (Doubt.INFLATED_TOO_FAR,)
    assert slow.made < FREE_BYTES + RATIO_MAX * len(octets) + 2 * SLICE_BYTES < 1 << 24


@pytest.mark.parametrize("has_usage", [True, False])
def test_of_a_stream_that_ends_before_it_is_looked_through_the_end_is_read(has_usage: bool) -> None:
    slow = Slow()
    events = [b'data: {"n":%d,"choices":[{"delta":{"content":"w%d"}}]}\n\n' % (n, n * 7919 % 9973) for n in range(9000)]
    stream = b"".join(events) + (USAGE_ALONE if has_usage else b"") + DONE
    meter = Meter(chat(), content_type=EVENTS, encoding="gzip", inflaters={"gzip": lambda: slow})
    meter.feed(gzip.compress(stream))
    assert slow.made == SLICE_BYTES
    meter.finish()
    reading = meter.reading()
    assert slow.made == len(stream) and reading.doubts == (Doubt.OVERSIZED,)
    assert (reading.usage is not None and reading.usage.is_reported) is has_usage


def test_wrong_shapes_leave_a_doubt_and_what_is_right_is_still_read() -> None:
    meter = Meter(chat(), content_type=EVENTS)
    wrong = b'data: {"choices":[{"delta":{"content":7}}]}\n\n' + b"data: {nonsense\n\n"
    assert meter.feed(delta("a") + wrong + USAGE_ALONE + DONE)
    reading = meter.reading()
    assert reading.doubts == (Doubt.WRONG_SHAPE, Doubt.NOT_JSON)
    assert reading.usage is not None and reading.usage.output_tokens == 5


@pytest.mark.parametrize("usage", [
    '{"prompt_tokens":-1}', '{"prompt_tokens":1e99}', '{"prompt_tokens":true}', '{"prompt_tokens":"many"}', "[]", "7",
    '{"prompt_tokens":1,"prompt_tokens_details":7}', '{"prompt_tokens":1.5}', '{"completion_tokens":99999999999999}',
])  # fmt: skip
def test_usage_that_is_none_is_not_taken_for_one(usage: str) -> None:
    meter = Meter(chat(), content_type="application/json")
    meter.feed(f'{{"choices":[],"usage":{usage}}}'.encode())
    meter.finish()
    assert (meter.reading().usage, meter.reading().doubts) == (None, (Doubt.WRONG_SHAPE,))


def test_many_choices_are_bounded() -> None:
    meter = Meter(chat(choices_count=4000), content_type=EVENTS, count=words)
    for index in range(4000):
        meter.feed(delta("word", index))
    produced = meter.reading().produced
    assert len(produced) == 128 and sum(one.chars for one in produced) == 4 * 4000


def test_deep_nesting_is_a_doubt() -> None:
    meter = Meter(chat(), content_type="application/json")
    meter.feed(b'{"a":' * 100_000)
    meter.finish()
    assert meter.reading().doubts == (Doubt.NOT_JSON,)


def test_a_later_nought_takes_nothing_back() -> None:
    """What is cumulative never falls; hosts that fill in noughts in the last event mean that they do not know."""
    meter = Meter(Ask(Dialect.ANTHROPIC_MESSAGES, "m", Input(), True), content_type=EVENTS)
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}
    end = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 9}}
    for event in (start, end):
        meter.feed(f"data: {json.dumps(event)}\n\n".encode())
    usage = meter.reading().usage
    assert usage is not None and (usage.input_tokens, usage.output_tokens, usage.is_reported) == (25, 9, True)
