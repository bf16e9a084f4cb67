"""Sentinel as it is run: the real fleet, with one worker.

The supervisor and control live on the load's cores; the worker is moved to its own when it serves.
What they cost is not counted, as nginx's master is not; what matters grows with requests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import gauge
from benchmarks.peers.policy import (
    FAILURES,
    LIMIT_BURST,
    LIMIT_KEYS,
    LIMIT_PER_S,
    OPEN_S,
    REFILL_BURST,
    REFILL_S,
    ROUTES,
)
from benchmarks.peers.site import ROOT, Broken, Missing, Site, free_port
from sentinel.core.limits import Limiter
from sentinel.core.plan import SECOND, RateLimit
from shm.limits import LimitsStatistics
from shm.region import Region
from supervisor.rundir import region_name

CONFIG: Final = """\
schema-version "1.0"
system {{
    workers {workers}
    run-dir "{room}/run"
    access-log "{room}/access.log"
    drain-deadline "2s"
    {system}
}}
admin {{ address "127.0.0.1:{admin_port}"; }}
listeners {{
    listener "web" {{ address "127.0.0.1:{port}"; }}
}}
routes {{
{routes}
    route "rest" {{
        matches {{ path-prefix "/"; }}
        upstream "origin"
    }}
}}
{filters}
upstreams {{
    upstream "origin" {{
        {upstream}
    }}
}}
"""
FILTERS: Final = f"""
filters {{
    rate-limit "by-address" {{ rate "{LIMIT_PER_S}/s"; burst {LIMIT_BURST}; key "client-ip"; }}
    rate-limit "by-client" {{ rate "{3600 // REFILL_S}/h"; burst {REFILL_BURST}; key "header:x-client"; }}
}}
"""
POLICY: Final = f"""
        balance "least-request"
        circuit-breaker {{ failures {FAILURES}; open-for "{OPEN_S}s"; }}
"""

ROUTE: Final = '''\
    route "r{number}" {{ matches {{ path-prefix "/service{number}/v1"; }}; {asked} upstream "origin"; }}
'''
ROUTE_PATH: Final = "/service%d/v1/items/%d"
"""A path of a route, for `%`: the route's number, and the item's."""


class Sentinel:
    """`routes`: so many, besides the general one."""

    def __init__(self, site: Site, *, routes: int = 0, is_governed: bool = False) -> None:
        self.name = f"sentinel-{routes}" if routes else "sentinel"
        self._is_governed = is_governed
        self._site = site
        if not (ROOT / "sentinel" / "__main__.py").exists():
            raise Missing("`python -m sentinel` does not exist")
        try:
            self.version = version("sentinel-gateway")
        except PackageNotFoundError:
            self.version = _commit()
        self._room = site.room(self.name)
        self._routes = ROUTES if is_governed else routes
        self.port = free_port()
        self.log: Path | None = self._room / "access.log"

    def start(self) -> None:
        ports = self._site.upstream_ports if self._is_governed else (self._site.upstream_port,)
        asked = 'filters "by-address" "by-client";' if self._is_governed else ""
        self.serve(
            system=f"limit-keys {LIMIT_KEYS}" if self._is_governed else "",
            filters=FILTERS if self._is_governed else "",
            upstream="\n        ".join(f'endpoint "127.0.0.1:{port}"' for port in ports)
            + (POLICY if self._is_governed else ""),
            routes="".join(ROUTE.format(number=number, asked=asked) for number in range(self._routes)),
        )

    def serve(
        self, *, system: str = "", routes: str = "", filters: str = "", upstream: str = "", workers: int = 1
    ) -> None:
        """Serve what these parts of a configuration say; `upstream`: without it one endpoint, the site's."""
        config = self._room / "sentinel.kdl"
        config.write_text(CONFIG.format(
            room=self._room, admin_port=free_port(), port=self.port, system=system, filters=filters, routes=routes,
            workers=workers,
            upstream=upstream or f'endpoint "127.0.0.1:{self._site.upstream_port}"',
        ))  # fmt: skip
        self._count = workers
        self._child = self._site.start(
            [sys.executable, "-m", "sentinel", "run", "-c", str(config)],
            cores=self._site.load_cores, room=self._room, directory=ROOT,
        )  # fmt: skip
        self._child.wait_serving(self.port, "Sentinel serves")
        for pid in self.pids():
            gauge.pin(pid, self._site.core)

    def pids(self) -> tuple[int, ...]:
        """The workers that serve: one, unless more were asked for."""
        serving = tuple(worker["pid"] for worker in self._workers() if worker["state"] == "serving")
        if len(serving) != self._count:
            raise Broken(f"{self._count} workers should serve, not {len(serving)}\n{self._child.last_words()}")
        return serving

    def fill(self, clients: int) -> LimitsStatistics:
        """Have a live bucket for each client before the load comes: charges in the name of the worker, who is idle."""
        limit = RateLimit("by-client", 3600 * SECOND, 3600 // REFILL_S, REFILL_BURST, key=("header:x-client",))
        one = Limiter(limit, "")
        (slot,) = [worker["slot"] for worker in self._workers() if worker["state"] == "serving"]
        region = Region.attach(region_name(self._room / "run"))
        try:
            for client in range(clients):
                region.charge(slot, time.monotonic_ns(), (one.key_of((f"c{client}",)),), one.term)
            return region.limits_statistics(time.monotonic_ns())
        finally:
            region.close()

    def _workers(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "sentinel.cli.sentinelctl", "workers", "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
            env=os.environ | {"SENTINEL_SOCKET": str(self._room / "run" / "control.sock")},
        )  # fmt: skip
        if done.returncode != 0:
            raise Broken(f"sentinelctl workers: {done.stderr}\n{self._child.last_words()}")
        workers: list[dict[str, Any]] = json.loads(done.stdout)
        return workers


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "?"
