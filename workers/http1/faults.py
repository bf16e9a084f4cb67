"""What a peer did wrong: a fault names the culprit by its class and the conclusion by its reason.

The codec never answers and never closes. It raises, and whoever owns the
connection acts: a client is told (400, 431, …), an upstream's answer becomes a
502. `detail` is for the log; it never contains a peer's octets.
"""

from __future__ import annotations

from sentinel.core.reasons import Reason


class Fault(Exception):
    """A message that is refused. After it the connection has no defined state: answer at most, and close."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.word}: {detail}" if detail else reason.word)
        self.reason = reason
        self.detail = detail


class ClientFault(Fault):
    """The client's octets are refused."""


class UpstreamFault(Fault):
    """The upstream's octets are refused."""
