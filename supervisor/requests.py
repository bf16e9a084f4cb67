"""What control may ask of the supervisor, and the answers.

    status     how things are                   always answered
    rollout    stage a generation               -> its number; the rest is told as events
    promote    the canary gets all lanes        -> its number
    rollback   end the canary, or serve the former content again  -> the number to watch
    drain      take no new work                 resume   take it again
    stop       end the service as SIGTERM does

Intuition: orders at a counter. Each is taken or refused at once, with the reason;
none is waited for here. What becomes of it is the policy's affair, and is told
to whoever listens.

Rule 1: a request changes the notebook only (fleet.py), and sockets are bound for
    what it asks; no process is touched. So an answer never waits for anything.
Rule 2: a refusal says what is in the way, and what to do about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from sentinel.core.machines.rollout import WORDS, RolloutEvent, RolloutState
from supervisor.controlling import Desk
from supervisor.crew import Crew
from supervisor.fleet import Fleet, Generation, Member, Mode, former
from supervisor.sockets import BindFault, Sockets
from supervisor.terms import MESSAGE_BYTES_MAX, BadMessage, envelope, stop, terms

Answer = dict[str, Any]
HISTORY_MAX: Final = 20
BeginStop = Callable[[int, str], None]

_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The answer is no; the text says why."""


class Requests:
    """Answers control's messages. Used by the supervisor's thread."""

    def __init__(
        self, fleet: Fleet, crew: Crew, sockets: Sockets, desk: Desk, region_name: str, begin_stop: BeginStop
    ) -> None:
        self._fleet = fleet
        self._crew = crew
        self._sockets = sockets
        self._desk = desk
        self._region_name = region_name
        self._begin_stop = begin_stop
        self._handlers: dict[str, Callable[[bytes], Answer]] = {
            "status": lambda _: self.status(), "rollout": self._rollout, "promote": lambda _: self._promote(),
            "rollback": lambda _: self._rollback(), "drain": lambda _: self._drain(),
            "resume": lambda _: self._resume(), "stop": self._stop,
        }  # fmt: skip

    def answer(self, data: bytes) -> bytes:
        """The answer to one message, whatever it is."""
        number = 0
        try:
            message = envelope(data)
            number = message.id
            handler = self._handlers.get(message.op)
            if handler is None:
                raise Refused(f"`{message.op}` is not among {', '.join(self._handlers)}")
            return _fitting({"id": number, "ok": True, **handler(data)})
        except (BadMessage, Refused) as fault:
            return _encode({"id": number, "ok": False, "error": str(fault)})

    def status(self) -> Answer:
        """How everything is, in one document of at most 64 KiB."""
        fleet, now_ns = self._fleet, time.monotonic_ns()
        serving, latest = fleet.serving(), fleet.latest()
        return {
            "generation": fleet.current,
            "mode": fleet.mode.value,
            "rollout": _moving(latest) if latest else None,
            "plan": {"path": serving.terms.plan_path, "fingerprint": serving.terms.fingerprint} if serving else None,
            "plans": sorted(fleet.wanted_plans()),
            "workers": [_worker(member, now_ns) for member in self._crew.look()],
            "history": [_entry(one) for one in fleet.generations()[-HISTORY_MAX:]],
            "control": {"pid": self._desk.pid, "restarts": self._desk.restarts},
            "obituaries": list(fleet.obituaries),
            "sockets": self._sockets.statistics(),
            "region": self._region_name,
        }

    def _rollout(self, data: bytes) -> Answer:
        wanted = terms(data)
        self._must_serve("a rollout")
        if (other := self._fleet.under_way()) is not None:
            remedy = "promote it or roll it back first" if other.state is RolloutState.CANARY else "wait for its end"
            raise Refused(f"generation {other.number} is under way ({WORDS[other.state]}): {remedy}")
        if wanted.canary_lanes >= wanted.workers:
            raise Refused(
                f"a canary of {wanted.canary_lanes} lanes is no canary: the configuration has {wanted.workers} workers"
            )
        serving = self._fleet.serving()
        if wanted.canary_lanes and serving is None:
            raise Refused("nothing serves yet that a canary could be tried beside")
        if serving and wanted.canary_lanes >= serving.terms.workers:
            raise Refused(
                f"a canary of {wanted.canary_lanes} lanes would leave none to generation {serving.number}, "
                f"which has {serving.terms.workers}"
            )
        return {"generation": self._fleet.stage(wanted, time.monotonic_ns()).number}

    def _promote(self) -> Answer:
        self._must_serve("promote")
        canary = self._canary()
        if canary is None:
            raise Refused("there is no canary to promote")
        try:
            self._sockets.prepare(canary.terms.addresses, range(canary.terms.workers))
        except BindFault as fault:
            raise Refused(str(fault)) from None
        self._fleet.advance(canary.number, RolloutEvent.PROMOTED, time.monotonic_ns())
        return {"generation": canary.number}

    def _rollback(self) -> Answer:
        self._must_serve("rollback")
        now_ns, why = time.monotonic_ns(), "rolled back by the operator"
        if (canary := self._canary()) is not None:
            self._fleet.advance(canary.number, RolloutEvent.FAILED, now_ns, why)
            return {"generation": canary.number}
        if (other := self._fleet.under_way()) is not None:
            raise Refused(f"generation {other.number} is under way ({WORDS[other.state]}): wait for its end")
        serving = self._fleet.serving()
        target = former(self._fleet.generations(), serving) if serving else None
        if serving is None or target is None:
            raise Refused("there is nothing to go back to: no other content has served before")
        staged = self._fleet.stage(target.terms, now_ns, restores=serving.number)
        self._fleet.advance(serving.number, RolloutEvent.FAILED, now_ns, why)
        return {"generation": staged.number}

    def _drain(self) -> Answer:
        if self._fleet.mode is Mode.STOPPING:
            raise Refused("the service is stopping, which drains it too")
        if self._fleet.mode is Mode.SERVING:
            self._fleet.mode = Mode.DRAINING
        return {"mode": self._fleet.mode.value}

    def _resume(self) -> Answer:
        if self._fleet.mode is Mode.STOPPING:
            raise Refused("the service is stopping; it cannot be resumed, only started again")
        self._fleet.mode = Mode.SERVING
        return {"mode": self._fleet.mode.value}

    def _stop(self, data: bytes) -> Answer:
        wanted = stop(data)
        self._begin_stop(wanted.status, wanted.why)
        return {}

    def _canary(self) -> Generation | None:
        return next((one for one in self._fleet.generations() if one.state is RolloutState.CANARY), None)

    def _must_serve(self, what: str) -> None:
        mode = self._fleet.mode
        if mode in (Mode.DRAINING, Mode.DRAINED):
            raise Refused(f"{what} is not possible while the fleet is {mode.value}: `sentinelctl resume` first")
        if mode is Mode.STOPPING:
            raise Refused(f"{what} is not possible: the service is stopping")


