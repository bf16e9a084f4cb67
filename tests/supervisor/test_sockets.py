"""The doors, with the kernel's own queues behind them."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from supervisor.sockets import BindFault, Sockets, explain, listen_alone, parse

HAS_IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sockets(stack: ExitStack) -> Sockets:
    sockets = Sockets()
    stack.callback(lambda: [sockets.close(door.address) for door in sockets.doors()])
    return sockets


def free(host: str = "127.0.0.1") -> str:
    """An address that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host.strip("[]"), 0))
        return f"{host}:{probe.getsockname()[1]}"


def connect(address: str, stack: ExitStack) -> socket.socket:
    family, place = parse(address)
    one = stack.enter_context(socket.socket(family))
    one.settimeout(5)
    one.connect(place)
    return one


def accept_all(fds: tuple[int, ...]) -> int:
    """How many connections these listeners hold; each is closed at once."""
    count = 0
    for fd in fds:
        with socket.socket(fileno=os.dup(fd)) as listener:
            while select.select([listener], [], [], 0)[0]:
                listener.accept()[0].close()
                count += 1
    return count


def test_nobody_is_let_in_before_a_lane_is_opened(sockets: Sockets, stack: ExitStack) -> None:
    address = free()
    sockets.prepare([address], [0, 1])
    with pytest.raises(ConnectionRefusedError):
        connect(address, stack)
    sockets.open([address], [0, 1])
    connect(address, stack)
    assert sockets.statistics() == {address: {"sockets": 2, "waiting": 1}}


def test_each_lane_has_a_queue_of_its_own_and_together_they_get_everybody(sockets: Sockets, stack: ExitStack) -> None:
    address = free()
    sockets.prepare([address], range(4))
    sockets.open([address], range(4))
    for _ in range(40):
        connect(address, stack)
    fds = [sockets.heritage([address], lane, 4)[address] for lane in range(4)]
    assert len({fd for lane in fds for fd in lane}) == 4
    assert all(len(lane) == 1 for lane in fds)
    counts = [accept_all(lane) for lane in fds]
    assert sum(counts) == 40
    assert sum(count > 0 for count in counts) > 1


def test_preparing_twice_binds_only_what_is_new(sockets: Sockets) -> None:
    address = free()
    sockets.prepare([address], [0])
    (first,) = sockets.heritage([address], 0, 1)[address]
    sockets.prepare([address], [0, 1])
    assert sockets.heritage([address], 0, 2)[address] == (first,)
    assert sockets.statistics()[address]["sockets"] == 2


def test_orphaned_lanes_are_shared_out_among_those_that_remain(sockets: Sockets) -> None:
    address = free()
    sockets.prepare([address], range(5))
    sockets.open([address], range(5))
    heirs = [sockets.heritage([address], lane, 2)[address] for lane in range(2)]
    assert [len(fds) for fds in heirs] == [3, 2]
    assert {fd for fds in heirs for fd in fds} == set(sockets.everything([address])[address])


def test_a_lane_that_does_not_listen_is_nobody_s_orphan(sockets: Sockets) -> None:
    address = free()
    sockets.prepare([address], range(4))
    sockets.open([address], [0])
    assert len(sockets.heritage([address], 0, 1)[address]) == 1


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_of_another_process_is_a_fault_that_names_it_even_if_it_would_share(
    sockets: Sockets, stack: ExitStack, shares: bool
) -> None:
    address = free()
    other = stack.enter_context(socket.socket())
    if shares:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(parse(address)[1])
    other.listen()
    with pytest.raises(BindFault) as caught:
        sockets.prepare([address], [0])
    assert caught.value.is_taken
    assert str(caught.value).startswith(f"cannot listen on {address}: another process listens there; ")
    assert "choose another port" in str(caught.value)


