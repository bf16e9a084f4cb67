"""The bill of one call of a language model: what the log, the answer's headers and the metrics say of it.

Intuition: a restaurant's receipt. The guest, the till and the accountant get the same sums, each on paper of its own.

Rules:
1. What is not known is null, and never nought: a call that was refused took nothing, one that broke off took
   what was counted.
2. Texts that somebody else chose (a model's name, a reason of finishing) are cut, so that a line stays one write.
3. Money is told where there is a price book: of a model without a price as null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import msgspec

from sentinel.core.prices import money
from sentinel.inference.usage import Usage
from workers.forms import Line

NAME_CHARS_MAX: Final = 64
"""Of a model's name in the log and in headers, and of a tenant's in the log."""
WORD_CHARS_MAX: Final = 24
GUARDRAILS_CHARS_MAX: Final = 256
MS: Final = 1_000_000
HEADER: Final = "x-sentinel-"


@final
@dataclass(slots=True, init=False)
class Bill:
    """usage: None where no answer was counted. cost: in micro-units of the currency, None without a price.

    first_ns: from the request to the first token of a stream, 0 where there was none. guardrails: what each came to.
    tenant: None where tenants are not told apart.
    """

    model: str
    answer_model: str
    usage: Usage | None
    cost: int | None
    currency: str
    finish: str
    first_ns: int
    guardrails: str
    tenant: str | None

    def __init__(
        self, model: str, answer_model: str = "", usage: Usage | None = None, cost: int | None = None,
        currency: str = "", finish: str = "", first_ns: int = 0, guardrails: str = "",
        tenant: str | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.answer_model = answer_model
        self.usage = usage
        self.cost = cost
        self.currency = currency
        self.finish = finish
        self.first_ns = first_ns
        self.guardrails = guardrails
        self.tenant = tenant


_encode: Final = msgspec.json.Encoder().encode


def line_of(bill: Bill) -> bytes:
    """The fields of a line as JSON, each with a comma before it."""
    usage = bill.usage
    line = Line(
        _said(bill.model, NAME_CHARS_MAX), _said(bill.answer_model, NAME_CHARS_MAX),
        None if usage is None else usage.input_tokens, None if usage is None else usage.cached_tokens,
        None if usage is None else usage.output_tokens, None if usage is None else usage.is_reported,
        _said(bill.finish, WORD_CHARS_MAX), bill.first_ns // 1000 / 1000 if bill.first_ns else None,
    )  # fmt: skip
    if bill.currency:
        line.cost = None if bill.cost is None else msgspec.Raw(money(bill.cost).encode())
        line.currency = bill.currency
    if bill.tenant is not None:
        line.tenant = _said(bill.tenant, NAME_CHARS_MAX)
    if bill.guardrails:
        line.guardrails = bill.guardrails[:GUARDRAILS_CHARS_MAX]
    return b"," + _encode(line)[1:-1]


def headers_of(bill: Bill) -> bytes:
    """The same as lines of an answer's head; what is not known is left out."""
    told = [("model", _visible(bill.model))]
    if bill.usage is not None:
        told += [
            ("input-tokens", str(bill.usage.input_tokens)), ("cached-tokens", str(bill.usage.cached_tokens)),
            ("output-tokens", str(bill.usage.output_tokens)),
        ]  # fmt: skip
        if bill.cost is not None:
            told.append(("cost", f"{money(bill.cost)} {bill.currency}"))
    return "".join([f"{HEADER}{name}: {value}\r\n" for name, value in told]).encode("ascii")


def _said(text: str, most: int) -> str:
    """What UTF-8 can say of a text, cut."""
    return text[:most] if text.isascii() else text[:most].encode("utf-8", "replace").decode()


def _visible(text: str) -> str:
    """What a field's value can say of it: visible ASCII, so that nothing in it ends a line."""
    return "".join([char if "!" <= char <= "~" else "?" for char in text[:NAME_CHARS_MAX]])
