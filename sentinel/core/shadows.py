"""Shadows: which requests are copied to another upstream, whose answers are thrown away.

Intuition: a carbon copy. The letter goes where it would have gone anyway; for some letters, as many
as the share says, the sheet below goes to somebody who shall learn the work, and whose replies go
into the waste-paper basket.

Rules:
1. Chance decides for each request and each shadow anew (World.chance); a share of everything asks nobody.
2. A copy follows from the decision to forward: what is refused, or answered by the route, is not copied.
3. What asks for a tunnel (Upgrade) is not copied: nobody could say what of it is the request.
"""

from __future__ import annotations

from typing import Final

from sentinel.core.plan import Shadow, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Copy
from sentinel.core.wishes import Wisher
from sentinel.core.world import NO_WISH, World

WHOLE: Final = 1000
"""Thousandths."""


class Shade:
    """One shadow of a route; made with the route table."""

    __slots__ = ("_bound", "step", "upstream", "wisher")

    def __init__(self, shadow: Shadow, upstream: Upstream) -> None:
        self._bound = (shadow.share << 64) // WHOLE
        self.upstream = upstream
        self.wisher = Wisher.of(upstream)
        self.step: Step = (Reason.SHADOWED, shadow.span, (shadow.upstream, shadow.share))

    def falls(self, world: World) -> bool:
        """Is this request one of the share? 64 bits of chance are below the bound as often as the share says."""
        return self._bound >> 64 == 1 or world.chance() < self._bound


def shades_of(shadows: tuple[Shadow, ...], upstreams: dict[str, Upstream]) -> tuple[Shade, ...]:
    return tuple(Shade(shadow, upstreams[shadow.upstream]) for shadow in shadows)


def cast(shades: tuple[Shade, ...], request: Request, world: World, trace: Trace) -> tuple[Copy, ...]:
    """Return the copies of this request."""
    if request.values("upgrade"):
        return ()
    copies = []
    for shade in shades:
        if shade.falls(world):
            trace.add(shade.step)
            wish = NO_WISH if shade.wisher is None else shade.wisher.wish(request)
            copies.append(Copy(shade.upstream, wish))
    return tuple(copies)
