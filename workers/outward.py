"""What an upstream is told instead of what the client said: the path of the model's provider.

Intuition: a forwarding office. The letter stays as it is; the address on the envelope is the one at which the addressee
is known.

Only requests that go for a line of `models` come here; all others are sent as they came, and pay one look at an
attribute that is None.
"""

from __future__ import annotations

from sentinel.core.models import Errand
from sentinel.core.plan import Inference
from sentinel.core.request import Request
from sentinel.inference.address import addressed
from workers.calls import call_of


class Outward:
    """What is said anew to one upstream."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target


def outward_of(request: Request, inference: Inference | None, errand: Errand | None) -> Outward | None:
    """What is said anew; None: nothing is."""
    if errand is None or inference is None:
        return None
    call = call_of(inference, request.method, request.path)
    if call is None:
        return None
    path = addressed(request.path, call, errand.sent)
    if path == request.path:
        return None
    return Outward(f"{path}?{request.query}" if request.query else path)
