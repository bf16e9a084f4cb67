"""Last words: what a child writes to its standard error, kept and passed on.

Intuition: a letter box at each child's desk, in the supervisor's memory. The child
writes; the supervisor empties the box now and then and passes the letters on to
its own standard error; when the child has died, the last letters are its obituary.

The box is a memfd that is appended to, not a pipe. A pipe blocks the writer when the
reader is slow, and kills or faults it when the reader has died; a worker that drains
after its supervisor's death shall do neither for a line of text.

What our own standard error does not take at once is lost and counted: the journal of a
system that stands still must not make the fleet stand still.

Rejected: files in the run-dir. A full disk would then silence exactly those who
have something to say about it.
"""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress
from typing import Final

KEPT_BYTES: Final = 4096
"""The tail of a traceback is what matters; it is told in every status."""
BOX_BYTES_MAX: Final = 1 << 20
"""A box is emptied from the start when it has grown to this; what is written at that very moment may be lost."""
READ_BYTES: Final = 1 << 16
READS_MAX: Final = 16
"""A child that writes without end gets so much of a turn, and the others the rest of it."""


class Words:
    """The box of one child. `fd` becomes the child's standard error."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("last-words", os.MFD_CLOEXEC)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND)
        self._read_count = self._lost_count = 0
        self._tail = b""

    def pass_on(self, to_fd: int = 2) -> None:
        """Copy what is new, without waiting; called at every turn and after the child's end."""
        for _ in range(READS_MAX):
            data = os.pread(self.fd, READ_BYTES, self._read_count)
            if not data:
                break
            self._read_count += len(data)
            self._tail = (self._tail + data)[-KEPT_BYTES:]
            if self._lost_count and not write_now(to_fd, f"({self._lost_count} octets were lost here)\n".encode()):
                self._lost_count = 0
            self._lost_count += write_now(to_fd, data)
        if self._read_count > BOX_BYTES_MAX:
            os.ftruncate(self.fd, 0)
            self._read_count = 0

    def last(self) -> str:
        """What was said at last, as text."""
        return self._tail.decode("utf-8", "replace").strip()

    def close(self) -> None:
        os.close(self.fd)


def write_now(fd: int, data: bytes) -> int:
    """Write as far as that does not block; returns how many octets were not written.

    A pipe that nobody reads must not stop the supervisor, whose turns are everybody's heartbeat. A pipe
    that polls as writable takes PIPE_BUF octets at once; files and terminals always do.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    with suppress(OSError):  # our own standard error may be gone; the words are still kept
        while data and poll.poll(0):
            data = data[os.write(fd, data[: select.PIPE_BUF]) :]
    return len(data)
