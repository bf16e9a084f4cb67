"""Soft thresholds of budgets: whoever reads the log is told once, when a window has spent so many percent.

Intuition: the lamp of a fuel gauge. It is lit once when the tank is low, and not again at every turn of the wheel.

Rule 1: a threshold of a window is told once: a line on standard error, and one in the audit log. What counts is what
    was spent; what is merely put aside may come back.
Rule 2: of several thresholds that were passed at once the highest is told. A window that is over is forgotten, so no
    more is remembered than the table of budgets holds.
Rule 3: a control process that begins anew knows nothing of what its predecessor told, and tells it again: better twice
    than never.

A window that rolls is never another one, so there is no once; its requests say it (`budget-warned`), and the counter.

Looking costs what bookkeeping does: columns are compared, and only windows that changed are read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from sentinel.core.budgets import read_key
from sentinel.core.plan import Plan, TokenBudget
from sentinel.core.prices import money
from shm.budgets import BudgetView, Mark
from supervisor.control.audit import AuditLog
from supervisor.control.memory import Memory, MemoryFault

EVERY_S: Final = 1.0
WHO: Final = "sentinel"


class Thresholds:
    """Watches the windows of budgets that have `warn-at`; one in a control process."""

    def __init__(self, memory: Memory, audit: AuditLog, plan: Callable[[], Plan | None]) -> None:
        self._memory, self._audit, self._plan = memory, audit, plan
        self._marks: list[Mark] = []
        self._watched: dict[tuple[str, str], TokenBudget] = {}
        self._told: dict[bytes, tuple[int, int]] = {}
        """By a window's title: the highest threshold that was told, and when the window ends."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            plan = self._plan()
            watched = {} if plan is None else {
                (one.name, one.currency): one for one in plan.token_budgets if one.warn_at and not one.rolling_s
            }  # fmt: skip
            if watched:
                await self._look(watched)

    async def _look(self, watched: dict[tuple[str, str], TokenBudget]) -> None:
        if watched != self._watched:  # what passed another threshold need not have changed
            self._watched, self._marks = watched, []
        try:
            views, self._marks = await self._memory.ask(lambda region: region.changed_budgets(self._marks))
        except MemoryFault:
            return  # its users say so; and nothing was spent that anybody could see
        self._forget(time.monotonic_ns())
        for budget, view, percent, key in self._passed(watched, views):
            spent, amount = view.settled, budget.money or budget.tokens
            shown = (f"{money(one)} {budget.currency}" if budget.currency else str(one) for one in (spent, amount))
            text = "{} of {}".format(*shown)
            print(
                f"sentinel control: budget {budget.name}: {percent}% are passed: {text} ({key})", file=sys.stderr,
                flush=True,
            )  # fmt: skip
            await self._audit.write(WHO, "budget-warning", f"{budget.name} {key}", None, f"{percent}%: {text}")

    def _passed(
        self, watched: dict[tuple[str, str], TokenBudget], views: Iterable[BudgetView]
    ) -> list[tuple[TokenBudget, BudgetView, int, str]]:
        found = []
        for view in views:
            try:
                key = read_key(view.title)
            except ValueError:
                continue  # not written by us, or half written
            budget = watched.get((key.name, key.currency))
            if budget is None or not view.is_whole:
                continue
            amount = budget.money or budget.tokens
            percent = max((one for one in budget.warn_at if view.settled * 100 >= one * amount), default=0)
            if percent > self._told.get(view.title, (0, 0))[0]:
                self._told[view.title] = percent, view.until_ns
                found.append((budget, view, percent, " ".join(key.parts) or "all"))
        return found

    def _forget(self, now_ns: int) -> None:
        for title in [title for title, (_, until_ns) in self._told.items() if until_ns < now_ns]:
            del self._told[title]
