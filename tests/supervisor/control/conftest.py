"""Stages for the tests of control; what a test starts is ended whatever it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.control.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Not started: the test may still write another configuration, or tell the supervisor what to do."""
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One that serves, shared by the tests of a module: they leave it as they found it."""
    stage = Stage(tmp_path_factory.mktemp("stage"))
    try:
        yield stage.serving()
    finally:
        stage.close()
