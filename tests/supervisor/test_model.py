"""Anything may happen in any order, and the promises of the supervisor hold: a model with seeds.

The stage is the real loop (theatre.py). Rules are what operators, kernels and bad
luck do; invariants are looked at after each, and at each order as it is given:

    a lane that somebody serves is served until its next worker serves it
    the published number only goes up; contents may come back
    every slot has one process, every process that has started is reaped
    what the current generation listens on is open
    when nothing happens any more, the fleet comes to rest, one worker a lane
    told to stop, it ends
"""

from __future__ import annotations

import signal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sentinel.core.machines.rollout import FINAL, UNDER_WAY, RolloutState
from sentinel.core.machines.worker import Order, WorkerState
from supervisor.fleet import DEATHS_MAX, GENERATIONS_MAX, OBITUARIES_MAX, Mode
from supervisor.roster import LEAVING, duty
from tests.supervisor.theatre import MS, Actor, S, Theatre

SLOTS_MAX = 12
CONTENTS = ("good", "fine", "refuses", "hangs", "crashes", "crashes-serving")
ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
SERVES = {RolloutState.HANDOVER, RolloutState.PROBATION, RolloutState.CURRENT, RolloutState.FAILING}
"""States of a published generation that nobody has followed."""


class Fleets(RuleBasedStateMachine):
    """One fleet, and whatever comes over it."""

    def __init__(self) -> None:
        super().__init__()
        self.theatre = Theatre(SLOTS_MAX)
        self.theatre.casting = self.cast
        self.is_healed = False
        self._give = self.theatre.loop._crew.give
        self.theatre.loop._crew.give = self.give

    def teardown(self) -> None:
        try:
            self.heal()
            self.theatre.ask("stop")
            self.theatre.wait_until(lambda: self.theatre.loop._exit_status is not None)
            assert not self.theatre.region.live
            assert self.theatre.region.claimed_count == self.theatre.region.reaped_count
            assert not self.theatre.sockets.bound
        finally:
            self.theatre.close()

    def cast(self, actor: Actor) -> None:
        """Workers are as good as their content."""
        content = "good" if self.is_healed else self.theatre.generation(actor.generation).terms.fingerprint
        if content in ("refuses", "crashes"):
            actor.die(78 if content == "refuses" else -signal.SIGSEGV)
        actor.boots = content != "hangs"

    def give(self, slot: int, order: Order, deadline_ns: int) -> None:
        """Every order passes here: nobody who serves is sent home before somebody else serves his lane."""
        theatre = self.theatre
        told = theatre.actors[slot]
        if order in LEAVING and told.state is WorkerState.SERVING and theatre.fleet.mode is Mode.SERVING:
            rota = duty(theatre.loop._facts(theatre.clock.now_ns))
            if told.lane in rota and theatre.region.live[slot].order not in LEAVING:
                others = [
                    one for one in theatre.members()
                    if one.slot != slot and one.lane == told.lane and one.is_able and one.state is WorkerState.SERVING
                ]  # fmt: skip
                assert others, f"lane {told.lane} is left alone"
        self._give(slot, order, deadline_ns)

    # What operators do.

    @rule(
        content=st.sampled_from(CONTENTS), workers=st.integers(1, 3), canary_lanes=st.integers(0, 1),
        addresses=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True),
    )  # fmt: skip
    def rolls_out(self, content: str, workers: int, canary_lanes: int, addresses: list[str]) -> None:
        self.theatre.rollout(content, workers=workers, canary_lanes=canary_lanes, addresses=addresses)

    @rule(op=st.sampled_from(["promote", "rollback", "drain", "resume", "resume", "status"]))
    def asks(self, op: str) -> None:
        self.theatre.ask(op)

    # What bad luck does.

    @rule(data=st.data(), status=st.sampled_from([-signal.SIGKILL, -signal.SIGSEGV, 0, 1]))
    def somebody_dies(self, data: st.DataObject, status: int) -> None:
        if self.theatre.actors:
            self.theatre.actors[data.draw(st.sampled_from(sorted(self.theatre.actors)))].die(status)

    @rule(data=st.data(), habit=st.sampled_from(["beats", "obeys", "leaves"]))
    def somebody_hangs(self, data: st.DataObject, habit: str) -> None:
        if self.theatre.actors:
            setattr(self.theatre.actors[data.draw(st.sampled_from(sorted(self.theatre.actors)))], habit, False)

    @rule()
    def everybody_dies(self) -> None:
        for actor in self.theatre.actors.values():
            actor.die(-signal.SIGKILL)

    @rule()
    def control_dies(self) -> None:
        if self.theatre.desk.pid:
            self.theatre.desk.die(self.theatre.clock.now_ns)

    @rule(failures=st.integers(0, 100))
    def requests_fail(self, failures: int) -> None:
        for one in self.theatre.fleet.generations():
            self.theatre.region.counted[one.number] = (100, failures)

    @rule(address=st.sampled_from(ADDRESSES))
    def a_port_is_taken(self, address: str) -> None:
        if address not in self.theatre.sockets.bound:
            self.theatre.sockets.taken.add(address)

    @rule(address=st.sampled_from(ADDRESSES))
    def a_port_is_free_again(self, address: str) -> None:
        self.theatre.sockets.taken.discard(address)

    @precondition(lambda self: self.theatre.sockets.hushed)
    @rule()
    def somebody_waits_in_a_closing_queue(self) -> None:
        self.theatre.sockets.waiting.update(dict.fromkeys(self.theatre.sockets.hushed, 3))

    # What time does.

    @rule(beats=st.integers(1, 8))
    def time_passes(self, beats: int) -> None:
        for _ in range(beats):
            self.crash_those_who_crash_serving()
            self.theatre.play()

    @rule(seconds=st.integers(1, 20))
    def more_time_passes(self, seconds: int) -> None:
        self.theatre.wait(seconds * S)

    @rule()
    def the_machine_sleeps(self) -> None:
        self.theatre.clock.now_ns += 3600 * S

    @rule()
    def nothing_happens_any_more(self) -> None:
        self.heal()
        self.is_healed = False

    def crash_those_who_crash_serving(self) -> None:
        for actor in self.theatre.actors.values():
            content = self.theatre.generation(actor.generation).terms.fingerprint
            if content == "crashes-serving" and actor.state is WorkerState.SERVING and not self.is_healed:
                actor.die(-signal.SIGSEGV)

    def heal(self) -> None:
        """From now on everybody behaves: the fleet has to come to rest by itself."""
        theatre = self.theatre
        self.is_healed = True
        theatre.sockets.taken.clear()
        theatre.region.counted.clear()
        for actor in theatre.actors.values():
            actor.boots = actor.obeys = actor.beats = actor.leaves = True
        theatre.ask("resume")
        theatre.wait_until(self.is_at_rest, within_ns=600 * S)
        theatre.wait(1 * S)
        facts = theatre.loop._facts(theatre.clock.now_ns)
        assert theatre.rota() == duty(facts), "one worker a lane, of the generation that has the lane"
        assert len(theatre.members()) == len(duty(facts)), "and nobody else"
        current = theatre.fleet.serving()
        if current:
            assert theatre.rota().keys() == set(current.lanes)
            used = {address for one in facts.generations if one.state is RolloutState.CANARY or one is current
                    for address in one.terms.addresses}  # fmt: skip
            assert set(theatre.sockets.bound) == used

    def is_at_rest(self) -> bool:
        facts = self.theatre.loop._facts(self.theatre.clock.now_ns)
        moving = any(one.state in UNDER_WAY - {RolloutState.CANARY} for one in facts.generations)
        serving = [one for one in facts.members if one.state is WorkerState.SERVING and one.is_able]
        lanes = len(duty(facts))
        unused = len(self.theatre.sockets.hushed) if self.theatre.fleet.current else 0
        if any(actor.status is not None for actor in self.theatre.actors.values()):
            return False  # somebody is dead and not yet buried
        return not moving and len(facts.members) == len(serving) == lanes and not unused

    # What holds at any time.

    @invariant()
    def every_process_has_a_slot_and_every_slot_a_process(self) -> None:
        region = self.theatre.region
        assert region.live.keys() == self.theatre.actors.keys() == self.theatre.fleet.members.keys()
        assert region.claimed_count - region.reaped_count == len(region.live) <= SLOTS_MAX

    @invariant()
    def numbers_go_up(self) -> None:
        published = self.theatre.region.published
        assert published == sorted(set(published))
        assert self.theatre.fleet.current == (published[-1] if published else 0)

    @invariant()
    def the_published_generation_is_one_that_serves(self) -> None:
        current = self.theatre.fleet.serving()
        if current is not None:
            assert current.state in SERVES
            assert current.is_published

    @invariant()
    def its_doors_are_open(self) -> None:
        current, sockets = self.theatre.fleet.serving(), self.theatre.sockets
        if current is not None:
            for address in current.terms.addresses:
                assert sockets.listening[address] >= set(current.lanes)
                assert address not in sockets.hushed

    @invariant()
    def one_rollout_at_a_time(self) -> None:
        open_ones = [one for one in self.theatre.fleet.generations() if one.state in UNDER_WAY]
        asked = [one for one in open_ones if not one.restores and one.state is not RolloutState.FAILING]
        assert len(asked) <= 1, asked

    @invariant()
    def everything_is_bounded(self) -> None:
        fleet = self.theatre.fleet
        assert len(fleet.deaths) <= DEATHS_MAX
        assert len(fleet.obituaries) <= OBITUARIES_MAX
        assert sum(one.state in FINAL for one in fleet.generations()) <= GENERATIONS_MAX + SLOTS_MAX

    @invariant()
    def the_plan_never_waits_long_for_itself(self) -> None:
        plan: Any = self.theatre.loop._pause_until_ns
        assert plan <= self.theatre.clock.now_ns + 250 * MS


Fleets.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFleets = Fleets.TestCase
