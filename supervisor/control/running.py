"""The plan that runs, read back from the file that the workers read.

The truth about what runs is the supervisor's: after a rollback, or after a crash
of control, it is not what control compiled last. So whoever needs the running
plan (the admin token, the `config` of the API, how long a drain may take) gets
it by the path and fingerprint of a status, decoded once a fingerprint.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from sentinel.core.plan import PLAN_VERSION, Plan

PLAN_BYTES_MAX = 256 * 1024 * 1024
"""Far beyond any plan; a bound, so that a wrong file cannot take the process down."""


_decode = msgspec.json.Decoder(Plan).decode
"""Made while one thread runs, and not where plans are read: two threads that have msgspec learn the same types at the
same moment read what is half made, and the process is gone (SIGSEGV, msgspec 0.22)."""


class PlanFault(Exception):
    """The file of the running plan cannot be used; the text names it and says why."""


class RunningPlan:
    """The last running plan that was read. `plan` is None until one was."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.fingerprint = ""

    def put(self, plan: Plan, fingerprint: str) -> None:
        """Take a plan that control has just compiled itself."""
        self.plan, self.fingerprint = plan, fingerprint

    async def follow(self, status: dict[str, Any]) -> Plan | None:
        """Read what the status says runs, unless it is known already; None when nothing runs."""
        place = status.get("plan")
        if not isinstance(place, dict) or not place.get("path"):
            return None
        path, fingerprint = str(place["path"]), str(place.get("fingerprint", ""))
        if self.plan is None or fingerprint != self.fingerprint:
            self.put(await asyncio.to_thread(read_plan, path, fingerprint), fingerprint)
        return self.plan


def read_plan(path: str, fingerprint: str) -> Plan:
    """Read and check a stored plan. Blocks."""
    try:
        if Path(path).stat().st_size > PLAN_BYTES_MAX:
            raise PlanFault(f"{path}: this is no plan: it is larger than {PLAN_BYTES_MAX} bytes")
        data = Path(path).read_bytes()
    except OSError as error:
        raise PlanFault(f"{path}: the plan cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != fingerprint:
        raise PlanFault(f"{path}: the plan was changed: its content does not have the fingerprint {fingerprint}")
    try:
        plan = _decode(data)
    except msgspec.MsgspecError as error:
        raise PlanFault(f"{path}: the plan cannot be decoded: {error}") from error
    if plan.version != PLAN_VERSION:
        raise PlanFault(f"{path}: the plan has version {plan.version}, this release reads {PLAN_VERSION}")
    return plan
