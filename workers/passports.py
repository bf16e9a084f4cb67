"""What an upstream is told of who asks, and what of a client's it is never told.

Intuition: an embassy. Whatever papers a traveller brings, the note that goes on with him is written here; and a note
in the embassy's own hand that he had in his pocket is taken away, wherever he goes.

Rules:
1. A field by which some filter of the plan tells who asks (`pass-identity`) is dropped from every request of every
   route, whoever sent it and with whichever mixture of `-` and `_`: what an upstream reads there is ours.
2. The credential that was shown to us is dropped where a route asked for it, unless the filter forwards it; that of
   every filter of the route, also of those that were not needed.
3. Values are written as printable ASCII, everything else and `%` as percent-escapes: nothing that somebody chose as his
   name ends a line.
4. Names are dropped by the kernel that writes heads, as forwarding fields are: a route that uses none of this pays
   nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus

from sentinel.core.gates import Authenticator, gates_of
from sentinel.core.identity import Identity
from sentinel.core.plan import Plan, Route
from sentinel.core.request import Request
from workers.forwarded import (
    DROPPED,
    DROPPED_FROM_SHADOWS,
    DROPPED_FROM_STRANGERS,
    WRITTEN_ANEW,
    aliases,
)

LOGGED_AS: Final = "identity"
"""What the line of a known client's request has besides."""
NAME_CHARS_MAX: Final = 128
"""Of an identity in the access log."""
PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""Characters of a value that stand for themselves."""


@dataclass(frozen=True, slots=True)
class Drops:
    """Names of fields that do not pass, by who sent them; `metered`: of each the same for language models."""

    trusted: frozenset[str]
    strangers: frozenset[str]
    shadows: frozenset[str]
    metered: dict[frozenset[str], frozenset[str]]

    @staticmethod
    def besides(more: frozenset[str]) -> Drops:
        """These, and those that never pass (workers.forwarded)."""
        trusted, strangers, shadows = (
            names | more if more else names for names in (DROPPED, DROPPED_FROM_STRANGERS, DROPPED_FROM_SHADOWS)
        )
        metered = {names: names | WRITTEN_ANEW for names in (trusted, strangers, shadows)}
        return Drops(trusted, strangers, shadows, metered)


class Passport:
    """What becomes of credentials and identities on one route."""

    __slots__ = ("_parameters", "_passed_on", "drops")

    def __init__(self, found: list[Authenticator], ours: frozenset[str]) -> None:
        places = [place for one in found if not one.is_forwarded for place in one.read_from]
        names = [place[7:] for place in places if place.startswith("header:")]
        if "bearer" in places or "basic" in places:
            names.append("authorization")
        self.drops = Drops.besides(ours | aliases(*names))
        self._parameters = frozenset(place[6:] for place in places if place.startswith("query:"))
        self._passed_on = {one.name: one.passed_on for one in found}

    def lines(self, identity: Identity) -> bytes:
        """What the upstream is told of who asks."""
        passed_on = self._passed_on.get(identity.source, ())
        return "".join(f"{name}: {written(part, identity)}\r\n" for name, part in passed_on).encode("ascii")

    def strip(self, request: Request) -> None:
        """Take the credential off the request's target, once it has been looked at."""
        if not self._parameters or not request.query:
            return
        kept = [part for part in request.query.split("&") if _name(part) not in self._parameters]
        query = "&".join(kept)
        if query != request.query:
            path = request.target.partition("?")[0]
            request.query, request.target = query, f"{path}?{query}" if query else path


class Passports:
    """The passports of a plan."""

    __slots__ = ("_by_route", "drops")

    def __init__(self, plan: Plan) -> None:
        gates = gates_of(plan)
        ours = aliases(*(name for one in gates.values() for name, _ in one.passed_on))
        self.drops = Drops.besides(ours)
        # Routes that name the same filters share one: sets of names are large, and routes may be thousands.
        made: dict[tuple[str, ...], Passport] = {}
        self._by_route: dict[str, Passport] = {}
        for route, found in _guarded(plan, gates):
            names = tuple(one.name for one in found)
            self._by_route[route.name] = made.get(names) or made.setdefault(names, Passport(found, ours))

    def of(self, route: Route) -> Passport | None:
        """None where nobody finds out who asks."""
        return self._by_route.get(route.name)


def written(part: str, identity: Identity) -> str:
    """A part of an identity, as a field's value."""
    kind, _, name = part.partition(":")
    said = {"claim": identity.claim(name), "subject": identity.subject, "method": identity.method}
    return quote(said[kind].strip(), safe=PLAIN)


def line_of_identity(identity: Identity) -> bytes:
    """The field of a line of the access log as JSON, with a comma before it."""
    name = json.dumps(identity.name[:NAME_CHARS_MAX], ensure_ascii=False)
    return f',"{LOGGED_AS}":{name}'.encode("utf-8", "replace")


def _guarded(plan: Plan, gates: dict[str, Authenticator]) -> Iterator[tuple[Route, list[Authenticator]]]:
    for route in plan.routes:
        found = [gates[name] for name in route.filters if name in gates]
        if found:
            yield route, found


def _name(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0])
