"""HAProxy, one thread; its log leaves through a buffer in memory, in batches, to a reader that writes the file.

HAProxy writes no files. Of its ways out (a datagram a line, a write a line, a ring that is carried to a
TCP peer) the ring is the cheapest one that loses nothing, so that is what it gets.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from benchmarks.peers.policy import FAILURES, LIMIT_PER_S, ROUTES
from benchmarks.peers.site import ROOT, Site, find_tool, first_line, free_port

PACKAGE: Final = "Debian's `haproxy`"

CONFIG: Final = """
global
    nbthread 1
    maxconn 9000
    log ring@lines local0
    tune.maxrewrite 1024
ring lines
    format raw
    maxlen 1200
    size 1048576
    timeout connect 5s
    timeout server 10s
    server sink 127.0.0.1:{sink_port}
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 75s
    timeout server 60s
    timeout http-keep-alive 75s
    timeout http-request 10s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend web
    bind 127.0.0.1:{port} backlog 4096
    unique-id-format %{{+X}}o%ci%cp%fi%fp%Ts%rt%pid
    unique-id-header X-Request-ID
    capture request header User-Agent len 64
    capture request header Host len 64
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Real-IP %[src]
    http-response set-header X-Request-ID %[unique-id]
    log-format '{log_format}'
{policy}
    default_backend origin
backend origin
    {balance}
{servers}
frontend metrics
    bind 127.0.0.1:{metrics_port}
    http-request use-service prometheus-exporter
"""

POLICY: Final = f"""
    http-request set-var(txn.route) path,map_beg({{routes}})
    http-request track-sc0 src table by_address if {{{{ var(txn.route) -m found }}}}
    http-request track-sc1 req.hdr(x-client) table by_client if {{{{ var(txn.route) -m found }}}}
    http-request deny deny_status 429 if {{{{ sc_http_req_rate(0,by_address) gt {LIMIT_PER_S} }}}}
    http-request deny deny_status 429 if {{{{ sc_http_req_rate(1,by_client) gt {LIMIT_PER_S} }}}}
    use_backend origin if {{{{ var(txn.route) -m found }}}}
"""
TABLES: Final = """
backend by_address
    stick-table type ip size 1m expire 60s store http_req_rate(1s)
backend by_client
    stick-table type string len 32 size 2m expire 60s store http_req_rate(1s)
"""

LOG_FORMAT: Final = (
    '{"ts":"%tr","request_id":"%ID","client_ip":"%ci","method":"%HM","host":"%[capture.req.hdr(1),json(utf8s)]",'
    '"path":"%[capture.req.uri,json(utf8s)]","protocol":"%HV","status":%ST,"route":"%b","endpoint":"%s",'
    '"duration_ms":%Ta,"bytes_in":%U,"bytes_out":%B,"user_agent":"%[capture.req.hdr(0),json(utf8s)]"}'
)


class HAProxy:
    name = "haproxy"

    def __init__(self, site: Site, *, is_governed: bool = False) -> None:
        self._site = site
        self._is_governed = is_governed
        self._program = find_tool("haproxy", PACKAGE, None)
        self._room = site.room(self.name)
        self.version = first_line(self._program, "-v").split()[2]
        self.port = free_port()
        self.log: Path | None = self._room / "access.log"

    def start(self) -> None:
        sink_port = free_port()
        self._site.start(
            [sys.executable, "-m", "benchmarks.peers.sink", str(sink_port), str(self.log)],
            cores=self._site.load_cores, room=self._site.room("haproxy-sink"), directory=ROOT,
        )  # fmt: skip
        config = self._room / "haproxy.cfg"
        routes = self._room / "routes.map"
        routes.write_text("".join(f"/service{number}/v1/ r{number}\n" for number in range(ROUTES)))
        ports = self._site.upstream_ports if self._is_governed else (self._site.upstream_port,)
        judging = f" check inter 5s observe layer7 error-limit {FAILURES} on-error mark-down"
        judged = judging if self._is_governed else ""
        text = CONFIG.format(
            port=self.port, sink_port=sink_port, metrics_port=free_port(), log_format=LOG_FORMAT,
            policy=POLICY.format(routes=routes) if self._is_governed else "",
            balance="balance leastconn" if self._is_governed else "",
            servers="\n".join(f"    server e{one} 127.0.0.1:{one} pool-max-conn 128{judged}" for one in ports),
        )  # fmt: skip
        config.write_text(text + (TABLES if self._is_governed else ""))
        self._child = self._site.start([self._program, "-db", "-f", str(config)], room=self._room)
        self._child.wait_serving(self.port, "HAProxy serves")

    def pids(self) -> tuple[int, ...]:
        return (self._child.pid,)
