"""A fleet behind TLS: sessions at any worker, and certificates that are replaced while clients ask.

Clients are those that people have: the ssl module with sessions of its own, httpx, and curl.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.system.fleet import Fleet, wait_until
from tests.workers.authority import Authority
from tests.workers.child import Client
from tests.workers.origin import echo, scripted

CA = Authority()


def issued(directory: Path, serial: str) -> None:
    """Another certificate for the same name; `serial` tells it from the others."""
    CA.issue("localhost", serial).written(directory, "server")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("tls")
    issued(directory, "first.test")
    (directory / "ca.pem").write_text(CA.pem)
    listener = 'tls { certificate "server.pem" { key "server.key"; }; watch true; }'
    with scripted(echo) as origin:
        made = Fleet(directory, origin.port, listener=listener).start()
        try:
            yield made
        finally:
            made.stop()


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=CA.pem)


def connected(fleet: Fleet, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = Client(fleet.port).socket
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


def serial(fleet: Fleet) -> str:
    """Which of the certificates is served now."""
    with connected(fleet, trusting()) as secured:
        names = (secured.getpeercert() or {})["subjectAltName"]
        return str(names[-1][-1])  # type: ignore[index]


class Load:
    """Clients that ask until they are told to stop; what went wrong is kept."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.counts = {"ssl": 0, "httpx": 0, "curl": 0}
        self.faults: list[str] = []
        self.resumed = 0
        self._stop = threading.Event()

    def sessions(self) -> None:
        """A new connection for each request, with the session of the one before."""
        context, session = trusting(), None
        while not self._stop.is_set():
            client = Client(self.fleet.port, sock=connected(self.fleet, context, session))
            assert client.get("/").status == 200
            assert isinstance(client.socket, ssl.SSLSocket)
            self.resumed += bool(client.socket.session_reused)
            session = client.socket.session
            client.close()
            self.counts["ssl"] += 1

    def pool(self) -> None:
        """Connections that are kept."""
        with httpx.Client(verify=trusting(), base_url=f"https://localhost:{self.fleet.port}") as client:
            while not self._stop.is_set():
                assert client.get("/").status_code == 200
                self.counts["httpx"] += 1

    def curl(self) -> None:
        asked = [f"https://localhost:{self.fleet.port}/"] * 20
        outputs = [word for _ in asked for word in ("-o", "/dev/null")]
        trusted = ("--cacert", str(self.fleet.directory / "ca.pem"))
        while not self._stop.is_set():
            done = subprocess.run(
                ["curl", "-sS", "--fail", *trusted, *outputs, *asked], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            self.counts["curl"] += len(asked)

    def _run(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except Exception as fault:
            self.faults.append(f"{ask.__name__}: {fault!r}")

    @contextmanager
    def running(self) -> Iterator[None]:
        kinds = [self.sessions, self.pool, *([self.curl] if shutil.which("curl") else [])]
        threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)


def outcomes(fleet: Fleet) -> list[str]:
    """What became of renewals, as the audit log has it."""
    path = fleet.run_dir / "audit.log"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [entry["after"] for entry in entries if entry["action"] == "certificate changed"]


def test_sessions_are_resumed_whichever_worker_it_is(fleet: Fleet) -> None:
    context, session, resumed = trusting(), None, 0
    for _ in range(24):
        client = Client(fleet.port, sock=connected(fleet, context, session))
        assert client.get("/").status == 200
        assert isinstance(client.socket, ssl.SSLSocket)
        resumed += bool(client.socket.session_reused)
        session = client.socket.session
        client.close()
    assert resumed == 23, "all but the first, at two workers"


@pytest.mark.directive("listener/tls/watch")
def test_certificates_are_replaced_under_load_and_no_request_is_lost(fleet: Fleet) -> None:
    load = Load(fleet)
    with load.running():
        wait_until(lambda: all(count for kind, count in load.counts.items() if kind != "curl"), "they ask")
        issued(fleet.directory, "second.test")
        wait_until(lambda: serial(fleet) == "second.test", "by itself")
        for _ in range(2):
            fleet.ctl("reload")
    assert not load.faults
    assert load.resumed > load.counts["ssl"] // 2
    assert outcomes(fleet) == ["serving"]
    wait_until(lambda: "certificate changed (" in fleet.last_words(), "and said")


def test_what_is_not_accepted_is_told_and_the_old_stays(fleet: Fleet) -> None:
    before, generation = outcomes(fleet), fleet.ctl_json("status")["generation"]
    key = fleet.directory / "server.key"
    kept = key.read_text()
    key.write_text(CA.issue("elsewhere.test").key)
    wait_until(lambda: outcomes(fleet) == [*before, "invalid"], "it is told")
    wait_until(lambda: "this key does not belong to the certificate" in fleet.last_words(), "and said")
    assert serial(fleet) == "second.test" and fleet.ctl_json("status")["generation"] == generation
    key.write_text(kept)
    fleet.write(routes='route "new" { matches { path "/new"; }; respond 200; }')
    issued(fleet.directory, "third.test")
    wait_until(lambda: outcomes(fleet) == [*before, "invalid", "refused"], "the configuration is not to be reloaded")
    wait_until(lambda: "the configuration has changed besides" in fleet.last_words(), "and said")
    fleet.ctl("reload")
    assert serial(fleet) == "third.test"


def test_when_certificates_expire_is_a_metric_and_no_key_is_shown(fleet: Fleet) -> None:
    text = httpx.get(f"http://127.0.0.1:{fleet.admin_port}/metrics").text
    assert 'sentinel_certificate_expiry_timestamp_seconds{key="ec",listener="web",name="localhost"}' in text
    assert 'sentinel_tls_handshakes_total{outcome="completed",resumed="yes",version="1.3"}' in text
    told = fleet.ctl("config").stdout
    secret = (fleet.directory / "server.key").read_text().splitlines()[1]
    assert '"watched"' in told and secret not in told
