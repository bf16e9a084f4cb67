"""The generated pages: nothing of the tables is missing on them, and the committed ones are what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

from click.testing import CliRunner

from sentinel.cli.reference import FOLDER, PAGES, reference
from sentinel.config.reference import reference_markdown
from sentinel.config.schema import ROOT, Directive
from sentinel.core.reasons import Reason


def directives(parent: Directive) -> Iterator[Directive]:
    for child in parent.children:
        yield child
        yield from directives(child)


def test_the_committed_pages_are_current() -> None:
    stale = [name for name, page in PAGES.items() if (FOLDER / name).read_text(encoding="utf-8") != page()]
    assert stale == [], "write them: python -m sentinel.cli.reference --write"


def test_every_directive_and_property_is_on_the_page() -> None:
    page = reference_markdown()
    for directive in directives(ROOT):
        assert f"`{directive.name}`" in page
        assert directive.doc in page, directive.name
        for prop in directive.props:
            assert prop.doc in page, (directive.name, prop.name)


def test_every_reason_is_on_its_page_with_a_remedy() -> None:
    page = PAGES["reasons.md"]()
    for reason in Reason:
        assert f"`{reason.word}`" in page
        assert reason.value.remedy in page


def test_check_says_no_to_a_stale_page_and_write_mends_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = CliRunner().invoke
    assert run(reference, ["--check", "--folder", str(tmp_path)]).exit_code == 1
    assert run(reference, ["--write", "--folder", str(tmp_path)]).exit_code == 0
    assert run(reference, ["--check", "--folder", str(tmp_path)]).exit_code == 0
    (tmp_path / "reasons.md").write_text("old")
    assert run(reference, ["--check", "--folder", str(tmp_path)]).exit_code == 1
