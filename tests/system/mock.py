"""The mock with its language models (sentinel.cli.mock), in a process of its own, for as long as a test needs it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def mock() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Its port, and the process: one that a test kills leaves nobody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel.cli.mock", "--fd", str(listening.fileno())], pass_fds=[listening.fileno()]
        )
        port = listening.getsockname()[1]
    try:
        yield port, process
    finally:
        process.terminate()
        process.wait(10)
