"""Comparisons as an operator reads them: two configurations, requests, and below the last `----` the whole report.

A dialogue has up to four parts: the old configuration, the new one, requests (as `sentinelctl diff --requests` reads
them; without: generated ones), the report. After a change of words: `python -m tests.explain.test_diff` writes
the reports anew; read the difference.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from sentinel.cli.diff import _cases
from sentinel.cli.traffic import asked_of
from sentinel.config import load_text, render_problems
from sentinel.core.plan import Condition, Endpoint, Listener, Plan, RateLimit, Respond, Route, Shadow, Sticky, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.record import Record
from sentinel.core.routes import compile_routes
from sentinel.explain.arrival import recorded
from sentinel.explain.changes import settings
from sentinel.explain.diff import Case, Report, compare
from sentinel.explain.generate import Generated
from sentinel.explain.report import report_text
from sentinel.explain.treatment import APART, Kind, facts_of
from tests.core.build import match, plan, request, route

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))
BORDER = "----\n"
WEB = Listener("web", "127.0.0.1", 8080)


def answer(old: str, new: str, lines: str) -> str:
    plans = []
    for name, text in (("old", old), ("new", new)):
        loaded = load_text(text, f"{name}.kdl", now_s=0)
        assert loaded.plan is not None, render_problems(loaded.problems)
        plans.append(loaded.plan)
    tables = [compile_routes(one) for one in plans]
    if lines:
        asked = [asked_of(json.loads(line), f"line {number}") for number, line in enumerate(lines.splitlines(), 1)]
        report = compare(tables[0], tables[1], _cases(asked, plans[0], plans[1]))
    else:
        report = compare(tables[0], tables[1], Generated(tables[0], tables[1]).cases())
    besides = "".join(f"besides: {line}\n" for line in settings(plans[0], plans[1]))
    return report_text(report, "recorded" if lines else "generated") + "\n" + besides


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_a_comparison_reads_as_it_shall(path: Path) -> None:
    old, new, lines, expected = path.read_text().split(BORDER)
    assert answer(old, new, lines) == expected


# Facts.


def differ(old: Plan, new: Plan, *cases: Case) -> Report:
    return compare(compile_routes(old), compile_routes(new), cases)


def case(kind: Kind = Kind.WHOLE, client_ip: str = "192.0.2.1", body_bytes: int | None = 0) -> Case:
    asked = request("/a")
    asked.client_ip = client_ip
    return Case("GET /a", asked, asked, kind, body_bytes)


def with_limit(**changes: object) -> Plan:
    whole = plan(replace(route("a", match(prefixes=("/a",))), filters=("l",)))
    return replace(whole, rate_limits=(replace(RateLimit("l", 1_000_000_000, 10, 5), **changes),))  # type: ignore[arg-type]


def test_a_limit_that_exempts_the_client_is_no_part_of_what_it_experiences() -> None:
    old, new = with_limit(exempt=("192.0.2.0/24",)), with_limit(exempt=("192.0.2.0/24", "198.51.100.0/24"))
    assert differ(old, new, case()).is_same
    assert differ(old, new, case(client_ip="203.0.113.1")).is_same
    assert differ(old, new, case(client_ip="198.51.100.1")).differing == 1
    assert differ(old, new, case(Kind.GENERATED)).differing == 1, "it stands for all clients"


def test_every_field_of_a_plan_is_a_fact_unless_it_is_listed() -> None:
    """Whoever adds a field to the plan need not think of the diff: what is not listed is compared."""
    values: tuple[object, ...] = (
        Route("r", (), 0, respond=Respond(200)), Upstream("u", (Endpoint("h", 1),)), Endpoint("h", 1), WEB,
        RateLimit("l", 1, 1, 1), Respond(200),
    )  # fmt: skip
    for value in values:
        apart = APART.get(type(value).__name__, frozenset())
        names = {name.partition("/")[0].partition(" ")[0] for name, _ in facts_of(value)}
        compared = [one for one in fields(value) if one.name not in apart and "span" not in one.name]  # type: ignore[arg-type]
        assert len(names) == len(compared), type(value).__name__


@pytest.mark.parametrize("length", [20, 79, 200])
def test_secrets_are_never_shown(length: int) -> None:
    def told(letter: str) -> Plan:
        secret = f"planted-{letter}é" + letter * (length - 10)
        upstream = Upstream("api", (Endpoint("10.0.0.1", 1),), sticky=Sticky("c", (secret,)))
        key = Condition("header", "x-key", (secret,))
        parameter = replace(key, kind="query")
        whole = plan(
            route("a", match(prefixes=("/a",)), respond=Respond(200, headers=(("x-key", secret),))),
            route("b", match(prefixes=("/b",)), order=1),
            route("c", match(prefixes=("/c",), conditions=(key,)), order=2, respond=Respond(204)),
            route("d", match(prefixes=("/d",), conditions=(parameter,)), order=3, respond=Respond(205)),
        )
        system = replace(whole.system, access_log=f"/var/log/{secret}")
        return replace(whole, upstreams=(upstream,), secrets=(secret,), system=system)

    old, new = told("x"), told("y")
    tables = compile_routes(old), compile_routes(new)
    report = compare(*tables, Generated(*tables).cases())
    assert {"answer", "upstream", "route"} <= {group.step for group in report.groups}
    said = json.dumps(report.to_dict()) + report_text(report, "generated") + " ".join(settings(old, new))
    assert "planted" not in said.lower() and "(not shown)" in said and "access-log differs" in said


def test_what_a_body_may_have_matters_to_bodies_that_are_larger() -> None:
    old, new = (plan(replace(route("a", match(prefixes=("/a",))), max_body_bytes=size)) for size in (10, 20))
    assert differ(old, new, case(body_bytes=5)).is_same
    assert differ(old, new, case(body_bytes=15)).differing == 1
    assert differ(old, new, case(body_bytes=None)).differing == 1


def test_the_order_of_endpoints_is_no_difference_and_their_set_is() -> None:
    whole = plan(route("a", match(prefixes=("/a",))))
    ends = (Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 1))
    old = replace(whole, upstreams=(Upstream("api", ends),))
    turned = replace(whole, upstreams=(Upstream("api", ends[::-1]),))
    fewer = replace(whole, upstreams=(Upstream("api", ends[:1]),))
    assert differ(old, turned, case()).is_same
    assert differ(old, fewer, case()).groups[0].changes == ("- endpoint 10.0.0.2:1",)


def test_what_others_added_to_a_route_is_compared() -> None:
    """Shadows and hedged retries came after the diff: they are facts, and the shadow's upstream is one too."""
    one = route("a", match(prefixes=("/a",)))
    whole = replace(plan(one), upstreams=(*plan().upstreams, Upstream("copy", (Endpoint("10.0.0.9", 1),))))
    shadowed = replace(whole, routes=(replace(one, shadows=(Shadow("copy", 250),)),))
    (group,) = differ(whole, shadowed, case()).groups
    assert group.step == "shadow" and "shadow `copy` is asked now" in group.text
    more = replace(shadowed, routes=(replace(one, shadows=(Shadow("copy", 500),)),))
    (group,) = differ(shadowed, more, case()).groups
    assert group.changes == ("shadow 1/share: 25% → 50%",)
    moved = replace(shadowed, upstreams=(*plan().upstreams, Upstream("copy", (Endpoint("10.0.0.8", 1),))))
    assert differ(shadowed, moved, case()).groups[0].changes == ("- endpoint 10.0.0.9:1", "+ endpoint 10.0.0.8:1")


