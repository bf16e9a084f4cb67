"""What a TLS listener does not let itself be asked for: more than its limits say, a second handshake, a bad grade."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from shm.counters import Counter
from tests.directives.house import serving
from tests.directives.test_listener_tls import CA, certificate, client
from tests.workers.child import Client, Worker, wait_until
from tests.workers.test_hello import hello_of

ALLOWED: Final = 60
SSLYZE: Final = os.environ.get("SENTINEL_SSLYZE", "")
"""Where `pip install --target` has put it: it wants another `cryptography` than we have."""


def rss_kib(worker: Worker) -> int:
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def is_ended(waiting: Client) -> bool:
    """Whether the worker has closed it, whatever it has said before."""
    try:
        return waiting.rest() is not None
    except (ConnectionResetError, BrokenPipeError):
        return True


@pytest.mark.parametrize("begun", ["nothing", "half a hello", "a hello"])
def test_handshakes_that_do_not_go_on_are_bounded_and_ended(tmp_path: Path, begun: str) -> None:
    octets = {"nothing": b"", "half a hello": hello_of("a.test")[:100], "a hello": hello_of("a.test")}[begun]
    limits = f'limits {{ header-timeout "1500ms"; max-connections {ALLOWED}; }}'
    listener = f"tls {{ {certificate(tmp_path, 'c', CA.issue('a.test'))} }}\n{limits}"
    with serving(tmp_path / "w", listener=listener) as worker:
        before_kib = rss_kib(worker)
        waiting = [Client(worker.port).send(octets) for _ in range(2 * ALLOWED)]
        wait_until(lambda: worker.counter(Counter.OVERLOADS) >= ALLOWED, "more are not taken in")
        assert rss_kib(worker) - before_kib < ALLOWED * 150, "150 KiB for each at most"
        assert all(map(is_ended, waiting)), "nobody waits for ever"
        wait_until(lambda: worker.counter(Counter.CLOSED) == worker.counter(Counter.ACCEPTED), "and all are gone")
        assert client(worker, "a.test").get("/fixed").status == 200
        assert worker.counter(Counter.SURPRISES) == 0


def test_nobody_shakes_hands_twice(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    with serving(tmp_path / "w", listener=f"tls {{ {certificate(tmp_path, 'c', CA.issue('a.test'))} }}") as worker:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{worker.port}", "-servername", "a.test", "-tls1_2"]
        done = subprocess.run(command, input="R\n", capture_output=True, text=True, timeout=30)
        assert "RENEGOTIATING" in done.stdout + done.stderr
        assert "no renegotiation" in done.stderr and "verify return" not in done.stderr.partition("RENEGOTIATING")[2]
        assert client(worker, "a.test", newest=ssl.TLSVersion.TLSv1_2).get("/fixed").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_sslyze_finds_it_to_be_as_mozilla_wants_it(tmp_path: Path, profile: str) -> None:
    if not SSLYZE:
        pytest.skip("set SENTINEL_SSLYZE to where `pip install --target DIRECTORY sslyze` has put it")
    served = certificate(tmp_path, "ec", CA.issue("localhost", days=(-1, 80)))
    if profile == "intermediate":
        served += certificate(tmp_path, "rsa", CA.issue("localhost", days=(-1, 80), is_rsa=True))
    listener = f'tls {{ {served}profile "{profile}"; }}\nhsts max-age="365d"'
    with serving(tmp_path / "w", listener=listener) as worker:
        command = [sys.executable, "-m", "sslyze", f"--mozilla_config={profile}", f"localhost:{worker.port}"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=180, env=os.environ | {"PYTHONPATH": SSLYZE}, cwd=tmp_path
        )
        findings = [line.strip() for line in done.stdout.splitlines() if line.startswith("        * ")]
        assert "COMPLIANCE AGAINST TLS CONFIGURATION" in done.stdout, done.stdout + done.stderr
        assert [one for one in findings if "certificate_path_validation" not in one] == [], "the authority is ours"
        for said in ("Not vulnerable to Heartbleed", "Renegotiation DoS Attack:   OK", "OK - Compression disabled"):
            assert said in done.stdout
