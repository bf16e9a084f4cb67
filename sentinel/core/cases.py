"""Policy tests as values: requests in their order, and what must come of each.

Intuition: the examples in a contract, copied out. The configuration's text makes them (config.cases), and whoever
runs them (explain.cases) needs no text any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sentinel.core.span import NOWHERE, Span
from sentinel.core.state import State


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that must hold. `kind`: the directive's name. `name`: of a header."""

    kind: str
    values: tuple[Any, ...]
    name: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Expect:
    """What must hold of the repetitions from `first` to `last`, which count from 1."""

    first: int
    last: int
    wanted: tuple[Expectation, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """A request of a case. state: what is assumed before it, None: nothing new. body_bytes -1: it has none."""

    request: str
    headers: tuple[tuple[str, str], ...]
    client_ip: str
    body_bytes: int
    times: int
    every_ns: int
    after_ns: int
    state: State | None
    expects: tuple[Expect, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Case:
    """One policy test; `listener` is "" where the URLs say."""

    name: str
    listener: str
    requests: tuple[CaseRequest, ...]
    span: Span
