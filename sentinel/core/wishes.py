"""What a request says about the endpoint that it wants: a key that is hashed, a cookie that names one, its tokens.

Intuition: what a guest tells at the door, before the head waiter looks at the tables.
It is read once, with the decision; tries at other endpoints use the same wish.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.appraisal import Appraisal
from sentinel.core.balance.hashing import key_of
from sentinel.core.balance.loads import TOKENS_MAX
from sentinel.core.keys import cookie_of, part_of
from sentinel.core.plan import Plan, Upstream
from sentinel.core.request import Request
from sentinel.core.world import Wish

BY_PREFIX: Final = "prefix-affinity"
BY_TOKENS: Final = frozenset({"least-tokens", BY_PREFIX})
"""Ways to balance that look at tokens."""


class Wisher:
    """Reads the wishes of one upstream's requests; made with the route table."""

    __slots__ = ("_cookie", "_is_listed", "_is_marked", "_is_weighed", "_parts")

    def __init__(self, upstream: Upstream) -> None:
        balance = upstream.balance
        self._parts = tuple(part_of(key, balance.ipv4_prefix, balance.ipv6_prefix) for key in balance.key)
        self._cookie = upstream.sticky.cookie if upstream.sticky is not None else ""
        self._is_weighed = balance.kind in BY_TOKENS
        self._is_listed = lists_models(upstream)
        self._is_marked = balance.kind == BY_PREFIX

    @staticmethod
    def of(upstream: Upstream | None) -> Wisher | None:
        """None where nothing of a request matters."""
        if upstream is None:
            return None
        matters = upstream.balance.key or upstream.sticky or upstream.balance.kind in BY_TOKENS
        return Wisher(upstream) if matters or lists_models(upstream) else None

    def wish(self, request: Request, appraisal: Appraisal | None = None) -> Wish:
        # Each part with its length before it: no two requests make one key of different parts.
        text = "".join([f"{len(value)}:{value}" for value in [part(request) for part in self._parts]])
        return Wish(
            text.encode("utf-8", "surrogatepass"), cookie_of(request, self._cookie) if self._cookie else "",
            tokens_of(appraisal) if self._is_weighed else 0,
            appraisal.model if appraisal is not None and self._is_listed else "",
            _mark_of(appraisal) if appraisal is not None and self._is_marked else 0,
        )


def _mark_of(appraisal: Appraisal) -> int:
    """The mark with the model: caches of two models have nothing in common."""
    return key_of(f"{appraisal.mark:x} {appraisal.model}".encode()) if appraisal.mark else 0


def marked_routes(plan: Plan) -> frozenset[str]:
    """The routes of whose prompts it matters how they begin."""
    by_prefix = {upstream.name for upstream in plan.upstreams if upstream.balance.kind == BY_PREFIX}
    return frozenset(route.name for route in plan.routes if by_prefix.intersection(route.upstream_names))


def lists_models(upstream: Upstream) -> bool:
    """Whether it is known which models its endpoints serve."""
    return upstream.health is not None and upstream.health.kind == "inference"


def tokens_of(appraisal: Appraisal | None) -> int:
    """What a request weighs."""
    return 1 if appraisal is None else min(appraisal.tokens, TOKENS_MAX)
