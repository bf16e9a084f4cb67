"""An immutable view of a request's head, as the core sees it.

Names of fields are lower case, values are text decoded as latin-1 (each octet
one character, so nothing is lost). `path` is normalised and percent-decoding
is canonical (core.path); it is what routes match, and `target` is what an
upstream receives: the two never differ in meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sentinel.core.identity import Identity
from sentinel.core.secured import Secured

Headers = Sequence[tuple[str, str]]


class Fields(Protocol):
    """A parsed head, which has its fields but makes the list of them only when it is asked for."""

    @property
    def headers(self) -> Headers: ...
    def values(self, name: str, /) -> list[str]:
        """All values of a field, in order; `name` in lower case."""


class Request:
    """One request's head. Not a dataclass: made once a request, on the hot path.

    Only `identity` comes later, from the stage that finds it out, and `secured` from the connection, if it is over TLS.
    """

    __slots__ = (
        "_fields", "_headers", "client_ip", "host", "identity", "listener", "method", "path", "query", "scheme",
        "secured", "target",
    )  # fmt: skip

    def __init__(
        self, method: str, scheme: str, host: str, path: str, query: str, target: str,
        headers: Headers, client_ip: str, listener: str, fields: Fields | None = None,
    ) -> None:  # fmt: skip
        self.method = method
        self.scheme = scheme
        self.host = host  # lower case, no port, no trailing dot
        self.path = path  # normalised, begins with "/"; "*" for OPTIONS *
        self.query = query  # raw, without "?"; "" when there is none
        self.target = target  # origin-form for the upstream: path and query
        self._fields = fields  # in the place of `headers`: most requests are decided without a look at any
        self._headers: Headers | None = headers if fields is None else None
        self.client_ip = client_ip
        self.listener = listener
        self.identity: Identity | None = None  # who asks, once the decision has found it out
        self.secured: Secured | None = None  # what the client has shown before it asked

    def values(self, name: str) -> list[str]:
        """All values of a field, in order; `name` in lower case."""
        if self._fields is not None:
            return self._fields.values(name)
        return [value for key, value in self.headers if key == name]

    @property
    def headers(self) -> Headers:
        headers = self._headers
        if headers is None:
            assert self._fields is not None
            headers = self._headers = self._fields.headers
        return headers
