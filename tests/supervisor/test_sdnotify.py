"""What systemd is told, and what it hands over; with sockets of the kernel in its place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supervisor.sdnotify import VARIABLES, Systemd


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> tuple[socket.socket, str]:
    """systemd's end, and what it would write into NOTIFY_SOCKET."""
    one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    one.settimeout(5)
    if request.param == "path":
        one.bind(str(tmp_path / "notify"))
        return one, str(tmp_path / "notify")
    one.bind(f"\0sentinel-test-{os.getpid()}-{tmp_path.name}")
    return one, f"@sentinel-test-{os.getpid()}-{tmp_path.name}"


def test_each_word_is_one_datagram(ear: tuple[socket.socket, str]) -> None:
    one, name = ear
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.ready()
    assert one.recv(200) == b"READY=1"
    before_us = time.monotonic_ns() // 1000
    systemd.reloading()
    first, second = one.recv(200).split(b"\n")
    assert first == b"RELOADING=1"
    assert before_us <= int(second.removeprefix(b"MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    systemd.alive()
    assert one.recv(200) == b"WATCHDOG=1"
    systemd.stopping()
    assert one.recv(200) == b"STOPPING=1"


def test_a_status_is_told_when_it_changes(ear: tuple[socket.socket, str]) -> None:
    one, name = ear
    systemd = Systemd({"NOTIFY_SOCKET": name})
    for text in ("serving", "serving", "draining"):
        systemd.status(text)
    assert [one.recv(200), one.recv(200)] == [b"STATUS=serving", b"STATUS=draining"]
    one.setblocking(False)
    with pytest.raises(BlockingIOError):
        one.recv(200)


@pytest.mark.parametrize(
    "name", ["", "/nowhere/at/all", "@nobody-listens-here", "relative", "vsock:2:1", "@", "/" * 500]
)
def test_nobody_who_listens_is_no_fault(name: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.ready()
    systemd.status("serving")
    systemd.stopping()


def test_a_listener_that_is_full_or_gone_is_no_fault(ear: tuple[socket.socket, str]) -> None:
    one, name = ear
    systemd = Systemd({"NOTIFY_SOCKET": name})
    for _ in range(10_000):  # it would block, so it is lost
        systemd.alive()
    one.close()
    systemd.ready()


def test_the_variables_are_taken_out_of_the_environment() -> None:
    environ = dict.fromkeys(VARIABLES, "1") | {"PATH": "/bin"}
    Systemd(environ)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("usec", "pid", "expected_ns"),
    [
        ("20000000", None, 10_000_000_000),
        ("20000000", "mine", 10_000_000_000),
        ("20000000", "1", 0),
        ("20000000", "", 0),
        ("", None, 0),
        ("-5", None, 0),
        ("soon", None, 0),
        ("²", None, 0),
    ],
)
def test_the_watchdog_s_period_is_half_of_what_is_allowed(usec: str, pid: str | None, expected_ns: int) -> None:
    environ = {"WATCHDOG_USEC": usec}
    if pid is not None:
        environ["WATCHDOG_PID"] = str(os.getpid()) if pid == "mine" else pid
    assert Systemd(environ).watchdog_ns == expected_ns


# Socket activation: descriptors from 3 on, so in a process of its own.

CHILD = """
import os, socket, sys
from supervisor.sdnotify import Systemd
os.environ.update(LISTEN_FDS=sys.argv[1], LISTEN_PID=str(os.getpid()) if sys.argv[2] == "mine" else sys.argv[2])
adopted = Systemd().adopted
for name, one in adopted.items():
    print(name, one.fileno(), os.get_inheritable(one.fileno()), one.getblocking())
"""


def activated(sockets: list[socket.socket], count: str, pid: str = "mine") -> list[str]:
    """Run the child with these sockets as its descriptors 3, 4, ...; returns the lines it prints."""
    high = [os.dup(one.fileno()) for one in sockets]
    high = [os.dup2(fd, 100 + index, inheritable=True) for index, fd in enumerate(high)]
    moves = " ".join(f"{3 + index}<&{fd} {fd}<&-" for index, fd in enumerate(high))
    script = f'exec "$0" -c "$1" "$2" "$3" {moves}'
    try:
        done = subprocess.run(
            ["bash", "-c", script, sys.executable, CHILD, count, pid],
            pass_fds=high, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    finally:
        for fd in high:
            os.close(fd)
    return done.stdout.splitlines()


def test_listening_sockets_are_adopted_by_their_addresses(stack: ExitStack) -> None:
    one = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    two = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    names = [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two)]
    assert activated([one, two], "2") == [f"{names[0]} 3 False False", f"{names[1]} 4 False False"]


def test_an_ipv6_socket_is_named_in_brackets(stack: ExitStack) -> None:
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    one = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    (line,) = activated([one], "1")
    assert line.startswith(f"[::1]:{one.getsockname()[1]} 3 ")


def test_what_does_not_listen_or_is_no_tcp_socket_is_left_alone(stack: ExitStack, tmp_path: Path) -> None:
    deaf = stack.enter_context(socket.socket())
    deaf.bind(("127.0.0.1", 0))
    unix = stack.enter_context(socket.socket(socket.AF_UNIX))
    unix.bind(str(tmp_path / "unix"))
    unix.listen()
    good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    (line,) = activated([deaf, unix, good], "3")
    assert line.startswith(f"127.0.0.1:{good.getsockname()[1]} 5 ")


@pytest.mark.parametrize(("count", "pid"), [("1", "1"), ("1", ""), ("many", "mine"), ("", "mine"), ("-1", "mine")])
def test_sockets_for_somebody_else_or_a_count_that_is_none_are_not_taken(
    stack: ExitStack, count: str, pid: str
) -> None:
    one = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    assert activated([one], count, pid) == []


def test_a_count_that_is_too_high_takes_what_is_there(stack: ExitStack) -> None:
    one = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    assert len(activated([one], "5")) == 1
