"""What a record says that its request asked a language model for."""

from __future__ import annotations

import pytest

from sentinel.explain.arrival import RecordedCall, call_of

ROUTED = ("model-routed", ("gpt-4o", "main", "gpt-4o"))
MONEY = ("within-budget", ("month", "1.00 USD", "5.00 USD", "0.002 USD"))
TOKENS = ("within-budget", ("day", "130", "1000", "130"))
TOOK = ("tokens-reported", ("gpt-4o", "30", "12"))


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([ROUTED, TOKENS, TOOK], RecordedCall("gpt-4o", 30, 100)),
        ([ROUTED, MONEY, TOKENS, TOOK], RecordedCall("gpt-4o", 30, 100)),
        ([ROUTED, MONEY, TOOK], RecordedCall("gpt-4o", 30, 12)),
        ([ROUTED, TOKENS], RecordedCall("gpt-4o", 0, 130)),
        ([ROUTED], RecordedCall("gpt-4o")),
        ([], RecordedCall()),
    ],
)
def test_what_was_put_aside_is_what_it_asked_for(
    steps: list[tuple[str, tuple[str, ...]]], found: RecordedCall
) -> None:
    assert call_of(steps) == found
