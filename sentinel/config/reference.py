"""The reference pages, written from the tables that the program itself obeys.

Intuition: a dictionary that is printed from the words in use. What the checker
accepts stands on the page, and what stands on the page the checker accepts, since
both read the schema; and a reason that a log can name has its section here.

A test compares the pages in docs/reference with what this file returns, so neither
table can change without them (`python -m sentinel.cli.reference --write`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sentinel.config.kinds import UNITS_BYTES, UNITS_NS
from sentinel.config.schema import INCLUDE, ROOT, VERSION, Argument, Directive, Property
from sentinel.core.reasons import Reason

GENERATED: Final = "<!-- Written by `python -m sentinel.cli.reference --write`. Change the tables, not this page. -->"

PREFACE: Final = f"""\
# Configuration

{GENERATED}

A configuration is a [KDL](https://kdl.dev) 1.0 file of schema version {VERSION}. Names, arguments, properties, types,
units and references are checked strictly: what is not on this page is refused with its place and a remedy, and what is
on it has an effect. `sentinelctl check FILE` checks, `sentinelctl fmt FILE` gives a file its form, `sentinelctl schema`
prints this page for programs.

- A node ends with its line, or with `;`. Before a `}}` on the same line the `;` is needed too.
- Durations and sizes are text with a unit. Durations: {", ".join(f"`{unit}`" for unit in UNITS_NS)}. Sizes:
  {", ".join(f"`{unit}`" for unit in UNITS_BYTES)}; `KB` is 1000 octets, `KiB` is 1024.
- Any value may be taken from elsewhere: `(env)"NAME"` is a variable of the environment, `(file)"path"` the content of a
  file. Such values are never shown, in problems and dumps neither.
- A default is what holds when the directive is not written. Directives without one do nothing then.
"""

REASONS_PREFACE: Final = f"""\
# Reasons

{GENERATED}

Every decision ends in a reason. Its word stands in the access log, the metrics and the explanations of
`sentinelctl why` and `dry-run`, and in the header `x-sentinel-reason` of answers that the gateway makes itself. Words
and numbers never change their meaning, and are never used again for another one.
"""

CULPRITS: Final = {
    "none": ("Nothing went wrong", "nobody"),
    "client": ("What the client did", "the client"),
    "upstream": ("What the upstream did", "the upstream"),
    "operator": ("What the configuration says", "the configuration"),
    "gateway": ("What the gateway had to do", "the gateway"),
}
"""Culprit: the title of its reasons, and its name in a sentence."""


def reference_markdown() -> str:
    """Return the page of all directives."""
    lines = [PREFACE]
    for directive in (*ROOT.children, INCLUDE):
        lines += _section(directive, ())
    return "\n".join(lines)


def reasons_markdown() -> str:
    """Return the page of all reasons; the anchor of each is its word."""
    lines = [REASONS_PREFACE]
    for culprit, (title, name) in CULPRITS.items():
        lines += [f"## {title}", ""]
        for reason in Reason:
            if reason.value.culprit == culprit:
                lines += _reason(reason, name)
    return "\n".join(lines)


def _reason(reason: Reason, culprit: str) -> Iterator[str]:
    meaning = reason.value
    yield from (f"### `{meaning.word}`", "")
    yield f"{meaning.text[:1].upper()}{meaning.text[1:]}."
    status = f"status {meaning.status}" if meaning.status else "no status of its own"
    yield from ("", f"Number {meaning.number}, {status}, caused by {culprit}.", "")
    yield from (f"Remedy: {meaning.remedy}.", "")


# Directives.


def _section(directive: Directive, path: tuple[str, ...]) -> Iterator[str]:
    """Write a directive that has a section to itself, then those of its children that have one."""
    here = (*path, directive.name)
    yield from (f"{'#' * min(len(here) + 1, 6)} {' / '.join(f'`{name}`' for name in here)}", "")
    yield from (directive.doc, "")
    yield from (f"{_often(directive)} {_where(path)}.", "")
    if directive.args or directive.props:
        yield from _arguments(directive)
    if directive.example:
        yield from ("```kdl", directive.example, "```", "")
    leaves = [child for child in directive.children if not _has_section(child)]
    if leaves:
        yield from ("| Directive | Takes | Default | Meaning |", "|---|---|---|---|")
        for leaf in leaves:
            yield from _rows(leaf)
        yield ""
    for child in directive.children:
        if _has_section(child):
            yield from _section(child, here)


def _rows(leaf: Directive) -> Iterator[str]:
    """Write a directive without children as a row, and each of its properties as another."""
    notes = [leaf.doc]
    if leaf.is_required:
        notes.append("Required.")
    if leaf.is_repeatable:
        notes.append("May be repeated.")
    example = leaf.example or (f"{leaf.name} {leaf.default}" if leaf.default is not None else "")
    if example:
        notes.append(f"Example: `{example}`")
    takes = "; ".join(_takes(argument) for argument in leaf.args)
    yield _row(f"`{leaf.name}`", takes, _default(leaf.default), " ".join(notes))
    for prop in leaf.props:
        yield _row(f"`{leaf.name}` `{prop.name}=`", prop.kind.expects, _default(prop.default), prop.doc)


def _arguments(directive: Directive) -> Iterator[str]:
    yield from ("| Argument or property | Takes | Default | Meaning |", "|---|---|---|---|")
    for argument in directive.args:
        meaning = f"Names it; no two of the same {argument.name}." if argument.name == directive.key else ""
        yield _row(f"`{argument.name}`", _takes(argument), _default(directive.default), meaning)
    for prop in directive.props:
        yield _row(f"`{prop.name}=`", _property_takes(prop), _default(prop.default), prop.doc)
    yield ""


def _takes(argument: Argument) -> str:
    expects = argument.kind.expects
    if argument.is_list:
        return f"any number, each {expects}" if argument.is_optional else f"one or more, each {expects}"
    return f"{expects} (may be left out)" if argument.is_optional else expects


def _property_takes(prop: Property) -> str:
    return prop.kind.expects


def _default(default: str | None) -> str:
    return "" if default is None else f"`{default}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _often(directive: Directive) -> str:
    least = "at least once" if directive.is_repeatable else "once"
    if directive.is_required:
        return f"Must stand {least}"
    if directive.is_repeatable:
        return "May stand any number of times"
    return "May stand several times, and is read as one," if directive.is_table else "May stand once"


def _where(path: tuple[str, ...]) -> str:
    return f"in `{path[-1]}`" if path else "at the top of the file"


def _has_section(directive: Directive) -> bool:
    return bool(directive.children)
