"""Being born: what a child has, what it has not, and how its end is told. Real forks."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shm.heritage import Heritage
from shm.mapping import unlink_name
from shm.region import Region
from supervisor.crew import cause_of
from supervisor.spawn import BUG, Child, spawn

NO_REGION: Any = None


class Family:
    """Children, and where they answer. All of them have ended when it does."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(20)
        self.children: list[Child] = []
        self.ended: list[Child] = []

    def bear(self, main: Callable[[Heritage], int], title: str = "sentinel-w0.1") -> Child:
        """Fork; the answering socket is inherited as if it were a listener's."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("stdout", "stderr"):  # pytest's own ones write elsewhere than to 1 and 2
                patch.setattr(sys, name, getattr(sys, f"__{name}__"))
            child = spawn(self._heritage, main, title)
        self.children.append(child)
        return child

    def _heritage(self, leash_fd: int) -> Heritage:
        return Heritage(
            region=NO_REGION, slot=0, lane=0, generation=1, plan_path="/p", fingerprint="f",
            sockets={"127.0.0.1:1": (self.theirs.fileno(),)}, leash_fd=leash_fd, cpu=None,
        )  # fmt: skip

    def hear(self) -> Any:
        return json.loads(self.ours.recv(65536))

    def end(self, child: Child) -> int:
        """Wait for its end by its pidfd, and collect it."""
        assert select.select([child.pidfd], [], [], 20)[0], "it did not end"
        status = child.reap()
        with open(os.devnull, "wb") as nowhere:
            child.words.pass_on(nowhere.fileno())
        self.children.remove(child)
        self.ended.append(child)
        return status

    def close(self) -> None:
        for child in self.children:
            child.kill(signal.SIGKILL)
            child.reap()
        for child in self.children + self.ended:
            child.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    family.close()


def tell(heritage: Heritage, what: object) -> int:
    """In the child: answer, and end well."""
    (fd,) = heritage.sockets["127.0.0.1:1"]
    os.write(fd, json.dumps(what).encode())
    return 0


def test_a_child_has_its_heritage_and_nothing_else(family: Family) -> None:
    strangers = [socket.socket(), socket.socket()]
    os.set_inheritable(strangers[0].fileno(), True)
    elder = family.bear(lambda heritage: 0 if os.read(heritage.leash_fd, 1) else 1)

    def main(heritage: Heritage) -> int:
        # The look itself takes a descriptor, the lowest free one, which is closed again by then.
        found = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
        return tell(heritage, [sorted(found), sorted(heritage.descriptors())])

    child = family.bear(main)
    found, heritage = family.hear()
    assert found == sorted({0, 1, 2, *heritage})
    assert {one.fileno() for one in strangers}.isdisjoint(found)
    assert family.end(child) == 0
    elder.wake()
    assert family.end(elder) == 0
    for one in strangers:
        one.close()


def test_a_child_forgets_the_handlers_of_the_loop(family: Family) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGTERM)}
    waker, woken = socket.socketpair()
    waker.setblocking(False)
    for number in before:
        signal.signal(number, lambda *_: None)
    former = signal.set_wakeup_fd(waker.fileno())
    try:

        def main(heritage: Heritage) -> int:
            dispositions = {str(int(one)): str(signal.getsignal(one)) for one in (*before, signal.SIGHUP)}
            return tell(heritage, [dispositions, signal.set_wakeup_fd(-1)])

        child = family.bear(main)
        dispositions, wakeup_fd = family.hear()
    finally:
        signal.set_wakeup_fd(former)
        for number, handler in before.items():
            signal.signal(number, handler)
        waker.close()
        woken.close()
    assert family.end(child) == 0
    assert wakeup_fd == -1
    assert dispositions[str(int(signal.SIGCHLD))] == str(signal.SIG_DFL)
    assert dispositions[str(int(signal.SIGWINCH))] == str(signal.SIG_DFL)
    # What goes to whole groups is ignored until the worker has said what it does about it.
    assert dispositions[str(int(signal.SIGTERM))] == str(signal.SIG_IGN)
    assert dispositions[str(int(signal.SIGHUP))] == str(signal.SIG_IGN)


def test_a_signal_to_the_whole_group_does_not_end_a_newborn(family: Family) -> None:
    def main(heritage: Heritage) -> int:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            os.kill(os.getpid(), number)
        return 5

    assert family.end(family.bear(main)) == 5


@pytest.mark.parametrize("status", [0, 1, 78, 125])
def test_the_exit_status_is_what_main_returns(family: Family, status: int) -> None:
    assert family.end(family.bear(lambda heritage: status)) == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_is_a_negative_status(family: Family, number: signal.Signals) -> None:
    child = family.bear(lambda heritage: tell(heritage, "here") or len(os.read(heritage.leash_fd, 1)))
    assert family.hear() == "here"
    child.kill(number)
    assert family.end(child) == -number


def test_an_exception_is_a_bug_and_its_traceback_the_last_words(family: Family) -> None:
    def main(heritage: Heritage) -> int:
        raise RuntimeError("nobody expected this")

    child = family.bear(main)
    assert family.end(child) == BUG
    assert child.words.last().endswith("RuntimeError: nobody expected this")
    assert "Traceback" in child.words.last()


@pytest.mark.parametrize("fault", [SystemExit(3), KeyboardInterrupt()])
def test_no_exception_whatever_leads_a_child_into_the_parent_s_code(family: Family, fault: BaseException) -> None:
    def main(heritage: Heritage) -> int:
        raise fault

    assert family.end(family.bear(main)) == BUG


def test_what_a_child_prints_last_is_kept_and_a_killed_one_shows_its_stack(family: Family) -> None:
    def main(heritage: Heritage) -> int:
        print("about to hang", file=sys.stderr)
        tell(heritage, "hung")
        return len(os.read(heritage.leash_fd, 1))

    child = family.bear(main)
    assert family.hear() == "hung"
    child.kill(signal.SIGABRT)
    assert family.end(child) == -signal.SIGABRT
    said = os.pread(child.words.fd, 1 << 16, 0).decode()  # all of it: under a test runner the stack is long
    assert said.startswith("about to hang")
    assert "Fatal Python error: Aborted" in said
    assert "in main" in said


def test_the_leash_wakes_and_its_end_is_seen(family: Family) -> None:
    def main(heritage: Heritage) -> int:
        tell(heritage, "here")
        woken = os.read(heritage.leash_fd, 1)
        tell(heritage, woken.decode())
        return 7 if os.read(heritage.leash_fd, 1) == b"" else 1

    child = family.bear(main)
    assert family.hear() == "here"
    child.wake()
    assert family.hear() == "!"
    child.leash.close()
    assert family.end(child) == 7


def test_no_sibling_holds_another_s_leash(family: Family) -> None:
    """The leash of the elder ends with our end of it, though the younger was forked while it was open."""
    elder = family.bear(lambda heritage: 7 if os.read(heritage.leash_fd, 1) == b"" else 1)
    younger = family.bear(lambda heritage: len(os.read(heritage.leash_fd, 1)))
    elder.leash.close()
    assert family.end(elder) == 7
    younger.wake()
    assert family.end(younger) == 1


def test_waking_somebody_who_does_not_listen_or_has_died_is_no_fault(family: Family) -> None:
    child = family.bear(lambda heritage: os.close(heritage.leash_fd) or tell(heritage, "deaf"))
    assert family.hear() == "deaf"
    for _ in range(3):
        child.wake()
    assert family.end(child) == 0
    child.wake()
    child.kill(signal.SIGTERM)


def test_a_leash_that_is_full_does_not_block(family: Family) -> None:
    child = family.bear(lambda heritage: signal.pause() or 0)
    for _ in range(10_000):
        child.wake()
    child.kill(signal.SIGKILL)
    assert family.end(child) == -signal.SIGKILL


def test_a_child_is_named(family: Family) -> None:
    def main(heritage: Heritage) -> int:
        with open("/proc/self/comm") as comm:
            return tell(heritage, comm.read())

    child = family.bear(main, "sentinel-w3.17-and-more")
    assert family.hear() == "sentinel-w3.17-\n"
    assert family.end(child) == 0


@pytest.mark.parametrize("name", ["fork", "pidfd_open"])
def test_a_child_that_cannot_be_had_leaves_nothing_behind(
    family: Family, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refused(*_: object) -> int:
        raise OSError(24, "Too many open files")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(f"supervisor.spawn.os.{name}", refused)
        with pytest.raises(OSError, match="Too many"):
            family.bear(lambda heritage: signal.pause() or 0)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_region_survives_the_closing(family: Family) -> None:
    """Memory is mapped, and needs no descriptor: a child counts what the parent reads."""
    name = f"/sentinel-test-spawn-{os.getpid()}"
    region = Region.create(name, series_max=8, slots_max=4)
    try:
        child = family.bear(lambda heritage: region.publish(9) or 0)
        assert family.end(child) == 0
        assert region.generation() == 9
    finally:
        region.close()
        unlink_name(name)


@pytest.mark.parametrize(
    ("status", "because", "words", "cause"),
    [
        (0, "", "", "ended by itself with status 0"),
        (78, "", "a\n  the plan is wrong  \n\n", "ended by itself with status 78; last words: the plan is wrong"),
        (-9, "", "", "killed by SIGKILL"),
        (-11, "", "x", "killed by SIGSEGV; last words: x"),
        (-9, "no heartbeat for 2 s", "", "no heartbeat for 2 s; killed by SIGKILL"),
        (-40, "", "", "killed by signal 40"),
    ],
)
def test_an_obituary_names_the_cause(status: int, because: str, words: str, cause: str) -> None:
    assert cause_of(status, because, words) == cause


def test_a_cause_is_one_line_of_bounded_length() -> None:
    cause = cause_of(1, "", "first\n" + "y" * 10_000)
    assert "\n" not in cause
    assert len(cause) < 300
