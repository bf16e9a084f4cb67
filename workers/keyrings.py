"""Public keys of those who sign tokens: fetched by one worker for the fleet, and kept when nobody answers.

Intuition: the post that brings the list of valid seals. One clerk goes to fetch it, hangs it where all of them see it,
and as long as the post office is closed the old list hangs there.

Rules:
1. Who leads the round (workers.health) fetches, at its rhythm and when a token names a key that is not there; for that
   not more often than each EAGER_S seconds, whoever sends such tokens.
2. The set is read as it will be used before it is kept: one that cannot be read, or has no key, changes nothing.
3. It lies in a file of the run-dir, whole or not at all (written beside, and renamed), so that it outlives workers and
   reloads. That it was fetched again is its time.
4. Who needs a set asks by touching a file beside it; the leader looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Final

from sentinel.core.gates import keys_file
from sentinel.core.jwks import JWKS_BYTES_MAX, read_jwks
from sentinel.core.plan import Jwt, KeysFrom
from shm.counters import Counter
from workers.asking import exchange
from workers.tokens import WANTED

if TYPE_CHECKING:
    from workers.places import Group, Place
    from workers.service import Service

EAGER_S: Final = 10.0
AGAIN_S: Final = 2.0
"""After a failure, doubled with each one up to the rhythm."""
LOOK_S: Final = 0.25


class Keyring:
    """Fetches the keys of one filter."""

    def __init__(self, service: Service, rule: Jwt, source: KeysFrom, group: Group) -> None:
        self._service = service
        self._rule = rule
        self._source = source
        self._group = group
        self._path = keys_file(service.plan.system.run_dir, rule)
        self._turn = 0
        self._said = ""

    async def keep_fetching(self) -> None:
        every_s, failures = self._source.every_ns / 1e9, 0
        due_s, fetched_s = self._first_due(every_s), 0.0
        while True:
            now_s = time.monotonic()
            is_asked_for = now_s - fetched_s >= min(EAGER_S, every_s) and self._is_wanted()
            if now_s >= due_s or is_asked_for:
                fetched_s = now_s
                try:
                    failures = 0 if await self._fetch() else failures + 1
                except Exception as fault:
                    self._service.surprise(fault)
                    failures += 1
                pause_s = every_s if not failures else min(every_s, AGAIN_S * 2 ** min(failures - 1, 16))
                due_s = time.monotonic() + pause_s * (0.95 + random.random() / 10)
            await asyncio.sleep(LOOK_S)

    def _first_due(self, every_s: float) -> float:
        """At once, unless somebody has fetched them lately."""
        with contextlib.suppress(OSError):
            age_s = time.time() - os.stat(self._path).st_mtime
            if 0 <= age_s < every_s:
                return time.monotonic() + every_s - age_s
        return 0.0

    def _is_wanted(self) -> bool:
        try:
            os.unlink(self._path + WANTED)
        except OSError:
            return False
        return True

    async def _fetch(self) -> bool:
        """Ask the endpoints in turn until one tells a set that can be used."""
        places, fault = self._group.places, "it has no endpoint"
        for _ in places:
            place = places[self._turn % len(places)]
            self._turn += 1
            fault = await self._ask(place)
            if not fault:
                self._count(Counter.JWKS_FETCHES)
                self._say("")
                return True
            fault = f"{place.name}: {fault}"
        self._count(Counter.JWKS_FAILURES)
        self._say(fault)
        return False

    async def _ask(self, place: Place) -> str:
        """What is wrong; "" when the set was kept."""
        address = place.pools[self._turn % len(place.pools)] if place.pools else None
        if address is None:
            return "its name is not resolved"
        is_usual = place.endpoint.port == (80 if place.handshaker is None else 443)
        host = place.endpoint.host if is_usual and ":" not in place.endpoint.host else place.name
        request = (
            f"GET {self._source.path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: sentinel-keys\r\n"
            "accept: application/jwk-set+json, application/json\r\naccept-encoding: identity\r\n"
            "connection: close\r\n\r\n"
        )
        try:
            async with asyncio.timeout(self._source.timeout_ns / 1e9):
                status, body = await exchange(
                    address.host, address.port, request.encode("latin-1"), JWKS_BYTES_MAX, place.handshaker
                )
        except TimeoutError:
            return "it did not answer in time"
        except OSError as fault:
            return str(fault) or type(fault).__name__
        if body is None:
            return "what it answers is no HTTP, or too long"
        if status != 200:
            return f"it answers {status}"
        _, wrong = read_jwks(body)
        if wrong:
            return f"what it answers is no JWK set: {wrong}"
        return self._kept(body)

    def _kept(self, body: bytes) -> str:
        beside = f"{self._path}.{os.getpid()}"
        try:
            with open(beside, "wb") as file:
                file.write(body)
            os.replace(beside, self._path)
        except OSError as fault:
            return f"{self._path} cannot be written: {fault.strerror}"
        return ""

    def _count(self, counter: Counter) -> None:
        self._service.region.add(self._service.slot, counter)

    def _say(self, fault: str) -> None:
        """A line on standard error for each change."""
        if fault != self._said:
            self._said = fault
            what = f"cannot be fetched, and the last ones stay in use: {fault}" if fault else "are fetched again"
            sys.stderr.write(f"keys of `{self._rule.name}` {what}\n")
