"""Control's desk: whoever sits there is a program of a few words, the channel and the doors are real."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.controlling import DEATHS_MAX, READ_AT_ONCE, Desk
from supervisor.terms import MESSAGE_BYTES_MAX

HEAD = "import json, os, socket, sys; channel = socket.socket(fileno=int(os.environ['SENTINEL_CHANNEL_FD']));"
ECHO = HEAD + "any(channel.send(data) < 0 for data in iter(lambda: channel.recv(1 << 17), b''))"
ENVIRONMENT = HEAD + (  # the look itself takes a descriptor, which is closed again when it is looked at
    "fds = [fd for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)];"
    "channel.send(json.dumps([dict(os.environ), fds]).encode())"
)
LAST_WORDS = "import sys; sys.exit('the database of moods is gone')"


class Office:
    """A desk whose occupant is told by a line of Python."""

    def __init__(self, directory: Path) -> None:
        self.admin = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(directory / "door"))
        self.unix.listen()
        self.pidfds: list[int] = []

    def desk(self, program: str) -> Desk:
        self.made = Desk(
            admin=self.admin, unix=self.unix, address="127.0.0.1:9", config="/c.kdl", region="/r", run_dir="/run",
            command=(sys.executable, "-ISc", program) if program else ("/does/not/exist",),
        )  # fmt: skip
        return self.made

    def start(self, program: str) -> Desk:
        desk = self.desk(program)
        self.pidfds.append(desk.start())
        return desk

    def wait_end(self) -> None:
        assert select.select([self.pidfds[-1]], [], [], 20)[0], "it did not end"

    def close(self) -> None:
        if self.made.pid:
            self.made.end(signal.SIGKILL, 1)
            self.made.bury(2)
        self.made.close()
        for fd in self.pidfds:
            os.close(fd)


@pytest.fixture
def office() -> Iterator[Office]:
    with tempfile.TemporaryDirectory() as directory:
        office = Office(Path(directory))
        yield office
        office.close()


def hear(desk: Desk) -> list[bytes] | None:
    assert desk.channel is not None
    assert select.select([desk.channel], [], [], 20)[0], "nothing was said"
    return desk.messages()


def test_it_is_told_its_heritage_and_has_nothing_else(office: Office) -> None:
    stranger = socket.socket()
    os.set_inheritable(stranger.fileno(), True)
    desk = office.start(ENVIRONMENT)
    (data,) = hear(desk) or []
    environ, fds = json.loads(data)
    named = [environ[f"SENTINEL_{name}_FD"] for name in ("CHANNEL", "ADMIN", "SOCKET")]
    assert set(fds) == {"0", "1", "2", *named}
    assert environ["SENTINEL_ADMIN_ADDRESS"] == "127.0.0.1:9"
    assert environ["SENTINEL_CONFIG"] == "/c.kdl"
    stranger.close()


def test_messages_are_whole_and_in_order_and_not_too_many_at_once(office: Office) -> None:
    desk = office.start(ECHO)
    for number in range(READ_AT_ONCE + 5):
        assert desk.say(f"message {number}".encode())
    found: list[bytes] = []
    while len(found) < READ_AT_ONCE + 5:
        some = hear(desk)
        assert some is not None
        assert 0 < len(some) <= READ_AT_ONCE
        found += some
    assert found == [f"message {number}".encode() for number in range(READ_AT_ONCE + 5)]


def test_what_is_too_long_is_cut_and_not_carried_into_the_next_message(office: Office) -> None:
    desk = office.start(ECHO)
    desk.say(b"x" * (MESSAGE_BYTES_MAX + 1000))
    desk.say(b"next")
    found: list[bytes] = []
    while len(found) < 2:
        found += hear(desk) or []
    assert [len(found[0]), found[1]] == [MESSAGE_BYTES_MAX + 1, b"next"]


def test_no_message_yet_is_no_end(office: Office) -> None:
    desk = office.start(ECHO)
    assert desk.messages() == []


def test_whoever_does_not_read_is_not_waited_for(office: Office) -> None:
    desk = office.start(HEAD + "sys.stdin.close(); import signal; signal.pause()")
    while desk.say(b"x" * 1000):
        pass
    assert desk.pid


def test_its_end_is_seen_on_the_channel_and_its_last_words_are_kept(office: Office) -> None:
    desk = office.start(LAST_WORDS)
    office.wait_end()
    assert desk.messages() is None
    assert not desk.say(b"anybody there?")
    assert desk.bury(5) == 1
    facts = desk.facts()
    assert (facts.pid, facts.deaths_ns, facts.last_words) == (0, (5,), "the database of moods is gone")
    assert (desk.restarts, desk.channel, desk.messages()) == (1, None, [])


def test_an_end_that_was_ordered_is_no_death(office: Office) -> None:
    desk = office.start(ECHO)
    desk.end(signal.SIGTERM, 7)
    desk.end(signal.SIGTERM, 8)
    assert desk.facts().ordered_ns == 7
    office.wait_end()
    assert desk.bury(9) == -signal.SIGTERM
    assert (desk.facts().deaths_ns, desk.restarts) == ((), 0)


def test_a_successor_sits_down_at_the_same_doors(office: Office) -> None:
    desk = office.start(LAST_WORDS)
    office.wait_end()
    desk.bury(5)
    office.pidfds.append(desk.start())
    assert desk.facts().ordered_ns == 0
    assert office.admin.fileno() >= 0


def test_a_program_that_does_not_exist_leaves_nothing_behind(office: Office) -> None:
    desk = office.desk("")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        desk.start()
    assert len(os.listdir("/proc/self/fd")) == before
    desk.fail(3, "control cannot be started")
    assert desk.facts().last_words == "control cannot be started"
    assert (desk.pid, desk.facts().deaths_ns) == (0, (3,))


def test_whoever_cannot_be_watched_is_not_left_alive(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise OSError(24, "Too many open files")

    desk = office.desk(ECHO)
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr("supervisor.controlling.os.pidfd_open", refused)
        with pytest.raises(OSError, match="Too many"):
            desk.start()
    assert len(os.listdir("/proc/self/fd")) == before
    assert (desk.pid, desk.channel) == (0, None)


def test_deaths_are_bounded(office: Office) -> None:
    desk = office.desk("")
    for at_ns in range(DEATHS_MAX + 5):
        desk.fail(at_ns, "woe")
    assert len(desk.facts().deaths_ns) == DEATHS_MAX
