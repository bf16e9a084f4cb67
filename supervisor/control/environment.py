"""What the control process inherits, written down once for both ends.

Control is a fresh interpreter (fork and exec, unlike a worker), so its heritage
travels as environment variables and open file descriptors. The supervisor
writes it with `to_environ()` and passes exactly `descriptors()` through the
exec; control reads it with `from_environ()`. Both import this file, which
therefore imports nothing but the standard library: the supervisor shall not
load a web server to start one.

Rejected: command-line arguments. They are as public as the environment is
private, and a wrong descriptor number looks like a right one; here a missing or
malformed variable is named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

CHANNEL = "SENTINEL_CHANNEL_FD"
ADMIN = "SENTINEL_ADMIN_FD"
SOCKET = "SENTINEL_SOCKET_FD"
ADDRESS = "SENTINEL_ADMIN_ADDRESS"
CONFIG = "SENTINEL_CONFIG"
REGION = "SENTINEL_REGION"
RUN_DIR = "SENTINEL_RUN_DIR"


class EnvironmentFault(Exception):
    """Control was started with a heritage that it cannot use; the text names the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEnvironment:
    """Everything control gets from the supervisor; runs on both sides.

    channel_fd: its end of the SEQPACKET channel; end of file means the supervisor is gone.
    admin_fd: the bound and listening TCP socket of `admin.address`.
    socket_fd: the bound and listening `control.sock`, mode 0600.
    admin_address: what the operator wrote for `admin_fd`: a reload that says otherwise needs a restart.
    config: the operator's main file. region: name of the shared-memory region.
    """

    channel_fd: int
    admin_fd: int
    socket_fd: int
    admin_address: str
    config: str
    region: str
    run_dir: str

    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that must stay open through the exec (all others are closed)."""
        return (self.channel_fd, self.admin_fd, self.socket_fd)

    def to_environ(self) -> dict[str, str]:
        """The variables to add to the child's environment."""
        return {
            CHANNEL: str(self.channel_fd),
            ADMIN: str(self.admin_fd),
            SOCKET: str(self.socket_fd),
            ADDRESS: self.admin_address,
            CONFIG: self.config,
            REGION: self.region,
            RUN_DIR: self.run_dir,
        }

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> ControlEnvironment:
        return cls(
            channel_fd=_descriptor(environ, CHANNEL),
            admin_fd=_descriptor(environ, ADMIN),
            socket_fd=_descriptor(environ, SOCKET),
            admin_address=_text(environ, ADDRESS),
            config=_text(environ, CONFIG),
            region=_text(environ, REGION),
            run_dir=_text(environ, RUN_DIR),
        )


def _text(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise EnvironmentFault(f"{name} is not set: the control process is started by `sentinel run`, not by hand")
    return value


def _descriptor(environ: Mapping[str, str], name: str) -> int:
    value = _text(environ, name)
    if not value.isascii() or not value.isdigit():
        raise EnvironmentFault(f"{name} is `{value}`: a file descriptor's number was expected")
    try:
        os.fstat(int(value))
    except OSError:
        raise EnvironmentFault(f"{name} names descriptor {value}, which is not open") from None
    return int(value)
