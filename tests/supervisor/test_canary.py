"""A canary on the stage: some lanes only, without end, until it is promoted, taken back, or fails."""

from __future__ import annotations

import signal

import pytest

from sentinel.core.machines.worker import WorkerState
from tests.supervisor.theatre import S, Theatre


@pytest.fixture
def lent(theatre: Theatre) -> Theatre:
    """Three lanes of generation 1, the first of which is lent to the canary, generation 2."""
    theatre.serve("a", workers=3)
    theatre.wait(11 * S)
    theatre.serve("b", workers=3, canary_lanes=1)
    assert theatre.rota() == {0: 2, 1: 1, 2: 1}
    return theatre


def test_a_canary_has_its_lanes_only_and_stays_as_long_as_it_is_let(lent: Theatre) -> None:
    lent.wait(60 * S)
    assert lent.states() == {1: "CURRENT", 2: "CANARY"}
    assert lent.fleet.current == 1
    assert lent.region.published == [1], "the published one is the one that all but the canary serve"
    assert lent.heard(2) == ["starting", "canary"]


def test_a_promoted_canary_gets_all_lanes_and_is_then_on_probation(lent: Theatre) -> None:
    first = lent.actor(0, 2)
    assert lent.ask("promote")["generation"] == 2
    lent.settle()
    assert lent.rota() == dict.fromkeys(range(3), 2)
    assert lent.states() == {1: "RETIRED", 2: "PROBATION"}
    assert lent.actor(0, 2) is first, "who serves already is not restarted"
    assert lent.region.published == [1, 2]


def test_a_canary_that_is_taken_back_gives_its_lane_to_the_current_generation(lent: Theatre) -> None:
    assert lent.ask("rollback")["generation"] == 2
    lent.play()
    while 2 in {one.generation for one in lent.members() if one.state is WorkerState.SERVING}:
        lent.play()
        lanes = {one.lane for one in lent.members() if one.state is WorkerState.SERVING}
        assert lanes == {0, 1, 2}, "the lane is served until its former generation serves it again"
    lent.settle()
    assert lent.rota() == dict.fromkeys(range(3), 1)
    assert lent.states() == {1: "CURRENT", 2: "ROLLED_BACK"}
    assert "rolled back by the operator" in lent.generation(2).why


def test_a_canary_that_fails_requests_is_taken_back_by_itself(lent: Theatre) -> None:
    lent.region.counted[2] = (50, 20)
    lent.settle()
    assert lent.states() == {1: "CURRENT", 2: "ROLLED_BACK"}
    assert "20 of 50 requests failed" in lent.generation(2).why


def test_a_canary_that_crashes_again_and_again_is_taken_back(lent: Theatre) -> None:
    for _ in range(4):
        lent.actor(0, 2).die(-signal.SIGSEGV)
        lent.turn()
        lent.wait_until(lambda: lent.states()[2] != "CANARY" or 0 in lent.rota())
    lent.settle()
    assert lent.states()[2] == "ROLLED_BACK"
    assert lent.rota() == dict.fromkeys(range(3), 1)


def test_a_dead_worker_of_either_generation_is_replaced_on_its_own_lane(lent: Theatre) -> None:
    lent.actor(0, 2).die(-signal.SIGKILL)
    lent.actor(2, 1).die(-signal.SIGKILL)
    lent.settle()
    assert lent.rota() == {0: 2, 1: 1, 2: 1}


def test_workers_that_do_not_start_at_the_promotion_take_the_canary_back(lent: Theatre) -> None:
    lent.casting = lambda actor: setattr(actor, "boots", actor.generation == 1)
    lent.ask("promote")
    lent.settle()
    assert lent.states() == {1: "CURRENT", 2: "ROLLED_BACK"}
    assert lent.rota() == dict.fromkeys(range(3), 1)


def test_a_taken_port_refuses_the_promotion_and_the_canary_stays(lent: Theatre) -> None:
    lent.sockets.taken.add("127.0.0.1:8080")
    assert "cannot listen on 127.0.0.1:8080" in lent.ask("promote")["error"]
    assert lent.states()[2] == "CANARY"


def test_another_rollout_has_to_wait_for_the_canary(lent: Theatre) -> None:
    assert "promote it or roll it back first" in lent.rollout("c")["error"]


def test_a_canary_does_not_keep_what_it_is_tried_beside_from_being_rolled_back(theatre: Theatre) -> None:
    theatre.serve("a", workers=3)
    theatre.wait(11 * S)
    theatre.serve("b", workers=3)
    theatre.serve("c", workers=3, canary_lanes=1)
    theatre.region.counted[2] = (100, 100)
    theatre.settle()
    assert theatre.states() == {1: "RETIRED", 2: "ROLLED_BACK", 3: "ROLLED_BACK", 4: "CURRENT"}
    assert theatre.generation(4).terms.fingerprint == "a"
    assert "generation 2, which it was tried beside, fails: 100 of 100 requests failed" in theatre.generation(3).why
    assert theatre.rota() == dict.fromkeys(range(3), 4)


def test_a_drain_ends_the_canary_s_work_and_resume_brings_it_back(lent: Theatre) -> None:
    lent.ask("drain")
    lent.wait_until(lambda: lent.fleet.mode.value == "drained")
    assert not lent.members()
    assert "resume" in lent.ask("promote")["error"]
    lent.ask("resume")
    lent.settle()
    assert lent.rota() == {0: 2, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("workers", "canary_lanes", "why"),
    [
        (2, 2, "is no canary: the configuration has 2 workers"),
        (9, 3, "would leave none to generation 1, which has 3"),
    ],
)
def test_a_canary_on_all_lanes_is_refused(theatre: Theatre, workers: int, canary_lanes: int, why: str) -> None:
    theatre.serve("a", workers=3)
    assert why in theatre.rollout("b", workers=workers, canary_lanes=canary_lanes)["error"]


def test_without_anything_that_serves_there_is_no_canary(theatre: Theatre) -> None:
    assert "nothing serves yet" in theatre.rollout("a", workers=3, canary_lanes=1)["error"]
    assert theatre.ask("promote")["error"] == "there is no canary to promote"


def test_what_a_canary_alone_listened_on_is_closed_when_it_is_taken_back(theatre: Theatre) -> None:
    theatre.serve("a", workers=3)
    theatre.serve("b", workers=3, canary_lanes=1, addresses=["127.0.0.1:8080", "127.0.0.1:9"])
    assert theatre.sockets.listening["127.0.0.1:9"] == {0}
    theatre.ask("rollback")
    theatre.settle()
    assert set(theatre.sockets.bound) == {"127.0.0.1:8080"}
