"""Who may ask, by the certificate that he shows; and that no session and no other name is a way round it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.core.reasons import Reason
from sentinel.core.record import decode
from sentinel.explain.assumed import Assumed
from sentinel.explain.recorded import explain_record
from sentinel.explain.render import render_text
from shm.counters import Counter
from shm.ratchet import Ratchet
from tests.directives.house import plan_from, serving, written
from tests.directives.test_listener_tls import certificate, checked
from tests.workers.authority import Authority, Identity
from tests.workers.child import Client, Worker, wait_until
from workers.rehearsal import House, read_question

CA = Authority("server authority")
CLIENTS = Authority("client authority")
STRANGERS = Authority("somebody else")
ANNE = CLIENTS.issue("anne.test", "spiffe://example.org/ns/web/anne", subject="Anne")
BERT = CLIENTS.issue("bert.test", "dns.test/spiffe://example.org/ns/web/x", subject="Bert")
EVE = STRANGERS.issue("anne.test", "spiffe://example.org/ns/web/anne")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for all names, whom clients are vouched for by, and whom not any longer."""
    directory = tmp_path_factory.mktemp("papers")
    certificate(directory, "server", CA.issue("a.test", "admin.test"))
    (directory / "ca.pem").write_text(CLIENTS.pem)
    (directory / "crl.pem").write_text(CLIENTS.revoked(BERT))
    return directory


def listener(papers: Path, *terms: str) -> str:
    """The `tls` of a listener; `terms` are mode and what stands in their braces."""
    blocks = "".join(
        f'client-certificates "{one.partition(" ")[0]}" {{\nca "{papers}/ca.pem"\n{one.partition(" ")[2]}\n}}\n'
        for one in terms
    )
    return f'tls {{\ncertificate "{papers}/server.pem" {{ key "{papers}/server.key"; }}\n{blocks}}}'


def context_of(who: Identity | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=CA.pem) if who is None else who.client(CA.pem)
    context.maximum_version = newest
    return context


def connected(
    worker: Worker, context: ssl.SSLContext, name: str = "a.test", session: ssl.SSLSession | None = None
) -> Client:
    plain = Client(worker.port)
    return Client(worker.port, sock=context.wrap_socket(plain.socket, server_hostname=name, session=session))


def get(client: Client, host: str = "a.test") -> tuple[int, str]:
    answer = client.send(f"GET /fixed HTTP/1.1\r\nHost: {host}\r\n\r\n").answer()
    return answer.status, answer.fields.get("x-sentinel-reason", "")


def alert(worker: Worker, who: Identity | None, name: str = "a.test", **more: Any) -> str:
    """Of TLS, by which somebody is refused; in TLS 1.3 he hears it when he asks."""
    with pytest.raises(ssl.SSLError) as raised:
        get(connected(worker, context_of(who, **more), name))
    return raised.value.reason or ""


def told(worker: Worker) -> str:
    """What `why` says of the last request."""
    wait_until(lambda: list(worker.region.journal_read()), "it is recorded")
    records = map(decode, worker.region.journal_read())
    return render_text(explain_record(max(records, key=lambda one: one.time_ns)))


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.directive("listener/tls/client-certificates", "listener/tls/client-certificates/ca")
def test_who_shows_no_certificate_or_a_strangers_is_refused(tmp_path: Path, papers: Path) -> None:
    with serving(tmp_path / "require", listener=listener(papers, "require")) as worker:
        for newest in VERSIONS:
            assert get(connected(worker, context_of(ANNE, newest))) == (200, "")
            assert "CERTIFICATE_REQUIRED" in alert(worker, None, newest=newest) or newest is VERSIONS[0]
            assert "UNKNOWN_CA" in alert(worker, EVE, newest=newest)
        wait_until(lambda: worker.counter(Counter.TLS_CLIENT_CERTIFICATE) == 4, "they are counted")
        line = worker.log(2)[-1]
        assert (line["client_certificate"], line["server_name"]) == ("dns:anne.test", "a.test")
        assert line["tls_version"] == "TLS 1.3" and line["tls_cipher"].startswith("TLS_")
        assert 'its certificate is that of "dns:anne.test" (SHA-256 ' in told(worker)
    with serving(tmp_path / "optional", listener=listener(papers, "optional")) as worker:
        assert get(connected(worker, context_of(None))) == (200, "")
        assert get(connected(worker, context_of(ANNE))) == (200, "")
        assert "UNKNOWN_CA" in alert(worker, EVE)
        assert [line["client_certificate"] for line in worker.log(2)] == ["", "dns:anne.test"]


