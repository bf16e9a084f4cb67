"""The access log: one JSON line a request, and never a request that waits for a line.

Intuition: a letter box with a postman. The loop drops lines into the box and
walks on; a thread carries them away and may stand at a full pipe, a full disk
or a slow one for as long as it takes. When the box is full (`access-log-buffer`),
lines are thrown away and counted (Counter.LOG_DROPPED): the log may lose a line,
the traffic loses nothing.

Rules:
1. Standard output and files are never set non-blocking: that flag belongs to the
   open file, which we share with the other workers and perhaps a shell.
2. What goes to a pipe goes in pieces of at most PIPE_BUF octets that end at a line
   end, so that lines of several workers do not mix. A line is therefore bounded:
   fields that a client can stretch are cut.
3. Lines are made by workers.books; what calls of language models have besides, by workers.bill. Text is escaped as
   JSON wants it: no octet of a request can end a line or forge a field. Octets above 127 appear as the latin-1
   characters they are.
4. The query is not logged (it carries secrets), only its length.
5. SIGUSR1 reopens the file; when that fails, the old one stays in use.
"""

from __future__ import annotations

import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Literal

import msgspec

LINE_BYTES_MAX: Final = 4096  # PIPE_BUF on Linux
PATH_CHARS_MAX: Final = 1024
AGENT_CHARS_MAX: Final = 256
WORD_CHARS_MAX: Final = 128
FLUSH_BYTES: Final = 256 * 1024
"""So many octets of lines are worth waking the thread."""
_RETRY_S: Final = 0.05

assert 2 * (PATH_CHARS_MAX + AGENT_CHARS_MAX + 4 * WORD_CHARS_MAX) < LINE_BYTES_MAX - 256, (
    "a line fits a pipe's atomic write even when each character takes two octets"
)


class Entry(msgspec.Struct, gc=False):
    """One line; the order of the fields is the order in the log."""

    ts: str
    request_id: str
    client_ip: str
    method: str
    host: str
    path: str
    query_bytes: int
    protocol: str
    status: int
    reason: str
    route: str
    upstream: str
    endpoint: str
    attempts: int
    upstream_ms: float | None
    duration_ms: float
    bytes_in: int
    bytes_out: int
    user_agent: str
    listener: str
    generation: int
    worker: int


class AccessLog:
    """One worker's end of the log. `put` and `tick` run in the loop, `_carry` in the thread."""

    __slots__ = (
        "_buffer_bytes", "_carried_bytes", "_destination", "_dropped", "_fd", "_given_bytes", "_is_pipe", "_lost",
        "_lost_told", "_queue", "_thread", "_torn",
    )  # fmt: skip

    def __init__(self, destination: str, buffer_bytes: int, dropped: Callable[[int], None]) -> None:
        self._destination = destination
        self._buffer_bytes = buffer_bytes
        self._dropped = dropped
        self._given_bytes = 0
        self._carried_bytes = 0  # written by the thread only
        self._lost = 0  # written by the thread only
        self._lost_told = 0
        self._torn = False
        self._is_pipe = False
        self._queue: queue.SimpleQueue[bytes | Literal["reopen", "stop"]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._fd = -1
        if destination != "off":
            self._open()
            self._thread = threading.Thread(target=self._carry, name="access-log", daemon=True)
            self._thread.start()

    @property
    def is_on(self) -> bool:
        return self._thread is not None

    def put(self, lines: bytes, count: int) -> None:
        """Hand whole lines to the thread, or drop them when it is too far behind."""
        if self._given_bytes - self._carried_bytes + len(lines) > self._buffer_bytes:
            self._dropped(count)
            return
        self._given_bytes += len(lines)
        self._queue.put(lines)

    def tick(self, now_ns: int) -> None:
        """Tell of lines that the thread could not write."""
        if self._lost != self._lost_told:
            lost = self._lost
            self._dropped(lost - self._lost_told)
            self._lost_told = lost

    def reopen(self) -> None:
        self._queue.put("reopen")

    def close(self, wait_s: float) -> None:
        """Flush, and give the thread so long to finish; a full pipe does not keep the worker alive."""
        if self._thread is not None:
            self.tick(0)
            self._queue.put("stop")
            self._thread.join(wait_s)
            if self._thread.is_alive():
                unwritten = self._given_bytes - self._carried_bytes
                sys.stderr.write(f"access log: {unwritten} octets could not be written before the end\n")

    # The postman's side.

    def _open(self) -> None:
        if self._destination == "-":
            fd = os.dup(1)
        else:
            fd = os.open(self._destination, _way_of(self._destination) | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._is_pipe = not stat.S_ISREG(os.fstat(fd).st_mode)

    def _carry(self) -> None:
        while True:
            chunk = self._queue.get()
            if chunk == "stop":
                return
            if isinstance(chunk, str):
                self._try_reopen()
                continue
            self._put(chunk)
            self._carried_bytes += len(chunk)

    def _try_reopen(self) -> None:
        if self._destination == "-":
            return
        try:
            self._open()
        except OSError as fault:
            sys.stderr.write(f"access log: cannot reopen {self._destination}, the old file stays in use: {fault}\n")

    def _put(self, chunk: bytes) -> None:
        """Write a chunk of whole lines; what cannot be written is counted as lost."""
        start = 0
        if self._torn:  # a line was cut off by a full disk: the next one shall not continue it
            chunk = b"\n" + chunk
        while start < len(chunk):
            end = len(chunk)
            if self._is_pipe and end - start > LINE_BYTES_MAX:
                end = chunk.rfind(b"\n", start, start + LINE_BYTES_MAX) + 1 or start + LINE_BYTES_MAX
            try:
                start += os.write(self._fd, memoryview(chunk)[start:end])
            except BlockingIOError:  # somebody else made the open file non-blocking
                time.sleep(_RETRY_S)
            except OSError:
                self._lost += chunk.count(b"\n", start)
                self._torn = start > 0 and chunk[start - 1 : start] != b"\n"
                return
        self._torn = False


def _way_of(path: str) -> int:
    """A named pipe is opened for reading as well: so it is there before its reader is, and while he is away."""
    try:
        return os.O_RDWR if stat.S_ISFIFO(os.stat(path).st_mode) else os.O_WRONLY
    except OSError:
        return os.O_WRONLY
