"""The real loop on a stage: its clock, its processes and its sockets are props.

Intuition: a rehearsal. Loop, policy, crew, requests and notebook are the real ones and
do not know that the clock only moves when the director says so, that a fork is
an `Actor`, and that a port is a name in a dictionary. So minutes of crashes and
back-off pass within milliseconds, and every run of a scene is the same.

Rule 1: an actor lives by the table of workers (sentinel.core.machines.worker): the
    stage can do nothing that a real worker could not.
Rule 2: `settle` is the loop's own waiting: it turns, lets the actors act, and moves
    the clock to the time at which the plan wants to look again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from types import SimpleNamespace, TracebackType
from typing import Any

import msgspec
import pytest

from sentinel.core.machines.rollout import UNDER_WAY, RolloutState
from sentinel.core.machines.worker import Order, WorkerEvent, WorkerState, step
from shm.region import RegionFull, Role
from supervisor.actions import Control, Door
from supervisor.fleet import Fleet, Generation, Member, Mode
from supervisor.loop import Loop
from supervisor.sdnotify import Systemd
from supervisor.sockets import BindFault

MS = 1_000_000
S = 1_000 * MS
START_NS = 1_000 * S
EVENTS = {
    Order.SERVE: WorkerEvent.SERVE, Order.DRAIN: WorkerEvent.DRAIN, Order.QUIT: WorkerEvent.QUIT,
    Order.SWEEP: WorkerEvent.SWEEP,
}  # fmt: skip


class Clock:
    """What the supervisor's modules take for the `time` module."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def monotonic_ns(self) -> int:
        return self.now_ns

    def gmtime(self) -> None:
        return None

    def strftime(self, form: str, moment: None) -> str:
        return "2030-01-01T00:00:00Z"


@dataclass(frozen=True)
class Slot:
    """A slot as region.slot() shows it."""

    generation: int
    lane: int
    state: WorkerState = WorkerState.BOOTING
    order: Order = Order.HOLD
    order_deadline_ns: int = 0
    heartbeat_ns: int = 0
    open_connections: int = 0
    open_requests: int = 0


class StagedRegion:
    """Shared memory: slots, the published number, and what a generation has counted."""

    name = "/staged"

    def __init__(self, slots_max: int) -> None:
        self.slots_max = slots_max
        self.live: dict[int, Slot] = {}
        self.published: list[int] = []
        self.counted: dict[int, tuple[int, int]] = {}
        self.claimed_count = self.reaped_count = 0

    def claim_slot(self, *, pid: int, birth_ns: int, role: Role, generation: int, lane: int) -> int:
        for index in range(self.slots_max):
            if index not in self.live:
                self.live[index] = Slot(generation, lane)
                self.claimed_count += 1
                return index
        raise RegionFull("every slot is claimed")

    def reap_slot(self, index: int) -> None:
        del self.live[index]
        self.reaped_count += 1

    def slot(self, index: int) -> Slot:
        return self.live[index]

    def set_pid(self, index: int, pid: int) -> None:
        assert index in self.live

    def set_order(self, index: int, order: Order, deadline_ns: int = 0) -> None:
        self.live[index] = replace(self.live[index], order=order, order_deadline_ns=deadline_ns)

    def order(self, index: int) -> tuple[Order, int]:
        return self.live[index].order, self.live[index].order_deadline_ns

    def publish(self, number: int) -> None:
        assert not self.published or number > self.published[-1], "numbers never go back"
        self.published.append(number)

    def generation_totals(self, generation: int) -> tuple[int, int]:
        return self.counted.get(generation, (0, 0))


