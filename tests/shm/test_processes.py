"""One region, several processes: control attaches by name, workers inherit through fork, the dead are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sentinel.core.machines.worker import Order, WorkerState
from shm.birth import birth_ns
from shm.heritage import Heritage
from shm.region import Counter, Region, Role

ROOT = Path(__file__).resolve().parents[2]
CONTROL = """
import json, sys
from shm.region import Counter, Region
region = Region.attach(sys.argv[1])
series = region.series_index("from-control")
totals = region.totals()
print(json.dumps({"series": series, "generation": region.generation(), "slots": [slot.pid for slot in region.slots()],
                  "accepted": totals.counters[Counter.ACCEPTED], "requests": totals.series[0].requests,
                  "journal": [record.decode() for record in region.journal_read()]}))
"""


def claim(region: Region, generation: int = 1) -> int:
    return region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=generation, lane=0)


def in_child(work: Callable[[], object]) -> int:
    """Fork; the child does the work and ends without any of the parent's cleaning up."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_control_attaches_from_its_own_interpreter(region: Region) -> None:
    slot = claim(region)
    region.set_pid(slot, os.getpid())
    region.record(slot, 0, 200, 0, 1, 2, 3)
    region.add(slot, Counter.ACCEPTED, 7)
    region.journal_write(slot, b"seen")
    region.publish(5)
    command = [sys.executable, "-c", CONTROL, region.name]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(answer) == {
        "series": 2, "generation": 5, "slots": [os.getpid()], "accepted": 7, "requests": 1, "journal": ["seen"],
    }  # fmt: skip
    assert region.series_names() == ["(none)", "(other)", "from-control"]


def test_a_worker_inherits_the_mapping_though_it_closes_every_descriptor(region: Region) -> None:
    slot = claim(region)

    def work() -> None:
        os.closerange(3, 4096)
        region.set_state(slot, WorkerState.SERVING)
        region.record(slot, 0, 502, 40, 1, 2, 3)
        region.beat(slot, 99, 1, 1)
        region.journal_write(slot, b"from the worker")

    pid = in_child(work)
    region.set_pid(slot, pid)
    assert ended(pid) == 0
    assert region.slot(slot).state is WorkerState.SERVING and region.slot(slot).heartbeat_ns == 99
    assert region.generation_totals(1) == (1, 1)
    region.reap_slot(slot)
    assert region.totals().series[0].classes[5] == 1
    assert list(region.journal_read()) == [b"from the worker"]


def test_closing_in_a_worker_closes_nobody_elses_descriptor(region: Region) -> None:
    """Where a mapping keeps a descriptor, its number is by now another one's."""

    def work() -> None:
        os.closerange(3, 4096)
        ours = [os.open("/dev/null", os.O_RDONLY) for _ in range(16)]
        region.close()
        for fd in ours:
            os.fstat(fd)

    assert ended(in_child(work)) == 0
    assert region.totals().series[0].requests == 0


def test_an_order_reaches_a_worker_through_the_leash(region: Region) -> None:
    slot = claim(region)
    ours, theirs = os.pipe()
    leash, wake = os.pipe()

    def work() -> None:
        os.close(wake)
        while os.read(leash, 1):
            order, deadline_ns = region.order(slot)
            os.write(theirs, b"%d %d\n" % (order, deadline_ns))

    pid = in_child(work)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answers:
        for order, deadline_ns in ((Order.SERVE, 0), (Order.DRAIN, 123_456_789)):
            region.set_order(slot, order, deadline_ns)
            os.write(wake, b"!")
            assert answers.readline() == b"%d %d\n" % (order, deadline_ns)
        os.close(wake)
        os.close(leash)
    assert ended(pid) == 0


def test_a_killed_workers_counts_are_kept_and_its_birth_tells_it_from_a_successor(region: Region) -> None:
    slot = claim(region)
    ready, told = os.pipe()

    def work() -> None:
        region.record(slot, 0, 200, 0, 1, 2, 3)
        os.write(told, b"!")
        signal.pause()

    pid = in_child(work)
    os.read(ready, 1)
    region.set_pid(slot, pid)
    assert region.slot(slot).birth_ns == birth_ns(pid) != 0
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    assert birth_ns(pid) is None
    region.reap_slot(slot)
    assert region.totals().series[0].requests == 1 and region.slots() == []
    os.close(ready)
    os.close(told)


def test_a_region_outlives_its_name_and_its_creator() -> None:
    """A worker that drains after the supervisor's death counts on; the next supervisor starts beside it."""
    name = f"/sentinel-test-{os.getpid()}-outlive"

    def first_supervisor() -> None:
        region = Region.create(name, series_max=4, slots_max=3, journal_records=2)
        slot = claim(region)
        told, tell = os.pipe()
        if os.fork() == 0:
            os.read(leash, 1)
            region.record(slot, 0, 200, 0, 1, 2, 3)
            os.write(answer, b"%d" % region.totals().series[0].requests)
            os._exit(0)
        os.close(told)
        os.close(tell)

    leash, wake = os.pipe()
    listen, answer = os.pipe()
    assert ended(in_child(first_supervisor)) == 0
    second = Region.create(name, series_max=4, slots_max=3, journal_records=2)
    try:
        os.write(wake, b"!")
        assert os.read(listen, 10) == b"1"
        assert second.totals().series[0].requests == 0
    finally:
        second.unlink()
        second.close()
        for fd in (leash, wake, listen, answer):
            os.close(fd)


def test_heritage_lists_every_descriptor(region: Region) -> None:
    heritage = Heritage(
        region=region, slot=0, lane=0, generation=1, plan_path="plan.json", fingerprint="00",
        sockets={"127.0.0.1:80": (5, 7), "127.0.0.1:81": (6,)}, leash_fd=9, cpu=None,
    )  # fmt: skip
    assert heritage.descriptors() == {5, 6, 7, 9}
