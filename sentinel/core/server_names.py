"""Which certificates a listener serves to somebody who asks for a name.

Intuition: a house with many name plates. Whoever asks for a name that stands on a plate is shown the papers made out in
it; a plate "anybody of this family" is read only where no plate says the very name; and who asks for nobody, or for
somebody who does not live here, is shown the papers of the house, or the door.

Rules:
1. An exact name before a wildcard, and a wildcard stands for one label (RFC 9525): "*.example.com" is not
   "example.com", and not "a.b.example.com".
2. Each kind of key is chosen by itself: a name with an RSA certificate of its own, and an ECDSA one by a wildcard, has
   both, and TLS chooses what the client knows.
3. On which terms a name is served (who has to show a certificate) is asked twice: of the name that a connection asks
   for, and of the host that each of its requests is for. Where the answers differ the request is misdirected. So a host
   is never reached over a connection that has proved less, or something else.
4. Whoever asks, asks here: workers, the checks of a configuration, and whoever asks what would be.
"""

from __future__ import annotations

from sentinel.core.conditions import host_matches
from sentinel.core.globs import Glob
from sentinel.core.plan import ClientCertificates, Tls

Served = tuple[int, ...]
"""Certificates by their positions in `Tls.certificates`, one for each kind of key."""


class ServerNames:
    """The name plates of one listener; made once."""

    __slots__ = ("_refuses", "_served", "default")

    def __init__(self, tls: Tls) -> None:
        self._refuses = tls.unknown_name == "refuse"
        named: dict[str, dict[str, int]] = {}
        for index, one in enumerate(tls.certificates):
            for name in one.names:
                named.setdefault(name, {}).setdefault(one.key_kind, index)
        self._served: dict[str, Served] = {
            name: tuple(sorted((named.get(_wildcard(name), {}) | own).values())) for name, own in named.items()
        }
        own = tls.certificates[0].names
        self.default: Served = self._served[own[0]] if own else (0,)

    def find(self, name: str) -> Served | None:
        """The certificates made out in this name (lower case, no dot at its end); None: there are none."""
        found = self._served.get(name)
        return self._served.get(_wildcard(name)) if found is None else found

    def serving(self, name: str) -> Served | None:
        """What is served to a client that asks for this name ("": for none); None: it is refused."""
        found = self.find(name) if name else None
        return self.default if found is None and not self._refuses else found

    def all(self) -> frozenset[Served]:
        """Everything that may be served to somebody."""
        return frozenset((*self._served.values(), *(() if self._refuses else (self.default,))))


class ServerTerms:
    """On which terms names are served, by their positions in `Tls.client_certificates`; -1: on none."""

    __slots__ = ("_default", "_exact", "_wild")

    def __init__(self, terms: tuple[ClientCertificates, ...]) -> None:
        listed = [(name, index) for index, one in enumerate(terms) for name in one.names]
        self._default = next((index for index, one in enumerate(terms) if not one.names), -1)
        self._exact = {name: index for name, index in listed if not name.startswith("*")}
        self._wild = sorted(
            ((name, index) for name, index in listed if name.startswith("*")), key=lambda one: -len(one[0])
        )

    def of(self, name: str) -> int:
        """The terms of a name, or of a host; the most that is said of it counts."""
        found = self._exact.get(name)
        if found is None:
            found = next((index for pattern, index in self._wild if host_matches(name, pattern)), self._default)
        return found

    def all(self) -> frozenset[int]:
        return frozenset((*self._exact.values(), *(index for _, index in self._wild), self._default))


def is_admitted(terms: ClientCertificates, sans: tuple[str, ...]) -> bool:
    """Whether a certificate with these names (core.secured) may be shown. A pattern with `://` is for URIs alone."""
    for san in sans:
        kind, _, name = san.partition(":")
        if any(("://" in pattern) == (kind == "uri") and Glob(pattern).matches(name) for pattern in terms.sans):
            return True
    return not terms.sans


def _wildcard(name: str) -> str:
    """The wildcard that stands for a name; "" if that is one itself."""
    label, _, rest = name.partition(".")
    return "" if label in ("", "*") or not rest else f"*.{rest}"
