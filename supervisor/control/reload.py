"""A reload, from the operator's files to the last word about the new generation.

    files --compile--> plan --gate--store--> file --ask--> supervisor drives --watch--> outcome

Rule 1: one reload at a time, in the order in which they were asked for, and the
    files are read when its turn comes. Two reloads at once would each be right
    about files that the other has not seen.
Rule 2: the queue is bounded. Whoever asks for the seventeenth waiting reload has
    a loop, not an intention. A SIGHUP that finds another one still waiting adds
    nothing, since that one will read the same files.
Rule 3: every way to end has one word (`Outcome.outcome`), one HTTP status and one
    counter, and nothing changes unless the word is `serving` or `canary`.
Rule 4: a gate (gate.py), if what runs has one, is asked before the supervisor is; nobody passes it but by
    `force`, and that is in the answer and in the audit log.
Rule 5: a renewal (watching.py) is a reload that may change certificates, and nothing else.
Rule 6: the same content again is a reload like any other (an operator who asks
    for new workers gets them), unless `if_changed` was said.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from sentinel.core.plan import Plan
from supervisor.control.channel import ChannelFault, SupervisorRefusal
from supervisor.control.compile import Compiled, Invalid
from supervisor.control.fleet import Fleet
from supervisor.control.gate import Finding, Gate, Preview
from supervisor.control.memory import MemoryFault
from supervisor.control.rollouts import Rollout
from supervisor.control.running import PlanFault, RunningPlan
from supervisor.control.store import PlanStore

WAITING_MAX = 16
PREVIEWS_MAX = 4
CHANGED_BESIDES: Final = "the configuration has changed besides; `sentinelctl reload` takes both"

Word = Literal[
    "serving", "canary", "accepted", "valid", "unchanged",
    "invalid", "refused", "rolled-back", "internal", "busy", "unavailable", "unknown",
]  # fmt: skip

STATUS: Final[dict[Word, int]] = {
    "serving": 200,  # the generation serves (its probation may still run)
    "canary": 200,  # it serves on the lanes asked for
    "accepted": 202,  # asked not to wait: the rollout has begun
    "valid": 200,  # a dry run: this would be rolled out
    "unchanged": 200,  # if_changed: the content runs already
    "invalid": 422,  # the configuration has problems, all of which are listed
    "refused": 409,  # the gate or the supervisor refused it, or its workers did not become ready
    "rolled-back": 409,  # it served and failed before we could say so
    "internal": 500,  # a fault of ours; standard error has it
    "busy": 503,  # too many reloads wait
    "unavailable": 503,  # the supervisor cannot be asked
    "unknown": 504,  # the supervisor has not said how it ended
}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /api/v1/reload."""

    canary: int = 0  # lanes that shall serve the new generation; 0: all
    wait: bool = True
    dry: bool = False
    if_changed: bool = False
    force: bool = False  # past the gate
    content: str = ""  # of the diff that was looked at: the files shall still be those


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it ended. `text` is for people, `problems` for programs; both say all of them."""

    outcome: Word
    generation: int | None = None
    fingerprint: str = ""
    why: str = ""
    text: str = ""
    problems: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    diff: dict[str, Any] | None = None  # what the gate found, when it refused or was passed by force

    @property
    def status(self) -> int:
        return STATUS[self.outcome]


class Reloader:
    """Makes reloads happen, one after the other. Used inside the loop; `compile_now` and `store` run in threads."""

    def __init__(
        self, fleet: Fleet, running: RunningPlan, store: PlanStore, compile_now: Callable[[bool], Compiled | Invalid],
        gate: Gate,
    ) -> None:  # fmt: skip
        self.counts: Counter[str] = Counter()
        self.last: Outcome | None = None
        self._gate = gate
        self._fleet = fleet
        self._running = running
        self._store = store
        self._compile_now = compile_now
        self._turn = asyncio.Lock()
        self._preview_turn = asyncio.Lock()
        self._previews_count = 0
        self._waiting_count = 0
        self._is_hangup_waiting = False

    async def reload(self, options: Options) -> Outcome:
        """Reload, after those who asked earlier; never raises for what an operator or the supervisor did."""
        if self._waiting_count >= WAITING_MAX:
            return self._count(Outcome(outcome="busy", why=f"{WAITING_MAX} reloads are waiting already"))
        self._waiting_count += 1
        try:
            async with self._turn:
                return self._count(await self._try(options))
        finally:
            self._waiting_count -= 1

    async def renew(self, kept: Callable[[Plan], Plan]) -> Outcome:
        """A reload by itself, of what has changed beside what is `kept` of a plan, which must be as it runs."""
        if self._waiting_count >= WAITING_MAX:
            return self._count(Outcome(outcome="busy", why=f"{WAITING_MAX} reloads are waiting already"))
        self._waiting_count += 1
        try:
            async with self._turn:
                return self._count(await self._try(Options(if_changed=True), kept))
        finally:
            self._waiting_count -= 1

    async def hang_up(self) -> Outcome | None:
        """What SIGHUP does: a reload, or nothing when one that was asked for by SIGHUP still waits."""
        if self._is_hangup_waiting:
            return None
        self._is_hangup_waiting = True
        try:
            await self._turn.acquire()
        finally:
            self._is_hangup_waiting = False
        try:
            return self._count(await self._try(Options()))
        finally:
            self._turn.release()

    async def _try(self, options: Options, kept: Callable[[Plan], Plan] | None = None) -> Outcome:
        """A fault of ours ends this reload, and neither the fleet nor the next reload."""
        try:
            return await self._take_turn(options, kept)
        except Exception as error:
            traceback.print_exc()
            return Outcome(outcome="internal", why=f"a fault in the control process: {type(error).__name__}: {error}")

    async def _take_turn(self, options: Options, kept: Callable[[Plan], Plan] | None) -> Outcome:
        compiled = await asyncio.to_thread(self._compile_now, options.dry)
        if isinstance(compiled, Invalid):
            return _invalid(compiled)
        about = Outcome(outcome="valid", fingerprint=compiled.fingerprint, warnings=compiled.warnings)
        if options.content and options.content != compiled.content:
            return _replace(about, outcome="refused", why="the files have changed since the diff was made; look again")
        if options.dry:
            return about
        try:
            if kept is not None:
                running = await self._running.follow(await self._fleet.status())
                if running is None or kept(running) != kept(compiled.plan):
                    return _replace(about, outcome="refused", why=CHANGED_BESIDES)
            finding = await self._judged(compiled.plan, is_forced=options.force)
            if finding is not None and not options.force:
                diff = finding.report.to_dict()
                return _replace(about, outcome="refused", why=finding.why, text=finding.text, diff=diff)
            if finding is not None:
                passed = f"the reload gate was passed by force: {finding.why}"
                about = _replace(about, warnings=(*about.warnings, passed), diff=finding.report.to_dict())
            return await self._roll_out(compiled, options, about)
        except SupervisorRefusal as refusal:
            return _replace(about, outcome="refused", why=str(refusal))
        except (ChannelFault, MemoryFault, PlanFault) as fault:
            return _replace(about, outcome="unavailable", why=str(fault))
        except OSError as error:
            return _replace(about, outcome="refused", why=f"the plan cannot be stored: {error}")

    async def preview(self, recent: int) -> Preview | Outcome:
        """What a reload of the files as they are would change; an outcome when they cannot be reloaded.

        One at a time, since each keeps a processor busy for seconds; few may wait.
        """
        if self._previews_count >= PREVIEWS_MAX:
            return Outcome(outcome="busy", why=f"{PREVIEWS_MAX} comparisons are under way or waiting already")
        self._previews_count += 1
        try:
            async with self._preview_turn:
                return await self._previewed(recent)
        finally:
            self._previews_count -= 1

    async def _previewed(self, recent: int) -> Preview | Outcome:
        compiled = await asyncio.to_thread(self._compile_now, True)
        if isinstance(compiled, Invalid):
            return _invalid(compiled)
        running = await self._running.follow(await self._fleet.status())
        if running is None:
            return Outcome(outcome="refused", why="no generation runs, so there is nothing to compare with")
        return await self._gate.preview(running, compiled.plan, recent, compiled.content)

    async def _judged(self, plan: Plan, *, is_forced: bool) -> Finding | None:
        """What the gate of the running plan has against a new one."""
        try:
            running = await self._running.follow(await self._fleet.status())
        except PlanFault:  # to reload is the remedy for it
            if plan.system.reload_gate is None or is_forced:
                return None
            raise
        if running is None or running.system.reload_gate is None:
            return None
        return await self._gate.judge(running.system.reload_gate, running, plan)

    async def _roll_out(self, compiled: Compiled, options: Options, about: Outcome) -> Outcome:
        status = await self._fleet.status()
        place = status.get("plan") or {}
        if options.if_changed and place.get("fingerprint") == compiled.fingerprint:
            return _replace(about, outcome="unchanged", generation=status.get("generation"))
        path = await asyncio.to_thread(self._store.write, compiled.fingerprint, compiled.data)
        generation = await self._fleet.rollout(compiled.plan, str(path), compiled.fingerprint, options.canary)
        if not options.wait:
            return _replace(about, outcome="accepted", generation=generation)
        rollout = await self._fleet.wait_rollout(generation, compiled.plan, is_canary=options.canary > 0)
        if rollout is not None and rollout.state in ("probation", "current"):
            self._running.put(compiled.plan, compiled.fingerprint)
        await asyncio.to_thread(self._store.prune, kept_paths(status) | {str(path)})
        return describe(rollout, _replace(about, generation=generation))

    def _count(self, outcome: Outcome) -> Outcome:
        self.counts[outcome.outcome] += 1
        self.last = outcome
        return outcome


def _invalid(found: Invalid) -> Outcome:
    return Outcome(outcome="invalid", why=found.why, text=found.text, problems=found.problems)


def describe(rollout: Rollout | None, about: Outcome) -> Outcome:
    """Turn the last word about a rollout into an outcome; `about` gives the rest."""
    if rollout is None:
        why = "the supervisor has not said in time how the rollout ended; see `sentinelctl status`"
        return _replace(about, outcome="unknown", why=why)
    words: dict[str, Word] = {
        "probation": "serving", "current": "serving", "canary": "canary",
        "refused": "refused", "rolled-back": "rolled-back",
    }  # fmt: skip
    word = words.get(rollout.state, "unknown")
    return _replace(about, outcome=word, generation=rollout.generation, why=rollout.why)


def kept_paths(status: dict[str, Any]) -> set[str]:
    """The plans that a status refers to: what runs, what a rollback may want, and what the history tells of."""
    entries = [status.get("plan"), status.get("rollout"), *(status.get("history") or ())]
    found = {str(path) for path in status.get("plans") or ()}
    for entry in entries:
        if isinstance(entry, dict):
            found |= {str(entry[key]) for key in ("path", "plan_path") if entry.get(key)}
    return found


def _replace(about: Outcome, /, **changes: Any) -> Outcome:
    return msgspec.structs.replace(about, **changes)
