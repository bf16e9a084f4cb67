"""Policy tests: what each directive of `tests` changes in what is asked, assumed and expected."""

from __future__ import annotations

import pytest

from sentinel.cli.keys import hashed
from sentinel.config import encode_plan, load_text, render_problems
from sentinel.core.balance.sticky import Tags
from sentinel.explain.cases import CaseResult, failed_text, run_case
from workers.rehearsal import House, ask_in

TEXT = """\
schema-version "1.0"
listeners {{
    listener "web" {{ address "127.0.0.1:8080"; trusted-proxies "10.0.0.0/8"; }}
    listener "inside" {{ address "127.0.0.1:8081"; }}
}}
routes {{
    route "admin" {{
        listeners "inside"
        matches {{ path "/admin"; }}
        respond 204 {{ header "cache-control" "no-store"; }}
    }}
    route "api" {{
        matches {{ path-prefix "/v1"; }}
        filters "rate" "few" "watch"
        upstream "api"
        max-body-size "1KiB"
    }}
    route "llm" {{ matches {{ path-prefix "/llm"; }}; filters "tokens"; inference; upstream "api"; }}
    route "tpm" {{
        matches {{ path-prefix "/llm"; header "x-tpm"; }}
        filters "tpm"
        inference
        upstream "api"
    }}
    route "purse" {{
        matches {{ path-prefix "/llm"; header "x-purse"; }}
        filters "purse"
        inference
        upstream "api"
    }}
    route "chosen" {{
        matches {{ path-prefix "/chosen"; }}
        inference
        models {{
            model "gpt-*" {{ upstream "api"; }}
            model "fast" {{ upstream "peak"; send-as "slow"; }}
            model "dear" {{ upstream "api"; fallback "fast"; }}
            list true
        }}
    }}
    route "guarded" {{
        matches {{ path-prefix "/guarded"; }}
        filters "guard" "strict"
        inference
        upstream "api"
    }}
    route "foreign" {{ matches {{ path-prefix "/foreign"; }}; inference; upstream "claude"; }}
    route "slow" {{ matches {{ path "/slow"; }}; filters "patient"; respond 200; }}
    route "peak" {{ matches {{ path "/peak"; }}; upstream "peak"; }}
    route "lot" {{ matches {{ path "/lot"; }}; split {{ upstream "api"; upstream "peak"; }}; }}
    route "sticky" {{ matches {{ path "/sticky"; }}; upstream "sticky"; }}
    route "keyed" {{ matches {{ path "/keyed"; }}; filters "each" "clients"; upstream "api"; }}
    route "rest" {{ matches {{ path-prefix "/"; }}; respond 404; }}
}}
filters {{
    rate-limit "rate" {{ rate "10/s"; burst 3; }}
    rate-limit "watch" {{ rate "1/s"; burst 1; on-limit "observe"; }}
    rate-limit "patient" {{ rate "1/s"; burst 1; on-limit "delay"; max-waiting 5; max-delay "10s"; }}
    concurrency-limit "few" {{ max 2; key "header:x-t"; }}
    token-budget "tokens" {{ tokens 1000; key "header:x-t"; }}
    token-limit "tpm" {{ tokens "1000/m"; key "header:x-t" "model"; }}
    guardrail "guard" {{ detect "email"; }}
    guardrail "strict" {{ detect "us-ssn"; action "block"; }}
    api-key "clients" {{
        key "acme" "{digest}" {{ claim "tenant" "t"; }}
        key "beta" "sha256:{nobodys}" {{ claim "tenant" "u"; }}
        pass-identity {{ header "x-user" "subject"; }}
    }}
    rate-limit "each" {{ rate "1/h"; burst 1; key "claim:tenant"; }}
    token-budget "purse" {{ money "1.00"; key "all"; }}
}}
prices {{ currency "USD"; price "m" {{ input "1"; output "2"; }}; }}
upstreams {{
    upstream "api" {{
        endpoint "10.0.0.1:80"; endpoint "10.0.0.2:80"
        health-check; outlier-ejection; circuit-breaker; circuit-breaker {{ scope "upstream"; }}
        limits {{ max-requests 50; max-endpoint-requests 20; }}
    }}
    upstream "claude" {{ endpoint "10.0.0.6:80"; provider {{ dialect "anthropic"; translate; }}; }}
    upstream "peak" {{ endpoint "10.0.0.3:80"; endpoint "10.0.0.2:80"; balance "peak-ewma"; }}
    upstream "sticky" {{
        endpoint "10.0.0.4:80"; endpoint "10.0.0.5:80"
        sticky-cookie "srv" {{ secret "{secret}"; max-age "1h"; }}
    }}
}}
tests {{
    case "one" {{
        {lines}
    }}
}}
"""
SECRET = "a-secret-of-16-characters"


