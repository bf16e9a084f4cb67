"""The supervisor from start to end: what it needs is made in order, and given back in the reverse one.

    run-dir locked -> estate taken over -> region -> doors of control -> loop ... -> doors -> estate left -> region

Each step fails with one line that says what is in the way and what to do, before
anything has been forked. A second start against a living instance ends at the
first step, having touched nothing.
"""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import trio

from shm.estate import Estate, EstateFault
from shm.faults import RegionDamaged
from shm.layout import BUDGETS_LIMIT, PLACES_LIMIT, SERIES_LIMIT, SLOTS_LIMIT, SLOTS_RESTING
from shm.region import (
    BUDGETS_MAX,
    JOURNAL_RECORDS,
    LEASES_MAX,
    LIMITS_MAX,
    PLACES_MAX,
    Region,
    RegionBusy,
    RegionFault,
)  # fmt: skip
from supervisor.controlling import COMMAND, Desk
from supervisor.loop import Loop, say
from supervisor.rundir import RunDir, RunDirFault
from supervisor.sdnotify import Systemd
from supervisor.sockets import BindFault, Sockets, listen_alone
from supervisor.spawn import WorkerMain, name_process

SLOTS_MIN: Final = 64
SERIES_MIN: Final = 4096
CANNOT_START: Final = 1
DAMAGED: Final = 1
"""A failure, so that systemd starts the service again."""
HEIR_NS: Final = 10_000_000_000
"""How long the workers of an instance that was killed may take to give up its ports."""
HEIR_LOOKS_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the supervisor is told at its start; all else is said by control, generation by generation.

    config: the operator's main file, passed on to control unread. admin_address: "host:port" for control.
    control: the command that is control.
    series_max, slots_max, limits_max, leases_max, budgets_max, places_max, journal_records: sizes of the region, which
    are fixed for its life.
    """

    run_dir: str
    config: str
    admin_address: str
    control: tuple[str, ...] = COMMAND
    series_max: int = SERIES_MIN
    slots_max: int = SLOTS_MIN
    limits_max: int = LIMITS_MAX
    leases_max: int = LEASES_MAX
    budgets_max: int = BUDGETS_MAX
    places_max: int = PLACES_MAX
    journal_records: int = JOURNAL_RECORDS


def slots_for(workers: int) -> int:
    """Room for those that drain, serve and take over, twice as many workers by a later reload, and some to rest."""
    return min(SLOTS_LIMIT, max(SLOTS_MIN, 6 * workers + SLOTS_RESTING))


def series_for(routes: int) -> int:
    """Room for the names of twice as many routes: names of former generations are kept."""
    return min(SERIES_LIMIT, max(SERIES_MIN, 2 * routes))


def limits_for(keys: int) -> int:
    """A table in which so many keys find room: half full at most, and a power of two."""
    return 1 << (2 * keys - 1).bit_length()


def budgets_for(keys: int) -> int:
    """The same for windows of budgets; 0: there are no budgets, and the least will do."""
    return min(BUDGETS_LIMIT, limits_for(keys)) if keys else BUDGETS_MAX


def places_for(places: int) -> int:
    """Room for the names of twice as many upstreams and endpoints: those of former generations are kept."""
    return min(PLACES_LIMIT, max(PLACES_MAX, 2 * places))


def run(options: Options, worker_main: WorkerMain) -> int:
    """Keep a fleet alive; returns the exit status of the service."""
    systemd = Systemd()
    name_process("sentinel")
    _raise_descriptors()
    try:
        with ExitStack() as stack:
            run_dir = RunDir(options.run_dir)
            stack.callback(run_dir.leave)
            estate = _inheritance(run_dir)
            region = Region.create(
                run_dir.region_name, series_max=options.series_max, slots_max=options.slots_max,
                limits_max=options.limits_max, places_max=options.places_max, leases_max=options.leases_max,
                budgets_max=options.budgets_max, journal_records=options.journal_records,
                secret=estate.secret if estate is not None else None,
            )  # fmt: skip
            stack.callback(region.close)
            stack.callback(region.unlink)
            if estate is not None:
                _settle(region, estate)
            heir_until_ns = time.monotonic_ns() + HEIR_NS if run_dir.was_abandoned else 0
            desk = Desk(
                admin=_admin_door(options.admin_address, systemd, heir_until_ns), unix=run_dir.listen(),
                address=options.admin_address, config=options.config, region=region.name, run_dir=str(run_dir.path),
                command=options.control,
            )  # fmt: skip
            stack.callback(desk.close)
            loop = Loop(
                region=region, sockets=Sockets(systemd.adopted), desk=desk, systemd=systemd, worker_main=worker_main,
                slots_max=options.slots_max, heir_until_ns=heir_until_ns,
            )  # fmt: skip
            run_dir.forget_bequest()  # not before: a start that fails leaves it to the next one
            try:
                status = trio.run(loop.run)
            except BaseException as fault:
                if not _is_damage(fault):
                    stack.pop_all()  # a fault of ours is a sudden death: what is left is left to the next start
                raise
            _bequeath(region.estate(time.monotonic_ns()), run_dir)
            return status
    except (RunDirFault, RegionBusy, RegionFault, BindFault) as fault:
        say(str(fault))
        return CANNOT_START
    except ExceptionGroup as group:  # what ended the loop, in a nursery's wrapping
        damages, other = group.split(RegionDamaged)
        if damages is None or other is not None:
            raise
        say(f"{_first(damages)}; the service ends, and its workers finish what they have")
        return DAMAGED


def _inheritance(run_dir: RunDir) -> Estate | None:
    """What the instance before left: in its region if it was killed, else in the run-dir. No reason not to start."""
    try:
        left = Region.estate_of(run_dir.region_name, time.monotonic_ns())
        if left is not None:
            _bequeath(left, run_dir)  # its region is removed next, and this start may yet fail
            return left
        written = run_dir.bequest()
        return None if written is None else Estate.from_bytes(written)
    except (RegionFault, EstateFault, RunDirFault) as fault:
        say(f"limits and breakers start anew, what the instance before left cannot be used: {fault}")
        return None


def _settle(region: Region, estate: Estate) -> None:
    lost = region.inherit(estate, time.monotonic_ns())
    if estate.bucket_count or estate.places:
        without = f"; {lost} found no room: raise `limit-keys`" if lost else ""
        say(f"took over {estate.bucket_count} rate limit keys and {len(estate.places)} endpoints{without}")


def _bequeath(estate: Estate, run_dir: RunDir) -> None:
    try:
        run_dir.bequeath(estate.to_bytes())
    except RunDirFault as fault:
        say(f"the next start begins with full limits and closed breakers: {fault}")


def _is_damage(fault: BaseException) -> bool:
    return isinstance(fault, BaseExceptionGroup) and fault.subgroup(RegionDamaged) is not None


def _first(group: BaseExceptionGroup[RegionDamaged]) -> BaseException:
    fault: BaseException = group
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault


def _admin_door(address: str, systemd: Systemd, heir_until_ns: int) -> socket.socket:
    """Control's TCP socket: systemd's if it has handed one over for this address."""
    adopted = systemd.adopted.pop(address, None)
    while adopted is None:
        try:
            adopted = listen_alone(address)
        except BindFault as fault:
            if not fault.is_taken or time.monotonic_ns() > heir_until_ns:
                raise
            time.sleep(HEIR_LOOKS_S)
    return adopted


def _raise_descriptors() -> None:
    """As many descriptors as we are allowed: sockets of all lanes are ours, and workers inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
