"""The listening sockets: the supervisor's, one a lane, and never closed under anybody.

Intuition: doors of a house whose doormen change. Each lane has its own queue before
its own door (SO_REUSEPORT); old and new doormen of a lane stand at the same
door, so a change of shift turns nobody away. A door is bricked up only when
nobody stands before it.

Rule 1: `prepare` binds, `open` listens. A bound socket is in nobody's way; a
    listening one gets its share of connections at once, and they would wait
    until somebody accepts. So a new lane listens only when its worker is ready.
Rule 2: `prepare` does all or nothing: when one address cannot be bound, those that
    were bound with it are given back, and the fault names the address.
Rule 3: lanes that nobody owns any more (there are fewer workers now) stay open,
    since the kernel goes on filling their queues; the remaining lanes share
    them out and accept from them too.
Rule 4: before an address is closed it is hushed: a filter on the socket drops
    what would begin a connection, and lets handshakes end that have begun. Then
    the queue only shrinks, and closing it empty resets nobody. Who knocks
    meanwhile tries again a second later, as for any lost packet, and is then
    refused, or let in by whoever listens there by then.
Rule 5: an adopted socket (systemd's) is shared by all lanes and by systemd, which
    keeps it when we leave. It is never hushed, and closing it closes our end only.

Rejected: closing the orphaned sockets of a shrunk fleet once they are empty. A hushed
socket of a group that still listens would drop every attempt of whoever hashes
to it, and an unhushed one resets whoever comes between the look and the close.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from supervisor.actions import Door

BACKLOG: Final = 4096
"""The kernel cuts it to net.core.somaxconn, which is 4096 by default: seconds of connections at any rate we serve."""
UNACKED_AT: Final = 24
"""tcpi_unacked in struct tcp_info; of a listening socket it is the length of its accept queue (tcp_get_info)."""
PORT_MAX: Final = 65_535
NOT_NUMERIC: Final = "it is no numeric address with a port, such as 127.0.0.1:8080 or [::1]:8080"
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
# Classic BPF over the TCP header: if (flags & (SYN|ACK)) == SYN, keep 0 octets (drop), else keep all.
NO_NEW_CONNECTIONS: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # ldb [13]: the flags
        (0x54, 0, 0, 0x12),  # and #(ACK|SYN)
        (0x15, 0, 1, 0x02),  # jeq #SYN, next, skip one
        (0x06, 0, 0, 0),  # ret #0
        (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
    )
)


class BindFault(Exception):
    """An address that cannot be listened on; the text names it and says why. `is_taken`: by another process."""

    def __init__(self, address: str, fault: OSError) -> None:
        super().__init__(explain(address, fault))
        self.is_taken = fault.errno == errno.EADDRINUSE


@dataclass(slots=True)
class Group:
    """The sockets of one address, by lane. An adopted one is of no lane: `shared`."""

    address: str
    lanes: dict[int, socket.socket] = field(default_factory=dict)
    listening: set[int] = field(default_factory=set)
    shared: socket.socket | None = None
    hushed_ns: int = 0

    def sockets(self) -> list[socket.socket]:
        return [*self.lanes.values()] if self.shared is None else [self.shared]


class Sockets:
    """All listening sockets of the data plane. Used by the supervisor's thread."""

    def __init__(self, adopted: Mapping[str, socket.socket] | None = None) -> None:
        self._groups: dict[str, Group] = {}
        self._adopted = dict(adopted or {})

    def prepare(self, addresses: Collection[str], lanes: Collection[int]) -> None:
        """Bind what is not bound yet; BindFault if that cannot be, and then nothing has changed."""
        made: list[tuple[Group, int]] = []
        founded: list[str] = []
        try:
            for address in addresses:
                if address not in self._groups:
                    self._groups[address] = self._found(address)
                    founded.append(address)
                group = self._groups[address]
                for lane in lanes if group.shared is None else ():
                    if lane not in group.lanes:
                        group.lanes[lane] = _bind(address)
                        made.append((group, lane))
        except OSError as fault:
            for group, lane in made:
                group.lanes.pop(lane).close()
            for one in founded:
                self._groups.pop(one)
            raise BindFault(address, fault) from None

    def open(self, addresses: Collection[str], lanes: Collection[int]) -> None:
        """Listen on these lanes, on whatever of them does not listen yet."""
        for address in addresses:
            group = self._groups[address]
            _unhush(group)
            for lane in sorted(set(lanes) & group.lanes.keys() - group.listening):
                try:
                    group.lanes[lane].listen(BACKLOG)
                except OSError as fault:
                    raise BindFault(address, fault) from None
                group.listening.add(lane)

    def heritage(self, addresses: Collection[str], lane: int, lanes_count: int) -> dict[str, tuple[int, ...]]:
        """The descriptors for one worker: its own lane's first, then its share of the orphaned ones."""
        found: dict[str, tuple[int, ...]] = {}
        for address in addresses:
            group = self._groups[address]
            if group.shared is not None:
                found[address] = (group.shared.fileno(),)
                continue
            orphans = sorted(one for one in group.listening if one >= lanes_count)
            mine = [lane, *(one for place, one in enumerate(orphans) if place % lanes_count == lane)]
            found[address] = tuple(group.lanes[one].fileno() for one in mine if one in group.lanes)
        return found

    def everything(self, addresses: Collection[str]) -> dict[str, tuple[int, ...]]:
        """All descriptors of these addresses, for a sweeper."""
        return {
            address: tuple(one.fileno() for one in group.sockets())
            for address in addresses
            if (group := self._groups.get(address)) is not None
        }

    def hush(self, address: str) -> None:
        """Let nobody new into the queues of an address."""
        group = self._groups[address]
        if group.shared is None:
            for one in group.lanes.values():
                _attach(one)
        group.hushed_ns = time.monotonic_ns()

    def close(self, address: str) -> int:
        """Close an address; returns how many connections waited in its queues, and are reset now."""
        group = self._groups.pop(address)
        waiting = 0 if group.shared is not None else _waiting(group)
        for one in group.lanes.values():
            one.close()
        return waiting

    def doors(self) -> tuple[Door, ...]:
        """What is open, for the policy. Queues are looked at only once they can just shrink."""
        return tuple(
            Door(
                address=group.address, hushed_ns=group.hushed_ns, is_adopted=group.shared is not None,
                waiting=_waiting(group) if group.hushed_ns and group.shared is None else 0,
            )
            for group in self._groups.values()
        )  # fmt: skip

    def statistics(self) -> dict[str, dict[str, int]]:
        """Sockets and waiting connections by address, for status."""
        return {
            group.address: {"sockets": len(group.sockets()), "waiting": _waiting(group)}
            for group in self._groups.values()
        }  # fmt: skip

    def _found(self, address: str) -> Group:
        adopted = self._adopted.get(address)
        if adopted is not None:
            return Group(address, shared=adopted)
        try:
            _claim(address)
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE or not self._overlaps(address):
                raise
        return Group(address)

    def _overlaps(self, address: str) -> bool:
        """Whether it may be we who listen there: "0.0.0.0:80" is to follow "127.0.0.1:80", or the other way round."""
        family, (_, port) = parse(address)
        return any((family, port) == (other, place[1]) for other, place in map(parse, self._groups))


