"""The state of a fleet as somebody describes it: what a decision depends on beside plan and request.

Intuition: the position on a chess board, written down. Who reads it sets up the same pieces and may
ask what happens next, as often as he likes, while the game itself goes on somewhere else.

What is not mentioned is as on the first day: endpoints are usable and idle, buckets are full, nothing is
held. An operator writes it (`state { … }` of a policy test, `--state`), control reads it from shared memory,
and `explain.assumed` answers the core's questions from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sentinel.core.balance.levels import USABLE
from sentinel.core.balance.reports import Report
from sentinel.core.identity import Finding, Identity

ANY_MODEL: Final = "model"
"""What a request is for of which nothing is said."""
PlaceName = tuple[str, str]
"""The names of an upstream and of its endpoint."""


class Ledger(Protocol):
    """What is noted under a key; a dictionary is one, and so is whoever looks it up in shared memory."""

    def get(self, key: bytes, default: int, /) -> int: ...


def _empty() -> dict[bytes, int]:
    return {}


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How one endpoint stands (balance.levels). weight: present one of a slow start, scaled; 0: all of it.

    tokens: under way there, of language models. models: those that it serves; None: nobody knows.
    report: what it said of its load, if that is fresh.
    """

    standing: int = USABLE
    in_flight: int = 0
    latency_us: int = 0
    weight: int = 0
    tokens: int = 0
    models: tuple[str, ...] | None = None
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """An upstream as a whole. in_flight -1: as many as at its endpoints together."""

    is_open: bool = False  # its own circuit breaker
    in_flight: int = -1
    turn: int = 0  # whose turn it is, where endpoints take turns
    answers: str = ""  # how tries end: a status, or a word of `retry`; "": well


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the fleet.

    used: of buckets, by key: ns until they are full again. held: under keys of concurrency limits. spent: tokens of
    budgets; described, under the key of a window that begins at 0 and stands for the open one (core.budgets). tokens:
    what requests to language models ask for, in and out. model: their model. prompt: what stands for its beginning.
    found: kinds of what each guardrail finds in them; None: it cannot read them. untranslatable: the place of what they
    say and no other dialect can; "": there is none. found_out: what each authenticator finds out about who asks.
    visitor: what any of them does of which nothing is said; None: it looks at what requests show. waiting: requests at
    each rate limit that delays. chance: where the dice begin; None: they always show 0. now_s: since the epoch, for the
    age of cookies and for windows.
    """

    endpoints: Mapping[PlaceName, EndpointState] = field(default_factory=dict)
    upstreams: Mapping[str, UpstreamState] = field(default_factory=dict)
    used: Ledger = field(default_factory=_empty)
    held: Ledger = field(default_factory=_empty)
    spent: Ledger = field(default_factory=_empty)
    tokens: tuple[int, int] | None = None
    model: str = ANY_MODEL
    prompt: str = ""
    untranslatable: str = ""
    found: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    found_out: Mapping[str, Finding] = field(default_factory=dict)
    visitor: Identity | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)
    chance: int | None = None
    now_s: int = 0

    @property
    def is_silent_on_calls(self) -> bool:
        """Whether nothing is said of what requests to language models ask for."""
        return self.tokens is None and self.model == ANY_MODEL and not self.prompt


NOTHING_KNOWN = State()
