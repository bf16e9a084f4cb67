"""Rate limits in the core: which bucket a request is for, and what its state means."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core import keys, limits
from sentinel.core.decide import decide
from sentinel.core.drive import Pause, advance, run
from sentinel.core.keys import is_within, network_of
from sentinel.core.limits import Limiter
from sentinel.core.plan import (
    PLAN_VERSION,
    SECOND,
    Admin,
    ConcurrencyLimit,
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
from sentinel.core.verdict import Reject, Verdict
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

    def __init__(self, *answers: tuple[int, ...], room: int = 0) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[bytes, ...], bytes]] = []
        self.held: list[bytes] = []
        self.room = room  # for so many leases
        self.queue = 0
        self.waited: list[tuple[str, int]] = []

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        if len(self.held) >= self.room:
            return limits.FULL, 0, 0
        count = self.held.count(key)
        if count >= most:
            return limits.REFUSED, count, 0
        self.held.append(key)
        return limits.ADMITTED, count + 1, len(self.held)

    def let_go(self, leases: tuple[int, ...]) -> None:
        for _ in leases:
            self.held.pop()

    def waiting(self, name: str) -> int:
        return self.queue

    async def wait(self, name: str, wait_ns: int) -> None:
        self.waited.append((name, wait_ns))
        await Pause(wait_ns)

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        self.asked.append((keys, terms))
        return self.answers.pop(0)

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        raise AssertionError("nothing is forwarded here")


def deciding(
    till: Till, *wanted: RateLimit | ConcurrencyLimit, **changes: Any
) -> tuple[Coroutine[Any, Any, Verdict], Trace]:
    names = tuple(one.name for one in wanted)
    route = Route("r", (Match(path_prefixes=("/",)),), 0, filters=names, respond=Respond(200))
    plan = Plan(
        PLAN_VERSION, System(), Admin(), (Listener("web", "127.0.0.1", 80),), (route,), (),
        rate_limits=tuple(one for one in wanted if isinstance(one, RateLimit)),
        concurrency_limits=tuple(one for one in wanted if isinstance(one, ConcurrencyLimit)),
    )  # fmt: skip
    trace = Trace()
    return decide(compile_routes(plan), request(**changes), till, trace), trace


def decided(till: Till, *wanted: RateLimit | ConcurrencyLimit, **changes: Any) -> tuple[Any, list[Reason]]:
    decision, trace = deciding(till, *wanted, **changes)
    verdict = run(decision)
    return verdict, [step[0] for step in trace.steps]


def test_shared_memory_means_the_same() -> None:
    assert tuple(Outcome) == (limits.ADMITTED, limits.REFUSED, limits.FULL)
    assert layout.LIMIT_CLOSED == limits.CLOSED
    assert limits.TERM.size == 8 * layout.LIMIT_TERM_WORDS
    assert keys.KEY_CHARS_MAX <= layout.LIMIT_KEY_BYTES_MAX


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


DELAYING = dataclasses.replace(LIMIT, on_limit="delay", max_delay_ns=SECOND)


def test_who_is_beyond_the_burst_waits_until_it_is_as_if_he_were_not() -> None:
    till = Till((limits.ADMITTED, -1, SECOND // 2 + 7_000_000))
    decision, trace = deciding(till, DELAYING)
    assert advance(decision) == Pause(7_000_000)
    assert till.waited == [("one", 7_000_000)]
    assert trace.steps[-1] == (Reason.DELAYED, LIMIT.span, ("one", 7))
    verdict = advance(decision)
    assert not isinstance(verdict, Pause)
    assert verdict.fields[1] == ("ratelimit", '"one";r=0;t=1')
    assert limits.TERM.unpack(till.asked[0][1])[1] == LIMIT.burst * SECOND // 10 + SECOND, "a second deeper"


def test_who_would_wait_too_long_is_refused_and_told_when_he_would_not() -> None:
    verdict, _ = decided(Till((limits.REFUSED, 0, SECOND // 2 + 5 * SECOND)), DELAYING)
    assert (verdict.reason, verdict.fields[0]) == (Reason.RATE_LIMITED, ("retry-after", "5"))


def test_a_full_queue_takes_nobody_in() -> None:
    till = Till((limits.REFUSED, 0, SECOND // 2))
    till.queue = DELAYING.max_waiting
    verdict, _ = decided(till, DELAYING)
    assert verdict.reason is Reason.RATE_LIMITED
    assert limits.TERM.unpack(till.asked[0][1])[1] == SECOND // 2, "no deeper than the burst"


def test_of_several_turns_the_latest_is_waited_for() -> None:
    two, reject = dataclasses.replace(DELAYING, name="two"), dataclasses.replace(LIMIT, name="strict")
    till = Till((limits.ADMITTED, -1, SECOND // 2 + 2, SECOND // 2 + 3, SECOND // 2))
    decision, _ = deciding(till, DELAYING, two, reject)
    assert advance(decision) == Pause(3)
    assert till.waited == [("two", 3)]
    decision.close()


CEILING = ConcurrencyLimit("few", 2)


def test_there_is_room_for_so_many_and_no_more() -> None:
    till = Till(room=9)
    for count in (1, 2):
        decision, trace = deciding(till, CEILING)
        verdict = run(decision)
        assert not isinstance(verdict, Reject)
        assert verdict.leases == (count,)
        told = [step[2][:3] for step in trace.steps if step[0] is Reason.WITHIN_CONCURRENCY]
        assert told == [("few", count, CEILING.most)]
    refused, reasons = decided(till, CEILING)
    assert (refused.status, refused.reason, reasons[-1]) == (
        429, Reason.CONCURRENCY_LIMITED, Reason.CONCURRENCY_LIMITED,
    )  # fmt: skip
    assert refused.fields == (("retry-after", "1"),)
    other, _ = decided(till, CEILING, client_ip="192.0.2.2")
    assert other.leases == (3,)


def test_what_is_refused_later_has_held_nothing_and_was_charged_nothing() -> None:
    none = dataclasses.replace(CEILING, name="none", most=1, key=())
    till = Till((limits.ADMITTED, -1, 0), room=9)
    decided(till, none, LIMIT)
    verdict, _ = decided(till, CEILING, none, LIMIT)
    assert verdict.reason is Reason.CONCURRENCY_LIMITED
    assert len(till.held) == 1, "what the first ceiling gave was put back"
    assert len(till.asked) == 1, "and the rate limit was not asked"
    till.answers.append((limits.REFUSED, 0, SECOND))
    till.held.clear()
    verdict, _ = decided(till, CEILING, LIMIT)
    assert (verdict.reason, till.held) == (Reason.RATE_LIMITED, [])


def test_who_leaves_while_he_waits_leaves_nothing_behind() -> None:
    till = Till((limits.ADMITTED, -1, SECOND), room=9)
    decision, _ = deciding(till, CEILING, DELAYING)
    assert isinstance(advance(decision), Pause)
    assert len(till.held) == 1
    decision.close()
    assert till.held == []


def test_a_ceiling_that_observes_refuses_nothing() -> None:
    till, observer = Till(room=9), dataclasses.replace(CEILING, most=1, on_limit="observe")
    assert decided(till, observer)[1][1] is Reason.WITHIN_CONCURRENCY
    verdict, reasons = decided(till, observer)
    assert (reasons[1], verdict.leases) == (Reason.CONCURRENCY_EXCEEDED, (2,))


@pytest.mark.parametrize(("policy", "status"), [("admit", None), ("reject", 503)])
def test_a_table_without_room_for_another_key_does_what_the_ceiling_says(policy: Any, status: int | None) -> None:
    verdict, reasons = decided(Till(), dataclasses.replace(CEILING, when_full=policy))
    assert getattr(verdict, "status", None) == status
    assert (Reason.LEASES_FULL in reasons) == (status is not None)


def test_clients_that_a_ceiling_exempts_are_not_counted() -> None:
    till = Till()
    verdict, reasons = decided(till, dataclasses.replace(CEILING, exempt=("192.0.2.0/24",)))
    assert (till.held, verdict.leases, reasons) == ([], (), [Reason.ROUTE_MATCHED, Reason.RESPONDED])


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


@given(st.one_of(
    st.lists(st.integers(0, 300), min_size=3, max_size=5).map(lambda parts: ".".join(map(str, parts))),
    st.text(st.sampled_from("0123456789.:af\n "), max_size=16), st.ip_addresses().map(str),
))  # fmt: skip
def test_the_network_of_one_address_is_what_the_library_says(text: str) -> None:
    try:
        expected = str(ipaddress.ip_network(text))
    except ValueError:
        expected = text
    if "/" not in text:
        assert network_of(text, 32, 128) == expected


@pytest.mark.interpreted
def test_a_full_memory_of_keys_is_kept_and_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REMEMBERED_MAX", 4)
    monkeypatch.setattr(keys, "PASSED_MAX", 10)
    one = keys.Keyer("one", "", ("header:x",), 32, 64)
    kept = []
    for at in range(16):
        assert one.key(request(headers=(("x", f"{at}"),))) == one.key_of((f"{at}",))
        kept.append(len(one._known))
    assert kept == [1, 2, 3, 4, *[4] * 10, 0, 1]
    assert one.key(request(headers=(("x", "a" * 200),))) == one.key_of(("a" * 200,))
    assert len(one._known) == 1, "what is too long is not remembered"
