"""Rate limits in the core: which bucket a request is for, and what its state means."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core import limits
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.limits import Limiter, is_within, network_of
from sentinel.core.plan import (
    PLAN_VERSION,
    SECOND,
    Admin,
    Endpoint,
    Listener,
    Match,
    Plan,
    RateLimit,
    Respond,
    Route,
    System,
    Upstream,
)
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject
from sentinel.core.world import Choice, Wish
from shm import layout
from shm.limits import Outcome

LIMIT = RateLimit("one", SECOND, 10, 5)


def request(**changes: Any) -> Request:
    known: dict[str, Any] = {
        "method": "GET", "scheme": "http", "host": "h", "path": "/a/b", "query": "", "target": "/a/b", "headers": (),
        "client_ip": "192.0.2.1", "listener": "web",
    }  # fmt: skip
    return Request(**(known | changes))


def limiter(**changes: Any) -> Limiter:
    return Limiter(dataclasses.replace(LIMIT, **changes), "route")


class Till:
    """A world with buckets that answer what they are told to, and remember what they were asked."""

    def __init__(self, *answers: tuple[int, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[bytes, ...], bytes]] = []

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        self.asked.append((keys, terms))
        return self.answers.pop(0)

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        raise AssertionError("nothing is forwarded here")


def decided(till: Till, *rate_limits: RateLimit, **changes: Any) -> tuple[Any, list[Reason]]:
    names = tuple(one.name for one in rate_limits)
    route = Route("r", (Match(path_prefixes=("/",)),), 0, filters=names, respond=Respond(200))
    plan = Plan(
        PLAN_VERSION, System(), Admin(), (Listener("web", "127.0.0.1", 80),), (route,), (), rate_limits=rate_limits
    )
    trace = Trace()
    verdict = run(decide(compile_routes(plan), request(**changes), till, trace))
    return verdict, [step[0] for step in trace.steps]


def test_shared_memory_means_the_same() -> None:
    assert tuple(Outcome) == (limits.ADMITTED, limits.REFUSED, limits.FULL)
    assert layout.LIMIT_CLOSED == limits.CLOSED
    assert limits.TERM.size == 8 * layout.LIMIT_TERM_WORDS
    assert limits.KEY_CHARS_MAX <= layout.LIMIT_KEY_BYTES_MAX


def test_a_bucket_is_a_time() -> None:
    one = limiter()
    assert (one.interval_ns, one.capacity_ns) == (SECOND // 10, SECOND // 2)
    assert [one.remaining(used) for used in (0, 1, SECOND // 10, SECOND // 2)] == [5, 4, 4, 0]
    assert one.retry_ns(SECOND // 2) == SECOND // 10
    assert one.retry_ns(0) == 0
    assert limiter(count=3).interval_ns == 333_333_334, "rounded up: never more than the rate"


def test_a_refusal_tells_which_limit_and_when_to_come_back() -> None:
    two = dataclasses.replace(LIMIT, name="two", key=())
    till = Till((limits.REFUSED, 1, 0, SECOND // 2))
    verdict, reasons = decided(till, LIMIT, two)
    assert isinstance(verdict, Reject)
    assert (verdict.status, verdict.reason, reasons[-1]) == (429, Reason.RATE_LIMITED, Reason.RATE_LIMITED)
    assert dict(verdict.fields) == {
        "retry-after": "1",
        "ratelimit-policy": '"one";q=5;w=1, "two";q=5;w=1',
        "ratelimit": '"one";r=5;t=0, "two";r=0;t=1',
    }
    assert len(till.asked) == 1, "both in one question"


def test_an_observer_is_asked_after_the_others_and_refuses_nothing() -> None:
    observer = dataclasses.replace(LIMIT, name="watch", on_limit="observe")
    verdict, reasons = decided(Till((limits.ADMITTED, -1, 7), (limits.REFUSED, 0, 9)), observer, LIMIT)
    assert not isinstance(verdict, Reject)
    assert reasons == [Reason.ROUTE_MATCHED, Reason.WITHIN_LIMIT, Reason.WOULD_BE_LIMITED, Reason.RESPONDED]
    refused, reasons = decided(till := Till((limits.REFUSED, 0, SECOND)), observer, LIMIT)
    assert isinstance(refused, Reject)
    assert len(till.asked) == 1, "who was refused is not counted by observers"


def test_a_table_without_room_is_a_503_of_its_own() -> None:
    verdict, _ = decided(Till((limits.FULL, 0, 0)), LIMIT)
    assert (verdict.status, verdict.reason) == (503, Reason.LIMITS_FULL)


def test_exempt_clients_are_not_asked_for() -> None:
    till = Till()
    verdict, reasons = decided(till, dataclasses.replace(LIMIT, exempt=("192.0.2.0/24",)))
    assert (till.asked, verdict.fields, reasons) == ([], (), [Reason.ROUTE_MATCHED, Reason.RESPONDED])


@given(st.lists(st.text(max_size=4), min_size=2, max_size=2), st.lists(st.text(max_size=4), min_size=2, max_size=2))
def test_different_values_never_make_one_key(one: list[str], other: list[str]) -> None:
    both = limiter(key=("header:a", "header:b"))
    keys = [both.key(request(headers=(("a", values[0]), ("b", values[1])))) for values in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize("key", ["header:x", "cookie:x", "query:x", "path-segment:9"])
def test_what_is_absent_is_a_value_and_no_way_out(key: str) -> None:
    one = limiter(key=(key,))
    assert one.key(request()) == one.key(request(client_ip="192.0.2.99"))


def test_long_keys_stand_for_themselves_by_their_hash() -> None:
    one = limiter(key=("header:x",))
    keys = {one.key(request(headers=(("x", "a" * length),))) for length in (600, 601, 100_000)}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8::1", "2001:db8::/64"), ("unix:", "unix:")],
)
def test_addresses_are_cut_to_their_network(address: str, network: str) -> None:
    assert network_of(address, 24, 64) == network
    assert not is_within(address, ("10.0.0.0/8",))
