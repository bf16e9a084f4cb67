"""The name in a ClientHello is read as OpenSSL reads it, from any pieces; what is no hello is nobody's."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.authority import self_signed
from workers.hello import HELLO_BYTES_MAX, RECORDS_MAX, UNKNOWABLE, Hello, read_hello


def hello_of(name: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What a client of OpenSSL's says first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same message in records of so many octets."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def with_name(raw: bytes) -> bytes:
    """A hello whose name has other octets, as many as `placeholder.test` has."""
    return hello_of("placeholder.test").replace(b"placeholder.test", raw)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("said", "name"), [("example.com", "example.com"), ("A.Example.COM", "a.example.com"), (None, "")]
)
def test_the_name_is_read(said: str | None, name: str, newest: ssl.TLSVersion) -> None:
    data = hello_of(said, newest)
    assert read_hello(data) == Hello(name) == read_hello(data + b"what comes after it")


def test_from_any_piece_as_many_octets_are_wanted_as_lead_on() -> None:
    for data in (whole := hello_of("example.com"), in_records(whole, 100)):
        for count in range(len(data)):
            wanted = read_hello(data[:count])
            assert isinstance(wanted, int) and count < wanted <= len(data)
        assert read_hello(data) == Hello("example.com")


def test_what_is_no_name_is_nobodys() -> None:
    for raw in (b"placeholder\0test", b"place older.test", b"pl\xc3\xa4ceholder.tes", b"place/older.test"):
        assert read_hello(with_name(raw)) == Hello(UNKNOWABLE)
    assert read_hello(with_name(b"placeholder.tes.")) == Hello("placeholder.tes")


def test_what_is_no_hello_is_not_read() -> None:
    whole = hello_of("example.com")
    assert read_hello(b"") == 5
    for data in (
        b"GET / HTTP/1.1\r\n", b"\x16\x02\x00\x00\x05hello", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\x00\x00",
        whole[:5] + b"\x02" + whole[6:], in_records(whole[: 5 + 60], 20)[:-1] + whole[40:],
    ):  # fmt: skip
        assert read_hello(data) is None


def test_nobody_is_waited_for_without_end() -> None:
    assert read_hello(b"\x16\x03\x01\xff\xff") is None
    endless = b"\x16\x03\x01\x20\x00\x01\xff\xff\xff" + bytes(0x2000 - 4)
    assert read_hello(endless) == len(endless) + 5
    assert read_hello(endless + b"\x16\x03\x01\x20\x00") is None, f"more than {HELLO_BYTES_MAX} octets"
    assert read_hello(in_records(hello_of("example.com"), 5)) is None, f"more than {RECORDS_MAX} records"


WHOLE = hello_of("example.com")
IDENTITY = self_signed("example.com")


def openssl_reads(data: bytes) -> str | None:
    """The name as OpenSSL's server understands it; None: it did not come as far."""
    asked: list[str | None] = []
    context = IDENTITY.context()
    context.sni_callback = lambda _, name, __: asked.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(data)
    with pytest.raises(ssl.SSLError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return (asked[0] or "").lower() if asked else None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # names that are no ASCII
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 600))
def test_a_mutated_hello_is_read_as_openssl_reads_it_or_not_at_all(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(WHOLE[: len(WHOLE) - cut] if cut < 100 else WHOLE)
    for at, octet in changes:
        if at < len(data):
            data[at] = octet
    ours = read_hello(bytes(data))
    assert ours is None or isinstance(ours, Hello) or len(data) < ours <= HELLO_BYTES_MAX
    theirs = openssl_reads(bytes(data))
    if theirs is not None and isinstance(ours, Hello) and ours.server_name != UNKNOWABLE:
        assert ours.server_name == theirs.rstrip(".")


@given(st.binary(max_size=300))
def test_no_octets_raise(data: bytes) -> None:
    for begun in (data, b"\x16\x03\x01" + data, WHOLE[:60] + data):
        found = read_hello(begun)
        assert found is None or isinstance(found, Hello) or len(begun) < found <= HELLO_BYTES_MAX
