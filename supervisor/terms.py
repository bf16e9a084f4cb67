"""What control may say to the supervisor, as types: a border, and therefore strict.

Control is the one process that reads text written by people, and it may be wrong.
So everything is decoded into these closed shapes, with bounds where a number would
cost something, before anybody acts on it; what does not fit is answered with
the decoder's own words. Unknown fields are ignored: control may be of a later
release than the supervisor, which only a restart replaces.

The `Terms` of a generation are all that the supervisor ever knows of a plan:
where the file is, how many workers serve it on which addresses, and how patient
to be with them. They are kept as long as the generation may be wanted again.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MESSAGE_BYTES_MAX: Final = 64 * 1024
WORKERS_MAX: Final = 256
ADDRESSES_MAX: Final = 64
"""Each is a socket a lane: with the workers' maximum, 16384 descriptors."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Span = Annotated[int, msgspec.Meta(ge=0, le=365 * 86_400 * 10**9)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Probation(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how strictly a new generation is watched; the share is in thousandths."""

    duration_ns: Span
    failure_share_max: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    requests_min: Count
    ready_timeout_ns: Span


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How one generation is to be run."""

    plan_path: Text
    fingerprint: Text
    workers: Annotated[int, msgspec.Meta(ge=1, le=WORKERS_MAX)]
    addresses: Annotated[tuple[Text, ...], msgspec.Meta(max_length=ADDRESSES_MAX)]
    drain_deadline_ns: Span
    heartbeat_timeout_ns: Span
    probation: Probation
    restarts_max: Count
    restarts_window_ns: Span
    cpu_affinity: bool = False
    canary_lanes: Count = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope: what every message has."""

    id: int
    op: Annotated[str, msgspec.Meta(max_length=64)]  # told back in a refusal, which has to fit into a message


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """`stop`: like SIGTERM. Control says a status when there is nothing to serve at all."""

    status: Annotated[int, msgspec.Meta(ge=0, le=125)] = 0
    why: str = ""


_decode_message = msgspec.json.Decoder(Message).decode
_decode_terms = msgspec.json.Decoder(Terms).decode
_decode_stop = msgspec.json.Decoder(Stop).decode


class BadMessage(Exception):
    """A message that is none of those above; the text says why."""


UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""All that the decoder raises: wrong shapes, octets that are no UTF-8, and what is nested without end."""


def envelope(data: bytes) -> Message:
    try:
        return _decode_message(data)
    except UNREADABLE as fault:
        raise BadMessage(f"not a message: {fault}") from None


def terms(data: bytes) -> Terms:
    try:
        return _decode_terms(data)
    except UNREADABLE as fault:
        raise BadMessage(f"`rollout` is malformed: {fault}") from None


def stop(data: bytes) -> Stop:
    try:
        return _decode_stop(data)
    except UNREADABLE as fault:
        raise BadMessage(f"`stop` is malformed: {fault}") from None
