"""Lives and deaths of workers and of control on the stage: who is killed when, who is replaced how soon."""

from __future__ import annotations

import signal

import pytest

from sentinel.core.machines.worker import Order, WorkerState
from supervisor.budget import PAUSE_FIRST_NS, PAUSE_MAX_NS
from tests.supervisor.theatre import MS, S, Theatre

FOREVER = {"restarts_max": 10_000}


def test_a_killed_worker_is_replaced_on_its_lane_at_once(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.actor(1).die(-signal.SIGKILL)
    before_ns = theatre.clock.now_ns
    theatre.turn()
    assert theatre.clock.now_ns == before_ns
    assert theatre.actor(1).state is WorkerState.BOOTING, "the first death costs no pause"
    theatre.settle()
    assert theatre.rota() == {0: 1, 1: 1}
    (obituary,) = theatre.ask("status")["obituaries"]
    assert obituary["cause"] == "killed by SIGKILL"
    assert (obituary["lane"], obituary["state"], obituary["status"]) == (1, "serving", -9)


def test_all_workers_may_die_at_once(theatre: Theatre) -> None:
    theatre.serve("a", workers=4)
    for actor in theatre.actors.values():
        actor.die(-signal.SIGKILL)
    theatre.settle()
    assert theatre.rota() == dict.fromkeys(range(4), 1)


def test_a_lane_that_dies_again_and_again_is_paused_longer_and_longer_but_never_given_up(theatre: Theatre) -> None:
    theatre.serve("a", **FOREVER)
    pauses: list[int] = []
    for _ in range(12):
        theatre.actor(0).die(-signal.SIGSEGV)
        theatre.turn()
        died_ns = theatre.clock.now_ns
        theatre.wait_until(lambda: any(one.lane == 0 for one in theatre.members()))
        pauses.append(theatre.clock.now_ns - died_ns)
        theatre.wait_until(lambda: 0 in theatre.rota())
    assert pauses == sorted(pauses)
    assert pauses[0] < PAUSE_FIRST_NS < pauses[3] < pauses[6]
    assert pauses[-1] < PAUSE_MAX_NS + 250 * MS
    assert 1 in theatre.rota(), "the other lane has nothing to do with it"


def test_deaths_are_forgotten_when_their_window_is_over(theatre: Theatre) -> None:
    theatre.serve("a", **FOREVER)
    for _ in range(5):
        theatre.actor(0).die(-signal.SIGSEGV)
        theatre.turn()
        theatre.wait_until(lambda: 0 in theatre.rota())
    theatre.wait(61 * S)
    theatre.actor(0).die(-signal.SIGSEGV)
    theatre.turn()
    assert any(one.lane == 0 for one in theatre.members()), "it is the first death again"


def test_a_late_worker_is_asked_for_its_stack_then_killed_and_replaced(theatre: Theatre) -> None:
    theatre.serve("a")
    hung = theatre.actor(1)
    hung.beats = False
    theatre.wait_until(lambda: hung.signals)
    assert hung.signals == [signal.SIGABRT]
    theatre.wait_until(lambda: signal.SIGKILL in hung.signals)
    theatre.settle()
    assert theatre.rota() == {0: 1, 1: 1}
    (obituary,) = theatre.ask("status")["obituaries"]
    assert obituary["cause"] == "no heartbeat for 2 s; killed by SIGKILL"


def test_nobody_is_called_late_for_a_time_in_which_nobody_looked(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.clock.now_ns += 3600 * S  # the machine was asleep, and all of them with it
    theatre.play()
    theatre.wait(10 * S)
    assert not any(actor.signals for actor in theatre.actors.values())
    assert not theatre.fleet.deaths


def test_a_worker_that_ignores_its_drain_is_killed_after_its_deadline_and_grace(theatre: Theatre) -> None:
    theatre.serve("a")
    stuck = theatre.actor(0)
    stuck.leaves = False
    theatre.rollout("b")
    theatre.wait_until(lambda: theatre.states().get(2) == "PROBATION")
    deadline_ns = theatre.region.live[stuck.slot].order_deadline_ns
    theatre.wait_until(lambda: theatre.clock.now_ns > deadline_ns)
    assert stuck.signals == [], "it may itself tell its connections at the deadline why they end"
    theatre.wait_until(lambda: stuck.signals)
    assert signal.SIGKILL in stuck.signals
    theatre.settle()
    assert not theatre.fleet.deaths, "whoever was told to leave counts against nobody"


@pytest.mark.parametrize("state", [WorkerState.BOOTING, WorkerState.READY, WorkerState.SERVING, WorkerState.DRAINING])
def test_a_death_in_any_state_of_a_handover_is_mended(theatre: Theatre, state: WorkerState) -> None:
    theatre.serve("a", workers=3)
    theatre.casting = lambda actor: setattr(actor, "boots", actor.lane != 1)
    for actor in theatre.actors.values():
        actor.leaves = False
    theatre.rollout("b", workers=3)
    for _ in range(3):
        theatre.play()
    for actor in theatre.actors.values():
        actor.boots = actor.boots or state is not WorkerState.BOOTING
        if state is WorkerState.READY:
            actor.obeys = False
    theatre.wait_until(lambda: any(one.state is state for one in theatre.actors.values()))
    theatre.casting = lambda actor: None
    next(one for one in theatre.actors.values() if one.state is state).die(-signal.SIGKILL)
    for actor in theatre.actors.values():
        actor.boots = actor.obeys = actor.leaves = True
    theatre.settle()
    assert theatre.rota() == dict.fromkeys(range(3), 2)


def test_every_fork_that_fails_is_tried_again_later(theatre: Theatre, monkeypatch: pytest.MonkeyPatch) -> None:
    theatre.serve("a", **FOREVER)

    def no_memory(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("supervisor.crew.spawn", no_memory)
        theatre.actor(0).die(-signal.SIGKILL)
        theatre.wait(5 * S)
        assert theatre.rota() == {1: 1}
        assert len(theatre.region.live) == 1, "the slot was given back"
        assert len(theatre.fleet.deaths) < 12
    theatre.settle()
    assert theatre.rota() == {0: 1, 1: 1}


# The modes of the fleet.


def test_drain_and_resume(theatre: Theatre) -> None:
    theatre.serve("a")
    assert theatre.ask("drain")["mode"] == "draining"
    theatre.turn()
    assert {one.order for one in theatre.members()} == {Order.DRAIN}, "the queues wait for resume"
    theatre.settle()
    assert theatre.ask("drain")["mode"] == "drained"
    assert theatre.sockets.listening == {"127.0.0.1:8080": {0, 1}}
    assert "resume" in theatre.rollout("b")["error"]
    assert theatre.ask("resume")["mode"] == "serving"
    theatre.settle()
    assert theatre.rota() == {0: 1, 1: 1}


def test_resume_in_the_middle_of_a_drain_has_successors_beside_those_who_leave(theatre: Theatre) -> None:
    theatre.serve("a")
    for actor in theatre.actors.values():
        actor.leaves = False
    theatre.ask("drain")
    theatre.wait(1 * S)
    theatre.ask("resume")
    theatre.wait_until(lambda: theatre.rota() == {0: 1, 1: 1})
    assert len(theatre.members()) == 4


def test_a_drain_in_the_middle_of_a_start_refuses_the_generation(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.casting = lambda actor: setattr(actor, "boots", False)
    theatre.rollout("b")
    theatre.wait(100 * MS)
    theatre.ask("drain")
    theatre.turn()
    assert theatre.states()[2] == "REFUSED"
    assert theatre.generation(2).why == "the fleet is draining"
    theatre.casting = lambda actor: None
    theatre.wait_until(lambda: not theatre.members())
    theatre.ask("resume")
    theatre.settle()
    assert theatre.rota() == {0: 1, 1: 1}


def test_a_drain_in_the_middle_of_a_handover_is_continued_by_resume(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.casting = lambda actor: setattr(actor, "obeys", False)
    theatre.rollout("b")
    theatre.wait_until(lambda: theatre.states().get(2) == "HANDOVER")
    theatre.ask("drain")
    theatre.wait(1 * S)
    theatre.casting = lambda actor: None
    for actor in theatre.actors.values():
        actor.obeys = True
    theatre.wait_until(lambda: not theatre.members())
    theatre.ask("resume")
    theatre.settle()
    assert theatre.rota() == {0: 2, 1: 2}


def test_stop_ends_workers_then_doors_then_control_then_the_service(theatre: Theatre) -> None:
    theatre.serve("a")
    assert theatre.ask("stop")["ok"]
    theatre.turn()
    assert {one.order for one in theatre.members()} == {Order.SWEEP}, "who was let into a queue is served"
    assert theatre.sockets.hushed
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)
    assert theatre.loop._exit_status == 0
    assert (theatre.members(), theatre.sockets.bound, theatre.desk.pid) == ([], {}, 0)


def test_a_stop_in_the_middle_of_a_rollout_ends_both_generations(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.casting = lambda actor: setattr(actor, "boots", False)
    theatre.rollout("b")
    theatre.wait(100 * MS)
    theatre.ask("stop", status=3)
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)
    assert theatre.loop._exit_status == 3
    assert not theatre.region.live
    assert theatre.states()[2] == "REFUSED"


def test_a_stop_shortens_what_is_left_of_a_drain(theatre: Theatre) -> None:
    theatre.serve("a", drain_deadline_ns=3600 * S)
    for actor in theatre.actors.values():
        actor.leaves = False
    theatre.rollout("b", drain_deadline_ns=10 * S)
    theatre.wait_until(lambda: theatre.states().get(2) == "PROBATION")
    theatre.ask("stop")
    theatre.turn()
    assert {one.order_deadline_ns for one in theatre.members()} == {theatre.fleet.stop_deadline_ns}
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)


def test_whoever_is_stuck_when_the_service_stops_is_killed_after_the_deadline(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.actor(0).obeys = theatre.actor(0).leaves = False
    theatre.ask("stop")
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)
    assert not theatre.region.live


def test_a_second_stop_with_a_reason_ends_at_once(theatre: Theatre) -> None:
    theatre.serve("a")
    for actor in theatre.actors.values():
        actor.leaves = False
    theatre.ask("stop", why="SIGTERM")
    theatre.wait(1 * S)
    deadline_ns = theatre.fleet.stop_deadline_ns
    theatre.ask("stop", why="SIGTERM")
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)
    assert theatre.clock.now_ns < deadline_ns
    assert {one["cause"].split(";")[0] for one in theatre.fleet.obituaries} == {  # type: ignore[attr-defined]
        "the service was told to end at once"
    }


def test_a_stopping_service_is_neither_drained_nor_resumed_nor_given_work(theatre: Theatre) -> None:
    theatre.serve("a")
    theatre.ask("stop")
    for op in ("drain", "resume", "promote", "rollback"):
        assert "stopping" in theatre.ask(op)["error"]
    assert "stopping" in theatre.rollout("b")["error"]


# Control.


def test_control_is_started_again_whenever_it_dies_and_later_each_time(theatre: Theatre) -> None:
    theatre.serve("a")
    pauses: list[int] = []
    for _ in range(6):
        theatre.desk.die(theatre.clock.now_ns)
        died_ns = theatre.clock.now_ns
        theatre.wait_until(lambda: theatre.desk.pid)
        pauses.append(theatre.clock.now_ns - died_ns)
    assert pauses == sorted(pauses)
    assert pauses[-1] > PAUSE_FIRST_NS
    assert theatre.rota() == {0: 1, 1: 1}


def test_a_control_that_cannot_stay_alive_ends_a_service_that_never_served(theatre: Theatre) -> None:
    theatre.turn()
    for _ in range(4):
        theatre.wait_until(lambda: theatre.desk.pid)
        theatre.desk.die(theatre.clock.now_ns)
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)
    assert theatre.loop._exit_status == 1


def test_a_command_that_is_no_command_ends_it_as_well(theatre: Theatre) -> None:
    theatre.desk.fails_to_start = True
    theatre.wait_until(lambda: theatre.loop._exit_status is not None)
    assert theatre.loop._exit_status == 1
