"""Patterns for the names of models: `*` stands for any characters, all else for itself.

Matched piece by piece from the left, each at its first place, which is enough for one wildcard; so the time is
linear, whatever names clients invent. Names are compared as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glob:
    pattern: str

    @property
    def is_exact(self) -> bool:
        return "*" not in self.pattern

    @property
    def rank(self) -> tuple[bool, int]:
        """How much it says: a whole name more than any pattern, then by the characters that stand for themselves."""
        return self.is_exact, len(self.pattern) - self.pattern.count("*")

    def matches(self, name: str) -> bool:
        first, *rest = self.pattern.split("*")
        if not rest:
            return name == first
        if not name.startswith(first):
            return False
        at, last = len(first), rest.pop()
        for piece in rest:
            at = name.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
        return len(name) - at >= len(last) and name.endswith(last)
