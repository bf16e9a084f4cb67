"""All pages: links lead somewhere, commands and options exist, configurations are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from sentinel.cli.sentinel import sentinel
from sentinel.cli.sentinelctl import sentinelctl
from sentinel.config import load_text, render_problems
from tests.docs.pages import Block, blocks, pages
from tests.system.fleet import ROOT

PROGRAMS = {"sentinel": sentinel, "sentinelctl": sentinelctl}
PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]
COMMANDS = [
    pytest.param(command, id=f"{block.place} {command}"[:90])
    for page in pages()
    for block in blocks(page, "sh")
    for command in block.commands
]
WRITTEN = ROOT / "docs" / "reference" / "configuration.md"
CONFIGURATIONS = [
    pytest.param(block, id=block.place) for page in pages() if page != WRITTEN for block in blocks(page, "kdl")
]
MISSING = {
    "listeners {": 'listeners { listener "l" { address "127.0.0.1:8080"; }; }',
    "routes {": 'routes { route "r" { matches { path "/"; }; respond 200; }; }',
}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (page.parent / path) if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_verb_and_option_exists(command: str) -> None:
    command = re.sub(r"\$\([^)]*\)", "SUBSTITUTED", command)
    words = [word for word in shlex.split(command) if "=" not in word or word.startswith("-")]
    program = Path(words[0]).name
    if program not in PROGRAMS:
        assert program in {"make", "curl"}, f"a page may use make, curl and our programs, not {program}"
        return
    group = PROGRAMS[program]
    context = click.Context(group, info_name=program)
    verb = group.get_command(context, words[1])
    assert verb is not None, f"there is no {program} {words[1]}"
    known = {name for one in verb.params for name in (*one.opts, *one.secondary_opts)}
    used = {word.partition("=")[0] for word in words[2:] if word.startswith("-") and word != "-"}
    assert used <= known, f"{program} {words[1]} has no {used - known}"


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_every_configuration_is_valid(block: Block) -> None:
    """A fragment is completed by what it leaves out; the files and variables that it names need not be there."""
    text = block.text
    if "schema-version" not in text:
        added = "\n".join(node for name, node in MISSING.items() if name not in text)
        text = f'schema-version "1.0"\n{text}\n{added}\n'
    problems = [one for one in load_text(text).problems if "cannot be read" not in one.message]
    problems = [one for one in problems if "matches no file" not in one.message]
    problems = [one for one in problems if "the environment has no variable" not in one.message]
    assert not problems, render_problems(problems)


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    coming = [ROOT / "docs" / "index.md"]
    while coming:
        page = coming.pop().resolve()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
        coming += [page.parent / target for target in targets if "://" not in target]
    assert not {page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in seen}
