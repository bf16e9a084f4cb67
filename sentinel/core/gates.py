"""Gates: who may ask for a route, and by which proofs; made with the route table.

Intuition: a door with several locks side by side, of which any one opens it. Who has a key for none of them stays
outside, and is told which locks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from sentinel.core.access import Access
from sentinel.core.identity import Finding
from sentinel.core.plan import ApiKey, Basic, Jwt, Mtls, Plan, Route
from sentinel.core.reasons import Reason
from sentinel.core.trace import Step

Authenticator = ApiKey | Jwt | Mtls | Basic
"""Whoever finds out who asks."""
Field = tuple[str, str]

METHODS: Final[dict[type, str]] = {ApiKey: "api-key", Jwt: "jwt", Mtls: "mtls", Basic: "basic"}
"""How they find out who asks, as their directives are called."""
UNNAMED: Final = frozenset({Reason.CREDENTIALS_MISSING})
"""Nothing was shown."""
UNKNOWN: Final = frozenset({Reason.KEY_UNKNOWN, Reason.TOKEN_MALFORMED})
"""What was shown is perhaps for another lock."""


class Gate:
    """The authenticators of one route, in the order in which it names them: any one of them suffices.

    lists: of addresses, all of which must allow a client's.
    """

    __slots__ = ("authenticators", "lists")

    def __init__(self, authenticators: Sequence[Authenticator], lists: Sequence[Access] = ()) -> None:
        self.authenticators = tuple(authenticators)
        self.lists = tuple(lists)

    def fields(self, by: Authenticator, reason: Reason) -> tuple[Field, ...]:
        """What a refusal says of how one may identify oneself (RFC 9110 section 11.6.1), and who says why not."""
        if reason.status != 401:
            return ()
        said = [challenge(one) + (_error(reason) if one is by else "") for one in self.authenticators]
        return tuple(("www-authenticate", one) for one in dict.fromkeys(said))


TOKEN_REFUSALS: Final = (
    Reason.TOKEN_MALFORMED, Reason.TOKEN_EXPIRED, Reason.TOKEN_EARLY, Reason.TOKEN_WRONG_ISSUER,
    Reason.TOKEN_WRONG_AUDIENCE, Reason.TOKEN_KEY_UNKNOWN, Reason.TOKEN_FORGED, Reason.TOKEN_ALGORITHM_REFUSED,
)  # fmt: skip
"""Why a token is refused."""


def weight(finding: Finding) -> int:
    """How much a refusal says: of several the heaviest is told, and of equal ones the first."""
    return 0 if finding.reason in UNNAMED else 1 if finding.reason in UNKNOWN else 2


def challenge(one: Authenticator) -> str:
    """How one may identify oneself there."""
    if type(one) is Mtls:
        return f'Certificate realm="{one.name}"'
    if type(one) is Basic:
        return f'Basic realm="{one.name}", charset="UTF-8"'
    return f'{"Bearer" if "bearer" in one.read_from else "ApiKey"} realm="{one.name}"'


def _error(reason: Reason) -> str:
    """What RFC 6750 (section 3.1) has for tokens that are refused."""
    if reason not in TOKEN_REFUSALS:
        return ""
    described = reason.value.text.replace("`", "'").replace('"', "'")
    return f', error="invalid_token", error_description="{described}"'


def method_of(one: Authenticator) -> str:
    """How it finds out who asks, as its directive is called."""
    return METHODS[type(one)]


def refusals_of(one: Authenticator) -> tuple[Reason, ...]:
    """Why it may find nobody."""
    if type(one) is ApiKey:
        return (Reason.CREDENTIALS_MISSING, Reason.KEY_UNKNOWN)
    if type(one) is Mtls:
        return (Reason.CREDENTIALS_MISSING,)
    if type(one) is Basic:
        return (Reason.CREDENTIALS_MISSING, Reason.PASSWORD_WRONG, Reason.PASSWORDS_WAITING)
    return (Reason.CREDENTIALS_MISSING, Reason.KEYS_UNAVAILABLE, *TOKEN_REFUSALS)


def keys_file(run_dir: str, one: Jwt) -> str:
    """Where the keys that were fetched last are kept, for all workers and over reloads.

    The name is that of what is asked: keys of another issuer, or from elsewhere, are never taken for these.
    """
    assert one.keys_from is not None, "its keys are fetched"
    asked = "\0".join((one.name, one.issuer, one.keys_from.upstream, one.keys_from.path))
    return f"{run_dir}/jwks-{blake2b(asked.encode(), digest_size=12).hexdigest()}.json"


def missed(one: Authenticator, finding: Finding) -> Step:
    """The step that tells that an authenticator found nobody."""
    return finding.reason, one.span, (one.name, finding.detail) if finding.detail else (one.name,)


def gates_of(plan: Plan) -> dict[str, Authenticator]:
    """All authenticators of a plan by name."""
    found: list[Authenticator] = [*plan.api_keys, *plan.jwts, *plan.mtls, *plan.basics]
    return {one.name: one for one in found}


def lists_of(plan: Plan) -> dict[str, Access]:
    """All lists of addresses by name, made ready: routes share them, and what they remember."""
    return {one.name: Access(one) for one in plan.address_lists}


def of_route(route: Route, known: dict[str, Authenticator], lists: dict[str, Access]) -> Gate | None:
    """None where everybody may ask."""
    found = [known[name] for name in route.filters if name in known]
    asked = [lists[name] for name in route.filters if name in lists]
    return Gate(found, asked) if found or asked else None