class StagedSockets:
    """Doors by address. `taken` are those of somebody else; `waiting` is what nobody has accepted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.taken: set[str] = set()
        self.bound: dict[str, set[int]] = {}
        self.listening: dict[str, set[int]] = {}
        self.hushed: dict[str, int] = {}
        self.waiting: dict[str, int] = {}

    def prepare(self, addresses: Collection[str], lanes: Collection[int]) -> None:
        for address in addresses:
            if address in self.taken:
                raise BindFault(address, OSError(98, "taken"))
        for address in addresses:
            self.bound.setdefault(address, set()).update(lanes)

    def open(self, addresses: Collection[str], lanes: Collection[int]) -> None:
        for address in addresses:
            assert self.bound[address] >= set(lanes), "only what is bound can listen"
            self.listening.setdefault(address, set()).update(lanes)
            self.hushed.pop(address, None)

    def heritage(self, addresses: Collection[str], lane: int, lanes_count: int) -> dict[str, tuple[int, ...]]:
        assert all(lane in self.bound[address] for address in addresses), "a worker needs its door"
        return {address: (lane,) for address in addresses}

    def everything(self, addresses: Collection[str]) -> dict[str, tuple[int, ...]]:
        return {address: tuple(self.bound[address]) for address in addresses}

    def hush(self, address: str) -> None:
        self.hushed[address] = self._clock.now_ns

    def close(self, address: str) -> int:
        del self.bound[address]
        self.listening.pop(address, None)
        self.hushed.pop(address, None)
        return self.waiting.pop(address, 0)

    def doors(self) -> tuple[Door, ...]:
        return tuple(
            Door(address=one, hushed_ns=self.hushed.get(one, 0), waiting=self.waiting.get(one, 0))
            for one in self.bound
        )  # fmt: skip

    def statistics(self) -> dict[str, dict[str, int]]:
        return {one: {"sockets": len(lanes), "waiting": 0} for one, lanes in self.bound.items()}


class StagedDesk:
    """Control's desk: whoever sits there only listens."""

    channel = None

    def __init__(self) -> None:
        self.pid = self.restarts = self.ordered_ns = self.starts = 0
        self.deaths_ns: list[int] = []
        self.heard: list[dict[str, Any]] = []
        self.fails_to_start = False

    def facts(self) -> Control:
        return Control(pid=self.pid, deaths_ns=tuple(self.deaths_ns), ordered_ns=self.ordered_ns, last_words="woe")

    def start(self) -> int:
        if self.fails_to_start:
            raise OSError(2, "no such file")
        self.starts += 1
        self.pid, self.ordered_ns = 10_000 + self.starts, 0
        return -1

    def fail(self, now_ns: int, why: str) -> None:
        self.deaths_ns.append(now_ns)

    def end(self, number: signal.Signals, now_ns: int) -> None:
        self.ordered_ns = self.ordered_ns or now_ns
        self.pid = 0

    def die(self, now_ns: int) -> None:
        self.pid = 0
        self.restarts += 1
        self.deaths_ns.append(now_ns)

    def say(self, data: bytes) -> bool:
        self.heard.append(msgspec.json.decode(data))
        return bool(self.pid)

    def pass_on_words(self) -> None:
        pass


