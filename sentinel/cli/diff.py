"""`sentinelctl diff`: which requests two configurations treat differently, and at which step they part.

    a file, or the fleet's journal ─▶ asked ─┐
    the conditions of both files ─▶ generated ─┴─▶ compare ─▶ report

Requests of a file go the way of real ones on both sides: the worker's parser and intake, then the decision. Those
that the journal or the access log has recorded are known without query and headers, and the report says so.

The exit status is 0 when no request is treated differently, 1 when one is (or a configuration is invalid), 2 when
something cannot be read.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from sentinel.cli.client import Client, Unreachable, find_socket
from sentinel.cli.offline import NO, UNREADABLE, YES, complain, load_readable, offline_verb
from sentinel.cli.traffic import Asked, BadTraffic, asked_of, read_traffic, was_never_read
from sentinel.config import render_problems
from sentinel.core.plan import Plan
from sentinel.core.request import Request
from sentinel.core.routes import compile_routes
from sentinel.explain.arrival import arrive, title
from sentinel.explain.changes import settings
from sentinel.explain.diff import Case, Early, Report, compare
from sentinel.explain.generate import REQUESTS_MAX, Generated
from sentinel.explain.report import report_lines
from sentinel.explain.treatment import Kind
from workers.forwarded import canonical_peer
from workers.http1.faults import ClientFault
from workers.intake import Intake
from workers.rehearsal import Misasked, choose_listener, read_request

STYLES: Final[dict[str, dict[str, Any]]] = {
    "headline": {"bold": True}, "group": {"fg": "yellow"}, "note": {"dim": True},
}  # fmt: skip
RECENT_MAX: Final = 20_000
HERE: Final = "127.0.0.1"


@click.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--requests", "file", metavar="FILE", help="Compare these requests: JSON lines, an access log, or HAR.")
@click.option("--recent", metavar="N", type=click.IntRange(1, RECENT_MAX),
              help="Compare the last N requests that the running fleet has recorded.")  # fmt: skip
@click.option("--socket", metavar="PATH", help="With --recent: the fleet's control.sock (or $SENTINEL_SOCKET).")
@click.option("--generate/--no-generate", default=True,
              help="Compare requests that are made from the conditions of both files (default).")  # fmt: skip
@offline_verb
def diff(
    old: str, new: str, file: str | None, recent: int | None, socket: str | None, generate: bool, is_json: bool
) -> int:
    """Say which requests the configuration NEW treats differently from OLD, and at which step they part.

    Without traffic, requests are made from the conditions of both: each route, its neighbours and its borders. Ends
    with 1 when a request is treated differently.
    """
    if file is not None and recent is not None:
        raise click.UsageError("give --requests or --recent, not both")
    if file is None and recent is None and not generate:
        raise click.UsageError("there is nothing to compare: give --requests or --recent")
    plans = [_plan(path) for path in (old, new)]
    if plans[0] is None or plans[1] is None:
        return NO
    tables = compile_routes(plans[0]), compile_routes(plans[1])
    reports: dict[str, Report] = {}
    try:
        if file is not None or recent is not None:
            asked = read_traffic(file) if file is not None else _recent(socket, recent or 1)
            reports["recorded"] = compare(*tables, _cases(asked, plans[0], plans[1]))
    except (BadTraffic, Unreachable) as fault:
        complain(str(fault))
        return UNREADABLE
    generated = Generated(*tables)
    if generate:
        reports["generated"] = compare(*tables, generated.cases())
    found = settings(plans[0], plans[1])
    if is_json:
        click.echo(json.dumps(document(reports, found, generated.left_off), indent=2, ensure_ascii=False))
    else:
        _print(reports, found, generated.left_off)
    return NO if any(report.differing for report in reports.values()) else YES


def document(reports: dict[str, Report], found: list[str], left_off: int) -> dict[str, Any]:
    """The comparison for programs."""
    return {
        "differs": any(report.differing for report in reports.values()),
        **{name: reports[name].to_dict() if name in reports else None for name in ("recorded", "generated")},
        "generated_left_off": left_off, "settings": found,
    }  # fmt: skip


def print_report(report: Report, what: str) -> None:
    for line in report_lines(report, what):
        click.echo(click.style(line.text, **STYLES.get(line.kind, {})))


def _print(reports: dict[str, Report], found: list[str], left_off: int) -> None:
    for name, report in reports.items():
        print_report(report, name)
    if left_off:
        click.echo(f"    {left_off:,} requests were left off: at most {REQUESTS_MAX:,} are generated")
    if found:
        click.echo(click.style("besides, without effect on what is decided:", bold=True))
        for line in found:
            click.echo(f"           {line}")


def _plan(path: str) -> Plan | None:
    loaded = load_readable(path)
    if loaded.plan is None:
        click.echo(render_problems(loaded.problems), err=True)
    return loaded.plan


def _recent(socket: str | None, count: int) -> Iterator[Asked]:
    """The newest recorded requests of the fleet."""
    path = find_socket(socket)
    answer = Client(path).get("requests", last=count)
    if answer.status != 200 or not isinstance(answer.document, list):
        raise Unreachable(f"{path}: {answer.error}")
    for number, row in enumerate(answer.document, 1):
        if not (isinstance(row, dict) and row.get("is_cut")) and not was_never_read(row):
            yield asked_of(row, f"record {number}")


def _cases(asked: Iterable[Asked], old: Plan, new: Plan) -> Iterator[Case]:
    sides = _Reader(old), _Reader(new)
    for one in asked:
        question = one.question
        if one.is_partial:
            text = title(question.method, question.host, question.target)
            yield Case(text, sides[0].recorded(one), sides[1].recorded(one), Kind.RECORDED, route=one.route)
            continue
        text = title(question.method, question.host, question.target, listener=one.listener)
        (before, body), (after, _) = (side.whole(one) for side in sides)
        yield Case(text, before, after, Kind.WHOLE, body)


class _Reader:
    """How one configuration's listeners read requests."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._intakes = {one.name: Intake(one) for one in plan.listeners}

    def recorded(self, asked: Asked) -> Request | Early:
        question = asked.question
        return arrive(self._plan, asked.listener, question.method, question.host, question.target, (), _peer(asked))

    def whole(self, asked: Asked) -> tuple[Request | Early, int]:
        """The request, and the octets of its body that it announces."""
        if not self._plan.listeners:
            return Early("there is no listener"), 0
        if asked.listener and asked.listener not in self._intakes:
            return Early(f"there is no listener `{asked.listener}`"), 0
        try:
            listener, _ = choose_listener(self._plan, asked.question, asked.listener or None)
            request, head = read_request(self._intakes[listener.name], asked.question, _peer(asked))
        except Misasked as fault:
            return Early(str(fault)), 0
        except ClientFault as fault:
            detail = f": {fault.detail}" if fault.detail else ""
            return Early(f"refused with {fault.reason.status} ({fault.reason.word}){detail}"), 0
        return request, max(0, head.content_length)


def _peer(asked: Asked) -> str:
    try:
        return canonical_peer(str(ipaddress.ip_address(asked.client_ip or HERE)))
    except ValueError as fault:
        raise BadTraffic(f"{asked.place}: `{asked.client_ip}` is no IP address") from fault


COMMANDS: list[click.Command] = [diff]
