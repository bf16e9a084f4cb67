"""A stream under guardrails: events in, events out, and nothing of a find in between.

Intuition: a broadcast with a delay. What is said goes on the air when it is known to be harmless; the delay is as long
as a word, not a minute, and when the speaker has ended the last word is not forgotten.

    event ──▶ its texts, each through the sieves of its channel ──▶ the event with what may go on
                    |                                                  preceded by what was withheld, if a text ends
                    `── a find that blocks ──▶ an error in the dialect's own shape, and nothing any more

Rules:
1. An event of which nothing changes goes on as the octets that it was.
2. What is withheld of a text goes out before the event that ends it: the finish of its choice, the stop of its block,
   the end of the stream. It has the form of the text's last event, so whoever puts texts together gets the whole; what
   else that event said (another text, a call, counts) is not said again.
3. What is withheld is bounded: two finds long for each text, and TEXTS_MAX texts at a time.
4. What cannot be read (an event that is too long or no JSON) is stopped, or passes and is told of, as each says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sentinel.core.guard.guards import Counts, Guard
from sentinel.core.guard.sieve import Sieve
from sentinel.core.reasons import Reason
from sentinel.inference.adapters import Framing
from sentinel.inference.dialect import Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.frames import Framer, comments_of, entry_of
from sentinel.inference.look import Decode, Members, decode_answer, decoded
from sentinel.inference.stops import stop
from sentinel.inference.texts import STREAMED, Channel, Reader, Text, is_sign

TEXTS_MAX: Final = 256
FRAME_BYTES_MAX: Final = 1024 * 1024
DONE: Final = b"[DONE]"
ENDS: Final = frozenset({"message_stop", "error", "response.completed", "response.incomplete", "response.failed"})


class _Running:
    """One text that goes on, with what the last event that had some of it looked like."""

    __slots__ = ("channel", "data", "name", "sieves")

    def __init__(self, channel: Channel, sieves: Sequence[Sieve]) -> None:
        self.channel = channel
        self.sieves = sieves
        self.name = ""
        self.data = b""

    def feed(self, text: str, *, is_end: bool = False) -> str:
        for sieve in self.sieves:
            told = sieve.feed(text, is_end=is_end)
            text = text if sieve.is_observer else told
        return text


class Watch:
    """The guardrails of one stream. `blocked`: the one that has ended it; `faults`: what each could not read."""

    __slots__ = (
        "_decode", "_dialect", "_framer", "_framing", "_guards", "_ordinals", "_running", "_streamed", "attached_count",
        "blocked", "counts", "fault", "is_over",
    )  # fmt: skip

    def __init__(
        self, guards: Sequence[Guard], dialect: Dialect, framing: Framing, decode: Decode = decode_answer
    ) -> None:
        self._guards = guards
        self._dialect = dialect
        self._framing = framing
        self._framer = Framer(framing, FRAME_BYTES_MAX)
        self._decode = decode
        self._streamed = STREAMED.get(dialect, frozenset())
        self._running: dict[Channel, _Running] = {}
        self.counts: list[Counts] = [{} for _ in guards]
        self.attached_count = 0
        self.blocked: Guard | None = None
        self.fault = ""  # why some of it was not read
        self.is_over = False  # it was ended here

    def feed(self, data: bytes) -> bytes:
        """Octets of the stream; returns what goes on."""
        return self._take(self._framer.feed(data))

    def finish(self) -> bytes:
        """The stream has ended; returns the rest."""
        if self.is_over:
            return b""
        out = self._take(self._framer.finish())
        return out if self.is_over else out + self._flush(list(self._running.values()))

    def _take(self, frames: list[tuple[bytes, bool]]) -> bytes:
        out = []
        for frame, is_whole in frames:
            if self.is_over:
                break
            out.append(self._event(frame) if is_whole else self._unread(frame, "an event is too long"))
        return b"".join(out)

    def _event(self, frame: bytes) -> bytes:
        name, data = entry_of(self._framing, frame)
        if not data:
            return frame
        if data == DONE:
            return self._flush(list(self._running.values())) + frame
        try:
            event = decoded(self._decode, data)
            ended = self._ended(event)
            flushed, is_changed = self._judged(event, name, data, ended)
        except (InferenceFault, RecursionError):
            return self._unread(frame, "an event is not in its dialect")
        if self.blocked is not None:
            return flushed
        return flushed + (self._rewritten(frame, name, event) if is_changed else frame)

    def _judged(self, event: Members, name: str, data: bytes, ended: _Ended) -> tuple[bytes, bool]:
        """What has to go out before the event, and whether it has changed."""
        reader = Reader(self._streamed)
        texts = reader.texts(event, is_answer=self._is_changing)
        last = {text.channel: at for at, text in enumerate(texts)}
        is_changed = False
        for at, text in enumerate(texts):
            if text.channel:
                running = self._running_at(text.channel, is_json=text.is_json)
                value = running.feed(text.value, is_end=last[text.channel] == at and ended.of(text.channel))
                running.name, running.data = name, data
            else:
                value = self._whole(text.value, is_json=text.is_json)
            if value != text.value:
                text.put(value)
                is_changed = True
        self.attached_count += reader.attached_count
        over = [one for one in self._running.values() if ended.of(one.channel)]
        flushed = self._flush([one for one in over if one.channel not in last])
        for one in over:
            self._running.pop(one.channel, None)
        blocked = self._blocking()
        if blocked is not None and self.blocked is None:
            return self._block(blocked), True
        return flushed, is_changed or reader.is_spelt

    def _running_at(self, channel: Channel, *, is_json: bool) -> _Running:
        running = self._running.get(channel)
        if running is None:
            if len(self._running) >= TEXTS_MAX:
                raise InferenceFault("$", "too many texts at a time")
            sieves = [
                Sieve(guard, counts, is_json=is_json) for guard, counts in zip(self._guards, self.counts, strict=True)
            ]
            running = self._running[channel] = _Running(channel, sieves)
        return running

    def _whole(self, value: str, *, is_json: bool) -> str:
        for guard, counts in zip(self._guards, self.counts, strict=True):
            value = Sieve(guard, counts, is_json=is_json).feed(value, is_end=True)
        return value

    @property
    def _is_changing(self) -> bool:
        return any(one.action != "observe" for one in self._guards)

    def _blocking(self) -> Guard | None:
        for guard, counts in zip(self._guards, self.counts, strict=True):
            if guard.action == "block" and counts:
                return guard
        return None

    # Ends.

    def _ended(self, event: Members) -> _Ended:
        """Which texts this event ends."""
        kind = event.get("type")
        if kind in ENDS or event.get("done") is True or event.get("error"):
            return _Ended(is_all=True)
        if kind == "content_block_stop" and isinstance(event.get("index"), int):
            return _Ended(block=event["index"])
        if isinstance(kind, str) and kind.startswith("response.") and kind.endswith(".done"):
            return _Ended(item=(event.get("output_index"), event.get("item_id")))
        choices = event.get("candidates" if self._dialect is Dialect.GEMINI_GENERATE else "choices")
        ended = set()
        for at, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict) and (choice.get("finish_reason") or choice.get("finishReason")):
                index = choice.get("index")
                ended.add(index if isinstance(index, int) else None if at == 0 else at)
        return _Ended(choices=frozenset(ended))

    def _flush(self, those: Sequence[_Running]) -> bytes:
        """What was withheld of texts that have ended, each as one more of its last event."""
        out = []
        for one in those:
            rest = one.feed("", is_end=True)
            self._running.pop(one.channel, None)
            if rest and self._blocking() is None:
                out.append(self._again(one, rest))
        blocked = self._blocking()
        if blocked is not None and self.blocked is None:
            return self._block(blocked)
        return b"".join(out)

    def _again(self, one: _Running, rest: str) -> bytes:
        event = decoded(self._decode, one.data)
        texts = Reader(self._streamed).texts(event)
        mine = next(text for text in texts if text.channel == one.channel)
        mine.put(rest)
        return self._written(_alone(event, mine), one.name)

    # What cannot be read, and what is stopped.

    def _unread(self, frame: bytes, fault: str) -> bytes:
        closed = next((one for one in self._guards if one.is_closed), None)
        self.fault = fault
        return frame if closed is None else self._block(closed)

    def _block(self, guard: Guard) -> bytes:
        self.blocked, self.is_over = guard, True
        self._running.clear()
        reason = Reason.ANSWER_UNREADABLE if self.fault else Reason.ANSWER_BLOCKED
        return stop(self._dialect, self._framing, reason)

    # Octets.

    def _rewritten(self, frame: bytes, name: str, event: Members) -> bytes:
        if self._framing is not Framing.SSE:
            _, data = entry_of(self._framing, frame)
            return frame.replace(data, json.dumps(event, separators=(",", ":")).encode(), 1)
        return comments_of(frame) + self._written(event, name)

    def _written(self, event: Members, name: str) -> bytes:
        data = json.dumps(event, separators=(",", ":")).encode()
        if self._framing is not Framing.SSE:
            return data + b"\n"
        line = f"event: {name}\n".encode() if name else b""
        return b"%bdata: %b\n\n" % (line, data)


class _Ended:
    """Which texts an event ends: all, those of a block, of an item, or of choices."""

    __slots__ = ("_block", "_choices", "_is_all", "_item")

    def __init__(
        self, *, is_all: bool = False, block: int | None = None, item: tuple[Any, Any] | None = None,
        choices: frozenset[int | None] = frozenset(),
    ) -> None:  # fmt: skip
        self._is_all = is_all
        self._block = block
        self._item = item
        self._choices = choices

    def of(self, channel: Channel) -> bool:
        if self._is_all:
            return True
        if self._block is not None:
            return channel[0] == self._block
        if self._item is not None:
            return any(one is not None and one in channel[:2] for one in self._item)
        if not self._choices:
            return False
        index = next((one for one in channel[1:2] if isinstance(one, int)), None)
        return index in self._choices or (index is None and 0 in self._choices)


def _alone(value: Any, text: Text, *, is_delta: bool = False) -> Any:
    """What of an event leads to one text of it, with the protocol's words beside the way; nothing where nothing does.

    In a `delta` the words that are put together as texts are (who speaks, how a call is named) are left out, too.
    """
    is_holder = value is text.holder
    if isinstance(value, list):
        if is_holder:
            return [value[text.key]]
        return [one for one in [_alone(one, text, is_delta=is_delta) for one in value] if one]
    if not isinstance(value, dict):
        return None
    found, is_way = {}, is_holder
    for name, one in value.items():
        if is_holder and name == text.key:
            found[name] = one
        elif isinstance(one, str):
            if is_sign(name, one) and (name == "type" or not is_delta):
                found[name] = one
        elif one and isinstance(one, dict | list):
            if way := _alone(one, text, is_delta=is_delta or name == "delta"):
                found[name], is_way = way, True
        else:
            found[name] = one
    return found if is_way else None
