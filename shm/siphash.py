"""SipHash-2-4 with an output of 128 bits (Aumasson and Bernstein, 2012): the twin of `_native/siphash.h`.

Keys of limits come from clients. Hashed with a secret of 128 bits they become
numbers whose collisions nobody outside can find, so that no client can aim at
the window of another one, and equal hashes are as good as equal keys.

Rejected: hashlib's blake2b with a key, which is as good a hash and four times
as slow for the 20 octets that most keys have.
"""

from __future__ import annotations

from typing import Final

MASK: Final = (1 << 64) - 1
SEED: Final = (0x736F6D6570736575, 0x646F72616E646F6D ^ 0xEE, 0x6C7967656E657261, 0x7465646279746573)
"""The four constants of the paper; the second one as its form for 128 bits has it."""


def siphash_128(secret_low: int, secret_high: int, text: bytes) -> tuple[int, int]:
    """The low and the high word of the text's hash."""
    state = (SEED[0] ^ secret_low, SEED[1] ^ secret_high, SEED[2] ^ secret_low, SEED[3] ^ secret_high)
    whole = len(text) & ~7
    for at in range(0, whole, 8):
        state = _absorb(state, int.from_bytes(text[at : at + 8], "little"))
    state = _absorb(state, (len(text) & 0xFF) << 56 | int.from_bytes(text[whole:], "little"))
    state = _rounds((state[0], state[1], state[2] ^ 0xEE, state[3]), 4)
    low = state[0] ^ state[1] ^ state[2] ^ state[3]
    state = _rounds((state[0], state[1] ^ 0xDD, state[2], state[3]), 4)
    return low, state[0] ^ state[1] ^ state[2] ^ state[3]


def _absorb(state: tuple[int, int, int, int], word: int) -> tuple[int, int, int, int]:
    a, b, c, d = _rounds((state[0], state[1], state[2], state[3] ^ word), 2)
    return a ^ word, b, c, d


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for _ in range(count):
        a, c = (a + b) & MASK, (c + d) & MASK
        b, d = _rotated(b, 13) ^ a, _rotated(d, 16) ^ c
        a = _rotated(a, 32)
        c, a = (c + b) & MASK, (a + d) & MASK
        b, d = _rotated(b, 17) ^ c, _rotated(d, 21) ^ a
        c = _rotated(c, 32)
    return a, b, c, d


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 64 - bits) & MASK
