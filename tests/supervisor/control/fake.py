"""The supervisor's end of the channel, as a small real implementation with scripted answers.

It runs in a thread, reads the real SEQPACKET socket, and does at once what the
supervisor does in time: a rollout starts, and serves or is refused as told.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]


class FakeSupervisor:
    """Serves one end of a socket pair; `theirs` is control's end."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.asked: list[Message] = []
        self.generation = 0
        self.mode = "serving"
        self.plan: Message | None = None
        self.former: Message | None = None
        self.last: Message | None = None
        self.history: list[Message] = []
        self.ends = "current"  # the state in which the next rollout ends; "" for one that does not end
        self.why = ""
        self.refusal = ""  # when set, the answer to everything but `status`
        self.is_mute = False
        self.hold = threading.Event()  # rollouts end only while this is set
        self.hold.set()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> FakeSupervisor:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.hold.set()
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.ours.close()

    def tell(self, **event: Any) -> None:
        self.ours.send(json.dumps(event).encode())

    def ops(self, op: str) -> list[Message]:
        return [message for message in self.asked if message["op"] == op]

    def _serve(self) -> None:
        while True:
            try:
                data = self.ours.recv(65536)
            except OSError:
                return
            if not data:
                return
            message = json.loads(data)
            self.asked.append(message)
            if not self.is_mute:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        handlers: dict[str, Callable[[Message], Message]] = {
            "status": self._status, "rollout": self._rollout, "promote": self._promote, "rollback": self._rollback,
            "drain": self._drain, "resume": self._resume, "stop": lambda _: {},
        }  # fmt: skip
        with contextlib.suppress(BrokenPipeError):
            if self.refusal and message["op"] != "status":
                self.tell(id=message["id"], ok=False, error=self.refusal)
                return
            answer = handlers[message["op"]](message)
            events = answer.pop("events", [])
            self.tell(id=message["id"], ok=True, **answer)
            for event in events:
                self.hold.wait()
                self.tell(event="rollout", **event)

    def _status(self, _: Message) -> Message:
        worker = {
            "slot": 0, "pid": 4711, "generation": self.generation, "lane": 0, "state": "SERVING", "age_ms": 5000,
            "heartbeat_age_ms": 250, "open_connections": 3, "open_requests": 1,
        }  # fmt: skip
        return {
            "generation": self.generation, "rollout": self.last, "history": self.history[-20:],
            "workers": [worker] if self.generation else [], "mode": self.mode,
            "control": {"pid": 1, "restarts": 0}, "obituaries": [], "region": "/none", "plan": self.plan,
        }  # fmt: skip

    def _begin(self, plan: Message, ends: str) -> Message:
        self.generation += 1
        events = [{"generation": self.generation, "state": "starting", "why": ""}]
        if ends:
            events.append({"generation": self.generation, "state": ends, "why": self.why})
        self.last = events[-1]
        self.history.append(events[-1] | plan)
        if ends in ("current", "probation"):
            self.former, self.plan = self.plan, plan
        return {"generation": self.generation, "events": events}

    def _rollout(self, message: Message) -> Message:
        plan = {"path": message["plan_path"], "fingerprint": message["fingerprint"]}
        return self._begin(plan, "canary" if message["canary_lanes"] and self.ends == "current" else self.ends)

    def _promote(self, _: Message) -> Message:
        event = {"generation": self.generation, "state": "current", "why": ""}
        return {"generation": self.generation, "events": [event]}

    def _rollback(self, _: Message) -> Message:
        assert self.former is not None
        return self._begin(self.former, "current")

    def _drain(self, _: Message) -> Message:
        self.mode = "drained"
        return {}

    def _resume(self, _: Message) -> Message:
        self.mode = "serving"
        return {}
