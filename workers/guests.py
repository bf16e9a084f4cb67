"""What a TLS listener knows of a client once they have shaken hands, and what of it each request has to meet.

Intuition: the receptionist of a house with guarded floors. At the door each guest has said which floor he wants, and
has shown as much as that floor asks for. What he showed is written on a slip; and if he then asks for another floor,
the slip says whether its guard would have wanted to see more.

Rules:
1. The terms of a connection are those of the name that it asked for. A request for a host of other terms is
   misdirected (421), whichever of them asks for less: nobody has shown what the host's terms are about.
2. A certificate is looked at once for each connection, resumed ones too: a session may outlive the certificate that
   began it.
3. Names in certificates are strangers' text: what cannot be printed or is too long is no name, and is not cut to one.
4. Plain connections have no slip, and pay a look at an attribute that is None.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sentinel.core.plan import Tls
from sentinel.core.reasons import Reason
from sentinel.core.secured import Secured, Shown
from sentinel.core.server_names import ServerTerms, is_admitted
from workers.http1.faults import ClientFault

if TYPE_CHECKING:
    from sentinel.core.request import Request
    from sentinel.core.trace import Trace

SANS_MAX: Final = 64
NAME_CHARS_MAX: Final = 255
KINDS: Final = {"DNS": "dns", "URI": "uri", "email": "email", "IP Address": "ip"}
SHORT: Final = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "stateOrProvinceName": "ST", "localityName": "L",
}  # fmt: skip
_encode: Final = msgspec.json.Encoder().encode


class Line(msgspec.Struct, gc=False):
    """What the access log says of each request besides."""

    tls_version: str
    tls_cipher: str
    server_name: str
    client_certificate: str


@dataclass(frozen=True, slots=True)
class Guest:
    """One client's connection."""

    secured: Secured
    terms: int
    refusal: str  # why its certificate is not admitted; "": it is
    steps: tuple[Any, Any]  # for its first request, and for later ones
    line: bytes
    _house: Reception

    def ask(self, request: Request, trace: Trace, served: int) -> None:
        """A request on this connection, the `served`th; raises ClientFault where it may not be made here."""
        trace.add(self.steps[0 if served == 1 else 1])
        if self._house.is_divided and self._house.terms.of(request.host) != self.terms:
            raise ClientFault(Reason.MISDIRECTED, f"the connection asked for `{self.secured.server_name}`")
        if self.refusal:
            raise ClientFault(Reason.CERTIFICATE_REFUSED, self.refusal)


class Reception:
    """Of one listener. is_divided: not all of its names are served on the same terms."""

    __slots__ = ("_is_discreet", "_tls", "is_divided", "terms")

    def __init__(self, tls: Tls, *, is_discreet: bool = False) -> None:
        """is_discreet: the journal tells no hosts (`redact`), and so no name that a connection asked for either."""
        self._tls = tls
        self._is_discreet = is_discreet
        self.terms = ServerTerms(tls.client_certificates)
        self.is_divided = len(self.terms.all()) > 1

    def receive(self, session: ssl.SSLObject, peer: dict[str, Any], server_name: str, terms: int) -> Guest:
        """Somebody has shaken hands. `peer`: his certificate, as the ssl module reads it."""
        octets = session.getpeercert(binary_form=True) if peer else None
        shown = None if octets is None else shown_by(peer, octets)
        cipher = session.cipher()
        version = (session.version() or "").replace("TLSv", "TLS ")
        secured = Secured(version, cipher[0] if cipher else "", server_name, bool(session.session_reused), shown)
        refusal = ""
        if shown is not None and shown.until_s <= time.time():
            refusal = "it has expired"
        elif shown is not None and not is_admitted(self._tls.client_certificates[terms], shown.sans):
            refusal = "none of its names is admitted"
        span = self._tls.span if terms < 0 else self._tls.client_certificates[terms].span
        line = Line(version, secured.cipher, server_name, "" if shown is None else shown.name)
        written = replace(secured, server_name="(redacted)") if self._is_discreet and server_name else secured
        steps = written.step(span), written.later_step(span)
        return Guest(secured, terms, refusal, steps, b"," + _encode(line)[1:-1], self)


def shown_by(peer: dict[str, Any], octets: bytes) -> Shown:
    """What a certificate says."""
    sans = [
        f"{KINDS[kind]}:{name.lower() if kind == 'DNS' else name}"
        for kind, name in peer.get("subjectAltName", ())[:SANS_MAX]
        if kind in KINDS and 0 < len(name) <= NAME_CHARS_MAX and name.isprintable()
    ]
    parts = [f"{SHORT.get(kind, kind)}={value}" for group in peer.get("subject", ()) for kind, value in group]
    subject = "".join(char if char.isprintable() else "?" for char in ",".join(reversed(parts))[:NAME_CHARS_MAX])
    until_s = int(ssl.cert_time_to_seconds(str(peer["notAfter"])))
    return Shown(subject, tuple(sans), hashlib.sha256(octets).hexdigest(), until_s)
