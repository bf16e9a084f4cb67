"""From the operator's files to the bytes of a plan, or to all problems.

Runs in a thread of control: reading, parsing and checking a thousand routes takes
a while, and the admin API stays alive meanwhile.

Besides what the configuration's own check finds, there are problems that only a
running instance has: what was bound or made when the supervisor started cannot
be changed by a reload. Those are refused at their place in the file, together
with all others.

Each route is given its number in the metric tables here, and each upstream and endpoint its
place. Numbers are handed out once and kept for the life of the instance
(`Region.series_index`, `Region.place_numbers`), so a route that comes back after ten
reloads continues its counters, and an endpoint its health. When the table of series is full a
route counts as "(other)", and the reload says so; without a place there is no health and
no breaker, so that a full table of places refuses the reload.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sentinel.config import Problem, encode_plan, fingerprint, load, render_problems
from sentinel.core.places import place_names, with_places
from sentinel.core.plan import Guardrail, Plan
from sentinel.core.span import Span
from shm.region import Region
from shm.series import NONE, OTHER
from supervisor.control.book import LedgerFault
from supervisor.control.bookkeeping import restore
from supervisor.control.environment import ControlEnvironment
from supervisor.control.governing import SUBJECTS, unknown, welcome
from supervisor.control.ledger import Ledger, home_of
from supervisor.control.memory import Memory, MemoryFault
from supervisor.control.trials import failed_tests

DIRECTORY_REMEDY: Final = "make it writable for the service, give this instance one of its own, or remove the line"
DATABASE_REMEDY: Final = "see that it answers with this URL: without it, what was spent and ordered is not known"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan that may be rolled out."""

    plan: Plan
    data: bytes
    fingerprint: str
    warnings: tuple[str, ...] = ()
    content: str = ""
    """The fingerprint of what the operator wrote, without the numbers that are given here."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why there is no plan: every problem, for programs and as text."""

    problems: tuple[dict[str, Any], ...]
    text: str
    why: str = "the configuration has problems"


