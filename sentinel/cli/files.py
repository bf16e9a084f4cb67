"""Files that a verb reads, and writes back: whole or not at all.

Whoever reads a configuration while it is written (a reload at that very moment) sees the
old text or the new one. The new file takes the place, the mode and, where that
is allowed, the owner of the old; a link stays a link to it.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from difflib import unified_diff
from typing import Final

from sentinel.config import Problem
from sentinel.core.span import Span

STANDARD_INPUT: Final = "-"


class Unreadable(Exception):
    """A file that cannot be read or written; the text is for the operator."""


class Refused(Exception):
    """A file was read, and cannot be worked on; the problem says why and where."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_text(path: str) -> str:
    """Read a configuration as it is, line ends included; raises Unreadable, and Refused when it is not UTF-8."""
    try:
        data = sys.stdin.buffer.read() if path == STANDARD_INPUT else _read(path)
    except OSError as fault:
        raise Unreadable(f"{path}: {fault.strerror or fault}") from fault
    try:
        return data.decode()
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        before = data[data.rfind(b"\n", 0, fault.start) + 1 : fault.start].decode()
        span = Span(path, line, len(before) + 1)
        raise Refused(Problem(span, "this is not UTF-8 text", "save the file as UTF-8")) from fault


def require_readable(path: str) -> None:
    """Raise Unreadable for a file that cannot be read."""
    try:
        with open(path, "rb"):
            pass
    except OSError as fault:
        raise Unreadable(f"{path}: {fault.strerror or fault}") from fault


def write_text(path: str, text: str) -> None:
    """Put a text in a file's place; raises Unreadable."""
    target = os.path.realpath(path)
    try:
        before = os.stat(target)
        handle, temporary = tempfile.mkstemp(prefix=".sentinel-", dir=os.path.dirname(target))
    except OSError as fault:
        raise Unreadable(f"{path}: {fault.strerror or fault}") from fault
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as fault:
        os.unlink(temporary)
        if isinstance(fault, OSError):
            raise Unreadable(f"{path}: {fault.strerror or fault}") from fault
        raise


def write_new(path: str, text: str) -> None:
    """Write a report: over what is there, if anything is; raises Unreadable."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as fault:
        raise Unreadable(f"{path}: {fault.strerror or fault}") from fault


def difference(path: str, before: str, after: str) -> str:
    """The unified diff of a file; "" when nothing differs."""
    lines = unified_diff(_lines(before), _lines(after), path, path)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """Split as an editor does; other line ends that KDL knows stand within a line."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
