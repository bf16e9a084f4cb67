"""Explain a request of the past: the journal's record, turned into the same tree as a dry run.

The record holds numbers and places, no sentences: what a reason means is looked up
here, by whoever asks, and costs the live traffic nothing. With the plan of the record's
generation (`table`) more is told: who was passed over for another host or path, and what the
others of an upstream were. Without it the tree has what the record has, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from sentinel.core.balance.reports import said
from sentinel.core.plan import Upstream
from sentinel.core.reasons import BY_NUMBER, Reason
from sentinel.core.record import Record, RecordStep
from sentinel.core.routes import RouteTable
from sentinel.explain.losers import CONDITION_FAILED, Incomparable, compare_recorded, loser_nodes, model_nodes
from sentinel.explain.tree import Node, meaning_of
from sentinel.explain.words import step_text

Source = Literal["upstream", "route", "gateway"]
BY_UPSTREAM: Final = frozenset({Reason.PROXIED.number, Reason.UPGRADED.number})


def explain_record(record: Record, table: RouteTable | None = None) -> Node:
    """Return the tree of a finished exchange."""
    notes: list[str] = []
    if record.is_cut:
        notes.append("some of the record was too long for the journal, and was left off")
    losers, has_all = _losers(record, table, notes)
    steps: list[Node] = []
    for step in record.steps:
        if has_all and step.reason_number == CONDITION_FAILED:
            continue
        if has_all and table is not None and step.details:
            reason = BY_NUMBER.get(step.reason_number)
            steps += model_nodes(table, record.route, reason, step.place, step.details[0])
        steps.append(_step(step, table))
    told = [Node("note", note) for note in notes]
    children = (*_facts(record), *losers, *steps, *told, _verdict(record))
    return Node("request", _headline(record), children=children)


def source_of(record: Record) -> Source:
    """Who said the status that the client got."""
    if record.reason_number in BY_UPSTREAM:
        return "upstream"
    return "route" if record.reason_number == Reason.RESPONDED.number else "gateway"


def _losers(record: Record, table: RouteTable | None, notes: list[str]) -> tuple[list[Node], bool]:
    """Those who were passed over, and whether these are all of them."""
    if table is None:
        if record.steps:
            notes.append(
                f"the plan of generation {record.generation} is not known any more: what is told is what the record "
                "has, without the routes that were passed over for another host or path"
            )
        return [], False
    try:
        return list(loser_nodes(compare_recorded(table, record))), True
    except Incomparable as why:
        if record.steps:
            notes.append(f"the routes that were passed over for another host or path cannot be told: {why}")
        return [], False


def _headline(record: Record) -> str:
    query = f"?({record.query_length} octets)" if record.query_length else ""
    request = f"{record.method or '-'} {record.host}{record.path}{query}" if record.method else "(no request was read)"
    return f"{request} → {record.status} in {record.duration_ns / 1_000_000:.3f} ms"


def _facts(record: Record) -> Iterator[Node]:
    yield Node("note", f"from {record.client_ip} at listener `{record.listener}`, generation {record.generation}")
    yield Node("note", f"request id {record.request_id}")


def _step(step: RecordStep, table: RouteTable | None) -> Node:
    reason = BY_NUMBER.get(step.reason_number)
    text = step.reason if reason is None else step_text(reason, step.details)
    if reason is Reason.CONDITION_FAILED:
        return Node("loser", f"passed over: {text}", reason=step.reason, place=step.place)
    if table is not None and reason is Reason.ENDPOINT_CHOSEN:
        text += _rivals(table.upstreams.get(step.details[0]) if step.details else None)
    if table is not None and reason in COMPARED:
        text = _loads(step, table) or text
    return Node("step", text, reason=step.reason, place=step.place)


COMPARED: Final = frozenset({Reason.LOAD_COMPARED, Reason.TOKENS_COMPARED, Reason.REPORTS_COMPARED})
"""What a balance compared, endpoint by endpoint."""


def _rivals(upstream: Upstream | None) -> str:
    if upstream is None or len(upstream.endpoints) < 2:
        return ""
    return f" (one of {len(upstream.endpoints)} by {upstream.balance.kind})"


def _loads(step: RecordStep, table: RouteTable) -> str:
    """Which endpoint had how many in flight, by name; "" when that does not fit the plan."""
    upstream = next((one for one in table.plan.upstreams if str(one.span) == step.place), None)
    chosen, *counts = step.details or ("",)
    what = "in flight were"
    if step.reason_number == Reason.TOKENS_COMPARED.number and counts:
        what = f"of {counts.pop(0)} tokens itself, and under way were"
    if step.reason_number == Reason.REPORTS_COMPARED.number:
        what, counts = "loads were", [said(one) for one in counts]
    if upstream is None or len(counts) != len(upstream.endpoints) or not chosen.isdecimal():
        return ""
    names = [endpoint.name for endpoint in upstream.endpoints]
    told = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    return f"by {upstream.balance.kind}: {what} {told}" if 1 <= int(chosen) <= len(names) else ""


def _verdict(record: Record) -> Node:
    octets = f"{record.bytes_in} octets in, {record.bytes_out} out"
    where = f"{record.endpoint} of `{record.upstream}`"
    match source_of(record):
        case "upstream":
            via = f" by {where}" if record.endpoint else ""
        case "route":
            via = f" by route `{record.route}`"
        case "gateway":
            via = " by the gateway" + (f", for {where}" if record.endpoint else "")
    tries = f" after {record.attempts} attempts" if record.attempts > 1 else ""
    text = f"{record.status}{via}{tries}: {meaning_of(record.reason)} ({octets})"
    return Node("verdict", text, reason=record.reason)
