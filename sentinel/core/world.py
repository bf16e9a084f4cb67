"""The questions that the core may ask, and the only way it learns anything.

Live, the answers come from shared memory and the worker's pools; in a dry run
from a snapshot that charges nothing; in a replay from the transcript. Instant
questions are plain methods, questions that wait are coroutines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from sentinel.core.allowances import Term, Window
from sentinel.core.appraisal import Appraisal, Spending, Translation
from sentinel.core.gates import Authenticator
from sentinel.core.identity import Finding
from sentinel.core.inspection import Inspection
from sentinel.core.plan import Endpoint, Provider, Route, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Step


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a request matters for the choice of an endpoint. key: what is hashed. cookie: the sticky one's value.

    tokens: what it may take at most, where endpoints are chosen by tokens; one that was not appraised counts as 1.
    model: which one it asks for, where it is known which endpoints serve it. mark: how its prompt begins, and for
    which model, where endpoints are chosen by that; 0: nothing to tell.
    """

    key: bytes = b""
    cookie: str = ""
    tokens: int = 0
    model: str = ""
    mark: int = 0


NO_WISH: Final = Wish()


class Choice(NamedTuple):
    """Which endpoint, or why none; and what else led there."""

    endpoint: Endpoint | None
    refusal: Reason | None = None
    notes: tuple[Step, ...] = ()


class World(Protocol):
    """Whoever answers the core's questions."""

    def chance(self) -> int:
        """64 bits that nobody can foretell."""

    def identify(self, authenticator: Authenticator, request: Request) -> Finding | None:
        """Who asks, by what the request shows to this authenticator; None: to find that out takes a while."""

    async def identified(self, authenticator: Authenticator, request: Request) -> Finding:
        """The same, waited for."""

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        """Take from all these buckets, or from none (core.limits.TERM for each, in order).

        Returns outcome (core.limits), index of the one that refused (or -1), then of each how many ns it is used.
        """

    def take(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        """The same, and then three numbers of each: the mark by which it can be given back (core.appraisal.Taking)."""

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        """Hold one more under this key, unless `most` are held: outcome (core.limits), how many are held, the lease."""

    def let_go(self, leases: tuple[int, ...]) -> None:
        """Give back what was held."""

    def waiting(self, name: str) -> int:
        """How many requests of this worker wait for their turn at a rate limit."""

    async def wait(self, name: str, wait_ns: int) -> None:
        """Wait so long for one's turn at a rate limit."""

    async def appraise(self, route: Route, request: Request) -> Appraisal:
        """What a request to a language model may take; for that its body is waited for."""

    def inspect(self, route: Route, request: Request) -> tuple[Inspection, ...]:
        """What the route's guardrails find in an appraised request, one after the other, up to one that stops it."""

    def price(self, model: str, input_tokens: int, output_tokens: int) -> tuple[int, str]:
        """What so many tokens cost at most if this model answers, and its name in keys (Appraisal.money, account)."""

    def translate(self, route: Route, provider: Provider, request: Request) -> Translation:
        """What becomes of an appraised request for a provider that speaks a dialect of its own."""

    def window(self, period: str, time_zone: str) -> Window:
        """Which window of budgets is open."""

    def reserve(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> tuple[int, ...]:
        """Put tokens aside at all these budgets, or at none: a key and a term for each, in order.

        Returns outcome (core.limits), index of who refused (or -1), then of each what is used of it (with what
        is put aside now, if it admits), then of each the lease, then of each what is used of earlier windows that
        matter to it.
        """

    def refund(self, spending: Spending) -> None:
        """Give back all that was put aside and taken."""

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        """Which endpoint shall be tried next."""
