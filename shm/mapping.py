"""A named piece of memory in the address space, and nothing else: no descriptor stays open.

Intuition: a room that one has the key to, without keeping a foot in the door.
The name is opened, mapped, and its descriptor closed at once. So a forked
worker may close every descriptor it does not know, and the mapping stays; and
`unlink` takes the name away and leaves everybody's mapping as it is.

Rule 1: names come from posix_ipc, mode 0600. A region that belongs to somebody
    else, or that others may write, is refused: /dev/shm is open to all users.
Rule 2: room is reserved (`fallocate`) before it is used, by whoever can still
    say no. A page that tmpfs cannot provide at first touch ends the process
    with SIGBUS, in the middle of somebody's request.
Rule 3: the mapping is left out of core dumps, which would be gigabytes of holes.

Rejected: `mmap.mmap`. It duplicates the descriptor and closes that number when
it is collected; in a worker, the number would by then be some client's socket.
A cut (`truncate`) of the file under us cannot be prevented, since only memfds
take seals, and these have no name to attach by; only our own user could do it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import Final

import posix_ipc

from shm.faults import RegionFault, RegionFull

SHM_DIR: Final = "/dev/shm"
MAP_FAILED: Final = ctypes.c_void_p(-1).value
KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE: by now the name may lead to a successor, whose size is none of our business."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
# Not os.posix_fallocate: where the file system cannot do it, libc would emulate it by writing, over live counters.
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)


class Mapping:
    """`size` octets of an open descriptor, shared; `memory` is released by `close`."""

    __slots__ = ("_address", "memory", "size")

    def __init__(self, fd: int, size: int) -> None:
        address = _LIBC.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        if address is None or address == MAP_FAILED:
            raise _os_error("mmap")
        self.size = size
        self._address = address
        self.memory = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        _LIBC.madvise(address, size, mmap.MADV_DONTDUMP)

    def close(self) -> None:
        """Unmap; cells that were not released make this a BufferError. Slices of `memory` must be gone by now."""
        if self._address is None:
            return
        self.memory.release()
        _LIBC.munmap(self._address, self.size)
        self._address = None


def open_name(name: str) -> int:
    """A descriptor of an existing region, which the caller closes."""
    try:
        fd: int = posix_ipc.SharedMemory(name).fd
    except posix_ipc.ExistentialError:
        raise RegionFault(
            "there is no such region", culprit="the fleet is not running, or has a different run-dir",
            place=place(name), remedy="start it with `sentinel run`",
        ) from None  # fmt: skip
    except posix_ipc.PermissionsError:
        raise _foreign(name) from None
    status = os.fstat(fd)
    if os.geteuid() not in (status.st_uid, 0) or status.st_mode & 0o077:
        os.close(fd)
        raise _foreign(name)
    return fd


def create_name(name: str) -> int:
    """A descriptor of a new, empty region; FileExistsError if the name is taken."""
    try:
        fd: int = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600).fd
    except posix_ipc.ExistentialError:
        raise FileExistsError(name) from None
    return fd


def unlink_name(name: str) -> None:
    """Take the name away, if it is there; mappings stay."""
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return
    except posix_ipc.PermissionsError:
        raise _foreign(name) from None


def is_named(fd: int, name: str) -> bool:
    """Whether the name still leads to what this descriptor has open."""
    try:
        there = os.stat(place(name))
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def reserve(fd: int, name: str, offset: int, size: int) -> None:
    """Make sure that these octets have memory behind them; RegionFull if they cannot have it."""
    if _LIBC.fallocate(fd, KEEP_SIZE, offset, size) == 0:
        return
    fault = _os_error("fallocate")
    if fault.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR):
        return  # then pages come at first touch, as they would without us
    room = os.fstatvfs(fd)
    raise RegionFull(
        f"no room for {size} more octets, {room.f_bavail * room.f_frsize} are free ({os.strerror(fault.errno or 0)})",
        culprit="the file system of shared memory is too small", place=place(name),
        remedy=f"mount {SHM_DIR} larger (docker: --shm-size), or have fewer workers or routes",
    ) from fault  # fmt: skip


def place(name: str) -> str:
    """Where the operator finds the region as a file."""
    return SHM_DIR + name


def _foreign(name: str) -> RegionFault:
    return RegionFault(
        "this region belongs to another user, or others may open it", culprit="whoever made it",
        place=place(name), remedy="remove it as its owner, or run as that user",
    )  # fmt: skip


def _os_error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
