"""Every example configuration is valid, says what it shows, and is in the one form."""

from __future__ import annotations

import datetime
import re
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sentinel.cli.testing import run_tests
from sentinel.config import load, render_problems
from sentinel.config.fmt import fmt
from sentinel.explain.cases import failed_text
from tests.system.fleet import ROOT

EXAMPLES = ROOT / "deploy" / "examples"
MAIN = sorted(EXAMPLES.glob("*.kdl"))
ALL = sorted(EXAMPLES.rglob("*.kdl"))


def certify(directory: Path, name: str = "www.example.com") -> None:
    """A self-signed certificate where the example expects one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName("example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    directory.mkdir()
    (directory / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "privkey.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize("example", MAIN, ids=lambda path: path.name)
def test_it_is_valid_without_a_warning(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "sentinel")
    certify(tmp_path / "sentinel" / "tls")
    monkeypatch.setenv("SENTINEL_TOKEN", "0123456789abcdef-example")
    loaded = load(str(tmp_path / "sentinel" / example.name))
    assert not loaded.problems, render_problems(loaded.problems)
    assert not loaded.warnings, render_problems(loaded.warnings)
    assert loaded.plan is not None and loaded.plan.listeners and loaded.plan.routes


@pytest.mark.parametrize("example", MAIN, ids=lambda path: path.name)
def test_it_passes_its_own_tests(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "sentinel")
    certify(tmp_path / "sentinel" / "tls")
    monkeypatch.setenv("SENTINEL_TOKEN", "0123456789abcdef-example")
    tested = run_tests(example.name, load(str(tmp_path / "sentinel" / example.name)))
    for result, _ in tested.results:
        assert result.is_passed, "\n".join(line for failed in result.failed for line in failed_text(failed))


def test_some_examples_have_tests() -> None:
    assert sum("\ntests {" in example.read_text() for example in MAIN) >= 2


@pytest.mark.parametrize("example", ALL, ids=lambda path: path.name)
def test_it_is_in_the_one_form_and_begins_with_what_it_shows(example: Path) -> None:
    text = example.read_text()
    assert fmt(text, example.name) == text
    assert text.startswith("// ")


def test_the_readme_names_every_example() -> None:
    named = set(re.findall(r"\(examples/([\w.-]+)\)", (ROOT / "deploy" / "README.md").read_text()))
    assert named == {path.name for path in MAIN}
