"""Which certificates a name is served: exact before wildcard, each kind of key by itself."""

from __future__ import annotations

import pytest

from sentinel.core.plan import Certificate, Tls
from sentinel.core.server_names import ServerNames

CERTIFICATES = (
    Certificate("", "", ("www.test", "test"), "ec"), Certificate("", "", ("www.test",), "rsa"),
    Certificate("", "", ("*.test", "*.a.test"), "ec"), Certificate("", "", ("*.test",), "rsa"),
    Certificate("", "", ("b.a.test",), "rsa"), Certificate("", "", (), "ec"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "served"), [
    ("www.test", (0, 1)), ("test", (0,)), ("other.test", (2, 3)), ("b.a.test", (2, 4)), ("c.a.test", (2,)),
    ("a.test", (2, 3)), ("d.c.a.test", None), ("elsewhere", None), ("*.test", (2, 3)), (".test", None), ("", None),
])  # fmt: skip
def test_a_name_finds_its_certificates(name: str, served: tuple[int, ...] | None) -> None:
    names = ServerNames(Tls(CERTIFICATES))
    assert names.find(name) == served
    assert names.serving(name) == (served or (0, 1)), "whoever is unknown gets what the first one's name gets"
    refusing = ServerNames(Tls(CERTIFICATES, unknown_name="refuse"))
    assert refusing.serving(name) == served


def test_everything_that_may_be_served_is_known_beforehand() -> None:
    names = ServerNames(Tls(CERTIFICATES))
    assert names.all() == {(0, 1), (0,), (2, 3), (2,), (2, 4)}
    nobody = Tls((Certificate("", ""),))
    assert ServerNames(nobody).all() == {(0,)} and ServerNames(nobody).serving("any.test") == (0,)
    assert ServerNames(Tls(nobody.certificates, unknown_name="refuse")).all() == frozenset()
