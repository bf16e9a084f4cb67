"""Generated gateways: plans in which everything is governed, states of their fleets, and requests to them.

Few names and small numbers, so that requests meet limits that are used up, and endpoints that are out.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import dataclass, replace
from hashlib import sha256

from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from sentinel.core.balance import levels
from sentinel.core.balance.reports import Report
from sentinel.core.identity import MISSING, Finding, Identity, recognised
from sentinel.core.passwords import write_hash
from sentinel.core.plan import (
    SECOND,
    AddressRule,
    ApiKey,
    Balance,
    Basic,
    Breaker,
    ConcurrencyLimit,
    Endpoint,
    Fallback,
    Guardrail,
    HealthCheck,
    Inference,
    IpAccess,
    IssuedKey,
    Jwt,
    LoadReport,
    Model,
    Models,
    Mtls,
    OutlierEjection,
    Plan,
    Provider,
    RateLimit,
    Route,
    Shadow,
    Share,
    Split,
    Sticky,
    TokenBudget,
    TokenLimit,
    Translate,
    Upstream,
    User,
)
from sentinel.core.prices import read_prices
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.secured import Secured, Shown
from sentinel.core.span import Span
from sentinel.core.state import EndpointState, State, UpstreamState
from tests.core.build import plan as plan_of
from tests.core.build import request
from tests.property.test_routes import MATCHES, PATHS

LAW_EXAMPLES = int(os.environ.get("SENTINEL_LAW_EXAMPLES", "2000"))
"""Over all laws together; their shares are in test_laws."""

KEYS = st.sampled_from([
    ("client-ip",), ("header:x-a",), ("client-ip", "route"), ("method",), (), ("identity",), ("claim:tenant", "method"),
])  # fmt: skip
PLACE = Span("s.kdl", 7, 7)
LIMITS = st.builds(
    RateLimit, name=st.just(""), period_ns=st.sampled_from([SECOND, 60 * SECOND, 7]), count=st.integers(1, 5),
    burst=st.integers(1, 4), key=KEYS, on_limit=st.sampled_from(["reject", "reject", "delay", "observe"]),
    max_delay_ns=st.sampled_from([SECOND // 10, 20 * SECOND]), max_waiting=st.integers(1, 2),
    exempt=st.sampled_from([(), (), ("192.0.2.0/24",)]), span=st.just(PLACE),
)  # fmt: skip
CEILINGS = st.builds(
    ConcurrencyLimit, name=st.just(""), most=st.integers(1, 3), key=KEYS,
    on_limit=st.sampled_from(["reject", "reject", "observe"]), span=st.just(PLACE),
)  # fmt: skip
BUDGETS = st.builds(
    TokenBudget, name=st.just(""), unpriced=st.sampled_from(["reject", "admit"]), per=st.sampled_from(["hour", "day"]),
    key=st.sampled_from([("client-ip",), ("header:x-a", "model"), ("route",), ()]),
    on_limit=st.sampled_from(["reject", "reject", "observe"]), exempt=st.sampled_from([(), (), ("192.0.2.0/24",)]),
    warn_at=st.sampled_from([(), (50, 90)]), warns_clients=st.booleans(), span=st.just(PLACE),
)  # fmt: skip
WINDOWS = st.sampled_from([{}, {}, {"rolling_s": 24 * 3600}, {"rollover": 200}])
AMOUNTS = st.sampled_from([(600, 0), (4000, 0), (0, 900), (0, 9000)])
"""Of tokens, and of money: what the one model that has a price asks for costs about as many micro-units."""
PRICES, _ = read_prices('{"currency": "EUR", "prices": [{"models": ["m*"], "input": 1000000, "output": 1000000}]}')
"""A token costs a micro-unit, of most of the models."""
TOKEN_LIMITS = st.builds(
    TokenLimit, name=st.just(""), tokens=st.sampled_from([100, 1000]), period_ns=st.just(60 * SECOND),
    burst=st.sampled_from([600, 2000]), requests=st.sampled_from([0, 60]), requests_period_ns=st.just(60 * SECOND),
    requests_burst=st.just(2), key=st.sampled_from([("client-ip",), ("header:x-a",)]),
    on_limit=st.sampled_from(["reject", "observe"]), span=st.just(PLACE),
)  # fmt: skip
GUARDRAILS = st.builds(
    Guardrail, name=st.just(""), detect=st.just(("email",)), action=st.sampled_from(["redact", "block", "observe"]),
    on=st.sampled_from([("request",), ("response",), ("request", "response")]),
    when_unreadable=st.sampled_from(["block", "pass"]), span=st.just(PLACE),
)  # fmt: skip
ISSUED = tuple(
    IssuedKey(name, (sha256(name.encode()).hexdigest(),), (("tenant", tenant),))
    for name, tenant in (("one", "t"), ("two", "t"), ("three", "u"))
)  # fmt: skip
"""Clients whose keys are their names."""
GATES = st.builds(
    ApiKey, name=st.just(""), keys=st.sampled_from([ISSUED[:2], ISSUED[1:], ISSUED]), span=st.just(PLACE),
    read_from=st.sampled_from([("header:x-api-key",), ("bearer",), ("bearer", "header:x-api-key")]),
)  # fmt: skip
SIGNER = OKPKey.generate_key("Ed25519")
TOKENS = st.builds(
    Jwt, name=st.just(""), issuer=st.just("i"), audiences=st.just(("a",)), algorithms=st.just(("EdDSA",)),
    keys_json=st.sampled_from(["", json.dumps({"keys": [SIGNER.as_dict(private=False)]})]),
    claims=st.sampled_from([(), ("tenant",)]), span=st.just(PLACE),
)  # fmt: skip


CERTIFICATES = st.builds(
    Mtls, name=st.just(""), part=st.sampled_from(["name", "uri"]), claims=st.sampled_from([(), ("dns", "subject")]),
    span=st.just(PLACE),
)  # fmt: skip
SECURED = st.sampled_from([
    None, Secured("TLS 1.3", "c", "a.example"),
    Secured("TLS 1.3", "c", "a.example", False, Shown("CN=five", ("dns:five", "uri:spiffe://e/five"), "ab" * 32, 9)),
    Secured("TLS 1.2", "c", "", True, Shown("CN=six", ("dns:six",), "cd" * 32, 9)),
])  # fmt: skip


def _signed(until_s: int) -> str:
    said = json.dumps({"iss": "i", "aud": "a", "sub": "four", "exp": until_s, "tenant": "t"}).encode()
    return "Bearer " + str(jws.serialize_compact({"alg": "EdDSA"}, said, SIGNER, algorithms=["EdDSA"]))


WORD_HASH = write_hash(b"word", b"0123456789abcdef")
BASICS = st.builds(
    Basic, name=st.just(""), users=st.just((User("five", WORD_HASH, (("tenant", "t"),)),)), span=st.just(PLACE)
)
LISTS = st.builds(
    IpAccess, name=st.just(""), otherwise=st.sampled_from(["allow", "deny"]), span=st.just(PLACE),
    rules=st.lists(
        st.builds(
            AddressRule, st.booleans(),
            st.sampled_from([("192.0.2.0/24",), ("0.0.0.0/1", "::/0"), ("198.51.100.7/32",)]),
            st.just(Span("s.kdl", 8, 8)),
        ), max_size=2,
    ).map(tuple),
)  # fmt: skip
FOUND_OUT = st.sampled_from([MISSING, Finding(Reason.KEY_UNKNOWN), recognised(Identity("gate-0", "api-key", "one"))])
BALANCES = st.one_of(
    st.builds(
        Balance, kind=st.sampled_from(["round-robin", "random", "least-request", "power-of-two", "peak-ewma",
                                               "least-tokens", "least-load"])
    ),
    st.builds(Balance, kind=st.just("prefix-affinity"), max_load=st.just(1250)),
    st.builds(
        Balance, kind=st.sampled_from(["maglev", "ring"]),
        key=st.sampled_from([("client-ip",), ("header:x-a",), ("identity",)]), max_load=st.sampled_from([0, 1250]),
    ),
)  # fmt: skip
MODELS = st.builds(
    Models,
    lines=st.lists(
        st.builds(
            Model, patterns=st.sampled_from([("m",), ("m*",), ("n", "o"), ("*",)]),
            upstream=st.sampled_from(["api", "other"]), sent=st.sampled_from(["", "m"]), span=st.just(PLACE),
            fallback=st.none() | st.builds(
                Fallback, models=st.lists(st.sampled_from(["m", "n", "z"]), min_size=1, max_size=3).map(tuple),
                on=st.just(("breaker-open", "no-endpoint", "full")), span=st.just(PLACE),
            ),
        ), min_size=1, max_size=3,
    ).map(tuple),
    unknown=st.sampled_from(["reject", "forward"]), is_listed=st.booleans(), span=st.just(PLACE),
)  # fmt: skip
STANDINGS = [levels.USABLE] * 3 + [levels.DRAIN, levels.MAINTENANCE, levels.UNHEALTHY, levels.EJECTED, levels.OPEN]


@dataclass(frozen=True)
class Gateway:
    """A plan, and a state that is possible with it. used and held: by limit, and a request whose keys they are."""

    plan: Plan
    state: State
    used: tuple[tuple[RateLimit, str, Request, int], ...]
    held: tuple[tuple[ConcurrencyLimit, str, Request, int], ...]

SPEAKER = Provider("anthropic", translate=Translate(span=Span("s.kdl", 60, 9)))


@st.composite
def budgets_of_all_kinds(draw: st.DrawFn) -> TokenBudget:
    tokens, money = draw(AMOUNTS)
    currency = "EUR" if money else ""
    return replace(draw(BUDGETS), tokens=tokens, money=money, currency=currency, **draw(WINDOWS))


@st.composite
def upstreams(draw: st.DrawFn, name: str) -> Upstream:
    endpoints = tuple(
        Endpoint(
            "10.0.0.1", 9000 + number, weight=draw(st.integers(1, 3)), priority=draw(st.sampled_from([0, 0, 1])),
            span=Span("s.kdl", 50 + number, 9),
        )
        for number in range(draw(st.integers(1, 3)))
    )  # fmt: skip
    return Upstream(
        name, endpoints, balance=draw(BALANCES), span=Span("s.kdl", 40, 5),
        sticky=draw(st.sampled_from([None, None, Sticky("srv", ("a-secret-of-16-characters",), max_age_ns=SECOND)])),
        health=draw(st.sampled_from([None, HealthCheck()])), outlier=draw(st.sampled_from([None, OutlierEjection()])),
        endpoint_breaker=draw(st.sampled_from([None, Breaker()])), panic_share=draw(st.sampled_from([0, 0, 600])),
        upstream_breaker=draw(st.sampled_from([None, Breaker()])), max_requests=draw(st.sampled_from([0, 2, 3])),
        max_endpoint_requests=draw(st.sampled_from([0, 0, 1, 2])), load_report=LoadReport(),
        provider=draw(st.sampled_from([None, None, SPEAKER])),
    )  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    groups = tuple(draw(upstreams(name)) for name in ("api", "other"))
    rates = tuple(replace(draw(LIMITS), name=f"rate-{at}") for at in range(draw(st.integers(0, 3))))
    ceilings = tuple(replace(draw(CEILINGS), name=f"ceiling-{at}") for at in range(draw(st.integers(0, 2))))
    budgets = tuple(replace(draw(budgets_of_all_kinds()), name=f"budget-{at}") for at in range(draw(st.integers(0, 3))))
    throttles = tuple(replace(draw(TOKEN_LIMITS), name=f"tokens-{at}") for at in range(draw(st.integers(0, 1))))
    guards = tuple(replace(draw(GUARDRAILS), name=f"guard-{at}") for at in range(draw(st.integers(0, 2))))
    gates = tuple(replace(draw(GATES), name=f"gate-{at}") for at in range(draw(st.integers(0, 2))))
    jwts = tuple(replace(draw(TOKENS), name=f"token-{at}") for at in range(draw(st.integers(0, 1))))
    mtls = tuple(replace(draw(CERTIFICATES), name=f"certificate-{at}") for at in range(draw(st.integers(0, 1))))
    basics = tuple(replace(draw(BASICS), name=f"basic-{at}") for at in range(draw(st.sampled_from([0, 0, 0, 1]))))
    lists = tuple(replace(draw(LISTS), name=f"list-{at}") for at in range(draw(st.sampled_from([0, 0, 1]))))
    names = [one.name for one in (*rates, *ceilings, *gates, *jwts, *mtls, *basics, *lists)]
    purses = [one.name for one in budgets] + [one.name for one in throttles]
    routes: list[Route] = []
    for order in range(draw(st.integers(1, 4))):
        found = Route(
            f"r{order}", tuple(draw(st.lists(MATCHES, min_size=1, max_size=2) | st.just([]))), order=order,
            filters=tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=3))) if names else (),
            shadows=draw(st.sampled_from([(), (), (Shadow("other", share=500),)])),
            span=Span("s.kdl", 10 * order + 1, 5),
        )  # fmt: skip
        shares = (Share("api", 3), Share("other", 1))
        splits = [Split(shares), Split(shares, key=("client-ip",))]
        split = draw(st.sampled_from([None, None, None, *splits]))
        found = replace(found, split=split) if split else replace(found, upstream="api")
        if draw(st.integers(0, 2)) == 0:
            found = replace(found, inference=Inference(), models=draw(st.none() | MODELS), shadows=())
            if purses:
                more = draw(st.lists(st.sampled_from(purses), unique=True, max_size=3))
                found = replace(found, filters=found.filters + tuple(more))
            if guards:
                more = draw(st.lists(st.sampled_from([one.name for one in guards]), unique=True, max_size=2))
                found = replace(found, filters=found.filters + tuple(more))
        routes.append(found)
    return replace(
        plan_of(*routes), upstreams=groups, rate_limits=rates, concurrency_limits=ceilings, token_budgets=budgets,
        token_limits=throttles, guardrails=guards, api_keys=gates, jwts=jwts, mtls=mtls, basics=basics,
        address_lists=lists,
        prices=draw(st.sampled_from([None, PRICES, PRICES])),
    )  # fmt: skip


REQUESTS = st.builds(
    request, PATHS, host=st.sampled_from(["a.example", "b.a.example"]), method=st.sampled_from(["GET", "PUT", "POST"]),
    query=st.sampled_from(["", "p=1"]),
    headers=st.lists(
        st.sampled_from([("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("cookie", "srv=1.0.0"), ("cookie", "a=b"),
                         ("x-api-key", "one"), ("x-api-key", "two"), ("authorization", "Bearer three"),
                         ("authorization", _signed(1 << 40)), ("authorization", _signed(1)),
                         ("authorization", f"Basic {b64encode(b'five:word').decode()}")]),
        max_size=3, unique=True,
    ),
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> Request:
    asked = draw(REQUESTS)
    asked.client_ip = draw(st.sampled_from(["192.0.2.1", "198.51.100.7"]))
    asked.secured = draw(SECURED)
    return asked


@st.composite
def gateways(draw: st.DrawFn) -> Gateway:
    plan = draw(plans())
    endpoints = {
        (upstream.name, endpoint.name): EndpointState(
            _standing(draw, upstream), draw(st.integers(0, 2)), tokens=draw(st.sampled_from([0, 0, 1, 7, 5000])),
            report=draw(st.none() | st.builds(Report, st.integers(0, 2), st.sampled_from([0, 70, 900]), st.just(0))),
        )
        for upstream in plan.upstreams for endpoint in upstream.endpoints
    }  # fmt: skip
    whole = {
        upstream.name: UpstreamState(upstream.upstream_breaker is not None and draw(st.integers(0, 3)) == 0)
        for upstream in plan.upstreams
    }
    state = State(
        endpoints, whole, chance=7, now_s=1_700_000_000, model=draw(st.sampled_from(["", "m", "mm", "o", "x"])),
        found={one.name: draw(st.sampled_from([(), (), ("email",), None])) for one in plan.guardrails},
        found_out=draw(st.sampled_from([{}, {}, {"gate-0": draw(FOUND_OUT)}])),
    )  # fmt: skip
    routes = [route.name for route in plan.routes]
    used = tuple(
        (one, draw(st.sampled_from(routes)), draw(requests()), draw(st.integers(0, one.burst)))
        for one in plan.rate_limits
    )
    held = tuple(
        (one, draw(st.sampled_from(routes)), draw(requests()), draw(st.integers(0, one.most)))
        for one in plan.concurrency_limits
    )
    return Gateway(plan, state, used, held)


def _standing(draw: st.DrawFn, upstream: Upstream) -> int:
    """One that can come to be in this upstream."""
    possible = {
        levels.UNHEALTHY: upstream.health is not None, levels.EJECTED: upstream.outlier is not None,
        levels.OPEN: upstream.endpoint_breaker is not None,
    }  # fmt: skip
    return draw(st.sampled_from([one for one in STANDINGS if possible.get(one, True)]))
