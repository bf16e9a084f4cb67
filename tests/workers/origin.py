"""A scripted upstream on raw sockets: it says exactly what a test tells it to, octet by octet.

A test passes a script, a function that is called in a thread for each connection; it reads
what came and sends what it likes, valid or not. `scripted` remembers all connections
and requests, so that a test can say how often, and over how many links, it was asked.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

TIMEOUT_S = 20.0


class Gone(Exception):
    """The other side has closed."""


class Conversation:
    """One connection, seen from the origin: blocking reads and writes with a deadline."""

    def __init__(self, connection: socket.socket, origin: Origin) -> None:
        connection.settimeout(TIMEOUT_S)
        self.connection = connection
        self.origin = origin
        self.buffer = b""

    def _more(self) -> None:
        try:
            data = self.connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise Gone
        self.buffer += data

    def head(self) -> bytes:
        """The next request's head; remembered in `origin.heads`."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.origin.heads.append(head + b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        data, _, self.buffer = self.buffer.partition(mark)
        return data + mark

    def body(self, head: bytes) -> bytes:
        """The body that a well-formed head announces, without its framing."""
        fields = fields_of(head)
        if "content-length" in fields:
            return self.exactly(int(fields["content-length"]))
        if fields.get("transfer-encoding") != "chunked":
            return b""
        content = b""
        while size := int(self.until(b"\r\n"), 16):
            content += self.exactly(size + 2)[:-2]
        while self.until(b"\r\n") != b"\r\n":
            pass
        return content

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        with contextlib.suppress(Gone):
            while True:
                self._more()
        data, self.buffer = self.buffer, b""
        return data

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError as fault:
            raise Gone from fault

    def answer(self, body: bytes = b"ok", head: str = "HTTP/1.1 200 OK") -> None:
        self.send(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    def reset(self) -> None:
        """End the connection the hard way."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()


Script = Callable[[Conversation], None]


class Origin:
    """What a scripted origin saw."""

    def __init__(self, script: Script, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        self.refused: list[str] = []  # what it said of handshakes that failed
        self.names: list[str | None] = []  # that clients asked for (SNI)
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.names.append(name)
        self.listening = listening
        self.port: int = listening.getsockname()[1] if listening.family == socket.AF_INET else 0
        self.heads: list[bytes] = []
        self.connections = 0
        self.faults: list[BaseException] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                connection.settimeout(TIMEOUT_S)
                connection = self.tls.wrap_socket(connection, server_side=True)
            self.script(Conversation(connection, self))
        except ssl.SSLError as fault:
            self.refused.append(str(fault))
        except (Gone, ConnectionError):
            pass
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            connection.close()


@contextlib.contextmanager
def scripted(script: Script, *, unix: str = "", tls: ssl.SSLContext | None = None) -> Iterator[Origin]:
    """An origin that follows `script` on every connection. It ends them without `close_notify` unless that unwraps."""
    listening = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    listening.bind(unix or ("127.0.0.1", 0))
    listening.listen(512)
    origin = Origin(script, listening, tls)
    thread = threading.Thread(target=origin.run, daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
    assert not origin.faults, origin.faults


def echo(conversation: Conversation) -> None:
    """Answers every request with its body, or with `ok`."""
    while True:
        conversation.answer(conversation.body(conversation.head()) or b"ok")


def fields_of(head: bytes) -> dict[str, str]:
    """The fields of a head, names in lower case; a repeated name keeps its last value."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