def text_of(lines: str) -> str:
    return TEXT.format(lines=lines, secret=SECRET, digest=hashed(SECRET), nobodys="0" * 64)


def ran(lines: str) -> CaseResult:
    loaded = load_text(text_of(lines))
    assert loaded.plan is not None, render_problems(loaded.problems)
    return run_case(loaded.cases[0], loaded.plan, ask_in(House(loaded.plan)))


def holds(lines: str) -> bool:
    result = ran(lines)
    return result.is_passed


def refused(lines: str) -> str:
    loaded = load_text(text_of(lines))
    assert loaded.problems and not loaded.cases
    return render_problems(loaded.problems)


API = 'request "GET http://a.example/v1/x"'


@pytest.mark.directive("case", "case/request", "case/expect")
def test_a_case_holds_or_does_not_and_says_what_was_found() -> None:
    assert holds(API + '; expect { route "api"; }')
    result = ran(API + '; expect { route "rest"; status 404; }')
    (failed,) = result.failed
    text = "\n".join(failed_text(failed))
    assert '- route "rest"' in text and '+ "api"' in text
    assert "- status 404" in text and "which says the status" in text
    assert any("route `api` matches" in node.text for node in failed.tree.children)
    assert str(failed.failures[0].wanted.span).count(":") == 2, "file, line, column"


@pytest.mark.directive(
    "case/expect/route", "case/expect/verdict", "case/expect/status", "case/expect/reason", "case/expect/upstream",
    "case/expect/endpoint", "case/expect/step", "case/expect/header", "case/expect/no-header",
    "case/expect/upstream-header", "case/expect/no-upstream-header",
)  # fmt: skip
@pytest.mark.parametrize(
    ("request_line", "good", "bad"),
    [
        (API, 'route "api"', 'route "rest"'),
        (API, 'verdict "forward"', 'verdict "respond"'),
        ('request "/nothing"', "status 404", "status 200"),
        ('request "/nothing"', 'status "400-499"', 'status 200 "500-599"'),
        ('request "/nothing"', 'reason "responded"', 'reason "no-route"'),
        (API, 'upstream "api"', 'upstream "peak"'),
        (API, 'endpoint "10.0.0.1:80" "10.0.0.2:80"', 'endpoint "10.0.0.2:80"'),
        (API, 'step "within-limit"', 'step "would-be-limited"'),
        ('listener "inside"; request "/admin"', 'header "cache-control"', 'header "x-none"'),
        ('listener "inside"; request "/admin"', 'header "cache-control" "no-store"', 'header "cache-control" "x"'),
        ('listener "inside"; request "/admin"', 'no-header "x-none"', 'no-header "cache-control"'),
        (API, 'upstream-header "x-forwarded-for" "127.0.0.1"', 'upstream-header "x-forwarded-for" "10.0.0.1"'),
        (API, 'upstream-header "host"', 'upstream-header "x-none"'),
        (API, 'no-upstream-header "x-none"', 'no-upstream-header "x-forwarded-proto"'),
    ],
)
def test_each_expectation_can_hold_and_fail(request_line: str, good: str, bad: str) -> None:
    assert holds(f"{request_line}; expect {{ {good}; }}")
    assert not holds(f"{request_line}; expect {{ {bad}; }}")


@pytest.mark.directive("case/client-ip", "case/request/client-ip", "case/request/header")
def test_who_asks_and_with_which_headers() -> None:
    forwarded = 'header "x-forwarded-for" "192.0.2.7"'
    expect = 'expect { upstream-header "x-real-ip" "192.0.2.7"; }'
    assert holds(f'client-ip "10.0.0.9"; {API} {{ {forwarded}; }}; {expect}'), "a trusted proxy is believed"
    assert not holds(f"{API} {{ {forwarded}; }}; {expect}"), "a stranger is not"
    assert holds(f'{API} {{ client-ip "10.0.0.9"; {forwarded}; }}; {expect}')


