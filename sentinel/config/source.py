"""Where configurations come from: files and the environment, behind a small protocol.

Everything that is read is asked for here, so that tests, the playground and a dry run
can hand in their own world, and so that bounds on what is read stand in one place.
"""

from __future__ import annotations

import glob
import os
from typing import Final, Protocol

FILE_BYTES_MAX: Final = 16 << 20
"""A longer file is no configuration; 10,000 routes are about 1.5 MiB."""


class Source(Protocol):
    """What a configuration may ask of the world. Paths are absolute, or relative to where the process runs."""

    def read(self, path: str) -> bytes:
        """The octets of a file; OSError says why not."""

    def glob(self, pattern: str) -> list[str]:
        """The files that match, in the order of their names."""

    def environ(self, name: str) -> str | None:
        """A variable of the environment."""


class Disk:
    """The machine's own files and environment."""

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise OSError(f"it is larger than {FILE_BYTES_MAX >> 20} MiB")
        return data

    def glob(self, pattern: str) -> list[str]:
        return sorted(path for path in glob.glob(pattern) if os.path.isfile(path))

    def environ(self, name: str) -> str | None:
        return os.environ.get(name)


def why(fault: OSError) -> str:
    """The reason in the system's words, without the path, which the message names already."""
    return fault.strerror or str(fault)
