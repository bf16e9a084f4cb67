"""Who asks: what was found out about a request's sender, before any policy looks at him.

Intuition: the badge that a visitor gets at the gate. At the gate he has shown something (a key, a passport), and
somebody looked whether it is real; from there on everybody in the house reads the badge, and nobody sees the passport.

Rules:
1. The core looks at no credential. Whoever can (workers.identities) says what came of it: a `Finding`, handed in by
   the world like everything that is not in the plan. So whatever is recorded or described decides as it did live.
2. Values are texts. A claim that is not there is "", like any part of a key that a request does not have.
3. A badge tells whose it is (`source`): subjects of two gates are two people, even if they have one name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sentinel.core.reasons import Reason

CLAIMS_MAX: Final = 32
"""Of an identity: what the plan uses, and a few more in a description."""
CLAIM_CHARS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """source: the name of the filter that found it; method: how (`api-key`, `jwt`, …)."""

    source: str
    method: str
    subject: str
    claims: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What stands for it in keys."""
        return f"{self.source}:{self.subject}"

    def claim(self, name: str) -> str:
        return next((value for key, value in self.claims if key == name), "")

    def told(self) -> tuple[str, ...]:
        """As the details of a step: what is needed to decide the same again."""
        return (self.source, self.method, self.subject, *(f"{name}={value}" for name, value in self.claims))


class Finding(NamedTuple):
    """What came of a request's credentials at one gate: an identity, or the reason why there is none."""

    reason: Reason
    identity: Identity | None = None
    detail: str = ""


MISSING: Final = Finding(Reason.CREDENTIALS_MISSING)
ANYONE: Final = Identity("", "", "anyone")
"""Who is assumed where nothing is known of who asks, and all that matters is that somebody may."""


def recognised(identity: Identity) -> Finding:
    return Finding(Reason.AUTHENTICATED, identity)


def identity_of(details: tuple[Any, ...]) -> Identity | None:
    """Read an identity back from the details of its step; None where they are not whole."""
    if len(details) < 3:
        return None
    source, method, subject, *claims = map(str, details)
    pairs = [one.partition("=") for one in claims]
    return Identity(source, method, subject, tuple((name, value) for name, _, value in pairs))
