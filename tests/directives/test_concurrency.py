"""What is held at a time: requests under a concurrency limit, connections at a listener, turns at a rate limit."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from shm.region import Counter, Role
from tests.directives.house import serving
from tests.directives.patients import listed, patients
from tests.directives.test_limits import PROXIED, limited
from tests.workers.child import Answer, Client, Worker, wait_until
from tests.workers.origin import Conversation, scripted
from tests.workers.test_tls import make_tls
from tests.workers.test_upgrade import SWITCH, UPGRADE

ASK = "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n"


def held(worker: Worker) -> int:
    return worker.region.leases_statistics().held


def crowd(worker: Worker, count: int) -> None:
    """Somebody else holds something under so many keys, as far as there is room for them."""
    other = worker.region.claim_slot(pid=os.getpid(), birth_ns=0, role=Role.WORKER, generation=7, lane=1)
    for number in range(count):
        worker.region.hold(other, 1, b"somebody %d" % number, 1)


def parts(*directives: str, filters: str = '"few"') -> dict[str, str]:
    """Parts of a configuration whose last route goes through the concurrency limit `few`."""
    more = "\n".join(directives)
    return {
        "route": f"filters {filters}", "filters": f'concurrency-limit "few" {{\n{more}\n}}',
        "routes": 'route "also" { matches { path "/also"; }; filters "few"; respond 200; }',
    }  # fmt: skip


def asking(worker: Worker, *fields: str, path: str = "/") -> Client:
    """A client whose request is under way."""
    lines = "".join(f"{field}\r\n" for field in fields)
    return Client(worker.port).send(f"GET {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")


def reason(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.fields.get("x-sentinel-reason", "")


LIMITED = (429, "concurrency-limited")


@pytest.mark.directive("concurrency-limit", "concurrency-limit/max")
def test_so_many_are_under_way_and_no_more(tmp_path: Path) -> None:
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), **parts("max 2")) as worker:
        one.hold.clear()
        first, second = asking(worker), asking(worker)
        wait_until(lambda: one.asked == 2, "both are under way")
        refused = Client(worker.port)
        assert reason(refused.get("/")) == LIMITED
        assert refused.get("/also").fields["retry-after"] == "1", "of whatever route: the limit is the key's"
        assert refused.get("/fixed").status == 200, "and what does not name it is not concerned"
        one.hold.set()
        assert [client.answer().status for client in (first, second)] == [200, 200]
        wait_until(lambda: held(worker) == 0, "both are over")
        assert refused.get("/").status == 200
        assert worker.counter(Counter.LEASES_REFUSED) == 2
        assert worker.log(3)[0]["reason"] == "concurrency-limited"


@pytest.mark.directive("concurrency-limit/key")
@pytest.mark.parametrize(
    ("key", "mine", "others"),
    [
        ('key "header:x-tenant"', "X-Tenant: a", "X-Tenant: b"),
        ('key "cookie:id"', "Cookie: id=a", "Cookie: id=b"),
        ("", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"),
        ('key "all"', "X-Forwarded-For: 192.0.2.1", None),
    ],
)
def test_each_value_of_the_key_has_its_own_room(tmp_path: Path, key: str, mine: str, others: str | None) -> None:
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), **PROXIED, **parts("max 1", key)) as worker:
        one.hold.clear()
        first = asking(worker, mine)
        wait_until(lambda: one.asked == 1, "it is under way")
        assert reason(asking(worker, mine).answer()) == LIMITED
        if others is None:
            assert reason(asking(worker, "X-Forwarded-For: 192.0.2.2").answer()) == LIMITED
        else:
            second = asking(worker, others)
            wait_until(lambda: one.asked == 2, "theirs as well")
            one.hold.set()
            assert second.answer().status == 200
        one.hold.set()
        assert first.answer().status == 200


@pytest.mark.directive("concurrency-limit/ipv4-prefix", "concurrency-limit/ipv6-prefix")
@pytest.mark.parametrize(
    ("prefix", "one", "other", "is_refused"),
    [
        ("", "192.0.2.1", "192.0.2.2", False),
        ("ipv4-prefix 24", "192.0.2.1", "192.0.2.2", True),
        ("", "2001:db8::1", "2001:db8::2", True),
        ("ipv6-prefix 128", "2001:db8::1", "2001:db8::2", False),
    ],
)
def test_clients_of_one_network_are_counted_together(
    tmp_path: Path, prefix: str, one: str, other: str, is_refused: bool
) -> None:
    limit = parts("max 1", prefix)
    with patients("a") as (origin,), serving(tmp_path, endpoints=listed(origin), **PROXIED, **limit) as worker:
        origin.hold.clear()
        first = asking(worker, f"X-Forwarded-For: {one}")
        wait_until(lambda: origin.asked == 1, "it is under way")
        answer = asking(worker, f"X-Forwarded-For: {other}", path="/also").answer()
        assert (answer.status == 429) is is_refused
        first.close()


@pytest.mark.directive("concurrency-limit/exempt")
def test_exempt_clients_are_not_counted(tmp_path: Path) -> None:
    with patients("a") as (one,):
        limit = parts("max 1", 'key "all"', 'exempt "10.0.0.0/8"')
        with serving(tmp_path, endpoints=listed(one), **PROXIED, **limit) as worker:
            one.hold.clear()
            clients = [asking(worker, "X-Forwarded-For: 10.1.1.1") for _ in range(3)]
            wait_until(lambda: one.asked == 3, "all three are under way")
            assert held(worker) == 0
            clients.append(asking(worker))
            wait_until(lambda: one.asked == 4, "the first that counts")
            assert reason(asking(worker).answer()) == LIMITED


@pytest.mark.directive("concurrency-limit/on-limit")
def test_an_observing_limit_refuses_nothing(tmp_path: Path) -> None:
    limit = parts("max 1", 'on-limit "observe"')
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), **limit) as worker:
        one.hold.clear()
        clients = [asking(worker) for _ in range(3)]
        wait_until(lambda: one.asked == 3, "all three are under way")
        assert held(worker) == 3
        one.hold.set()
        assert [client.answer().status for client in clients] == [200] * 3


@pytest.mark.directive("concurrency-limit/when-full", "system/lease-keys")
@pytest.mark.parametrize(
    ("keys", "policy", "expected"),
    [(1024, "admit", (200, "")), (1024, "reject", (503, "leases-full")), (4096, "reject", (200, ""))],
)
def test_a_full_table_does_what_the_limit_says(
    tmp_path: Path, keys: int, policy: str, expected: tuple[int, str]
) -> None:
    limit = parts("max 1", f'when-full "{policy}"')
    with serving(tmp_path, system=f"lease-keys {keys}", **limit) as worker:
        crowd(worker, 20 * 2048 if keys == 1024 else 1024)
        assert reason(Client(worker.port).get("/also")) == expected


def test_who_leaves_gives_back_what_he_held(tmp_path: Path) -> None:
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), **parts("max 1")) as worker:
        one.hold.clear()
        client = asking(worker)
        wait_until(lambda: held(worker) == 1, "it is under way")
        client.close()
        wait_until(lambda: held(worker) == 0, "it is over")
        assert worker.log(1)[0]["reason"] == "client-gone"


def test_what_fails_gives_back_what_it_held(tmp_path: Path) -> None:
    bounds = 'limits { max-body-size "1KiB"; }'
    with serving(tmp_path, listener=bounds, **parts("max 1")) as worker:  # its origin is a closed port
        client = Client(worker.port)
        assert [client.get("/").status for _ in range(3)] == [502] * 3
        assert client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1025\r\n\r\n").answer().status == 413
        wait_until(lambda: held(worker) == 0, "it is over")


def test_a_tunnel_is_under_way_until_it_ends(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        conversation.rest()

    with scripted(script) as origin, serving(tmp_path, origin=origin.port, **parts("max 1")) as worker:
        client = Client(worker.port).send(UPGRADE)
        assert client.head()[0] == 101
        assert held(worker) == 1
        assert reason(Client(worker.port).get("/also")) == LIMITED
        client.close()
        wait_until(lambda: held(worker) == 0, "the tunnel has ended")
        assert Client(worker.port).get("/also").status == 200


def test_what_a_killed_worker_held_is_given_back_by_the_reaper(tmp_path: Path) -> None:
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), **parts("max 5")) as worker:
        one.hold.clear()
        clients = [asking(worker) for _ in range(3)]
        wait_until(lambda: held(worker) == 3, "three are under way")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        assert held(worker) == 3
        worker.region.reap_slot(worker.slot)
        assert held(worker) == 0
        assert all(client.is_closed() for client in clients)


# Turns at a rate limit.


@pytest.mark.directive("rate-limit/on-limit", "rate-limit/max-delay")
def test_a_limit_that_delays_lets_each_wait_for_its_turn(tmp_path: Path) -> None:
    limit = limited('rate "20/s"', "burst 1", 'on-limit "delay"', 'max-delay "150ms"')
    with serving(tmp_path, **limit) as worker:
        clients = [asking(worker, path="/limited") for _ in range(8)]
        answers = [client.answer() for client in clients]
        admitted = [one for one in answers if one.status == 200]
        assert 4 <= len(admitted) < 8, "one at once and three in 150 ms, and one for each 50 ms that connecting took"
        assert {reason(one) for one in answers if one.status != 200} == {(429, "rate-limited")}
        lines = worker.log(8)
        assert sum(line["duration_ms"] >= 45 for line in lines if line["status"] == 200) >= 3, "50, 100 and 150 ms"
        assert all(line["duration_ms"] < 45 for line in lines if line["status"] == 429), "told at once"


@pytest.mark.directive("rate-limit/max-waiting")
def test_no_more_wait_than_may(tmp_path: Path) -> None:
    limit = limited('rate "1/h"', 'on-limit "delay"', 'max-delay "10h"', "max-waiting 2")
    with serving(tmp_path, **limit) as worker:
        assert Client(worker.port).get("/limited").status == 200
        waiting = [asking(worker, path="/limited") for _ in range(2)]
        wait_until(lambda: worker.counter(Counter.ACCEPTED) == 3, "they are there")
        client = Client(worker.port)
        assert client.get("/fixed").status == 200, "a later read: their requests were read before"
        assert reason(client.get("/limited")) == (429, "rate-limited")
        waiting[0].close()
        assert worker.log(4)[-1]["reason"] == "client-gone", "who leaves waits no longer"
        asking(worker, path="/limited")
        assert worker.poll() is None


def test_who_waits_is_served_in_a_drain(tmp_path: Path) -> None:
    limit = limited('rate "4/s"', "burst 1", 'on-limit "delay"', 'max-delay "2s"')
    with serving(tmp_path, **limit) as worker:
        assert Client(worker.port).get("/limited").status == 200
        client = asking(worker, path="/limited")
        assert Client(worker.port).get("/fixed").status == 200
        worker.drain(10)
        answer = client.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert worker.wait() == 0


def test_a_body_that_comes_while_its_request_waits_is_kept_in_bounds(tmp_path: Path) -> None:
    body = b"b" * 5_000_000

    def count(conversation: Conversation) -> None:
        while True:
            got = conversation.body(conversation.head())
            conversation.answer(str(len(got)).encode())

    limit = limited('rate "4/s"', "burst 1", 'on-limit "delay"', 'max-delay "2s"')
    limit["route"] = 'filters "one"'
    with scripted(count) as origin, serving(
        tmp_path, origin=origin.port, listener='limits { max-body-size "10MiB"; }', **limit
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").status == 200
        client = Client(worker.port)
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert client.answer().body == b"5000000"


# Connections.


def dialled(worker: Worker, address: str) -> Client:
    sock = socket.create_connection(("127.0.0.1", worker.port), timeout=10, source_address=(address, 0))
    return Client(worker.port, sock=sock)


CROWDED = (429, "connection-limited")


@pytest.mark.directive("listener/connection-limit/total")
def test_a_listener_has_so_many_connections(tmp_path: Path) -> None:
    with serving(tmp_path, listener="connection-limit { total 2; }") as worker:
        clients = [dialled(worker, f"127.0.0.{number}") for number in (1, 2)]
        assert [client.get("/fixed").status for client in clients] == [200, 200]
        third = dialled(worker, "127.0.0.3")
        assert reason(third.answer()) == CROWDED
        assert third.is_closed()
        assert worker.log(3)[2]["client_ip"] == "127.0.0.3"
        clients[0].close()
        wait_until(lambda: held(worker) == 1, "there is room again")
        assert dialled(worker, "127.0.0.3").get("/fixed").status == 200


@pytest.mark.directive("listener/connection-limit/per-client")
def test_each_client_has_so_many_connections(tmp_path: Path) -> None:
    with serving(tmp_path, listener="connection-limit { per-client 2; }") as worker:
        mine = [dialled(worker, "127.0.0.1") for _ in range(2)]
        assert [client.get("/fixed").status for client in mine] == [200, 200]
        assert reason(dialled(worker, "127.0.0.1").answer()) == CROWDED
        assert dialled(worker, "127.0.0.2").get("/fixed").status == 200
        for client in mine:
            client.close()
        wait_until(lambda: held(worker) == 0, "all have left")


@pytest.mark.directive("listener/connection-limit/ipv4-prefix", "listener/connection-limit/ipv6-prefix")
@pytest.mark.parametrize(
    ("prefix", "one", "other", "is_refused"),
    [
        ("", "192.0.2.1", "192.0.2.2", False),
        ("ipv4-prefix 24", "192.0.2.1", "192.0.2.2", True),
        ("", "2001:db8::1", "2001:db8::2", True),
        ("ipv6-prefix 128", "2001:db8::1", "2001:db8::2", False),
    ],
)
def test_the_clients_that_a_proxy_names_are_the_ones_that_count(
    tmp_path: Path, prefix: str, one: str, other: str, is_refused: bool
) -> None:
    listener = f'trusted-proxies "127.0.0.0/8"; proxy-protocol "v1"; connection-limit {{ per-client 1; {prefix}; }}'
    with serving(tmp_path, listener=listener.replace("; ;", ";")) as worker:

        def named(address: str) -> Client:
            family = "TCP6" if ":" in address else "TCP4"
            preface = f"PROXY {family} {address} {address} 1 2\r\n"
            return Client(worker.port).send(preface + "GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n")

        first = named(one)
        assert first.answer().status == 200
        assert (reason(named(other).answer()) == CROWDED) is is_refused
        first.close()
        wait_until(lambda: held(worker) == (0 if is_refused else held(worker)), "it is counted out")


@pytest.mark.directive("listener/connection-limit/exempt")
def test_exempt_clients_may_have_more(tmp_path: Path) -> None:
    listener = 'connection-limit { per-client 1; exempt "127.0.0.2/32"; }'
    with serving(tmp_path, listener=listener) as worker:
        clients = [dialled(worker, "127.0.0.2") for _ in range(3)]
        assert [client.get("/fixed").status for client in clients] == [200] * 3
        assert held(worker) == 0


@pytest.mark.directive("listener/connection-limit/when-full")
@pytest.mark.parametrize(("policy", "expected"), [("admit", (200, "")), ("reject", CROWDED)])
def test_a_full_table_of_leases_does_what_the_listener_says(
    tmp_path: Path, policy: str, expected: tuple[int, str]
) -> None:
    listener = f'connection-limit {{ per-client 1; when-full "{policy}"; }}'
    with serving(tmp_path, system="lease-keys 1024", listener=listener) as worker:
        crowd(worker, 20 * 2048)
        assert reason(Client(worker.port).get("/fixed")) == expected


def test_a_trusted_proxy_is_nobodys_client(tmp_path: Path) -> None:
    listener = 'trusted-proxies "127.0.0.2/32"; connection-limit { per-client 1; total 3; }'
    with serving(tmp_path, listener=listener) as worker:
        clients: list[Any] = [dialled(worker, "127.0.0.2") for _ in range(3)]
        assert [client.get("/fixed").status for client in clients] == [200] * 3
        assert reason(dialled(worker, "127.0.0.2").answer()) == CROWDED, "but it counts in the total"


def test_connections_that_never_shake_hands_are_counted_out(tmp_path: Path) -> None:
    tls = make_tls().certificates[0]
    (tmp_path / "cert.pem").write_text(tls.chain_pem)
    (tmp_path / "key.pem").write_text(tls.key_pem)
    listener = f'tls {{ certificate "{tmp_path}/cert.pem"; key "{tmp_path}/key.pem"; }}'
    with serving(tmp_path, listener=f"{listener}; connection-limit {{ total 3; }}") as worker:
        silent, rude, plain = Client(worker.port), Client(worker.port), Client(worker.port)
        wait_until(lambda: held(worker) == 3, "they are counted from the first octet on, and before")
        assert Client(worker.port).rest() == b"", "on TLS listeners the connection is only closed"
        silent.close()
        rude.send(b"\x16\x03\x01rubbish").close()
        assert plain.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer().status == 400
        plain.close()
        wait_until(lambda: held(worker) == 0, "all three are counted out")
        assert worker.log(2)[0]["reason"] == "connection-limited"
