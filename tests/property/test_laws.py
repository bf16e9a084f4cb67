"""The laws of decisions: what is decided live is what a dry run decides, and what a replay comes to.

Live is the worker's own world (workers.world) on real shared memory, whose state was brought about by the
operations that bring it about in a fleet. The dry run sees it as control does (supervisor.control.rehearsing),
or is told of it as a policy test is. Nothing is compared but whole verdicts and whole traces.

SENTINEL_LAW_EXAMPLES says how many examples there are over all laws; shares are by what an example costs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.core.appraisal import SAME, Translation
from sentinel.core.balance import levels
from sentinel.core.ceilings import Ceiling
from sentinel.core.decide import decide, fall_back
from sentinel.core.drive import Pause, Unsettled, Wanted, advance, run
from sentinel.core.fallbacks import falls_on
from sentinel.core.limits import TERM, Limiter
from sentinel.core.machines.health import Admin, Finding, Health
from sentinel.core.models import Errand
from sentinel.core.places import place_names, with_places
from sentinel.core.plan import Plan, Provider, Route
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable, compile_routes
from sentinel.core.state import NOTHING_KNOWN, State
from sentinel.core.trace import Step, Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.core.world import World
from sentinel.explain.assumed import Assumed
from sentinel.explain.exhaustive import compare, tell
from sentinel.explain.replay import Recorder, Replay, decode, encode, encode_steps
from shm.mapping import unlink_name
from shm.places import NEUTRAL, pack_terms
from shm.region import Region, Role
from supervisor.control import rehearsing
from tests.property.governed import LAW_EXAMPLES, Gateway, gateways, requests
from workers import places, world
from workers.attempt import FOR_ALL, FULL
from workers.identities import Identities
from workers.pricing import Prices
from workers.world import LiveWorld

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HOUR_NS = 3600 * 10**9
PASSING = st.sampled_from([0, 1, 10**8, 10**9, 30 * 10**9])
ASKED = st.lists(st.tuples(PASSING, requests()), min_size=1, max_size=6)
NUMBERS = count()


def examples(percent: int) -> settings:
    few = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=max(1, LAW_EXAMPLES * percent // 100), deadline=None, suppress_health_check=few)


def interpreted(route: Route, provider: Provider, asked: Request) -> Translation:
    """What becomes of a request for a provider of another dialect: everything that can become of one."""
    found = Translation("said", "one", "other", left_out="$.x"), Translation("unsayable", "one", "other", "$.y"), SAME
    return found[len(asked.path) % 3]


def assumed(plan: Plan, state: State = NOTHING_KNOWN) -> Assumed:
    """A described world in which somebody knows dialects."""
    described = Assumed(plan, state)
    described.translated = interpreted
    described.verify = Identities(plan).computed
    return described


class Fleet:
    """Shared memory in the gateway's state, and the world of a worker on it, under a clock and dice of ours."""

    def __init__(self, gateway: Gateway, region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 10**15
        self.now_s = gateway.state.now_s
        self.region = region
        plan = gateway.plan
        self.model = gateway.state.model
        self.plan = with_places(plan, region.place_numbers(place_names(plan)))
        self.slot, self.other = (
            region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=lane) for lane in (0, 1)
        )
        clock = SimpleNamespace(monotonic_ns=lambda: self.now_ns, time=lambda: self.now_s)
        for module in (places, rehearsing):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(world, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(world, "time", lambda: self.now_s)
        dice = Assumed(plan, State(chance=gateway.state.chance))
        monkeypatch.setattr(world, "getrandbits", lambda _bits: dice.chance())
        self._stand(gateway)
        monkeypatch.setattr(
            LiveWorld, "translate", lambda _, route, provider, asked: interpreted(route, provider, asked)
        )  # fmt: skip
        told = assumed(plan, gateway.state)
        monkeypatch.setattr(LiveWorld, "inspect", lambda _, route, asked: told.inspect(route, asked))
        if gateway.state.found_out:
            monkeypatch.setattr(LiveWorld, "identify", lambda _, gate, asked: told.identify(gate, asked))
        self.identities = Identities(plan)
        service = cast(Any, SimpleNamespace(
            region=region, slot=self.slot, prices=Prices(plan.prices), identities=self.identities,
        ))  # fmt: skip
        self.world = LiveWorld(service, self.plan)
        for group in self.world.groups():
            group._turn = -1
            group._chance = cast(Any, SimpleNamespace(getrandbits=lambda _bits: dice.chance()))

    def pass_ns(self, duration_ns: int) -> None:
        before_s = self.now_ns // 10**9
        self.now_ns += duration_ns
        self.now_s += self.now_ns // 10**9 - before_s

    def decide(self, table: RouteTable, asked: Request) -> tuple[Verdict, list[Step]]:
        """Decide as a worker does, and let the attempt begin as workers.attempt does."""
        trace = Trace()
        decision = decide(table, asked, self.world, trace)
        answer = advance(decision)
        while isinstance(answer, Pause | Wanted | Unsettled):
            told: Any = None
            if isinstance(answer, Unsettled):
                told = self.identities.computed(answer.authenticator, asked)
            if isinstance(answer, Wanted):
                told = run(Assumed(self.plan, State(model=self.model)).appraise(answer.route, asked))
            answer = advance(decision, told)
        verdict: Verdict = answer
        while isinstance(verdict, Forward):
            begun, errand = self._begun(verdict), verdict.errand
            if isinstance(begun, Reject) and verdict.spending is not None:
                self.world.refund(verdict.spending)
            if errand is None or not isinstance(begun, Reject) or not _falls(errand, begun.reason):
                verdict = begun
                break
            following = fall_back(table, verdict.route, asked, errand, begun.reason.word, self.world, trace)
            verdict = following if isinstance(following, Forward) else begun
        if not isinstance(answer, Reject):
            self.world.let_go(answer.leases)
        return verdict, trace.steps

    def _begun(self, verdict: Forward) -> Verdict:
        group, endpoint, tried = self.world.group(verdict.upstream), verdict.endpoint, ()
        while True:
            permit = group.begin(endpoint, self.now_ns)
            if not (isinstance(permit, int) and permit < 0):
                group.finish(endpoint, permit, NEUTRAL, self.now_ns, 0)
                return replace(verdict, endpoint=endpoint)
            tried = (*tried, endpoint)
            choice = None if permit in FOR_ALL else group.choose(tried, verdict.wish)
            if choice is None or choice.endpoint is None:
                reason = Reason.UPSTREAM_FULL if permit in FULL else Reason.BREAKER_OPEN
                return Reject(reason.status, reason, verdict.route, verdict.fields)
            endpoint = choice.endpoint

    def _stand(self, gateway: Gateway) -> None:
        board, terms = self.region.board, pack_terms()
        for upstream in self.plan.upstreams:
            if gateway.state.upstreams[upstream.name].is_open:
                board.set_breaker(upstream.place, True, self.now_ns)
            for endpoint in upstream.endpoints:
                state = gateway.state.endpoints[upstream.name, endpoint.name]
                if state.report is not None:  # before anything is in flight
                    board.set_report(endpoint.place, state.report.waiting, state.report.cache, self.now_ns)
                for _ in range(state.in_flight):
                    self.region.begin(self.other, endpoint.place, upstream.place, self.now_ns, terms)
                self.region.burden(self.other, endpoint.place, state.tokens, 0)
                match state.standing:
                    case levels.DRAIN:
                        board.set_admin(endpoint.place, Admin.DRAIN)
                    case levels.MAINTENANCE:
                        board.set_admin(endpoint.place, Admin.MAINTENANCE)
                    case levels.UNHEALTHY:
                        board.set_health(endpoint.place, Health.UNHEALTHY, Finding.REFUSED, self.now_ns)
                    case levels.EJECTED:
                        board.set_ejected(endpoint.place, self.now_ns + HOUR_NS, 1)
                    case levels.OPEN:
                        board.set_breaker(endpoint.place, True, self.now_ns)
        for key, used_ns in used_of(gateway).items():
            if used_ns:
                self.region.charge(self.other, self.now_ns, (key,), TERM.pack(used_ns, 1 << 50, 0))
        for key, held in held_of(gateway).items():
            for _ in range(held):
                self.region.hold(self.other, self.now_ns, key, 100)


def _falls(errand: Errand, reason: Reason) -> bool:
    fallback = errand.first.fallback
    return fallback is not None and falls_on(fallback, reason) and errand.following is not None


def used_of(gateway: Gateway) -> dict[bytes, int]:
    limiters = [(Limiter(one, route), asked, left) for one, route, asked, left in gateway.used]
    return {one.key(asked): one.capacity_ns - left * one.interval_ns for one, asked, left in limiters}


def held_of(gateway: Gateway) -> dict[bytes, int]:
    return {Ceiling(one, route).key(asked): held for one, route, asked, held in gateway.held}


@contextmanager
def fleet(gateway: Gateway) -> Iterator[Fleet]:
    name = f"/sentinel-law-{os.getpid()}-{next(NUMBERS)}"
    region = Region.create(
        name, series_max=4, slots_max=2, journal_records=2, limits_max=64, places_max=16, leases_max=64,
        budgets_max=256,
    )
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            yield Fleet(gateway, region, monkeypatch)
    finally:
        region.close()
        unlink_name(name)


def rehearsed(table: RouteTable, asked: Request, dry: Assumed) -> tuple[Verdict, list[Step]]:
    trace = Trace()
    decided = run(decide(table, asked, dry, trace))
    verdict = dry.carry_out(table, asked, decided, trace)
    if not isinstance(decided, Reject):
        dry.let_go(decided.leases)
    return verdict, trace.steps


def plain(verdict: Verdict) -> Verdict:
    """Without the numbers of leases and the marks of charges, which are each world's own."""
    if isinstance(verdict, Forward) and (spending := verdict.spending) is not None:
        reservations = tuple([one._replace(lease=0) for one in spending.reservations])
        takings = tuple([replace(one, mark=(0, 0, 0)) for one in spending.takings])
        verdict = replace(verdict, spending=spending._replace(reservations=reservations, takings=takings))
    return verdict if isinstance(verdict, Reject) else replace(verdict, leases=())


@pytest.mark.interpreted
@examples(12)
@given(gateways(), ASKED)
def test_a_dry_run_against_the_fleet_decides_what_the_fleet_decides(
    gateway: Gateway, asked: list[tuple[int, Request]]
) -> None:
    """Against shared memory as control reads it: before each request, with nothing charged by the looking."""
    with fleet(gateway) as live:
        table = compile_routes(live.plan)
        for duration_ns, one in asked:
            live.pass_ns(duration_ns)
            for group in live.world.groups():
                group._turn, group.purse = -1, [0] * len(group.purse)
            seen = replace(rehearsing.snapshot(live.plan, live.region), chance=7, model=gateway.state.model,
                           found=gateway.state.found, found_out=gateway.state.found_out)  # fmt: skip
            first = rehearsed(table, one, assumed(live.plan, seen))
            assert rehearsed(table, one, assumed(live.plan, seen)) == first, "the first dry run charged something"
            with pytest.MonkeyPatch.context() as monkeypatch:
                dice = Assumed(live.plan, State(chance=7))
                monkeypatch.setattr(world, "getrandbits", lambda _bits, dice=dice: dice.chance())
                for group in live.world.groups():
                    group._chance = cast(Any, SimpleNamespace(getrandbits=lambda _bits, dice=dice: dice.chance()))
                verdict, steps = live.decide(table, one)
            assert (plain(verdict), steps) == (plain(first[0]), first[1])


@pytest.mark.interpreted
@examples(13)
@given(gateways(), ASKED)
def test_a_described_fleet_decides_what_the_fleet_decides(
    gateway: Gateway, asked: list[tuple[int, Request]]
) -> None:
    """Told once, and then request after request: what was charged stays charged, on both sides."""
    with fleet(gateway) as live:
        table = compile_routes(live.plan)
        dry = assumed(live.plan, replace(gateway.state, used=used_of(gateway), held=held_of(gateway)))
        for duration_ns, one in asked:
            live.pass_ns(duration_ns)
            dry.pass_ns(duration_ns)
            verdict, steps = live.decide(table, one)
            told, told_steps = rehearsed(table, one, dry)
            assert (plain(verdict), steps) == (plain(told), told_steps)


@examples(35)
@given(gateways(), requests())
def test_a_replay_is_the_decision_byte_for_byte(gateway: Gateway, asked: Request) -> None:
    plan: Plan = gateway.plan
    table = compile_routes(plan)
    state = replace(gateway.state, used=used_of(gateway), held=held_of(gateway))
    recorder = Recorder(assumed(plan, state))
    verdict, trace = decided(table, asked, recorder)
    written = encode(recorder.lines)

    replay = Replay(plan, decode(written))
    again = Recorder(replay)
    replayed, replayed_trace = decided(table, asked, again)
    replay.finish()
    assert replayed == verdict
    assert encode_steps(replayed_trace) == encode_steps(trace)
    assert encode(again.lines) == written


@examples(40)
@given(gateways(), requests())
def test_an_exhaustive_explanation_has_the_verdict_of_the_early_stopping_decision(
    gateway: Gateway, asked: Request
) -> None:
    table = compile_routes(gateway.plan)
    state = replace(gateway.state, used=used_of(gateway), held=held_of(gateway))
    verdict, trace = decided(table, asked, assumed(gateway.plan, state))
    comparison = compare(table, asked)
    winner = None if comparison.winner is None else comparison.winner.route
    assert winner is verdict.route
    tree = tell(table, asked, verdict, trace)
    # Why better candidates lost is told of all of them there, and stands in the trace only where a condition failed.
    concluded = [step[0].word for step in trace if step[0] is not Reason.CONDITION_FAILED]
    assert [node.reason for node in tree.children if node.kind == "step"] == concluded
    last = tree.children[-1]
    word = verdict.reason.word if isinstance(verdict, Reject) else Reason.PROXIED.word
    assert (last.kind, last.reason) == ("verdict", word)


def decided(table: RouteTable, asked: Request, answers: World) -> tuple[Verdict, list[Step]]:
    trace = Trace()
    return run(decide(table, asked, answers, trace)), trace.steps
