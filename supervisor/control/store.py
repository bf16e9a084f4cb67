"""The plans on disk: one file a content, named by its fingerprint, in `run-dir/generations`.

A worker opens the file that the supervisor was told of, and checks that its
bytes have the fingerprint. So a plan is written completely before its name
exists (temporary file, fsync, rename, fsync of the directory), is never changed
afterwards, and the same content written twice is the same file.

A plan carries keys and tokens: the directory is 0700, the files are 0600.

Old plans are removed when more than `PLANS_MAX` lie there, the least recently
published first; what the supervisor still refers to (running, or wanted for a
rollback) is kept whatever its age.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

PLANS_MAX = 32
"""Twice what anybody rolls back to by hand; a plan of a thousand routes is about a megabyte."""

SUFFIX = ".plan"


class PlanStore:
    """The directory of plans. Everything here blocks on the disk: call it in a thread."""

    def __init__(self, run_dir: str) -> None:
        self.directory = Path(run_dir) / "generations"

    def path(self, fingerprint: str) -> Path:
        return self.directory / f"{fingerprint}{SUFFIX}"

    def write(self, fingerprint: str, data: bytes) -> Path:
        """Store a plan durably, and return its path."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self.path(fingerprint)
        if self._is_whole(target, data):
            os.utime(target)  # published again: young again
            return target
        draft = target.with_suffix(f".{os.getpid()}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        self._sync_directory()
        return target

    def prune(self, kept: Collection[str]) -> None:
        """Remove the oldest plans beyond PLANS_MAX; paths in `kept` stay."""
        found = sorted(self.directory.glob(f"*{SUFFIX}"), key=_age)
        for path in found[: max(0, len(found) - PLANS_MAX)]:
            if str(path) not in kept:
                path.unlink(missing_ok=True)
        for draft in self.directory.glob("*.draft"):  # of a control process that died while writing
            if f".{os.getpid()}." not in draft.name:
                draft.unlink(missing_ok=True)

    def _is_whole(self, path: Path, data: bytes) -> bool:
        try:
            return path.read_bytes() == data
        except OSError:
            return False

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
