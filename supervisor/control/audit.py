"""The audit log: who changed what, when, from what to what; one JSON line for each change.

It lies in the state-dir, or without one in the run-dir, as `audit.log`, mode 0600. Each line is written with one append
to a file that is opened for it, so that it can be moved away at any time, and is on the disk (fsync) before the
answer is given. A disk that takes no line is told in the answer and on standard error; the change
stands, since an operator who mends an outage needs it more than its record.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

NAME: Final = "audit.log"
VALUE_CHARS_MAX: Final = 1024


class AuditLog:
    """One instance's log."""

    def __init__(self, home: Callable[[], str]) -> None:
        self._home = home

    @property
    def path(self) -> Path:
        return Path(self._home()) / NAME

    async def write(self, who: str, action: str, what: str, before: object = None, after: object = None) -> str:
        """Append a line; "" or why that failed."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "who": who, "action": action,
            "what": what[:VALUE_CHARS_MAX], "before": before, "after": after,
        }  # fmt: skip
        return await asyncio.to_thread(self._append, entry)

    def _append(self, entry: dict[str, Any]) -> str:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(entry) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            why = f"the change is not in {self.path}: {error.strerror}"
            sys.stderr.write(f"audit: {why}: {msgspec.json.encode(entry).decode()}\n")
            return why
        return ""