@pytest.mark.directive("case/listener")
def test_where_requests_arrive() -> None:
    assert holds('listener "inside"; request "/admin"; expect { route "admin"; }')
    assert holds('request "/admin"; expect { route "rest"; }')
    assert "did you mean `inside`?" in refused('listener "insid"; request "/admin"; expect { status 204; }')


@pytest.mark.directive("case/request/body-size")
def test_how_long_a_body_is() -> None:
    post = 'request "POST http://a.example/v1/x"'
    assert holds(
        f'{post} {{ body-size "1KiB"; }}; expect {{ verdict "forward"; upstream-header "content-length" "1024"; }}'
    )
    assert holds(f'{post} {{ body-size "1025B"; }}; expect {{ status 413; reason "body-too-large"; }}')


@pytest.mark.directive("case/request@times", "case/expect@from", "case/expect@to")
def test_the_nth_request_is_refused() -> None:
    lines = (
        API + ' times=5; expect to=3 { verdict "forward"; }; expect from=4 { status 429; header "retry-after" "1"; }'
    )
    assert holds(lines)
    result = ran(API + ' times=5; expect { verdict "forward"; }')
    (failed,) = result.failed
    assert (failed.nth, failed.failures[0].again) == (4, 1), "where it fails first, and how often it fails again"
    assert "no such repetitions" in refused(API + ' times=2; expect from=3 { route "api"; }')
    assert "no such repetitions" in refused(API + ' times=2; expect from=2 to=1 { route "api"; }')


@pytest.mark.directive("case/request@every", "case/request@after")
def test_time_is_the_cases_own() -> None:
    assert holds(API + ' times=30 every="100ms"; expect { verdict "forward"; }')
    assert not holds(API + ' times=30 every="60ms"; expect { verdict "forward"; }')
    again = 'expect { verdict "forward"; }'
    assert holds(f'{API} times=3; {API} after="100ms"; {again}')
    assert not holds(f'{API} times=3; {API} after="99ms"; {again}')


@pytest.mark.directive("case/state", "case/state/endpoint", "case/state/endpoint@upstream")
@pytest.mark.parametrize("standing", ["draining", "maintenance", "unhealthy", "ejected", "breaker-open"])
def test_an_endpoint_stands_otherwise(standing: str) -> None:
    state = f'state {{ endpoint "10.0.0.1:80" "{standing}"; }}'
    assert holds(f'{state}; {API} times=2; expect {{ endpoint "10.0.0.2:80"; step "endpoint-passed-over"; }}')
    back = 'state { endpoint "10.0.0.1:80"; }'
    assert holds(f'{state}; {API}; {back}; {API}; expect {{ endpoint "10.0.0.1:80"; }}'), "and usable again"
    both = f'state {{ endpoint "10.0.0.1:80" "{standing}"; endpoint "10.0.0.2:80" "{standing}" upstream="api"; }}'
    reason = "breaker-open" if standing == "breaker-open" else "none-usable"
    assert holds(f'{both}; {API}; expect {{ reason "{reason}"; status 503; }}')


