"""Control's heritage: what one side writes the other reads, and what is missing is named."""

from __future__ import annotations

import os

import pytest

from supervisor.control.environment import ControlEnvironment, EnvironmentFault


def environment() -> ControlEnvironment:
    return ControlEnvironment(
        channel_fd=0, admin_fd=1, socket_fd=2, admin_address="127.0.0.1:9901", config="/etc/sentinel.kdl",
        region="/sentinel-test", run_dir="/run/sentinel",
    )  # fmt: skip


def test_what_the_supervisor_writes_control_reads() -> None:
    written = environment()
    assert ControlEnvironment.from_environ(written.to_environ() | {"PATH": "/bin"}) == written
    assert written.descriptors() == (0, 1, 2)


@pytest.mark.parametrize("name", environment().to_environ())
def test_what_is_missing_is_named(name: str) -> None:
    variables = environment().to_environ()
    del variables[name]
    with pytest.raises(EnvironmentFault, match=name):
        ControlEnvironment.from_environ(variables)


@pytest.mark.parametrize("value", ["", "-1", "x", "3.5", "٣"])
def test_a_descriptor_that_is_no_number_is_named(value: str) -> None:
    with pytest.raises(EnvironmentFault, match="SENTINEL_ADMIN_FD"):
        ControlEnvironment.from_environ(environment().to_environ() | {"SENTINEL_ADMIN_FD": value})


def test_a_descriptor_that_is_not_open_is_named() -> None:
    closed = os.dup(0)
    os.close(closed)
    with pytest.raises(EnvironmentFault, match="not open"):
        ControlEnvironment.from_environ(environment().to_environ() | {"SENTINEL_CHANNEL_FD": str(closed)})
