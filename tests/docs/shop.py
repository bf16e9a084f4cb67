"""`sentinel dev` for tests of documents: the commands of a page run as a reader would run them.

A directory of its own stands for the reader's: `run/dev.kdl` is there, `.venv/bin` has
the programs, and ports that a page names are replaced by free ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sentinel.cli.client import Client, Unreachable
from tests.system.fleet import ROOT, forget_region, free_port, wait_until

PORTS = ("8080", "9901", "9001")
"""Of the gateway, of the admin API, and of the mock."""
LAST_LINE = "Ctrl-C ends everything."


class Shop:
    """One `sentinel dev` in `directory`, and a shell beside it."""

    def __init__(self, directory: Path, config: str | None) -> None:
        self.directory = directory
        self.ports = {port: str(free_port()) for port in PORTS}
        self.config = directory / "run" / "dev.kdl"
        self.log = directory / "dev.log"
        self.config.parent.mkdir()
        for name in ("sentinel", "sentinelctl"):
            self._program(name)
        if config is not None:
            self.write(config)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sentinel", "dev"],
                cwd=directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        search = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        return os.environ | {"PYTHONPATH": search, "PYTHONUNBUFFERED": "1"}

    def _program(self, name: str) -> None:
        path = self.directory / ".venv" / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sentinel.cli.{name} "$@"\n')
        path.chmod(0o755)

    def with_ports(self, text: str) -> str:
        return re.sub(r"(?<=:)(8080|9901|9001)\b", lambda found: self.ports[found[0]], text)

    def with_names(self, text: str) -> str:
        """The other way round: what was printed, with the page's ports."""
        for port, other in self.ports.items():
            text = re.sub(rf"(?<=:){other}\b", port, text)
        return text.replace(f"{self.directory}/", "")

    def write(self, text: str) -> None:
        self.config.write_text(self.with_ports(text))

    def run(self, command: str, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", self.with_ports(command)],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip

    def printed(self) -> str:
        return self.log.read_text()

    def wait_printed(self, text: str) -> str:
        def found() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.printed()}"
            return text in self.printed()

        wait_until(found, f"`{text}` is printed", 60)
        return self.printed()

    def generation(self) -> int:
        """The number that serves; 0 while nothing does."""
        try:
            document = Client(str(self.directory / "run" / "control.sock")).get("status").document
        except Unreachable:
            return 0
        return int(document.get("generation", 0)) if isinstance(document, dict) else 0

    def end(self) -> int:
        """Ctrl-C, and once more for whoever does not want to wait."""
        for _ in range(2):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(1)
        try:
            return self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            forget_region(self.directory / "run")


@contextlib.contextmanager
def open_shop(directory: Path, config: str | None = None) -> Iterator[Shop]:
    shop = Shop(directory, config)
    try:
        shop.wait_printed(LAST_LINE)
        yield shop
    finally:
        shop.end()
