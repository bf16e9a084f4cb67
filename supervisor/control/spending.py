"""What was spent of budgets, as operators see it: windows that are open now, and usage over the last weeks.

Windows come from shared memory, exact at this moment; usage from the durable ledger, with what shared memory has on
top: its number is the newer one of a window that both know. Amounts come from the plan that runs; of a budget that is
not in it any more there is what was spent, and no amount. Answers are bounded, and say how much they leave out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from sentinel.core.allowances import carried
from sentinel.core.budgets import BudgetKey, read_key, window
from sentinel.core.plan import Plan, TokenBudget
from shm.budgets import BudgetView
from shm.region import Region
from supervisor.control.book import SPENT_KEPT_S, Spent
from supervisor.control.bookkeeping import end_of
from supervisor.control.ledger import TENANTS, Ledger, home_of

TOKENS: Final = "tokens"
"""The unit of a budget that is not of money; amounts of money are in micro-units of their currency."""
LAST: Final = 100
LAST_MAX: Final = 10_000
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SINCE: Final = re.compile(r"([0-9]{1,7})([smhd])", re.ASCII)


class Misread(Exception):
    """A question that is not understood; the text says what is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which windows or users: of one budget or all (""), the largest first, so many of them."""

    budget: str = ""
    last: int = LAST
    by: str = "budget"
    since_s: int = UNITS_S["d"]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """From a query; raises Misread."""
        last, by, since = query.get("last", str(LAST)), query.get("by", "budget"), query.get("since", "24h")
        if not (last.isascii() and last.isdigit() and 1 <= int(last[:9]) <= LAST_MAX):
            raise Misread(f"`last` is a number from 1 to {LAST_MAX}")
        if by not in TENANTS:
            raise Misread(f"`by` is one of {', '.join([f'`{one}`' for one in TENANTS])}")
        found = SINCE.fullmatch(since)
        since_s = int(found[1]) * UNITS_S[found[2]] if found else 0
        if not 0 < since_s <= SPENT_KEPT_S:
            raise Misread(f'`since` is a duration like "24h", at most "{SPENT_KEPT_S // UNITS_S["d"]}d"')
        return cls(query.get("budget", ""), int(last), by, since_s)


def budgets(plan: Plan, region: Region, asked: Asked) -> dict[str, Any]:
    """The windows that are open, those first that have most spent and open; and how full their table is."""
    statistics = region.budgets_statistics()
    known = {(one.name, one.currency): one for one in plan.token_budgets}
    now_ns = time.monotonic_ns()
    ahead_ns = time.time_ns() - now_ns
    windows: dict[tuple[str, tuple[str, ...]], list[tuple[BudgetKey, BudgetView]]] = {}
    for view in region.budgets():
        if view.until_ns > now_ns and view.is_whole:
            try:
                key = read_key(view.title)
            except ValueError:
                continue
            if asked.budget in ("", key.name):
                windows.setdefault((key.budget, key.parts), []).append((key, view))
    found: list[Account] = []
    for of_one in windows.values():
        key = of_one[0][0]
        budget = known.get((key.name, key.currency))
        found += _accounts(sorted(of_one, key=lambda one: one[0].start_s), budget, ahead_ns)
    found.sort(key=lambda one: (-one.settled - one.open, one.key))
    return {
        "table": {
            "size": statistics.budgets_max, "used": statistics.used, "keys": statistics.keys, "open": statistics.open,
        },
        "count": len(found),
        "budgets": [
            {
                "budget": one.key.name, "unit": one.key.currency or TOKENS, "key": list(one.key.parts),
                "is_hashed": one.key.is_hashed, "start": stamp(one.key.start_s), "end": stamp(one.end_s),
                "settled": one.settled, "open": one.open, "requests": one.requests, "amount": one.amount,
                "left": None if one.amount is None else max(0, one.amount - one.settled - one.open),
            }
            for one in found[: asked.last]
        ],
    }  # fmt: skip


class Account(NamedTuple):
    """What one tenant has of a budget now. `key` is that of the window, or of the oldest step of one that rolls."""

    key: BudgetKey
    end_s: int
    settled: int
    open: int
    requests: int
    amount: int | None


def _accounts(
    windows: list[tuple[BudgetKey, BudgetView]], budget: TokenBudget | None, ahead_ns: int
) -> Iterator[Account]:
    """The windows of one tenant that are remembered, the oldest first, as what he has of them now."""
    amount = None if budget is None else budget.money or budget.tokens
    if budget is not None and amount is not None and budget.rolling_s:
        (key, _), views = windows[0], [view for _, view in windows]
        settled, opened, requests = (
            sum(getattr(one, name) for one in views) for name in ("settled", "open", "requests")
        )
        yield Account(key, end_of(views[-1], ahead_ns), settled, opened, requests, amount)
        return
    used = 0
    for at, (key, view) in enumerate(windows):
        end_s = end_of(view, ahead_ns)
        whole = amount
        if budget is not None and amount is not None and budget.rollover:
            # Remembered to the end of the next one, which begins where this one ends.
            start_s = windows[at + 1][0].start_s if at + 1 < len(windows) else None
            end_s = start_s or _end_of_open(budget, key.start_s)
            whole = amount + carried(amount, amount * budget.rollover // 1000, used if at else 0)
            used = view.settled + view.open
            if end_s <= time.time():
                continue
        yield Account(key, end_s, view.settled, view.open, view.requests, whole)


def _end_of_open(budget: TokenBudget, start_s: int) -> int:
    zone = ZoneInfo(budget.time_zone)

    def offset(moment_s: int) -> int:
        ahead = datetime.fromtimestamp(moment_s, UTC).astimezone(zone).utcoffset()
        return 0 if ahead is None else int(ahead.total_seconds())

    return window(budget.per, offset, start_s)[1]


def usage(plan: Plan, ledger: Ledger, windows: list[Spent], asked: Asked) -> dict[str, Any]:
    """Who spent how much in windows that were open at some time since then; blocks, and raises LedgerFault."""
    since_s = int(time.time()) - asked.since_s
    home = home_of(plan.system)
    report = ledger.usage(
        home, windows, by=asked.by, since_s=since_s, name=asked.budget, most=asked.last,
        parts=_parts(plan, asked.by),
    )  # fmt: skip
    rows = []
    for row in report.rows:
        title, *parts = json.loads(row.tenant)
        name, _, currency = title.partition(" ")
        rows.append({
            "budget": name, "unit": currency or TOKENS, "key": parts, "settled": row.settled,
            "requests": row.requests, "windows": row.windows, "start": stamp(row.start_s), "end": stamp(row.until_s),
        })  # fmt: skip
    book = plan.prices
    return {
        "since": stamp(since_s), "by": asked.by, "is_durable": bool(home), "count": report.users,
        "totals": [
            {"unit": currency or TOKENS, "settled": settled, "requests": requests}
            for currency, (settled, requests) in sorted(report.totals.items())
        ],
        "prices": None if book is None else {"currency": book.currency, "version": book.version}, "usage": rows,
    }  # fmt: skip


def _parts(plan: Plan, by: str) -> dict[str, tuple[int, ...]]:
    """Of each budget whose keys tell it, which of their parts the model or the tenant is, or both."""
    said = [route.inference.tenant for route in plan.routes if route.inference is not None]
    names = {"model": ("model",), "tenant": (*filter(None, said), "claim:tenant", "identity")}
    wanted = [names[one] for one in by.split(",") if one in names]
    found: dict[str, tuple[int, ...]] = {}
    for budget in plan.token_budgets:
        parts = [next((one for one in some if one in budget.key), None) for some in wanted]
        at = tuple([budget.key.index(part) for part in parts if part is not None])
        if wanted and len(at) == len(wanted):
            found[budget.name] = at
    return found


def stamp(moment_s: int) -> str:
    """A moment as people and programs read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment_s))
