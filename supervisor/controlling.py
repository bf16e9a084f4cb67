"""Starting control, and the channel to it.

Control is a fresh interpreter: it loads a web server, a parser and whatever they
bring, none of which shall ever be in the memory of the supervisor or of a
worker. So it is exec'd, with its heritage written into its environment
(supervisor.control.environment), while a worker is only forked.

Intuition: a secretary who may faint. The desk (both doors and the name of the region)
belongs to the house; a successor sits down, reads the state of affairs by one
question, and nobody who knocked meanwhile was sent away.

The channel is a pair of SEQPACKET sockets: a message is whole or not there, and the
end of either process is the end of the channel for the other one.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.actions import Control
from supervisor.control.environment import ControlEnvironment
from supervisor.terms import MESSAGE_BYTES_MAX
from supervisor.words import Words

ROOT: Final = str(Path(__file__).resolve().parents[1])
"""Where the packages are found, for an interpreter that starts in another directory."""
COMMAND: Final = (sys.executable, "-X", "faulthandler", "-m", "supervisor.control")
DEATHS_MAX: Final = 16
ABRT_NS: Final = 5_000_000_000
READ_AT_ONCE: Final = 16
"""Messages answered in a row: a control process that floods us does not keep workers waiting."""


class Desk:
    """Control's place: its doors, and whoever sits there now."""

    def __init__(self, *, admin: socket.socket, unix: socket.socket, address: str, config: str, region: str,
                 run_dir: str, command: tuple[str, ...] = COMMAND) -> None:  # fmt: skip
        self.restarts = 0
        self.heard_ns = 0
        self._admin = admin
        self._unix = unix
        self._address = address
        self._config = config
        self._region = region
        self._run_dir = run_dir
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._words: Words | None = None
        self._deaths_ns: deque[int] = deque(maxlen=DEATHS_MAX)
        self._ordered_ns = 0
        self._last_words = ""

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def channel(self) -> socket.socket | None:
        """Our end; None when nobody sits there or has closed it."""
        return self._channel

    def facts(self) -> Control:
        return Control(
            pid=self.pid, deaths_ns=tuple(self._deaths_ns), ordered_ns=self._ordered_ns, last_words=self._last_words,
            heard_ns=self.heard_ns,
        )  # fmt: skip

    def start(self) -> int:
        """Start control; returns a descriptor that becomes readable at its end. OSError if there can be none."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = ControlEnvironment(
            channel_fd=theirs.fileno(), admin_fd=self._admin.fileno(), socket_fd=self._unix.fileno(),
            admin_address=self._address, config=self._config, region=self._region, run_dir=self._run_dir,
        )  # fmt: skip
        words = Words()
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL, stderr=words.fd, pass_fds=environment.descriptors(),
                env={**os.environ, **environment.to_environ(), "PYTHONPATH": _search_path()},
            )  # fmt: skip
        except OSError:
            ours.close()
            words.close()
            raise
        finally:
            theirs.close()
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:  # out of descriptors: whoever cannot be watched shall not live
            process.kill()
            process.wait()
            ours.close()
            words.close()
            raise
        self._process, self._channel, self._words, self._ordered_ns = process, ours, words, 0
        return pidfd

    def end(self, number: signal.Signals, now_ns: int) -> None:
        """Tell it to leave."""
        self._ordered_ns = self._ordered_ns or now_ns
        if self._process:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End one that hangs. SIGABRT leaves its stack in its last words; SIGCONT lets a stopped one die of it."""
        if self._process:
            self._process.send_signal(signal.SIGABRT)
            self._process.send_signal(signal.SIGCONT)
            self.heard_ns += ABRT_NS  # and if it does not, again in a while

    def bury(self, now_ns: int) -> int:
        """Enter its end, after its pidfd has become readable; returns its exit status."""
        assert self._process is not None and self._words is not None
        status = self._process.wait()
        self._words.pass_on()
        self._last_words = self._words.last()
        self._words.close()
        self.hang_up()
        self._process = self._words = None
        if not self._ordered_ns:
            self._deaths_ns.append(now_ns)
            self.restarts += 1
        return status

    def fail(self, now_ns: int, why: str) -> None:
        """Enter a start that did not happen, as a death: the policy pauses before the next try."""
        self._deaths_ns.append(now_ns)
        self._last_words = why

    def pass_on_words(self) -> None:
        if self._words:
            self._words.pass_on()

    def messages(self) -> list[bytes] | None:
        """What has been said to us since the last look; None when the channel has ended."""
        found: list[bytes] = []
        while self._channel is not None and len(found) < READ_AT_ONCE:
            try:
                data = self._channel.recv(MESSAGE_BYTES_MAX + 1)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                return None
            if not data:
                return found or None
            found.append(data)
        return found

    def say(self, data: bytes) -> bool:
        """Send one message; False when it was lost, since nobody reads. Whoever comes next asks for the status."""
        if self._channel is None:
            return False
        try:
            self._channel.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """Close our end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def close(self) -> None:
        """Take the doors away: the service has ended."""
        self.hang_up()
        with suppress(OSError):
            self._admin.close()
            self._unix.close()


def _search_path() -> str:
    there = os.environ.get("PYTHONPATH", "")
    return f"{ROOT}{os.pathsep}{there}" if there else ROOT