def _moving(generation: Generation) -> Answer:
    return {"generation": generation.number, "state": WORDS[generation.state], "why": generation.why}


def _entry(one: Generation) -> Answer:
    return {
        **_moving(one), "fingerprint": one.terms.fingerprint, "path": one.terms.plan_path, "workers": len(one.lanes),
        "requests": one.requests, "failures": one.failures, "restores": one.restores,
    }  # fmt: skip


def _worker(member: Member, now_ns: int) -> Answer:
    return {
        "slot": member.slot, "pid": member.pid, "generation": member.generation, "lane": member.lane,
        "state": member.state.name.lower(), "age_ms": (now_ns - member.born_ns) // 1_000_000,
        "heartbeat_age_ms": (now_ns - max(member.heartbeat_ns, member.born_ns)) // 1_000_000,
        "open_connections": member.open_connections, "open_requests": member.open_requests,
    }  # fmt: skip


def _fitting(answer: Answer) -> bytes:
    """Encode, leaving out what is least missed until it fits into a message."""
    data = _encode(answer)
    for name in ("obituaries", "history"):
        while len(data) > MESSAGE_BYTES_MAX and answer.get(name):
            answer[name] = answer[name][len(answer[name]) // 2 + 1 :]
            data = _encode(answer)
    if len(data) > MESSAGE_BYTES_MAX:
        return _encode({"id": answer["id"], "ok": False, "error": "the answer is longer than a message may be"})
    return data