@pytest.mark.directive("listener/tls/client-certificates/crl")
def test_a_certificate_that_was_taken_back_is_refused(tmp_path: Path, papers: Path) -> None:
    with serving(tmp_path, listener=listener(papers, f'require crl "{papers}/crl.pem"')) as worker:
        anne = connected(worker, context_of(ANNE))
        assert get(anne) == get(anne) == (200, "")
        assert "CERTIFICATE_REVOKED" in alert(worker, BERT)
        wait_until(lambda: len(list(worker.region.journal_read())) == 2, "both are recorded")
        steps = [decode(one).steps[0] for one in worker.region.journal_read()]
        assert {step.reason_number for step in steps} == {Reason.CLIENT_SECURED.number}
        assert sorted(len(step.details) for step in steps) == [2, 6], "the second time it is said in brief"


@pytest.mark.directive("listener/tls/client-certificates/san")
def test_a_certificate_needs_one_of_the_names_that_are_admitted(tmp_path: Path, papers: Path) -> None:
    terms = 'require san "spiffe://example.org/ns/web/*" "carl.*"'
    with serving(tmp_path, listener=listener(papers, terms)) as worker:
        assert get(connected(worker, context_of(ANNE))) == (200, "")
        assert get(connected(worker, context_of(CLIENTS.issue("Carl.test")))) == (200, "")
        for who in (BERT, CLIENTS.issue("anne.test", "spiffe://example.org/ns/other")):
            assert get(connected(worker, context_of(who))) == (403, Reason.CERTIFICATE_REFUSED.word)
        assert "has none of the names" in told(worker)


@pytest.mark.directive("listener/tls/client-certificates/names")
def test_a_host_is_reached_on_its_own_terms_only(tmp_path: Path, papers: Path) -> None:
    terms = ('require names "admin.test" "*.admin.test"', 'optional names "*.soft.test"')
    with serving(tmp_path, listener=listener(papers, *terms)) as worker:
        assert get(connected(worker, context_of(None)), "b.test") == (200, "")
        for host in ("admin.test", "x.y.admin.test", "Admin.Test.", "admin.test:8443", "x.soft.test"):
            assert get(connected(worker, context_of(None)), host) == (421, Reason.MISDIRECTED.word)
        assert "CERTIFICATE_REQUIRED" in alert(worker, None, "admin.test")
        admin = connected(worker, context_of(ANNE), "admin.test")
        assert get(admin, "admin.test") == (200, "") == get(admin, "x.admin.test")
        assert get(admin, "b.test") == (421, Reason.MISDIRECTED.word), "the other way round is another way, too"
        assert admin.is_closed()
        client = connected(worker, context_of(None)).send("GET http://admin.test/fixed HTTP/1.0\r\n\r\n")
        assert client.answer().status == 421
        line = worker.log(8)[1]
        assert (line["status"], line["reason"], line["server_name"], line["host"]) == (
            421, "misdirected", "a.test", "admin.test",
        )  # fmt: skip


# Sessions.


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, papers: Path) -> Iterator[dict[str, Worker]]:
    """Two workers of one generation, a third of the next one, and one with a secret of its own."""
    tickets = Ratchet.drawn(time.monotonic_ns())
    text = listener(papers, 'require names "admin.test"')
    directory = tmp_path_factory.mktemp("fleet")
    with (
        serving(directory / "1", listener=text, tickets=tickets) as one,
        serving(directory / "2", listener=text, tickets=tickets) as two,
        serving(directory / "3", listener=text, tickets=tickets, generation=8) as later,
        serving(directory / "4", listener=text, tickets=Ratchet.drawn(0)) as other,
    ):
        yield {"one": one, "two": two, "later": later, "other": other}


def session_of(client: Client, host: str = "a.test") -> ssl.SSLSession:
    """What the client may come again with; TLS 1.3 sends it after the handshake."""
    assert get(client, host)[0] == 200
    assert isinstance(client.socket, ssl.SSLSocket)
    session = client.socket.session
    assert session is not None and session.has_ticket
    return session


def is_resumed(client: Client) -> bool:
    assert isinstance(client.socket, ssl.SSLSocket)
    return bool(client.socket.session_reused)


@pytest.mark.parametrize("newest", VERSIONS)
def test_a_session_is_resumed_at_another_worker_of_its_generation(
    fleet: dict[str, Worker], newest: ssl.TLSVersion
) -> None:
    context = context_of(ANNE, newest)
    for name, host in (("a.test", "a.test"), ("admin.test", "admin.test")):
        session = session_of(connected(fleet["one"], context, name), host)
        counter = Counter.TLS_13_RESUMED if newest is VERSIONS[1] else Counter.TLS_12_RESUMED
        before = fleet["two"].counter(counter)
        again = connected(fleet["two"], context, name, session)
        assert is_resumed(again) and get(again, host) == (200, "")
        wait_until(lambda: fleet["two"].counter(counter) > before, "it is counted")  # noqa: B023  # within this turn
        assert "by a session that was resumed" in told(fleet["two"])
        for stranger in ("later", "other"):
            assert not is_resumed(connected(fleet[stranger], context, name, session))
    assert 'its certificate is that of "dns:anne.test"' in told(fleet["two"]), "a resumed session shows it too"


