"""Limits of tokens in time in the core: what is asked of the world, what its answer means, and what goes back."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.appraisal import Appraisal
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.limits import Limiter, seconds
from sentinel.core.plan import SECOND, Inference, Plan, RateLimit, TokenBudget, TokenLimit
from sentinel.core.reasons import Reason
from sentinel.core.routes import compile_routes
from sentinel.core.state import State
from sentinel.core.throttles import CHARGE_NS_MAX, Measure, Throttle, drafts_of, duration
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.explain.assumed import Assumed
from sentinel.explain.replay import Recorder, Replay, decode, encode, encode_steps
from sentinel.explain.words import step_text
from shm.layout import LIMIT_TERM_MAX_NS
from tests.core.build import match, plan, request, route

MINUTE = 60 * SECOND
TPM = TokenLimit("tpm", 600, MINUTE, 100, requests=60, requests_period_ns=MINUTE, requests_burst=3, key=("header:x-t",))
POST = request("/a", method="POST")


def planned(*limits: TokenLimit, inference: Inference | None = None, budgets: tuple[TokenBudget, ...] = ()) -> Plan:
    one = route("a", match(prefixes=("/a",)))
    names = tuple(limit.name for limit in limits) + tuple(budget.name for budget in budgets)
    one = dataclasses.replace(one, filters=names, inference=inference or Inference())
    return dataclasses.replace(plan(one), token_limits=limits, token_budgets=budgets)


def decided(world: Assumed | Recorder, found: Plan) -> tuple[Verdict, list[Step]]:
    trace = Trace()
    return run(decide(compile_routes(found), POST, world, trace)), trace.steps


def words_of(verdict: Verdict) -> dict[str, str]:
    return dict(verdict.fields)


def test_what_a_request_may_take_is_taken_of_tokens_and_of_requests() -> None:
    found = planned(TPM)
    world = Assumed(found, State(tokens=(10, 20)))
    verdict, steps = decided(world, found)
    assert isinstance(verdict, Forward) and verdict.spending is not None
    tokens, requests = verdict.spending.takings
    assert (tokens.charged_ns, tokens.charge_ns(10), tokens.is_of_tokens) == (3 * SECOND, SECOND, True)
    assert (requests.charged_ns, requests.is_of_tokens) == (SECOND, False) and tokens.key != requests.key
    assert [step[2] for step in steps if step[0] is Reason.WITHIN_TOKEN_LIMIT] == [
        ("tpm", "tokens", 70, 100), ("tpm", "requests", 2, 3),
    ]  # fmt: skip
    assert words_of(verdict) == {
        "ratelimit-policy": '"tpm";q=100;qu="tokens";w=10, "tpm";q=3;qu="requests";w=3',
        "ratelimit": '"tpm";r=70;t=3, "tpm";r=2;t=1',
        "x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "70", "x-ratelimit-reset-tokens": "3s",
    }  # fmt: skip


def test_who_is_refused_takes_of_none() -> None:
    other = dataclasses.replace(TPM, name="other", requests=0, burst=1000)
    found = planned(other, TPM)
    world = Assumed(found, State(tokens=(10, 40)))
    assert [type(decided(world, found)[0]) for _ in range(3)] == [Forward, Forward, Reject]
    verdict, steps = decided(world, found)
    assert isinstance(verdict, Reject) and (verdict.status, verdict.reason) == (429, Reason.TOKEN_LIMITED)
    assert steps[-1][2][:4] == ("tpm", "tokens", 5, 50) and words_of(verdict)["retry-after"] == "5"
    assert '"other";r=900' in words_of(verdict)["ratelimit"], "twice 50, and no more"
    world.pass_ns(5 * SECOND)
    assert isinstance(decided(world, found)[0], Forward)


def test_requests_run_out_too() -> None:
    found = planned(TPM)
    world = Assumed(found, State(tokens=(0, 1)))
    assert [type(decided(world, found)[0]) for _ in range(4)] == [Forward] * 3 + [Reject]
    assert decided(world, found)[1][-1][2][:4] == ("tpm", "requests", 1, 1)


def test_what_never_fits_is_told_at_once() -> None:
    found = planned(TPM)
    verdict, steps = decided(Assumed(found, State(tokens=(1 << 30, 101))), found)
    assert isinstance(verdict, Reject) and (verdict.status, verdict.reason) == (413, Reason.LARGER_THAN_TOKEN_LIMIT)
    assert steps[-1][2] == ("tpm", "tokens", (1 << 30) + 101, 100) and words_of(verdict)["x-should-retry"] == "false"


def test_one_that_observes_refuses_nobody() -> None:
    found = planned(dataclasses.replace(TPM, on_limit="observe"))
    world = Assumed(found, State(tokens=(10, 50)))
    verdicts = [decided(world, found) for _ in range(2)]
    assert [type(verdict) for verdict, _ in verdicts] == [Forward] * 2 and not words_of(verdicts[1][0])
    assert [step[2] for step in verdicts[1][1] if step[0] is Reason.TOKEN_LIMIT_EXCEEDED] == [("tpm", "tokens", 60)]
    world = Assumed(found, State(tokens=(10, 101)))
    assert Reason.TOKEN_LIMIT_EXCEEDED in [step[0] for step in decided(world, found)[1]], "also what never fits"


def test_what_a_budget_refuses_goes_back_to_the_limits() -> None:
    found = planned(TPM, budgets=(TokenBudget("b", 60, key=()),))
    world = Assumed(found, State(tokens=(10, 40)))
    assert isinstance(decided(world, found)[0], Forward)
    verdict, _ = decided(world, found)
    assert isinstance(verdict, Reject) and verdict.reason is Reason.BUDGET_EXHAUSTED
    world.assume(State(tokens=(5, 5)))
    state = '"tpm";r=40;t=6, "tpm";r=1;t=2'
    assert ("ratelimit", state) in decided(world, found)[0].fields, "the first one's 50, and 10"


def test_exempt_clients_and_what_cannot_be_read() -> None:
    exempt = planned(dataclasses.replace(TPM, exempt=("192.0.2.0/24",)))
    verdict, steps = decided(Assumed(exempt, State(tokens=(1000, 1000))), exempt)
    assert isinstance(verdict, Forward) and Reason.WITHIN_TOKEN_LIMIT not in [step[0] for step in steps]
    found = planned(TPM)
    world = Assumed(found, State())
    world.dialect_of = lambda route, request: None
    assert decided(world, found)[0].reason is Reason.INFERENCE_UNKNOWN  # type: ignore[union-attr]
    world = Assumed(exempt, State())
    world.dialect_of = lambda route, request: None
    assert isinstance(decided(world, exempt)[0], Forward)


def test_a_replay_comes_to_the_same_verdict_and_the_same_trace() -> None:
    found = planned(TPM, dataclasses.replace(TPM, name="w", on_limit="observe"), budgets=(TokenBudget("b", 90),))
    table = compile_routes(found)
    recorder, trace = Recorder(Assumed(found, State(tokens=(10, 30)))), Trace()
    verdicts = [run(decide(table, POST, recorder, trace)) for _ in range(4)]
    replay, again = Replay(found, decode(encode(recorder.lines))), Trace()
    assert [run(decide(table, POST, replay, again)) for _ in range(4)] == verdicts
    replay.finish()
    assert encode_steps(again.steps) == encode_steps(trace.steps)
    assert all(step_text(reason, details) for reason, _, details in trace.steps)


def test_keys_are_those_of_no_rate_limit_and_of_no_other_parts() -> None:
    limit = dataclasses.replace(TPM, key=("header:x-t", "model", "route"))
    appraisal = Appraisal("ask", "m", 1, 1, account="m")
    one, other = (drafts_of(Throttle(limit, name), POST, appraisal) for name in ("a", "b"))
    keys = {draft.key for draft in (*one, *other)}
    assert len(keys) == 4
    shifted = appraisal._replace(account="1:m")
    assert drafts_of(Throttle(limit, "a"), POST, shifted)[0].key not in keys
    limiter = Limiter(RateLimit("tpm", SECOND, 1, 1, key=limit.key[:1]), "")
    assert limiter.key(POST) not in keys


@given(st.integers(1, 10**9), st.integers(1, 10**16), st.integers(1, 10**9), st.integers(0, 10**12))
def test_charges_are_never_less_than_the_rate_says(count: int, period_ns: int, burst: int, amount: int) -> None:
    one = Measure("tokens", count, period_ns, burst, "t")
    exact = Fraction(amount * period_ns, count)
    assert one.charge_ns(amount) == CHARGE_NS_MAX or 0 <= one.charge_ns(amount) - exact < 1
    assert one.remaining(0) >= burst or one.capacity_ns == CHARGE_NS_MAX
    assert CHARGE_NS_MAX <= LIMIT_TERM_MAX_NS


@pytest.mark.parametrize(("time_ns", "text"), [
    (0, "0ms"), (1, "1ms"), (20_000_000, "20ms"), (SECOND, "1s"), (1_500_000_000, "1.5s"), (MINUTE, "1m0s"),
    (6 * MINUTE + 30 * SECOND, "6m30s"),
])  # fmt: skip
def test_durations_are_as_openai_has_them(time_ns: int, text: str) -> None:
    assert duration(time_ns) == text
    assert seconds(time_ns) * SECOND >= time_ns
