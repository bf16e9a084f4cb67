"""Outliers: who fails, or lags, while the others do not.

Intuition: marks in a class. One bad test may be the teacher's fault; who is far below the class,
in a test that all of them wrote, has a trouble of his own. And never is more than a part
of the class sent home: if most fail, it was the test.

Rules:
1. Failures in a row, a success rate far below the mean (in standard deviations), a mean latency of many times
   the median. The last two compare those who had enough requests, and need three of them.
2. The worst first, as long as `max_ejected` allows; of a small group at least one may go, but never the last.
3. Who was sent home before stays longer each time; who stayed well for a while is forgiven, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sentinel.core.plan import OutlierEjection

COMPARED_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Marks:
    """What an endpoint did in an interval. `consecutive`: failures in a row until now."""

    requests: int
    failures: int
    latency_sum_us: int
    consecutive: int
    is_ejected: bool = False


class Ejection(NamedTuple):
    """Who (by his place among the marks), and why in words with figures."""

    who: int
    why: str


def outliers(marks: Sequence[Marks], rule: OutlierEjection) -> list[Ejection]:
    """Return who is to be ejected now, the worst first."""
    suspects: dict[int, str] = {}
    for index, mark in enumerate(marks):
        if rule.failures and mark.consecutive >= rule.failures and not mark.is_ejected:
            suspects[index] = f"{mark.consecutive} failures in a row"
    compared = [i for i, mark in enumerate(marks) if mark.requests >= max(rule.requests_min, 1) and not mark.is_ejected]
    if len(compared) >= COMPARED_MIN:
        for index, why in (*_failing(marks, compared, rule), *_lagging(marks, compared, rule)):
            suspects.setdefault(index, why)
    room = _room(marks, rule.max_ejected)
    return [Ejection(index, why) for index, why in list(suspects.items())[:room]]


def _failing(marks: Sequence[Marks], compared: Sequence[int], rule: OutlierEjection) -> list[tuple[int, str]]:
    if not rule.deviations:
        return []
    rates = {i: 1 - marks[i].failures / marks[i].requests for i in compared}
    mean = sum(rates.values()) / len(rates)
    spread = (sum((rate - mean) ** 2 for rate in rates.values()) / len(rates)) ** 0.5
    threshold = mean - spread * rule.deviations / 1000
    found = [i for i in compared if rates[i] < threshold]
    found.sort(key=lambda i: rates[i])
    return [(i, f"success rate {rates[i]:.1%}, the mean is {mean:.1%}") for i in found]


def _lagging(marks: Sequence[Marks], compared: Sequence[int], rule: OutlierEjection) -> list[tuple[int, str]]:
    if not rule.latency_factor:
        return []
    means = {i: marks[i].latency_sum_us / marks[i].requests for i in compared}
    middle = sorted(means.values())[(len(means) - 1) // 2]  # the lower one of two: who lags shall not be the median
    found = [i for i in compared if means[i] * 1000 > middle * rule.latency_factor and middle > 0]
    found.sort(key=lambda i: -means[i])
    return [(i, f"mean latency {means[i] / 1000:.1f} ms, the median is {middle / 1000:.1f} ms") for i in found]


def _room(marks: Sequence[Marks], max_ejected: int) -> int:
    """How many more may go."""
    most = max(1, len(marks) * max_ejected // 1000) if max_ejected else 0
    return max(0, min(most, len(marks) - 1) - sum(mark.is_ejected for mark in marks))


def ejected_for_ns(ejections: int, rule: OutlierEjection) -> int:
    """How long the `ejections`-th ejection lasts."""
    return min(rule.eject_for_ns * max(ejections, 1), max(rule.eject_for_max_ns, rule.eject_for_ns))
