"""Explanations read as an operator would want to hear them, and name the line."""

from __future__ import annotations

from sentinel.core.plan import Condition, Endpoint, Respond, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.record import RecordEncoder, decode
from sentinel.core.span import Span
from sentinel.core.world import Choice, Wish
from sentinel.explain import explain, explain_record, render_lines, render_text
from tests.core.build import match, request, route, table
from tests.core.test_record import STEPS, USUAL

METHOD = Condition("method", values=("GET", "HEAD"), span=Span("s.kdl", 21, 13))
BETA = Condition("header", name="x-beta", values=("yes",), span=Span("s.kdl", 22, 13))
TOKEN = Condition("header", name="authorization", values=("Bearer planted-secret",), span=Span("s.kdl", 23, 13))


def routes():  # type: ignore[no-untyped-def]
    return table(
        route("beta", match(prefixes=("/v1",), conditions=(METHOD, BETA), line=20), order=2),
        route("exact", match(hosts=("example.com",), paths=("/v1/other",), line=40), order=4),
        route("shop", match(hosts=("shop.example",), line=50), order=5),
        route("api", match(prefixes=("/v1",), line=70), order=7),
        route("rest", match(line=80), order=8, respond=Respond(404, span=Span("s.kdl", 81, 9))),
    )


def test_the_winner_and_why_each_better_one_lost() -> None:
    told = explain(routes(), request("/v1/users", query="a=b", headers=[("x-beta", "no")]))
    assert render_text(told).splitlines() == [
        "GET http://example.com/v1/users?a=b",
        '├─ passed over: route `shop`: the host is "example.com", not "shop.example"  [condition-failed]  s.kdl:50:19',
        '├─ passed over: route `exact`: the path is "/v1/users", not "/v1/other"  [condition-failed]  s.kdl:40:29',
        '├─ passed over: route `beta`: header `x-beta` is "no", not "yes"  [condition-failed]  s.kdl:22:13',
        "├─ route `api` matches  [route-matched]  s.kdl:70:9",
        "├─ upstream `api`: endpoint 10.0.0.1:9001  [endpoint-chosen]",
        "└─ forward to 10.0.0.1:9001 of `api` (one of 2 by round-robin)  [proxied]",
    ]


def test_the_first_failing_condition_is_named() -> None:
    told = explain(routes(), request("/v1/users", method="PUT"))
    beta = [child for child in told.children if "`beta`" in child.text]
    assert [(child.text, child.place) for child in beta] == [
        ('passed over: route `beta`: the method is "PUT", not "GET" or "HEAD"', "s.kdl:21:13")
    ]


def test_a_route_that_responds() -> None:
    told = explain(routes(), request("/", host="other"))
    assert [child.text for child in told.children[-3:]] == [
        "route `rest` matches", "the route answers 404 by itself", "respond with 404",
    ]  # fmt: skip


def test_no_route() -> None:
    told = explain(table(route("only", match(paths=("/a",), line=3))), request("/b"))
    assert [child.kind for child in told.children] == ["loser", "step", "verdict"]
    assert told.children[-1].reason == Reason.NO_ROUTE.word


def test_no_endpoint() -> None:
    class Empty:
        def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
            raise AssertionError("no limits here")

        def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
            return Choice(None, Reason.NO_ENDPOINT)

    told = explain(routes(), request("/v1"), Empty())
    assert told.children[-2].text == "upstream `api` has no endpoint that may be tried"
    assert told.children[-1].reason == Reason.NO_ENDPOINT.word


def test_dull_losers_are_folded() -> None:
    many = table(
        *(route(f"r{n}", match(hosts=(f"h{n}.example",)), order=n) for n in range(1000)),
        *(route(f"p{n}", match(paths=(f"/{n}",)), order=n) for n in range(500)),
        route("rest", match(), order=2000),
    )
    told = explain(many, request("/x"))
    assert [child.text for child in told.children[:2]] == [
        "1000 routes passed over: another host", "500 routes passed over: another path",
    ]  # fmt: skip
    assert len(told.children) == 5


def test_a_list_of_losers_has_an_end() -> None:
    near = [route(f"r{n}", match(conditions=(BETA,)), order=n) for n in range(80)]
    told = explain(table(*near), request("/x"))
    assert len(told.children) == 50 + 1 + 2
    assert told.children[50].text == "30 routes more passed over"


