"""Gates as dialogues: who is asked in which order, what is concluded, and what of several refusals is told."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.gates import Authenticator
from sentinel.core.identity import MISSING, Finding, Identity, recognised
from sentinel.core.plan import ApiKey, IssuedKey, RateLimit
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.span import Span
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject
from sentinel.core.world import World
from sentinel.explain.assumed import Assumed
from tests.core.build import match, plan, request, route

ONE, TWO = (
    ApiKey(name, (IssuedKey("acme", ("0" * 64,)),), place, span=Span("s.kdl", line, 5))
    for name, place, line in (("one", ("header:x-api-key",), 71), ("two", ("bearer",), 72))
)
ACME = Identity("two", "api-key", "acme", (("tenant", "t"),))
WRONG = Finding(Reason.KEY_UNKNOWN)


class Gatekeeper:
    """A world that answers as written who asks, and fails when it is asked for anything that costs."""

    def __init__(self, *answers: Finding) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def identify(self, authenticator: Authenticator, request: Request) -> Finding:
        self.asked.append(authenticator.name)
        return self.answers.pop(0)


def gated(*filters: str, limit: bool = False) -> RouteTable:
    made = plan(replace(route("api", match(line=1)), filters=filters))
    limits = (RateLimit("limit", 10**9, 1, 1, key=("identity",)),) if limit else ()
    return compile_routes(replace(made, api_keys=(ONE, TWO), rate_limits=limits))


@pytest.mark.parametrize(
    ("answers", "reason", "told"),
    [
        ([MISSING, MISSING], Reason.CREDENTIALS_MISSING, [Reason.CREDENTIALS_MISSING] * 2),
        ([WRONG, MISSING], Reason.KEY_UNKNOWN, [Reason.KEY_UNKNOWN, Reason.CREDENTIALS_MISSING]),
        ([MISSING, WRONG], Reason.KEY_UNKNOWN, [Reason.CREDENTIALS_MISSING, Reason.KEY_UNKNOWN]),
    ],
)
def test_nobody_comes_in_and_nothing_else_is_asked(
    answers: list[Finding], reason: Reason, told: list[Reason]
) -> None:
    trace, keeper, asked = Trace(), Gatekeeper(*answers), request()
    verdict = run(decide(gated("limit", "one", "two", limit=True), asked, cast(World, keeper), trace))
    assert isinstance(verdict, Reject) and (verdict.status, verdict.reason) == (401, reason)
    assert verdict.fields == (
        ("www-authenticate", 'ApiKey realm="one"'), ("www-authenticate", 'Bearer realm="two"'),
    )  # fmt: skip
    assert keeper.asked == ["one", "two"] and asked.identity is None
    assert [step[0] for step in trace.steps[1:]] == told
    assert [step[1] for step in trace.steps[1:]] == [ONE.span, TWO.span]


def test_the_first_who_knows_the_client_ends_the_questions() -> None:
    trace, asked = Trace(), request()
    keeper = Gatekeeper(WRONG, recognised(ACME))
    routes = gated("one", "two")
    world = Assumed(routes.plan)
    world.verify = keeper.identify
    verdict = run(decide(routes, asked, world, trace))
    assert isinstance(verdict, Forward) and asked.identity is ACME
    assert trace.steps[2] == (Reason.AUTHENTICATED, TWO.span, ("two", "api-key", "acme", "tenant=t"))
    again = Gatekeeper(recognised(ACME))
    world.verify = again.identify
    run(decide(gated("two", "one"), request(), world, Trace()))
    assert again.asked == ["two"]


def test_names_at_two_gates_are_two_people() -> None:
    routes = gated("one", "two", "limit", limit=True)
    world = Assumed(routes.plan)
    verdicts = []
    for who in (Identity("one", "api-key", "acme"), ACME, ACME):
        world.verify = Gatekeeper(*([recognised(who)] if who.source == "one" else [MISSING, recognised(who)])).identify
        verdicts.append(type(run(decide(routes, request(), world, Trace()))))
    assert verdicts == [Forward, Forward, Reject]
