"""What a client says of itself before the handshake: the name that it asks for, read from its ClientHello.

Intuition: a porter who reads the name on the letter through the window of the envelope. He does not open it, and
judges nothing: to which desk it is brought depends on the name, and what else is written is for the desk.

    octets ──▶ Hello          the name, "" if it says none
           ──▶ int            so many octets are needed to say more
           ──▶ None           no ClientHello that could be read: whoever speaks TLS will say what is wrong with it

Rules:
1. Which terms a connection is served on (certificates, who must show one) hangs on this reading alone, and is
   never asked of OpenSSL again: where both read a forged hello differently, the terms are still those of this name.
2. Everything is bounded: octets, and the records that they come in, since each is looked at anew.
3. A name is what host names are made of, or it counts as one that nobody knows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

HELLO_BYTES_MAX: Final = 16 * 1024
"""Of all records together; the largest in use, with keys that withstand quantum computers, have two to three KiB."""
RECORDS_MAX: Final = 16
RECORD_HEAD: Final = 5
HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1
FIXED: Final = 34  # the version and the client's random, after the four octets of the message's head
SERVER_NAME: Final = 0
NAME_CHARS_MAX: Final = 255
NAME_CHARS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
UNKNOWABLE: Final = "(unreadable)"
"""Instead of what is no name of a host; no certificate is made out in it."""


class Hello(NamedTuple):
    """What was read. server_name: lower case, without a dot at its end; "": none was said."""

    server_name: str


def read_hello(data: bytes) -> Hello | int | None:
    """Read the beginning of what a client sends; see above."""
    message = bytearray()
    at = 0
    for _ in range(RECORDS_MAX):
        if len(data) < at + RECORD_HEAD:
            return _wanted(at + RECORD_HEAD)
        size = data[at + 3] << 8 | data[at + 4]
        if data[at] != HANDSHAKE or data[at + 1] != 3 or size == 0:
            return None
        end = at + RECORD_HEAD + size
        if len(data) < end:
            return _wanted(end)
        message += data[at + RECORD_HEAD : end]
        at = end
        if message[0] != CLIENT_HELLO:
            return None
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            try:
                return Hello(_server_name(bytes(message[4 : 4 + int.from_bytes(message[1:4], "big")])))
            except IndexError:
                return None
    return None


def _wanted(count: int) -> int | None:
    return count if count <= HELLO_BYTES_MAX else None


def _server_name(hello: bytes) -> str:
    """The name in a hello without its head; raises IndexError where something ends too early."""
    at = FIXED
    at += 1 + hello[at]  # the session's id
    at += 2 + _number(hello, at)  # ciphers
    at += 1 + hello[at]  # compressions
    if at == len(hello):
        return ""
    end = at + 2 + _number(hello, at)
    at += 2
    if end > len(hello):
        raise IndexError
    while at < end:
        kind, size = _number(hello, at), _number(hello, at + 2)
        at += 4
        if at + size > end:
            raise IndexError
        if kind == SERVER_NAME:
            return _name(hello[at : at + size])
        at += size
    return ""


def _name(listed: bytes) -> str:
    """A list of names, of which there is one, of the only kind there is."""
    size = _number(listed, 3)
    raw = listed[5:]
    if _number(listed, 0) != len(listed) - 2 or listed[2] != 0 or size != len(raw):
        raise IndexError
    if not 0 < size <= NAME_CHARS_MAX or not NAME_CHARS.issuperset(raw):
        return UNKNOWABLE
    return raw.decode("ascii").lower().rstrip(".") or UNKNOWABLE


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
