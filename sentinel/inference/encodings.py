"""Looking into encoded answers, while they go to the client as they are.

Intuition: a customs scanner. The parcel is looked through and stays closed; and one that swells beyond all
measure under the rays is not looked through any further.

Choice: an encoded answer is observed and never changed. Where events have to be removed from a stream, and where the
encoding would be unknown here, the request's `accept-encoding` is narrowed on its way to the upstream
(`accepted`), so that what comes back can be read; a client that names none gets none. If an
encoding that nobody asked for comes all the same, usage is not known, and the reading says so.

gzip and deflate are the standard library's. Others (`br`, `zstd`) are handed in: objects that inflate piece by
piece with a bound on each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from sentinel.inference.sheet import Doubt

PIECE_BYTES: Final = 64 * 1024
"""So much is inflated at once: a bomb goes off a spoonful at a time."""
FREE_BYTES: Final = 4 * 1024 * 1024
RATIO_MAX: Final = 100
"""What swells further than that is looked through no more, once it has FREE_BYTES. Streams of events, each with the
same envelope, swell twenty- to sixtyfold; zlib's most is a thousandfold."""
BEHIND_BYTES_MAX: Final = 1024 * 1024
"""Of what came and was not inflated yet."""
ALL: Final = 1 << 62
HEAD_BYTES: Final = 2
"""Of a zlib stream; bare deflate data does not look like it."""


class Inflater(Protocol):
    """What inflates. `inflate` returns at most `most` octets; given no input it goes on with what it has."""

    def inflate(self, data: bytes, most: int) -> bytes: ...


Inflaters = Mapping[str, Callable[[], Inflater]]


class InflateFault(Exception):
    """The octets are not in their encoding."""


class _Zlib:
    """gzip, and deflate in both readings of the name: with zlib's head, as the standard says, and bare."""

    __slots__ = ("_is_gzip", "_left", "_zlib")

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._left = b""
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16) if is_gzip else None

    def inflate(self, data: bytes, most: int) -> bytes:
        self._left += data
        try:
            found = self._step(most)
            while self._left and len(found) < most and self._zlib is not None:  # gzip: one member after another
                found += self._step(most - len(found))
        except zlib.error as fault:
            raise InflateFault(str(fault)) from None
        return found

    def _step(self, most: int) -> bytes:
        if self._zlib is None:
            if len(self._left) < HEAD_BYTES:
                return b""
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_head(self._left) else -zlib.MAX_WBITS)
        elif self._zlib.eof:
            if not self._is_gzip or not self._left.startswith(b"\x1f"):  # padding after the end
                self._left = b""
                return b""
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)
        found = self._zlib.decompress(self._left, most)
        self._left = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
        return found


def _has_zlib_head(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and int.from_bytes(data[:HEAD_BYTES], "big") % 31 == 0


def _gzip() -> Inflater:
    return _Zlib(is_gzip=True)


def _deflate() -> Inflater:
    return _Zlib(is_gzip=False)


INFLATERS: Final[Inflaters] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate}


class Scanner:
    """Inflates an answer within bounds, until it is through or something is wrong."""

    __slots__ = ("_behind_bytes", "_inflater", "_made", "_most", "_taken", "doubt", "is_behind")

    def __init__(self, inflater: Inflater | None, most: int) -> None:
        self._inflater = inflater
        self._most = most
        self._taken = self._made = 0  # octets in, and out
        self._behind_bytes = 0  # that came while there was more to inflate already
        self.is_behind = False
        self.doubt: Doubt | None = None if inflater is not None else Doubt.UNKNOWN_ENCODING

    def feed(self, data: bytes, most: int = ALL) -> Iterator[bytes]:
        """What the octets hold, in pieces; nothing more once there is a doubt.

        About `most` at a time: then there may be more (`is_behind`), which comes when it is fed again, with or
        without further octets.
        """
        self._taken += len(data)
        self._behind_bytes = self._behind_bytes + len(data) if self.is_behind else 0
        self.is_behind = False
        made = 0
        while self.doubt is None and self._inflater is not None:
            try:
                piece = self._inflater.inflate(data, PIECE_BYTES)
            except InflateFault:
                self.doubt = Doubt.BAD_ENCODING
                return
            made += len(piece)
            self._made += len(piece)
            if (
                self._made > self._most
                or self._made > FREE_BYTES + RATIO_MAX * self._taken
                or self._behind_bytes > BEHIND_BYTES_MAX
            ):
                self.doubt = Doubt.INFLATED_TOO_FAR
                return
            if piece:
                yield piece
            if len(piece) < PIECE_BYTES:
                return
            if made >= most:
                self.is_behind = True
                return
            data = b""


def scanner_of(encoding: str, most: int, inflaters: Inflaters = INFLATERS) -> Scanner | None:
    """What looks into an answer with this `content-encoding`; None when there is nothing to inflate.

    Several encodings one over the other are unknown: nobody sends them, and each would need a bound.
    """
    if not encoding:
        return None
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    make = inflaters.get(name)
    return Scanner(make() if make else None, most)


def accepted(
    header: str, *, is_edited: bool, inflaters: Inflaters = INFLATERS, known: Mapping[str, str] | None = None
) -> str:
    """The `accept-encoding` to send on: what can be read here; `identity` alone where a stream will be edited.

    known: the answers to what nearly all clients say (`ordinary`).
    """
    if is_edited:
        return "identity"
    found = None if known is None else known.get(header)
    return _readable(header, inflaters) if found is None else found


def ordinary(inflaters: Inflaters) -> dict[str, str]:
    """What becomes of what nearly all clients say; the SDKs have it from their libraries."""
    said = ("", "identity", "gzip", "gzip, deflate", "gzip, deflate, br", "gzip, deflate, br, zstd")
    return {header: _readable(header, inflaters) for header in said}


def _readable(header: str, inflaters: Inflaters) -> str:
    kept = [one.strip() for one in header.split(",") if one.partition(";")[0].strip().lower() in inflaters]
    return ", ".join(kept) or "identity"
