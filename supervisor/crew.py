"""The crew: the living worker processes, their slots, and how each one's end is told.

Intuition: the registry office. Births, orders and deaths of workers are entered in
one place and in one order: the slot first, then the fork; the burial first, then
the slot's rest. What the registry knows is in the fleet's notebook, and here only
what a notebook cannot hold: descriptors of living processes.

Rule 1: a slot is claimed before its process exists and freed after it has ended, so
    that no process ever writes into a slot that is not its own.
Rule 2: whoever ends without having been told to leave is a Death, which counts
    against its lane. Whoever was told to, and ends badly, gets an obituary all the
    same.
Rule 3: a fork that fails is a death before birth. The policy then pauses and tries
    again, as for any other.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

from sentinel.core.machines.worker import FRESH, Order
from shm.faults import RegionDamaged
from shm.heritage import Heritage
from shm.mapping import place
from shm.ratchet import Ratchet
from shm.region import Region, RegionFault, RegionFull, Role
from supervisor.fleet import Death, Fleet, Generation, Member
from supervisor.roster import LEAVING
from supervisor.sockets import Sockets
from supervisor.spawn import Child, WorkerMain, spawn

UNBORN: Final = -1
"""The status of a worker that could not be forked: like a signal, it says nothing about the plan."""
SAID_CHARS_MAX: Final = 200
"""Of the last words, so much is part of a cause; the obituary has more."""
OBITUARY_CHARS_MAX: Final = 1500


class Crew:
    """All living workers. Used by the supervisor's thread."""

    def __init__(
        self, region: Region, fleet: Fleet, sockets: Sockets, worker_main: WorkerMain, say: Callable[[str], None]
    ) -> None:
        self._region = region
        self._fleet = fleet
        self._sockets = sockets
        self._worker_main = worker_main
        self._say = say
        self._tickets = Ratchet.drawn(time.monotonic_ns())
        self._children: dict[int, Child] = {}
        self._killed_because: dict[int, str] = {}

    def fork(self, generation: Generation, lane: int, sweeping: tuple[str, ...] = ()) -> tuple[int, int] | None:
        """Fork a worker (or a sweeper of these addresses); its slot and pidfd, or None when it could not be born."""
        terms = generation.terms
        try:
            slot = self._region.claim_slot(
                pid=0, birth_ns=0, role=Role.WORKER, generation=generation.number, lane=lane
            )
        except (RegionFull, RegionFault) as fault:
            self._unborn(generation, lane, str(fault))
            return None
        if sweeping:
            sockets = dict.fromkeys(terms.addresses, ()) | self._sockets.everything(sweeping)
            self._region.set_order(slot, Order.SWEEP, time.monotonic_ns() + terms.drain_deadline_ns)
        else:
            sockets = self._sockets.heritage(terms.addresses, lane, terms.workers)

        self._tickets = self._tickets.at(time.monotonic_ns())

        def heritage(leash_fd: int) -> Heritage:
            return Heritage(
                region=self._region, slot=slot, lane=lane, generation=generation.number, plan_path=terms.plan_path,
                fingerprint=terms.fingerprint, sockets=sockets, leash_fd=leash_fd,
                cpu=cpu_of(lane) if terms.cpu_affinity else None, tickets=self._tickets,
            )  # fmt: skip

        try:
            child = spawn(heritage, self._worker_main, f"sentinel-w{lane}.{generation.number}")
        except OSError as fault:
            self._region.reap_slot(slot)
            self._unborn(generation, lane, f"cannot fork: {fault.strerror}")
            return None
        self._region.set_pid(slot, child.pid)
        self._children[slot] = child
        order, deadline_ns = self._region.order(slot)
        self._fleet.members[slot] = Member(
            slot=slot, pid=child.pid, generation=generation.number, lane=lane, born_ns=time.monotonic_ns(),
            order=order, order_deadline_ns=deadline_ns, is_sweeper=bool(sweeping),
        )  # fmt: skip
        return slot, child.pidfd

    def give(self, slot: int, order: Order, deadline_ns: int) -> None:
        """Write an order into a slot and wake whoever lives there."""
        self._region.set_order(slot, order, deadline_ns)
        self._children[slot].wake()

    def kill(self, slot: int, number: signal.Signals, why: str) -> None:
        """Send a signal; the first `why` becomes part of the cause of death."""
        if why:
            self._killed_because.setdefault(slot, why)
        self._children[slot].kill(number)

    def signal_all(self, number: signal.Signals) -> None:
        for child in self._children.values():
            child.kill(number)

    def pass_on_words(self) -> None:
        for child in self._children.values():
            child.words.pass_on()

    def look(self) -> Iterator[Member]:
        """Every member as its slot shows it now."""
        for slot, member in self._fleet.members.items():
            yield observed(member, self._region, slot)

    def bury(self, slot: int) -> None:
        """Enter the end of a process: only after its pidfd has become readable."""
        child = self._children.pop(slot)
        status = child.reap()
        child.words.pass_on()
        words = child.words.last()
        child.close()
        member = observed(self._fleet.members.pop(slot), self._region, slot)
        self._region.reap_slot(slot)
        cause = cause_of(status, self._killed_because.pop(slot, ""), words)
        was_told = member.order in LEAVING
        if not was_told:
            now_ns = time.monotonic_ns()
            self._fleet.deaths.append(
                Death(
                    at_ns=now_ns, generation=member.generation, lane=member.lane, status=status,
                    was_fresh=member.state in FRESH, cause=cause,
                )
            )  # fmt: skip
        if status or not was_told:
            self._write_obituary(member, status, cause, words)

    def close(self) -> None:
        """Let go of all leashes: whoever still lives drains and leaves by itself."""
        for child in self._children.values():
            child.close()

    def _unborn(self, generation: Generation, lane: int, cause: str) -> None:
        self._say(f"lane {lane} of generation {generation.number} has no worker: {cause}")
        self._fleet.deaths.append(
            Death(
                at_ns=time.monotonic_ns(), generation=generation.number, lane=lane, status=UNBORN, was_fresh=True,
                cause=cause,
            )
        )  # fmt: skip

    def _write_obituary(self, member: Member, status: int, cause: str, words: str) -> None:
        age_ms = (time.monotonic_ns() - member.born_ns) // 1_000_000
        self._fleet.obituaries.append(
            {
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "pid": member.pid, "slot": member.slot,
                "generation": member.generation, "lane": member.lane, "state": member.state.name.lower(),
                "age_ms": age_ms, "status": status, "cause": cause, "open_connections": member.open_connections,
                "open_requests": member.open_requests, "heartbeat_age_ms": _heartbeat_age_ms(member),
                "last_words": words[-OBITUARY_CHARS_MAX:],
            }
        )  # fmt: skip
        self._say(
            f"worker {member.pid} (lane {member.lane}, generation {member.generation}, {member.state.name.lower()}) "
            f"died aged {age_ms / 1000:.3f} s{_last_heard(member)}: {cause}"
        )


