"""Splits, as clients meet them: canaries, and who stays with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.directives.house import serving
from tests.directives.patients import Patient, listed, patients
from tests.directives.test_limits import PROXIED
from tests.workers.child import Client
from tests.workers.origin import closed_port

ROUTE = 'route "split" {{ matches {{ path-prefix "/"; }}; priority 1; split {{ {} }}; {} }}'


def split(
    stable: Patient, canary: Patient | int, *directives: str, weights: tuple[int, int] = (1, 1), more: str = ""
) -> dict[str, str]:
    """Parts of a configuration whose first route goes to `origin` and to `canary`."""
    port = canary if isinstance(canary, int) else canary.port
    shares = f'upstream "origin" weight={weights[0]}; upstream "canary" weight={weights[1]};'
    inner = "; ".join([*directives, shares])
    return {
        "routes": ROUTE.format(inner, more), "endpoints": listed(stable),
        "upstream": f'}}\nupstream "canary" {{\nendpoint "127.0.0.1:{port}"',
    }  # fmt: skip


def bodies(client: Client, *fields: str, count: int = 40) -> set[str]:
    return {client.get("/", *fields).body.decode() for _ in range(count)}


@pytest.mark.directive("route/split/upstream", "route/split/upstream@weight")
@pytest.mark.parametrize(
    ("weights", "expected"), [((1, 1), {"stable", "canary"}), ((1, 0), {"stable"}), ((0, 3), {"canary"})]
)
def test_requests_are_spread_by_weight(tmp_path: Path, weights: tuple[int, int], expected: set[str]) -> None:
    with patients("stable", "canary") as (one, other), serving(
        tmp_path, **split(one, other, weights=weights)
    ) as worker:  # fmt: skip
        assert bodies(Client(worker.port)) == expected, "by chance: both come within 40, but for one time in 2**39"
        assert len({line["upstream"] for line in worker.log(40)}) == len(expected)


@pytest.mark.directive("route/split/key")
def test_who_has_the_same_key_stays_where_he_was(tmp_path: Path) -> None:
    with patients("stable", "canary") as (one, other), serving(
        tmp_path, **split(one, other, 'key "header:x-user"')
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        seen = [bodies(client, f"X-User: {number}", count=3) for number in range(20)]
        assert all(len(one) == 1 for one in seen)
        assert len(set.union(*seen)) == 2


@pytest.mark.directive("route/split/ipv4-prefix", "route/split/ipv6-prefix")
@pytest.mark.parametrize(
    ("prefix", "network", "is_one"),
    [
        ("ipv4-prefix 32", "192.0.2.{}", False), ("ipv4-prefix 24", "192.0.2.{}", True),
        ("ipv6-prefix 64", "2001:db8::{}", True), ("ipv6-prefix 128", "2001:db8::{}", False),
    ],
)  # fmt: skip
def test_clients_of_one_network_go_together(tmp_path: Path, prefix: str, network: str, is_one: bool) -> None:
    with patients("stable", "canary") as (one, other), serving(
        tmp_path, **PROXIED, **split(one, other, 'key "client-ip"', prefix)
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        fields = [f"X-Forwarded-For: {network.format(number)}" for number in range(1, 40)]
        assert len(set.union(*[bodies(client, field, count=1) for field in fields])) == (1 if is_one else 2)


def test_a_request_whose_upstream_fails_does_not_go_to_the_other(tmp_path: Path) -> None:
    more = 'retry { attempts 3; on "connect-failure"; };'
    with patients("stable") as (one,), serving(
        tmp_path, **split(one, closed_port(), weights=(0, 1), more=more)
    ) as worker:  # fmt: skip
        answer = Client(worker.port).get("/")
        assert (answer.status, answer.fields["x-sentinel-reason"]) == (502, "connect-failed")
        assert worker.log(1)[0]["upstream"] == "canary"
        assert one.asked == 0
