"""Gates: who may ask for a route, and by which proofs; made with the route table.

Intuition: a door with several locks side by side, of which any one opens it. Who has a key for none of them stays
outside, and is told which locks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sentinel.core.identity import Finding
from sentinel.core.plan import ApiKey, Plan, Route
from sentinel.core.reasons import Reason
from sentinel.core.trace import Step

Authenticator = ApiKey
"""Whoever finds out who asks."""
Field = tuple[str, str]

UNNAMED: Final = frozenset({Reason.CREDENTIALS_MISSING})
"""Nothing was shown."""
UNKNOWN: Final = frozenset({Reason.KEY_UNKNOWN})
"""What was shown is perhaps for another lock."""


class Gate:
    """The authenticators of one route, in the order in which it names them: any one of them suffices."""

    __slots__ = ("_challenges", "authenticators")

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self.authenticators = tuple(authenticators)
        self._challenges = tuple(dict.fromkeys(challenge(one) for one in authenticators))

    def fields(self, reason: Reason) -> tuple[Field, ...]:
        """What a refusal says of how one may identify oneself (RFC 9110 section 11.6.1)."""
        return tuple(("www-authenticate", one) for one in self._challenges) if reason.status == 401 else ()


def weight(finding: Finding) -> int:
    """How much a refusal says: of several the heaviest is told, and of equal ones the first."""
    return 0 if finding.reason in UNNAMED else 1 if finding.reason in UNKNOWN else 2


def challenge(one: Authenticator) -> str:
    """How one may identify oneself there."""
    return f'{"Bearer" if "bearer" in one.read_from else "ApiKey"} realm="{one.name}"'


def method_of(one: Authenticator) -> str:
    """How it finds out who asks, as its directive is called."""
    return "api-key"


def refusals_of(one: Authenticator) -> tuple[Reason, ...]:
    """Why it may find nobody."""
    return (Reason.CREDENTIALS_MISSING, Reason.KEY_UNKNOWN)


def missed(one: Authenticator, finding: Finding) -> Step:
    """The step that tells that an authenticator found nobody."""
    return finding.reason, one.span, (one.name, finding.detail) if finding.detail else (one.name,)


def gates_of(plan: Plan) -> dict[str, Authenticator]:
    """All authenticators of a plan by name."""
    return {one.name: one for one in plan.api_keys}


def of_route(route: Route, known: dict[str, Authenticator]) -> Gate | None:
    """None where everybody may ask."""
    found = [known[name] for name in route.filters if name in known]
    return Gate(found) if found else None
