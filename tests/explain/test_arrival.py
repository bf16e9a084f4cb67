"""What a record says that its request asked a language model for, and who asked."""

from __future__ import annotations

import pytest

from sentinel.core.identity import Finding, Identity, recognised
from sentinel.core.reasons import Reason
from sentinel.explain.arrival import RecordedCall, call_of, found_out_of, identity_lines

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


def test_who_asked_is_known_again_from_the_record() -> None:
    steps = [
        ("key-unknown", ("bearers", "there are two of them")),
        ("authenticated", ("clients", "jwt", "acme inc", "tenant=a=b", "plan=free")),
        ("proxied", ()),
    ]
    assert found_out_of(steps) == {
        "bearers": Finding(Reason.KEY_UNKNOWN, None, "there are two of them"),
        "clients": recognised(Identity("clients", "jwt", "acme inc", (("tenant", "a=b"), ("plan", "free")))),
    }
    assert identity_lines(steps) == (
        "identity bearers refused=key-unknown", "identity clients 'acme inc' tenant a=b plan free",
    )  # fmt: skip
    known = [("authenticated", ("keys", "api-key", "web", "tenant=a"))]
    assert identity_lines(known) == ("identity keys web",), "the configuration has its claims"
    assert found_out_of([("authenticated", ("clients",)), ("credentials-missing", ())]) == {}, "what was cut"
