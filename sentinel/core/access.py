"""Lists of addresses: from where clients may come.

Intuition: the porter's list. He reads it from the top, and the first line that has the visitor's street decides; who
is on no line is treated as its last sentence says.

A list may be long, and strangers choose from where they come. So it is not read line by line: for each length of a
prefix that occurs there is a table of networks, and of the lines that are found the first one counts. What was looked
up is remembered, in bounds.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from sentinel.core.plan import IpAccess
from sentinel.core.reasons import Reason
from sentinel.core.trace import Step

REMEMBERED_MAX: Final = 4096
Table = dict[int, dict[int, int]]
"""Of each length of a prefix: by the network's number, the number of the first line that has it."""


class Access:
    """One list, made ready for look-ups."""

    __slots__ = ("_known", "_otherwise", "_steps", "_tables", "name", "span")

    def __init__(self, rule: IpAccess) -> None:
        self.name = rule.name
        self.span = rule.span
        self._tables: dict[int, Table] = {4: {}, 6: {}}
        self._steps: list[Step] = []
        for line in rule.rules:
            reason = Reason.ADDRESS_ALLOWED if line.is_allowed else Reason.ADDRESS_DENIED
            for text in line.networks:
                network = ipaddress.ip_network(text)
                table = self._tables[network.version].setdefault(network.prefixlen, {})
                number = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
                table.setdefault(number, len(self._steps))
                self._steps.append((reason, line.span, (rule.name, text)))
        otherwise = Reason.ADDRESS_ALLOWED if rule.otherwise == "allow" else Reason.ADDRESS_DENIED
        self._otherwise: Step = (otherwise, rule.span, (rule.name,))
        self._known: dict[str, Step] = {}

    def step(self, address: str) -> Step:
        """The step that tells whether clients may come from there, and by which line."""
        found = self._known.get(address)
        if found is None:
            found = self._look_up(address)
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[address] = found
        return found

    def _look_up(self, address: str) -> Step:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:  # a Unix socket's peer
            return self._otherwise
        if found.version == 6 and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        number, bits = int(found), found.max_prefixlen
        lines = [
            table[number >> (bits - length)]
            for length, table in self._tables[found.version].items() if number >> (bits - length) in table
        ]  # fmt: skip
        return self._steps[min(lines)] if lines else self._otherwise
