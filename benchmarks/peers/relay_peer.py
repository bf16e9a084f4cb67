"""The bare relay as a peer: the floor, without log, counters, limits or timeouts."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.site import ROOT, Missing, Site, free_port


class Relay:
    name = "relay"

    def __init__(self, site: Site) -> None:
        try:
            self.version = f"{version('uvloop')}, Python {platform.python_version()}"
            version("httptools")
        except PackageNotFoundError as fault:
            raise Missing(f"the relay needs {fault.name}") from None
        self._site = site
        self._room = site.room(self.name)
        self.port = free_port()
        self.log: Path | None = None

    def start(self) -> None:
        self._child = self._site.start(
            [sys.executable, "-m", "benchmarks.peers.relay", str(self.port), str(self._site.upstream_port)],
            room=self._room, directory=ROOT,
        )  # fmt: skip
        self._child.wait_serving(self.port, "the relay serves")

    def pids(self) -> tuple[int, ...]:
        return (self._child.pid,)
