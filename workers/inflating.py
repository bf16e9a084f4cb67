"""Encodings of answers that can be looked into besides the standard library's: `br`, where the package is there.

Without it what clients accept is narrowed on its way to the upstream, as for any encoding that cannot be read
(sentinel/inference/encodings.py): nothing is lost but what brotli saves over gzip.
"""

from __future__ import annotations

from typing import Final

from sentinel.inference.encodings import INFLATERS as STANDARD
from sentinel.inference.encodings import InflateFault, Inflaters, ordinary

try:
    import brotli  # type: ignore[import-untyped,unused-ignore]
except ImportError:
    brotli = None


class Brotli:
    """Inflates `br`, a piece at a time."""

    __slots__ = ("_decoder", "_left")

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self._left = b""  # what it does not take before what it has is taken from it

    def inflate(self, data: bytes, most: int) -> bytes:
        self._left += data
        try:
            found = self._step(most)
            while self._left and len(found) < most and self._decoder.can_accept_more_data():
                found += self._step(most - len(found))
        except brotli.error as fault:
            raise InflateFault(str(fault)) from None
        return found

    def _step(self, most: int) -> bytes:
        piece = b""
        if self._decoder.can_accept_more_data():
            piece, self._left = self._left, b""
        found: bytes = self._decoder.process(piece, output_buffer_limit=most)
        return found


INFLATERS: Final[Inflaters] = STANDARD if brotli is None else {**STANDARD, "br": Brotli}
ORDINARY: Final = ordinary(INFLATERS)
