"""Decisions as dialogues: what is asked of the world, what is concluded, and from which line."""

from __future__ import annotations

import asyncio

import pytest

from sentinel.core.decide import decide
from sentinel.core.drive import WaitedHere, run
from sentinel.core.plan import Endpoint, Respond, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.span import NOWHERE, Span
from sentinel.core.trace import TRACE_STEPS_MAX, Trace
from sentinel.core.verdict import Forward, Reject
from sentinel.core.verdict import Respond as RespondVerdict
from sentinel.core.world import Choice, Wish
from tests.core.build import UPSTREAM, match, request, route, table


class Script:
    """A world that answers as written, and remembers what it was asked."""

    def __init__(self, *answers: Endpoint | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, tuple[Endpoint, ...]]] = []

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        raise AssertionError("no limits here")

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        self.asked.append((upstream.name, tried))
        endpoint = self.answers.pop(0)
        return Choice(endpoint, None if endpoint is not None else Reason.NO_ENDPOINT)


def test_a_request_is_forwarded_to_the_endpoint_that_the_world_chose() -> None:
    world, trace = Script(UPSTREAM.endpoints[1]), Trace()
    routes = table(route("api", match(prefixes=("/v1",), line=7)))
    verdict = run(decide(routes, request("/v1/x"), world, trace))
    assert isinstance(verdict, Forward)
    assert (verdict.route.name, verdict.upstream, verdict.endpoint) == ("api", UPSTREAM, UPSTREAM.endpoints[1])
    assert world.asked == [("api", ())]
    assert trace.steps == [
        (Reason.ROUTE_MATCHED, Span("s.kdl", 7, 9), ("api",)),
        (Reason.ENDPOINT_CHOSEN, NOWHERE, ("api", "10.0.0.2", 9002)),
    ]


def test_an_endpoint_of_another_making_is_described_too() -> None:
    trace = Trace()
    run(decide(table(route("api", match())), request(), Script(Endpoint("::1", 80, span=Span("t", 1, 1))), trace))
    assert trace.steps[1] == (Reason.ENDPOINT_CHOSEN, Span("t", 1, 1), ("api", "::1", 80))


def test_without_an_endpoint_the_request_is_rejected() -> None:
    trace = Trace()
    verdict = run(decide(table(route("api", match())), request(), Script(None), trace))
    assert isinstance(verdict, Reject)
    assert (verdict.status, verdict.reason) == (503, Reason.NO_ENDPOINT)
    assert verdict.route is not None
    assert trace.steps[1] == (Reason.NO_ENDPOINT, Span("s.kdl", 90, 5), ("api",))


def test_without_a_route_the_request_is_rejected_and_nothing_is_asked() -> None:
    trace, world = Trace(), Script()
    verdict = run(decide(table(route("api", match(paths=("/a",)))), request("/b"), world, trace))
    assert verdict == Reject(404, Reason.NO_ROUTE, None)
    assert world.asked == []
    assert trace.steps == [(Reason.NO_ROUTE, NOWHERE, ())]


def test_a_route_that_responds_asks_nothing() -> None:
    trace, world = Trace(), Script()
    answer = Respond(418, span=Span("s.kdl", 3, 1))
    verdict = run(decide(table(route("tea", match(line=2), respond=answer)), request(), world, trace))
    assert isinstance(verdict, RespondVerdict)
    assert verdict.route.respond is answer
    assert world.asked == []
    assert [step[0] for step in trace.steps] == [Reason.ROUTE_MATCHED, Reason.RESPONDED]
    assert trace.steps[1] == (Reason.RESPONDED, Span("s.kdl", 3, 1), (418,))


def test_all_steps_made_with_the_table_are_known_to_it() -> None:
    routes = table(route("api", match()), route("tea", match(paths=("/tea",)), respond=Respond(418), order=1))
    known = {id(step) for step in routes.fixed_steps()}
    for path in ("/", "/tea"):
        trace = Trace()
        run(decide(routes, request(path), Script(UPSTREAM.endpoints[0]), trace))
        assert all(id(step) in known for step in trace.steps)


def test_a_trace_is_bounded() -> None:
    trace = Trace()
    for number in range(TRACE_STEPS_MAX + 3):
        trace.step(Reason.CONDITION_FAILED, NOWHERE, number)
    assert (len(trace.steps), trace.dropped) == (TRACE_STEPS_MAX, 3)


def test_who_waits_where_nobody_can_answer_is_told_so() -> None:
    closed = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(WaitedHere):
        run(waits())
    assert closed == [True]


def test_a_fault_inside_a_decision_comes_out() -> None:
    async def breaks() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError):
        run(breaks())
