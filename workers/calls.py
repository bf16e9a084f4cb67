"""Which requests of a route are calls of a language model: asked by those who serve, and by those who rehearse.

It loads no shared memory, since rehearsals also run where there is none (a browser).
"""

from __future__ import annotations

from typing import Final

from sentinel.core.plan import Inference, Route
from sentinel.core.request import Request
from sentinel.inference.dialect import Call, Family, recognise

FAMILIES: Final[dict[str, Family | None]] = {"auto": None, **{family.value: family for family in Family}}


def call_of(inference: Inference, method: str, path: str) -> Call | None:
    """The dialect of a request; None when it is none that costs tokens."""
    if method != "POST":
        return None
    return recognise(path, FAMILIES[inference.family])


def recognises(route: Route, request: Request) -> bool:
    """Whether a request is in a dialect of its route."""
    return dialect_of(route, request) is not None


def dialect_of(route: Route, request: Request) -> str | None:
    """The word of a request's dialect; None when it is in none of its route's."""
    if route.inference is None:
        return None
    call = call_of(route.inference, request.method, request.path)
    return None if call is None else call.dialect.value