def test_a_fault_leaves_everything_as_it_was(sockets: Sockets, stack: ExitStack) -> None:
    old, new, taken = free(), free(), free()
    sockets.prepare([old], [0])
    other = stack.enter_context(socket.socket())
    other.bind(parse(taken)[1])
    other.listen()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BindFault, match=taken):
        sockets.prepare([old, new, taken], [0, 1, 2])
    assert len(os.listdir("/proc/self/fd")) == before
    assert sockets.statistics() == {old: {"sockets": 1, "waiting": 0}}
    with closing(socket.socket()) as free_again:
        free_again.bind(parse(new)[1])


def test_connections_that_a_dead_instance_left_behind_do_not_hold_the_port(stack: ExitStack) -> None:
    """TIME_WAIT of whoever closed first is no reason not to start again."""
    address = free()
    first = Sockets()
    first.prepare([address], [0])
    first.open([address], [0])
    client = connect(address, stack)
    accept_all(first.heritage([address], 0, 1)[address])
    assert client.recv(1) == b""
    client.close()
    first.close(address)
    second = Sockets()
    second.prepare([address], [0])
    second.open([address], [0])
    connect(address, stack)
    second.close(address)


# Hushing.


def let_in(address: str, stack: ExitStack) -> socket.socket:
    """Begin to connect; it is told by poll when it is let in."""
    one = stack.enter_context(socket.socket())
    one.setblocking(False)
    assert one.connect_ex(parse(address)[1]) == errno.EINPROGRESS
    return one


def test_a_hushed_door_lets_nobody_new_in_and_keeps_whoever_waits(sockets: Sockets, stack: ExitStack) -> None:
    address = free()
    sockets.prepare([address], [0])
    sockets.open([address], [0])
    connect(address, stack)
    sockets.hush(address)
    (door,) = sockets.doors()
    assert (door.waiting, door.hushed_ns > 0) == (1, True)
    late = let_in(address, stack)
    # Loopback answers within the very call: a knock that was heard would be writable by now.
    assert select.select([], [late], [], 0)[1] == []
    assert accept_all(sockets.everything([address])[address]) == 1
    (door,) = sockets.doors()
    assert door.waiting == 0
    assert sockets.close(address) == 0


def test_closing_tells_how_many_it_resets(sockets: Sockets, stack: ExitStack) -> None:
    address = free()
    sockets.prepare([address], [0, 1])
    sockets.open([address], [0, 1])
    client = connect(address, stack)
    assert sockets.close(address) == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(address, stack)


def test_a_hushed_door_that_is_wanted_again_opens_with_lanes_that_were_bound_since(
    sockets: Sockets, stack: ExitStack
) -> None:
    address = free()
    sockets.prepare([address], [0])
    sockets.open([address], [0])
    sockets.hush(address)
    sockets.prepare([address], [0, 1, 2])
    sockets.open([address], [0, 1, 2])
    for _ in range(20):
        connect(address, stack)
    assert sockets.doors()[0].hushed_ns == 0
    assert accept_all(sockets.everything([address])[address]) == 20


# From one interface to all.


def test_all_interfaces_can_follow_one_and_the_other_way_round(sockets: Sockets, stack: ExitStack) -> None:
    narrow = free()
    wide = narrow.replace("127.0.0.1", "0.0.0.0")
    for former, later in ((narrow, wide), (wide, narrow)):
        sockets.prepare([former], [0])
        sockets.open([former], [0])
        sockets.prepare([later], [0])
        sockets.open([later], [0])
        sockets.close(former)
        connect(narrow, stack)
        assert accept_all(sockets.everything([later])[later]) == 1
        sockets.close(later)


def test_an_overlap_with_somebody_else_is_still_a_fault(sockets: Sockets, stack: ExitStack) -> None:
    mine, taken = free(), free()
    sockets.prepare([mine], [0])
    other = stack.enter_context(socket.socket())
    other.bind(parse(taken)[1])
    other.listen()
    with pytest.raises(BindFault, match="another process"):
        sockets.prepare([taken.replace("127.0.0.1", "0.0.0.0")], [0])


