"""What an operator is told: transcripts of a configuration and, below `----`, every word of the answer.

After a change of words: `python -m tests.config.test_check` writes them anew; read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.config import load_text, render_problems

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))
BORDER = "----\n"


def answer(path: Path, text: str) -> str:
    loaded = load_text(text, f"{path.stem}.kdl", now_s=0)
    assert (loaded.plan is None) == bool(loaded.problems)
    return render_problems(loaded.problems + loaded.warnings) + "\n"


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_every_mistake_is_told_with_its_place_and_remedy(path: Path) -> None:
    text, _, expected = path.read_text().partition(BORDER)
    assert answer(path, text) == expected


if __name__ == "__main__":
    for one in DIALOGUES:
        said, _, _ = one.read_text().partition(BORDER)
        one.write_text(said + BORDER + answer(one, said))