@pytest.mark.parametrize("newest", VERSIONS)
def test_no_session_is_a_way_round_a_certificate(fleet: dict[str, Worker], newest: ssl.TLSVersion) -> None:
    """As in CVE-2025-23419: a ticket of an open name, shown at a guarded one."""
    context = context_of(None, newest)
    session = session_of(connected(fleet["one"], context, "a.test"))
    for worker in (fleet["one"], fleet["two"]):
        with pytest.raises(ssl.SSLError):
            get(connected(worker, context, "admin.test", session), "admin.test")
        again = connected(worker, context, "a.test", session)
        assert is_resumed(again) and get(again, "admin.test") == (421, Reason.MISDIRECTED.word)


def test_a_session_ends_with_the_certificate_that_began_it(fleet: dict[str, Worker]) -> None:
    brief = CLIENTS.issue("brief.test", days=(-1, 2 / 86_400))
    context = context_of(brief)
    session = session_of(connected(fleet["one"], context, "admin.test"), "admin.test")

    def refused() -> bool:
        again = connected(fleet["two"], context, "admin.test", session)
        return is_resumed(again) and get(again, "admin.test") == (403, Reason.CERTIFICATE_REFUSED.word)

    wait_until(refused, "the certificate has expired, and the session has not")


# What is checked beforehand.


@pytest.mark.parametrize(("text", "message"), [
    ('client-certificates "require"', "needs `ca`"),
    ('client-certificates "demand" { ca "ca.pem"; }', "one of require, optional"),
    ('client-certificates "require" { ca "ca.pem"; }\nclient-certificates "optional" { ca "ca.pem"; }',
     "two `client-certificates` for all other names"),
    ('client-certificates "require" { ca "ca.pem"; names "a.test"; }\n'
     'client-certificates "optional" { ca "ca.pem"; names "b.test" "a.test"; }',
     "two `client-certificates` for `a.test`"),
    ('client-certificates "require" { ca "ca.pem"; san "a**b"; }', "two wildcards"),
    ('client-certificates "require" { ca "server.key"; }', "no certificate that can be read"),
    ('client-certificates "require" { ca "ca.pem"; crl "ca.pem"; }', "there is no list of revoked certificates"),
    ('client-certificates "require" { ca "ca.pem"; crl "strange.crl"; }', "not signed by any of those"),
    ('client-certificates "require" { ca "ca.pem"; crl "late.crl"; }', "nobody would be admitted"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, papers: Path, text: str, message: str) -> None:
    (papers / "strange.crl").write_text(STRANGERS.revoked())
    (papers / "late.crl").write_text(CLIENTS.revoked(days=(-9, -1)))
    for name in ("ca.pem", "server.key", "strange.crl", "late.crl"):
        text = text.replace(f'"{name}"', f'"{papers}/{name}"')
    served = f'certificate "{papers}/server.pem" {{ key "{papers}/server.key"; }}\n'
    problems, _ = checked(tmp_path, served + text)
    assert any(message in problem for problem in problems), problems


def test_authorities_without_a_list_and_lists_that_end_soon_are_warned_of(tmp_path: Path, papers: Path) -> None:
    (papers / "two.pem").write_text(CLIENTS.pem + STRANGERS.pem)
    (papers / "soon.crl").write_text(CLIENTS.revoked(days=(-1, 1)))
    served = f'certificate "{papers}/server.pem" {{ key "{papers}/server.key"; }}\n'
    terms = f'client-certificates "require" {{ ca "{papers}/two.pem"; crl "{papers}/soon.crl"; }}'
    problems, warnings = checked(tmp_path, served + terms, words=("list",))
    assert not problems
    assert any("there is no list of CN=somebody else" in one for one in warnings)
    assert any("is to be replaced in 23 hours" in one for one in warnings)


def test_a_dry_run_says_what_it_takes_for_granted(papers: Path) -> None:
    plan = plan_from(written(papers, 8443, listener=listener(papers, 'require names "admin.test"')))
    house = House(plan)
    for host, count in (("admin.test", 1), ("a.test", 0)):
        question = read_question(f"GET https://{host}/fixed")
        rehearsal = house.rehearse(plan.listeners[0], question, "192.0.2.1", Assumed(plan))
        assert rehearsal.outcome().status == 200
        assert render_text(rehearsal.tree()).count("shows a certificate that is admitted") == count


def test_a_journal_that_tells_no_hosts_tells_no_names_either(tmp_path: Path, papers: Path) -> None:
    text = listener(papers, "optional")
    with serving(tmp_path, listener=text, system='journal { redact "host"; }') as worker:
        assert get(connected(worker, context_of(ANNE))) == (200, "")
        assert "a.test" not in told(worker).replace("anne.test", "") and "(redacted)" in told(worker)
