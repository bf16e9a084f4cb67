"""Token budgets as the core sees them: whose window is asked, for how much, and what the answer means.

Intuition: the account books of a route. Which of them concern a request is known when its headers are, what
it will take at most when its body is; then all of them are asked at once, and either each puts that much aside or none.

The books are the world's (`World.reserve`): how windows are named is core.budgets', and which one is open only the
world can tell (`World.window`), since it has a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sentinel.core.appraisal import Appraisal
from sentinel.core.budgets import EVERY, Offset, sibling, start_of, unit_name, window, write_key
from sentinel.core.keys import REMEMBERED_CHARS_MAX, is_within, part_of
from sentinel.core.limits import CLOSED, Field
from sentinel.core.plan import Inference, TokenBudget
from sentinel.core.prices import money
from sentinel.core.request import Request
from sentinel.core.throttles import Throttle

OBSERVE: Final = 2
"""Flag of a term: never refuses."""
MONEY_MAX: Final = 1 << 51
TOKENS_MAX: Final = 1 << 40
"""No request is appraised higher: far beyond what anybody means, and far from the edge of a shared word."""
UNLIMITED: Final = (1 << 52) - 1

KEYS_MAX: Final = 4096
"""Of each budget of a route that are remembered; then its memory starts anew."""
STEPS: Final = 24
"""What rolls moves on by so many steps a window: what was spent counts for that much longer, at most."""


class Term(NamedTuple):
    """How a budget is asked: seconds for which its window is remembered, amount, limit, flags.

    step_s, steps: of a window that rolls, what so many steps before this one have used counts too. last: the key of the
    last window, of which at most `carried_max` may be carried over.
    """

    left_s: int
    amount: int
    limit: int
    flags: int
    step_s: int = 0
    steps: int = 0
    last: bytes = b""
    carried_max: int = 0

    def earlier(self, key: bytes) -> list[bytes]:
        """The windows whose use matters besides the key's own."""
        if self.last:
            return [self.last]
        start_s = start_of(key) if self.steps else 0
        begun = [start_s - at * self.step_s for at in range(1, self.steps + 1)]
        return [sibling(key, moment_s) for moment_s in begun if moment_s >= 0]

    def room(self, used_earlier: int) -> int:
        """What may be used of this window, when so much is used of those."""
        if self.flags & OBSERVE:
            return self.limit
        if self.last:
            return self.limit + self.carried(used_earlier)
        return max(0, self.limit - used_earlier)

    def carried(self, used_earlier: int) -> int:
        """What is carried over from a last window of which so much is used."""
        return carried(self.limit, self.carried_max, used_earlier)


def carried(amount: int, most: int, used: int) -> int:
    """What is carried over: what was not used of the last window's own amount, and so much at most."""
    return min(most, max(0, amount - used))


class Window(NamedTuple):
    """The one that is open (unix seconds), what time it is, when the one before began, and when the next one ends."""

    start_s: int
    end_s: int
    now_s: int
    before_s: int = 0
    after_s: int = 0

    @property
    def left_s(self) -> int:
        return max(self.end_s - self.now_s, 1)


def open_window(period: str, offset: Offset, now_s: int) -> Window:
    """The window that is open at this time (unix seconds)."""
    start_s, end_s = window(period, offset, now_s)
    before_s, _ = window(period, offset, start_s - 1)
    _, after_s = window(period, offset, end_s)
    return Window(start_s, end_s, now_s, before_s, after_s)


