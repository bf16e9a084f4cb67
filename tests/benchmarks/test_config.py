"""The benchmark of configurations runs, and its configurations are valid."""

from __future__ import annotations

from pathlib import Path

from benchmarks.config import STEPS, steps, text
from sentinel.config import load_text


def test_every_step_is_timed(tmp_path: Path) -> None:
    path = tmp_path / "sentinel.kdl"
    path.write_text(text(20))
    assert len(steps(path)) == len(STEPS)


def test_it_has_as_many_routes_as_it_says() -> None:
    plan = load_text(text(25)).plan
    assert plan is not None
    assert len(plan.routes) == 25
    assert len(plan.upstreams) == 3
