"""Reading an answer while it passes: octets in, octets out, and what is known so far.

Intuition: a water meter. All water runs through it and none stays in it; one may look at the dial at any time.

    meter = Meter(adapter of the dialect, ask, …)
    out = meter.feed(octets)     send these on
    meter.has_begun              the first token is through: the one who has a clock looks at it
    meter.reading()              at any time, also in the middle: what a client that left has had
    out = meter.finish()         the stream has ended: send these on, too

Rules:
1. What goes out is what came in, but for one case (`is_usage_removed`): the event with usage and without choices,
   which the client did not ask for. Only then is an unfinished event held back until it is known.
2. Most of a long stream is text and nothing else. From the first token on, octets that by a few searches are
   only text are put aside unparsed (`_ordinary`); the text is looked up in them when they are many, or when
   somebody wants to know. Whether an event is ordinary is a question to that event alone, so how the stream
   was cut makes no difference.
3. Nothing raises. What cannot be read leaves a doubt, and goes through like everything else.
4. An answer that is encoded goes on as it came, so whoever looks into it may be behind: of a stream SLICE_BYTES are
   looked through at a time, and what is left `later`, so that what swells holds up nobody else. Where the answer
   ends before, its end is enough: that is where providers report.
5. Memory: PUT_ASIDE_BYTES, one frame of at most `frame_bytes_max`, or the body up to `body_bytes_max`, and the
   blocks of text that a sheet keeps; nothing else grows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sentinel.inference.adapters import ADAPTERS, Framing, framing_of
from sentinel.inference.ask import Ask
from sentinel.inference.dialect import Dialect
from sentinel.inference.encodings import INFLATERS, Inflaters, scanner_of
from sentinel.inference.fault import InferenceFault
from sentinel.inference.frames import Frame, Framer, comments_of, entry_of
from sentinel.inference.look import Decode, decode_answer, decoded
from sentinel.inference.sheet import Count, Doubt, Reading, Sheet

PUT_ASIDE_BYTES: Final = 8 * 1024
"""Ordinary octets that are looked through at once: enough that a look costs little, and little for 10,000 streams."""
TAIL_BYTES: Final = 16 * 1024
"""Of a body that is not kept: where embeddings have their usage."""
SLICE_BYTES: Final = 64 * 1024
"""Of an inflated stream, at a time: some 6 ms of events."""
WHOLE_SLICE_BYTES: Final = 1024 * 1024
"""Of an inflated body: it is only kept, so that inflating it is all that it costs (9 ms)."""
CATCH_UP_BYTES: Final = 4 * 1024 * 1024
"""What is inflated of it at most when it is over; a stream's events are only read in the last SLICE_BYTES of that."""
DONE: Final = b"[DONE]"
USAGE: Final = re.compile(rb'"usage"\s*+:\s*+(?=\{)')
ENDS: Final[dict[Framing, tuple[bytes, ...]]] = {Framing.SSE: (b"\n\n", b"\r\n\r\n"), Framing.LINES: (b"\n",)}
"""Octets that end so end a frame, if they begin one. Where it takes more to know, they are looked at one by one."""
WHOLE: Final = Framing.WHOLE  # an enum's member costs a search where it is named
SEPARATOR: Final = "\0"
"""Between strings that are decoded together: half a character must not grow together with half of another."""


Glances = Mapping[Dialect, Callable[[Sheet, bytes], bool]]
"""What reads ordinary answers of a dialect at once, and exactly as its adapter does after a decoder. False, with the
sheet untouched, for what is not ordinary."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one answer may hold. A Responses event carries the whole response once more, hence the size of a frame."""

    frame_bytes_max: int = 1024 * 1024
    body_bytes_max: int = 4 * 1024 * 1024
    inflated_bytes_max: int = 64 * 1024 * 1024


BOUNDS: Final = Bounds()
NO_GLANCES: Final[Glances] = {}
Later = Callable[[Callable[[], None]], object]
"""Has something done soon, when others have had their turn."""