class Allowance:
    """One budget as one route asks it; made with the route table."""

    __slots__ = (
        "_keys", "_networks", "_parts", "_rolling_s", "_step_s", "_steps", "_thresholds", "_title", "amount",
        "carried_max", "currency", "ends", "flags", "has_exemptions", "is_observer", "limit", "name", "period",
        "rejects_unpriced", "span", "time_zone", "unit", "warns_clients",
    )  # fmt: skip

    def __init__(self, budget: TokenBudget, route: str) -> None:
        self.name = budget.name
        self.span = budget.span
        self.currency = budget.currency
        self.unit = f"micro-{budget.currency}" if budget.currency else "tokens"
        self.amount = budget.money if budget.currency else budget.tokens
        self.carried_max = self.amount * budget.rollover // 1000
        self._title = unit_name(budget.name, budget.currency)
        self._step_s = max(1, budget.rolling_s // STEPS)
        self._steps = -(-budget.rolling_s // self._step_s)
        self._rolling_s = budget.rolling_s
        self.period = f"{EVERY}{self._step_s}" if budget.rolling_s else budget.per
        self.time_zone = budget.time_zone
        self.is_observer = budget.on_limit == "observe"
        self.limit = UNLIMITED if self.is_observer else self.amount
        self.warns_clients = budget.warns_clients
        self.ends = budget.on_outgrown == "end" and not self.is_observer
        self._thresholds = tuple([(-(-percent * self.amount // 100), percent) for percent in reversed(budget.warn_at)])
        self.rejects_unpriced = budget.unpriced == "reject" and not self.is_observer
        self.flags = (CLOSED if budget.when_full == "reject" else 0) | (OBSERVE if self.is_observer else 0)
        self._parts = tuple(
            None if kind == "model" else
            (lambda _: route) if kind == "route" else part_of(kind, budget.ipv4_prefix, budget.ipv6_prefix)
            for kind in budget.key
        )
        self._keys: dict[tuple[int, tuple[str, ...]], bytes] = {}
        self._networks = budget.exempt
        self.has_exemptions = bool(budget.exempt)

    def is_exempt(self, request: Request) -> bool:
        return bool(self._networks) and is_within(request.client_ip, self._networks)

    def asked(self, appraisal: Appraisal) -> int:
        """How much of it a request may take at most, in its unit; -1: that has no price."""
        return min(appraisal.money, MONEY_MAX) if self.currency else min(appraisal.tokens, TOKENS_MAX)

    def key(self, request: Request, appraisal: Appraisal, start_s: int) -> bytes:
        """What names the window of a request's budget."""
        parts = tuple([appraisal.account if part is None else part(request) for part in self._parts])
        found = self._keys.get((start_s, parts))
        if found is None:
            found = write_key(self._title, start_s, parts)
            if sum(map(len, parts)) <= REMEMBERED_CHARS_MAX:
                if len(self._keys) >= KEYS_MAX:
                    self._keys.clear()
                self._keys[start_s, parts] = found
        return found

    def term(self, key: bytes, amount: int, window: Window) -> Term:
        """How it is asked for so much."""
        if self._rolling_s:
            left_s = window.left_s + self._steps * self._step_s
            return Term(left_s, amount, self.limit, self.flags, self._step_s, self._steps)
        if self.carried_max:
            last = sibling(key, window.before_s)
            left_s = max(window.after_s - window.now_s, 1)
            return Term(left_s, amount, self.limit, self.flags, last=last, carried_max=self.carried_max)
        return Term(window.left_s, amount, self.limit, self.flags)

    def account(self, used: int, earlier: int) -> tuple[int, int]:
        """What is used in all, and of how much, when so much is used of this window and of earlier ones."""
        if self._rolling_s:
            return used + earlier, self.amount
        return used, self.amount + carried(self.amount, self.carried_max, earlier)

    def warned(self, used: int) -> int:
        """The highest threshold, in percent, that so much has passed; 0: none."""
        for least, percent in self._thresholds:
            if used >= least:
                return percent
        return 0

    def told(self, amount: int) -> int | str:
        """An amount as steps have it: a number of tokens, or a text."""
        return f"{money(amount)} {self.currency}" if self.currency else amount

    def policy(self, amount: int, window: Window) -> str:
        length_s = self._rolling_s or window.end_s - window.start_s
        return f'"{self.name}";q={amount};qu="{self.unit}";w={length_s}'

    def state(self, used: int, amount: int, window: Window) -> str:
        return f'"{self.name}";r={max(amount - used, 0)};t={window.left_s}'


class Purse:
    """All budgets and limits of tokens of a route; there may be none, and then its traffic is only counted."""

    __slots__ = ("allowances", "has_exemptions", "inference", "is_strict", "throttles")

    def __init__(
        self, inference: Inference, allowances: Sequence[Allowance], throttles: Sequence[Throttle] = ()
    ) -> None:
        self.inference = inference
        self.allowances = tuple(allowances)
        self.throttles = tuple(throttles)
        self.has_exemptions = any(one.has_exemptions for one in allowances)
        self.is_strict = inference.unrecognised == "reject" and not (
            all(one.is_observer for one in allowances) and all(one.is_observer for one in throttles)
        )
        """What cannot be read cannot be counted: who may pass all the same would pass by the budget."""

    def of(self, request: Request) -> tuple[Allowance, ...]:
        """The budgets that concern this request."""
        if not self.has_exemptions:
            return self.allowances
        return tuple(one for one in self.allowances if not one.is_exempt(request))

    def refuses(self, request: Request) -> bool:
        """Whether any of them concerns this request, and may refuse it."""
        return any(not one.is_observer and not one.is_exempt(request) for one in self.allowances) or any(
            not one.is_observer and not one.is_exempt(request) for one in self.throttles
        )


Told = tuple[Allowance, int, int, Window]
"""A budget, what is used of it, of how much, and its window."""


def fields_of(told: Sequence[Told]) -> tuple[Field, ...]:
    """What the client is told of its budgets (draft-ietf-httpapi-ratelimit-headers)."""
    if not told:
        return ()
    policies = ", ".join([one.policy(amount, window) for one, _, amount, window in told])
    states = ", ".join([one.state(used, amount, window) for one, used, amount, window in told])
    return ("ratelimit-policy", policies), ("ratelimit", states)
