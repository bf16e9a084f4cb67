"""The run-dir: the place of one instance on the disk, and the lock that makes it one.

    run-dir/            made with 0700; never one that others may write into
      lock              held (flock) as long as the supervisor lives; holds its pid
      control.sock      0600, the Unix door of control
      generations/      the plans, written by control
      estate            0600, what the last instance left to the next (shm.estate), between the two

Rule 1: the lock is the proof of life, not the pid in it and not the socket beside it.
    The kernel gives it back whatever the supervisor dies of.
Rule 2: who has the lock may remove what a dead instance left behind.
Rule 3: who leaves empties it. A lock that is free and not empty was held by one who died, and
    whose workers may hold its ports for another moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

WRITABLE_BY_OTHERS: Final = 0o022
ESTATE: Final = "estate"
SOCKET_PATH_MAX: Final = 107
"""sun_path has 108 octets, the last of them a zero."""


class RunDirFault(Exception):
    """The instance cannot have this run-dir; the text says why and what to do."""


def region_name(run_dir: Path) -> str:
    """The name of the shared-memory region: one a run-dir."""
    return f"/sentinel-{hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:16]}"


class RunDir:
    """One instance's directory, locked. Made by the supervisor; its lock is never inherited."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.abspath(path))
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise RunDirFault(f"the run-dir {self.path} cannot be used: {fault.strerror}") from None
        status = self.path.stat()
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & WRITABLE_BY_OTHERS:
            os.close(self._lock)
            raise RunDirFault(
                f"the run-dir {self.path} belongs to somebody else, or others may write into it: they could put "
                f"their plan or their socket there; `chown` it, and `chmod go-w` it"
            )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise RunDirFault(
                f"the run-dir {self.path} is in use: an instance is already running (pid {holder or 'unknown'}); "
                "stop it first, or give this one its own `run-dir`"
            ) from None
        self.was_abandoned = bool(os.pread(self._lock, 1, 0))
        """Whoever had it before died without leaving: its workers may still be on their way out."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    @property
    def region_name(self) -> str:
        return region_name(self.path)

    @property
    def socket_path(self) -> Path:
        return self.path / "control.sock"

    def listen(self) -> socket.socket:
        """The Unix socket for control, mode 0600; the leftover of a dead instance is replaced."""
        path = str(self.socket_path)
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            raise RunDirFault(f"the path {path} is too long for a Unix socket: choose a shorter `run-dir`")
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)
            door.bind(path)
        except OSError as fault:
            door.close()
            raise RunDirFault(f"cannot listen on {path}: {fault.strerror or fault}") from None
        finally:
            os.umask(before)
        door.listen(128)
        return door

    def bequeath(self, data: bytes) -> None:
        """Leave this to the next instance; RunDirFault if the disk does not take it."""
        path, temporary = self.path / ESTATE, self.path / f"{ESTATE}.new"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError as fault:
            with suppress(OSError):
                temporary.unlink()
            raise RunDirFault(f"{path} cannot be written: {fault.strerror}") from None

    def bequest(self) -> bytes | None:
        """What the last instance left; None if there is nothing."""
        try:
            return (self.path / ESTATE).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise RunDirFault(f"{self.path / ESTATE} cannot be read: {fault.strerror}") from None

    def forget_bequest(self) -> None:
        """It has been taken over: whoever comes next finds newer things."""
        with suppress(OSError):
            (self.path / ESTATE).unlink()

    def leave(self) -> None:
        """Take away what only a living instance has."""
        with suppress(OSError):
            self.socket_path.unlink()
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
        os.close(self._lock)
