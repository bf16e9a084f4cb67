"""What an instance leaves to the next one: whose bucket is how full, and what is known of endpoints.

Intuition: a will. The house is torn down and built anew, perhaps larger; what is carried over is
what others rely on, and it is read by somebody who does not trust the paper.

    the instance ends in peace      -> the will is written beside it (run-dir/estate), the region goes
    the instance is killed          -> its region is still there, and is read instead
    the next one starts             -> a new region with the same secret, and what is left is put in place

Rule 1: buckets that still limit somebody are carried over exactly. Who is full again needs no mention.
Rule 2: of places only what is remarkable: an operator's word, an open breaker, an ejection, an endpoint that is
    ill. So names of former configurations do not live for ever, and a restart still makes room.
Rule 3: what was spent in windows of budgets that last still, by key. What was reserved is not, and neither are leases:
    they die with their worker. Nor are counters and the journal.
Rule 4: times are those of this boot. Papers of another boot, version or layout, and any that are damaged, are
    told of and put aside; a start never fails for them.

Rejected: to attach to the old region and go on in it. Its sizes could never change, whatever harmed it would stay,
and workers that survived a killed supervisor would share slots with their heirs.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shm.layout import LAYOUT_CRC, VERSION

MAGIC: Final = b"SENTINEL-ESTATE\n"
HEAD: Final = struct.Struct("<16sII36sQQQIII")
"""Magic, version, layout, boot, the secret's halves, octets of buckets, numbers of places and budgets, CRC-32."""
BUCKET: Final = struct.Struct("=QQQ")
"""The two halves of the key's hash, and until when (tat, monotonic ns)."""
NAMED: Final = struct.Struct("<HH")
"""Octets of a place's name, and of its words."""
SPENT: Final = struct.Struct("<HQQQ")
"""Octets of a budget's key; when its window ends; what was settled; requests."""
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class EstateFault(Exception):
    """Papers that cannot be believed; the text says why."""


@dataclass(frozen=True, slots=True)
class Estate:
    """buckets: a sequence of BUCKET. places: name, and the words of its record from `admin` on.

    budgets: key, until_ns, settled, requests.
    """

    secret: tuple[int, int]
    buckets: bytes
    places: tuple[tuple[str, bytes], ...]
    budgets: tuple[tuple[bytes, int, int, int], ...] = ()

    @property
    def bucket_count(self) -> int:
        return len(self.buckets) // BUCKET.size

    def to_bytes(self) -> bytes:
        named = b"".join(
            NAMED.pack(len(name.encode()), len(words)) + name.encode() + words for name, words in self.places
        )
        spent = b"".join(SPENT.pack(len(key), *numbers) + key for key, *numbers in self.budgets)
        body = self.buckets + named + spent
        head = HEAD.pack(
            MAGIC, VERSION, LAYOUT_CRC, boot(), *self.secret, len(self.buckets), len(self.places), len(self.budgets),
            zlib.crc32(body),
        )  # fmt: skip
        return head + zlib.crc32(head).to_bytes(4, "little") + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Estate:
        """Raises EstateFault for whatever was not written by us, here, since the machine was started."""
        at = HEAD.size + 4
        if len(data) < at or not data.startswith(MAGIC):
            raise EstateFault("it is not an estate, or not a whole one")
        _, version, layout, booted, low, high, size, places_count, budgets_count, crc = HEAD.unpack_from(data)
        if zlib.crc32(data[: HEAD.size]) != int.from_bytes(data[HEAD.size : at], "little"):
            raise EstateFault("it is damaged")
        if (version, layout) != (VERSION, LAYOUT_CRC):
            raise EstateFault("another version of sentinel wrote it")
        if booted != boot():
            raise EstateFault("it was written before the machine was started anew")
        body = data[at:]
        if zlib.crc32(body) != crc or size > len(body) or size % BUCKET.size:
            raise EstateFault("it is damaged")
        places, end = _places(body, size, places_count)
        budgets, end = _budgets(body, end, budgets_count)
        if end != len(body):
            raise EstateFault("it is damaged")
        return cls((low, high), body[:size], places, budgets)


def _places(data: bytes, at: int, count: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
    found = []
    for _ in range(count):
        if at + NAMED.size > len(data):
            raise EstateFault("it is damaged")
        name_size, size = NAMED.unpack_from(data, at)
        middle, end = at + NAMED.size + name_size, at + NAMED.size + name_size + size
        found.append((data[at + NAMED.size : middle].decode(errors="replace"), data[middle:end]))
        at = end
    return tuple(found), at


def _budgets(data: bytes, at: int, count: int) -> tuple[tuple[tuple[bytes, int, int, int], ...], int]:
    found = []
    for _ in range(count):
        if at + SPENT.size > len(data):
            raise EstateFault("it is damaged")
        size, until_ns, settled, requests = SPENT.unpack_from(data, at)
        at += SPENT.size + size
        found.append((data[at - size : at], until_ns, settled, requests))
    return tuple(found), at


def boot() -> bytes:
    """Names this run of the machine: monotonic times of another one mean nothing."""
    with suppress(OSError):
        return BOOT.read_bytes().strip()[:36].ljust(36)
    return b" " * 36
