"""Encoded answers are looked into within bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.encodings import INFLATERS, accepted, scanner_of
from sentinel.inference.sheet import Doubt

TEXT = b"data: word\n\n" * 500


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def inflated(encoding: str, *pieces: bytes, most: int = 10**6) -> tuple[bytes, Doubt | None]:
    scanner = scanner_of(encoding, most)
    assert scanner is not None
    return b"".join(found for piece in pieces for found in scanner.feed(piece)), scanner.doubt


ENCODED = {
    "plain": ("gzip", gzip.compress(TEXT)), "capitals": ("GZIP", gzip.compress(TEXT)),
    "old name": ("x-gzip", gzip.compress(TEXT)), "with a head": ("deflate", zlib.compress(TEXT)),
    "bare": ("deflate", bare(TEXT)), "members": ("gzip", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:])),
    "padded": ("gzip", gzip.compress(TEXT) + b"\0" * 20),
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "encoded"), ENCODED.values(), ids=ENCODED)
def test_what_is_encoded_is_read_however_it_is_cut(encoding: str, encoded: bytes) -> None:
    for size in (1, 2, 3, 50, len(encoded)):
        pieces = [encoded[at : at + size] for at in range(0, len(encoded), size)]
        assert inflated(encoding, *pieces) == (TEXT, None)


def test_nothing_to_inflate() -> None:
    assert scanner_of("", 1) is None and scanner_of("identity", 1) is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x"])
def test_unknown_encodings_are_said(encoding: str) -> None:
    assert inflated(encoding, b"abc") == (b"", Doubt.UNKNOWN_ENCODING)


def test_the_bound_is_one_of_what_comes_out() -> None:
    encoded = gzip.compress(b"x" * (4 * 10**6))
    found, doubt = inflated("gzip", encoded, most=10**6)
    assert len(found) <= 10**6 and doubt is Doubt.INFLATED_TOO_FAR
    assert inflated("gzip", encoded, most=4 * 10**6)[1] is None


@given(st.sampled_from(sorted(INFLATERS)), st.lists(st.binary(max_size=20), max_size=5))
def test_noise_is_a_doubt_and_nothing_worse(encoding: str, pieces: list[bytes]) -> None:
    inflated(encoding, *pieces)
    inflated(encoding, gzip.compress(TEXT)[:30], *pieces)


@pytest.mark.parametrize(("header", "is_edited", "expected"), [
    ("gzip, deflate, br, zstd", False, "gzip, deflate"), ("br", False, "identity"), ("", False, "identity"),
    ("gzip;q=0.5, *", False, "gzip;q=0.5"), ("gzip", True, "identity"),
])  # fmt: skip
def test_what_the_upstream_may_send(header: str, is_edited: bool, expected: str) -> None:
    assert accepted(header, is_edited=is_edited) == expected
