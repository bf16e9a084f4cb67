"""Origins that a test makes ill and well again."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator

from tests.workers.child import Worker
from tests.workers.origin import Conversation, Origin, fields_of, scripted


class Patient:
    """One origin: what it answers, and what it was asked. `status` and `hold` may be changed at any time."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.status = 200
        self.checks: list[bytes] = []
        self.asked = 0
        self.hold = threading.Event()
        self.hold.set()
        self.origin: Origin

    @property
    def port(self) -> int:
        return self.origin.port

    def talk(self, conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            if b"sentinel-health-check" in head:
                self.checks.append(head)
            else:
                self.asked += 1
                conversation.body(head)
                self.hold.wait(20)
            conversation.answer(self.name, f"HTTP/1.1 {self.status} X")
            if fields_of(head).get("connection") == "close":
                return


@contextlib.contextmanager
def patients(*names: str, tls: ssl.SSLContext | None = None) -> Iterator[tuple[Patient, ...]]:
    found = tuple(Patient(name) for name in names)
    with contextlib.ExitStack() as stack:
        for one in found:
            one.origin = stack.enter_context(scripted(one.talk, tls=tls))
        try:
            yield found
        finally:
            for one in found:
                one.hold.set()


def listed(*found: Patient, extra: str = "") -> str:
    """The `endpoint` lines."""
    return "\n".join(f'endpoint "127.0.0.1:{one.port}" {extra}' for one in found)


def standing(worker: Worker, patient: Patient) -> Callable[[str], str]:
    """Read a field of the endpoint's place in shared memory, as a word."""

    def read(field: str) -> str:
        name = f"origin/127.0.0.1:{patient.port}"
        view = next(view for view in worker.region.places() if view.name == name)
        value = getattr(view, field)
        return str(getattr(value, "name", value)).lower()

    return read
