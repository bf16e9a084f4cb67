"""By how a prompt begins: what an engine has computed of it once lies in its cache, and is not computed again.

Intuition: regulars at a bar. Whoever served them yesterday knows how their story began, and needs to hear only what
is new. If that barman has his hands full, somebody else listens from the beginning.

    prompt  |---- 1 KiB ----|------------- 4 KiB -------------|------------------ 16 KiB ---- ... ->
    mark    of the longest of these three that the prompt fills; a shorter prompt has none

Rules:
1. A conversation grows at its end, so its mark stays the same but for two steps; then its beginning is computed once
   more elsewhere. What many prompts begin with alike (a system prompt) is soon in all caches: longer marks spread them.
2. A prompt below the shortest length has nothing that is worth a way: it goes where there is least to do.
3. The endpoint that owns a mark is found by a ring (hashing.Ring): when one leaves, only the marks that it owned move.
4. Bounded load: an owner that has more than `max_load` thousandths of its fair part of all tokens under way is passed
   by, and the request goes where there is least to do.
5. A mark is 64 bits of a hash. The prompt's text goes no further than to here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

LENGTHS: Final = (1024, 4096, 16_384)
"""Octets: some 250, 1,000 and 4,000 tokens. An engine's own blocks are 16 to 64 tokens."""


def mark_of(texts: Iterable[str]) -> int:
    """The mark of a prompt that consists of these texts, in this order; 0 for one that is too short."""
    pieces: list[bytes] = []
    size = 0
    for text in texts:
        # A character has four octets at most, so nobody encodes a book for its first page.
        piece = text[: LENGTHS[-1] - size].encode("utf-8", "surrogatepass") + b"\0"
        pieces.append(piece)
        size += len(piece)
        if size >= LENGTHS[-1]:
            break
    octets = b"".join(pieces)
    length = max((one for one in LENGTHS if one <= len(octets)), default=0)
    if not length:
        return 0
    return int.from_bytes(blake2b(octets[:length], digest_size=8, person=b"sentinel-prefix").digest(), "big") or 1


def bound_of(
    owner: int, max_load: int, burdens: Sequence[int], weights: Sequence[int], allowed: Sequence[int], tokens: int
) -> int:
    """The tokens that the owner may have under way so that one more goes to it."""
    total = sum(burdens[index] for index in allowed) + tokens
    return max_load * total * weights[owner] // (1000 * sum(weights[index] for index in allowed))