def test_combinations_say_which_part() -> None:
    def why(condition: Condition) -> str:
        told = explain(table(route("r", match(conditions=(condition,)))), request("/a", headers=[("x-beta", "yes")]))
        return told.children[0].text.removeprefix("passed over: route `r`: ")

    put = Condition("method", values=("PUT",))
    assert why(Condition("not", parts=(BETA, put))) == '`not`: header "x-beta" "yes" holds'
    assert why(Condition("all", parts=(BETA, put))) == '`all`: the method is "GET", not "PUT"'
    assert why(Condition("any", parts=(put, Condition("query", name="q")))) == (
        '`any`: the method is "GET", not "PUT"; query `q` is absent'
    )
    assert why(Condition("header-regex", name="x-beta", values=("n.*",))) == (
        'header `x-beta` is "yes", not pattern "n.*"'
    )
    assert why(Condition("path-regex", values=("/b.*",))) == 'the path "/a" does not match the pattern "/b.*"'
    assert why(Condition("path-prefix", values=("/b",))) == 'the path "/a" is not below "/b"'
    assert why(Condition("host", values=("a", "b"))) == 'the host is "example.com", not "a" or "b"'
    assert why(Condition("not", parts=(Condition("any", parts=(BETA,)),))) == (
        '`not`: any { header "x-beta" "yes" } holds'
    )


def test_secrets_are_not_told() -> None:
    for condition in (TOKEN, Condition("not", parts=(Condition("all", parts=(TOKEN,)),))):
        for headers in ([("authorization", "Bearer of-the-client")], [("authorization", "Bearer planted-secret")]):
            asked = request(headers=headers)
            text = render_text(explain(table(route("r", match(conditions=(condition,)))), asked))
            assert "planted-secret" not in text
            assert "of-the-client" not in text


def test_what_a_client_sent_cannot_drive_a_terminal() -> None:
    told = explain(table(route("r", match(conditions=(BETA,)))), request(headers=[("x-beta", "\x1b[2J\x07\x9b")]))
    drawn = "".join(str(line) for line in render_lines(told))
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in drawn)


def test_a_long_value_is_bounded() -> None:
    told = explain(table(route("r", match(conditions=(BETA,)))), request(headers=[("x-beta", "y" * 5000)]))
    assert len(told.children[0].text) < 200


def test_a_tree_is_plain_values() -> None:
    plain = explain(routes(), request("/v1")).to_dict()
    assert plain["kind"] == "request"
    matched = next(child for child in plain["children"] if child.get("reason") == "route-matched")
    assert matched == {
        "kind": "step", "text": "route `api` matches", "reason": "route-matched", "place": "s.kdl:70:9",
        "remedy": Reason.ROUTE_MATCHED.value.remedy, "children": [],
    }  # fmt: skip


def test_a_recorded_exchange_is_told_the_same_way() -> None:
    record = decode(RecordEncoder().encode(**USUAL, steps=STEPS[:2]))
    assert render_text(explain_record(record)).splitlines() == [
        "GET api.example.com/v1/users/42?(12 octets) → 200 in 1.235 ms",
        "├─ from 192.0.2.1 at listener `web`, generation 7",
        "├─ request id 0192f0c4a1b27c3d8e9fa0b1c2d3e4f5",
        "├─ route `api` matches  [route-matched]  sentinel.kdl:12:9",
        "├─ upstream `api`: endpoint 10.0.0.1:9001  [endpoint-chosen]  sentinel.kdl:40:9",
        "├─ the plan of generation 7 is not known any more: what is told is what the record has, without the routes "
        "that were passed over for another host or path",
        "└─ 200 by 10.0.0.1:9001 of `api`: the upstream's answer was relayed (0 octets in, 1024 out)  [proxied]",
    ]


def test_a_record_of_what_was_no_request() -> None:
    bare = {**USUAL, "method": "", "host": "", "path": "", "route": "", "upstream": "", "endpoint": "", "status": 400}
    record = decode(RecordEncoder().encode(**{**bare, "reason_number": Reason.BAD_FRAMING.number}, steps=[]))
    text = render_text(explain_record(record))
    assert text.startswith("(no request was read) → 400")
    assert "bad-framing" in text


def test_a_record_that_was_cut_says_so() -> None:
    record = decode(RecordEncoder().encode(**{**USUAL, "path": "/" + "x" * 900, "attempts": 3}, steps=STEPS))
    text = render_text(explain_record(record))
    assert "was left off" in text
    assert "after 3 attempts" in text
