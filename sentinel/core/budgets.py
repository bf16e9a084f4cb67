"""Budgets of tokens: how a window of one is named, and when a window begins and ends.

Intuition: a household's books. There is a book for each purse and month, and its cover says whose it is and
since when; whoever finds an old one in the attic can read that without asking anybody.

The name of a window is a key of shared memory (shm.budgets), and the same octets are its name in the durable
ledger: a JSON array in UTF-8, `["tenants",1767225600,"acme","gpt-4"]`: the budget, when the window begins (unix
seconds), and a value for each part of the budget's key. The name of a budget of money is followed by its currency.

Rule 1: a key has one spelling. What does not write as it was read is not read.
Rule 2: a key is at most KEY_BYTES_MAX long, so that a title in shared memory holds the whole of it. When it would be
    longer, or its parts are no text, one `~` and their hash stand for them. A part that looks like such a hash is
    hashed itself: nobody gets into another's account by sending its name.
Rule 3: windows of a period follow each other without gap and overlap, whatever clocks on walls do. A day begins at
    the first moment whose local date is that day or a later one; so a day has 23 to 25 hours, and one that a country
    left out has none. Hours are counted from the day's beginning; the last one of a day may be shorter.
Rule 4: the zone is handed in: how many seconds a moment is ahead of UTC there. This file knows no zone but UTC.

Which window is open is what the wall clock says at the moment of the request. Shared memory has the end as a
monotonic time, which the worker makes of it (end - wall clock + monotonic clock). So a wall clock that jumps moves
which window later requests find, and never what was spent or reserved in one that runs: an hour that is lived
twice continues its own book.

A window that rolls is made of steps, each a window of its own (`every:SECONDS`), whose keys follow from each other
(`sibling`): what was spent in the steps that reach into the last 24 hours counts, the oldest one whole.

Rejected: windows that begin with a key's first request. Nobody could say when his budget is full again without asking,
and bills are by month.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

KEY_BYTES_MAX: Final = 160
"""What a title in shared memory holds (shm.budgets.TITLE_BYTES_MAX)."""
NAME_BYTES_MAX: Final = 100
"""Of a budget's name as JSON: with the hash of its parts a key is never too long."""
DIGEST_BYTES: Final = 16
HASHED: Final = "~"
HOUR_S: Final = 3600
DAY_S: Final = 86_400
TIME_S_MAX: Final = 250_000_000_000
"""The year 9892. A clock beyond is taken for this, as one before 1970 is for 1970."""
PERIODS: Final = ("hour", "day", "week", "month")
EVERY: Final = "every:"
IS_KEY: Final = re.compile(rb'(\["(?:[^"\\]|\\.)*",)([0-9]+)(.*)', re.DOTALL).fullmatch
OFFSET_S_MAX: Final = DAY_S
"""No zone is further from UTC."""

Offset = Callable[[int], int]
"""How many seconds a moment (unix seconds) is ahead of UTC in some zone."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_text: Final = json.JSONEncoder(ensure_ascii=False).encode
"""A text by itself is written natively, at a tenth of what a list of three costs."""


class BudgetKey(NamedTuple):
    """One window of one budget for one tenant. `parts` is one hash when they were too long (is_hashed)."""

    budget: str
    start_s: int
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.budget.partition(" ")[0]

    @property
    def currency(self) -> str:
        """What it is in; "": tokens."""
        return self.budget.partition(" ")[2]

    @property
    def is_hashed(self) -> bool:
        return _looks_hashed(self.parts)


def utc(_: int) -> int:
    """The zone UTC."""
    return 0


def unit_name(name: str, currency: str) -> str:
    """How a budget is called in keys. Money and tokens are never one account: names of budgets have no spaces."""
    return f"{name} {currency}" if currency else name


def is_name(name: str) -> bool:
    """Whether a budget may be called so: its keys are never too long."""
    try:
        return len(_encode(name).encode()) <= NAME_BYTES_MAX
    except UnicodeEncodeError:
        return False


def write_key(budget: str, start_s: int, parts: Sequence[str]) -> bytes:
    """The octets that name a window. The budget's name is one (is_name), and the start comes from `window`."""
    if not _looks_hashed(parts):
        try:
            octets = f"[{','.join([_text(budget), str(start_s), *map(_text, parts)])}]".encode()
        except UnicodeEncodeError:  # half a character: no text, and still whose key it is
            return _hashed(budget, start_s, parts)
        if len(octets) <= KEY_BYTES_MAX:
            return octets
    return _hashed(budget, start_s, parts)


