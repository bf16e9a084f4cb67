"""Time zones, for windows of budgets: how far a moment is ahead of UTC (core.budgets).

The one place where a zone's name becomes its rules; who computes is handed a function.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from sentinel.core.budgets import Offset, utc


@lru_cache(maxsize=64)
def offset_of(time_zone: str) -> Offset:
    """The offsets of a zone, by its name in the IANA database; a checked plan has only zones that there are."""
    if time_zone == "UTC":
        return utc
    from zoneinfo import ZoneInfo  # here: a browser is loaded without it

    zone = ZoneInfo(time_zone)

    def offset(moment_s: int) -> int:
        ahead = datetime.fromtimestamp(moment_s, UTC).astimezone(zone).utcoffset()
        return 0 if ahead is None else int(ahead.total_seconds())

    return offset
