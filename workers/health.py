"""The ward round: one worker asks all endpoints how they are, and judges what they did, for the whole fleet.

Intuition: a physician who has the duty today. What he finds he writes on the board at the
bed, where everybody reads it. If he does not come back, another one takes the list.

Rules:
1. Who leads does it; leadership is a word in shared memory with an expiry (shm.places), so that it
   moves when the leader dies, is stopped, or belongs to a generation that leaves.
2. The board (shared memory) outlives the leader: health found by one is what the next begins
   with. Only streaks start anew.
3. An endpoint is asked at its own rhythm, from a moment that chance gives: endpoints of a thousand
   are not asked at once. At most AT_ONCE checks run at a time.
4. A check uses a connection of its own and closes it: it must find what a new client would find.
5. A name with several addresses is asked at one of them, in turn: identity is the line that the
   operator wrote, whatever it resolves to now.
6. Endpoints in maintenance are not asked: somebody may be working on them.
7. Each change is one line on standard error.
8. Where endpoints warm up, a good answer that took too long is a bad one until the endpoint is well, and checks of one
   that is on its way follow each other at once (WARM_UP_PAUSE_S), or it would be away for many intervals.
   Over TLS it proves who is there as a request would (workers.handshakes); what failed of that is its finding.
9. A check that we had no descriptor for is no check: that we are poor says nothing about the patient.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import TYPE_CHECKING, Final

from sentinel.core.balance.outliers import Marks, ejected_for_ns, outliers
from sentinel.core.machines.health import Admin, Finding, Health, judge
from sentinel.core.plan import HealthCheck, LoadReport, OutlierEjection
from sentinel.inference.gauges import Dials, Gauges
from shm.board import PlaceView
from workers.asking import Found, ask_inference, ask_load
from workers.handshakes import HandshakeFault, Handshaker, open_streams
from workers.http1.faults import UpstreamFault
from workers.http1.heads import parse_response
from workers.keyrings import Keyring
from workers.pool import EXHAUSTED

if TYPE_CHECKING:
    from workers.places import Group, Place
    from workers.service import Service

AT_ONCE: Final = 64
ANSWER_BYTES_MAX: Final = 32 * 1024
HEADERS_MAX: Final = 100
LEASE_NS: Final = 2_000_000_000
"""So long after a leader fell silent another worker leads; it renews eight times as often."""
RENEW_NS: Final = LEASE_NS // 8
MS: Final = 1_000_000
WARM_UP_PAUSE_S: Final = 0.1
SHOWN_MAX: Final = 8
"""So many names of models are said on standard error."""
ROW_NS: Final = 250_000_000
"""How often failures in a row are looked at, whatever the interval of the other comparisons."""


async def ask(
    host: str, port: int, check: HealthCheck, authority: str, handshaker: Handshaker | None = None
) -> Found:
    """Check one address. Raises nothing but CancelledError."""
    try:
        async with asyncio.timeout(check.timeout_ns / 1e9):
            if check.kind == "inference":
                return await ask_inference(host, port, check, authority, handshaker)
            return Found(await _ask(host, port, check, authority, handshaker))
    except OSError as fault:
        return Found(_refusal(fault))


def _refusal(fault: OSError) -> Finding | None:
    """What it says of an endpoint that it could not be asked; None: nothing, it is we who are poor."""
    match fault:
        case TimeoutError():
            return Finding.TIMED_OUT
        case HandshakeFault():
            return Finding[fault.reason.name]
        case _:
            return None if fault.errno in EXHAUSTED else Finding.REFUSED


async def _ask(host: str, port: int, check: HealthCheck, authority: str, handshaker: Handshaker | None) -> Finding:
    reader, writer = await open_streams(handshaker, host, port)
    try:
        if check.kind == "tcp":
            return Finding.GOOD
        request = (
            f"{check.method} {check.path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: sentinel-health-check\r\n"
            "accept: */*\r\nconnection: close\r\n\r\n"
        )
        writer.write(request.encode("latin-1"))
        status = await _status(reader, check.method)
    finally:
        writer.transport.abort()  # nobody waits for the rest of the answer
    if status is None:
        return Finding.MALFORMED
    return Finding.GOOD if any(first <= status <= last for first, last in check.statuses) else Finding.BAD_STATUS


async def _status(reader: asyncio.StreamReader, method: str) -> int | None:
    """The status of the final answer; None when there is none, or what came is no HTTP."""
    received, start = b"", 0
    while len(received) < ANSWER_BYTES_MAX:
        piece = await reader.read(ANSWER_BYTES_MAX)
        if not piece:
            return None
        received += piece
        try:
            while (head := parse_response(received, start, ANSWER_BYTES_MAX, HEADERS_MAX, method)) is not None:
                if head.status >= 200:
                    return head.status
                start += head.size  # 1xx: the answer is still to come
        except UpstreamFault:
            return None
    return None


class Round:
    """All checks and comparisons of one worker; they run while it leads."""

    def __init__(self, service: Service, groups: list[Group], generation: int) -> None:
        self._service = service
        self._generation = generation
        self._checked = [
            (group.upstream.health, place)
            for group in groups if group.upstream.health is not None for place in group.places
        ]  # fmt: skip
        self._read = [
            (group.upstream.load_report, place)
            for group in groups if group.upstream.load_report is not None for place in group.places
        ]  # fmt: skip
        by_name = {group.upstream.name: group for group in groups}
        self._keyrings = [
            Keyring(service, one, one.keys_from, by_name[one.keys_from.upstream])
            for one in service.plan.jwts if one.keys_from is not None
        ]  # fmt: skip
        self._compared = [(group.upstream.outlier, group) for group in groups if group.upstream.outlier is not None]
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._has_work = bool(self._checked or self._compared or self._read or self._keyrings)
        self._tasks: list[asyncio.Task[None]] = []
        self._renewed_ns = 0

    def tick(self, now_ns: int) -> None:
        """Lead, if nobody of this generation does, and begin or end the round accordingly."""
        service = self._service
        if now_ns - self._renewed_ns < RENEW_NS or not self._has_work:
            return
        self._renewed_ns = now_ns
        region = service.region
        leads = (
            not service.is_draining and region.generation() == self._generation
            and region.lead(service.slot, self._generation, time.monotonic_ns(), LEASE_NS)
        )  # fmt: skip
        if not leads:
            self.stop()
        elif not self._tasks:
            create = service.loop.create_task
            self._tasks = [create(self._keep_asking(check, place)) for check, place in self._checked]
            self._tasks += [create(self._keep_reading(rule, place)) for rule, place in self._read]
            self._tasks += [create(one.keep_fetching()) for one in self._keyrings]
            self._tasks += [create(self._keep_comparing(rule, group)) for rule, group in self._compared]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    # Checks.

    async def _keep_asking(self, check: HealthCheck, place: Place) -> None:
        interval_s = check.interval_ns / 1e9
        streak, before = 0, self._view(place).health
        if before is not Health.UNKNOWN:  # known from before: there is no hurry, and others have the same idea
            await asyncio.sleep(random.random() * interval_s)
        while True:
            try:
                view = self._view(place)
                if view.admin is not Admin.MAINTENANCE:
                    found = await self._ask_in_turn(check, place)
                    if found.models is not None:
                        self._list(place, view, found)
                    if found.finding is not None:
                        streak = self._found(check, place, view, _warm(check, view, found), streak)
            except Exception as fault:
                self._service.surprise(fault)
            is_warming = check.warm_up and streak and self._view(place).health is not Health.HEALTHY
            # A tenth of chance: checks of many endpoints, or of many fleets, must not fall into step.
            pause_s = min(interval_s, WARM_UP_PAUSE_S) if is_warming else interval_s
            await asyncio.sleep(pause_s * (0.95 + random.random() / 10))

    def _list(self, place: Place, view: PlaceView, found: Found) -> None:
        """Keep which models there are."""
        assert found.models is not None
        if self._service.region.rosters.tell(place.number, found.models, is_whole=found.is_whole):
            names = self._service.region.rosters.read(place.number).names  # without what nobody should print
            first = ", ".join(names[:SHOWN_MAX]) or "none"
            more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
            _say(view.name, f"serves models: {first}{more}")

    def _found(self, check: HealthCheck, place: Place, view: PlaceView, finding: Finding, streak: int) -> int:
        """Judge, write on the board, and return how many findings in a row say otherwise than it did."""
        state, streak = judge(
            view.health, streak, finding is Finding.GOOD,
            healthy_after=check.healthy_after, unhealthy_after=check.unhealthy_after, warm_up=check.warm_up,
        )  # fmt: skip
        if self._service.region.board.set_health(place.number, state, finding, time.monotonic_ns()):
            _say(view.name, f"is {state.name.lower()}: {_word(finding)}")
        return streak

    async def _ask_in_turn(self, check: HealthCheck, place: Place) -> Found:
        host = place.next_host()
        if host is None:
            return Found(Finding.UNRESOLVED)
        async with self._seats:
            port = check.port or place.endpoint.port
            return await ask(host, port, check, check.host or place.name, place.handshaker)

    # Loads.

    async def _keep_reading(self, rule: LoadReport, place: Place) -> None:
        """Keep what the endpoint reports of its load. What cannot be read is not written, and grows old by itself."""
        dials = Dials(rule.waiting, rule.cache)
        trouble: Finding | None = None
        every_s = rule.every_ns / 1e9
        await asyncio.sleep(random.random() * every_s / 10)
        while True:
            try:
                view = self._view(place)
                if view.admin is not Admin.MAINTENANCE:
                    found = await self._read_in_turn(rule, dials, place)
                    if isinstance(found, Gauges):
                        board = self._service.region.board
                        board.set_report(place.number, found.waiting, found.cache, time.monotonic_ns())
                    before, trouble = trouble, found if isinstance(found, Finding) else None
                    if trouble is not before:
                        _say(view.name, "reports its load" if trouble is None else f"reports no load: {_word(trouble)}")
            except Exception as fault:
                self._service.surprise(fault)
            await asyncio.sleep(every_s * (0.95 + random.random() / 10))

    async def _read_in_turn(self, rule: LoadReport, dials: Dials, place: Place) -> Gauges | Finding | None:
        """None if we could not ask."""
        host = place.next_host()
        if host is None:
            return Finding.UNRESOLVED
        try:
            async with self._seats, asyncio.timeout(rule.timeout_ns / 1e9):
                port = rule.port or place.endpoint.port
                return await ask_load(host, port, rule, dials, place.name, place.handshaker)
        except OSError as fault:
            return _refusal(fault)

    # Comparisons.

    async def _keep_comparing(self, rule: OutlierEjection, group: Group) -> None:
        before = [self._view(place) for place in group.places]
        compared_ns = time.monotonic_ns()
        while True:
            await asyncio.sleep(min(ROW_NS, rule.interval_ns) / 1e9)
            try:
                now_ns = time.monotonic_ns()
                is_whole = now_ns - compared_ns >= rule.interval_ns
                views = [self._view(place) for place in group.places]
                self._compare(rule, before, views, now_ns, is_whole)
                if is_whole:
                    before, compared_ns = views, now_ns
            except Exception as fault:
                self._service.surprise(fault)

    def _compare(
        self, rule: OutlierEjection, before: list[PlaceView], views: list[PlaceView], now_ns: int, is_whole: bool
    ) -> None:
        marks = [
            Marks(
                requests=(view.toll.requests - old.toll.requests) * is_whole,
                failures=view.toll.failures - old.toll.failures,
                latency_sum_us=view.toll.latency_sum_us - old.toll.latency_sum_us,
                consecutive=view.consecutive, is_ejected=view.ejected_until_ms > now_ns // MS,
            )
            for old, view in zip(before, views, strict=True)
        ]  # fmt: skip
        board = self._service.region.board
        for who, why in outliers(marks, rule):
            view, count = views[who], views[who].ejections + 1
            length_ns = ejected_for_ns(count, rule)
            board.set_ejected(view.index, now_ns + length_ns, count)
            _say(view.name, f"is ejected for {length_ns / 1e9:g} s: {why}")
        if is_whole:
            for view, mark in zip(views, marks, strict=True):
                if view.ejections and not mark.is_ejected and not mark.failures and not view.consecutive:
                    board.forgive(view.index)

    def _view(self, place: Place) -> PlaceView:
        return self._service.region.place(place.number)


def _warm(check: HealthCheck, view: PlaceView, found: Found) -> Finding:
    """The finding, where one who has to warm up must also be quick."""
    assert found.finding is not None
    is_cold = check.warm_up and view.health is not Health.HEALTHY
    is_slow = check.warm_up_ns and found.took_ns > check.warm_up_ns
    return Finding.SLOW if is_cold and is_slow and found.finding is Finding.GOOD else found.finding


def _word(finding: Finding) -> str:
    return finding.name.lower().replace("_", " ")


def _say(name: str, words: str) -> None:
    sys.stderr.write(f"endpoint {name} {words}\n")
