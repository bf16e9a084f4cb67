"""The supervisor's process as a whole: real forks, real sockets, real signals; the test is its control."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.house import House, free
from tests.supervisor.theatre import S


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    try:
        yield house
    finally:
        house.close()


def test_it_serves_what_control_asks_for_and_ends_without_a_trace(house: House) -> None:
    house.start()
    assert house.serve() == 1
    pids = house.pids()
    assert set(pids) == {0, 1}
    generation, lane, pid = house.knock()
    assert (generation, pid) == (1, pids[lane])
    region = house.status()["region"]
    assert os.path.exists(f"/dev/shm{region}")
    house.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    assert house.wait_end() == 0
    for one in pids.values():
        house.wait_gone(one)
    with pytest.raises(ConnectionRefusedError):
        house.knock()
    assert not os.path.exists(f"/dev/shm{region}")
    assert (house.run_dir / "lock").read_bytes() == b""
    assert not (house.run_dir / "control.sock").exists()


def test_nobody_who_knocks_during_reloads_is_turned_away(house: House) -> None:
    house.start().serve()
    generations: list[int] = []
    is_over = threading.Event()

    def knock_on() -> None:
        while not is_over.is_set():
            generations.append(house.knock()[0])

    client = threading.Thread(target=knock_on)
    client.start()
    try:
        for workers in (4, 1, 2):
            house.serve(workers=workers)
    finally:
        is_over.set()
        client.join()
    assert generations, "it was answered"
    assert generations[0] == 1
    assert house.knock()[0] == 4
    assert house.status()["obituaries"] == []


def test_a_plan_that_no_worker_takes_is_refused_in_its_own_words(house: House) -> None:
    house.start().serve()
    before = house.pids()
    number = house.rollout("refuses")
    event = house.wait_event(generation=number, state="refused")
    assert "ended by itself with status 78; last words: the plan is wrong" in event["why"]
    assert house.pids() == before
    assert "the plan is wrong" in house.said(), "last words are passed on to the log"


def test_a_killed_worker_is_replaced_and_has_an_obituary(house: House) -> None:
    house.start().serve()
    before = house.pids()
    os.kill(before[0], signal.SIGKILL)
    house.wait_gone(before[0])
    while (after := house.pids()).keys() != {0, 1} or after[0] == before[0]:
        pass  # each question is answered between two turns of the loop
    assert after[1] == before[1]
    (obituary,) = house.status()["obituaries"]
    assert (obituary["pid"], obituary["cause"], obituary["status"]) == (before[0], "killed by SIGKILL", -9)
    assert obituary["heartbeat_age_ms"] >= 0
    assert re.search(r"died aged \d+\.\d{3} s, 0 requests open \d+\.\d\d s before: killed by SIGKILL", house.said())


def test_the_supervisor_does_not_gather_descriptors(house: House) -> None:
    house.start().serve(restarts_max=100)
    assert house.process is not None

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{house.process.pid}/fd"))  # type: ignore[union-attr]

    before = descriptors()
    for _ in range(2):
        pids = house.pids()
        os.kill(pids[0], signal.SIGKILL)
        house.wait_gone(pids[0])
        while house.pids().get(0) in (None, pids[0]):
            pass
    os.kill(house.control_pid, signal.SIGKILL)
    house.become_control()
    house.serve()
    while len(house.status()["workers"]) != 2:
        pass
    assert descriptors() == before


def test_the_death_of_control_disturbs_nobody_and_the_next_one_finds_all_as_it_was(house: House) -> None:
    house.start().serve()
    before = house.pids()
    first = house.control_pid
    os.kill(first, signal.SIGKILL)
    assert house.knock()[0] == 1
    house.become_control()
    status = house.status()
    assert status["control"] == {"pid": house.control_pid, "restarts": 1}
    assert house.control_pid != first
    assert (status["generation"], house.pids()) == (1, before)
    assert "ears: listening" in house.said(), "control's words are passed on, too"


def test_a_rollout_goes_on_when_control_dies_in_the_middle(house: House) -> None:
    house.start().serve()
    house.rollout(workers=3)
    os.kill(house.control_pid, signal.SIGKILL)
    house.become_control()
    while house.status()["rollout"]["state"] == "starting":
        pass
    assert house.status()["rollout"] == {"generation": 2, "state": "probation", "why": ""}


def test_signals_of_the_operator_are_told_to_control(house: House) -> None:
    house.start().serve()
    assert house.process is not None
    house.process.send_signal(signal.SIGHUP)
    house.wait_event(event="reload")
    house.process.send_signal(signal.SIGUSR1)
    house.wait_event(event="reopen-logs")
    assert house.knock()[0] == 1


def test_drain_and_resume_and_whoever_knocks_meanwhile_waits(house: House) -> None:
    house.start().serve()
    before = house.pids()
    assert house.ask("drain")["mode"] == "draining"
    for pid in before.values():
        house.wait_gone(pid)
    host, _, port = house.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as waiting:
        house.ask("resume")
        assert waiting.recv(100).startswith(b"1 ")
    assert set(house.pids().values()).isdisjoint(before.values())


@pytest.mark.parametrize(
    "data",
    [b"not json", b"{}", b'{"id":1,"op":"\xff"}', b'{"id":1,"op":"status","more":' + b"[" * 30_000, b"x" * 100_000],
)  # fmt: skip
def test_whatever_is_said_on_the_channel_is_answered(house: House, data: bytes) -> None:
    house.start()
    house.send(data)
    assert house.hear()["ok"] is False
    assert house.ask("status")["ok"]


def test_an_address_that_cannot_be_had_refuses_the_rollout(house: House) -> None:
    house.start().serve()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for address, why in ((taken, "another process listens there"), ("." * 300 + ":1", "no numeric address")):
            number = house.rollout(addresses=[house.address, address])
            assert why in house.wait_event(generation=number, state="refused")["why"]
    assert house.knock()[0] == 1


def test_an_address_goes_and_comes_back(house: House) -> None:
    house.start()
    second = free()
    house.serve(addresses=[house.address, second])
    assert house.knock(second)[0] == 1
    house.serve()
    while set(house.status()["sockets"]) != {house.address}:
        pass
    with pytest.raises(ConnectionRefusedError):
        house.knock(second)
    house.serve(addresses=[house.address, second], workers=3)
    assert house.knock(second)[0] == 3


def test_control_may_end_the_service_with_a_status(house: House) -> None:
    house.start()
    assert house.ask("stop", status=3, why="there is nothing to serve")["ok"]
    assert house.wait_end() == 3
    assert "stops (there is nothing to serve)" in house.said()


# Starts.


def test_a_second_start_is_refused_and_the_first_one_is_not_disturbed(house: House, tmp_path: Path) -> None:
    house.start().serve()
    before = house.pids()
    first = house.process
    second = house.launch()
    house.process = first
    assert second.wait(20) == 1
    assert f"an instance is already running (pid {first.pid})" in house.said()  # type: ignore[union-attr]
    assert house.pids() == before
    assert house.knock()[0] == 1
    assert (house.run_dir / "control.sock").exists()


def test_an_admin_address_of_somebody_else_ends_the_start_with_one_line(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        house.launch(admin=f"127.0.0.1:{other.getsockname()[1]}")
        assert house.wait_end() == 1
    assert "another process listens there" in house.said()
    assert "Traceback" not in house.said()
    assert not list(house.run_dir.glob("control.sock"))


def test_a_control_that_is_no_program_ends_the_start(house: House) -> None:
    house.command = ("/does/not/exist",)
    house.launch()
    assert house.wait_end() == 1
    assert "control cannot be started: No such file or directory" in house.said()


def test_the_workers_of_a_killed_supervisor_leave_and_the_next_one_takes_its_place_at_once(house: House) -> None:
    house.start().serve()
    pids = house.pids()
    house.kill()
    house.start().serve()  # while the former workers may still be on their way out
    for pid in pids.values():
        house.wait_gone(pid)
    assert house.knock()[0] == 1
    assert set(house.pids().values()).isdisjoint(pids.values())


def test_systemd_is_told_of_readiness_reloads_and_the_end(house: House, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(20)

        def wait_word(word: bytes) -> None:
            while not ear.recv(1000).startswith(word):
                pass

        house.environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        house.start()
        house.serve()
        wait_word(b"READY=1")
        wait_word(b"WATCHDOG=1")
        house.serve(probation={"duration_ns": S // 100})
        wait_word(b"RELOADING=1\nMONOTONIC_USEC=")
        wait_word(b"READY=1")
        house.ask("stop")
        wait_word(b"STOPPING=1")
        assert house.wait_end() == 0
