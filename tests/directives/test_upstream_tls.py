"""`tls` of an upstream: whose certificate is believed, what is told of it, and that nothing is sent to anybody else."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text
from sentinel.core.decide import decide
from sentinel.core.drive import run
from sentinel.core.reasons import BY_NUMBER, BY_WORD, Reason
from sentinel.core.record import Record, decode
from sentinel.core.routes import compile_routes
from sentinel.core.trace import Trace
from sentinel.explain.treatment import differences, facts_of
from sentinel.explain.words import step_text
from shm.region import Counter
from tests.core.build import request
from tests.core.test_decide import Script as Told
from tests.directives.house import serving
from tests.directives.patients import patients, standing
from tests.workers.authority import Authority, Identity, self_signed, unreadable
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, Script, closed_port, echo, fields_of, scripted

CA = Authority("house authority")
QUICK = 'interval "20ms"; timeout "500ms"; healthy-after 1; unhealthy-after 1'


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text(CA.pem)
    return path


def at(origin: Origin, name: str = "localhost") -> str:
    return f'endpoint "https://{name}:{origin.port}"'


def last(worker: Worker, count: int = 1) -> Record:
    """The newest of so many records."""

    def read() -> list[bytes]:
        found = list(worker.region.journal_read())
        return found if len(found) >= count else []

    return max(map(decode, wait_until(read, "it is recorded")), key=lambda one: one.time_ns)


def said(record: Record) -> str:
    """All steps, as `why` says them."""
    return "\n".join(step_text(BY_NUMBER[step.reason_number], step.details) for step in record.steps)


def refused(worker: Worker) -> tuple[int, str]:
    answer = Client(worker.port).get("/")
    return answer.status, answer.fields["x-sentinel-reason"]


# Who is believed.


@pytest.mark.directive("upstream/tls/ca")
def test_an_endpoint_proves_who_it_is_and_why_tells_how(tmp_path: Path, ca: Path) -> None:
    tls = CA.issue("localhost", "other.test").context()
    with scripted(echo, tls=tls) as origin, serving(
        tmp_path / "w", endpoints=at(origin), upstream=f'tls {{ ca "{ca}"; }}'
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        blob = b"b" * 3_000_000
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(blob) + blob)
        assert client.answer().body == blob
        first = said(last(worker))
        assert "over TLS, as `localhost`: an authority of `ca` must vouch for it" in first
        assert "TLS 1.3 with TLS_" in first
        assert 'verified as "localhost", issued by "house authority", valid until 20' in first
        assert client.get("/").body == b"ok"
        again = last(worker, 2)
        assert Reason.TLS_SECURED.number in [step.reason_number for step in again.steps]
        assert "TLS 1.3, since an earlier request" in said(again)
        assert (origin.connections, origin.names) == (1, ["localhost"]), "one connection, one handshake"
        assert worker.counter(Counter.UPSTREAM_TLS_13) == 1 and worker.counter(Counter.UPSTREAM_TLS_12) == 0


@pytest.mark.parametrize(("identity", "reason", "detail"), [
    (lambda: CA.issue("other.test"), Reason.TLS_WRONG_NAME, "not valid for 'localhost'"),
    (lambda: CA.issue("localhost", days=(-5, -1)), Reason.TLS_EXPIRED, "certificate has expired"),
    (lambda: CA.issue("localhost", days=(1, 5)), Reason.TLS_EXPIRED, "not yet valid"),
    (lambda: self_signed("localhost"), Reason.TLS_UNTRUSTED, "self-signed certificate"),
    (lambda: Authority("house authority").issue("localhost"), Reason.TLS_UNTRUSTED, "certificate"),
    (lambda: CA.issue("other.test", subject="localhost"), Reason.TLS_WRONG_NAME, "not valid"),  # a CN is no name
], ids=["name", "expired", "future", "self-signed", "same-name-other-key", "common-name"])  # fmt: skip
def test_whoever_cannot_prove_it_is_sent_nothing(
    tmp_path: Path, ca: Path, identity: Callable[[], Identity], reason: Reason, detail: str
) -> None:
    with scripted(echo, tls=identity().context()) as origin, serving(
        tmp_path / "w", endpoints=at(origin), upstream=f'tls {{ ca "{ca}"; }}'
    ) as worker:  # fmt: skip
        assert refused(worker) == (502, reason.word)
        assert detail in said(last(worker)) and last(worker).reason == reason.word
        assert worker.counter(Counter[f"UPSTREAM_{reason.name}"]) == 1
        assert worker.counter(Counter.UPSTREAM_CONNECT_FAILURES) == 1
        assert origin.heads == [] and wait_until(lambda: origin.refused, "the endpoint heard of it")


def test_without_ca_the_system_says_who_is_trusted(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = CA.issue("localhost").context()
    with scripted(echo, tls=tls) as origin:
        with serving(tmp_path / "1", endpoints=at(origin)) as worker:
            assert refused(worker) == (502, "tls-untrusted")
            assert "an authority that the system trusts must vouch for it" in said(last(worker))
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        with serving(tmp_path / "2", endpoints=at(origin)) as worker:
            assert Client(worker.port).get("/").body == b"ok"


@pytest.mark.directive("upstream/tls/verify")
def test_verify_off_believes_everybody_and_check_warns(tmp_path: Path) -> None:
    with scripted(echo, tls=self_signed("nobody.test").context()) as origin, serving(
        tmp_path, endpoints=at(origin), upstream='tls { verify "off"; }'
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").body == b"ok"
        told = said(last(worker))
        assert "whoever answers is believed" in told and 'not verified as "sha256:' in told
    (warning,) = checked('tls { verify "off"; }').warnings
    assert "anybody on the way can read and change" in warning.message


@pytest.mark.directive("upstream/tls/pin")
def test_a_pin_is_one_of_several_keys(tmp_path: Path, ca: Path) -> None:
    one, other = CA.issue("localhost"), self_signed("localhost")
    with scripted(echo, tls=one.context()) as origin:
        for number, (pins, answer) in enumerate([
            (f'"{other.pin}" "{one.pin}"', (200, "")), (f'"{other.pin}"', (502, "tls-wrong-pin")),
        ]):  # fmt: skip
            text = f'tls {{ ca "{ca}"; pin {pins}; }}'
            with serving(tmp_path / str(number), endpoints=at(origin), upstream=text) as worker:
                found = Client(worker.port).get("/")
                assert (found.status, found.fields.get("x-sentinel-reason", "")) == answer
                told = said(last(worker))
                assert "its key must be one of `pin`" in told and (found.status == 200 or f"is {one.pin}" in told)
        assert len(origin.heads) == 1
    with scripted(echo, tls=other.context()) as origin:
        text = f'tls {{ verify "off"; pin "{other.pin}"; }}'
        with serving(tmp_path / "3", endpoints=at(origin), upstream=text) as worker:
            assert Client(worker.port).get("/").body == b"ok", "a key that is known needs nobody to vouch for it"
        assert checked(text).warnings == ()


def test_a_certificate_that_nobody_can_read_is_refused_and_its_connection_ended(tmp_path: Path) -> None:
    strange = unreadable("localhost")
    ends: list[bytes] = []

    def script(conversation: Conversation) -> None:
        ends.append(conversation.rest())

    text = f'tls {{ verify "off"; pin "{strange.pin}"; }}'
    with scripted(script, tls=strange.context()) as origin, serving(
        tmp_path, endpoints=at(origin), upstream=text
    ) as worker:  # fmt: skip
        assert refused(worker) == (502, "tls-untrusted")
        assert "its certificate cannot be read" in said(last(worker))
        wait_until(lambda: ends or origin.refused, "the connection is ended")
        assert ends in ([], [b""]), "nothing was sent"
        assert (worker.counter(Counter.UPSTREAM_TLS_UNTRUSTED), worker.counter(Counter.SURPRISES)) == (1, 0)


@pytest.mark.directive("upstream/tls/server-name")
def test_the_server_name_is_asked_for_and_must_be_in_the_certificate(tmp_path: Path, ca: Path) -> None:
    identity = CA.issue("api.test", "127.0.0.1")
    with scripted(echo, tls=identity.context()) as origin:
        named = f'tls {{ ca "{ca}"; server-name "API.test"; }}'
        with serving(tmp_path / "1", endpoints=at(origin), upstream=named) as worker:
            assert Client(worker.port).get("/").body == b"ok"
            assert origin.names == ["api.test"] and "over TLS, as `api.test`" in said(last(worker))
        with serving(tmp_path / "2", endpoints=at(origin, "127.0.0.1"), upstream=f'tls {{ ca "{ca}"; }}') as worker:
            assert Client(worker.port).get("/").body == b"ok", "addresses are proved too"
            assert origin.names[-1] is None, "SNI has no addresses"
    path = str(tmp_path / "s.sock")
    with scripted(echo, unix=path, tls=identity.context()), serving(
        tmp_path / "3", endpoints=f'endpoint "unix:{path}"', upstream=named
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").body == b"ok"


@pytest.mark.directive("upstream/tls/certificate", "upstream/tls/key")
def test_the_gateway_says_who_it_is_where_that_is_asked(tmp_path: Path, ca: Path) -> None:
    certificate, key = CA.issue("gateway.test").written(tmp_path, "gateway")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = CA.issue("localhost").context(CA.pem, version)
        with scripted(echo, tls=tls) as origin:
            text = f'tls {{ ca "{ca}"; certificate "{certificate}"; key "{key}"; }}'
            with serving(tmp_path / f"known-{version}", endpoints=at(origin), upstream=text) as worker:
                assert Client(worker.port).get("/").body == b"ok"
            with serving(
                tmp_path / f"unknown-{version}", endpoints=at(origin), upstream=f'tls {{ ca "{ca}"; }}'
            ) as worker:  # fmt: skip
                assert refused(worker) == (502, "tls-refused")
                told = said(last(worker))
                assert "alert" in told and ("certificate required" in told or "handshake failure" in told)
            assert len(origin.heads) == 1


@pytest.mark.directive("upstream/tls/min-version")
def test_no_older_version_is_spoken_than_the_oldest(tmp_path: Path, ca: Path) -> None:
    tls = CA.issue("localhost").context(newest=ssl.TLSVersion.TLSv1_2)
    with scripted(echo, tls=tls) as origin:
        with serving(tmp_path / "1", endpoints=at(origin), upstream=f'tls {{ ca "{ca}"; }}') as worker:
            assert Client(worker.port).get("/").body == b"ok"
            assert worker.counter(Counter.UPSTREAM_TLS_12) == 1 and "TLS 1.2 with" in said(last(worker))
        text = f'tls {{ ca "{ca}"; min-version "1.3"; }}'
        with serving(tmp_path / "2", endpoints=at(origin), upstream=text) as worker:
            assert refused(worker) == (502, "tls-refused") and "protocol version" in said(last(worker))


# Who speaks otherwise, or not at all.


def plain(conversation: Conversation) -> None:
    conversation.connection.recv(4096)
    conversation.answer(b"what?", "HTTP/1.1 400 Bad Request")


def hasty(conversation: Conversation) -> None:
    """Says an answer before anybody has proved anything, as somebody on the way would."""
    conversation.answer(b"injected")
    conversation.rest()


def deaf(conversation: Conversation) -> None:
    conversation.rest()


def leaving(conversation: Conversation) -> None:
    conversation.connection.recv(4096)


@pytest.mark.directive("upstream/timeouts/tls-handshake")
@pytest.mark.parametrize(("script", "answer"), [
    (plain, (502, "tls-not-spoken")), (hasty, (502, "tls-not-spoken")), (deaf, (504, "tls-timeout")),
    (leaving, (502, "tls-refused")),
])  # fmt: skip
def test_whoever_speaks_no_tls_is_told_of(tmp_path: Path, script: Script, answer: tuple[int, str]) -> None:
    handshake = 'timeouts { tls-handshake "100ms"; }'
    with scripted(script) as origin, serving(tmp_path, endpoints=at(origin), upstream=handshake) as worker:
        assert refused(worker) == answer
        assert last(worker).reason == answer[1] and BY_WORD[answer[1]].value.text in said(last(worker))
        assert worker.counter(Counter["UPSTREAM_" + answer[1].upper().replace("-", "_")]) == 1
        assert Client(worker.port).get("/fixed").status == 200


def test_nobody_there_is_said_as_without_tls(tmp_path: Path) -> None:
    with serving(tmp_path, endpoints=f'endpoint "https://127.0.0.1:{closed_port()}"') as worker:
        assert refused(worker) == (502, "connect-failed")


def test_a_failed_handshake_is_tried_elsewhere(tmp_path: Path, ca: Path) -> None:
    tls = CA.issue("127.0.0.1").context()
    with scripted(plain) as ill, scripted(echo, tls=tls) as well:
        endpoints = f"{at(ill, '127.0.0.1')}\n{at(well, '127.0.0.1')}"
        with serving(tmp_path / "w", endpoints=endpoints, upstream=f'tls {{ ca "{ca}"; }}') as worker:
            assert [Client(worker.port).get("/").status for _ in range(4)] == [200] * 4
            told = [said(decode(octets)) for octets in worker.region.journal_read()]
            assert any("failed (tls-not-spoken), so" in one for one in told)


@pytest.mark.parametrize("on", ["connect-failure", "reset"])
def test_retry_takes_a_failed_handshake_for_a_failed_connection(tmp_path: Path, on: str) -> None:
    with scripted(plain) as origin, serving(
        tmp_path, endpoints=at(origin), route=f'retry {{ attempts 3; on "{on}"; backoff "1ms"; }}'
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/", method="POST").status == 502, "nothing was sent, so any method may be"
        assert worker.counter(Counter.UPSTREAM_TLS_NOT_SPOKEN) == (3 if on == "connect-failure" else 1)


def test_a_dry_run_says_how_and_a_diff_says_what_differs(tmp_path: Path, ca: Path) -> None:
    one, other = (checked(text).plan for text in ("", f'tls {{ ca "{ca}"; min-version "1.3"; }}'))
    trace = Trace()
    run(decide(compile_routes(other), request("/"), Told(other.upstreams[0].endpoints[0]), trace))
    assert [step[0] for step in trace.steps][-2:] == [Reason.ENDPOINT_CHOSEN, Reason.OVER_TLS]
    changed = differences(*(dict(facts_of(plan.upstreams[0])) for plan in (one, other)))
    assert ("tls/min-version", "1.2", "1.3") in changed and ("tls/ca", "(not shown)", "(not shown)") in changed


# The end of an answer.


def parts(*, is_announced: bool, head: str = "HTTP/1.1 200 OK\r\n\r\n") -> Script:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(head.encode() + b"half")
        if is_announced:
            assert isinstance(conversation.connection, ssl.SSLSocket)
            conversation.connection.unwrap()

    return script


def test_an_answer_without_length_is_whole_only_if_its_end_is_announced(tmp_path: Path, ca: Path) -> None:
    tls = CA.issue("localhost").context()
    for number, (script, reason) in enumerate([
        (parts(is_announced=True), "proxied"), (parts(is_announced=False), "upstream-aborted"),
        (parts(is_announced=True, head="HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), "upstream-aborted"),
    ]):  # fmt: skip
        with scripted(script, tls=tls) as origin, serving(
            tmp_path / str(number), endpoints=at(origin), upstream=f'tls {{ ca "{ca}"; }}'
        ) as worker:  # fmt: skip
            Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").rest()
            assert worker.log(1)[0]["reason"] == reason


def test_idle_connections_are_ended_politely_and_dead_ones_replaced(tmp_path: Path, ca: Path) -> None:
    ends: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.answer(conversation.body(conversation.head()) or b"ok")
        ends.append(conversation.connection.recv(10))  # b"": `close_notify`; without that it raises

    tls = CA.issue("localhost").context()
    keep = f'tls {{ ca "{ca}"; }}; keepalive {{ timeout "50ms"; }}'.replace("; keepalive", "\nkeepalive")
    with scripted(script, tls=tls) as origin, serving(tmp_path / "w", endpoints=at(origin), upstream=keep) as worker:
        assert Client(worker.port).get("/").status == 200
        wait_until(lambda: ends, "the unused connection is ended")
        assert ends == [b""] and Client(worker.port).get("/").status == 200
        assert origin.connections == 2


# Those who look after endpoints.


def test_checks_go_over_tls_and_their_finding_says_what_failed(tmp_path: Path, ca: Path) -> None:
    tls = CA.issue("127.0.0.1").context()
    for number, (trusted, state, finding) in enumerate([
        (CA.pem, "healthy", "good"), (Authority().pem, "unhealthy", "tls_untrusted"),
    ]):  # fmt: skip
        ca.write_text(trusted)
        text = f'tls {{ ca "{ca}"; }}\nhealth-check {{ path "/healthz"; {QUICK}; }}'
        with patients("a", tls=tls) as (one,), serving(
            tmp_path / str(number), endpoints=at(one.origin, "127.0.0.1"), upstream=text
        ) as worker:  # fmt: skip
            read = standing(worker, one)
            wait_until(lambda: read("health") == state, "it is asked")  # noqa: B023  # within this turn
            assert read("finding") == finding


# What is checked beforehand.


TEXT = """\
schema-version "1.0"
listeners {{ listener "web" {{ address "127.0.0.1:8080"; }}; }}
routes {{ route "r" {{ matches {{ path "/"; }}; upstream "u"; }}; }}
upstreams {{
    upstream "u" {{
        {endpoint}
        {upstream}
    }}
}}
"""


def checked(upstream: str = "", endpoint: str = 'endpoint "https://api.test"') -> Any:
    return load_text(TEXT.format(endpoint=endpoint, upstream=upstream))


def test_https_says_tls_and_a_port(tmp_path: Path) -> None:
    for written, address in [
        ("https://api.test", "api.test:443"), ("HTTPS://API.test:8443/", "api.test:8443"),
        ("https://[2001:db8::7]", "[2001:db8::7]:443"), ("https://192.0.2.7:1", "192.0.2.7:1"),
    ]:  # fmt: skip
        upstream = checked(endpoint=f'endpoint "{written}"').plan.upstreams[0]
        assert upstream.endpoints[0].name == address and upstream.tls is not None and upstream.tls.is_verified
    assert checked(endpoint='endpoint "api.test:80"').plan.upstreams[0].tls is None


@pytest.mark.parametrize(("endpoint", "upstream", "message"), [
    ('endpoint "http://api.test"', "", "begins with `https://`"),
    ('endpoint "https://api.test/v1"', "", "no path, query or user"),
    ('endpoint "https://me@api.test"', "", "no path, query or user"),
    ('endpoint "https://"', "", "neither an IP address nor a DNS name"),
    ('endpoint "https://a.test"\nendpoint "b.test:443"', "", "this one is not"),
    ('endpoint "unix:/run/a.sock"', 'tls { min-version "1.3"; }', "a Unix socket has no name"),
    ('endpoint "https://a.test"', 'tls { verify "off"; ca "ca.pem"; }', "`ca` has no effect"),
    ('endpoint "https://a.test"', 'tls { certificate "ca.pem"; }', "`certificate` has no effect without `key`"),
    ('endpoint "https://a.test"', 'tls { pin "sha256//short"; }', "not the SHA-256 of a public key"),
    ('endpoint "https://a.test"', 'tls { server-name "10.0"; }', "neither a DNS name nor an IP address"),
    ('endpoint "https://a.test"', 'tls { ca "/nowhere/ca.pem"; }', "cannot be read"),
    ('endpoint "a.test:80"', 'timeouts { tls-handshake "1s"; }', "`tls-handshake` has no effect"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(endpoint: str, upstream: str, message: str) -> None:
    problems = checked(upstream, endpoint).problems
    assert any(message in problem.message for problem in problems), problems


def test_plain_http_to_port_443_is_warned_of() -> None:
    (warning,) = checked(endpoint='endpoint "api.test:443"').warnings
    assert "plain HTTP is spoken to port 443" in warning.message and '"https://api.test"' in warning.remedy


def test_files_are_judged_like_those_of_listeners_and_no_key_is_shown(tmp_path: Path, ca: Path) -> None:
    one, other = CA.issue("a.test"), CA.issue("b.test", days=(-9, -1))
    certificate, _ = one.written(tmp_path, "one")
    late, key = other.written(tmp_path, "other")
    for text, message in [
        (f'certificate "{certificate}"; key "{key}"', "this key does not belong"),
        (f'certificate "{late}"; key "{key}"', "expired on"), (f'ca "{late}"', "nobody is trusted"),
        (f'ca "{key}"', "no certificate that can be read"),
    ]:  # fmt: skip
        (problem,) = checked(f"tls {{ {text}; }}").problems
        assert message in problem.message
    (warning,) = checked(f'tls {{ ca "{ca}"; }}').warnings
    assert "expires in 8 days, and then nobody is trusted" in warning.message


def test_a_provider_over_tls_is_called_by_its_name(tmp_path: Path, ca: Path) -> None:
    tls = CA.issue("localhost").context()
    with scripted(echo, tls=tls) as origin, serving(
        tmp_path / "w", endpoints=at(origin),
        upstream=f'tls {{ ca "{ca}"; }}\nprovider {{ credential "sk-0123456789abcdef"; }}',
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").body == b"ok"
        fields = fields_of(origin.heads[0])
        assert (fields["host"], fields["authorization"]) == (f"localhost:{origin.port}", "Bearer sk-0123456789abcdef")
