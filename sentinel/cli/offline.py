"""The verbs on files: check, fmt, migrate, schema. No fleet is asked, and none is needed.

Every verb takes its files one by one, tells about all of them, and ends with the
worst: 2 when one cannot be read, 1 when the answer for one is no, else 0. What was
asked for goes to standard output (for `check` that is the problems), what the
operator should know besides to standard error.

Files are written whole or not at all (sentinel.cli.files), and only when they change.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click

from sentinel.cli.files import STANDARD_INPUT, Refused, Unreadable, difference, read_text, require_readable, write_text
from sentinel.config import Loaded, Problem, load, load_text, render_problems, schema_json
from sentinel.config.fmt import fmt as formatted
from sentinel.config.migrate import VERSIONS, Migrated
from sentinel.config.migrate import migrate as migrated

YES, NO, UNREADABLE = 0, 1, 2

Verb = Callable[..., int]
Result = TypeVar("Result")


def offline_verb(function: Verb) -> Callable[..., Any]:
    """Give a verb `--json`, the exit status that it returns, and one way to fail."""

    @click.option("--json", "is_json", is_flag=True, help="Print for programs.")
    @functools.wraps(function)
    def wrapped(**arguments: Any) -> None:
        try:
            status = function(**arguments)
        except Unreadable as fault:
            complain(str(fault))
            status = UNREADABLE
        sys.exit(status)

    return wrapped


def complain(text: str) -> None:
    click.echo(f"sentinelctl: {text}", err=True)


def warn(problems: Sequence[Problem], word: str = "warning") -> None:
    """Tell what stops nobody, on standard error."""
    if problems:
        titled = [replace(problem, message=f"{word}: {problem.message}") for problem in problems]
        click.echo(render_problems(titled), err=True)


def problem_document(problem: Problem) -> dict[str, Any]:
    span = problem.span
    return {
        "file": span.file, "line": span.line, "column": span.column,
        "message": problem.message, "remedy": problem.remedy,
    }  # fmt: skip


def load_readable(path: str, *, is_proving: bool = False) -> Loaded:
    """Load a configuration; raises Unreadable when its own file cannot be read (not when one that it names cannot)."""
    if path == STANDARD_INPUT:
        return load_text(read_text(path), "<stdin>", is_proving=is_proving)
    require_readable(path)
    return load(path, is_proving=is_proving)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--strict", "is_strict", is_flag=True, help="A warning is a no, too: end with 1.")
@offline_verb
def check(files: tuple[str, ...], is_json: bool, is_strict: bool) -> int:
    """Check configurations: all problems, each with its place and the remedy.

    Each FILE is a main file; what it includes is checked with it. `-` is standard input. Warnings are proved: routes
    that nothing reaches, limits that refuse nothing, doors that are open to everybody. Notes are worth knowing.
    """
    status = YES
    found: list[Problem] = []
    warnings: list[Problem] = []  # that count
    for path in files:
        try:
            loaded = load_readable(path, is_proving=True)
        except Unreadable as fault:
            complain(str(fault))
            status = UNREADABLE
            continue
        warn(loaded.notes, "note")
        warn(loaded.warnings)
        found += loaded.problems
        warnings += loaded.warnings if is_strict else ()
        if loaded.problems and not is_json:
            click.echo(render_problems(loaded.problems))
        elif loaded.plan is not None and not is_json:
            click.echo(f"{path}: valid ({_extent(loaded)})")
    if is_json:
        documents = [problem_document(problem) | {"severity": "error"} for problem in found]
        _print_json(documents + [problem_document(problem) | {"severity": "warning"} for problem in warnings])
    return max(status, NO if found or warnings else YES)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--check", "is_check", is_flag=True, help="Write nothing; end with 1 when a file is not in its form.")
@click.option("--diff", "is_diff", is_flag=True, help="Write nothing; print what would change.")
@click.option("--stdout", "is_stdout", is_flag=True, help="Write nothing; print the text in its form.")
@offline_verb
def fmt(files: tuple[str, ...], is_check: bool, is_diff: bool, is_stdout: bool, is_json: bool) -> int:
    """Give configurations their one form. Comments stay, and so does the meaning.

    Files are changed in place, unless --check, --diff or --stdout is given. `-` is standard input, and is printed.
    """
    if is_diff + is_stdout + is_json > 1:
        raise click.UsageError("--diff, --stdout and --json are ways to print: choose one")

    def one(path: str) -> tuple[int, dict[str, Any]]:
        before = read_text(path)
        after = _done(formatted(before, path))
        is_changed = before != after
        if is_diff:
            click.echo(difference(path, before, after), nl=False)
        elif is_stdout or (path == STANDARD_INPUT and not is_json and not is_check):
            click.echo(after, nl=False)
        elif is_changed:
            is_written = not is_check and path != STANDARD_INPUT
            if is_written:
                write_text(path, after)
            if not is_json:
                click.echo(f"{path}: {'formatted' if is_written else 'not in its form'}")
        return NO if is_check and is_changed else YES, {"file": path, "changed": is_changed, "problem": None}

    return _each(files, one, is_json)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--write", "is_written", is_flag=True, help="Change the files in place.")
@click.option("--diff", "is_diff", is_flag=True, help="Print what changes instead of the text.")
@click.option("--from", "source", metavar="VERSION", type=click.Choice(VERSIONS), default=None,
              help="The version of files that name none (those that are included).")  # fmt: skip
@offline_verb
def migrate(files: tuple[str, ...], is_written: bool, is_diff: bool, source: str | None, is_json: bool) -> int:
    """Carry configurations over to the present schema version. Comments stay.

    Without --write the files stay as they are, and the new text is printed. `-` is standard input.
    """
    if is_diff and is_json:
        raise click.UsageError("--diff and --json are ways to print: choose one")
    if len(files) > 1 and not (is_written or is_diff or is_json):
        raise click.UsageError("the text of one FILE can be printed; for several say --write or --diff")

    def one(path: str) -> tuple[int, dict[str, Any]]:
        before = read_text(path)
        result = _done(migrated(before, path, source or ""))
        if is_diff:
            click.echo(difference(path, before, result.text), nl=False)
        elif not is_written and not is_json:
            click.echo(result.text, nl=False)
        if is_written and result.changes and path != STANDARD_INPUT:
            write_text(path, result.text)
        if not is_json:
            done = f"{len(result.changes)} changes, {result.source} to {result.target}"
            click.echo(f"{path}: {done if result.changes else f'is {result.target} already'}", err=True)
        return YES, _migrated_document(path, result)

    return _each(files, one, is_json)


@click.command()
@offline_verb
def schema(is_json: bool) -> int:
    """Print all directives there are, as JSON (with --json the same)."""
    _print_json(schema_json())
    return YES


COMMANDS: list[click.Command] = [check, fmt, migrate, schema]


def _each(files: Sequence[str], one: Callable[[str], tuple[int, dict[str, Any]]], is_json: bool) -> int:
    """Do something with each file; the worst status is that of all."""
    worst = YES
    documents: list[dict[str, Any]] = []
    for path in files:
        try:
            status, document = one(path)
            documents.append(document)
        except Refused as fault:
            click.echo(render_problems([fault.problem]), err=True)
            documents.append({"file": path, "changed": False, "problem": problem_document(fault.problem)})
            status = NO
        except Unreadable as fault:
            complain(str(fault))
            status = UNREADABLE
        worst = max(worst, status)
    if is_json:
        _print_json(documents)
    return worst


def _done(result: Result | Problem) -> Result:
    """What came of a file's text; raises Refused when it is a problem."""
    if isinstance(result, Problem):
        raise Refused(result)
    return result


def _migrated_document(path: str, result: Migrated) -> dict[str, Any]:
    changes = [{"line": change.line, "before": change.before, "after": change.after} for change in result.changes]
    return {
        "file": path, "changed": bool(changes), "problem": None, "source": result.source, "target": result.target,
        "changes": changes, "text": result.text,
    }  # fmt: skip


def _extent(loaded: Loaded) -> str:
    """What a valid configuration amounts to, in a few words."""
    assert loaded.plan is not None, "only of a plan that there is"
    parts = {"listener": loaded.plan.listeners, "route": loaded.plan.routes, "upstream": loaded.plan.upstreams}
    return ", ".join(f"{len(things)} {word}{'' if len(things) == 1 else 's'}" for word, things in parts.items())


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