class Compiler:
    """Compiles the operator's files for one instance. Everything here blocks: call it in a thread."""

    def __init__(self, environment: ControlEnvironment, memory: Memory, ledger: Ledger) -> None:
        self._environment = environment
        self._memory = memory
        self._ledger = ledger

    def compile(self, is_dry: bool = False) -> Compiled | Invalid:
        """Read, check and encode; a dry compilation gives no route a number that it did not have."""
        loaded = load(self._environment.config)
        problems = list(loaded.problems)
        if loaded.plan is not None:
            problems += self._restart_problems(loaded.plan)
        if problems or loaded.plan is None:
            return Invalid(tuple(_document(problem) for problem in problems), render_problems(problems))
        if loaded.must_be_tested and (failed := failed_tests(loaded)):
            return Invalid(tuple(_document(problem) for problem in failed.problems), failed.text, failed.why)
        plan, warnings = self._number(loaded.plan, is_dry)
        try:
            plan = self._place(plan, is_dry)
        except MemoryFault as fault:
            problem = _shared_problem(plan, str(fault))
            return Invalid((_document(problem),), render_problems([problem]))
        except LedgerFault as fault:
            problem = _ledger_problem(plan, str(fault))
            return Invalid((_document(problem),), render_problems([problem]))
        data = encode_plan(plan)
        return Compiled(plan, data, fingerprint(data), warnings, fingerprint(encode_plan(loaded.plan)))

    def _number(self, plan: Plan, is_dry: bool) -> tuple[Plan, tuple[str, ...]]:
        """Give each route its series; without shared memory all count as the first, "(none)"."""
        names = [route.name for route in plan.routes]
        more = [name for one in plan.guardrails for name in one.metric_names]
        try:
            numbers = self._memory.ask_now(lambda region: (_known if is_dry else _given)(region, names + more))
        except MemoryFault as fault:
            return plan, (f"routes are not counted by name: {fault}",)
        routes = tuple(
            dataclasses.replace(route, series=number)
            for route, number in zip(plan.routes, numbers[: len(names)], strict=True)
        )
        lost = [name for name, number in zip(names + more, numbers, strict=True) if number == OTHER]
        numbered = dataclasses.replace(plan, routes=routes, guardrails=_counted(plan, numbers[len(names) :]))
        if not lost:
            return numbered, ()
        told = f"{len(lost)} routes count as (other), or kinds of guardrails not at all, first `{lost[0]}`"
        return numbered, (f"{told}: the table of series is full",)

    def _place(self, plan: Plan, is_dry: bool) -> Plan:
        """Give upstreams and endpoints their places; raises MemoryFault when they cannot have any, and LedgerFault."""
        names = place_names(plan)
        if is_dry:
            return with_places(plan, self._memory.ask_now(lambda region: region.board.known(names)))
        home = home_of(plan.system)
        is_fresh, new = self._memory.ask_now(lambda region: (region.is_fresh(), unknown(region, names)))
        orders: list[dict[str, str]] = [{}, {}]
        if is_fresh or new or not self._ledger.has(home):  # else it has nothing to tell, and may be away for now
            restore(self._memory, self._ledger, home)
            orders = [self._ledger.standing(home, subject, new) for subject in SUBJECTS]
        return with_places(plan, self._memory.ask_now(lambda region: welcome(region, names, *orders)))

    def _restart_problems(self, plan: Plan) -> Iterator[Problem]:
        """What differs from the instance that runs and cannot be changed in it, at its place in the file."""
        running = self._environment
        if plan.admin.address != running.admin_address:
            yield _restart_problem(plan.admin.address_span, "the admin address", running.admin_address)
        if os.path.realpath(plan.system.run_dir) != os.path.realpath(running.run_dir):
            yield _restart_problem(plan.system.run_dir_span, "`run-dir`", running.run_dir)
        journal = plan.system.journal
        with contextlib.suppress(MemoryFault):  # told by whoever needs it
            records = self._memory.ask_now(lambda region: region.geometry.journal_records)
            if journal.records not in (0, records):
                yield _restart_problem(journal.span, "`records` of the journal", str(records))


def _counted(plan: Plan, numbers: list[int]) -> tuple[Guardrail, ...]:
    """The guardrails with the numbers by which what they find is counted, one after the other."""
    left = iter(numbers)
    return tuple(
        dataclasses.replace(one, series=tuple(itertools.islice(left, len(one.metric_names)))) for one in plan.guardrails
    )


def _given(region: Region, names: list[str]) -> list[int]:
    return [region.series_index(name) for name in names]


def _known(region: Region, names: list[str]) -> list[int]:
    """The numbers that there are already, so that unchanged content has an unchanged fingerprint."""
    known = {name: number for number, name in enumerate(region.series_names())}
    return [known.get(name, NONE) for name in names]


def _restart_problem(span: Span, what: str, now: str) -> Problem:
    return Problem(
        span=span,
        message=f"{what} cannot be changed by a reload: it needs a restart; this instance has \"{now}\"",
        remedy="restart the service, or put the former value back",
    )


def _shared_problem(plan: Plan, why: str) -> Problem:
    span = plan.upstreams[0].span if plan.upstreams else plan.system.run_dir_span
    return Problem(span=span, message=f"upstreams cannot be given their places in shared memory: {why}",
                   remedy="restart the service")  # fmt: skip


def _ledger_problem(plan: Plan, why: str) -> Problem:
    if plan.system.ledger:
        return Problem(plan.system.ledger_span, f"the ledger cannot be used: {why}", DATABASE_REMEDY)
    return Problem(plan.system.state_dir_span, f"the state-dir cannot be used: {why}", DIRECTORY_REMEDY)


def _document(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.span.file, "line": problem.span.line, "column": problem.span.column,
        "message": problem.message, "remedy": problem.remedy,
    }  # fmt: skip