def test_a_state_that_cannot_be_is_refused_with_its_place() -> None:
    end = f'; {API}; expect {{ route "api"; }}'
    assert "several upstreams have an endpoint `10.0.0.2:80`" in refused('state { endpoint "10.0.0.2:80"; }' + end)
    text = refused('state { endpoint "10.0.0.3:80" "ejected"; }' + end)
    assert "is never ejected: upstream `peak` has no outlier-ejection" in text and "^" in text
    assert "did you mean `10.0.0.1:80`?" in refused('state { endpoint "10.0.0.11:80"; }' + end)
    assert "did you mean `rate`?" in refused('state { limit "rat" "192.0.2.7"; }' + end)
    assert "has 1 parts: client-ip" in refused('state { limit "rate"; }' + end)
    assert "never has more than 3 left" in refused('state { limit "rate" "192.0.2.7" remaining=4; }' + end)
    assert "nobody waits at `rate`" in refused('state { waiting "rate" 1; }' + end)
    assert 'no circuit-breaker of scope "upstream"' in refused('state { upstream "peak" "breaker-open"; }' + end)
    assert "changes nothing in upstream `peak`" in refused('state { upstream "peak" turn=1; }' + end)
    assert "changes nothing in upstream `api`" in refused('state { endpoint "10.0.0.1:80" latency="1ms"; }' + end)
    assert "did you mean `endpoint`?" in refused('state { endpont "10.0.0.1:80"; }' + end)
    assert "no request comes after this state" in refused(f'{API}; expect {{ route "api"; }}; state {{ chance 1; }}')
    assert "nothing was asked before this" in refused('expect { route "api"; }' + end)
    assert "there is no reason `rate-limitd`" in refused(f'{API}; expect {{ reason "rate-limitd"; }}')
    assert "nothing is expected" in refused(f"{API}; expect")
    assert "a request is a method and a URL" in refused('request "GET a b"; expect { route "api"; }')


@pytest.mark.directive("case/state/endpoint@in-flight", "case/state/upstream", "case/state/upstream@in-flight")
def test_what_is_in_flight_fills_endpoints_and_upstreams() -> None:
    assert holds(f'state {{ endpoint "10.0.0.1:80" in-flight=20; }}; {API}; expect {{ endpoint "10.0.0.2:80"; }}')
    assert holds(f'state {{ endpoint "10.0.0.1:80" in-flight=19; }}; {API}; expect {{ endpoint "10.0.0.1:80"; }}')
    full = 'reason "upstream-full"; status 503'
    assert holds(f'state {{ upstream "api" in-flight=50; }}; {API}; expect {{ {full}; }}')
    assert not holds(f'state {{ upstream "api" in-flight=49; }}; {API}; expect {{ {full}; }}')
    assert holds(f'state {{ upstream "api" "breaker-open"; }}; {API}; expect {{ reason "breaker-open"; }}')


@pytest.mark.directive("case/state/upstream@turn")
def test_whose_turn_it_is() -> None:
    assert holds(f'state {{ upstream "api" turn=1; }}; {API}; expect {{ endpoint "10.0.0.2:80"; }}')
    assert holds(f'state {{ upstream "api" turn=2; }}; {API}; expect {{ endpoint "10.0.0.1:80"; }}')


@pytest.mark.directive("case/state/endpoint@latency")
def test_the_slower_one_is_avoided() -> None:
    times = 'endpoint "10.0.0.3:80" latency="{}"; endpoint "10.0.0.2:80" upstream="peak" latency="{}"'
    for slow, fast, chosen in (("50ms", "1ms", "10.0.0.2:80"), ("1ms", "50ms", "10.0.0.3:80")):
        state = f"state {{ {times.format(slow, fast)}; }}"
        assert holds(f'{state}; request "/peak" times=4; expect {{ endpoint "{chosen}"; }}')


@pytest.mark.directive("case/state/limit", "case/state/limit@remaining")
def test_a_bucket_has_so_much_left() -> None:
    state = 'state {{ limit "rate" "127.0.0.1" remaining={}; }}; '
    for remaining in range(4):
        served = f'expect to={remaining} {{ verdict "forward"; }}; ' if remaining else ""
        lines = f'{API} times={remaining + 1}; {served}expect from={remaining + 1} {{ reason "rate-limited"; }}'
        assert holds(state.format(remaining) + lines), remaining
    assert holds('state { limit "rate" "192.0.2.7"; }; ' + API + '; expect { verdict "forward"; }'), "another key"
    assert holds('state { limit "watch" "127.0.0.1"; }; ' + API + '; expect { step "would-be-limited"; }')


@pytest.mark.directive("case/state/held", "case/state/held@count")
def test_what_is_under_way_of_a_key() -> None:
    asked = API + ' { header "x-t" "acme"; }'
    assert holds(f'state {{ held "few" "acme" count=2; }}; {asked}; expect {{ reason "concurrency-limited"; }}')
    assert holds(f'state {{ held "few" "acme"; }}; {asked}; expect {{ verdict "forward"; }}')
    assert holds(f'state {{ held "few" "other" count=2; }}; {asked}; expect {{ verdict "forward"; }}')


