"""The playground, as control serves it: the files of the page, and answers to what the page asks.

The files are read once, when control starts, and served by their names: there is no path to leave the folder by.
They say nothing of this instance. What the page asks is answered by sentinel.playground, in a thread,
one question at a time; it reads nothing of this machine, and nothing of the fleet.

Rules:
1. The page obeys a Content-Security-Policy that lets it load and ask us, and nobody else; script that somebody
   managed to write into it would not run.
2. A question has TIME_S. A thread cannot be stopped, so a question that takes longer (the texts are bounded, and what
   reads them is linear) keeps its place until it is done, and later ones are told to wait: they never pile up.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import msgspec

from sentinel.core.plan import Plan
from sentinel.explain.cases import Ask
from sentinel.playground import Misunderstood, ask
from workers.rehearsal import House, ask_in

TIME_S: Final = 10.0
WAITING_MAX: Final = 8
"""Questions that wait for their turn: a person types one at a time."""
MEDIA: Final = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml", "kdl": "text/plain; charset=utf-8",
}  # fmt: skip
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}  # fmt: skip
"""no-cache: kept, and asked about each time, so that the page is always the one of this release."""


class Busy(Exception):
    """Too many questions wait, or one takes too long."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page."""

    content: bytes
    media: str
    etag: str


class Playground:
    """The page and who answers it."""

    def __init__(self) -> None:
        self._files = dict(_files(files("sentinel.playground").joinpath("page"), ""))
        self._turn = threading.Lock()
        self._waiting = 0

    def file(self, name: str) -> File | None:
        """A file of the page by its name; "" is the page itself."""
        return self._files.get(name or "index.html")

    async def ask(self, body: bytes) -> dict[str, Any]:
        """Answer a question; raises Misunderstood, Busy, and msgspec's faults for what is no JSON."""
        if self._waiting >= WAITING_MAX:
            raise Busy("other questions are still being answered")
        self._waiting += 1
        work = asyncio.ensure_future(asyncio.to_thread(self._answer, body))
        work.add_done_callback(self._answered)
        try:
            return await asyncio.wait_for(asyncio.shield(work), TIME_S)
        except TimeoutError:
            raise Busy(f"it is not answered after {TIME_S:g} s") from None

    def _answer(self, body: bytes) -> dict[str, Any]:
        with self._turn:
            try:
                return ask(msgspec.json.decode(body), _open)
            except RecursionError:
                raise Misunderstood("it is nested too deeply") from None

    def _answered(self, work: asyncio.Future[dict[str, Any]]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # of a question that nobody waits for any more, too: it is not logged as lost


def _open(plan: Plan) -> Ask:
    return ask_in(House(plan))


def _files(folder: Traversable, prefix: str) -> list[tuple[str, File]]:
    found: list[tuple[str, File]] = []
    for one in folder.iterdir():
        if one.is_dir():
            found += _files(one, f"{prefix}{one.name}/")
        elif (media := MEDIA.get(one.name.rpartition(".")[2])) is not None:
            content = one.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found.append((prefix + one.name, File(content, media, etag)))
    return found
