"""From a listener's `tls` block to what it serves, and to whom.

What the files say is somebody else's to judge (TlsFiles: config.certificates, or nobody in a browser). Here is what
certificates mean beside each other and beside routes: two of them for one name and one kind of key, of which only one
could ever be served, and hosts that are routed to while no certificate names them, which no client would ever reach.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

from sentinel.config.check import Block, beside
from sentinel.config.problem import Problems
from sentinel.config.source import Source
from sentinel.core import plan as p
from sentinel.core.server_names import ServerNames

CERTIFICATES_MAX: Final = 1000
"""Of a listener: each is a context of OpenSSL's in each worker, some tens of kilobytes."""
CONTEXTS_MAX: Final = 4000
UNCOVERED_MAX: Final = 10
"""Of a listener's hosts that no certificate names, so many are told one by one."""


class TlsFiles(Protocol):
    """Reads and judges the files that `tls` blocks name; None after a problem was reported."""

    def certificate(self, chain: Block, key: Block) -> p.Certificate | None: ...

    def authorities(self, ca: Block) -> str | None: ...

    def revoked(self, crl: Block, ca_pem: str) -> str | None: ...


MakeTlsFiles = Callable[[Source, Problems, Problems, float], TlsFiles]
"""From where files are read, to whom problems and warnings are told, and what time it is."""


def checked_files(source: Source, problems: Problems, warnings: Problems, now_s: float) -> TlsFiles:
    """As OpenSSL judges them, which is loaded only where files are named: not everybody who compiles has it."""
    return _Lazily(source, problems, warnings, now_s)


class _Lazily:
    def __init__(self, *setting: Any) -> None:
        self._setting = setting

    def _files(self) -> TlsFiles:
        from sentinel.config.certificates import Files

        return Files(*self._setting)

    def certificate(self, chain: Block, key: Block) -> p.Certificate | None:
        return self._files().certificate(chain, key)

    def authorities(self, ca: Block) -> str | None:
        return self._files().authorities(ca)

    def revoked(self, crl: Block, ca_pem: str) -> str | None:
        return self._files().revoked(crl, ca_pem)


def compile_server_tls(block: Block, files: TlsFiles, problems: Problems) -> p.Tls | None:
    """What a listener serves; None after a problem was reported."""
    written = list(block.all("certificate"))
    if block.is_faulty or not _has_keys(block, written, problems):
        return None
    if len(written) > CERTIFICATES_MAX:
        problems.add(
            written[CERTIFICATES_MAX].span, f"more than {CERTIFICATES_MAX} certificates on one listener",
            "have certificates with more names, or with wildcards",
        )  # fmt: skip
        return None
    minimum: Any = block.value("min-version") if block.has("min-version") else ""
    profile: Any = block.value("profile")
    if profile == "modern" and minimum == "1.2":
        problems.add(
            block.one("min-version").span, '`min-version "1.2"` has no effect: the profile `modern` begins with 1.3',
            'remove one of the two', [(block.one("profile").span, "the profile")],
        )  # fmt: skip
    shared = block.one("key")
    found = [files.certificate(one, one.one("key") if one.has("key") else shared) for one in written]
    certificates = tuple(one for one in found if one is not None)
    if len(certificates) < len(written):
        return None
    _rivals(certificates, problems)
    unknown: Any = block.value("unknown-name")
    terms = list(block.all("client-certificates"))
    if len(certificates) * (len(terms) + 1) > CONTEXTS_MAX:
        problems.add(
            terms[0].span, f"more than {CONTEXTS_MAX} pairs of a certificate and of terms on one listener",
            "give those names a listener of their own",
        )  # fmt: skip
    clients = tuple(_client_certificates(one, files) for one in terms)
    _divided(clients, problems)
    return p.Tls(
        certificates, unknown_name=unknown, profile=profile, min_version=minimum, client_certificates=clients,
        watched=_watched(block, certificates, clients) if block.value("watch") else (), span=block.span,
    )  # fmt: skip


