"""What shall happen to a request: forward it, answer it ourselves, or reject it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sentinel.core.appraisal import SAME, Spending, Translation
from sentinel.core.models import Errand
from sentinel.core.plan import Endpoint, Provider, Route, Upstream
from sentinel.core.plan import Respond as Said
from sentinel.core.reasons import Reason
from sentinel.core.world import Wish


@final
@dataclass(slots=True)
class Copy:
    """A shadow of the request goes to this upstream; its answer is thrown away."""

    upstream: Upstream
    wish: Wish


@final
@dataclass(slots=True, init=False)
class Forward:
    """Send it to this endpoint of this upstream. (`__init__` is written out since compiled it is native then.)"""

    route: Route
    upstream: Upstream
    endpoint: Endpoint
    wish: Wish  # by which other endpoints are chosen when this one fails
    fields: tuple[tuple[str, str], ...]  # what the answer shall have besides
    leases: tuple[int, ...]  # what is held until the exchange ends (World.hold)
    shadows: tuple[Copy, ...]
    spending: Spending | None  # what was put aside at budgets, of a request to a language model
    errand: Errand | None  # for which model it is sent there, where a line of `models` says so
    translation: Translation  # how it is said to a provider of another dialect

    def __init__(
        self, route: Route, upstream: Upstream, endpoint: Endpoint, wish: Wish,
        fields: tuple[tuple[str, str], ...] = (), leases: tuple[int, ...] = (), shadows: tuple[Copy, ...] = (),
        spending: Spending | None = None, errand: Errand | None = None, translation: Translation = SAME,
    ) -> None:  # fmt: skip
        self.route = route
        self.upstream = upstream
        self.endpoint = endpoint
        self.wish = wish
        self.fields = fields
        self.leases = leases
        self.shadows = shadows
        self.spending = spending
        self.errand = errand
        self.translation = translation

    @property
    def provider(self) -> Provider | None:
        """What is said there instead of what the client said."""
        return self.upstream.provider if self.errand is None else self.errand.target.provider


@final
@dataclass(slots=True)
class Respond:
    """We answer ourselves: with what the route says, or with `answer`."""

    route: Route
    fields: tuple[tuple[str, str], ...] = ()
    leases: tuple[int, ...] = ()
    answer: Said | None = None

    @property
    def said(self) -> Said:
        """The whole answer."""
        said = self.answer or self.route.respond
        assert said is not None, "a route that answers by itself"
        return said


@final
@dataclass(slots=True)
class Reject:
    """We say no; `route` is None when no route was found."""

    status: int
    reason: Reason
    route: Route | None
    fields: tuple[tuple[str, str], ...] = ()


Verdict = Forward | Respond | Reject
