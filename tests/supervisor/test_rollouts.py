"""Rollouts on the stage: how a generation comes to serve, is refused, is taken back, and what disturbs it."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from sentinel.core.machines.worker import Order, WorkerState
from supervisor.fleet import GENERATIONS_MAX
from tests.supervisor.theatre import MS, Actor, S, Theatre


def ends_at_once(actor: Actor, *, of: str, in_theatre: Theatre, status: int = 1) -> None:
    """A casting: workers of this content end before they are ready."""
    if in_theatre.generation(actor.generation).terms.fingerprint == of:
        actor.boots = False
        actor.die(status)


def never_ready(actor: Actor, *, of: str, in_theatre: Theatre) -> None:
    if in_theatre.generation(actor.generation).terms.fingerprint == of:
        actor.boots = False


def test_the_first_generation_serves_and_is_proven(theatre: Theatre) -> None:
    assert theatre.serve("a", workers=3) == 1
    assert theatre.rota() == {0: 1, 1: 1, 2: 1}
    assert theatre.states() == {1: "PROBATION"}
    theatre.wait(10 * S)
    assert theatre.states() == {1: "CURRENT"}
    assert theatre.heard(1) == ["starting", "probation", "current"]
    assert theatre.region.published == [1]


def test_nothing_listens_before_every_worker_is_ready(theatre: Theatre) -> None:
    theatre.casting = lambda actor: setattr(actor, "boots", actor.lane == 0)
    theatre.rollout("a")
    theatre.wait(1 * S)
    assert theatre.sockets.bound == {"127.0.0.1:8080": {0, 1}}
    assert theatre.sockets.listening == {}
    assert [one.order for one in theatre.members()] == [Order.HOLD, Order.HOLD]
    theatre.actor(1, 1).boots = True
    theatre.settle()
    assert theatre.sockets.listening == {"127.0.0.1:8080": {0, 1}}


def test_a_reload_hands_every_lane_over_and_no_lane_is_ever_empty(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.rollout("b")
    while theatre.states()[2] != "PROBATION":
        theatre.play()
        serving = {one.lane for one in theatre.members() if one.state is WorkerState.SERVING}
        assert serving == {0, 1}
    theatre.settle()
    assert theatre.rota() == {0: 2, 1: 2}
    assert theatre.states() == {1: "RETIRED", 2: "PROBATION"}


def test_a_worker_that_is_slow_to_serve_is_waited_for_by_its_predecessor(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.casting = lambda actor: setattr(actor, "obeys", actor.lane == 0)
    theatre.rollout("b")
    theatre.wait(1 * S)
    before = theatre.actor(1, generation=1)
    assert before.state is WorkerState.SERVING
    assert theatre.region.live[before.slot].order is Order.SERVE
    theatre.actor(1, generation=2).obeys = True
    theatre.settle()
    assert theatre.rota() == {0: 2, 1: 2}


def test_a_generation_whose_workers_end_by_themselves_is_refused_and_says_why(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.casting = partial(ends_at_once, of="bad", in_theatre=theatre, status=78)
    theatre.rollout("bad")
    theatre.settle()
    assert theatre.states()[2] == "REFUSED"
    assert "ended before it was ready" in theatre.generation(2).why
    assert "status 78" in theatre.generation(2).why
    assert theatre.rota() == {0: 1, 1: 1}
    assert theatre.heard(2) == ["starting", "refused"]
    assert theatre.region.published == [1]


def test_a_generation_that_is_never_ready_is_refused_in_time(theatre: Theatre) -> None:
    theatre.serve("a")
    serving = {slot: actor.pid for slot, actor in theatre.actors.items()}
    theatre.casting = partial(never_ready, of="bad", in_theatre=theatre)
    theatre.rollout("bad")
    theatre.settle()
    assert theatre.states()[2] == "REFUSED"
    assert "was not ready within 5 s" in theatre.generation(2).why
    assert {slot: actor.pid for slot, actor in theatre.actors.items()} == serving, "whoever served was not touched"


def test_a_worker_killed_from_outside_while_it_starts_is_replaced(theatre: Theatre) -> None:
    theatre.casting = lambda actor: setattr(actor, "boots", actor.lane == 0 or len(theatre.region.live) > 2)
    theatre.rollout("a")
    theatre.wait(100 * MS)
    theatre.casting = lambda actor: None
    theatre.actor(1, 1).die(-signal.SIGKILL)
    theatre.settle()
    assert theatre.states() == {1: "PROBATION"}


def test_workers_that_crash_again_and_again_before_they_are_ready_refuse_the_generation(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.casting = partial(ends_at_once, of="bad", in_theatre=theatre, status=-signal.SIGSEGV)
    theatre.rollout("bad", probation={"ready_timeout_ns": 60 * S})
    theatre.settle()
    assert theatre.states()[2] == "REFUSED"
    assert "crashed 4 times within 60 s" in theatre.generation(2).why
    assert "SIGSEGV" in theatre.generation(2).why


def test_a_port_of_somebody_else_refuses_the_generation_before_anything_is_forked(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.sockets.taken.add("127.0.0.1:9")
    claimed_count = theatre.region.claimed_count
    theatre.rollout("b", addresses=["127.0.0.1:8080", "127.0.0.1:9"])
    theatre.settle()
    assert theatre.states()[2] == "REFUSED"
    assert "another process listens there" in theatre.generation(2).why
    assert theatre.region.claimed_count == claimed_count


def test_a_generation_that_fits_into_no_slots_is_refused_at_once(theatre: Theatre) -> None:
    theatre.serve("a", workers=4)
    theatre.rollout("b", workers=9)
    theatre.settle()
    assert theatre.states()[2] == "REFUSED"
    assert "do not fit in shared memory's 16 slots" in theatre.generation(2).why


def test_a_generation_waits_for_room_while_former_workers_drain(theatre: Theatre) -> None:
    theatre.casting = lambda actor: setattr(actor, "leaves", actor.generation != 1)
    theatre.rollout("a", workers=5)
    theatre.wait_until(lambda: theatre.states()[1] == "PROBATION")
    theatre.rollout("b", workers=5)
    theatre.wait_until(lambda: theatre.states()[2] == "PROBATION")
    theatre.rollout("c", workers=5)
    theatre.wait(1 * S)
    assert theatre.states()[3] == "STAGED", "five drain, five serve, and ten more would be needed"
    for actor in theatre.actors.values():
        actor.leaves = True
    for actor in [one for one in theatre.actors.values() if one.generation == 1]:
        actor.die(0)
    theatre.settle()
    assert theatre.states()[3] == "PROBATION"


def test_too_many_failed_requests_in_probation_bring_the_former_content_back(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.wait(11 * S)
    theatre.serve("b")
    theatre.region.counted[2] = (100, 6)
    theatre.settle()
    assert theatre.states() == {1: "RETIRED", 2: "ROLLED_BACK", 3: "CURRENT"}
    assert theatre.generation(3).terms.fingerprint == "a"
    assert theatre.generation(3).restores == 2
    assert "6 of 100 requests failed, which is more than 5 %" in theatre.generation(2).why
    assert theatre.rota() == {0: 3, 1: 3}
    assert theatre.region.published == [1, 2, 3], "numbers never go back, contents may"
    assert theatre.heard(2) == ["starting", "probation", "failing", "rolled-back"]


@pytest.mark.parametrize(("requests", "failures"), [(19, 19), (100, 5), (0, 0)])
def test_few_requests_or_few_failures_prove_nothing_against_it(theatre: Theatre, requests: int, failures: int) -> None:
    theatre.serve("a")
    theatre.serve("b")
    theatre.region.counted[2] = (requests, failures)
    theatre.wait(11 * S)
    assert theatre.states()[2] == "CURRENT"


def test_failures_after_the_probation_are_nobody_s_fault(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.serve("b")
    theatre.wait(11 * S)
    theatre.region.counted[2] = (1000, 1000)
    theatre.wait(5 * S)
    assert theatre.states()[2] == "CURRENT"


def test_the_first_generation_has_nothing_to_fall_back_to_and_serves_on(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.region.counted[1] = (100, 100)
    theatre.wait(11 * S)
    assert theatre.states() == {1: "CURRENT"}
    assert theatre.rota() == {0: 1, 1: 1}


def test_what_should_replace_a_failing_one_and_cannot_start_leaves_it_serving(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.wait(11 * S)
    theatre.serve("b")
    theatre.casting = partial(ends_at_once, of="a", in_theatre=theatre)
    theatre.region.counted[2] = (100, 100)
    theatre.settle()
    assert theatre.states() == {1: "RETIRED", 2: "CURRENT", 3: "REFUSED"}
    assert "generation 3, in its place, was refused" in theatre.generation(2).why
    assert theatre.rota() == {0: 2, 1: 2}


def test_a_crash_loop_in_probation_brings_the_former_content_back(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.wait(11 * S)
    theatre.serve("b")
    for _ in range(4):
        theatre.actor(1, 2).die(-signal.SIGSEGV)
        theatre.turn()
        theatre.wait_until(lambda: theatre.states()[2] != "PROBATION" or theatre.rota().get(1) == 2)
    theatre.settle()
    assert theatre.states()[2] == "ROLLED_BACK"
    assert theatre.generation(theatre.fleet.current).terms.fingerprint == "a"


def test_a_crash_loop_of_what_was_proven_under_the_same_content_is_not_rolled_back(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.wait(11 * S)
    theatre.serve("b")
    theatre.wait(11 * S)
    theatre.serve("b")
    theatre.region.counted[3] = (100, 100)
    theatre.wait(11 * S)
    assert theatre.states()[3] == "CURRENT", "it is not the content that is to blame"


def test_an_operator_goes_back_and_forth(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.serve("b")
    assert theatre.ask("rollback") == {"id": 3, "ok": True, "generation": 3}
    theatre.settle()
    assert theatre.states() == {1: "RETIRED", 2: "ROLLED_BACK", 3: "CURRENT"}
    assert theatre.generation(3).terms.fingerprint == "a"
    answer = theatre.ask("rollback")
    assert not answer["ok"]
    assert "nothing to go back to" in answer["error"]


def test_a_second_rollout_has_to_wait_while_one_is_under_way(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.rollout("b")
    answer = theatre.rollout("c")
    assert not answer["ok"]
    assert "generation 2 is under way (starting): wait for its end" in answer["error"]
    assert "under way" in theatre.ask("rollback")["error"]
    theatre.settle()
    assert theatre.rollout("c")["ok"]
    theatre.settle()
    assert theatre.rota() == {0: 3, 1: 3}


def test_a_rollout_in_the_probation_of_another_ends_it(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.serve("b")
    theatre.serve("c")
    theatre.wait(11 * S)
    assert theatre.states() == {1: "RETIRED", 2: "RETIRED", 3: "CURRENT"}


def test_the_death_of_control_in_the_middle_changes_nothing(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.rollout("b")
    theatre.turn()
    theatre.desk.die(theatre.clock.now_ns)
    theatre.settle()
    assert theatre.rota() == {0: 2, 1: 2}
    assert theatre.desk.starts == 2
    assert theatre.ask("status")["rollout"] == {"generation": 2, "state": "probation", "why": ""}


def test_more_lanes_and_fewer_lanes(theatre: Theatre) -> None:
    theatre.serve("a", workers=2)
    theatre.serve("b", workers=4)
    assert theatre.rota() == dict.fromkeys(range(4), 2)
    assert theatre.sockets.listening["127.0.0.1:8080"] == {0, 1, 2, 3}
    theatre.serve("c", workers=1)
    assert theatre.rota() == {0: 3}
    assert theatre.sockets.listening["127.0.0.1:8080"] == {0, 1, 2, 3}, "the kernel goes on filling their queues"


def test_fewer_lanes_relieve_the_surplus_only_when_all_that_remain_serve(theatre: Theatre) -> None:
    theatre.serve("a", workers=4)
    theatre.casting = lambda actor: setattr(actor, "obeys", actor.lane == 0)
    theatre.rollout("b", workers=2)
    theatre.wait(1 * S)
    orders = {one.lane: one.order for one in theatre.members() if one.generation == 1}
    assert set(orders) == {1, 2, 3}
    assert set(orders.values()) == {Order.SERVE}
    theatre.actor(1, 2).obeys = True
    theatre.settle()
    assert theatre.rota() == {0: 2, 1: 2}


def test_a_removed_listener_is_hushed_swept_and_closed(theatre: Theatre) -> None:
    theatre.serve("a", addresses=["127.0.0.1:1", "127.0.0.1:2"])
    theatre.casting = lambda actor: setattr(actor, "leaves", True)
    theatre.rollout("b", addresses=["127.0.0.1:1"])
    theatre.wait_until(lambda: "127.0.0.1:2" in theatre.sockets.hushed)
    orders = {one.order for one in theatre.members() if one.generation == 1}
    assert orders == {Order.SWEEP}, "nobody would accept there after them"
    theatre.settle()
    assert set(theatre.sockets.bound) == {"127.0.0.1:1"}


def test_what_waits_in_a_closing_queue_is_swept_by_somebody(theatre: Theatre) -> None:
    theatre.serve("a", addresses=["127.0.0.1:1", "127.0.0.1:2"])
    theatre.rollout("b", addresses=["127.0.0.1:1"])
    theatre.wait_until(lambda: theatre.sockets.hushed)
    for actor in list(theatre.actors.values()):
        if actor.generation == 1:
            actor.die(-signal.SIGKILL)
    theatre.sockets.waiting["127.0.0.1:2"] = 5
    theatre.wait_until(lambda: any(one.is_sweeper for one in theatre.members()))
    theatre.settle()
    assert set(theatre.sockets.bound) == {"127.0.0.1:1"}
    assert theatre.region.live.keys() == theatre.actors.keys()


def test_sweepers_that_die_are_not_forked_for_ever(theatre: Theatre) -> None:
    theatre.serve("a", addresses=["127.0.0.1:1", "127.0.0.1:2"])
    claimed_count = theatre.region.claimed_count
    theatre.rollout("b", addresses=["127.0.0.1:1"])
    theatre.wait_until(lambda: theatre.sockets.hushed)
    theatre.casting = lambda actor: actor.die(-signal.SIGKILL)
    for actor in [one for one in theatre.actors.values() if one.generation == 1]:
        actor.die(-signal.SIGKILL)
    theatre.sockets.waiting["127.0.0.1:2"] = 5
    theatre.settle()
    assert set(theatre.sockets.bound) == {"127.0.0.1:1"}
    assert theatre.region.claimed_count - claimed_count == 2 + 3, "two of the new generation and three sweepers"


def test_a_listener_that_comes_back_while_it_is_hushed_is_open_again(theatre: Theatre) -> None:
    theatre.serve("a", addresses=["127.0.0.1:1", "127.0.0.1:2"])
    theatre.casting = lambda actor: setattr(actor, "leaves", False)
    for actor in theatre.actors.values():
        actor.leaves = False
    theatre.rollout("b", addresses=["127.0.0.1:1"])
    theatre.wait_until(lambda: theatre.sockets.hushed and theatre.states()[2] == "PROBATION")
    theatre.rollout("c", addresses=["127.0.0.1:1", "127.0.0.1:2"], workers=3)
    theatre.wait_until(lambda: theatre.states().get(3) == "PROBATION")
    assert not theatre.sockets.hushed
    assert theatre.sockets.listening["127.0.0.1:2"] >= {0, 1, 2}


def test_history_is_bounded_and_keeps_what_it_would_go_back_to(theatre: Theatre) -> None:
    theatre.serve("good")
    theatre.wait(11 * S)
    theatre.casting = partial(ends_at_once, of="bad", in_theatre=theatre)
    for _ in range(GENERATIONS_MAX + 10):
        theatre.rollout("bad")
        theatre.wait_until(lambda: theatre.fleet.under_way() is None)
    assert len(theatre.fleet.generations()) <= GENERATIONS_MAX + 1
    assert theatre.generation(1).state.name == "CURRENT"
    assert len(theatre.ask("status")["history"]) <= 20
