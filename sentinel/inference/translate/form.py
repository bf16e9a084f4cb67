"""An object of a request, of which nothing may get lost.

Intuition: a customs officer with a list of what is in the suitcase. Whoever unpacks ticks off what he takes out; what
is not ticked off at the end is held up and named, and the suitcase goes back.

Rules:
1. Each member is taken by a translator, or says nothing (null, or what holds anyway), or is a fault that names it.
2. An operator may name members that are left out (`Terms.left_out`): hints that change what an answer costs, or whom
   it is booked to, more than what it says. Which were left out is told.
3. A fault has places in it and never values: messages end in logs. Names of members are the client's words too,
   so odd and long ones are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sentinel.inference import look
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members, members

NAME_CHARS_MAX: Final = 64
LEFT_OUT_MAX: Final = 16
"""Places that are told; a long conversation has the same hint on each message."""

Neutral = Mapping[str, tuple[Any, ...]]
"""Values of a member that say what would hold without it."""
NOTHING: Final[Neutral] = {}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a translator has to be told.

    `max_tokens`: for a provider that insists on a cap, when the client sets none. `left_out`: names of hints.
    """

    max_tokens: int | None = None
    left_out: frozenset[str] = frozenset()


@dataclass(slots=True)
class Desk:
    """One translation under way: its terms, who will read it, and what was left out."""

    terms: Terms
    reader: str
    left_out: list[str] = field(default_factory=list)

    def form(self, value: Any, path: str) -> Form:
        return Form(self, members(value, path), path)

    def leave_out(self, path: str) -> None:
        if len(self.left_out) < LEFT_OUT_MAX:
            self.left_out.append(path)


class Form:
    """One object, and which of its members were not taken yet."""

    __slots__ = ("_desk", "_left", "members", "path")

    def __init__(self, desk: Desk, found: Members, path: str) -> None:
        self._desk = desk
        self._left = dict.fromkeys(found)
        self.members = found
        self.path = path

    def __call__(self, name: str) -> Any:
        """The value of a member, as it is; None when it is not there."""
        self._left.pop(name, None)
        return self.members.get(name)

    def at(self, name: str) -> str:
        return f"{self.path}.{_told(name)}"

    def text(self, name: str) -> str | None:
        self._left.pop(name, None)
        return look.text(self.members, name, self.path)

    def word(self, name: str) -> str:
        """A text that has to be there."""
        found = self.text(name)
        if found is None:
            raise InferenceFault(self.at(name), "this is missing")
        return found

    def flag(self, name: str) -> bool | None:
        self._left.pop(name, None)
        return look.flag(self.members, name, self.path)

    def amount(self, name: str) -> int | None:
        self._left.pop(name, None)
        return look.amount(self.members, name, self.path)

    def number(self, name: str, most: float) -> float | None:
        """A number from nought to `most`, which is the other side's bound."""
        found = self(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InferenceFault(self.at(name), "a number is expected")
        if not 0 <= found <= most:
            raise InferenceFault(self.at(name), f"{self._desk.reader} takes 0 to {most:g}")
        return found

    def entries(self, name: str) -> list[Any]:
        self._left.pop(name, None)
        return look.entries(self.members, name, self.path)

    def inner(self, name: str) -> Form | None:
        found = self(name)
        return None if found is None else self._desk.form(found, self.at(name))

    def forms(self, name: str) -> list[Form]:
        """The objects of a list."""
        return [self._desk.form(one, f"{self.at(name)}[{index}]") for index, one in enumerate(self.entries(name))]

    def contents(self, name: str) -> str | list[Form] | None:
        """What both dialects know as content: a text, or a list of parts."""
        return self.text(name) if isinstance(self.members.get(name), str) else self.forms(name) or None

    def refuse(self, name: str, why: str = "") -> InferenceFault:
        """The fault that this member cannot be said."""
        return InferenceFault(self.at(name), why or f"{self._desk.reader}: there is nothing that says this")

    def close(self, neutral: Neutral = NOTHING) -> None:
        """Nothing else may be here."""
        for name in self._left:
            value = self.members[name]
            if value is None or any(_is_same(value, one) for one in neutral.get(name, ())):
                continue
            if name not in self._desk.terms.left_out:
                raise self.refuse(name)
            self._desk.leave_out(self.at(name))


def _is_same(value: Any, other: Any) -> bool:
    """Equal, where a truth value equals no number."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _told(name: str) -> str:
    return name if name.isascii() and name.isidentifier() and len(name) <= NAME_CHARS_MAX else "(an odd name)"


def plain(**given: Any) -> Members:
    """An object without what is None."""
    return {name: value for name, value in given.items() if value is not None}
