"""Who the client is, and what the upstream is told about it.

Intuition: `X-Forwarded-For` is a chain of witnesses. Each proxy writes down whom
it saw. We saw the peer of our socket with our own eyes; what stands to the
left of that is hearsay, and worth as much as the witness who said it.

Rules:
1. From a peer that is not in `trusted-proxies`, every forwarding field is
   dropped and written anew: nothing that it says reaches a policy or an upstream.
   So is what CDNs and frameworks have invented beside them (`True-Client-IP`,
   `X-Original-URL`), and `Proxy`, which CGI would make a variable of (httpoxy).
2. From a trusted peer the chain is read from the right. With `trusted-hops` N the
   client is the Nth entry (or the leftmost there is); without, it is the first
   entry that is not itself a trusted proxy. An entry that is no address ends
   the reading: what stands left of nonsense is nonsense.
3. Names that a CGI-like upstream would read as one of ours (`x_forwarded_for`) are
   dropped from everybody, and so are underscored framing fields.
4. `Forwarded` (RFC 7239) is dropped: half a chain in a second notation would
   contradict the first.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Final

_SEEN_MAX: Final = 4096  # addresses whose verdict is remembered; then the memory starts anew


def aliases(*names: str) -> frozenset[str]:
    """Each name with every mixture of `-` and `_`; who names one takes care that it has few of them."""
    spellings: set[str] = set()
    for name in names:
        words = name.replace("_", "-").split("-")
        for marks in itertools.product("-_", repeat=len(words) - 1):
            spellings.add(words[0] + "".join(mark + word for mark, word in zip(marks, words[1:], strict=True)))
    return frozenset(spellings)


_OURS: Final = aliases(
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-server",
    "x-real-ip", "x-request-id", "x-sentinel-reason",
)  # fmt: skip
_ALIASED_FRAMING: Final = aliases("content-length", "transfer-encoding", "content-type", "proxy-connection") - {
    "content-length", "transfer-encoding", "content-type", "proxy-connection",
}  # fmt: skip
DROPPED: Final[frozenset[str]] = _OURS | _ALIASED_FRAMING | {"forwarded"}
"""Fields that never pass from client to upstream as the client wrote them."""

SHADOW_FIELDS: Final[frozenset[str]] = aliases("x-sentinel-shadow")
"""What marks a copy (workers.shadowing). A gateway that we trust may say that what it sends is one."""

DROPPED_FROM_SHADOWS: Final[frozenset[str]] = DROPPED | SHADOW_FIELDS
"""Also the mark that we set ourselves."""

DROPPED_FROM_STRANGERS: Final[frozenset[str]] = DROPPED | SHADOW_FIELDS | {"proxy"} | aliases(
    "x-forwarded-prefix", "x-forwarded-uri", "x-forwarded-path", "x-forwarded-method", "x-forwarded-scheme",
    "x-forwarded-ssl", "x-forwarded-user", "x-forwarded-by", "x-original-url", "x-original-uri", "x-original-host",
    "x-rewrite-url", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip",
)  # fmt: skip
"""Those, and what only a trusted proxy may say: who asks, in which scheme, and for which other path."""

WRITTEN_ANEW: Final = frozenset({"accept-encoding"})
"""What the gateway says for itself in requests to language models (workers.metering)."""

DROPPED_FROM_ANSWERS: Final[frozenset[str]] = frozenset({"x-request-id", "x-sentinel-reason"})
"""Ours to say, in answers: an upstream cannot claim that the gateway refused."""
TRANSPORT_SECURITY: Final = "strict-transport-security"


class Trust:
    """The trusted proxies of a listener."""

    __slots__ = ("_networks", "_seen", "hops")

    def __init__(self, networks: tuple[str, ...], hops: int) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._seen: dict[str, bool] = {}
        self.hops = hops

    def trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        verdict = self._seen.get(address)
        if verdict is None:
            if len(self._seen) >= _SEEN_MAX:
                self._seen.clear()
            verdict = self._seen[address] = self._judge(address)
        return verdict

    def _judge(self, text: str) -> bool:
        if text.startswith("unix:"):  # who may open our socket file was decided by its mode
            return True
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def client(self, peer: str, chain: list[str]) -> str:
        """The client's address, given a trusted peer and what X-Forwarded-For says, left to right."""
        client = peer
        for hop, entry in enumerate(reversed(chain), 1):
            address = _address(entry)
            if address is None:
                break
            client = address
            if hop == self.hops or (not self.hops and not self.trusts(address)):
                break
        return client


def split_chain(values: list[str]) -> list[str]:
    """The entries of all X-Forwarded-For fields, in order."""
    return [entry.strip() for value in values for entry in value.split(",") if entry.strip()]


def canonical_peer(host: str) -> str:
    """A socket's address as we log and compare it: no zone, no IPv4 dressed as IPv6."""
    host = host.partition("%")[0]
    if host.startswith("::ffff:"):  # in dots, or in hexadecimal, as Python writes it
        try:
            mapped = ipaddress.IPv6Address(host).ipv4_mapped
        except ValueError:
            return host
        return host if mapped is None else str(mapped)
    return host


def _address(text: str) -> str | None:
    """The bare canonical address of an entry like `10.0.0.1`, `10.0.0.1:80` or `[::1]:80`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return canonical_peer(str(ipaddress.ip_address(text.partition("%")[0])))
    except ValueError:
        return None


def lines_for_stranger(peer: str, scheme: str) -> bytes:
    """What the upstream hears about an untrusted peer; the same for all requests of a connection."""
    return f"x-forwarded-for: {peer}\r\nx-real-ip: {peer}\r\nx-forwarded-proto: {scheme}\r\n".encode("latin-1")


def lines_for_trusted(peer: str, client: str, chain: list[str], scheme: str) -> bytes:
    """What the upstream hears when a trusted proxy stands before us; `scheme` is what that proxy saw."""
    heard = ", ".join([*chain, peer])
    return f"x-forwarded-for: {heard}\r\nx-real-ip: {client}\r\nx-forwarded-proto: {scheme}\r\n".encode("latin-1")
