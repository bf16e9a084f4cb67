"""The documents as the tests read them: fenced blocks with their place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.system.fleet import ROOT


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and where it begins."""

    language: str
    text: str
    place: str

    @property
    def commands(self) -> list[str]:
        """One a line; a line that ends with a backslash goes on, and comments are none."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def pages() -> list[Path]:
    """All documents that people read."""
    return [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str = "") -> list[Block]:
    """The blocks of a page, in order; of one language if it is named."""
    found: list[Block] = []
    kept: list[str] | None = None
    opened, start = "", 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if kept is None:
            if line.startswith("```"):
                kept, opened, start = [], line[3:].strip(), number
        elif line.startswith("```"):
            found.append(Block(opened, "\n".join(kept), f"{page.relative_to(ROOT)}:{start}"))
            kept = None
        else:
            kept.append(line)
    assert kept is None, f"{page}:{start}: the block does not end"
    return [block for block in found if language in ("", block.language)]
