"""Replays: what is asked otherwise than was recorded is another decision, and is said so."""

from __future__ import annotations

import pytest

from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.routes import compile_routes
from sentinel.core.trace import Trace
from sentinel.explain.assumed import Assumed
from sentinel.explain.replay import Diverged, Recorder, Replay, encode
from tests.core.build import match, plan, request, route

PLAN = plan(route("a", match(prefixes=("/a",))), route("b", match(prefixes=("/b",)), order=1))


def test_the_transcript_reads_as_a_conversation() -> None:
    recorder = Recorder(Assumed(PLAN))
    run(decide(compile_routes(PLAN), request("/a"), recorder, Trace()))
    assert encode(recorder.lines) == b'["choose-endpoint",["api",[],"","",0,"",0],["10.0.0.1:9001",null,[]]]\n'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "recorded is nothing more"),
        ([["chance", [], 7]], "recorded is `chance`"),
        (
            [["choose-endpoint", ["other", [], "", "", 0, "", 0], ["10.0.0.1:9001", None, []]]],
            "recorded is `choose-endpoint`",
        ),
    ],
)
def test_another_question_diverges(lines: list[list[object]], said: str) -> None:
    with pytest.raises(Diverged, match=said):
        run(decide(compile_routes(PLAN), request("/a"), Replay(PLAN, lines), Trace()))


def test_what_was_recorded_and_is_not_asked_diverges() -> None:
    replay = Replay(PLAN, [["chance", [], 7]])
    with pytest.raises(Diverged, match="`chance` was recorded, and is not asked"):
        replay.finish()
