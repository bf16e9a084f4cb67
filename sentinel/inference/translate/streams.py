"""A stream of one provider's events, said as the other's, while it comes.

Intuition: a simultaneous interpreter. He speaks as soon as a sentence is complete, keeps no notes but for where
in the speech he is, and when the speaker breaks off he says so, and does not make up an end.

    stream = streamed.for_openai(…) or for_anthropic(…)
    out = stream.feed(octets)      what can be said by now
    out = stream.finish()          the provider has ended; an answer that has no end yet ends with an error

Rules:
1. Cut where it will, what is said is the same: events are read when they are complete (sentinel/inference/frames.py).
2. Comments go on as they are. They keep connections alive in both dialects.
3. What cannot be said, or read, ends the stream with an error in the client's dialect; after it there is silence.
4. Memory: one event of at most EVENT_BYTES_MAX, and the few words that the teller keeps.
"""

from __future__ import annotations

import json
from typing import Final, Protocol

from sentinel.inference.adapters import Framing
from sentinel.inference.fault import InferenceFault
from sentinel.inference.frames import Frame, Framer, comments_of, event_of
from sentinel.inference.look import Members, decode_answer, decoded

EVENT_BYTES_MAX: Final = 1024 * 1024
DONE: Final = b"[DONE]"
UNFINISHED: Final = "the provider ended its stream before the answer was complete"
UNREADABLE: Final = "the provider's stream cannot be said in this dialect: {}"


class Teller(Protocol):
    """What says one dialect's events in the other's words; `is_over` when nothing may follow."""

    is_over: bool

    def event(self, event: Members) -> bytes: ...

    def done(self) -> bytes:
        """`[DONE]` came, or the stream ended: what is still to be said. Nothing, if the answer is not complete."""
        ...

    def failure(self, kind: str, message: str) -> bytes:
        """An error, by Anthropic's word for it; it is the last that is said."""
        ...


class Stream:
    """One stream, from octets to octets."""

    __slots__ = ("_framer", "_teller", "fault")

    def __init__(self, teller: Teller, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._framer = Framer(Framing.SSE, event_bytes_max)
        self._teller = teller
        self.fault = ""  # why it was ended here

    @property
    def is_over(self) -> bool:
        """Whether all has been said, be it an error: what comes now is not listened to."""
        return self._teller.is_over

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._say(frame) for frame in self._framer.feed(data)])

    def finish(self) -> bytes:
        out = b"".join([self._say(frame, is_rest=True) for frame in self._framer.finish()])
        if not self.is_over:
            out += self._teller.done()
        if not self.is_over:
            out += self.fail(UNFINISHED)
        return out

    def fail(self, message: str, kind: str = "api_error") -> bytes:
        """End with an error of our own."""
        if self.is_over:
            return b""
        self.fault = message
        return self._teller.failure(kind, message)

    def _say(self, frame: Frame, *, is_rest: bool = False) -> bytes:
        octets, is_whole = frame
        if self.is_over:
            return b""
        if not is_whole:
            return self.fail(UNREADABLE.format("an event is too long"))
        _, data = event_of(octets)
        if not data:
            return comments_of(octets)
        if data == DONE:
            return self._teller.done()
        try:
            event = decoded(decode_answer, data)
        except InferenceFault as fault:
            return self.fail(UNFINISHED if is_rest else UNREADABLE.format(fault))
        try:
            return self._teller.event(event)
        except InferenceFault as fault:
            return self.fail(UNREADABLE.format(fault))


def written(event: Members, name: str = "") -> bytes:
    """An event as it is sent. Characters beyond ASCII are escaped, so that halves of one may come in two events."""
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
