"""What an upstream is told instead of what the client said: path, host, parameters and credentials of a provider.

Intuition: a forwarding office. The letter stays as it is; the envelope is written anew, with the address at which the
addressee is known and the firm's own stamp, and whatever the sender had clipped to the old one is kept back.

Rules:
1. Where there is a credential, whatever a client may have sent as one is left off first, however it spells the name:
   `authorization`, `x-api-key`, `api-key`, `x-goog-api-key`, the field of our own, and parameters like `key`. A
   client's key is the gateway's affair, and no provider's. So are cookies, fields that name the account which pays, and
   what other gateways prove of a client to those behind them. The same holds for a model without a credential
   that takes the place of one which has ours: the key that came was meant for us (`stamp_of`).
2. The head is written as for every request and then changed: one expression over its lines. So nothing here is a second
   writer of heads, and what has no provider pays one look at an attribute that is None.
3. Only the octets that are sent have the secret: no record, no log line and no step is made of them. A rehearsal shows
   the field with a word in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus

from sentinel.core.appraisal import SAME, Translation
from sentinel.core.models import Errand
from sentinel.core.plan import Credential, Inference, Provider
from sentinel.core.request import Request
from sentinel.inference.address import addressed
from sentinel.inference.dialect import recognise
from sentinel.inference.translate.pairs import Pair
from workers.calls import call_of, pair_of
from workers.interpreting import said_head

FIELDS: Final = (
    "authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "openai-organization",
    "openai-project", "x-goog-user-project", "cookie", "x-auth-token", "x-access-token", "x-amz-security-token",
    "remote-user", "x-remote-user", "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups",
    "x-forwarded-preferred-username", "x-forwarded-access-token",
)  # fmt: skip
"""What tells who asks, and which of his accounts pays: with our key that is nobody's choice but ours."""
FAMILIES: Final = (
    "x-auth-request-", "x-amzn-oidc-", "x-goog-iap-", "x-goog-authenticated-user-", "x-ms-client-principal",
    "x-ms-token-", "cf-access-",
)  # fmt: skip
"""How names begin by which proxies that log people in tell who they are, mostly with a token."""
PARAMETERS: Final = frozenset({"key", "api-key", "api_key", "apikey", "access_token"})
"""As Google takes them, and what is like it. Names in a query are compared decoded, in lower case."""
HIDDEN: Final = "(redacted)"


class Stamp:
    """A credential, ready to be put on heads; made once. Without one only the client's are left off."""

    __slots__ = ("_dropped", "_line")

    def __init__(self, credential: Credential | None, *, is_hidden: bool = False) -> None:
        own = () if credential is None else (credential.header,)
        whole = dict.fromkeys(re.escape(name) for name in (*FIELDS, *own))
        self._dropped = re.compile(_one_of([*whole, *(f"{re.escape(name)}[^:\r\n]*" for name in FAMILIES)]).encode())
        self._line = b"\r\n"
        if credential is not None:
            secret = HIDDEN if is_hidden else credential.secret
            line = f"{credential.header}: {credential.scheme} {secret}\r\n\r\n"
            self._line = line.replace(":  ", ": ").encode("latin-1")

    def put_on(self, raw: bytes) -> bytes:
        """The head without the client's credentials, and with ours."""
        return self._dropped.sub(b"", raw[:-2]) + self._line


def _one_of(names: list[str]) -> str:
    """Lines of these fields. A name with `_` is another field for us, and the same one for much that stands behind.

    By their first letter, so that of most lines nothing more is looked at.
    """
    first: dict[str, list[str]] = {}
    for name in names:
        letter, rest = (name[:3], name[3:]) if name.startswith("x\\-") else (name[:1], name[1:])
        first.setdefault(letter, []).append(rest)
    groups = "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in first.items())
    return f"(?i:\r\n(?:{groups}):[^\r\n]*)".replace("\\-", "[-_]")


BARE: Final = Stamp(None)


def stamp_of(
    provider: Provider | None, errand: Errand | None, made: Callable[[Credential], Stamp]
) -> Stamp | None:
    """What is done with the client's credentials, None: nothing. `made`: makes one, or has it."""
    if provider is not None and provider.credential is not None:
        return made(provider.credential)
    said = "" if provider is None else provider.client_credentials
    return BARE if said == "drop" or (not said and errand is not None and errand.is_for_ours) else None


class Outward:
    """What one request says to its upstream."""

    __slots__ = ("authority", "pair", "stamp", "target")

    def __init__(self, target: str, authority: str, stamp: Stamp | None, pair: Pair | None = None) -> None:
        self.pair = pair  # between two dialects
        self.target = target
        self.authority = authority  # "": the client's
        self.stamp = stamp

    def head(self, raw: bytes) -> bytes:
        if self.pair is not None:
            raw = said_head(raw, self.pair)
        return raw if self.stamp is None else self.stamp.put_on(raw)


def outward_of(
    request: Request, inference: Inference | None, errand: Errand | None, provider: Provider | None,
    stamp: Stamp | None, translation: Translation = SAME,
) -> Outward:  # fmt: skip
    """What is said anew. `stamp`: of the provider's credential."""
    pair = pair_of(translation) if translation.kind == "said" else None
    path, query = request.path if pair is None else pair.path(request.path), request.query
    prefix = "" if provider is None else provider.path_prefix
    call = None if inference is None else call_of(inference, request.method, path) if pair is None else recognise(path)
    if call is not None and (errand is not None or prefix):
        sent = errand.sent if errand is not None else call.model
        if sent is not None or "{" not in prefix:
            path = addressed(path, call, sent or "", prefix)
    if provider is not None or stamp is not None:
        query = _query(query, () if provider is None else provider.query, stamp is not None)
    target = request.target
    if (path, query) != (request.path, request.query):
        target = f"{path}?{query}" if query else path
    return Outward(target, "" if provider is None else provider.host, stamp, pair)


def _query(query: str, own: tuple[tuple[str, str], ...], is_stamped: bool) -> str:
    """The query without the client's credentials, and with the provider's parameters in the place of the client's."""
    unwanted = frozenset(_name(name) for name, _ in own)
    if is_stamped:
        unwanted |= PARAMETERS
    if query and unwanted:
        kept = [part for part in query.split("&") if not any(_name(one) in unwanted for one in part.split(";"))]
        query = "&".join(kept)
    return "&".join(filter(None, [query, *(f"{name}={value}" for name, value in own)]))


def _name(parameter: str) -> str:
    return unquote_plus(parameter.partition("=")[0]).strip().lower()
