"""The load: wrk, one thread, a fixed number of kept connections, each with one request under way.

wrk's own summary is words; a script's `done` gets the numbers, exact and in microseconds,
and costs nothing while the load runs. wrk counts whole seconds only: for a fraction it is
interrupted, and then reports what it has.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.site import Broken, find_tool, on_cores

WORDS_S: Final = 10.0  # until it has summed up

CLIENTS: Final = """
local count, paths, at = %d, %d, 0
request = function()
  at = (at + 1) %% (count * paths)
  return string.format("GET %s HTTP/1.1\\r\\nHost: bench.example\\r\\nx-client: c%%d\\r\\n\\r\\n",
    (at * %d) %% paths, at %% paths, (at * %d) %% count)
end
"""
"""`count` clients (the header `x-client`) ask for the paths of `paths` groups, all in turn."""

DONE: Final = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nJSON {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"status":%d,"connect":%d,"read":%d,' ..
    '"write":%d,"timeout":%d}\\n', summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.status, e.connect, e.read, e.write, e.timeout))
end
"""

IN_TURN: Final = """
local count, at, ready = %d, 0, {}
init = function(args)
  for i = 0, count - 1 do ready[i] = wrk.format("GET", string.format("%s", i %% %d, i)) end
end
request = function()
  local asked = ready[at]
  at = (at + %d) %% count
  return asked
end
"""
"""Every path once, in strides, so that neighbours in time are no neighbours in the table."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    status: int
    connect: int
    read: int
    write: int
    timeout: int

    @property
    def failures(self) -> dict[str, int]:
        """Failed requests by kind; a run with any of them counts for nothing."""
        kinds = asdict(self)
        return {kind: kinds[kind] for kind in ("status", "connect", "read", "write", "timeout") if kinds[kind]}


def script(room: Path, *, paths: str = "", count: int = 0, groups: int = 1, stride: int = 1) -> Path:
    """Write wrk's script; with `paths` (a format of two numbers) the requests go round `count` of them.

    The first number is that of the group that a path belongs to, the second its own.
    """
    path = room / f"wrk-{count}.lua"
    path.write_text(DONE + (IN_TURN % (count, paths, groups, stride) if paths else ""))
    return path


def clients_script(room: Path, *, paths: str, groups: int, clients: int, stride: int) -> Path:
    """Write a script whose requests name `clients` clients, for paths (a format of two numbers) of `groups` groups."""
    path = room / f"wrk-clients-{clients}.lua"
    path.write_text(DONE + CLIENTS % (clients, groups, paths, stride, stride))
    return path


def run(port: int, *, seconds: float, connections: int, cores: frozenset[int], script: Path, path: str = "/") -> Load:
    command = [
        find_tool("wrk", "Debian's `wrk`", None), "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout",
        "10s", "-s", str(script), "-H", "Host: bench.example", f"http://127.0.0.1:{port}{path}",
    ]  # fmt: skip
    with on_cores(cores):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        if seconds != math.ceil(seconds):
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=math.ceil(seconds) + WORDS_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    for line in text.splitlines():
        if line.startswith("JSON "):
            return Load(**json.loads(line[5:]))
    raise Broken(f"wrk said nothing that can be read:\n{text[-1000:]}")
