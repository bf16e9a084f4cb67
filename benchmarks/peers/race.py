"""The race: rounds in which every peer runs once, and what is concluded from them.

Rules:
1. All peers are up from the beginning, and idle when it is not their turn. The order is turned by one place each round,
   so that nobody always runs after the same neighbour.
2. A peer's figure is the median over its rounds; its ratio to the reference is the median of the
   ratios round by round, since what disturbs a minute disturbs both.
3. Cost is processor time of the peer's processes over the run, by the requests completed in it.
4. Lines of the log are counted after each round: a log that loses lines is cheaper.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol

from benchmarks.peers import gauge, wrk

LINES_S: Final = 3.0  # buffered logs flush each second
LOGGED_MIN: Final = 0.99
BLOCK_BYTES: Final = 1 << 20


class Peer(Protocol):
    """What each peer's file provides; its processes end with the site."""

    name: str
    version: str
    port: int
    log: Path | None

    def start(self) -> None: ...
    def pids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Lap:
    """One peer in one round."""

    cpu_us: float  # per request
    user_us: float
    system_us: float
    requests: int
    requests_per_s: float
    busy: float  # share of its core that it used
    p50_us: int
    p99_us: int
    rss_kib: int
    logged: float | None  # lines of the log per request; None: no log
    failures: dict[str, int]


@dataclass(slots=True)
class Course:
    """One peer in all rounds."""

    peer: Peer
    script: Path
    path: str = "/"
    manner: str = ""  # how it is asked, where one peer runs twice in a round
    laps: list[Lap] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.peer.name} {self.manner}".rstrip()

    def typical(self, name: str) -> float:
        return float(median(getattr(lap, name) for lap in self.laps))

    def ratios(self, reference: Course) -> list[float]:
        """Round by round; one in which the reference did nothing says nothing."""
        both = zip(self.laps, reference.laps, strict=False)
        return [lap.cpu_us / other.cpu_us for lap, other in both if other.cpu_us]

    def disqualified(self) -> list[str]:
        """Why its figures do not count; empty when they do."""
        why = []
        for number, lap in enumerate(self.laps, 1):
            if lap.failures:
                what = ", ".join(f"{count} {kind}" for kind, count in lap.failures.items())
                why.append(f"round {number}: failed requests ({what})")
            if lap.logged is not None and lap.logged < LOGGED_MIN:
                why.append(f"round {number}: only {lap.logged:.1%} of the requests are in its log")
        return why

    def document(self, reference: Course | None) -> dict[str, Any]:
        ratios = self.ratios(reference) if reference is not None else []
        return {
            "name": self.peer.name, "version": self.peer.version, "manner": self.manner,
            "disqualified": self.disqualified(),
            "median": {name: self.typical(name) for name in
                       ("cpu_us", "user_us", "system_us", "requests_per_s", "busy", "p50_us", "p99_us", "rss_kib")},
            "ratio": {"to": reference.peer.name, "median": median(ratios), "rounds": ratios}
                     if reference is not None and ratios else None,
            "rounds": [asdict(lap) for lap in self.laps],
        }  # fmt: skip


def run(
    courses: Sequence[Course], *, rounds: int, seconds: float, connections: int, cores: frozenset[int],
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Run all rounds; results are in the courses."""
    for course in courses:  # pools are filled, memory is touched, interpreters have specialised
        _load(course, min(seconds, 1.0), connections, cores)
    for number in range(rounds):
        for at in range(len(courses)):
            course = courses[(at + number) % len(courses)]
            lap = _lap(course, seconds, connections, cores)
            course.laps.append(lap)
            speed = f"{lap.cpu_us:7.2f} µs {lap.requests_per_s:9,.0f} requests/s"
            tell(f"round {number + 1}  {course.title:<30}{speed}")


def _load(course: Course, seconds: float, connections: int, cores: frozenset[int]) -> wrk.Load:
    return wrk.run(
        course.peer.port, seconds=seconds, connections=connections, cores=cores, script=course.script, path=course.path
    )


def _lap(course: Course, seconds: float, connections: int, cores: frozenset[int]) -> Lap:
    peer = course.peer
    _settle(peer.log)
    pids, begun_ns = peer.pids(), time.monotonic_ns()
    before = gauge.usage(pids)
    load = _load(course, seconds, connections, cores)
    used, took_us = gauge.usage(pids).since(before), (time.monotonic_ns() - begun_ns) / 1000
    count = max(load.requests, 1)
    return Lap(
        cpu_us=used.total_us / count, user_us=used.user_us / count, system_us=used.system_us / count,
        requests=load.requests, requests_per_s=load.requests * 1e6 / load.duration_us, busy=used.total_us / took_us,
        p50_us=load.p50_us, p99_us=load.p99_us, rss_kib=gauge.rss_kib(pids),
        logged=_logged(peer.log, load.requests), failures=load.failures,
    )  # fmt: skip


def _settle(log: Path | None) -> None:
    """Begin with an empty log, after the last lines of what ran before have come."""
    if log is None or not log.exists():
        return
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(0.1)
    with log.open("r+b") as file:
        file.truncate()


def _logged(log: Path | None, requests: int) -> float | None:
    """The share of requests that have a line; waits for buffers to be flushed."""
    if log is None:
        return None
    deadline = time.monotonic() + LINES_S
    lines = 0
    at = 0
    while log.exists():
        with log.open("rb") as file:
            file.seek(at)
            while block := file.read(BLOCK_BYTES):
                lines += block.count(b"\n")
                at += len(block)
        if lines >= requests or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return lines / max(requests, 1)
