"""Keys that workers fetch, as an operator sees them: how old they are, in metrics and status."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
from click.testing import CliRunner

from sentinel.cli.fleet import COMMANDS
from sentinel.cli.keys import hashed
from sentinel.config import load
from sentinel.core.gates import keys_file
from tests.supervisor.control.stage import Stage

GROUP = click.Group(commands={one.name or "": one for one in COMMANDS})
GATES = f"""filters {{
    jwt "tokens" {{
        issuer "https://login.example.com"; audience "api"; algorithms "RS256"
        keys {{ upstream "login"; }}
    }}
    api-key "clients" {{ key "acme" "{hashed("a-key-that-nobody-guesses")}"; }}
}}
upstreams {{ upstream "login" {{ endpoint "https://127.0.0.1:1"; }}; }}
"""


def test_how_old_fetched_keys_are_is_told_and_no_hash_of_a_key_is_shown(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        with stage.config.open("a") as file:
            file.write(GATES)
        stage.serving()
        plan = load(str(stage.config)).plan
        assert plan is not None
        assert stage.get("status").document["keys"] == {"tokens": None}
        assert "sentinel_jwks_age_seconds{" not in stage.client.text("/metrics")
        path = Path(keys_file(str(stage.run_dir), plan.jwts[0]))
        path.write_text("{}")
        os.utime(path, (time.time() - 3600, time.time() - 3600))
        assert 3600 <= stage.get("status").document["keys"]["tokens"] < 3700
        assert 'sentinel_jwks_age_seconds{filter="tokens"} 36' in stage.client.text("/metrics")
        socket = ["--socket", str(stage.run_dir / "control.sock")]
        assert "keys of tokens were fetched 60m ago" in CliRunner().invoke(GROUP, ["status", *socket]).output
        shown = CliRunner().invoke(GROUP, ["config", "--json", *socket]).output
        assert "clients" in shown and plan.api_keys[0].keys[0].digests[0] not in shown
    finally:
        stage.close()