def test_a_limit_that_is_gone_is_told_and_the_others_are_not() -> None:
    limits = tuple(RateLimit(name, 1_000_000_000, count, 5) for name, count in (("a", 1), ("b", 2), ("c", 3)))

    def asking(*names: str) -> Plan:
        return replace(plan(replace(route("r", match(prefixes=("/a",))), filters=names)), rate_limits=limits)

    assert differ(asking("a", "b", "c"), asking("b", "c"), case()).groups[0].text == "rate-limit `a` is asked no more"
    assert differ(asking("b", "c"), asking("a", "b", "c"), case()).groups[0].text == "rate-limit `a` is asked now"
    assert differ(asking("a", "b"), asking("a"), case()).groups[0].text == "rate-limit `b` is asked no more"
    assert differ(asking(), asking("c"), case()).groups[0].text == "rate-limit `c` is asked now"
    assert differ(asking("a"), asking("b"), case()).groups[0].text == "rate-limit `a` → `b` differs"


def record(**changes: object) -> Record:
    given: dict[str, object] = {
        "request_id": "1", "time_ns": 1, "duration_ns": 1, "generation": 1, "listener": "web", "client_ip": "192.0.2.1",
        "method": "GET", "host": "example.com", "path": "/a", "query_length": 0, "route": "a", "upstream": "",
        "endpoint": "", "attempts": 0, "status": 200, "reason_number": Reason.RESPONDED.number, "bytes_in": 0,
        "bytes_out": 0,
    }  # fmt: skip
    return Record(**(given | changes))  # type: ignore[arg-type]


def test_a_record_that_went_another_way_is_not_judged() -> None:
    old = plan(route("a", match(prefixes=("/a",)), respond=Respond(200)))
    new = plan(route("a", match(prefixes=("/a",)), respond=Respond(204)))
    records = [record(), record(route="by-header"), record(route="", reason_number=Reason.BAD_PATH.number), record(
        listener="gone")]  # fmt: skip
    cases = [one for one in (recorded(old, new, found) for found in records) if one is not None]
    report = differ(old, new, *cases)
    assert (report.total, report.differing, report.unsure) == (3, 1, 2)
    assert report.changed_share == 1000, "of those that are compared"


def test_a_record_whose_path_is_redacted_is_not_judged_and_told_so() -> None:
    whole = plan(route("a", match(prefixes=("/a",)), respond=Respond(200)))
    found = recorded(whole, whole, record(path="~0badcafe"))
    assert found is not None
    report = differ(whole, whole, found)
    assert (report.total, report.differing, report.unsure) == (1, 0, 1)


def test_whoever_knows_a_clock_ends_it() -> None:
    whole = plan(route("a", match(prefixes=("/a",))))
    table = compile_routes(whole)
    report = compare(table, table, [case()] * 10, lambda: True)
    assert report.is_cut and report.total == 0


if __name__ == "__main__":
    for one in DIALOGUES:
        before, after, asked, *_ = one.read_text().split(BORDER)
        one.write_text(BORDER.join((before, after, asked, answer(before, after, asked))))
