"""Rosters: what one writes others read, whole or not at all."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from sentinel.core.balance import levels
from shm import places
from shm.faults import RegionFault
from shm.layout import ROSTER, WORD
from shm.rosters import ROOM, UNKNOWN, Roster, Rosters
from tests.shm.implementations import IMPLEMENTATIONS, SMALL, open_on

Made = tuple[Rosters, memoryview]


@pytest.fixture(params=IMPLEMENTATIONS)
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    memory = memoryview(bytearray(SMALL.size_bytes))
    yield Rosters(open_on(request.param, memory), SMALL, memory, lambda at, size: None), memory


def test_what_is_told_is_read_and_only_what_is_new_is_written(made: Made) -> None:
    rosters, _ = made
    assert rosters.read(1) == UNKNOWN and not rosters.word(1)
    assert rosters.tell(1, ["llama", "qwen"])
    word = rosters.word(1)
    assert rosters.read(1) == Roster(("llama", "qwen"), True, True)
    assert not rosters.tell(1, ["llama", "qwen"]) and rosters.word(1) == word
    assert rosters.tell(1, []), "it serves nothing now"
    assert rosters.read(1) == Roster((), True, True)
    assert rosters.read(0) == UNKNOWN == rosters.read(2), "others' are their own"


def test_what_does_not_fit_or_is_no_name_is_left_off_and_that_is_known(made: Made) -> None:
    rosters, _ = made
    rosters.tell(0, [f"model-{number:04}" for number in range(1000)])
    found = rosters.read(0)
    assert not found.is_whole and found.names == tuple(f"model-{number:04}" for number in range(len(found.names)))
    assert len("\n".join(found.names)) <= ROOM < len("\n".join(found.names)) + 11
    for bad in ("two\nlines", "x" * 257, "", "bell\a"):
        rosters.tell(0, ["good", bad])
        assert rosters.read(0) == Roster(("good",), True, False), bad
    rosters.tell(0, ["good", "good"])
    assert rosters.read(0) == Roster(("good",), True, True)
    rosters.tell(0, ["é" * 200], is_whole=False)
    assert rosters.read(0) == Roster(("é" * 200,), True, False)


def test_a_sheet_that_is_half_written_is_none(made: Made) -> None:
    rosters, memory = made
    rosters.tell(3, ["llama", "qwen"])
    at = SMALL.roster(3)
    memory[at + WORD : at + WORD + 3] = b"xyz"
    assert rosters.read(3) == UNKNOWN
    dice = random.Random(3)
    for _ in range(200):  # whatever lies there, nobody falls over it
        memory[at : at + ROSTER.size] = dice.randbytes(ROSTER.size)
        assert rosters.read(3) == UNKNOWN
    assert rosters.tell(3, ["llama"]) and rosters.read(3).names == ("llama",), "and who leads mends it"


def test_where_there_is_no_memory_nothing_is_told(made: Made) -> None:
    def nothing_left(at: int, size: int) -> None:
        raise RegionFault("no room", culprit="the machine", place="here", remedy="more memory")

    _, memory = made
    rosters = Rosters(open_on("twin", memory), SMALL, memory, nothing_left)
    assert not rosters.tell(2, ["llama"]) and rosters.read(2) == UNKNOWN


def test_standings_are_numbered_alike_on_both_sides() -> None:
    assert (places.USABLE, places.DRAIN, places.MAINTENANCE, places.UNHEALTHY, places.EJECTED, places.OPEN) == (
        levels.USABLE, levels.DRAIN, levels.MAINTENANCE, levels.UNHEALTHY, levels.EJECTED, levels.OPEN
    )  # fmt: skip
    assert places.WARMING == levels.WARMING and len(levels.STANDING_WORDS) == levels.NO_MODEL + 1
