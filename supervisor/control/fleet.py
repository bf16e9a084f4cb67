"""The fleet as control sees it: questions to the supervisor, and what it tells by itself.

Control owns nothing of the fleet. It asks the supervisor for a rollout and then
watches; it asks for the status whenever somebody wants to know it. So a control
process that dies in the middle of anything leaves nothing half done, and its
successor knows as much as it did after one question.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from sentinel.core.plan import SECOND, Plan
from supervisor.control.channel import Channel, ChannelFault, Message
from supervisor.control.rollouts import FAILED, OVER, OVER_CANARY, Rollout, Rollouts

MARGIN_S = 15.0
"""Beyond the time that the plan allows for a step: the supervisor counts from later than we do."""

INHERITED_S = 3600.0
"""For a rollout whose plan we have not read, and so not its `ready-timeout`; the supervisor ends it much earlier."""

DRAIN_POLL_S = 0.05
"""How often a waiting `drain` asks; the supervisor answers in a fraction of a millisecond."""

DRAINED = frozenset({"drained", "stopping"})


class Fleet:
    """The supervisor's end of things. Used inside the loop."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        on_reload: Callable[[], None],
        on_rollout: Callable[[Rollout], None],
    ) -> None:
        self.channel = Channel(connection, self._on_event)
        self.rollouts = Rollouts()
        self._on_reload = on_reload
        self._on_rollout = on_rollout

    async def status(self) -> Message:
        status = await self.channel.ask("status")
        status.pop("id", None)
        status.pop("ok", None)
        rollout = status.get("rollout")
        known = Rollout.of(rollout) if isinstance(rollout, dict) else None
        if known is not None and self.rollouts.get(known.generation) != known:
            self.rollouts.record(known)  # it began before this control process
        return status

    async def rollout(self, plan: Plan, path: str, fingerprint: str, canary_lanes: int = 0) -> int:
        """Ask for a rollout of the plan at `path`; return the number of its generation."""
        answer = await self.channel.ask("rollout", **rollout_fields(plan, path, fingerprint, canary_lanes))
        return _generation(answer)

    async def wait_rollout(self, generation: int, plan: Plan, *, is_canary: bool = False) -> Rollout | None:
        """Wait until the generation serves or has failed; None when the supervisor does not say in time."""
        ready_s = plan.system.probation.ready_timeout_ns / SECOND
        return await self._wait(generation, OVER_CANARY if is_canary else OVER, ready_s + MARGIN_S)

    async def wait_under_way(self, status: Message) -> bool:
        """Wait for the end of what `status` says is under way, begun by another control process; False: nothing is."""
        rollout = Rollout.of(status.get("rollout") or {})
        if rollout is None or rollout.state in OVER_CANARY:
            return False
        await self._wait(rollout.generation, OVER, INHERITED_S)
        return True

    async def promote(self, plan: Plan) -> Rollout | None:
        generation = _generation(await self.channel.ask("promote"))
        return await self.wait_rollout(generation, plan)

    async def rollback(self, plan: Plan) -> Rollout | None:
        """Go back to the former content, or end a canary; the rollout returned is that of the content that serves."""
        before = (await self.status()).get("generation", 0)
        generation = _generation(await self.channel.ask("rollback"))
        rollout = await self.wait_rollout(generation, plan)
        if rollout is not None and rollout.state in FAILED and generation != before:
            status = await self.status()
            if status.get("generation") == before:  # a canary was taken back: what served before serves on
                return Rollout(before, "current", rollout.why)
        return rollout

    async def drain(self, plan: Plan, *, wait: bool) -> str:
        """Take no new work; with `wait`, until nothing is left. Returns the mode."""
        await self.channel.ask("drain")
        mode = str((await self.status()).get("mode", ""))
        if wait:
            async with asyncio.timeout(plan.system.drain_deadline_ns / SECOND + MARGIN_S):
                while mode == "draining":
                    await asyncio.sleep(DRAIN_POLL_S)
                    mode = str((await self.status()).get("mode", ""))
        return mode

    async def resume(self) -> str:
        await self.channel.ask("resume")
        return str((await self.status()).get("mode", ""))

    async def _wait(self, generation: int, states: frozenset[str], timeout_s: float) -> Rollout | None:
        """Wait for the event, or for the channel's end, whichever is first."""
        waiting = asyncio.create_task(self.rollouts.wait(generation, states, timeout_s))
        closing = asyncio.create_task(self.channel.closed.wait())
        try:
            await asyncio.wait((waiting, closing), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ChannelFault("the supervisor is gone")
            return waiting.result()
        finally:
            waiting.cancel()
            closing.cancel()

    def _on_event(self, message: Message) -> None:
        match message["event"]:
            case "rollout":
                rollout = Rollout.of(message)
                if rollout is None:
                    self.channel.surprise_count += 1
                    return
                self.rollouts.record(rollout)
                self._on_rollout(rollout)
            case "reload":
                self._on_reload()
            case "reopen-logs":
                pass  # control's only log is standard error, which is not ours to reopen
            case _:
                self.channel.surprise_count += 1


def rollout_fields(plan: Plan, path: str, fingerprint: str, canary_lanes: int) -> dict[str, Any]:
    """What the supervisor needs to know of a plan: it reads none itself."""
    system = plan.system
    return {
        "plan_path": path,
        "fingerprint": fingerprint,
        "workers": system.workers,
        "addresses": sorted({listener.address for listener in plan.listeners}),
        "drain_deadline_ns": system.drain_deadline_ns,
        "heartbeat_timeout_ns": system.heartbeat_timeout_ns,
        "probation": {
            "duration_ns": system.probation.duration_ns,
            "failure_share_max": system.probation.failure_share_max,
            "requests_min": system.probation.requests_min,
            "ready_timeout_ns": system.probation.ready_timeout_ns,
        },
        "restarts_max": system.restarts_max,
        "restarts_window_ns": system.restarts_window_ns,
        "cpu_affinity": system.cpu_affinity,
        "canary_lanes": canary_lanes,
    }


def _generation(answer: Message) -> int:
    generation = answer.get("generation")
    if not isinstance(generation, int):
        raise ChannelFault("the supervisor's answer names no generation")
    return generation
