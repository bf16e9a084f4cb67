"""Rate limits, as clients meet them: real workers, the real table, times that nobody has to wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shm.region import Counter
from tests.directives.house import serving
from tests.workers.child import Answer, Client, Worker
from tests.workers.origin import echo, scripted

HOUR = 'rate "2/h"'


def limited(*directives: str, filters: str = '"one"', routes: str = "") -> dict[str, Any]:
    """Parts of a configuration whose two routes go through the rate limit `one`."""
    more = "\n".join(directives)
    return {
        "routes": f"""
            {routes}
            route "limited" {{
                matches {{ path-prefix "/limited"; }}
                filters {filters}
                respond 200
            }}
            route "other" {{
                matches {{ path-prefix "/other"; }}
                filters "one"
                respond 200
            }}
        """,
        "filters": f'rate-limit "one" {{\n{more}\n}}',
    }


def statuses(worker: Worker, *requests: tuple[str, ...]) -> list[int]:
    client = Client(worker.port)
    return [client.get(*request).status for request in requests]


@pytest.mark.directive("rate-limit", "rate-limit/rate", "route/filters")
def test_what_is_beyond_the_rate_is_refused_and_told_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, **limited(HOUR)) as worker:
        client = Client(worker.port)
        seen: list[Answer] = [client.get("/limited") for _ in range(3)]
        assert [one.status for one in seen] == [200, 200, 429]
        assert [one.fields["ratelimit"].split(";t=")[0] for one in seen] == ['"one";r=1', '"one";r=0', '"one";r=0']
        assert seen[2].fields["ratelimit-policy"] == '"one";q=2;w=3600'
        assert seen[2].fields["x-sentinel-reason"] == "rate-limited"
        assert 1790 <= int(seen[2].fields["retry-after"]) <= 1800, "half an hour for one of two an hour"
        assert client.get("/fixed").status == 200, "the connection is kept, and other routes are not concerned"
        assert worker.counter(Counter.LIMITS_REFUSED) == 1
        assert worker.log(4)[2]["reason"] == "rate-limited"


def test_a_forwarded_answer_tells_what_is_left(tmp_path: Path) -> None:
    parts = limited(HOUR)
    parts["route"] = 'filters "one"'
    with scripted(echo) as origin, serving(tmp_path, origin=origin.port, **parts) as worker:
        client = Client(worker.port)
        assert client.get("/").fields["ratelimit"].startswith('"one";r=1;')
        assert [client.get("/").status for _ in range(2)] == [200, 429]
        assert len(origin.heads) == 2
        assert b"ratelimit" not in origin.heads[0].lower(), "the upstream is not told"


@pytest.mark.directive("rate-limit/burst")
def test_a_burst_is_admitted_at_once_and_no_more(tmp_path: Path) -> None:
    with serving(tmp_path, **limited('rate "1/h"', "burst 5")) as worker:
        assert statuses(worker, *[("/limited",)] * 6) == [200] * 5 + [429]


@pytest.mark.directive("rate-limit/cost")
def test_a_request_costs_what_the_limit_says(tmp_path: Path) -> None:
    with serving(tmp_path, **limited('rate "10/h"', "cost 4")) as worker:
        assert statuses(worker, *[("/limited",)] * 3) == [200, 200, 429]


@pytest.mark.directive("rate-limit/key")
@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ('"header:x-tenant"', ("/limited", "X-Tenant: a"), ("/limited", "X-Tenant: b")),
        ('"cookie:id"', ("/limited", "Cookie: x=1; id=a"), ("/limited", "Cookie: id=b")),
        ('"query:id"', ("/limited?id=a",), ("/limited?id=b",)),
        ('"path-segment:2"', ("/limited/a/x",), ("/limited/b/x",)),
        ('"host"', ("/limited",), None),
        ('"route"', ("/limited",), ("/other",)),
        ('"client-ip" "header:x-tenant"', ("/limited", "X-Tenant: a"), ("/limited", "X-Tenant: b")),
        ('"header:x-tenant"', ("/limited",), ("/limited", "X-Tenant: b")),
    ],
)
def test_each_value_of_the_key_has_a_bucket_of_its_own(
    tmp_path: Path, key: str, one: tuple[str, ...], other: tuple[str, ...] | None
) -> None:
    with serving(tmp_path, **limited('rate "1/h"', f"key {key}")) as worker:
        assert statuses(worker, one, one) == [200, 429]
        if other is not None:
            assert statuses(worker, other, other, one) == [200, 429, 429]


def test_all_is_one_bucket_for_everybody(tmp_path: Path) -> None:
    with serving(tmp_path, **limited('rate "1/h"', 'key "all"')) as worker:
        assert statuses(worker, ("/limited", "X-Tenant: a"), ("/other", "X-Tenant: b")) == [200, 429]


PROXIED = {"listener": 'trusted-proxies "127.0.0.0/8"'}


@pytest.mark.directive("rate-limit/ipv4-prefix", "rate-limit/ipv6-prefix")
@pytest.mark.parametrize(
    ("prefix", "clients", "expected"),
    [
        ("", ("192.0.2.1", "192.0.2.2"), [200, 200]),
        ("ipv4-prefix 24", ("192.0.2.1", "192.0.2.2", "192.0.3.1"), [200, 429, 200]),
        ("", ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"), [200, 429, 200]),
        ("ipv6-prefix 128", ("2001:db8::1", "2001:db8::ffff"), [200, 200]),
    ],
)
def test_clients_are_told_apart_by_their_network(
    tmp_path: Path, prefix: str, clients: tuple[str, ...], expected: list[int]
) -> None:
    with serving(tmp_path, **PROXIED, **limited('rate "1/h"', prefix)) as worker:
        assert statuses(worker, *[("/limited", f"X-Forwarded-For: {one}") for one in clients]) == expected


@pytest.mark.directive("rate-limit/exempt")
def test_exempt_networks_are_not_limited(tmp_path: Path) -> None:
    with serving(tmp_path, **PROXIED, **limited('rate "1/h"', 'exempt "10.0.0.0/8"')) as worker:
        assert statuses(worker, *[("/limited", "X-Forwarded-For: 10.1.2.3")] * 3) == [200] * 3
        assert statuses(worker, *[("/limited", "X-Forwarded-For: 11.1.2.3")] * 2) == [200, 429]


@pytest.mark.directive("rate-limit/on-limit")
def test_an_observer_refuses_nothing_and_is_written_down(tmp_path: Path) -> None:
    with serving(tmp_path, **limited('rate "1/h"', 'on-limit "observe"')) as worker:
        assert statuses(worker, *[("/limited",)] * 3) == [200] * 3
        assert worker.counter(Counter.LIMITS_REFUSED) == 2


def test_several_limits_are_charged_together_or_not_at_all(tmp_path: Path) -> None:
    parts = limited('rate "1/h"', 'key "header:x"\n}\nrate-limit "two" { rate "2/h"; key "all"', filters='"one" "two"')
    with serving(tmp_path, **parts) as worker:
        a, b = ("/limited", "X: a"), ("/limited", "X: b")
        assert statuses(worker, a, a, a, b) == [200, 429, 429, 200], "what `one` refused, `two` was not charged for"
        client = Client(worker.port)
        refused = client.get("/limited", "X: c")
        assert refused.status == 429
        assert refused.fields["ratelimit"].startswith('"one";r=1;'), "and the other way round"


@pytest.mark.directive("rate-limit/when-full", "system/limit-keys")
@pytest.mark.parametrize(
    ("keys", "policy", "expected", "is_full"),
    [(1024, "admit", {200}, True), (1024, "reject", {200, 503}, True), (65_536, "reject", {200}, False)],
)
def test_a_full_table_does_what_the_limit_says(
    tmp_path: Path, keys: int, policy: str, expected: set[int], is_full: bool
) -> None:
    parts = limited('rate "1/h"', 'key "query:id"', f'when-full "{policy}"')
    with serving(tmp_path, system=f"limit-keys {keys}", **parts) as worker:
        client = Client(worker.port)
        seen = set()
        for start in range(0, 3000, 100):
            wanted = range(start, start + 100)
            client.send("".join(f"GET /limited?id={number} HTTP/1.1\r\nHost: h\r\n\r\n" for number in wanted))
            seen |= {client.answer().status for _ in wanted}
        assert seen == expected
        assert bool(worker.counter(Counter.LIMITS_FULL)) is is_full
