"""Request ids: 128 bits, unique across workers and restarts, for the price of one addition.

Intuition: the first 80 bits are drawn once when the worker starts, the last 48
count its requests. Two workers collide only if they drew the same 80 bits.
Rejected: a random number a request (a system call, or a generator whose state a
fork would duplicate), and the slot's number in the id (it tells the outside how
large the fleet is).

An id that a client sends is its own business: it is believed from trusted
proxies only, and only when it is a plain word that cannot break a header or a
log line.
"""

from __future__ import annotations

import os
import re
from typing import Final

_PREFIX_BYTES: Final = 10
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+/@-]{0,127}").fullmatch


class RequestIds:
    """The source of one worker's ids; made after the fork, so that no two draw the same prefix."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(_PREFIX_BYTES).hex()
        self._count = 0

    def new(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count:012x}"


def is_acceptable(text: str) -> bool:
    """May this id, sent by a trusted proxy, be carried on?"""
    return _PLAIN(text) is not None
