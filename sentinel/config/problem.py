"""What is wrong with a configuration, said so that it can be mended without a manual.

    sentinel.kdl:12:9: `upstrem` is not known here
            upstrem "api"
            ^
        did you mean `upstream`?

A problem has a place, the operator's own line, and a remedy. All problems of all files
are reported at once: whoever mends one at a time runs the check ten times.

Rule 1: messages never contain a value that came from `(env)` or `(file)`.
Rule 2: a problem that only follows from another one is not reported; the first one is
    the one to mend.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sentinel.core.span import Span


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault. `source`: the line that `span` points into; `also`: other places that belong to it."""

    span: Span
    message: str
    remedy: str = ""
    source: str = ""
    also: tuple[tuple[Span, str], ...] = ()


class Problems:
    """Collects problems; knows the lines of all files that were read."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}  # the same one is said once
        self._lines: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def know(self, file: str, text: str) -> None:
        """Keep the text of a file, for the lines that problems point into."""
        self._lines[file] = text.split("\n")

    def add(self, span: Span, message: str, remedy: str = "", also: Iterable[tuple[Span, str]] = ()) -> None:
        self._found[Problem(span, message, remedy, self.line(span), tuple(also))] = None

    def line(self, span: Span) -> str:
        lines = self._lines.get(span.file, [])
        return lines[span.line - 1].rstrip("\r") if 0 < span.line <= len(lines) else ""

    def sorted(self) -> list[Problem]:
        return sorted(self._found, key=lambda one: (one.span, one.message))


LINE_CHARS_MAX = 160
"""A longer line is shown in part: the caret must stay in sight."""


def render_problems(problems: Iterable[Problem]) -> str:
    """All problems as text, each with line, caret and remedy."""
    return "\n".join(_render(problem) for problem in problems)


def _render(problem: Problem) -> str:
    lines = [f"{problem.span}: {problem.message}"]
    if problem.source:
        shown, column = _window(problem.source, problem.span.column)
        lines += [f"    {shown}", f"    {_blank(shown, column)}^"]
    lines += [f"    {span}: {text}" for span, text in problem.also]
    if problem.remedy:
        lines.append(f"    {problem.remedy}")
    return "\n".join(lines)


def _window(source: str, column: int) -> tuple[str, int]:
    """The part of a long line round the column, without anything that a terminal would obey."""
    start = max(0, min(column - LINE_CHARS_MAX // 2, len(source) - LINE_CHARS_MAX))
    part = source[start : start + LINE_CHARS_MAX]
    return "".join(one if one.isprintable() or one == "\t" else "?" for one in part), column - start


def _blank(shown: str, column: int) -> str:
    """As wide as what precedes the column; tabs stay tabs."""
    return "".join("\t" if one == "\t" else " " for one in shown[: column - 1])
