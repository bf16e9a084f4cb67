"""The journal's record of a finished exchange: small, bounded, and never wrong in part.

Intuition: a luggage label. It travels with every request, so it must cost
nothing to write; it is read once in a thousand times, by somebody who needs
what is on it. What does not fit is left off, and the label says so.

Layout: one fixed struct (numbers), then one reason number a step, then all texts in
UTF-8, separated by NUL. One pack, one join, one encode. Texts are, in order: request id,
listener, client ip, method, host, path, route, upstream, endpoint; then for each step
its place (`file:line:column`) and its details (separated by U+001F).

Rules:
1. A record never exceeds RECORD_BYTES_MAX: it fits a cell of the ring (shm.layout).
2. What is too long is cut in the order of its worth: first the details of steps, then
   the length of texts, then the last steps. `is_cut` tells.
3. The query is never recorded, only its length: it carries secrets. The path is bounded.
4. `decode` raises RecordFault for whatever is no record, and nothing else: the ring may
   hold anything after a crash.

Runs in the worker (encode) and in control (decode). Rejected: msgpack (the core
must run without compiled packages), JSON (three times the size and the cost).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sentinel.core.reasons import BY_NUMBER
from sentinel.core.trace import Step

RECORD_BYTES_MAX: Final = 496
VERSION: Final = 1
FIXED: Final = struct.Struct("<BBBBHHHIqQQQ")
"""version, flags, steps, reason | status, attempts, query length | generation | time, duration, in, out."""
CUT: Final = 1  # flag: something was left off
STEPS_MAX: Final = 16
TEXTS: Final = ("request_id", "listener", "client_ip", "method", "host", "path", "route", "upstream", "endpoint")
TEXT_CAPS: Final = (48, 32, 45, 16, 64, 112, 32, 32, 48)
"""Octets kept of each text once a record turns out too long, in the order of TEXTS."""
NUL: Final = "\0"
UNKNOWN: Final = "\ufffd"  # stands for a NUL in a text, since NUL separates

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
    """Encodes records. Steps that are known beforehand (`RouteTable.fixed_steps`) are written out once."""

    __slots__ = ("_known",)

    def __init__(self, fixed_steps: Iterable[Step] = ()) -> None:
        # By identity: hashing a step costs more than writing it. The step is kept, so its identity stays its own.
        self._known: dict[int, tuple[int, str, Step]] = {
            id(step): (step[0].number, step_text(step), step) for step in fixed_steps
        }

    def encode(
        self, *, request_id: str, time_ns: int, duration_ns: int, generation: int, listener: str, client_ip: str,
        method: str, host: str, path: str, query_length: int, route: str, upstream: str, endpoint: str, attempts: int,
        status: int, reason_number: int, bytes_in: int, bytes_out: int, steps: Sequence[Step],
    ) -> bytes:  # fmt: skip
        """Encode one exchange; never longer than RECORD_BYTES_MAX, whatever it is given."""
        texts = [request_id, listener, client_ip, method, host, path, route, upstream, endpoint]
        numbers = []
        for step in steps:
            number, text, _ = self._known.get(id(step)) or (step[0].number, step_text(step), step)
            numbers.append(number)
            texts.append(text)
        octets = "\0".join(texts).encode("utf-8", "replace")
        count = len(numbers)
        flags = 0
        if FIXED.size + count + len(octets) > RECORD_BYTES_MAX or octets.count(0) != len(TEXTS) - 1 + 2 * count:
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
    steps = tuple(
        RecordStep(number, texts[at], tuple(texts[at + 1].split("\x1f")) if texts[at + 1] else ())
        for number, at in zip(numbers, range(len(TEXTS), len(texts), 2), strict=True)
    )
    return Record(
        **dict(zip(TEXTS, texts, strict=False)), time_ns=time_ns, duration_ns=duration_ns, generation=generation,
        query_length=query_length, attempts=attempts, status=status, reason_number=reason_number,
        bytes_in=bytes_in, bytes_out=bytes_out, steps=steps, is_cut=bool(flags & CUT),
    )  # fmt: skip


def reason_word(number: int) -> str:
    """Return the word of a reason; a newer release may know more reasons than this one."""
    reason = BY_NUMBER.get(number)
    return f"reason-{number}" if reason is None else reason.word


def step_text(step: Step) -> str:
    """Write the place and the details of a step; the separators cannot be part of them."""
    _, span, details = step
    detail = "\x1f".join([str(part).replace("\0", UNKNOWN) for part in details])
    return f"{str(span).replace(NUL, UNKNOWN)}\0{detail}" if span.line else f"\0{detail}"


def _cut(texts: list[str]) -> tuple[int, bytes]:
    """Make it fit: drop details, shorten texts, then drop the last steps, until it does."""
    heads = [_capped(text, cap) for text, cap in zip(texts, TEXT_CAPS, strict=False)]
    places = [text.partition(NUL)[0] + NUL for text in texts[len(TEXTS) :]][:STEPS_MAX]
    while True:
        octets = NUL.join(heads + places).encode("utf-8", "replace")
        if FIXED.size + len(places) + len(octets) <= RECORD_BYTES_MAX:
            return len(places), octets
        places.pop()  # INVARIANT: without places it fits, see the assertion above


def _capped(text: str, octets_max: int) -> str:
    """Keep at most so many octets of UTF-8, never half a character."""
    return text.replace(NUL, UNKNOWN).encode("utf-8", "replace")[:octets_max].decode("utf-8", "ignore")


def _clamped(number: int, bits: int) -> int:
    return min(max(number, 0), (1 << bits) - 1)
