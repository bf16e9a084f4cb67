"""Splits: which of several upstreams a request is for, by weight, and always the same for the same key.

Intuition: a lottery in which each upstream draws a number for each guest, the heavier the better his luck,
and the best number wins. The numbers follow from the names, so a guest who comes again finds the same
winner; and when one upstream's weight grows, it wins guests from all others, but no guest moves between these.

This is weighted rendezvous hashing: Thaler, Ravishankar, "Using name-based mappings to increase hit rates"
(1998); the score -weight / ln(u) is that of Schindelhauer, Schomaker, "Weighted distributed hash tables" (2005).

Rules:
1. Nothing is remembered: the key decides, in every worker, reload and restart.
2. The route plays no part: a key is for the same upstream on all routes that split alike.
3. Without a key it is chance that decides (World.chance), anew for each request.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log
from typing import Final

from sentinel.core.keys import Keyer
from sentinel.core.plan import Split, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step
from sentinel.core.wishes import Wisher
from sentinel.core.world import World

BITS: Final = 52
"""Of a drawn number: half a step more is still exact in a double, and below 1."""


class Branch:
    """One upstream of a split, and what a request that goes there needs."""

    __slots__ = ("seed", "step", "upstream", "weight", "wisher")

    def __init__(self, upstream: Upstream, weight: int, step: Step) -> None:
        self.upstream = upstream
        self.weight = weight
        self.step = step
        self.wisher = Wisher.of(upstream)
        self.seed = blake2b(upstream.name.encode(), digest_size=32).digest()

    def score(self, octets: bytes) -> float:
        digest = blake2b(octets, digest_size=8, key=self.seed, person=b"sentinel-split").digest()
        drawn = ((int.from_bytes(digest, "big") >> (64 - BITS)) + 0.5) / (1 << BITS)
        return -self.weight / log(drawn)


class Splitter:
    """The split of one route; made with the route table."""

    __slots__ = ("_key", "branches", "steps")

    def __init__(self, split: Split, upstreams: dict[str, Upstream]) -> None:
        total = sum(share.weight for share in split.shares)
        found = [
            Branch(
                upstreams[share.upstream], share.weight,
                (Reason.SPLIT_CHOSEN, share.span, (share.upstream, share.weight, total)),
            )
            for share in split.shares
        ]  # fmt: skip
        self.steps = tuple(branch.step for branch in found)
        self.branches = tuple(branch for branch in found if branch.weight)
        keyer = Keyer("", "", split.key, split.ipv4_prefix, split.ipv6_prefix)
        self._key = keyer.key if split.key else None

    def choose(self, request: Request, world: World) -> Branch:
        octets = world.chance().to_bytes(8, "big") if self._key is None else self._key(request)
        return max(self.branches, key=lambda branch: branch.score(octets))
