"""How endpoints are chosen, as clients meet it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.directives.house import serving
from tests.directives.patients import Patient, listed, patients
from tests.workers.child import Client, Worker, wait_until

ASK = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def bodies(client: Client, count: int, *headers: str) -> list[str]:
    return [client.get("/", *headers).body.decode() for _ in range(count)]


def busy(worker: Worker, patient: Patient, others: tuple[Patient, ...]) -> list[Client]:
    """Have one request under way at this endpoint, and none elsewhere."""
    patient.hold.clear()
    clients = []
    while not patient.asked:
        client = Client(worker.port).send(ASK)
        clients.append(client)
        wait_until(lambda: sum(one.asked for one in (patient, *others)) == len(clients), "it was asked")
    return clients


@pytest.mark.directive("upstream/balance")
def test_the_one_with_the_fewest_requests_in_flight_is_chosen(tmp_path: Path) -> None:
    with patients("a", "b") as (one, other), serving(
        tmp_path, endpoints=listed(one, other), upstream='balance "least-request"'
    ) as worker:  # fmt: skip
        waiting = busy(worker, one, (other,))
        assert set(bodies(Client(worker.port), 8)) == {"b"}
        one.hold.set()
        assert waiting[-1].answer().body == b"a"


@pytest.mark.directive("upstream/balance")
def test_of_two_the_less_busy_one_is_chosen(tmp_path: Path) -> None:
    with patients("a", "b") as (one, other), serving(
        tmp_path, endpoints=listed(one, other), upstream='balance "power-of-two"'
    ) as worker:  # fmt: skip
        waiting = busy(worker, one, (other,))
        assert set(bodies(Client(worker.port), 8)) == {"b"}, "of two endpoints both are looked at"
        one.hold.set()
        assert waiting[-1].answer().body == b"a"


@pytest.mark.directive("upstream/balance/half-life")
def test_the_quicker_one_is_chosen_until_slowness_is_forgotten(tmp_path: Path) -> None:
    for half_life, forgets in (("1h", False), ("10ms", True)):
        with patients("a", "b") as (slow, quick), serving(
            tmp_path / half_life, endpoints=listed(slow, quick),
            upstream=f'balance "peak-ewma" {{ half-life "{half_life}"; }}',
        ) as worker:  # fmt: skip
            waiting = busy(worker, slow, (quick,))
            assert "b" in bodies(Client(worker.port), 8)
            slow.hold.wait(0.1)  # what makes it slow
            slow.hold.set()
            assert waiting[-1].answer().body == b"a"
            client = Client(worker.port)
            if forgets:
                wait_until(lambda: client.get("/").body == b"a", "it is forgotten")  # noqa: B023
            else:
                assert set(bodies(client, 20)) == {"b"}


@pytest.mark.directive("upstream/balance/key")
@pytest.mark.parametrize("kind", ["maglev", "ring"])
def test_a_key_goes_to_one_endpoint(tmp_path: Path, kind: str) -> None:
    balance = f'balance "{kind}" {{ key "header:x-user"; }}'
    with patients("a", "b", "c") as found:
        homes = []
        for restart in ("one", "two"):
            with serving(tmp_path / restart, endpoints=listed(*found), upstream=balance) as worker:
                client = Client(worker.port)
                homes.append([set(bodies(client, 3, f"x-user: {user}")) for user in range(20)])
        assert all(len(home) == 1 for home in homes[0])
        assert len(set().union(*homes[0])) == 3, "twenty users, three endpoints"
        assert homes[0] == homes[1], "also after a restart"


@pytest.mark.directive("upstream/balance/max-load")
def test_an_endpoint_with_too_much_of_it_is_passed_over(tmp_path: Path) -> None:
    balance = 'balance "maglev" {{ key "header:x-user"; {} }}'
    for load, seen in (("", {"a"}), ('max-load "101%";', {"a", "b"})):
        with patients("a", "b") as (one, other), serving(
            tmp_path / (load[:3] or "none"), endpoints=listed(one, other), upstream=balance.format(load)
        ) as worker:  # fmt: skip
            client = Client(worker.port)
            user = next(user for user in range(99) if client.get("/", f"x-user: {user}").body == b"a")
            one.asked = other.asked = 0
            one.hold.clear()
            ask = f"GET / HTTP/1.1\r\nHost: h\r\nx-user: {user}\r\n\r\n"
            waiting = [Client(worker.port).send(ask) for _ in range(4)]
            wait_until(lambda: one.asked + other.asked == 4, "all were asked")  # noqa: B023
            one.hold.set()
            assert {one.answer().body.decode() for one in waiting} == seen


@pytest.mark.directive("upstream/balance/ipv4-prefix", "upstream/balance/ipv6-prefix")
@pytest.mark.parametrize(("name", "form"), [("ipv4-prefix", "10.0.{}.1"), ("ipv6-prefix", "2001:db8:0:{}::1")])
def test_addresses_of_one_network_are_one_client(tmp_path: Path, name: str, form: str) -> None:
    listener = 'trusted-proxies "127.0.0.0/8"'
    with patients("a", "b") as found:
        for setting, count in (("", 2), (f"{{ {name} {16 if '.' in form else 32}; }}", 1)):
            with serving(
                tmp_path / str(count), endpoints=listed(*found), upstream=f'balance "ip-hash" {setting}',
                listener=listener,
            ) as worker:  # fmt: skip
                client = Client(worker.port)
                seen = {client.get("/", f"x-forwarded-for: {form.format(at)}").body for at in range(30)}
                assert len(seen) == count


@pytest.mark.directive("upstream/endpoint@priority")
def test_the_second_priority_serves_when_the_first_cannot(tmp_path: Path) -> None:
    with patients("a", "b") as (one, other):
        endpoints = f'{listed(one)}\nendpoint "127.0.0.1:{other.port}" priority=1'
        check = 'health-check { path "/h"; interval "20ms"; unhealthy-after 1; }'
        with serving(tmp_path, endpoints=endpoints, upstream=check) as worker:
            client = Client(worker.port)
            assert set(bodies(client, 6)) == {"a"}
            one.status = 500
            wait_until(lambda: client.get("/").body == b"b", "the other one takes over")


@pytest.mark.directive("upstream/locality", "upstream/endpoint@locality")
def test_near_endpoints_are_used_first(tmp_path: Path) -> None:
    with patients("a", "b") as (near, far):
        endpoints = listed(near, extra='locality="here"') + "\n" + listed(far, extra='locality="there"')
        for here, seen in (("", {"a", "b"}), ('locality "here"', {"a"}), ('locality "there"', {"b"})):
            with serving(tmp_path / here[10:-1], endpoints=endpoints, upstream=here) as worker:
                assert set(bodies(Client(worker.port), 8)) == seen


SECRET, NEWER = "0123456789abcdef", "fedcba9876543210"


def cookie_of(client: Client, *headers: str) -> tuple[bytes, str]:
    answer = client.get("/", *headers)
    return answer.body, answer.fields.get("set-cookie", "")


@pytest.mark.directive("upstream/sticky-cookie", "upstream/sticky-cookie/secret")
def test_a_cookie_brings_a_client_back_also_after_a_restart(tmp_path: Path) -> None:
    with patients("a", "b") as found:
        with serving(
            tmp_path / "1", endpoints=listed(*found), upstream=f'sticky-cookie "srv" {{ secret "{SECRET}"; }}'
        ) as worker:  # fmt: skip
            client = Client(worker.port)
            body, made = cookie_of(client)
            cookie = "cookie: " + made.partition(";")[0]
            assert made.endswith("Path=/; HttpOnly; SameSite=Lax")
            assert {cookie_of(client, cookie) for _ in range(6)} == {(body, "")}, "no new one while it is good"
            forged = [cookie_of(client, cookie[:-1] + ("0" if cookie[-1] != "0" else "1")) for _ in range(6)]
            assert all(renewed for _, renewed in forged) and len({one for one, _ in forged}) == 2
        with serving(
            tmp_path / "2", endpoints=listed(*found),
            upstream=f'sticky-cookie "srv" {{ secret "{NEWER}" "{SECRET}"; }}',
        ) as worker:  # fmt: skip
            client = Client(worker.port)
            assert {cookie_of(client, cookie) for _ in range(6)} == {(body, "")}, "a secret that is replaced"


@pytest.mark.directive(
    "upstream/sticky-cookie/max-age", "upstream/sticky-cookie/path", "upstream/sticky-cookie/same-site",
    "upstream/sticky-cookie/secure",
)  # fmt: skip
def test_a_cookie_is_made_as_it_is_told(tmp_path: Path) -> None:
    sticky = f'sticky-cookie "s" {{ secret "{SECRET}"; max-age "1d"; path "/app"; same-site "none"; secure true; }}'
    with patients("a") as found, serving(tmp_path, endpoints=listed(*found), upstream=sticky) as worker:
        _, made = cookie_of(Client(worker.port))
        assert made.startswith("s=1.")
        assert made.partition("; ")[2] == "Path=/app; HttpOnly; SameSite=None; Max-Age=86400; Secure"


def test_a_client_whose_endpoint_is_gone_gets_another_and_a_new_cookie(tmp_path: Path) -> None:
    sticky = f'sticky-cookie "srv" {{ secret "{SECRET}"; }}; circuit-breaker {{ failures 1; open-for "1h"; }}'
    with patients("a", "b") as found, serving(tmp_path, endpoints=listed(*found), upstream=sticky) as worker:
        client = Client(worker.port)
        body, made = cookie_of(client)
        cookie = "cookie: " + made.partition(";")[0]
        found["ab".index(body.decode())].status = 500
        assert client.get("/", cookie).status == 500
        other, renewed = cookie_of(client, cookie)
        assert other != body and renewed


@pytest.mark.directive("upstream/limits/max-requests", "upstream/limits/max-endpoint-requests")
@pytest.mark.parametrize("name", ["max-requests", "max-endpoint-requests"])
def test_more_than_so_many_in_flight_are_refused(tmp_path: Path, name: str) -> None:
    limits = f"limits {{ {name} 1; }}"
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), upstream=limits) as worker:
        waiting = busy(worker, one, ())
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (503, "upstream-full")
        one.hold.set()
        assert waiting[0].answer().status == 200
        assert Client(worker.port).get("/").status == 200, "it was given back"


@pytest.mark.directive("upstream/limits/max-pending")
def test_some_may_wait_for_room(tmp_path: Path) -> None:
    limits = 'limits { max-requests 1; max-pending 1; pending-timeout "10s"; }'
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), upstream=limits) as worker:
        waiting = busy(worker, one, ())
        second = Client(worker.port).send(ASK)
        wait_until(lambda: Client(worker.port).get("/").status == 503, "the third one finds the queue full")
        one.hold.set()
        assert [client.answer().status for client in (waiting[0], second)] == [200, 200]
        assert Counter(line["reason"] for line in worker.log(3))["proxied"] >= 2


@pytest.mark.directive("upstream/limits/pending-timeout")
def test_nobody_waits_longer_than_so_long(tmp_path: Path) -> None:
    limits = 'limits { max-requests 1; max-pending 9; pending-timeout "100ms"; }'
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), upstream=limits) as worker:
        waiting = busy(worker, one, ())
        assert Client(worker.port).get("/").fields["x-sentinel-reason"] == "upstream-full"
        one.hold.set()
        assert waiting[0].answer().status == 200
