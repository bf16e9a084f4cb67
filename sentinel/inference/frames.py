"""Cutting a stream of octets into events, lines or entries of a list, wherever the network cut it.

Intuition: a ticker tape that is read through a slot. What has passed is cut off at each full stop; the
rest of a sentence waits.

Rules:
1. Nothing is lost or changed: all frames one after another, and the rest, are the octets that came. Comments,
   blank lines and a byte order mark are part of a frame.
2. Where frames end depends on the octets alone, never on how they came. So an event of which only CR has come
   as its last end of line waits for the next octet, which may be the LF of a CRLF.
3. A frame of more than `most` octets is not kept: it comes in pieces that say so, and are not read.
4. Work is linear in the octets, also when these come one by one.

Events are those of the HTML standard's "server-sent events": lines end in CRLF, LF or CR, and a blank line
ends an event.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from sentinel.inference.adapters import Framing

BLANK: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))")
"""The end of a line and an empty line after it."""
MARK: Final = b"\xef\xbb\xbf"
LINE: Final = re.compile(rb"\r\n|\n|\r")
SEAM: Final = 4
"""Octets in which an end may have begun: CRLF CRLF."""
STRUCTURE: Final = re.compile(rb'[\[\]{}"]')
STRING_END: Final = re.compile(rb'["\\]')

Frame = tuple[bytes, bool]
"""Octets, and whether they are a whole frame."""


class Framer:
    """Frames of one stream."""

    __slots__ = ("_buffer", "_find", "_is_skipping", "_is_started", "_looked", "most", "oversized_count")

    def __init__(self, framing: Framing, most: int) -> None:
        assert framing is not Framing.WHOLE and most > SEAM
        self._find: _Ends = _EventEnds()
        if framing is not Framing.SSE:
            self._find = _LineEnds() if framing is Framing.LINES else _EntryEnds()
        self._is_started = framing is not Framing.SSE  # only events may have a byte order mark before them
        self._buffer = bytearray()
        self._looked = 0
        self._is_skipping = False
        self.most = most
        self.oversized_count = 0

    @property
    def is_between(self) -> bool:
        """Whether all that came is cut off: the next octet begins a frame."""
        return self._is_started and not self._buffer and not self._is_skipping

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these octets complete."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start = 0
        if not self._is_started:
            if len(buffer) < len(MARK) and MARK.startswith(buffer):
                return frames
            self._is_started = True
            if buffer.startswith(MARK):
                frames.append((MARK, True))
                start = self._looked = len(MARK)
        while (end := self._find.end(buffer, start, self._looked)) >= 0:
            frames.append(self._cut(bytes(buffer[start:end])))
            start = self._looked = end
        del buffer[:start]
        self._looked = len(buffer)
        if len(buffer) > self.most or self._is_skipping:
            frames.extend(self._skip())
        return frames

    def _cut(self, octets: bytes) -> Frame:
        is_whole = not self._is_skipping and len(octets) <= self.most
        if not is_whole and not self._is_skipping:
            self.oversized_count += 1
        self._is_skipping = False
        return octets, is_whole

    def _skip(self) -> list[Frame]:
        """Let go of what is too long, but for what its end may begin with."""
        if not self._is_skipping:
            self.oversized_count += 1
            self._is_skipping = True
        gone = len(self._buffer) - SEAM
        if gone <= 0:
            return []
        octets = bytes(self._buffer[:gone])
        del self._buffer[:gone]
        self._looked = len(self._buffer)
        return [(octets, False)]

    def finish(self) -> list[Frame]:
        """What is left when the stream has ended: the last frame, if nobody ended it."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return [self._cut(rest)] if rest else []


class _Ends(Protocol):
    """Where the frame that begins at `start` ends, or -1. `looked`: how far was searched before."""

    def end(self, buffer: bytearray, start: int, looked: int) -> int: ...


class _EventEnds:
    """Ends of events; one may have begun before the place up to which was searched."""

    __slots__ = ()

    def end(self, buffer: bytearray, start: int, looked: int) -> int:
        found = BLANK.search(buffer, max(start, looked - SEAM))
        return found.end() if found else -1


class _LineEnds:
    __slots__ = ()

    def end(self, buffer: bytearray, start: int, looked: int) -> int:
        return buffer.find(b"\n", max(start, looked)) + 1 or -1


class _EntryEnds:
    """Ends of the entries of a list: of the objects that stand in it, one level deep."""

    __slots__ = ("_base", "_depth", "_is_escaped", "_is_string")

    def __init__(self) -> None:
        self._depth = 0
        self._base = -1  # until something opens: an object that stands in no list is an entry by itself
        self._is_string = self._is_escaped = False

    def end(self, buffer: bytearray, start: int, looked: int) -> int:
        at = max(start, looked)
        while at < len(buffer):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = (STRING_END if self._is_string else STRUCTURE).search(buffer, at)
            if found is None:
                return -1
            at = found.end()
            octet = buffer[at - 1]
            if octet == 0x5C:
                self._is_escaped = True
            elif octet == 0x22:
                self._is_string = not self._is_string
            elif octet in b"[{":
                self._base = int(octet == 0x5B) if self._base < 0 else self._base
                self._depth += 1
            else:
                self._depth = max(self._depth - 1, 0)
                if octet == 0x7D and self._depth <= self._base:
                    return at
        return -1


def event_of(frame: bytes) -> tuple[str, bytes]:
    """Name and data of an event; comments, `id` and `retry` are for the client."""
    name, data = "", []
    for line in LINE.split(frame):
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return name, b"\n".join(data)


def comments_of(frame: bytes) -> bytes:
    """What remains of an event that is removed: its comments, if it has any, with the end of the event."""
    kept, at = [], 0
    for found in LINE.finditer(frame):
        if frame.startswith(b":", at):
            kept.append(frame[at : found.end()])
        last, at = frame[found.start() : found.end()], found.end()
    return b"".join((*kept, last)) if kept else b""


def entry_of(framing: Framing, frame: bytes) -> tuple[str, bytes]:
    """Name and JSON of a frame; no octets where there is nothing to read."""
    if framing is Framing.SSE:
        return event_of(frame)
    return "", frame.strip(b" \t\r\n,[]" if framing is Framing.LIST else b" \t\r\n")