@pytest.mark.directive("case/state/waiting")
def test_how_many_wait_already() -> None:
    used = 'limit "patient" "127.0.0.1"'
    assert holds(f'state {{ {used}; }}; request "/slow"; expect {{ step "delayed"; status 200; }}')
    assert holds(f'state {{ {used}; waiting "patient" 5; }}; request "/slow"; expect {{ status 429; }}')


@pytest.mark.directive("case/state/identity", "case/state/identity@refused")
def test_who_asks_is_described_or_seen() -> None:
    asked = 'request "/keyed"'
    assert holds(f'{asked}; expect {{ status 401; reason "credentials-missing"; }}')
    shown = f'request "/keyed" {{ header "x-api-key" "{SECRET}"; }}'
    told = 'step "authenticated"; upstream-header "x-user" "acme"; no-upstream-header "x-api-key"'
    assert holds(f"{shown}; expect {{ {told}; }}"), "what is shown is looked at"
    described = 'state { identity "clients" "acme"; }'
    assert holds(f"{described}; {asked}; expect {{ {told}; }}")
    assert holds(f'state {{ identity "clients"; }}; {shown}; expect {{ reason "credentials-missing"; }}')
    unknown = 'state { identity "clients" refused="key-unknown"; }'
    assert holds(f'{unknown}; {shown}; expect {{ status 401; reason "key-unknown"; header "www-authenticate"; }}')
    used = 'limit "each" "t"'
    both = f'state {{ identity "clients" "acme"; {used}; }}'
    assert holds(f'{both}; {asked}; expect {{ reason "rate-limited"; }}'), "its claims are those of its key"
    assert holds(f'{both}; state {{ identity "clients" "beta"; }}; {asked}; expect {{ step "within-limit"; }}')
    for line, said in (
        ('identity "client" "acme"', "did you mean `clients`?"),
        ('identity "rate" "acme"', "finds out nobody's identity"),
        ('identity "clients" "acne"', "did you mean `acme`?"),
        ('identity "clients" "acme" "tenant" "x"', "the claims of a key are in the configuration"),
        ('identity "clients" "acme" refused="key-unknown"', "who is refused is nobody"),
        ('identity "clients" refused="rate-limited"', "never refuses for that"),
    ):
        assert said in refused(f"state {{ {line}; }}; {asked}; expect {{ status 401; }}"), line


@pytest.mark.directive("case/state/chance")
def test_the_same_dice_lead_to_the_same_upstream_and_others_elsewhere() -> None:
    line = 'state {{ chance {}; }}; request "/lot"; expect {{ upstream "{}"; }}'
    found = {name: [seed for seed in range(16) if holds(line.format(seed, name))] for name in ("api", "peak")}
    assert found["api"] and found["peak"] and len(found["api"]) + len(found["peak"]) == 16


@pytest.mark.directive("case/state/at")
def test_cookies_age() -> None:
    names = ["10.0.0.4:80", "10.0.0.5:80"]
    cookie = Tags("sticky", names, [SECRET]).make(names[1], 1_767_225_600, 3600)  # 2026-01-01T00:00:00Z
    asked = f'request "/sticky" {{ header "cookie" "srv={cookie}"; }}'
    assert holds(
        f'state {{ at "2026-01-01T00:59:59Z"; }}; {asked}; expect {{ endpoint "{names[1]}"; step "sticky-followed"; }}'
    )
    assert holds(f'state {{ at "2026-01-01T01:00:00Z"; }}; {asked}; expect {{ step "sticky-ignored"; }}')
    later = asked.replace('"/sticky"', '"/sticky" after="1h"')
    assert holds(f'state {{ at "2026-01-01T00:00:00Z"; }}; {later}; expect {{ step "sticky-ignored"; }}'), "time passes"


def test_tests_are_no_part_of_the_plan() -> None:
    plans = [load_text(text_of(lines)).plan for lines in (
        API + '; expect { route "api"; }', 'request "/x"; expect { route "rest"; }',
    )]  # fmt: skip
    assert plans[0] is not None and plans[1] is not None
    assert encode_plan(plans[0]) == encode_plan(plans[1])
