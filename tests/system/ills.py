"""Upstreams that are ill in one way each: scripts for tests.workers.origin, and addresses that never answer."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator

from tests.workers.origin import Conversation, Script

SLOW_S = 0.1
HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthe first half"


def well(conversation: Conversation) -> None:
    while True:
        conversation.body(conversation.head())
        conversation.answer()


def slow(conversation: Conversation) -> None:
    while True:
        conversation.head()
        threading.Event().wait(SLOW_S)
        conversation.answer()


def failing(conversation: Conversation) -> None:
    while True:
        conversation.head()
        conversation.answer(b"broken", "HTTP/1.1 500 Broken")


def silent(conversation: Conversation) -> None:
    conversation.head()
    conversation.rest()


def resets(conversation: Conversation) -> None:
    conversation.head()
    conversation.reset()


def hangs_up(conversation: Conversation) -> None:
    conversation.head()


def says(octets: bytes, *, then: Script) -> Script:
    """Reads a head, says this, and goes on as it is told."""

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(octets)
        then(conversation)

    return script


def closes(conversation: Conversation) -> None:
    """The end of a script closes the connection."""


def waits(conversation: Conversation) -> None:
    conversation.rest()


def breaks_off(conversation: Conversation) -> None:
    """A reset that comes after what was said was read: else the kernel throws that away."""
    threading.Event().wait(SLOW_S)
    conversation.reset()


def drips(conversation: Conversation) -> None:
    conversation.head()
    conversation.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        conversation.send(b"4\r\ndrip\r\n")
        threading.Event().wait(0.05)


def flapping() -> Script:
    """Every other request is answered, and no connection is used twice."""
    turns = itertools.count()

    def script(conversation: Conversation) -> None:
        conversation.head()
        if next(turns) % 2:
            conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        else:
            conversation.reset()

    return script


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """A port whose queue is full: the kernel drops further SYNs, and nobody ever answers."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]
