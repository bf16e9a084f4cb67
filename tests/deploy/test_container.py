"""The container file: what can be known of it without building it."""

from __future__ import annotations

import re

import pytest

from tests.system.fleet import ROOT

LINES = (ROOT / "deploy" / "container" / "Containerfile").read_text().replace("\\\n", " ").splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def test_the_compiler_stays_in_the_first_stage() -> None:
    last = max(index for index, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
    assert len(all_of("FROM")) == 2
    assert any("gcc" in rest for _, rest in INSTRUCTIONS[:last])
    assert not any("gcc" in rest for _, rest in INSTRUCTIONS[last:])


def test_it_does_not_run_as_root() -> None:
    (user,) = all_of("USER")
    assert user.isdigit() and int(user) > 0
    assert any(f"--uid {user}" in rest for rest in all_of("RUN"))


def test_its_health_is_asked_of_control() -> None:
    (check,) = all_of("HEALTHCHECK")
    assert '["sentinelctl", "status"]' in check


def test_it_is_stopped_by_the_signal_that_drains() -> None:
    assert all_of("STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("copy", [rest for rest in all_of("COPY") if not rest.startswith("--from")])
def test_what_is_copied_exists(copy: str) -> None:
    *sources, _ = copy.split()
    for source in sources:
        assert (ROOT / source).exists(), source


def test_everything_that_is_installed_is_pinned() -> None:
    (install,) = (rest for rest in all_of("RUN") if "pip install" in rest)
    assert re.search(r"--constraint constraints\.txt", install)
