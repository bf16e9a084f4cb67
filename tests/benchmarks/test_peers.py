"""The race is run once, shortly: figures are not judged here, their shape is."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from benchmarks.peers import plot, race, wrk
from benchmarks.peers.__main__ import main
from benchmarks.peers.race import Course, Lap
from benchmarks.peers.site import Missing, find_tool, pick_cores


def _is_possible() -> bool:
    try:
        pick_cores()
        return bool(find_tool("wrk", "", None) and find_tool("nginx", "", None))
    except Missing:
        return False


needs_tools = pytest.mark.skipif(not _is_possible(), reason="needs wrk, nginx and two cores")


class Paper:
    """A peer that exists on paper."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1"
        self.port = 0
        self.log: Path | None = None

    def start(self) -> None: ...

    def pids(self) -> tuple[int, ...]:
        return ()


def lap(cpu_us: float, logged: float | None = 1.0, **failures: int) -> Lap:
    return Lap(cpu_us, cpu_us / 4, cpu_us * 3 / 4, 1000, 5000.0, 0.9, 900, 2000, 1024, logged, failures)


def course(name: str, *laps: Lap) -> Course:
    return Course(Paper(name), Path(), laps=list(laps))


def test_ratios_are_paired_by_round() -> None:
    quiet_then_noisy = course("nginx", lap(10), lap(20), lap(30))
    document = course("slow", lap(20), lap(40), lap(90)).document(quiet_then_noisy)
    assert document["ratio"] == {"to": "nginx", "median": 2.0, "rounds": [2.0, 2.0, 3.0]}
    assert document["median"]["cpu_us"] == 40


def test_one_failed_request_disqualifies() -> None:
    assert course("good", lap(10), lap(10)).disqualified() == []
    assert course("bad", lap(10), lap(10, status=1)).disqualified() == ["round 2: failed requests (1 status)"]
    assert "log" in course("lossy", lap(10, 0.5)).disqualified()[0]
    assert course("unlogged", lap(10, None)).disqualified() == []


def test_what_wrk_saw_is_failure_or_not() -> None:
    assert wrk.Load(10, 1, 1, 1, 0, 0, 0, 0, 0).failures == {}
    assert wrk.Load(10, 1, 1, 1, 2, 0, 3, 0, 0).failures == {"status": 2, "read": 3}


def test_the_drawing_is_well_formed_and_names_everybody() -> None:
    courses = [course("nginx", lap(10)), course("<odd>", lap(14)), course("broken", lap(1, status=1))]
    document = {
        "mode": "passthrough", "reference": "nginx", "connections": 64, "rounds": 1,
        "machine": {"cpu": "a & b", "kernel": "6", "taken_at": "2026-01-01T00:00:00"},
        "peers": [each.document(courses[0]) for each in courses],
    }  # fmt: skip
    words = " ".join(xml.fromstring(plot.draw(document)).itertext())
    assert all(word in words for word in ("nginx", "<odd>", "disqualified", "1.5 × nginx", "a & b"))


@needs_tools
def test_an_idle_connection_has_a_price(tmp_path: Path) -> None:
    out = tmp_path / "idle.json"
    assert main(["--idle", "20,50", "--only", "nginx", "--json", str(out)]) == 0
    [peer] = json.loads(out.read_text())["peers"]
    assert [step["connections"] for step in peer["steps"]] == [20, 50]


@needs_tools
@pytest.mark.slow
def test_the_race_is_run(tmp_path: Path) -> None:
    out, drawing = tmp_path / "out.json", tmp_path / "out.svg"
    names = ["sentinel", "nginx", "relay"]
    main([
        "--rounds", "1", "--seconds", "0.5", "--only", ",".join(names), "--json", str(out), "--plot", str(drawing),
    ])  # fmt: skip
    document = json.loads(out.read_text())
    assert [peer["name"] for peer in document["peers"]] == names, document["skipped"]
    assert document["format"] == 1 and document["mode"] == "passthrough" and not document["skipped"]
    assert {"cpu", "kernel", "python", "wrk", "upstream", "taken_at"} <= document["machine"].keys()
    for peer in document["peers"]:
        assert peer["ratio"]["to"] == "nginx"
        assert peer["median"].keys() < race.Lap.__annotations__.keys()
        [only] = peer["rounds"]
        assert only["requests"] > 0 and only["cpu_us"] > 0 and only["failures"] == {}
    assert drawing.read_text().startswith("<svg")
