"""Explain a request of the past: the journal's record, turned into the same tree as a dry run.

The record holds numbers and places, no sentences: what a reason means is looked up
here, by whoever asks, and costs the live traffic nothing.
"""

from __future__ import annotations

from sentinel.core.reasons import BY_NUMBER
from sentinel.core.record import Record, RecordStep
from sentinel.explain.tree import Node, meaning_of
from sentinel.explain.words import step_text


def explain_record(record: Record) -> Node:
    """Return the tree of a finished exchange."""
    steps = [_step(step) for step in record.steps]
    notes = [Node("note", "some of the record was too long for the journal, and was left off")] if record.is_cut else []
    return Node("request", _headline(record), children=(*_facts(record), *steps, *notes, _verdict(record)))


def _headline(record: Record) -> str:
    query = f"?({record.query_length} octets)" if record.query_length else ""
    request = f"{record.method or '-'} {record.host}{record.path}{query}" if record.method else "(no request was read)"
    return f"{request} → {record.status} in {record.duration_ns / 1_000_000:.3f} ms"


def _facts(record: Record) -> list[Node]:
    client = f"from {record.client_ip} at listener `{record.listener}`, generation {record.generation}"
    return [Node("note", client), Node("note", f"request id {record.request_id}")]


def _step(step: RecordStep) -> Node:
    reason = BY_NUMBER.get(step.reason_number)
    text = step.reason if reason is None else step_text(reason, step.details)
    return Node("step", text, reason=step.reason, place=step.place)


def _verdict(record: Record) -> Node:
    octets = f"{record.bytes_in} octets in, {record.bytes_out} out"
    via = f" by {record.endpoint} of `{record.upstream}`" if record.endpoint else ""
    tries = f" after {record.attempts} attempts" if record.attempts > 1 else ""
    text = f"{record.status}{via}{tries}: {meaning_of(record.reason)} ({octets})"
    return Node("verdict", text, reason=record.reason)
