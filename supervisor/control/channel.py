"""The channel to the supervisor: one JSON object a message, over a SEQPACKET socket pair.

Intuition: two offices joined by a pneumatic tube. We send a numbered question
and get the answer with the same number; in between, the other side may drop us
a note without a number (an event). When the tube goes dead, so do we.

Rule 1: messages keep their borders (SEQPACKET), so nothing is ever framed or
    reassembled; a message that is too long is refused before it is sent.
Rule 2: an answer is matched by `id`, an event goes to `on_event` in the order in
    which it was sent. An event is handled to its end before the next message
    is read, so an event that was sent before an answer is known by then.
Rule 3: end of file means that the supervisor is gone. Everybody who waits is
    told, and `closed` is set; a control process without a supervisor has
    nothing to control and ends.
Rule 4: what cannot be understood is counted and dropped: the supervisor outlives
    us and may be older than we are.

Rejected: asyncio streams (no SEQPACKET), and a thread that blocks in recv (one
more thing to stop).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

MESSAGE_BYTES_MAX = 64 * 1024
"""The supervisor reads with a buffer of this size; a longer message would arrive cut."""

UNSENT_MAX = 256
"""Messages waiting for a supervisor that does not read. It reads within milliseconds, or it is stuck."""

ANSWER_TIMEOUT_S = 10.0
"""The supervisor answers from its loop without waiting for anything; ten seconds mean that it hangs."""

Message = dict[str, Any]


class ChannelFault(Exception):
    """The supervisor could not be asked, or did not answer; the text says which."""


class SupervisorRefusal(Exception):
    """The supervisor answered, and the answer is no; the text is its own."""


class Channel:
    """Our end. Made anywhere, `open()`ed inside the running loop."""

    def __init__(self, connection: socket.socket, on_event: Callable[[Message], None]) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._on_event = on_event
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._unsent: deque[bytes] = deque()
        self._last_id = 0
        self.closed = asyncio.Event()
        self.surprise_count = 0

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._read)

    async def ask(self, op: str, *, timeout_s: float = ANSWER_TIMEOUT_S, **fields: Any) -> Message:
        """Ask the supervisor and wait for its answer; raises ChannelFault or SupervisorRefusal."""
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send({"id": number, "op": op, **fields})
            message = await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise ChannelFault(f"the supervisor did not answer `{op}` within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if message.get("ok") is not True:
            raise SupervisorRefusal(str(message.get("error", f"the supervisor refused `{op}` without saying why")))
        return message

    def close(self) -> None:
        if self.closed.is_set():
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._connection.fileno())
        loop.remove_writer(self._connection.fileno())
        self._connection.close()
        self.closed.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelFault("the supervisor is gone"))

    def _send(self, message: Message) -> None:
        if self.closed.is_set():
            raise ChannelFault("the supervisor is gone")
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MESSAGE_BYTES_MAX:
            raise ChannelFault(f"a message of {len(data)} bytes is longer than the channel carries")
        if len(self._unsent) >= UNSENT_MAX:
            raise ChannelFault("the supervisor does not read its channel")
        self._unsent.append(data)
        self._write()

    def _write(self) -> None:
        """Send what waits; called again by the loop when the supervisor has made room."""
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                self._connection.send(self._unsent[0], socket.MSG_NOSIGNAL)
                self._unsent.popleft()
        except (BlockingIOError, InterruptedError):
            loop.add_writer(self._connection.fileno(), self._write)
            return
        except OSError:
            self.close()
            return
        loop.remove_writer(self._connection.fileno())

    def _read(self) -> None:
        try:
            data, _, flags, _ = self._connection.recvmsg(MESSAGE_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, flags = b"", 0
        if not data:
            self.close()
            return
        message = None if flags & socket.MSG_TRUNC else _decode(data)
        if message is None:
            self.surprise_count += 1
        elif "event" in message:
            self._on_event(message)
        else:
            self._deliver(message)

    def _deliver(self, message: Message) -> None:
        answer = self._waiting.get(message.get("id", 0))
        if answer is not None and not answer.done():
            answer.set_result(message)
        else:
            self.surprise_count += 1  # the one who asked has stopped waiting


def _decode(data: bytes) -> Message | None:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
