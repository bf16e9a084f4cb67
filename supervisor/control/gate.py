"""The reload gate: what a new configuration would change for the requests that were recorded, before it serves.

    journal ─▶ newest records ─┐
    plan that runs, new plan ──┴─▶ compare (sentinel.explain.diff) ─▶ share that changes ─▶ pass, or a finding

Intuition: a bouncer with yesterday's guest list. Before the house rules change he goes through the list and
counts whom they would turn away. One guest in a hundred may be what was meant; every second one is a typing error.

Rules:
1. The gate of the configuration that *runs* decides: an edit cannot take away the gate that is to judge it.
2. Time is bounded (JUDGE_S). A comparison that is not done by then has not said yes, and refuses.
3. Few records prove nothing (`min-requests`): then nothing is refused, as after a start.
4. It runs in a thread, while the admin API stays alive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sentinel.core.plan import Plan, ReloadGate
from sentinel.core.record import Record
from sentinel.core.routes import compile_routes
from sentinel.explain.arrival import recorded
from sentinel.explain.changes import settings
from sentinel.explain.diff import Report, compare
from sentinel.explain.generate import Generated
from sentinel.explain.report import report_text
from supervisor.control.journal import Journal

JUDGE_S: Final = 20.0
GENERATED_MAX: Final = 20_000
"""For a preview; `sentinelctl diff` makes more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why the gate refuses."""

    why: str
    text: str
    report: Report


@dataclass(frozen=True, slots=True)
class Preview:
    """What a reload would change. `content` names the files that were compared."""

    content: str
    recorded: Report
    generated: Report
    settings: list[str]

    def document(self) -> dict[str, Any]:
        reports = {"recorded": self.recorded, "generated": self.generated}
        return {
            "content": self.content,
            "differs": any(report.differing for report in reports.values()),
            **{name: report.to_dict() for name, report in reports.items()},
            "settings": self.settings,
            "text": "\n".join(report_text(report, name) for name, report in reports.items()),
        }


class Gate:
    """Judges new plans by the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def judge(self, gate: ReloadGate, old: Plan, new: Plan) -> Finding | None:
        """What is to be said against the new plan; None when it may be rolled out. Raises MemoryFault."""
        records = await self._journal.newest(gate.recent)
        report = await asyncio.to_thread(compare_records, old, new, records, _until(JUDGE_S))
        if report.is_cut:
            return _finding(f"the gate had compared {report.total} requests when its {JUDGE_S:g} s were up", report)
        if report.compared < gate.requests_min or report.changed_share <= gate.changed_share_max:
            return None
        changed = f"{report.differing} of {report.compared} recorded requests would be treated differently"
        return _finding(f"{changed}; the reload gate allows {gate.changed_share_max / 10:g}%", report)

    async def preview(self, old: Plan, new: Plan, recent: int, content: str) -> Preview:
        """What the new plan would change, for recorded requests and for generated ones."""
        records = await self._journal.newest(recent)
        return await asyncio.to_thread(_preview, old, new, records, content)


def compare_records(old: Plan, new: Plan, records: list[Record], is_time_up: Callable[[], bool]) -> Report:
    """Compare what two plans do with recorded requests."""
    cases = (case for record in records if (case := recorded(old, new, record)) is not None)
    return compare(compile_routes(old), compile_routes(new), cases, is_time_up)


def _preview(old: Plan, new: Plan, records: list[Record], content: str) -> Preview:
    is_time_up = _until(JUDGE_S)
    tables = compile_routes(old), compile_routes(new)
    return Preview(
        content,
        compare_records(old, new, records, is_time_up),
        compare(*tables, Generated(*tables).cases(GENERATED_MAX), is_time_up),
        settings(old, new),
    )


def _until(seconds: float) -> Callable[[], bool]:
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() > deadline


def _finding(why: str, report: Report) -> Finding:
    return Finding(why, report_text(report, "recorded"), report)
