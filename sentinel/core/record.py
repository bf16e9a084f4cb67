"""The journal's record of a finished exchange: small, bounded, and never wrong in part.

Intuition: a luggage label. It travels with every request, so it must cost
nothing to write; it is read once in a thousand times, by somebody who needs
what is on it. What does not fit is left off, and the label says so.

Layout: one fixed struct (numbers), then one reason number a step, then all texts in
UTF-8, separated by NUL. One pack, one join, one encode. Texts are, in order: request id,
listener, client ip, method, host, path, route, upstream, endpoint; then for each step
its place and its details (separated by U+001F). A place is `file:line:column`, or U+001E and
`line:column` when its file is that of the place before it: nearly all are of one file.

A detail is a string, a whole number, or the octets of a key. A key is never written: what stands for it is
a mark of 32 bits, keyed with the instance's secret, by which one sees that two requests share a bucket.

Rules:
1. A record nearly always has at most RECORD_BYTES_MAX: it fits a sheet of the ring (shm.journal). Of what is longer
   first the texts are cut to their caps, since clients choose some of them. What is longer still for its steps goes
   on over further sheets, and never exceeds LONG_BYTES_MAX: three tries for three models at budgets of four
   levels are 1,400 octets.
2. What is too long even so is cut in the order of its worth: steps in the middle of more than STEPS_MAX, the longest
   details of steps, then the last steps. `is_cut` tells whether anything was left off.
   How it ended, and what it cost, is worth more than one try among many.
3. The query is never recorded, only its length: it carries secrets. The path is bounded.
   A field that is redacted has its mark instead, which begins with `~`, as no value of it does.
4. `decode` raises RecordFault for whatever is no record, and nothing else: the ring may
   hold anything after a crash.

Runs in the worker (encode) and in control (decode). Rejected: msgpack (the core
must run without compiled packages), JSON (three times the size and the cost), numbers in binary
within the steps (a fifth smaller at best, and two sections to keep in step).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sentinel.core.reasons import BY_NUMBER
from sentinel.core.span import Span
from sentinel.core.trace import Step

RECORD_BYTES_MAX: Final = 496
LONG_BYTES_MAX: Final = 2000
VERSION: Final = 2
FIXED: Final = struct.Struct("<BBBBHHHIqQQQ")
"""version, flags, steps, reason | status, attempts, query length | generation | time, duration, in, out."""
STEPS_COUNT_MAX: Final = 255  # as the field says
CUT: Final = 1  # flag: something was left off
STEPS_MAX: Final = 64  # of a record that was cut
LAST_STEPS: Final = 16  # of them, those that are its end
TEXTS: Final = ("request_id", "listener", "client_ip", "method", "host", "path", "route", "upstream", "endpoint")
TEXT_CAPS: Final = (48, 32, 45, 16, 64, 112, 32, 32, 48)
"""Octets kept of each text once a record turns out too long, in the order of TEXTS."""
REDACTABLE: Final = {"client-ip": "client_ip", "host": "host", "path": "path"}
"""What an operator may have redacted, and the text that it is in."""
NUL: Final = "\0"
BETWEEN: Final = "\x1f"  # between details
SAME_FILE: Final = "\x1e"  # before a place in the file of the place before it
UNKNOWN: Final = "\ufffd"  # stands for a separator in a text
SEPARATORS: Final = dict.fromkeys(map(ord, (NUL, BETWEEN, SAME_FILE)), UNKNOWN)
Mark = Callable[[bytes], int]
"""32 bits that stand for octets: equal for equal ones, and nothing that leads back to them."""

assert len(TEXTS) == len(TEXT_CAPS)
assert FIXED.size + sum(TEXT_CAPS) + len(TEXTS) <= RECORD_BYTES_MAX, "texts at their caps fit, without steps"


class RecordFault(ValueError):
    """The octets are no record of this version: damaged, or another release's."""


