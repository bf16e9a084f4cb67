"""Token budgets in the core: what is asked of the world, in which order, and what its answer means."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.allowances import TOKENS_MAX, UNLIMITED, Term, Window
from sentinel.core.appraisal import FREE, UNKNOWN, Appraisal, Spending
from sentinel.core.decide import Rest, decide, decide_now
from sentinel.core.drive import WaitedHere, Wanted, advance, run
from sentinel.core.plan import ConcurrencyLimit, Endpoint, Inference, Plan, RateLimit, Route, TokenBudget, Upstream
from sentinel.core.prices import read_prices
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.core.state import State
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.core.world import Choice, Wish
from sentinel.explain.assumed import Assumed
from sentinel.explain.exhaustive import explain
from sentinel.explain.replay import Recorder, Replay, decode, encode, encode_steps
from shm.layout import BUDGET_AMOUNT_MAX, LIMIT_CLOSED, LIMIT_OBSERVE
from tests.core.build import match, plan, request, route

SMALL = TokenBudget("small", 100, key=("header:x-t",))
WATCH = TokenBudget("watch", 10, "hour", key=("client-ip",), on_limit="observe")
LARGE = TokenBudget("large", 1000, "month", key=(), when_full="reject")
ASK = Appraisal("ask", "m", 10, 20)
POST = request("/a", method="POST")


def planned(*budgets: TokenBudget, inference: Inference | None = None, **limits: Any) -> Plan:
    names = tuple(one.name for one in budgets)
    names += tuple(one.name for found in limits.values() for one in found)
    one = route("a", match(prefixes=("/a",)))
    one = dataclasses.replace(one, filters=names, inference=inference or Inference())
    return dataclasses.replace(plan(one), token_budgets=budgets, **limits)


class Books(Assumed):
    """A world whose bodies say what a test says, and which writes down what it was asked."""

    def __init__(self, found: Plan, appraisal: Appraisal = ASK, state: State = State()) -> None:  # noqa: B008
        super().__init__(found, state)
        self.appraisal = appraisal
        self.asked: list[Any] = []

    async def appraise(self, route: Route, request: Request) -> Appraisal:
        self.asked.append("appraise")
        return self.appraisal

    def reserve(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> tuple[int, ...]:
        answer = super().reserve(keys, terms)
        self.asked.append((keys, terms))
        return answer

    def refund(self, spending: Spending) -> None:
        self.asked.append("refund")
        super().refund(spending)


def decided(world: Books, found: Plan, asked: Request = POST) -> tuple[Verdict, list[Step]]:
    trace = Trace()
    return run(decide(compile_routes(found), asked, world, trace)), trace.steps


def test_words_of_terms_are_those_of_shared_memory() -> None:
    from sentinel.core import allowances, limits

    assert (limits.CLOSED, allowances.OBSERVE, UNLIMITED) == (LIMIT_CLOSED, LIMIT_OBSERVE, BUDGET_AMOUNT_MAX)


def test_all_budgets_are_asked_at_once_for_the_most_that_it_may_take() -> None:
    found = planned(SMALL, WATCH, LARGE)
    world = Books(found)
    verdict, steps = decided(world, found)
    assert isinstance(verdict, Forward) and verdict.spending is not None
    assert world.asked[0] == "appraise" and len(world.asked) == 2
    keys, terms = world.asked[1]
    assert [json.loads(key) for key in keys] == [["small", 0, ""], ["watch", 0, "192.0.2.1/32"], ["large", 0]]
    assert tuple(term[:4] for term in terms) == (
        (86400, 30, 100, 0), (3600, 30, UNLIMITED, LIMIT_OBSERVE), (31 * 86400, 30, 1000, LIMIT_CLOSED)
    )  # fmt: skip
    assert verdict.spending.tokens == 30 and [one.limit for one in verdict.spending.reservations] == [
        100, UNLIMITED, 1000
    ]  # fmt: skip
    assert [(reason, details) for reason, _, details in steps[1:4]] == [
        (Reason.WITHIN_BUDGET, ("small", 30, 100, 30)), (Reason.BUDGET_EXCEEDED, ("watch", 30, 10, 30)),
        (Reason.WITHIN_BUDGET, ("large", 30, 1000, 30)),
    ]  # fmt: skip
    assert dict(verdict.fields) == {
        "ratelimit-policy": '"small";q=100;qu="tokens";w=86400, "large";q=1000;qu="tokens";w=2678400',
        "ratelimit": '"small";r=70;t=86400, "large";r=970;t=2678400',
    }


def test_who_is_refused_by_one_has_nothing_put_aside_at_the_others() -> None:
    found = planned(LARGE, SMALL)
    world = Books(found)
    assert [type(decided(world, found)[0]) for _ in range(3)] == [Forward] * 3
    verdict, steps = decided(world, found)
    assert isinstance(verdict, Reject) and (verdict.status, verdict.reason) == (429, Reason.BUDGET_EXHAUSTED)
    assert steps[-1][2] == ("small", 90, 100, 30)
    assert ("retry-after", "86400") in verdict.fields and ("x-should-retry", "false") in verdict.fields
    world.appraisal = Appraisal("ask", "m", 10, 0)
    verdict, steps = decided(world, found)
    assert steps[1][2] == ("large", 100, 1000, 10), "30 three times, and the 10"


def test_nobody_is_asked_for_what_never_fits() -> None:
    found = planned(WATCH, SMALL)
    world = Books(found, Appraisal("ask", "m", 1 << 50, 1 << 50))
    verdict, steps = decided(world, found)
    assert isinstance(verdict, Reject) and verdict.status == 413 and world.asked == ["appraise"]
    assert steps[-1][2] == ("small", TOKENS_MAX, 100), "bounded"
    world.appraisal = Appraisal("ask")
    verdict, _ = decided(world, found)
    assert isinstance(verdict, Forward) and verdict.spending is not None and verdict.spending.tokens == 1


def test_what_was_put_aside_goes_back_if_there_is_no_endpoint() -> None:
    class Lonely(Books):
        def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
            return Choice(None, Reason.NO_ENDPOINT)

    class Broken(Books):
        def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
            raise ZeroDivisionError

    found = planned(SMALL)
    world = Lonely(found)
    assert isinstance(decided(world, found)[0], Reject)
    assert world.asked[-1] == "refund"
    broken = Broken(found)
    with pytest.raises(ZeroDivisionError):
        decided(broken, found)
    assert broken.asked[-1] == "refund"


def test_limits_come_first_and_nobody_waits_for_a_body_that_they_refuse() -> None:
    rate = RateLimit("rate", 10**9, 1, 1)
    few = ConcurrencyLimit("few", 1)
    found = planned(SMALL, rate_limits=(rate,), concurrency_limits=(few,))
    world = Books(found)
    verdict, steps = decided(world, found)
    assert isinstance(verdict, Forward)
    reasons = [step[0] for step in steps]
    assert reasons[1:4] == [Reason.WITHIN_CONCURRENCY, Reason.WITHIN_LIMIT, Reason.WITHIN_BUDGET]
    assert [name for name, _ in verdict.fields] == ["ratelimit-policy", "ratelimit"] * 2
    world.let_go(verdict.leases)
    verdict, _ = decided(world, found)
    assert isinstance(verdict, Reject) and verdict.reason is Reason.RATE_LIMITED
    assert world.asked.count("appraise") == 1


def test_a_refusal_by_a_budget_gives_back_what_was_held() -> None:
    few = ConcurrencyLimit("few", 1)
    found = planned(SMALL, concurrency_limits=(few,))
    world = Books(found, Appraisal("ask", "m", 0, 101))
    assert [decided(world, found)[0].reason for _ in range(2)] == [Reason.LARGER_THAN_BUDGET] * 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("appraisal", "unrecognised", "reason", "last"),
    [
        (FREE, "reject", None, Reason.ENDPOINT_CHOSEN),
        (UNKNOWN, "reject", Reason.INFERENCE_UNKNOWN, Reason.INFERENCE_UNKNOWN),
        (UNKNOWN, "admit", None, Reason.UNCOUNTED),
        (Appraisal("malformed", fault="$.model: it is missing"), "reject", Reason.INFERENCE_MALFORMED, None),
        (Appraisal("malformed", fault="$.model: it is missing"), "admit", None, Reason.UNCOUNTED),
    ],
)
def test_what_cannot_be_read(appraisal: Appraisal, unrecognised: Any, reason: Any, last: Any) -> None:
    found = planned(SMALL, inference=Inference(unrecognised=unrecognised))
    verdict, steps = decided(Books(found, appraisal), found)
    assert (verdict.reason if isinstance(verdict, Reject) else None) is reason
    assert last is None or last in [step[0] for step in steps]
    observing = planned(WATCH, inference=Inference(unrecognised=unrecognised))
    assert isinstance(decided(Books(observing, appraisal), observing)[0], Forward), "who only observes refuses nobody"


def test_live_the_body_is_waited_for_and_its_appraisal_sent() -> None:
    found = planned(SMALL)

    class Live(Books):
        async def appraise(self, route: Route, request: Request) -> Appraisal:
            return await Wanted(route)

    trace = Trace()
    rest = decide_now(compile_routes(found), POST, Live(found), trace)
    assert type(rest) is Rest and len(trace.steps) == 1
    wanted = advance(rest.coroutine)
    assert isinstance(wanted, Wanted) and wanted.route.name == "a"
    verdict = advance(rest.coroutine, ASK)
    assert isinstance(verdict, Forward) and verdict.spending is not None and verdict.spending.tokens == 30
    with pytest.raises(WaitedHere):
        run(decide(compile_routes(found), POST, Live(found), Trace()))


def test_a_replay_comes_to_the_same_verdict_and_the_same_trace() -> None:
    found = planned(SMALL, WATCH, LARGE)
    table = compile_routes(found)
    for appraisal in (ASK, Appraisal("ask", "m", 0, 95), UNKNOWN, FREE):
        recorder, trace = Recorder(Books(found, appraisal)), Trace()
        verdicts = [run(decide(table, POST, recorder, trace)) for _ in range(4)]
        replay, again = Replay(found, decode(encode(recorder.lines))), Trace()
        assert [run(decide(table, POST, replay, again)) for _ in range(4)] == verdicts
        replay.finish()
        assert encode_steps(again.steps) == encode_steps(trace.steps)


def test_a_description_has_the_window_that_is_open_and_no_later_one() -> None:
    found = planned(TokenBudget("small", 100, "hour", key=("header:x-t",)))
    asked = request("/a", method="POST", headers=(("x-t", "acme"),))
    world = Assumed(found, State(spent={b'["small",0,"acme"]': 90}, tokens=(5, 6), now_s=1_800_000_000))
    verdict = run(decide(compile_routes(found), asked, world, Trace()))
    assert isinstance(verdict, Reject) and verdict.reason is Reason.BUDGET_EXHAUSTED
    world.pass_ns(3600 * 10**9)
    assert isinstance(run(decide(compile_routes(found), asked, world, Trace())), Forward), "later"
    world.assume(State(spent={b'["small",0,"acme"]': 95}, tokens=(5, 6), now_s=1_800_000_000))
    assert isinstance(run(decide(compile_routes(found), asked, world, Trace())), Reject), "of the hour that is open"


BOOK = read_prices(json.dumps({"currency": "USD", "prices": [
    {"models": ["m"], "input": 1_000_000, "cached_input": 100_000, "cache_write": 2_000_000, "output": 3_000_000},
    {"models": ["old"], "until": "1970-01-01", "input": 1, "output": 1},
]}))[0]  # fmt: skip
assert BOOK is not None
PURSE = TokenBudget("purse", key=("model",), money=100, currency="USD")


def test_money_is_put_aside_by_the_dearest_price_beside_tokens() -> None:
    found = dataclasses.replace(planned(SMALL, PURSE), prices=BOOK)
    world = Assumed(found, State(tokens=(10, 20), model="m"))
    trace = Trace()
    verdict = run(decide(compile_routes(found), POST, world, trace))
    assert isinstance(verdict, Forward) and verdict.spending is not None
    assert [(one.amount, one.is_money) for one in verdict.spending.reservations] == [(30, False), (80, True)]
    assert [step[2] for step in trace.steps if step[0] is Reason.WITHIN_BUDGET] == [
        ("small", 30, 100, 30), ("purse", "0.00008 USD", "0.0001 USD", "0.00008 USD"),
    ]  # fmt: skip
    assert '"purse";r=20;t=86400' in dict(verdict.fields)["ratelimit"]
    assert '"purse";q=100;qu="micro-USD";w=86400' in dict(verdict.fields)["ratelimit-policy"]
    world.refund(verdict.spending)
    verdict = run(decide(compile_routes(found), POST, world, trace))
    assert isinstance(verdict, Forward), "what went back can be put aside again"
    assert isinstance(run(decide(compile_routes(found), POST, world, trace)), Reject)


@pytest.mark.parametrize("model", ["old", "other", ""])
def test_a_model_without_a_price_is_refused_or_passes_by_and_is_never_free(model: str) -> None:
    for budget, is_refused in ((PURSE, True), (dataclasses.replace(PURSE, unpriced="admit"), False),
                               (dataclasses.replace(PURSE, on_limit="observe"), False)):  # fmt: skip
        found = dataclasses.replace(planned(SMALL, budget), prices=BOOK)
        world, trace = Assumed(found, State(tokens=(10, 20), model=model)), Trace()
        verdict = run(decide(compile_routes(found), POST, world, trace))
        reasons = [step[0] for step in trace.steps]
        if is_refused:
            assert isinstance(verdict, Reject) and (verdict.status, verdict.reason) == (400, Reason.NO_PRICE)
        else:
            assert isinstance(verdict, Forward) and Reason.UNPRICED in reasons and Reason.WITHIN_BUDGET in reasons
            assert verdict.spending is not None and len(verdict.spending.reservations) == 1


def test_the_highest_threshold_that_is_passed_is_told_once_and_exactly() -> None:
    budget = dataclasses.replace(SMALL, warn_at=(33, 50, 80), warns_clients=True)
    found = planned(budget)
    for spent, told in ((2, ""), (3, "33%"), (19, "33%"), (20, "50%"), (49, "50%"), (50, "80%"), (70, "80%")):
        world, trace = Assumed(found, State(tokens=(10, 20), spent={b'["small",0,""]': spent})), Trace()
        verdict = run(decide(compile_routes(found), POST, world, trace))
        assert isinstance(verdict, Forward) and verdict.spending is not None
        steps = [step[2][3] for step in trace.steps if step[0] is Reason.BUDGET_WARNED]
        assert steps == [told] * bool(told) and verdict.spending.warned == len(steps)
        assert dict(verdict.fields).get("x-sentinel-budget-warning", "") == (f'"small";at={told[:-1]}' if told else "")


def test_names_that_clients_invent_share_one_account_when_there_is_a_book() -> None:
    budget = TokenBudget("models", 1000, key=("model",))
    for book, names in ((None, {"a", "b", "m"}), (BOOK, {"(other)", "m"})):
        found = dataclasses.replace(planned(budget), prices=book)
        keys = set()
        for model in ("a", "b", "m"):
            recorder = Recorder(Assumed(found, State(tokens=(1, 1), model=model)))
            run(decide(compile_routes(found), POST, recorder, Trace()))
            keys |= {json.loads(key)[2] for line in recorder.lines if line[0] == "reserve" for key in line[1][0]}
        assert keys == names


HOUR = 3600
NOON = 1_800_000_000 // 86400 * 86400 + 12 * HOUR


def spend(world: Assumed, found: Plan, tokens: int) -> tuple[bool, str]:
    """Whether so many are admitted, and what the client is told."""
    world.state = dataclasses.replace(world.state, tokens=(0, tokens))
    verdict = run(decide(compile_routes(found), POST, world, Trace()))
    return isinstance(verdict, Forward), dict(verdict.fields).get("ratelimit", "")


def test_a_window_that_rolls_counts_for_its_length_and_a_step_more_at_most() -> None:
    found = planned(TokenBudget("day", 100, key=(), rolling_s=24 * HOUR))
    world = Assumed(found, State(now_s=NOON + HOUR // 2))
    assert spend(world, found, 60) == (True, '"day";r=40;t=1800')
    world.pass_ns(HOUR * 10**9)
    assert spend(world, found, 40) == (True, '"day";r=0;t=1800') and not spend(world, found, 1)[0]
    world.pass_ns(23 * HOUR * 10**9)
    assert not spend(world, found, 1)[0], "24 hours later, in the same step"
    world.pass_ns(HOUR // 2 * 10**9)
    assert spend(world, found, 60) == (True, '"day";r=0;t=3600'), "the 60 are over, and the 40 are not"


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 100)), max_size=40), st.integers(60, 1000))
def test_no_time_as_long_as_the_window_ever_has_more_than_the_amount(asks: list[tuple[int, int]], length: int) -> None:
    found = planned(TokenBudget("day", 100, key=(), rolling_s=length))
    world, taken = Assumed(found, State(now_s=NOON)), []  # type: ignore[var-annotated]
    for pause, tokens in asks:
        world.pass_ns(pause * 10**9)
        if spend(world, found, tokens)[0]:
            taken.append((world.now_s(), tokens))
            assert sum(amount for moment, amount in taken if moment > world.now_s() - length) <= 100
        elif all(moment <= world.now_s() - length - max(1, length // 24) for moment, _ in taken):
            raise AssertionError("all of it was free again")


def test_what_was_not_used_of_the_last_window_is_added_up_to_a_share() -> None:
    found = planned(TokenBudget("day", 100, key=(), rollover=300))
    for used, allowed in ((100, 100), (90, 110), (70, 130), (0, 130)):
        world = Assumed(found, State(now_s=NOON))
        if used:
            assert spend(world, found, used)[0]
        world.pass_ns(24 * HOUR * 10**9)
        assert not spend(world, found, allowed + 1)[0]
        assert spend(world, found, allowed) == (True, '"day";r=0;t=43200')
        world.pass_ns(24 * HOUR * 10**9)
        assert not spend(world, found, 101)[0], "what was carried over is not carried again"
        world.pass_ns(24 * HOUR * 10**9)
        assert spend(world, found, 130)[0], "a window in which nothing was used"


def test_what_rolls_is_described_and_replayed_as_what_does_not() -> None:
    found = planned(
        TokenBudget("roll", 100, key=(), rolling_s=HOUR), TokenBudget("over", 100, key=(), rollover=500),
    )  # fmt: skip
    spent = {b'["roll",0]': 80, b'["over",0]': 80}
    world = Assumed(found, State(now_s=NOON, spent=spent, tokens=(0, 21)))
    assert not spend(world, found, 21)[0] and spend(world, found, 20)[0]
    world.pass_ns(HOUR * 10**9 - 10**9)
    assert not spend(world, found, 20)[0], "it is still within the hour"
    table = compile_routes(found)
    recorder, trace = Recorder(Assumed(found, State(now_s=NOON, tokens=(0, 60)))), Trace()
    verdicts = [run(decide(table, POST, recorder, trace)) for _ in range(3)]
    replay, again = Replay(found, decode(encode(recorder.lines))), Trace()
    assert [run(decide(table, POST, replay, again)) for _ in range(3)] == verdicts
    replay.finish()


def test_an_explanation_puts_nothing_aside() -> None:
    found = planned(SMALL)
    world = Assumed(found, State())
    for _ in range(2):
        told = explain(compile_routes(found), POST)
        assert any("token budget `small`" in node.text for node in told.children)
    assert world.window("day", "UTC") == Window(0, 86400, 0, 0, 2 * 86400)
