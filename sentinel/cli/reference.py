"""Write the generated reference pages, or say which are out of date (`python -m sentinel.cli.reference`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from sentinel.config.reference import reasons_markdown, reference_markdown

PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": reference_markdown,
    "reasons.md": reasons_markdown,
}
FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"
STALE: Final = 1


@click.command()
@click.option("--write", "is_written", is_flag=True, help="Write the pages that are out of date.")
@click.option("--check", "is_checked", is_flag=True, help="Write nothing; end with 1 when a page is out of date.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, help="Where the pages are.")
def reference(is_written: bool, is_checked: bool, folder: Path) -> None:
    """Keep the generated reference pages up to date."""
    if is_written == is_checked:
        raise click.UsageError("say either --write or --check")
    stale = [name for name, page in PAGES.items() if not _is_current(folder / name, page())]
    for name in stale:
        if is_written:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(PAGES[name](), encoding="utf-8")
        click.echo(f"{folder / name}: {'written' if is_written else 'out of date, write it with --write'}")
    sys.exit(STALE if stale and is_checked else 0)


def _is_current(path: Path, page: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == page


if __name__ == "__main__":
    reference()
