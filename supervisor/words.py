"""Last words: what a child writes to its standard error, kept and passed on.

Intuition: a letter box at each child's desk, in the supervisor's memory. The child
writes; the supervisor empties the box now and then and passes the letters on to
its own standard error; when the child has died, the last letters are its obituary.

The box is a memfd that is appended to, not a pipe. A pipe blocks the writer when the
reader is slow, and kills or faults it when the reader has died; a worker that drains
after its supervisor's death shall do neither for a line of text.

Rejected: files in the run-dir. A full disk would then silence exactly those who
have something to say about it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Final

KEPT_BYTES: Final = 4096
"""The tail of a traceback is what matters; it is told in every status."""
BOX_BYTES_MAX: Final = 1 << 20
"""A box is emptied from the start when it has grown to this; what is written at that very moment may be lost."""
READ_BYTES: Final = 1 << 16


class Words:
    """The box of one child. `fd` becomes the child's standard error."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("last-words", os.MFD_CLOEXEC)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND)
        self._read_count = 0
        self._tail = b""

    def pass_on(self, to_fd: int = 2) -> None:
        """Copy what is new; called at every turn and after the child's end."""
        while data := os.pread(self.fd, READ_BYTES, self._read_count):
            self._read_count += len(data)
            self._tail = (self._tail + data)[-KEPT_BYTES:]
            _write(to_fd, data)
        if self._read_count > BOX_BYTES_MAX:
            os.ftruncate(self.fd, 0)
            self._read_count = 0

    def last(self) -> str:
        """What was said at last, as text."""
        return self._tail.decode("utf-8", "replace").strip()

    def close(self) -> None:
        os.close(self.fd)


def _write(fd: int, data: bytes) -> None:
    with suppress(OSError):  # our own standard error may be gone; the words are still kept
        while data:
            data = data[os.write(fd, data) :]