# Families, names, and what is none.


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_both_families_on_one_port(sockets: Sockets, stack: ExitStack) -> None:
    six = free("[::]")
    four = six.replace("[::]", "0.0.0.0")
    sockets.prepare([six, four], [0])
    sockets.open([six, four], [0])
    connect(four.replace("0.0.0.0", "127.0.0.1"), stack)
    assert accept_all(sockets.everything([six])[six]) == 0, "an IPv6 door takes no IPv4"
    assert accept_all(sockets.everything([four])[four]) == 1


def test_addresses_are_taken_apart() -> None:
    assert parse("127.0.0.1:80") == (socket.AF_INET, ("127.0.0.1", 80))
    assert parse("[::1]:65535") == (socket.AF_INET6, ("::1", 65535))


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "127.0.0.1", "127.0.0.1:", "localhost:80", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:70000",
        "127.0.0.1:-1", "127.0.0.1:+80", "127.0.0.1: 80", "256.0.0.1:80", "...:80", "\0:80", "bücher.example:80",
        "é" * 80 + ":80", "127.0.0.1:²", "[::1:80:90]:80", "127.0.0.1:" + "9" * 5000,
    ],
)  # fmt: skip
def test_whatever_is_no_numeric_address_is_a_fault_of_the_address(sockets: Sockets, text: str) -> None:
    with pytest.raises(BindFault) as caught:
        sockets.prepare([text], [0])
    assert not caught.value.is_taken
    assert sockets.doors() == ()


def test_an_address_of_no_interface_says_so(sockets: Sockets) -> None:
    with pytest.raises(BindFault, match="no interface of this machine has this address"):
        sockets.prepare(["192.0.2.1:8080"], [0])


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL, errno.EMFILE, errno.EPROTO])
def test_every_fault_names_the_address_and_the_reason(number: int) -> None:
    text = explain("127.0.0.1:80", OSError(number, os.strerror(number)))
    assert text.startswith("cannot listen on 127.0.0.1:80: ")
    assert len(text) > len("cannot listen on 127.0.0.1:80: ") + 10


def test_an_address_that_is_not_shared_is_had_by_one(stack: ExitStack) -> None:
    address = free()
    one = stack.enter_context(listen_alone(address))
    connect(address, stack)
    assert not one.get_inheritable()
    with pytest.raises(BindFault) as caught:
        listen_alone(address)
    assert caught.value.is_taken


# Sockets of systemd.


def test_an_adopted_socket_serves_all_lanes_and_is_never_hushed_nor_closed(stack: ExitStack) -> None:
    inherited = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    address = f"127.0.0.1:{inherited.getsockname()[1]}"
    kept = stack.enter_context(socket.socket(fileno=os.dup(inherited.fileno())))  # systemd's end
    sockets = Sockets({address: inherited})
    sockets.prepare([address], [0, 1, 2])
    sockets.open([address], [0, 1, 2])
    assert {sockets.heritage([address], lane, 3)[address] for lane in range(3)} == {(inherited.fileno(),)}
    connect(address, stack)
    (door,) = sockets.doors()
    assert door.is_adopted
    assert door.waiting == 0, "its queue is systemd's affair"
    sockets.hush(address)
    connect(address, stack)
    assert sockets.close(address) == 0
    connect(address, stack)
    assert accept_all((kept.fileno(),)) == 3


def test_an_adopted_socket_that_was_given_up_can_be_taken_again(stack: ExitStack) -> None:
    inherited = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    address = f"127.0.0.1:{inherited.getsockname()[1]}"
    sockets = Sockets({address: inherited})
    sockets.prepare([address], [0])
    sockets.close(address)
    sockets.prepare([address], [0])
    connect(address, stack)
    assert accept_all(sockets.everything([address])[address]) == 1


def test_what_is_not_there_has_no_descriptors(sockets: Sockets) -> None:
    assert sockets.everything(["127.0.0.1:1"]) == {}
