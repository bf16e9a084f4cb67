"""The README is true: its configuration is the example, its commands work, and its outputs look as shown."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sentinel.cli.dev import EXAMPLE
from sentinel.config import load_text
from sentinel.config.fmt import fmt
from tests.docs.pages import Block, blocks
from tests.docs.shop import Shop, open_shop
from tests.system.fleet import ROOT

README = ROOT / "README.md"
COMMANDS = [
    pytest.param(command, id=f"{block.place} {command.split()[0]}")
    for block in blocks(README, "sh")
    for command in block.commands
]
OUTPUTS = [
    pytest.param((command, output), id=output.place)
    for command, output in pairwise(blocks(README))
    if (command.language, output.language) == ("sh", "text")
]
"""A block of commands, and right after it what the last one prints."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    (config,) = blocks(README, "kdl")
    with open_shop(tmp_path_factory.mktemp("readme"), config.text) as shop:
        yield shop


def test_the_configuration_is_the_example_and_valid() -> None:
    (config,) = blocks(README, "kdl")
    assert config.text + "\n" == EXAMPLE, "README.md and sentinel/cli/dev.py show the same"
    assert fmt(EXAMPLE, "dev.kdl") == EXAMPLE
    assert not load_text(EXAMPLE).problems
    assert len(EXAMPLE.splitlines()) <= 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(shop: Shop, command: str) -> None:
    if command.startswith("make "):
        done = subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True)
    else:
        done = shop.run(command.replace("curl ", "curl -sSf "))
    assert done.returncode == 0, done.stdout + done.stderr + shop.printed()
    assert done.stdout


@pytest.mark.parametrize("shown", OUTPUTS)
def test_every_output_looks_as_shown(shop: Shop, shown: tuple[Block, Block]) -> None:
    command, output = shown
    last = command.commands[-1].replace("curl ", "curl -sSf ")
    printed = shop.with_names(shop.run(last).stdout)
    assert shape(printed) == shape(output.text)


def shape(text: str) -> list[str]:
    """Lines without what differs from run to run: ids, numbers, the width of columns, which worker was asked."""
    text = re.sub(r"\b[0-9a-f]{30,32}\b", "0", text).replace("over a kept connection", "over a new connection")
    return [re.sub(r"\d+", "0", " ".join(line.split())) for line in text.strip().splitlines()]


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) < 130
