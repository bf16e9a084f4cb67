"""Directives of a listener's `tls`, as clients of OpenSSL's meet them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text
from shm.counters import Counter
from tests.directives.house import serving, written
from tests.workers.authority import Authority, Identity
from tests.workers.child import Client, Worker, wait_until
from tests.workers.test_hello import hello_of

CA = Authority()


def certificate(directory: Path, name: str, identity: Identity) -> str:
    """The directive that serves it."""
    chain, key = identity.written(directory, name)
    return f'certificate "{chain}" {{ key "{key}"; }}\n'


def client(
    worker: Worker, name: str | None, *, ciphers: str = "", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, **more: Any
) -> Client:
    """Somebody who asks for a name, and trusts CA."""
    context = more.get("context") or ssl.create_default_context(cadata=CA.pem)
    context.check_hostname = False
    context.maximum_version = newest
    if ciphers:
        context.set_ciphers(ciphers)
    plain = Client(worker.port)
    return Client(worker.port, sock=context.wrap_socket(plain.socket, server_hostname=name))


def shown(one: Client) -> set[str]:
    """The names of the certificate that it was shown."""
    assert isinstance(one.socket, ssl.SSLSocket)
    return {name for _, name in (one.socket.getpeercert() or {})["subjectAltName"]}  # type: ignore[misc,union-attr]


def is_refused(worker: Worker, name: str | None, **more: Any) -> str:
    with pytest.raises(ssl.SSLError) as raised:
        client(worker, name, **more)
    return raised.value.reason or ""


@pytest.mark.directive("listener/tls/certificate", "listener/tls/certificate/key", "listener/tls/unknown-name")
def test_the_name_that_is_asked_for_chooses_the_certificate(tmp_path: Path) -> None:
    texts = "".join(
        certificate(tmp_path, f"c{index}", CA.issue(*names, is_rsa=is_rsa))
        for index, (names, is_rsa) in enumerate([
            (("www.test",), False), (("www.test",), True), (("*.test",), False), (("shop.test", "192.0.2.7"), False),
        ])
    )  # fmt: skip
    with serving(tmp_path / "a", listener=f"tls {{\n{texts}}}") as worker:
        for name, names in [
            ("www.test", {"www.test"}), ("WWW.Test", {"www.test"}), ("shop.test", {"shop.test", "192.0.2.7"}),
            ("other.test", {"*.test"}), ("a.b.test", {"www.test"}), (None, {"www.test"}),
        ]:  # fmt: skip
            one = client(worker, name)
            assert shown(one) == names
            assert one.get("/fixed").status == 200
        for key in ("ECDHE-ECDSA", "ECDHE-RSA"):
            spoken = client(worker, "www.test", ciphers=f"{key}-AES128-GCM-SHA256", newest=ssl.TLSVersion.TLSv1_2)
            assert spoken.socket.cipher()[0].startswith(key)  # type: ignore[attr-defined]
        wait_until(lambda: worker.counter(Counter.TLS_13) == 6 and worker.counter(Counter.TLS_12) == 2, "all counted")
    with serving(tmp_path / "b", listener=f'tls {{\n{texts}unknown-name "refuse"; }}') as worker:
        assert shown(client(worker, "other.test")) == {"*.test"}
        for unknown in ("a.b.test", None):
            assert is_refused(worker, unknown) == "TLSV1_UNRECOGNIZED_NAME"
        wait_until(lambda: worker.counter(Counter.TLS_UNKNOWN_NAME) == 2, "they are counted")
        wait_until(lambda: worker.counter(Counter.ACCEPTED) - worker.counter(Counter.CLOSED) <= 1, "they are closed")


@pytest.mark.directive("listener/tls/profile", "listener/tls/min-version")
def test_profiles_are_what_they_say(tmp_path: Path) -> None:
    text = certificate(tmp_path, "c", CA.issue("a.test", is_rsa=True))
    with serving(tmp_path / "a", listener=f"tls {{ {text} }}") as worker:
        assert client(worker, "a.test", newest=ssl.TLSVersion.TLSv1_2).get("/fixed").status == 200
        for ciphers in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            assert "HANDSHAKE_FAILURE" in is_refused(worker, "a.test", ciphers=ciphers, newest=ssl.TLSVersion.TLSv1_2)
        wait_until(lambda: worker.counter(Counter.TLS_FAILED) == 3, "they are counted")
    for index, said in enumerate(('profile "modern"', 'min-version "1.3"')):
        with serving(tmp_path / str(index), listener=f"tls {{ {text}{said}; }}") as worker:
            assert client(worker, "a.test").get("/fixed").status == 200
            assert "PROTOCOL_VERSION" in is_refused(worker, "a.test", newest=ssl.TLSVersion.TLSv1_2)


@pytest.mark.directive("listener/tls/key")
def test_a_hello_in_pieces_is_waited_for_and_one_that_ends_is_not(tmp_path: Path) -> None:
    chain, key = CA.issue("a.test").written(tmp_path, "c")
    tls = f'tls {{ certificate "{chain}"; key "{key}"; unknown-name "refuse"; }}'
    listener = f'{tls}\nlimits {{ header-timeout "1s"; }}'
    with serving(tmp_path / "w", listener=listener) as worker:
        whole = hello_of("a.test")
        slow, gone, endless = (Client(worker.port).send(whole[:10]) for _ in range(3))
        gone.close()
        wait_until(lambda: worker.counter(Counter.TLS_FAILED) == 1, "its end is noticed at once")
        slow.send(whole[10:40]).send(whole[40:])
        assert slow.exactly(1) == b"\x16", "it is answered"
        endless.send(b"\x16")  # one octet is no news
        assert client(worker, "a.test").get("/fixed").status == 200
        assert endless.is_closed()
        wait_until(lambda: worker.counter(Counter.TLS_TIMEOUT) == 2, "and so is whose handshake did not go on")


def after_header(worker: Worker, *pieces: bytes) -> Client:
    """Somebody behind a proxy that says who he is before the handshake."""
    plain = Client(worker.port)
    for piece in pieces:
        plain.send(piece)
    context = ssl.create_default_context(cadata=CA.pem)
    return Client(worker.port, sock=context.wrap_socket(plain.socket, server_hostname="a.test"))


V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 8, 127, 0, 0, 1, 18, 103, 1, 187])


def test_a_proxy_says_who_the_client_is_before_the_handshake(tmp_path: Path) -> None:
    tls = f"tls {{ {certificate(tmp_path, 'c', CA.issue('a.test'))} }}"
    told = 'proxy-protocol "any"\nconnection-limit { per-client 1; }'
    with serving(tmp_path / "a", listener=f'{tls}\ntrusted-proxies "127.0.0.0/8"\n{told}') as worker:
        kept = [after_header(worker, V1), after_header(worker, V2[:5], V2[5:])]
        assert [one.get("/fixed").status for one in kept] == [200, 200]
        assert {line["client_ip"] for line in worker.log(2)} == {"192.0.2.7", "192.0.2.8"}
        with pytest.raises(OSError):  # one connection for each client
            after_header(worker, V1)
        local = after_header(worker, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")
        assert local.get("/fixed").status == 200 and worker.log(4)[-1]["client_ip"] == "127.0.0.1"
        for bad in (b"PROXY TCP4 nonsense\r\n", b"GET / HTTP/1.1\r\n", hello_of("a.test")):
            assert Client(worker.port).send(bad).is_closed()
        assert [line["reason"] for line in worker.log(7)[-3:]] == ["bad-proxy-header"] * 3
        plain = Client(worker.port).send(V1.replace(b"2.7", b"2.9") + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
        assert plain.fields["x-sentinel-reason"] == "plain-http-on-tls"
    with serving(tmp_path / "b", listener=f'{tls}\ntrusted-proxies "192.0.2.0/24"\nproxy-protocol "any"') as worker:
        assert Client(worker.port).send(V1 + hello_of("a.test")).is_closed()
        assert worker.log(1)[0]["reason"] == "bad-proxy-header", "whom nobody trusts"


def checked(
    directory: Path, tls: str, hosts: str = "", words: tuple[str, ...] = ("certificate",)
) -> tuple[list[str], list[str]]:
    """What a configuration is told: problems, and warnings of TLS, each with its line."""
    matches = f"host {hosts}" if hosts else 'path-prefix "/x"'
    route = f'route "r" {{ matches {{ {matches}; }}; respond 200; }}'.replace("; respond", "\nrespond")
    loaded = load_text(written(directory, 8443, listener=f"tls {{\n{tls}\n}}", routes=route))
    found = [[f"{one.message} -> {one.remedy}" for one in said] for said in (loaded.problems, loaded.warnings)]
    return found[0], [
        one for one in found[1] if any(word in one for word in words) and "expires in" not in one
    ]


def test_two_certificates_for_one_name_and_kind_of_key_are_a_problem(tmp_path: Path) -> None:
    one, other = (certificate(tmp_path, name, CA.issue("a.test", f"{name}.test")) for name in ("b", "c"))
    ((problem,), _) = checked(tmp_path, one + other)
    assert problem.startswith("there are two certificates with EC keys for `a.test`")
    assert checked(tmp_path, one + certificate(tmp_path, "d", CA.issue("a.test", is_rsa=True))) == ([], [])


@pytest.mark.parametrize(("text", "message"), [
    ('certificate "a.pem"', "this certificate has no key"),
    ('certificate "a.pem" { key "a.key"; }\nkey "a.key"', "it is not clear whose key this is"),
    ('certificate "a.pem"\ncertificate "b.pem"\nkey "a.key"', "it is not clear whose key this is"),
    ('certificate "a.pem" { key "a.key"; }\ncertificate "a.pem" { key "a.key"; }', "two `certificate` with the file"),
    ('certificate "a.pem" { key "a.key"; }\nprofile "modern"\nmin-version "1.2"', "the profile `modern` begins"),
    ('key "a.key"', "needs `certificate`"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    CA.issue("a.test").written(tmp_path, "a")
    text = text.replace('"a.', f'"{tmp_path}/a.').replace('"b.', f'"{tmp_path}/b.')
    problems, _ = checked(tmp_path, text)
    assert any(message in problem for problem in problems), problems


def test_hosts_that_no_certificate_names_are_warned_of(tmp_path: Path) -> None:
    text = certificate(tmp_path, "a", CA.issue("a.test", "*.b.test", days=(-1, 60)))
    assert checked(tmp_path, text, '"a.test" "x.b.test" "*.b.test" "*.test"') == ([], [])
    _, warnings = checked(tmp_path, text, '"x.a.test" "*.a.test" "b.test" "x.y.b.test"')
    assert {one.split("`")[1] for one in warnings} == {"x.a.test", "*.a.test", "b.test", "x.y.b.test"}
    _, warnings = checked(tmp_path, text, " ".join(f'"h{index}.test"' for index in range(50)))
    assert len(warnings) == 11 and any("40 more hosts" in one for one in warnings)


def test_a_chain_that_ends_too_early_is_warned_of(tmp_path: Path) -> None:
    for name, identity, count in [
        ("a", CA.issue("a.test", fetched_at="http://ca.test/i.der", days=(-1, 60)), 1),
        ("b", CA.issue("a.test", fetched_at="http://ca.test/i.der", sends_chain=True, days=(-1, 60)), 0),
        ("c", CA.issue("a.test", days=(-1, 60)), 0),
    ]:  # fmt: skip
        problems, warnings = checked(tmp_path, certificate(tmp_path, name, identity))
        assert not problems
        assert sum("the chain ends too early" in one for one in warnings) == count, name


def test_an_issuer_of_the_right_name_and_another_key_is_none(tmp_path: Path) -> None:
    wrong = Authority()
    identity = CA.issue("a.test")
    chain, key = identity.written(tmp_path, "a")
    chain.write_text(identity.certificate + wrong.pem)
    ((problem,), _) = checked(tmp_path, f'certificate "{chain}" {{ key "{key}"; }}')
    assert "the chain is out of order" in problem
