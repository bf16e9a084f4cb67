"""A request that nobody sent, as a listener of a plan would read it; or why it would be refused.

Used where there are no octets to be parsed: for generated requests, and for those that the journal has
recorded. Who has the octets goes by the worker's own parser and intake instead (workers.rehearsal).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sentinel.core.path import BadTarget, normalise
from sentinel.core.plan import Plan
from sentinel.core.reasons import Reason
from sentinel.core.record import Record
from sentinel.core.request import Request
from sentinel.explain.diff import Case, Early
from sentinel.explain.treatment import Kind
from sentinel.explain.words import SECRET_FIELDS

BY_MODEL: Final = frozenset({
    Reason.MODEL_ROUTED.number, Reason.MODEL_UNKNOWN.number, Reason.MODEL_DEFAULTED.number,
})  # fmt: skip

Headers = Sequence[tuple[str, str]]


def arrive(
    plan: Plan, listener: str, method: str, host: str, target: str, headers: Headers, client_ip: str
) -> Request | Early:
    """Let a request arrive at a listener, by name."""
    found = next((one for one in plan.listeners if one.name == listener), None)
    if found is None:
        return Early(f"there is no listener `{listener}`")
    read = normalise(target, found.path_rules, method)
    if isinstance(read, BadTarget):
        return Early(f"refused with {read.reason.status}: {read.detail}")
    scheme = "https" if found.tls is not None else "http"
    return Request(method, scheme, host, read.path, read.query, read.target, headers, client_ip, listener)


def recorded(old: Plan, new: Plan, record: Record) -> Case | None:
    """What the journal knows of a request, to be compared; None when it was refused before a route was asked for."""
    is_decided = bool(record.route) or record.reason == Reason.NO_ROUTE.word
    if not record.method or not is_decided or record.is_cut:
        return None
    before, after = (
        arrive(plan, record.listener, record.method, record.host, record.path, (), record.client_ip)
        for plan in (old, new)
    )
    text, model = title(record.method, record.host, record.path), _model(record)
    return Case(text, before, after, Kind.RECORDED, route=record.route, model=model)


def _model(record: Record) -> str:
    """Which model it named, where that was asked; "" of one whose name was too long to be written down."""
    found = next((one.details for one in record.steps if one.reason_number in BY_MODEL and one.details), ("",))
    return "" if found[0].endswith("…") else found[0]


def title(method: str, host: str, target: str, headers: Headers = (), listener: str = "") -> str:
    """A request in one line, for people; whoever shows it bounds it."""
    said = [f"{name}: {'(not shown)' if name in SECRET_FIELDS else value}" for name, value in headers]
    notes = [*said, *([f"at `{listener}`"] if listener else [])]
    return f"{method} {host}{target}" + (f" ({'; '.join(notes)})" if notes else "")