class Meter:
    """Reads one answer. Made when its head is known."""

    __slots__ = (
        "_adapter", "_aside", "_aside_bytes", "_body", "_body_bytes", "_bounds", "_decode", "_ends", "_frame_bytes_max",
        "_framer", "_framing", "_glance", "_has_one_text", "_is_calm", "_is_finished", "_is_ordinary", "_is_removing",
        "_is_waiting", "_later", "_scanner", "_sheet",
    )  # fmt: skip

    def __init__(
        self, ask: Ask, *, content_type: str, encoding: str = "", is_usage_removed: bool = False,
        count: Count | None = None, decode: Decode = decode_answer, inflaters: Inflaters = INFLATERS,
        bounds: Bounds = BOUNDS, glances: Glances = NO_GLANCES, later: Later | None = None,
    ) -> None:  # fmt: skip
        self._adapter = ADAPTERS[ask.dialect]
        self._framing = framing_of(ask.dialect, content_type, is_stream=ask.is_stream)
        self._scanner = scanner_of(encoding, bounds.inflated_bytes_max, inflaters)
        self._framer = None if self._framing is WHOLE else Framer(self._framing, bounds.frame_bytes_max)
        self._is_removing = (
            is_usage_removed and self._framing is Framing.SSE and self._scanner is None
            and self._adapter.is_usage_alone is not None
        )  # fmt: skip
        # Of several choices each has a text of its own, which only parsing tells apart.
        self._has_one_text = self._adapter.text is not None and ask.choices_count == 1
        self._is_ordinary = self._adapter.is_ordinary
        self._ends = ENDS.get(self._framing, ())
        self._frame_bytes_max = bounds.frame_bytes_max
        self._is_calm = False
        self._decode = decode
        self._glance = glances.get(ask.dialect)
        self._bounds = bounds
        self._sheet = Sheet(count)
        self._aside: list[bytes] = []
        self._aside_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._is_finished = False
        self._later = later
        self._is_waiting = False  # for its turn to go on inflating

    @property
    def framing(self) -> Framing:
        return self._framing

    @property
    def ends(self) -> tuple[bytes, ...]:
        """What ends an event, where something can be said behind it; none of what is encoded, or is no stream."""
        return ENDS.get(self._framing, ()) if self._scanner is None else ()

    @property
    def has_begun(self) -> bool:
        """Whether anything that the model made has come."""
        return self._sheet.has_begun

    def feed(self, data: bytes) -> bytes:
        """Take what came; returns what goes on."""
        if (
            self._is_calm
            and len(data) <= self._frame_bytes_max
            and data.endswith(self._ends)
            and self._is_ordinary(data)
        ):
            self._aside.append(data)
            self._aside_bytes += len(data)
            if self._aside_bytes > PUT_ASIDE_BYTES:
                self._look_through()
            return data
        if self._scanner is None:
            return self._watch(data)
        self._inflate(data)
        return data

    def finish(self) -> bytes:
        """The answer is through, or broken off; returns what was held back."""
        if self._is_finished:
            return b""
        self._is_finished = True
        sheet = self._sheet
        if self._scanner is not None:
            self._inflate_the_rest()
            if self._scanner.doubt is not None:
                sheet.doubt(self._scanner.doubt)
                return b""
        if self._framer is None:
            self._read_body()
            return b""
        rest = self._framer.finish()
        out = self._take(rest, is_rest=True)
        if not sheet.has_finished:
            sheet.doubt(Doubt.CUT)
        return out if self._is_removing else b""

    def reading(self, *, is_last: bool = False) -> Reading:
        """What is known so far. `is_last`: nothing more comes, and nobody will ask again (Sheet.reading)."""
        self._look_through()
        return self._sheet.reading(is_last=is_last)

    # -- encoded answers

    def _inflate(self, data: bytes) -> None:
        scanner = self._scanner
        assert scanner is not None
        for piece in scanner.feed(data, WHOLE_SLICE_BYTES if self._framer is None else SLICE_BYTES):
            self._watch(piece)
        if scanner.is_behind and self._later is not None and not self._is_waiting:
            self._is_waiting = True
            self._later(self._catch_up)

    def _catch_up(self) -> None:
        self._is_waiting = False
        if not self._is_finished:
            self._inflate(b"")

    def _inflate_the_rest(self) -> None:
        """The answer is over. Of a stream only the end is still read, if much was left of it."""
        scanner = self._scanner
        if scanner is None or not scanner.is_behind:
            return
        rest: list[bytes] = []
        for piece in scanner.feed(b"", CATCH_UP_BYTES):
            if self._framer is None:
                self._watch(piece)
            else:
                rest.append(piece)
        if scanner.is_behind:
            scanner.doubt = Doubt.INFLATED_TOO_FAR
        octets = b"".join(rest)
        if len(octets) > SLICE_BYTES:
            ends = ENDS.get(self._framing, ())
            first = min((at + len(end) for end in ends if (at := octets.find(end, -SLICE_BYTES)) >= 0), default=-1)
            self._sheet.doubt(Doubt.OVERSIZED)
            if first < 0:
                return
            self._framer, octets = Framer(self._framing, self._frame_bytes_max), octets[first:]
        if octets:
            self._watch(octets)

    # -- streams

    def _watch(self, data: bytes) -> bytes:
        framer = self._framer
        if framer is None:
            self._keep(data)
            return data
        out = self._take(framer.feed(data))
        self._is_calm = (
            self._has_one_text and self._sheet.has_begun and framer.is_between and self._scanner is None
        )
        return out if self._is_removing else data

    def _take(self, frames: list[Frame], *, is_rest: bool = False) -> bytes:
        """Read frames; returns what is left of them, when something is to be removed.

        `is_rest`: nobody ended the last one, so it need not be one.
        """
        out = []
        for frame, is_whole in frames:
            if not is_whole:
                self._sheet.doubt(Doubt.OVERSIZED)
            elif self._has_one_text and self._sheet.has_begun and self._is_ordinary(frame):
                self._put_aside(frame)
            elif self._read(frame, is_rest=is_rest):
                frame = comments_of(frame)
            if self._is_removing:
                out.append(frame)
        return b"".join(out)

    def _read(self, frame: bytes, *, is_rest: bool) -> bool:
        """Read one frame; says whether it is to be removed."""
        name, data = entry_of(self._framing, frame)
        if not data:
            return False
        if data == DONE:
            self._sheet.is_ended = True
            return False
        self._look_through()  # so that text stands in the order in which it came
        try:
            event = decoded(self._decode, data)
            self._adapter.read_event(self._sheet, name, event)
        except InferenceFault as fault:
            if not is_rest:
                self._doubt(fault)
            return False
        is_alone = self._adapter.is_usage_alone
        return self._is_removing and is_alone is not None and is_alone(event)

    def _doubt(self, fault: InferenceFault) -> None:
        self._sheet.doubt(Doubt.NOT_JSON if fault.path == "$" else Doubt.WRONG_SHAPE)

    def _put_aside(self, data: bytes) -> None:
        self._aside.append(data)
        self._aside_bytes += len(data)
        if self._aside_bytes > PUT_ASIDE_BYTES:
            self._look_through()

    def _look_through(self) -> None:
        """Find the text in what was put aside."""
        if not self._aside:
            return
        octets = b"".join(self._aside)
        self._aside.clear()
        self._aside_bytes = 0
        assert self._adapter.text is not None
        found = b"\0".join(self._adapter.text(octets)).decode("utf-8", "replace").replace(SEPARATOR, "")
        self._sheet.say(json.loads(f'"{found}"'))

    # -- whole bodies

    def _keep(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > self._bounds.body_bytes_max:
            tail = b"".join(self._body)[-TAIL_BYTES:]
            self._body = [tail]
            self._body_bytes = len(tail)
            self._sheet.doubt(Doubt.OVERSIZED)

    def _read_body(self) -> None:
        sheet, body = self._sheet, self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        is_part = sheet.doubts(Doubt.OVERSIZED)
        if not body or (is_part and not self._adapter.is_tail_enough):
            return
        if self._glance is not None and not is_part and self._glance(sheet, body):
            sheet.is_ended = True
            return
        try:
            document = decoded(self._decode, body) if not is_part else self._tail(body)
            self._adapter.read_answer(sheet, document)
            sheet.is_ended = True
        except InferenceFault as fault:
            self._doubt(fault)

    def _tail(self, body: bytes) -> dict[str, object]:
        """Usage from the end of a body; the last one, since what stands before may be anything."""
        places = list(USAGE.finditer(body))
        if not places:
            raise InferenceFault("$.usage", "no usage at the end")
        start = places[-1].end()
        end = body.find(b"}", start) + 1
        return {"usage": decoded(self._decode, body[start:end])}
