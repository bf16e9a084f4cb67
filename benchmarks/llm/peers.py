"""The gateways, each told to send everything to one provider."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Final

from benchmarks.peers import envoy, gauge, sentinel_peer
from benchmarks.peers.site import Missing, Site, find_tool, first_line, free_port

PATH: Final = "/v1/chat/completions"
MODELS: Final = ("whole", "stream-1-5", "stream-100-5", "stream-2-30000")
SYSTEM: Final = "max-worker-connections 20000"
INFERENCE: Final = """\
    route "models" {
        matches { path-prefix "/v1"; }
        filters "per-tenant"
        inference
        upstream "origin"
    }
"""
FILTERS: Final = """
filters {
    token-budget "per-tenant" { tokens 100000000000; per "month"; key "header:x-tenant"; }
}
"""
LITELLM_S: Final = 120.0
"""It takes twenty seconds to begin, on a quiet machine."""
LITELLM: Final = """\
model_list:
{models}
litellm_settings:
  telemetry: false
general_settings:
  disable_spend_logs: true
"""
MODEL: Final = """\
  - model_name: "{name}"
    litellm_params: {{model: "openai/{name}", api_base: "http://127.0.0.1:{port}/v1", api_key: "none"}}
"""


def posted(model: str, fields: dict[str, str]) -> bytes:
    """A request of 1 KiB for a completion, as it goes over the wire."""
    said = "the gateway reads what passes and changes nothing " * 16
    document = {
        "model": model, "max_tokens": 256, "messages": [{"role": "user", "content": said[:780]}],
        **({"stream": True, "stream_options": {"include_usage": True}} if model.startswith("stream") else {}),
    }  # fmt: skip
    body = json.dumps(document).encode()
    lines = {"Host": "bench.example", "Content-Type": "application/json", "x-tenant": "acme", **fields}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {PATH} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answers(port: int, fields: dict[str, str]) -> bool:
    """Whether a completion comes back."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(posted("whole", fields))
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


class Sentinel:
    """The real fleet with one worker: a token budget, accounting, metrics, log and journal."""

    name = "sentinel"
    workers = 1
    fields: Final[dict[str, str]] = {}

    def __init__(self, site: Site) -> None:
        self._site = site
        self._peer = sentinel_peer.Sentinel(site)
        self.version, self.port, self.log = self._peer.version, self._peer.port, self._peer.log

    def start(self) -> None:
        self._peer.serve(system=SYSTEM, routes=INFERENCE, filters=FILTERS, workers=self.workers)

    def pids(self) -> tuple[int, ...]:
        return self._peer.pids()


class Envoy:
    """Without token accounting, which it does not have without a plugin."""

    name = "envoy"
    fields: Final[dict[str, str]] = {}

    def __init__(self, site: Site) -> None:
        self._peer = envoy.Envoy(site)
        self.version, self.port, self.log = self._peer.version, self._peer.port, self._peer.log

    def start(self) -> None:
        self._peer.start()

    def pids(self) -> tuple[int, ...]:
        return self._peer.pids()


class LiteLLM:
    """`litellm[proxy]` from PyPI, one worker, no database: it counts nothing that outlasts it, and logs nothing."""

    name = "litellm"
    fields: Final = {"Authorization": "Bearer none"}

    def __init__(self, site: Site) -> None:
        self._site = site
        self._program = find_tool("litellm", "`litellm[proxy]` from PyPI: use --tools", site.tools)
        self._room = site.room(self.name)
        self.version = _version_of(site, "litellm")
        self.port = free_port()
        self.log: Path | None = None

    def start(self) -> None:
        config = self._room / "config.yaml"
        models = "".join(MODEL.format(name=name, port=self._site.upstream_port) for name in MODELS)
        config.write_text(LITELLM.format(models=models))
        self._child = self._site.start(
            [self._program, "--config", str(config), "--host", "127.0.0.1", "--port", str(self.port),
             "--num_workers", "1"],
            room=self._room,
            environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*",
                         "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
        )  # fmt: skip
        self._child.wait(lambda: answers(self.port, self.fields), "LiteLLM serves", LITELLM_S)

    def pids(self) -> tuple[int, ...]:
        return self._child.pid, *gauge.children(self._child.pid)


class Portkey:
    """`@portkey-ai/gateway` from npm, in the folder where `npm install` put it."""

    name = "portkey"

    def __init__(self, site: Site) -> None:
        self._site = site
        folder = (site.tools or Path()) / "node_modules" / "@portkey-ai" / "gateway"
        self._script = folder / "build" / "start-server.js"
        if not self._script.exists():
            raise Missing("`npm install --prefix TOOLS @portkey-ai/gateway`, and --tools TOOLS")
        self._program = find_tool("node", "Debian's `nodejs`", None)
        self._room = site.room(self.name)
        self.version = json.loads((folder / "package.json").read_text())["version"]
        self.port = free_port()
        self.log: Path | None = None
        self.fields = {
            "Authorization": "Bearer none", "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{site.upstream_port}/v1",
        }  # fmt: skip

    def start(self) -> None:
        self._child = self._site.start(
            [self._program, str(self._script), f"--port={self.port}", "--headless"], room=self._room,
            environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"},
        )  # fmt: skip
        self._child.wait(lambda: answers(self.port, self.fields), "Portkey serves")

    def pids(self) -> tuple[int, ...]:
        return (self._child.pid,)


class Direct:
    """The provider itself: what is between a client and it when there is no gateway."""

    name = "direct"
    version = ""
    log: Path | None = None
    fields: Final[dict[str, str]] = {}

    def __init__(self, site: Site) -> None:
        self.port = site.upstream_port


PEERS: Final = {"sentinel": Sentinel, "envoy": Envoy, "portkey": Portkey, "litellm": LiteLLM}


def _version_of(site: Site, package: str) -> str:
    assert site.tools is not None
    return first_line(
        str(site.tools / "bin" / "python"), "-c", f"import importlib.metadata as m; print(m.version('{package}'))"
    )
