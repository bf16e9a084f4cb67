"""Forking workers, and being born as one.

    supervisor                          child
    ----------                          -----
    claim a slot, make leash and box
    fork -----------------------------> forget the parent's loop, handlers, wake-up
    note the pid, open a pidfd          close all that is not in the heritage, and check it
                                        worker_main(heritage) -> status
                                        _exit(status)

Intuition: a child leaves the house with a suitcase whose contents are listed. All it
has seen at home (modules, mapped memory) it remembers, which is why it is ready
within milliseconds; but no key of the house stays in its pockets.

Rule 1: the fork happens in the thread of the loop, and no other thread is ever
    started here, so that no lock can be held in the child by nobody.
Rule 2: the child never returns into the loop: whatever happens, it ends by _exit.
Rule 3: what the parent holds for one child (leash, box) is closed by every other
    child: the leash ends when the supervisor does, since nobody else has it.

Rejected: PR_SET_PDEATHSIG. It kills; the leash lets a worker drain when the supervisor
has died. And exec'ing each worker: a hundred times the cost, for a clean slate
that closing and checking gives as well.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from shm.heritage import Heritage
from supervisor.words import Words

WorkerMain = Callable[[Heritage], int]
STANDARD: Final = frozenset({0, 1, 2})
BUG: Final = 70
"""EX_SOFTWARE: the worker's main function let an exception out."""
COMM_BYTES_MAX: Final = 15


@dataclass(slots=True)
class Child:
    """What the supervisor holds of one worker."""

    pid: int
    pidfd: int
    leash: socket.socket
    words: Words

    def wake(self) -> None:
        """Tell it to look at its order. A full leash has bytes that say so already."""
        with suppress(OSError):
            self.leash.send(b"!")

    def kill(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Collect its exit status, negative for a signal; only after its pidfd has become readable."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        self.leash.close()
        self.words.close()
        os.close(self.pidfd)


def spawn(make_heritage: Callable[[int], Heritage], worker_main: WorkerMain, title: str) -> Child:
    """Fork a worker; `make_heritage` is given its end of the leash. OSError if there can be no child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    words = Words()
    ours.setblocking(False)
    heritage = make_heritage(theirs.fileno())
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        words.close()
        raise
    else:
        if pid == 0:
            _be_born(heritage, worker_main, words.fd, title)
    finally:
        theirs.close()
    try:
        return Child(pid, os.pidfd_open(pid), ours, words)
    except OSError:  # out of descriptors: whoever cannot be watched shall not live
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
        words.close()
        raise


def name_process(title: str) -> None:
    """Be shown under this name by ps and top."""
    with suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(title.encode()[:COMM_BYTES_MAX])


def _be_born(heritage: Heritage, worker_main: WorkerMain, words_fd: int, title: str) -> NoReturn:
    status = BUG
    try:
        _forget_the_loop()
        os.dup2(words_fd, 2)
        close_all_but(heritage.descriptors() | STANDARD)
        faulthandler.enable()  # a late worker is asked by SIGABRT where it hangs
        name_process(title)
        status = worker_main(heritage)
    except BaseException:
        # The one catch-all of a worker: it turns into last words, and they into an obituary.
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _forget_the_loop() -> None:
    """Undo what the supervisor's event loop did to this process."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    # These go to whole groups or to all workers, perhaps before the worker has said what it does about them.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    sys.set_asyncgen_hooks(None, None)


def close_all_but(kept: frozenset[int]) -> None:
    """Close every other descriptor, and check that they are closed."""
    for fd in _open_descriptors() - kept:
        with suppress(OSError):
            os.close(fd)
    left = _open_descriptors() - kept
    if left:
        raise RuntimeError(f"descriptors {sorted(left)} are still open, and are no part of the heritage")


def _open_descriptors() -> set[int]:
    """Those that are open now; the one that this very look needs is closed by the time it is looked at."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found
