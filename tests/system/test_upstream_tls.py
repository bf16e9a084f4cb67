"""A provider behind TLS, asked by OpenAI's own SDK through the gateway; certificates are replaced by a reload.

The endpoint is the fleet's own listener with TLS, before the mock's language models: both sides are ours.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.system.fleet import Fleet, free_port, wait_until
from tests.system.mock import mock
from tests.workers.authority import Authority

MESSAGES: Any = [{"role": "user", "content": "Tell me about gateways"}]
SECRET = "sk-live-0123456789abcdef"


def renew(directory: Path) -> None:
    """A new authority, and a new certificate and key by it."""
    authority = Authority("provider authority")
    authority.issue("localhost").written(directory, "server")
    authority.issue("gateway").written(directory, "client")
    (directory / "ca.pem").write_text(authority.pem)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("tls")
    renew(directory)
    port = free_port()
    listener = f"""}}
    listener "provider" {{
        address "127.0.0.1:{port}"
        tls {{ certificate "server.pem"; key "server.key"; }}
    """
    routes = """
    route "provider" { listeners "provider"; matches { path-prefix "/"; }; upstream "origin"; }
    route "llm" { listeners "web"; matches { path-prefix "/llm"; }; inference; upstream "openai"; }
    """
    upstreams = f"""
    upstream "openai" {{
        endpoint "https://localhost:{port}"
        tls {{ ca "ca.pem"; certificate "client.pem"; key "client.key"; }}
        provider {{ dialect "openai"; credential "{SECRET}"; }}
    }}
    """
    with mock() as (behind, _):
        fleet = Fleet(directory, behind, listener=listener, routes=routes, upstreams=upstreams).start()
        try:
            yield fleet
        finally:
            fleet.stop()


def chat(fleet: Fleet, *, stream: bool = False) -> str:
    base = f"http://127.0.0.1:{fleet.port}/llm/v1"
    with openai.OpenAI(api_key="mine", base_url=base, max_retries=0) as client:
        if not stream:
            return client.chat.completions.create(model="mock", messages=MESSAGES).choices[0].message.content or ""
        events = client.chat.completions.create(model="mock", messages=MESSAGES, stream=True)
        return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


def handshakes(fleet: Fleet) -> int:
    """Completed ones with the provider."""
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.admin_port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    name = 'sentinel_upstream_tls_handshakes_total{outcome="completed",version="1.3"} '
    return int(float(next(line for line in lines if line.startswith(name)).removeprefix(name)))


def test_the_sdk_reaches_a_provider_behind_tls_and_a_reload_replaces_its_certificate(fleet: Fleet) -> None:
    said = chat(fleet)
    assert said and chat(fleet, stream=True)
    before = handshakes(fleet)
    assert before >= 1
    renew(fleet.directory)
    fleet.ctl("reload")
    assert chat(fleet) == said
    wait_until(lambda: handshakes(fleet) > before, "the new generation trusts nobody for what the old one has seen")


def test_no_key_is_shown_in_what_operators_read(fleet: Fleet) -> None:
    keys = [(fleet.directory / f"{name}.key").read_text().splitlines()[1] for name in ("server", "client")]
    asked = ("dry-run", "--live", "--request", "GET /llm/v1/models")
    told = "".join(fleet.ctl(*words).stdout for words in (("config",), ("endpoints",), asked))
    assert '"server_name"' in told and "over TLS, as `localhost`" in told
    assert not any(secret in told for secret in (SECRET, *keys))
