"""What TLS has found out about a client: facts of a connection, which all of its requests have.

Facts, and no judgement: that a certificate was shown means that somebody vouched for it whom the listener trusts for
the name that was asked for. Whose request it is, is for authentication to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sentinel.core.reasons import Reason
from sentinel.core.span import Span
from sentinel.core.trace import Step

PARTS: Final = ("name", "subject", "uri", "dns", "email", "ip", "fingerprint")
"""Of a certificate, what is asked for by name: of names of one kind the first."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A client's certificate. sans: its names with their kind before them ("dns:", "uri:", "email:", "ip:").

    fingerprint: SHA-256 of the certificate, in hexadecimal. until_s: when it expires, in seconds since the epoch.
    """

    subject: str
    sans: tuple[str, ...]
    fingerprint: str
    until_s: int

    def part(self, kind: str) -> str:
        """What an operator may ask of it: a word of PARTS; "" where it has none of that kind."""
        if kind == "name":
            return self.name
        if kind in ("subject", "fingerprint"):
            return self.subject if kind == "subject" else self.fingerprint
        return next((san[len(kind) + 1 :] for san in self.sans if san.startswith(f"{kind}:")), "")

    @property
    def name(self) -> str:
        """By which people know it: its first name, else its subject."""
        return self.sans[0] if self.sans else self.subject


@dataclass(frozen=True, slots=True)
class Secured:
    """How a client's connection is secured. server_name: the one that it asked for; "": none."""

    version: str
    cipher: str
    server_name: str
    is_resumed: bool = False
    shown: Shown | None = None

    def step(self, span: Span) -> Step:
        """What the first request of a connection is told by; later ones say the name alone."""
        shown = ("", "") if self.shown is None else (self.shown.name, self.shown.fingerprint[:16])
        how = "resumed" if self.is_resumed else ""
        return (Reason.CLIENT_SECURED, span, (self.version, self.cipher, self.server_name, how, *shown))

    def later_step(self, span: Span) -> Step:
        return (Reason.CLIENT_SECURED, span, (self.version, "" if self.shown is None else self.shown.name))
