"""Loading the plan that control made, and refusing any other.

Runs in the worker before it is ready. The fingerprint travels by another way than the
file (control, supervisor, heritage), so a file that was changed or cut off is noticed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from sentinel.core.plan import PLAN_VERSION, Plan


class PlanFault(Exception):
    """The plan cannot be served; the text says why."""


class _Version(msgspec.Struct):
    version: int


def load_plan(path: str, fingerprint: str) -> Plan:
    """Read, compare, decode; raises PlanFault."""
    try:
        content = Path(path).read_bytes()
    except OSError as fault:
        raise PlanFault(f"the plan cannot be read: {fault}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != fingerprint:
        raise PlanFault(f"the plan {path} has fingerprint {found}, not {fingerprint}")
    try:
        version = msgspec.json.decode(content, type=_Version).version
        if version != PLAN_VERSION:
            raise PlanFault(f"the plan is of version {version}, this worker reads {PLAN_VERSION}")
        return msgspec.json.decode(content, type=Plan)
    except msgspec.MsgspecError as fault:
        raise PlanFault(f"the plan is not valid: {fault}") from None
