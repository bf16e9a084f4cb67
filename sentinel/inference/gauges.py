"""What an inference server's page of metrics says of the work before it: how many wait, and how full its cache is.

Intuition: two dials of a machine hall with two hundred. They are found by the names on them; what the other dials
show, and what is written round them, does not matter.

Rules:
1. A page is Prometheus' text or OpenMetrics, of a stranger: lines that are not understood are no readings.
2. A server with several engines or models has a line for each. Those that wait are added up, since they wait for the
   same machine; of caches the fullest counts, since that is the one that makes others wait.
3. Shares are told as 0 to 1 (vLLM calls that `_perc` all the same). What is beyond is cut, what is no number is none.
4. A page without any of the names is no reading: it is another server's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

WAITING_MAX: Final = (1 << 20) - 1
WHOLE: Final = 1000
"""Thousandths."""
VALUE_CHARS_MAX: Final = 40
NEWLINE: Final = ord("\n")


class Gauges(NamedTuple):
    """What was read: requests that wait, and thousandths of the cache that are in use."""

    waiting: int
    cache: int


class Dials:
    """The names to look for; made once."""

    __slots__ = ("_cache", "_waiting")

    def __init__(self, waiting: Sequence[str], cache: Sequence[str]) -> None:
        self._waiting = tuple([name.encode() for name in waiting])
        self._cache = tuple([name.encode() for name in cache])

    def read(self, page: bytes) -> Gauges | None:
        """The readings; None for a page that has none of them."""
        waiting, cache = list(_values(self._waiting, page)), list(_values(self._cache, page))
        if not waiting and not cache:
            return None
        count = min(int(min(sum(waiting), float(WAITING_MAX))), WAITING_MAX)
        return Gauges(count, min(round(min(max(cache, default=0.0), 1.0) * WHOLE), WHOLE))


def _values(names: Iterable[bytes], page: bytes) -> Iterator[float]:
    """The values of all lines of these metrics. A search for a name is much cheaper than a look at each line."""
    for name in names:
        at = page.find(name)
        while at >= 0:
            end = page.find(b"\n", at)
            end = len(page) if end < 0 else end
            if at == 0 or page[at - 1] == NEWLINE:
                value = _value(page[at + len(name) : end])
                if value is not None:
                    yield value
            at = page.find(name, end)


def _value(rest: bytes) -> float | None:
    """What stands behind a metric's name: labels, perhaps, a value, and perhaps a time."""
    if rest.startswith(b"{"):
        rest = rest[rest.rfind(b"}") + 1 :]
    if not rest[:1].isspace():  # a longer name, or a label that has no end
        return None
    words = rest.split(None, 1)
    if not words or len(words[0]) > VALUE_CHARS_MAX:
        return None
    try:
        value = float(words[0])
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None