def sibling(key: bytes, start_s: int) -> bytes:
    """The key of another window of the same budget and tenant."""
    found = IS_KEY(key)
    assert found is not None, "made by write_key"
    return b"%b%d%b" % (found[1], start_s, found[3])


def start_of(key: bytes) -> int:
    """When the window of a key begins."""
    found = IS_KEY(key)
    assert found is not None, "made by write_key"
    return int(found[2])


def read_key(octets: bytes) -> BudgetKey:
    """Whose window it is; ValueError for whatever `write_key` does not write."""
    if len(octets) > KEY_BYTES_MAX:
        raise ValueError("it is too long for a budget's key")
    found = json.loads(octets.decode())
    if not isinstance(found, list) or len(found) < 2:
        raise ValueError("it is not a budget's key")
    budget, start_s, *parts = found
    if type(budget) is not str or type(start_s) is not int or any(type(part) is not str for part in parts):
        raise ValueError("it is not a budget's key")
    if not 0 <= start_s <= TIME_S_MAX or not is_name(budget) or _encode(found).encode() != octets:
        raise ValueError("it is not a budget's key")
    return BudgetKey(budget, start_s, tuple(parts))


def window(period: str, offset: Offset, now_s: float) -> tuple[int, int]:
    """When the window that is open began, and when it ends (unix seconds): start <= now < end."""
    now = min(max(int(now_s), 0), TIME_S_MAX)
    if period.startswith(EVERY):
        step_s = int(period[len(EVERY) :])
        return now // step_s * step_s, now // step_s * step_s + step_s
    if period == "hour":
        start, end = _window_of_days("day", offset, now)
        start += (now - start) // HOUR_S * HOUR_S
        return max(start, 0), min(start + HOUR_S, end)
    start, end = _window_of_days(period, offset, now)
    return max(start, 0), end


def _window_of_days(period: str, offset: Offset, now: int) -> tuple[int, int]:
    # A clock that was put back may have been in a later day before: look from where the date says, both ways.
    first = _first_day(period, (now + offset(now)) // DAY_S)
    while (start := _beginning(first, offset)) > now:
        first = _first_day(period, first - 1)
    while (end := _beginning(following := _following(period, first), offset)) <= now:
        first, start = following, end
    return start, end


def _beginning(day: int, offset: Offset) -> int:
    """The first moment whose local date is this day (counted from 1970-01-01) or a later one."""
    midnight = day * DAY_S
    low, high = midnight - OFFSET_S_MAX, midnight + OFFSET_S_MAX
    before, after = offset(low), offset(high)
    if before == after:
        return midnight - before
    while high - low > 1:  # when the clocks are changed
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle) == before else (low, middle)
    if midnight - before < high:
        return midnight - before
    return max(high, midnight - after)


def _first_day(period: str, day: int) -> int:
    match period:
        case "day":
            return day
        case "week":
            return day - (day + 3) % 7  # 1970-01-01 was a Thursday
        case "month":
            return day - _day_of_month(day) + 1
        case _:
            raise ValueError(f"no such period: {period!r}")  # a checked plan has none


def _following(period: str, first: int) -> int:
    if period == "month":
        return _first_day(period, first + 31)  # within the next month: none has more than 31 days, or fewer than 28
    return first + (7 if period == "week" else 1)


def _day_of_month(day: int) -> int:
    return civil(day)[2]


def civil(day: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar (it repeats after 146,097 days).

    Years begin in March here, so that the leap day is a year's last day, and months follow one line: 153 days in five.
    """
    era, day_of_era = divmod(day + 719_468, 146_097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    is_next_year = month >= 10
    day_of_month = day_of_year - (153 * month + 2) // 5 + 1
    return era * 400 + year + is_next_year, month - 9 if is_next_year else month + 3, day_of_month


def _hashed(budget: str, start_s: int, parts: Sequence[str]) -> bytes:
    octets = json.dumps(list(parts)).encode()  # in ASCII, whatever they are
    digest = hashlib.blake2b(octets, digest_size=DIGEST_BYTES).hexdigest()
    return _encode([budget, start_s, HASHED + digest]).encode()


def _looks_hashed(parts: Sequence[str]) -> bool:
    return len(parts) == 1 and parts[0].startswith(HASHED)
