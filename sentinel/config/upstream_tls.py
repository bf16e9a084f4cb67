"""From a checked upstream to how its endpoints are spoken to over TLS.

TLS is spoken where there is a `tls` block, or where all endpoints begin with `https://`. What cannot be meant is
refused here: endpoints of which only some are `https://`, a name to be proved where nobody has one, trust where nobody
is verified. Whoever believes everybody is told so at each check, and so is whoever speaks in the clear to port 443.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from sentinel.config.check import Block
from sentinel.config.problem import Problems
from sentinel.config.server_tls import TlsFiles
from sentinel.core import plan as p

HTTPS: Final = 443

def compile_tls(
    block: Block, endpoints: tuple[p.Endpoint, ...], problems: Problems, warnings: Problems, files: TlsFiles
) -> p.UpstreamTls | None:
    """The upstream's `tls`; None: its endpoints are spoken to in the clear."""
    if block.is_faulty:
        return None
    written = list(block.all("endpoint"))
    secured = [one for one in written if one.args[0][2]]
    plain = next((one for one in written if not one.args[0][2]), None)
    tls = block.one("tls")
    if not secured and not block.has("tls"):
        _is_meant(block, endpoints, problems, warnings)
        return None
    if secured and plain is not None:
        problems.add(
            plain.span, "some endpoints of this upstream are `https://`, and this one is not",
            "write all of them alike; what speaks plain HTTP is another upstream", [(secured[0].span, "`https://`")],
        )  # fmt: skip
    span = tls.span if block.has("tls") else secured[0].span
    pins = tuple(one for one in tls.one("pin").args if one) if tls.has("pin") else ()
    is_verified = tls.value("verify") != "off"
    _contradictions(tls, endpoints, is_verified, problems)
    if not is_verified and not pins:
        warnings.add(
            tls.one("verify").span, "whoever answers is believed: anybody on the way can read and change what is said",
            "remove `verify \"off\"`, and trust a private authority by `ca`, or a key by `pin`",
        )  # fmt: skip
    trusted = (files.authorities(tls.one("ca")) or "") if tls.has("ca") else ""
    shown = files.certificate(tls.one("certificate"), tls.one("key")) if tls.has("certificate") else None
    version: Any = tls.value("min-version")
    return p.UpstreamTls(
        server_name=tls.value("server-name") or "", ca_pem=trusted,
        certificate_pem=shown.chain_pem if shown else "", key_pem=shown.key_pem if shown else "",
        min_version=version, pins=pins, is_verified=is_verified, span=span,
    )  # fmt: skip


def shared_authority(tls: p.UpstreamTls, endpoints: tuple[p.Endpoint, ...]) -> str:
    """What Host is over TLS when nobody says otherwise: the name that all endpoints have; "" if there is none."""
    found = {
        name if one.port == HTTPS else f"{name}:{one.port}"
        for one in endpoints if (name := tls.server_name or one.host) and not one.host.startswith("unix:")
    }  # fmt: skip
    authority = found.pop() if len(found) == 1 else ""
    return "" if _is_address(authority.rpartition(":")[0] or authority) else authority


def _contradictions(tls: Block, endpoints: tuple[p.Endpoint, ...], is_verified: bool, problems: Problems) -> None:
    for name, other in (("certificate", "key"), ("key", "certificate")):
        if tls.has(name) and not tls.has(other):
            problems.add(tls.one(name).span, f"`{name}` has no effect without `{other}`", f"add `{other}`")
    if not is_verified and tls.has("ca"):
        problems.add(
            tls.one("ca").span, '`ca` has no effect with `verify "off"`: whoever answers is believed',
            "remove one of the two", [(tls.one("verify").span, "nobody is verified")],
        )  # fmt: skip
    for one in endpoints:
        if is_verified and not tls.value("server-name") and one.host.startswith("unix:"):
            problems.add(
                one.span, "a Unix socket has no name that a certificate could be made out in",
                'add `server-name "…"` to `tls`',
            )  # fmt: skip


def _is_meant(block: Block, endpoints: tuple[p.Endpoint, ...], problems: Problems, warnings: Problems) -> None:
    """Nothing is said of TLS: is that what was meant?"""
    timeouts = block.one("timeouts")
    if timeouts.has("tls-handshake"):
        problems.add(
            timeouts.one("tls-handshake").span, "`tls-handshake` has no effect without `tls`", "add `tls`, or remove it"
        )
    for one in endpoints:
        if one.port == HTTPS:
            warnings.add(
                one.span, f"plain HTTP is spoken to port 443 of {one.host}, where others expect TLS",
                f'write "https://{one.name.removesuffix(":443")}", or add `tls` to the upstream',
            )  # fmt: skip


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
