"""nginx, twice: as the peer that all are measured by, and as the upstream of all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from benchmarks.peers import gauge
from benchmarks.peers.policy import FAILURES, LIMIT_BURST, LIMIT_PER_S, OPEN_S, ROUTES
from benchmarks.peers.site import BODY, Site, find_tool, first_line, free_port

PACKAGE: Final = "Debian's `nginx-light`"

COMMON: Final = """
daemon off;
{user}
worker_processes 1;
pid {room}/nginx.pid;
error_log {room}/error.log warn;
events {{ worker_connections 20000; }}
worker_rlimit_nofile 40100;
http {{
    client_body_temp_path {room}/body;
    proxy_temp_path {room}/proxy;
    fastcgi_temp_path {room}/fastcgi;
    uwsgi_temp_path {room}/uwsgi;
    scgi_temp_path {room}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 75s;
    default_type text/plain;
    {http}
}}
"""

PROXY: Final = """
    log_format entry escape=json '{{"ts":"$time_iso8601","request_id":"$request_id","client_ip":"$remote_addr",'
        '"method":"$request_method","host":"$host","path":"$uri","protocol":"$server_protocol","status":$status,'
        '"upstream":"origin","endpoint":"$upstream_addr","duration_s":$request_time,"bytes_in":$request_length,'
        '"bytes_out":$bytes_sent,"user_agent":"$http_user_agent"}}';
    access_log {room}/access.log entry buffer=64k flush=1s;
    {zones}
    upstream origin {{
        {balance}
        {servers}
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /nginx-status {{ stub_status; }}
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Request-ID $request_id;
        add_header X-Request-ID $request_id;
{locations}
        location / {{ proxy_pass http://origin; }}
    }}
"""

ZONES: Final = f"""
    limit_req_zone $binary_remote_addr zone=address:10m rate={LIMIT_PER_S}r/s;
    limit_req_zone $http_x_client zone=client:200m rate={LIMIT_PER_S}r/s;
"""
LOCATION: Final = f"""\
        location /service%d/v1/ {{
            limit_req zone=address burst={LIMIT_BURST} nodelay;
            limit_req zone=client burst={LIMIT_BURST} nodelay;
            proxy_pass http://origin;
        }}
"""

ORIGIN: Final = """
    access_log off;
    server {{
        {listens}
        location / {{ return 200 {body}; }}
    }}
"""


def _write(room: Path, http: str) -> Path:
    """Write the configuration; started by root, the worker stays root, so that it may write where we are."""
    path = room / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(COMMON.format(room=room, http=http, user=user))
    return path


def start_origin(site: Site, room: Path) -> tuple[int, str]:
    """The upstream: one kibibyte for everybody."""
    program = find_tool("nginx", PACKAGE, None)
    port = free_port()
    listens = " ".join(f"listen 127.0.0.1:{one} backlog=4096;" for one in (port, *site.upstream_ports))
    config = _write(room, ORIGIN.format(listens=listens, body=BODY.decode()))
    child = site.start([program, "-e", str(room / "error.log"), "-c", str(config)], cores=site.load_cores, room=room)
    child.wait_serving(port, "the upstream (nginx) serves")
    return port, first_line(program, "-v")


class Nginx:
    name = "nginx"

    def __init__(self, site: Site, *, is_governed: bool = False) -> None:
        self._site = site
        self._is_governed = is_governed
        self._program = find_tool("nginx", PACKAGE, None)
        self._room = site.room(self.name)
        self.version = first_line(self._program, "-v").partition("nginx/")[2]
        self.port = free_port()
        self.log: Path | None = self._room / "access.log"

    def start(self) -> None:
        ports = self._site.upstream_ports if self._is_governed else (self._site.upstream_port,)
        judged = f" max_fails={FAILURES} fail_timeout={OPEN_S}s" if self._is_governed else ""
        http = PROXY.format(
            room=self._room, port=self.port, servers=" ".join(f"server 127.0.0.1:{one}{judged};" for one in ports),
            balance="least_conn;" if self._is_governed else "", zones=ZONES if self._is_governed else "",
            locations="".join(LOCATION % number for number in range(ROUTES)) if self._is_governed else "",
        )  # fmt: skip
        command = [self._program, "-e", str(self._room / "error.log"), "-c", str(_write(self._room, http))]
        self._child = self._site.start(command, room=self._room)
        self._child.wait_serving(self.port, "nginx serves")

    def pids(self) -> tuple[int, ...]:
        """The worker; the master only waits."""
        return gauge.children(self._child.pid)