@dataclass
class Actor:
    """A worker process. `boots`, `obeys`, `beats`, `leaves`: what it does by itself when it is its turn."""

    theatre: Theatre
    slot: int
    pid: int
    generation: int
    lane: int
    boots: bool = True
    obeys: bool = True
    beats: bool = True
    leaves: bool = True
    status: int | None = None
    signals: list[signal.Signals] = field(default_factory=list)
    pidfd: int = -1
    words: Any = field(default_factory=lambda: SimpleNamespace(pass_on=lambda: None, last=lambda: ""))

    @property
    def state(self) -> WorkerState:
        return self.theatre.region.live[self.slot].state

    def meet(self, event: WorkerEvent) -> None:
        live = self.theatre.region.live
        live[self.slot] = replace(live[self.slot], state=step(self.state, event))

    def act(self) -> None:
        """One step of its own life."""
        if self.status is not None:
            return
        if self.beats and self.state is not WorkerState.BOOTING:
            live = self.theatre.region.live
            live[self.slot] = replace(live[self.slot], heartbeat_ns=self.theatre.clock.now_ns)
        order = self.theatre.region.live[self.slot].order
        if self.state is WorkerState.BOOTING and self.boots:
            self.meet(WorkerEvent.WARMED)
        elif self.obeys and order in EVENTS:
            self.meet(EVENTS[order])
            if self.state is WorkerState.SERVING and order is Order.SWEEP:
                self.theatre.sockets.waiting.clear()
                self.meet(WorkerEvent.DRAIN)
            if self.state is WorkerState.DRAINING and self.leaves:
                self.meet(WorkerEvent.FINISHED)
        if self.state is WorkerState.GONE:
            self.die(0)

    def die(self, status: int) -> None:
        self.status = status

    # What the crew does with its child.

    def wake(self) -> None:
        pass

    def kill(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if number is signal.SIGKILL:
            self.die(-number)

    def reap(self) -> int:
        assert self.status is not None
        return self.status

    def close(self) -> None:
        pass


class Theatre:
    """The stage and its director. A context manager, since the props have to be put back."""

    def __init__(self, slots_max: int = 16) -> None:
        self.clock = Clock()
        self.region = StagedRegion(slots_max)
        self.sockets = StagedSockets(self.clock)
        self.desk = StagedDesk()
        self.actors: dict[int, Actor] = {}
        self.casting: Callable[[Actor], None] = lambda actor: None
        """Called with every newborn actor: the director's wishes for it."""
        self._props = pytest.MonkeyPatch()
        for module in ("loop", "crew", "requests"):
            self._props.setattr(f"supervisor.{module}.time", self.clock)
        self._props.setattr("supervisor.crew.spawn", self._spawn)
        self._props.setattr("supervisor.loop.say", lambda text: None)
        self.loop: Any = Loop(
            region=self.region, sockets=self.sockets, desk=self.desk, systemd=Systemd({}),  # type: ignore[arg-type]
            worker_main=lambda heritage: 0, slots_max=slots_max,
        )  # fmt: skip
        self.loop._nursery = SimpleNamespace(start_soon=lambda *_: None)
        self.fleet: Fleet = self.loop._fleet
        self._message_number = 0

    def __enter__(self) -> Theatre:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._props.undo()

    def _spawn(self, make_heritage: Callable[[int], Any], worker_main: Any, title: str) -> Actor:
        heritage = make_heritage(-1)
        assert heritage.slot not in self.actors, "a slot has one process"
        pid = os.getpid() + len(self.actors)
        actor = Actor(self, heritage.slot, pid, heritage.generation, heritage.lane)
        self.casting(actor)
        self.actors[heritage.slot] = actor
        return actor

    # The director's words.

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """Say something as control, and hear the answer."""
        self._message_number += 1
        message = msgspec.json.encode({"id": self._message_number, "op": op, **fields})
        answer: dict[str, Any] = msgspec.json.decode(self.loop._requests.answer(message))
        assert answer["id"] == self._message_number
        return answer

    def rollout(self, fingerprint: str, **changes: Any) -> dict[str, Any]:
        return self.ask("rollout", **terms_of(fingerprint, **changes))

    def turn(self) -> int:
        """One turn of the loop, after the burial of whoever has died; returns when it wants to look again."""
        for actor in [one for one in self.actors.values() if one.status is not None]:
            del self.actors[actor.slot]
            self.loop._crew.bury(actor.slot)
        return int(self.loop._turn())

    def play(self) -> None:
        """One beat: a turn, then everybody acts, then time passes until the plan wants to look again."""
        look_again_ns = self.turn()
        assert look_again_ns <= self.clock.now_ns + 250 * MS, "the alarm is at most a heartbeat away"
        for actor in list(self.actors.values()):
            actor.act()
        self.clock.now_ns = max(self.clock.now_ns + MS, look_again_ns)

    def wait(self, duration_ns: int) -> None:
        until_ns = self.clock.now_ns + duration_ns
        while self.clock.now_ns < until_ns:
            self.play()

    def wait_until(self, is_so: Callable[[], object], within_ns: int = 120 * S) -> None:
        until_ns = self.clock.now_ns + within_ns
        while not is_so():
            assert self.clock.now_ns < until_ns, f"it never became so: {self.states()}, {self.fleet.members}"
            self.play()

    def settle(self) -> None:
        """Play until nothing moves any more."""
        self.wait_until(self.is_settled)
        self.wait(2 * S)

    def is_settled(self) -> bool:
        is_moving = any(one.state in UNDER_WAY - {RolloutState.CANARY} for one in self.fleet.generations())
        if self.fleet.mode is not Mode.SERVING:
            return not is_moving and not self.fleet.members
        busy = any(member.state is not WorkerState.SERVING for member in self.members())
        return not is_moving and not busy and bool(self.fleet.current) and not self.sockets.hushed

    def serve(self, fingerprint: str = "a", **changes: Any) -> int:
        """A fleet that serves; returns the number of its generation."""
        answer = self.rollout(fingerprint, **changes)
        assert answer["ok"], answer
        self.settle()
        return int(answer["generation"])

    # What is seen.

    def members(self) -> list[Member]:
        return list(self.loop._crew.look())

    def generation(self, number: int) -> Generation:
        found = self.fleet.generation(number)
        assert found is not None
        return found

    def states(self) -> dict[int, str]:
        return {one.number: one.state.name for one in self.fleet.generations()}

    def rota(self) -> dict[int, int]:
        """lane -> generation of whoever serves it now; a lane with two of them is a fault."""
        found: dict[int, int] = {}
        for one in self.members():
            if one.state is WorkerState.SERVING and not one.is_sweeper:
                assert one.lane not in found, f"two serve lane {one.lane}"
                found[one.lane] = one.generation
        return found

    def actor(self, lane: int, generation: int | None = None) -> Actor:
        wanted = self.fleet.current if generation is None else generation
        return next(one for one in self.actors.values() if (one.lane, one.generation) == (lane, wanted))

    def heard(self, number: int) -> list[str]:
        """The words that control has been told of a generation, in their order."""
        return [one["state"] for one in self.desk.heard if one["event"] == "rollout" and one["generation"] == number]


def terms_of(fingerprint: str, **changes: Any) -> dict[str, Any]:
    """The terms of a generation as control says them; `probation` may be changed in part."""
    probation = {
        "duration_ns": 10 * S, "failure_share_max": 50, "requests_min": 20, "ready_timeout_ns": 5 * S,
        **changes.pop("probation", {}),
    }  # fmt: skip
    return {
        "plan_path": f"/plans/{fingerprint}", "fingerprint": fingerprint, "workers": 2,
        "addresses": ["127.0.0.1:8080"], "drain_deadline_ns": 30 * S, "heartbeat_timeout_ns": 2 * S,
        "probation": probation, "restarts_max": 3, "restarts_window_ns": 60 * S, **changes,
    }  # fmt: skip
