"""What a request to a language model is worth to its budgets, and what has been put aside for it.

Intuition: a shop that takes orders on account. Before the order goes to the workshop somebody looks at it and says
what it may cost at most; so much is put aside in the customer's books, and goes with the order as a slip.

The core does not read bodies: whoever has the octets appraises them (World.appraise), and this is all that
a decision knows of them.

What is made with each request of a budget is a named tuple: a frozen dataclass takes four times as long (ADR 26).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from sentinel.core.prices import PriceBook, Rates
from sentinel.core.span import NOWHERE, Span


class Appraisal(NamedTuple):
    """kind    what the request is
    ask        one that costs tokens: `input_tokens` are estimated, `output_tokens` are the most that it may bring
    count      one that only asks how many tokens another would take; it takes none itself
    free       nothing that could cost any (GET)
    unknown    in no dialect that is read here
    malformed  in a dialect, and not in its shape; `fault` says where
    """

    kind: Literal["ask", "count", "free", "unknown", "malformed"]
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    fault: str = ""
    money: int = -1
    """Micro-units that it costs at most, by the price book; -1: its model has no price."""
    account: str = ""
    """The model as keys have it: its name, or OTHER when there is a price book and it is not in it."""
    dialect: str = ""
    """The word of its dialect (sentinel.inference.dialect); "" where it is not known."""

    mark: int = 0
    """How its prompt begins (balance.prefixes), where endpoints are chosen by that; 0: nothing to tell."""

    @property
    def is_read(self) -> bool:
        """Whether it is known what it says, and which model it names."""
        return self.kind == "ask" or self.kind == "count"

    @property
    def tokens(self) -> int:
        """What is put aside: at least one, so that a reservation can be told from none."""
        return max(self.input_tokens + self.output_tokens, 1)


@dataclass(frozen=True, slots=True)
class Translation:
    """What becomes of a request for a provider of another dialect. `client`, `provider`: their dialects.

    kind    same      there is nothing to translate
            said      it can be said there; `left_out`: places of the hints that are not
            unsayable `fault`: what cannot be said, and where it stands
    """

    kind: Literal["same", "said", "unsayable"]
    client: str = ""
    provider: str = ""
    fault: str = ""
    left_out: str = ""


SAME: Final = Translation("same")
FREE: Final = Appraisal("free")
UNKNOWN: Final = Appraisal("unknown")
OTHER: Final = "(other)"
"""Stands for all models that are not in the price book: names that clients invent must not fill a table."""


def priced(model: str, book: PriceBook | None, rates: Rates | None, tokens: tuple[int, int]) -> tuple[int, str]:
    """What so many tokens cost at most, and under which name: `money` and `account` of an appraisal."""
    if rates is None:
        return -1, model if book is None else OTHER
    return rates.at_most(*tokens), model


class Reservation(NamedTuple):
    """So much of one budget; `limit`: what the budget has in its window, or UNLIMITED where it only observes."""

    lease: int
    limit: int
    amount: int
    is_money: bool = False
    key: bytes = b""
    step_s: int = 0  # these are as in core.allowances.Term; where all are 0, `limit` is all that matters
    steps: int = 0
    last: bytes = b""
    carried_max: int = 0
    name: str = ""
    span: Span = NOWHERE
    ends: bool = False
    """Whether a stream that outgrows it is ended."""


@dataclass(frozen=True, slots=True)
class Taking:
    """What was taken of one bucket of a limit of tokens. mark: the charge's, by which shared memory gives it back."""

    key: bytes
    mark: tuple[int, int, int]
    charged_ns: int
    count: int  # so many in `period_ns`
    period_ns: int
    is_of_tokens: bool = True

    def charge_ns(self, tokens: int) -> int:
        """What so many would have been charged."""
        return -(-tokens * self.period_ns // self.count)


class Spending(NamedTuple):
    """What an exchange has put aside, of each budget in its unit. tokens: the most that it may take."""

    tokens: int
    reservations: tuple[Reservation, ...] = ()
    takings: tuple[Taking, ...] = ()
    warned: int = 0  # how many budgets have passed a threshold with it
