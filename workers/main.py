"""The worker process: from heritage to a serving loop, and back to an exit status.

    run(heritage)  is called in the forked child, with no event loop running
      -> the plan is loaded and compared with its fingerprint
      -> contexts, pools, acceptors are made (a fault here ends the worker before it is ready)
      -> Life.live(): ready, serving, draining, gone

Exit statuses: 0 the end was ordered (or the supervisor vanished and we drained), 1 the plan
or its surroundings cannot be served; the reason stands on standard error, for the obituary.

The garbage collector: what exists after warm-up lives as long as the worker and is frozen out of
its sight. Exchanges and connections refer to each other only while they last, so that
reference counts free them; the collector is there for accidents and may come seldom.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import ssl
import sys
from collections.abc import Iterator
from typing import Final

import uvloop

from sentinel.core.plan import Listener, Plan
from shm.heritage import Heritage
from workers.intake import Intake
from workers.lifecycle import Life
from workers.listener import Acceptor
from workers.planload import PlanFault, load_plan
from workers.resolver import Resolver
from workers.service import Service
from workers.shadowing import SHADOWS_MAX
from workers.tickets import Tickets
from workers.tls import ServerContexts
from workers.turnstile import Turnstile

FDS_RESERVED: Final = 64
"""Descriptors for listeners, log, resolver, files: not for connections."""
FDS_PER_CONNECTION: Final = 2
"""A client and the upstream that serves it."""

GC_YOUNG_MAX: Final = 50_000


class WarmUpFault(Exception):
    """The plan is good, and cannot be served here; the text says why."""


def run(heritage: Heritage) -> int:
    """Serve until told to stop; the forked child's main function."""
    # Sent to whole groups, and the supervisor's to answer; SIGUSR1 only until the loop handles it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        plan = load_plan(heritage.plan_path, heritage.fingerprint)
        if heritage.cpu is not None:
            os.sched_setaffinity(0, {heritage.cpu})
        life = _warm_up(loop, plan, heritage)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG_MAX, 20, 50)
        loop.run_until_complete(life.live())
    except (PlanFault, WarmUpFault) as fault:
        sys.stderr.write(f"worker {heritage.slot} of generation {heritage.generation}: {fault}\n")
        return 1
    finally:
        loop.close()
    return 0


def _warm_up(loop: asyncio.AbstractEventLoop, plan: Plan, heritage: Heritage) -> Life:
    try:
        service = Service(loop, plan, heritage.region, slot=heritage.slot, generation=heritage.generation)
        reserved = FDS_RESERVED + (SHADOWS_MAX if any(route.shadows for route in plan.routes) else 0)
        connections_max = min(plan.system.max_worker_connections, _connections_that_fit(reserved))
        acceptors = [_acceptor(service, listener, heritage, connections_max) for listener in plan.listeners]
        if any(listener.tls is not None for listener in plan.listeners):
            service.ticker.add(Tickets(heritage, _contexts(acceptors)).turn)
    except OSError as fault:
        raise WarmUpFault(f"the worker cannot warm up: {fault}") from None
    return Life(service, heritage, acceptors, Resolver(service.world.groups()))


def _acceptor(service: Service, listener: Listener, heritage: Heritage, connections_max: int) -> Acceptor:
    fds = heritage.sockets.get(listener.address)
    if fds is None:
        raise WarmUpFault(f"no socket was inherited for listener `{listener.name}` ({listener.address})")
    try:
        is_discreet = "host" in service.plan.system.journal.redacted
        contexts = ServerContexts(listener.tls, is_discreet=is_discreet) if listener.tls is not None else None
    except (OSError, ValueError) as fault:
        raise WarmUpFault(f"the certificate of listener `{listener.name}` cannot be used: {fault}") from None
    intake = Intake(listener)
    if contexts is not None:
        intake.reception = contexts.reception
    if listener.connection_limit is not None:
        intake.turnstile = Turnstile(service, listener, listener.connection_limit, intake.trust)
    return Acceptor(service, intake, fds, contexts, connections_max)


def _contexts(acceptors: list[Acceptor]) -> Iterator[tuple[str, ssl.SSLContext]]:
    """All contexts that serve somebody, each with what tells it from the others."""
    for acceptor in acceptors:
        for name, context in acceptor.contexts.named() if acceptor.contexts is not None else ():
            yield f"{acceptor.name}/{name}", context


def _connections_that_fit(reserved: int) -> int:
    """Raise the limit of descriptors as far as allowed, and see how many connections it is good for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (hard - reserved) // FDS_PER_CONNECTION)
