"""What the library cannot say to a context is said natively, as by the twin here, and to nothing but a context."""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from shm.heritage import Heritage
from shm.ratchet import EPOCH_NS, Ratchet
from tests.workers.authority import Authority
from workers.contexts import set_groups, set_keys
from workers.tickets import KEYS_BYTES, Tickets

NEEDS_NATIVE = pytest.mark.skipif(
    find_spec("workers._native.contexts") is None, reason="build it: python setup.py build_ext --inplace"
)
pytestmark = NEEDS_NATIVE
CA = Authority()
IDENTITY = CA.issue("a.test")
KEYS = bytes(range(KEYS_BYTES))


def native(context: ssl.SSLContext, keys: bytes) -> bool:
    return bool(import_module("workers._native.contexts").set_keys(_ssl, context, keys))


def twin(context: ssl.SSLContext, keys: bytes) -> bool:
    return said(context, 59, len(keys), keys)


def said(context: ssl.SSLContext, command: int, size: int, data: bytes) -> bool:
    """The same in Python. Not for use: it believes whatever stands behind the head of the object."""
    made = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    ctrl = ctypes.CDLL(_ssl.__file__).SSL_CTX_ctrl
    ctrl.argtypes, ctrl.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p], ctypes.c_long
    return bool(ctrl(made, command, size, data) == 1)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession | None, bool]:
    """The session that the client may resume, and whether it has resumed one."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="a.test", session=session)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting: list[Any] = [ours.do_handshake, theirs.do_handshake]
    while waiting:
        step = waiting.pop(0)
        try:
            step()
        except ssl.SSLWantReadError:
            waiting.append(step)
    with pytest.raises(ssl.SSLWantReadError):
        ours.read(1)  # tickets of TLS 1.3 come after the handshake
    return ours.session, bool(ours.session_reused)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_the_native_part_sets_is_what_the_twin_sets(newest: ssl.TLSVersion) -> None:
    one, other, third = (IDENTITY.context() for _ in range(3))
    assert native(one, KEYS) and twin(other, KEYS) and native(third, KEYS[::-1])
    client = ssl.create_default_context(cadata=CA.pem)
    client.maximum_version = newest
    for writer in (one, other):
        session, _ = handshake(writer, client)
        assert handshake(one, client, session)[1] and handshake(other, client, session)[1]
        assert not handshake(third, client, session)[1]


@pytest.mark.parametrize("name", ["native", "twin"])
def test_keys_are_agreed_on_in_the_groups_that_are_named(name: str) -> None:
    server = IDENTITY.context()
    if name == "native":
        assert set_groups(server, "P-384", "X25519") and not set_groups(server, "P-384", "no-such-group")
    else:
        assert said(server, 92, 0, b"P-384:X25519") and not said(server, 92, 0, b"P-384:no-such-group")
    for curve, is_known in (("P-384", True), ("X25519", True), ("P-256", False), ("P-521", False)):
        client = ssl.create_default_context(cadata=CA.pem)
        assert set_groups(client, curve)
        if is_known:
            handshake(server, client)
        else:
            with pytest.raises(ssl.SSLError, match="NO_SUITABLE"):
                handshake(server, client)


def test_what_is_no_context_is_refused() -> None:
    set_keys = import_module("workers._native.contexts").set_keys
    context = IDENTITY.context()
    for wrong in (object(), None, "context", ssl.SSLContext, ssl.MemoryBIO()):
        with pytest.raises(TypeError):
            set_keys(_ssl, wrong, KEYS)
        with pytest.raises(TypeError):
            import_module("workers._native.contexts").set_groups(_ssl, wrong, "X25519")
    for keys in (b"", KEYS[:-1], KEYS + b"x"):
        with pytest.raises(ValueError, match="80 octets"):
            set_keys(_ssl, context, keys)
    for module in (ssl, None):
        with pytest.raises((TypeError, AttributeError)):
            set_keys(module, object(), KEYS)


def test_what_was_not_done_leaves_no_error_behind() -> None:
    server, client = IDENTITY.context(), ssl.create_default_context(cadata=CA.pem)
    assert not set_groups(server, "no-such-group")
    assert handshake(server, client)[0] is not None


def test_the_worker_tells_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_groups(IDENTITY.context(), "X25519") and set_keys(IDENTITY.context(), KEYS)
    monkeypatch.setenv("SENTINEL_PURE", "1")
    assert not set_groups(IDENTITY.context(), "X25519") and not set_keys(IDENTITY.context(), KEYS)


def heritage(tickets: Ratchet | None, generation: int = 1) -> Heritage:
    unused: Any = None
    return Heritage(unused, 0, 0, generation, "", "", {}, -1, None, tickets)


def test_contexts_of_one_purpose_share_keys_until_the_epoch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    ratchet = Ratchet.drawn(now_ns)
    one, two, other = (IDENTITY.context() for _ in range(3))
    workers = [
        Tickets(heritage(ratchet), [("web/0/-1", one), ("web/0/0", other)]),
        Tickets(heritage(ratchet), [("web/0/-1", two)]),
    ]
    assert all(worker.is_shared for worker in workers)
    client = ssl.create_default_context(cadata=CA.pem)
    session, _ = handshake(one, client)
    assert handshake(two, client, session)[1] and not handshake(other, client, session)[1]
    later = IDENTITY.context()
    Tickets(heritage(ratchet, generation=2), [("web/0/-1", later)])
    assert not handshake(later, client, session)[1]
    now_ns += EPOCH_NS
    for worker in workers:
        worker.turn(0)
    assert not handshake(two, client, session)[1], "the epoch has ended"
    session, _ = handshake(one, client)
    assert handshake(two, client, session)[1]


def test_without_a_secret_or_the_native_part_each_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Tickets(heritage(None), [("a", IDENTITY.context())]).is_shared
    monkeypatch.setenv("SENTINEL_PURE", "1")
    assert not Tickets(heritage(Ratchet.drawn(0)), [("a", IDENTITY.context())]).is_shared