def _heartbeat_age_ms(member: Member) -> int | None:
    """How old what its slot says of its connections and requests is; None: it never told."""
    return (time.monotonic_ns() - member.heartbeat_ns) // 1_000_000 if member.heartbeat_ns else None


def _last_heard(member: Member) -> str:
    """What it had open: a sample, and how old it is. What came since is not in it."""
    age_ms = _heartbeat_age_ms(member)
    return "" if age_ms is None else f", {member.open_requests} requests open {age_ms / 1000:.2f} s before"


def observed(member: Member, region: Region, slot: int) -> Member:
    """A member with what its slot says of it; RegionDamaged if it is nobody's, since only we free slots."""
    try:
        seen = region.slot(slot)
    except LookupError:
        raise RegionDamaged(f"the slot of process {member.pid} is not claimed any more", place(region.name)) from None
    return Member(
        slot=slot, pid=member.pid, generation=member.generation, lane=member.lane, born_ns=member.born_ns,
        state=seen.state, order=seen.order, order_deadline_ns=seen.order_deadline_ns, heartbeat_ns=seen.heartbeat_ns,
        killed_ns=member.killed_ns, is_sweeper=member.is_sweeper, open_connections=seen.open_connections,
        open_requests=seen.open_requests,
    )  # fmt: skip


def cause_of(status: int, killed_because: str, words: str) -> str:
    """One line that says what somebody died of."""
    if status < 0:
        try:
            end = f"killed by {signal.Signals(-status).name}"
        except ValueError:
            end = f"killed by signal {-status}"
    else:
        end = f"ended by itself with status {status}"
    if killed_because:
        end = f"{killed_because}; {end}"
    said = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")
    return f"{end}; last words: {said[:SAID_CHARS_MAX]}" if said else end


def cpu_of(lane: int) -> int:
    """The core for a lane, among those that we may use at all."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[lane % len(cpus)]