def _watched(
    block: Block, certificates: Sequence[p.Certificate], clients: Sequence[p.ClientCertificates]
) -> tuple[p.WatchedFile, ...]:
    """All files of the block, and what was in them."""
    found: dict[str, str] = {}
    shared = block.one("key")
    for written, one in zip(block.all("certificate"), certificates, strict=True):
        found[_path(written)] = one.chain_pem
        found[_path(written.one("key") if written.has("key") else shared)] = one.key_pem
    for written, terms in zip(block.all("client-certificates"), clients, strict=True):
        found[_path(written.one("ca"))] = terms.ca_pem
        if written.has("crl"):
            found[_path(written.one("crl"))] = terms.crl_pem
    return tuple(p.WatchedFile(path, sha256(text.encode()).hexdigest()) for path, text in found.items())


def _path(named: Block) -> str:
    return os.path.abspath(beside(named.span.file, named.args[0]))


def _client_certificates(block: Block, files: TlsFiles) -> p.ClientCertificates:
    mode: Any = block.args[0]
    trusted = files.authorities(block.one("ca")) or ""
    revoked = (files.revoked(block.one("crl"), trusted) or "") if block.has("crl") and trusted else ""
    sans, names = (tuple(one for one in block.one(name).args if one) for name in ("san", "names"))
    return p.ClientCertificates(mode, trusted, revoked, sans, names, block.span)


def _divided(clients: Sequence[p.ClientCertificates], problems: Problems) -> None:
    """Each name has one set of terms."""
    seen: dict[str, p.ClientCertificates] = {}
    for one in clients:
        for name in dict.fromkeys(one.names) or ("",):
            first = seen.setdefault(name, one)
            if first is not one:
                what = f"`{name}`" if name else "all other names"
                problems.add(
                    one.span, f"there are two `client-certificates` for {what}", "give each of them other `names`",
                    [(first.span, "the other one")],
                )  # fmt: skip


def _has_keys(block: Block, written: Sequence[Block], problems: Problems) -> bool:
    """Each certificate has a key of its own; beside a single one it may stand in `tls`."""
    bare = [one for one in written if not one.has("key")]
    if block.has("key") and (len(written) > 1 or not bare):
        problems.add(
            block.one("key").span, "it is not clear whose key this is",
            'write it into the certificate\'s braces: `certificate "…" { key "…"; }`',
        )  # fmt: skip
    elif bare and not block.has("key"):
        problems.add(bare[0].span, "this certificate has no key", 'add `{ key "…"; }` to it')
    else:
        return True
    return False


def _rivals(certificates: Sequence[p.Certificate], problems: Problems) -> None:
    """Two certificates for the same name and kind of key: one of them would never be served for it."""
    seen: dict[tuple[str, str], p.Certificate] = {}
    for one in certificates:
        for name in one.names:
            first = seen.setdefault((name, one.key_kind), one)
            if first is not one:
                problems.add(
                    one.span, f"there are two certificates with {one.key_kind.upper()} keys for `{name}`",
                    "remove one of the two, or have one of them issued without this name",
                    [(first.span, "the other one")],
                )  # fmt: skip
                break


def uncovered_hosts(listeners: Sequence[p.Listener], routes: Sequence[p.Route], warnings: Problems) -> None:
    """Hosts that are routed to on a TLS listener, and named by no certificate: clients go away before they ask."""
    for listener in listeners:
        if listener.tls is None or not any(one.names for one in listener.tls.certificates):
            continue
        names = ServerNames(listener.tls)
        parents = {parent for one in listener.tls.certificates for name in one.names for parent in _parents(name)}
        told: dict[str, p.Match] = {}
        for route in routes:
            if not route.listeners or listener.name in route.listeners:
                for match in route.matches:
                    told |= {
                        host: match for host in match.hosts
                        if host not in told and names.find(host) is None
                        and not (host.startswith("*") and host[1:] in parents)
                    }  # fmt: skip
        for host, match in list(told.items())[:UNCOVERED_MAX]:
            warnings.add(
                match.host_span, f'no certificate of listener "{listener.name}" names `{host}`: clients that verify '
                "will not get as far as this route", "add a `certificate` that names it, or keep the route to other "
                "listeners with `listeners`", [(listener.tls.span, "the certificates")],
            )  # fmt: skip
        if len(told) > UNCOVERED_MAX:
            warnings.add(
                listener.tls.span, f"{len(told) - UNCOVERED_MAX} more hosts are routed to and named by no certificate",
                "add certificates that name them",
            )  # fmt: skip


def _parents(name: str) -> Iterator[str]:
    """Every end of a name that a host of a route may have after its `*`."""
    while name := name.partition(".")[2]:
        yield f".{name}"
