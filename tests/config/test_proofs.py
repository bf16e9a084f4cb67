"""What `check` proves: transcripts of a configuration and, below `----`, all warnings and notes.

After a change of words: `python -m tests.config.test_proofs` writes them anew; read the difference.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.config import load_text, render_problems
from sentinel.config.reach import unreached
from sentinel.core.plan import Condition, Match, Plan, Respond, Route
from sentinel.core.routes import compile_routes
from sentinel.explain.diff import Early
from sentinel.explain.generate import Generated
from tests.core.build import plan
from tests.property.test_routes import REQUESTS, plans

DIALOGUES = sorted((Path(__file__).parent / "proofs").glob("*.txt"))
BORDER = "----\n"


def answer(path: Path, text: str) -> str:
    loaded = load_text(text, f"{path.stem}.kdl", now_s=0, is_proving=True)
    assert not loaded.problems, render_problems(loaded.problems)
    found = [replace(one, message=f"warning: {one.message}") for one in loaded.warnings]
    found += [replace(one, message=f"note: {one.message}") for one in loaded.notes]
    return render_problems(found) + "\n"


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_what_is_proved_is_told_with_its_place_and_remedy(path: Path) -> None:
    text, _, expected = path.read_text().partition(BORDER)
    assert answer(path, text) == expected


def test_a_reload_proves_nothing_and_takes_no_longer() -> None:
    text, _, _ = DIALOGUES[0].read_text().partition(BORDER)
    loaded = load_text(text, now_s=0)
    assert not loaded.notes and not any("never" in one.message for one in loaded.warnings)


def named(whole: Plan) -> set[str]:
    return {one.message.split('"')[1] for one in unreached(whole) if one.message.startswith("route")}


@settings(max_examples=200, deadline=None)
@given(plans(), st.lists(REQUESTS, min_size=10, max_size=10))
def test_a_route_that_is_called_unreachable_never_wins(whole: Plan, requests) -> None:  # type: ignore[no-untyped-def]
    lost = named(whole)
    if not lost:
        return
    table = compile_routes(whole)
    generated = [case.before for case in Generated(table, table).cases()]
    for asked in [*requests, *generated]:
        if isinstance(asked, Early) or "//" in asked.path:
            continue  # a listener would not hand it on like this
        found = table.find(asked)
        assert found is None or found.route.name not in lost, (found.route.name, asked.path)


def test_thousands_of_routes_are_looked_at_in_seconds() -> None:
    places = [((f"/s{n % 1500}/a",), (Condition("header", f"x{n // 1500 % 2}"),)) for n in range(4000)]
    routes = [
        Route(f"r{n}", (Match(path_prefixes=prefixes, conditions=conditions),), n, respond=Respond(200))
        for n, (prefixes, conditions) in enumerate(places)
    ]
    before = time.process_time()
    lost = named(plan(*routes))
    assert time.process_time() - before < 5
    assert len(lost) == 1000, "each of the first 3000 has its own path or header; the others repeat one"


if __name__ == "__main__":
    for one in DIALOGUES:
        said, _, _ = one.read_text().partition(BORDER)
        one.write_text(said + BORDER + answer(one, said))