@dataclass(frozen=True, slots=True)
class RecordStep:
    """One conclusion: the number of its reason, the place that caused it, its details."""

    reason_number: int
    place: str  # "file:line:column", "" where no operator wrote anything
    details: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        return reason_word(self.reason_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A finished exchange, as read back from the journal."""

    request_id: str
    time_ns: int  # wall clock, when the exchange began
    duration_ns: int
    generation: int
    listener: str
    client_ip: str
    method: str
    host: str
    path: str
    query_length: int  # 0: none
    route: str  # "" when none matched
    upstream: str
    endpoint: str
    attempts: int
    status: int
    reason_number: int
    bytes_in: int
    bytes_out: int
    steps: tuple[RecordStep, ...] = ()
    is_cut: bool = False

    @property
    def reason(self) -> str:
        return reason_word(self.reason_number)


class RecordEncoder:
    """Encodes records. Steps that are known beforehand (`RouteTable.fixed_steps`) are written out once.

    redacted: names of REDACTABLE. mark: needed for these, and for keys.
    """

    __slots__ = ("_known", "_mark", "_redacted")

    def __init__(
        self, fixed_steps: Iterable[Step] = (), *, redacted: Collection[str] = (), mark: Mark | None = None
    ) -> None:
        self._mark = mark or _no_mark
        self._redacted = redacted_texts(redacted)
        # By identity: hashing a step costs more than writing it. The step is kept, so its identity stays its own.
        self._known: dict[int, tuple[str, Step]] = {
            id(step): (details_text(step[2], self._mark), step) for step in fixed_steps
        }

    def encode(
        self, *, request_id: str, time_ns: int, duration_ns: int, generation: int, listener: str, client_ip: str,
        method: str, host: str, path: str, query_length: int, route: str, upstream: str, endpoint: str, attempts: int,
        status: int, reason_number: int, bytes_in: int, bytes_out: int, steps: Sequence[Step],
    ) -> bytes:  # fmt: skip
        """Encode one exchange; never longer than LONG_BYTES_MAX, whatever it is given."""
        texts = [request_id, listener, client_ip, method, host, path, route, upstream, endpoint]
        for at in self._redacted:
            if texts[at]:
                texts[at] = mark_text(self._mark(texts[at].encode("utf-8", "replace")))
        numbers = []
        file: str | None = None
        for step in steps:
            reason, span, details = step
            known = self._known.get(id(step))
            numbers.append(reason.number)
            texts.append(place_text(span, file))
            texts.append(details_text(details, self._mark) if known is None else known[0])
            file = span.file if span.line else file
        octets = NUL.join(texts).encode("utf-8", "replace")
        count = len(numbers)
        flags = 0
        if FIXED.size + count + len(octets) > RECORD_BYTES_MAX or octets.count(0) != len(TEXTS) - 1 + 2 * count:
            capped = [_capped(text, cap) for text, cap in zip(texts, TEXT_CAPS, strict=False)]
            flags = CUT if capped != texts[: len(TEXTS)] else 0
            texts[: len(TEXTS)] = capped
            octets = NUL.join(texts).encode("utf-8", "replace")
        if FIXED.size + count + len(octets) > LONG_BYTES_MAX or count > STEPS_COUNT_MAX:
            if count > STEPS_MAX:
                texts, numbers = _without_middle(texts), numbers[: STEPS_MAX - LAST_STEPS] + numbers[-LAST_STEPS:]
            count, octets = _cut(texts)
            flags = CUT
        try:
            head = FIXED.pack(
                VERSION, flags, count, reason_number, status, attempts, query_length, generation,
                time_ns, duration_ns, bytes_in, bytes_out,
            )  # fmt: skip
        except struct.error:  # a number beyond its field: rare enough to look at all of them
            head = FIXED.pack(
                VERSION, CUT, count, _clamped(reason_number, 8), _clamped(status, 16), _clamped(attempts, 16),
                _clamped(query_length, 16), _clamped(generation, 32), _clamped(time_ns, 63),
                _clamped(duration_ns, 64), _clamped(bytes_in, 64), _clamped(bytes_out, 64),
            )  # fmt: skip
        return head + bytes(numbers[:count]) + octets


def decode(data: bytes) -> Record:
    """Read a record back; raise RecordFault when the octets are none."""
    if len(data) < FIXED.size or data[0] != VERSION:
        raise RecordFault("too short, or of another version")
    (_, flags, count, reason_number, status, attempts, query_length, generation,
     time_ns, duration_ns, bytes_in, bytes_out) = FIXED.unpack_from(data)  # fmt: skip
    body_at = FIXED.size + count
    numbers = data[FIXED.size : body_at]
    texts = data[body_at:].decode("utf-8", "replace").split("\0")
    if len(numbers) != count or len(texts) != len(TEXTS) + 2 * count:
        raise RecordFault("its parts do not add up")
    places = _places(texts[len(TEXTS) :: 2])
    steps = tuple(
        RecordStep(number, place, tuple(details.split(BETWEEN)) if details else ())
        for number, place, details in zip(numbers, places, texts[len(TEXTS) + 1 :: 2], strict=True)
    )
    return Record(
        **dict(zip(TEXTS, texts, strict=False)), time_ns=time_ns, duration_ns=duration_ns, generation=generation,
        query_length=query_length, attempts=attempts, status=status, reason_number=reason_number,
        bytes_in=bytes_in, bytes_out=bytes_out, steps=steps, is_cut=bool(flags & CUT),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Glance:
    """What can be told of a record without reading it."""

    status: int
    reason_number: int
    time_ns: int
    request_id: bytes


def glance(data: bytes) -> Glance:
    """Look at a record for a fraction of what decoding it costs; raise RecordFault when it is none."""
    if len(data) < FIXED.size or data[0] != VERSION:
        raise RecordFault("too short, or of another version")
    (_, _, count, reason_number, status, _, _, _, time_ns, *_) = FIXED.unpack_from(data)
    end = data.find(b"\0", FIXED.size + count)
    return Glance(status, reason_number, time_ns, data[FIXED.size + count : end if end >= 0 else len(data)])


def reason_word(number: int) -> str:
    """Return the word of a reason; a newer release may know more reasons than this one."""
    reason = BY_NUMBER.get(number)
    return f"reason-{number}" if reason is None else reason.word


def redacted_texts(names: Collection[str]) -> tuple[int, ...]:
    """Which of TEXTS are redacted."""
    return tuple(sorted(TEXTS.index(REDACTABLE[name]) for name in names))


def place_text(span: Span, file: str | None) -> str:
    """Write a place after one in `file`; separators cannot be part of it."""
    if not span.line:
        return ""
    if span.file == file:
        return f"{SAME_FILE}{span.line}:{span.column}"
    return f"{span.file.translate(SEPARATORS)}:{span.line}:{span.column}"


def details_text(details: Iterable[Any], mark: Mark) -> str:
    """Write the details of a step; separators cannot be part of one."""
    return BETWEEN.join([
        mark_text(mark(one)) if isinstance(one, bytes) else str(one).translate(SEPARATORS) for one in details
    ])  # fmt: skip


def mark_text(mark: int) -> str:
    return f"~{mark:08x}"


def _no_mark(octets: bytes) -> int:
    return 0


def _places(texts: Sequence[str]) -> list[str]:
    """Give each place its file; one that names the file before it, where there is none, is damage."""
    places: list[str] = []
    file: str | None = None
    for text in texts:
        if text.startswith(SAME_FILE):
            if file is None:
                raise RecordFault("a place has no file")
            text = file + ":" + text[1:]
        if text:
            file = text.rsplit(":", 2)[0]
        places.append(text)
    return places


def _without_middle(texts: list[str]) -> list[str]:
    """Leave off steps between the first and the last; a place of the last that names no file gets its own back."""
    first_end, last_start = len(TEXTS) + 2 * (STEPS_MAX - LAST_STEPS), len(texts) - 2 * LAST_STEPS
    last = texts[last_start:]
    for at in range(0, len(last), 2):
        place = last[at]
        if place.startswith(SAME_FILE):
            named = _file_named(texts[len(TEXTS) : last_start : 2])
            if named != _file_named(texts[len(TEXTS) : first_end : 2]):
                last[at] = f"{named}:{place[1:]}"
        if place:
            break
    return texts[:first_end] + last


def _file_named(places: list[str]) -> str:
    """The file of the last of these places that names one."""
    found = next((place for place in reversed(places) if place and not place.startswith(SAME_FILE)), "")
    return found.rsplit(":", 2)[0]


def _cut(texts: list[str]) -> tuple[int, bytes]:
    """Make it fit: drop details (the longest first), then the last steps, until it does."""
    parts = [text.encode("utf-8", "replace") for text in texts]
    size = FIXED.size + sum(map(len, parts)) + len(parts) - 1 + (len(parts) - len(TEXTS)) // 2
    while size > LONG_BYTES_MAX:
        longest = max(range(len(TEXTS) + 1, len(parts), 2), key=lambda at: len(parts[at]))
        if parts[longest]:
            size -= len(parts[longest])
            parts[longest] = b""
        else:
            size -= len(parts[-2]) + len(parts[-1]) + 3  # with their separators, and the number
            del parts[-2:]  # INVARIANT: without steps it fits, see the assertion above
    return (len(parts) - len(TEXTS)) // 2, b"\0".join(parts)


def _capped(text: str, octets_max: int) -> str:
    """Keep at most so many octets of UTF-8, never half a character."""
    return text.replace(NUL, UNKNOWN).encode("utf-8", "replace")[:octets_max].decode("utf-8", "ignore")


def _clamped(number: int, bits: int) -> int:
    return min(max(number, 0), (1 << bits) - 1)