def listen_alone(address: str) -> socket.socket:
    """One socket that listens and shares its address with nobody; BindFault if it cannot be had."""
    try:
        family, place = parse(address)
        one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _prepare(one, family)
            one.bind(place)
            one.listen(BACKLOG)
        except OSError:
            one.close()
            raise
    except OSError as fault:
        raise BindFault(address, fault) from None
    return one


def explain(address: str, fault: OSError) -> str:
    """Say why an address cannot be listened on, and what to do."""
    remedies = {
        errno.EADDRINUSE: "another process listens there; stop that one (`ss -ltnp` shows it), or choose another port",
        errno.EACCES: "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE or a socket from systemd",
        errno.EADDRNOTAVAIL: "no interface of this machine has this address",
        errno.EMFILE: "too many open files; raise LimitNOFILE (ulimit -n)",
    }
    text = remedies.get(fault.errno or 0, fault.strerror or str(fault))
    return f"cannot listen on {address}: {text}"


def parse(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Take "127.0.0.1:80" or "[::1]:80" apart; OSError if it is no numeric address."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE
    if not (address.isascii() and port.isdigit() and int(port[:6]) <= PORT_MAX):  # the resolver takes it modulo 65536
        raise OSError(errno.EINVAL, NOT_NUMERIC)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=numeric)
    except (socket.gaierror, UnicodeError):  # it encodes names before it finds that they are none
        raise OSError(errno.EINVAL, NOT_NUMERIC) from None
    family, _, _, _, (name, number, *_) = found[0]
    return family, (str(name), int(number))


def _claim(address: str) -> None:
    """Fail if anybody else listens there: SO_REUSEPORT would let us share with another instance without a word."""
    family, place = parse(address)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        _prepare(probe, family)
        probe.bind(place)


def _bind(address: str) -> socket.socket:
    family, place = parse(address)
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _prepare(one, family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(place)
    except OSError:
        one.close()
        raise
    return one


def _prepare(one: socket.socket, family: socket.AddressFamily) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # "[::]:80" beside "0.0.0.0:80"


def _attach(one: socket.socket) -> None:
    """Attach the filter; struct sock_fprog is a count and a pointer, which stays valid for the call."""
    code = ctypes.create_string_buffer(NO_NEW_CONNECTIONS, len(NO_NEW_CONNECTIONS))
    program = struct.pack("HP", len(NO_NEW_CONNECTIONS) // 8, ctypes.addressof(code))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _unhush(group: Group) -> None:
    if group.hushed_ns:
        for one in group.lanes.values():
            with suppress(FileNotFoundError):  # ENOENT: a lane that was bound since has no filter
                one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        group.hushed_ns = 0


def _waiting(group: Group) -> int:
    """Connections that nobody has accepted yet, over all lanes that listen."""
    listening = [group.shared] if group.shared is not None else [group.lanes[lane] for lane in group.listening]
    total = 0
    for one in listening:
        information = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        total += int.from_bytes(information[UNACKED_AT : UNACKED_AT + 4], "little")
    return total
