"""What shall happen to a request: forward it, answer it ourselves, or reject it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sentinel.core.appraisal import Spending
from sentinel.core.plan import Endpoint, Route, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.world import Wish


@final
@dataclass(slots=True)
class Copy:
    """A shadow of the request goes to this upstream; its answer is thrown away."""

    upstream: Upstream
    wish: Wish


@final
@dataclass(slots=True)
class Forward:
    """Send it to this endpoint of this upstream."""

    route: Route
    upstream: Upstream
    endpoint: Endpoint
    wish: Wish  # by which other endpoints are chosen when this one fails
    fields: tuple[tuple[str, str], ...] = ()  # what the answer shall have besides
    leases: tuple[int, ...] = ()  # what is held until the exchange ends (World.hold)
    shadows: tuple[Copy, ...] = ()
    spending: Spending | None = None  # what was put aside at budgets, of a request to a language model


@final
@dataclass(slots=True)
class Respond:
    """The route answers by itself."""

    route: Route
    fields: tuple[tuple[str, str], ...] = ()
    leases: tuple[int, ...] = ()


@final
@dataclass(slots=True)
class Reject:
    """We say no; `route` is None when no route was found."""

    status: int
    reason: Reason
    route: Route | None
    fields: tuple[tuple[str, str], ...] = ()


Verdict = Forward | Respond | Reject
