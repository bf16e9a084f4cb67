"""Certificates that are replaced without a word: who looks after their files, and what he does about it.

Intuition: a concierge who goes round the letter boxes. He does not read letters while they are being put in: he looks
twice, and when a box has changed and then stayed as it is, he takes what is there to the office. What the office does
not accept stays out, and who lives in the house notices nothing.

Rules:
1. What a file is compared with is what the running plan was made of (`WatchedFile.digest`), not what it was when
   somebody looked last. So nothing is missed between two plans or two control processes, and touching a file is no
   change.
2. A change is acted on when two looks in a row have found the same. Chain and key are two files, and are not replaced
   in one stroke.
3. A renewal takes certificates, and nothing else: if the configuration differs from what runs in anything but the
   content of the files that are watched, that is for whoever wrote it to reload.
4. What was tried and refused is tried again when the files change again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from sentinel.core.plan import Listener, Plan, WatchedFile
from supervisor.control.audit import AuditLog
from supervisor.control.reload import Outcome, Reloader

LOOK_S: Final = 1.0
FILE_BYTES_MAX: Final = 16 << 20
"""Far beyond any file of certificates, so that a wrong one does not fill the memory."""
WHO: Final = "sentinel"
Marks = tuple[tuple[int, int, int, int] | None, ...]
"""Of each file: device, inode, size, time of its last change; None: it is not there."""


class Concierge:
    """Looks after the files of the running plan's listeners that say `watch`; one in a control process."""

    def __init__(self, reloader: Reloader, audit: AuditLog, plan: Callable[[], Plan | None]) -> None:
        self._reloader, self._audit, self._plan = reloader, audit, plan
        self._files: tuple[WatchedFile, ...] = ()
        self._seen: Marks | None = None  # at the last look
        self._settled: Marks | None = None  # what was acted on, or found to be what runs

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            plan = self._plan()
            files = () if plan is None else tuple(watched(plan.listeners))
            if files:
                await self.look(files)

    async def look(self, files: tuple[WatchedFile, ...]) -> Outcome | None:
        """One round; what came of it where something was done."""
        if files != self._files:
            self._files, self._seen, self._settled = files, None, None
        marks = await asyncio.to_thread(_marks, files)
        before, self._seen = self._seen, marks
        if marks == self._settled or marks != before:
            return None
        self._settled = marks
        changed = await asyncio.to_thread(_changed, files)
        return await self._renew(changed) if changed else None

    async def _renew(self, changed: list[str]) -> Outcome:
        outcome = await self._reloader.renew(without_certificates)
        what = ", ".join(changed)
        text = f"certificate changed ({what}): {outcome.outcome}"
        about = f" (generation {outcome.generation})" if outcome.generation else ""
        why = f": {outcome.why}" if outcome.why else ""
        print(f"sentinel control: {text}{about}{why}", file=sys.stderr)
        if outcome.text:
            print(outcome.text, file=sys.stderr)
        sys.stderr.flush()
        await self._audit.write(WHO, "certificate changed", what, None, outcome.outcome)
        return outcome


def watched(listeners: Iterable[Listener]) -> Iterator[WatchedFile]:
    for listener in listeners:
        if listener.tls is not None:
            yield from listener.tls.watched


def without_certificates(plan: Plan) -> Plan:
    """What is left of a plan when the content of the files that are watched is taken out."""
    return replace(plan, listeners=tuple(_bare(one) for one in plan.listeners))


def _bare(listener: Listener) -> Listener:
    if listener.tls is None or not listener.tls.watched:
        return listener
    tls = replace(
        listener.tls, watched=(),
        certificates=tuple(
            replace(one, chain_pem="", key_pem="", names=(), key_kind="", expires_s=0)
            for one in listener.tls.certificates
        ),
        client_certificates=tuple(replace(one, ca_pem="", crl_pem="") for one in listener.tls.client_certificates),
    )  # fmt: skip
    return replace(listener, tls=tls)


def _marks(files: tuple[WatchedFile, ...]) -> Marks:
    return tuple(_mark(one.path) for one in files)


def _mark(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _changed(files: tuple[WatchedFile, ...]) -> list[str]:
    """Those that are there, and are not what the plan was made of."""
    found = []
    for one in files:
        try:
            with Path(one.path).open("rb") as file:
                content = file.read(FILE_BYTES_MAX)
        except OSError:
            continue  # it is being replaced; when it is there again, its mark is another one
        if hashlib.sha256(content).hexdigest() != one.digest:
            found.append(one.path)
    return found
