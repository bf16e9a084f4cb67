"""A request that nobody sent, as a listener of a plan would read it; or why it would be refused.

Used where there are no octets to be parsed: for generated requests, and for those that the journal has
recorded. Who has the octets goes by the worker's own parser and intake instead (workers.rehearsal).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sentinel.core.conditions import SECRET_FIELDS
from sentinel.core.identity import Finding, identity_of, recognised
from sentinel.core.path import BadTarget, normalise
from sentinel.core.plan import Plan
from sentinel.core.reasons import BY_WORD, Reason
from sentinel.core.record import Record
from sentinel.core.request import Request
from sentinel.explain.diff import Case, Early
from sentinel.explain.treatment import Kind
from sentinel.explain.words import STOPPED_AT_GATES

BY_MODEL: Final = frozenset({Reason.MODEL_ROUTED.word, Reason.MODEL_UNKNOWN.word, Reason.MODEL_DEFAULTED.word})
SETTLED: Final = frozenset({Reason.TOKENS_REPORTED.word, Reason.TOKENS_COUNTED.word})
RESERVED: Final = frozenset({Reason.WITHIN_BUDGET.word, Reason.BUDGET_EXCEEDED.word, Reason.BUDGET_EXHAUSTED.word})

CONFIGURED: Final = frozenset({"api-key", "basic"})
"""Ways to find out who asks where claims are the configuration's: it says them again."""

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
    text = title(record.method, record.host, record.path)
    steps = [(step.reason, step.details) for step in record.steps]
    return Case(
        text, before, after, Kind.RECORDED, route=record.route, model=_model(steps, BY_MODEL),
        found_out=found_out_of(steps),
    )  # fmt: skip


Told = Sequence[tuple[str, tuple[str, ...]]]
"""Steps of a record: the words of their reasons, and their details."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What a recorded request asked a language model for, as far as its record says. tokens -1: that is not known."""

    model: str = ""
    input_tokens: int = -1
    output_tokens: int = -1

    @property
    def line(self) -> str:
        """The same as a line of state; "" where nothing is known."""
        said = [f"model={shlex.quote(self.model)}"] if self.model else []
        if self.input_tokens >= 0:
            said.append(f"input={self.input_tokens}")
        if self.output_tokens >= 0:
            said.append(f"output={self.output_tokens}")
        return " ".join(("tokens", *said)) if said else ""


NO_CALL: Final = RecordedCall()


def call_of(steps: Told) -> RecordedCall:
    """What the steps of a record say: what was put aside is what it asked for, without that what it took at the end."""
    model = _model(steps, BY_MODEL) or _model(steps, SETTLED)
    input_tokens = output_tokens = -1
    for reason, details in steps:
        if reason in SETTLED and len(details) >= 3 and all(map(str.isdecimal, details[1:3])):
            input_tokens, output_tokens = map(int, details[1:3])
    put_aside = [details[-1] for reason, details in steps if reason in RESERVED and details]
    reserved = next(filter(str.isdecimal, put_aside), "")  # others are of money
    if reserved:
        input_tokens = min(max(input_tokens, 0), int(reserved))
        output_tokens = int(reserved) - input_tokens
    return RecordedCall("" if "*" in model else model, input_tokens, output_tokens)


def found_out_of(steps: Told) -> dict[str, Finding]:
    """What the steps of a record say of who asked, by the name of the authenticator that found it out."""
    found: dict[str, Finding] = {}
    for word, details in steps:
        reason = BY_WORD.get(word)
        if reason is Reason.AUTHENTICATED:
            identity = identity_of(details)
            if identity is not None:
                found[identity.source] = recognised(identity)
        elif reason in STOPPED_AT_GATES and details:
            found[details[0]] = Finding(reason, None, details[1] if len(details) > 1 else "")
    return found


def identity_lines(steps: Told) -> tuple[str, ...]:
    """The same as lines of state."""
    lines = []
    for name, found in found_out_of(steps).items():
        said = [f"refused={found.reason.word}"]
        if found.identity is not None:
            claims = () if found.identity.method in CONFIGURED else found.identity.claims
            said = [found.identity.subject, *(part for claim in claims for part in claim)]
        lines.append(" ".join(shlex.quote(one) for one in ("identity", name, *said)))
    return tuple(lines)


def _model(steps: Told, reasons: frozenset[str]) -> str:
    """Which model was named, where that was asked; "" of one whose name was too long to be written down."""
    found = next((details for reason, details in steps if reason in reasons and details), ("",))
    return "" if found[0].endswith("…") else found[0]


def title(method: str, host: str, target: str, headers: Headers = (), listener: str = "") -> str:
    """A request in one line, for people; whoever shows it bounds it."""
    said = [f"{name}: {'(not shown)' if name in SECRET_FIELDS else value}" for name, value in headers]
    notes = [*said, *([f"at `{listener}`"] if listener else [])]
    return f"{method} {host}{target}" + (f" ({'; '.join(notes)})" if notes else "")
