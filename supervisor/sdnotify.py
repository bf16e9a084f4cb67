"""Talking to systemd: what it is told (sd_notify), and the sockets it hands over (socket activation).

Both protocols are a few lines of text: a datagram to $NOTIFY_SOCKET, and
descriptors from 3 on, counted by $LISTEN_FDS. So there is no library for it here.

Rule 1: nothing here ever fails the service. Without systemd every call does nothing.
Rule 2: the variables are ours alone and are taken out of the environment, so that
    no child answers for us or takes the sockets for its own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

FIRST_FD: Final = 3
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Systemd:
    """The manager's end, if there is one. Made once, before any child."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        mine = {name: environ.pop(name) for name in VARIABLES if name in environ}
        self._address = _address(mine.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        self.watchdog_ns = _watchdog_ns(mine)
        """Half of what systemd allows between two signs of life; 0: it does not watch."""
        self.adopted = _adopt(mine)
        """Sockets that were handed over and listen, by "host:port"."""
        self._said = ""

    def say(self, *lines: str) -> None:
        """Send these assignments; what cannot be sent is lost, as if nobody listened."""
        if not self._address:
            return
        with suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.sendto("\n".join(lines).encode(), self._address)

    def ready(self) -> None:
        self.say("READY=1")

    def reloading(self) -> None:
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self.say("STOPPING=1")

    def alive(self) -> None:
        self.say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`, when it has changed."""
        if text != self._said:
            self._said = text
            self.say(f"STATUS={text}")


def _address(text: str) -> str:
    """A path, or "@name" for a name in the abstract namespace."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_ns(mine: dict[str, str]) -> int:
    if mine.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    text = mine.get("WATCHDOG_USEC", "")
    return int(text) * 1000 // 2 if text.isascii() and text.isdigit() else 0


def _adopt(mine: dict[str, str]) -> dict[str, socket.socket]:
    count = mine.get("LISTEN_FDS", "")
    if mine.get("LISTEN_PID") != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return {}
    found: dict[str, socket.socket] = {}
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        with suppress(OSError):
            os.set_inheritable(fd, False)
            one = socket.socket(fileno=fd)
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                one.setblocking(False)
                found[_name(one)] = one
            else:
                one.detach()
    return found


def _name(one: socket.socket) -> str:
    host, port, *_ = one.getsockname()
    return f"[{host}]:{port}" if one.family == socket.AF_INET6 else f"{host}:{port}"
